#!/usr/bin/env bash
# An array of studies, one task each: a sweep too large for one job, or seeds
# and settings that may not share a folder. Each line of a file is one study.
#
#   printf '%s\n' '--config=configs/study.py --config.train.seeds=(0,)' \
#     '--config=configs/study.py --config.train.seeds=(1,)' > studies.txt
#   sbatch --array=1-2 scripts/slurm_array.sh studies.txt
#
# A task that is stopped goes on where it was when the array is sent again.
#SBATCH --job-name=cmbjax-array
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%A-%a.log
#SBATCH --open-mode=append
set -euo pipefail

studies=${1:?give a file with one study per line}
line=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$studies")
if [[ -z $line ]]; then
  echo "$studies: has no line $SLURM_ARRAY_TASK_ID" >&2
  exit 2
fi
read -r -a arguments <<<"$line"
exec srun python -m cmbjax.main "${arguments[@]}" \
  --workdir="${WORKDIR:-runs/array}/$SLURM_ARRAY_TASK_ID"
