# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
The option `decoder`: torchcodec in place of PyAV, on the CPU or on an NVIDIA GPU.

The frames of a clip are chosen as always, from the index of the file. torchcodec then decodes them, and they are cropped and
resized where they were decoded; the clip is returned in the memory of the CPU. PyAV decodes a video that torchcodec would show
otherwise: one with pixels that are not square, a mirrored one, one with an odd height or more than 8 bits per color (torchcodec's
colors differ by up to 62 gray levels there), one whose index is not reliable, and one whose frames have other times
than in the index. A message says so once for each reason. torchcodec conceals damage within frames without a report;
`tubevit data check` finds it.

With torchcodec 0.17 on the CPU the frames equal PyAV's bit by bit. Its decoder on a GPU was never run by us.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from tubevit.processing import video_decoding
from tubevit.processing.clip_assembly import is_stretched, upright_steps

from .data_config import Decoder


logger = logging.get_logger(__name__)

VARIABLE = "TUBEVIT_DECODER"  # the decoder of this process and of the processes that it starts
GROUP_BYTES = 64 * 2**20  # of frames that are cropped and resized at once


@contextmanager
def use_decoder(name: Decoder, num_workers: int = 0, start_method: str | None = None) -> Iterator[None]:
    """
    Within the context the readers of clips decode with a decoder, in this process and in its loader workers.

    num_workers, start_method: of the loaders; `None` is the default of the platform.

    Raises `ImportError` without torchcodec or its FFmpeg libraries, and `ValueError` without a GPU, and for forked workers, which
    cannot use CUDA.
    """
    _check(name, num_workers, start_method)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


@contextmanager
def chosen_decoder() -> Iterator[None]:
    """
    Within the context `decode_video` uses the decoder of `use_decoder`. Readers of clips enter it; checks of files do not.

    It sets a variable of the whole process, because processors call `decode_video` and have no such option: threads that decode at the
    same time use the same decoder.
    """
    name, before = os.environ.get(VARIABLE, "av"), video_decoding.other_decoder
    if name != "av":
        video_decoding.other_decoder = decoder_of(name.removeprefix("torchcodec-"))
    try:
        yield
    finally:
        video_decoding.other_decoder = before


def worker_start_method(num_workers: int) -> str | None:
    """How a loader starts its workers: "spawn" if they decode on a GPU, else as the platform does."""
    return "spawn" if num_workers and os.environ.get(VARIABLE) == "torchcodec-cuda" else None


def _check(name: Decoder, num_workers: int, start_method: str | None) -> None:
    if name == "av":
        return
    option = f"decoder={name}"
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError) as error:
        raise ImportError(f"{option} needs torchcodec: pip install torchcodec ({_one_line(error)}).") from error
    try:
        VideoDecoder(b"no video")
    except (RuntimeError, ValueError, OSError) as error:  # it loads FFmpeg when it is first used
        if "libtorchcodec" in str(error):
            raise ImportError(
                f"{option}: torchcodec finds no FFmpeg libraries that it can load: install FFmpeg (4 to 8, with shared libraries)."
            ) from error
    if name == "torchcodec-cpu":
        return
    if not torch.cuda.is_available():
        raise ValueError(
            f"{option} needs an NVIDIA GPU, and torch finds none: leave decoder out, or use torchcodec-cpu."
        )
    if num_workers and start_method not in ("spawn", "forkserver"):
        raise ValueError(
            f"{option} with {num_workers} loader workers: a forked worker cannot use CUDA. Set dataloader_num_workers=0, or for training "
            "dataloader_multiprocessing_context=spawn."
        )


class TorchcodecDecoder:
    """
    Decodes the frames of an index with torchcodec, see `video_decoding.other_decoder`.

    device: "cpu" or "cuda".
    """

    def __init__(self, device: str):
        self.device, self.told = device, set()

    def __call__(
        self,
        file: Any,
        index: Any,
        first: Any,
        aspect_ratio: Fraction | None,
        indices: np.ndarray,
        transform: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> tuple[torch.Tensor, tuple[int, int]] | None:
        """
        The frames of the distinct `indices` (ascending), transformed, on the CPU, and (height, width) of a frame before that. `None` if
        PyAV has to decode the video.

        file: of `resolve_source`. index: `VideoIndex`. first: a frame of the video, decoded by PyAV. aspect_ratio: of a pixel.
        """
        if aspect_ratio is not None and is_stretched(aspect_ratio):
            return self._leave("its pixels are not square")
        if first.height % 2:
            return self._leave("its height is odd")
        if any(each.bits != 8 for each in first.format.components):
            return self._leave("its colors do not have 8 bits")
        is_transposed, is_flipped, is_mirrored = upright_steps(first)
        if is_transposed ^ is_flipped ^ is_mirrored:  # an odd number of reflections is no rotation
            return self._leave("it is mirrored")
        try:
            frames = self._decode(file, indices)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            reason = re.sub(r"^.*\.cpp:\d+, ", "", _one_line(error))  # without the place in torchcodec's source
            return self._leave(f"torchcodec cannot decode it ({reason})")
        times = [float(index.headers[index.frame_packets[each]].pts * index.time_base) for each in indices]
        if not np.allclose(frames.pts_seconds.cpu().numpy(), times, rtol=0, atol=float(index.time_base) / 2):
            return self._leave("torchcodec counts its frames otherwise")
        pictures = frames.data
        size = (pictures.shape[-2], pictures.shape[-1])
        if transform is not None:
            # Channels last in memory, as decoded. Groups, because a transform of all frames at once would need several times their memory.
            groups = pictures.split(max(1, GROUP_BYTES // pictures[0].numel()))
            pictures = torch.cat([transform(group) for group in groups])
        return pictures.cpu(), size

    def _decode(self, file: Any, indices: np.ndarray) -> Any:
        from torchcodec.decoders import VideoDecoder

        if not isinstance(file, str):  # FFmpeg reads it too, from where it stands
            position = file.tell()
            file.seek(0)
            file, opened = file.read(), file
            opened.seek(position)
        decoder = VideoDecoder(file, device=self.device, num_ffmpeg_threads=1)
        return decoder.get_frames_at(indices.tolist())

    def _leave(self, reason: str) -> None:
        if reason not in self.told:
            self.told.add(reason)
            logger.warning(f"decoder=torchcodec-{self.device}: PyAV decodes a video, because {reason}. (Shown once.)")


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


decoder_of = cache(TorchcodecDecoder)  # one for each device, so that a message is shown once
