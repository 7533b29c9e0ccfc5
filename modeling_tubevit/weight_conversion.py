# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Converts the tensors of an image model to those of a TubeViT and records every tensor in the conversion report."""

from collections.abc import Mapping

import torch

from .configuration_tubevit import TubeViTConfig
from .conversion_report import ConversionReport
from .image_families import grid_and_patch
from .kernel_inflation import inflate_kernel
from .source_checkpoints import ImageSource
from .tubes import Size, format_size


# Parts of tensor names in checkpoints of these families that have no counterpart in a TubeViT.
NOT_NEEDED = (
    ("mask_token", "used by masked pretraining only"),
    ("decoder.", "used by masked pretraining only"),
    ("text_model.", "part of the text tower"),
    ("text_projection", "part of the text tower"),
    ("visual_projection", "the projection into the space shared with text"),
    ("logit_", "part of the contrastive loss"),
    ("position_ids", "indices, not weights"),
)
# Parts of a TubeViT that have no counterpart in image models.
ADDED_PARTS = ("extra_layers.", "gate.", "embeddings.positions.table_")


class WeightConverter:
    """
    Converts the weights of one checkpoint.

    source: the image model. config: config of the TubeViT. shapes: shapes of all tensors of the TubeViT, by name.
    report: receives an entry per tensor. tube_init: initialization of 3D kernels, see `inflate_kernel`, or "random".
    keeps_classifier: whether the source's classifiers become the TubeViT's classifier.
    """

    def __init__(
        self,
        source: ImageSource,
        config: TubeViTConfig,
        shapes: Mapping[str, torch.Size],
        report: ConversionReport,
        tube_init: str,
        keeps_classifier: bool,
    ):
        self.source, self.family, self.tower = source, source.family, source.pooling.tower
        self.config, self.shapes, self.report = config, shapes, report
        self.tube_init, self.keeps_classifier = tube_init, keeps_classifier
        self.prefix = "tubevit." if any(key.startswith("tubevit.") for key in shapes) else ""
        self.weights: dict[str, torch.Tensor] = {}

    def convert_weights(self) -> dict[str, torch.Tensor]:
        """
        Return the converted weights of the TubeViT, without the tensors that it initializes itself, and complete the report.

        Raises `ValueError` for an unknown tensor of the source, and for a tensor of the TubeViT without a counterpart.
        """
        self._tokens_and_positions()
        self._kernels()
        if self.config.pooling == "attention":
            self._attention_pooling()
        for target in self.shapes:
            if not target.startswith(self.prefix):
                self._head(target)
            elif target.startswith(tuple(self.prefix + part for part in ADDED_PARTS)):
                self._new(target)
            elif target not in self.report.target:
                self._same_part(target)
        for name in [*self.source.weights, *self.source.unread]:
            if name not in self.report.source:
                self.report.add_unused(name, self._why_unused(name))
        for name in self.family.training_settings:
            if value := getattr(self.source.config, name, None):
                self.report.settings[name] = f"{value}; it affects training only"
        return self.weights

    def _tokens_and_positions(self) -> None:
        """CLS and register tokens plus their positions, and the grid of patch positions."""
        family, width, name = self.family, self.config.hidden_size, self.family.positions
        positions, first = torch.empty(1, 0, width), 0
        if name is not None:
            positions = self._get(name).reshape(1, -1, width)
            rows, columns = grid_and_patch(self.source.config)[0]
            if positions.shape[1] != rows * columns + family.num_prefix_positions:
                raise ValueError(
                    f"{self.tower + name} has {positions.shape[1]} positions, but its config has {rows} rows of {columns} "
                    f"patches and {family.num_prefix_positions} other tokens."
                )
        for target, token_name in (("cls_token", family.cls), ("register_tokens", family.registers)):
            if token_name is None or not self._get(token_name).numel():
                continue
            token, names, state, how = self._get(token_name).reshape(1, -1, width), [token_name], "copied", ""
            if target == "cls_token" and not self.config.has_cls_token:
                first += family.num_prefix_positions > 0
                continue
            if name is not None and first < family.num_prefix_positions:
                token = token + positions[:, first : first + token.shape[1]]
                names, state, how = [token_name, name], "transformed", "sum of the token and its position"
                first += token.shape[1]
            self._take(f"embeddings.{target}", token, names, state, how)
        if self.config.has_cls_token and family.cls is None:
            self._new(self.prefix + "embeddings.cls_token")
        if self.config.position_embedding == "transfer" and name is not None:
            state, how = ("transformed", "the patches' positions") if first else ("copied", "")
            self._take("embeddings.positions.grid", positions[:, first:], [name], state, how)

    def _kernels(self) -> None:
        """The patch kernel as the kernel of the 2D tube, and the kernels of 3D tubes that are inflated from it."""
        config = self.config
        tubes = config.get_tubes()
        own = [tube for tube in tubes if tube.is_image_tube or not config.interpolate_kernels]
        for index, tube in enumerate(own):
            num_outputs = config.hidden_size // tube.num_merged
            self._kernel(f"embeddings.projections.{index}", tube.kernel_size, num_outputs, tube.is_image_tube)
        if len(own) < len(tubes):
            frames, rows, columns = config.interpolated_kernel_size
            self._kernel("embeddings.interpolated_kernel", (frames, rows, columns), config.hidden_size, is_patch=False)

    def _kernel(self, target: str, kernel_size: Size, num_outputs: int, is_patch: bool) -> None:
        name = self.family.patch
        if self.tube_init == "random" and not is_patch:
            self._new(f"{self.prefix}{target}.weight")
            self._new(f"{self.prefix}{target}.bias")
            return
        kernel, state, how = self._get(f"{name}.weight"), "copied", ""
        if self.family.pixels_first:
            height, width = grid_and_patch(self.source.config)[1]
            kernel = kernel.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)
            state, how = "transformed", "from (row, column, channel) order"
        if is_patch:
            weight = kernel[:, :, None]
        else:
            weight = inflate_kernel(kernel, kernel_size, num_outputs, self.tube_init)
            part = "" if num_outputs == self.config.hidden_size else f", its first {num_outputs} channels"
            state, how = "transformed", f"{self.tube_init} inflation to {format_size(kernel_size)}{part}"
        self._take(f"{target}.weight", weight, [f"{name}.weight"], state, how)
        if not self._has(f"{name}.bias"):
            self._zero(f"{self.prefix}{target}.bias")
            return
        bias = self._get(f"{name}.bias")
        state, how = "copied", ""
        if num_outputs < len(bias):
            state, how = "transformed", f"its first {num_outputs} values"
        self._take(f"{target}.bias", bias[:num_outputs], [f"{name}.bias"], state, how)

    def _attention_pooling(self) -> None:
        """SigLIP's pooling head, or a newly initialized one if the source has none."""
        if not self._has("head.probe"):
            for target in self.shapes:
                if target.startswith(self.prefix + "pooler."):
                    self._new(target)
            return
        self._take("pooler.query", self._get("head.probe"), ["head.probe"])
        for kind in ("weight", "bias"):
            name = f"head.attention.in_proj_{kind}"
            for part, tensor in zip("qkv", self._get(name).chunk(3), strict=True):
                self._take(f"pooler.attention.{part}_proj.{kind}", tensor, [name], "transformed", "one third of it")
            for ours, theirs in (("attention.o_proj", "attention.out_proj"), ("layernorm", "layernorm")):
                self._take(f"pooler.{ours}.{kind}", self._get(f"head.{theirs}.{kind}"), [f"head.{theirs}.{kind}"])
            for part in ("mlp.fc1", "mlp.fc2"):
                self._take(f"pooler.{part}.{kind}", self._get(f"head.{part}.{kind}"), [f"head.{part}.{kind}"])

    def _head(self, target: str) -> None:
        """A tensor of the classifier: the source's, the mean of the source's two classifiers, or newly initialized."""
        part, _, kind = target.partition(".")
        if not self.keeps_classifier or part != "classifier":
            self._new(target)
            return
        names = [f"{name}.{kind}" for name in self.source.pooling.classifiers]
        tensors = [self.source.weights[name] for name in names]
        if len(tensors) == 1:
            self.weights[target] = tensors[0]
            self.report.add(target, "copied", names)
            return
        # The mean of linear functions of two tokens is one linear function of both.
        together = torch.cat(tensors, dim=1) if kind == "weight" else torch.stack(tensors).sum(dim=0)
        self.weights[target] = together / len(tensors)
        self.report.add(target, "transformed", names, "mean of the classifiers")

    def _same_part(self, target: str) -> None:
        """A tensor of the encoder, copied from the same part of the source. A bias that the source lacks becomes zero."""
        ours = target.removeprefix(self.prefix)
        theirs = ".".join(self.family.names.get(part, part) for part in ours.split("."))
        if self._has(theirs):
            self._take(ours, self._get(theirs), [theirs])
        elif ours.endswith(".bias") and self._has(theirs.removesuffix("bias") + "weight"):
            self._zero(target)
        else:
            raise ValueError(f"The checkpoint has no tensor {self.tower + theirs}, which {target} needs.")

    def _why_unused(self, name: str) -> str:
        for part, why in NOT_NEEDED:
            if part in name:
                return why
        if "classifier" in name:
            has_head = any(not target.startswith(self.prefix) for target in self.shapes)
            return "the labels, the layers or the pooling differ" if has_head else "the target has no classifier"
        if ".pooler." in f".{name}" or ".head." in f".{name}":
            return f"pooling is {self.config.pooling!r}"
        own = name.removeprefix(self.tower)
        number = own.removeprefix(self.family.names.get("layers", "layers") + ".").partition(".")[0]
        if number.isdecimal() and int(number) >= self.config.num_hidden_layers:
            return f"only the first {self.config.num_hidden_layers} layers are taken"
        if own.startswith(f"{self.family.patch}."):
            return "the kernels of all tubes are new"
        if own == self.family.positions:
            return f"positions are {self.config.position_embedding!r}"
        if own == self.family.cls:
            return "use_cls_token is False"
        if own == self.family.registers:
            return "it is empty"
        if own.startswith(self.family.names.get("layernorm", "layernorm") + ".") and (
            self.config.final_layernorm == "none"
        ):
            return "the source's classifier reads tokens before the norm"
        if name in self.source.unread:
            return f"{self.source.class_name} has no such part"
        raise ValueError(f"The checkpoint has the unknown tensor {name}, so it cannot be converted exactly.")

    def _get(self, name: str) -> torch.Tensor:
        return self.source.weights[self.tower + name]

    def _has(self, name: str) -> bool:
        return self.tower + name in self.source.weights

    def _take(
        self, target: str, tensor: torch.Tensor, sources: list[str], state: str = "copied", how: str = ""
    ) -> None:
        """Set a tensor of the TubeViT. target, sources: names within the two encoders, without prefixes."""
        target = self.prefix + target
        if tuple(tensor.shape) != tuple(self.shapes[target]):
            raise ValueError(
                f"{' and '.join(sources)} gives shape {tuple(tensor.shape)}, which does not fit {target} of shape "
                f"{tuple(self.shapes[target])}."
            )
        # A copy, because one source tensor can become several, and parameters that share memory would be tied.
        self.weights[target] = tensor.clone(memory_format=torch.contiguous_format)
        self.report.add(target, state, [self.tower + name for name in sources], how)

    def _zero(self, target: str) -> None:
        self.weights[target] = torch.zeros(self.shapes[target], dtype=self.source.dtype)
        self.report.add(target, "new", [], "zero, because the source has no bias here")

    def _new(self, target: str) -> None:
        """Leave a tensor to the TubeViT's own initialization."""
        kind = "zero" if target.endswith((".bias", "gate.alpha")) else "one" if "layernorm" in target else "random"
        self.report.add(target, "new", [], kind)
