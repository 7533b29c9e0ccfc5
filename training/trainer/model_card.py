# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Model cards of finished runs: use, data, results, recipe and license. The scores are also in the `model-index` metadata, which the
Hub shows. A joint run has a card for the joint model and one for each of its classifiers. No card has a path of this machine.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from ..data.class_names import describe_classes
from ..evaluation.metrics import chance_warning
from ..models.families import family_of_preset
from ..options import option_values
from ..run_folder import EVALUATION
from .checkpointing import FREE_ON_RESUME


RECIPE = ("model", "clips", "augmentation", "training")  # blocks whose options are listed
MAX_CLASSES = 30
MAX_EVALUATIONS = 10  # rows of the table of evaluations during training
# Names of `metrics.trivial_score` to what they are.
TRIVIAL = {
    "majority_class_rate": "accuracy of always predicting the most frequent class",
    "majority_action_rate": "accuracy of always predicting the most frequent action",
    "mean_prevalence": "mean average precision of equal scores for all videos",
}
EXAMPLES = {"video": "video.mp4", "image": "image.jpg"}
NEEDED = ("torch", "torchvision", "transformers", "av")  # packages that the exported code imports
JOINT_USAGE = """\
```python
from tubevit import TubeViTForJointClassification

model = TubeViTForJointClassification.from_pretrained("{folder}")
classifier = model.to_classifier("{name}")  # the same model as in the folder {name}
```"""


def write_model_card(
    folder: Path,
    setup: Any,
    history: list[dict],
    metrics_file: Path | None = None,
    repository: str | None = None,
    together_with: Sequence[str] = (),
) -> None:
    """
    Write `README.md` into the folder of a model.

    setup: `RunSetup`. history: Trainer's log entries. metrics_file: `metrics.json` of the evaluation, if there is one.
    repository: the run's name on the Hub, if it is uploaded. together_with: names of the other data sets of a joint run; the model
    is then in a subfolder of the repository.
    """
    if setup.run.is_masked:
        _write_masked_card(folder, setup, history)
        return
    classes, media = setup.data.class_names, setup.data.media
    shown = ", ".join(classes[:MAX_CLASSES]) + (", ..." if len(classes) > MAX_CLASSES else "")
    groups = setup.data.label_groups
    if groups:
        shown = describe_classes(classes, groups)
    together = f", jointly with {', '.join(map('`{}`'.format, together_with))}" if together_with else ""
    name = folder.absolute().name
    article = "A" if media == "video" else "An"
    evaluation, license_name = read_metrics(metrics_file), license_of(setup.run, repository)
    parts = [
        f"# {name}",
        f"{article} {media} classifier with {len(classes)} classes, fine-tuned from {start_of(setup.run)}{together} by "
        "`tubevit train`.",
        "## Use",
        usage(setup.model.family, media, name, repository, subfolder=name if together_with else None),
        "## Data",
        _data(setup),
        f"Classes: {shown}.",
        _about_groups(groups),
        "" if setup.budgets is None else setup.budgets.usage(name),
        "## Results",
        _results(history, evaluation, media),
        "## Recipe",
        recipe(setup.run),
        "## License",
        _license(setup.run, license_name),
    ]
    write_card(folder, parts, setup, {"": setup}, {"": evaluation}, license_name)


def _write_masked_card(folder: Path, setup: Any, history: list[dict]) -> None:
    """`write_model_card` of a run without labels."""
    name, license_name = folder.absolute().name, license_of(setup.run, None)
    task = "\n".join(f"- {title}: {text}" for title, text in setup.describe_task().items())
    losses = [(entry.get("epoch", 0), entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    rows = "\n".join(f"| {epoch:g} | {step} | {loss:.4f} |" for epoch, step, loss in losses[-MAX_EVALUATIONS:])
    parts = [
        f"# {name}",
        f"A TubeViT pretrained on videos without labels from {start_of(setup.run)} by `tubevit train --task masked`: masked tubes are predicted from "
        "visible ones.",
        "## Use",
        "The model is a start for fine-tuning, and classifies nothing:",
        f"```bash\ntubevit train model={name} data=VIDEOS output_dir=runs/fine-tuned\n```",
        f'```python\nimport tubevit  # registers TubeViT with Transformers\nfrom transformers import AutoModel\n\nmodel = AutoModel.from_pretrained("{name}")\n```',
        "## Pretraining",
        task,
        "## Data",
        _data(setup),
        "## Results",
        "Loss on the validation videos, with the same masks in each evaluation; predicting the mean gives about 1."
        if rows
        else "The model was not evaluated.",
        f"| epoch | step | loss |\n|---:|---:|---:|\n{rows}" if rows else "",
        "## Recipe",
        recipe(setup.run),
        "## License",
        _license(setup.run, license_name),
    ]
    write_card(folder, parts, setup, {}, {}, license_name, task="video-feature-extraction")


def write_joint_card(
    folder: Path, setup: Any, history: list[dict] | None = None, repository: str | None = None
) -> None:
    """
    Write `README.md` into the folder of a joint run.

    setup: `JointSetup`. history: Trainer's log entries; with them the cards of its classifiers are written too.
    repository: as in `write_model_card`.
    """
    names, title = list(setup.parts), folder.absolute().name
    evaluations = {name: read_metrics(folder / name / EVALUATION / "metrics.json") for name in names}
    license_name, first = license_of(setup.run, repository), setup.parts[names[0]]
    parts = [
        f"# {title}",
        f"A TubeViT with a head for each of {', '.join(names)}, trained jointly from {start_of(setup.run)} by `tubevit train`.",
        "## Use",
        f"The folders {', '.join(names)} hold a classifier for each data set:",
        usage(first.model.family, first.data.media, names[0], repository, subfolder=names[0]),
        "The joint model needs the package tubevit:",
        JOINT_USAGE.format(folder=repository or title, name=names[0]),
        "## Data",
        _joint_data(setup),
        "## Results",
        _joint_results(evaluations),
        "## Recipe",
        recipe(setup.run),
        _own_options(setup),
        "## License",
        _license(setup.run, license_name),
    ]
    write_card(folder, parts, setup, setup.parts, evaluations, license_name)
    if history is None:
        return
    for name, part in setup.parts.items():
        others = [each for each in names if each != name]
        metrics_file = folder / name / EVALUATION / "metrics.json"
        write_model_card(
            folder / name, part, history_of(name, others, history), metrics_file, repository, together_with=others
        )


def write_card(
    folder: Path,
    parts: list[str],
    setup: Any,
    data_sets: Mapping[str, Any],
    evaluations: Mapping[str, dict[str, Any] | None],
    license_name: str | None,
    task: str | None = None,
) -> None:
    """
    Write `README.md` with metadata for the Hub.

    parts: paragraphs; empty ones are left out. data_sets: `RunSetup` of each data set. evaluations: for each data set the content
    of its `metrics.json`, or `None`. task: the pipeline of the model (default: classification of the media of the data sets).
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = setup.run.model.model_name_or_path
    tasks = [task] if task else list(dict.fromkeys(f"{part.data.media}-classification" for part in data_sets.values()))
    results = [each for name, part in data_sets.items() for each in _eval_results(name, part, evaluations[name])]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=tasks[0],
        tags=[*tasks, setup.model.model.config.model_type],
        base_model=None if base is None or is_local(base) else base,
        license=license_name or "unknown",
        model_name=folder.absolute().name if results else None,
        eval_results=results or None,
    )
    text = "\n\n".join(part for part in parts if part)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n").save(folder / "README.md")


def usage(family: Any, media: str, name: str, repository: str | None, subfolder: str | None = None) -> str:
    """
    How to install what the model imports, and how to load it.

    family: `ModelFamily`. name: of the model's folder. repository, subfolder: its place on the Hub.
    """
    is_of_library = family.classifier(media).__module__.startswith("transformers.")
    needs_code = not is_of_library
    install = ["pip install", *(f'"{each}"' for each in requirements(NEEDED))]
    if is_of_library and media == "video":
        install.append("torchcodec")  # with which the processors of Transformers read files
    imports, model, notes = "from transformers import pipeline\n", f'"{repository or name}"', []
    if repository is not None and subfolder is not None:
        imports = f"from huggingface_hub import snapshot_download\n{imports}"
        model = f'snapshot_download("{repository}") + "/{subfolder}"'
    trust = ", trust_remote_code=True" if needs_code and repository is not None else ""
    if trust:
        notes.append("`trust_remote_code=True` runs the code of the model, which is in this repository.")
    elif needs_code:
        imports = f"import tubevit  # registers {family.title} with Transformers\n{imports}"
        notes.append(
            "`import tubevit` needs the package (`pip install -e .` in its checkout). `tubevit export` writes a copy of the model "
            "that needs the packages above only."
        )
    code = f'{imports}\nprint(pipeline("{media}-classification", model={model}{trust})("{EXAMPLES[media]}"))'
    return "\n\n".join([f"```bash\n{' '.join(install)}\n```", f"```python\n{code}\n```", *notes])


def requirements(names: Sequence[str]) -> list[str]:
    """The requirements of this package on the packages `names`, for example `torch>=2.10`."""
    found = {re.split(r"[^\w.-]", line, maxsplit=1)[0]: line for line in requires("tubevit") or [] if ";" not in line}
    return [found[name] for name in names]


def license_of(run: Any, repository: str | None) -> str | None:
    """`hub_license`, or the license in the card of the checkpoint that the run starts from; `None` if neither is known."""
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import logging as hub_logging
    from yaml import YAMLError

    base = run.model.model_name_or_path
    if run.training.hub_license is not None or base is None:
        return run.training.hub_license
    card = Path(base).expanduser() / "README.md"
    if (is_local(base) and not card.is_file()) or (
        not is_local(base) and repository is None
    ):  # a local run asks no network
        return None
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # a card without metadata states no license, and is no reason for a warning
    try:
        return ModelCard.load(card if is_local(base) else base).data.license
    except (OSError, ValueError, YAMLError, HfHubHTTPError) as error:
        _print_once(
            f"The license of {base} is not known: its card cannot be read ({' '.join(str(error).split())[:200]})."
        )
        return None
    finally:
        hub_logging.set_verbosity(verbosity)


@lru_cache
def _print_once(line: str) -> None:
    """A run writes several cards: after training, after the evaluation, and of a joint run for each data set."""
    print(line)


def _license(run: Any, license_name: str | None) -> str:
    base = run.model.model_name_or_path
    stated = "No license is stated." if license_name in (None, "unknown") else f"License: {license_name}."
    if run.training.hub_license is None and base is not None and license_name is not None:
        stated = f"License: {license_name}, that of {start_of(run)}."
    return f"{stated} The terms of the training data{'' if base is None else ' and of the checkpoint'} apply too."


def is_local(name: str) -> bool:
    """Whether the name of a checkpoint or file is a path of this machine."""
    path = Path(name).expanduser()
    return path.is_absolute() or path.exists() or name.startswith((".", "~"))


def without_paths(value: Any) -> Any:
    """A value of an option with paths of this machine replaced by the names of their files or folders."""
    if isinstance(value, dict):
        return {key: without_paths(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(each) for each in value]
    return (
        Path(value).name if isinstance(value, str) and "/" in value.replace("\\", "/") and is_local(value) else value
    )


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
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None


def start_of(run: Any) -> str:
    """The checkpoint or preset that training started from."""
    base = run.model.model_name_or_path
    if base is None:
        return f"the {family_of_preset(run.model.preset).title} {run.model.preset} with random weights"
    return f"`{Path(base).name if is_local(base) else base}`"


def _about_groups(label_groups: Mapping[str, int]) -> str:
    """What a model with label groups returns, and what a stock pipeline makes of it; empty without groups."""
    if not label_groups:
        return ""
    names = ", ".join(label_groups)
    return (
        f"The logits are those of {names}, in this order (`label_groups` of the config): a clip has one label of each. `tubevit predict` and "
        "`tubevit eval` apply a softmax to each group. The pipeline of Transformers applies one to all labels together: its order of "
        "the labels of a group is right, its scores are not their probabilities. An action is correct if all its labels are."
    )


def _data(setup: Any) -> str:
    rows = [f"| split | {setup.data.media}s listed | cannot be read | used |", "|---|---:|---:|---:|"]
    for split, counts in setup.counts.items():
        cells = (counts.get(name, "streamed") for name in ("listed", "cannot_be_read", "used"))
        rows.append(f"| {split} | {' | '.join(map(str, cells))} |")
    return f"Format: {setup.data.data_format}.\n\n" + "\n".join(rows)


def _results(history: list[dict], evaluation: dict[str, Any] | None, media: str) -> str:
    text = _evaluations(history, media)
    if not evaluation:
        return text or "The model was not evaluated."
    views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views ({evaluation['view_aggregation']})"
    scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} {media}s scored"
    lines = [f"On the {evaluation['split']} split, with {views}, {scored}:", ""]
    lines += [f"- {name}: {value:.4f}" for name, value in {**scores_of(evaluation), **trivial_of(evaluation)}.items()]
    known = {name: value for name, value in evaluation.items() if value is not None}
    warning = chance_warning(known, evaluation["num_scored"] - evaluation["num_without_label"])
    return "\n\n".join(part for part in ("\n".join(lines), warning, text) if part)


def _evaluations(history: list[dict], media: str) -> str:
    """A table of the evaluations during training, a row each: the best, the last, and others evenly spaced between."""
    rows = [(entry, scores) for entry in history if (scores := scores_of(entry, "eval_"))]
    if not rows:
        return ""
    names = list(rows[0][1])
    best = max(range(len(rows)), key=lambda index: rows[index][1].get(names[0], 0))
    last = len(rows) - 1
    shown = range(len(rows))
    if len(rows) > MAX_EVALUATIONS:
        shown = sorted({best, *(round(last * part / (MAX_EVALUATIONS - 2)) for part in range(MAX_EVALUATIONS - 1))})
    lines = [f"| epoch | step | {' | '.join(names)} |", f"|{'---:|' * (2 + len(names))}"]
    for entry, scores in (rows[index] for index in shown):
        cells = (f"{scores[name]:.4f}" if name in scores else "" for name in names)
        lines.append(f"| {entry.get('epoch', 0):g} | {entry.get('step', 0)} | {' | '.join(cells)} |")
    number = "" if len(shown) == len(rows) else f" ({len(shown)} of {len(rows)} evaluations)"
    return f"During training, with one view per {media}{number}:\n\n" + "\n".join(lines)


def scores_of(evaluation: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The metrics in a `metrics.json`, or with the prefix `eval_` in a log entry, by their names in words."""
    return {
        name.removeprefix(prefix).replace("_", " "): value
        for name, value in evaluation.items()
        if name.startswith(prefix) and ("accuracy" in name or "precision" in name) and value is not None
    }


def trivial_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """The scores in a `metrics.json` of a classifier that sees nothing, by what they are."""
    return {text: evaluation[name] for name, text in TRIVIAL.items() if evaluation.get(name) is not None}


def recipe(run: Any) -> str:
    """The options of a run that differ from the defaults."""
    lines = []
    for block in RECIPE:
        options = option_values(getattr(run, block))
        lines += [
            f"{name}: {without_paths(value)}"
            for name, value in options.items()
            if name not in FREE_ON_RESUME and value != "no"
        ]
    return (
        "Options that differ from the defaults:\n\n```yaml\n" + "\n".join(lines) + "\n```"
        if lines
        else "The defaults."
    )


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
        about = f"{name} | {part.data.media}s | {len(part.class_names)} | {100 * setup.fractions[name]:.1f} %"
        for split, counts in part.counts.items():
            rows.append(f"| {about} | {split} | {counts['listed']} | {counts['cannot_be_read']} | {counts['used']} |")
    return "\n".join(rows)


def _own_options(setup: Any) -> str:
    """Per-dataset options that differ from the run's, without paths."""
    lines = []
    for name, given in setup.run.joint.datasets.items():
        own = {key: value for key, value in given.items() if key not in vars(setup.parts[name].run.data)}
        lines += [f"{name}.{key}: {without_paths(value)}" for key, value in own.items() if key not in FREE_ON_RESUME]
    return "Options per data set:\n\n```yaml\n" + "\n".join(lines) + "\n```" if lines else ""


def _joint_results(evaluations: dict[str, dict[str, Any] | None]) -> str:
    lines = []
    for name, evaluation in evaluations.items():
        if evaluation is not None:
            views = f"{evaluation['num_temporal_views']} x {evaluation['num_spatial_views']} views"
            values = {**scores_of(evaluation), **trivial_of(evaluation)}
            scores = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
            scored = f"{evaluation['num_scored']} of {evaluation['num_videos']} scored"
            lines.append(f"- {name}, {evaluation['split']} split, {views}, {scored}: {scores}")
    return "\n".join(lines) or "The model was not evaluated."
