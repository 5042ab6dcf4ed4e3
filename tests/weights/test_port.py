"""Porting: order, transposition, folding, and which arrays may be dropped.

Uses the networks' real tables and shapes. Each array is filled with a number that identifies its
layer, so that two swapped layers of equal shape are noticed.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.data.preprocess import InputFormat
from fer_jax.errors import UserError
from fer_jax.weights import port
from fer_jax.weights.keras_h5 import Layer
from fer_jax.weights.layout import Conv
from fer_jax.weights.source import Source
from tests.weights import torchvision

CAFFE = InputFormat("bgr", 1.0, (103.939, 116.779, 123.68))
TF = InputFormat("rgb", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TORCH = InputFormat("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VGGFACE2 = InputFormat("bgr", 1.0, (91.4953, 103.8827, 131.0912))
DLIB = InputFormat("rgb", 1 / 256, (122.782 / 256, 117.001 / 256, 104.298 / 256))
INPUT = {
    ("vgg16", "keras"): CAFFE,
    ("vgg16", "pytorch"): TORCH,
    ("inception_resnet_v2", "keras"): TF,
    ("inception_resnet_v2", "pytorch"): TF,
    ("resnet18", "pytorch"): TORCH,
    ("resnet50", "pytorch"): TORCH,
    ("resnet50_caffe", "numpy"): VGGFACE2,
    ("senet50", "numpy"): VGGFACE2,
    ("ir50", "pytorch"): TF,
    ("face_resnet", "dlib"): DLIB,
}
ANY = {"path": Path("weights"), "sha256": "0" * 64}


def legacy(layers, tops=()) -> Source:
    # Names whose sorted order is not their position: only the position may matter.
    named = [Layer(f"{-i % 97}", tuple(arrays.values())) for i, (_, arrays) in enumerate(layers)]
    named += [Layer(name, (np.zeros((2, 2)), np.zeros(2))) for name in tops]
    return Source(layout="keras legacy h5", layers=tuple(named), **ANY)


def keras_3(layers, extras=(), prefix="") -> Source:
    tensors, numbers = {}, {"conv2d": 0, "batch_normalization": 0}
    for layer, arrays in layers:
        kind = "conv2d" if isinstance(layer, Conv) else "batch_normalization"
        number = numbers[kind]
        numbers[kind] += 1
        name = f"{prefix}layers/{kind}" + (f"_{number}" if number else "")
        tensors |= {f"{name}/vars/{i}": array for i, array in enumerate(arrays.values())}
    tensors |= dict.fromkeys(extras, np.zeros(2))
    return Source(layout="keras 3", tensors=tensors, **ANY)


def pytorch(layers, extras=(), prefix="", scale=1.0) -> Source:
    tensors = torchvision.tensors_of(layers, prefix, scale)
    tensors |= {prefix + name: np.zeros(2) for name in extras}
    return Source(layout="pytorch", tensors=tensors, **ANY)


def pickled(layers, extras=()) -> Source:
    return dataclasses.replace(pytorch(layers, extras), layout="numpy")


def dlib(layers, extras=(), bias=0.0) -> Source:
    """Convolutions have a bias in dlib's file."""
    named = []
    for number, (layer, arrays) in enumerate(layers):
        if isinstance(layer, Conv):
            values = arrays["kernel"], np.full(arrays["kernel"].shape[-1], bias, np.float32)
            named.append(Layer(f"con{number // 2 + 1}", values))
        else:
            named.append(Layer(f"affine{number // 2 + 1}", tuple(arrays.values())))
    named += [Layer(name, (np.zeros((256, 128)),)) for name in extras]
    return Source(layout="dlib", layers=tuple(named), **ANY)


KINDS = {
    legacy: "keras", keras_3: "keras", pytorch: "pytorch", pickled: "numpy", dlib: "dlib",
}  # fmt: skip
PORTABLE = [(make, model) for make, kind in KINDS.items() for model, of in INPUT if of == kind]


def test_every_layout_of_every_network_is_tested():
    actual = {(model, kind) for model, table in port.TABLES.items() for kind in table.formats}
    assert actual == set(INPUT)


@pytest.mark.parametrize(("make", "model"), PORTABLE)
def test_every_layer_is_matched(model, make, marked, expected_marks):
    ported = port.port_source(make(marked(model)), model)
    expected = expected_marks(model)
    assert ported.tensors.keys() == expected.keys() == port.backbone_shapes(model).keys()
    actual = {name: float(array.flat[-1]) for name, array in ported.tensors.items()}
    assert actual == expected
    assert ported.input_format == INPUT[model, KINDS[make]]
    assert ported.folded == 0


def test_keras_order_equals_the_recorded_one(fixture):
    """`Model.layers` of Keras 3.15.1, whose names number layers in the order of creation."""
    recorded = (fixture / "inception_resnet_v2_layers.txt").read_text().split()
    order = port.TABLES["inception_resnet_v2"].layers
    created = sorted(
        (layer.path for layer in order if layer.path.endswith("/conv")), key=creation_order
    )
    number = {path.rsplit("/", 1)[0]: i for i, path in enumerate(created)}
    names = []
    for layer in order:
        unit, kind = layer.path.rsplit("/", 1)
        numbered = f"{kind}{number.get(unit)}"
        names.append(unit.split("/")[1] + "_up" if kind == "up" else numbered)
    assert names == recorded


def creation_order(path: str) -> tuple:
    """Block by block, branch by branch."""
    stages = ["stem", "mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b"]
    _, block, *rest = path.split("/")
    stage = next(stage for stage in stages if block.startswith(stage))
    return stages.index(stage), *map(int, re.findall(r"\d+", block[len(stage) :] + rest[0]))


@pytest.mark.parametrize(
    ("make", "model", "extras", "dropped"),
    [
        (legacy, "vgg16", {"tops": ("fc1", "fc2", "predictions")}, 3),
        (legacy, "vgg16", {"tops": ("dense_7",)}, 1),
        (keras_3, "vgg16", {"extras": ("layers/dense_2/vars/0", "optimizer/vars/0")}, 2),
        (keras_3, "vgg16", {"prefix": "layers/functional/", "extras": ("layers/dense/vars/0",)}, 1),
        (pytorch, "vgg16", {"extras": ("classifier.6.bias", "pre_logits.fc1.weight")}, 2),
        (pytorch, "vgg16", {"extras": ("head.fc.weight",), "prefix": "module."}, 1),
        (pytorch, "vgg16", {"prefix": "timm_model."}, 0),
        (pytorch, "inception_resnet_v2", {"extras": ("classif.weight",)}, 1 + 204),
        (pytorch, "resnet18", {"extras": ("fc.weight", "fc.bias")}, 2 + 20),
        (pytorch, "resnet50", {"extras": ("fc.weight",), "prefix": "module."}, 1 + 53),
        (pytorch, "resnet18", {"extras": ("fc.bias", "feature.bias"), "prefix": "module."}, 2 + 20),
        (pickled, "senet50", {"extras": ("fc.weight",)}, 1 + 53),
        (pytorch, "ir50", {"extras": ("output_layer.3.bias", "output_layer.4.weight")}, 2 + 53),
        (dlib, "face_resnet", {"extras": ("fc1",)}, 1),
    ],
)
def test_known_extras_are_dropped_and_reported(marked, make, model, extras, dropped):
    ported = port.port_source(make(marked(model), **extras), model)
    assert len(ported.dropped) == dropped
    assert ported.tensors.keys() == port.backbone_shapes(model).keys()
    lines = list(port.describe(ported))
    assert any(line.startswith("dropped: ") for line in lines) == bool(dropped)


@pytest.mark.parametrize(
    ("model", "name", "path"),
    [
        ("senet50", "layer3.5.conv4", "layer3_6/excitation/squeeze"),
        ("senet50", "layer4.2.conv5", "layer4_3/excitation/excite"),
        ("ir50", "input_layer.2", "stem/prelu"),
        ("ir50", "body.3.res_layer.0", "layer2_1/bn1"),
        ("ir50", "body.3.res_layer.2", "layer2_1/prelu"),
        ("ir50", "body.20.res_layer.4", "layer3_14/bn2"),
        ("ir50", "body.21.shortcut_layer.1", "layer4_1/shortcut_bn"),
        ("ir50", "body.23.res_layer.3", "layer4_3/conv2"),
        ("ir50", "output_layer.0", "norm"),
    ],
)
def test_names_of_the_face_networks(model, name, path):
    """From the modules of VGGFace2-pytorch and face.evoLVe."""
    paths = {layer.torch: layer.path for layer in port.TABLES[model].layers}
    assert paths[name] == f"backbone/{path}"


def without_last(layers):
    return layers[:-1]


def swapped_kinds(layers):
    return [layers[1], layers[0], *layers[2:]]


def other_shape(layers):
    layer, arrays = layers[3]
    changed = arrays | {"kernel": np.zeros((5, 5, 128, 128), np.float32)}
    return [*layers[:3], (layer, changed), *layers[4:]]


def other_slope(layers):
    layer, _ = layers[2]
    return [*layers[:2], (layer, {"slope": np.zeros(32, np.float32)}), *layers[3:]]


def not_a_number(layers):
    layer, arrays = layers[0]
    return [(layer, arrays | {"bias": np.full(64, np.nan, np.float32)}), *layers[1:]]


def same(layers):
    return layers


WRONG = [
    (legacy, "vgg16", without_last, {}, "backbone/block5_conv3 is missing"),
    (legacy, "vgg16", same, {"tops": ("rescaling",)}, "rescaling is unknown"),
    (legacy, "inception_resnet_v2", swapped_kinds, {}, "where a convolution is expected"),
    (keras_3, "vgg16", without_last, {}, "layers/conv2d_12 is missing"),
    (keras_3, "vgg16", same, {"extras": ("layers/normalization/vars/0",)}, "is unknown"),
    (pytorch, "vgg16", without_last, {}, r"features.28.weight is missing; features.28.bias"),
    (pytorch, "vgg16", same, {"extras": ("features.1.running_mean",)}, "running_mean is unknown"),
    (
        legacy,
        "vgg16",
        other_shape,
        {},
        r"block2_conv2/kernel has the shape \(5, 5, 128, 128\) instead of \(3, 3, 128, 128\)",
    ),
    (pytorch, "vgg16", other_shape, {}, r"instead of \(3, 3, 128, 128\)"),
    (pytorch, "resnet18", without_last, {}, r"layer4.1.bn2.weight is missing; .* and 1 more"),
    # An array of ResNet-34.
    (pytorch, "resnet18", same, {"extras": ("layer1.2.conv1.weight",)}, "layer1.2.* is unknown"),
    (pickled, "resnet50_caffe", same, {"extras": ("layer1.0.conv4.bias",)}, "conv4.bias is unk"),
    (pickled, "senet50", without_last, {}, r"conv5.weight is missing; .*conv5.bias is"),
    (pytorch, "ir50", without_last, {}, r"output_layer.0.weight is missing; .* and 1 more"),
    # An array of IR-SE-50.
    (
        pytorch,
        "ir50",
        same,
        {"extras": ("body.0.res_layer.5.fc1.weight",)},
        "fc1.weight is unknown",
    ),
    (pytorch, "ir50", other_slope, {}, r"prelu/slope has the shape \(32,\) instead of \(64,\)"),
    (keras_3, "vgg16", not_a_number, {}, "block1_conv1/bias has non-finite numbers"),
    (dlib, "face_resnet", without_last, {}, "layer5_1/unit2/affine is missing"),
    (dlib, "face_resnet", swapped_kinds, {}, "affine1 where con is expected"),
    (dlib, "face_resnet", same, {"extras": ("fc1", "con30")}, "con30 is unknown"),
]


@pytest.mark.parametrize(("make", "model", "change", "extras", "message"), WRONG)
def test_other_files_are_rejected(marked, make, model, change, extras, message):
    with pytest.raises(UserError, match=f"expected the weights of {model}.*{message}"):
        port.port_source(make(change(marked(model)), **extras), model)


@pytest.mark.parametrize(
    ("make", "of", "to"),
    [(make, of, to) for make, of in PORTABLE for made, to in PORTABLE if made == make and to != of],
)
def test_weights_of_another_network_are_rejected(marked, make, of, to):
    with pytest.raises(UserError, match=f"expected the weights of {to} .*and \\d+ more"):
        port.port_source(make(marked(of)), to)


@pytest.mark.parametrize(
    ("make", "of", "to", "message"),
    [
        (dlib, "face_resnet", "vgg16", r"Keras, PyTorch for vgg16, .*\(dlib\); give a"),
        # The same names and shapes, but other strides.
        (pickled, "resnet50_caffe", "resnet50", r"PyTorch for resnet50, .*\(numpy\); give a .pth"),
        (
            pytorch,
            "resnet50",
            "resnet50_caffe",
            r"VGGFace2-pytorch for .* \(pytorch\); give its .pk",
        ),
        (
            pytorch,
            "vgg16",
            "face_resnet",
            r"dlib for face_resnet, .*\(pytorch\); give its .dat file",
        ),
        (legacy, "vgg16", "face_resnet", r"dlib for face_resnet, .*\(keras legacy h5\); give its"),
    ],
)
def test_weights_of_another_library_are_rejected(marked, make, of, to, message):
    with pytest.raises(UserError, match=f"expected weights of {message}"):
        port.port_source(make(marked(of)), to)


def test_the_biases_of_dlibs_convolutions_go_into_the_affine_layers(marked):
    plain = port.port_source(dlib(marked("face_resnet")), "face_resnet").tensors
    biased = port.port_source(dlib(marked("face_resnet"), bias=0.5), "face_resnet").tensors
    for name, array in biased.items():
        shift = 0.5 * plain[name[:-4] + "scale"] if name.endswith("affine/bias") else 0.0
        np.testing.assert_array_equal(array, plain[name] + shift)


@pytest.mark.parametrize("make", [legacy, keras_3])
def test_another_network_of_the_same_name_is_rejected(marked, make):
    message = r"expected weights of PyTorch for resnet50, found .*Keras has no such .*\.pth"
    with pytest.raises(UserError, match=message):
        port.port_source(make(marked("resnet50")), "resnet50")


def test_an_unknown_network_is_rejected():
    with pytest.raises(UserError, match=r"senet50, vgg16\), found 'light_vgg'"):
        port.port(Path("x"), "light_vgg")


def stem(scale: np.ndarray | None):
    """The arrays of the first unit's convolution and BatchNorm."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    norm = {"bias": draw(32), "mean": draw(32), "var": draw(32) ** 2}
    return {"kernel": draw(3, 3, 3, 32)}, norm | ({} if scale is None else {"scale": scale})


@pytest.mark.parametrize("scale", [np.full(32, 2.5), np.linspace(-1, 1, 32), np.zeros(32)])
def test_a_batchnorm_scale_is_folded_exactly(scale):
    scale = scale.astype(np.float32)
    conv, norm = stem(scale)
    layers = {"backbone/stem1/conv": dict(conv), "backbone/stem1/bn": dict(norm)}
    assert port._fold_scales(small_table(), layers) == 1
    patches = np.random.default_rng(1).normal(size=(50, 27)).astype(np.float32)

    def output(kernel, bias, mean, var, scale=1.0):
        return scale * (patches @ kernel.reshape(27, 32) - mean) / np.sqrt(var + 1e-3) + bias

    folded = layers["backbone/stem1/conv"] | layers["backbone/stem1/bn"]
    assert "scale" not in folded
    np.testing.assert_allclose(output(**folded), output(**conv, **norm), rtol=2e-5, atol=2e-5)


def small_table():
    table = port.TABLES["inception_resnet_v2"]
    return dataclasses.replace(table, layers=table.layers[:2])


@pytest.mark.parametrize("scale", [np.ones(32, np.float32), None])
def test_a_scale_of_one_changes_no_bit(scale):
    conv, norm = stem(scale)
    layers = {"backbone/stem1/conv": dict(conv), "backbone/stem1/bn": dict(norm)}
    assert port._fold_scales(small_table(), layers) == 0
    assert layers["backbone/stem1/conv"]["kernel"] is conv["kernel"]
    assert layers["backbone/stem1/bn"].keys() == {"bias", "mean", "var"}


def test_the_summary_counts_folded_scales(marked):
    ported = port.port_source(
        pytorch(marked("inception_resnet_v2"), scale=2.0), "inception_resnet_v2"
    )
    assert ported.folded == 204
    assert any("folded into 204 convolutions" in line for line in port.describe(ported))


def test_half_precision_becomes_float32(marked):
    layers = [
        (layer, {role: array.astype(jnp.bfloat16) for role, array in arrays.items()})
        for layer, arrays in marked("vgg16")
    ]
    ported = port.port_source(pytorch(layers), "vgg16")
    assert {array.dtype for array in ported.tensors.values()} == {np.dtype(np.float32)}
