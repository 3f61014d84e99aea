#!/usr/bin/env bash
# One study on N nodes, one process for each GPU.
#
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 \
#     scripts/slurm_study.sh configs/study.py:paper
#   sbatch scripts/slurm_study.sh configs/sweep.py --config.train.epochs=100
#
# The working folder has to be seen by all nodes. The processes find each other
# through Slurm. Before the time is over Slurm sends SIGTERM: the run saves,
# and this job puts itself into the queue again until the report is there.
#SBATCH --job-name=cmbjax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

config=${1:?give a config, for example configs/study.py:paper}
shift
stem=$(basename "${config%%:*}" .py)
[[ $config != *:?* ]] || stem+=-${config#*:}  # a preset has its own folder
workdir=${WORKDIR:-runs/$stem}

srun --kill-on-bad-exit=1 python -m cmbjax.main \
  --config="$config" "$@" --workdir="$workdir"

if grep -q '"status": "incomplete"' "$workdir/record.json"; then
  scontrol requeue "$SLURM_JOB_ID"
fi
