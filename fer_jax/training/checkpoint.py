"""Saves and restores a run's state with Orbax; damage is detected and survived.

A checkpoint holds the state, the loop state, and digests of both: Orbax restores an array file
with a flipped byte without an error, so the digests are verified on restore. They cover the step
and the identity of the run too, so that a renamed or foreign checkpoint is noticed. The newest
few checkpoints and the best one are kept. Which one is best is part of each checkpoint's loop
state, not a separate file that a kill could leave behind.

A save copies the state and writes it in a background thread: into a temporary directory that is
renamed when complete, then synced with everything in it. A power cut between the two leaves a
directory that fails the digest; the previous checkpoint was synced when it was saved, and is
removed only after the next save but one.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import hashlib
import json
import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from fer_jax import files, working_copy
from fer_jax.errors import UserError
from fer_jax.printable import printable
from fer_jax.runtime import distributed, sharding
from fer_jax.settings import MIN_CHECKPOINTS
from fer_jax.training.state import TrainState

_LOOP_STATE = "memory"  # name of its file in a checkpoint, as in the first format

_LOOP_DIGEST = "loop_digest"

_UNUSABLE_CHARACTERS = "[]*?\\"
"""Orbax takes a path for a glob pattern when it completes a save, and TensorStore \\ for /."""

TemplateOf = Callable[[dict[str, Any]], TrainState]
"""Maps a checkpoint's loop state to an abstract state with the structure that was saved."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored checkpoint.

    Attributes:
      step: of the run.
      state: with the shardings of its template.
      loop_state: as `LoopState.to_json` gave it.
    """

    step: int
    state: TrainState
    loop_state: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RestoredWeights:
    """The weights of a checkpoint, without optimizer state.

    Attributes:
      step: of the run.
      variables: params and batch_stats, as `model.apply` takes them; the moving average if
        the run has one.
      averaged: whether they are the moving average.
      loop_state: as `LoopState.to_json` gave it.
    """

    step: int
    variables: dict[str, Any]
    averaged: bool
    loop_state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: made if it is missing, unless `read_only`.
      report: gets a line about each damaged checkpoint.
      read_only: change nothing, because another process may be training there.
      keep: number of newest checkpoints to keep.
      identity: of the run, as `Run` has it; "" accepts the checkpoints of any run.

    Raises:
      UserError: a folder that Orbax cannot use, or none to read.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None] = print,
        read_only: bool = False,
        keep: int = MIN_CHECKPOINTS,
        identity: str = "",
    ) -> None:
        check_path(folder, read_only)
        self._identity = identity
        self._folder = folder.absolute()
        self._report = report
        self._policy = _LatestAndBest(keep)
        self._saver = ThreadPoolExecutor(1, "save")
        self._saving: Future[None] | None = None
        self._is_read_back = False
        self._state = ocp.StandardCheckpointHandler(multiprocessing_options=_multiprocessing())
        self._weights = ocp.PyTreeCheckpointHandler(multiprocessing_options=_multiprocessing())
        self._loop_state = ocp.JsonCheckpointHandler(multiprocessing_options=_multiprocessing())
        self._manager: ocp.CheckpointManager | None = None  # not needed for reading
        if read_only:
            if not self._folder.is_dir():
                raise UserError(
                    f"expected checkpoints in {folder}, found none; train the run first"
                )
            return
        # Not left to Orbax, which makes it in a thread that outlives a short program.
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=self._policy,
            cleanup_tmp_directories=True,
            # Our own background thread saves, and computes the digests.
            enable_async_checkpointing=False,
            multiprocessing_options=_multiprocessing(),
        )
        handlers = {"state": self._state, _LOOP_STATE: self._loop_state}
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self._saver.shutdown()
        if self._manager is not None:
            self._manager.close()

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        if self._manager is not None:
            return sorted(self._manager.all_steps())
        # Orbax renames a checkpoint to its number when it is complete.
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def save(self, state: TrainState, loop_state: dict[str, Any]) -> None:
        """Starts saving in the background. A second save of the same step does nothing.

        Waits for the previous save, and until the state is copied; if processes share one state,
        until it is saved.

        Raises:
          UserError: the previous save failed; earlier checkpoints are whole.
        """
        self.wait()
        step = int(jax.device_get(state.step))
        if step in self.steps:
            return
        copied = _copied(state)
        self._policy.best_step = loop_state["stopping"]["best_step"]
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(copied)):
            # Devices gather what processes share, which must happen between two steps.
            self._write(step, copied, loop_state)
            return
        self._saving = self._saver.submit(self._write, step, copied, loop_state)

    def wait(self) -> None:
        """Returns when the last save is complete on disk.

        Raises:
          UserError: it failed; earlier checkpoints are whole.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def _write(self, step: int, state: TrainState, loop_state: dict[str, Any]) -> None:
        content = {**loop_state, "step": step, "run": self._identity, "digests": _digests(state)}
        content[_LOOP_DIGEST] = _json_digest(content)
        args = ocp.args.Composite(
            **{"state": ocp.args.StandardSave(state), _LOOP_STATE: ocp.args.JsonSave(content)}
        )
        try:
            assert self._manager is not None, "read_only checkpoints are not saved"
            _check_space(self._folder, state)
            self._manager.save(step, args=args)
            _sync(self._folder / str(step))
            files.sync_folder(self._folder)
            self._read_back(step, state)
        except Exception as error:
            _clear_frames(error)
            self._remove_unfinished()
            if not (found := _disk_failure(error)):
                raise
            kept = ", ".join(map(str, self.steps)) or "none"
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 2**20
            raise UserError(
                f"expected to save step {step} ({size:,.0f} MiB) in {self._folder}, found: "
                f"{found}; earlier checkpoints are whole (steps: {kept}). Free some space and "
                "start again: the run resumes from there"
            ) from error
        working_copy.push_all()

    def _read_back(self, step: int, state: TrainState) -> None:
        """Reads the weights of this process's first save: a path or disk may not return them.

        Raises:
          UserError: they are not what was saved.
        """
        if self._is_read_back or not distributed.is_single_process():
            return
        try:
            self.restore_weights(step, state.inference_variables, lambda _: state)
        except DamagedCheckpointError as error:
            raise UserError(
                f"expected to read back the checkpoint that was just saved, found: {error}; "
                "choose another --workdir, on another disk"
            ) from error
        self._is_read_back = True

    def _remove_unfinished(self) -> None:
        for folder in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)

    def restore_latest(self, template_of: TemplateOf) -> Restored | None:
        """Restores the newest whole checkpoint; None if there is none.

        Damaged ones are reported and, unless `read_only`, removed: the run saves those steps
        again.

        Args:
          template_of: maps a checkpoint's loop state to an abstract state of the run's network.

        Raises:
          UserError: the checkpoint belongs to another network.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                restored = self.restore(step, template_of)
            except DamagedCheckpointError as error:
                self._report(f"{error}; using the previous one")
                damaged.append(step)
                continue
            self._remove(damaged)
            self._policy.best_step = restored.loop_state["stopping"]["best_step"]
            return restored
        self._remove(damaged)
        return None

    def restore_best(self, template: dict[str, Any], template_of: TemplateOf) -> RestoredWeights:
        """Restores the weights with the best validation score, as the newest checkpoint names it.

        Optimizer state is not read, except from the first format, which has one digest for all.

        Args:
          template: abstract params and batch_stats of the run's network.
          template_of: as in `restore_latest`; called for the first format only.

        Raises:
          UserError: there is none, it is damaged, or it belongs to another network.
        """
        for step in reversed(self.steps):
            try:
                loop_state = self._read_loop_state(step)
            except DamagedCheckpointError as error:
                self._report(f"{error}; using the previous one")
                continue
            # There is no best one before the first validation.
            best = loop_state["stopping"]["best_step"] or step
            try:
                return self.restore_weights(best, template, template_of)
            except DamagedCheckpointError as error:
                if best != step:
                    raise
                self._report(f"{error}; using the previous one")
        raise UserError(
            f"expected a checkpoint in {self._folder}, found none that is whole; "
            "train the run first"
        )

    def restore(self, step: int, template_of: TemplateOf) -> Restored:
        """Restores the checkpoint of one step and verifies its digests.

        Raises:
          DamagedCheckpointError: files are missing, unreadable or changed.
          UserError: the checkpoint belongs to another network.
        """
        loop_state = self._read_loop_state(step)
        folder, reason, difference = self._folder / str(step), None, None
        try:
            # Not by the manager, which synchronizes processes: one that cannot read the file
            # would never arrive.
            template = template_of(loop_state)
            difference = _difference(self._state.metadata(folder / "state").tree, template)
            if difference is None:
                args = ocp.args.StandardRestore(template)
                state = self._state.restore(folder / "state", args=args)
        except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
            _clear_frames(error)
            reason = _first_line(error)
        _agree(folder, reason, difference)
        _verify(folder, state, loop_state)
        if int(jax.device_get(state.step)) != step:
            raise DamagedCheckpointError(folder, f"it is of step {int(state.step)}")
        return Restored(step, state, loop_state)

    def restore_weights(
        self, step: int, template: dict[str, Any], template_of: TemplateOf
    ) -> RestoredWeights:
        """Restores the weights of one step, without the optimizer state where that is possible.

        Args:
          step: of the checkpoint.
          template: as in `restore_best`, like `template_of`.
          template_of: called for the first format only.

        Raises:
          DamagedCheckpointError: files are missing, unreadable or changed.
          UserError: the checkpoint belongs to another network.
        """
        loop_state = self._read_loop_state(step)
        if "digests" not in loop_state:
            whole = self.restore(step, template_of)
            averaged = whole.state.ema is not None
            return RestoredWeights(
                step, whole.state.inference_variables, averaged, whole.loop_state
            )
        folder, reason, difference = self._folder / str(step), None, None
        try:
            stored = self._state.metadata(folder / "state").tree
            averaged = bool(stored.get("ema"))
            expected = {"ema": template} if averaged else template
            difference = _difference({name: stored[name] for name in expected}, expected)
            if difference is None:
                args = ocp.args.PyTreeRestore(
                    item=expected,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(expected),
                    partial_restore=True,
                )
                tree = self._weights.restore(folder / "state", args=args)
        except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
            _clear_frames(error)
            reason = _first_line(error)
        _agree(folder, reason, difference)
        variables = tree["ema"] if averaged else tree
        if loop_state.pop("digests")["weights"] != state_digest(variables):
            raise DamagedCheckpointError(folder, "its content differs from what was saved")
        return RestoredWeights(step, variables, averaged, loop_state)

    def _read_loop_state(self, step: int) -> dict[str, Any]:
        folder, reason = self._folder / str(step), None
        try:
            loop_state = dict(self._loop_state.restore(folder / _LOOP_STATE))
            reason = _loop_state_damage(loop_state, step)
        except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
            reason = _first_line(error)
        _agree(folder, reason)
        identity = loop_state.pop("run", "")  # older versions stored none
        if self._identity and identity and identity != self._identity:
            raise UserError(
                f"expected a checkpoint of the run that {self._folder.parent / 'run.json'} "
                f"describes, found one of another run in {folder}; restore run.json and "
                "config.json, or use another --workdir"
            )
        return loop_state

    def _remove(self, damaged: list[int]) -> None:
        if self._manager is None:
            return
        for step in damaged:
            self._manager.delete(step)


def check_path(folder: Path, read_only: bool = False) -> None:
    """Checks that Orbax can save in a folder with this path, and find there what it saved.

    Raises:
      UserError: names the characters.
    """
    path = str(folder.absolute())
    wrong = "\\" if read_only else _UNUSABLE_CHARACTERS
    if set(path) & set(wrong) or any("\ud800" <= one <= "\udfff" for one in path):
        raise UserError(
            f"expected a run directory without the characters {' '.join(wrong)} and with a name "
            f"in UTF-8, found {printable(path)}, where checkpoints cannot be read; "
            + ("rename the folder" if read_only else "choose another --workdir")
        )


class DamagedCheckpointError(UserError):
    """A checkpoint whose content cannot be trusted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the checkpoint {path} is damaged: {reason}")


def state_digest(state: Any) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all arrays of a tree.

    Placement does not matter. All processes of a job must call it together.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        for piece in sharding.pieces(leaf):
            digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _json_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _loop_state_damage(loop_state: dict[str, Any], step: int) -> str | None:
    """Says why a loop state is not what was saved at `step`; None if it is.

    Removes its digest and step, which older versions did not store.

    Raises:
      KeyError, TypeError: it lacks what every version stored.
    """
    if _LOOP_DIGEST in loop_state:
        if loop_state.pop(_LOOP_DIGEST) != _json_digest(loop_state):
            return "its loop state differs from what was saved"
        if (found := loop_state.pop("step")) != step:
            return f"it is of step {found}"
    elif not isinstance(loop_state["stopping"]["best_step"], int):
        return "its loop state is unreadable"
    return None


def _digests(state: TrainState) -> dict[str, str]:
    """Digests of the weights that inference uses, and of everything else."""
    used = state.inference_variables
    if state.ema is None:
        rest = dataclasses.replace(state, params=None, batch_stats=None)
    else:
        rest = dataclasses.replace(state, ema=None)
    return {"weights": state_digest(used), "rest": state_digest(rest)}


def _verify(folder: Path, state: TrainState, loop_state: dict[str, Any]) -> None:
    """Compares a restored state with the digests that were saved, and removes those."""
    digests, digest = loop_state.pop("digests", None), loop_state.pop("digest", None)
    matches = digests == _digests(state) if digests else digest == state_digest(state)
    if not matches:
        raise DamagedCheckpointError(folder, "its content differs from what was saved")


def _agree(folder: Path, reason: str | None, difference: str | None = None) -> None:
    """Raises in all processes of a job if one of them could not read a checkpoint."""
    if not distributed.all_processes(reason is None):
        raise DamagedCheckpointError(folder, reason or "another process cannot read it")
    if difference is not None:
        raise UserError(
            f"the checkpoint {folder} is of another network: {difference}; "
            "use the configuration it was trained with, or another --workdir"
        )


def _multiprocessing() -> ocp.options.MultiprocessingOptions:
    """Returns options with which Orbax synchronizes processes by the coordination service.

    Without a list of processes it would use the devices, which are training.
    """
    members = None if distributed.is_single_process() else set(range(jax.process_count()))
    return ocp.options.MultiprocessingOptions(active_processes=members)


def _copied(state: TrainState) -> TrainState:
    """Copies the state to the host, because the next step donates its buffers.

    Arrays that several processes share stay on the devices: the next step waits for the save.
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


def _difference(stored: Any, template: Any) -> str | None:
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
    """Syncs all files below `folder`, and their names, to disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(Path(place) / name, "rb") as file:
                os.fsync(file.fileno())
        files.sync_folder(Path(place))


def _clear_frames(error: BaseException) -> None:
    """Frees the coroutines that a failed save or restore of Orbax leaves in closed event loops."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    gc.collect()


def _check_space(folder: Path, state: TrainState) -> None:
    """Raises OSError if the disk is too full: Orbax's writers would each print a traceback."""
    leaves = jax.tree.leaves(state)
    # With room for Orbax's index and metadata, which grow with the number of arrays.
    needed = sum(leaf.nbytes for leaf in leaves) + (256 + 2 * len(leaves)) * 1024
    # If several processes write, one that fails alone would leave the others waiting.
    if jax.process_count() == 1 and shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_failure(error: BaseException) -> str | None:
    """The system's message about a full or broken disk; None for other errors.

    Orbax's writers raise their own error types, which contain the system's message.
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
