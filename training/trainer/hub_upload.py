# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`push_to_hub`: upload a finished run to a private repository on the Hub.

A run folder also holds the command line, paths of this machine and names of videos. Uploaded are only the model and its processors
with their code, as `tubevit export` writes them, the model card, and the scores of the evaluation.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.export import export_checkpoint
from ..run_folder import EVALUATION, write_json
from .training_arguments import VideoTrainingArguments


CARD = "README.md"
SCORE_FILES = ("per_class.csv", "confusion_matrix.png")  # of an evaluation; they name classes, and no videos
# Text in `metrics.json` that is uploaded with its numbers. The others are paths.
METRIC_SETTINGS = ("split", "view_aggregation", "sampling", "pad_mode", "size", "crop_size")


def make_repository(folder: Path, arguments: VideoTrainingArguments) -> str:
    """
    Create the run's repository on the Hub and return its full name. Done before training, so that a missing login is found early.

    Raises an `OSError` of one line if the repository cannot be created, and `ValueError` if it exists and is public without
    `hub_private_repo=false`.
    """
    from huggingface_hub import HfApi

    name, api = arguments.hub_model_id or folder.absolute().name, HfApi(token=arguments.hub_token)
    try:
        repository = api.create_repo(name, private=arguments.hub_private_repo, exist_ok=True).repo_id
        if arguments.hub_revision is not None:
            api.create_branch(repository, branch=arguments.hub_revision, exist_ok=True)
        is_public = arguments.hub_private_repo and not api.repo_info(repository).private
    except Exception as error:  # the Hub's errors and network errors have no other base class
        raise OSError(
            f"push_to_hub: cannot write to {name} on the Hub ({_first_words(error)}); log in by `hf auth login`, or set "
            "push_to_hub=false."
        ) from error
    if is_public:
        raise ValueError(
            f"push_to_hub: {repository} is a public repository: set hub_private_repo=false to publish the model there, or "
            "another hub_model_id."
        )
    return repository


def upload(folder: Path, repository: str, arguments: VideoTrainingArguments, data_sets: Sequence[str] = ()) -> None:
    """
    Upload the run in `folder`. data_sets: names of the data sets of a joint run.

    Raises an `OSError` of one line if the upload fails; the run in `folder` is complete.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix=".upload-", dir=folder) as temporary:
        staged = Path(temporary)
        stage(folder, staged, data_sets)
        try:
            HfApi(token=arguments.hub_token).upload_folder(
                repo_id=repository, folder_path=staged, revision=arguments.hub_revision
            )
        except Exception as error:
            raise OSError(
                f"push_to_hub: the upload to {repository} failed ({_first_words(error)}). The run in {folder} is complete: "
                "repeat the command with resume_from_checkpoint=true to upload it."
            ) from error
    print(f"Uploaded to {repository}: model, processors, code, model card and scores.", flush=True)


def stage(folder: Path, staged: Path, data_sets: Sequence[str] = ()) -> None:
    """
    Write the files to upload to `staged`.

    A joint model is saved without code, because no Auto class loads it; the classifiers of its data sets, in folders of their names,
    have theirs.
    """
    export_checkpoint(str(folder), staged, with_code=not data_sets)
    shutil.copy(folder / CARD, staged / CARD)
    _stage_scores(folder / EVALUATION, staged / EVALUATION)
    for name in data_sets:
        stage(folder / name, staged / name)


def _stage_scores(evaluation: Path, staged: Path) -> None:
    """Copy the scores of an evaluation without the names of its videos and without paths."""
    if not (evaluation / "metrics.json").is_file():
        return
    staged.mkdir()
    metrics: dict[str, Any] = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    public = {
        name: value
        for name, value in metrics.items()
        if name in METRIC_SETTINGS or value is None or isinstance(value, (bool, int, float))
    }
    write_json(staged / "metrics.json", public)
    for name in SCORE_FILES:
        if (evaluation / name).is_file():
            shutil.copy(evaluation / name, staged / name)


def _first_words(error: Exception) -> str:
    return " ".join(str(error).split(maxsplit=40)[:40])
