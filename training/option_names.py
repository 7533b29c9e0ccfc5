# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Names of options: current names for renamed ones, and the nearest name to an unknown one."""

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any


# Old option name to current name. The old name works for one more release, with a warning.
RENAMED = {
    "stop_if_flat_steps": "chance_loss_patience",
    "crop_min_area": "rrc_scale_min",
    "crop_max_ratio": "rrc_ratio_max",
    "erasing_probability": "random_erasing_prob",
    "mix_probability": "mixup_prob",
    "validation_share": "validation_fraction",
    "max_bad_share": "max_corrupt_fraction",
    "on_bad_video": "on_corrupt_video",
    "bad_video_report": "corrupt_videos_file",
    "fit": "resize_mode",
    "min_time_share": "min_temporal_span",
    "resume": "resume_from_checkpoint",
    "video_folder": "video_root",
    "lora_modules": "lora_target_modules",
    "scale_tubes_from": "tube_checkpoint",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
RENAMED_VALUES = {"resize_mode": {"squeeze": "stretch"}}  # option to old value to current value
# Recipes of the last release that differed only in the number of classes: pattern and current name.
RENAMED_RECIPES = (re.compile(r"(joint-imagenet-)?kinetics[467]00-(base|large|huge)"), r"\1kinetics-\2")
RENAMED_BLOCKS = {"evaluation": "training", "run": "training"}  # in files of earlier releases
FREE_FORM = "trainer"  # until the last release, the mapping of further TrainingArguments fields
MODEL_NAMES = ("model", "model_name_or_path")  # accepted by each command, in place of the name that it declares:
DECLARED_MODEL_NAMES = (*MODEL_NAMES, "models")
MAX_LISTED = 40  # names that an error lists, at most
# Names that other tools and earlier versions of Transformers give to our options; an error suggests ours.
OTHER_NAMES = {
    "amp": "mixed_precision",
    "ckpt": "model_name_or_path",
    "checkpoint": "model_name_or_path",
    "cpu": "use_cpu",
    "device": "use_cpu",
    "ema": "ema_decay",
    "lr": "learning_rate",
    "scheduler": "lr_scheduler_type",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "warmup_ratio": "warmup_steps",
    "wd": "weight_decay",
}
# Words that two names for one option may differ in: before the other words, and after them.
VAGUE_WORDS = {
    "num",
    "max",
    "per",
    "device",
    "train",
    "eval",
    "data",
    "split",
    "dataloader",
    "loader",
    "video",
    "clip",
}
VAGUE_ENDINGS = {"dir", "file", "folder", "path"}


def current_name(name: str, known: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    """The name in `known` for a renamed option (with a warning), a synonym, or a name with dashes for underscores."""
    name = str(name).replace("-", "_")
    new = RENAMED.get(name)
    if new is not None and new in known:
        warn_renamed(name, new)
        return new
    if name in MODEL_NAMES and name not in known:
        return next((each for each in DECLARED_MODEL_NAMES if each in known), name)
    return name


def current_value(name: str, value: Any) -> Any:
    """The current value of an option; a renamed value is replaced with a warning."""
    new = RENAMED_VALUES.get(name, {}).get(value) if isinstance(value, str) else None
    if new is None:
        return value
    warn_renamed(f"{name}={value}", f"{name}={new}")
    return new


def warn_renamed(old: str, new: str) -> None:
    """Print one line, on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {old} is now {new}; the next release removes {old}.", file=sys.stderr, flush=True)


def unknown_key(name: str, known: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    """The error for an unknown option, with the nearest known names if any is plausible."""
    known = sorted(set(known) - {"h", "help", "overrides"})
    close = nearest_names(name, known)
    if close:
        verb = "nearest is" if len(close) == 1 else "nearest are"
        return f"There is no option {name!r}; the {verb} {', '.join(map(repr, close))}."
    hint = f"there are: {', '.join(known)}." if len(known) <= MAX_LISTED else "`--help` lists the options."
    return f"There is no option {name!r}; {hint}"


def nearest_names(name: str, known: Iterable[str]) -> list[str]:
    """
    The names in `known` that `name` probably means, at most three: a misspelling of it, another tool's name for it, a name that
    differs in words such as `num` and `per_device` only, or one whose words begin as those of `name`.

    >>> options = ["learning_rate", "num_train_epochs", "output_dir", "pad_mode", "per_device_train_batch_size"]
    >>> [nearest_names(each, options) for each in ("lerning_rate", "epochs", "output", "batch_size", "lr", "model")]
    [['learning_rate'], ['num_train_epochs'], ['output_dir'], ['per_device_train_batch_size'], ['learning_rate'], []]
    >>> nearest_names("num-val", ["num_train", "num_validation"]), nearest_names("val_data", ["data", "validation_data"])
    (['num_validation'], ['validation_data'])
    """
    name, known = str(name).lower().replace("-", "_"), list(known)
    spelled = difflib.get_close_matches(name, filter(partial(_is_misspelling, name), known), n=1, cutoff=0)
    if found := spelled or [each for each in known if each == OTHER_NAMES.get(name)]:
        return found
    missing = {each: _added_words(_words(name), _words(each)) for each in known}
    missing = {each: words for each, words in missing.items() if words is not None}
    found = [each for each, words in missing.items() if len(words) == min(map(len, missing.values()))]
    found = found or [each for each in known if _begins_as(name, each)]
    return found if len(found) <= 3 else []


def _is_misspelling(name: str, known: str) -> bool:
    """Whether the names begin with the same letter and differ in one or two letters, in long names in more."""
    if name[:1] != known[:1]:
        return False
    num_different = (len(name) + len(known)) * (1 - difflib.SequenceMatcher(None, name, known).ratio())
    return num_different <= max(2, min(len(name), len(known)) // 3) + 1e-9


def _added_words(first: list[str], second: list[str]) -> list[str] | None:
    """The words before the shorter name in the longer one; `None` if these names probably mean different things."""
    short, long = sorted((first, second), key=len)
    added = long[: len(long) - len(short)]
    if long[len(added) :] != short or not set(added) <= VAGUE_WORDS:
        return None
    is_number = not {"num", "max"} & set(added) or short[-1].endswith(
        "s"
    )  # `frames` and `num_frames`, not `train` and `num_train`
    return added if is_number and set(added) not in ({"train"}, {"eval"}) else None


def _begins_as(name: str, known: str) -> bool:
    """Whether each word of a shortened name begins the word of `known` at its place."""
    words, whole = name.split("_"), known.lower().replace("-", "_").split("_")
    pairs = zip(words, whole, strict=False)
    return len(name) >= 3 and len(words) <= len(whole) and all(word and each.startswith(word) for word, each in pairs)


def _words(name: str) -> list[str]:
    """
    The words of an option, without a last word that says little.

    >>> _words("output_dir"), _words("num_frames")
    (['output'], ['num', 'frames'])
    """
    words = name.replace("-", "_").split("_")
    return words[:-1] if len(words) > 1 and words[-1] in VAGUE_ENDINGS else words
