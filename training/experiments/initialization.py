# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The checkpoints that experiments start from: random weights of a model at a size that `tubevit train` has no preset for, and trained
weights in a changed model. Each is a folder for the option `model_name_or_path`.

Every model has the initialization of its own class, with `initializer_range = hidden_size ** -0.5` (the usual 0.02 is for widths of
768 and more). The kernels that read pixels have variance 1 / (number of inputs) in every model, TubeViT
(`kernel_initialization="fan_in"`) and its peers: with the usual variance, the few steps of an experiment hardly change them. A
classifier of zeros, as ViViT has it for trained encoders, gets random weights: an encoder of random weights hardly learns behind
zeros. A checkpoint has the classes of its data, so that `tubevit train` keeps the classifier.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .settings import IMAGE, INITIAL, VIDEO, Experiment


NUM_CHANNELS = 3


def initializer_range(hidden_size: int) -> float:
    """Standard deviation of initial weights."""
    return round(hidden_size**-0.5, 4)


def initial_checkpoint(experiment: Experiment, folder: Path) -> Path:
    """
    The checkpoint that `experiment.initial` describes, written below `folder` unless it exists. The experiments of `init_from`
    must have been trained.
    """
    import torch

    from ..models.loading import quiet_library

    arguments = dict(experiment.initial)
    build = BUILDERS[arguments.pop("kind")]
    trained = {role: start.classifier_folder(start.kinds[0], folder) for role, start in experiment.init_from.items()}
    if build is continue_training:
        return trained["weights"]
    target = folder / INITIAL / experiment.key
    if not target.is_dir():
        if build is build_random and experiment.kinds == (VIDEO,):
            arguments["class_names"] = read_class_names(experiment, folder)
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        torch.manual_seed(experiment.seed)
        with quiet_library():
            build(part, trained, **arguments)
        part.replace(target)
    return target


def continue_training(target: Path, trained: dict[str, Path]) -> None:
    """Train the model "weights" further. Its folder itself is the checkpoint."""


def read_class_names(experiment: Experiment, folder: Path) -> list[str]:
    """The classes of an experiment's clips, whose files are below `folder`."""
    from ..data.data_config import DataConfig
    from ..data.video_datasets import load_video_dataset

    return load_video_dataset(DataConfig(**experiment.data.options(VIDEO, folder))).class_names


def build_random(
    target: Path,
    trained: dict[str, Path],
    name: str,
    media: str = VIDEO,
    class_names: Sequence[str] | None = None,
    **sizes: Any,
) -> None:
    """
    A classifier with random weights, and its processor. name: a design of `families.designs`, or another model type. class_names: of
    the data, whose run keeps this classifier. sizes: as `config_at_size` takes them, the pixel statistics, and `resize_mode` as
    `save_with_processor` takes it.
    """
    import torch

    from ..models.families import family_of
    from ..models.loading import class_fields

    statistics = {each: sizes.pop(each) for each in ("image_mean", "image_std")}
    resize_mode = sizes.pop("resize_mode", "crop")
    config = config_at_size(name, **sizes)
    set_statistics(config, statistics)
    if class_names is not None:
        config.update(class_fields(class_names))
    model = family_of(config).classifier(media)(config)
    for kernel in patch_kernels(model):
        torch.nn.init.normal_(kernel, std=kernel[0].numel() ** -0.5)
    if not model.classifier.weight.any():
        torch.nn.init.normal_(model.classifier.weight, std=config.initializer_range)
    if media == IMAGE:  # the run makes a TubeViT of it, which has its own processor
        model.save_pretrained(target)
    else:
        save_with_processor(model, target, statistics, resize_mode)


def save_with_processor(model: Any, target: Path, statistics: dict[str, Any], resize_mode: str = "crop") -> None:
    """
    Save a video classifier, and a processor of its number and size of frames. statistics: `image_mean` and `image_std` of pixels.
    resize_mode: "crop" or "stretch", as the option of this name.
    """
    from transformers import AutoVideoProcessor

    from tubevit.processing import TubeViTVideoProcessor

    from ..models.families import family_of

    model.save_pretrained(target)
    config, family = model.config, family_of(model.config)
    side = getattr(config, family.size_field)
    processor = {
        "size": {"shortest_edge": side} if resize_mode == "crop" else {"height": side, "width": side},
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        **statistics,
        "num_frames": family.num_frames(config),
    }
    if "video" in family.processors and issubclass(family.processor("video"), TubeViTVideoProcessor):
        family.processor("video")(**processor, sampling="uniform").save_pretrained(target)
        return
    # Transformers chooses the class of a processor file that names none by the model's config.
    (target / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    AutoVideoProcessor.from_pretrained(target).save_pretrained(target)


def patch_kernels(model: Any) -> list[Any]:
    """The weights of the convolutions of a model that read pixels; other convolutions mix tokens."""
    import torch

    convolutions = (each for each in model.modules() if isinstance(each, (torch.nn.Conv2d, torch.nn.Conv3d)))
    return [each.weight for each in convolutions if each.in_channels == NUM_CHANNELS]


def config_at_size(
    name: str,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
    num_frames: int | None = None,
) -> Any:
    """
    The config of a design of `families.designs`, or of another model type, at a given size.

    num_frames: of the longest clips there are. A model takes as many frames as its authors train it on, but no more than that.
    """
    from ..models.families import designs, get_family

    encoder = {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
    }
    sizes = {"patch_size": patch_size, "intermediate_size": intermediate_size}
    if name in designs():
        family, design = designs()[name]
        sizes = design.fields(**encoder, **sizes) | {family.frames_field: min(design.num_frames, num_frames)}
    else:
        family = get_family(name)
    sizes[family.size_field] = image_size
    return family.get("config_class")(**encoder | sizes, initializer_range=initializer_range(hidden_size))


def build_converted(
    target: Path, trained: dict[str, Path], source: str, name: str, num_labels: int, **sizes: Any
) -> None:
    """
    The classifier of a design with the weights of the image ViT `source` (`image_vit`), and its processor. name, sizes: as in
    `build_random`.
    """
    from .image_vit import from_image_vit

    statistics = {each: sizes.pop(each) for each in ("image_mean", "image_std")}
    resize_mode = sizes.pop("resize_mode", "crop")
    config = config_at_size(name, **sizes)
    config.num_labels = num_labels
    set_statistics(config, statistics)
    save_with_processor(from_image_vit(source, name, config), target, statistics, resize_mode)


def set_statistics(config: Any, statistics: dict[str, Any]) -> None:
    """Set mean and standard deviation of pixels in the config of a model that normalizes them."""
    from ..models.families import family_of

    if family_of(config).normalizes_pixels:
        config.image_mean, config.image_std = statistics["image_mean"], statistics["image_std"]


def build_with_extra_layers(target: Path, trained: dict[str, Path], num_extra_layers: int) -> None:
    """The TubeViT "weights" with further layers of random weights behind its own (table 8)."""
    from tubevit import TubeViTForVideoClassification

    source = trained["weights"]
    model, info = TubeViTForVideoClassification.from_pretrained(
        source, num_extra_layers=num_extra_layers, output_loading_info=True
    )
    lost = [name for name in info["missing_keys"] if "extra_layers." not in name and "classifier." not in name]
    if lost:
        raise ValueError(f"{source} lacks weights of the model, among them {lost[0]}.")
    model.save_pretrained(target)
    _copy_processor(source, target)


def build_scaled(target: Path, trained: dict[str, Path], num_frozen_layers: int, gate: bool) -> None:
    """
    The image model "large" with the tubes of the TubeViT "small" (section 3.6).

    "large" is a TubeViT that a ViT became for its training on images, which changes no number of it. Its trained weights replace
    those of the ViT that it became of.
    """
    from tubevit import TubeViTForImageClassification, TubeViTModel, scale_up

    large = TubeViTForImageClassification.from_pretrained(trained["large"])
    vit = trained["large"].parents[1] / INITIAL / trained["large"].name
    small = TubeViTModel.from_pretrained(trained["small"])
    pixels = {name: getattr(small.config, name) for name in ("image_size", "image_mean", "image_std")}
    model = scale_up(small, vit, num_frozen_layers=num_frozen_layers, gate=gate, **pixels)
    weights = large.state_dict()
    shared = {
        name: value
        for name, value in weights.items()
        if not name.startswith(("classifier.", "tubevit.embeddings.projections."))
    }
    (kernel,) = [index for index, tube in enumerate(model.config.get_tubes()) if tube.is_image_tube]
    for part in ("weight", "bias"):
        shared[f"tubevit.embeddings.projections.{kernel}.{part}"] = weights[f"tubevit.embeddings.projections.0.{part}"]
    missing, unexpected = model.load_state_dict(shared, strict=False)
    new = ("classifier.", "tubevit.embeddings.projections.", "tubevit.gate.", "tubevit.embeddings.gate")
    lost = [name for name in missing if not name.startswith(new)]
    if lost or unexpected:
        raise ValueError(f"The large model does not fit its scaled model: {', '.join([*lost, *unexpected][:3])}.")
    model.save_pretrained(target)
    _copy_processor(trained["small"], target)


def _copy_processor(source: Path, target: Path) -> None:
    for path in source.glob("*processor_config.json"):
        shutil.copy(path, target)


BUILDERS: dict[str, Callable[..., None]] = {
    "continue": continue_training,
    "random": build_random,
    "image_vit": build_converted,
    "extra_layers": build_with_extra_layers,
    "scaled": build_scaled,
}
