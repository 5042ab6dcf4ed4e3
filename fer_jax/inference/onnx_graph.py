"""Translates a JAX program of convolutions, pooling and dense layers to an ONNX graph.

Supports the thirty or so primitives that the registered networks use and raises
`UnsupportedError` for others; `export_run` compares the result with the run. The general
exporter, jax2onnx, needs an older Orbax than this project.

Values that depend on weights alone are folded into constants. Feature maps [B, H, W, C] are
transposed to [B, C, H, W] at a convolution and stay in that layout as long as possible, so that
runtimes can fuse convolutions, biases and ReLUs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

OPSET = 18
"""The first opset in which all reductions take axes as an input; widely supported."""

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)

_ELEMENTWISE = {  # primitives with one equivalent operator
    "abs": "Abs", "add": "Add", "div": "Div", "exp": "Exp", "log": "Log", "logistic": "Sigmoid",
    "max": "Max", "min": "Min", "mul": "Mul", "neg": "Neg", "sqrt": "Sqrt", "sub": "Sub",
    "tanh": "Tanh",
}  # fmt: skip
_CALLS = {  # primitives that call the jaxpr in their parameters
    "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
    "jit", "pjit", "remat", "remat2",
}  # fmt: skip


class UnsupportedError(Exception):
    """The program has an operation without a translation to ONNX."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value computed by the graph.

    Attributes:
      name: its name in the graph.
      nchw: whether its layout is [B, C, H, W] although the program's is [B, H, W, C].
    """

    name: str
    nchw: bool = False


Value = Tensor | np.ndarray
"""A value of the graph or a constant. Broadcast dimensions of a constant have size 1."""


def translate(
    program: Callable[..., jax.Array | tuple[jax.Array, ...]],
    variables: Any,
    images: jax.ShapeDtypeStruct,
    input_name: str,
    output_names: Sequence[str],
) -> Any:
    """Translates `program(variables, images)` to an ONNX model.

    Args:
      program: a pure function.
      variables: its weights, stored in the model.
      images: shape and dtype of its input; the first dimension may be symbolic.
      input_name: name of the graph's input.
      output_names: names of the graph's outputs.

    Raises:
      UnsupportedError: an operation has no translation; the message names it.
    """
    closed = jax.make_jaxpr(program)(variables, images)
    graph = _Graph()
    weights = [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]
    arguments: list[Value] = [*weights, Tensor(input_name)]
    constants = [np.asarray(value) for value in closed.consts]
    results = graph.run(closed.jaxpr, constants, arguments)
    named = zip(output_names, results, closed.out_avals, strict=True)
    return graph.finish(list(named), images, input_name)


class _Graph:
    """Builds the graph's nodes and weights."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._stored: dict[tuple[Any, ...], str] = {}

    def finish(
        self,
        results: Sequence[tuple[str, Value, Any]],
        images: jax.ShapeDtypeStruct,
        input_name: str,
    ) -> Any:
        """Returns the model whose outputs are `results`: name, value and shape of each."""
        import onnx

        helper = self._helper
        for name, result, _ in results:
            self._nodes.append(helper.make_node("Identity", [self.as_nhwc(result)], [name]))
        ports = [
            helper.make_tensor_value_info(name, dtype, ["batch", *map(int, aval.shape[1:])])
            for name, dtype, aval in (
                (input_name, onnx.TensorProto.UINT8, images),
                *((name, onnx.TensorProto.FLOAT, aval) for name, _, aval in results),
            )
        ]
        graph = helper.make_graph(self._nodes, "fer_jax", ports[:1], ports[1:], self._weights)
        opsets = [helper.make_opsetid("", OPSET)]
        # The oldest file format with these operators: older runtimes can read it.
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="fer_jax")

    def run(
        self, jaxpr: Any, constants: Sequence[Value], arguments: Sequence[Value]
    ) -> list[Value]:
        """Adds a jaxpr's operations; returns the values of its outputs."""
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Value:
            if isinstance(variable, Literal):
                return np.asarray(variable.val)
            return values[variable]

        for equation in jaxpr.eqns:
            inputs = [read(variable) for variable in equation.invars]
            values.update(zip(equation.outvars, self.apply(equation, inputs), strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def apply(self, equation: Any, inputs: list[Value]) -> list[Value]:
        """Adds one operation; returns the values of its outputs."""
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            if hasattr(inner, "consts"):
                return self.run(inner.jaxpr, list(map(np.asarray, inner.consts)), inputs)
            return self.run(inner, [], inputs)
        if name in ("stop_gradient", "copy", "copy_p", "optimization_barrier"):
            return inputs
        if name == "broadcast_in_dim":
            return [self._broadcast(inputs[0], **params)]
        constants = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(constants) == len(inputs):
            # Folded with JAX, not NumPy, for bit-identical results.
            result = equation.primitive.bind(*map(jax.numpy.asarray, constants), **params)
            return [np.asarray(result)]
        if name == "rev":
            return [self._reverse(inputs[0], params["dimensions"], equation.invars[0].aval.shape)]
        if name == "dot_general":
            ranks = [variable.aval.ndim for variable in equation.invars]
            return [self._dot(inputs, ranks, params["dimension_numbers"])]
        if name in _ELEMENTWISE:
            return [self._elementwise(_ELEMENTWISE[name], inputs)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise UnsupportedError(f"the operation {name} has no translation to ONNX")
        return [method(*inputs, **params)]

    def node(self, operator: str, inputs: Sequence[Value | str], **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        names = [value if isinstance(value, str) else self.name(value) for value in inputs]
        output = f"{operator.lower()}_{len(self._nodes)}"
        node = self._helper.make_node(operator, names, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def name(self, value: Value) -> str:
        """Returns the name of a value; a constant is stored in the model, once."""
        if isinstance(value, Tensor):
            return value.name
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._stored:
            self._stored[key] = f"weight_{len(self._stored)}"
            array = np.ascontiguousarray(value).reshape(value.shape)
            self._weights.append(self._numpy_helper.from_array(array, self._stored[key]))
        return self._stored[key]

    def as_nhwc(self, value: Value) -> str:
        """Returns the name of a value in the program's layout, [B, H, W, C]."""
        if isinstance(value, Tensor) and value.nchw:
            return self.node("Transpose", [value], perm=_TO_NHWC)
        return self.name(value)

    def as_nchw(self, value: Value) -> str:
        """Returns the name of a feature map in layout [B, C, H, W]."""
        if isinstance(value, Tensor) and value.nchw:
            return value.name
        if isinstance(value, np.ndarray):
            return self.name(value.transpose(_TO_NCHW) if value.ndim == 4 else value)
        return self.node("Transpose", [value], perm=_TO_NCHW)

    def _elementwise(self, operator: str, inputs: Sequence[Value]) -> Value:
        for one, other in (inputs, inputs[::-1]) if operator == "Max" else ():
            if isinstance(one, np.ndarray) and one.ndim == 0:
                if one == -np.inf:
                    return other
                if one == 0:
                    assert isinstance(other, Tensor)
                    return Tensor(self.node("Relu", [other]), other.nchw)
        if operator == "Sub" and isinstance(inputs[1], np.ndarray):
            operator, inputs = "Add", [inputs[0], -inputs[1]]  # runtimes fuse additions
        nchw = any(isinstance(value, Tensor) and value.nchw for value in inputs)
        names = [self.as_nchw(value) if nchw else self.name(value) for value in inputs]
        return Tensor(self.node(operator, names), nchw)

    def _square(self, value: Value) -> Value:
        return self._elementwise("Mul", [value, value])

    def _integer_pow(self, value: Value, *, y: int) -> Value:
        return self._elementwise("Pow", [value, np.array(y, np.float32)])

    def _rsqrt(self, value: Value) -> Value:
        return self._elementwise("Reciprocal", [self._elementwise("Sqrt", [value])])

    def _convert_element_type(self, value: Tensor, *, new_dtype: Any, **_: Any) -> Value:
        kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(new_dtype))
        return Tensor(self.node("Cast", [value], to=kind), value.nchw)

    def _select_n(self, which: Value, *cases: Value) -> Value:
        if not isinstance(which, np.ndarray) or which.ndim:
            raise UnsupportedError("a selection that depends on the image")
        return cases[int(which)]

    def _broadcast(
        self,
        value: Value,
        *,
        shape: Sequence[Any],
        broadcast_dimensions: Sequence[int],
        **_: Any,
    ) -> Value:
        """Inserts dimensions of size 1; ONNX operators broadcast along them."""
        if isinstance(value, np.ndarray):
            new_shape = [1] * len(shape)
            for size, dimension in zip(value.shape, broadcast_dimensions, strict=True):
                new_shape[dimension] = size
            if value.ndim:
                return value.reshape(new_shape)
            # Full size, except along the batch: average pooling sums ones to count pixels.
            return np.full([int(n) if isinstance(n, int) else 1 for n in shape], value)
        new = [axis for axis in range(len(shape)) if axis not in broadcast_dimensions]
        if not new:
            return value
        return Tensor(self.node("Unsqueeze", [self.as_nhwc(value), np.array(new)]))

    def _reshape(self, value: Tensor, *, new_sizes: Sequence[Any], **_: Any) -> Value:
        sizes = np.array([size if isinstance(size, int) else -1 for size in new_sizes])
        return Tensor(self.node("Reshape", [self.as_nhwc(value), sizes]))

    def _slice(
        self,
        value: Tensor,
        *,
        start_indices: Sequence[int],
        limit_indices: Sequence[Any],
        strides: Sequence[int] | None,
    ) -> Value:
        """Slices along the last axis, as splitting an output into heads does."""
        if any(start_indices[:-1]) or (strides and set(strides) != {1}):
            raise UnsupportedError("a slice along several axes, or with strides")
        bounds = [np.array([int(at[-1])]) for at in (start_indices, limit_indices)]
        axes = np.array([len(start_indices) - 1])
        return Tensor(self.node("Slice", [self.as_nhwc(value), *bounds, axes]))

    def _squeeze(self, value: Tensor, *, dimensions: Sequence[int]) -> Value:
        return Tensor(self.node("Squeeze", [self.as_nhwc(value), np.array(dimensions)]))

    def _transpose(self, value: Tensor, *, permutation: Sequence[int]) -> Value:
        return Tensor(self.node("Transpose", [self.as_nhwc(value)], perm=list(permutation)))

    def _concatenate(self, *values: Value, dimension: int) -> Value:
        if all(isinstance(value, Tensor) and value.nchw for value in values):
            names, axis = [self.name(value) for value in values], _TO_NCHW.index(dimension)
            return Tensor(self.node("Concat", names, axis=axis), nchw=True)
        names = [self.as_nhwc(value) for value in values]
        return Tensor(self.node("Concat", names, axis=dimension))

    def _reverse(self, value: Value, axes: Sequence[int], shape: Sequence[Any]) -> Value:
        name = self.as_nhwc(value)
        for axis in axes:
            backwards = np.arange(int(shape[axis]))[::-1]
            name = self.node("Gather", [name, backwards.astype(np.int64)], axis=int(axis))
        return Tensor(name)

    def _gather(self, value: Tensor, indices: Value, **params: Any) -> Value:
        """Gathers along one axis with constant indices, as swapping channels does."""
        numbers = params["dimension_numbers"]
        collapsed = numbers.collapsed_slice_dims
        if len(collapsed) != 1 or not isinstance(indices, np.ndarray) or indices.shape[-1] != 1:
            raise UnsupportedError("a gather along several axes")
        flat = indices.astype(np.int64).reshape(-1)
        return Tensor(self.node("Gather", [self.as_nhwc(value), flat], axis=int(collapsed[0])))

    def _conv_general_dilated(self, images: Value, kernel: Value, **params: Any) -> Value:
        numbers = params["dimension_numbers"]
        layout = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
        if layout != (_TO_NCHW, (3, 2, 0, 1), _TO_NCHW) or set(params["lhs_dilation"]) != {1}:
            raise UnsupportedError("a transposed convolution, or one that is not NHWC by HWIO")
        if not isinstance(kernel, np.ndarray):
            raise UnsupportedError("a convolution whose kernel depends on the image")
        padding = params["padding"]
        output = self.node(
            "Conv",
            [self.as_nchw(images), kernel.transpose(3, 2, 0, 1)],
            kernel_shape=kernel.shape[:2],
            strides=params["window_strides"],
            dilations=params["rhs_dilation"],
            group=params["feature_group_count"],
            pads=[low for low, _ in padding] + [high for _, high in padding],
        )
        return Tensor(output, nchw=True)

    def _pad(self, value: Tensor, filling: Value, *, padding_config: Sequence[Any]) -> Value:
        if min(map(min, padding_config)) < 0 or any(inner for _, _, inner in padding_config):
            raise UnsupportedError("a padding that crops or is between elements")
        order = _TO_NCHW if value.nchw else range(len(padding_config))
        pads = np.array([padding_config[axis][end] for end in (0, 1) for axis in order])
        return Tensor(self.node("Pad", [value, pads, filling]), value.nchw)

    def _reduce_window_max(self, value: Value, **params: Any) -> Value:
        return Tensor(self.node("MaxPool", [self.as_nchw(value)], **_window(params)), nchw=True)

    def _reduce_window_sum(self, value: Value, **params: Any) -> Value:
        window = _window(params)
        means = self.node("AveragePool", [self.as_nchw(value)], count_include_pad=1, **window)
        count = np.float32(np.prod(window["kernel_shape"]))
        return Tensor(self.node("Mul", [means, np.asarray(count)]), nchw=True)

    def _reduce_sum(self, value: Tensor, *, axes: Sequence[int], **_: Any) -> Value:
        return self._reduce("ReduceSum", value, axes)

    def _reduce_max(self, value: Tensor, *, axes: Sequence[int], **_: Any) -> Value:
        return self._reduce("ReduceMax", value, axes)

    def _reduce(self, operator: str, value: Tensor, axes: Sequence[int]) -> Value:
        is_spatial = value.nchw and tuple(axes) == (1, 2)  # the result [B, C] needs no transpose
        name = value.name if is_spatial else self.as_nhwc(value)
        onnx_axes = np.array((2, 3) if is_spatial else axes, np.int64)
        return Tensor(self.node(operator, [name, onnx_axes], keepdims=0))

    def _dot(self, inputs: Sequence[Value], ranks: Sequence[int], dimension_numbers: Any) -> Value:
        names = [self.as_nhwc(value) for value in inputs]
        contracted, batch = dimension_numbers
        if tuple(ranks) == (2, 2) and contracted == ((1,), (0,)):
            return Tensor(self.node("MatMul", names))  # which runtimes fuse with additions
        if batch != ((), ()):
            raise UnsupportedError("a dot product of batches")
        return Tensor(self.node("Einsum", names, equation=_einsum(contracted, ranks)))


def _einsum(contracted: Sequence[Sequence[int]], ranks: Sequence[int]) -> str:
    """Returns the equation of a dot product: the free axes of the left, then of the right."""
    left, right = list("abcd"[: ranks[0]]), list("efgh"[: ranks[1]])
    for one, other in zip(*contracted, strict=True):
        right[other] = left[one]
    shared = {left[one] for one in contracted[0]}
    free = [name for name in (*left, *right) if name not in shared]
    return f"{''.join(left)},{''.join(right)}->{''.join(free)}"


def _window(params: dict[str, Any]) -> dict[str, Any]:
    """Returns the attributes of a spatial pooling."""
    dimensions, padding = params["window_dimensions"], params["padding"]
    over_batch = (dimensions[0], dimensions[3]) != (1, 1)
    if len(dimensions) != 4 or over_batch or set(params["base_dilation"]) != {1}:
        raise UnsupportedError("a pooling that is not over height and width")
    return {
        "kernel_shape": dimensions[1:3],
        "strides": params["window_strides"][1:3],
        "pads": [low for low, _ in padding[1:3]] + [high for _, high in padding[1:3]],
    }
