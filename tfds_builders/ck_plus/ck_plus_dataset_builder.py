"""CK+ from its sequences with emotion files, or from the flat copy of 48 pixels.

593 sequences from neutral to peak, 327 of them labelled, of 123 people (Lucey et al.,
2010). The last three frames of a labelled sequence are its expression, as everywhere in
the field; the first is neutral by the set's design and used by one protocol only. What
is common to all sets that the user brings is in tfds_builders/manual.py.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.ck_plus import names

SEVEN: tuple[str, ...] = labels.CK_PLUS[1:]  # CK+48 and the field's tables have no neutral
SMALL = "ck48"

HOW_TO_GET = copies.how_to_get(
    "ck_plus",
    """\
To get CK+: ask for it at http://www.jeffcohn.net/Resources (agreement, not commercial); you are
sent extended-cohn-kanade-images.zip and Emotion_labels.zip. Put both, packed or unpacked, into a
folder and name that (for the copy CK+48 of 48 x 48 pixels, add --config ck48):""",
)
_ARCHIVES = r".*(cohn|kanade|ck|emotion).*\.(zip|tar|tgz|tar\.gz)"


class Builder(manual.ManualBuilder):
    """CK+ by person: seven expressions, or eight with the neutral first frames."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Faces cut out of the sequences' first frame and last three.",
        ),
        manual.Variant(
            name=SMALL,
            description="The flat copy CK+48: 981 faces of 48 x 48 pixels, without loss.",
            crop=faces.FaceCrop(margin=0.0, method="keep"),
            label_names=SEVEN,
            lossless=True,
            expected=names.LABELLED * names.PEAKS,
        ),
    ]
    LABEL_NAMES = labels.CK_PLUS
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            "subject",
            "Seven expressions; 70/15/15 % of the people, whole sequences.",
            SEVEN,
            protocols.by_group,
        ),
        "neutral": protocols.Protocol(
            "neutral",
            "Eight classes: neutral is the first frame of each labelled sequence.",
            labels.CK_PLUS,
            protocols.by_group,
        ),
    }
    EXPECTED = names.LABELLED * (names.PEAKS + 1)
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    @property
    def _is_small(self) -> bool:
        config = self.builder_config
        return (config.base or config.name) == SMALL

    def open_source(self, manual_dir: Path) -> sources.Source:
        """The sequences with their emotion files, or CK+48, in or below `manual_dir`."""
        lacks = _lacks_small if self._is_small else _lacks
        return copies.open_copy(manual_dir, _ARCHIVES, lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`; reads the emotion files."""
        frames = {file: frame for file in source.sizes() if (frame := names.parse_frame(file))}
        if self._is_small:
            labelled, drops = _small(source, frames)
        else:
            labelled, drops = _sequences(source, frames)
        strata = _strata(labelled)
        records = [
            manual.Record(
                id=frame.id,
                file=file,
                label=label,
                subject=frame.subject,
                stratum=strata[frame.subject],
            )
            for frame, file, label in labelled
        ]
        copies.check_classes(records, SEVEN, source)
        return records, drops

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """How many sequences have no label and are not used."""
        if self._is_small:
            return {}
        frames = map(names.parse_frame, source.sizes())
        every = {frame.key for frame in frames if frame}
        used = {tuple(record.id.split("_")[:2]) for record in records}
        whole = f"(a whole copy has {names.SEQUENCES} and {names.LABELLED})"
        line = f"{len(every):,} sequences, {len(used):,} used: those with an emotion label {whole}"
        return {"summary": [line]}


_Labelled = list[tuple[names.Frame, str, str]]


def _lacks(source: sources.Source) -> str:
    frames = [file for file in source.sizes() if names.parse_frame(file)]
    missing = []
    if not any(not names.is_small(file) for file in frames):
        missing.append("cohn-kanade-images/S005/001/S005_001_00000001.png ...")
    if not any(map(names.parse_emotion_file, source.sizes())):
        missing.append("Emotion/S005/001/S005_001_00000011_emotion.txt ...")
    small = any(map(names.is_small, frames)) and len(missing) == 2
    return " and ".join(missing) + " (for CK+48, which is there: --config ck48)" * small


def _lacks_small(source: sources.Source) -> str:
    frames = [file for file in source.sizes() if names.parse_frame(file)]
    if any(map(names.is_small, frames)):
        return ""
    return "CK+48/<class>/S010_004_00000017.png ..." + " (for sequences: --config face)" * bool(
        frames
    )


def _small(
    source: sources.Source, frames: Mapping[str, names.Frame]
) -> tuple[_Labelled, list[crops.Drop]]:
    files = {file: frame for file, frame in frames.items() if names.is_small(file)}
    label_of = {file: labels.named(_class_folder(file)) for file in files}
    wrong = [file for file, label in label_of.items() if label not in SEVEN]
    if wrong:
        raise errors.UserError(
            f"expected the class folders {', '.join(names.SMALL_FOLDERS)} in {source.path}, found "
            f"others: {manual.some(wrong)}. Name the folders so, or move these out."
        )
    pairs = [(frame.id, file) for file, frame in files.items()]
    first, drops = copies.first_by_id(source, pairs)
    return [(files[file], file, label_of[file] or "") for file in first.values()], drops


def _class_folder(file: str) -> str:
    return file.split("/")[-2] if "/" in file else ""


def _sequences(
    source: sources.Source, frames: Mapping[str, names.Frame]
) -> tuple[_Labelled, list[crops.Drop]]:
    pairs = [(frame.id, file) for file, frame in frames.items() if not names.is_small(file)]
    first, drops = copies.first_by_id(source, pairs)
    sequences: dict[tuple[str, str], list[names.Frame]] = collections.defaultdict(list)
    for file in first.values():
        sequences[frames[file].key].append(frames[file])
    emotions = _emotions(source)
    _check_pictures(source, emotions, sequences)
    labelled: _Labelled = []
    for key, emotion in sorted(emotions.items()):
        neutral, peaks = names.peak_frames(sequences[key])
        some = [(frame, first[frame.id], emotion) for frame in peaks]
        if neutral is not None:
            some.insert(0, (neutral, first[neutral.id], labels.NEUTRAL))
        labelled += some
    return labelled, drops


def _check_pictures(
    source: sources.Source,
    emotions: Mapping[tuple[str, str], str],
    sequences: Mapping[tuple[str, str], Sequence[names.Frame]],
) -> None:
    missing = ["/".join(key) for key in emotions if key not in sequences]
    if missing:
        raise errors.UserError(
            f"expected pictures of every sequence with an emotion label in {source.path}, found "
            f"none of {manual.some(sorted(missing))}. A part of the images is missing: get the set "
            "again."
        )


def _emotions(source: sources.Source) -> dict[tuple[str, str], str]:
    """The label of each sequence that has one; neutral ones do not occur in a true copy."""
    found: dict[tuple[str, str], str] = {}
    for file in source.sizes():
        key = names.parse_emotion_file(file)
        if key is None or re.search(r"(^|/)(__MACOSX/|\._)", file):
            continue
        try:
            text = source.read(file).decode("ascii", "replace")
        except sources.MemberError as error:
            raise _wrong_emotion(source, file, str(error)) from error
        emotion = names.parse_code(text)
        if emotion not in SEVEN or found.setdefault(key, emotion) != emotion:
            raise _wrong_emotion(source, file, text.strip()[:40])
    return found


def _wrong_emotion(source: sources.Source, file: str, found: str) -> errors.UserError:
    return errors.UserError(
        f"expected one number from 1 to 7 in {file} in {source.path}, such as 3.0000000e+00, and "
        f"one file for each sequence, found {found!r}. Get the emotion labels again."
    )


def _strata(labelled: _Labelled) -> dict[str, str]:
    """Each person's rarest emotion, so that rare ones come into every split.

    Contempt has 18 people of 118; left to chance, a split may have none. Strata that could
    not fill three splits are put together.
    """
    people: dict[str, set[str]] = collections.defaultdict(set)
    for frame, _, label in labelled:
        if label != labels.NEUTRAL:
            people[label].add(frame.subject)
    strata: dict[str, str] = {}
    for label in sorted(people, key=lambda one: (len(people[one]), one)):
        mine = people[label] - set(strata)
        if len(mine) >= 3:
            strata |= dict.fromkeys(sorted(mine), label)
    everyone = set().union(*people.values())
    rest = everyone - set(strata)
    common = max(set(strata.values()) or {""}, key=lambda one: len(people.get(one, ())))
    return strata | dict.fromkeys(sorted(rest), "other" if len(rest) >= 3 else common)
