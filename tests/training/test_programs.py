"""Programs made ready beside other work: found again without a trace, and never in the way."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import fer_jax
from fer_jax import errors
from fer_jax.runtime import compile_cache, sharding
from fer_jax.training import foreseen, kept
from fer_jax.training.programs import Program


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where programs are kept: as `compile_cache.enable` sets it, without changing JAX."""
    monkeypatch.setattr(compile_cache, "folder", tmp_path)
    return tmp_path


class Step:
    """A small training step over two devices, with a state like those that are trained."""

    def __init__(self, rate: float = 0.1) -> None:
        self.mesh, self.traced = sharding.data_mesh(), 0
        self.optimizer = optax.adam(rate)
        placed = sharding.replicated(self.mesh)
        self.program = Program(
            self._step, list(self.mesh.devices.flat), {}, donate_argnums=0, out_shardings=placed
        )

    def _step(self, state, batch):
        self.traced += 1
        params, opt_state = state
        gradient = jax.grad(lambda params: jnp.mean((batch["x"] @ params["kernel"]) ** 2))(params)
        updates, opt_state = self.optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), {"norm": optax.tree.norm(updates)}

    def arguments(self, rows: int = 8):
        rng = np.random.default_rng(0)
        params = {"kernel": rng.random((4, 2), np.float32)}
        state = sharding.replicate((params, self.optimizer.init(params)), self.mesh)
        return state, sharding.put_batch({"x": rng.random((rows, 4), np.float32)}, self.mesh)

    def forms(self):
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding),
            self.arguments(),
        )


def run(step: Step, rows: int = 8):
    """The result of one step; the state was given away for it."""
    state, batch = step.arguments(rows)
    result = step.program(state, batch)
    assert jax.tree.leaves(state)[0].is_deleted()
    for thread in threading.enumerate():
        if thread.name == errors.COMPILER:
            thread.join()  # the program is kept after it was made ready
    return jax.device_get(result)


def assert_same(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_second_start_traces_nothing_and_has_the_same_bits(folder):
    key = kept.key_of("a step")
    first, second, plain = Step(), Step(), Step()
    first.program.prepare(first.forms, key)
    expected = run(first)
    second.program.prepare(second.forms, key)
    assert_same(run(second), expected)
    assert_same(run(plain), expected)
    assert (first.traced, second.traced, plain.traced) == (1, 0, 1)
    assert kinds(folder) == ["key", "program"]


def test_under_a_new_key_what_was_traced_is_known(folder):
    """As after an upgrade that leaves the program as it was."""
    first, second, third, other = Step(), Step(), Step(), Step(rate=0.2)
    first.program.prepare(first.forms, kept.key_of("version 1"))
    expected = run(first)
    for step in (second, third):
        step.program.prepare(step.forms, kept.key_of("version 2"))
        assert_same(run(step), expected)
    assert (second.traced, third.traced) == (1, 0)
    assert kinds(folder) == ["key", "key", "program"]
    other.program.prepare(other.forms, kept.key_of("version 3"))
    run(other)
    assert kinds(folder) == ["key", "key", "key", "program", "program"]


def test_what_jax_has_read_from_its_cache_is_not_kept(folder):
    """XLA would write it without its code."""
    results = []
    with jax_cache(folder / "jax"):
        for _ in range(2):
            jax.clear_caches()
            step = Step()
            step.program.prepare(step.forms, kept.key_of("a step"))
            results.append(run(step))
            assert kinds(folder) == (["key", "program"] if len(results) == 1 else [])
            for file in folder.glob("*-*"):
                file.unlink()
    assert_same(*results)


@contextlib.contextmanager
def jax_cache(folder: Path) -> Iterator[None]:
    """JAX's own cache, in a folder of its own."""
    settings = {
        "jax_enable_compilation_cache": True,
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def kinds(folder: Path) -> list[str]:
    return sorted(file.name.rpartition("-")[2] for file in folder.glob("*-*"))


def emptied(content: bytes) -> bytes:
    del content
    return b""


def cut_off(content: bytes) -> bytes:
    return content[:-10]


def with_another_byte(content: bytes) -> bytes:
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


def of_something_else(content: bytes) -> bytes:
    del content
    packed = zlib.compress(pickle.dumps(("no program", 1, 2)))
    return hashlib.sha256(packed).digest() + packed


@pytest.mark.parametrize("damage", [emptied, cut_off, with_another_byte, of_something_else])
def test_a_damaged_program_is_made_again_without_a_word(folder, damage, capfd):
    key = kept.key_of("a step")
    first, second, third = Step(), Step(), Step()
    first.program.prepare(first.forms, key)
    expected = run(first)
    (file,) = folder.glob("*-program")
    file.write_bytes(damage(file.read_bytes()))
    second.program.prepare(second.forms, key)
    assert_same(run(second), expected)
    third.program.prepare(third.forms, key)
    assert_same(run(third), expected)
    assert (second.traced, third.traced) == (1, 0)
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_written_is_done_without(folder):
    (folder / "file").write_text("")
    compile_cache.folder = folder / "file"
    key, step = kept.key_of("a step"), Step()
    step.program.prepare(step.forms, key)
    assert_same(run(step), run(Step()))


@pytest.fixture
def reads(monkeypatch):
    """The names of the programs that are read, and the threads that read them."""
    reads, read = [], kept.read

    def watched(name, devices):
        reads.append((name, threading.get_ident()))
        return read(name, devices)

    monkeypatch.setattr(kept, "read", watched)
    return reads


def asked_for(step: Step, command: str, key: str | None):
    """What a process does that foresees its first program and then asks for it."""
    foreseen.begin(command)
    step.program.prepare(step.forms, key)
    result = run(step)
    assert foreseen._first is None
    return result


@pytest.mark.usefixtures("folder")
def test_the_program_of_the_same_command_is_read_before_it_is_asked_for(reads):
    first, second, other = Step(), Step(), Step(rate=0.2)
    expected = asked_for(first, "a command", kept.key_of("a step"))
    reads.clear()
    foreseen.begin("a command")
    for thread in threading.enumerate():
        if thread.name == errors.COMPILER:
            thread.join()
    assert len(reads) == 1, "it is read when nothing has asked for it"
    second.program.prepare(second.forms, kept.key_of("a step"))
    assert_same(run(second), expected)
    assert len(reads) == 1, "it is read once"
    assert (first.traced, second.traced) == (1, 0)
    asked_for(other, "another command", kept.key_of("another step"))
    assert other.traced == 1


@pytest.mark.usefixtures("folder")
def test_another_program_than_the_foreseen_one_is_foreseen_from_then_on(reads):
    names = []
    for rate in (0.1, 0.2, 0.2):
        step = Step(rate)
        found = asked_for(step, "a command", kept.key_of(rate))
        assert_same(found, run(Step(rate)))
        names.append([name for name, _ in reads])
        reads.clear()
    assert [len(set(of_one)) for of_one in names] == [1, 2, 1], "the second foresaw the first's"
    assert names[1][0] == names[0][0]
    assert names[2] == names[1][1:], "the third what the second asked for"


@pytest.mark.parametrize("damage", [emptied, with_another_byte])
def test_a_foreseen_program_that_is_damaged_is_made_again(folder, damage):
    expected = asked_for(Step(), "a command", kept.key_of("a step"))
    (file,) = folder.glob("*-program")
    file.write_bytes(damage(file.read_bytes()))
    step = Step()
    assert_same(asked_for(step, "a command", kept.key_of("a step")), expected)
    assert step.traced == 1


def test_nothing_is_foreseen_without_a_folder(reads):
    foreseen.begin("a command")
    assert foreseen._first is None
    assert reads == []


def test_other_shapes_than_those_it_was_made_for_are_traced(folder):
    step = Step()
    step.program.prepare(step.forms, None)
    assert_same(run(step, rows=4), run(Step(), rows=4))
    assert_same(run(step), run(Step()))
    assert step.traced == 2
    assert not list(folder.iterdir())


def test_what_tracing_raises_the_call_raises():
    step, ended = Step(), threading.Event()

    def arguments():
        ended.set()
        raise ZeroDivisionError("of the arguments")

    step.program.prepare(arguments, None)
    assert ended.wait(60)
    with pytest.raises(ZeroDivisionError, match="of the arguments"):
        step.program(*step.arguments())


def other_settings(monkeypatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")


def other_precision(monkeypatch) -> None:
    values = {**jax.config.values, "jax_default_matmul_precision": "highest"}
    monkeypatch.setattr(type(jax.config), "values", values)


def other_versions(monkeypatch) -> None:
    monkeypatch.setattr(kept, "versions", lambda: {"jax": "99"})


def other_sources(monkeypatch) -> None:
    monkeypatch.setattr(kept, "_sources", lambda: "other")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("change", [other_settings, other_precision, other_versions, other_sources])
def test_a_key_says_what_a_program_depends_on(monkeypatch, change: Callable[..., None]):
    before = kept.key_of("a step", 1)
    assert before == kept.key_of("a step", 1)
    assert before != kept.key_of("a step", 2)
    change(monkeypatch)
    assert kept.key_of("a step", 1) != before


@pytest.mark.usefixtures("folder")
def test_sources_that_changed_after_they_were_imported_have_no_key(monkeypatch):
    assert kept.key_of("a step")
    monkeypatch.setattr(fer_jax, "IMPORTED", 0.0)
    assert kept.key_of("a step") is None
