# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A model card: what was trained on what and how, and what came out. Written from the run itself, nothing by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.families import family_of_preset
from ..options import option_values


RECIPE = ("model", "clips", "augmentation", "training")  # blocks whose options are listed
MAX_CLASSES = 30
USAGE = """\
```python
import tubevit  # makes Transformers know TubeViT
from transformers import pipeline

print(pipeline("{media}-classification", model="{name}")("{file}"))
```"""
EXAMPLES = {"video": "video.mp4", "image": "image.jpg"}


def write_model_card(
    folder: Path, setup: Any, history: list[dict], metrics_file: Path | None = None, together_with: Sequence[str] = ()
) -> None:
    """
    Write `README.md` into the folder of a model.

    setup: `RunSetup`. history: Trainer's log, or one like it. metrics_file: of the evaluation at the end, where there is one.
    together_with: other data sets that the model was trained on.
    """
    classes, media = setup.data.class_names, setup.data.media
    shown = ", ".join(classes[:MAX_CLASSES]) + (", ..." if len(classes) > MAX_CLASSES else "")
    together = f", jointly with {', '.join(map('`{}`'.format, together_with))}" if together_with else ""
    name = folder.absolute().name
    article = "A" if media == "video" else "An"
    parts = [
        front_matter(setup, [f"{media}-classification"]),
        f"# {name}",
        f"{article} {media} classifier with {len(classes)} classes, fine-tuned from {start_of(setup.run)}{together} by "
        "`tubevit train`.",
        "## Data",
        _data(setup),
        f"Classes: {shown}.",
        "## Results",
        _results(history, read_metrics(metrics_file), media),
        "## Recipe",
        recipe(setup.run),
        "## Use",
        USAGE.format(media=media, name=name, file=EXAMPLES[media]),
    ]
    write_card(folder, parts)


def write_card(folder: Path, parts: list[str]) -> None:
    """The paragraphs that are not empty, as `README.md`."""
    (folder / "README.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def read_metrics(path: Path | None) -> dict[str, Any] | None:
    """A `metrics.json`, `None` where there is none."""
    return json.loads(path.read_text()) if path is not None and path.is_file() else None


def front_matter(setup: Any, tasks: list[str]) -> str:
    """What the Hub reads of a card, of a `RunSetup` or `JointSetup`; the first task is that of the model's page."""
    import yaml

    base = setup.run.model.model_name_or_path
    about = {
        "library_name": "transformers",
        "pipeline_tag": tasks[0],
        "tags": [*tasks, setup.model.model.config.model_type],
        **({} if base is None or Path(base).exists() else {"base_model": base}),
    }
    return f"---\n{yaml.safe_dump(about, sort_keys=False).strip()}\n---"


def start_of(run: Any) -> str:
    """What a run's model was before it was trained."""
    base = run.model.model_name_or_path
    if base is None:
        return f"the {family_of_preset(run.model.preset).title} {run.model.preset} with random weights"
    return f"`{Path(base).name if Path(base).exists() else base}`"


def _data(setup: Any) -> str:
    rows = [f"| split | {setup.data.media}s listed | cannot be read | used |", "|---|---:|---:|---:|"]
    for split, counts in setup.counts.items():
        cells = (counts.get(name, "streamed") for name in ("listed", "cannot_be_read", "used"))
        rows.append(f"| {split} | {' | '.join(map(str, cells))} |")
    return f"Format: {setup.data.data_format}.\n\n" + "\n".join(rows)


def _results(history: list[dict], evaluation: dict[str, Any] | None, media: str) -> str:
    rows = ["| epoch | step | validation | value |", "|---:|---:|---|---:|"]
    for entry in history:
        for name, value in entry.items():
            if name.startswith("eval_") and ("accuracy" in name or "precision" in name):
                rows.append(f"| {entry.get('epoch', 0):g} | {entry.get('step', 0)} | {_words(name)} | {value:.4f} |")
    text = f"While training, one view per {media}:\n\n" + "\n".join(rows) if len(rows) > 2 else ""
    if not evaluation:
        return text or "The model was not evaluated."
    views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views ({evaluation['view_aggregation']})"
    scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} {media}s scored"
    lines = [f"Of the {evaluation['split']} split, {views}, {scored}:", ""]
    lines += [f"- {name}: {value:.4f}" for name, value in scores_of(evaluation).items()]
    return "\n".join(lines) + (f"\n\n{text}" if text else "")


def scores_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """The metrics in a `metrics.json`, by their names in words."""
    values = {name: value for name, value in evaluation.items() if "accuracy" in name or "precision" in name}
    return {_words(name): value for name, value in values.items() if value is not None}


def recipe(run: Any) -> str:
    """The options of a run that are not at their defaults."""
    lines = []
    for block in RECIPE:
        lines += [f"{name}: {value}" for name, value in option_values(getattr(run, block)).items()]
    return "What differs from the defaults:\n\n```yaml\n" + "\n".join(lines) + "\n```" if lines else "The defaults."


def _words(name: str) -> str:
    return name.removeprefix("eval_").replace("_", " ")
