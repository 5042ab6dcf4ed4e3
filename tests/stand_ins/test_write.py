"""KDEF's stand-in: its files at full scale by name, its framing, its mark, one real person."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from tests import commands
from tests.tfds_builders import small_kdef as small
from tfds_builders import pictures
from tfds_builders import prepare as build
from tfds_builders.kdef import names
from tfds_builders.stand_ins import kdef
from tfds_builders.stand_ins import write as stand_in


def test_the_full_scale_has_kdefs_people() -> None:
    people = kdef.people(1.0)
    assert sorted((one.gender, one.number) for one in people) == [
        (gender, number) for gender in "FM" for number in range(1, 36)
    ]
    assert len({one.index for one in people}) == 70
    assert kdef.count_images(1.0) == 4_900


def test_a_small_stand_in_has_enough_people_and_the_traps() -> None:
    people = kdef.people(0.05)
    assert [one.gender for one in people] == ["F"] * 3 + ["M"] * 3
    folders = {folder for one in people for folder in one.folders}
    assert {one[:4] for one in names.MISNAMED.values()} <= folders
    assert sum(one[:4] in folders for one in names.BLACK) >= 3
    smaller = {(one.gender, one.number, one.index) for one in people}
    assert smaller <= {(one.gender, one.number, one.index) for one in kdef.people(1.0)}


@pytest.mark.parametrize("view", names.VIEWS)
def test_the_face_lies_where_the_camera_sees_it(view: str) -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[80:120, 90:130] = 255
    framed = kdef.frame(image, (90, 80, 40, 40), view)
    assert framed.shape == (762, 562, 3)
    rows, columns = np.nonzero(framed[..., 0] > 127)
    x, y, width, height = names.VIEWS[view][1]
    np.testing.assert_allclose(columns.mean() / 562, x + width / 2, atol=0.01)
    np.testing.assert_allclose(rows.mean() / 762, y + height / 2, atol=0.01)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One rendered person: AM31 and BM31."""
    folder = tmp_path_factory.mktemp("stand_in")
    one = next(one for one in kdef.people(0.05) if (one.gender, one.number) == ("M", 31))
    assert kdef._write_person(one, folder) == 70
    return folder


def test_a_rendered_person_has_kdefs_files(person: pathlib.Path) -> None:
    files = sorted(path.relative_to(person).as_posix() for path in person.rglob("*.JPG"))
    assert len(files) == 70
    assert "AM31/AM31H.JPG" in files
    assert "AM31/AM31SUHR.JPG" not in files
    assert all(names.parse(names.picture_id(file)) for file in files)
    for file in files[:3]:
        data = (person / file).read_bytes()
        assert pictures.is_stand_in(data)
        assert pictures.decode_jpeg(data).shape == (762, 562, 3)


def test_what_is_built_from_a_stand_in_says_so(kdef_copy, tmp_path: pathlib.Path) -> None:
    for file in kdef_copy().rglob("*.JPG"):
        file.write_bytes(pictures.mark_stand_in(file.read_bytes()))
    deepest = tmp_path / "damaged" / "KDEF_and_AKDEF" / "KDEF"  # no marker file here
    prepared = build.prepare("kdef", None, str(tmp_path / "data"), str(deepest))
    assert prepared.metadata["stand_in"]
    assert prepared.metadata["synthetic"]


def test_a_run_is_resumed_and_packed(tmp_path: pathlib.Path, monkeypatch) -> None:
    written: list[str] = []

    def render(person: kdef.Person, folder: pathlib.Path) -> int:
        written.append(person.gender + str(person.number))
        for name in person.folders:
            (folder / name).mkdir()
            for expression in names.EXPRESSIONS:
                (folder / name / f"{name}{expression}S.JPG").write_bytes(small.draw(name))
        return 70

    monkeypatch.setattr(kdef, "_write_person", render)
    monkeypatch.setattr(kdef.concurrent.futures, "ProcessPoolExecutor", _InProcess)
    (tmp_path / "out" / "KDEF_and_AKDEF" / "KDEF").mkdir(parents=True)
    for name in ("AF31", "BF31"):
        (tmp_path / "out" / "KDEF_and_AKDEF" / "KDEF" / name).mkdir()
        for expression in names.EXPRESSIONS:
            file = tmp_path / "out" / "KDEF_and_AKDEF" / "KDEF" / name / f"{name}{expression}S.JPG"
            file.write_bytes(small.draw(name))
    stand_in._claim(tmp_path / "other", "kdef", 0.05)
    (tmp_path / "other" / stand_in.MARKER).rename(tmp_path / "out" / stand_in.MARKER)

    commands.run("stand-in", "kdef", tmp_path / "out", "--zip")
    assert sorted(written) == ["F1", "F11", "M22", "M25", "M31"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "KDEF_and_AKDEF.zip",
        stand_in.MARKER,
    ]
    commands.run("stand-in", "kdef", tmp_path / "out", "--zip")
    assert len(written) == 5
    source = build.get("kdef", None, str(tmp_path)).open_source(tmp_path / "out")
    assert len(source.sizes()) == 12 * 7 + 14


class _InProcess:
    """A pool that works at once, so that a test needs no rendering process."""

    def __init__(self, **_: object):
        pass

    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function, *arguments):
        future = kdef.concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["kdeff", "new"], "Did you mean 'kdef'?"),
        (["kdef", "new", "--scale", "2"], "between 0 and 1"),
        (["kdef", "full"], "new or empty"),
        (["kdef", "other"], "found another: stand-in for rafd"),
        (["kdef", "file"], "Choose another folder"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(
    arguments: list[str],
    says: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("precious")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / stand_in.MARKER).write_text("stand-in for rafd, scale 1.0\n")
    (tmp_path / "file").write_text("")
    name, out, *options = arguments
    with pytest.raises(SystemExit) as stopped:
        commands.run("stand-in", name, tmp_path / out, *options)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
    assert (tmp_path / "full" / "thesis.doc").read_text() == "precious"
