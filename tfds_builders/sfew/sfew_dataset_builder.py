"""TFDS builder of SFEW 2.0: aligned faces from movie frames, seven emotions.

891 faces in Train and 431 in Val (Dhall et al., EmotiW 2015). The labels of Test are
withheld, so published results are on Val.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fer_jax import errors, labels
from fer_jax.faces.crop import FaceCrop
from tfds_builders import copies, crops, manual, protocols, sources
from tfds_builders.sfew import names

_ARCHIVES = r"(.*sfew.*|.*aligned_faces.*|train|val|test)\.zip"
_UNLABELED = "test faces, whose labels are withheld"
_WHOLE = (0, 0, 10**6, 10**6)  # clipped to the image, which is a face crop

HOW_TO_GET = copies.how_to_get(
    "sfew",
    """\
To get SFEW 2.0: request it at https://cs.anu.edu.au/few (researchers only). You receive
Train_Aligned_Faces.zip, Val_Aligned_Faces_new.zip and Test_Aligned_Faces.zip. Put them,
packed or unpacked, into a folder and run:""",
)


def split_as_paper(rows: Sequence[protocols.Row], seed: int) -> dict[str, str]:
    """Splits Train only, with a random fifth as the test split: 179 of 891."""
    train = [row for row in rows if row.split == protocols.TRAIN]
    whole = sum(names.COUNTS[protocols.TRAIN].values())
    return protocols.random_fifth(train, seed, whole=whole)


class Builder(manual.ManualBuilder):
    """SFEW 2.0, tested on Val (`official`, the default) or split as in the paper (`paper`).

    The shipped crops of 143 x 181 pixels are padded to squares by repeating their edges.
    Resizing them to squares would stretch the faces, and a center crop would lose a fifth
    of the height, with brows or mouth.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[manual.Variant]] = [
        manual.Variant(
            name="aligned",
            description="The shipped face crops, padded to squares of 181 x 181.",
            crop=FaceCrop(method="shipped", margin=0.0),
        )
    ]
    LABEL_NAMES: ClassVar[tuple[str, ...]] = labels.SFEW
    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]] = {
        "official": protocols.Protocol(
            name="official",
            description="Test: Val, as in published results. Validation: a tenth of the movies of "
            "Train.",
            label_names=labels.SFEW,
            assign=functools.partial(protocols.official, test=protocols.VALIDATION),
        ),
        "paper": protocols.Protocol(
            name="paper",
            description="Test: a random fifth of Train (179). Validation: 10 % of the rest. Val is "
            "not used.",
            label_names=labels.SFEW,
            assign=split_as_paper,
            note="the paper's split of Train was random: the same movies, people and scenes are "
            "in train and test, and the official Val is not used",
        ),
    }
    GROUP: ClassVar[str] = "movie"
    EXPECTED: ClassVar[Mapping[str, int]] = {
        split: sum(counts.values()) for split, counts in names.COUNTS.items()
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def open_source(self, manual_dir: Path) -> sources.Source:
        """Opens SFEW's zips or folders in or below `manual_dir`, which may be a zip itself."""
        return copies.open_copy(manual_dir, _ARCHIVES, _lacks, HOW_TO_GET, in_parts=True)

    def index(self, source: sources.Source) -> tuple[list[manual.Record], list[crops.Drop]]:
        """See `ManualBuilder`. The faces of Test, which have no labels, are drops."""
        locations = _locations(source)
        labeled = {file: at for file, at in locations.items() if at.split != protocols.TEST}
        emotions = _emotions(labeled, source)
        _check_not_frames(labeled, source)
        pairs = [(_id(at, emotions[file]), file) for file, at in labeled.items()]
        first, drops = copies.first_by_id(source, pairs)
        records = [
            manual.Record(
                id=image_id,
                file=file,
                label=emotions[file],
                subject=names.movie(labeled[file].stem) or labeled[file].stem,
                split=labeled[file].split,
                face_box=_WHOLE,
            )
            for image_id, file in first.items()
        ]
        copies.check_classes(records, labels.SFEW, source)
        tests = [
            crops.Drop(f"test_{at.stem}", file, _UNLABELED, "")
            for file, at in locations.items()
            if at.split == protocols.TEST
        ]
        return records, drops + tests

    def metadata_of(self, source: sources.Source, records: Sequence[Any]) -> dict[str, Any]:
        """The images whose names contain no movie."""
        del source
        unnamed = [one.id for one in records if not names.movie(Path(one.file).stem)]
        if not unnamed:
            return {}
        line = f"{len(unnamed)} names without a movie, each a group: {manual.some(unnamed)}"
        return {"without_movie": unnamed, "summary": [line]}


def _locations(source: sources.Source) -> dict[str, names.Location]:
    """File to location; movie frames are excluded if there are aligned faces."""
    files = sources.files_with_suffix(source, names.ENDINGS)
    locations = {file: at for file in files if (at := names.parse(file))}
    if any(at.is_aligned for at in locations.values()):
        return {file: at for file, at in locations.items() if at.is_aligned}
    return locations


def _lacks(source: sources.Source) -> str:
    splits = {at.split for at in _locations(source).values()}
    if not splits:
        return (
            "SFEW 2.0's Train_Aligned_Faces.zip and Val_Aligned_Faces_new.zip, or their folders "
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


def _emotions(locations: Mapping[str, names.Location], source: sources.Source) -> dict[str, str]:
    emotions = {file: labels.named(at.folder) for file, at in locations.items()}
    unknown = {
        locations[file].folder or f"no folder ({file})"
        for file, emotion in emotions.items()
        if emotion not in labels.SFEW
    }
    if unknown:
        raise errors.UserError(
            f"expected Train and Val of {source.path} to have the folders "
            f"{', '.join(names.FOLDERS)}, found also {manual.some(sorted(unknown))}. Move other "
            "images out of these folders."
        )
    return {file: emotion for file, emotion in emotions.items() if emotion}


def _check_not_frames(locations: Mapping[str, names.Location], source: sources.Source) -> None:
    """Raises a `UserError` for a complete copy of the movie frames instead of the faces.

    Only the number of images distinguishes the two.
    """
    if any(at.is_aligned for at in locations.values()):
        return
    for split, of_class in names.COUNTS.items():
        number = sum(at.split == split for at in locations.values())
        if number == names.FRAMES[split]:
            raise errors.UserError(
                f"expected SFEW's aligned faces in {source.path} "
                f"({sum(of_class.values())} in {split}), found {number}, the number of its movie "
                "frames. Use Train_Aligned_Faces.zip and Val_Aligned_Faces_new.zip."
            )


def _id(location: names.Location, emotion: str) -> str:
    """Includes the class, because several faces of one frame may have the same name."""
    return f"{location.split}_{emotion}_{location.stem}"
