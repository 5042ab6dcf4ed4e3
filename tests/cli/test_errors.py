"""How a verb leaves: a message for what a user did, a traceback for what we did."""

from __future__ import annotations

import pytest

from fer_jax import errors


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
