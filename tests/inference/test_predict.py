"""`fer-jax predict`: files, folders, videos, cameras, the written results, unreadable input."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.cli import predict as cli
from fer_jax.errors import UserError
from fer_jax.inference import listing, outputs, predict, sources, stream
from fer_jax.inference.results import Face, Prediction
from tests.small_runs import write_video

ROOT = Path(__file__).parents[2]


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(run, media, tmp_path_factory):
    """The results of the whole media folder, with heat maps."""
    out = tmp_path_factory.mktemp("predicted") / "out"
    options = stream.PredictOptions("all", True, True, 0.1)
    return predict.predict(run, sources.find_sources([str(media)]), out, options, figures=3)


def test_tables_have_one_line_per_face_and_frame(done, run, media):
    content = json.loads((done.folder / "predictions.json").read_text())
    rows = rows_of(done.folder)
    assert content["labels"] == list(run.labels)
    assert [len(frame["faces"]) for frame in content["frames"][:3]] == [1, 1, 2]
    flat = [(frame, number, face) for frame in content["frames"]
            for number, face in enumerate(frame["faces"])]  # fmt: skip
    assert len(flat) == len(rows) == done.faces + 1  # the wall was classified whole
    assert done.without_face == 1
    for (frame, number, face), row in zip(flat, rows, strict=True):
        assert row["source"] == frame["source"]
        assert [int(row[c]) for c in ("frame", "face")] == [frame["frame"], number]
        assert [int(row[c]) for c in ("x", "y", "width", "height")] == face["box"]
        assert (row["found"], row["label"]) == (face["found"], face["label"])
        values = {name: float(row[f"probability_{name}"]) for name in run.labels}
        assert values == pytest.approx(face["probabilities"], abs=1e-6)
        assert max(values, key=values.__getitem__) == face["label"]


def test_unreadable_files_are_listed_and_skipped(done, media):
    content = json.loads((done.folder / "predictions.json").read_text())
    assert {Path(item["source"]).name: item["reason"] for item in content["unreadable"]} == {
        "truncated.mp4": "not a video that can be decoded",
        "half.jpg": "truncated JPEG",
    }
    assert {Path(item["source"]).name for item in content["sources"]} == {
        "anna.jpg", "anna.png", "clip.mp4", "group.jpg", "wall.png",
    }  # fmt: skip


def test_annotated_files_have_unique_names(done, media):
    content = json.loads((done.folder / "predictions.json").read_text())
    names = {Path(item["source"]).name: item["annotated"] for item in content["sources"]}
    assert len(set(names.values())) == len(names)  # anna.jpg and anna.png
    group = cv2.imread(str(done.folder / names["group.jpg"]))
    assert group.shape[:2] == (480, 1440)  # enlarged: 200 pixels are too small for letters
    original = cv2.resize(cv2.imread(str(media / "group.jpg")), (1440, 480))
    changed = (np.abs(group.astype(int) - original).max(axis=2) > 60).reshape(-1)
    assert 0.005 < changed.mean() < 0.3
    assert len(list((done.folder / "figures").iterdir())) == 3


def test_an_annotated_video_has_the_same_frames_rate_and_times(done, media):
    rows = [row for row in rows_of(done.folder) if row["source"].endswith("clip.mp4")]
    times = sorted({float(row["seconds"]) for row in rows})
    assert times == pytest.approx(np.arange(24) / 10, abs=0.002)
    written = cv2.VideoCapture(str(done.folder / "annotated" / "clip.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 24
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_results_match_the_python_interface(done, model, media):
    content = json.loads((done.folder / "predictions.json").read_text())
    (frame,) = (item for item in content["frames"] if item["source"].endswith("group.jpg"))
    (expected,) = model.predict(media / "group.jpg", faces="all")
    for face, expected_face in zip(frame["faces"], expected.faces, strict=True):
        assert face["box"] == list(expected_face.box)
        assert face["probabilities"] == pytest.approx(expected_face.probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "faces"),
    [(("--faces=largest",), [1, 1]), (("--no_face=skip",), [3, 0]), ((), [3, 1])],
)
def test_flags_choose_the_faces(run, media, tmp_path, capsys, flags, faces):
    arguments = [run.folder, media / "group.jpg", media / "wall.png", "--out", tmp_path / "out"]
    cli.main([*map(str, arguments), "--no_pictures", *flags])
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [len(frame["faces"]) for frame in content["frames"]] == faces
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.csv", "predictions.json",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert f"{faces[0]} face{'s' * (faces[0] > 1)} in 2 frames of 2 images\n" in printed
    assert "no face was detected in 1 frame\n" in printed


@pytest.mark.parametrize(("flags", "found"), [((), "mtcnn"), (("--detector=haar",), "haar")])
def test_a_flag_chooses_the_detector(run, media, tmp_path, flags, found):
    arguments = [run.folder, media / "anna.png", "--out", tmp_path / "out"]
    cli.main([*map(str, arguments), "--no_pictures", *flags])
    assert [row["found"] for row in rows_of(tmp_path / "out")] == [found]


def test_an_unknown_detector_is_a_user_error(run, media, tmp_path):
    arguments = [run.folder, media / "anna.png", "--out", tmp_path / "out", "--detector=mtcn"]
    with pytest.raises(UserError, match=r"expected a face detector: mtcnn, .*found no file mtcn"):
        cli.main(list(map(str, arguments)))
    assert not (tmp_path / "out").exists()


def test_a_second_prediction_ignores_earlier_results(run, media, tmp_path):
    out = media / "album" / "results"
    try:
        for _ in range(2):
            cli.main([str(run.folder), str(media / "album"), "--out", str(out)])
            content = json.loads((out / "predictions.json").read_text())
            assert len(content["sources"]) == 1
    finally:
        for file in sorted(out.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        out.rmdir()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["nowhere.jpg"], "a folder, 'camera' or a stream's URL, found nothing at"),
        (["empty"], r"expected images or videos in empty, found none; supported .*\.jpg"),
        (["notes.txt", "half.jpg"], "found none among 2; .*predictions.json says why"),
        (["truncated.mp4"], "found none among 1"),
        (["camera:7"], "expected a camera with number 7, found none that opens"),
    ],
)
def test_wrong_input_is_one_message(run, media, tmp_path, monkeypatch, inputs, message):
    monkeypatch.chdir(media)
    (media / "empty").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        cli.main([str(run.folder), *inputs, "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("arguments", "run", "inputs"),
    [
        (["run", "a.jpg", "run"], "run", ["a.jpg", "run"]),
        (["a.jpg", "run"], None, ["a.jpg", "run"]),
        (["photos"], None, ["photos"]),
        (["camera"], None, ["camera"]),
        (["rtsp://10.0.0.5/live"], None, ["rtsp://10.0.0.5/live"]),
    ],
)
def test_the_first_argument_is_the_run_if_it_is_one(folders, monkeypatch, arguments, run, inputs):
    monkeypatch.chdir(folders)
    expected = Path(run) if run else run_dir.DEFAULT_RUN
    assert cli.choose_run(arguments) == (expected, inputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected images, .* found none; for example: fer-jax predict photo.jpg"),
        (["run"], "expected images, .* after the run run, found none"),
        (["nowhere", "a.jpg"], "expected a run directory, an image, .* found nothing at nowhere"),
        (["broken", "a.jpg"], "expected a run directory with a run.json, found none at broken"),
        (["."], r"found \., a folder of runs; name one of them: run$"),
        (["a.jpg", "--explain"], "expected --out FOLDER with --explain"),
    ],
)
def test_a_missing_or_doubtful_first_argument_is_one_message(
    folders, monkeypatch, arguments, message
):
    monkeypatch.chdir(folders)
    with pytest.raises(UserError, match=message):
        cli.main(arguments)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """A run, one without run.json, a folder of photos and a photo; all files are empty."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("run/run.json", "broken/config.json", "photos/b.jpg", "a.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def test_without_an_output_folder_the_faces_are_printed(run, media, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main([str(run.folder), str(media / "group.jpg"), str(media / "wall.png")])
    lines = capsys.readouterr().out.splitlines()
    table = [line.split()[-3:] for line in lines if "group.jpg" in line or "wall.png" in line]
    assert [row[0] for row in table] == ["1", "2", "3", "whole"]
    assert all(row[1] in run.labels and 0 < float(row[2]) <= 1 for row in table)
    assert "3 faces in 2 frames of 2 images" in lines
    assert list(tmp_path.iterdir()) == []


def test_a_long_table_is_cut_and_narrow():
    face = Face((0, 0, 9, 9), "mtcnn", "x" * 30, {"x" * 30: 1.0}, None, None, None)
    source = sources.Source("photos/" + "y" * 90 + ".jpg", "picture")
    frame = sources.Frame(source, 0, None, None)
    table = listing.Listing()
    for _ in range(listing.MAX_ROWS + 2):
        table.add(frame, Prediction(source.name, (face,)))
    lines = list(table.lines())
    assert len(lines) == listing.MAX_ROWS + 2
    assert lines[-1] == "... and 2 more faces; --out FOLDER writes all"
    assert max(map(len, lines)) == 80
    assert all("y.jpg" in line for line in lines[1:-1])


def test_an_output_folder_that_cannot_be_written_is_a_user_error(run, media, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"expected to write results in .*choose another folder"):
        cli.main([str(run.folder), str(media / "wall.png"), "--out", str(tmp_path / "file")])


def test_a_camera_is_recorded_for_the_given_seconds(run, media, tmp_path, monkeypatch):
    class Camera:
        """An endless stream of one image whose timestamps start at a large value."""

        def __init__(self):
            self.image = cv2.imread(str(media / "anna.png"))

        def isOpened(self):  # noqa: N802 - OpenCV's name
            return True

        def grab(self):
            time.sleep(0.02)
            return True

        def retrieve(self):
            return True, self.image

        def get(self, what):
            return {cv2.CAP_PROP_FPS: 50.0, cv2.CAP_PROP_POS_MSEC: 9e7}.get(what, -1.0)

        def release(self):
            pass

    monkeypatch.setattr(sources, "_open", lambda source: Camera())
    cli.main([str(run.folder), "camera", "--seconds=0.5", "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    times = [frame["seconds"] for frame in content["frames"]]
    assert times[0] < 0.2
    assert times[-1] <= 0.5
    assert content["sources"][0]["annotated"] == "annotated/camera.mp4"


def test_ctrl_c_writes_the_results_so_far(run, media, tmp_path, monkeypatch):
    original = predict.predict_frames

    def interrupted(*arguments):
        yield next(original(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "predict_frames", interrupted)
    arguments = [str(run.folder), str(media), "--out", str(tmp_path / "out"), "--figures=0"]
    with pytest.raises(KeyboardInterrupt):
        cli.main(arguments)
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["frames"]) == 1


def test_earlier_results_remain_if_writing_fails(run, media, tmp_path, monkeypatch):
    arguments = [str(run.folder), str(media / "clip.mp4"), "--out", str(tmp_path)]
    cli.main(arguments)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(self, image, seconds):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs._Video, "add", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        cli.main(arguments)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_exit_code_is_2_without_a_traceback(media, tmp_path):
    command = [sys.executable, "-m", "fer_jax.predict", tmp_path / "none", media]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected a run directory")
    assert len(done.stderr.splitlines()) == 1


def test_a_truncated_video_is_used_and_reported(media, tmp_path):
    """The header of a truncated AVI declares more frames than the file has."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (120, 160, 3)).astype(np.uint8) for _ in range(40)]
    video = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for image in images:
        writer.write(image)
    writer.release()
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    (source,) = sources.find_sources([str(video)]).sources
    *read, last = sources.frames(source)
    assert 10 < len(read) < 30
    assert isinstance(last, sources.Unreadable)
    assert last.reason == f"damaged: {len(read)} of 40 frames could be read"


def test_decoding_runs_a_bounded_number_of_frames_ahead_and_stops_with_the_consumer(media):
    (source,) = sources.find_sources([str(media / "anna.png")]).sources
    decoded = 0

    def endless():
        nonlocal decoded
        for frame in itertools.cycle(list(sources.frames(source))):
            decoded += 1
            yield frame

    before = set(threading.enumerate())  # a failed prediction of another test may wait in it
    ahead = stream.read_ahead(endless(), depth=4)
    for _ in range(3):
        next(ahead)
    time.sleep(0.2)
    assert decoded <= 3 + 4 + 1
    assert "reading" in {thread.name for thread in set(threading.enumerate()) - before}
    ahead.close()
    assert "reading" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_an_exception_of_the_decoding_thread_reaches_the_consumer():
    def broken():
        yield sources.Unreadable(sources.Source("a", "picture"), "")
        raise ZeroDivisionError

    ahead = stream.read_ahead(broken(), depth=4)
    next(ahead)
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_the_main_thread_which_signals_interrupt_takes_no_lock_of_the_pool(
    model, media, monkeypatch
):
    users = set()
    submit = stream.futures.ThreadPoolExecutor.submit

    def watched(*arguments):
        users.add(threading.current_thread())
        return submit(*arguments)

    monkeypatch.setattr(stream.futures.ThreadPoolExecutor, "submit", watched)
    options = stream.PredictOptions("all", True, False, 0.1)
    found = sources.find_sources([str(media / "anna.png")])
    assert len(list(stream.predict_frames(model, found.sources, options))) == 1
    assert users
    assert threading.main_thread() not in users


def test_a_long_video_is_never_held_in_memory(run, model, tmp_path, portraits, monkeypatch):
    """The constants, not the video, bound the number of frames in memory."""
    video = write_video(tmp_path / "long.mp4", [portraits[index % 4] for index in range(80)])
    alive, maximum = set(), 0
    make = sources.Frame

    class Counted(make):
        def __init__(self, *fields):
            nonlocal maximum
            super().__init__(*fields)
            alive.add(id(self))
            maximum = max(maximum, len(alive))

        def __del__(self):
            alive.discard(id(self))

    monkeypatch.setattr(sources, "Frame", Counted)
    out = outputs.Outputs(tmp_path / "out", {}, run.labels, 0, annotate=False)
    options = stream.PredictOptions("all", True, False, 0.1)
    found = sources.find_sources([str(video)])
    with out:
        for result in stream.predict_frames(model, found.sources, options):
            out.add(*result)
    assert out.sources[0]["frames"] == 80
    assert stream.MAX_PENDING <= maximum <= stream.DECODE_AHEAD + stream.MAX_PENDING + 16


def test_below_the_threshold_a_label_is_uncertain(run, media, tmp_path, capsys):
    """The untrained network has about 1/7 for each class."""
    photo = media / "anna.png"
    for threshold, is_answer in (("0.1", True), ("0.6", False)):
        cli.main([str(run.folder), str(photo), "--abstain", threshold, "--out", str(tmp_path)])
        (row,) = rows_of(tmp_path)
        content = json.loads((tmp_path / "predictions.json").read_text())
        (face,) = content["frames"][0]["faces"]
        assert content["abstain"] == float(threshold)
        assert (row["label"] != "uncertain") == is_answer
        assert face["label"] == row["label"]
        top = max(face["probabilities"].values())
        assert max(float(row[f"probability_{name}"]) for name in run.labels) == pytest.approx(
            top, abs=1e-6
        )
        assert row["label"] in capsys.readouterr().out


def test_a_smoothed_label_is_uncertain_too_and_timelines_keep_the_class():
    values = {"happiness": 0.55, "neutral": 0.45}
    face = Face(
        (0, 0, 9, 9), "haar", "happiness", {"happiness": 0.9, "neutral": 0.1},
        np.zeros((9, 9, 3), np.uint8), None, (0, 0, 9), 1, values, threshold=0.6,
    )  # fmt: skip
    assert face.answer == "happiness"
    assert face.shown() == ("uncertain", 0.55)
    assert face.top() == ("happiness", 0.55)


@pytest.mark.parametrize("value", ["1", "-0.1", "nan"])
def test_a_threshold_out_of_range_is_refused(value):
    with pytest.raises(UserError, match="expected --abstain from 0 to below 1"):
        cli.parse(["photo.jpg", f"--abstain={value}"])


def test_a_class_named_like_no_answer_is_refused():
    cli.check_abstain(0.0, ("uncertain", "fear"))
    with pytest.raises(UserError, match="without a class 'uncertain'"):
        cli.check_abstain(0.5, ("uncertain", "fear"))
