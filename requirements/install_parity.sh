#!/bin/sh
# Makes .venv-parity, where `make parity` compares with Keras, timm and PyTorch. It sees .venv's
# packages and adds the peers; .venv itself stays as it is. PyTorch comes as a CPU build without
# its dependencies, so that no package of CUDA is ever fetched.
set -eu

venv=.venv-parity
torch=2.13.0
folder='import sysconfig; print(sysconfig.get_path("purelib"))'

install() {
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --no-compile \
    --no-deps "$@"
}

# PyTorch calls its CPU build so where plain versions have CUDA in them.
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
