"""The program that test_many_devices runs in every process: trains, evaluates, writes results.

    python tests/training/many_devices.py OUT --cases dropout/host,batch_norm/device

Writes OUT/<process index>.json; uses all devices of the job.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from fer_jax.data.feed import Feed, Prefetch, make_feed
from fer_jax.data.preprocess import Preprocessing
from fer_jax.data.records import Records, Split
from fer_jax.data.sampling import BatchSampler
from fer_jax.data.store import HostStore, Placement, StreamStore
from fer_jax.models.registry import create_model
from fer_jax.runtime import compile_cache, distributed, sharding
from fer_jax.settings import Augmentation
from fer_jax.training.dispatch import ChunkPlan, make_chunk_program
from fer_jax.training.evaluation import Evaluator, make_eval_function
from fer_jax.training.recipe import PLAIN
from fer_jax.training.state import TrainState, create_state
from fer_jax.training.step import make_step_function
from tests.tiny_network import Tiny

SIZE, CLASSES, BATCH, STEPS, SEED = 16, 3, 16, 20, 0
RECORDS, TESTED = 40, 21  # not multiples of the batch; 21 not of 2 devices either
NETWORKS = {
    "dropout": create_model("light_vgg", CLASSES, head_widths=(32, 32)),
    "batch_norm": create_model("custom_cnn", CLASSES, head_widths=(16,), batch_norm=True),
    "tiny": Tiny(CLASSES),  # with BatchNorm; compiles fast
}
# Adam's first update has the size of the learning rate even if a gradient is zero except for
# rounding, as of biases before BatchNorm. There, with Adam at 1e-3, losses differ by 1e-4 from the
# third step on; with epsilon 1e-4, or with SGD, by less than 1e-6 up to step 20.
OPTIMIZERS = {"dropout": optax.adam(1e-3), "batch_norm": optax.sgd(1e-2, momentum=0.9),
              "tiny": optax.sgd(1e-2, momentum=0.9)}  # fmt: skip
# "sharded" is the device store if the images do not fit on each device.
PLACEMENTS = {
    "device": Placement("device", False, ""),
    "sharded": Placement("device", True, ""),
    "host": Placement("host", False, ""),
    "stream": Placement("stream", False, ""),
}
# Few changes, because each takes time to compile; tests/data/test_augment.py tests them all.
FEW = dict.fromkeys(("zoom", "shift", "blur", "brightness", "contrast", "saturation"), 0.0)
AUGMENTATION = Augmentation(flip=0.5, rotation=0.0, noise=0.05, **FEW)
PREPROCESSING = Preprocessing(SIZE, "standardize")


def faces(count: int, seed: int) -> Records:
    """Returns one random image per class plus noise, so that classes can be learned."""
    kinds = np.random.default_rng(1).integers(60, 196, (CLASSES, SIZE, SIZE, 3))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    images = (kinds[labels] + rng.integers(-60, 60, (count, SIZE, SIZE, 3))).astype(np.uint8)
    names = tuple(map(str, range(count)))
    return Records(images, labels, names, names, ("a", "b", "c"), "")


def feed_of(records: Records, store: str, mesh: Mesh) -> Feed:
    placement = PLACEMENTS[store]
    if placement.store == "stream":
        read = records.images.__getitem__
        split = Split(records.labels, records.ids, records.groups, records.label_names, "", read)
        return make_feed(StreamStore(split, threads=3), placement, mesh)
    return make_feed(HostStore(records), placement, mesh)


def train(network: str, store: str, mesh: Mesh) -> tuple[TrainState, list[float]]:
    """Returns the state after all steps, and the mean loss of each step."""
    model, optimizer = NETWORKS[network], OPTIMIZERS[network]
    records = faces(RECORDS, seed=2)
    feed, sampler = feed_of(records, store, mesh), BatchSampler(records.labels, BATCH, SEED)
    function = make_step_function(model, optimizer, PREPROCESSING, AUGMENTATION, PLAIN, SEED)
    program = make_chunk_program(function, feed, mesh)
    state = sharding.replicate(create_state(model, optimizer, SIZE, SEED), mesh)
    losses = []
    plan = ChunkPlan(1, (STEPS,))
    with Prefetch(lambda b, e: feed.put(sampler.rows(b, e - b)), plan.end_after) as batches:
        for step in range(STEPS):
            state, metrics = program(state, feed.source, batches.take(step))
            losses.append(float(jax.device_get(metrics.loss.total)[0]) / BATCH)
    return state, losses


def evaluate(network: str, store: str, state: TrainState, mesh: Mesh) -> list[list[int]]:
    """Returns the confusion matrix; the records are not a multiple of the batch or the devices."""
    function = make_eval_function(NETWORKS[network], PREPROCESSING)
    feed = feed_of(faces(TESTED, seed=3), store, mesh)
    evaluation = Evaluator(function, feed, TESTED, BATCH, mesh)(state.inference_variables)
    assert len(evaluation.probabilities) == TESTED
    counts: list[list[int]] = evaluation.confusion.tolist()
    return counts


def plain_counts(network: str, state: TrainState) -> list[list[int]]:
    """Returns the same from one forward pass, without batches, masks or feeds."""
    records, counts = faces(TESTED, seed=3), np.zeros((CLASSES, CLASSES), int)
    images = PREPROCESSING.normalized(records.images)
    variables = jax.device_get(state.inference_variables)
    logits = NETWORKS[network].apply(variables, images, train=False)
    np.add.at(counts, (records.labels, np.asarray(logits).argmax(1)), 1)
    return counts.tolist()


def digests(state: TrainState) -> list[str]:
    """Returns the digest of all arrays on each device of this process."""
    found = []
    for device in jax.local_devices():
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(state):
            for shard in leaf.addressable_shards:
                if shard.device == device:
                    digest.update(np.asarray(shard.data).tobytes())
        found.append(digest.hexdigest())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", required=True)
    options = parser.parse_args()
    distributed.start()
    compile_cache.enable()
    mesh = sharding.data_mesh()
    found: dict[str, object] = {"devices": mesh.size}
    for case in options.cases.split(","):
        network, store = case.split("/")
        state, losses = train(network, store, mesh)
        found[case] = {
            "losses": losses,
            "counts": evaluate(network, store, state, mesh),
            "plain_counts": plain_counts(network, state),
            "digests": digests(state),
        }
    (options.out / f"{jax.process_index()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
