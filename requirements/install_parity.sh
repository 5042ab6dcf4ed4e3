#!/bin/sh
# Creates .venv-parity, where `make parity` compares with Keras, timm, dlib and PyTorch. It sees the
# packages of .venv and adds these; .venv is not changed. PyTorch is installed as a CPU build
# without its dependencies, so that no CUDA package is downloaded.
set -eu

venv=.venv-parity
torch=2.13.0
folder='import sysconfig; print(sysconfig.get_path("purelib"))'

install() {
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --no-compile \
    --no-deps "$@"
}

# The name of the CPU build on indexes where plain versions include CUDA.
case "$(uname -sm)" in
  "Linux x86_64") torch="$torch+cpu" ;;
esac

echo "Installing requirements/parity.lock and PyTorch $torch into $venv"
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
.venv/bin/python -c "$folder" >"$("$venv/bin/python" -c "$folder")/packages-of-venv.pth"
install --require-hashes -r requirements/parity.lock
install "torch==$torch" || {
  echo "error: expected a CPU build of PyTorch $torch for this Python, found none;" \
    "name PyTorch's index of CPU builds in PIP_EXTRA_INDEX_URL and run make parity again" >&2
  exit 2
}
touch "$venv/stamp"
