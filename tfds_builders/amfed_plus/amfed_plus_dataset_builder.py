"""AM-FED+: frames of its labelled videos, with emotions derived from their action units.

1,044 webcam videos of people at home, part of them with action units labelled by coders
(McDuff, Amr and el Kaliouby, 2019). What is common to all sets that the user brings is in
tfds_builders/manual.py; the rule that makes emotions of action units is in facs.py.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, pictures, protocols, sources, tables
from tfds_builders.amfed_plus import au_labels, facs, landmarks, names, sampling, video

GIVEN = "labels.csv"
GIVEN_COLUMNS = ("video", "time_s", "label")

NO_LABELS = "video without a label file"
EMPTY_LABELS = "video with an empty label file"
NO_LANDMARKS = "video without landmarks"
NO_FRAME = "video without a frame that shows one emotion by the rule"
NOT_GIVEN = f"video that {GIVEN} does not name"

_HEAD = 256  # bytes at the start of a file that its mark lies in

HOW_TO_GET = copies.how_to_get(
    "amfed_plus",
    """\
To get AM-FED+: ask for it at https://www.affectiva.com/facial-expression-dataset (signed
agreement, research only). Put what you are sent, packed or unpacked, into a folder and name it:""",
)

_ARCHIVE = r".*am-?_?fed.*\.zip|.*\(labeled( videos)?\)\.zip|au labels\.zip"


@dataclasses.dataclass(frozen=True)
class Frame:
    """A labelled moment of a video, and the 34 points there (float32[34, 2]) if there are."""

    time: float
    label: str
    points: np.ndarray | None


class Builder(manual.ManualBuilder):
    """AM-FED+ by video (`video`, the default), with neutral, or as in the paper (`paper`)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version; labels by facs_v1."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="The face by the 34 points of the set, else by the cascade.",
            crop=faces.FaceCrop(method="shipped"),
        )
    ]
    LABEL_NAMES = (*labels.AMFED_PLUS, labels.NEUTRAL)
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        one.name: one
        for one in (
            protocols.Protocol(
                "video",
                "Seven emotions; 15 % of the videos validation, 15 % test, no video in two.",
                labels.AMFED_PLUS,
                protocols.by_group,
            ),
            protocols.Protocol(
                "video_neutral",
                "As `video`, with neutral as an eighth class.",
                (*labels.AMFED_PLUS, labels.NEUTRAL),
                protocols.by_group,
            ),
            protocols.Protocol(
                "paper",
                "Seven emotions; 20 % of the frames test, at random, 10 % of the rest validation.",
                labels.AMFED_PLUS,
                protocols.at_random,
                note="approximation of the paper's split, whose frames and labels are not known: "
                "frames of one video are in train and test, so accuracy says little about new "
                "people",
            ),
        )
    }
    # How many frames there are follows from the rule.
    EXPECTED: ClassVar[Mapping[str, int]] = {"labelled videos": names.LABELED_VIDEOS}
    GROUP = "video"
    DERIVED_LABELS = facs.RULE
    MAX_UNREADABLE = 400  # frames: those of some twenty damaged videos
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    SAMPLING: ClassVar[sampling.Sampling] = sampling.Sampling()

    def extra_features(self) -> dict[str, Any]:
        """The frame's time in its video, in seconds."""
        return {"time": tfds.features.Scalar(dtype=np.float32)}

    def stamp(self) -> dict[str, Any]:
        """See `ManualBuilder`; another rule or sampling gives other records."""
        chosen = {"rule": facs.RULE, "sampling": dataclasses.asdict(self.SAMPLING)}
        return super().stamp() | chosen

    def open_source(self, manual_dir: Path) -> sources.Source:
        """AM-FED+'s archive or tree in or below `manual_dir`, which may be the zip itself."""
        return copies.open_copy(manual_dir, _ARCHIVE, _lacks, HOW_TO_GET)

    def open(self, manual_dir: Path) -> manual.Opened:
        """See `ManualBuilder`; a stand-in's videos say so themselves, whatever lies beside them."""
        opened = super().open(manual_dir)
        files = {record.file for record in opened.records}
        marked = any(_is_stand_in(opened.source, file) for file in sorted(files))
        self.opened = dataclasses.replace(opened, stand_in=opened.stand_in or marked)
        return self.opened

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`; reads the label and landmark files."""
        videos, drops = _files_of(source, names.VIDEOS)
        if _given(source):
            frames, more = _given_frames(source, videos)
        else:
            frames, more = _derived_frames(source, videos, self.SAMPLING)
        wanted = {videos[one]: [frame.time for frame in some] for one, some in frames.items()}
        reader = video.Reader(source, wanted)
        records = [
            _record(one, videos[one], frame, reader)
            for one, some in frames.items()
            for frame in some
        ]
        return records, drops + more

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """How many videos were used, and where the labels come from."""
        given = bool(_given(source))
        used = len({record.subject for record in records})
        found = len(_files_of(source, names.VIDEOS)[0])
        by = f"given in {GIVEN}" if given else f"derived from action units by the rule {facs.RULE}"
        return {
            "derived_labels": not given,
            "label_rule": "" if given else facs.RULE,
            "videos": {"found": found, "used": used},
            "summary": [f"{found:,} videos found, frames of {used:,} used; labels {by}"],
        }


def _lacks(source: sources.Source) -> str:
    """What is missing of a copy, for `copies.open_copy`."""
    files = source.sizes()
    if not any(names.is_of(names.VIDEOS, file) for file in files):
        return f"AMFEDPLUS.zip or its unpacked folder {names.VIDEOS!r} with .flv videos"
    parts = [
        part
        for part in (names.LABELS, names.LANDMARKS)
        if not any(names.is_of(part, file) for file in files)
    ]
    if not parts or _given(source):
        return ""
    return f"the folder {' and '.join(map(repr, parts))} beside the videos"


def _given(source: sources.Source) -> str:
    """The user's own table of labels at the top of the copy; "" where there is none."""
    return GIVEN if GIVEN in source.sizes() else ""


def _is_stand_in(source: sources.Source, file: str) -> bool:
    try:
        with source.stream(file) as stream:
            return pictures.is_stand_in(stream.read(_HEAD))
    except sources.MemberError:
        return False  # named when its frames are read


def _files_of(source: sources.Source, part: str) -> tuple[dict[str, str], list[crops.Drop]]:
    """Video id to file for one part of the set, ascending, and further copies of them."""
    files = sources.pictures_in(source, names.ENDINGS[part])
    pairs = [(names.video_id(file), file) for file in files if names.is_of(part, file)]
    return copies.first_by_id(source, pairs)


def _derived_frames(
    source: sources.Source, videos: Mapping[str, str], how: sampling.Sampling
) -> tuple[dict[str, list[Frame]], list[crops.Drop]]:
    """Frames of each video by the rule, and the videos that have none."""
    label_files, _ = _files_of(source, names.LABELS)
    point_files, _ = _files_of(source, names.LANDMARKS)
    frames, drops = {}, []
    for one, file in videos.items():
        found: list[Frame] = []
        reason = NO_LABELS if one not in label_files else NO_LANDMARKS
        if one in label_files and one in point_files:
            label_name, point_name = label_files[one], point_files[one]
            coded = au_labels.parse(_text(source, label_name), label_name)
            track = landmarks.parse(_text(source, point_name), point_name)
            found = _by_rule(coded, track, how)
            reason = (
                EMPTY_LABELS if not coded.times else NO_LANDMARKS if not track.times else NO_FRAME
            )
        if found:
            frames[one] = found
        else:
            drops.append(crops.Drop(one, file, reason, ""))
    return frames, drops


def _by_rule(
    coded: au_labels.Labels, track: landmarks.Track, how: sampling.Sampling
) -> list[Frame]:
    """The sampled frames that have landmarks and show one emotion."""
    emotions = [*map(facs.emotion, coded.agreement), None]  # the last: before the first row
    points: dict[float, np.ndarray] = {}
    labelled = []
    for row, time in enumerate(track.times):
        label = emotions[coded.row_at(time)]
        found = track.points(row) if label else None
        if label and found is not None:
            points[time] = found
            labelled.append((time, label))
    return [Frame(time, label, points[time]) for time, label in sampling.choose(labelled, how)]


def _given_frames(
    source: sources.Source, videos: Mapping[str, str]
) -> tuple[dict[str, list[Frame]], list[crops.Drop]]:
    """Frames that the user's own table names; points of the nearest row where there are some."""
    moments: dict[str, dict[float, str]] = collections.defaultdict(dict)
    for line, (one, time, word) in tables.rows(source, GIVEN, GIVEN_COLUMNS):
        name = one.strip().lower().removesuffix(".flv")
        label, seconds = labels.named(word), _seconds(time)
        if name not in videos or label is None or seconds is None:
            raise errors.UserError(
                f"expected a video of {names.VIDEOS!r}, a time in seconds and one of "
                f"{', '.join(labels.EMOTIONS)}, found {one},{time},{word} in {GIVEN} in "
                f"{source.path}, line {line}. Correct the line."
            )
        if moments[name].setdefault(seconds, label) != label:
            raise errors.UserError(
                f"expected one label a moment, found two for {one} at {time} s in {GIVEN} in "
                f"{source.path}, line {line}. Remove one."
            )
    point_files, _ = _files_of(source, names.LANDMARKS)
    frames = {}
    for one in sorted(moments):
        file = point_files.get(one)
        track = landmarks.parse(_text(source, file) if file else "", file or "")
        frames[one] = [
            Frame(time, label, track.nearest(time, video.TOLERANCE))
            for time, label in sorted(moments[one].items())
        ]
    drops = [crops.Drop(one, videos[one], NOT_GIVEN, "") for one in videos if one not in moments]
    return frames, drops


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value < 1e6 else None


def _text(source: sources.Source, file: str) -> str:
    try:
        return source.read(file).decode("utf-8", errors="replace")
    except sources.MemberError as error:
        raise errors.UserError(
            f"expected to read {file} in {source.path}, found it damaged ({error}). Get this file "
            "again."
        ) from error


def _record(one: str, file: str, frame: Frame, reader: video.Reader) -> manual.Record:
    points = frame.points
    return manual.Record(
        id=f"{one}_{round(frame.time * 1000):07d}",
        file=file,
        label=frame.label,
        subject=one,
        face_box=None if points is None else landmarks.box(points),
        landmarks=None if points is None else landmarks.five(points),
        extras={"time": frame.time},
        pixels=functools.partial(reader.frame, file, frame.time),
    )
