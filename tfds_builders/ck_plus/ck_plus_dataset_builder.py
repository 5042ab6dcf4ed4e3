"""TFDS builder of CK+, from its image sequences with emotion files, or from small copies.

593 sequences of 123 people from neutral to peak, 327 of them labeled (Lucey et al., 2010).
As is customary, the last three frames of a labeled sequence show its expression. The first
frame is neutral by design; only the protocol `neutral` uses it. The small copies are CK+48, and
ckextended.csv, which has its own splits and does not identify people.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.ck_plus import names
from tfds_builders.fer2013 import names as fer2013

SEVEN: tuple[str, ...] = labels.CK_PLUS[1:]  # without neutral, as in CK+48 and published results
SMALL = "ck48"
EXTENDED = "ckextended"

USAGE = protocols.Protocol(
    "usage", "The splits of ckextended.csv.", labels.CK_PLUS, protocols.stored
)

HOW_TO_GET = copies.how_to_get(
    "ck_plus",
    """\
To get CK+: request it at http://www.jeffcohn.net/Resources (signed agreement, for non-commercial
use). You receive extended-cohn-kanade-images.zip and Emotion_labels.zip. Put both, packed or
unpacked, into a folder and run (add --config ck48 for the 48 x 48 copy CK+48, --config ckextended
for ckextended.csv):""",
)
_ARCHIVES = r".*(cohn|kanade|ck|emotion).*\.(zip|tar|tgz|tar\.gz)"


class Builder(manual.ManualBuilder):
    """CK+, split by person, with seven expressions, or eight with the neutral first frames."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="face",
            description="Faces cropped from the first and the last three frames of sequences.",
        ),
        manual.Variant(
            name=SMALL,
            description="The copy CK+48: 981 faces of 48 x 48 pixels, stored losslessly.",
            crop=FaceCrop(margin=0.0, method="keep"),
            label_names=SEVEN,
            lossless=True,
            expected=names.LABELED * names.PEAKS,
        ),
        manual.Variant(
            name=EXTENDED,
            description="The copy ckextended.csv: 920 faces of 48 x 48 pixels, stored losslessly.",
            crop=FaceCrop(margin=0.0, method="keep"),
            lossless=True,
            expected=names.EXTENDED_IMAGES,
        ),
    ]
    LABEL_NAMES = labels.CK_PLUS
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "subject": protocols.Protocol(
            "subject",
            "Seven expressions; 70/15/15 % of the people.",
            SEVEN,
            protocols.by_group,
        ),
        "neutral": protocols.Protocol(
            "neutral",
            "Eight classes: neutral is the first frame of each labeled sequence.",
            labels.CK_PLUS,
            protocols.by_group,
        ),
    }
    EXPECTED = names.LABELED * (names.PEAKS + 1)
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    @classmethod
    def variant_for(cls, manual_dir: Path | None, variant: manual.Variant) -> manual.Variant:
        """Returns `ckextended` instead of the default for a copy with that csv only."""
        folder = manual_dir.expanduser() if manual_dir else None
        if variant.name != cls.BUILDER_CONFIGS[0].name or not (folder and folder.is_dir()):
            return variant
        source = sources.FolderSource(folder)
        is_extended = sources.find(source, re.escape(names.EXTENDED)) and all(
            names.parse_frame(file) is None and not sources.is_archive(file)
            for file in source.sizes()
        )
        return cls.builder_configs[EXTENDED] if is_extended else variant

    def protocol(self, name: str | None) -> protocols.Protocol | None:
        """As in all sets; `ckextended` has its own splits only, or folds."""
        if self._variant != EXTENDED:
            return super().protocol(name)
        return protocols.find({"usage": USAGE}, name)

    @property
    def _variant(self) -> str:
        config = self.builder_config
        return config.base or config.name

    @property
    def _is_small(self) -> bool:
        return self._variant == SMALL

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens the sequences with their emotion files, or CK+48, in or below `manual_dir`."""
        lacks = {SMALL: _lacks_small, EXTENDED: _lacks_extended}.get(self._variant, _lacks)
        return copies.open_copy(manual_dir, _ARCHIVES, lacks, HOW_TO_GET)

    def index(self, source: sources.Source) -> tuple[Sequence[manual.Record], Sequence[crops.Drop]]:
        """See `ManualBuilder`. Reads the emotion files."""
        if self._variant == EXTENDED:
            records = _extended(source)
            copies.check_classes(records, labels.CK_PLUS, source)
            return records, []
        frames = {file: frame for file in source.sizes() if (frame := names.parse_frame(file))}
        if self._is_small:
            labeled, drops = _small(source, frames)
        else:
            labeled, drops = _sequences(source, frames)
        strata = _strata(labeled)
        records = [
            manual.Record(
                id=frame.id,
                file=file,
                label=label,
                subject=frame.subject,
                stratum=strata[frame.subject],
            )
            for frame, file, label in labeled
        ]
        copies.check_classes(records, SEVEN, source)
        return records, drops

    def metadata_of(
        self, source: sources.Source, records: Sequence[manual.Record]
    ) -> dict[str, Any]:
        """Summarizes how many sequences have an emotion label."""
        if self._is_small:
            return {}
        if self._variant == EXTENDED:
            return {"notes": "people are not identified and are in several splits"}
        frames = map(names.parse_frame, source.sizes())
        sequences = {frame.key for frame in frames if frame}
        labeled = {tuple(record.id.split("_")[:2]) for record in records}
        complete = f"(a complete copy has {names.SEQUENCES} and {names.LABELED})"
        line = f"{len(sequences):,} sequences, {len(labeled):,} with an emotion label {complete}"
        return {"summary": [line]}


_Labeled = list[tuple[names.Frame, str, str]]  # frame, file, emotion


def _lacks(source: sources.Source) -> str:
    frames = [file for file in source.sizes() if names.parse_frame(file)]
    missing = []
    if not any(not names.is_small(file) for file in frames):
        missing.append("cohn-kanade-images/S005/001/S005_001_00000001.png ...")
    if not any(map(names.parse_emotion_file, source.sizes())):
        missing.append("Emotion/S005/001/S005_001_00000011_emotion.txt ...")
    small = any(map(names.is_small, frames)) and len(missing) == 2
    hint = " (to use CK+48, which is present: --config ck48)" * small
    if sources.find(source, re.escape(names.EXTENDED)):
        hint = " (to use ckextended.csv, which is present: --config ckextended)"
    return " and ".join(missing) + hint * bool(missing)


def _lacks_small(source: sources.Source) -> str:
    frames = [file for file in source.sizes() if names.parse_frame(file)]
    if any(map(names.is_small, frames)):
        return ""
    hint = " (to use the sequences, which are present: --config face)" * bool(frames)
    return "CK+48/<class>/S010_004_00000017.png ..." + hint


def _lacks_extended(source: sources.Source) -> str:
    return "" if sources.find(source, re.escape(names.EXTENDED)) else names.EXTENDED


def _extended(source: sources.Source) -> list[manual.Record]:
    (table, *_) = sources.find(source, re.escape(names.EXTENDED))
    return [
        manual.Record(
            id=row.id,
            file=table,
            label=row.label,
            subject="",
            split=fer2013.USAGES[row.usage],
            pixels=row.pixels,
        )
        for row in fer2013.read_table(source, table, names.EXTENDED_CODES)
    ]


def _small(
    source: sources.Source, frames: Mapping[str, names.Frame]
) -> tuple[_Labeled, list[crops.Drop]]:
    files = {file: frame for file, frame in frames.items() if names.is_small(file)}
    label_of = {file: labels.named(_class_folder(file)) for file in files}
    wrong = [file for file, label in label_of.items() if label not in SEVEN]
    if wrong:
        raise errors.UserError(
            f"expected the class folders {', '.join(names.SMALL_FOLDERS)} in {source.path}, found "
            f"others: {manual.some(wrong)}. Rename these folders, or move them out."
        )
    pairs = [(frame.id, file) for file, frame in files.items()]
    first, drops = copies.first_by_id(source, pairs)
    return [(files[file], file, label_of[file] or "") for file in first.values()], drops


def _class_folder(file: str) -> str:
    return file.split("/")[-2] if "/" in file else ""


def _sequences(
    source: sources.Source, frames: Mapping[str, names.Frame]
) -> tuple[_Labeled, list[crops.Drop]]:
    pairs = [(frame.id, file) for file, frame in frames.items() if not names.is_small(file)]
    first, drops = copies.first_by_id(source, pairs)
    sequences: dict[tuple[str, str], list[names.Frame]] = collections.defaultdict(list)
    for file in first.values():
        sequences[frames[file].key].append(frames[file])
    emotions = _emotions(source)
    _check_images(source, emotions, sequences)
    labeled: _Labeled = []
    for key, emotion in sorted(emotions.items()):
        neutral, peaks = names.peak_frames(sequences[key])
        if neutral is not None:
            labeled.append((neutral, first[neutral.id], labels.NEUTRAL))
        labeled += [(frame, first[frame.id], emotion) for frame in peaks]
    return labeled, drops


def _check_images(
    source: sources.Source,
    emotions: Mapping[tuple[str, str], str],
    sequences: Mapping[tuple[str, str], Sequence[names.Frame]],
) -> None:
    missing = ["/".join(key) for key in emotions if key not in sequences]
    if missing:
        raise errors.UserError(
            f"expected images of every sequence with an emotion label in {source.path}, found "
            f"none of {manual.some(sorted(missing))}. The copy is incomplete: get it again."
        )


def _emotions(source: sources.Source) -> dict[tuple[str, str], str]:
    """The emotion of each labeled sequence, which is never neutral."""
    emotions: dict[tuple[str, str], str] = {}
    for file in source.sizes():
        key = names.parse_emotion_file(file)
        if key is None or re.search(r"(^|/)(__MACOSX/|\._)", file):
            continue
        try:
            text = source.read(file).decode("ascii", "replace")
        except sources.MemberError as error:
            raise _wrong_emotion(source, file, str(error)) from error
        emotion = names.parse_code(text)
        if emotion not in SEVEN or emotions.setdefault(key, emotion) != emotion:
            raise _wrong_emotion(source, file, text.strip()[:40])
    return emotions


def _wrong_emotion(source: sources.Source, file: str, found: str) -> errors.UserError:
    return errors.UserError(
        f"expected one number from 1 to 7 in {file} in {source.path}, such as 3.0000000e+00, and "
        f"one file for each sequence, found {found!r}. Get the emotion labels again."
    )


def _strata(labeled: _Labeled) -> dict[str, str]:
    """Person to their rarest emotion, so that every split gets the rare ones.

    Only 18 of 118 people show contempt; an unstratified split may have none. Strata of
    fewer than three people, too few for three splits, are merged.
    """
    people: dict[str, set[str]] = collections.defaultdict(set)
    for frame, _, label in labeled:
        if label != labels.NEUTRAL:
            people[label].add(frame.subject)
    strata: dict[str, str] = {}
    for label in sorted(people, key=lambda label: (len(people[label]), label)):
        unassigned = people[label] - set(strata)
        if len(unassigned) >= 3:
            strata |= dict.fromkeys(sorted(unassigned), label)
    rest = set().union(*people.values()) - set(strata)
    common = max(set(strata.values()) or {""}, key=lambda label: len(people.get(label, ())))
    return strata | dict.fromkeys(sorted(rest), "other" if len(rest) >= 3 else common)
