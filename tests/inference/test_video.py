"""`fer-jax predict` on videos and cameras: tracks, smoothing, timelines, the live view."""

from __future__ import annotations

import csv
import http.client
import json
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.cli import predict as cli
from fer_jax.errors import UserError
from fer_jax.inference import live, sources, stream
from tests.small_runs import write_video

STORY = {"tracks.csv", "timeline.html", "timelines"}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def clip(portraits, tmp_path_factory) -> Path:
    """Two people for 1.6 seconds; after a cut they have changed places."""
    pair = [np.hstack([portraits[0], portraits[1]]), np.hstack([portraits[1], portraits[0]])]
    frames = [np.roll(pair[index // 8], index, axis=1) for index in range(16)]
    return write_video(tmp_path_factory.mktemp("clips") / "pair.mp4", frames)


def test_a_video_tells_a_story(run, clip, tmp_path, capsys):
    out = tmp_path / "out"
    cli.main([str(run.folder), str(clip), "--smooth=0.3", "--out", str(out)])
    rows = rows_of(out / "predictions.csv")
    old = ["source", "frame", "seconds", "face", "x", "y", "width", "height", "found", "label"]
    new = ["annotated", "track", "smoothed_label", *(f"smoothed_{name}" for name in run.labels)]
    assert list(rows[0]) == [*old, *(f"probability_{name}" for name in run.labels), *new]
    left = {row["track"] for row in rows if (int(row["x"]) < 190) == (int(row["frame"]) < 8)}
    assert left == {rows[0]["track"] if int(rows[0]["x"]) < 190 else rows[1]["track"]}
    for row in rows:
        smoothed = {name: float(row[f"smoothed_{name}"]) for name in run.labels}
        assert sum(smoothed.values()) == pytest.approx(1, abs=1e-5)
        assert row["smoothed_label"] == max(smoothed, key=smoothed.__getitem__)
    content = json.loads((out / "predictions.json").read_text())
    assert content["smoothing"] == {"method": "exponential", "seconds": 0.3}
    assert content["frames"][0]["faces"][0]["track"] in (1, 2)
    (source,) = content["sources"]
    assert source["tracks"] == 2
    assert source["timelines"] == ["timelines/pair_1.png", "timelines/pair_2.png"]
    tracks = rows_of(out / "tracks.csv")
    assert [row["track"] for row in tracks] == ["1", "2"]
    assert all(float(row["seconds"]) == pytest.approx(1.6, abs=0.11) for row in tracks)
    assert {row["smoothing"] for row in tracks} == {"exponential 0.3 s"}
    assert cv2.imread(str(out / "timelines" / "pair_1.png")).shape[1] > 1000
    assert str(out / "timeline.html") in capsys.readouterr().out


def test_images_have_no_tracks_and_replace_a_story(run, clip, media, tmp_path):
    out = tmp_path / "out"
    cli.main([str(run.folder), str(clip), "--out", str(out)])
    assert {path.name for path in out.iterdir()} >= STORY
    cli.main([str(run.folder), str(clip), "--out", str(out), "--no_pictures"])
    names = {path.name for path in out.iterdir()}
    assert names == {"predictions.csv", "predictions.json", "tracks.csv"}
    cli.main([str(run.folder), str(media / "anna.png"), "--out", str(out), "--no_pictures"])
    assert {path.name for path in out.iterdir()} == {"predictions.csv", "predictions.json"}
    assert list(rows_of(out / "predictions.csv")[0])[-1] == "annotated"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anna.png", "--smooth=0.3", "--out=o"], "expected a video or a camera with --smooth"),
        (["clip.mp4", "--smooth=0", "--out=o"], "expected --smooth above 0 seconds, found 0"),
        (["clip.mp4", "--smooth=0.3"], "expected --out FOLDER or --show with --smooth"),
        (["clip.mp4", "--show"], "expected one camera or stream with --show"),
        (["camera", "camera:1", "--show"], "expected one camera or stream with --show"),
    ],
)
def test_a_flag_without_effect_is_one_message(run, media, monkeypatch, arguments, message):
    monkeypatch.chdir(media)
    with pytest.raises(UserError, match=message):
        cli.main([str(run.folder), *arguments])


class Camera:
    """An endless stream of one image."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def grab(self):
        time.sleep(0.01)
        return True

    def retrieve(self):
        return True, self.image

    def get(self, what):
        return {cv2.CAP_PROP_FPS: 100.0}.get(what, -1.0)

    def release(self):
        pass


def test_a_camera_is_shown_live_with_its_delay(run, portraits, monkeypatch, capsys):
    monkeypatch.setattr(sources, "_open", lambda source: Camera(portraits[0]))
    shown = []
    show = live.LiveView.show

    def visit(view, image, captured):
        show(view, image, captured)
        with urllib.request.urlopen(view.address + "stream", timeout=10) as stream_:
            shown.append(stream_.read(300))

    monkeypatch.setattr(live.LiveView, "show", visit)
    cli.main([str(run.folder), "camera", "--show", "--seconds=1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("live view: http://127.0.0.1:")
    assert lines[1].startswith("delay ")
    assert lines[1].endswith(" frames/s")
    assert b"Content-Type: image/jpeg" in shown[0]
    assert b"\xff\xd8" in shown[0]


def test_the_live_view_answers_under_its_own_name_only(portraits):
    with live.LiveView() as view:
        view.show(portraits[0], time.monotonic())
        host = view.address.removeprefix("http://").rstrip("/")
        for name, path, status in (
            (host, "/", 200), (host, "/delay", 200), (host, "/else", 404),
            (host.replace("127.0.0.1", "localhost"), "/", 200), ("evil.example", "/stream", 403),
        ):  # fmt: skip
            connection = http.client.HTTPConnection(host, timeout=10)
            connection.request("GET", path, headers={"Host": name})
            assert connection.getresponse().status == status
            connection.close()


def test_live_frames_are_the_newest_and_an_error_is_raised():
    frames = [sources.Frame(sources.Source("a", "camera"), index, 0.0, None) for index in range(9)]
    first_seen, all_read = threading.Event(), threading.Event()

    def camera():
        yield frames[0]
        first_seen.wait(10)
        yield from frames[1:]
        all_read.set()
        raise ZeroDivisionError

    fresh = stream.newest(camera())
    assert next(fresh) is frames[0]
    first_seen.set()
    assert all_read.wait(10)
    assert next(fresh) is frames[-1]
    with pytest.raises(ZeroDivisionError):
        next(fresh)


@pytest.mark.browser
def test_the_live_page_shows_the_frames(portraits, chromium):
    with live.LiveView() as view:
        browser = chromium()
        browser.open(view.address)
        for _ in range(20):
            view.show(portraits[0], time.monotonic())
            time.sleep(0.1)
        width = "return document.querySelector('img').naturalWidth"
        assert browser.driver.execute_script(width) == 200
        assert browser.wait_for("#delay").text.startswith("delay ")
        assert browser.errors() == []
