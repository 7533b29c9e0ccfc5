# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Dynamic batching: clips of concurrent requests wait in a queue and go through the model together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from ..evaluation.metrics import LogitsNotFinite, scores_of


class Batcher:
    """
    Computes the scores of clips in batches, in one thread.

    classifier: a `VideoClassifier` on its device. max_batch_size: maximum number of videos per batch. max_wait: seconds that the
    first video of a batch waits for others; videos that arrive while a batch is computed form the next batch without waiting.
    """

    def __init__(
        self, classifier: Any, max_batch_size: int, max_wait: float, on_batch: Callable[[int], None] | None = None
    ):
        self.classifier, self.max_batch_size, self.max_wait = classifier, max_batch_size, max_wait
        self.on_batch = on_batch
        self.queue: asyncio.Queue[tuple[torch.Tensor, asyncio.Future]] = asyncio.Queue()
        self.thread = ThreadPoolExecutor(1, "model")
        self.task: asyncio.Task | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop after the current batch. No request may be waiting."""
        if self.task is not None:
            self.task.cancel()
        self.thread.shutdown()

    async def score(self, views: torch.Tensor) -> np.ndarray:
        """
        Scores `(classes,)` of the views `(views, frames, channels, height, width)` of a video. Raises
        `LogitsNotFinite`.
        """
        future = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((views, future))
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.queue.get()]
            deadline = loop.time() + self.max_wait
            while len(batch) < self.max_batch_size:
                try:
                    batch.append(self.queue.get_nowait())
                    continue
                except asyncio.QueueEmpty:
                    remaining = deadline - loop.time()
                if remaining <= 0:
                    break
                try:
                    batch.append(await asyncio.wait_for(self.queue.get(), remaining))
                except TimeoutError:
                    break
            if self.on_batch is not None:
                self.on_batch(len(batch))
            try:
                results = await loop.run_in_executor(self.thread, self._score_all, [views for views, _ in batch])
            except Exception as error:
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # the client has gone
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _score_all(self, videos: list[torch.Tensor]) -> list[np.ndarray | LogitsNotFinite]:
        """
        Scores of each video, or the error of a video without scores. Videos of equal shape go through the model together; without a center crop,
        shapes may differ.
        """
        scores: list[Any] = [None] * len(videos)
        device = self.classifier.model.device
        for shape in {views.shape for views in videos}:
            members = [index for index, views in enumerate(videos) if views.shape == shape]
            clips = torch.cat([videos[index] for index in members]).to(device)
            logits = self.classifier(clips).cpu().numpy().reshape(len(members), shape[0], -1)
            for index, each in zip(members, logits, strict=True):
                try:
                    scores[index] = scores_of(self.classifier, each)
                except LogitsNotFinite as error:  # the other videos of the batch have their scores
                    scores[index] = error
        return scores
