"""Each way in which a network can have seen its test images or people is found and shown.

Runs are started, not trained: what counts is which records they learn from.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax import run_dir
from fer_jax.data.provenance import Provenance
from fer_jax.errors import UserError
from fer_jax.experiments import comparison, comparison_tables, crossval, evaluate
from fer_jax.experiments.evaluate import OWN_DATA, OtherData
from fer_jax.experiments.overlap import count_overlap
from fer_jax.faces.decode import decode
from fer_jax.models import registry
from fer_jax.training import train
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.session import Session, make_session
from tests.tiny_network import Tiny
from tfds_builders.encode import encode_jpeg
from tfds_builders.synthetic_faces import fixture

CLASSES = ("happiness", "surprise", "anger")
CHANGES = {
    "mirrored": lambda face: np.ascontiguousarray(face[:, ::-1]),
    "cropped": lambda face: face[3:-3, 3:-3],
    "recompressed": lambda face: cv2.resize(face, (80, 80)),
}


def write_folder(
    root: Path,
    people: range,
    *,
    has_subjects: bool = True,
    change: Callable[[np.ndarray], np.ndarray] = lambda face: face,
    split: Callable[[int], str] = lambda _: "",
) -> Path:
    """Writes one face per person and class; `split` gives the split folder of a face's number."""
    rows = []
    for number, record in enumerate(fixture.read("test")):
        person, label = number // 7, record.truth["expression"]
        if person in people and label in CLASSES:
            name = Path(split(number // 7 + CLASSES.index(label))) / label / f"{person}.jpg"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(encode_jpeg(change(decode(record.jpeg)), 60))
            rows.append((str(name), record.truth["subject"]))
    if has_subjects:
        with open(root / "subjects.csv", "w", newline="") as file:
            csv.writer(file).writerows([("file", "subject"), *rows])
    return root


class Runs:
    """Folders of faces and the runs on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_folder(root / "faces", range(9))
        write_folder(root / "others", range(20, 29))
        write_folder(root / "nobody", range(60, 69), has_subjects=False)
        write_folder(root / "copies", range(9), has_subjects=False)
        for name, change in CHANGES.items():
            write_folder(root / name, range(9), has_subjects=False, change=change)
        # Each person has a face in every split, each face of another expression.
        names = ("train", "val", "test")
        write_folder(root / "mixed", range(9), split=lambda face: names[face % 3])
        self.start("own", "faces")
        self.start("mixed_run", "mixed", protocol="folders")
        self.start("child", "others", pretrained="own")
        self.start("nobody_run", "nobody")
        shutil.copytree(root / "own", root / "old")
        (root / "old" / "learned.npz").unlink()
        self.start("child_of_old", "others", pretrained="old")

    def settings(self, faces: str, pretrained: str = "none", protocol: str = "fold1of3"):
        initial = pretrained if pretrained == "none" else self.root / pretrained
        return configuration.load_settings("image_folder", [
            "model.name=tiny", "model.dropout=none", f"data.dir={self.root / 'tfds'}",
            "data.size=8", f"data.manual_dir={self.root / faces}", f"data.protocol={protocol}",
            "eval.samples=0", "eval.explain=false", "train.batch_size=8", "eval.batch_size=8",
            f"model.pretrained={initial}",
        ])  # fmt: skip

    def start(self, name: str, faces: str, **settings: str) -> None:
        self.save(make_session(self.settings(faces, **settings), self.root / name))

    def save(self, session: Session) -> None:
        """Saves the initial weights as if they were trained."""
        with Checkpoints(session.run.checkpoints) as checkpoints:
            loop_state = {"stopping": {"best_step": 0}, "stage": 0, "seconds": 0.0}
            checkpoints.save(train._initial_state(session), loop_state)
            checkpoints.wait()

    def other(self, faces: str, protocol: str | None) -> OtherData:
        if faces == "own":
            return OtherData(protocol=protocol) if protocol else OWN_DATA
        return OtherData(name="image_folder", protocol=protocol, manual_dir=str(self.root / faces))


def of_overlap(marks: Iterable[str]) -> tuple[str, ...]:
    """The marks but those of networks that have learned nothing, as these are."""
    return tuple(mark for mark in marks if mark not in ("", "COLLAPSE", "CHANCE"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", registry.Network(Tiny, 4))
        yield Runs(tmp_path_factory.mktemp("leaks"))


@pytest.mark.parametrize(
    ("run", "faces", "protocol", "split", "marks"),
    [
        pytest.param("own", "own", None, "test", (), id="clean fold"),
        pytest.param("own", "own", None, "train", ("LEAK",), id="same ids"),
        pytest.param("own", "own", None, "all", ("LEAK",), id="all records"),
        pytest.param("own", "others", "fold1of3", "all", (), id="all of others"),
        pytest.param("mixed_run", "own", None, "test", ("LEAK",), id="same people alone"),
        pytest.param(
            "own",
            "own",
            "fold2of3",
            "test",
            ("LEAK",),
            id="another protocol",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "own", "others", "fold1of3", "test", (), id="other people", marks=pytest.mark.slow
        ),
        pytest.param("own", "mirrored", None, "train", ("NEAR-DUPLICATES",), id="mirrored"),
        pytest.param(
            "own",
            "cropped",
            None,
            "train",
            ("NEAR-DUPLICATES",),
            id="cropped",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "own",
            "recompressed",
            None,
            "train",
            ("NEAR-DUPLICATES",),
            id="recompressed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "child", "own", None, "test", (), id="child's clean fold", marks=pytest.mark.slow
        ),
        pytest.param(
            "child",
            "faces",
            "fold1of3",
            "test",
            (),
            id="the ancestor's clean fold",
            marks=pytest.mark.slow,
        ),
        pytest.param("child", "faces", "fold2of3", "test", ("LEAK",), id="through an ancestor"),
        pytest.param("nobody_run", "own", None, "test", ("PEOPLE UNKNOWN",), id="people unknown"),
        pytest.param(
            "old", "own", None, "test", ("UNCHECKED",), id="older run", marks=pytest.mark.slow
        ),
        pytest.param(
            "child_of_old",
            "own",
            None,
            "test",
            ("UNCHECKED",),
            id="child of older run",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_leak_is_found_and_shown(runs, tmp_path, run, faces, protocol, split, marks):
    shutil.copytree(runs.root / run, tmp_path / run)  # a run may be moved
    opened = run_dir.open_run(tmp_path / run)
    paths = evaluate.evaluate(opened, split, runs.other(faces, protocol))
    report = json.loads(paths.json.read_text())
    expected = [line for line in report["warnings"] if line.split(":")[0] in marks]
    assert of_overlap(line.split(":")[0] for line in report["warnings"]) == marks
    overlap = report["card"]["overlap"]
    assert overlap["images"] == report["count"]
    assert (report["count"] == 27) == (split == "all")  # nine people, three expressions
    assert bool(overlap["subjects"]) == ("LEAK" in marks)
    assert bool(overlap["ids"]) == ("LEAK" in marks and run != "mixed_run")
    # These networks have learned nothing; Tiny has no hidden dense layers that could be dead.
    assert report["card"]["dead_units"] is None
    assert bool(overlap["anonymous"]) == ("PEOPLE UNKNOWN" in marks)
    assert bool(overlap["unknown"]) == ("UNCHECKED" in marks)
    if "NEAR-DUPLICATES" in marks:
        assert overlap["copies"] >= 0.5 * report["count"]  # those of the test fold are unseen
    elif not marks:
        assert overlap["copies"] == overlap["relabeled"] == 0

    text, page, markdown = (
        " ".join(path.read_text().replace("#", "").split())
        for path in (paths.text, paths.page, paths.markdown)
    )
    for line in expected:
        assert line in text
        assert line in page
        assert line in markdown
    assert "learned from" in text
    reports, _ = comparison.read_runs([opened.folder])
    assert [of_overlap(one.marks) for one in reports] == [marks]
    row = comparison.table_1(reports)[-1]
    assert of_overlap(comparison_tables.paper_table([row]).rows[-1][-1].split(", ")) == marks


@pytest.mark.parametrize(
    ("faces", "found"), [("own", "ids"), ("copies", "copies"), ("mirrored", None)]
)
def test_digests_find_ids_and_exact_copies(runs, faces, found):
    """A run that is passed on holds no pixels of what it learned from."""
    run = run_dir.open_run(runs.root / "own")
    whole = run_dir.read_learned(run)
    learned = Provenance.from_bytes(whole.without_pixels().to_bytes())
    assert not learned.looks.any()
    joined = learned.joined(whole, "")
    assert joined.has_pixels.sum() == len(whole) == len(joined) / 2
    data = evaluate.open_data(run, runs.other(faces, None))
    overlap = count_overlap(learned, data, data.splits["train"], "own")
    assert bool(overlap.ids) == (found == "ids")
    assert bool(overlap.copies) == (found == "copies")
    assert overlap.digests == len(whole)
    assert count_overlap(joined, data, data.splits["train"], "own").copies >= overlap.copies


def test_the_summary_prefers_the_evaluation_that_does_not_leak(runs, tmp_path):
    shutil.copytree(runs.root / "own", tmp_path / "own")
    run = run_dir.open_run(tmp_path / "own")
    for protocol, split in (("fold2of3", "test"), (None, "test"), (None, "train")):
        evaluate.evaluate(run, split, runs.other("own", protocol))
    reports, _ = comparison.read_runs([run.folder])
    assert len(reports) == 3
    row = comparison.table_1(reports)[-1]
    (best,) = row.runs
    assert (best.protocol, best.split, of_overlap(best.marks)) == ("fold1of3", "test", ())


def test_a_cross_validation_refuses_an_ancestor_that_saw_its_people(runs, tmp_path):
    with pytest.raises(UserError, match=r"learned from \d+ of the 27 images and from 6 people"):
        crossval.crossval(runs.settings("faces", "own"), tmp_path, folds=3, seeds=(0,))
    (fold, *_) = crossval.plan(runs.settings("faces", "nobody_run"), tmp_path, 3, (0,))
    crossval._check_ancestors(fold)


def test_a_resumed_run_still_knows_its_ancestor(runs, tmp_path):
    shutil.copytree(runs.root / "child", tmp_path / "child")
    before = run_dir.open_run(tmp_path / "child")
    session = make_session(runs.settings("others", "own"), tmp_path / "child")
    assert session.run.learned == before.learned
    assert len(run_dir.read_learned(session.run)) == 2 * 18
    (tmp_path / "child" / "learned.npz").write_bytes(b"damaged")
    assert run_dir.read_learned(before) is None
