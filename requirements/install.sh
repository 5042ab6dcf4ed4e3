#!/bin/sh
# Creates .venv and installs a lock into it:  sh requirements/install.sh run|dev|check|docs
# PYTHON names the interpreter of a new .venv. A .venv that an earlier run left unfinished is
# recreated. Nothing outside .venv is changed, and every package is verified by its hash.
set -eu

kind=$1
python=${PYTHON:-python3}
venv=.venv
hint="name another with PYTHON, as in: make demo PYTHON=python3.12"

fail() {
  echo "error: $*" >&2
  exit 2
}

# Python 2 and 3.6 have to parse this, too.
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

check_python() {
  command -v "$python" >/dev/null ||
    fail "expected Python 3.11, 3.12 or 3.13, found no '$python'." \
      "Install one (Debian: apt install python3 python3-venv) or $hint"
  "$python" -c "$supported" ||
    fail "expected Python 3.11, 3.12 or 3.13, found $("$python" --version 2>&1) as '$python';" \
      "$hint"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "expected a Python that can make virtual environments, found that '$python' lacks" \
      "ensurepip. Install it (Debian: apt install python3-venv) or $hint"
}

make_venv() {
  check_python
  echo "Creating $venv with $("$python" --version)"
  rm -rf "$venv"
  mkdir "$venv"
  touch "$venv/unfinished"
  "$python" -m venv "$venv"
  "$python" -c 'import sys; print(sys.version)' >"$venv/made-by"
}

# Modules are compiled when they are first imported; most never are, and this saves a third of the
# time.
install() {
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --no-compile "$@"
}

usable() {
  [ -z "${NEW_VENV:-}" ] && [ ! -e "$venv/unfinished" ] &&
    "$venv/bin/python" -c "import pip; $supported" 2>/dev/null
}

usable || make_venv
# If this script is stopped before its end, the next start recreates .venv.
touch "$venv/unfinished"
echo "Installing requirements/$kind.lock into $venv (a minute or two the first time)"
# The build tools come first: promise ships as source only, and must not be built in an isolated
# environment, whose packages would not be locked.
install --require-hashes -r requirements/build.lock
install --require-hashes --no-build-isolation --use-pep517 -r "requirements/$kind.lock"
install --no-deps --no-build-isolation --editable .
rm "$venv/unfinished"
touch "$venv/$kind.stamp"
