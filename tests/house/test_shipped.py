"""The run that ships with the package: whole, small, without pictures, and as its card says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fer_jax
from fer_jax import run_dir
from fer_jax.cli import predict as cli
from fer_jax.errors import UserError
from fer_jax.runtime import sharding
from fer_jax.serve.page import EXAMPLES
from fer_jax.training.initial_weights import find_initial_weights
from tools import model_card

SHIPPED = run_dir.DEFAULT_RUN
MAX_BYTES = 6_000_000


def test_the_card_belongs_to_weights_config_and_preprocessing():
    """`python -m tools.ship_model ferplus --card` writes it; weights need the whole command."""
    card = (SHIPPED / model_card.CARD).read_text()
    assert model_card.digest(SHIPPED) in card
    assert card == model_card.text(SHIPPED)


@pytest.mark.parametrize("name", model_card.DESCRIBED)
def test_a_change_of_any_file_changes_the_digest(tmp_path, name):
    shutil.copytree(SHIPPED, tmp_path / "copy")
    with open(tmp_path / "copy" / name, "ab") as file:
        file.write(b" ")
    assert model_card.digest(tmp_path / "copy") != model_card.digest(SHIPPED)


def test_it_is_small_and_names_no_folder_of_its_maker():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    data = run_dir.open_run(SHIPPED).settings.data
    assert (data.dir, data.manual_dir) == (None, None)


def test_it_has_no_pictures_of_what_it_learned_from():
    learned = run_dir.read_learned(run_dir.open_run(SHIPPED))
    assert len(learned) > 20_000
    assert not learned.looks.any()
    assert learned.digests.all()


def test_it_is_the_run_of_commands_that_are_given_none(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = str(EXAMPLES / "1_happiness.jpg")
    cli.main([photo])
    said = capsys.readouterr()
    assert said.err.startswith("model: ferplus, trained on ferplus/face/")
    header, row, *rest = said.out.splitlines()
    assert header.split() == ["file", "face", "expression", "probability"]
    assert row.split()[0].endswith("1_happiness.jpg")
    assert rest == ["1 face in 1 frame of 1 image"]
    assert all(len(line) <= 80 for line in (header, row))
    assert list(tmp_path.iterdir()) == []

    model = fer_jax.load()
    assert "model: ferplus" in capsys.readouterr().err
    (face,) = model.predict(photo)[0].faces
    assert row.split()[1:] == ["1", face.label, f"{face.confidence:.3f}"]
    with pytest.raises(UserError, match=r"expected images.* after the run ferplus, found none"):
        cli.main(["ferplus"])


def test_it_is_found_by_name_and_its_folder_is_never_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_dir.open_run(Path("ferplus"))
    assert (run.folder, run.output) == (SHIPPED, Path("runs/ferplus"))
    settings = run.settings.to_dict() | {
        "model": run.settings.to_dict()["model"] | {"pretrained": "ferplus"}
    }
    initial = find_initial_weights(type(run.settings).from_dict(settings), sharding.data_mesh())
    assert initial.to_json()["file"] == "ferplus"
    (tmp_path / "ferplus").mkdir()  # what the user has comes first
    assert run_dir.find_run("ferplus") == Path("ferplus")
