"""Models of others: their description, their input, and a report that says what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fer_jax.cli import evaluate as cli
from fer_jax.cli import summary
from fer_jax.errors import UserError
from fer_jax.experiments.evaluate import OtherData
from fer_jax.experiments.foreign import ForeignModel, _probabilities, evaluate_foreign

DESCRIPTION = {"labels": ["angry", "Happy", "neutral"], "size": 4}
RED = np.tile(np.uint8([255, 0, 51]), (1, 4, 4, 1))


def described(**fields: object) -> ForeignModel:
    return ForeignModel(("a", "b"), 4, **fields)


@pytest.mark.parametrize(
    ("model", "first_pixel"),
    [
        (described(), (1.0, 0.0, 0.2)),
        (described(color="bgr", range=(0, 255)), (51, 0, 255)),
        (described(range=(-1, 1)), (1.0, -1.0, -0.6)),
        (described(mean=(0.5,), std=(0.5,)), (1.0, -1.0, -0.6)),
        (described(range=(0, 255), mean=(255, 0, 50), std=(1, 2, 0.5)), (0, 0, 2)),
        (described(color="gray", range=(0, 255)), (82,)),  # 0.299 * 255 + 0.114 * 51
    ],
)
def test_the_input_is_as_described(model: ForeignModel, first_pixel: tuple) -> None:
    inputs = model.inputs(RED)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs[0, 0, 0], first_pixel, atol=1e-6)
    np.testing.assert_allclose(
        ForeignModel(**{**vars(model), "layout": "NCHW"}).inputs(RED)[0, :, 0, 0], first_pixel,
        atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "labels None"),
        ({"labels": ["a", "a"]}, "not different names"),
        ({"size": "48"}, "size '48'"),
        ({"colour": "gray"}, r"unknown fields \['colour'\]"),
        ({"color": "grey"}, "'grey', not one of rgb, bgr, gray"),
        ({"range": [0]}, "range"),
        ({"std": [0]}, "std"),
        ({"color": "gray", "mean": [1, 2, 3]}, "3 and 1 channels"),
        ({"output": "scores"}, "not one of probabilities, logits"),
    ],
)
def test_a_description_of_no_use_is_one_message(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(DESCRIPTION | change))
    with pytest.raises(UserError, match=message):
        ForeignModel.read(path)


def test_a_missing_description_lists_the_fields(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found none; write one .* color='rgb', range=\(0.0, 1.0"):
        ForeignModel.read(tmp_path / "model.json")
    with pytest.raises(UserError, match="expected --data with"):
        evaluate_foreign(tmp_path / "model.onnx", "test", OtherData())


def test_labels_in_other_words_are_known(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(DESCRIPTION))
    assert ForeignModel.read(tmp_path / "m.json").classes == ("anger", "happiness", "neutral")


def test_logits_are_not_taken_for_probabilities() -> None:
    logits = np.float32([[2.0, 0.0]])
    with pytest.raises(UserError, match='set "output": "logits"'):
        _probabilities(logits, described(), Path("m.onnx"))
    as_logits = _probabilities(logits, described(output="logits"), Path("m.onnx"))
    np.testing.assert_allclose(as_logits[0, 0], 1 / (1 + np.exp(-2)), rtol=1e-6)
    with pytest.raises(UserError, match=r"found the shape \(1, 2\)"):
        _probabilities(logits, ForeignModel(("a", "b", "c"), 4), Path("m.onnx"))


def write_onnx(path: Path, classes: int, batch: object) -> None:
    """Writes a model whose first class is as likely as the image is bright."""
    import onnx
    from onnx import TensorProto, helper

    weights = np.zeros((1, classes), np.float32)
    weights[0, 0] = 10
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "bright",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8, 8, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.mark.slow  # needs onnx and onnxruntime
@pytest.mark.parametrize("batch", ["n", 5])
def test_a_foreign_model_is_evaluated_and_marked(
    batch: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = ["neutral", "happy", "sad", "surprised", "fearful", "disgusted", "angry"]
    write_onnx(tmp_path / "bright.onnx", len(labels), batch)
    description = {"labels": labels, "size": 8, "color": "gray", "source": "a package, MIT"}
    (tmp_path / "bright.json").write_text(json.dumps(description))
    cli.main(["bright.onnx", "--data", "synthetic_faces", "--data_dir", str(tmp_path / "data")])
    printed = capsys.readouterr().out
    assert "FOREIGN MODEL: not trained here" in printed
    assert "UNCHECKED: what bright learned from is not recorded" in printed
    folder = next((tmp_path / "runs" / "bright" / "evaluations").iterdir())
    report = json.loads((folder / "report.json").read_text())
    assert report["accuracy"] == pytest.approx(1 / 7)  # neutral, for every image
    assert report["card"]["parameters"] == 7
    assert "a package, MIT" in (folder / "index.html").read_text()
    assert "best on validation" not in (folder / "index.html").read_text()
    summary.main(["runs/bright"])
    assert "FOREIGN MODEL" in capsys.readouterr().out
