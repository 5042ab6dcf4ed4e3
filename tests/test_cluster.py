"""A Ray cluster of two nodes on this machine: order, losses, a node that joins late, and bytes."""

from __future__ import annotations

import functools
import itertools
import pathlib
import sys
import time

import cv2
import numpy as np
import pytest

from fer_jax.cli import predict, prepare
from fer_jax.cli.workers import make_executor
from fer_jax.cluster import ENVIRONMENT, Cluster
from fer_jax.errors import UserError
from fer_jax.executor import IN_FLIGHT
from fer_jax.inference import corpus
from tests.inference.test_corpus import IN_PROCESS, WHOLE
from tests.small_runs import write_run
from tests.test_executor import dying, refusing, squares, threads
from tests.tfds_builders import small_kdef
from tfds_builders import prepare as builders

# Ray starts the processes of a node with a fork, of which JAX warns if an earlier test used JAX.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cluster", "auto", "--workers", "2"], "--workers or --cluster, found both"),
        (["--cluster", "ray://head:10001"], "expected --cluster auto or HOST:PORT"),
        (["--cluster", "127.0.0.1:1"], "expected the head of a Ray cluster at 127.0.0.1:1"),
        (["--cluster", "auto"], "pip install 'fer-jax\\[cluster\\]'"),
    ],
)
def test_what_is_no_cluster(flags, message, monkeypatch):
    is_missing = "install" in message
    monkeypatch.setitem(sys.modules, "ray", None if is_missing else FakeRay())
    for options in (
        prepare.parse(["kdef", *flags]),
        predict.parse(["photo.jpg", "--shards", "csv", "--out", "out", *flags]),
    ):
        with pytest.raises(UserError, match=message):
            make_executor(options)


class FakeRay:
    def is_initialized(self) -> bool:
        return False


@pytest.fixture(scope="module")
def nodes():
    """The head; tests add the second node."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        import ray
        from ray.cluster_utils import Cluster as Nodes

        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        started = Nodes(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        yield started
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def cluster(nodes):
    return Cluster(nodes.address)


def node_of(folder: pathlib.Path):
    """Returns work that takes a while and tells the node that does it."""
    import ray

    def work(number: int) -> tuple[int, str]:
        (folder / f"{number}.{time.time_ns()}").touch()
        time.sleep(0.05)
        return number, ray.get_runtime_context().get_node_id()

    return work


@pytest.mark.slow
def test_a_node_that_joins_late_is_used_and_its_loss_loses_nothing(nodes, cluster, tmp_path):
    numbers, late, until = iter(range(10_000)), None, None
    pieces = itertools.takewhile(lambda number: number != until, numbers)
    for count, (number, node) in enumerate(
        cluster.map(functools.partial(node_of, tmp_path), pieces)
    ):
        assert number == count
        if number == 3:
            late = nodes.add_node(**NODE)
        if late and node == late.node_id:
            nodes.remove_node(late, allow_graceful=False)  # with the piece that it works on
            until, late = number + 40, None
    assert number == until - 1
    done = [path.name.split(".")[0] for path in tmp_path.iterdir()]
    assert set(done) == {str(number) for number in range(until)}
    assert len(done) <= until + IN_FLIGHT  # what was under way on the lost node


@pytest.mark.slow
def test_a_cluster_works_as_processes_of_this_machine_do(cluster, tmp_path, monkeypatch, capfd):
    assert list(cluster.map(squares, range(100))) == [number**2 for number in range(100)]
    with pytest.raises(UserError, match=r"^no such detector$"):
        next(cluster.map(refusing, [1]))
    assert list(cluster.map(functools.partial(dying, tmp_path, 1), range(8))) == list(range(8))
    counts = [len(list(tmp_path.glob(f"{number} *"))) for number in range(8)]
    assert counts == [1, 1, 1, 2, 1, 1, 1, 1]
    assert list(cluster.map(threads, [0])) == [(1, 1, "1", "cpu")]
    monkeypatch.setattr("fer_jax.cluster.MAX_LOSSES", 1)
    with pytest.raises(UserError, match="a piece that lost its worker 1 times"):
        list(cluster.map(functools.partial(dying, tmp_path, 9), range(4)))
    monkeypatch.setattr("fer_jax.cluster.__version__", "0.0")
    with pytest.raises(UserError, match=r"expected fer_jax 0\.0 on every node, found"):
        next(cluster.map(squares, [1]))
    assert capfd.readouterr().out == ""  # where Ray prints much


@pytest.mark.slow
def test_prepared_records_and_predictions_are_the_same_bytes(cluster, tmp_path, monkeypatch):
    small_kdef.write_tree(tmp_path / "kdef")
    for name, executor in {"here": None, "cluster": cluster}.items():
        place = tmp_path / name
        builders.prepare("kdef", None, str(place), str(tmp_path / "kdef"), executor=executor)
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 255, (48, 48, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    photos, options = [f"{number}.png" for number in range(3)], WHOLE
    run = write_run(tmp_path / "run")
    for name, executor in {"here": IN_PROCESS, "cluster": cluster}.items():
        list(corpus.predict(run, photos, tmp_path / name / "shards", options, "parquet", executor))
    here, there = (files_in(tmp_path / name) for name in ("here", "cluster"))
    assert len([name for name in here if "array_record" in name or "shard-" in name]) > 1
    assert here == there


def files_in(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
