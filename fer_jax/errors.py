"""How wrong input is reported: one message and exit code 2.

A `UserError` carries what was expected, what was found and what to do; `exit_cleanly` prints it
without a traceback. Programming errors are not caught here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

from fer_jax.printable import printable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
EXIT_PIPE = 141  # 128 + SIGPIPE
EXIT_PEER_LOST = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed next time


_PEERS_REPORT_SECONDS = 1.0

_at_once = False


class UserError(Exception):
    """Wrong input; the message says what was expected, what was found and what to do."""


class PeerLostError(Exception):
    """Another process of the job is gone; the message says what to do."""


def fails_at(error: Exception, file: str = "") -> str:
    """Returns "fails at line 3: KeyError: 'a'": the line of `file`, else of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if frame.filename.endswith(file)]
    line = getattr(error, "lineno", None) or (inside[-1].lineno if inside else "?")
    first = str(error).split("\n")[0]
    return f"fails at line {line}: {type(error).__name__}: {first}"


def end_at_once() -> None:
    """Makes `exit_cleanly` end this process without Python's cleanup.

    For one process of several: at interpreter exit JAX waits minutes for the others, which wait
    for this one in a step.
    """
    global _at_once
    _at_once = True


@contextlib.contextmanager
def exit_cleanly() -> Iterator[None]:
    """Wraps a command: no traceback for a user's mistake.

    A `UserError` becomes a message on stderr and exit code 2, Ctrl-C exit code 130, a closed
    stdout 141, a lost process of the job 75.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # else a closed pipe is found at exit, where nobody catches it
    except UserError as error:
        message = printable(str(error), keep="\n")
        print(f"error: {message}", file=sys.stderr, flush=True)
        _leave(EXIT_USER_ERROR)
    except BrokenPipeError:  # of a command such as `fer-jax predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(EXIT_PIPE)
    except PeerLostError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # Immediately: cleanup at exit would wait for the process that is gone.
        os._exit(EXIT_PEER_LOST)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        _leave(EXIT_INTERRUPTED)
    except Exception:
        if not _at_once:
            raise
        traceback.print_exc()
        _leave(1)


def _leave(code: int) -> NoReturn:
    if _at_once:
        time.sleep(_PEERS_REPORT_SECONDS)  # the same cause may be ending the other processes
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code) from None
