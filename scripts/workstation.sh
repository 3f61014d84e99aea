#!/usr/bin/env bash
# One study on this machine, on all its GPUs or else its processor, until it
# is done: a crash or a restart goes on where it was.
#
#   scripts/workstation.sh configs/study.py
#   PROCESSES=2 scripts/workstation.sh configs/smoke.py   # several processes
set -euo pipefail

config=${1:?give a config, for example configs/study.py}
shift
stem=$(basename "${config%%:*}" .py)
[[ $config != *:?* ]] || stem+=-${config#*:}  # a preset has its own folder
workdir=${WORKDIR:-runs/$stem}
# Pages of large temporary arrays are kept, not given back and faulted anew.
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-1073741824}
export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-4294967296}
run=(python -m cmbjax.main --config="$config" "$@" --workdir="$workdir")

if ((${PROCESSES:-1} == 1)); then
  exec "${run[@]}"
fi
port=${PORT:-29500}
children=() stopped=''
trap 'stopped=1; kill -TERM "${children[@]}" 2>/dev/null || true' TERM INT
for ((index = 0; index < PROCESSES; index++)); do
  "${run[@]}" --coordinator="localhost:$port" \
    --processes="$PROCESSES" --process="$index" &
  children+=($!)
done
status=0
for ((left = PROCESSES; left > 0; left--)); do
  if ! wait -n; then
    # The others end by themselves; but not while they wait for it to come.
    [[ -n $stopped ]] || kill -TERM "${children[@]}" 2>/dev/null || true
    break
  fi
done
for child in "${children[@]}"; do  # all of them, also when told to stop
  code=0
  wait "$child" || code=$?
  if ((code != 0 && (status == 0 || status == 143))); then
    status=$code
  fi
done
exit "$status"
