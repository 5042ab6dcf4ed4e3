"""The networks: exact parameter counts, outputs, and the registry's errors."""

from __future__ import annotations

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.models.registry import (
    MODELS,
    UnknownSettingError,
    create_model,
    smallest_input,
)
from fer_jax.training.state import count_parameters

# Network, image side, classes, exact numbers of parameters and of statistics. From the paper,
# which reports their sum, from the published ResNets (timm's of SENet-50), from dlib's file, and
# by hand for IR-50.
COUNTS = [
    ("light_vgg", 100, 7, 5_391_055, 0),
    ("custom_cnn", 224, 6, 99_143_494, 0),
    ("vgg16", 224, 8, 15_244_104, 0),
    ("inception_resnet_v2", 224, 7, 56_508_007, 60_544),
    ("resnet18", 224, 1000, 11_689_512, 9_600),
    ("resnet18", 224, 7, 11_180_103, 9_600),
    ("resnet50", 224, 1000, 25_557_032, 53_120),
    ("resnet50", 224, 7, 23_522_375, 53_120),
    ("resnet50_caffe", 224, 1000, 25_557_032, 53_120),
    ("senet50", 224, 1000, 28_088_024, 53_120),
    ("ir50", 112, 7, 30_728_384 + 7 * 513, 25_344),
    ("face_resnet", 150, 7, 5_578_272 + 7 * 257, 0),
]


# Settings that give every kind of layer, but few of each.
SMALL = {
    "custom_cnn": {"batch_norm": True},
    "face_resnet": {"dropout": 0.5},
    "inception_resnet_v2": {"repeats": (1, 1, 1)},
    "resnet18": {"dropout": 0.5},
    "resnet50": {"dropout": 0.5, "depths": (1, 1, 1, 1)},
    "resnet50_caffe": {"dropout": 0.5, "depths": (1, 1, 1, 1)},
    "senet50": {"dropout": 0.5, "depths": (1, 1, 1, 1)},
    "ir50": {"dropout": 0.5, "depths": (1, 1, 1, 1)},
}


def shapes_of(model: nn.Module, size: int):
    """The shapes of an image and of the network's variables."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return images, jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
    )


@pytest.mark.parametrize(("name", "size", "classes", "parameters", "statistics"), COUNTS)
def test_parameter_count_equals_the_published_one(name, size, classes, parameters, statistics):
    _, variables = shapes_of(create_model(name, classes), size)
    assert count_parameters(variables["params"]) == parameters
    assert count_parameters(variables.get("batch_stats", {})) == statistics


@pytest.mark.parametrize(
    ("name", "size", "settings", "parameters"),
    [
        ("light_vgg", 48, {"widths": (32, 64, 128), "head_widths": (512,)}, 2_650_920),
        ("light_vgg", 100, {"widths": (8, 16)}, 5_391_568),
        ("resnet18", 48, {"widths": (24, 48, 96, 160), "small_stem": True}, 1_239_392),
        ("resnet18", 224, {"widths": (64, 128, 256, 512)}, 11_180_616),
        ("resnet50", 224, {"widths": (32, 64, 128, 256)}, 5_900_840),
    ],
)
def test_widths_give_the_expected_count_at_8_classes(name, size, settings, parameters):
    model = create_model(name, 8, **settings)
    assert count_parameters(shapes_of(model, size)[1]["params"]) == parameters


@pytest.mark.parametrize(("widths", "smallest"), [((8, 16), 4), ((4, 4, 4, 4, 4), 32), ((5,), 2)])
def test_the_smallest_input_of_light_vgg_follows_its_widths(widths, smallest):
    model = create_model("light_vgg", 3, widths=widths)
    assert smallest_input("light_vgg", model) == smallest
    assert shapes_of(model, smallest)[1]["params"]["head1"]["kernel"].shape == (widths[-1], 512)


def test_the_smallest_input_of_other_networks_is_the_registered_one():
    assert smallest_input("vgg16", create_model("vgg16", 3)) == MODELS["vgg16"].min_size


@pytest.mark.parametrize("widths", [(64, 128, 256), (8, 8, 8, 8, 8)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_has_four_widths(name, widths):
    with pytest.raises(ValueError, match=f"expected 4 widths .* found {len(widths)}: {widths[0]}"):
        create_model(name, 3, widths=widths)


def test_the_counts_of_all_networks_are_tested():
    assert {row[0] for row in COUNTS} == set(MODELS)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_logits_parameters_and_statistics_are_float32(name, train):
    model = create_model(name, 5, dtype="bfloat16", **SMALL.get(name, {}))
    images, variables = shapes_of(model, MODELS[name].min_size)
    run = lambda variables, x: model.apply(  # noqa: E731
        variables, x, train=train, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"]
    )
    logits, updated = jax.eval_shape(run, variables, images)
    assert logits.shape == (1, 5)
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, updated, variables))} == {
        jnp.dtype("float32")
    }


@pytest.mark.parametrize("name", sorted(MODELS))
def test_min_size_is_the_minimum(name):
    def works(size: int) -> bool:
        model = create_model(name, 3, **SMALL.get(name, {}))
        run = lambda images: model.init_with_output(  # noqa: E731
            jax.random.key(0), images, train=False, capture_intermediates=True, mutable=True
        )
        try:
            shapes = jax.eval_shape(run, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
        except (ValueError, TypeError, ZeroDivisionError):
            return False
        return all(leaf.size for leaf in jax.tree.leaves(shapes))

    assert works(MODELS[name].min_size)
    assert not works(MODELS[name].min_size - 1)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_dropout_needs_an_rng_in_training_only(name):
    model = create_model(name, 3, **SMALL.get(name, {}))
    images, variables = shapes_of(model, MODELS[name].min_size)
    run = lambda train: jax.eval_shape(  # noqa: E731
        lambda variables, x: model.apply(variables, x, train=train, mutable=["batch_stats"]),
        variables,
        images,
    )
    run(train=False)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        run(train=True)


def test_dropout_rate():
    model = create_model("light_vgg", 3, dropout=0.25, head_widths=(4000,))
    images = jnp.ones((1, 8, 8, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    run = lambda seed: model.apply(  # noqa: E731
        variables, images, train=True, rngs={"dropout": jax.random.key(seed)},
        capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
    )[1]["intermediates"]["Dropout_0"]["__call__"][0]  # fmt: skip
    active = np.asarray(run(0))[np.asarray(run(0)) + np.asarray(run(1)) + np.asarray(run(2)) > 0]
    assert 0.2 < (active == 0).mean() < 0.3


def test_kernels_are_glorot_uniform_and_biases_zero():
    model = create_model("light_vgg", 7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    dense = variables["params"]["head2"]
    limit = (6 / (512 + 512)) ** 0.5
    assert 0.99 * limit < np.abs(dense["kernel"]).max() <= limit
    assert not np.asarray(dense["bias"]).any()


def test_unknown_network_error_suggests_the_closest():
    with pytest.raises(
        UserError, match=r"custom_cnn, .*found 'light_vg'; did you mean 'light_vgg'"
    ):
        create_model("light_vg", 7)


def test_an_unknown_setting_is_rejected():
    with pytest.raises(
        UnknownSettingError, match=r"light_vgg has no pooling.*head_widths"
    ) as caught:
        create_model("light_vgg", 7, pooling="max")
    assert caught.value.setting == "pooling"


@pytest.mark.parametrize("widths", [(), (5, 4)])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_head_widths(name, widths):
    model = create_model(name, 3, **{**SMALL.get(name, {}), "head_widths": widths})
    _, variables = shapes_of(model, MODELS[name].min_size)
    layers = variables["params"].items()
    heads = {name: layer["bias"].size for name, layer in layers if name.startswith("head")}
    assert heads == {f"head{i}": width for i, width in enumerate(widths, 1)} | {"head": 3}
