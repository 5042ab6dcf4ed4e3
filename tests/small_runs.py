"""Fixtures: small runs with random or hand-made weights, and image and video files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax import labels as emotions
from fer_jax import run_dir as run_directory
from fer_jax.data.preprocess import InputFormat, Preprocessing
from fer_jax.inference.model import Model
from fer_jax.training.build import make_model
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.recipe import make_recipe
from fer_jax.training.stages import make_stages
from fer_jax.training.state import create_state
from tests.chromium import chromium

__all__ = ["chromium"]

SIZE = 32

MakeRun = Callable[..., run_directory.Run]


def write_run(
    folder: Path,
    labels: tuple[str, ...] = emotions.SEVEN,
    preprocessing: Preprocessing | None = None,
    overrides: tuple[str, ...] = (),
    edit: Callable = lambda params: params,
) -> run_directory.Run:
    """Writes a run directory with random weights; `edit` changes the params, not their average."""
    preprocessing = preprocessing or Preprocessing(SIZE, "standardize", face_margin=0.05)
    settings = configuration.load_settings("demo", (f"data.size={preprocessing.size}", *overrides))
    data = {"name": "synthetic_faces/demo/1.0.0", "protocol": "subject"}
    run = run_directory.start(folder, settings, labels, preprocessing, data)
    model = make_model(settings, run.heads.outputs)
    (stage,) = make_stages(settings, model, epoch_steps=1)
    recipe = make_recipe(settings)
    state = create_state(model, stage.optimizer, preprocessing.size, seed=1, recipe=recipe)
    state = dataclasses.replace(state, params=edit(state.params))
    loop_state = {"stopping": {"best_step": 0}, "stage": 0, "seconds": 0.0}
    with Checkpoints(run.checkpoints, identity=run.identity) as checkpoints:
        checkpoints.save(state, loop_state)
        checkpoints.wait()
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> run_directory.Run:
    """LightVGG at 32 pixels, untrained. Shared: do not modify."""
    return write_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="session")
def model(run) -> Model:
    """The opened `run`."""
    return Model(run)


@pytest.fixture(scope="session")
def color_run(tmp_path_factory) -> run_directory.Run:
    """A network that predicts which channel of its input is the strongest.

    Its input is BGR, like that of Caffe's weights, so that a swap of channels or labels shows.
    """

    def pick_channels(params: dict) -> dict:
        params = {name: {"kernel": leaf["kernel"] * 0, "bias": leaf["bias"] * 0}
                  for name, leaf in params.items()}  # fmt: skip
        for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2"):
            for channel in range(3):
                kernel = jnp.asarray(params[name]["kernel"])
                params[name]["kernel"] = kernel.at[1, 1, channel, channel].set(1.0)
        side, channels = SIZE // 4, 16
        for channel in range(3):  # the mean over the map
            column = np.zeros((side, side, channels), np.float32)
            column[:, :, channel] = 1 / side**2
            for name, value in (("head1", column.reshape(-1)), ("head2", None), ("head", None)):
                kernel = jnp.asarray(params[name]["kernel"])
                value = np.eye(kernel.shape[0])[channel] if value is None else value
                params[name]["kernel"] = kernel.at[:, channel].set(value)
        return params

    bgr = InputFormat("bgr", 1.0, (0.0, 0.0, 0.0))
    return write_run(
        tmp_path_factory.mktemp("runs") / "colours",
        ("blue", "green", "red"),
        Preprocessing(SIZE, "weights", bgr),
        edit=pick_channels,
    )


@pytest.fixture(scope="session")
def portraits() -> list[np.ndarray]:
    """Four rendered people of 200 x 200 pixels, facing the camera."""
    from tfds_builders.synthface import presets, render_subject

    spec = dataclasses.replace(
        presets.demo(77, 4, 200), yaws=(0.0,), views=0, fill=(0.5, 0.6),
        expressions=(emotions.HAPPINESS,),
    )  # fmt: skip
    return [next(iter(render_subject(spec, person))).image for person in range(4)]


def write_image(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def write_video(path: Path, images, rate: float = 10.0) -> Path:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture(scope="session")
def media(tmp_path_factory, portraits) -> Path:
    """A folder with portraits, a group, a wall, a video, and damaged files."""
    folder = tmp_path_factory.mktemp("media")
    write_image(folder / "album" / "anna.jpg", portraits[0])
    write_image(folder / "anna.png", portraits[1])
    write_image(folder / "group.jpg", np.hstack(portraits[:3]))
    write_image(folder / "wall.png", np.full((120, 160, 3), (120, 140, 160), np.uint8))
    pair = [np.hstack([portraits[0], portraits[1]]), np.hstack([portraits[2], portraits[3]])]
    video = write_video(folder / "clip.mp4", [pair[index // 6 % 2] for index in range(24)])
    (folder / "truncated.mp4").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    whole = (folder / "album" / "anna.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not an image")
    return folder
