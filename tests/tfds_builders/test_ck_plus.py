"""CK+ from sequences and from CK+48: peaks, neutral frames, people, bad copies."""

from __future__ import annotations

import collections
import pathlib
import shutil

import numpy as np
import pytest

from fer_jax import labels
from fer_jax.faces.decode import decode
from tests.tfds_builders import damage
from tfds_builders import prepare as build
from tfds_builders.ck_plus import names
from tfds_builders.ck_plus.ck_plus_dataset_builder import SEVEN
from tfds_builders.stand_ins import ck_plus as stand_in

FRAMES = "cohn-kanade-images/S005/001/*.png"
SMALL = "CK+48/happy/*.png"
EMOTION = "Emotion/S005/001/*.txt"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return damage.write_stand_in(tmp_path_factory, "ck_plus", 0.001)


def _parts(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """The two archives that the owners send."""
    for folder, name in (
        ("cohn-kanade-images", "extended-cohn-kanade-images.zip"),
        ("Emotion", "Emotion_labels.zip"),
    ):
        part = out / "parts" / folder
        shutil.copytree(tree / folder, part / folder)
        damage.pack(part, out / name)
    shutil.rmtree(out / "parts")
    return out


def _labels_still_packed(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    shutil.copytree(tree / "cohn-kanade-images", out / "CK+" / "cohn-kanade-images")
    damage.pack(tree / "Emotion", out / "CK+" / "Emotion_labels.zip")
    return out


def _one_archive(tree: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    return damage.pack(tree, out / "my download.zip")


@pytest.mark.parametrize("layout", [_parts, _labels_still_packed, _one_archive])
def test_all_layouts_give_the_same_records(
    layout, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = damage.open_copy("ck_plus", tmp_path, tree).records
    found = damage.open_copy("ck_plus", tmp_path, layout(tree, tmp_path / "copy")).records
    assert [one.row for one in found] == [one.row for one in whole]


def test_sequence_gives_its_first_and_last_three_frames(
    tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    records = damage.open_copy("ck_plus", tmp_path, tree).records
    by_sequence = collections.defaultdict(list)
    for one in records:
        by_sequence[one.id[:8]].append(one)
    labeled = {"_".join(file.stem.split("_")[:2]) for file in tree.glob("Emotion/*/*/*.txt")}
    assert set(by_sequence) == labeled
    for sequence, some in by_sequence.items():
        subject, number = sequence.split("_")
        folder = tree / "cohn-kanade-images" / subject / number
        files = sorted(file.stem for file in folder.glob("*.png"))
        assert [one.id for one in some] == [files[0], *files[-3:]]
        (text,) = (tree / "Emotion" / subject / number).glob("*.txt")
        emotion = labels.CK_PLUS[int(float(text.read_text()))]
        assert [one.label for one in some] == [labels.NEUTRAL, *[emotion] * 3]
        assert {one.subject for one in some} == {subject}


@pytest.mark.parametrize(
    ("frames", "neutral", "peaks"),
    [([5], None, [5]), ([1, 2], 1, [2]), ([1, 2, 3, 4], 1, [2, 3, 4]), (range(9), 0, [6, 7, 8])],
)
def test_short_sequences(frames, neutral, peaks) -> None:
    first, last = names.peak_frames(names.Frame("S005", "001", number) for number in frames)
    assert (first.number if first else None) == neutral
    assert [frame.number for frame in last] == peaks


def test_prepare_without_and_with_neutral(
    tree: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = build.prepare("ck_plus", None, str(tmp_path), str(tree))
    assert "23 sequences, 21 with an emotion label" in capsys.readouterr().out
    assert prepared.label_names == SEVEN
    assert sum(map(len, prepared.splits.values())) == 21 * 3
    assert prepared.metadata["leaks"] == 0
    assert prepared.metadata["near_duplicates"] == 0
    assert prepared.metadata["similar_pairs"] > 20  # the frames of a sequence
    neutral = build.prepare("ck_plus", None, str(tmp_path), str(tree), protocol="neutral")
    assert neutral.label_names == labels.CK_PLUS
    assert sum(map(len, neutral.splits.values())) == 21 * 4
    fold = build.prepare("ck_plus", None, str(tmp_path), str(tree), protocol="fold1of3")
    assert fold.label_names == SEVEN
    assert fold.metadata["leaks"] == 0


def test_ck48_is_stored_losslessly(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    examples = damage.read("ck_plus", tmp_path, tree / "CK+48", "ck48")
    assert len(examples) == 21 * 3
    assert {example["label"] for example in examples} == set(SEVEN)
    for example in examples[::9]:
        (file,) = (tree / "CK+48").rglob(f"{example['id']}.png")
        assert labels.named(file.parent.name) == example["label"]
        np.testing.assert_array_equal(
            decode(example["image"].getvalue()), decode(file.read_bytes())
        )


def test_every_split_gets_rare_emotions(tmp_path: pathlib.Path) -> None:
    """At full scale, contempt has 18 of 327 sequences."""
    from tfds_builders import protocols
    from tfds_builders.ck_plus.ck_plus_dataset_builder import _strata

    labeled = [
        (names.Frame(one.subject, f"{one.number:03d}", frame), "", one.emotion)
        for one in stand_in.sequences(1.0)
        if one.labeled
        for frame in range(3)
    ]
    strata = _strata(labeled)
    rows = [
        protocols.Row(frame.id, label, frame.subject, "pictures", strata[frame.subject])
        for frame, _, label in labeled
    ]
    for seed in range(20):
        assigned = protocols.by_group(rows, seed)
        found = {(assigned[row.id], row.label) for row in rows}
        assert len(found) == 3 * len(SEVEN)


def test_full_scale_has_the_published_counts() -> None:
    every = stand_in.sequences(1.0)
    assert len(every) == 593
    assert len({one.subject for one in every}) == 123
    labeled = [one for one in every if one.labeled]
    assert len({one.subject for one in labeled}) == 118
    counts = collections.Counter(one.emotion for one in labeled)
    assert counts == {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69,
                      "sadness": 28, "surprise": 83}  # fmt: skip
    assert len({(one.subject, one.emotion) for one in labeled}) == 327


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *damage.common(FRAMES, "cohn-kanade-images/S005/001"),
        pytest.param(damage.removed("Emotion"), "expected Emotion/S005", id="no_labels"),
        pytest.param(damage.removed("cohn-kanade-images"), "expected cohn-kanade", id="no_images"),
        pytest.param(
            lambda root: root / "CK+48",
            "which is present: --config ck48",
            id="small",
        ),
        pytest.param(damage.removed(FRAMES), "found none of S005/001", id="missing_part"),
        pytest.param(damage.rewritten(EMOTION, lambda _: b"9.0"), "found '9.0'", id="unknown"),
        pytest.param(damage.rewritten(EMOTION, lambda _: b"joy"), "found 'joy'", id="no_number"),
        pytest.param(damage.rewritten(EMOTION, lambda _: b""), "found ''", id="empty_label"),
        pytest.param(
            damage.added("old/S005/001/S005_001_00000001.png", b"other"),
            "two that differ",
            id="differ",
        ),
    ],
)
def test_bad_copy_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("ck_plus", bad, message, tree, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(
            damage.removed("CK+48"),
            "are present: --config face",
            id="sequences",
        ),
        pytest.param(damage.renamed("CK+48/happy", "joyful"), "joyful", id="unknown_class"),
        pytest.param(damage.removed(SMALL), "found none of happiness", id="empty_class"),
        pytest.param(damage.truncated(SMALL), "truncated", id="truncated"),
        pytest.param(damage.no_image(SMALL), "not a JPEG", id="no_image"),
        pytest.param(damage.huge(SMALL), "60000 x 60000", id="huge"),
    ],
)
def test_bad_ck48_copy_is_a_user_error(bad, message, tree, tmp_path, monkeypatch) -> None:
    damage.check("ck_plus", bad, message, tree, tmp_path, monkeypatch, "ck48")
