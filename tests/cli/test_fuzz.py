"""Mutated run directories, images, archives and tables: a result, or exit code 2 and one message.

Mutations are drawn with a fixed seed. `make test` tries a few of each kind, `make check` many.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import fer_jax
from fer_jax import errors, run_dir
from fer_jax.experiments import evaluate
from fer_jax.models import registry
from fer_jax.run_dir import Run
from fer_jax.runtime import sharding
from fer_jax.training.checkpoint import Checkpoints, state_digest
from fer_jax.training.restore import load_trained
from tests import commands
from tests.tiny_network import Tiny

ARCHIVE = Path(__file__).parents[1] / "experiments" / "fixture" / "format_3.zip"
JSONS = ("run.json", "config.json", "report/report.json", "timing.json")
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**70, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[2J",
    [], ["x"], [[]], {}, {"x": 1},
)  # fmt: skip
few_or_many = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)])


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """Flips a bit, or removes, repeats, zeroes or randomizes a part."""
    if not content:
        return b"\xff"
    first = draw.randrange(len(content))
    last = min(len(content), first + draw.choice((1, 4, 100)))
    part = content[first:last]
    new = draw.choice(
        (
            bytes([part[0] ^ 1 << draw.randrange(8)]) + part[1:], b"", part * 3,
            bytes(len(part)), draw.randbytes(len(part)),
        )
    )  # fmt: skip
    return content[:first] if draw.random() < 0.1 else content[:first] + new + content[last:]


def mutate_json(text: str, draw: random.Random) -> str:
    """Replaces, removes or renames an entry, or replaces the whole or a part of the text."""
    if draw.random() < 0.2:
        return mutate_bytes(text.encode(), draw).decode("latin-1")
    content = json.loads(text)
    places = list(_places(content))
    owner, key = draw.choice(places)
    how = draw.choice(("replace", "replace", "remove", "rename", "nest"))
    if how == "replace":
        owner[key] = copy.deepcopy(draw.choice(VALUES))
    elif how == "nest":
        return json.dumps(content).replace("1", "[" * 100_000, 1)
    else:
        value = owner.pop(key)
        if how == "rename" and isinstance(owner, dict):
            owner[f"{key}x"] = value
    return json.dumps(content)


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(pairs):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def attempt(action: Callable[[], object]) -> str:
    """Runs an action as a command; returns what is wrong with how it ended, or ""."""
    said = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(action="ignore"),  # of NumPy and Orbax about odd content
            errors.exit_cleanly(),
        ):  # fmt: skip
            action()
    except SystemExit as left:
        messages = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
        if left.code == errors.EXIT_USER_ERROR and len(messages) == 1:
            return ""
        return f"exit code {left.code}: {said.getvalue()[-300:]}"
    except Exception as error:  # noqa: BLE001 - what a user would see as a traceback
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "Traceback in stderr" if "Traceback" in said.getvalue() else ""


def digest_of(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


@pytest.fixture(autouse=True, scope="module")
def tiny_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        yield


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """Returns a run of an older version, without digests; `tfds` beside it is its data."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    other = evaluate.OtherData(data_dir=str(folder / "tfds"))
    evaluate.open_data(run_dir.open_run(folder / "plain"), other)  # adds looks.npy once
    return folder / "plain"


@pytest.fixture(scope="module")
def new(old) -> Path:
    """Returns the same run as this version writes it."""
    folder = old.parent / "new"
    shutil.copytree(old, folder)
    found = run_dir.open_run(folder)
    run = run_dir.start(
        folder, found.settings, found.labels, found.preprocessing, found.data, found.weights,
        found.engine,
    )  # fmt: skip
    shutil.rmtree(run.checkpoints)
    with (
        Checkpoints(found.folder.parent / "plain" / "checkpoints", read_only=True) as before,
        Checkpoints(run.checkpoints, identity=run.identity) as after,
    ):
        for step in before.steps:
            restored = before.restore(step, lambda _: _template(run))
            after.save(restored.state, restored.loop_state)
            after.wait()
    return folder


def _template(run: Run) -> Any:
    from fer_jax.training.build import make_model
    from fer_jax.training.recipe import make_recipe
    from fer_jax.training.stages import make_stages
    from fer_jax.training.state import abstract_state

    model = make_model(run.settings, len(run.labels))
    optimizer = make_stages(run.settings, model)[0].optimizer
    mesh = sharding.one_device_mesh()
    return abstract_state(model, optimizer, run.preprocessing.size, mesh, make_recipe(run.settings))


def essential(run: Run) -> tuple[Any, ...]:
    """What results depend on."""
    flat = {
        name: value for name, value in run.settings.flat().items()
        if name not in run_dir.CHANGEABLE | {run_dir.LONGER}
    }  # fmt: skip
    return flat, dataclasses.replace(run, settings=None, folder=None)


@few_or_many
@pytest.mark.parametrize("kind", ["old", "new"])
def test_mutated_descriptions(request, kind, many):
    folder, draw = request.getfixturevalue(kind), random.Random(1)
    whole = {name: (folder / name).read_text() for name in JSONS}
    before, failed = essential(run_dir.open_run(folder)), []

    def read() -> None:
        found = run_dir.open_run(folder)
        run_dir.report_warnings(found)
        if kind == "new" and essential(found) != before:
            raise AssertionError("a change of run.json was not noticed")

    for _ in range(250 if many else 30):
        name = draw.choice(JSONS)
        (folder / name).write_text(mutate_json(whole[name], draw), "utf-8", "surrogateescape")
        mutated = digest_of(folder)
        ended = (attempt(read), attempt(lambda: commands.run("summary", folder)))
        failed += [f"{name}: {wrong}" for wrong in ended if wrong]
        if digest_of(folder) != mutated:
            failed.append(f"{name}: changed")
        (folder / name).write_text(whole[name])
    assert not failed, f"{len(failed)} failed: " + "\n".join(sorted(set(failed))[:20])


# Orbax readers of damaged files warn when their event loop is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@few_or_many
def test_mutated_checkpoints(new, many):
    run, draw, failed = run_dir.open_run(new), random.Random(2), []
    mesh = sharding.one_device_mesh()
    expected = state_digest(load_trained(run, mesh).variables)
    paths = sorted(path for path in run.checkpoints.rglob("*") if path.is_file())

    def load() -> None:
        if state_digest(load_trained(run, mesh).variables) != expected:
            raise AssertionError("a change of the weights was not noticed")

    for _ in range(50 if many else 4):
        path = draw.choice(paths)
        whole = path.read_bytes()
        path.write_bytes(mutate_bytes(whole, draw))
        if wrong := attempt(load):
            failed.append(f"{path.relative_to(new)}: {wrong}")
        path.write_bytes(whole)
    assert not failed, f"{len(failed)} failed: " + "\n".join(sorted(set(failed))[:20])


@few_or_many
def test_mutated_old_runs_evaluate_and_load(old, many):
    draw, failed, data = random.Random(3), [], old.parent / "tfds"
    names = ("run.json", "config.json", "metrics.jsonl", "timing.json")
    whole = {name: (old / name).read_bytes() for name in names}
    tried = 0
    while tried < (12 if many else 1):
        name = draw.choice(names)
        text = whole[name].decode()
        if name.endswith("l"):
            first, rest = text.split("\n", 1)
            mutated = f"{mutate_json(first, draw)}\n{rest}"
        else:
            mutated = mutate_json(text, draw)
        (old / name).write_text(mutated, "utf-8", "surrogateescape")
        with contextlib.suppress(errors.UserError), contextlib.redirect_stderr(io.StringIO()):
            run_dir.open_run(old)
            tried += 1
            before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
            ended = (
                attempt(lambda: commands.run("evaluate", old, "--data_dir", data)),
                attempt(lambda: fer_jax.load(old).predict_faces(np.zeros((1, 9, 9, 3), np.uint8))),
            )
            failed += [f"{name}: {wrong}" for wrong in ended if wrong]
            # Other settings may add data of another form.
            if any(path.read_bytes() != content for path, content in before.items()):
                failed.append(f"{name}: changed the prepared data")
        (old / name).write_bytes(whole[name])
    assert not failed, f"{len(failed)} failed: " + "\n".join(sorted(set(failed))[:20])


@few_or_many
def test_mutated_images(new, tmp_path, many):
    draw, failed, model = random.Random(4), [], fer_jax.load(new)
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), (64, 48))
    kinds = (".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm", ".gif")
    encoded = {kind: cv2.imencode(kind, image)[1].tobytes() for kind in kinds}
    for number in range(600 if many else 60):
        kind = draw.choice(kinds)
        content = mutate_bytes(encoded[kind], draw)
        if number < 10:
            (tmp_path / f"{number}{kind}").write_bytes(content)
        if wrong := attempt(lambda: model.predict(content, choice="whole")):  # noqa: B023
            failed.append(f"{kind}: {wrong}")
    before = digest_of(tmp_path)
    out = tmp_path.parent / "out"
    failed.append(attempt(lambda: commands.run("predict", new, tmp_path, "--out", out)))
    assert digest_of(tmp_path) == before
    failed = [one for one in failed if one]
    assert not failed, f"{len(failed)} failed: " + "\n".join(sorted(set(failed))[:20])


@few_or_many
@pytest.mark.parametrize("what", ["archive", "table"])
def test_mutated_archives_and_tables(tmp_path, what, many):
    draw, failed, rng = random.Random(5), [], np.random.default_rng(0)
    folder, packed = tmp_path / "photos", tmp_path / "photos.zip"
    rows = ["file,subject"]
    for label in ("anger", "happiness"):
        for number in range(6):
            path = folder / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 256, (24, 24, 3), np.uint8))
            rows.append(f"{label}/{number}.png,{number}")
    if what == "archive":
        with zipfile.ZipFile(packed, "w") as archive:
            for path in folder.rglob("*.png"):
                archive.write(path, path.relative_to(folder))
        source = target = packed
    else:
        source, target = folder, folder / "subjects.csv"
        target.write_text("\n".join(rows) + "\n")
    whole = target.read_bytes()
    for number in range((10 if what == "archive" else 30) if many else 1):
        target.write_bytes(mutate_bytes(whole, draw))
        before = digest_of(source) if source.is_dir() else source.read_bytes()
        data = tmp_path / f"data{number}"
        arguments = ("prepare", "image_folder", "--manual_dir", source, "--data_dir", data)
        if wrong := attempt(lambda: commands.run(*arguments)):  # noqa: B023
            failed.append(wrong)
        assert (digest_of(source) if source.is_dir() else source.read_bytes()) == before
    assert not failed, f"{len(failed)} failed: " + "\n".join(sorted(set(failed))[:20])
