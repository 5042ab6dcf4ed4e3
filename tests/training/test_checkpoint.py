"""Tests of checkpoints: exact restore, damage, full disks, background saves."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from fer_jax.errors import UserError
from fer_jax.models.registry import create_model
from fer_jax.runtime import sharding
from fer_jax.training.checkpoint import Checkpoints, check_path, state_digest
from fer_jax.training.state import abstract_weights, create_state

SIZE = 8
ROOT = Path(__file__).parents[2]


def new_state(classes=3, optimizer=None, seed=0):
    return create_state(create_model("light_vgg", classes, head_widths=(8, 8)),
                        optimizer or optax.adam(1e-3), SIZE, seed)  # fmt: skip


def loop_state(best_step):
    return {"stopping": {"best_step": best_step, "best": 0.1 + 0.2}, "seconds": 1.5}


def template_of_weights():
    model = create_model("light_vgg", 3, head_widths=(8, 8))
    return abstract_weights(model, SIZE, sharding.one_device_mesh())


def save_steps(folder, steps, best_step=2, keep=2):
    """Saves states that differ in every array from step to step; returns the steps kept."""
    base = new_state()
    with Checkpoints(folder, keep=keep) as checkpoints:
        for step in steps:
            state = jax.tree.map(lambda leaf, by=step: leaf + by, base)
            checkpoints.save(state.replace(step=jnp.int32(step)), loop_state(min(step, best_step)))
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
    """Returns the files with array bytes, largest first."""
    files = [f for f in (folder / "state").rglob("*") if f.is_file() and "/d/" in f.as_posix()]
    return sorted(files, key=lambda file: -file.stat().st_size)


def test_a_restored_state_is_bit_identical(tmp_path):
    save_steps(tmp_path, [1])
    restored, said, _ = restore(tmp_path)
    expected = jax.tree.map(lambda leaf: leaf + 1, new_state()).replace(step=jnp.int32(1))
    assert state_digest(restored.state) == state_digest(expected)
    assert restored.loop_state == loop_state(1)
    assert not said


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    assert save_steps(tmp_path, range(1, 7)) == [2, 5, 6]


@pytest.mark.parametrize(("keep", "kept"), [(3, [2, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])])
def test_keep_sets_the_number_of_checkpoints(tmp_path, keep, kept):
    assert save_steps(tmp_path, range(1, 7), keep=keep) == kept


def test_a_moved_folder_works(tmp_path):
    save_steps(tmp_path / "a", [1, 2])
    (tmp_path / "a").rename(tmp_path / "b")
    assert restore(tmp_path / "b")[0].step == 2
    assert save_steps(tmp_path / "b", [3]) == [2, 3]


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert restore(tmp_path)[0] is None
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="train the run first"),
    ):
        checkpoints.restore_best(template_of_weights(), lambda _: new_state())


def test_the_best_is_named_by_the_latest_checkpoint(tmp_path):
    save_steps(tmp_path, range(1, 7))
    with Checkpoints(tmp_path) as checkpoints:
        best = checkpoints.restore_best(template_of_weights(), lambda _: new_state())
    assert (best.step, best.averaged) == (2, False)
    expected = jax.tree.map(lambda leaf: leaf + 2, new_state()).variables
    assert state_digest(best.variables) == state_digest(expected)


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


def remove_manifest(folder):
    (folder / "state" / "manifest.ocdbt").unlink()


def remove_loop_state(folder):
    shutil.rmtree(folder / "memory")


def change_digest(folder):
    file = folder / "memory" / "metadata"
    file.write_text(file.read_text().replace('"weights": "', '"weights": "0'))


def change_loop_state(folder):
    file = folder / "memory" / "metadata"
    changed = file.read_text().replace('"seconds": 1.5', '"seconds": 2.5')
    assert changed != file.read_text()
    file.write_text(changed)


# Orbax readers of missing files warn when their event loop is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        truncate,
        remove_arrays,
        remove_manifest,
        remove_loop_state,
        change_digest,
        change_loop_state,
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_previous_one(tmp_path, damage):
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
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()  # of another process that is saving
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path, lambda _: None, read_only=True) as checkpoints:
        assert checkpoints.restore_latest(lambda _: new_state()).step == 1
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="found none; train the run first"):
        Checkpoints(tmp_path / "none", read_only=True)


def full_disk(monkeypatch, writes):
    """Simulates a disk that is full after `writes` more files are synced."""
    real, left = os.fsync, [writes]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def save_next(folder, step):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(new_state().replace(step=jnp.int32(step)), loop_state(1))
        checkpoints.wait()


@pytest.mark.parametrize("place", ["in Orbax", "when syncing"])
def test_a_full_disk_loses_nothing_that_was_saved(tmp_path, monkeypatch, place):
    save_steps(tmp_path, [1, 2])
    with monkeypatch.context() as patch:
        if place == "when syncing":
            full_disk(patch, 3)
        else:

            def half_saved(manager, step, args):
                (tmp_path / f"{step}.orbax-checkpoint-tmp").mkdir()
                raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device []")

            patch.setattr(ocp.CheckpointManager, "save", half_saved)
        with pytest.raises(UserError, match=r"(?s)No space left.*are whole.*Free some space"):
            save_next(tmp_path, 3)
    restored, said, _ = restore(tmp_path)
    # Renamed but not synced, the new one may be used: its digest shows whether it is whole.
    assert restored.step == (3 if place == "when syncing" else 2)
    assert not said
    assert not list(tmp_path.glob("*tmp*"))
    assert save_steps(tmp_path, [4])[-1] == 4  # space is free again


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_other_errors_are_not_reported_as_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(ocp.CheckpointManager, "save", failing(KeyError("a fault of ours")))
    with pytest.raises(KeyError):
        save_next(tmp_path, 3)


FULL_DISK = f"""
import resource, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import test_checkpoint as t
from fer_jax.errors import UserError
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
t.save_steps(folder, [1, 2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    t.save_steps(folder, range(3, 200), keep=300)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 3000])
def test_a_disk_that_is_really_full(tmp_path, limit):
    """A small file system if one can be mounted, and a limit that only a write meets."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = not limit and not subprocess.run(mount, capture_output=True).returncode
    limit = 0 if mounted else limit or 3000
    try:
        done = subprocess.run([sys.executable, "-c", FULL_DISK, str(folder), str(limit)],
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        restored, said, steps = restore(folder)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
    assert done.returncode == 0, done.stderr
    assert ("File too large" if limit else "No space left on device") in done.stdout
    # A write that fails: Orbax's other writers may each print a traceback of a closed event loop.
    assert limit or done.stderr == ""
    assert restored.step == steps[-1] >= 2
    assert not said


def test_a_save_does_not_block_the_next_step(tmp_path, monkeypatch):
    let = threading.Event()
    real = ocp.CheckpointManager.save

    def slow(*args, **kwargs):
        assert let.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(ocp.CheckpointManager, "save", slow)
    state = new_state().replace(step=jnp.int32(1))
    expected = state_digest(state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, loop_state(1))
        # The next step donates the state while it is being written.
        donated = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
        jax.block_until_ready(donated(state))
        assert checkpoints.steps == []
        let.set()
        checkpoints.wait()
    assert state_digest(restore(tmp_path)[0].state) == expected


@pytest.mark.slow
def test_processes_synchronize_while_they_save(tmp_path):
    program = f"""
        import threading
        from pathlib import Path

        import numpy as np

        from fer_jax.runtime import distributed, sharding
        from fer_jax.training.checkpoint import Checkpoints
        from fer_jax.training.state import TrainState

        distributed.start()
        mesh, let = sharding.data_mesh(), threading.Event()
        with Checkpoints(Path({str(tmp_path)!r}) / "saved") as checkpoints:
            write = checkpoints._write

            def slow(*arguments):
                assert let.wait(30), "the save holds up what comes behind it"
                write(*arguments)

            checkpoints._write = slow
            for step in (1, 2, 3):
                weight = np.full(1000, step, np.float32)
                state = sharding.place(TrainState(np.int32(step), weight, {{}}, {{}}), mesh)
                checkpoints.save(state, {{"stopping": {{"best_step": 0}}}})
                # Devices synchronize before the save has started.
                assert distributed.min_over_processes([step]) == [step]
                let.set()
                for _ in range(50):  # and while the processes save
                    assert distributed.min_over_processes([step]) == [step]
                checkpoints.wait()
                let.clear()
            print(checkpoints.steps)
    """
    launcher = [sys.executable, ROOT / "launch" / "local.py", "--processes=2", "--cpu_devices=1"]
    done = subprocess.run(
        [*launcher, "--", sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (0, 1):
        assert f"[{number}] [2, 3]" in done.stdout.splitlines()


def test_an_unfinished_save_is_ignored(tmp_path):
    save_steps(tmp_path, [1, 2])
    # A kill during a save leaves the temporary folder, not yet renamed.
    (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp")
    assert restore(tmp_path)[0].step == 1


def test_the_digest_covers_names_types_and_bytes():
    tree = {"a": np.zeros(2, np.float32)}
    others = [{"b": tree["a"]}, {"a": tree["a"].view(np.int32)}, {"a": tree["a"].reshape(2, 1)},
              {"a": np.array([0, -0.0], np.float32)}]  # fmt: skip
    digests = {state_digest(other) for other in [tree, *others]}
    assert len(digests) == 5


def test_a_checkpoint_renamed_to_another_step_is_damaged(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "1").rename(tmp_path / "7")
    restored, said, _ = restore(tmp_path)
    assert restored is None
    assert "is damaged: it is of step 1" in said[0]


@pytest.mark.parametrize(("of", "read_by"), [("a", "a"), ("", "a"), ("a", ""), ("a", "b")])
def test_a_checkpoint_of_another_run_is_refused(tmp_path, of, read_by):
    with Checkpoints(tmp_path, identity=of) as checkpoints:
        checkpoints.save(new_state().replace(step=jnp.int32(1)), loop_state(1))
        checkpoints.wait()
    with Checkpoints(tmp_path, read_only=True, identity=read_by) as checkpoints:
        if of and read_by and of != read_by:
            with pytest.raises(UserError, match=r"found one of another run in .*restore run\.json"):
                checkpoints.restore_latest(lambda _: new_state())
        else:
            assert checkpoints.restore_latest(lambda _: new_state()).loop_state == loop_state(1)


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\\b", "caf\udce9"])
def test_paths_that_orbax_cannot_use_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"without the characters .*choose another --workdir"):
        Checkpoints(tmp_path / name / "checkpoints")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b", "a%20#", "\u00e4", "~", "$HOME", "a\nb", "{a,b}"])
def test_other_paths_are_used(tmp_path, name):
    check_path(tmp_path / name)


def test_the_first_save_is_read_back(tmp_path, monkeypatch):
    real, calls = Checkpoints.restore_weights, []

    def misread(checkpoints, step, *rest):
        calls.append(step)
        flip_a_byte(tmp_path / str(step))
        return real(checkpoints, step, *rest)

    monkeypatch.setattr(Checkpoints, "restore_weights", misread)
    with pytest.raises(UserError, match=r"to read back the checkpoint .* choose another"):
        save_next(tmp_path, 1)
    monkeypatch.setattr(Checkpoints, "restore_weights", lambda *_: calls.append("whole"))
    save_steps(tmp_path / "other", [1, 2])
    assert calls == [1, "whole"]  # once for each process
