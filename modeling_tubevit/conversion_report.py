# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The report of a conversion: what happened to every tensor of the source and of the TubeViT."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field


SOURCE_STATES = ("copied", "transformed", "unused")
TARGET_STATES = ("copied", "transformed", "new")


@dataclass
class ConversionReport:
    """
    The report of a conversion, which lists every tensor of both models once.

    source: per tensor of the checkpoint `{"state": "copied", "transformed" or "unused", "targets": [...], "how": ...}`.
        "how" names the transformation, or the reason why the tensor is unused. A source with several targets is "copied" if
        at least one of them is a copy.
    target: per tensor of the TubeViT `{"state": "copied", "transformed" or "new", "sources": [...], "how": ...}`.
    settings: settings of the source without a counterpart, each with the reason.
    assumed: settings of the TubeViT that no file of the source names, each with its origin.

    `print(report)` shows one line for all layers with the same entry; `to_dict` returns plain data for JSON.
    """

    source_name: str
    source_class: str
    target_class: str
    source: dict[str, dict] = field(default_factory=dict)
    target: dict[str, dict] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)

    def add(self, target: str, state: str, sources: Iterable[str], how: str = "") -> None:
        """Record that `target` comes from `sources`, which are empty for a newly initialized tensor."""
        sources = list(sources)
        if target in self.target:
            raise ValueError(f"{target} is already in the report: {self.target[target]}.")
        self.target[target] = {"state": state, "sources": sources, "how": how}
        for name in sources:
            entry = self.source.setdefault(name, {"state": state, "targets": [], "how": how})
            entry["targets"].append(target)
            if state == "copied" and entry["state"] != "copied":
                entry |= {"state": state, "how": how}

    def add_unused(self, source: str, why: str) -> None:
        """Record that a tensor of the checkpoint is not used."""
        if source in self.source:
            raise ValueError(f"{source} is already in the report: {self.source[source]}.")
        self.source[source] = {"state": "unused", "targets": [], "how": why}

    def to_dict(self) -> dict:
        """The whole report as plain lists and dictionaries."""
        return {
            "source_name": self.source_name,
            "source_class": self.source_class,
            "target_class": self.target_class,
            "source": {name: dict(entry) for name, entry in sorted(self.source.items())},
            "target": {name: dict(entry) for name, entry in sorted(self.target.items())},
            "settings": dict(self.settings),
            "assumed": dict(self.assumed),
        }

    def __str__(self) -> str:
        counts = ", ".join(
            f"{sum(entry['state'] == state for entry in self.source.values())} {state}" for state in SOURCE_STATES
        )
        num_new = sum(entry["state"] == "new" for entry in self.target.values())
        lines = [
            f"{self.target_class} from {self.source_class} {self.source_name}",
            f"{len(self.source)} source tensors: {counts}. {len(self.target)} target tensors, {num_new} of them new.",
        ]
        for state in TARGET_STATES:
            rows = [
                (name, (" <- " + ", ".join(entry["sources"]) if entry["sources"] else ""), entry["how"])
                for name, entry in self.target.items()
                if entry["state"] == state
            ]
            lines += _section(state, rows)
        lines += _section(
            "unused", [(name, "", entry["how"]) for name, entry in self.source.items() if entry["state"] == "unused"]
        )
        lines += _section("settings without a counterpart", [(name, "", why) for name, why in self.settings.items()])
        lines += _section("assumed settings", [(name, "", origin) for name, origin in self.assumed.items()])
        return "\n".join(lines)


def _section(title: str, rows: list[tuple[str, str, str]]) -> list[str]:
    """A title and a line per row; rows that differ only in the layer number are one line with their count."""
    folded: dict[tuple[str, str, str], int] = {}
    for name, origin, how in rows:
        row = (_fold(name), _fold(origin), how)
        folded[row] = folded.get(row, 0) + 1
    lines = [
        f"  {name}{f' (x{count})' if count > 1 else ''}{origin}{f': {how}' if how else ''}"
        for (name, origin, how), count in folded.items()
    ]
    return [f"{title}:", *lines] if lines else []


def _fold(name: str) -> str:
    # Layers here and in Transformers, of the UniFormerV2 authors (resblocks, dpe, dec), and of Scenic (encoderblock_3/).
    return re.sub(r"\b(\w*layers?|global_blocks|resblocks|dpe|dec|encoderblock)([._])\d+([./])", r"\1\2*\3", name)
