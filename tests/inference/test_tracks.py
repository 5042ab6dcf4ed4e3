"""Tracks of people: who is who after crossings, occlusions, cuts and absences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fer_jax.inference import appearance, tracks

WIDTH, HEIGHT, SIDE = 640, 360, 80

# A frame: seconds, center of each visible person, and whether it begins another shot.
Frame = tuple[float, dict[str, float], bool]


def look_of(person: str, frame: int) -> np.ndarray:
    """A description with the colors of a person, and noise as of a detector."""
    colors = np.random.default_rng(ord(person)).normal(0, 25, 96)
    noise = np.random.default_rng(frame).normal(0, 3, 96)
    return np.concatenate([colors + noise, np.zeros(324)]).astype(np.float32)


def crossing() -> Iterator[Frame]:
    """A passes in front of B."""
    for index in range(90):
        a, b = 100 + 5 * index, 545 - 5 * index
        yield index / 30, {"A": a, "B": b} if abs(a - b) > 70 else {"A": a}, False


def occlusion() -> Iterator[Frame]:
    """B is behind something for a second."""
    for index in range(90):
        yield index / 30, {"A": 200, "B": 400} if not 30 < index < 60 else {"A": 200}, False


def cut() -> Iterator[Frame]:
    """A and B change places at a cut, and back at another."""
    for index in range(90):
        a, b = (200, 440) if index // 30 != 1 else (440, 200)
        yield index / 30, {"A": a, "B": b}, index in (30, 60)


def leave_and_return() -> Iterator[Frame]:
    """A leaves to the right, C comes from there, and A returns from the left after seconds."""
    for index in range(240):
        people = {"B": 320.0}
        if index < 60:
            people["A"] = 440 + 5 * index
        elif 80 <= index < 140:
            people["C"] = 740 - 5 * (index - 80)
        elif index >= 180:
            people["A"] = -100 + 5 * (index - 180)
        yield index / 30, {name: x for name, x in people.items() if 0 <= x <= WIDTH}, False


def variable_rate() -> Iterator[Frame]:
    """Both walk at a constant speed; frames are 10 to 700 milliseconds apart."""
    seconds, rng = 0.0, np.random.default_rng(3)
    while seconds < 12:
        yield seconds, {"A": 100 + 25 * seconds, "B": 540 - 10 * seconds}, False
        seconds += float(rng.choice([0.01, 0.04, 0.2, 0.7]))


@pytest.mark.parametrize("frames", [crossing, occlusion, cut, leave_and_return, variable_rate])
def test_people_keep_their_number(frames):
    tracker, numbers, missing = tracks.Tracker(), {}, 0
    for index, (seconds, people, is_cut) in enumerate(frames()):
        boxes = [(round(x - SIDE / 2), 140, SIDE, SIDE) for x in people.values()]
        looks = [look_of(name, index) for name in people]
        found = tracker.update(seconds, boxes, looks, (WIDTH, HEIGHT), is_cut)
        for name, number in zip(people, found, strict=True):
            if number is None:
                missing += 1
            else:
                numbers.setdefault(name, set()).add(number)
    assert all(len(found) == 1 for found in numbers.values()), numbers
    assert len(set.union(*numbers.values())) == len(numbers)
    assert missing <= 45  # up to a second of each arrival at the border


def test_without_a_description_place_alone_keeps_people_apart():
    tracker, same = tracks.Tracker(), look_of("A", 0)
    for index in range(30):
        boxes = [(100 + index, 140, SIDE, SIDE), (400, 140, SIDE, SIDE)]
        assert tracker.update(index / 30, boxes, [same, same], (WIDTH, HEIGHT)) == [1, 2]


def test_the_number_of_remembered_people_is_bounded(monkeypatch):
    monkeypatch.setattr(tracks, "MAX_TRACKS", 5)
    tracker = tracks.Tracker()
    for index in range(20):
        look = np.full(420, 60.0 * index, np.float32)
        look[:96] *= np.tile([1, -1, 0.5], 32)
        tracker.update(10.0 * index, [(200, 140, SIDE, SIDE)], [look], (WIDTH, HEIGHT), True)
    assert len(tracker._tracks) == 5


def test_a_cut_is_a_sudden_change(portraits):
    detector = tracks.CutDetector()
    dark = (portraits[0] * 0.97).astype(np.uint8)
    frames = [portraits[0], dark, portraits[0], 255 - portraits[0], 255 - dark]
    assert [detector.is_cut(frame) for frame in frames] == [False, False, False, True, False]


def test_a_description_tells_people_apart_in_another_light(portraits):
    box = (60, 60, 80, 80)
    looks = [appearance.describe(image, box) for image in portraits]
    dimmed = (portraits[0] * [0.7, 0.75, 0.85]).astype(np.uint8)
    distances = appearance.distance(
        appearance.describe(dimmed, box), np.stack(looks), np.zeros(4, bool)
    )
    assert distances.argmin() == 0
    assert distances[0] < 0.6 * np.sort(distances)[1]


@pytest.mark.parametrize("box", [(-40, -40, 80, 80), (180, 180, 80, 80), (900, 900, 9, 9)])
def test_a_face_at_the_border_has_a_description(portraits, box):
    look = appearance.describe(portraits[0], box)
    (distance,) = appearance.distance(look, look[None], np.array([True]))
    assert distance == 0
