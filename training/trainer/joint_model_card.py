# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The model cards of a joint run: one for the joint model, and one for each classifier that it was split into."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .build_joint import JointSetup
from .model_card import front_matter, read_metrics, recipe, scores_of, start_of, write_card, write_model_card


USAGE = """\
```python
from tubevit import TubeViTForJointClassification

model = TubeViTForJointClassification.from_pretrained("{folder}")
classifier = model.to_classifier("{name}")  # what the folder {folder}/{name} holds
```"""


def write_joint_card(folder: Path, setup: JointSetup, history: list[dict] | None = None) -> None:
    """
    Write `README.md` into the folder of a joint run. With `history`, Trainer's log, the run has ended: its results are in it,
    and the classifiers have cards of their own.
    """
    names, title = list(setup.parts), folder.absolute().name
    evaluations = {name: read_metrics(folder / name / "evaluation" / "metrics.json") for name in names}
    tasks = dict.fromkeys(f"{part.data.media}-classification" for part in setup.parts.values())
    parts = [
        front_matter(setup, list(tasks)),
        f"# {title}",
        f"A TubeViT with a head for each of {', '.join(names)}, trained jointly from {start_of(setup.run)} by `tubevit train`.",
        "## Data",
        _data(setup),
        "## Results",
        _results(evaluations),
        "## Recipe",
        recipe(setup.run),
        _own_options(setup),
        "## Use",
        USAGE.format(folder=title, name=names[0]),
    ]
    write_card(folder, parts)
    if history is None:
        return
    for name, part in setup.parts.items():
        others = [each for each in names if each != name]
        metrics_file = folder / name / "evaluation" / "metrics.json"
        write_model_card(folder / name, part, history_of(name, others, history), metrics_file, together_with=others)


def history_of(name: str, others: Sequence[str], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The part of a joint run's log that is about one data set, and not the `others`, as a run on that alone would log it."""
    prefix = f"eval_{name}_"
    longer = tuple(f"eval_{other}_" for other in others if other.startswith(f"{name}_"))
    entries = (
        {
            key.replace(prefix, "eval_", 1): value
            for key, value in entry.items()
            if key.startswith((prefix, "epoch", "step")) and not key.startswith(longer)
        }
        for entry in history
    )
    return [entry for entry in entries if any(key.startswith("eval_") for key in entry)]


def _data(setup: JointSetup) -> str:
    rows = ["| data set | kind | classes | share of batches | split | listed | cannot be read | used |"]
    rows.append("|---|---|---:|---:|---|---:|---:|---:|")
    for name, part in setup.parts.items():
        about = f"{name} | {part.data.media}s | {len(part.class_names)} | {setup.shares[name]:.1%}"
        for split, counts in part.counts.items():
            rows.append(f"| {about} | {split} | {counts['listed']} | {counts['cannot_be_read']} | {counts['used']} |")
    return "\n".join(rows)


def _own_options(setup: JointSetup) -> str:
    """What data sets have otherwise than the run, but for where they lie."""
    lines = []
    for name, given in setup.run.joint.datasets.items():
        own = {key: value for key, value in given.items() if key not in vars(setup.parts[name].run.data)}
        lines += [f"{name}.{key}: {value}" for key, value in own.items() if key != "corrupt_videos_file"]
    return "Of single data sets:\n\n```yaml\n" + "\n".join(lines) + "\n```" if lines else ""


def _results(evaluations: dict[str, dict[str, Any] | None]) -> str:
    lines = []
    for name, evaluation in evaluations.items():
        if evaluation is not None:
            views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views"
            scores = ", ".join(f"{key} {value:.4f}" for key, value in scores_of(evaluation).items())
            scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} scored"
            lines.append(f"- {name}, {evaluation['split']} split, {views}, {scored}: {scores}")
    return "\n".join(lines) or "The model was not evaluated."
