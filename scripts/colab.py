"""One cell of a Colab notebook: install, keep the run on Drive, go on.

Paste it, or `%run scripts/colab.py`, and say in SOURCE where cmbjax is. A
session that ends early loses nothing but the last seconds: run the cell again.
"""

import pathlib
import subprocess
import sys

CONFIG = 'configs/finetune.py'
# 'cmbjax[gpu] @ git+https://...' of the repository, a wheel or a checkout.
SOURCE = ''


def main() -> int:
  drive = pathlib.Path('/content/drive')
  runs = pathlib.Path('runs')
  if 'google.colab' in sys.modules:
    if not SOURCE:
      raise SystemExit('Put the address of cmbjax into SOURCE; run it again.')
    from google.colab import drive as mount

    mount.mount(str(drive))
    runs = drive / 'MyDrive' / 'cmbjax'
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', SOURCE]
    subprocess.run(pip, check=True)
  path, _, preset = CONFIG.partition(':')
  name = pathlib.Path(path).stem + (f'-{preset}' if preset else '')
  run = [sys.executable, '-m', 'cmbjax.main', f'--config={CONFIG}']
  # A pasted cell sees the arguments of its kernel: -f FILE.
  more = [a for a in sys.argv[1:] if a.startswith('--')]
  return subprocess.run(
    [*run, f'--workdir={runs / name}', *more], check=False
  ).returncode


if __name__ == '__main__':
  status = main()
  if status:  # zero would be shown as an error by a notebook
    sys.exit(status)
