"""Every network trains on KDEF's files, at a reduced size, up to the report."""

from __future__ import annotations

import json

import pytest

from fer_jax.cli import train as main
from fer_jax.models.registry import MODELS
from tests.tfds_builders import small_kdef
from tfds_builders import prepare as build

NETWORKS = [
    pytest.param("custom_cnn", "subject", 7, marks=pytest.mark.slow),
    pytest.param("light_vgg", "paper", 6, marks=pytest.mark.slow),
    pytest.param("vgg16", "subject", 7, marks=pytest.mark.slow),
    pytest.param("inception_resnet_v2", "subject", 7, marks=pytest.mark.slow),
    pytest.param("resnet18", "subject", 7, marks=pytest.mark.slow),
    pytest.param("resnet50", "subject", 7, marks=pytest.mark.slow),
    pytest.param("resnet50_caffe", "subject", 7, marks=pytest.mark.slow),
    pytest.param("senet50", "subject", 7, marks=pytest.mark.slow),
    pytest.param("ir50", "subject", 7, marks=pytest.mark.slow),
    pytest.param("face_resnet", "subject", 7, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def kdef_dir(tmp_path_factory):
    """Returns a data_dir with a small KDEF."""
    tree, prepared = tmp_path_factory.mktemp("kdef"), tmp_path_factory.mktemp("prepared")
    small_kdef.write_tree(tree)
    build.prepare("kdef", None, str(prepared), str(tree))
    return prepared


def test_all_networks_are_covered():
    assert {param.values[0] for param in NETWORKS} == set(MODELS)


@pytest.mark.parametrize(("name", "protocol", "classes"), NETWORKS)
def test_from_files_to_report(kdef_dir, tmp_path, monkeypatch, name, protocol, classes):
    monkeypatch.chdir(tmp_path)
    settings = {
        "model.name": name, "data.protocol": protocol, "data.dir": kdef_dir, "data.size":
        max(16, MODELS[name].min_size), "train.epochs": 1, "train.batch_size": 64,
        "eval.batch_size": 64, "eval.samples": 1, "eval.explain": False,
    }  # fmt: skip
    config = "kdef_paper" if protocol == "paper" else "kdef"
    flags = [f"--config.{field}={value}" for field, value in settings.items()]
    main.main([f"--config=configs/{config}.py", "--workdir=run", *flags])
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["card"]["model"] == name
    assert len(report["confusion"]) == classes
    assert report["count"] == sum(map(sum, report["confusion"])) > 0
    assert bool(report["card"]["leaks"]) == (protocol == "paper")
    assert "head/kernel" in (tmp_path / "run" / "model.txt").read_text()
