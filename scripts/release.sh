#!/usr/bin/env bash
# Builds the wheel and the sdist, installs the wheel into an empty environment
# outside the checkout, and runs demo, detect and a tiny study from there.
#
#   scripts/release.sh                 # in a new folder, which is named at the end
#   PYTHON=python3.13 scripts/release.sh /tmp/release
#
# Each of the three should take less than 3 minutes on two idle cores.
set -euo pipefail

source=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
python=$folder/env/bin/python

step() {  # runs a command in the empty folder and prints what it took
  local TIMEFORMAT="release: %R s, %U s of processor: $*"
  echo "release: $*"
  time (cd "$folder/work" && PATH=$folder/env/bin:$PATH "$@")
}

[[ ! -e $folder/env && ! -e $folder/work && ! -e $folder/dist ]] || {
  echo "release: $folder holds env, work or dist; give a new folder." >&2
  exit 2
}
mkdir "$folder/work"
"${PYTHON:-python3}" -m venv "$folder/env"
"$python" -m pip install --quiet build twine
# The wheel is built from the sdist, so the sdist holds what it takes.
"$python" -m build --outdir "$folder/dist" "$source"
"$python" -m twine check --strict "$folder"/dist/*
"$python" -m pip install --quiet -c "$source/constraints.txt" \
  "$folder"/dist/*.whl
step cmbjax doctor --no-speed
step cmbjax weights verify
step cmbjax demo --no-browser
step cmbjax detect cmbjax-demo/scans/btumor_3t found
step cmbjax evaluate found cmbjax-demo/scans/btumor_3t
step python -m cmbjax.main --config=configs/smoke.py
ls -l "$folder"/dist
echo "release: fine, in $folder"
