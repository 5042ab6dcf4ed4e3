"""What libraries log on the terminal: changed for the process of a command, never on import."""

from __future__ import annotations

import logging
import sys
from typing import Any


def quiet_orbax() -> None:
    """Silences Orbax's logs and the errors of a failed save that are reported already.

    Orbax logs each save, and failures with tracebacks, through absl; fer_jax raises or prints
    what matters. If one array cannot be written, Orbax closes the event loop that writes the
    others, and each of those would print a traceback from a thread at a later time.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook
