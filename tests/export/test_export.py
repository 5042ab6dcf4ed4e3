"""The verb export: the files say what the run says, alone, for any batch, with their metadata."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax import run_dir as run_directory
from fer_jax.cli import export as cli
from fer_jax.data.preprocess import InputFormat, Preprocessing
from fer_jax.errors import UserError
from fer_jax.export import (
    card,
    onnx_file,
    run_onnx,
    run_stablehlo,
    stablehlo,
)
from fer_jax.export import export_run as export
from fer_jax.export.program import make_program
from fer_jax.inference import locate
from fer_jax.inference.network import Network
from tests.small_runs import SIZE, write_run

RNG = np.random.default_rng(0)


def noise(count: int, size: int = SIZE) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, 3), np.uint8)


def samples(labels: bool = True) -> export.Samples:
    truth = RNG.integers(0, 7, 40).astype(np.int32) if labels else None
    return export.Samples(noise(40), truth, noise(20), "noise")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The run as StableHLO."""
    out = tmp_path_factory.mktemp("exported") / "small.stablehlo"
    compared = export.export(run, "stablehlo", "float32", out, samples())
    return out, compared


def test_the_file_says_what_the_run_says_for_any_batch(exported, model):
    out, compared = exported
    assert compared.difference < 1e-5
    assert compared.agreement == 1
    assert compared.accuracies[0] == compared.accuracies[1]
    faces = noise(5)
    wanted = model.network.classify(faces)
    for batch in (1, 3):
        np.testing.assert_allclose(stablehlo.run(out, faces, batch), wanted, atol=1e-5)


def test_the_program_runs_on_processors_gpus_and_tpus(exported):
    with zipfile.ZipFile(exported[0]) as archive:
        program = jax.export.deserialize(bytearray(archive.read(stablehlo.PROGRAM)))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals[0]) == f"uint8[batch,{SIZE},{SIZE},3]"


def test_the_metadata_tells_how_to_use_it(exported, run):
    with zipfile.ZipFile(exported[0]) as archive:
        stored = json.loads(archive.read(stablehlo.METADATA))
    assert stored["labels"] == list(run.labels)
    assert stored["input"]["size"] == SIZE
    assert stored["faces"]["margin"] == 0.05
    assert stored["card"]["network"] == "light_vgg"
    assert stored["card"]["preprocessing"] == run.preprocessing.to_json()


def test_the_reports_warnings_and_figures_are_on_the_card(tmp_path):
    run = write_run(tmp_path / "run")
    assert card.metadata(Network(run), "float32")["card"]["figures"] == {}
    run.report.mkdir()
    report = {"warnings": ["STAND-IN: x"], "count": 9, "accuracy": 0.5, "balanced_accuracy": 0.4,
              "card": {"split": "test"}}  # fmt: skip
    (run.report / "report.json").write_text(json.dumps(report))
    made = card.card(Network(run))
    assert made["warnings"] == ["STAND-IN: x"]
    assert made["figures"] == {"split": "test", "count": 9, "accuracy": 0.5,
                               "balanced_accuracy": 0.4}  # fmt: skip


def alone(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a script where fer_jax cannot be imported."""
    guard = (
        "import runpy, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'fer_jax': raise ImportError('not here')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", guard, str(script), *map(str, arguments)],
        cwd=script.parent, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def check_alone(out: Path, model, media: Path, tolerance: float = 1e-4) -> None:
    """The script beside a file prints what predict says, for a face of any place, or none."""
    shown = [media / "anna.png", media / "group.jpg", media / "wall.png"]
    done = alone(out.parent / export.SCRIPT, out, *shown, media / "half.txt")
    assert done.returncode == 0, done.stderr
    assert "half.txt: not a picture" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line, expected in zip(lines, model.predict(shown), strict=True):
        face = expected.faces[0]
        assert line["box"] == list(face.box)
        assert line["probabilities"] == pytest.approx(dict(face.probabilities), abs=tolerance)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].__getitem__)


def test_the_script_beside_it_says_what_predict_says_without_fer_jax(exported, model, media):
    check_alone(exported[0], model, media)


@pytest.mark.parametrize("script", [run_onnx, run_stablehlo])
@pytest.mark.parametrize("margin", [None, 0.05])
@pytest.mark.parametrize("times", [1, 4])
def test_the_scripts_cut_faces_as_predict_does(tmp_path, portraits, script, margin, times):
    """Without a margin, the set stores crops of at most 256 pixels: larger faces shrink twice."""
    preprocessing = Preprocessing(SIZE, "unit", face_margin=margin)
    run = run_directory.Run(tmp_path, None, ("a", "b"), preprocessing, {})
    metadata = {"faces": locate.description(run), "input": {"size": SIZE}}
    for portrait in portraits:
        picture = np.kron(portrait, np.ones((times, times, 1), np.uint8))
        (expected,) = locate.FaceFinder(run).find(picture)
        box = script.find_face(picture, metadata["faces"])
        assert box == expected.box
        np.testing.assert_array_equal(script.cut_face(picture, box, metadata), expected.pixels)


def test_a_file_that_says_other_things_is_refused_with_exit_code_1(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(stablehlo, "run", lambda out, faces, batch: np.full((len(faces), 7), 1 / 7))
    monkeypatch.setattr(export, "find_samples", lambda run: samples())
    arguments = [str(run.folder), "--format=stablehlo", "--out", str(tmp_path / "x.stablehlo")]
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 1
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "found", "difference"),
    [
        ([[0.25, 0.75]], [[0.5, 0.5]], 0.25),
        ([[0.25, 0.75]], [[np.nan, 0.5]], np.inf),
        ([[0.25, 0.75]], [[0.25, 0.75], [0, 1]], np.inf),
    ],
)
def test_every_difference_counts(wanted, found, difference):
    assert export.compare(np.array(wanted), np.array(found), None).difference == difference


def test_without_the_data_noise_is_compared_and_int8_is_refused(run, tmp_path, monkeypatch, capsys):
    from tfds_builders import prepare as build

    def gone(**arguments):
        raise UserError("expected the set, found nothing")

    monkeypatch.setattr(build, "prepare", gone)
    found = export.find_samples(run)
    assert found.origin == "64 pictures of noise"
    assert found.calibration is None
    assert "data is not here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=stablehlo", "--variant=int8", "--out=x"], "made with --format onnx"),
        (["--format=stablehlo", "--out=."], "expected a file name for --out"),
    ],
)
def test_wrong_flags_are_one_message(run, flags, message):
    with pytest.raises(UserError, match=message):
        cli.main([str(run.folder), *flags])


def test_without_the_extra_the_command_that_installs_it_is_told(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'fer-jax\[onnx\]'"):
        cli.main([str(run.folder), "--format=onnx", "--out=x.onnx"])


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory) -> Path:
    assert importlib.util.find_spec("onnxruntime"), "make check installs it"
    return tmp_path_factory.mktemp("onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "difference"), [("float32", 1e-5), ("float16", 5e-3), ("int8", 0.1)]
)
def test_each_onnx_variant_says_what_the_run_says(
    run, model, media, onnx_folder, variant, difference
):
    import onnx

    out = onnx_folder / f"{variant}.onnx"
    compared = export.export(run, "onnx", variant, out, samples())
    assert compared.difference < difference
    written = onnx.load(out)
    stored = {entry.key: entry.value for entry in written.metadata_props}
    assert stored["labels"] == ",".join(run.labels)
    assert json.loads(stored[onnx_file.METADATA])["variant"] == variant
    (given,) = written.graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    faces = noise(5)
    together = onnx_file.run(out, faces, 5)
    np.testing.assert_allclose(onnx_file.run(out, faces, 2), together, atol=1e-3)
    check_alone(out, model, media, tolerance=10 * difference)


@pytest.mark.slow
def test_smaller_variants_are_smaller(run, onnx_folder):
    sizes = []
    for variant in export.VARIANTS:
        out = onnx_folder / f"size_{variant}.onnx"
        export.export(run, "onnx", variant, out, samples())
        sizes.append(out.stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "overrides"),
    [
        ("custom_cnn", 24, ("model.batch_norm=true",)),
        ("vgg16", 64, ("model.pooling=max", "model.dtype=bfloat16")),
        ("inception_resnet_v2", 80, ()),
        ("resnet18", 40, ()),
        ("resnet50", 40, ()),
    ],
)
def test_every_network_can_be_exported_to_both_formats(tmp_path, name, size, overrides):
    """Ported weights' pixels too: their channel order and means are inside."""
    pixels = InputFormat("bgr", 1.0, (103.9, 116.8, 123.7))
    preprocessing = Preprocessing(size, "weights", pixels)
    run = write_run(
        tmp_path / "run", preprocessing=preprocessing, overrides=(f"model.name={name}", *overrides)
    )
    faces = noise(3, size)
    # A bfloat16 run is exported in float32, which is nearer to what it means to say.
    tolerance = 2e-2 if "model.dtype=bfloat16" in overrides else 1e-4
    network = Network(run)
    wanted = network.classify(faces)
    metadata = card.metadata(network, "float32")
    stablehlo.write(tmp_path / "a", stablehlo.export(network), metadata)
    np.testing.assert_allclose(stablehlo.run(tmp_path / "a", faces, 2), wanted, atol=tolerance)
    onnx_file.write(tmp_path / "b", onnx_file.export(network), metadata)
    np.testing.assert_allclose(onnx_file.run(tmp_path / "b", faces, 2), wanted, atol=tolerance)


@pytest.mark.slow
def test_what_cannot_be_translated_is_named(run):
    import jax.numpy as jnp

    from fer_jax.export import onnx_graph

    with pytest.raises(onnx_graph.UnsupportedError, match="the operation sort has no translation"):
        onnx_graph.translate(
            lambda _, x: jnp.sort(x.astype(jnp.float32)), {},
            jax.ShapeDtypeStruct((1, 4), np.uint8), "a", "b",
        )  # fmt: skip


def test_the_mask_is_in_the_exported_function(tmp_path):
    masked = Preprocessing(SIZE, "standardize", mask="ellipse")
    network = Network(write_run(tmp_path / "masked", preprocessing=masked))
    crops = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    said = make_program(network)(network.variables, jnp.asarray(crops))
    framed = np.stack([masked.framed(crop, (0, 0, SIZE, SIZE)) for crop in crops])
    np.testing.assert_allclose(said, network.classify(framed), atol=1e-5)
    assert np.abs(said - network.classify(crops)).max() > 1e-4
