# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
ONNX files in int8.

`quantize` also computes matrix products in int8, with the quantizer of onnxruntime. `quantize_weights` stores weights in int8 and computes
in float32, for browsers.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


OPERATORS = ("MatMul", "Gemm")  # convolutions, normalization and softmax stay float32


def quantize(path: Path, samples: Iterable[np.ndarray] | None = None) -> str:
    """
    Replace a float32 file by one whose matrix products with weights are computed in int8, with a scale per output channel.

    samples: inputs of the graph, each with its batch axis. Static quantization measures the ranges of activations on them. Without them,
        quantization is dynamic: the file computes the range of each activation when it runs.

    Returns a sentence on the sizes and on what stays float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Weights of 7 bits: x86 processors without VNNI add two products in 16 bits, which overflow with weights of 8 bits.
    settings = {
        "op_types_to_quantize": list(OPERATORS),
        "per_channel": True,
        "weight_type": QuantType.QInt8,
        "reduce_range": True,
    }
    size, properties = path.stat().st_size, onnx.load(path).metadata_props
    logging.getLogger().addFilter(_is_no_advice)
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
            quant_pre_process(path, prepared, skip_symbolic_shape=True)  # folds the transposes of weights
            if samples is None:
                quantize_dynamic(prepared, target, **settings)
            else:
                name = onnx.load(path).graph.input[0].name
                reader = _Samples({name: each} for each in samples)
                quantize_static(prepared, target, reader, **settings, extra_options={"MatMulConstBOnly": True})
            model = onnx.load(target)
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
    del model.metadata_props[:]
    model.metadata_props.extend(properties)
    num_int8, num_float = _count_weights(model.graph)
    if num_int8 == 0:
        raise ValueError(
            "No matrix product of this model has constant weights, so int8 changes nothing: leave out --quantize."
        )
    onnx.save(model, path)
    kind = "dynamic" if samples is None else "static"
    return (
        f"int8, {kind}: {path.stat().st_size / 1e6:.2f} MB instead of {size / 1e6:.2f} MB in float32; {num_int8:,} weights of matrix "
        f"products are int8, {num_float:,} other values (convolutions, embeddings, normalization, biases) stay float32."
    )


class _Samples:
    """Inputs of a graph, as the quantizer of onnxruntime asks for them."""

    def __init__(self, samples: Iterable[dict[str, np.ndarray]]):
        self.samples = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Whether a log record is not onnxruntime's advice to run the preparation that `quantize` runs."""
    return "pre-process" not in record.getMessage()


def _count_weights(graph: Any) -> tuple[int, int]:
    """The numbers of values in int8 and in floats of a graph."""
    from onnx import TensorProto

    counts = {TensorProto.INT8: 0, TensorProto.FLOAT: 0}
    for each in graph.initializer:
        is_of_quantizer = each.name.endswith(("_scale", "_zero_point"))
        if each.data_type in counts and not is_of_quantizer:
            counts[each.data_type] += int(np.prod(each.dims))
    return counts[TensorProto.INT8], counts[TensorProto.FLOAT]


def quantize_weights(exported: Path) -> Path:
    """
    A copy of an exported folder with the weights of matrix products and convolutions in int8, with a scale per output channel. They are
    dequantized when the model is loaded, and computed with in float32: activations are not rounded, so labels hardly ever change.
    """
    import onnx
    from onnx import helper, numpy_helper

    target = exported.with_name("int8")
    shutil.copytree(exported, target)
    model = onnx.load(exported / "model.onnx")
    graph = model.graph
    weights = {each.name: each for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    axes = _channel_axes(graph, weights)
    nodes = []
    for name, axis in axes.items():
        values = numpy_helper.to_array(weights[name])
        others = tuple(index for index in range(values.ndim) if index != axis)
        scale = np.maximum(np.abs(values).max(others) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        shape = [-1 if index == axis else 1 for index in range(values.ndim)]
        rounded = np.rint(values / scale.reshape(shape)).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.extend(
            [numpy_helper.from_array(rounded, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        )
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=axis))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.save(model, target / "model.onnx")
    return target


def _channel_axes(graph: Any, weights: dict[str, Any]) -> dict[str, int]:
    """The names of weights of matrix products and convolutions in an ONNX graph to the axis of their output channels."""
    source = {node.output[0]: node for node in graph.node if node.op_type in ("Reshape", "Transpose", "Identity")}
    axes = {}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        is_transposed = any(each.name == "transB" and each.i for each in node.attribute)
        name = node.input[1]
        is_direct = name in weights
        while name in source:
            name = source[name].input[0]
        if name not in weights or len(weights[name].dims) < 2:
            continue
        if is_direct:
            axes[name] = 0 if node.op_type == "Conv" or is_transposed else len(weights[name].dims) - 1
        else:
            axes[name] = 0  # kernels of tubes, (output channels, ...), which the graph reshapes
    return axes
