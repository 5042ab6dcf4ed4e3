"""A relabel.csv changes labels and drops images where a set is opened, and says what it did."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fer_jax import errors
from tests import commands
from tfds_builders import prepare as build
from tfds_builders import relabel, summary
from tfds_builders.index import Entry

NAMES = ("happiness", "anger", "fear")


def entry(name: str, label: str) -> Entry:
    return Entry(name, "train", label, "", "", "", b"", "")


ENTRIES = [entry("a", "anger"), entry("b", "fear"), entry("=c", "fear"), entry("d", "anger")]


def write(path: Path, *rows: str, header: str = "id,given,suggested,decision") -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


@pytest.mark.parametrize(
    ("row", "labels", "dropped"),
    [
        ("a,anger,fear,fear", ["fear", "fear", "fear", "anger"], set()),
        ("a,anger,fear,happy", ["happiness", "fear", "fear", "anger"], set()),  # another spelling
        ("a,anger,fear,", ["anger", "fear", "fear", "anger"], set()),
        ("a,anger,fear,keep", ["anger", "fear", "fear", "anger"], set()),
        ("b,fear,anger,drop", ["anger", "fear", "fear", "anger"], {"b"}),
        ("'=c,fear,anger,anger", ["anger", "fear", "anger", "anger"], set()),  # no formula
    ],
)
def test_a_decision_changes_the_label_or_drops_the_image(tmp_path, row, labels, dropped):
    found = relabel.apply(write(tmp_path / "relabel.csv", row), ENTRIES, NAMES)
    assert [one.label for one in found.entries] == labels
    assert found.dropped == dropped
    changed = sum(one.label != old.label for one, old in zip(found.entries, ENTRIES, strict=True))
    text = found.count([one.id for one in ENTRIES])
    if changed or dropped:
        digest = hashlib.sha256((tmp_path / "relabel.csv").read_bytes()).hexdigest()[:16]
        assert text.startswith(f"labels changed: {changed}, images left out: {len(dropped)} (")
        assert digest in text
    else:
        assert text == ""


def test_a_table_of_a_spreadsheet_program_is_read(tmp_path):
    path = write(tmp_path / "my table.csv", "drop;x;b;fear", header="Decision;note;ID;Given")
    assert relabel.apply(path, ENTRIES, NAMES).dropped == {"b"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,anger,fear,joyful"], "expected happiness, anger, fear, keep, drop or nothing"),
        (["a,fear,anger,anger"], "found 1 others: a (fear, in the set anger)"),
        (["x,fear,anger,anger"], "found others, such as x"),
        (["a,anger,fear,fear", "a,anger,fear,drop"], "found another one for a in line 3"),
    ],
)
def test_a_wrong_table_is_one_message(tmp_path, rows, message):
    with pytest.raises(errors.UserError) as caught:
        relabel.apply(write(tmp_path / "relabel.csv", *rows), ENTRIES, NAMES)
    assert message in str(caught.value)


def test_missing_columns_and_files_are_one_message(tmp_path):
    with pytest.raises(errors.UserError, match="expected the columns id, given, decision"):
        relabel.read(write(tmp_path / "relabel.csv", "a,fear", header="id,label"))
    with pytest.raises(errors.UserError, match=r"config\.data\.relabel, or --relabel"):
        relabel.read(tmp_path / "none.csv")


def test_a_prepared_set_is_opened_with_the_decisions(kdef_data, tmp_path, capfd):
    before = build.prepare("kdef", data_dir=str(kdef_data))
    train = [before.entries[row] for row in before.splits["train"]]
    tested = before.entries[before.splits["test"][0]]
    new = next(name for name in before.label_names if name != train[0].label)
    path = write(
        tmp_path / "relabel.csv", f"{train[0].id},{train[0].label},,{new}",
        f"{train[1].id},{train[1].label},,drop", f"{tested.id},{tested.label},,",
        "nobody,fear,,drop",
    )  # fmt: skip
    after = build.prepare("kdef", data_dir=str(kdef_data), relabel=str(path))
    assert "1 of 4 images are not in the set: nobody" in capfd.readouterr().err
    assert [after.entries[row].label for row in after.splits["train"]] == [
        new, *(one.label for one in train[2:]),
    ]  # fmt: skip
    assert after.labels("train")[0] == after.label_names.index(new)
    assert list(after.splits["test"]) == list(before.splits["test"])
    assert after.metadata["digest"] != before.metadata["digest"]
    assert list(after.metadata["relabeled"]) == ["train"]
    described = summary.describe(after)
    assert "train      labels changed: 1, images left out: 1 (relabel.csv" in described
    assert before.metadata["relabeled"] == {}
    assert build.prepare("kdef", data_dir=str(kdef_data)).metadata == before.metadata


def test_prepare_reads_the_table(kdef_data, tmp_path, capsys):
    path = write(tmp_path / "relabel.csv", "AF01AFS,anger,,drop")
    with pytest.raises(SystemExit):
        commands.run("prepare", "kdef", "--data_dir", kdef_data, "--relabel", path)
    assert "found 1 others: AF01AFS (anger, in the set fear)" in capsys.readouterr().err
