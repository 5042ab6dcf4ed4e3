"""AM-FED+: the rule on all combinations, label files, landmarks, videos, all layouts."""

from __future__ import annotations

import collections
import csv
import itertools
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import pytest

from fer_jax import errors, labels
from fer_jax.faces.decode import UnreadableError, decode
from tests import commands
from tests.tfds_builders import damage
from tfds_builders import (
    prepare as build,
)
from tfds_builders import (
    protocols,
    sources,
)
from tfds_builders.amfed_plus import amfed_plus_dataset_builder as amfed
from tfds_builders.amfed_plus import (
    au_labels,
    facs,
    flv,
    landmarks,
    names,
    sampling,
    video,
)
from tfds_builders.stand_in_mark import is_stand_in
from tfds_builders.stand_ins import amfed_plus as stand_in
from tfds_builders.stand_ins import write as stand_ins

# ---- the rule ----------------------------------------------------------------------------------

UNITS = (
    "Smile", "AU02", "AU04", "AU05", "AU09", "AU10", "AU15", "AU17", "AU26",
    "Unilateral_LAU12", "Unilateral_RAU12", "Unilateral_LAU14", "Unilateral_RAU14",
)  # fmt: skip


def _oracle(shown: frozenset[str]) -> str:
    """The rule of the README, written with sets, for comparison with facs.py."""
    lower = {"AU04", "AU09", "AU10", "AU15"}
    sides = {one.split("_")[1][0] for one in shown if one.startswith("Unilateral")}
    found = []
    if "Smile" in shown and not shown & lower:
        found.append("happiness")
    if "Smile" not in shown and len(sides) == 1:
        found.append("contempt")
    if "AU09" in shown or ("AU10" in shown and shown & {"AU04", "AU17"}):
        found.append("disgust")
    if {"AU02", "AU04"} <= shown and shown & {"AU05", "AU26"}:
        found.append("fear")
    if "AU02" in shown and shown & {"AU05", "AU26"} and "AU04" not in shown:
        found.append("surprise")
    if (
        "AU04" in shown
        and shown & {"AU05", "AU17"}
        and not shown & {"AU02", "AU09", "AU10", "AU15"}
    ):
        found.append("anger")
    if "AU15" in shown and shown & {"AU04", "AU17"} and not shown & {"Smile", "AU09"}:
        found.append("sadness")
    if not shown:
        return "neutral"
    return found[0] if len(found) == 1 else "other"


def test_rule_on_all_combinations_of_units() -> None:
    answers = collections.Counter()
    for bits in itertools.product((False, True), repeat=len(UNITS)):
        shown = frozenset(itertools.compress(UNITS, bits))
        answer = facs.label(dict.fromkeys(shown, 100.0))
        assert answer == _oracle(shown), sorted(shown)
        answers[answer] += 1
    assert set(answers) == {*labels.AMFED_PLUS, labels.NEUTRAL, labels.OTHER}
    assert answers[labels.NEUTRAL] == 1


@pytest.mark.parametrize(
    ("agreement", "expected"),
    [
        ({}, labels.NEUTRAL),
        ({"Smile": 0.0, "AU02": 0.0, "Expressive": 0.0}, labels.NEUTRAL),
        ({"AU18": 33.3}, labels.OTHER),  # not neutral, but no prototype
        ({"Expressive": 33.3}, labels.OTHER),
        ({"AU57": 100.0}, labels.OTHER),
        ({"Smile": 50.0}, labels.HAPPINESS),
        ({"Smile": 49.9}, labels.OTHER),
        ({"Smile": 100.0, "AU15": 49.9}, labels.HAPPINESS),
        ({"Smile": 100.0, "AU15": 50.0}, labels.OTHER),
        ({"Smile": 100.0, "AU09": 100.0}, labels.DISGUST),
        ({"Unilateral_LAU14": 100.0}, labels.CONTEMPT),
        ({"Unilateral_LAU12": 100.0, "Unilateral_LAU14": 100.0}, labels.CONTEMPT),
        ({"Unilateral_LAU12": 100.0, "Unilateral_RAU14": 100.0}, labels.OTHER),
        ({"Unilateral_LAU12": 100.0, "Smile": 100.0}, labels.HAPPINESS),
        ({"AU12": 100.0}, labels.OTHER),  # Smile is used instead
        ({"AU02": 100.0, "AU26": 100.0}, labels.SURPRISE),
        ({"AU02": 100.0, "AU26": 100.0, "AU04": 100.0}, labels.FEAR),
        (
            {"AU02": 100.0, "AU05": 100.0, "AU04": 100.0, "AU09": 100.0},
            labels.OTHER,
        ),  # fear and disgust
        ({"AU04": 100.0, "AU17": 100.0}, labels.ANGER),
        ({"AU04": 100.0, "AU17": 100.0, "AU15": 100.0}, labels.SADNESS),
        ({"AU10": 100.0, "AU17": 100.0}, labels.DISGUST),
        ({"AU10": 100.0}, labels.OTHER),
        ({"Smile": 100.0, "Trackerfail": 50.0}, None),
        ({"Trackerfail": 100.0}, None),
        ({"Smile": 100.0, "Trackerfail": 49.0}, labels.HAPPINESS),
        ({"Trackerfail": 49.0}, labels.NEUTRAL),  # not about the face
    ],
)
def test_rule_edge_cases(agreement: dict[str, float], expected: str | None) -> None:
    assert facs.label(agreement) == expected


# ---- label files -------------------------------------------------------------------------------


def test_row_is_valid_until_the_next() -> None:
    coded = au_labels.parse("Time,Smile\n0.5,100\n2,0\n", "a-label.csv")
    assert [coded.row_at(time) for time in (0.0, 0.49, 0.5, 1.99, 2.0, 99.0)] == [
        -1,
        -1,
        0,
        0,
        1,
        1,
    ]
    assert coded.agreement[0] == {"Smile": 100.0}


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("Time,Au17,Au26,AU57,AU58", ["AU17", "AU26", "AU57", "AU58"]),
        ("Time,AU17,AU26,Forward,Backward", ["AU17", "AU26", "AU57", "AU58"]),
        ("Time,57,58", ["AU57", "AU58"]),
        ("\ufeffTime, Smile ,negAU12", ["Smile", "negAU12"]),
        ("Smile,Time", ["Smile"]),
        (",".join(["Time", *au_labels.COLUMNS]), list(au_labels.COLUMNS)),
    ],
)
def test_column_aliases(header: str, columns: list[str]) -> None:
    row = ",".join("7" for _ in header.split(","))
    coded = au_labels.parse(f"{header}\r\n{row}\r\n", "a-label.csv")
    assert list(coded.agreement[0]) == columns


@pytest.mark.parametrize(
    ("text", "rows"),
    [("", 0), ("Time,Smile\n", 0), ("Time,Smile\n0,\n\n", 1), ("Time,Smile\n3,0\n1,100\n", 2)],
)
def test_label_files_may_be_empty_or_out_of_order(text: str, rows: int) -> None:
    coded = au_labels.parse(text, "a-label.csv")
    assert len(coded.times) == rows
    assert list(coded.times) == sorted(coded.times)
    if rows == 1:
        assert coded.agreement[0] == {"Smile": 0.0}  # an empty cell is 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Frame,Smile\n0,100\n", "expected AM-FED+'s header in a-label.csv"),
        ("Time\n0\n", "found Time"),
        ("Time,Smile,AU99\n0,100,0\n", "unknown ['AU99']"),
        ("Time,57,Forward\n0,1,2\n", "twice ['AU57']"),
        ("Time,Smile\n0,101\n", "Smile 101 in a-label.csv, line 2"),
        ("Time,Smile\n0,-1\n", "Smile -1"),
        ("Time,Smile\n-1,0\n", "time -1"),
        ("Time,Smile\n0,yes\n", "found 'yes' in a-label.csv, line 2"),
        ("Time,Smile\n0,nan\n", "found 'nan'"),
        ("Time,Smile\n0,100,100\n", "expected 2 values as in the header, found 3"),
    ],
)
def test_invalid_label_file_is_a_user_error(text: str, message: str) -> None:
    with pytest.raises(errors.UserError) as raised:
        au_labels.parse(text, "a-label.csv")
    assert message in str(raised.value)


# ---- landmarks ---------------------------------------------------------------------------------


def _points() -> np.ndarray:
    points = np.zeros((34, 2), np.float32)
    points[:] = np.linspace((40, 30), (80, 90), 34)
    for number, place in {16: (50, 50), 17: (54, 50), 30: (52, 48), 31: (52, 52)}.items():
        points[number] = place
    for number, place in {18: (66, 50), 19: (70, 50), 32: (68, 48), 33: (68, 52)}.items():
        points[number] = place
    points[12], points[20], points[24] = (60, 60), (54, 75), (66, 75)
    return points


def _track(rows: list[str], header: str = ",".join(landmarks.HEADER)) -> landmarks.Track:
    return landmarks.parse("\n".join([header, *rows]) + "\n", "a.csv")


def test_parse_landmarks() -> None:
    known = ",".join(f"{value:g}" for value in _points().ravel())
    lost = ",".join(["nan"] * 68)
    track = _track([f"0,{known}", f"71,{lost}", f"140.5,{','.join(['0'] * 68)}", "200,1,2"])
    assert track.times == (0.0, 0.071, 0.1405, 0.2)
    np.testing.assert_allclose(track.points(0), _points(), atol=1e-3)
    assert [track.points(row) for row in (1, 2, 3)] == [None, None, None]
    assert track.nearest(0.02, 0.25) is not None
    assert track.nearest(0.06, 0.25) is None  # the nearest is lost
    assert track.nearest(5.0, 0.25) is None
    assert landmarks.box(np.array([(40.5, 30), (79.2, 89.5)])) == (40, 30, 40, 60)


def test_five_landmarks_start_at_the_image_left_even_if_mirrored() -> None:
    expected = [(52, 50), (68, 50), (60, 60), (54, 75), (66, 75)]
    np.testing.assert_allclose(landmarks.five(_points()), expected)
    mirrored = _points() * (-1, 1) + (120, 0)
    np.testing.assert_allclose(landmarks.five(mirrored), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Time,x0,y0\n", "expected AM-FED+'s landmark header in a.csv"),
        (",".join(landmarks.HEADER) + "\nsoon,1,2\n", "found 'soon,1,2' in a.csv, line 2"),
    ],
)
def test_invalid_landmark_file_is_a_user_error(text: str, message: str) -> None:
    with pytest.raises(errors.UserError) as raised:
        landmarks.parse(text, "a.csv")
    assert message in str(raised.value)
    assert landmarks.parse("", "a.csv").times == ()


def test_frames_without_landmarks_are_not_used() -> None:
    coded = au_labels.parse("Time,Smile\n0.5,100\n", "a-label.csv")
    known = ",".join(f"{value:g}" for value in _points().ravel())
    lost = ",".join(["nan"] * 68)
    track = _track([f"0,{known}", f"600,{lost}", f"700,{known}", f"1000,{known}", f"1800,{lost}"])
    frames = amfed._by_rule(coded, track, sampling.Sampling())
    assert [(one.time, one.label) for one in frames] == [(0.7, labels.HAPPINESS)]
    assert amfed._by_rule(coded, landmarks.Track((), ()), sampling.Sampling()) == []


# ---- sampling ----------------------------------------------------------------------------------


def test_sampling_limits_number_and_gap() -> None:
    frames = [(step / 10, "fear") for step in range(100)] + [(0.05, "anger"), (0.45, "anger")]
    chosen = sampling.choose(frames[::-1], sampling.Sampling(per_class=3, gap=0.5))
    assert chosen == sampling.choose(frames, sampling.Sampling(per_class=3, gap=0.5))
    assert [time for time, label in chosen if label == "anger"] == [0.05]
    fear = [time for time, label in chosen if label == "fear"]
    assert fear == [1.5, 5.0, 8.0]  # of 20 that are 0.5 s apart, spread over all
    every = sampling.choose(frames, sampling.Sampling(per_class=99, gap=0.5))
    times = [time for time, label in every if label == "fear"]
    assert len(times) == 20
    assert np.diff(times).min() >= 0.5


# ---- videos ------------------------------------------------------------------------------------

TIMES = [0, 40, 200, 230, 700, 1000, 1100, 1150, 1900, 2000]  # ms


@pytest.fixture(scope="module")
def flash() -> bytes:
    """A video of variable frame rate, whose frame k has the gray level 20 + 20 k."""
    frames = (np.full((240, 320, 3), 20 + 20 * one, np.uint8) for one in range(len(TIMES)))
    return stand_in.encode_video(TIMES, frames)


def _numbers(found: video.Frames) -> list[int | None]:
    return [None if isinstance(one, Exception) else _number(one) for one in found.values()]


def _number(frame: np.ndarray) -> int:
    return round((float(frame.mean()) - 20) / 20)


@pytest.fixture
def on_disk(tmp_path: pathlib.Path) -> Callable[[bytes], pathlib.Path]:
    def write(data: bytes) -> pathlib.Path:
        (tmp_path / "video.flv").write_bytes(data)
        return tmp_path / "video.flv"

    return write


def test_decoder_reports_the_rewritten_timestamps(flash: bytes, on_disk) -> None:
    assert flv.contents(flash) == flv.Contents(tuple(TIMES), "")
    assert is_stand_in(flash[:256])
    reported = [time for time, _ in video._decoded(on_disk(flash), 99)]
    np.testing.assert_allclose(reported, np.array(TIMES) / 1000, atol=1e-6)


def test_time_starts_at_the_first_frame(flash: bytes, on_disk) -> None:
    late = on_disk(flv.retime(flash, [time + 2**24 for time in TIMES]))  # a timestamp of four bytes
    assert flv.contents(late.read_bytes()).times[0] == 2**24
    assert _numbers(video.frames_at(late, [0.0, 2.0])) == [0, 9]


def test_frames_are_selected_by_time(flash: bytes, on_disk) -> None:
    found = video.frames_at(on_disk(flash), [0.0, 0.21, 0.22, 0.6, 1.12, 1.99, 2.2])
    assert _numbers(found) == [0, 2, 3, 4, 6, 9, 9]
    none = video.frames_at(on_disk(flash), [0.46, 0.47, 1.5, 2.3])
    assert _numbers(none) == [3, 4, None, None]
    assert str(none[1.5]) == "no frame within 0.25 s of this time"
    assert str(none[2.3]) == "the video ends at 2.00 s"


def _tag(data: bytes, number: int) -> flv.Tag:
    """The tag of frame `number`."""
    return [tag for tag in flv._tags(data) if flv._is_frame(data, tag)][number]


def _truncated_in_a_frame(data: bytes) -> bytes:
    tag = _tag(data, 6)
    return data[: tag.start + 11 + tag.size // 2]


def _truncated_in_a_header(data: bytes) -> bytes:
    return data[: _tag(data, 6).start + 4]


def _overwritten(data: bytes) -> bytes:
    start = _tag(data, 6).start
    return data[:start] + b"\xff" * 11 + data[start + 11 :]


@pytest.mark.parametrize(
    ("change", "numbers", "message"),
    [
        (_truncated_in_a_frame, [0, 5, None], "truncated at byte"),
        (_truncated_in_a_header, [0, 5, None], "truncated at byte"),
        (_overwritten, [0, 5, None], "damaged at byte"),
        (lambda data: data[:50], [None] * 3, "no intact frame"),
        (lambda data: b"", [None] * 3, "empty"),
        (lambda data: b"<html>not found</html>" * 99, [None] * 3, "not an FLV video"),
        (lambda data: data[:-4], [0, 5, 9], ""),  # without the last back pointer
    ],
)
def test_only_intact_frames_of_a_damaged_video_are_used(
    change: Callable[[bytes], bytes], numbers: list, message: str, flash: bytes, on_disk
) -> None:
    found = video.frames_at(on_disk(change(flash)), [0.0, 1.0, 2.0])
    assert _numbers(found) == numbers
    assert flv.contents(change(flash)).damage.startswith(message)
    assert all(message in str(one) for one in found.values() if isinstance(one, Exception))


def test_truncated_frame_is_not_used(flash: bytes, on_disk) -> None:
    found = video.frames_at(on_disk(_truncated_in_a_frame(flash)), [1.1])  # frame 6 is truncated
    assert _numbers(found) == [5]  # FFmpeg alone returns a concealed frame


def test_colors_are_rgb(on_disk) -> None:
    red = np.broadcast_to(np.array([200, 40, 20], np.uint8), (240, 320, 3))
    found = video.frames_at(on_disk(stand_in.encode_video([0, 50], iter([red, red]))), [0.0])
    np.testing.assert_allclose(found[0.0].mean((0, 1)), (200, 40, 20), atol=12)


def test_huge_video_is_not_decoded(flash, on_disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_PIXELS", 320 * 240 - 1)
    found = video.frames_at(on_disk(flash), [0.0])
    assert str(found[0.0]) == "320 x 240 pixels"


def test_flv_without_frames() -> None:
    assert flv.contents(b"FLV\x01\x01\x00\x00\x00\x09" + bytes(4)).damage == "no intact frame"
    with pytest.raises(ValueError, match="zip"):
        flv.retime(b"FLV\x01\x01\x00\x00\x00\x09" + bytes(4), [1])


def test_reader_decodes_ahead_and_holds_few_videos(
    flash: bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [f"{number:02d}.flv" for number in range(12)]
    for file in files:
        (tmp_path / file).write_bytes(flash)
    decoded: list[str] = []
    real = video.frames_at
    monkeypatch.setattr(
        video, "frames_at", lambda path, times: (decoded.append(path.name), real(path, times))[1]
    )
    reader = video.Reader(sources.FolderSource(tmp_path), dict.fromkeys(files, (0.0, 1.0, 3.0)))
    most = 0
    for file in files:
        assert _number(reader.frame(file, 0.0)) == 0
        assert _number(reader.frame(file, 1.0)) == 5
        with pytest.raises(UnreadableError, match="ends at 2"):
            reader.frame(file, 3.0)
        most = max(most, len(reader._pending))
    assert sorted(decoded) == files
    assert most <= reader._ahead + 1
    assert not reader._pending
    assert _number(reader.frame(files[3], 1.0)) == 5  # a second request
    monkeypatch.setattr(video, "MAX_BYTES", 10)
    with pytest.raises(sources.MemberError, match="bytes"):
        video.Reader(sources.FolderSource(tmp_path), {files[0]: [0.0]}).frame(files[0], 0.0)


# ---- the stand-in ------------------------------------------------------------------------------

SCALE = 0.01  # the minimum of ten labeled videos
VIDEOS = 10
USED = 8


@pytest.fixture(scope="session")
def amfed_tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A manual_dir with the smallest stand-in; read-only."""
    root = tmp_path_factory.mktemp("amfed_plus")
    stand_ins.write("amfed_plus", root, SCALE)
    return root


def _root(manual_dir: pathlib.Path) -> pathlib.Path:
    return manual_dir / "AMFEDPLUS" / "AMFEDPLUS_Distribution"


def test_full_scale_has_the_published_counts() -> None:
    every = stand_in.videos(1.0)
    assert len(every) == stand_in.count_images(1.0) == names.ALL_VIDEOS == 1_044
    assert sum(one.is_labeled for one in every) == 545
    assert len({one.id for one in every}) == 1_044
    small = stand_in.videos(SCALE)
    assert [one.id for one in small if one.is_labeled] == [one.id for one in every[:VIDEOS]]
    assert {one.trap for one in small} == {"", *stand_in.TRAPS}


def test_stand_in_files_and_traps(amfed_tree: pathlib.Path) -> None:
    root = _root(amfed_tree)
    assert sorted(one.name for one in root.iterdir()) == sorted(
        [names.VIDEOS, names.UNLABELED, names.LABELS, names.LANDMARKS, names.BASELINE]
    )
    trap = {one.trap: one.id for one in stand_in.videos(SCALE) if one.trap}
    headers = {}
    for one in stand_in.videos(SCALE):
        folder = names.VIDEOS if one.is_labeled else names.UNLABELED
        data = (root / folder / f"{one.id}.flv").read_bytes()
        assert is_stand_in(data[:256])
        assert len(set(np.diff(flv.contents(data).times))) > 3  # a variable frame rate
        if one.is_labeled:
            text = (root / names.LABELS / f"{one.id}-label.csv").read_text()
            headers[one.id] = text.splitlines()[0].split(",")
            assert (len(text.splitlines()) == 1) == (one.trap == "no labels")
    assert (root / names.LANDMARKS / f"{trap['no landmarks']}.csv").read_bytes() == b""
    assert {"Au17", "Au26", "Forward", "Backward"} <= set(headers[trap["aliases"]])
    assert {"57", "58"} <= set(headers[trap["numbers"]])
    assert "Trackerfail" in headers[trap["tracker"]]
    assert len({tuple(header) for header in headers.values()}) > 5  # columns differ
    assert not (root / names.LABELS / f"{stand_in.videos(SCALE)[-1].id}-label.csv").exists()


def test_finished_video_is_not_rendered_again(
    amfed_tree: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = pathlib.Path(shutil.copytree(amfed_tree, tmp_path / "copy"))
    first = stand_in.videos(SCALE)[3]
    (_root(tree) / names.VIDEOS / f"{first.id}.flv").unlink()
    rendered = []
    monkeypatch.setattr(stand_in, "_write_video", lambda root, one, target: rendered.append(one.id))
    assert sum(stand_in.write(tree, SCALE)) == len(stand_in.videos(SCALE))
    assert rendered == [first.id]


# ---- building ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def amfed_data(amfed_tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A data_dir with the stand-in prepared; read-only."""
    root = tmp_path_factory.mktemp("amfed_prepared")
    build.prepare("amfed_plus", None, str(root), str(amfed_tree))
    return root


def _prepared(root: pathlib.Path, protocol: str | None = None, seed: int = 0):
    return build.prepare("amfed_plus", None, str(root), protocol=protocol, seed=seed)


def test_prepare_with_derived_labels(
    amfed_data: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = _prepared(amfed_data)
    assert done.protocol.name == "video"
    assert done.label_names == labels.AMFED_PLUS
    metadata = done.metadata
    assert metadata["derived_labels"] is True
    assert metadata["label_rule"] == facs.RULE == "facs_v1"
    assert metadata["stamp"]["rule"] == "facs_v1"
    assert metadata["stand_in"]
    assert metadata["group"] == "video"
    assert metadata["leaks"] == 0
    assert metadata["videos"] == {"found": VIDEOS, "used": USED}
    trap = {one.trap: one.id for one in stand_in.videos(SCALE) if one.trap}
    assert metadata["dropped"] == {
        amfed.NO_LANDMARKS: [trap["no landmarks"]],
        amfed.EMPTY_LABELS: [trap["no labels"]],
    }
    groups = [{done.entries[row].subject for row in rows} for rows in done.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == USED
    assert {one.face for one in done.entries} == {"shipped"}


def test_record_is_the_frame_at_its_time(
    amfed_data: pathlib.Path, amfed_tree: pathlib.Path
) -> None:
    done = _prepared(amfed_data)
    row = int(done.splits["test"][0])
    entry, record = done.entries[row], done.record(row)
    one, _, time = entry.id.rpartition("_")
    assert record["subject"].decode() == one
    assert record["time"] == np.float32(int(time) / 1000)
    frames = video.frames_at(_root(amfed_tree) / names.VIDEOS / f"{one}.flv", [int(time) / 1000])
    frame = next(iter(frames.values()))
    x, y, width, height = record["face_box"]
    stored = decode(record["image"])
    margin = (stored.shape[0] - max(width, height)) // 2
    inner = stored[margin : margin + height, -(-(stored.shape[1] - width) // 2) :][:, :width]
    difference = np.abs(
        inner.astype(int) - frame[y : y + height, x : x + width][:, : inner.shape[1]]
    )
    assert difference.mean() < 6.0
    assert np.isfinite(record["landmarks"]).all()
    left, right, nose, corner, other = record["landmarks"]
    assert left[0] < nose[0] < right[0]
    assert corner[0] < other[0]
    assert left[1] < nose[1] < corner[1]


def test_frames_match_their_label_file(amfed_tree: pathlib.Path) -> None:
    builder = build.get("amfed_plus")
    opened = builder.open(amfed_tree)
    trap = {one.trap: one.id for one in stand_in.videos(SCALE) if one.trap}
    per_class = collections.Counter((one.subject, one.label) for one in opened.records)
    assert {*labels.AMFED_PLUS, labels.NEUTRAL, labels.OTHER} == {label for _, label in per_class}
    assert max(per_class.values()) <= builder.SAMPLING.per_class
    for one in opened.records:
        text = (_root(amfed_tree) / names.LABELS / f"{one.subject}-label.csv").read_text()
        rows = [
            {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(text.splitlines())
        ]
        held = [row for row in rows if row["Time"] <= one.extras["time"]][-1]
        codes = {key: value for key, value in held.items() if key != "Time"}
        shown = frozenset(key for key, value in codes.items() if value >= 50)
        is_neutral = not any(codes.values())
        expected = _oracle(shown) if shown or is_neutral else labels.OTHER
        assert expected == one.label, one.id
        assert "Trackerfail" not in shown
    by_class = collections.defaultdict(list)
    for one in opened.records:
        by_class[one.subject, one.label].append(one.extras["time"])
    assert min(np.diff(times).min() for times in by_class.values() if len(times) > 1) >= 0.5
    assert {trap["aliases"], trap["numbers"], trap["tracker"], trap["mixed"]} <= {
        one.subject for one in opened.records
    }


@pytest.mark.parametrize(
    ("protocol", "unused"),
    [
        ("video_units", set()),
        ("video_neutral", {labels.OTHER}),
        ("fold2of3", {labels.NEUTRAL, labels.OTHER}),
        ("video", {labels.NEUTRAL, labels.OTHER}),
    ],
)
def test_protocols_share_the_records(protocol, unused, amfed_data: pathlib.Path) -> None:
    done = _prepared(amfed_data, protocol)
    assert set(done.label_names) == {*labels.AMFED_PLUS, labels.NEUTRAL, labels.OTHER} - unused
    assert done.metadata["leaks"] == 0
    used = sum(map(len, done.splits.values()))
    assert used == sum(one.label not in unused for one in done.entries)


def test_paper_protocol_is_marked_as_an_approximation(amfed_data: pathlib.Path) -> None:
    builder = build.get("amfed_plus", data_dir=str(amfed_data))
    paper = builder.protocol("paper")
    assert paper.label_names == labels.AMFED_PLUS
    assert "approximation" in paper.note
    assert builder.info.metadata["protocols"]["paper"]["leaks"] > 0
    rows = [
        protocols.Row(
            f"v{one % 500}_{one}", labels.AMFED_PLUS[one % 7], f"v{one % 500}", "pictures"
        )
        for one in range(4_775)  # as many as the paper's test split implies
    ]
    sizes = collections.Counter(paper.assign(rows, 0).values())
    assert sizes == {"test": 955, "validation": 382, "train": 3_438}
    few = rows[:21]  # three of each class, as in a small stand-in
    classes = {row.id: row.label for row in few}
    found = {(split, classes[one]) for one, split in paper.assign(few, 0).items()}
    assert len(found) == 3 * 7


# ---- layouts -------------------------------------------------------------------------------------


def _tree(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return tree


def _direct(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return _root(tree)


def _nested_lower_case(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    for file in _root(tree).rglob("*.*"):
        target = out / "amfedplus" / str(file.relative_to(_root(tree))).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return out


def _zip_in_folder(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    damage.pack(tree, out / "AMFEDPLUS.zip")
    return out


def _zip_itself(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return damage.pack(tree, out / "download.zip")


def _zip_of_each_part(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    for part in (names.VIDEOS, names.LABELS, names.LANDMARKS):
        damage.pack(_root(tree) / part, out / f"{part}.zip")
    return out


def _twice(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree / "AMFEDPLUS", out / "AMFEDPLUS")
    shutil.copytree(_root(tree) / names.VIDEOS, out / "backup" / names.VIDEOS)
    return out


@pytest.mark.parametrize(
    "layout",
    [_tree, _direct, _nested_lower_case, _zip_in_folder, _zip_itself, _zip_of_each_part, _twice],
)
def test_all_layouts_give_the_same_records(
    layout: Callable[[pathlib.Path, pathlib.Path], pathlib.Path],
    amfed_tree: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manual_dir = layout(amfed_tree, tmp_path / "copy")
    before = sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    builder = build.get("amfed_plus")
    expected = [(one.id, one.label) for one in builder.open(amfed_tree).records]
    opened = builder.open(manual_dir)
    assert [(one.id, one.label) for one in opened.records] == expected
    assert opened.stand_in
    copies = [drop for drop in opened.drops if "second copy" in drop.reason]
    assert len(copies) == (VIDEOS if layout is _twice else 0)
    assert opened.records[0].pixels().shape == (240, 320, 3)
    opened.records[0].pixels.func.__self__._pool.shutdown()  # stops decoding ahead
    assert sorted((path, path.stat().st_mtime_ns) for path in manual_dir.rglob("*")) == before
    assert not list(temporary.glob("fer_jax*"))


# ---- own labels ----------------------------------------------------------------------------------


def _copy(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree, out)
    return out


def _own_rows() -> list[tuple[str, float, str]]:
    """Each of seven classes in each of five videos, one of them without landmarks."""
    chosen = [one.id for one in stand_in.videos(SCALE) if one.is_labeled][:5]
    return [
        (one, 0.3 + 0.7 * number, name)
        for one in chosen
        for number, name in enumerate(labels.AMFED_PLUS)
    ]


def _write_own(tree: pathlib.Path, rows: list, header: str = "video,time_s,label") -> pathlib.Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    (tree / amfed.OWN_LABELS).write_text("\n".join(lines) + "\n")
    return tree


def test_own_labels_override_the_rule(
    amfed_tree: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = _write_own(_copy(amfed_tree, tmp_path / "copy"), _own_rows())
    shutil.rmtree(_root(tree) / names.LABELS)  # not needed with own labels
    done = build.prepare("amfed_plus", None, str(tmp_path / "data"), str(tree))
    assert done.metadata["derived_labels"] is False
    assert done.metadata["label_rule"] == ""
    assert "DERIVED" not in capsys.readouterr().out
    own = {f"{one}_{round(time * 1000):07d}": label for one, time, label in _own_rows()}
    assert {one.id: one.label for one in done.entries} == own
    without = next(one.id for one in stand_in.videos(SCALE) if one.trap == "no landmarks")
    for one in done.entries:
        assert (one.face == "shipped") == (one.subject != without)
    assert len(done.metadata["dropped"][amfed.NOT_LISTED]) == VIDEOS - 5


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([], "video;time;label", "expected the columns video, time_s, label"),
        ([("nobody", 1.0, "fear")], "video,time_s,label", "found nobody,1.0,fear"),
        ([("{0}", "soon", "fear")], "video,time_s,label", "soon,fear in labels.csv"),
        ([("{0}", 1.0, "bored")], "video,time_s,label", "line 2"),
        ([("{0}", -1.0, "fear")], "video,time_s,label", "a time in seconds"),
        ([("{0}", 1.0, "fear"), ("{0}", 1.0, "anger")], "video,time_s,label", "found two for"),
        ([("{0}", 1.0, "fear")], "video,time_s,label", "found 1: "),
    ],
)
def test_invalid_own_labels_are_a_user_error(
    rows: list, header: str, message: str, amfed_tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    first = stand_in.videos(SCALE)[0].id
    filled = [(str(row[0]).format(first), *row[1:]) for row in rows]
    tree = _write_own(_copy(amfed_tree, tmp_path / "copy"), filled, header)
    with pytest.raises(errors.UserError) as raised:
        build.prepare("amfed_plus", None, str(tmp_path / "data"), str(tree))
    assert message in str(raised.value)


# ---- bad copies --------------------------------------------------------------------------------


def _fractions_for_percent(tree: pathlib.Path) -> pathlib.Path:
    for file in (_root(tree) / names.LABELS).iterdir():
        header, *rows = csv.reader(file.read_text().splitlines())
        rows = [[row[0], *(f"{float(cell) / 100:g}" for cell in row[1:])] for row in rows]
        file.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return tree


def _no_fear(tree: pathlib.Path) -> pathlib.Path:
    for file in (_root(tree) / names.LABELS).iterdir():
        header, *rows = csv.reader(file.read_text().splitlines())
        brow = header.index("AU02")
        rows = [[*row[:brow], "0", *row[brow + 1 :]] for row in rows]
        file.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return tree


def _two_that_differ(tree: pathlib.Path) -> pathlib.Path:
    video_file = next((_root(tree) / names.VIDEOS).iterdir())
    (tree / names.VIDEOS).mkdir()
    (tree / names.VIDEOS / video_file.name).write_bytes(b"FLV")
    return tree


def _no_video_is_one(tree: pathlib.Path) -> pathlib.Path:
    for file in (_root(tree) / names.VIDEOS).iterdir():
        file.write_text("<html>log in first</html>")
    return tree


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (damage.removed(f"*/*/{names.VIDEOS}"), "expected AMFEDPLUS.zip or its unpacked folder"),
        (damage.removed(f"*/*/{names.LABELS}"), "the folder 'AU Labels' beside the videos"),
        (damage.removed(f"*/*/{names.LANDMARKS}"), "the folder 'Landmark Points (labeled videos)'"),
        (
            damage.rewritten(f"*/*/{names.LABELS}/*", lambda _: b"frame,emotion\n1,joy\n"),
            "expected AM-FED+'s header",
        ),
        (_fractions_for_percent, "every class"),
        (_no_fear, "found none of fear"),
        (damage.wrong_archive, "an archive without any of them"),
        (damage.outside, "points outside"),
        (damage.half_an_archive, "cannot be read"),
        (_two_that_differ, "two that differ"),
        (_no_video_is_one, "found none that can be used"),
        (damage.nowhere, "no such folder"),
    ],
)
def test_bad_copy_is_a_user_error(
    bad: damage.Damage,
    message: str,
    amfed_tree: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manual_dir = bad(_copy(amfed_tree, tmp_path / "copy"))
    arguments = ["--manual_dir", str(manual_dir), "--data_dir", str(tmp_path / "data")]
    with pytest.raises(SystemExit) as stopped:
        commands.run("prepare", "amfed_plus", *arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err.split("error: ")[1]
    assert message in printed
    assert "expected" in printed
    assert not any((tmp_path / "data").rglob("*.array_record*"))


def test_damaged_videos_are_listed_and_the_others_used(
    amfed_tree: pathlib.Path,
    amfed_data: pathlib.Path,
    tmp_path: pathlib.Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tree = _copy(amfed_tree, tmp_path / "copy")
    done = _prepared(amfed_data)
    cut, other, *_ = sorted({done.entries[row].subject for row in done.splits["train"]})
    file = _root(tree) / names.VIDEOS / f"{cut}.flv"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    (_root(tree) / names.VIDEOS / f"{other}.flv").write_text("not a video")
    done = build.prepare("amfed_plus", None, str(tmp_path / "data"), str(tree))
    table = (pathlib.Path(done.builder.data_dir) / "dropped.csv").read_text()
    assert "truncated at byte" in table
    assert "not an FLV video" in table
    used = collections.Counter(one.subject for one in done.entries)
    assert other not in used
    assert used[cut] > 0
    assert f"{cut}_" in table
    assert "[flv" not in capfd.readouterr().err  # FFmpeg's messages
