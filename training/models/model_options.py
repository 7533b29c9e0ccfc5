# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Options of the model to train and of its clips."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from ..option_types import AT_LEAST_0, AT_LEAST_1, POSITIVE, Range, check_ranges, option
from ..options import as_mapping
from .families import describe_presets


FRAME_STRIDE_HELP = (
    "distance between the frames of a clip, in frames of the video; sets sampling=frame_stride; only for models whose processor has a "
    "frame stride, such as ViViT (default: the checkpoint's)"
)
TOKEN_BUDGET_HELP = "TubeViT: largest number of tube tokens per clip; the tubes get larger strides, the weights do not change (default: the checkpoint's tubes)"
RANDOM_TOKENS_HELP = "TubeViT: keep this number of random tube tokens per clip and drop the others; the baseline for token_budget (default: all tokens)"
SAMPLING_OF = {"fps": "fixed_rate", "frame_stride": "frame_stride"}  # option to the sampling that it sets


def check_sampling(options: Any) -> None:
    """Raise a `ValueError` if the options `fps`, `frame_stride` and `sampling` of a dataclass contradict each other."""
    given = [name for name in SAMPLING_OF if getattr(options, name) is not None]
    if len(given) > 1:
        raise ValueError(
            f"fps={options.fps:g} and frame_stride={options.frame_stride} are two samplings of a clip: leave out one of them."
        )
    for name in given:
        if options.sampling not in (None, SAMPLING_OF[name]):
            raise ValueError(
                f"{name}={getattr(options, name):g} has no effect with sampling={options.sampling}: leave out one of them."
            )


@dataclass
class ModelConfig:
    """The model: a checkpoint to start from, or a preset with random weights."""

    MORE_HELP: ClassVar[dict[str, Callable[[], str]]] = {"preset": describe_presets}

    task: Literal["classification", "masked"] = option(
        "classification",
        "classification: train a classifier; masked: masked pretraining of a TubeViT on videos without labels; model_config.mask_ratio is the "
        "fraction of masked tokens, and model_config.mask_target what is predicted for them: pixels, differences (of frames) or features",
    )
    model_name_or_path: str | None = option(
        None, "checkpoint to start from: a TubeViT, an image ViT, or another video classifier; folder or Hub name"
    )
    model_family: str | None = option(
        None,
        "for an image model, the family of the video model that it becomes: tubevit, uniformerv2 (from CLIP) or factorized_vivit "
        "(from ViT) (default: tubevit)",
    )
    preset: str | None = option(None, "size of a new model with random weights")
    model_config: dict | str | None = field(
        default=None, metadata={"help": "fields of the model's config to override, as a mapping or JSON"}
    )
    model_revision: str = option("main", "branch, tag or commit of the checkpoint on the Hub")
    trust_remote_code: bool = option(False, "run Python code that a checkpoint on the Hub contains")
    attn_implementation: str | None = option(
        None, "attention backend: eager, sdpa, flash_attention_2, ... (default: Transformers' choice)"
    )
    ignore_mismatched_sizes: bool = option(
        False, "start with a new classifier if the checkpoint's classes differ from those of the data"
    )
    head_from: Literal["k710"] | None = option(
        None,
        "initial classifier for data with classes of Kinetics-400, 600 or 700; k710: the rows of these classes in the checkpoint's "
        "Kinetics-710 classifier, matched by class name (default: the checkpoint's classifier if it has the classes of the data)",
    )
    classifier_init: Literal["ridge"] | None = option(
        None,
        "initial classifier; ridge: ridge regression on the features of the training videos, which are computed once (at each budget of "
        "token_budget_range), without augmentation, by the starting model; training then begins with the accuracy of a linear probe (LP-FT; Kumar et al., 2022) (default: the checkpoint's "
        "classifier if it has the classes of the data, else random weights)",
    )
    drop_path_rate: Annotated[float, Range(0, 1, exclusive=("maximum",))] | None = option(
        None,
        "stochastic depth: probability of dropping a residual branch in the last layer, linearly smaller in earlier layers (default: the model's)",
    )
    num_frozen_layers: Annotated[int, AT_LEAST_0] | None = option(
        None, "number of layers to freeze, counted from the first; the tokenizer is then frozen too"
    )
    tube_checkpoint: str | None = option(
        None,
        "small TubeViT whose tubes are added to the large image model model_name_or_path (section 3.6); folder or Hub name",
    )
    lora_rank: Annotated[int, AT_LEAST_0] = option(
        0, "rank of LoRA adapters; only they and the classifier are trained (needs peft); 0 = off"
    )
    lora_alpha: Annotated[float, POSITIVE] | None = option(
        None, "scale of the LoRA adapters (default: twice lora_rank)"
    )
    lora_target_modules: str = option("all-linear", "names of the layers with LoRA adapters, separated by commas")

    def __post_init__(self):
        if (self.model_name_or_path is None) == (self.preset is None):
            raise ValueError(
                "Give model_name_or_path, a checkpoint to start from, or preset, a size with random weights; not both."
            )
        self.model_config = as_mapping(self.model_config, "model_config")
        check_ranges(self)
        if self.tube_checkpoint is not None and self.model_name_or_path is None:
            raise ValueError("tube_checkpoint needs model_name_or_path, the large image model.")
        if self.head_from is not None and self.classifier_init is not None:
            raise ValueError(
                f"head_from={self.head_from} and classifier_init={self.classifier_init} both set the initial classifier: give one of them."
            )
        if self.head_from is not None and self.model_name_or_path is None:
            raise ValueError(
                f"head_from={self.head_from} needs model_name_or_path, a checkpoint with a classifier of Kinetics-710."
            )

    def without_effect(self) -> list[str]:
        """A message for each option that is given and has no effect."""
        unused = []
        if not self.lora_rank:
            unused += [("lora_alpha", None, "lora_rank=0"), ("lora_target_modules", "all-linear", "lora_rank=0")]
        if self.preset is not None:
            unused += [
                (name, default, f"preset={self.preset}")
                for name, default in (("model_revision", "main"), ("model_family", None))
            ]
        return [
            f"{name}={getattr(self, name)} has no effect with {reason}."
            for name, default, reason in unused
            if getattr(self, name) != default
        ]


@dataclass
class ClipConfig:
    """
    How clips are sampled and resized; saved with the model's processor, so that inference samples clips the same way.

    Options that are not given are those of the checkpoint's own processor.
    """

    num_frames: Annotated[int, AT_LEAST_1] | None = option(None, "frames per clip (default: the checkpoint's)")
    fps: Annotated[float, POSITIVE] | None = option(
        None, "frames per second of a clip; sets sampling=fixed_rate (default: the checkpoint's)"
    )
    frame_stride: Annotated[int, AT_LEAST_1] | None = option(None, FRAME_STRIDE_HELP)
    sampling: Literal["uniform", "fixed_rate", "frame_stride"] | None = option(
        None,
        "uniform: frames spread over the whole video (TSN); fixed_rate: consecutive frames at fps; frame_stride: every frame_stride-th "
        "frame (ViViT) (default: the checkpoint's; for a new model that of its processor class)",
    )
    image_size: Annotated[int, AT_LEAST_1] | None = option(
        None, "height and width of a frame in pixels (default: the checkpoint's)"
    )
    short_side: Annotated[int, AT_LEAST_1] | None = option(
        None, "shorter side in pixels to which frames are resized before they are cropped (default: image_size)"
    )
    resize_mode: Literal["crop", "stretch"] | None = option(
        None,
        "for frames that are not square; crop: crop square views; stretch: resize the whole frame to a square (default: the "
        "checkpoint's, crop for a new model)",
    )
    pad_mode: Literal["loop", "last", "error"] | None = option(
        None,
        "how to pad a clip longer than its video: loop starts over; last repeats the last frame; error treats the video as unreadable "
        "(default: the checkpoint's, loop for a new model)",
    )

    def __post_init__(self):
        check_ranges(self)
        check_sampling(self)
        if self.short_side is not None and self.image_size is not None and self.short_side < self.image_size:
            raise ValueError(f"short_side={self.short_side} is smaller than the crop, image_size={self.image_size}.")
