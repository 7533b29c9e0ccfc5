# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A finished run on the Hub: a place for it is made before training, for a login that is missing then costs nothing."""

from pathlib import Path

from transformers import TrainingArguments


NOT_UPLOADED = ("checkpoint-*/**", "step-*/**", "unfinished-checkpoint/**", "_*")


def make_repository(folder: Path, arguments: TrainingArguments) -> str:
    """
    The full name of the repository for a run, which is made if there is none.

    Raises an `OSError` of one line where there is no way to write to it.
    """
    from huggingface_hub import create_repo

    name = arguments.hub_model_id or folder.absolute().name
    try:
        made = create_repo(name, token=arguments.hub_token, private=arguments.hub_private_repo, exist_ok=True)
    except Exception as error:  # the Hub's errors and those of the network have nothing else in common
        reason = " ".join(str(error).split(maxsplit=40)[:40])
        raise OSError(
            f"push_to_hub: there is no way to write to {name} on the Hub ({reason}); log in by `hf auth login`, or set "
            "push_to_hub=false."
        ) from error
    return made.repo_id


def push(folder: Path, arguments: TrainingArguments) -> None:
    """Upload the folder of a run, without its checkpoints."""
    from huggingface_hub import upload_folder

    upload_folder(
        repo_id=make_repository(folder, arguments),
        folder_path=folder,
        token=arguments.hub_token,
        revision=arguments.hub_revision,
        ignore_patterns=list(NOT_UPLOADED),
    )
