"""Every way to a probability agrees: report, predict, API, page and exported files."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import fer_jax
from fer_jax.cli import predict as cli
from fer_jax.data.preprocess import Preprocessing
from fer_jax.experiments import evaluate
from fer_jax.export import export_run, run_exported
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.decode import decode
from fer_jax.faces.detect import Face
from fer_jax.report import predictions as saved
from fer_jax.serve import response
from fer_jax.serve.predictor import Predictor
from tests.small_runs import SIZE, write_run

COUNT = 9  # images; more than the smallest batch of prediction

# Preprocessing, views, flags. Each mask and each kind of views once.
RUNS = {
    "boxes": (Preprocessing(SIZE, "standardize", None, 0.05, "landmarks"), "flip", "largest"),
    "faces already": (Preprocessing(SIZE, "unit", None, None, "ellipse"), "tencrop", "whole"),
}


def confident(params: dict) -> dict:
    """Random weights tell images apart only by a percent."""
    head = {**params["head"], "kernel": params["head"]["kernel"] * 30}
    return {**params, "head": head}


class Case:
    """A run, test images as files, and the probabilities in the run's report.

    The detector finds the face where the data set has it.
    """

    def __init__(self, folder: Path, data_dir: Path, kind: str) -> None:
        preprocessing, views, self.faces = RUNS[kind]
        overrides = (
            f"data.dir={data_dir}", f"eval.tta={views}", "eval.explain=false",
            "eval.batch_size=255",  # no multiple of the two devices
        )  # fmt: skip
        self.folder = folder
        self.run = write_run(
            folder / "run", preprocessing=preprocessing, overrides=overrides, edit=confident
        )
        evaluate.evaluate(self.run, "test")
        report = saved.load(self.run.report / "predictions.csv")
        self.expected = report.probabilities[:COUNT]
        assert np.ptp(self.expected, axis=0).max() > 0.05  # else agreement says nothing
        data = evaluate.open_data(self.run)
        self.truth: dict[bytes, Face] = {}
        self.files = [self._write(data.record(int(row))) for row in data.splits["test"][:COUNT]]
        self.model = fer_jax.load(self.run.folder)

    def _write(self, record: Any) -> str:
        image = decode(record["image"])
        points = record["landmarks"] * image.shape[1::-1] - 0.5
        box = tuple(map(int, record["face_box"]))
        self.truth[image.tobytes()] = Face(box, "truth", tuple(map(tuple, points.tolist())))
        path = self.folder / f"{len(self.truth)}.png"
        assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return str(path)

    def detect(self, image: np.ndarray) -> list[Face]:
        return [self.truth[image.tobytes()]]


@pytest.fixture(
    scope="module", params=["boxes", pytest.param("faces already", marks=pytest.mark.slow)]
)
def case(request, tmp_path_factory, data_dir) -> Case:
    return Case(tmp_path_factory.mktemp("framing"), data_dir, request.param)


def rows(case: Case, faces: Any) -> np.ndarray:
    return np.array([[face["probabilities"][name] for name in case.run.labels] for face in faces])


def predicted(case: Case, capsys) -> np.ndarray:
    out = case.folder / "out"
    flags = ["--no_pictures", f"--faces={case.faces}", "--out", str(out)]
    cli.main([str(case.run.folder), *case.files, *flags])
    frames = json.loads((out / "predictions.json").read_text())["frames"]
    return rows(case, [frame["faces"][0] for frame in frames])


def by_api(case: Case, capsys) -> np.ndarray:
    found = case.model.predict(case.files, faces=case.faces)
    return rows(case, [image.faces[0].to_json() for image in found])


def explained(case: Case, capsys) -> np.ndarray:
    found = case.model.predict(case.files, faces=case.faces, explain=True)
    return rows(case, [image.faces[0].to_json() for image in found])


def on_the_page(case: Case, capsys) -> np.ndarray:
    shown: list[Any] = []
    predictor = Predictor(case.model, max_wait=0, max_queue=8)
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(predictor):
        patch.setattr(response, "details", lambda faces: shown.append(faces[0].to_json()))
        for path in case.files:
            response.respond(predictor, path, case.faces, explain=False)
    return rows(case, shown)


def exported(file_format: str) -> Callable[..., np.ndarray]:
    def run(case: Case, capsys) -> np.ndarray:
        noise = np.zeros((2, SIZE, SIZE, 3), np.uint8)
        out = case.folder / f"small.{file_format}"
        samples = export_run.Samples(noise, None, None, "")
        export_run.export(case.run, file_format, "float32", out, samples)
        capsys.readouterr()
        run_exported.main([str(out), *case.files, f"--faces={case.faces}"])
        return rows(case, map(json.loads, capsys.readouterr().out.splitlines()))

    return run


WAYS = {
    "Grad-CAM": explained, "predict": predicted, "API": by_api, "page": on_the_page,
    "StableHLO": exported("stablehlo"),
}  # fmt: skip


def check(case: Case, way: Callable[..., np.ndarray], capsys, monkeypatch) -> None:
    monkeypatch.setattr(FaceCrop, "make_detector", lambda _: case)
    monkeypatch.setattr(case.model, "_of_thread", type(case.model._of_thread)())
    np.testing.assert_allclose(way(case, capsys), case.expected, atol=1e-4)


@pytest.mark.parametrize("way", [*list(WAYS)[1:], pytest.param("Grad-CAM", marks=pytest.mark.slow)])
def test_every_way_to_a_probability_agrees_with_the_report(case, way, capsys, monkeypatch):
    check(case, WAYS[way], capsys, monkeypatch)


@pytest.mark.slow
def test_onnx_files_agree_with_the_report(case, capsys, monkeypatch):
    assert importlib.util.find_spec("onnxruntime"), "make check installs it"
    check(case, exported("onnx"), capsys, monkeypatch)
