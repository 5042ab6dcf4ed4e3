"""Tests of configuration: files, overrides, and error messages."""

from __future__ import annotations

import ast

import pytest

from fer_jax import config as configuration
from fer_jax.cli import train
from fer_jax.errors import UserError
from fer_jax.settings import flatten
from fer_jax.training.build import MODEL_SETTINGS, make_model
from fer_jax.training.step_counts import count_steps
from fer_jax.weights import published

SHIPPED = sorted(path.stem for path in configuration.shipped_folder().glob("*.py"))


def write(tmp_path, body):
    path = tmp_path / "own.py"
    path.write_text("from fer_jax.config import defaults\n\ndef get_config():\n" + body)
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_loads_locked(name):
    config = configuration.load(f"configs/{name}.py")
    assert config.is_locked
    assert set(flatten(config.to_dict())) == set(flatten(configuration.defaults().to_dict()))


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "defaults"])
def test_every_shipped_config_fits_its_network(name):
    config = configuration.load_settings(f"configs/{name}.py")
    model = make_model(config, classes=7)
    for setting in MODEL_SETTINGS:
        assert getattr(config.model, setting) in (None, getattr(model, setting, None))
    assert config.model.pretrained in ("none", "imagenet", "ferplus")
    assert config.model.pretrained != "imagenet" or config.model.name in published.IMAGENET


PAPER = ("kdef", "rafd", "sfew", "amfed_plus")


@pytest.mark.parametrize("name", [f"{name}{end}" for name in PAPER for end in ("", "_paper")])
def test_the_paper_configs_balance_as_the_paper_does(name):
    assert configuration.load_settings(name).train.balance == "oversample"


@pytest.mark.parametrize("name", SHIPPED)
def test_imagenet_weights_are_tuned_after_the_head_and_more_slowly(name):
    settings = configuration.load_settings(name)
    if settings.model.pretrained == "imagenet":
        assert count_steps(settings, epoch_steps=10).head > 0
        assert settings.optim.finetune_rate < settings.optim.learning_rate


@pytest.mark.parametrize(
    ("overrides", "widths"),
    [
        ([], (8, 16)),
        (["model.widths=4,6,8"], (4, 6, 8)),
        (["model.name=resnet18"], (64, 128, 256, 512)),
        (["model.name=resnet50", "model.widths=24,48,96,160"], (24, 48, 96, 160)),
    ],
)
def test_widths_reach_the_network(overrides, widths):
    assert make_model(configuration.load_settings("demo", overrides), classes=7).widths == widths


def test_every_field_of_the_defaults_has_a_comment():
    source = (configuration.shipped_folder() / "defaults.py").read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            above = lines[node.lineno - 2].strip()
            section = isinstance(node.value, ast.Call) and not node.value.args
            assert section or above.startswith("#"), lines[node.lineno - 1]


def test_a_shipped_config_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration.load("configs/demo.py") == configuration.load("demo")


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("train.epochs=7", "train.epochs", 7),
        ("optim.learning_rate=1e-2", "optim.learning_rate", 0.01),
        ("optim.learning_rate=1", "optim.learning_rate", 1.0),
        ("data.dir=/some/where=x", "data.dir", "/some/where=x"),
        ("model.dropout=0.25", "model.dropout", 0.25),
        ("model.dropout=none", "model.dropout", None),
        ("model.dropout=None", "model.dropout", None),
        ("data.face_margin=none", "data.face_margin", None),
        ("model.head_widths=256,64", "model.head_widths", (256, 64)),
        ("model.head_widths=", "model.head_widths", ()),
        ("model.remat=yes", "model.remat", True),
    ],
)
def test_overrides_are_converted_to_the_type_of_the_field(override, field, value):
    found = flatten(configuration.load("demo", [override]).to_dict())[field]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=5", "no config field train.epoch; did you mean train.epochs"),
        ("trian.epochs=5", "did you mean train.epochs"),
        ("optim.lr=1", r"did you mean optim.learning_rate\?"),
        ("train.batchsize=1", r"did you mean train.batch_size\?"),
        ("train=5", "that is a section, with the fields train.accumulate, "),
        ("train.batch_size=many", "expected int for --config.train.batch_size, found 'many'"),
        ("train.batch_size=7.5", "expected int"),
        ("train.epochs=many", "expected a number of at least 0 for --config.train.epochs"),
        ("train.epochs=-3", "or one with a unit such as \"30ep\".*found '-3'"),
        ("model.dropout=half", "expected float for --config.model.dropout"),
        ("optim.momentum=none", "expected float for --config.optim.momentum"),
        ("model.head_widths=512,many", "expected integers with commas .*model.head_widths"),
        ("train.epochs", "after an equals sign"),
    ],
)
def test_wrong_overrides_are_explained(override, message):
    with pytest.raises(UserError, match=message):
        configuration.load("demo", [override])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "  c = defaults()\n  c.train.epoch = 3\n  return c\n",
            r'fails at line 5: .*mean "epochs"',
        ),
        (
            "  c = defaults()\n  c.data.size = 'x'\n  return c\n",
            "fails at line 5: TypeError",
        ),
        ("  return {}\n", "expected get_config.* found dict"),
        ("  c = defaults().unlock()\n  c.epochs = 3\n  return c\n", "no config field epochs"),
        ("  c = (\n", "fails at line 4: SyntaxError"),
    ],
)
def test_errors_in_a_config_file_are_explained(tmp_path, body, message):
    with pytest.raises(UserError, match=message):
        configuration.load(write(tmp_path, body))


def test_a_file_without_get_config_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"expected a function get_config\(\)"):
        configuration.load(str(tmp_path / "empty.py"))
    with pytest.raises(
        UserError, match=r"found nothing at configs/kdeff.py; did you mean .*kdef.py"
    ):
        configuration.load("configs/kdeff.py")


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["--config=a.py", "--config.x=1"], ["x=1"]),
        (["--config", "a.py", "--config.x", "1", "--workdir", "w"], ["x=1"]),
        (["--config", "a.py", "--config.x=-1", "--config.y", "-1"], ["x=-1", "y=-1"]),
    ],
)
def test_spellings_of_flags(arguments, overrides):
    options, found = train.parse(arguments)
    assert (options.config, found) == ("a.py", overrides)


def test_an_unknown_flag_is_reported():
    with pytest.raises(UserError, match="unknown argument '--epochs=3'"):
        train.parse(["--config=a.py", "--epochs=3"])
