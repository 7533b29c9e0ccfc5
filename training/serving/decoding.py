# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Uploaded files to clips, in worker processes.

A file of a stranger may crash FFmpeg, or keep it busy for ever. Each file is therefore decoded in a process that can be ended, and
every reason why a file has no clip is an `UnreadableFile`.
"""

import asyncio
import copy
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import connection
from typing import Any, NamedTuple

import torch

from tubevit.processing import VideoDecodeError
from tubevit.processing.video_source import DecodeLimits

from ..data.worker_processes import NO_ITEM, ItemFailed, Worker
from ..models.clip_processors import read_views
from ..options import one_line


logger = logging.getLogger(__name__)

FILES_BEFORE_RESTART = 1_000  # then a new process takes over, so memory that a decoder loses is freed


class UnreadableFile(ValueError):
    """A file has no clip. The message is a reason of one line, for the client."""


class Limits(NamedTuple):
    """
    Largest files that are decoded.

    duration: seconds of video. pixels: height times width of a frame. seconds: time to decode a file.
    """

    duration: float = 600.0
    pixels: int = 4096 * 2304
    seconds: float = 30.0


def read_clip(data: bytes, processor: Any) -> torch.Tensor:
    """
    The views of a video, `(views, frames, channels, height, width)`, as `processor` reads them.

    Raises `UnreadableFile`.
    """
    try:
        return read_views(processor, data)
    except Exception as error:
        if not isinstance(error, (ValueError, OSError)):
            logger.exception("A file of %d bytes could not be read.", len(data))
        raise UnreadableFile(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, VideoDecodeError):
        text = error.reason  # without the hint: a client has no argument `allow_partial`
    else:
        text = one_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {one_line(error)}"
    return re.sub(r"^<\d+ bytes>:? ", "the file ", text)


class ClipDecoder:
    """
    A pool of worker processes that run `read_clip`.

    processor: of the classifier. num_workers: processes. limits: of the files.
    """

    def __init__(self, processor: Any, num_workers: int, limits: Limits):
        self.limits = limits
        processor = copy.copy(processor)  # the classifier's has no limits
        checked = DecodeLimits(limits.pixels, limits.duration)
        processor.fetch_videos = partial(type(processor).fetch_videos, processor, limits=checked)
        self.function = partial(read_clip, processor=processor)
        self.num_workers = num_workers
        self.idle: asyncio.Queue[tuple[Worker, int]] = asyncio.Queue()
        self.threads = ThreadPoolExecutor(num_workers, "decoder")  # each waits for a process

    async def start(self) -> None:
        """Start the processes, and wait until the first is ready."""
        workers = [self._new_worker() for _ in range(self.num_workers)]
        await self._in_thread(partial(_wait_until_ready, workers[0]))
        for worker in workers:
            self.idle.put_nowait((worker, 0))

    def _new_worker(self) -> Worker:
        return Worker(self.function, self.limits.seconds)

    def _in_thread(self, function: Any) -> Any:
        return asyncio.get_running_loop().run_in_executor(self.threads, function)

    async def decode(self, data: bytes) -> torch.Tensor:
        """The views of a video. Raises `UnreadableFile`."""
        worker, num_files = await self.idle.get()
        try:
            result = await self._in_thread(partial(_run, worker, data))
        except UnreadableFile:
            result = None
            raise
        except BaseException:
            result = ItemFailed()
            raise
        finally:
            num_files += 1
            if isinstance(result, ItemFailed) or num_files == FILES_BEFORE_RESTART:
                worker.end()
                worker, num_files = self._new_worker(), 0
            self.idle.put_nowait((worker, num_files))
        if isinstance(result, ItemFailed):
            raise UnreadableFile(str(result))
        return result

    async def close(self) -> None:
        """End the processes. No file may be in work."""
        while not self.idle.empty():
            self.idle.get_nowait()[0].end()
        self.threads.shutdown()


def _wait_until_ready(worker: Worker) -> None:
    while not worker.is_idle:
        connection.wait([worker.connection])
        worker.poll()


def _run(worker: Worker, data: bytes) -> Any:
    """The clip, or an `ItemFailed`. Raises what `read_clip` raises."""
    _wait_until_ready(worker)
    worker.submit(data)
    while (result := worker.poll()) is NO_ITEM:
        connection.wait([worker.connection], max(0.0, worker.deadline - time.monotonic()))
    return result
