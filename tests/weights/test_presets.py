"""Presets of `port-weights`: network, input, messages and documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_jax.cli import port_weights
from fer_jax.errors import UserError
from fer_jax.weights import load, port
from fer_jax.weights.presets import PRESETS
from fer_jax.weights.source import Source
from tests.weights import torchvision

NETWORKS = Path(__file__).parents[2] / "docs" / "networks.md"


@pytest.mark.parametrize("name", ["dream_resnet18", "vggface2_senet50"])
def test_a_preset_sets_network_and_input(monkeypatch, marked, tmp_path, capsys, name):
    preset = PRESETS[name]
    (layout,) = port.TABLES[preset.model].formats
    tensors = torchvision.tensors_of(marked(preset.model))
    source = Source(Path("weights"), layout, "a1" * 32, tensors=tensors)
    monkeypatch.setattr(port, "read_source", lambda path: source)
    out = tmp_path / "out.safetensors"
    port_weights.main(["weights", "--preset", name, "--out", str(out)])
    assert load.open_weights(out, preset.model).input_format == preset.input_format
    lines = capsys.readouterr().out
    assert f"px: --config.model.name={preset.model} --config.data.size={preset.size}\n" in lines
    assert f"publishes no hash of {preset.files}; the sha256 of this file is {'a1' * 32}" in lines


def test_an_unknown_preset_is_rejected():
    with pytest.raises(UserError, match=r"a preset \(dream_resnet18, .*\), found 'vggface'"):
        port_weights.main(["weights", "--preset=vggface", "--out=x.safetensors"])


@pytest.mark.parametrize("name", PRESETS)
def test_the_documentation_and_the_help_list_every_preset(capsys, name):
    (row,) = (
        line for line in NETWORKS.read_text().splitlines() if line.startswith(f"| `{name}` |")
    )
    preset = PRESETS[name]
    for said in (preset.model, preset.project, f"{preset.size} px", *preset.files.split(", ")):
        assert said in row
    assert port.input_text(preset.input_format) in row
    with pytest.raises(SystemExit, match="0"):
        port_weights.main(["--help"])
    assert name in capsys.readouterr().out
