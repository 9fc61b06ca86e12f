"""Measures the sizes of files and functions.

```
python -m benchmarks.code_size
python -m benchmarks.code_size --folder=zsar_jax/training --longest=20
```

It prints the lines of all files, the files and functions above the project's
limits, and the share of arguments with a type. The limits are 400 lines per
file, 60 lines per function and 8 parameters. A function's lines include its
docstring. The `defaults.py` files of the config do not count. `self` and `cls`
are not parameters. It always exits with 0.
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
    name: name of the function, after its class.
    lines: number of lines.
    parameters: number of parameters.
    annotated: number of parameters with a type.
  """

  place: str
  name: str
  lines: int
  parameters: int
  annotated: int


def functions(path: pathlib.Path, text: str) -> Iterator[Function]:
  """Yields every function of a file, including nested ones, without lambdas.

  Args:
    path: path of the file, for `place`.
    text: source of the file.

  Raises:
    SyntaxError: the source is not valid Python.
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
    root: folder that printed paths are relative to.
    folder: folder to measure, below `root`.
    longest: number of longest files and functions to list.

  Raises:
    ValueError: the folder holds no Python files.
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
  """Prints the report of each folder."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--folder', default='zsar_jax,experiments,benchmarks')
  parser.add_argument('--longest', type=int, default=0)
  flags = parser.parse_args()
  for folder in flags.folder.split(','):
    print(report(_ROOT, folder, flags.longest))


if __name__ == '__main__':
  main()
