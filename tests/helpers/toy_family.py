"""A toy model family in one file: config, model, processor and registry entry. Its layers are called stages."""

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.video_processing_utils import BaseVideoProcessor

from tubevit.training.models.families import ModelFamily, register_family


class ToyConfig(PreTrainedConfig):
    model_type = "toy"

    def __init__(self, num_frames=4, image_size=16, hidden_size=8, num_stages=2, **kwargs):
        self.num_frames, self.image_size = num_frames, image_size
        self.hidden_size, self.num_stages = hidden_size, num_stages
        super().__init__(**kwargs)


class ToyBackbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, 8, 8)
        self.stages = nn.ModuleList(
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(config.num_stages)
        )


class ToyForVideoClassification(PreTrainedModel):
    config_class = ToyConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.backbone = ToyBackbone(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=0.3)
            nn.init.zeros_(module.bias)

    def forward(self, pixel_values, output_hidden_states=None, **kwargs):
        patches = self.backbone.patch_embedding(pixel_values.flatten(0, 1))
        tokens = patches.unflatten(0, pixel_values.shape[:2]).transpose(1, 2).flatten(2).transpose(1, 2)
        states = [tokens]
        for stage in self.backbone.stages:
            states.append(states[-1] + torch.tanh(stage(states[-1])))
        logits = self.classifier(states[-1].mean(1))
        return ImageClassifierOutput(logits=logits, hidden_states=tuple(states) if output_hidden_states else None)


class ToyVideoProcessor(BaseVideoProcessor):
    size = {"shortest_edge": 20}
    default_to_square = False
    crop_size = {"height": 16, "width": 16}
    image_mean = image_std = (0.5, 0.5, 0.5)
    do_resize = do_center_crop = do_rescale = do_normalize = do_sample_frames = True
    model_input_names = ["pixel_values"]

    def sample_frames(self, metadata, num_frames=None, fps=None, **kwargs):
        """The last frame of each of equal segments; no processor of Transformers samples in this way."""
        return (torch.arange(1, num_frames + 1) * metadata.total_num_frames // num_frames - 1).numpy()

    def preprocess(self, videos, **kwargs):
        batch = super().preprocess(videos, **kwargs)
        batch["pixel_values"] = batch.pop("pixel_values_videos")
        return batch


def register() -> None:
    """Register the family with Transformers and this package."""
    AutoConfig.register("toy", ToyConfig, exist_ok=True)
    AutoModelForVideoClassification.register(ToyConfig, ToyForVideoClassification, exist_ok=True)
    AutoVideoProcessor.register(ToyConfig, ToyVideoProcessor, exist_ok=True)
    register_family(
        ModelFamily(
            model_type="toy",
            title="Toy",
            config_class=ToyConfig,
            classifiers={"video": ToyForVideoClassification},
            processors={"video": ToyVideoProcessor},
            presets={"toy-2": {"num_stages": 2}, "toy-3": {"num_stages": 3}},
            build_preset=build_preset,
            layers=r"(stages)\.(\d+)\.",
            before_layers=r"patch_embedding\.",
            input_name="pixel_values",
            num_frames_may_differ="config",
            image_size_may_differ=True,
        )
    )


def build_preset(name: str, **overrides) -> ToyConfig:
    return ToyConfig(**{"num_stages": int(name.removeprefix("toy-")), **overrides})
