# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A model card: what was trained on what and how, and what came out. Written from the run itself, nothing by hand."""

import json
from pathlib import Path
from typing import Any

from .config_files import option_values


RECIPE = ("model", "clips", "augmentation", "training")  # blocks whose options are listed
MAX_CLASSES = 30
USAGE = """\
```python
import tubevit  # makes Transformers know TubeViT
from transformers import pipeline

print(pipeline("video-classification", model="{name}")("video.mp4"))
```"""


def write_model_card(folder: Path, setup: Any, history: list[dict], metrics_file: Path | None = None) -> None:
    """
    Write `README.md` into the folder of a model.

    setup: `RunSetup`. history: Trainer's log, or one like it. metrics_file: of the evaluation at the end, where there is one.
    """
    import yaml

    evaluation = json.loads(metrics_file.read_text()) if metrics_file is not None and metrics_file.is_file() else None

    run, classes = setup.run, setup.data.class_names
    base = run.model.model_name_or_path
    is_local = base is not None and Path(base).exists()
    about = {
        "library_name": "transformers",
        "pipeline_tag": "video-classification",
        "tags": ["video-classification", setup.model.model.config.model_type],
        **({} if base is None or is_local else {"base_model": base}),
    }
    start = (
        f"the TubeViT {run.model.preset} with random weights"
        if base is None
        else f"`{Path(base).name if is_local else base}`"
    )
    shown = ", ".join(classes[:MAX_CLASSES]) + (", ..." if len(classes) > MAX_CLASSES else "")
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False).strip()}\n---",
        f"# {folder.absolute().name}",
        f"A video classifier with {len(classes)} classes, fine-tuned from {start} by `tubevit train`.",
        "## Data",
        _data(setup),
        f"Classes: {shown}.",
        "## Results",
        _results(history, evaluation),
        "## Recipe",
        _recipe(run),
        "## Use",
        USAGE.format(name=folder.absolute().name),
    ]
    (folder / "README.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _data(setup: Any) -> str:
    rows = ["| split | videos listed | cannot be read | used |", "|---|---:|---:|---:|"]
    for split, counts in setup.counts.items():
        cells = (counts.get(name, "streamed") for name in ("listed", "cannot_be_read", "used"))
        rows.append(f"| {split} | {' | '.join(map(str, cells))} |")
    return f"Format: {setup.data.data_format}.\n\n" + "\n".join(rows)


def _results(history: list[dict], evaluation: dict[str, Any] | None) -> str:
    rows = ["| epoch | step | validation | value |", "|---:|---:|---|---:|"]
    for entry in history:
        for name, value in entry.items():
            if name.startswith("eval_") and ("accuracy" in name or "precision" in name):
                rows.append(f"| {entry.get('epoch', 0):g} | {entry.get('step', 0)} | {_words(name)} | {value:.4f} |")
    text = "While training, one view per video:\n\n" + "\n".join(rows) if len(rows) > 2 else ""
    if not evaluation:
        return text or "The model was not evaluated."
    views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views ({evaluation['view_aggregation']})"
    scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} videos scored"
    lines = [f"Of the {evaluation['split']} split, {views}, {scored}:", ""]
    values = {name: value for name, value in evaluation.items() if "accuracy" in name or "precision" in name}
    lines += [f"- {_words(name)}: {value:.4f}" for name, value in values.items() if value is not None]
    return "\n".join(lines) + (f"\n\n{text}" if text else "")


def _recipe(run: Any) -> str:
    lines = []
    for block in RECIPE:
        lines += [f"{name}: {value}" for name, value in option_values(getattr(run, block)).items()]
    return "What differs from the defaults:\n\n```yaml\n" + "\n".join(lines) + "\n```" if lines else "The defaults."


def _words(name: str) -> str:
    return name.removeprefix("eval_").replace("_", " ")
