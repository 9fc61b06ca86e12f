import pytest


@pytest.fixture(scope='session')
def protocol_facts(test_data):
  """Folder of published class lists and splits, which lies beside the data."""
  path = test_data.parent / 'protocols'
  if not path.is_dir():
    pytest.skip(f'{path} does not exist')
  return path
