"""Tests of runs with ported initial weights, and of the verb `port-weights`."""

from __future__ import annotations

import hashlib
import json
import pickle

import h5py
import jax
import numpy as np
import pytest

from fer_jax import config as configuration
from fer_jax import run_dir as run_directory
from fer_jax.errors import UserError
from fer_jax.experiments import evaluate
from fer_jax.runtime import sharding
from fer_jax.training import train
from fer_jax.training.build import make_preprocessing
from fer_jax.training.initial_weights import find_initial_weights
from fer_jax.training.session import make_session
from fer_jax.weights import published
from fer_jax.weights.layout import CAFFE
from fer_jax.weights.port import TABLES, Port, backbone_shapes
from fer_jax.weights.source import Source


def write_port(path, number=0.5):
    """Writes ported weights of vgg16 with constant arrays."""
    shapes = backbone_shapes("vgg16")
    arrays = {name: np.full(shape, number, np.float32) for name, shape in shapes.items()}
    source = Source(path.with_name("vgg16_notop.h5"), "keras legacy h5", "a" * 64)
    return Port(source, "vgg16", arrays, CAFFE, (), 0).write(path)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    return write_port(tmp_path_factory.mktemp("weights") / "vgg16.safetensors")


def find_weights(settings):
    return find_initial_weights(settings, sharding.one_device_mesh())


def preprocessing_of(config):
    weights = find_weights(config)
    return make_preprocessing(config, weights.normalization if weights else None)


def load_config(data_dir, port, *overrides):
    return configuration.load_settings(
        "demo",
        [
            "model.name=vgg16",
            "data.size=32",
            f"data.dir={data_dir}",
            f"model.pretrained={port}",
            *overrides,
        ],
    )


def test_initial_weights_are_loaded_and_reported(data_dir, port, tmp_path, capsys):
    config = load_config(data_dir, port)
    session = make_session(config, tmp_path)
    state = train._initial_state(session)
    backbone = jax.tree.leaves(state.params["backbone"])
    assert {float(value) for leaf in backbone for value in (leaf.min(), leaf.max())} == {0.5}
    assert float(np.std(state.params["head"]["kernel"])) > 0

    # Stored for evaluation: the input format of the weights, and their identity.
    run = run_directory.open_run(tmp_path)
    assert run == session.run
    assert run.preprocessing.input_format == CAFFE
    digest = hashlib.sha256(port.read_bytes()).hexdigest()
    line = evaluate.describe_weights(run)
    assert line == (
        f"vgg16.safetensors (sha256 {digest[:16]}), ported from vgg16_notop.h5 "
        f"(keras legacy h5, sha256 {'a' * 16})"
    )
    assert run.weights["sha256"] == digest
    assert "initial weights of the backbone: vgg16.safetensors" in capsys.readouterr().out


def test_a_run_does_not_resume_with_other_initial_weights(data_dir, port, tmp_path):
    own = tmp_path / "vgg16.safetensors"
    own.write_bytes(port.read_bytes())
    config = load_config(data_dir, own)
    weights = find_weights(config)
    preprocessing = make_preprocessing(config, weights.normalization)
    begin = ("a", "b"), preprocessing, {"name": "faces"}
    run_directory.start(tmp_path / "run", config, *begin, weights.to_json())

    elsewhere = load_config(data_dir, port)
    same = find_weights(elsewhere).to_json()
    run_directory.start(tmp_path / "run", elsewhere, *begin, same)

    write_port(own, 0.25)
    weights = find_weights(config)
    with pytest.raises(UserError, match=r"sha256 of the weights: '\w+' then, '\w+' now"):
        run_directory.start(tmp_path / "run", config, *begin, weights.to_json())


@pytest.mark.parametrize(
    ("overrides", "normalize"),
    [
        ([], "weights"),
        (["data.normalize=weights"], "weights"),
        (["data.normalize=unit"], "unit"),
        (["model.pretrained=none"], "standardize"),
    ],
)
def test_weights_set_the_normalization_unless_overridden(port, overrides, normalize):
    config = load_config("/nowhere", port, *overrides)
    preprocessing = preprocessing_of(config)
    assert preprocessing.normalize == normalize
    assert preprocessing.input_format == (CAFFE if normalize == "weights" else None)


def test_a_run_of_format_1_is_read(tmp_path):
    config = configuration.load_settings("demo")
    preprocessing = make_preprocessing(config, None)
    run_directory.start(tmp_path, config, ("a", "b"), preprocessing, {"name": "faces"})
    stored = json.loads((tmp_path / "run.json").read_text())
    del stored["weights"], stored["preprocessing"]["input_format"], stored["digest"]
    (tmp_path / "run.json").write_text(json.dumps(stored | {"format": 1}))
    run = run_directory.open_run(tmp_path)
    assert run.preprocessing == preprocessing
    assert evaluate.describe_weights(run) == "random initialization"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model.pretrained=none", "data.normalize=weights"], "found none with 'weights'"),
        (["model.pretrained=/no/file"], "found no file.*port-weights"),
        (["model.name=custom_cnn", "model.pretrained=imagenet"], "published for custom_cnn"),
        (["model.name=light_vgg"], "expected weights of light_vgg .* found weights of vgg16"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(port, overrides, says):
    config = load_config("/nowhere", port, *overrides)
    with pytest.raises(UserError, match=f"(?s){says}"):
        preprocessing_of(config)


def test_the_data_set_name_is_checked_before_weights_are_downloaded(tmp_path):
    config = load_config("/nowhere", "/no/file", "data.name=synthetic_face")
    with pytest.raises(UserError, match="synthetic_face"):
        train.train(config, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["rafd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sfew", "amfed_plus"))],
)
def test_missing_pretrained_weights_are_an_error(bare_cli, name, monkeypatch):
    monkeypatch.setenv(published.CACHE_VARIABLE, str(bare_cli.folder / "cache"))
    monkeypatch.setenv(published.BASE_URL_VARIABLE, "http://127.0.0.1:9")  # nothing listens there
    # Data without files: missing files might be reported before missing weights.
    data = (
        "--config.data.name=synthetic_faces", "--config.data.config=none",
        "--config.data.protocol=none",
    )  # fmt: skip
    done = bare_cli.run(f"--config=configs/{name}.py", "--config.eval.batch_size=256", *data)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in [
        "from http://127.0.0.1:9/",
        "fer-jax port-weights FILE --model",
        "--config.model.pretrained=none",
    ]:
        assert part in done.stderr
    assert not (bare_cli.folder / "runs" / name / "run.json").exists()


def write_keras(path):
    shapes = backbone_shapes("vgg16")
    with h5py.File(path, "w") as file:
        names = [layer.path for layer in TABLES["vgg16"].layers]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"k", b"b"]
            group["k"] = np.zeros(shapes[f"params/{name}/kernel"], np.float32)
            group["b"] = np.zeros(shapes[f"params/{name}/bias"], np.float32)


def test_port_weights_writes_weights(bare_cli):
    write_keras(bare_cli.folder / "x.h5")
    done = bare_cli.run("x.h5", "--model=vgg16", "--out=a/vgg16.safetensors", verb="port_weights")
    assert done.returncode == 0, done.stderr
    summary, form, written = done.stdout.splitlines()
    assert "26 arrays, 14,714,688 numbers of vgg16's backbone" in summary
    assert form == "input: BGR in 0..255, mean 103.939 116.779 123.68, std 1 1 1"
    assert written == "a/vgg16.safetensors"
    config = load_config("/nowhere", bare_cli.folder / written)
    assert find_weights(config).source == "x.h5"


class Payload:
    """Would create a file when unpickled."""

    def __reduce__(self):
        return open, ("payload", "w")


def truncated(path):
    write_keras(path)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("write", "arguments", "says"),
    [
        (truncated, ["--model=vgg16", "--out=o.safetensors"], "truncated or damaged"),
        (
            write_keras,
            ["--model=inception_resnet_v2", "--out=o.safetensors"],
            "of another or a modified network",
        ),
        (
            lambda path: path.write_bytes(pickle.dumps(Payload())),
            ["--model=vgg16", "--out=o.safetensors"],
            # Python 3.13 pickles `open` under another module.
            f"calling {open.__module__}.open, which can run code; it was not run",
        ),
        (
            lambda path: path.write_text("?"),
            ["--model=vgg16", "--out=o.safetensors"],
            "an unknown format",
        ),
        (write_keras, ["--model=vgg16", "--out=o.h5"], "expected --out FILE.safetensors"),
        (write_keras, ["--model=vgg19", "--out=o.safetensors"], "found 'vgg19'"),
    ],
)
def test_port_weights_reports_errors_in_one_message(bare_cli, write, arguments, says):
    write(bare_cli.folder / "x")
    done = bare_cli.run("x", *arguments, verb="port_weights")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert not done.stdout
    assert [path.name for path in bare_cli.folder.iterdir()] == ["x"]
