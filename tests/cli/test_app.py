"""The dispatcher: verbs, versions, and the older ways to start each command."""

from __future__ import annotations

import importlib
import os
import runpy
import sys

import jax
import pytest

import fer_jax
from fer_jax.cli import app
from fer_jax.errors import UserError
from fer_jax.runtime import huge_pages

SHIMS = {
    "fer_jax.main": "train", "fer_jax.crossval": "crossval", "fer_jax.evaluate": "evaluate",
    "fer_jax.export": "export", "fer_jax.port_weights": "port-weights",
    "fer_jax.predict": "predict", "fer_jax.preview": "preview", "fer_jax.serve": "serve",
    "fer_jax.summary": "summary", "fer_jax.train": "train", "tfds_builders.build": "prepare",
    "tfds_builders.stand_in": "stand-in",
}  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb_on_80_columns(capsys, arguments):
    app.main(arguments)
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in app.VERBS)
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_has_help_under_its_own_name(capsys, verb):
    with pytest.raises(SystemExit) as left:
        app.main([verb, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: fer-jax {verb} ")


@pytest.mark.parametrize(
    ("arguments", "verb", "passed"),
    [
        (["--config", "a.py", "--workdir=b"], "train", ["--config", "a.py", "--workdir=b"]),
        (["--config=a.py"], "train", ["--config=a.py"]),
        (["port_weights", "x"], "port_weights", ["x"]),
        (["stand-in", "kdef", "out"], "stand_in", ["kdef", "out"]),
    ],
)
def test_which_verb_runs(monkeypatch, arguments, verb, passed):
    calls = []
    module = importlib.import_module(f"fer_jax.cli.{verb}")
    monkeypatch.setattr(module, "main", calls.append)
    app.main(arguments)
    assert calls == [passed]


def test_an_unknown_verb_names_the_nearest():
    with pytest.raises(UserError, match=r"found 'evalute'; did you mean 'evaluate'\?"):
        app.main(["evalute", "runs/demo"])


def test_version_has_what_a_bug_report_needs(capsys):
    app.main(["--version"])
    said = capsys.readouterr().out
    assert said.startswith(f"fer-jax {fer_jax.__version__}\n")
    assert f"jax {jax.__version__}\n" in said
    assert f"devices {jax.device_count()}: cpu" in said


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_and_the_backend_of_a_notebook(monkeypatch, stream):
    monkeypatch.setattr(sys, "argv", ["fer-jax", "--help"])
    monkeypatch.setattr(sys, stream, None)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    app.script()
    with getattr(sys, stream) as opened:
        assert opened.name == os.devnull
    assert os.environ["MPLBACKEND"] == "Agg"


@pytest.mark.parametrize("verb", app.VERBS)
def test_help_without_docstrings(monkeypatch, capsys, verb):
    """As with `python -OO`."""
    module = importlib.import_module(f"fer_jax.cli.{verb.replace('-', '_')}")
    monkeypatch.setattr(module, "__doc__", None)
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    assert f"usage: fer-jax {verb} " in capsys.readouterr().out


@pytest.mark.parametrize(("module", "verb"), SHIMS.items())
def test_the_older_module_starts_the_same_command(monkeypatch, capsys, module, verb):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setattr(huge_pages, "restart", lambda: None)
    with pytest.raises(SystemExit) as left:
        runpy.run_module(module, run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: fer-jax {verb} ")
