"""The ONNX graph of a model, exported once for all tests of a process: an export takes four seconds, whatever the size of the model."""

import hashlib
from typing import Any

from tubevit.training.models import onnx_files


_export = onnx_files._make_graph
_programs: dict[tuple, tuple[Any, dict[str, str]]] = {}


def make_graph_once(classifier: Any, shape: tuple[int, ...], input_dtype: str, least_frames: int | None) -> Any:
    """`onnx_files._make_graph`, which exports again only for another config, other weights or another kind of input."""
    graph = onnx_files.PixelsToLogits(classifier.model, classifier.processors, shape)
    digest = hashlib.sha256(classifier.model.config.to_json_string().encode())
    for name, tensor in graph.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    key = digest.digest(), tuple(shape), input_dtype, least_frames
    if key not in _programs:
        program = _export(classifier, shape, input_dtype, least_frames)
        _programs[key] = program, dict(program.model.metadata_props)
    program, metadata = _programs[key]
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata)  # the caller adds its own
    return program
