from benchmarks import growth


def test_costs_are_relative_to_the_first_case():
  cases = (('Ti/16x2', 4, 32), ('Ti/16x2', 8, 32))
  header, _, first, second = growth.table(cases)
  assert header.split()[:4] == ['model', 'frames', 'pixels', 'tokens']
  assert first.split()[3] == '8' and second.split()[3] == '16'
  assert first.split()[5] == first.split()[7] == '1.00'
  assert 2.0 <= float(second.split()[5]) < 2.2
