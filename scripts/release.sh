#!/usr/bin/env bash
# Builds the wheel and the sdist, installs the wheel into an empty environment
# outside the checkout, and runs demo, detect and a tiny study from there. With
# a C++ compiler on Linux it also builds the wheel for this platform, which
# carries the compiled convolution; its name asks for the glibc that it was
# linked with, so build it on the oldest system that it is for.
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
if [[ $(uname) == Linux ]] && command -v "${CXX:-c++}" >/dev/null; then
  CMBJAX_PLATFORM_WHEEL=1 "$python" -m build --wheel \
    --outdir "$folder/dist" "$source"
else
  echo "release: no Linux or no C++ compiler here: no platform wheel." >&2
fi
"$python" -m twine check --strict "$folder"/dist/*
"$python" -m pip install --quiet -c "$source/constraints.txt" \
  "$folder"/dist/*-any.whl
step cmbjax doctor --no-speed
step cmbjax weights verify
step cmbjax demo --no-browser
step cmbjax detect cmbjax-demo/scans/btumor_3t found
step cmbjax evaluate found cmbjax-demo/scans/btumor_3t
step python -m cmbjax.main --config=configs/smoke.py
for wheel in "$folder"/dist/*manylinux*.whl; do
  [[ -e $wheel ]] || continue
  "$python" -m pip install --quiet --no-deps --force-reinstall "$wheel"
  # No compiler and an empty cache: what it carries must do.
  step env CXX=/nowhere XDG_CACHE_HOME="$folder/empty-cache" python -c \
    'from cmbjax.models import winograd; assert not winograd.why_not()'
done
ls -l "$folder"/dist
echo "release: fine, in $folder"
