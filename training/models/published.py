# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Published checkpoints of UniFormerV2 and ViViT, in the files of their authors and of MMAction2, to models of this package with
processors, and back.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import VivitVideoProcessor

from tubevit import (
    FactorizedViViTForVideoClassification,
    FactorizedViViTVideoProcessor,
    UniFormerV2ForVideoClassification,
    UniFormerV2VideoProcessor,
)
from tubevit.checkpoint_files import describe_state, find_checkpoint, read_state, write_flax_tree
from tubevit.conversion_report import ConversionReport
from tubevit.uniformerv2_conversion import is_mmaction_state, is_reference_state
from tubevit.vivit_conversion import is_scenic_state

from ..data.class_names import count_label_groups, describe_classes
from ..data.formats.epic_kitchens import HEADS, epic_names
from .loading import class_fields
from .published_classes import LISTS, class_names, cut_classifier, head_rows, missing_row, orders_of


SOMETHING_SOMETHING = ("ssv1", "ssv2")
SOMETHING_SOMETHING_CLASSES = 174
KNOWN_LAYOUTS = "a UniFormerV2 of its authors (.pyth) or of MMAction2 (.pth), or a ViViT of Scenic (a Flax checkpoint)"


@dataclass
class PublishedOptions:
    """
    What the tensors of a published checkpoint do not hold.

    num_frames, image_size, attention_order, factorization, global_layers: fields of the configs. num_heads: attention heads of the
        trunk, and of the global blocks if they differ.
    labels, label_order: as in `class_names`. head: keep the rows of a Kinetics-710 classifier that classify this data set.
    dtype: of the converted weights.
    """

    num_frames: int | None = None
    image_size: int | list[int] | None = None
    attention_order: str | None = None
    factorization: str | None = None
    global_layers: list[int] | None = None
    num_heads: list[int] | None = None
    labels: str | None = None
    label_order: str | None = None
    head: str | None = None
    dtype: torch.dtype = torch.float32


@dataclass
class Converted:
    """A converted model, its processor, the report of all tensors, and decisions to show to the user, one sentence each."""

    model: Any
    processor: Any
    report: ConversionReport
    messages: list[str]


def is_published_file(path: str | os.PathLike) -> bool:
    """
    Whether a path is a checkpoint file, or a folder with one and no config of Transformers. `config.json` of other libraries, such as
    that of Hugging Face's Hub mixin, has no `model_type`; timm's, which Transformers reads, has an `architecture`.
    """
    path, config_file = Path(path), Path(path) / "config.json"
    if not path.is_dir() or not config_file.is_file():
        return path.exists()
    config = read_config(config_file)
    return not (isinstance(config, dict) and ("model_type" in config or "architecture" in config))


def read_config(path: Path) -> Any:
    """The content of a `config.json`. Raises `ValueError` of one line for a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of bytes that are no UTF-8
        raise ValueError(f"{path} is not valid JSON ({error}): repair it, or copy the model again.") from None


def convert_published(path: str | os.PathLike, options: PublishedOptions) -> Converted:
    """
    Convert a published checkpoint; its content decides what it is.

    Raises `ValueError` that names what is damaged, missing, unknown, or must be given.
    """
    if options.label_order is not None and options.labels is None and options.head is None:
        raise ValueError("--label-order has no effect without --labels or --head: give the data set of the classes.")
    if Path(path).exists() and not is_published_file(path):
        return _library_vivit(path, options, ConversionReport(str(path), "", ""))
    file = find_checkpoint(path)
    report = ConversionReport(str(file), "", "")
    state = read_state(file)
    if is_reference_state(state):
        model, order, messages = _uniformerv2(state, options, report)
        report.source_class = "UniFormerV2 of MMAction2" if order == "mmaction2" else "UniFormerV2 of its authors"
    elif is_scenic_state(state):
        model, order, messages = _vivit(state, options, report)
        report.source_class = "ViViT of Scenic"
    else:
        raise ValueError(f"{file} is not {KNOWN_LAYOUTS}: {describe_state(state)}.")
    report.target_class = type(model).__name__
    messages += _set_classes(model, options, order, report)
    return Converted(model, _processor(model, options, messages), report, messages)


def _uniformerv2(state: Any, options: PublishedOptions, report: ConversionReport) -> tuple[Any, str, list[str]]:
    _refuse(
        options,
        ("attention_order", "factorization", "image_size"),
        "a UniFormerV2, whose positions determine the size",
    )
    heads = options.num_heads or []
    if len(heads) > 2:
        raise ValueError(
            f"--num-heads is one number, or that of the trunk and that of the global blocks, got {heads}."
        )
    fields = {
        "num_frames": options.num_frames,
        "global_layers": options.global_layers,
        "num_attention_heads": heads[0] if heads else None,
        "num_global_attention_heads": heads[-1] if heads else None,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    model = UniFormerV2ForVideoClassification.from_reference(state, report=report, dtype=options.dtype, **given)
    config, messages = model.config, []
    if options.num_frames is None:
        messages.append(
            f"num_frames={config.num_frames}: the weights fit any number of frames; give --num-frames for another one."
        )
    if options.num_heads is None:
        messages.append(
            f"num_attention_heads={config.num_attention_heads}, num_global_attention_heads={config.num_global_attention_heads}: heads of width "
            "64, as in every published model; give --num-heads for another number."
        )
    if options.global_layers is None:
        messages.append(f"global_layers={config.global_layers}: the last layers, as in every published model.")
    if not config.use_gate:
        messages.append(
            "The model has no gate, as the authors' frozen models: all layers of the trunk stay frozen in fine-tuning "
            "(num_frozen_layers=0 trains them)."
        )
    return model, "mmaction2" if is_mmaction_state(state) else "reference", messages


def _vivit(state: Any, options: PublishedOptions, report: ConversionReport) -> tuple[Any, str, list[str]]:
    _refuse(options, ("global_layers", "num_heads", "head"), "a ViViT of Scenic")
    names = ("num_frames", "image_size", "attention_order", "factorization")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    model = FactorizedViViTForVideoClassification.from_scenic(state, report=report, dtype=options.dtype, **given)
    return model, "scenic", []


def _library_vivit(path: str | os.PathLike, options: PublishedOptions, report: ConversionReport) -> Converted:
    """Model 1 from a folder of Transformers' ViViT, which has the class names in its config."""
    names = ("num_frames", "image_size", "attention_order", "factorization", "global_layers", "num_heads", "head")
    _refuse(options, names, "a ViViT of Transformers, whose config has it")
    model = FactorizedViViTForVideoClassification.from_vivit(path, report=report, dtype=options.dtype)
    report.source_class, report.target_class = "ViViT of Transformers", type(model).__name__
    messages = _pixels_of_library(Path(path))
    if options.labels is not None:
        messages += _set_classes(model, options, "scenic", report)
    return Converted(model, _processor(model, options, messages), report, messages)


def _pixels_of_library(folder: Path) -> list[str]:
    """A sentence on the range of the pixels that the processor of a folder of Transformers' ViViT gives, if it is not Scenic's."""
    files = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
    if not any((folder / name).is_file() for name in files):
        return []
    theirs = VivitVideoProcessor.from_pretrained(folder)
    black_and_white = torch.tensor([0.0, 255.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
    settings = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
    low, high = theirs.rescale_and_normalize(black_and_white, *(getattr(theirs, name) for name in settings)).flatten(1)
    if torch.allclose(low, -torch.ones(3)) and torch.allclose(high, torch.ones(3)):
        return []
    std = 1 / (high - low)
    mean, std = ([round(value, 6) for value in each.tolist()] for each in (-low * std, std))
    return [
        f"Pixels are from -1 to 1, as in Scenic's training, and the processor of {folder} gives {low.min():g} to {high.max():g}. If the model "
        f"was trained with that processor, set image_mean={mean} and image_std={std} in the new one."
    ]


def _refuse(options: PublishedOptions, names: tuple[str, ...], what: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} has no effect on {what}: leave it out.")


def _set_classes(model: Any, options: PublishedOptions, layout: str, report: ConversionReport) -> list[str]:
    """
    Set `id2label`, and cut the classifier to `options.head`. layout: of the file, whose order the classes have by default. Returns
    sentences on both.
    """
    num_labels, order, messages = model.config.num_labels, options.label_order or layout, []
    if options.head is not None:
        if options.labels not in (None, "kinetics710", options.head):
            raise ValueError(
                f"--head {options.head} names the classes, and --labels {options.labels} has no effect beside it: leave --labels out, and "
                "give the order of the 710 rows as --label-order NAME or FILE."
            )
        if num_labels != 710:
            raise ValueError(f"--head needs a classifier of Kinetics-710, and this one has {num_labels} classes.")
        rows, names = head_rows(options.head, order)
        model.classifier = cut_classifier(model.classifier, rows)
        model.num_labels = len(names)
        messages.append(f"The classifier has the {len(rows)} of 710 rows that classify {options.head}.")
        for name in ("classifier.weight", "classifier.bias"):
            entry = report.target[name] | {"state": "transformed", "how": f"rows of {options.head}"}
            report.target[name] = entry
            report.source[entry["sources"][0]] |= {"state": "transformed", "how": entry["how"]}
        if (sentence := missing_row(options.head, order)) is not None:
            messages.append(sentence)
    elif options.labels is None:
        return [f"The {num_labels} classes have no names: give --labels."]
    elif options.labels not in LISTS and Path(options.labels).is_dir():
        if options.label_order is not None:
            raise ValueError(
                f"--label-order={options.label_order} has no effect with the folder --labels {options.labels}: leave it out."
            )
        return _set_label_groups(model, Path(options.labels))
    else:
        names = class_names(options.labels, order, num_labels)
        messages.append(f"{num_labels} class names of {options.labels}, in the order of {order}.")
    if order != layout and (options.head or str(options.labels).startswith("kinetics")):
        messages.append(
            f"The order of the Kinetics classes is that of {order}, and a file of this layout usually has that of {layout}: in a wrong order "
            "the classifier scores near chance without an error."
        )
    model.config.update(class_fields(names))
    return messages


def _set_label_groups(model: Any, folder: Path) -> list[str]:
    """Set the nouns and verbs of EPIC-KITCHENS-100, from the folder of its class files, as labels of two groups."""
    names = epic_names(folder / "EPIC_100_train.csv", None, None)
    label_groups = count_label_groups(names, HEADS)
    if len(names) != model.config.num_labels:
        raise ValueError(
            f"The classifier has {model.config.num_labels} rows, and {folder} names {len(names)} classes "
            f"({', '.join(f'{size} {name}s' for name, size in label_groups.items())})."
        )
    model.config.update(class_fields(names))
    model.config.label_groups = [[name, size] for name, size in label_groups.items()]
    return [f"{describe_classes(names, label_groups)}: nouns first, as in Scenic; a clip has one label of each group."]


def _processor(model: Any, options: PublishedOptions, messages: list[str]) -> Any:
    config = model.config
    may_be_something = options.labels in SOMETHING_SOMETHING or config.num_labels == SOMETHING_SOMETHING_CLASSES
    if isinstance(model, UniFormerV2ForVideoClassification):
        # The published models with temporal downsampling and 174 classes are those of Something-Something.
        is_bgr = options.labels in SOMETHING_SOMETHING or (may_be_something and config.temporal_downsampling)
        if is_bgr:
            messages.append(
                "do_flip_channel_order=True: the authors' code reads Something-Something as blue, green, red. Whether the published "
                "weights were trained so is likely, not certain: compare both on a few videos."
            )
        return UniFormerV2VideoProcessor(
            num_frames=config.num_frames,
            size=config.image_size,
            crop_size=config.image_size,
            do_flip_channel_order=is_bgr,
        )
    height, width = config.image_height_width
    if may_be_something:
        messages.append(
            "frame_stride=1: the frames of Something-Something, whose number of classes the classifier has."
        )
    elif config.label_groups:
        messages.append("frame_stride=1: the frames of Scenic's models of EPIC-KITCHENS-100.")
    return FactorizedViViTVideoProcessor(
        num_frames=config.num_frames,
        size={"shortest_edge": round(min(height, width) * 256 / 224)},
        crop_size={"height": height, "width": width},
        frame_stride=1 if may_be_something or config.label_groups else 2,
    )


def model_card(converted: Converted, source: str | os.PathLike) -> str:
    """A model card that names the source, the checksum of a file, and what was decided. It decides no license."""
    config, origin = converted.model.config, f"the folder `{Path(source).resolve().name}`"
    if is_published_file(source):
        file = find_checkpoint(source)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        origin = f"`{file.name}` ({file.stat().st_size:,} bytes, SHA-256 `{digest}`)"
    named = any(not name.startswith("LABEL_") for name in config.id2label.values())
    return (
        "\n\n".join(
            [
                "---\nlibrary_name: transformers\npipeline_tag: video-classification\n---",
                f"# {converted.report.source_class}",
                f"Converted from {origin} by `tubevit convert`. The license is that of the source, which the weights do not name.",
                f"{config.num_labels} classes{'' if named else ' without names'}, clips of {config.num_frames} frames.",
                "\n".join(f"- {message}" for message in converted.messages),
                "```python\nimport tubevit  # registers the model with Transformers; needs the package (pip install -e . in its checkout)\n"
                "from transformers import pipeline\n\n"
                'print(pipeline("video-classification", model="FOLDER")("video.mp4"))\n```',
            ]
        )
        + "\n"
    )


def write_published(model: Any, path: Path, layout: str) -> str | None:
    """
    Write the weights of a model in the layout of the authors' code: "reference" (UniFormerV2, a PyTorch file) or "scenic" (ViViT, a
    Flax checkpoint).

    Returns a sentence on how to read the file back, if its Kinetics classes are in another order than is usual for the layout.
    """
    if layout == "reference":
        if not isinstance(model, UniFormerV2ForVideoClassification):
            raise ValueError(f"--to reference is for UniFormerV2, and this is a {type(model).__name__}.")
        torch.save(model.to_reference(), path)
    else:
        if not isinstance(model, FactorizedViViTForVideoClassification):
            raise ValueError(f"--to scenic is for ViViT, and this is a {type(model).__name__}.")
        write_flax_tree(path, {f"optimizer/target/{name}": value for name, value in model.to_scenic().items()})
    names = [model.config.id2label[index] for index in sorted(model.config.id2label)]
    found = orders_of(names)
    if not found or any(layout in orders for orders in found.values()):
        return None
    ((labels, orders), *_) = found.items()
    return (
        f"The {len(names)} classes of {labels} are in the order of {orders[0]}, which the file does not hold: to read it back, give "
        f"--labels {labels} --label-order {orders[0]}."
    )
