"""Checkpoints: what is saved comes back bit for bit, and damage is seen and survived."""

from __future__ import annotations

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fer_jax.engine.checkpoint import Checkpoints, state_digest
from fer_jax.engine.state import create_state
from fer_jax.errors import UserError
from fer_jax.models.registry import create_model

SIZE = 8


def new_state(classes=3, optimizer=None, seed=0):
    return create_state(create_model("light_vgg", classes, head_widths=(8, 8)),
                        optimizer or optax.adam(1e-3), SIZE, seed)  # fmt: skip


def memory(best_step):
    return {"stopping": {"best_step": best_step, "best": 0.1 + 0.2}, "seconds": 1.5}


def save_steps(folder, steps, best_step=2):
    """States that differ in every array from step to step."""
    base = new_state()
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            state = jax.tree.map(lambda leaf, by=step: leaf + by, base)
            checkpoints.save(state.replace(step=jnp.int32(step)), memory(min(step, best_step)))
        checkpoints.wait()
        return checkpoints.steps


def restore(folder, template=None):
    said = []
    with Checkpoints(folder, said.append) as checkpoints:
        return (
            checkpoints.restore_latest(lambda _: template or new_state(seed=1)),
            said,
            checkpoints.steps,
        )


def array_files(folder):
    """The files that hold array bytes, largest first."""
    files = [f for f in (folder / "state").rglob("*") if f.is_file() and "/d/" in f.as_posix()]
    return sorted(files, key=lambda file: -file.stat().st_size)


def test_the_state_comes_back_bit_for_bit(tmp_path):
    save_steps(tmp_path, [1])
    restored, said, _ = restore(tmp_path)
    expected = jax.tree.map(lambda leaf: leaf + 1, new_state()).replace(step=jnp.int32(1))
    assert state_digest(restored.state) == state_digest(expected)
    assert restored.memory == memory(1)
    assert not said


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    assert save_steps(tmp_path, range(1, 7)) == [2, 5, 6]


def test_nothing_there_is_none(tmp_path):
    assert restore(tmp_path)[0] is None
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="train the run first"),
    ):
        checkpoints.restore_best(lambda _: new_state())


def test_the_best_is_found_by_what_the_latest_remembers(tmp_path):
    save_steps(tmp_path, range(1, 7))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_best(lambda _: new_state()).step == 2


def flip_a_byte(folder):
    largest = array_files(folder)[0]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def truncate(folder):
    largest = array_files(folder)[0]
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def remove_arrays(folder):
    for file in array_files(folder):
        file.unlink()


def remove_memory(folder):
    shutil.rmtree(folder / "memory")


def change_memory(folder):
    file = folder / "memory" / "metadata"
    file.write_text(
        file.read_text().replace("seconds", "sekunds").replace('"digest": "', '"digest": "0')
    )


# Orbax' readers of files that are gone complain when their event loop is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage", [flip_a_byte, truncate, remove_arrays, remove_memory, change_memory]
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    save_steps(tmp_path, [1, 2])
    damage(tmp_path / "2")
    restored, said, steps = restore(tmp_path)
    assert restored.step == 1
    assert steps == [1]  # the damaged step will be saved again
    gc.collect()
    assert len(said) == 1
    assert f"{tmp_path / '2'} is damaged" in said[0]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (lambda: new_state(classes=4), r"head/(bias|kernel) \(.*4.*\), found \(.*3"),
        (lambda: new_state(optimizer=optax.sgd(1e-3, momentum=0.9)), "opt_state/0/"),
    ],
    ids=["classes", "optimizer"],
)
def test_a_checkpoint_of_another_network_is_refused_and_kept(tmp_path, template, message):
    save_steps(tmp_path, [1])
    with pytest.raises(UserError, match=f"another network: expected .*{message}"):
        restore(tmp_path, template())
    assert restore(tmp_path)[0].step == 1


def test_a_reader_changes_nothing(tmp_path):
    save_steps(tmp_path, [1, 2])
    flip_a_byte(tmp_path / "2")
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()  # of a process that is training
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path, lambda _: None, read_only=True) as checkpoints:
        assert checkpoints.restore_latest(lambda _: new_state()).step == 1
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="found none; train the run first"):
        Checkpoints(tmp_path / "none", read_only=True)


def test_an_unfinished_save_is_not_trusted(tmp_path):
    save_steps(tmp_path, [1, 2])
    # What a kill in the middle of a save leaves: the temporary folder, not yet renamed.
    (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp")
    assert restore(tmp_path)[0].step == 1


def test_the_digest_sees_names_types_and_bytes():
    tree = {"a": np.zeros(2, np.float32)}
    others = [{"b": tree["a"]}, {"a": tree["a"].view(np.int32)}, {"a": tree["a"].reshape(2, 1)},
              {"a": np.array([0, -0.0], np.float32)}]  # fmt: skip
    digests = {state_digest(other) for other in [tree, *others]}
    assert len(digests) == 5
