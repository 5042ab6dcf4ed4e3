"""How a verb leaves: a message for what a user did, a traceback for what we did."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_jax import errors

# A compiler cannot be stopped; this one takes a minute.
COMPILING = """
import threading, time
from fer_jax import errors
threading.Thread(target=time.sleep, args=(60,), name=errors.COMPILER).start()
print("so far", flush=False)
with errors.exit_cleanly():
    raise {raised}
"""


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (errors.UserError("expected a, found b"), 2, "error: expected a, found b\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_did_is_told_in_a_line(capsys, raised, code, said):
    with pytest.raises(SystemExit) as left, errors.exit_cleanly():
        raise raised
    assert left.value.code == code
    assert capsys.readouterr().err == said
    assert left.value.__cause__ is None


def test_what_we_did_stays_an_exception():
    with pytest.raises(ZeroDivisionError), errors.exit_cleanly():
        _ = 1 / 0


@pytest.mark.parametrize(
    ("raised", "code"), [("errors.UserError('no')", 2), ("KeyboardInterrupt", 130)]
)
def test_nobody_waits_for_what_is_being_compiled(raised, code):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", COMPILING.format(raised=raised)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "so far\n")
    assert time.monotonic() - began < 30
