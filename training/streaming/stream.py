# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Sliding windows over a video that arrives frame by frame.

A window is a clip of the model: `num_frames` frames at a constant rate. Windows overlap, so each frame is decoded, resized and cropped
once. The tokens of a TubeViT's tubes carry their positions only after the tokenizer, so a token whose tube lies at the same frames in two
windows is computed once too. The encoder runs for every window: its tokens attend to each other, and differ from window to window.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from tubevit.processing.frame_sampling import TIME_TOLERANCE
from tubevit.tube_embeddings import TubeViTEmbeddings
from tubevit.tubes import Tube

from ..evaluation.metrics import scores_of
from ..models.loading import VideoClassifier, load_video_classifier


ONE_VIEW = {"num_temporal_views": 1, "num_spatial_views": 1}
Frame = np.ndarray | Callable[[], np.ndarray]


class Window(NamedTuple):
    """
    The prediction of a window.

    start, end: seconds since the first frame of the stream. logits: float32 `(classes,)`. scores: probabilities, float64 `(classes,)`; those
    of each label group sum to 1.
    """

    start: float
    end: float
    logits: torch.Tensor
    scores: np.ndarray

    @property
    def center(self) -> float:
        return (self.start + self.end) / 2


class TubeViTStream:
    """
    Classifies the sliding windows of a video that arrives frame by frame.

        stream = TubeViTStream.from_pretrained("demo/model", window_seconds=2)
        for frame, seconds in frames:  # uint8 (height, width, 3), RGB; seconds since any origin
            for window in stream.push(frame, seconds):
                print(window.start, window.end, stream.labels[window.scores.argmax()])

    The logits of a window are those of the model for the clip that its processor reads from the whole video with
    `sampling="fixed_rate", clip_start=window.start`, to float rounding. The model must not be used elsewhere while `push` runs. Between two
    calls it may move to another device or dtype (`classifier.model.to`): the frames follow it, and cached tokens are computed again.

    classifier: a `VideoClassifier` of any family, with one view.
    window_stride: frames of the clip between the starts of two windows (default: an eighth of a window).
    window_seconds: length of a window. Required if the processor spreads frames over the whole video; otherwise the processor's
        `num_frames / fps`.
    reuses_tokens: whether a TubeViT computes the tokens that windows share once.

    Raises `ValueError` for a classifier of images, for several views, and for values that make no windows.
    """

    def __init__(
        self,
        classifier: VideoClassifier,
        window_stride: int | None = None,
        window_seconds: float | None = None,
        reuses_tokens: bool = True,
    ):
        if classifier.media != "video":
            raise ValueError("A stream needs a classifier of videos, and this one classifies images.")
        processor = classifier.processor
        if classifier.num_views != 1:
            raise ValueError(f"A stream has one view per window, and the processor makes {classifier.num_views}.")
        if window_seconds is None and processor.sampling != "fixed_rate":
            raise ValueError(
                "The processor spreads frames over the whole video, so a window has no length: give window_seconds, for example the "
                "length of the training videos."
            )
        self.classifier, self.num_frames = classifier, processor.num_frames
        self.rate = processor.fps if window_seconds is None else self.num_frames / window_seconds
        self.window_stride = max(1, self.num_frames // 8) if window_stride is None else window_stride
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"window_seconds must be a finite number above 0, got {window_seconds}.")
        if not 1 <= self.window_stride <= self.num_frames:
            raise ValueError(
                f"window_stride must be from 1 to the {self.num_frames} frames of a window, got {window_stride}."
            )
        names = classifier.model.config.id2label
        self.labels = [str(names[index]) for index in range(classifier.model.config.num_labels)]
        embeddings = classifier.model.get_input_embeddings()
        self.tokens = TokenCache(embeddings) if reuses_tokens and isinstance(embeddings, TubeViTEmbeddings) else None
        self.num_prepared = 0  # frames that the processor has prepared, of all windows so far
        self.buffer: torch.Tensor | None = None  # prepared frames, two windows long, on the model's device
        self.reset()

    @classmethod
    def from_pretrained(
        cls, name: str, device: str | torch.device = "cpu", dtype: str = "auto", **kwargs: Any
    ) -> "TubeViTStream":
        """
        The stream of a checkpoint of any family, by folder or Hub name.

        dtype: "auto" for the checkpoint's, "float32", "bfloat16" or "float16". kwargs: of the class.
        """
        classifier = load_video_classifier(name, ONE_VIEW, dtype)
        classifier.model.to(device)
        return cls(classifier, **kwargs)

    def reset(self) -> None:
        """Start again: the next frame is the first frame of a video, at 0 seconds."""
        self.origin: float | None = None
        self.latest: tuple[Frame, float] | None = None  # the newest frame and its time
        self.mean_gap = 0.0  # seconds between two frames
        self.num_clip_frames = 0  # frames at the clip's rate so far
        self.next_start = 0  # first frame of the next window
        self.waiting: list[np.ndarray] = []  # frames of the next window that are not prepared yet
        self.num_buffered = 0  # frames in `self.buffer`
        if self.tokens is not None:
            self.tokens.clear()

    def push(self, frame: Frame, seconds: float) -> list[Window]:
        """
        Add a frame, and return the windows that are complete now: those that end before this frame.

        frame: RGB, uint8 `(height, width, 3)`, all of one size, or a function that returns it, which is called only if a window has the
            frame. seconds: its presentation time, later than that of the frame before.
        """
        if self.origin is None:
            self.origin = seconds
        time = seconds - self.origin
        windows: list[Window] = []
        if self.latest is not None:
            last, last_time = self.latest
            if time <= last_time:
                raise ValueError(f"A frame at {seconds:.3f} s follows one at {last_time + self.origin:.3f} s.")
            gap = time - last_time
            self.mean_gap = gap if self.mean_gap == 0 else 0.9 * self.mean_gap + 0.1 * gap
            windows = self._show(last, time)
        self.latest = (frame, time)
        return windows

    @property
    def end(self) -> float:
        """End of the newest frame, in seconds since the first."""
        return 0.0 if self.latest is None else self.latest[1] + (self.mean_gap or 1 / self.rate)

    def finish(self) -> list[Window]:
        """The last windows, when the video has ended; its last frame is shown as long as the frames before it."""
        if self.latest is None:
            return []
        windows = self._show(self.latest[0], self.end)
        self.reset()
        return windows

    def _show(self, frame: Frame, until: float) -> list[Window]:
        """Take `frame` for each time of the clip's rate until the next frame begins."""
        windows, picture = [], None
        while True:
            tolerance = min(TIME_TOLERANCE, 0.25 * self.mean_gap) if self.mean_gap else TIME_TOLERANCE
            if self.num_clip_frames / self.rate + tolerance >= until:
                return windows
            if self.num_clip_frames >= self.next_start:
                if picture is None:
                    picture = frame() if callable(frame) else np.asarray(frame)
                self.waiting.append(picture)
            self.num_clip_frames += 1
            if self.num_clip_frames == self.next_start + self.num_frames:
                windows.append(self._classify())

    def _classify(self) -> Window:
        """The window whose last frame has come."""
        pixels, start = self._prepare()[None], self.next_start
        if self.tokens is None:
            logits = self.classifier(pixels)[0]
        else:
            with self.tokens.at(start):
                logits = self.classifier(pixels)[0]
        self.next_start += self.window_stride
        logits = logits.cpu()
        scores = scores_of(self.classifier, logits.numpy()[None])
        return Window(start / self.rate, (start + self.num_frames) / self.rate, logits, scores)

    def _prepare(self) -> torch.Tensor:
        """Resize, crop and normalize the waiting frames. Returns the window, a view of `(frames, channels, height, width)`."""
        clip = self.classifier.processor(np.stack(self.waiting), do_sample_frames=False, return_tensors="pt")
        self.waiting.clear()
        new = clip.pixel_values_videos[0]
        device = self.classifier.model.device
        if self.buffer is None:
            self.buffer = new.new_empty(2 * self.num_frames, *new.shape[1:], device=device)
        self.buffer = self.buffer.to(device)  # no copy, unless the model has moved
        if self.num_buffered + len(new) > len(self.buffer):  # full: the frames that windows share move to its start
            num_shared = self.num_frames - len(new)
            self.buffer[:num_shared] = self.buffer[self.num_buffered - num_shared : self.num_buffered]
            self.num_buffered = num_shared
        self.buffer[self.num_buffered : self.num_buffered + len(new)] = new
        self.num_buffered += len(new)
        self.num_prepared += len(new)
        return self.buffer[self.num_buffered - self.num_frames : self.num_buffered]


class TokenCache:
    """
    The tokens of a TubeViT's tubes by the frames that they read.

    num_tokens: tokens of all windows so far. num_computed: those that the tokenizer computed.
    """

    def __init__(self, embeddings: TubeViTEmbeddings):
        self.embeddings = embeddings
        self.rows: dict[tuple[int, int, int], torch.Tensor] = {}
        self.placement: tuple[torch.device, torch.dtype] | None = None  # of the weights that computed the rows
        self.num_tokens = self.num_computed = 0

    def clear(self) -> None:
        self.rows.clear()

    @contextmanager
    def at(self, start: int) -> Iterator[None]:
        """The tokenizer takes cached tokens; `start` is the first frame of the window in the stream."""
        weight = next(self.embeddings.parameters())
        if self.placement != (weight.device, weight.dtype):
            self.rows, self.placement = {}, (weight.device, weight.dtype)
        self.rows = {key: row for key, row in self.rows.items() if key[1] >= start}
        own = self.embeddings.project
        self.embeddings.project = partial(self._project, own, start)  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.embeddings.project

    def _project(self, own: Callable, start: int, video: torch.Tensor, tube: Tube, index: int) -> torch.Tensor:
        """As `TubeViTEmbeddings.project`, from the rows of tokens with one position in time."""
        num_frames, height, width = video.shape[1], *video.shape[3:]
        length, stride = tube.kernel_size[0], tube.kernel_stride[0]
        rows = []
        for number in range(tube.grid((num_frames, height, width))[0]):
            begin = tube.offset[0] + number * tube.stride[0]
            # Applications that space-to-depth merges; those beyond the end of the clip have zero outputs.
            num_merged = min(tube.space_to_depth[0], (num_frames - begin - length) // stride + 1)
            key = (index, start + begin, num_merged)
            if key not in self.rows:
                part = video[:, begin : begin + length + (num_merged - 1) * stride]
                self.rows[key] = own(part, replace(tube, offset=(0, *tube.offset[1:])), index)
                self.num_computed += self.rows[key].shape[1]
            rows.append(self.rows[key])
        tokens = torch.cat(rows, dim=1)
        self.num_tokens += tokens.shape[1]
        return tokens
