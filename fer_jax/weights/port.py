"""Ports a weight file to a network's backbone: matches, transposes, folds, checks and writes it.

Every array of the backbone must be in the file, and every array of the file must be used or be a
known extra, such as a classifier or a counter; otherwise the file is rejected. Heads are not
ported, because their classes are those of another task.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from fer_jax import files
from fer_jax.data.preprocess import InputFormat
from fer_jax.errors import UserError
from fer_jax.models.registry import create_model
from fer_jax.weights import face_resnet, inception_resnet_v2, ir50, resnet, vgg16
from fer_jax.weights.layout import Conv, Layer, Norm, PReLU, Table
from fer_jax.weights.load import FORMAT, METADATA
from fer_jax.weights.presets import PRESETS, Preset
from fer_jax.weights.source import Source, read_source

TABLES: dict[str, Table] = {
    table.model: table
    for table in (
        face_resnet.TABLE,
        inception_resnet_v2.TABLE,
        ir50.TABLE,
        resnet.RESNET18,
        resnet.RESNET50,
        resnet.RESNET50_CAFFE,
        resnet.SENET50,
        vgg16.TABLE,
    )
}
_LIBRARIES = {
    "keras": ("Keras", "a .h5 or .keras file"),
    "pytorch": ("PyTorch", "a .pth or safetensors file"),
    "numpy": ("VGGFace2-pytorch", "its .pkl file"),
    "dlib": ("dlib", "its .dat file"),
}
"""Names of the libraries of `Table.formats`, and their files."""
_KERAS_TOPS = re.compile(r"(predictions|fc\d+|dense(_\d+)?)")
_KERAS_3_EXTRAS = re.compile(
    r"(.*/)?(layers/dense(_\d+)?/.*|optimizer/.*|metrics/.*|compile_metrics/.*|"
    r".*seed_generator(_\d+)?/.*|_?loss_tracker/.*)"
)
_TORCH_WRAPPERS = ("", "module.", "model.", "timm_model.")

_Roles = dict[str, np.ndarray]
"""A layer's arrays by role: kernel, bias; scale, bias, mean, var; slope."""


@dataclasses.dataclass(frozen=True)
class Port:
    """The ported weights of a network's backbone.

    Attributes:
      source: the original file.
      model: name of the network.
      tensors: float32 arrays by name: params/backbone/..., batch_stats/backbone/...
      input_format: the pixel format that the weights expect.
      dropped: names in the file that are not in the backbone.
      folded: number of BatchNorm scales other than one that were folded into convolutions.
      preset: the published file that it was ported as.
    """

    source: Source
    model: str
    tensors: dict[str, np.ndarray]
    input_format: InputFormat
    dropped: tuple[str, ...]
    folded: int
    preset: Preset | None = None

    def write(self, path: Path) -> Path:
        """Writes a safetensors file with metadata.

        Raises:
          UserError: the file cannot be written.
        """
        description = {
            "format": FORMAT,
            "model": self.model,
            "source": self.source.path.name,
            "source_sha256": self.source.sha256,
            "layout": self.source.layout,
            "input_format": dataclasses.asdict(self.input_format),
            "value_range": [0.0, 255 * self.input_format.scale],
        }
        metadata = {METADATA: json.dumps(description)}
        tensors = {name: np.ascontiguousarray(array) for name, array in self.tensors.items()}
        return files.write_bytes(path, safetensors.numpy.save(tensors, metadata))


def port(path: Path, model: str) -> Port:
    """Ports a weight file to a network's backbone.

    Args:
      path: a file that `source.read_source` can read.
      model: a key of `TABLES`.

    Raises:
      UserError: an unknown network, an unreadable file, or weights of another network.
    """
    _check_model(model)
    return port_source(read_source(path), model)


def port_preset(path: Path, name: str) -> Port:
    """Ports a file that users bring, with the input format of its preset.

    Args:
      path: a file that `source.read_source` can read.
      name: a key of `PRESETS`.

    Raises:
      UserError: an unknown preset, an unreadable file, or weights of another network.
    """
    if name not in PRESETS:
        raise UserError(f"expected a preset ({', '.join(sorted(PRESETS))}), found {name!r}")
    preset = PRESETS[name]
    ported = port(path, preset.model)
    return dataclasses.replace(ported, input_format=preset.input_format, preset=preset)


def port_source(source: Source, model: str) -> Port:
    """`port` for a file that has been read.

    Raises:
      UserError: an unknown network, or weights of another network.
    """
    _check_model(model)
    table = TABLES[model]
    kind = source.layout if source.layout in _LIBRARIES else "keras"
    if kind not in table.formats:
        libraries, kinds = zip(*(_LIBRARIES[library] for library in table.formats), strict=True)
        why = f". {table.no_keras}" if kind == "keras" and table.no_keras else ""
        raise UserError(
            f"expected weights of {', '.join(libraries)} for {model}, found {source.path} "
            f"({source.layout}){why}; give {' or '.join(kinds)}"
        )
    matched = _MATCHERS[source.layout](source, table)
    _check_match(source, table, matched)
    folded = _fold_scales(table, matched.layers)
    tensors = dict(_named(matched.layers))
    problems = list(_shape_problems(tensors, backbone_shapes(model)))
    if problems:
        raise _mismatch(source, table, problems)
    return Port(source, model, tensors, table.formats[kind], tuple(matched.dropped), folded)


def _check_model(model: str) -> None:
    if model not in TABLES:
        raise UserError(
            f"expected a network with portable weights ({', '.join(sorted(TABLES))}), "
            f"found {model!r}"
        )


@dataclasses.dataclass
class _Matched:
    """The result of matching a file to a layer table.

    Attributes:
      layers: the arrays of each layer by the layer's path in fer_jax.
      dropped: names of known extras.
      missing: names that the network needs and the file lacks.
      unknown: names in the file that match nothing.
    """

    layers: dict[str, _Roles] = dataclasses.field(default_factory=dict)
    dropped: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)


def _match_legacy(source: Source, table: Table) -> _Matched:
    """Matches by position only, because the numbers in layer names depend on the Keras session."""
    matched = _Matched()
    count = len(table.layers)
    for layer, stored in zip(table.layers, source.layers, strict=False):
        roles = _keras_roles(layer, len(stored.arrays))
        if roles is None:
            matched.unknown.append(f"{stored.name} where {_keras_name(layer)} is expected")
        else:
            matched.layers[layer.path] = dict(zip(roles, stored.arrays, strict=True))
    matched.missing += [layer.path for layer in table.layers[len(source.layers) :]]
    for stored in source.layers[count:]:
        known = _KERAS_TOPS.fullmatch(stored.name) is not None
        (matched.dropped if known else matched.unknown).append(stored.name)
    return matched


def _keras_roles(layer: Layer, count: int) -> tuple[str, ...] | None:
    """Returns the roles of a Keras layer's arrays in its order; None if `count` does not fit."""
    possible: list[tuple[str, ...]]
    if isinstance(layer, Conv):
        possible = [("kernel", "bias")] if layer.bias else [("kernel",)]
    else:
        possible = [("bias", "mean", "var"), ("scale", "bias", "mean", "var")]
    return next((roles for roles in possible if len(roles) == count), None)


def _keras_name(layer: Layer) -> str:
    return "a convolution" if isinstance(layer, Conv) else "a BatchNorm"


def _match_keras_3(source: Source, table: Table) -> _Matched:
    """Matches by path: Keras 3 numbers the layers of each class in the order of the network."""
    matched, used = _Matched(), set()
    prefix = _keras_3_prefix(source)
    numbers = {Conv: 0, Norm: 0}
    for layer in table.layers:
        kind = "conv2d" if isinstance(layer, Conv) else "batch_normalization"
        number = numbers[type(layer)]
        numbers[type(layer)] += 1
        group = f"{prefix}layers/{kind}" + (f"_{number}" if number else "") + "/vars/"
        names = sorted(name for name in source.tensors if name.startswith(group))
        used.update(names)
        roles = _keras_roles(layer, len(names))
        if roles is None:
            (matched.unknown if names else matched.missing).append(group.removesuffix("/vars/"))
        else:
            arrays = (source.tensors[name] for name in names)
            matched.layers[layer.path] = dict(zip(roles, arrays, strict=True))
    for name in sorted(source.tensors.keys() - used):
        known = _KERAS_3_EXTRAS.fullmatch(name) is not None
        (matched.dropped if known else matched.unknown).append(name)
    return matched


def _keras_3_prefix(source: Source) -> str:
    """Returns the path of the backbone if it is a layer of another model, else ""."""
    first = "layers/conv2d/vars/0"
    inside = [name for name in source.tensors if name.endswith(f"/{first}")]
    return "" if first in source.tensors or not inside else inside[0].removesuffix(first)


def _match_pytorch(source: Source, table: Table) -> _Matched:
    """Matches by the names of torchvision, timm and those of the face-recognition networks."""
    matched, used = _Matched(), set()
    first = f"{table.layers[0].torch}.weight"
    prefix = next((p for p in _TORCH_WRAPPERS if p + first in source.tensors), "")
    for layer in table.layers:
        roles = matched.layers.setdefault(layer.path, {})
        for role, name in _torch_names(layer):
            used.add(prefix + name)
            if prefix + name in source.tensors:
                array = source.tensors[prefix + name]
                # (outputs, inputs, rows, columns) to (rows, columns, inputs, outputs)
                roles[role] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
            else:
                matched.missing.append(prefix + name)
    for name in sorted(source.tensors.keys() - used):
        known = name.removeprefix(prefix).startswith(table.torch_tops)
        counter = name.endswith(".num_batches_tracked")
        (matched.dropped if known or counter else matched.unknown).append(name)
    return matched


def _torch_names(layer: Layer) -> Iterator[tuple[str, str]]:
    """Yields (role, name in the file)."""
    if isinstance(layer, Conv):
        yield "kernel", f"{layer.torch}.weight"
        if layer.bias:
            yield "bias", f"{layer.torch}.bias"
    elif isinstance(layer, PReLU):
        yield "slope", f"{layer.torch}.weight"
    else:
        yield "scale", f"{layer.torch}.weight"
        yield "bias", f"{layer.torch}.bias"
        yield "mean", f"{layer.torch}.running_mean"
        yield "var", f"{layer.torch}.running_var"


def _match_dlib(source: Source, table: Table) -> _Matched:
    """Matches by position. The bias of a convolution is folded into the affine layer after it."""
    matched = _Matched()
    biases: dict[str, np.ndarray] = {}
    for layer, stored in zip(table.layers, source.layers, strict=False):
        kind = "con" if isinstance(layer, Conv) else "affine"
        if not stored.name.startswith(kind):
            matched.unknown.append(f"{stored.name} where {kind} is expected")
        elif isinstance(layer, Conv):
            kernel, biases[layer.path] = stored.arrays
            matched.layers[layer.path] = {"kernel": kernel}
        elif isinstance(layer, Norm):
            scale, bias = stored.arrays
            # The shape check reports arrays of other shapes.
            if layer.conv in biases and scale.shape == biases[layer.conv].shape:
                bias = bias + scale * biases[layer.conv]
            matched.layers[layer.path] = {"scale": scale, "bias": bias}
    count = len(table.layers)
    matched.missing += [layer.path for layer in table.layers[len(source.layers) :]]
    for stored in source.layers[count:]:
        known = stored.name == "fc1"  # the face descriptor
        (matched.dropped if known else matched.unknown).append(stored.name)
    return matched


_MATCHERS: dict[str, Callable[[Source, Table], _Matched]] = {
    "keras legacy h5": _match_legacy,
    "keras 3": _match_keras_3,
    "pytorch": _match_pytorch,
    "numpy": _match_pytorch,
    "dlib": _match_dlib,
}


def _fold_scales(table: Table, layers: dict[str, _Roles]) -> int:
    """Folds BatchNorm scales that our network lacks into the preceding convolutions.

    scale * (conv - mean) / std = (scale * conv - scale * mean) / std. This is exact for any
    scale as long as the stored statistics are used: in inference, and while they are frozen.
    With batch statistics, BatchNorm normalizes its input and so cancels a scale in the
    convolution. Folding forward, into the layers after the ReLU, would be exact there too, but
    the output of a residual block is read by many layers.

    Returns:
      The number of BatchNorms with a scale other than one.
    """
    folded = 0
    for layer in table.layers:
        if not isinstance(layer, Norm) or layer.scaled:
            continue
        norm, conv = layers[layer.path], layers[layer.conv]
        scale = norm.pop("scale", None)
        # The shape check reports arrays of other shapes.
        if scale is None or scale.shape != norm["mean"].shape or np.all(scale == 1):
            continue
        if conv["kernel"].shape[-1:] == scale.shape:
            wide = scale.astype(np.float64)
            conv["kernel"] = (conv["kernel"] * wide).astype(np.float32)
            norm["mean"] = (norm["mean"] * wide).astype(np.float32)
            folded += 1
    return folded


def _named(layers: Mapping[str, _Roles]) -> Iterator[tuple[str, np.ndarray]]:
    for path, roles in layers.items():
        for role, array in roles.items():
            collection = "batch_stats" if role in ("mean", "var") else "params"
            yield f"{collection}/{path}/{role}", np.asarray(array, np.float32)


@functools.cache
def backbone_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every array of a network's backbone by name; computes nothing."""
    network = create_model(model, classes=2)
    images = jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda key, pixels: network.init(key, pixels, train=False), jax.random.key(0), images
    )
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    return {name: leaf.shape for name, leaf in flat.items() if "/backbone/" in name}


def _shape_problems(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    for name in sorted(tensors.keys() ^ shapes.keys()):
        yield f"{name} is {'missing' if name in shapes else 'unknown'}"
    for name in sorted(tensors.keys() & shapes.keys()):
        if tensors[name].shape != shapes[name]:
            yield f"{name} has the shape {tensors[name].shape} instead of {shapes[name]}"
        elif not np.isfinite(tensors[name]).all():
            yield f"{name} has non-finite numbers"
        elif name.endswith("/var") and tensors[name].min() < 0:
            yield f"{name} has negative variances"


def _check_match(source: Source, table: Table, matched: _Matched) -> None:
    problems = [f"{name} is missing" for name in matched.missing]
    problems += [f"{name} is unknown" for name in matched.unknown]
    if problems:
        raise _mismatch(source, table, problems)


def _mismatch(source: Source, table: Table, problems: list[str]) -> UserError:
    first = "; ".join(problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return UserError(
        f"expected the weights of {table.model} in {source.path} ({source.layout}), found those "
        f"of another or a modified network: {first}{more}. "
        "Use a file of this network, or the file's network as --model"
    )


def describe(ported: Port) -> Iterator[str]:
    """Yields lines that summarize what was ported and dropped."""
    total = sum(array.size for array in ported.tensors.values())
    yield (
        f"{ported.source.path} ({ported.source.layout}, sha256 {ported.source.sha256[:16]}): "
        f"{len(ported.tensors)} arrays, {total:,} numbers of {ported.model}'s backbone"
    )
    if ported.folded:
        yield (
            f"BatchNorm scales folded into {ported.folded} convolutions: exact in inference, "
            "and in training while the BatchNorm statistics are frozen"
        )
    if ported.dropped:
        shown = ", ".join(ported.dropped[:6])
        more = f" and {len(ported.dropped) - 6} more" if len(ported.dropped) > 6 else ""
        yield f"dropped: {shown}{more}"
    yield f"input: {input_text(ported.input_format)}"
    if ported.preset:
        preset = ported.preset
        yield (
            f"trained on images of {preset.size} px: --config.model.name={preset.model} "
            f"--config.data.size={preset.size}"
        )
        yield (
            f"{preset.project} publishes no hash of {preset.files}; the sha256 of this file is "
            f"{ported.source.sha256}"
        )


def input_text(input_format: InputFormat) -> str:
    """Returns a description such as "RGB in 0..1, mean 0.5 0.5 0.5, std 0.5 0.5 0.5"."""
    return (
        f"{input_format.channels.upper()} in 0..{255 * input_format.scale:g}, "
        f"mean {_numbers(input_format.mean)}, std {_numbers(input_format.std)}"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
