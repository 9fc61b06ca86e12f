"""How large are the pieces of the code?

```
python -m benchmarks.code_size
python -m benchmarks.code_size --folder=zsar_jax/training --longest=20
```

Prints a report, and fails nothing: files and their lines, what is longer than
the project's own bounds, and the share of arguments with a type. The bounds
are 400 lines a file, 60 a function and 8 parameters. A function's lines
include its docstring. The defaults of the config are lists, not functions to
read, and do not count. `self` and `cls` are no parameters.
"""

import argparse
import ast
from collections.abc import Iterator
import dataclasses
import pathlib
import statistics

_ROOT = pathlib.Path(__file__).parents[1]
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8
_DEFAULTS = 'defaults.py'


@dataclasses.dataclass(frozen=True)
class Function:
  """A function or method.

  Attributes:
    place: file and line.
    name: of it, after its class.
    lines: from its first line to its last.
    parameters: how many.
    annotated: how many of them have a type.
  """

  place: str
  name: str
  lines: int
  parameters: int
  annotated: int


def functions(path: pathlib.Path, text: str) -> Iterator[Function]:
  """Yields every function of a file, nested ones too; no lambdas.

  Args:
    path: of the file, for `place`.
    text: its source.

  Raises:
    SyntaxError: it is no Python.
  """

  def visit(node, prefix):
    for child in ast.iter_child_nodes(node):
      name = prefix
      if isinstance(child, ast.ClassDef | ast.FunctionDef):
        name = f'{prefix}{child.name}.'
      if isinstance(child, ast.FunctionDef):
        a = child.args
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs]
        if isinstance(node, ast.ClassDef) and given:
          if given[0].arg in ('self', 'cls'):
            given = given[1:]
        given += [x for x in (a.vararg, a.kwarg) if x]
        yield Function(
          f'{path}:{child.lineno}',
          name[:-1],
          child.end_lineno - child.lineno + 1,
          len(given),
          sum(x.annotation is not None for x in given),
        )
      yield from visit(child, name)

  yield from visit(ast.parse(text), '')


def report(root: pathlib.Path, folder: str, longest: int) -> str:
  """Returns the report of a folder.

  Args:
    root: that paths are shown from.
    folder: below it.
    longest: how many of the longest files and functions are listed.

  Raises:
    ValueError: there is no Python in it.
  """
  lengths, found = {}, []
  for path in sorted((root / folder).rglob('*.py')):
    shown, text = path.relative_to(root), path.read_text()
    lengths[str(shown)] = len(text.splitlines())
    if path.name != _DEFAULTS:
      found += functions(shown, text)
  sizes = [n for n in lengths.values() if n]
  if not sizes:
    raise ValueError(f'{root / folder} holds no Python')
  many = [f for f in found if f.parameters > PARAMETERS]
  long = [f for f in found if f.lines > FUNCTION_LINES]
  parameters = sum(f.parameters for f in found)
  annotated = sum(f.annotated for f in found)
  share = 100 * annotated / max(parameters, 1)
  by_length = sorted(lengths.items(), key=lambda item: -item[1])
  lines = [
    f'{folder}: {len(sizes)} files that are not empty, {sum(sizes)} lines, '
    f'median {statistics.median(sizes):.0f}, longest {max(sizes)}',
    f'  files over {FILE_LINES} lines: {sum(n > FILE_LINES for n in sizes)}',
    f'  functions: {len(found)}; over {FUNCTION_LINES} lines: {len(long)}; '
    f'with more than {PARAMETERS} parameters: {len(many)}',
    f'  arguments with a type: {annotated} of {parameters}, {share:.0f}%',
  ]
  lines += [f'    {n:4d} lines  {path}' for path, n in by_length[:longest]]
  for f in sorted(long, key=lambda f: -f.lines)[:longest]:
    lines.append(f'    {f.lines:4d} lines  {f.name}  {f.place}')
  for f in sorted(many, key=lambda f: -f.parameters)[:longest]:
    lines.append(f'    {f.parameters:4d} parameters  {f.name}  {f.place}')
  return '\n'.join(lines)


def main() -> None:
  """Prints the reports of the folders asked for."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--folder', default='zsar_jax,experiments,benchmarks')
  parser.add_argument('--longest', type=int, default=0)
  flags = parser.parse_args()
  for folder in flags.folder.split(','):
    print(report(_ROOT, folder, flags.longest))


if __name__ == '__main__':
  main()
