"""Labels under suspicion: predictions on images that the network did not learn from, and the files.

    suspects.csv        the suspects, the most suspicious first
    class_errors.csv    images of each given class by their estimated true class
    relabel.csv         a row for each suspect, for decisions: config.data.relabel
    index.html          the suspects' images, to decide by click

Of a cross-validation with folds each image is judged by the networks of its test fold: all images
of the set. Of a single run, its validation and test images are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fer_jax import files
from fer_jax import run_dir as run_directory
from fer_jax.data.provenance import Provenance
from fer_jax.data.records import Records, decode_all, open_split
from fer_jax.errors import UserError
from fer_jax.experiments.comparison import CROSSVAL
from fer_jax.experiments.crossval import PooledImages
from fer_jax.experiments.evaluate import check_labels, data_card, open_data, predict_records
from fer_jax.experiments.label_errors import LabelErrors, find_label_errors
from fer_jax.experiments.overlap import count_overlap
from fer_jax.printable import csv_table
from fer_jax.report import predictions as saved
from fer_jax.report.gallery import Suspect, write_gallery
from fer_jax.report.page import Images
from fer_jax.report.predictions import Predictions
from fer_jax.run_dir import Run
from tfds_builders import relabel
from tfds_builders.prepared import Prepared

_SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions on images that no network of them learned from.

    Attributes:
      name: of the run or cross-validation.
      predictions: of N images.
      parts: split or fold of each image.
      images: uint8[N, S, S, 3].
      origin: one sentence that says who predicted what.
      warnings: of the data, and of what the networks learned from.
      relabel: table of decisions that the labels already follow; None for the set's own labels.
      folder: where the files go by default.
    """

    name: str
    predictions: Predictions
    parts: tuple[str, ...]
    images: Images
    origin: str
    warnings: tuple[str, ...]
    relabel: str | None
    folder: Path

    def find_errors(self) -> LabelErrors:
        """Estimates which labels are wrong."""
        return find_label_errors(self.predictions.labels, self.predictions.probabilities)


def collect(folder: Path) -> HeldOut:
    """Returns the out-of-sample predictions of a cross-validation or of a run.

    Raises:
      UserError: neither is in the folder, it is unfinished, or its data cannot be used.
    """
    if (folder / CROSSVAL).is_file():
        return collect_folds(folder)
    return collect_run(run_directory.open_run(folder))


def collect_folds(folder: Path) -> HeldOut:
    """Returns the stored predictions of all folds; the mean over the seeds.

    Raises:
      UserError: no folds, an unfinished one, or predictions of other data.
    """
    stored = json.loads((folder / CROSSVAL).read_text(encoding="utf-8"))
    if not stored["folds"]:
        raise UserError(
            f"expected a cross-validation with folds in {folder}, found one of the config's own "
            f"protocol; name one of its runs, such as {folder / 'seed_0'}"
        )
    found, splits, parts = [], [], []
    for fold in range(1, stored["folds"] + 1):
        places = [folder / f"fold_{fold}" / f"seed_{seed}" for seed in stored["seeds"]]
        missing = [one for one in places if not (one / "report" / "predictions.csv").exists()]
        if missing:
            raise UserError(
                f"expected a finished cross-validation in {folder}, found no report in "
                f"{missing[0]}; run the same fer-jax crossval command again"
            )
        run = run_directory.open_run(places[0])
        split = open_split(open_data(run), "test", run.preprocessing)
        of_seeds = [saved.load(one / "report" / "predictions.csv") for one in places]
        for one, place in zip(of_seeds, places, strict=True):
            if one.ids != split.ids or (one.labels != split.labels).any():
                raise UserError(
                    f"expected predictions for the data as it is now in {place}, found others; "
                    f"run: fer-jax evaluate {place}"
                )
        mean = np.mean([one.probabilities for one in of_seeds], axis=0)
        found.append(dataclasses.replace(of_seeds[0], probabilities=mean))
        splits.append(split)
        parts += [f"fold {fold}"] * len(split)
    seeds = f", mean of {len(stored['seeds'])} seeds" if len(stored["seeds"]) > 1 else ""
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    return HeldOut(
        name=folder.absolute().name,
        predictions=saved.join(found),
        parts=tuple(parts),
        images=PooledImages(splits),
        origin=f"all folds, each predicted by a network that learned from others "
        f"({stored['folds']} folds{seeds})",
        warnings=tuple(report["warnings"]),
        relabel=run.settings.data.relabel,
        folder=folder / "labels",
    )


def collect_run(run: Run) -> HeldOut:
    """Predicts the validation and test images of a run with its best checkpoint.

    Raises:
      UserError: no checkpoint, or data that cannot be used.
    """
    data = open_data(run)
    splits = [open_split(data, split, run.preprocessing) for split in _SPLITS]
    check_labels(run, splits[0].label_names)
    decoded = [decode_all(split) for split in splits]
    records = Records(
        images=np.concatenate([one.images for one in decoded]),
        labels=np.concatenate([one.labels for one in decoded]),
        ids=tuple(name for one in decoded for name in one.ids),
        groups=tuple(group for one in decoded for group in one.groups),
        label_names=run.labels,
        digest="",
    )
    _, probabilities = predict_records(run, records)
    card = data_card(run.name, data, " and ".join(_SPLITS))
    overlap = count_overlap(
        _learned_in_training(run, data),
        data,
        np.concatenate([data.splits[split] for split in _SPLITS]),
        run.name,
    )
    return HeldOut(
        name=run.name,
        predictions=Predictions(
            records.ids, records.labels, probabilities, records.groups, run.labels
        ),
        parts=tuple(
            name for name, one in zip(_SPLITS, decoded, strict=True) for _ in range(len(one))
        ),
        images=records.images,
        origin="validation, which chose the run's epoch, and test; it was fitted to neither",
        warnings=dataclasses.replace(card, overlap=overlap).warnings,
        relabel=run.settings.data.relabel,
        folder=run.output / "labels",
    )


def write(found: HeldOut, errors: LabelErrors, out: Path, shown: int) -> list[Path]:
    """Writes the files; decisions of an earlier relabel.csv are kept.

    Args:
      found: the predictions.
      errors: their estimated label errors.
      out: the folder.
      shown: how many images the gallery has.
    """
    predictions = found.predictions
    decisions = _decisions(found, out)
    rows = list(_suspects(found, errors, decisions))
    others = [
        (name, one.given, "", one.decision)
        for name, one in decisions.items()
        if one.decision and name not in {row.id for row in rows}
    ]
    table = [("id", "given", "suggested", "decision")]
    table += [(one.id, one.own, one.suggested, one.decision) for one in rows]
    ranked: list[tuple[object, ...]] = [(
        "rank", "id", "group", "part", "given", "suggested", "probability_given",
        "probability_suggested", "margin",
    )]  # fmt: skip
    for rank, (one, row) in enumerate(zip(rows, errors.ranked, strict=True), start=1):
        numbers = [round(float(value), 6) for value in (*one.probabilities, errors.margin[row])]
        group = predictions.groups[row]
        ranked.append((rank, one.id, group, one.part, one.given, one.suggested, *numbers))
    return [
        files.write_text(out / "suspects.csv", csv_table(ranked)),
        files.write_text(out / "class_errors.csv", csv_table(_class_rows(predictions, errors))),
        files.write_text(out / relabel.FILE, csv_table([*table, *others])),
        write_gallery(
            out / "index.html", f"Labels under suspicion: {found.name}", found.origin,
            found.warnings, predictions.label_names, errors.joint, len(predictions), rows,
            [found.images[int(row)] for row in errors.ranked[:shown]], others,
        ),
    ]  # fmt: skip


def summary(found: HeldOut, errors: LabelErrors) -> str:
    """Says how many labels of each class are probably wrong, as a table for the terminal."""
    names, total = found.predictions.label_names, len(found.predictions)
    count, width = int(errors.is_suspect.sum()), max(map(len, ("class", *names)))
    lines = [
        f"{total:,} images: {found.origin}",
        f"{count:,} labels are under suspicion ({count / total:.1%})",
        "",
        f"{'class':<{width}}{'images':>9}  {'estimated wrong':>16}  most often",
    ]
    for number, name in enumerate(names):
        row = errors.joint[number]
        others = [other for other in np.argsort(-row, kind="stable") if other != number][:2]
        often = ", ".join(f"{names[other]} {row[other]:,.0f}" for other in others)
        wrong = f"{errors.wrong[number]:,.0f} ({errors.wrong[number] / max(row.sum(), 1):.1%})"
        lines.append(f"{name:<{width}}{row.sum():>9,.0f}  {wrong:>16}  {often}")
    return "\n".join(lines)


def _suspects(
    found: HeldOut, errors: LabelErrors, decisions: dict[str, relabel.Decision]
) -> Iterator[Suspect]:
    predictions = found.predictions
    names = predictions.label_names
    for row in errors.ranked:
        label, suggested = int(predictions.labels[row]), int(errors.suggested[row])
        earlier = decisions.get(predictions.ids[row])
        yield Suspect(
            id=predictions.ids[row],
            part=found.parts[row],
            given=names[label],
            own=earlier.given if earlier else names[label],
            suggested=names[suggested],
            probabilities=(
                float(predictions.probabilities[row, label]),
                float(predictions.probabilities[row, suggested]),
            ),
            decision=earlier.decision if earlier else "",
        )


def _decisions(found: HeldOut, out: Path) -> dict[str, relabel.Decision]:
    """Decisions that the labels follow, then those that were made since, in the output folder."""
    paths = [Path(found.relabel).expanduser()] if found.relabel else []
    if (out / relabel.FILE).exists():
        paths.append(out / relabel.FILE)
    return {name: one for path in paths for name, one in relabel.read(path).items()}


def _learned_in_training(run: Run, data: Prepared) -> Provenance | None:
    """What the run learned from, without its own validation images, which it did not fit.

    An image of validation that an earlier run learned from is stored twice, and stays.
    """
    learned = run_directory.read_learned(run)
    if learned is None:
        return None
    own = {data.entries[row].id for row in data.splits["validation"]}
    keep = []
    for row, (origin, name) in enumerate(zip(learned.sets, learned.ids, strict=True)):
        if origin == data.origin and name in own:
            own.remove(name)
        else:
            keep.append(row)
    texts = {
        field: tuple(getattr(learned, field)[row] for row in keep)
        for field in ("sets", "ids", "subjects", "labels")
    }
    return dataclasses.replace(
        learned, looks=learned.looks[keep], digests=learned.digests[keep], **texts
    )


def _class_rows(predictions: Predictions, errors: LabelErrors) -> list[tuple[object, ...]]:
    names = predictions.label_names
    rows: list[tuple[object, ...]] = [
        ("given", "images", "wrong", "share_wrong", *(f"true_{name}" for name in names))
    ]
    for number, name in enumerate(names):
        count, wrong = errors.joint[number].sum(), errors.wrong[number]
        cells = [round(count), round(float(wrong), 1), round(float(wrong / max(count, 1)), 4)]
        rows.append((name, *cells, *(round(float(cell), 1) for cell in errors.joint[number])))
    return rows
