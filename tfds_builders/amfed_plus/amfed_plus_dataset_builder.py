"""TFDS builder of AM-FED+: video frames, with emotions derived from action units.

1,044 webcam videos of people at home, about half of them with action units labeled by
coders (McDuff, Amr and el Kaliouby, 2019). facs.py derives the emotions.
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
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources, tables
from tfds_builders.amfed_plus import au_labels, facs, landmarks, names, sampling, video
from tfds_builders.stand_in_mark import is_stand_in

OWN_LABELS = "labels.csv"  # the user's, instead of derived ones
OWN_COLUMNS = ("video", "time_s", "label")

NO_LABELS = "video without a label file"
EMPTY_LABELS = "video with an empty label file"
NO_LANDMARKS = "video without landmarks"
NO_FRAME = "video without a coded frame"
NOT_LISTED = f"video not in {OWN_LABELS}"

_HEAD = 256  # bytes at the start of a file that contain the stand-in mark

HOW_TO_GET = copies.how_to_get(
    "amfed_plus",
    """\
To get AM-FED+: request it at https://www.affectiva.com/facial-expression-dataset (signed
agreement, research only). Put what you receive, packed or unpacked, into a folder and run:""",
)

_ARCHIVE = r".*am-?_?fed.*\.zip|.*\(labeled( videos)?\)\.zip|au labels\.zip"


@dataclasses.dataclass(frozen=True)
class Frame:
    """A labeled frame: time in seconds, class, landmarks (float32[34, 2]) if known, and units.

    The units are those of `au_labels.Labels.units`.
    """

    time: float
    label: str
    points: np.ndarray | None
    units: np.ndarray


class Builder(manual.ManualBuilder):
    """AM-FED+, split by video (all protocols but `paper`) or as in the paper."""

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.2.0": "Frames of no or several emotions, too.",
        "1.1.0": "The action units as coded.",
        "1.0.0": "First version; labels by facs_v1.",
    }
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Faces cropped by the set's 34 landmarks, or by the cascades.",
            crop=FaceCrop(method="shipped"),
        )
    ]
    LABEL_NAMES = (*labels.AMFED_PLUS, labels.NEUTRAL, labels.OTHER)
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        protocol.name: protocol
        for protocol in (
            protocols.Protocol(
                "video",
                "Seven emotions; 70/15/15 % of the videos.",
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
                "video_units",
                "All coded frames, for units; with neutral, and other: no or several emotions.",
                (*labels.AMFED_PLUS, labels.NEUTRAL, labels.OTHER),
                protocols.by_group,
            ),
            protocols.Protocol(
                "paper",
                "Seven emotions. Test: a random 20 % of the frames. Validation: 10 % of the rest.",
                labels.AMFED_PLUS,
                # A video gives a frame or more. A small stand-in is split class by class.
                functools.partial(protocols.random_fifth, whole=names.LABELED_VIDEOS),
                note="approximation of the paper's split, whose frames and labels are unknown: "
                "frames of one video are in train and test, so accuracy says little about new "
                "people",
            ),
        )
    }
    # The number of frames depends on the rule.
    EXPECTED: ClassVar[Mapping[str, int]] = {"labelled videos": names.LABELED_VIDEOS}
    GROUP = "video"
    UNITS = tuple(au_labels.UNITS.values())
    UNIT_SHOWN = facs.THRESHOLD / 100
    DERIVED_LABELS = facs.RULE
    MAX_UNREADABLE = 400  # frames: about twenty damaged videos
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    SAMPLING: ClassVar[sampling.Sampling] = sampling.Sampling()

    def extra_features(self) -> dict[str, Any]:
        """The frame's time in its video, in seconds, and the coders' agreement on each unit."""
        units = tfds.features.Tensor(shape=(len(self.UNITS),), dtype=np.float32)
        return {"time": tfds.features.Scalar(dtype=np.float32), "action_units": units}

    def stamp(self) -> dict[str, Any]:
        """See `ManualBuilder`. Includes the rule and the sampling, which decide the records."""
        settings = {"rule": facs.RULE, "sampling": dataclasses.asdict(self.SAMPLING)}
        return super().stamp() | settings

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens AM-FED+ in or below `manual_dir`, which may be the zip itself."""
        return copies.open_copy(manual_dir, _ARCHIVE, _lacks, HOW_TO_GET)

    def open(self, manual_dir: Path) -> manual.Opened:
        """See `ManualBuilder`. Also recognizes a stand-in by the marks in its videos."""
        opened = super().open(manual_dir)
        files = {record.file for record in opened.records}
        marked = any(_is_stand_in(opened.source, file) for file in sorted(files))
        self.opened = dataclasses.replace(opened, stand_in=opened.stand_in or marked)
        return self.opened

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`. Reads the label and landmark files."""
        videos, drops = _files_of(source, names.VIDEOS)
        if _has_own_labels(source):
            frames, more = _listed_frames(source, videos)
        else:
            frames, more = _derived_frames(source, videos, self.SAMPLING)
        times = {
            videos[video_id]: [frame.time for frame in of_video]
            for video_id, of_video in frames.items()
        }
        reader = video.Reader(source, times)
        records = [
            _record(video_id, videos[video_id], frame, reader)
            for video_id, of_video in frames.items()
            for frame in of_video
        ]
        return records, drops + more

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """The number of videos, and the origin of the labels."""
        own = _has_own_labels(source)
        used = len({record.subject for record in records})
        found = len(_files_of(source, names.VIDEOS)[0])
        origin = f"from {OWN_LABELS}" if own else f"derived from action units by {facs.RULE}"
        return {
            "derived_labels": not own,
            "label_rule": "" if own else facs.RULE,
            "videos": {"found": found, "used": used},
            "summary": [f"{found:,} videos, frames of {used:,} used; labels {origin}"],
        }


def _lacks(source: sources.Source) -> str:
    files = source.sizes()
    if not any(names.is_of(names.VIDEOS, file) for file in files):
        return f"AMFEDPLUS.zip or its unpacked folder {names.VIDEOS!r} with .flv videos"
    parts = [
        part
        for part in (names.LABELS, names.LANDMARKS)
        if not any(names.is_of(part, file) for file in files)
    ]
    if not parts or _has_own_labels(source):
        return ""
    return f"the folder {' and '.join(map(repr, parts))} beside the videos"


def _has_own_labels(source: sources.Source) -> bool:
    """Whether the copy has a table of the user's labels in its top folder."""
    return OWN_LABELS in source.sizes()


def _is_stand_in(source: sources.Source, file: str) -> bool:
    try:
        with source.stream(file) as stream:
            return is_stand_in(stream.read(_HEAD))
    except sources.MemberError:
        return False  # reported when its frames are read


def _files_of(source: sources.Source, part: str) -> tuple[dict[str, str], list[crops.Drop]]:
    """Video id to file for one part of the set, sorted by id, and the duplicates."""
    files = sources.files_with_suffix(source, names.ENDINGS[part])
    pairs = [(names.video_id(file), file) for file in files if names.is_of(part, file)]
    return copies.first_by_id(source, pairs)


def _derived_frames(
    source: sources.Source, videos: Mapping[str, str], how: sampling.Sampling
) -> tuple[dict[str, list[Frame]], list[crops.Drop]]:
    """Video id to the coded frames; drops are the videos without any."""
    label_files, _ = _files_of(source, names.LABELS)
    point_files, _ = _files_of(source, names.LANDMARKS)
    frames, drops = {}, []
    for video_id, file in videos.items():
        of_video: list[Frame] = []
        reason = NO_LABELS if video_id not in label_files else NO_LANDMARKS
        if video_id in label_files and video_id in point_files:
            label_file, point_file = label_files[video_id], point_files[video_id]
            coded = au_labels.parse(tables.read_text(source, label_file), label_file)
            track = landmarks.parse(tables.read_text(source, point_file), point_file)
            of_video = _by_rule(coded, track, how)
            reason = (
                EMPTY_LABELS if not coded.times else NO_LANDMARKS if not track.times else NO_FRAME
            )
        if of_video:
            frames[video_id] = of_video
        else:
            drops.append(crops.Drop(video_id, file, reason, ""))
    return frames, drops


def _by_rule(
    coded: au_labels.Labels, track: landmarks.Track, how: sampling.Sampling
) -> list[Frame]:
    """A sample of the frames of each class that have landmarks."""
    classes = [*map(facs.label, coded.agreement), None]  # the last is for `row_at` = -1
    points: dict[float, np.ndarray] = {}
    labeled = []
    for row, time in enumerate(track.times):
        label = classes[coded.row_at(time)]
        of_row = track.points(row) if label else None
        if label and of_row is not None:
            points[time] = of_row
            labeled.append((time, label))
    return [
        Frame(time, label, points[time], coded.units(time))
        for time, label in sampling.choose(labeled, how)
    ]


def _listed_frames(
    source: sources.Source, videos: Mapping[str, str]
) -> tuple[dict[str, list[Frame]], list[crops.Drop]]:
    """Video id to the frames in the user's table, with the landmarks nearest in time, if any."""
    listed: dict[str, dict[float, str]] = collections.defaultdict(dict)
    for line, (name, time, word) in tables.rows(source, OWN_LABELS, OWN_COLUMNS):
        video_id = name.strip().lower().removesuffix(".flv")
        label, seconds = labels.named(word), _seconds(time)
        if video_id not in videos or label is None or seconds is None:
            raise errors.UserError(
                f"expected a video of {names.VIDEOS!r}, a time in seconds and one of "
                f"{', '.join(labels.EMOTIONS)}, found {name},{time},{word} in {OWN_LABELS} in "
                f"{source.path}, line {line}. Correct the line."
            )
        if listed[video_id].setdefault(seconds, label) != label:
            raise errors.UserError(
                f"expected one label per frame, found two for {name} at {time} s in {OWN_LABELS} "
                f"in {source.path}, line {line}. Remove one."
            )
    label_files, _ = _files_of(source, names.LABELS)
    point_files, _ = _files_of(source, names.LANDMARKS)
    frames = {}
    for video_id in sorted(listed):
        file, label_file = point_files.get(video_id), label_files.get(video_id)
        track = landmarks.parse(tables.read_text(source, file) if file else "", file or "")
        text = tables.read_text(source, label_file) if label_file else ""
        coded = au_labels.parse(text, label_file or "")
        frames[video_id] = [
            Frame(time, label, track.nearest(time, video.TOLERANCE), coded.units(time))
            for time, label in sorted(listed[video_id].items())
        ]
    drops = [
        crops.Drop(video_id, file, NOT_LISTED, "")
        for video_id, file in videos.items()
        if video_id not in listed
    ]
    return frames, drops


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value < 1e6 else None


def _record(video_id: str, file: str, frame: Frame, reader: video.Reader) -> manual.Record:
    points = frame.points
    return manual.Record(
        id=f"{video_id}_{round(frame.time * 1000):07d}",
        file=file,
        label=frame.label,
        subject=video_id,
        face_box=None if points is None else landmarks.box(points),
        landmarks=None if points is None else landmarks.five(points),
        extras={"time": frame.time, "action_units": frame.units},
        pixels=functools.partial(reader.frame, file, frame.time),
    )
