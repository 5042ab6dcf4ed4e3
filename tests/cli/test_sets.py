"""Each of the paper's five sets, from its files to the report, with its config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fer_jax import config as configuration
from fer_jax import labels
from fer_jax.cli import train as main
from fer_jax.models.registry import MODELS
from tfds_builders import prepare as build
from tfds_builders import protocols
from tfds_builders.stand_ins import write as stand_in

SCALE = 0.001  # gives the smallest stand-in of each set
ORDER = {
    "kdef": labels.KDEF,
    "rafd": labels.RAFD,
    "raf_db": labels.RAF_DB,
    "sfew": labels.SFEW,
    "amfed_plus": labels.AMFED_PLUS,
}
PROTOCOL = {
    "kdef": "subject",
    "rafd": "subject",
    "raf_db": "official",
    "sfew": "official",
    "amfed_plus": "video",
}
QUICK = ("raf_db",)  # the others are slow to render or compile
CONFIGS = sorted(
    path.stem for path in configuration.shipped_folder().glob("*.py") if path.stem != "defaults"
)

# Trains in seconds, whatever the size of the set.
SMALL = {
    "model.pretrained": "none",
    "train.epochs": 1,
    "train.head_epochs": 0,  # nothing is pretrained
    "train.batch_size": 16,
    "eval.batch_size": 32,
    "eval.samples": 1,
    "eval.explain": False,
}


def _flags(settings: dict[str, object]) -> list[str]:
    return [f"--config.{field}={value}" for field, value in settings.items()]


def _check_report(name: str, folder: Path) -> None:
    """Checks that each form of the report contains what readers must know."""
    report = json.loads((folder / "report.json").read_text())
    card = report["card"]
    assert card["dataset"] == name
    assert card["protocol"] == PROTOCOL[name]
    assert tuple(report["label_names"]) == ORDER[name]
    assert report["count"] == sum(map(sum, report["confusion"])) > 0
    assert card["leaks"] == 0
    assert card["stand_in"] is True
    assert card["derived_labels"] is (name == "amfed_plus")
    assert card["label_rule"] == ("facs_v1" if name == "amfed_plus" else "")
    banners = ["STAND-IN: rendered faces instead of " + name]
    if name == "amfed_plus":
        banners.append("DERIVED LABELS: labels are computed by the rule facs_v1")
    for banner in banners:
        assert any(warning.startswith(banner) for warning in report["warnings"])
        for form in ("report.txt", "report.md"):
            assert banner in (folder / form).read_text()


@pytest.mark.parametrize("name", QUICK)
def test_from_files_to_report(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    manual_dir = stand_in.write(name, tmp_path / "files", SCALE)
    settings = SMALL | {
        "data.dir": tmp_path / "data", "data.manual_dir": manual_dir, "data.size": 16,
        "model.name": "light_vgg",
    }  # fmt: skip
    main.main([f"--config=configs/{name}.py", "--workdir=run", *_flags(settings)])
    _check_report(name, tmp_path / "run" / "report")
    out = capsys.readouterr().out
    assert f"protocol {PROTOCOL[name]}" in out  # the summary of the preparation
    assert ("DERIVED LABELS: by the rule facs_v1" in out) == (name == "amfed_plus")


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_from_a_stand_in_to_a_report_with_the_network_of_the_config(name, bare_cli, tmp_path):
    """Like a user: each command in a new process, a rendered stand-in, the config's network."""
    manual_dir = stand_in.write(name, tmp_path / "files", SCALE)
    network = configuration.load_settings(f"configs/{name}.py").model.name
    settings = SMALL | {
        "data.dir": tmp_path / "data", "data.manual_dir": manual_dir,
        "data.size": max(32, MODELS[network].min_size),
    }  # fmt: skip
    done = bare_cli.run(f"--config=configs/{name}.py", "--workdir=run", *_flags(settings))
    assert done.returncode == 0, done.stderr[-2000:]
    _check_report(name, tmp_path / "run" / "report")
    assert "STAND-IN" in done.stdout
    card = json.loads((tmp_path / "run" / "report" / "report.json").read_text())["card"]
    assert card["model"] == network


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_name_existing_sets_variants_protocols_and_networks(name):
    config = configuration.load_settings(f"configs/{name}.py")
    assert config.data.name in build.NAMES
    builder = build._builder_class(config.data.name)  # does not need the files of the set
    assert config.data.config is None or config.data.config in builder.builder_configs
    protocol = protocols.find(builder.PROTOCOLS, config.data.protocol)
    assert protocol is not None
    assert config.model.name in MODELS
    assert config.data.size >= MODELS[config.model.name].min_size
    if name.endswith("_paper"):
        usual = configuration.load_settings(f"configs/{name.removesuffix('_paper')}.py")
        assert protocol.name == "paper"
        assert protocol.note  # the limits of its results
        assert usual.data.name == config.data.name
        assert usual.data.protocol != "paper"
