#!/bin/sh
# Creates .venv-peers, where `make benchmark` runs the libraries that fer_jax is compared with. It
# sees the packages of .venv-parity (PyTorch, Keras) and of .venv, and adds TensorFlow (for Keras
# and for its pipelines) and ONNX Runtime; the other two are not changed.
set -eu

venv=.venv-peers
folder='import sysconfig; print(sysconfig.get_path("purelib"))'

echo "Installing requirements/peers.lock into $venv"
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
for other in .venv-parity .venv; do
  "$other/bin/python" -c "$folder"
done >"$("$venv/bin/python" -c "$folder")/packages-of-others.pth"
"$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --no-compile \
  --no-deps --require-hashes -r requirements/peers.lock
touch "$venv/stamp"
