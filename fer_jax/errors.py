"""The one way a verb tells its user that the input is wrong.

A `UserError` carries a message with what was expected, what was found and what
to do; `exit_cleanly` turns it into one message on stderr and exit code 2, without a
traceback. Programming errors are not caught here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
EXIT_PEER_LOST = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed next time


COMPILER = "compiler"
"""Name of threads that may be in XLA's code for a minute, and that nobody waits for at the end."""


_OTHERS_SPEAK_SECONDS = 1.0

_at_once = False


class UserError(Exception):
    """Wrong input: the message says what was expected, what was found, what to do."""


class PeerLostError(Exception):
    """Another process of the same job is gone; the message says what to do."""


def end_at_once() -> None:
    """From now on `exit_cleanly` ends this process at once where it fails.

    For one of several: at the exit of an interpreter JAX waits minutes for the others, which
    wait for this one in a step.
    """
    global _at_once
    _at_once = True


@contextlib.contextmanager
def exit_cleanly() -> Iterator[None]:
    """Wraps a verb's `main`: no traceback for what a user did.

    A `UserError` becomes a message on stderr and exit code 2; Ctrl-C where nothing has to
    be saved becomes exit code 130; a process of the job that is gone, 75.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        _leave(EXIT_USER_ERROR)
    except PeerLostError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # At once: what would be tidied up at exit waits for the process that is gone.
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
        time.sleep(_OTHERS_SPEAK_SECONDS)  # what ends this process may just be ending them too
    if _at_once or any(thread.name == COMPILER for thread in threading.enumerate()):
        # Python would wait for the compiler, which cannot be stopped, or JAX for the others.
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code) from None
