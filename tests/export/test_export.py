"""`fer-jax export`: files match the run for any batch size, without fer_jax; their metadata."""

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
from fer_jax.export import card, onnx_file, run_exported, stablehlo
from fer_jax.export import export_run as export
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.detect import Face
from fer_jax.faces.framing import Framing
from fer_jax.inference import locate
from fer_jax.inference.network import Network
from fer_jax.inference.program import make_program
from tests.small_runs import SIZE, write_run

RNG = np.random.default_rng(0)
PORTRAIT = RNG.integers(0, 256, (120, 90, 3), np.uint8)
FACE = Face((20, 30, 40, 50), "mtcnn", ((30, 45), (52, 44), (40, 55), (33, 68), (50, 67)))


def noise(count: int, size: int = SIZE) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, 3), np.uint8)


def samples(labels: bool = True) -> export.Samples:
    classes = RNG.integers(0, 7, 40).astype(np.int32) if labels else None
    return export.Samples(noise(40), classes, noise(20), "noise")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The run as a StableHLO file, and its comparison with the run."""
    out = tmp_path_factory.mktemp("exported") / "small.stablehlo"
    comparison = export.export(run, "stablehlo", "float32", out, samples())
    return out, comparison


def test_the_file_matches_the_run_for_any_batch_size(exported, model):
    out, comparison = exported
    assert comparison.difference < 1e-5
    assert comparison.agreement == 1
    assert comparison.accuracies[0] == comparison.accuracies[1]
    faces = noise(5)
    expected = model.network.classify(faces)
    for batch in (1, 3):
        np.testing.assert_allclose(stablehlo.run(out, faces, batch), expected, atol=1e-5)


def test_the_program_runs_on_cpus_gpus_and_tpus(exported):
    with zipfile.ZipFile(exported[0]) as archive:
        program = jax.export.deserialize(bytearray(archive.read(stablehlo.PROGRAM)))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals[0]) == f"uint8[batch,{SIZE},{SIZE},3]"


def test_the_metadata_describes_the_input(exported, run):
    with zipfile.ZipFile(exported[0]) as archive:
        stored = json.loads(archive.read(stablehlo.METADATA))
    assert stored["labels"] == list(run.labels)
    assert stored["input"]["size"] == SIZE
    assert stored["faces"]["margin"] == 0.05
    assert stored["format"] == run_exported.FORMAT
    assert stored["card"]["network"] == "light_vgg"
    assert stored["card"]["preprocessing"] == run.preprocessing.to_json()


def test_the_model_card_has_the_reports_warnings_and_scores(tmp_path):
    run = write_run(tmp_path / "run")
    assert card.metadata(Network(run), "float32")["card"]["figures"] == {}
    run.report.mkdir()
    report = {"warnings": ["STAND-IN: x"], "count": 9, "accuracy": 0.5, "balanced_accuracy": 0.4,
              "card": {"split": "test"}}  # fmt: skip
    (run.report / "report.json").write_text(json.dumps(report))
    model_card = card.card(Network(run))
    assert model_card["warnings"] == ["STAND-IN: x"]
    assert model_card["figures"] == {"split": "test", "count": 9, "accuracy": 0.5,
                               "balanced_accuracy": 0.4}  # fmt: skip


def run_without_fer_jax(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process that cannot import fer_jax."""
    guard = (
        "import runpy, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'fer_jax': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", guard, str(script), *map(str, arguments)],
        cwd=script.parent, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def check_script(out: Path, model, media: Path, tolerance: float = 1e-4) -> None:
    """The script prints the same predictions as the run, with and without a face."""
    images = [media / "anna.png", media / "group.jpg", media / "wall.png"]
    done = run_without_fer_jax(out.parent / export.SCRIPT, out, *images, media / "notes.txt")
    assert done.returncode == 0, done.stderr
    assert f"skipped {media / 'notes.txt'}: not a JPEG" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [
        {"source": str(image.source), **face.to_json()}
        for image in model.predict(images, faces="all")
        for face in image.faces
    ]
    assert len(lines) == 1 + 3 + 1
    assert [line["found"] for line in lines] == [*(4 * ["mtcnn"]), "whole"]
    for line, face in zip(lines, expected, strict=True):
        assert line.pop("probabilities") == pytest.approx(face.pop("probabilities"), abs=tolerance)
        if tolerance <= 1e-4:
            assert line == face


def test_the_script_matches_predict_without_fer_jax(exported, model, media):
    check_script(exported[0], model, media)


@pytest.mark.parametrize(
    ("margin", "data"),
    [
        (0.05, {}),
        (None, {"crop": FaceCrop(detector="haar_frontal").to_json()}),
        (None, {"crop": FaceCrop(method="align", longest_side=112).to_json()}),
        (None, {"crop": FaceCrop(method="keep").to_json(), "name": "fer2013/keep/1.0.0"}),
        (None, {"crop": FaceCrop(method="keep").to_json(), "name": "image_folder/keep/1.0.0"}),
    ],
)
def test_the_script_frames_faces_as_the_run(tmp_path, margin, data):
    preprocessing = Preprocessing(SIZE, "unit", face_margin=margin, mask="landmarks")
    run = run_directory.Run(tmp_path, None, ("a", "b"), preprocessing, data)
    stored = json.loads(json.dumps(card.exported_framing(run).to_json()))
    restored, framing = Framing.from_json(stored), locate.framing_of(run)
    assert json.dumps(restored.to_json()) == json.dumps(framing.to_json())
    assert restored.frame(PORTRAIT, FACE).tobytes() == framing.frame(PORTRAIT, FACE).tobytes()


def test_a_detector_that_is_a_file_does_not_leave_the_machine(tmp_path):
    data = {"crop": FaceCrop(detector="/home/anna/yunet.onnx").to_json()}
    run = run_directory.Run(tmp_path, None, ("a",), Preprocessing(SIZE, "unit"), data)
    stored = card.exported_framing(run).to_json()
    assert stored["detector"] == "mtcnn"
    assert "anna" not in json.dumps(stored)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a file that fer-jax export wrote"),
        ("zip", "expected a file that fer-jax export wrote, .* no item named 'metadata.json'"),
        ({"format": 2}, "found format 2 in .*export the run again"),
    ],
)
def test_another_file_is_one_message_of_the_script(exported, tmp_path, content, message):
    out = tmp_path / "other"
    out.write_text("not a model")
    if content == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("mine.txt", "x")
    elif content:
        with zipfile.ZipFile(exported[0]) as archive:
            stablehlo.write(out, archive.read(stablehlo.PROGRAM), content)
    with pytest.raises(UserError, match=message):
        run_exported.load(str(out))


def test_a_file_that_differs_from_the_run_gives_exit_code_1(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stablehlo, "run", lambda out, faces, batch: np.full((len(faces), 7), 1 / 7))
    monkeypatch.setattr(export, "find_samples", lambda run: samples())
    arguments = [str(run.folder), "--format=stablehlo", "--out", str(tmp_path / "x.stablehlo")]
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == 1
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expected", "actual", "difference"),
    [
        ([[0.25, 0.75]], [[0.5, 0.5]], 0.25),
        ([[0.25, 0.75]], [[np.nan, 0.5]], np.inf),
        ([[0.25, 0.75]], [[0.25, 0.75], [0, 1]], np.inf),
    ],
)
def test_every_difference_counts(expected, actual, difference):
    assert export.compare(np.array(expected), np.array(actual), None).difference == difference


def test_without_the_data_the_comparison_uses_noise(run, tmp_path, monkeypatch, capsys):
    from tfds_builders import prepare as build

    def missing(**arguments):
        raise UserError("expected the set, found nothing")

    monkeypatch.setattr(build, "prepare", missing)
    samples = export.find_samples(run)
    assert samples.origin == "64 images of noise"
    assert samples.calibration is None
    assert "data is not available" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=stablehlo", "--variant=int8", "--out=x"], "made with --format onnx"),
        (["--format=litert", "--variant=float16", "--out=x"], "made with --format onnx"),
        (["--format=stablehlo", "--out=."], "expected a file name for --out"),
    ],
)
def test_wrong_flags_are_one_message(run, flags, message):
    with pytest.raises(UserError, match=message):
        cli.main([str(run.folder), *flags])


@pytest.mark.parametrize(
    ("file_format", "package", "extra"),
    [("onnx", "onnx", "onnx"), ("web", "onnx", "onnx"), ("litert", "ai_edge_litert", "litert")],
)
def test_the_error_without_the_extra_has_the_install_command(
    run, monkeypatch, tmp_path, file_format, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install 'fer-jax\[{extra}\]'"):
        cli.main([str(run.folder), "--format", file_format, "--out", str(tmp_path / "x")])


@pytest.fixture(scope="module")
def onnx_folder(exported) -> Path:
    """The folder of the StableHLO file, whose script the exports to ONNX write again."""
    assert importlib.util.find_spec("onnxruntime"), "make check installs it"
    return exported[0].parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "difference"), [("float32", 1e-5), ("float16", 5e-3), ("int8", 0.1)]
)
def test_each_onnx_variant_matches_the_run(
    run, model, media, onnx_folder, exported, variant, difference
):
    import onnx

    out = onnx_folder / f"{variant}.onnx"
    comparison = export.export(run, "onnx", variant, out, samples())
    assert comparison.difference < difference
    written = onnx.load(out)
    stored = {entry.key: entry.value for entry in written.metadata_props}
    assert stored["labels"] == ",".join(run.labels)
    assert json.loads(stored[onnx_file.METADATA])["variant"] == variant
    (input_,) = written.graph.input
    assert input_.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert input_.type.tensor_type.shape.dim[0].dim_param == "batch"
    faces = noise(5)
    expected = onnx_file.run(out, faces, 5)
    np.testing.assert_allclose(onnx_file.run(out, faces, 2), expected, atol=1e-3)
    check_script(out, model, media, tolerance=10 * difference)
    check_script(exported[0], model, media)


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
        ("senet50", 40, ()),
        ("ir50", 40, ()),
        ("face_resnet", 110, ()),
    ],
)
def test_every_network_can_be_exported_to_both_formats(tmp_path, name, size, overrides):
    """With the BGR channel order and means of ported weights, which are part of the file."""
    pixels = InputFormat("bgr", 1.0, (103.9, 116.8, 123.7))
    preprocessing = Preprocessing(size, "weights", pixels)
    run = write_run(
        tmp_path / "run", preprocessing=preprocessing, overrides=(f"model.name={name}", *overrides)
    )
    faces = noise(3, size)
    # A bfloat16 run is exported in float32, so its probabilities differ more.
    tolerance = 2e-2 if "model.dtype=bfloat16" in overrides else 1e-4
    network = Network(run)
    expected = network.classify(faces)
    metadata = card.metadata(network, "float32")
    stablehlo.write(tmp_path / "a", stablehlo.export(network), metadata)
    np.testing.assert_allclose(stablehlo.run(tmp_path / "a", faces, 2), expected, atol=tolerance)
    onnx_file.write(tmp_path / "b", onnx_file.export(network), metadata)
    np.testing.assert_allclose(onnx_file.run(tmp_path / "b", faces, 2), expected, atol=tolerance)


@pytest.mark.slow
def test_an_unsupported_operation_is_named(run):
    from fer_jax.inference import onnx_graph

    with pytest.raises(onnx_graph.UnsupportedError, match="the operation sort has no translation"):
        onnx_graph.translate(
            lambda _, x: jnp.sort(x.astype(jnp.float32)), {},
            jax.ShapeDtypeStruct((1, 4), np.uint8), "a", ["b"],
        )  # fmt: skip


def test_the_exported_function_masks_the_faces(tmp_path):
    masked = Preprocessing(SIZE, "standardize", mask="ellipse")
    network = Network(write_run(tmp_path / "masked", preprocessing=masked))
    crops = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    actual = make_program(network)(network.variables, jnp.asarray(crops))
    framed = np.stack([masked.framed(crop, (0, 0, SIZE, SIZE)) for crop in crops])
    np.testing.assert_allclose(actual, network.classify(framed), atol=1e-5)
    assert np.abs(actual - network.classify(crops)).max() > 1e-4
