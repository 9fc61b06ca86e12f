"""The tables of weights between two domains."""

from experiments import interpolated
from zsar_jax.evaluation import accuracy


def row(method, metric, value, chance=0.125):
  return {
    'method': method,
    'metric': metric,
    'value': value,
    'low': value - 0.1,
    'high': value + 0.1,
    'chance': chance,
  }


def rows(value):
  return [
    row('transfer', accuracy.PER_CLASS, value),
    row('nearest_name', accuracy.PER_CLASS, value / 2),
    row('conse', accuracy.PER_CLASS, 0.99),
    row('transfer', accuracy.SAME_SOURCE, value + 0.05, 0.375),
    row('transfer', 'gzsl_' + accuracy.PER_CLASS, 0.99),
  ]


def test_a_line_for_each_coefficient():
  found = {'0': rows(0.4), '0.5': rows(0.5), '1': rows(0.3)}
  plain = interpolated.table(found)
  assert plain[0].split()[0] == 'coefficient' and 'inner draws' not in plain[0]
  # Same source first, then all candidates; other methods are left out.
  assert plain[3].split() == (
    '0.5 55.0 45.0 - 65.0 50.0 40.0 - 60.0 25.0 15.0 - 35.0'.split()
  )
  assert '99.0' not in '\n'.join(plain)
  assert plain[-1] == 'chance: all % 12.5, same source % 37.5'
  inner = {'0': [0.1, 0.2], '0.5': [0.3, 0.4], '1': [0.2, 0.2]}
  chosen = interpolated.table(found, inner, 0.5)
  assert [line.split()[0] for line in chosen[2:5]] == ['0', '0.5*', '1']
  assert '30.0 40.0' in chosen[3]


def test_what_has_one_source_has_no_column_for_it():
  of_one = [r for r in rows(0.4) if r['metric'] == accuracy.PER_CLASS]
  lines = interpolated.table({'0': of_one})
  assert 'same source' not in '\n'.join(lines)
