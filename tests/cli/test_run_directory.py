"""Tests of the run directory: reading it, and refusing other settings."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fer_jax import config as configuration
from fer_jax import run_dir as module
from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError

DATA = {"name": "faces/demo/1.0.0", "protocol": "subject", "train": "d1", "validation": "d2"}


def start(folder, overrides=(), labels=("a", "b"), data=DATA, engine=None, say=print):
    config = configuration.load_settings("demo", overrides)
    preprocessing = Preprocessing(config.data.size, "standardize")
    return module.start(folder, config, labels, preprocessing, data, engine=engine, report=say)


def test_a_run_is_read_as_it_was_started(tmp_path):
    run = start(tmp_path / "r", ["model.dropout=0.25", "data.dir=/x"])
    assert module.open_run(tmp_path / "r") == run
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.settings.seed = 1


@pytest.mark.parametrize(
    ("folder", "name"),
    [("demo", "demo"), ("kdef/fold_1/seed_0", "kdef/fold_1/seed_0"), ("x/seed_3", "x/seed_3")],
)
def test_runs_of_a_cross_validation_are_named_with_its_folder(tmp_path, folder, name):
    assert start(tmp_path / folder).full_name == name


def test_versions_are_stored(tmp_path):
    run = start(tmp_path / "r")
    assert module.read_versions(run) == module.versions()
    (run.folder / "run.json").write_text('{"versions": 3}')
    assert module.read_versions(run) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overrides": ["train.epochs=3"]}, "train.epochs: 40 then, 3 now"),
        (
            {"overrides": ["model.name=custom_cnn"]},
            "model.name: 'light_vgg' then, 'custom_cnn' now",
        ),
        (
            {"overrides": ["train.steps_per_dispatch=2"]},
            "train.steps_per_dispatch: None then, 2 now",
        ),
        ({"labels": ("a", "c")}, r"labels: \['a', 'b'\] then, \['a', 'c'\] now"),
        ({"data": DATA | {"train": "d9"}}, "data of the run: train: 'd1' then, 'd9' now"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(tmp_path, change, message):
    start(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError, match=f"(?s)choose another --workdir.*{message}"):
        start(tmp_path, **change)
    assert (tmp_path / "config.json").read_bytes() == before


def test_fields_without_effect_on_parameters_may_change(tmp_path):
    start(tmp_path)
    overrides = [f"{name}={value}" for name, value in
                 {"data.dir": "/y", "data.manual_dir": "/z", "data.relabel": "/r",
                  "eval.batch_size": 9,
                  "eval.explain": "false", "eval.samples": 1, "model.pretrained": "/w",
                  "data.store": "stream", "train.keep": 5, "train.pictures": 0,
                  "train.log_steps": 3, "train.fsdp": 2,
                  "eval.calibrate": "true", "plugins": "json",
                  "trackers": "mlflow"}.items()]  # fmt: skip
    assert len(overrides) == len(module.CHANGEABLE)
    assert start(tmp_path, overrides).settings.eval.samples == 1


@pytest.mark.parametrize(
    ("name", "then", "now"),
    [("kdef", "paper", (None, "paper")), ("synthetic_faces", "demo", ("demo", None))],
)
def test_protocol_names_of_format_2_are_converted(tmp_path, name, then, now):
    start(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for field in ("protocol", "protocol_seed", "crop", "mask"):
        del config["data"][field]
    config["data"] |= {"name": name, "config": then}
    (tmp_path / "config.json").write_text(json.dumps(config))
    description = json.loads((tmp_path / "run.json").read_text())
    del description["preprocessing"]["mask"], description["digest"]
    (tmp_path / "run.json").write_text(json.dumps(description | {"format": 2}))
    run = module.open_run(tmp_path)
    assert (run.settings.data.config, run.settings.data.protocol) == now
    assert run.preprocessing.mask == "none"


def test_permitted_changes_are_reported(tmp_path):
    said = []
    start(tmp_path, engine={"devices": 1, "total_steps": 40}, say=said.append)
    changes = ["train.epochs=60", "train.log_steps=3"]
    start(tmp_path, changes, engine={"devices": 8, "total_steps": 60}, say=said.append)
    expected = (
        "train.epochs was 40 and is 60 from now on",
        "train.log_steps was 20 and is 3 from now on",
        "the learning rate follows the cosine schedule of the longer run from now on",
    )
    assert len(said) == len(expected)
    for line, begins in zip(said, expected, strict=True):
        assert line.startswith(f"{tmp_path}: {begins}")


@pytest.mark.parametrize(("wanted", "kept"), [((), 7), (("train.steps_per_dispatch=3",), 3)])
def test_automatic_steps_per_dispatch_are_stored(tmp_path, wanted, kept):
    start(tmp_path, wanted, engine={"steps_per_dispatch": 7 if not wanted else 3})
    run = start(tmp_path, wanted, engine={"steps_per_dispatch": 1 if not wanted else 3})
    assert run.engine["steps_per_dispatch"] == kept
    assert module.open_run(tmp_path) == run


def test_a_moved_run_still_works(tmp_path):
    start(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert start(tmp_path / "b").name == "b"


def newer(folder):
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"format": module.FORMAT + 1}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "run.json").unlink(), "expected a run directory.*train one with"),
        (lambda folder: (folder / "run.json").write_text("{"), "cannot be read.*JSONDecodeError"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be read.*FileNotFoundError"),
        (newer, r"newer fer_jax \(format 5, known 4\)"),
    ],
)
def test_invalid_run_directories_are_reported(tmp_path, spoil, message):
    start(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        module.open_run(tmp_path)


def test_a_second_process_is_refused(tmp_path):
    with module.locked(tmp_path):
        held = module.locked(tmp_path)
        with pytest.raises(UserError, match="another process is training"):
            held.__enter__()
    with module.locked(tmp_path):
        pass


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    held = module.locked(tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"expected to write the run directory .*--workdir"):
        held.__enter__()


def edit(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("run.json", {"labels": ["b", "a"]}),
        ("run.json", {"preprocessing": Preprocessing(64, "unit").to_json()}),
        ("run.json", {"engine": {"total_steps": 41}}),
        ("run.json", {"learned": "0"}),
        ("run.json", {"digest": "0"}),
        ("config.json", {"seed": 2}),
    ],
)
def test_a_change_of_what_decides_results_is_refused(tmp_path, name, changes):
    start(tmp_path)
    edit(tmp_path, name, **changes)
    with pytest.raises(UserError, match=r"cannot be read .*the digest differs.*restore its run"):
        module.open_run(tmp_path)


def test_a_kill_between_the_writes_of_the_two_files_leaves_a_run(tmp_path):
    start(tmp_path, engine={"total_steps": 40})
    description = (tmp_path / "run.json").read_bytes()
    start(tmp_path, ["data.dir=/y", "train.epochs=60"], engine={"total_steps": 60})
    (tmp_path / "run.json").write_bytes(description)
    assert module.open_run(tmp_path).settings.data.dir == "/y"


def test_a_run_of_an_older_version_opens_with_a_note_and_gets_a_digest(tmp_path, capsys):
    start(tmp_path)
    description = json.loads((tmp_path / "run.json").read_text())
    del description["digest"], description["identity"]
    (tmp_path / "run.json").write_text(json.dumps(description))
    assert module.open_run(tmp_path).identity == ""
    assert capsys.readouterr().err.count("older fer_jax, which stored no digest") == 1
    run = start(tmp_path)
    assert module.open_run(tmp_path) == run
    assert run.identity


@pytest.mark.parametrize(
    "change",
    [{}, {"overrides": ["seed=2"]}, {"labels": ("b", "a")}, {"data": DATA | {"name": "x"}}],
)
def test_the_identity_is_of_what_may_not_change(tmp_path, change):
    run = start(tmp_path / "a", ["data.dir=/x"])
    assert (start(tmp_path / "b", **change).identity == run.identity) == (not change)


def test_checkpoints_without_a_description_are_refused(tmp_path):
    run = start(tmp_path)
    (run.checkpoints / "3").mkdir(parents=True)
    (tmp_path / "run.json").unlink()
    with pytest.raises(UserError, match=r"expected .*run\.json, which says what the checkpoints"):
        module.resumable(tmp_path, run.settings)


def test_changes_of_the_environment_are_described():
    environments = [{"jax": "1", "cores": "2"}, {"jax": "1", "cores": "4"}, {"jax": "2"}]
    assert module.describe_changes(environments) == ("cores 2, then 4, then unknown; jax 1, then 2")
