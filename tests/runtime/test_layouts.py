"""Digests and checkpoints do not depend on how a state is placed on devices and processes.

Run as a program, this is one process of a job that saves or restores a state.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from fer_jax.models.registry import create_model
from fer_jax.runtime import distributed, sharding
from fer_jax.training.checkpoint import Checkpoints, state_digest
from fer_jax.training.recipe import Recipe
from fer_jax.training.state import abstract_state, create_state

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "launch" / "local.py"
MODEL, SIZE = create_model("light_vgg", 3, head_widths=(8, 8)), 8
WHAT = MODEL, optax.adam(1e-3), SIZE
AVERAGED = Recipe(ema_decay=0.9)
MEMORY = {"stopping": {"best_step": 0}}


def state_of(step, mesh=None):
    """Returns a state whose arrays all differ from step to step, with zeros of both signs."""
    drawn = create_state(*WHAT, seed=0, recipe=AVERAGED)
    host = jax.tree.map(
        lambda leaf: np.asarray(np.where(leaf, leaf * step, leaf.dtype.type(-0.0)), leaf.dtype),
        jax.device_get(drawn),
    ).replace(step=np.asarray(step, np.int32))
    return host if mesh is None else sharding.place(host, mesh)


def form_of(mesh):
    return abstract_state(*WHAT, mesh, AVERAGED)


def largest_share(state):
    """Returns the share of a state's bytes that is on the first device."""
    leaves = jax.tree.leaves(state)
    whole = sum(leaf.nbytes for leaf in leaves)
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / whole


def meshes():
    for devices, fsdp in ((1, 1), (2, 2), (2, 1)):
        yield sharding.data_mesh(fsdp, jax.devices()[:devices])


@pytest.fixture(autouse=True)
def all_arrays_are_large(monkeypatch):
    monkeypatch.setattr(sharding, "MIN_SPLIT_BYTES", 1)


def test_the_digest_does_not_depend_on_the_placement():
    expected = state_digest(state_of(3))
    shares = []
    for mesh in meshes():
        state = state_of(3, mesh)
        assert state_digest(state) == expected
        shares.append(largest_share(state))
    assert shares[0] == shares[2] == 1
    assert 0.5 <= shares[1] < 0.6


def test_a_new_state_is_placed_like_its_abstract_state():
    for mesh in meshes():
        state = create_state(*WHAT, seed=0, recipe=AVERAGED, mesh=mesh)
        assert state_digest(state) == state_digest(create_state(*WHAT, seed=0, recipe=AVERAGED))
        jax.tree.map(lambda leaf, form: leaf.sharding == form.sharding or 1 / 0, state,
                     form_of(mesh))  # fmt: skip


def test_a_checkpoint_of_one_layout_is_restored_on_another(tmp_path):
    for step, mesh in enumerate(meshes(), 1):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(state_of(step, mesh), MEMORY)
            checkpoints.wait()
            for other in meshes():
                restored = checkpoints.restore_latest(lambda _, on=other: form_of(on))
                assert restored.step == step
                assert state_digest(restored.state) == state_digest(state_of(step))
                jax.tree.map(lambda leaf, form: leaf.sharding == form.sharding or 1 / 0,
                             restored.state, form_of(other))  # fmt: skip


def restore(folder, mesh):
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.restore_latest(lambda _: form_of(mesh))


def job(folder, devices, fsdp, save):
    """Returns what each of two processes prints: step, digest and share of its restored state."""
    command = [
        sys.executable, LAUNCHER, "--processes=2", f"--cpu_devices={devices}", "--",
        sys.executable, __file__, folder, fsdp, save,
    ]  # fmt: skip
    done = subprocess.run([*map(str, command)], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (step, digest, share), same = (
        line.split("restored ")[1].split()
        for line in done.stdout.splitlines()
        if "restored " in line
    )
    assert same == [step, digest, share]
    return int(step), digest, float(share), done.stdout


@pytest.mark.slow
def test_a_state_saved_by_two_processes_is_restored_by_one(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_of(1), MEMORY)
    # In order: half of it in each process, a quarter on each device, all of it in each process.
    for step, (devices, fsdp) in enumerate([(1, 2), (2, 4), (2, 2)], 1):
        found, digest, share, _ = job(tmp_path, devices, fsdp, save=step + 1)
        assert (found, digest) == (step, state_digest(state_of(step)))
        assert 1 / fsdp <= share < 1 / fsdp + 0.1
        restored = restore(tmp_path, sharding.data_mesh(2))
        assert restored.step == step + 1
        assert state_digest(restored.state) == state_digest(state_of(step + 1))


@pytest.mark.slow
def test_damage_for_one_process_is_damage_for_all(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_of(1), MEMORY)
    job(tmp_path, 1, 2, save=2)
    for file in (tmp_path / "2" / "state" / "ocdbt.process_1" / "d").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    step, digest, _, said = job(tmp_path, 1, 2, save=2)
    assert (step, digest) == (1, state_digest(state_of(1)))
    assert said.count("/2 is damaged") == 2
    assert "another process cannot read it" in said
    assert restore(tmp_path, sharding.data_mesh(2)).step == 2  # saved again


def main(folder, fsdp, save):
    """Restores the newest checkpoint, prints its digest, and saves the state of step `save`."""
    distributed.start()
    sharding.MIN_SPLIT_BYTES, sharding.PIECE_BYTES = 1, 100  # all arrays count as large
    mesh = sharding.data_mesh(int(fsdp))
    with Checkpoints(Path(folder)) as checkpoints:
        found = checkpoints.restore_latest(lambda _: form_of(mesh))
        print("restored", found.step, state_digest(found.state), largest_share(found.state))
        checkpoints.save(state_of(int(save), mesh), MEMORY)


if __name__ == "__main__":
    main(*sys.argv[1:])
