"""What people have in their folders: odd files, names, videos, and earlier results."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax import run_dir
from fer_jax.cli import predict as cli
from fer_jax.errors import UserError
from fer_jax.faces.crop import FaceCrop
from fer_jax.inference import sources
from fer_jax.printable import csv_text, printable
from tests.small_runs import write_image, write_video

ROOT = Path(__file__).parents[2]


def content_of(out: Path) -> dict:
    return json.loads((out / "predictions.json").read_text())


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


BLOCK = np.full((60, 60, 3), 127, np.uint8)
LATIN = os.fsdecode(b"caf\xe9.png")
ODD = {
    "1 line.png": np.zeros((1, 3000, 3), np.uint8),
    "banner.png": np.zeros((10, 2000, 3), np.uint8),
    "sub/strip.png": np.zeros((20, 2000, 3), np.uint8),
    LATIN: BLOCK,
    "\x1b[2Jclear.png": BLOCK,
    "=1+1.png": BLOCK,
}


@pytest.fixture(scope="module")
def odd(run, tmp_path_factory):
    """A folder of odd files, the results, and what was printed."""
    folder = tmp_path_factory.mktemp("odd")
    for name, image in ODD.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
    for name in ("a.HEIC", "b.3gp", "c.ts", "d.txt", "e.txt", "f"):
        (folder / name).write_bytes(b"x" * 100)
    (folder / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    out = folder / "out \u05d0"  # a Latin-1 terminal lacks the letter
    command = ["fer_jax.predict", folder, "--out", out, "--figures=9"]
    command = [sys.executable, "-m", command[0], run.folder, *command[1:]]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    return folder, out, done


def test_odd_files_are_named_and_do_not_end_the_others(odd):
    _, out, done = odd
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    content = content_of(out)
    unreadable = {Path(item["source"]).name: item["reason"] for item in content["unreadable"]}
    assert "3000 x 1 pixels, too narrow" in unreadable.pop("1 line.png")
    assert "2000 x 10 pixels, too narrow" in unreadable.pop("banner.png")
    assert set(unreadable) == {"a.HEIC", "b.3gp", "c.ts"}
    read = {Path(item["source"]).name for item in content["sources"]}
    assert read == {Path(name).name for name in ODD} - {"1 line.png", "banner.png"}
    assert b"0 faces in 4 frames of 4 images" in done.stdout
    assert b"no face was detected in 4 frames" in done.stdout
    assert b"5 could not be read" in done.stdout
    for name in unreadable:
        assert name.encode() in done.stderr


def test_what_is_not_read_is_counted_and_named(odd):
    _, out, done = odd
    expected = b"2 .txt, 1 without suffix, 1 broken link, 1 not a regular file"
    assert b"not read, as no images or videos: " + expected in done.stdout
    ignored = {Path(item["path"]).name for item in content_of(out)["ignored"]}
    assert ignored == {"d.txt", "e.txt", "f", "gone.jpg", "pipe.jpg"}


def test_names_are_printed_and_written_safely(odd):
    folder, out, done = odd
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\xe9" not in done.stdout + done.stderr
    names = [Path(row["source"]).name for row in rows_of(out)]
    assert "caf\\udce9.png" in names
    assert "\\x1b[2Jclear.png" in names
    paths = [item["source"] for item in content_of(out)["sources"]]
    assert str(folder / LATIN) in paths  # json gives the name back
    assert all(os.path.exists(path) for path in paths)
    for item in content_of(out)["sources"]:
        assert (out / item["annotated"]).is_file()
        assert all((out / figure).is_file() for figure in item["figures"])


@pytest.mark.parametrize(
    ("text", "shown", "cell"),
    [
        ("plain café 😀 שלום.jpg", "plain café 😀 שלום.jpg", None),
        ("a\x1b[31m\x07\x9b\n", "a\\x1b[31m\\x07\\x9b\\n", None),
        ("evil\u202egpj.exe", "evil\\u202egpj.exe", None),
        ("caf\udce9", "caf\\udce9", None),
        ("=HYPERLINK(1)", "=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "+1", "'+1"),
        ("-1", "-1", "'-1"),
        ("@a", "@a", "'@a"),
        ("\tx", "\\tx", "'\\tx"),
        ("", "", ""),
    ],
)
def test_names_are_made_printable(text, shown, cell):
    assert printable(text) == shown
    assert csv_text(text) == (shown if cell is None else cell)
    assert printable(text + "\n", keep="\n") == printable(text).replace("\\n", "\n") + "\n"


def predict(run, *arguments) -> None:
    cli.main([str(run.folder), *map(str, arguments)])


def test_files_of_one_name_can_be_told_apart(run, tmp_path, portraits):
    for name in ("happy/0.png", "sad/0.png", "old/sad/0.png"):
        write_image(tmp_path / "in" / name, portraits[0])
    predict(run, tmp_path / "in", "--out", tmp_path / "out")
    annotated = {row["source"]: row["annotated"] for row in rows_of(tmp_path / "out")}
    assert {str(Path(k).relative_to(tmp_path / "in")): v for k, v in annotated.items()} == {
        "happy/0.png": "annotated/0.jpg",
        "old/sad/0.png": "annotated/sad_0.jpg",
        "sad/0.png": "annotated/sad_0_2.jpg",
    }


def test_an_earlier_predictions_files_go_and_are_no_input(run, tmp_path, portraits, capsys):
    album = tmp_path / "album"
    for name in ("a.png", "b.png"):
        write_image(album / name, portraits[0])
    predict(run, album, "--out", album)  # the results lie among the images
    assert len(list((album / "annotated").iterdir())) == 2
    write_image(album / "annotated" / "mine.jpg", portraits[1])
    (album / "b.png").unlink()
    predict(run, album, "--out", album, "--figures=0")
    assert [Path(item["source"]).name for item in content_of(album)["sources"]] == ["a.png"]
    assert {path.name for path in (album / "annotated").iterdir()} == {"a.jpg", "mine.jpg"}
    assert not (album / "figures").exists()
    predict(run, album, "--out", tmp_path / "other", "--no_pictures")
    assert len(content_of(tmp_path / "other")["sources"]) == 1
    assert "4 of an earlier prediction; predictions.json lists them" in capsys.readouterr().out


def test_a_hostile_table_deletes_nothing_else(run, tmp_path, portraits):
    write_image(tmp_path / "a.png", portraits[0])
    (tmp_path / "mine.txt").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    entries = [{"annotated": "../mine.txt"}, {"annotated": str(tmp_path / "mine.txt")}]
    (out / "predictions.json").write_text(json.dumps({"sources": entries}))
    predict(run, tmp_path / "a.png", "--out", out, "--no_pictures")
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    ("argument", "name", "camera", "url"),
    [
        ("camera", "camera", 0, ""),
        ("camera:2", "camera:2", 2, ""),
        ("1", "1", 1, ""),
        ("rtsp://me:secret@10.0.0.1/live", "rtsp://10.0.0.1/live", 0, "as given"),
        ("https://example.org/a.mp4", "https://example.org/a.mp4", 0, "as given"),
    ],
)
def test_cameras_and_streams_are_recognized(argument, name, camera, url):
    (source,) = sources.find_sources([argument]).sources
    assert (source.name, source.kind, source.camera) == (name, "camera", camera)
    assert source.url == (argument if url else "")


def test_a_stream_that_does_not_answer_is_one_message(run, tmp_path):
    with pytest.raises(UserError, match=r"a video stream at http://127\.0\.0\.1:9/live, found"):
        predict(run, "http://me:secret@127.0.0.1:9/live", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ([0, 0.1, 0.2], [0, 0.1, 0.2]),
        ([0, 0.1, 0.5], [0, 0.1, 0.5]),
        ([0, 0, 0], [0, 0.1, 0.2]),  # no timestamps
        ([0, 0.1, 0, 0.1], [0, 0.1, 0.2, 0.3]),  # concatenated
        ([0, 0.1, 0.05, 0.15], [0, 0.1, 0.2, 0.3]),
    ],
)
def test_times_always_rise(timestamps, expected):
    clock = sources._Clock(10.0)
    assert [clock.recorded(time) for time in timestamps] == pytest.approx(expected)


def test_an_annotated_video_shows_each_frame_at_its_time(run, tmp_path, monkeypatch):
    levels = (20, 120, 220)
    video = write_video(tmp_path / "a.mp4", [np.full((64, 80, 3), v, np.uint8) for v in levels])
    times = iter((0.0, 0.1, 1.0))
    monkeypatch.setattr(sources._Clock, "recorded", lambda self, timestamp: next(times))
    predict(run, video, "--out", tmp_path / "out")
    capture = cv2.VideoCapture(str(tmp_path / "out" / "annotated" / "a.mp4"))
    shown = []
    while (read := capture.read())[0]:
        shown.append(int(read[1][60, 70, 0]))
    assert np.abs(np.array(shown) - [20, *[120] * 9, 220]).max() < 12


def test_a_video_whose_name_is_not_utf8_is_read(tmp_path):
    video = write_video(tmp_path / "a.mp4", [np.zeros((64, 80, 3), np.uint8)] * 3)
    renamed = video.rename(tmp_path / os.fsdecode(b"\xe9.mp4"))
    (source,) = sources.find_sources([str(renamed)]).sources
    assert len(list(sources.frames(source))) == 3


@pytest.mark.parametrize(("flags", "found"), [((), "given"), (("--faces=all",), "mtcnn")])
def test_a_run_on_uncropped_images_gets_whole_images(
    run, media, tmp_path, monkeypatch, capsys, flags, found
):
    crop = FaceCrop(method="keep", margin=0.0).to_json()
    whole = dataclasses.replace(run.preprocessing, face_margin=None)
    own = dataclasses.replace(
        run, preprocessing=whole, data={"name": "image_folder/keep/1.0.0", "crop": crop}
    )
    monkeypatch.setattr(run_dir, "open_run", lambda folder: own)
    predict(run, media / "anna.png", "--out", tmp_path, "--no_pictures", *flags)
    assert [row["found"] for row in rows_of(tmp_path)] == [found]
    printed = capsys.readouterr().out
    assert ("the run was trained on uncropped images" in printed) == (found == "given")
    assert "1 face in 1 frame of 1 image" in printed


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_a_device_or_pipe_is_one_message(run, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(UserError, match="found no regular file at"):
        predict(run, path, "--out", tmp_path / "out")


def test_a_frame_that_opencv_fails_on_does_not_end_the_others(run, media, tmp_path, monkeypatch):
    from fer_jax.faces.finder import FaceFinder

    original = FaceFinder.find

    def find(self, image, *rest):
        if image.shape[1] == 160:
            raise cv2.error("OpenCV: out of luck\nmore")
        return original(self, image, *rest)

    monkeypatch.setattr(FaceFinder, "find", find)
    predict(run, media / "wall.png", media / "anna.png", "--out", tmp_path, "--no_pictures")
    (unreadable,) = content_of(tmp_path)["unreadable"]
    assert unreadable["reason"] == "no faces could be detected: OpenCV: out of luck"
    assert len(content_of(tmp_path)["sources"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("_hangup")
def test_a_terminated_prediction_keeps_its_results(run, tmp_path, portraits, number):
    video = write_video(tmp_path / "a.mp4", [portraits[0]] * 3000)
    command = [sys.executable, "-m", "fer_jax.predict", run.folder, video, "--out", tmp_path / "o"]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    part = tmp_path / "o" / ".predictions.csv.part"
    while not (part.exists() and part.stat().st_size > 8192):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert len(content_of(tmp_path / "o")["frames"]) > 10
    assert not list((tmp_path / "o").rglob(".*"))


@pytest.mark.slow
def test_optimized_python_and_a_closed_stdout_are_no_tracebacks(run, media, tmp_path):
    """`python -OO` has no docstrings; `| head` closes the pipe."""
    command = [sys.executable, "-OO", "-m", "fer_jax.predict", run.folder, media / "anna.png"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "out")],
        stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, "Traceback" in done.stderr) == (141, False), done.stderr
    assert len(content_of(tmp_path / "out")["sources"]) == 1
