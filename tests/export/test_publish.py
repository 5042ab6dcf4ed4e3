"""`fer-jax publish`, and `fer_jax.load` of what it wrote: from a folder, and from a fake Hub."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

import fer_jax
from fer_jax import published, run_dir
from fer_jax.cli import publish as cli
from fer_jax.errors import UserError
from fer_jax.export import export_run, model_card, onnx_file, publish
from fer_jax.inference.model import Model
from tests.small_runs import SIZE, write_run

FACES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)

WITHOUT_REPORT = {
    "README.md", "config.json", "labels.json", "manifest.json", "model.onnx", "model.safetensors",
    "preprocessing.json", "run.json",
}  # fmt: skip

REPORT = {
    "warnings": ["STAND-IN: x"], "count": 9, "accuracy": 0.5, "balanced_accuracy": 0.4,
    "macro": {"f1": 0.3}, "card": {"split": "test", "dataset": "synthetic_faces"},
    "intervals": {"method": "jackknife", "accuracy": [0.4, 0.6], "balanced_accuracy": None,
                  "macro_f1": [0.2, 0.4]},
    "classes": {"a|b": {"support": 9, "recall": 0.5, "precision": 0.25}},
}  # fmt: skip


@contextlib.contextmanager
def onnx_replaced():
    """Writes a text in place of the ONNX file, which has tests of its own."""

    def write(network, file_format, variant, file, samples):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("onnx")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "check_installed", lambda: None)
        patch.setattr(export_run, "write_checked", write)
        yield


@pytest.fixture
def without_onnx():
    with onnx_replaced():
        yield


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> run_dir.Run:
    """A run with local paths, a calibration and a report with examples."""
    run = write_run(
        tmp_path_factory.mktemp("runs") / "reported",
        overrides=(
            "data.dir=/home/anna/data",
            "model.pretrained=/home/anna/weights.safetensors",
            "train.teacher=/home/anna/teacher",
        ),
    )
    calibration = {"temperature": 2.0, "step": Model(run).network.step}
    (run.folder / run_dir.CALIBRATION).write_text(json.dumps(calibration))
    run.report.mkdir()
    (run.report / "report.json").write_text(json.dumps(REPORT))
    for name in ("confusion_matrix.png", "emotion_analysis_1.png", "index.html", "predictions.csv"):
        (run.report / name).write_text("anna.jpg")
    return run


@pytest.fixture(scope="module")
def written(reported, tmp_path_factory) -> Path:
    """The published `reported`. Shared: do not modify."""
    folder = tmp_path_factory.mktemp("published") / "faces"
    with onnx_replaced():
        publish.publish(reported, folder, "hub:me/faces", "mit")
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of `written`."""
    return shutil.copytree(written, tmp_path / "faces")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_no_image_no_record_and_no_path_of_this_machine(folder, reported):
    assert names(folder) == WITHOUT_REPORT | {
        "calibration.json", "report/report.json", "report/confusion_matrix.png",
    }  # fmt: skip
    for name in names(folder) - {"model.safetensors", "report/confusion_matrix.png"}:
        text = (folder / name).read_text()
        assert "anna" not in text, name
        assert str(reported.folder) not in text, name


def test_the_published_run_gives_the_same_probabilities(folder, reported):
    loaded, expected = fer_jax.load(folder), Model(reported)
    assert loaded.labels == expected.labels
    assert loaded.framing == expected.framing
    assert loaded.network.temperature == 2.0
    difference = loaded.predict_faces(FACES) - expected.predict_faces(FACES)
    assert np.abs(difference).max() <= 1e-6
    inputs = json.loads((folder / "preprocessing.json").read_text())
    assert inputs["labels"] == json.loads((folder / "labels.json").read_text())
    assert inputs["faces"] == json.loads(json.dumps(expected.framing.to_json()))


def test_the_card_has_the_hubs_metadata_and_the_reports_figures(folder):
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert metadata["license"] == "mit"
    assert metadata["library_name"] == "fer_jax"
    assert metadata["datasets"] == ["synthetic_faces"]
    (entry,) = metadata["model-index"]
    (result,) = entry["results"]
    assert result["dataset"]["split"] == "test"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"accuracy": 0.5, "balanced_accuracy": 0.4, "f1": 0.3}
    for line in (
        "# Model card: reported", "| accuracy | 0.5000 | 0.4000 to 0.6000 |",
        "| balanced accuracy | 0.4000 |  |", r"| a\|b | 9 | 0.500 | 0.250 |", "- STAND-IN: x",
        "model = fer_jax.load('hub:me/faces')", "The weights are licensed under mit.",
    ):  # fmt: skip
        assert line in text


def test_a_published_run_may_be_published_again(folder, without_onnx, tmp_path):
    run = run_dir.open_run(folder)
    publish.publish(run, tmp_path / "again", "hub:me/again", "other")
    text = (tmp_path / "again" / "README.md").read_text()
    for title in ("# Model card", "## Load it", "## Rights"):
        assert len(re.findall(rf"^{title}", text, re.MULTILINE)) == 1
    assert "No license was stated" in text
    assert "license_name: " in text
    weights = [(place / "model.safetensors").read_bytes() for place in (folder, tmp_path / "again")]
    assert weights[0] == weights[1]


def test_without_a_report_there_are_no_figures(run, without_onnx, tmp_path):
    publish.publish(run, tmp_path / "new", "x", "mit")
    assert names(tmp_path / "new") == WITHOUT_REPORT
    text = (tmp_path / "new" / "README.md").read_text()
    assert "it was not evaluated" in text
    assert "model-index" not in text
    fer_jax.load(str(tmp_path / "new"))


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        *((lambda folder, name=name: spoil(folder / name), f"{name} is changed")
          for name in ("run.json", "config.json", "calibration.json", "model.safetensors",
                       "model.onnx", "README.md", "report/report.json")),
        (lambda folder: (folder / "labels.json").unlink(), "labels.json is missing"),
        (lambda folder: (folder / "learned.npz").write_text("x"), "learned.npz was added"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_what_was_published_is_refused(folder, change, found):
    change(folder)
    with pytest.raises(UserError, match=rf"expected the files that .*found: {found}"):
        fer_jax.load(folder)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("hub:me/small", ("me/small", None)),
        ("hub:me/small.v2@v1.0", ("me/small.v2", "v1.0")),
        ("hub:me/small@refs/pr/1", ("me/small", "refs/pr/1")),
        ("hub:small", None),
        ("hub:me/small/x", None),
        ("hub:../small", None),
        ("hub:me/small@../x", None),
        ("hub:me/", None),
    ],
)
def test_names_of_the_hub(name, parsed):
    if parsed:
        assert published.parse(name) == parsed
    else:
        with pytest.raises(UserError, match="expected hub:OWNER/NAME"):
            published.parse(name)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A module in place of huggingface_hub, which records its calls."""
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    calls = []

    class Api:
        def create_repo(self, repository, **arguments):
            calls.append(("create", repository, arguments))

        def upload_folder(self, **arguments):
            calls.append(("upload", arguments.pop("repo_id"), names(arguments["folder_path"])))
            return "commit"

    module = types.SimpleNamespace(HfApi=Api, calls=calls)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_a_run_of_the_hub_is_downloaded_and_checked(folder, hub):
    def snapshot_download(repository, *, revision, local_dir):
        hub.calls.append((repository, revision))
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)

    hub.snapshot_download = snapshot_download
    model = fer_jax.load("hub:me/small@v1")
    assert model.run.name == "small"
    assert hub.calls == [("me/small", "v1")]
    spoil(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"found: model.safetensors is changed"):
        fer_jax.load("hub:me/small@v1")


def test_what_the_hub_does_not_give_is_one_message(hub, monkeypatch):
    def refuse(*_, **arguments):
        raise RuntimeError("404 Not Found\nmore")

    hub.snapshot_download = refuse
    with pytest.raises(UserError, match="expected the run hub:me/small on the Hub, found: 404 No"):
        fer_jax.load("hub:me/small")
    hub.snapshot_download = lambda *_, **arguments: None
    with pytest.raises(UserError, match=r"found no manifest.json there"):
        fer_jax.load("hub:me/small")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'fer-jax\[hub\]'"):
        fer_jax.load("hub:me/small")


def test_a_push_creates_a_private_repository(reported, without_onnx, hub, capsys):
    cli.main([str(reported.folder), "--to=hub:me/small"])
    (create, upload) = hub.calls
    assert create == ("create", "me/small", {"private": True, "exist_ok": True})
    assert upload[:2] == ("upload", "me/small")
    assert upload[2] >= WITHOUT_REPORT
    assert "pushed to commit" in capsys.readouterr().out


def test_a_dry_run_lists_and_writes_nothing(reported, without_onnx, hub, capsys, tmp_path):
    for place, done in ((str(tmp_path / "new"), "written"), ("hub:me/small", "pushed")):
        cli.main([str(reported.folder), "--to", place, "--dry_run"])
        *files, total, last = capsys.readouterr().out.splitlines()
        assert last == f"dry run: nothing was {done} to {place}"
        assert total.startswith("10 files and manifest.json")
        listed = dict(zip([line.split()[0] for line in files], files, strict=True))
        digest = hashlib.sha256(b"onnx").hexdigest()[:16]
        assert listed["model.onnx"].split()[1:] == ["4", digest]
    assert hub.calls == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to={folder}"], "expected a new or empty folder"),
        (["--to=hub:me/small@v1"], "without a revision"),
        (["--to=hub:small"], "expected hub:OWNER/NAME"),
        (["--to={folder}/new", "--license=All rights"], "expected an identifier"),
    ],
)
def test_wrong_flags_are_one_message(run, without_onnx, tmp_path, flags, message):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match=message):
        cli.main([str(run.folder), *(flag.format(folder=tmp_path) for flag in flags)])


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hub's protocol that a download needs."""

    folder: Path
    commit = "c" * 40

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        headers, body = {"Content-Type": "application/json"}, b""
        if path.startswith("/me/small/resolve/"):
            body = (self.folder / path.split("/", 5)[5]).read_bytes()
            digest = hashlib.sha256(body).hexdigest()
            headers = {"ETag": f'"{digest}"', "X-Repo-Commit": self.commit}
        elif path.startswith("/api/models/me/small/"):
            entries = [
                {"type": "file", "oid": name, "size": (self.folder / name).stat().st_size,
                 "path": name, "rfilename": name}
                for name in sorted(names(self.folder))
            ]  # fmt: skip
            info = {"id": "me/small", "sha": self.commit, "siblings": entries}
            body = json.dumps(entries if "/tree/" in path else info).encode()
        self.send_response(200 if body else 404)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_publish_and_load_with_the_hubs_own_client(run, model, tmp_path):
    import huggingface_hub

    folder = tmp_path / "small"
    cli.main([str(run.folder), "--to", str(folder), "--license=mit"])
    np.testing.assert_allclose(
        onnx_file.run(folder / "model.onnx", FACES, 5), model.network.classify(FACES), atol=1e-5
    )
    card = huggingface_hub.ModelCard.load(folder / model_card.FILE)
    assert card.data.license == "mit"
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("OfFolder", (Hub,), {"folder": folder})
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = (
        "import fer_jax, numpy, sys\n"
        "model = fer_jax.load('hub:me/small@main')\n"
        "numpy.save(sys.argv[1], model.predict_faces(numpy.load(sys.argv[2])))\n"
        "fer_jax.load('hub:me/nothing')\n"
    )
    np.save(tmp_path / "faces.npy", FACES)
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf"),
        "FER_JAX_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "out.npy"), str(tmp_path / "faces.npy")],
            env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert "UserError: expected the run hub:me/nothing on the Hub, found: " in done.stderr
    expected = model.predict_faces(FACES)
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() <= 1e-6
