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

    Raises `ValueError` that names every tensor (the first few) that is missing, additional or of a wrong shape.
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
    dtype: torch.dtype,
    names: Mapping[str, str] | None = None,
    report: Any = None,
    head: str = "",
    all_names: Iterable[str] = (),
) -> Any:
    """
    A model with the tensors of another layout, in evaluation mode. The arguments that `build_state` has are the same.

    head: prefix of the classifier in `sources`, which a model without a head drops. all_names: names in the file; the report lists
        those that are not used.
    """
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


def check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise `ValueError` that names the first few tensors with NaN or inf."""
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"{len(bad)} tensors hold NaN or inf: {_list(bad)}.")


def _list(names: list[str], at_most: int = 3) -> str:
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
