"""User errors become a message and an exit code; programming errors keep their traceback."""

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
def test_user_errors_become_one_line(capsys, raised, code, said):
    with pytest.raises(SystemExit) as left, errors.exit_cleanly():
        raise raised
    assert left.value.code == code
    assert capsys.readouterr().err == said
    assert left.value.__cause__ is None


def test_programming_errors_stay_exceptions():
    with pytest.raises(ZeroDivisionError), errors.exit_cleanly():
        _ = 1 / 0
