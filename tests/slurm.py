"""A Slurm of three shell scripts, for tests: sbatch, srun and scontrol.

srun starts the tasks on this machine. While SLURM_FAKE/preempt exists, it sends
them SIGTERM once the first epoch is in a log, as Slurm does before the time is
over, and takes the file away.
"""

import os
import pathlib
import subprocess
import sys
import weakref

from tests import ports

ROOT = pathlib.Path(__file__).parents[1]
_FIRST_PORT = 65535 - 2**12 + 1  # JAX adds the number of the job to it

SBATCH = r"""#!/usr/bin/env bash
# sbatch [--ntasks=N] [--array=I-J] SCRIPT ARGUMENTS: runs it here and now.
export SLURM_NTASKS=1 SLURM_JOB_ID
first=0 last=0
while [[ $1 == --* ]]; do
  case $1 in
    --ntasks=*) SLURM_NTASKS=${1#*=} ;;
    --array=*) first=${1#*=} last=${1##*-} first=${first%-*} ;;
    *) echo "sbatch: unknown $1" >&2; exit 64 ;;
  esac
  shift
done
status=0
for ((task = first; task <= last; task++)); do
  ((task)) && export SLURM_ARRAY_TASK_ID=$task
  while true; do
    rm -f "$SLURM_FAKE/again"
    bash "$@" || status=$?
    echo "job ended with $status" >>"$SLURM_FAKE/history"
    [[ -e $SLURM_FAKE/again ]] || break
  done
done
exit "$status"
"""
SRUN = r"""#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost
tasks=()
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=$i "$@" &
  tasks+=($!)
done
trap 'kill -TERM "${tasks[@]}" 2>/dev/null' TERM
if [[ -e $SLURM_FAKE/preempt ]]; then
  while kill -0 "${tasks[0]}" 2>/dev/null; do
    if grep -qs epoch "$SLURM_WATCH"/models/*/epochs.jsonl; then
      rm "$SLURM_FAKE/preempt"
      kill -TERM "${tasks[@]}"
      break
    fi
    sleep 0.02
  done
fi
status=0
for task in "${tasks[@]}"; do
  wait "$task" || status=$?
done
echo "step ended with $status" >>"$SLURM_FAKE/history"
exit "$status"
"""
SCONTROL = r"""#!/usr/bin/env bash
if [[ $1 == requeue && $2 == "$SLURM_JOB_ID" ]]; then
  echo requeued >>"$SLURM_FAKE/history"
  touch "$SLURM_FAKE/again"
fi
"""


class Slurm:
  """The three commands in a folder, and what happened.

  Args:
    folder: gets the commands and `history`.
    watch: working folder of the run that is preempted.
  """

  def __init__(self, folder: pathlib.Path, watch: pathlib.Path):
    self.folder = folder
    folder.mkdir(parents=True)
    for name, text in (
      ('sbatch', SBATCH),
      ('srun', SRUN),
      ('scontrol', SCONTROL),
    ):
      (folder / name).write_text(text)
      (folder / name).chmod(0o755)
    held = ports.hold(range(_FIRST_PORT, 65536))
    weakref.finalize(self, held.close)
    path = [folder, pathlib.Path(sys.executable).parent, os.environ['PATH']]
    self.environment = {
      **os.environ,
      'PATH': os.pathsep.join(map(str, path)),
      'PYTHONPATH': str(ROOT),
      'SLURM_FAKE': str(folder),
      'SLURM_WATCH': str(watch),
      'SLURM_JOB_ID': str(ports.number(held) - _FIRST_PORT),
    }

  @property
  def history(self) -> list[str]:
    """What the commands noted."""
    path = self.folder / 'history'
    return path.read_text().splitlines() if path.is_file() else []

  def preempt(self) -> None:
    """The next step gets SIGTERM after its first epoch."""
    (self.folder / 'preempt').touch()

  def call(self, *command: object, **environment: object):
    """Runs a command with Slurm on the path."""
    more = {name: str(value) for name, value in environment.items()}
    return subprocess.run(
      list(map(str, command)),
      env=self.environment | more,
      cwd=self.folder,
      capture_output=True,
      text=True,
      timeout=400,
      check=False,
    )
