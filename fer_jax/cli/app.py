"""`fer-jax VERB ...`: finds the verb and runs it.

Exit codes: 0 finished; 2 wrong input, with one message; 75 another process of the job is gone;
130 stopped by Ctrl-C, 143 by SIGTERM and 129 by SIGHUP, saved.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from fer_jax import errors
from fer_jax.errors import UserError
from fer_jax.runtime import huge_pages

VERBS: dict[str, str] = {
    "prepare": "prepare a data set: find faces, draw splits, check for leaks",
    "preview": "show what augmentation does to training images",
    "train": "train, evaluate on test and write the report",
    "crossval": "train and test on every fold, with several seeds",
    "sweep": "train and test every combination of settings, and rank them",
    "evaluate": "report a trained run on another split, protocol or data set",
    "summary": "rank several runs and compare them in pairs",
    "labels": "list the labels of a data set that are probably wrong",
    "predict": "read the expressions in images, videos or a camera's view",
    "serve": "open a local page, upload or webcam, and a REST interface",
    "export": "write a network as ONNX, StableHLO, LiteRT or a web page",
    "publish": "write a folder for the Hugging Face Hub, or push it there",
    "port-weights": "convert published weights for model.pretrained",
    "stand-in": "write a stand-in for a data set, with rendered faces",
}
"""Each verb's line in `fer-jax --help`; `cli/<verb>.py` has its `main(arguments)`."""

_WITH_HUGE_PAGES = ("train", "crossval", "sweep", "predict", "serve")

_HELP = """usage: fer-jax VERB [ARGUMENT ...]

{verbs}

  fer-jax VERB --help   the arguments of a verb
  fer-jax --version     versions and device, for bug reports

to begin: fer-jax train --config configs/demo.py
"""


def script(verb: str | None = None) -> None:
    """Runs the command of this process, which may restart itself once.

    Args:
      verb: where the process was started as `python -m fer_jax.<verb>`; None reads it from the
        command line.
    """
    arguments = [verb, *sys.argv[1:]] if verb else sys.argv[1:]
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller: a file would get its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until exit
    # Commands draw into files. A notebook's variable may name a backend that is not here.
    os.environ["MPLBACKEND"] = "Agg"
    if isinstance(sys.stdout, io.TextIOWrapper):  # a Latin-1 terminal lacks most characters
        sys.stdout.reconfigure(errors="backslashreplace")
    with errors.exit_cleanly():
        if arguments and _verb(arguments)[0] in _WITH_HUGE_PAGES:
            huge_pages.restart()
        main(arguments)


def main(arguments: Sequence[str]) -> None:
    """Runs one verb.

    Raises:
      UserError: an unknown verb, or what the verb raises.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        lines = (f"  {verb:13} {line}" for verb, line in VERBS.items())
        print(_HELP.format(verbs="\n".join(lines)), end="")
    elif arguments[0] in ("-V", "--version", "version"):
        from fer_jax.cli import version

        version.main()
    else:
        verb, rest = _verb(arguments)
        module = importlib.import_module(f"fer_jax.cli.{verb.replace('-', '_')}")
        module.main(rest)


def _verb(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the verb and its arguments; `--config ...` without a verb trains."""
    first, *rest = arguments
    if first in ("-h", "--help", "-V", "--version", "help", "version"):
        return first, rest
    if first.startswith("--config"):
        return "train", list(arguments)
    name = first.replace("_", "-")
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"expected a verb ({', '.join(VERBS)}), found {first!r}; {hint}"
            "fer-jax --help says what each does"
        )
    return name, rest
