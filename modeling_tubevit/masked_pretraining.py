# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Self-supervised pretraining on clips without labels: tubes are masked, the encoder sees the visible tubes only, and a light decoder
predicts the pixels of the masked tubes, or a function of them. Ours; the paper pretrains on labels only.

The design is that of masked autoencoders ("VideoMAE", NeurIPS 2022), with three differences:

- Columns of overlapping tubes are masked together, see `tube_masking`.
- The decoder is that of "CrossMAE" (2024): the masked tubes are queries that attend to the encoder's tokens and not to each other,
  which costs little.
- The decoder also attends to the pooled vector. So the pooling is trained too, and the checkpoint holds every weight of the
  backbone.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils import (
    ModelOutput,
    TransformersKwargs,
    auto_docstring,
    can_return_tuple,
)

from .configuration_tubevit import TubeViTConfig
from .modeling_tubevit import TubeViTModel, TubeViTPreTrainedModel
from .position_embeddings import TubeViTFixedPositions
from .tube_embeddings import frame_differences, gather_tube, merge_applications
from .tube_masking import count_visible, find_targets, random_masks, select_tokens, split_tokens
from .tubes import Size, Tube
from .vit_layers import VisionCrossAttention, VisionMLP


# The pixels of a masked tube are averaged to this grid of frames, rows and columns: of a 2D tube, and of a 3D tube.
GRID_OF_2D_TUBE, GRID_OF_3D_TUBE = (1, 8, 8), (4, 4, 4)
GRID_VALUES = 64  # per channel, for both
# Added to the variance of pixels (0 to 1) before its root divides them: contrasts below about 2.5 gray levels are not
# amplified.
VARIANCE_FLOOR = 1e-4


@dataclass
@auto_docstring(custom_intro="Output of [`TubeViTForPreTraining`].")
class TubeViTForPreTrainingOutput(ModelOutput):
    r"""
    loss (`torch.Tensor` of shape `(1,)`):
        Mean of `clip_losses`.
    logits (`torch.Tensor` of shape `(batch_size, num_masked, values)`):
        Predicted targets of the masked tokens, in the order of the tokens.
    clip_losses (`torch.Tensor` of shape `(batch_size,)`):
        Loss of each clip: mean over the targets of their mean squared errors; 0 for a clip without targets.
    bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_tokens)`):
        The masked tokens.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    clip_losses: torch.Tensor | None = None
    bool_masked_pos: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class TubeViTDecoderSizes:
    """The fields of a config that the layers read, with the sizes of the decoder. The attention backend follows the config."""

    def __init__(self, config: TubeViTConfig):
        self.config = config
        self.hidden_size = config.decoder_hidden_size
        self.num_attention_heads = config.decoder_num_attention_heads
        self.intermediate_size = config.decoder_intermediate_size
        self.hidden_act = config.hidden_act
        self.layer_norm_eps = config.layer_norm_eps
        self.qkv_bias = config.qkv_bias
        self.attention_probs_dropout_prob = config.attention_probs_dropout_prob
        self.position_temperature = config.position_temperature

    @property
    def _attn_implementation(self) -> str | None:
        return self.config._attn_implementation


class TubeViTDecoderLayer(GradientCheckpointingLayer):
    """Cross-attention of the masked tubes to the memory, and an MLP, both with a residual connection."""

    def __init__(self, sizes: TubeViTDecoderSizes):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)
        self.attention = VisionCrossAttention(sizes)  # type: ignore[arg-type]  # has all fields that it reads
        self.layernorm_after = nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)
        self.mlp = VisionMLP(sizes)  # type: ignore[arg-type]

    def forward(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """queries: `(batch, masked, width)`. memory: `(batch, tokens, width)`. Returns the shape of the queries."""
        attention_output, _ = self.attention(self.layernorm_before(queries), memory)
        queries = queries + attention_output
        return queries + self.mlp(self.layernorm_after(queries))


class TubeViTDecoder(nn.Module):
    """
    Predicts the targets of the masked tokens. A query is the mask token of the tube plus the fixed position of the token's center.
    The memory is the encoder's tokens, those of tubes with their positions, and the pooled vector.
    """

    def __init__(self, config: TubeViTConfig, num_values: int):
        super().__init__()
        sizes = TubeViTDecoderSizes(config)
        self.num_prefix_tokens = config.num_prefix_tokens
        self.encoder_to_decoder = nn.Linear(config.hidden_size, sizes.hidden_size, bias=False)
        self.pooled_to_decoder = nn.Linear(config.pooled_size, sizes.hidden_size, bias=False)
        self.memory_layernorm = nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)
        self.mask_tokens = nn.Parameter(torch.empty(len(config.get_tubes()), sizes.hidden_size))
        self.positions = TubeViTFixedPositions(sizes)  # type: ignore[arg-type]
        self.decoder_layers = nn.ModuleList(
            [TubeViTDecoderLayer(sizes) for _ in range(config.decoder_num_hidden_layers)]
        )
        self.layernorm = nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)
        self.head = nn.Linear(sizes.hidden_size, num_values)

    def forward(
        self,
        tokens: torch.Tensor,
        pooled: torch.Tensor,
        visible: torch.Tensor,
        masked: torch.Tensor,
        tubes: tuple[Tube, ...],
        indices: list[int],
        size: Size,
    ) -> torch.Tensor:
        """
        tokens: the encoder's output `(batch, prefix + visible, hidden_size)`. pooled: `(batch, pooled_size)`. visible, masked: of
        `split_tokens`. tubes, indices: the tubes that tokenize the clip, and their indices in the config. size: of the clip.

        Returns `(batch, masked, values)`.
        """
        memory = self.encoder_to_decoder(tokens)
        positions = self.positions(tubes, indices, size, self.mask_tokens)  # in full precision, also under autocast
        prefix, of_tubes = memory[:, : self.num_prefix_tokens], memory[:, self.num_prefix_tokens :]
        of_tubes = of_tubes + select_tokens(positions, visible)
        memory = torch.cat((self.pooled_to_decoder(pooled)[:, None], prefix, of_tubes), dim=1)
        memory = self.memory_layernorm(memory)
        numbers = [tube.num_tokens(size) for tube in tubes]
        mask_tokens = [
            self.mask_tokens[index].expand(number, -1) for index, number in zip(indices, numbers, strict=True)
        ]
        queries = select_tokens(torch.cat(mask_tokens) + positions, masked)
        for layer in self.decoder_layers:
            queries = layer(queries, memory)
        return self.head(self.layernorm(queries))


@auto_docstring(
    custom_intro="""
    TubeViT with a decoder that predicts the pixels of masked tubes, or features, for self-supervised pretraining on clips without
    labels.
    """
)
class TubeViTForPreTraining(TubeViTPreTrainedModel):
    # The loss is a mean over clips, and Trainer divides it by the accumulation steps.
    accepts_loss_kwargs = False
    input_modalities = ["video"]
    _no_split_modules = [*TubeViTPreTrainedModel._no_split_modules, "TubeViTDecoderLayer"]

    def __init__(self, config: TubeViTConfig):
        if config.heads:
            raise ValueError("TubeViTForPreTraining has no heads: set heads=None in the config of the joint model.")
        if config.pooling == "grid":
            raise ValueError(
                "TubeViTForPreTraining does not work with pooling='grid', which needs all tokens of a clip: take another pooling."
            )
        if config.mask_target == "differences" and all(tube.is_image_tube for tube in config.get_tubes()):
            raise ValueError(
                "mask_target='differences' needs a tube whose kernel spans several frames, and config.tubes has none."
            )
        super().__init__(config)
        self.tubevit = TubeViTModel(config)
        is_features = config.mask_target == "features"
        self.decoder = TubeViTDecoder(config, config.hidden_size if is_features else GRID_VALUES * config.num_channels)
        self.post_init()
        self.freeze_untrained_weights()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, TubeViTDecoder):
            init.trunc_normal_(module.mask_tokens, mean=0.0, std=self.config.initializer_range)

    def set_tubes(
        self,
        tubes: list[dict],
        num_frames: int | None = None,
        image_size: int | list[int] | tuple[int, int] | None = None,
    ) -> None:
        """As in the base class. Raises `ValueError` for another number of tubes, because each has a mask token."""
        if len(tubes) != len(self.decoder.mask_tokens):
            raise ValueError(
                f"A TubeViTForPreTraining has a mask token for each of its {len(self.decoder.mask_tokens)} tubes: give as many "
                f"tubes, got {len(tubes)}."
            )
        super().set_tubes(tubes, num_frames, image_size)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        target_features: torch.Tensor | None = None,
        num_visible_tokens: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TubeViTForPreTrainingOutput:
        r"""
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Clips, either normalized floats or raw uint8, which the model normalizes.
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_tokens)`, *optional*):
            Whether a tube token is masked (CLS and register tokens are not counted). Each clip must have the same number of masked
            tokens; under `torch.compile` that of `config.mask_ratio` or `num_visible_tokens`. By default the model masks random
            columns, see `tubevit.tube_masking`.
        target_features (`torch.Tensor` of shape `(batch_size, num_tokens, hidden_size)`, *optional*):
            Features of all tube tokens, for `config.mask_target="features"`, such as the last hidden state of a frozen TubeViT on
            the whole clip.
        num_visible_tokens (`int`, *optional*):
            Number of tube tokens of a clip that `bool_masked_pos` does not mask, if the caller knows it. By default they are
            counted, and a GPU then waits for the result in each step.

        Returns:
            [`TubeViTForPreTrainingOutput`]. The loss counts the masked tokens that share no pixel with a visible one.

        Example:

        ```python
        >>> import torch
        >>> from tubevit import TubeViTConfig, TubeViTForPreTraining

        >>> config = TubeViTConfig(
        ...     hidden_size=48, num_attention_heads=3, intermediate_size=96, num_hidden_layers=2, image_size=64
        ... )
        >>> model = TubeViTForPreTraining(config)
        >>> outputs = model(torch.rand(2, 32, 3, 64, 64))
        >>> outputs.logits.shape  # 80 % of the 44 tokens of a clip are masked; 8x8 values of 3 channels each
        torch.Size([2, 35, 192])
        >>> outputs.loss.backward()

        ```"""
        embeddings = self.tubevit.embeddings
        indices, tubes, size = embeddings.clip_tubes(pixel_values_videos)
        if bool_masked_pos is None:
            if num_visible_tokens is not None:
                raise ValueError(
                    "num_visible_tokens has no effect without bool_masked_pos: config.mask_ratio decides."
                )
            bool_masked_pos = random_masks(pixel_values_videos, embeddings, size, tubes, self.config.mask_ratio)
            num_visible_tokens = count_visible(bool_masked_pos.shape[1], self.config.mask_ratio)
        bool_masked_pos = bool_masked_pos.to(pixel_values_videos.device, torch.bool)
        outputs = self.tubevit(
            pixel_values_videos=pixel_values_videos,
            bool_masked_pos=bool_masked_pos,
            num_visible_tokens=num_visible_tokens,
            return_dict=True,
            **kwargs,
        )
        # The encoder has checked the masks, and its output has the visible tokens after the prefix.
        num_visible = outputs.last_hidden_state.shape[1] - self.config.num_prefix_tokens
        visible, masked = split_tokens(bool_masked_pos, num_visible)
        logits = self.decoder(outputs.last_hidden_state, outputs.pooler_output, visible, masked, tubes, indices, size)
        with torch.no_grad():
            targets = select_tokens(self.targets(pixel_values_videos, tubes, size, target_features), masked)
            counted = find_targets(bool_masked_pos, embeddings, size, tubes)
            if self.config.mask_target == "differences":
                counted = counted & self._spans_frames(tubes, size, counted.device)
            counted = counted.gather(1, masked)
        dtype = torch.promote_types(logits.dtype, targets.dtype)
        errors = (logits.to(dtype) - targets.to(dtype)).square().mean(dim=2)
        clip_losses = (errors * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return TubeViTForPreTrainingOutput(
            loss=clip_losses.mean(),
            logits=logits,
            clip_losses=clip_losses,
            bool_masked_pos=bool_masked_pos,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def targets(
        self,
        pixel_values_videos: torch.Tensor,
        tubes: tuple[Tube, ...],
        size: Size,
        target_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        The target of each tube token, `(batch, tokens, values)` in at least float32. A value is a mean over a block of the tube's
        pixels, in a grid of 4x4x4 (frames, rows, columns), of 8x8 for a 2D tube:

        - "pixels": for each token and channel minus the mean over the grid, divided by the standard deviation (VideoMAE's
          `norm_pix_loss`);
        - "differences": absolute differences between frames (`frame_differences`), minus their mean over all 3D tubes of the clip,
          divided by their standard deviation; 0 for 2D tubes, which are not targets;
        - "features": `target_features`, normalized over the channels.

        Raises `ValueError` if `target_features` are missing, of another shape, or given for another target.
        """
        target = self.config.mask_target
        shape = (pixel_values_videos.shape[0], sum(tube.num_tokens(size) for tube in tubes), self.config.hidden_size)
        if (target_features is not None) != (target == "features"):
            given = "needs" if target_features is None else "takes no"
            raise ValueError(f"mask_target={target!r} {given} target_features.")
        if target_features is not None:
            if tuple(target_features.shape) != shape:
                raise ValueError(f"target_features must be {shape}, got {tuple(target_features.shape)}.")
            features = target_features.to(torch.promote_types(target_features.dtype, torch.float32))
            return nn.functional.layer_norm(features, features.shape[-1:])
        parts = [self._read(pixel_values_videos, tube, size) for tube in tubes]
        values = torch.cat(parts, dim=1)
        if target == "pixels":
            return _standardize(values, values, (-1,)).flatten(2)
        of_3d = [part for part, tube in zip(parts, tubes, strict=True) if not tube.is_image_tube]
        spans = self._spans_frames(tubes, size, values.device)
        return (_standardize(values, torch.cat(of_3d, dim=1), (1, 2, 3)) * spans[:, None, None]).flatten(2)

    def _read(self, video: torch.Tensor, tube: Tube, size: Size) -> torch.Tensor:
        """
        The pixels of each token of a tube (0 to 1), or their differences, averaged to the grid:
        `(batch, tokens, channels, GRID_VALUES)`.
        """
        pixels = gather_tube(video, tube)
        dtype = torch.promote_types(pixels.dtype, torch.float32)
        if video.dtype == torch.uint8:
            pixels = pixels.to(dtype) * self.config.rescale_factor
        else:
            mean, std = (
                torch.tensor(values, dtype=dtype, device=video.device)[:, None, None, None]
                for values in self.config.get_pixel_statistics()
            )
            pixels = pixels.to(dtype) * std + mean
        if self.config.mask_target == "differences":
            pixels = torch.zeros_like(pixels) if tube.is_image_tube else frame_differences(pixels)
        num_channels, (kt, kh, kw), (ft, fh, fw) = pixels.shape[2], tube.kernel_size, tube.space_to_depth
        merged = merge_applications(pixels.flatten(2), tube, size).unflatten(2, (ft, fh, fw, num_channels, kt, kh, kw))
        # (batch, tokens, ft, fh, fw, channels, kt, kh, kw) -> (batch * tokens, channels, ft * kt, fh * kh, fw * kw)
        volume = (
            merged.permute(0, 1, 5, 2, 6, 3, 7, 4, 8)
            .flatten(0, 1)
            .reshape(-1, num_channels, ft * kt, fh * kh, fw * kw)
        )
        grid = GRID_OF_2D_TUBE if volume.shape[2] == 1 else GRID_OF_3D_TUBE
        return nn.functional.adaptive_avg_pool3d(volume, grid).flatten(2).unflatten(0, (video.shape[0], -1))

    @staticmethod
    def _spans_frames(tubes: tuple[Tube, ...], size: Size, device: torch.device) -> torch.Tensor:
        """Whether the kernel of a token's tube spans several frames, bool `(tokens,)`."""
        parts = [torch.full((tube.num_tokens(size),), not tube.is_image_tube, device=device) for tube in tubes]
        return torch.cat(parts)


def _standardize(values: torch.Tensor, reference: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """`values` minus the mean of `reference` over `axes`, divided by the root of its variance and `VARIANCE_FLOOR`."""
    variance, mean = torch.var_mean(reference, dim=axes, correction=0, keepdim=True)
    return (values - mean) / (variance + VARIANCE_FLOOR).sqrt()


__all__ = ["TubeViTForPreTraining", "TubeViTForPreTrainingOutput"]
