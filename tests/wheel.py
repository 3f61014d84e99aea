"""What a wheel puts on a machine, in an environment without the checkout.

Rule: nothing is downloaded. Where hatchling is installed it builds the wheel;
elsewhere the same files are copied, by the lists of pyproject.toml.
"""

import fnmatch
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
_COMMAND = (
  '#!{python}\nimport sys\nfrom cmbjax import cli\nsys.exit(cli.main())'
)


def install(folder):
  """An environment with cmbjax from its wheel; the `PATH` that starts it.

  Third parties come from the environment of the tests, but no checkout: the
  `.pth` of an editable install is not read there.
  """
  packages = folder / 'packages'
  if importlib.util.find_spec('hatchling'):
    _build(folder / 'dist', packages)
  else:
    copy(packages)
  environment = folder / 'env'
  venv.create(environment, symlinks=True, with_pip=False)
  paths = sysconfig.get_paths(vars={'base': environment, 'platbase': ''})
  third = [p for p in sys.path if p.endswith(('site-packages', '-packages'))]
  (pathlib.Path(paths['purelib']) / 'wheel.pth').write_text(
    '\n'.join(map(str, [packages, *third]))
  )
  command = environment / 'bin' / 'cmbjax'
  python = environment / 'bin' / 'python'
  command.write_text(_COMMAND.format(python=python))
  command.chmod(0o755)
  return f'{command.parent}{os.pathsep}{os.environ["PATH"]}'


def _build(dist, packages):
  subprocess.run(
    [sys.executable, '-m', 'hatchling', 'build', '-t', 'wheel', '-d', dist],
    cwd=ROOT,
    check=True,
    capture_output=True,
  )
  (built,) = dist.glob('*.whl')
  with zipfile.ZipFile(built) as wheel:
    wheel.extractall(packages)


def copy(packages):
  """The files of the wheel, without building it."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  rules = project['tool']['hatch']['build']['targets']['wheel']
  parts = {name: name for name in rules['packages']} | rules['force-include']

  def left_out(folder, names):
    inside = pathlib.Path(folder).relative_to(ROOT)
    return [
      name
      for name in names
      if name == '__pycache__'
      or any(
        fnmatch.fnmatch(str(inside / name), rule.replace('**/', '*'))
        for rule in rules['exclude']
      )
    ]

  for source, target in parts.items():
    shutil.copytree(ROOT / source, packages / target, ignore=left_out)
