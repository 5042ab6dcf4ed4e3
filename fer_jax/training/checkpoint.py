"""Saving and restoring a run's state with Orbax, so that damage is seen and survived.

Each checkpoint holds the state, the memory of early stopping and a digest of the
state's bytes: Orbax restores an array file with a flipped byte without a word, so
the digest is checked on the way back. The newest few checkpoints and the best one
are kept; which is best is part of each checkpoint, never a file of its own that a
kill could leave behind.

A save takes a copy of the state and writes it in a thread of its own: into a temporary
folder, renamed when it is whole, then synced with everything below it. A machine that
loses power between the two leaves a folder that the digest refuses; the checkpoint before
was synced when it was saved and is removed only after the next save but one.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import gc
import hashlib
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from fer_jax import files
from fer_jax.errors import UserError
from fer_jax.runtime import distributed, sharding
from fer_jax.training.state import TrainState

LEAST_KEPT = 2  # the newest, and one to fall back on when it is damaged


TemplateOf = Callable[[dict[str, Any]], TrainState]
"""From a checkpoint's memory to a state of the form that was saved with it."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint read back: the state, placed as its template says, and its memory."""

    step: int
    state: TrainState
    memory: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: made if it is missing, unless `read_only`.
      say: gets a line about each damaged checkpoint.
      read_only: change nothing: another process may be training there.
      keep: how many of the newest stay.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None] = print,
        read_only: bool = False,
        keep: int = LEAST_KEPT,
    ) -> None:
        # Orbax reports each save, and failures with tracebacks, through absl; what matters is
        # raised or said by `say`.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        # Nobody asks for the errors of the arrays after the first that cannot be written.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        _say_nothing_of_closed_loops()
        self._folder = folder.absolute()
        self._say = say
        self._policy = _LatestAndBest(keep)
        self._saver = ThreadPoolExecutor(1, "save")
        self._saving: Future[None] | None = None
        self._read_only = read_only
        if read_only:
            if not self._folder.is_dir():
                raise UserError(
                    f"expected checkpoints in {folder}, found none; train the run first"
                )
            options = ocp.CheckpointManagerOptions(create=False, read_only=True)
        else:
            # Made here, because Orbax makes it in a thread that outlives a short program.
            self._folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                create=False,
                preservation_policy=self._policy,
                cleanup_tmp_directories=True,
                # Our own thread saves, and makes the digest there too.
                enable_async_checkpointing=False,
                multiprocessing_options=_meeting(),
            )
        self._state = ocp.StandardCheckpointHandler(multiprocessing_options=_meeting())
        self._memory = ocp.JsonCheckpointHandler(multiprocessing_options=_meeting())
        handlers = {"state": self._state, "memory": self._memory}
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self._saver.shutdown()
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, memory: dict[str, Any]) -> None:
        """Starts saving in the background; a second save of the same step does nothing.

        Waits for the save before, if it still runs, and for a copy of the state; where processes
        share one state, until it is saved.

        Raises:
          UserError: the save before has failed; what was saved earlier is whole.
        """
        self.wait()
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        copied = _copied(state)
        self._policy.best_step = memory["stopping"]["best_step"]
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(copied)):
            # What processes share is brought together by their devices, between two steps then.
            self._write(step, copied, memory)
            return
        self._saving = self._saver.submit(self._write, step, copied, memory)

    def wait(self) -> None:
        """Returns when the last save is whole on disk.

        Raises:
          UserError: it has failed; what was saved earlier is whole.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def _write(self, step: int, state: TrainState, memory: dict[str, Any]) -> None:
        content = {**memory, "digest": state_digest(state)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), memory=ocp.args.JsonSave(content)
        )
        try:
            self._manager.save(step, args=args)
            _sync(self._folder / str(step))
            files.sync_folder(self._folder)
        except Exception as error:
            _drop_loops(error)
            self._remove_unfinished()
            if not (found := _disk_failure(error)):
                raise
            kept = ", ".join(map(str, self.steps)) or "none"
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 2**20
            raise UserError(
                f"expected to save step {step} ({size:,.0f} MiB) in {self._folder}, found: "
                f"{found}; the checkpoints before it are whole (steps: {kept}). Free some space "
                "and start again: the run continues from there"
            ) from error

    def _remove_unfinished(self) -> None:
        for folder in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)

    def restore_latest(self, template_of: TemplateOf) -> Restored | None:
        """The newest checkpoint that is whole, or None if there is none.

        Damaged ones are named through `say` and, unless `read_only`, removed: the run will
        save those steps again.

        Args:
          template_of: gives, by a checkpoint's memory, a state of the run's network, for
            shapes and placement.

        Raises:
          UserError: the checkpoint belongs to another network.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                restored = self.restore(step, template_of)
            except DamagedCheckpointError as error:
                self._say(f"{error}; the one before is used")
                damaged.append(step)
                continue
            self._remove(damaged)
            self._policy.best_step = restored.memory["stopping"]["best_step"]
            return restored
        self._remove(damaged)
        return None

    def restore_best(self, template_of: TemplateOf) -> Restored:
        """The checkpoint with the best validation accuracy, as the newest whole one names it.

        Raises:
          UserError: there is none, it is damaged, or it belongs to another network.
        """
        latest = self.restore_latest(template_of)
        if latest is None:
            raise UserError(
                f"expected a checkpoint in {self._folder}, found none that is whole; "
                "train the run first"
            )
        best_step = latest.memory["stopping"]["best_step"]
        # Before the first validation, the newest state is all there is.
        return latest if best_step in (0, latest.step) else self.restore(best_step, template_of)

    def restore(self, step: int, template_of: TemplateOf) -> Restored:
        """The checkpoint of one step, its digest checked.

        Raises:
          DamagedCheckpointError: files are missing, unreadable or other than saved.
          UserError: the checkpoint belongs to another network.
        """
        folder, reason = self._folder / str(step), None
        try:
            # By the handlers: in the manager processes meet, which one that cannot read misses.
            memory = dict(self._memory.restore(folder / "memory"))
            template = template_of(memory)
            difference = _difference(self._state.metadata(folder / "state").tree, template)
            if difference is None:
                args = ocp.args.StandardRestore(template)
                state = self._state.restore(folder / "state", args=args)
        except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
            _drop_loops(error)
            reason = _first_line(error)
        if not distributed.everywhere(reason is None):
            raise DamagedCheckpointError(folder, reason or "another process cannot read it")
        if difference is not None:
            raise UserError(
                f"the checkpoint {folder} is of another network: {difference}; "
                "use the configuration it was trained with, or another --workdir"
            )
        if state_digest(state) != memory.pop("digest", None):
            raise DamagedCheckpointError(folder, "its content differs from what was saved")
        return Restored(step, state, memory)

    def _remove(self, damaged: list[int]) -> None:
        for step in damaged if not self._read_only else ():
            self._manager.delete(step)


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be trusted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the checkpoint {path} is damaged: {reason}")


def state_digest(state: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of all arrays of a tree.

    Where they are does not matter. All processes of a job have to ask together.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        for piece in sharding.pieces(leaf):
            digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _meeting() -> ocp.options.MultiprocessingOptions:
    """Where the processes of a job wait for each other: never on their devices, which train.

    Orbax takes the meeting point of the job as soon as it is told who is in it.
    """
    everybody = None if distributed.is_alone() else set(range(jax.process_count()))
    return ocp.options.MultiprocessingOptions(active_processes=everybody)


def _copied(state: TrainState) -> TrainState:
    """A copy on the host, because the next step gives the state's memory away.

    What several processes share stays where it is: there the next step waits for the save.
    """
    leaves, form = jax.tree.flatten(state)
    held = iter(jax.device_get([leaf for leaf in leaves if sharding.is_held(leaf)]))
    copies = [np.array(next(held)) if sharding.is_held(leaf) else leaf for leaf in leaves]
    copied: TrainState = jax.tree.unflatten(form, copies)
    return copied


class _LatestAndBest:
    """Orbax preservation policy: the newest `keep` checkpoints and the best one."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.best_step = 0

    def should_preserve(
        self,
        checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: checkpoint_managers.PreservationContext,
    ) -> list[bool]:
        del context
        newest = sorted(info.step for info in checkpoints)[-self._keep :]
        return [info.step in newest or info.step == self.best_step for info in checkpoints]


def _difference(stored: Any, template: TrainState) -> str | None:
    """The first array whose presence or shape differs, as "expected ..., found ..."."""
    found, expected = _shapes(stored), _shapes(template)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            return (
                f"expected {name} {expected.get(name, '(no such array)')}, "
                f"found {found.get(name, 'none')}"
            )
    return None


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


def _sync(folder: Path) -> None:
    """Returns when the disk has all files below `folder`, and their names."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(Path(place) / name, "rb") as file:
                os.fsync(file.fileno())
        files.sync_folder(Path(place))


def _drop_loops(error: BaseException) -> None:
    """Frees what a failed save or restore of Orbax leaves in event loops that are closed."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)  # they hold the coroutines
        cause = cause.__cause__ or cause.__context__
    gc.collect()


@functools.cache
def _say_nothing_of_closed_loops() -> None:
    """Keeps back what the other writers of a failed save have to say, once for the program.

    Where one array cannot be written Orbax closes the event loop that the rest is written in.
    Each of the rest, in a thread of its own and at any later time, would print a traceback.
    """
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook


def _disk_failure(error: BaseException) -> str | None:
    """What a full or broken disk said; None if the error is another one.

    Orbax' writers raise their own kinds of errors, with the system's words in them.
    """
    known = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in known:
            return os.strerror(cause.errno)
        for number in known:
            if os.strerror(number) in str(cause):
                return os.strerror(number)
        cause = cause.__cause__ or cause.__context__
    return None


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
