# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A model for the video tasks of mteb (the Massive Text Embedding Benchmark, version 2.26 or later): classification, clustering, pair
classification and video-to-video retrieval. It encodes videos only, not text.

    import mteb
    from tubevit.training.evaluation.mteb_model import MtebVideoModel

    results = mteb.evaluate(MtebVideoModel("runs/tubevit"), mteb.get_task("UCF101VideoClassification"))

`MtebVideoModel` has the methods of mteb's `EncoderProtocol`. Videos are decoded by this package's processor, so that their embeddings are
those of `tubevit embed`; mteb's own models decode them with TorchCodec.
"""

from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..environment import pick_device
from ..models.encoders import load_encoder


class MtebVideoModel:
    """
    An encoder of videos for `mteb.evaluate`.

    model_name: folder or Hub name of a checkpoint of any family that `tubevit embed` takes.
    revision: must be `None`; for a certain revision, download it and give its folder.
    device: "cpu", "cuda", ... (default: the GPU if there is one). dtype: of the weights, see `load_encoder`.
    settings: settings of the video processor that replace the checkpoint's, such as `num_frames` or `num_temporal_views`; the
        embeddings of several views are averaged.

    Raises `ValueError` for a revision, and the errors of `load_encoder`.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        **settings: Any,
    ):
        if revision is not None:
            raise ValueError(f"revision={revision!r}: download this revision of {model_name} and give its folder.")
        self.name = str(model_name)
        self.device = pick_device("auto") if device is None else device
        self.encoder = load_encoder(self.name, settings=settings, dtype=dtype)
        self.encoder.model.to(self.device)

    def encode(
        self,
        inputs: DataLoader,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        batch_size: int = 32,
        show_progress_bar: bool = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """
        float32 embeddings `(videos, hidden_size)` of a loader of mteb, whose data set has a column `video` of the type `datasets.Video`.

        batch_size: videos per forward pass, if their clips have one size. The other arguments are those of mteb's protocol and have no effect.

        Raises `ValueError` for a task with other columns, such as text.
        """
        from ..data.clip_sampling import MultiViewReader
        from ..logging_utils import progress_bar

        rows, read = _undecoded(inputs.dataset, task_metadata), MultiViewReader(self.encoder.processor)
        loader = DataLoader(_Clips(rows, read), batch_size, num_workers=inputs.num_workers, collate_fn=list)
        vectors = []
        batches = progress_bar(loader, "encoding", unit="batch", is_hidden=not show_progress_bar)
        for batch in batches:
            # Without a center crop, the clips of videos have several sizes.
            for _, videos in groupby(batch, key=lambda clips: clips.shape):
                clips = torch.stack(list(videos))
                views = clips.flatten(0, 1) if self.encoder.num_views > 1 else clips
                encoded = self.encoder(views.to(self.device)).unflatten(0, (len(clips), -1))
                vectors.extend(encoded.mean(1).cpu().numpy())
        return np.stack(vectors)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosine similarities `(first, second)` of vectors `(first, hidden_size)` and `(second, hidden_size)`."""
        return _unit_length(embeddings1) @ _unit_length(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosine similarity of each vector of the first to the vector of the same index of the second, `(pairs,)`."""
        return (_unit_length(embeddings1) * _unit_length(embeddings2)).sum(-1)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """mteb's description of the model. Raises `ImportError` if mteb is not installed."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        model, path = self.encoder.model, Path(self.name)
        is_folder = path.is_dir()
        return ModelMeta.create_empty(
            {
                "loader": MtebVideoModel,
                "name": f"local/{path.resolve().name}" if is_folder else self.name,
                "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
                "modalities": ["video"],
                "framework": ["PyTorch", "Transformers"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": False,
                "reference": None if is_folder else f"https://huggingface.co/{self.name}",
            }
        )


class _Clips(torch.utils.data.Dataset):
    """The pixels of each video: one view, or `(views, ...)`."""

    def __init__(self, rows: Any, read: Any):
        self.rows, self.read = rows, read

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.read(self.rows[index]["video"]).pixels


def _undecoded(dataset: Any, task_metadata: Any) -> Any:
    """The column `video` of a data set of mteb, with the files or bytes instead of decoders."""
    import datasets

    columns = [name for name in ("text", "image", "audio", "video") if name in dataset.column_names]
    if columns != ["video"]:
        raise ValueError(
            f"{task_metadata.name} has the columns {', '.join(columns) or 'none'}; a MtebVideoModel encodes a column `video` only."
        )
    if not isinstance(dataset.features["video"], datasets.Video):
        raise ValueError(
            f"The column `video` of {task_metadata.name} has the type {dataset.features['video']}; datasets.Video is needed."
        )
    return dataset.select_columns(["video"]).cast_column("video", datasets.Video(decode=False))


def _unit_length(vectors: Any) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(vectors, dtype=torch.float32), dim=-1)
