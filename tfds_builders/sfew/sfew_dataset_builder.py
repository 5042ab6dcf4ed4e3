"""SFEW 2.0: seven emotions in movies, aligned faces, and its two protocols.

891 faces to train on and 431 to validate; the labels of its test are withheld, so the field
reports on Val (Dhall et al., EmotiW 2015). What is common to all sets that the user brings
is in tfds_builders/manual.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces import detect as faces
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.sfew import names

_ARCHIVES = r"(.*sfew.*|.*aligned_faces.*|train|val|test)\.zip"
_UNLABELLED = "test faces, whose labels are withheld"
_WHOLE = (0, 0, 10**6, 10**6)  # the box is clipped to the picture: all of it is the face

HOW_TO_GET = copies.how_to_get(
    "sfew",
    """\
To get SFEW 2.0: ask for it at https://cs.anu.edu.au/few (researchers only); you are sent
Train_Aligned_Faces.zip, Val_Aligned_Faces_new.zip and Test_Aligned_Faces.zip. Put them,
packed or unpacked, into a folder and name that:""",
)


def split_as_paper(rows: Sequence[protocols.Row], seed: int) -> dict[str, str]:
    """A random fifth of Train is tested on: 179 of 891."""
    train = [row for row in rows if row.split == protocols.TRAIN]
    whole = sum(names.COUNTS[protocols.TRAIN].values())
    return protocols.random_fifth(train, seed, whole=whole)


class Builder(manual.ManualBuilder):
    """SFEW tested on its Val (`official`, the default) or as in the paper (`paper`).

    The shipped crops are 143 x 181. They are padded to squares by repeating their edge, so
    that no network sees stretched faces; a square cut from the middle would lose a fifth of
    the height, and with it the mouth or the brows, which say most.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="aligned",
            description="The crops that the set ships, padded to squares, 181 x 181.",
            crop=faces.FaceCrop(method="shipped", margin=0.0),
        )
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = labels.SFEW
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "official": protocols.Protocol(
            name="official",
            description="Tested on Val, as the field does; validation is a tenth of the movies "
            "of Train.",
            label_names=labels.SFEW,
            assign=functools.partial(protocols.official, test=protocols.VALIDATION),
        ),
        "paper": protocols.Protocol(
            name="paper",
            description="A random fifth of Train is the test (179), 10 % of the rest validation; "
            "Val is not used.",
            label_names=labels.SFEW,
            assign=split_as_paper,
            note="the paper's split of Train was random: the same movies, people and scenes are "
            "in train and test, and the set's own Val is not used",
        ),
    }
    GROUP: ClassVar[str] = "movie"
    EXPECTED: ClassVar[Mapping[str, int]] = {
        split: sum(counts.values()) for split, counts in names.COUNTS.items()
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def open_source(self, manual_dir: Path) -> sources.Source:
        """SFEW's zips or trees in or below `manual_dir`, which may be a zip of all itself."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET, in_parts=True)

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`; Test, which has no labels, is among the drops."""
        places = _places(source)
        labelled = {file: one for file, one in places.items() if one.split != protocols.TEST}
        emotions = _emotions(labelled, source)
        _refuse_frames(labelled, source)
        first, drops = manual.drop_copies(
            source, list(labelled), lambda file: _id(places[file], emotions[file])
        )
        records = [
            manual.Record(
                id=one,
                file=file,
                label=emotions[file],
                subject=names.movie(places[file].stem) or places[file].stem,
                split=places[file].split,
                face_box=_WHOLE,
            )
            for one, file in sorted(first.items())
        ]
        copies.check_classes(records, labels.SFEW, source)
        return records, drops + _tests(places)

    def metadata_of(self, source: sources.Source, records: Sequence[Any]) -> dict[str, Any]:
        """Pictures whose names do not say from which movie they are."""
        del source
        nameless = [one.id for one in records if one.file and not names.movie(_stem(one.file))]
        if not nameless:
            return {}
        line = f"{len(nameless)} names without a movie, each a group: {manual.some(nameless)}"
        return {"without_movie": nameless, "summary": [line]}


def _places(source: sources.Source) -> dict[str, names.Place]:
    """Where each picture lies; frames are left out where there are aligned faces."""
    pictures = sources.pictures_in(source, names.ENDINGS)
    found = {file: one for file in pictures if (one := names.place(file))}
    if any(one.is_aligned for one in found.values()):
        return {file: one for file, one in found.items() if one.is_aligned}
    return found


def _lacks(source: sources.Source) -> str:
    splits = {one.split for one in _places(source).values()}
    if not splits:
        return (
            "SFEW 2.0's Train_Aligned_Faces.zip and Val_Aligned_Faces_new.zip, or their trees "
            "(Train/Train_Aligned_Faces/Angry/..., Train/Angry/...)"
        )
    return " and ".join(
        f"{archive} or its unpacked folder"
        for split, archive in (
            (protocols.TRAIN, "Train_Aligned_Faces.zip"),
            (protocols.VALIDATION, "Val_Aligned_Faces_new.zip"),
        )
        if split not in splits
    )


def _emotions(places: Mapping[str, names.Place], source: sources.Source) -> dict[str, str]:
    emotions = {file: labels.named(one.folder) for file, one in places.items()}
    unknown = {
        places[file].folder or f"no folder ({file})"
        for file, emotion in emotions.items()
        if emotion not in labels.SFEW
    }
    if unknown:
        raise errors.UserError(
            f"expected Train and Val of {source.path} to have the folders "
            f"{', '.join(names.FOLDERS)}, found also {manual.some(sorted(unknown))}. Move what is "
            "not SFEW's out of the tree."
        )
    return {file: emotion for file, emotion in emotions.items() if emotion}


def _refuse_frames(places: Mapping[str, names.Place], source: sources.Source) -> None:
    """A whole copy of the frames looks like one of the faces, but for its numbers."""
    for split, of_class in names.COUNTS.items():
        number = sum(one.split == split for one in places.values())
        if number == names.FRAMES[split] and not any(one.is_aligned for one in places.values()):
            raise errors.UserError(
                f"expected SFEW's aligned faces in {source.path} "
                f"({sum(of_class.values())} in {split}), found {number}, as many as it has whole "
                "frames of movies. Use Train_Aligned_Faces.zip and Val_Aligned_Faces_new.zip."
            )


def _tests(places: Mapping[str, names.Place]) -> list[crops.Drop]:
    return [
        crops.Drop(f"test_{one.stem}", file, _UNLABELLED, "")
        for file, one in places.items()
        if one.split == protocols.TEST
    ]


def _id(place: names.Place, emotion: str) -> str:
    """Several faces of a frame have one name, so the class is part of it."""
    return f"{place.split}_{emotion}_{place.stem}"


def _stem(file: str) -> str:
    place = names.place(file)
    return place.stem if place else ""
