# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Model cards of finished runs: data, results, recipe and use. The scores are also in the `model-index` metadata, which the Hub
shows. A joint run has a card for the joint model and one for each of its classifiers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.families import family_of_preset
from ..options import option_values
from .checkpointing import FREE_ON_RESUME


JOINT_USAGE = """\
```python
from tubevit import TubeViTForJointClassification

model = TubeViTForJointClassification.from_pretrained("{folder}")
classifier = model.to_classifier("{name}")  # the same model as in {folder}/{name}
```"""
RECIPE = ("model", "clips", "augmentation", "training")  # blocks whose options are listed
MAX_CLASSES = 30
USAGE = """\
```python
import tubevit  # registers TubeViT with Transformers
from transformers import pipeline

print(pipeline("{media}-classification", model="{name}")("{file}"))
```"""
EXAMPLES = {"video": "video.mp4", "image": "image.jpg"}


def write_model_card(
    folder: Path, setup: Any, history: list[dict], metrics_file: Path | None = None, together_with: Sequence[str] = ()
) -> None:
    """
    Write `README.md` into the folder of a model.

    setup: `RunSetup`. history: Trainer's log entries. metrics_file: `metrics.json` of the evaluation, if there is one.
    together_with: names of the other data sets of a joint run.
    """
    classes, media = setup.data.class_names, setup.data.media
    shown = ", ".join(classes[:MAX_CLASSES]) + (", ..." if len(classes) > MAX_CLASSES else "")
    together = f", jointly with {', '.join(map('`{}`'.format, together_with))}" if together_with else ""
    name = folder.absolute().name
    article = "A" if media == "video" else "An"
    evaluation = read_metrics(metrics_file)
    parts = [
        f"# {name}",
        f"{article} {media} classifier with {len(classes)} classes, fine-tuned from {start_of(setup.run)}{together} by "
        "`tubevit train`.",
        "## Data",
        _data(setup),
        f"Classes: {shown}.",
        "## Results",
        _results(history, evaluation, media),
        "## Recipe",
        recipe(setup.run),
        "## Use",
        USAGE.format(media=media, name=name, file=EXAMPLES[media]),
    ]
    write_card(folder, parts, setup, {"": setup}, {"": evaluation})


def write_joint_card(folder: Path, setup: Any, history: list[dict] | None = None) -> None:
    """
    Write `README.md` into the folder of a joint run.

    setup: `JointSetup`. history: Trainer's log entries; with them the cards of its classifiers are written too.
    """
    names, title = list(setup.parts), folder.absolute().name
    evaluations = {name: read_metrics(folder / name / "evaluation" / "metrics.json") for name in names}
    parts = [
        f"# {title}",
        f"A TubeViT with a head for each of {', '.join(names)}, trained jointly from {start_of(setup.run)} by `tubevit train`.",
        "## Data",
        _joint_data(setup),
        "## Results",
        _joint_results(evaluations),
        "## Recipe",
        recipe(setup.run),
        _own_options(setup),
        "## Use",
        JOINT_USAGE.format(folder=title, name=names[0]),
    ]
    write_card(folder, parts, setup, setup.parts, evaluations)
    if history is None:
        return
    for name, part in setup.parts.items():
        others = [each for each in names if each != name]
        metrics_file = folder / name / "evaluation" / "metrics.json"
        write_model_card(folder / name, part, history_of(name, others, history), metrics_file, together_with=others)


def write_card(
    folder: Path,
    parts: list[str],
    setup: Any,
    data_sets: Mapping[str, Any],
    evaluations: Mapping[str, dict[str, Any] | None],
) -> None:
    """
    Write `README.md` with metadata for the Hub.

    parts: paragraphs; empty ones are left out. data_sets: `RunSetup` of each data set. evaluations: for each data set the content
    of its `metrics.json`, or `None`.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = setup.run.model.model_name_or_path
    tasks = list(dict.fromkeys(f"{part.data.media}-classification" for part in data_sets.values()))
    results = [each for name, part in data_sets.items() for each in _eval_results(name, part, evaluations[name])]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=tasks[0],
        tags=[*tasks, setup.model.model.config.model_type],
        base_model=None if base is None or Path(base).exists() else base,
        model_name=folder.absolute().name if results else None,
        eval_results=results or None,
    )
    text = "\n\n".join(part for part in parts if part)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n").save(folder / "README.md")


def _eval_results(name: str, setup: Any, evaluation: dict[str, Any] | None) -> list[Any]:
    """The scores of an evaluation as the `EvalResult`s of the Hub."""
    from huggingface_hub import EvalResult

    if evaluation is None:
        return []
    data = setup.run.data
    name = name or Path(data.data or data.train_data or data.validation_data or data.test_data).name
    return [
        EvalResult(
            task_type=f"{setup.data.media}-classification",
            dataset_type=re.sub(r"[^\w-]+", "-", name).lower(),
            dataset_name=name,
            dataset_split=evaluation["split"],
            metric_type="accuracy" if "accuracy" in metric else metric.replace(" ", "_"),
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in scores_of(evaluation).items()
    ]


def read_metrics(path: Path | None) -> dict[str, Any] | None:
    """The content of a `metrics.json`, `None` if there is none."""
    return json.loads(path.read_text()) if path is not None and path.is_file() else None


def start_of(run: Any) -> str:
    """The checkpoint or preset that training started from."""
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
    text = f"During training, with one view per {media}:\n\n" + "\n".join(rows) if len(rows) > 2 else ""
    if not evaluation:
        return text or "The model was not evaluated."
    views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views ({evaluation['view_aggregation']})"
    scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} {media}s scored"
    lines = [f"On the {evaluation['split']} split, with {views}, {scored}:", ""]
    lines += [f"- {name}: {value:.4f}" for name, value in scores_of(evaluation).items()]
    return "\n".join(lines) + (f"\n\n{text}" if text else "")


def scores_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """The metrics in a `metrics.json`, by their names in words."""
    values = {name: value for name, value in evaluation.items() if "accuracy" in name or "precision" in name}
    return {_words(name): value for name, value in values.items() if value is not None}


def recipe(run: Any) -> str:
    """The options of a run that differ from the defaults."""
    lines = []
    for block in RECIPE:
        options = option_values(getattr(run, block))
        lines += [
            f"{name}: {value}" for name, value in options.items() if name not in FREE_ON_RESUME and value != "no"
        ]
    return (
        "Options that differ from the defaults:\n\n```yaml\n" + "\n".join(lines) + "\n```"
        if lines
        else "The defaults."
    )


def _words(name: str) -> str:
    return name.removeprefix("eval_").replace("_", " ")


def history_of(name: str, others: Sequence[str], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log entries of one data set of a joint run, without those of the `others`, with the keys of a run on one data set."""
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


def _joint_data(setup: Any) -> str:
    rows = ["| data set | media | classes | fraction of batches | split | listed | cannot be read | used |"]
    rows.append("|---|---|---:|---:|---|---:|---:|---:|")
    for name, part in setup.parts.items():
        about = f"{name} | {part.data.media}s | {len(part.class_names)} | {setup.fractions[name]:.1%}"
        for split, counts in part.counts.items():
            rows.append(f"| {about} | {split} | {counts['listed']} | {counts['cannot_be_read']} | {counts['used']} |")
    return "\n".join(rows)


def _own_options(setup: Any) -> str:
    """Per-dataset options that differ from the run's, without paths."""
    lines = []
    for name, given in setup.run.joint.datasets.items():
        own = {key: value for key, value in given.items() if key not in vars(setup.parts[name].run.data)}
        lines += [f"{name}.{key}: {value}" for key, value in own.items() if key != "corrupt_videos_file"]
    return "Options per data set:\n\n```yaml\n" + "\n".join(lines) + "\n```" if lines else ""


def _joint_results(evaluations: dict[str, dict[str, Any] | None]) -> str:
    lines = []
    for name, evaluation in evaluations.items():
        if evaluation is not None:
            views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views"
            scores = ", ".join(f"{key} {value:.4f}" for key, value in scores_of(evaluation).items())
            scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} scored"
            lines.append(f"- {name}, {evaluation['split']} split, {views}, {scored}: {scores}")
    return "\n".join(lines) or "The model was not evaluated."
