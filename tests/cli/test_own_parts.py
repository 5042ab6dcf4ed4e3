"""Parts of a user: the examples of docs/own_parts.md from training to export, and messages."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import fer_jax
from fer_jax import plugins
from fer_jax.errors import UserError
from fer_jax.labels import SEVEN
from fer_jax.registry import REGISTRIES
from tests import commands

PAGE = Path(__file__).parents[2] / "docs" / "own_parts.md"
EXAMPLES = dict(
    re.findall(r'^```python title="(.+?)"\n(.*?)^```', PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
OWN = (
    "--config.plugins=my_parts.py", "--config.model.name=tiny", "--config.optim.name=belief",
    "--config.augment.extra=grayscale", "--config.train.epochs=1",
)  # fmt: skip


def forget() -> None:
    """Makes this process one that has imported no plugin."""
    for registry in REGISTRIES.values():
        for name, module in registry.modules.items():
            del registry[name]
            sys.modules.pop(module, None)
        registry.modules.clear()
    plugins.version_of.cache_clear()
    plugins._note_change.cache_clear()


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    forget()


@pytest.fixture(scope="module")
def own_run(tmp_path_factory, tiny, data_dir) -> Path:
    """Returns a folder with the example plugin and a run of its parts. Shared: do not modify."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("my_parts.py").write_text(EXAMPLES["my_parts.py"])
        commands.run("train", *tiny, *OWN, f"--config.data.dir={data_dir}", "--workdir=run")
    forget()
    return folder


@pytest.mark.slow
def test_a_run_of_own_parts_opens_where_the_user_names_them(own_run, data_dir, capsys):
    report = json.loads((own_run / "run/report/report.json").read_text())
    assert report["card"]["model"] == "tiny"
    assert any("network tiny, optimizer belief" in note for note in report["card"]["notes"])
    with pytest.raises(SystemExit, match="2"):
        commands.run("evaluate", own_run / "run")
    message = capsys.readouterr().err
    assert "network tiny, optimizer belief, augmentation grayscale of my_parts (sha256 " in message
    assert "--plugins my_parts.py" in message
    assert "my_parts" not in sys.modules
    flag = ("--plugins", own_run / "my_parts.py")
    commands.run("evaluate", own_run / "run", "--split=validation", *flag)
    commands.run("export", own_run / "run", "--format=stablehlo", "--out=own.stablehlo", *flag)
    out, err = capsys.readouterr()
    assert "accuracy" in out
    assert "same class for 100.0%" in out
    assert "was trained with" not in err


@pytest.mark.slow
def test_a_changed_plugin_is_noted_once(own_run, capsys):
    changed = Path("my_parts.py")
    changed.write_text(EXAMPLES["my_parts.py"] + "\n# changed\n")
    for _ in range(2):
        fer_jax.load(own_run / "run", plugins=[str(changed)])
    err = capsys.readouterr().err
    assert err.count("was trained with network tiny") == 1
    assert len(set(re.findall(r"my_parts \(sha256 (\w+)\)", err))) == 2


@pytest.mark.slow
def test_a_resumed_run_needs_the_plugin_in_its_config(own_run, tiny, data_dir, capsys):
    rest = [one for one in OWN if "plugins" not in one]
    with pytest.raises(SystemExit, match="2"):
        commands.run(
            "train", *tiny, *rest, f"--config.data.dir={data_dir}", f"--workdir={own_run / 'run'}"
        )
    assert "--config.plugins=FILE.py" in capsys.readouterr().err


@pytest.mark.slow
def test_an_entry_point_is_found_by_name(own_run, monkeypatch):
    info = Path("site/my_parts-1.2.dist-info")
    info.mkdir(parents=True)
    Path("site/my_parts.py").write_text(EXAMPLES["my_parts.py"])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[fer_jax.plugins]\nmine = my_parts\n")
    (info / "top_level.txt").write_text("my_parts\n")
    monkeypatch.syspath_prepend("site")
    assert fer_jax.load(own_run / "run").labels == SEVEN
    assert plugins.version_of("my_parts") == "my-parts 1.2"


def test_an_own_data_set_is_prepared_and_split_by_person(capsys):
    Path("my_faces.py").write_text(EXAMPLES["my_faces.py"])
    rng, rows = np.random.default_rng(0), ["file,emotion,person"]
    Path("copy").mkdir()
    for person in range(4):
        for emotion in SEVEN:
            name = f"{person}_{emotion}.png"
            cv2.imwrite(f"copy/{name}", rng.integers(0, 255, (32, 32, 3), np.uint8))
            rows.append(f"{name},{emotion},p{person}")
    Path("copy/labels.csv").write_text("\n".join(rows))
    named = ("--plugins=my_faces.py", "--data_dir=tfds")
    commands.run("prepare", "my_faces", *named, "--manual_dir=copy")
    assert "28" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        commands.run("prepare", "my_facez", *named)
    assert "did you mean 'my_faces'?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_snippets_for_other_code_run(own_run, data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    found: dict = {}
    for name in ("networks", "checkpoint", "splits"):
        source = EXAMPLES[name].replace("runs/tiny", str(own_run / "run"))
        source = source.replace("48, 48", "4, 4").replace("(8, 16, 32)", "(4,)")  # compiles faster
        exec(compile(source, name, "exec"), found)
    assert found["logits"].shape == (1, 7)
    assert found["variables"]["params"]["head"]["kernel"].shape == (32, 7)
    data = found["data"]
    ids = {data.entries[row].id for row in data.splits["train"]}
    assert {one["id"].decode() for one in found["train"]} == ids


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "found no file"),
        ("x = 1 / 0", "fails at line 1: ZeroDivisionError"),
        ("import no_such_package", "needs no_such_package, which is not installed"),
        ("import fer_jax\nfer_jax.register('network', 'vgg16')(int)", "the fields classes and"),
        ("import fer_jax\nfer_jax.register('optimizer', 'adam')(int)", "'adam', which is taken"),
        ("import fer_jax\nfer_jax.register('loss', 'mine')", "network, optimizer.*found 'loss'"),
    ],
)
def test_a_plugin_of_no_use_is_one_message(source, message):
    import fer_jax.training.optim  # noqa: F401 - has the names that are taken

    if source is not None:
        Path("faulty.py").write_text(source)
    with pytest.raises(UserError, match=message):
        plugins.load(["faulty.py"])


def test_a_plugin_does_not_hide_a_module():
    Path("json.py").write_text("")
    with pytest.raises(UserError, match="rename the file"):
        plugins.load(["json.py"])
    with pytest.raises(UserError, match=r"found none; give the path of its \.py file"):
        plugins.load(["no_such_module"])


def test_own_augmentations_do_not_move_the_draws_of_the_others():
    import jax

    from fer_jax.data.augment import OFF, augment

    seen = []

    @fer_jax.register("augmentation", "invert")
    def invert(images, keys):
        seen.append(keys)
        return 255 - images

    keys = jax.random.split(jax.random.key(0), 2)
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3)).astype(np.uint8)
    flip = dataclasses.replace(OFF, flip=0.5)
    plain = augment(images, keys, flip)
    own = augment(images, keys, dataclasses.replace(flip, extra=("invert", "invert", "invert")))
    np.testing.assert_allclose(own, 255 - plain, atol=1e-3)
    assert len({jax.random.key_data(keys[0]).tobytes() for keys in seen}) == 3
