"""Statistics and timelines of tracks: hand-computed times, shares and changes; bounded memory."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from fer_jax.inference import story, timeline
from fer_jax.inference.results import Face, Prediction
from fer_jax.inference.sources import Frame, Source

LABELS = ("happiness", "neutral")
SOURCE = Source("clip.mp4", "video")
IMAGE = np.full((60, 80, 3), 128, np.uint8)


def frame_of(seconds: float, *people: tuple[int, float], rate: float = 2.0):
    """A frame with people: number, and probability of happiness."""
    faces = []
    for track, happiness in people:
        probabilities = dict(zip(LABELS, (happiness, 1 - happiness), strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        face = Face((20, 10, 30, 30), "mtcnn", label, probabilities, None, None, (0, 0, 1), track)
        faces.append(face)
    return Frame(SOURCE, 0, seconds, IMAGE, rate), Prediction("clip.mp4", tuple(faces))


def timeline_of(*frames) -> timeline.Timeline:
    whole = timeline.Timeline(LABELS)
    for frame in frames:
        whole.add(*frame)
    whole.finish()
    return whole


def test_a_frame_counts_until_the_next_one():
    """At 0, 0.5 and 1.5 seconds happy, happy, neutral; at 2 gone; another from then on."""
    whole = timeline_of(
        frame_of(0.0, (1, 0.9)), frame_of(0.5, (1, 0.6)), frame_of(1.5, (1, 0.2)),
        frame_of(2.0, (2, 0.7)), frame_of(2.5),
    )  # fmt: skip
    first, second = whole.tracks[1], whole.tracks[2]
    assert (first.first, first.last, first.frames) == (0.0, 2.0, 3)
    np.testing.assert_allclose(first.shares, [0.75, 0.25])
    np.testing.assert_allclose(first.dwell, [1.5, 0.5])
    assert first.changes == 1
    assert first.changes_per_minute == pytest.approx(30)
    assert first.confidence == pytest.approx((0.9 * 0.5 + 0.6 * 1.0 + 0.8 * 0.5) / 2)
    assert (second.first, second.last, second.total) == (2.0, 2.5, 0.5)
    assert np.isnan(second.dwell[1])
    assert whole.end == 3.0  # the last frame counts for one of the rate


@pytest.mark.parametrize(("gap", "changes", "stretches"), [(0.5, 1, 2), (5.0, 0, 2)])
def test_a_return_in_another_mood_is_no_change(gap, changes, stretches):
    frames = [frame_of(0.0, (1, 0.9)), frame_of(0.5), frame_of(gap + 0.1, (1, 0.1))]
    (track,) = timeline_of(*frames).tracks.values()
    assert (track.changes, track.stretches.sum()) == (changes, stretches)


def test_a_camera_that_stood_still_does_not_count():
    (track,) = timeline_of(frame_of(0.0, (1, 0.9), rate=25), frame_of(300.0)).tracks.values()
    assert track.total == 1.0


def test_memory_does_not_grow_with_the_video(monkeypatch):
    monkeypatch.setattr(timeline, "MAX_BINS", 50)
    frames = (frame_of(index / 25, (1, 0.9 if index < 2500 else 0.1), rate=25)
              for index in range(5000))  # fmt: skip
    whole = timeline_of(*frames)
    (track,) = whole.tracks.values()
    assert len(track.bins) <= 50
    assert whole.width == pytest.approx(6.4)
    contents = np.stack(list(track.bins.values()))
    assert contents.sum(axis=(0, 2)) == pytest.approx([200, 200])  # seconds, and probabilities
    np.testing.assert_allclose(contents[:, 0].sum(axis=0), [100, 100], atol=1e-6)


def test_faces_without_a_track_are_left_out():
    assert timeline_of(frame_of(0.0, (None, 0.9))).tracks == {}


def test_tracks_csv_has_the_statistics(tmp_path):
    whole = timeline_of(frame_of(0.0, (1, 0.9)), frame_of(0.5, (1, 0.2)), frame_of(1.0))
    files = story.Story(tmp_path, "run", LABELS, "exponential 0.5 s", pictures=True)
    assert files.add("=clip.mp4", "clip", whole) == {
        "tracks": 1, "timelines": ["timelines/clip_1.png"],
    }  # fmt: skip
    assert not (tmp_path / "tracks.csv").exists()
    files.close()
    with open(tmp_path / "tracks.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "source": "'=clip.mp4", "track": "1", "first_seconds": "0.000", "last_seconds": "1.000",
        "seconds": "1.000", "frames": "2", "label": "happiness", "mean_confidence": "0.8500",
        "changes": "1", "changes_per_minute": "60.000", "share_happiness": "0.5000",
        "share_neutral": "0.5000", "dwell_happiness": "0.500", "dwell_neutral": "0.500",
        "smoothing": "exponential 0.5 s",
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "timeline.html", "timelines", "tracks.csv",
    ]  # fmt: skip


@pytest.mark.browser
def test_the_page_shows_what_is_under_the_pointer(tmp_path, chromium):
    from selenium.webdriver.common.action_chains import ActionChains

    frames = [frame_of(index / 2, (1, 0.9 if index < 10 else 0.1)) for index in range(20)]
    files = story.Story(tmp_path, "run", LABELS, "", pictures=True)
    files.add("</script><b>clip.mp4", "clip", timeline_of(*frames))
    files.close()
    browser = chromium()
    for width in (1280, 420):
        browser.resize(width, 900)
        browser.open((tmp_path / "timeline.html").as_uri())
        assert not browser.overflows()
        plot = browser.wait_for(".plot svg")
        assert len(browser.driver.find_elements("css selector", ".plot rect")) == 2
        ActionChains(browser.driver).move_to_element_with_offset(
            plot, plot.size["width"] // 4, 0
        ).perform()
        text = browser.wait_for("#tip:not([hidden])").text.split("\n")
        assert abs(float(text[0].removesuffix(" s")) - 7.5) < 0.3
        assert text[1] == "neutral 90 %"
    assert browser.driver.find_element("css selector", "h2").text == "</script><b>clip.mp4"
    assert browser.errors() == []
    assert browser.foreign_requests("file://") == []
