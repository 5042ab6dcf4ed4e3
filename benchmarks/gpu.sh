#!/usr/bin/env bash
# Measures fer_jax on a GPU, in two commands of at most 5 minutes each; needs no network.
#
#   [PYTHON=python3] [WHEELS=FOLDER] benchmarks/gpu.sh 1|2 [--toy] [--out FILE]
#   python -m benchmarks.speed.table runs/gpu/gpu.json
#
# PYTHON has the machine's own jax and torch. WHEELS holds wheels of the packages that it lacks;
# they are installed into runs/gpu/packages, without their dependencies. benchmarks/gpu.py lists the
# sections. --toy runs everything on CPUs in tiny sizes and measures nothing of interest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [[ -n ${WHEELS-} ]]; then
  packages=runs/gpu/packages
  "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$packages" \
    --find-links "$WHEELS" "$WHEELS"/*.whl
  export PYTHONPATH=$PWD/$packages${PYTHONPATH:+:$PYTHONPATH}
fi
exec "$python" -m benchmarks.gpu --budget $((290 - SECONDS)) "$@"
