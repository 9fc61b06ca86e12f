"""Makes small faults in a module, with cosmic-ray's operators and one of ours.

Some changes are left out because no test should notice them: those of
annotations, docstrings, decorators, error messages and `strict` of a zip.
Others are left out because they prove nothing: bitwise instead of arithmetic
operators, which hardly any array survives; `is` instead of `==`; comparing the
order of strings; and changes that give the same code as another mutant.
"""

import ast
from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import pathlib

from cosmic_ray import ast as cosmic_ast
from cosmic_ray import mutating, plugins
from cosmic_ray.operators import operator
from parso.python import tree

_ROOT = pathlib.Path(__file__).parents[1]
_ARITHMETIC = {'Add', 'Sub', 'Mul', 'Div', 'FloorDiv', 'Mod', 'Pow'}
_BITWISE = {'BitOr', 'BitAnd', 'BitXor', 'RShift', 'LShift'}
# Functions that are easily mistaken for one another.
_LIKE_NAMES = (
  ('min', 'max'),
  ('argmin', 'argmax'),
  ('minimum', 'maximum'),
  ('floor', 'ceil'),
  ('any', 'all'),
  ('sum', 'mean'),
  ('sin', 'cos'),
  ('zeros', 'ones'),
  ('zeros_like', 'ones_like'),
)


class SwapName(operator.Operator):
  """Replaces a function by one that is easily mistaken for it."""

  _OTHER = {a: b for pair in _LIKE_NAMES for a, b in (pair, pair[::-1])}

  def mutation_positions(self, node):
    """Yields the positions of names in `_LIKE_NAMES`."""
    if isinstance(node, tree.Name) and node.value in self._OTHER:
      yield node.start_pos, node.end_pos

  def mutate(self, node, index):
    """Returns the other name."""
    node.value = self._OTHER[node.value]
    return node

  @classmethod
  def examples(cls):
    """Returns the examples that cosmic-ray requires."""
    return (operator.Example('x.min()', 'x.max()'),)


@dataclasses.dataclass(frozen=True)
class Mutant:
  """A fault in one line of a module.

  Attributes:
    module: path below `zsar_jax`, without the ending.
    row: number of the line, from 1.
    line: the original line, without indentation.
    becomes: the changed line.
    code: code of the whole module.
  """

  module: str
  row: int
  line: str
  becomes: str
  code: str

  @property
  def digest(self) -> str:
    """Hash that identifies this mutant and its code."""
    text = f'{self.module}\n{self.code}'
    return hashlib.sha1(text.encode()).hexdigest()


def _is_used(name: str) -> bool:
  """Returns whether an operator of cosmic-ray is useful for our code."""
  base, *kinds = name.removeprefix('core/').split('_')
  if base == 'ReplaceBinaryOperator':
    return any(set(kinds) <= kind for kind in (_ARITHMETIC, _BITWISE))
  if base == 'ReplaceComparisonOperator':
    return ('Is' in kinds[0]) == ('Is' in kinds[1])
  return base not in ('RemoveDecorator', 'VariableReplacer', 'VariableInserter')


def _operators() -> list[operator.Operator]:
  names = [name for name in plugins.operator_names() if _is_used(name)]
  return [SwapName(), *(plugins.get_operator(name)() for name in names)]


class _Bare(ast.NodeTransformer):
  """Removes parts of the code that no test should check."""

  def visit_Raise(self, node):
    """Keeps the class of an error, and drops its message."""
    if isinstance(node.exc, ast.Call):
      node.exc = node.exc.func
    return node

  def visit_AnnAssign(self, node):
    node.annotation = ast.Constant(None)
    return self.generic_visit(node)

  def visit_arg(self, node):
    node.annotation = None
    return node

  def visit_arguments(self, node):
    """Drops `*` and `/` of a signature."""
    node.args = node.posonlyargs + node.args + node.kwonlyargs
    node.defaults += [default for default in node.kw_defaults if default]
    node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
    return self.generic_visit(node)

  def visit_keyword(self, node):
    return None if node.arg == 'strict' else self.generic_visit(node)

  def visit_Compare(self, node):
    """Reduces comparisons of strings to equal or not; order proves nothing."""
    words = isinstance(node.comparators[-1], ast.Constant) and isinstance(
      node.comparators[-1].value, str
    )
    if words and isinstance(node.ops[-1], ast.LtE | ast.GtE):
      node.ops[-1] = ast.Eq()
    elif words and isinstance(node.ops[-1], ast.Lt | ast.Gt):
      node.ops[-1] = ast.NotEq()
    return self.generic_visit(node)

  def visit_FunctionDef(self, node):
    node.returns, node.decorator_list = None, []
    return self.generic_visit(node)

  def visit_ClassDef(self, node):
    node.decorator_list = []
    return self.generic_visit(node)


def _bare(code: str) -> str:
  return ast.dump(_Bare().visit(ast.parse(code)))


def _mutated(part: str) -> Iterator[str]:
  """Yields all mutants of one statement."""
  nodes = list(cosmic_ast.ast_nodes(cosmic_ast.get_ast(part)))
  for op in _operators():
    count = sum(len(list(op.mutation_positions(node))) for node in nodes)
    for occurrence in range(count):
      yield mutating.mutate_code(part, op, occurrence)


def find_mutants(module: str, source: str) -> list[Mutant]:
  """Returns all mutants of a module, in the order of its lines.

  Args:
    module: path below `zsar_jax`, without the ending.
    source: code of the module.

  Returns:
    The mutants, without the changes that the module docstring leaves out.
  """
  found, start = [], 0
  for child in cosmic_ast.get_ast(source).children:
    part = child.get_code()
    before, after = source[:start], source[start + len(part) :]
    start += len(part)
    known = {_bare(part)}
    of_part = []
    for text in _mutated(part):
      with contextlib.suppress(SyntaxError):
        bare = _bare(text)
        if bare not in known:
          known.add(bare)
          of_part.append(_describe(module, source, before + text + after))
    found += sorted(of_part, key=lambda mutant: mutant.row)
  return found


def _describe(module: str, source: str, code: str) -> Mutant:
  pairs = zip(source.splitlines(), code.splitlines(), strict=True)
  for row, (old, new) in enumerate(pairs, 1):
    if old != new:
      words = (' '.join(line.split()) for line in (old, new))
      return Mutant(module, row, *words, code)
  raise AssertionError('the mutant is the code')


class Finder:
  """An import finder that imports a mutant instead of its module."""

  def __init__(self, mutant: Mutant):
    self._name = 'zsar_jax.' + mutant.module.replace('/', '.')
    self._path = str(_ROOT / f'zsar_jax/{mutant.module}.py')
    self._code = mutant.code

  def find_spec(self, name, path=None, target=None):
    """Returns the spec of the mutant; None for other modules."""
    del path, target
    if name != self._name:
      return None
    loader = importlib.machinery.SourceFileLoader(name, self._path)
    loader.get_code = lambda _: compile(self._code, self._path, 'exec')
    return importlib.util.spec_from_file_location(
      name, self._path, loader=loader
    )
