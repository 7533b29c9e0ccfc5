# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Renaming, splitting and reshaping the tensors of another code's checkpoint, in both directions."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch


class StateMapping:
    """
    How the tensors of another layout correspond to ours. A subclass defines `source_name`, and `source_shape` and `to_source` where the
    layouts differ.
    """

    def source_name(self, name: str) -> tuple[str, int | None]:
        """
        The other layout's name of our tensor, and its part if several of our tensors are packed in one: 0, 1 or 2 for query, key
        and value. Raises `KeyError` for a name without a counterpart.
        """
        raise NotImplementedError

    def source_shape(self, source: str, shape: torch.Size) -> tuple[int, ...]:
        """The shape of a tensor of the other layout, or of its part, from the shape of ours."""
        return tuple(shape)

    def from_source(self, source: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Our tensor of `shape` from one of the other layout, whose shape is that of `source_shape`."""
        return tensor.reshape(shape)

    def to_source(self, source: str, tensor: torch.Tensor) -> torch.Tensor:
        """The inverse of `from_source`."""
        return tensor.reshape(self.source_shape(source, tensor.shape))

    def invert(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors of our layout in the other one."""
        parts: dict[str, dict[int, torch.Tensor]] = {}
        for name, tensor in state.items():
            source, part = self.source_name(name)
            parts.setdefault(source, {})[part or 0] = self.to_source(source, tensor.detach())
        return {
            source: torch.cat([pieces[part] for part in sorted(pieces)]) if len(pieces) > 1 else pieces[0]
            for source, pieces in parts.items()
        }


def build_state(
    targets: Mapping[str, torch.Tensor],
    sources: Mapping[str, torch.Tensor],
    mapping: StateMapping,
    dtype: torch.dtype,
    names: Mapping[str, str] | None = None,
    report: Any = None,
) -> dict[str, torch.Tensor]:
    """
    Our tensors from those of another layout.

    targets: our tensors by name; only their shapes and dtypes are read. sources: the tensors of the other layout. dtype: dtype of the
    floating-point results; batch norms stay float32. names: names of the sources for errors and the report. report: a `ConversionReport` to fill.

    Raises `ValueError` that names the tensors (the first few) that are missing or additional, or the one with a wrong shape.
    """
    names = names or {}
    located = {target: mapping.source_name(target) for target in targets}
    missing = sorted({source for source, _ in located.values()} - set(sources))
    additional = sorted(set(sources) - {source for source, _ in located.values()})
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing: {_list(missing)}")
    if additional:
        problems.append(f"{len(additional)} tensors have no place in the model: {_list(additional)}")
    if problems:
        raise ValueError(f"The file does not fit the model: {'; '.join(problems)}.")
    packed = {source for source, part in located.values() if part is not None}
    result = {}
    for target, (source, part) in located.items():
        shape, tensor = targets[target].shape, sources[source]
        expected = mapping.source_shape(source, shape)
        whole = (3 * expected[0], *expected[1:]) if source in packed else expected
        if tuple(tensor.shape) != tuple(whole):
            raise ValueError(
                f"The tensor {names.get(source, source)} has the shape {tuple(tensor.shape)}, and the model needs {tuple(whole)}."
            )
        piece = tensor if part is None else tensor.chunk(3)[part]
        piece = mapping.from_source(source, piece, shape)
        kept_dtype = torch.float32 if ".batch_norm." in target else dtype  # half precision would round its statistics
        result[target] = piece.to(kept_dtype).contiguous() if piece.is_floating_point() else piece.clone()
        if report is not None:
            same = part is None and tuple(expected) == tuple(shape)
            how = "" if same else "reshaped" if part is None else "part of a packed projection"
            report.add(target, "copied" if same else "transformed", [names.get(source, source)], how)
    return result


def load_converted(
    model_class: Any,
    config: Any,
    sources: Mapping[str, torch.Tensor],
    mapping: StateMapping,
    dtype: torch.dtype | str,
    names: Mapping[str, str] | None = None,
    report: Any = None,
    head: str = "",
    all_names: Iterable[str] = (),
) -> Any:
    """
    A model with the tensors of another layout, in evaluation mode. The arguments that `build_state` has are the same.

    dtype: also its name, such as "bfloat16".
    head: prefix of the classifier in `sources`, which a model without a head drops. all_names: names in the file; the report lists
        those that are not used.
    """
    dtype = _floating_dtype(dtype)
    with torch.device("meta"):
        targets = model_class(config).state_dict()
    if head and not any(name.startswith("classifier.") for name in targets):
        sources = {name: value for name, value in sources.items() if not name.startswith(head)}
    weights = build_state(targets, sources, mapping, dtype, names, report)
    if report is not None:
        used = {(names or {}).get(name, name) for name in sources}
        for name in all_names:
            if name not in used:
                report.add_unused(name, "no weight of the model")
    return model_class.from_pretrained(None, config=config, state_dict=weights, dtype=dtype).eval()


def check_tensors(tensors: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
    """
    Raise `ValueError` for a value that is not a dense tensor, is empty, or holds NaN or inf, and for a dtype that is not a floating-point
    one of at least 16 bits; the counts of batch norms (`num_batches_tracked`) may be integers. names: as in `build_state`.
    """
    names = names or {}
    for key, value in tensors.items():
        name = names.get(key, key)
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ValueError(f"{name} must be a dense tensor, got {_kind(value)}.")
        if value.is_meta or value.numel() == 0:
            raise ValueError(f"The tensor {name} of shape {tuple(value.shape)} holds no values.")
        if not value.is_floating_point() and not key.endswith("num_batches_tracked"):
            raise ValueError(
                f"The tensor {name} has the dtype {_name(value.dtype)}, and the model needs floating-point numbers: a quantized file cannot "
                "be converted."
            )
        if value.is_floating_point() and value.element_size() == 1:
            raise ValueError(
                f"The tensor {name} has the dtype {_name(value.dtype)}, whose scales are not known: give float16, bfloat16 or float32 weights."
            )
    bad = [
        names.get(key, key)
        for key, value in tensors.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if bad:
        raise ValueError(f"{len(bad)} tensors hold NaN or inf: {_list(bad)}.")


def check_overrides(overrides: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an override of a config that contradicts a field which the weights of an image model determine."""
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_channels"):
        if name in overrides and overrides[name] != fields[name]:
            raise ValueError(f"{name}={overrides[name]!r} does not fit the source, which has {fields[name]}.")


def _kind(value: Any) -> str:
    return (
        f"a {_name(value.layout)} one" if isinstance(value, torch.Tensor) else f"an object of {type(value).__name__}"
    )


def _floating_dtype(dtype: torch.dtype | str) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be float32, float16 or bfloat16, or their torch.dtype, got {dtype!r}.")
    return found


def _name(of_torch: Any) -> str:
    return str(of_torch).removeprefix("torch.")


def _list(names: list[str], at_most: int = 3) -> str:
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
