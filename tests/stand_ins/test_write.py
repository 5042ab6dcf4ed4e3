"""KDEF's stand-in: file names, framing, mark, resuming, packing, and wrong input."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from fer_jax.faces.decode import decode
from tests import commands
from tests.tfds_builders import small_kdef as small
from tfds_builders import prepare as build
from tfds_builders.kdef import names
from tfds_builders.stand_in_mark import is_stand_in, mark_stand_in
from tfds_builders.stand_ins import faces, kdef
from tfds_builders.stand_ins import write as stand_in


def test_full_scale_has_kdefs_people() -> None:
    people = kdef.people(1.0)
    assert sorted((person.gender, person.number) for person in people) == [
        (gender, number) for gender in "FM" for number in range(1, 36)
    ]
    assert len({person.index for person in people}) == 70
    assert kdef.count_images(1.0) == 4_900


def test_small_scale_has_enough_people_and_irregular_files() -> None:
    people = kdef.people(0.05)
    assert [person.gender for person in people] == ["F"] * 3 + ["M"] * 3
    folders = {folder for person in people for folder in person.folders}
    assert {image_id[:4] for image_id in names.MISNAMED.values()} <= folders
    assert sum(image_id[:4] in folders for image_id in names.BLACK) >= 3
    assert set(people) <= set(kdef.people(1.0))


@pytest.mark.parametrize("view", names.VIEWS)
def test_frame_centers_the_face_box(view: str) -> None:
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
    male31 = next(one for one in kdef.people(0.05) if (one.gender, one.number) == ("M", 31))
    assert kdef._write_person(male31, folder) == 70
    return folder


def test_person_has_kdefs_files(person: pathlib.Path) -> None:
    files = sorted(path.relative_to(person).as_posix() for path in person.rglob("*.JPG"))
    assert len(files) == 70
    assert "AM31/AM31H.JPG" in files
    assert "AM31/AM31SUHR.JPG" not in files
    assert all(names.parse(names.image_id(file)) for file in files)
    for file in files[:3]:
        data = (person / file).read_bytes()
        assert is_stand_in(data)
        assert decode(data).shape == (762, 562, 3)


def test_metadata_of_a_prepared_stand_in(tmp_path: pathlib.Path) -> None:
    small.write_tree(tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*.JPG"):
        file.write_bytes(mark_stand_in(file.read_bytes()))
    deepest = tmp_path / "copy" / "KDEF_and_AKDEF" / "KDEF"  # without the marker file
    prepared = build.prepare("kdef", None, str(tmp_path / "data"), str(deepest))
    assert prepared.metadata["stand_in"]
    assert prepared.metadata["synthetic"]


def test_resumes_and_packs(tmp_path: pathlib.Path, monkeypatch) -> None:
    written: list[str] = []

    def render(person: kdef.Person, folder: pathlib.Path) -> int:
        written.append(person.gender + str(person.number))
        for name in person.folders:
            (folder / name).mkdir()
            for expression in names.EXPRESSIONS:
                (folder / name / f"{name}{expression}S.JPG").write_bytes(small.draw(name))
        return 70

    monkeypatch.setattr(kdef, "_write_person", render)
    monkeypatch.setattr(
        faces, "run_jobs", lambda function, jobs, in_process: (function(*job) for job in jobs)
    )
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
    images = [file for file in source.sizes() if file.endswith(".JPG")]
    assert len(images) == 12 * 7 + 14


@pytest.mark.parametrize(
    ("arguments", "message"),
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
    message: str,
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
    assert message in capsys.readouterr().err
    assert (tmp_path / "full" / "thesis.doc").read_text() == "precious"
