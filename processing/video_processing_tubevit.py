# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Video processor: videos to `pixel_values_videos`, by frame sampling, resize, crop and normalization.

Frames are sampled first, and only the sampled frames are decoded, converted and resized, so the cost depends on the clip,
not on the video. A file, its decoded frames and a row of a dataset give the same pixels. Pixels stay uint8 until the last
step, normalization, which can be skipped: the model normalizes uint8 pixels itself, and only the 18 % of them that its
tubes read.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from transformers import BatchFeature
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    PILImageResampling,
    SizeDict,
    load_image,
)
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from .decoded_frames import FrameSequence, PixelFormat
from .frame_sampling import (
    PAD_MODES,
    evenly_spaced_starts,
    fixed_rate_clips,
    frame_rate,
    frame_times,
    num_frames_at_rate,
    uniform_clips,
    video_end,
)
from .hub_export_processing import ProcessorCodeExportMixin
from .model_config import check_num_frames, update_model_config
from .processor_settings import (
    COUNT,
    FLAG,
    FRAMES,
    PIXEL_RULES,
    RATE,
    Rule,
    check_names,
    check_settings,
    is_number,
    one_of,
    optional,
)
from .spatial_views import crop_views, split_views
from .video_decoding import decode_video
from .video_inputs import (
    decoded_metadata,
    encoded_source,
    flatten_metadata,
    flatten_videos,
    is_encoded,
    is_frame_files,
    is_torchcodec_decoder,
    take_frames,
    take_from_torchcodec,
    with_frame_rate,
)


VIDEO_RULES = {
    **PIXEL_RULES,
    "do_sample_frames": FLAG,
    "return_metadata": FLAG,
    "allow_partial": FLAG,
    "sampling": one_of("uniform", "fixed_rate"),
    "num_frames": FRAMES,
    "fps": optional(RATE),
    "clip_start": Rule(
        "'center', 'random' or a number of seconds of at least 0",
        lambda value: value >= 0 if is_number(value) else isinstance(value, str) and value in ("center", "random"),
    ),
    "num_temporal_views": COUNT,
    "num_spatial_views": COUNT,
    "pad_mode": one_of(*PAD_MODES),
    "num_decoder_threads": optional(COUNT),
}


class TubeViTVideoProcessorKwargs(VideosKwargs, total=False):
    """
    sampling (`str`, *optional*, defaults to `"uniform"`):
        `"uniform"`: `num_frames` frames spread over the whole video, the centers of equal segments. `"fixed_rate"`:
        `num_frames` frames at `fps` frames per second.
    clip_start (`str` or `float`, *optional*, defaults to `"center"`):
        Start of a fixed-rate clip: `"center"`, `"random"`, or a time in seconds. With `sampling="uniform"`, `"random"`
        takes a random frame of each segment. Random numbers come from torch's global generator.
    num_temporal_views (`int`, *optional*, defaults to 1):
        Number of clips per video: with evenly spaced starts (fixed rate) or interleaved frames (uniform).
    num_spatial_views (`int`, *optional*, defaults to 1):
        Number of crops per clip, evenly spaced along the longer side.
    pad_mode (`str`, *optional*, defaults to `"loop"`):
        Padding of a clip longer than its video: `"loop"` restarts the video, `"last"` repeats the last frame, `"error"`
        raises `ValueError`.
    allow_partial (`bool`, *optional*, defaults to `False`):
        Whether to use the frames that can be decoded from a damaged or truncated file. Otherwise such a file raises
        `VideoDecodeError`.
    num_decoder_threads (`int`, *optional*):
        Number of threads that decode a file. Defaults to 1 in a DataLoader worker, else to the number of CPU cores.
    """

    sampling: Literal["uniform", "fixed_rate"] | None
    clip_start: str | int | float | None
    num_temporal_views: int | None
    num_spatial_views: int | None
    pad_mode: Literal["loop", "last", "error"] | None
    allow_partial: bool | None
    num_decoder_threads: int | None


class TubeViTVideoProcessor(ProcessorCodeExportMixin, BaseVideoProcessor):
    r"""
    Prepares videos for TubeViT: samples frames, resizes the short side, center-crops, rescales and normalizes.

    Settings are passed to the constructor, saved with the processor, and can be overridden in a call. In addition to the
    settings of every video processor in Transformers (`TubeViTVideoProcessorKwargs` describes them in full):

    - `sampling`, `num_frames` (32), `fps`, `clip_start`: the frames of a clip.
    - `num_temporal_views`, `num_spatial_views`: clips per video, and crops per clip; the paper evaluates 4 and 3.
    - `pad_mode`: padding of a clip longer than its video.
    - `allow_partial`: whether to use the frames that can be decoded from a damaged or truncated file.
    - `num_decoder_threads`: threads per file; set it to 1 if several files are decoded in parallel.
    - `do_rescale`, `do_normalize`: set both to `False` for uint8 pixels (a quarter of the bytes); the model normalizes them.

    The output `pixel_values_videos` is `(batch, frames, channels, height, width)`, or with several views
    `(batch, views, frames, channels, height, width)`: view `t * num_spatial_views + s` is crop `s` of clip `t`.

    Example:

    ```python
    >>> import numpy as np
    >>> from tubevit.processing import TubeViTVideoProcessor

    >>> processor = TubeViTVideoProcessor(num_frames=16)
    >>> video = np.zeros((40, 120, 160, 3), dtype=np.uint8)
    >>> processor(video, return_tensors="pt").pixel_values_videos.shape
    torch.Size([1, 16, 3, 224, 224])
    >>> views = processor(video, num_temporal_views=4, num_spatial_views=3, return_tensors="pt")
    >>> views.pixel_values_videos.shape
    torch.Size([1, 12, 16, 3, 224, 224])

    ```"""

    auto_class = "AutoVideoProcessor"
    combined_key = "video_processor"
    rules = VIDEO_RULES  # allowed values of the settings
    crops_round_up = False  # whether the offset of a centered crop is rounded up if it is half a pixel
    resizes_as_float = False  # whether uint8 frames are resized as floats without antialiasing
    valid_kwargs = TubeViTVideoProcessorKwargs  # type: ignore[assignment]  # Transformers declares ImagesKwargs
    model_input_names = ["pixel_values_videos"]

    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 224}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    do_rescale = True
    do_normalize = True
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    do_sample_frames = True
    sampling = "uniform"
    num_frames = 32
    fps = None
    clip_start = "center"
    num_temporal_views = 1
    num_spatial_views = 1
    pad_mode = "loop"
    allow_partial = False
    num_decoder_threads = None

    def __init__(self, **kwargs: Unpack[TubeViTVideoProcessorKwargs]):
        check_names(self, kwargs, self.valid_kwargs.__annotations__, closed=False)
        super().__init__(**kwargs)  # type: ignore[misc]  # Transformers declares its own settings only
        self._check_combination({name: getattr(self, name, None) for name in self.rules})
        if self.sampling != "fixed_rate" and self.fps is not None:
            raise ValueError(
                f"{type(self).__name__}: fps={self.fps!r} has no effect with sampling={self.sampling!r}; set sampling='fixed_rate'."
            )

    @classmethod
    def get_video_processor_dict(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """
        As in the base class.

        Raises `FileNotFoundError` for a checkpoint that has an image processor only, because its settings do not contain the
        sampling of clips, and `ValueError` if the model's config has another number of frames, unless `num_frames` is given.
        """
        settings, rest = super().get_video_processor_dict(pretrained_model_name_or_path, **kwargs)
        name = os.fspath(pretrained_model_name_or_path)
        if "video_processor_type" not in settings and "image_processor_type" in settings:
            raise FileNotFoundError(
                f"{name} has an image processor and no video processor: save a {cls.__name__} there, with the sampling of the clips "
                "that the model was trained on."
            )
        num_frames = settings.get("num_frames") if settings.get("do_sample_frames", True) else None
        if num_frames is not None and "num_frames" not in kwargs and not os.path.isfile(name):
            check_num_frames(name, num_frames, kwargs)
        return settings, rest

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> list[str]:
        """As in the base classes. The config of a model in the folder takes the clip size of the processor, with a warning."""
        self.update_model_config(save_directory)
        return super().save_pretrained(save_directory, *args, **kwargs)

    def update_model_config(self, folder: str | os.PathLike) -> None:
        """Set the clip size in the config of a model in `folder`. Raises `ValueError` if the model cannot take these clips."""
        size = dict(self.crop_size if self.do_center_crop else self.size)
        frame_size = (size["height"], size["width"]) if size.get("height") else None
        update_model_config(folder, self.num_frames if self.do_sample_frames else None, frame_size)

    def describe_sampling(self) -> str:
        """Where the frames of a clip come from, for summaries: "at 15 fps" or "spread over the video"."""
        return f"at {self.fps:g} fps" if self.sampling == "fixed_rate" else "spread over the video"

    def order_channels(self, frames: torch.Tensor) -> torch.Tensor:
        """RGB frames `(..., channels, height, width)` with the channels in the model's order."""
        return frames

    def preprocess(self, videos: Any, **kwargs: Unpack[TubeViTVideoProcessorKwargs]) -> BatchFeature:
        """
        Videos to `pixel_values_videos`.

        videos: a video or a batch of videos. A video is a path, URL, bytes, binary file object, `{"path": ..., "bytes":
            ...}`, torchcodec `VideoDecoder`, array or tensor `(frames, height, width, channels)` or `(frames, channels,
            height, width)`, or list of frames. A dictionary may hold the segment to read, in seconds (`"start"`, `"end"`) or
            frames (`"start_frame"`, `"end_frame"`). A path of a folder of numbered pictures is a video whose frame rate is
            `"fps"` in the dictionary or in `video_metadata`. Decoded frames are RGB, gray or RGBA with values from 0 to 255, integers or
            floats; `do_rescale=False` takes floats from 0 to 1. Floats of another range than the settings expect raise
            `ValueError`. With `do_convert_rgb=False` all inputs get as many channels as `image_mean` has values: one is gray.
        video_metadata: for decoded frames, a `VideoMetadata` or dictionary per video, such as `{"fps": 25}`; required by
            `sampling="fixed_rate"`. The metadata of files are read from the files.
        kwargs: settings that override the processor's in this call. Except with `sampling="fixed_rate"`, `fps` without
            `num_frames` samples `fps` frames per second over the whole video, as in Transformers.

        Returns a `BatchFeature` with `pixel_values_videos` (shapes: see the class), and with `video_metadata` if
        `return_metadata=True`.

        Raises `ValueError` or `TypeError` for an invalid video or setting, `OSError` for a file that cannot be opened.
        """
        settings = self._call_settings(kwargs)
        video_metadata, input_data_format = settings.pop("video_metadata"), settings.pop("input_data_format")
        allow_partial, num_threads = settings.pop("allow_partial"), settings.pop("num_decoder_threads")
        do_sample_frames, pixel_format = settings.pop("do_sample_frames"), PixelFormat.of(settings)
        if not do_sample_frames:
            settings["num_temporal_views"] = 1
        clips, metadata = self._decode_and_sample_videos(
            videos,
            video_metadata=video_metadata,
            do_sample_frames=do_sample_frames,
            sample_indices_fn=partial(self.sample_frames, **settings) if do_sample_frames else None,
            frame_transform=partial(self._prepare_frames, pixel_format=pixel_format, **settings),
            input_data_format=input_data_format,
            pixel_format=pixel_format,
            allow_partial=allow_partial,
            num_threads=num_threads,
        )
        features = self._preprocess(clips, **settings)
        if settings["return_metadata"]:
            features["video_metadata"] = metadata
        return features

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs
    ) -> np.ndarray:
        """
        Frame indices of the clips of a video; an argument that is `None` or missing defaults to the processor's setting.

        metadata: metadata of the video. `sampling="fixed_rate"` needs `timestamps` (seconds, one per frame) or `fps`.
        num_frames, fps: as in the settings. Except with `sampling="fixed_rate"`, `fps` replaces `num_frames`.

        Returns int64 indices `(num_temporal_views * num_frames,)`, clip after clip.

        Raises `ValueError` for a video without frames or frame rate, or too short for `pad_mode="error"`.
        """
        names = ("sampling", "clip_start", "num_temporal_views", "pad_mode")
        settings = {name: kwargs[name] if kwargs.get(name) is not None else getattr(self, name) for name in names}
        if not metadata.total_num_frames:
            raise ValueError("The video has no frames.")
        if settings.pop("sampling") == "fixed_rate":
            rate = fps or self.fps
            if rate is None:
                raise ValueError(f"{type(self).__name__}: sampling='fixed_rate' needs fps (frames per second).")
            clips = self._sample_at_rate(metadata, num_frames or self.num_frames, rate, **settings)
        else:
            clips = self._sample_uniformly(metadata, num_frames, fps, **settings)
        return clips.reshape(-1)

    def fetch_videos(self, video_url_or_urls: Any, sample_indices_fn: Callable | None = None, **decode_kwargs):
        """
        Decode a video with `decode_video`: `(frames, metadata)` with uint8 frames `(frames, channels, height, width)`.

        For a list of videos, returns all frames and all metadata, `[(frames, ...), (metadata, ...)]`. `decode_kwargs` are
        those of `decode_video`; `num_threads` defaults to `num_decoder_threads`.
        """
        decode_kwargs.setdefault("num_threads", self.num_decoder_threads)
        if isinstance(video_url_or_urls, list):
            decoded = [self.fetch_videos(video, sample_indices_fn, **decode_kwargs) for video in video_url_or_urls]
            return list(zip(*decoded, strict=True))
        return decode_video(video_url_or_urls, sample_indices_fn, **decode_kwargs)

    def _standardize_kwargs(self, **kwargs) -> dict[str, Any]:  # type: ignore[override]  # called by keyword only
        # Transformers passes all settings through here, in `__init__` and in every call.
        check_settings(self, kwargs, self.rules)
        return super()._standardize_kwargs(**kwargs)

    def _call_settings(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a call: those passed in `kwargs`, else the processor's."""
        known = self.valid_kwargs.__annotations__
        check_names(self, kwargs, known, closed=True)
        # As in Transformers, None disables a boolean setting; for other settings it means "not passed".
        given = {name: value for name, value in kwargs.items() if value is not None or self.rules.get(name) is FLAG}
        settings = self._standardize_kwargs(**{name: getattr(self, name, None) for name in known} | given)
        self._check_combination(settings)
        if settings["sampling"] != "fixed_rate":
            # An fps passed in the call replaces num_frames; the processor's own fps applies to sampling="fixed_rate" only.
            settings["fps"] = kwargs.get("fps")
            if settings["fps"] is not None:
                settings["num_frames"] = kwargs.get("num_frames")
        return settings

    def _check_combination(self, settings: dict[str, Any]) -> None:
        """Raise `ValueError` for settings that are valid individually but not together."""
        owner = type(self).__name__
        self._validate_preprocess_kwargs(**settings)
        if settings["sampling"] == "fixed_rate" and settings["fps"] is None:
            raise ValueError(f"{owner}: sampling='fixed_rate' needs fps (frames per second).")
        if is_number(settings["clip_start"]):
            if settings["sampling"] != "fixed_rate":
                raise ValueError(
                    f"{owner}: clip_start={settings['clip_start']!r} seconds needs sampling='fixed_rate'; with "
                    f"{settings['sampling']!r}, clip_start is 'center' or 'random'."
                )
            if settings["num_temporal_views"] > 1:
                raise ValueError(
                    f"{owner}: clip_start={settings['clip_start']!r} seconds allows a single clip, got num_temporal_views="
                    f"{settings['num_temporal_views']}; use clip_start='center' or num_temporal_views=1."
                )
        if settings["num_spatial_views"] > 1 and not settings["do_center_crop"]:
            raise ValueError(
                f"{owner}: num_spatial_views={settings['num_spatial_views']} needs do_center_crop=True, because views are "
                "crops of crop_size."
            )

    def _sample_uniformly(
        self,
        metadata: VideoMetadata,
        num_frames: int | None,
        fps: float | None,
        clip_start: str,
        num_temporal_views: int,
        pad_mode: str,
    ) -> np.ndarray:
        if fps is not None and num_frames is not None:
            raise ValueError(
                f"num_frames={num_frames} and fps={fps} exclude each other; use "
                "sampling='fixed_rate' for num_frames frames at fps."
            )
        if fps is not None:
            num_frames = num_frames_at_rate(metadata.total_num_frames, frame_rate(metadata), fps)
        elif num_frames is None:
            num_frames = self.num_frames
        offsets = None
        if clip_start == "random":
            offsets = torch.rand(num_temporal_views, num_frames, dtype=torch.float64).numpy()
        return uniform_clips(metadata.total_num_frames, num_frames, num_temporal_views, pad_mode, offsets)

    def _sample_at_rate(
        self,
        metadata: VideoMetadata,
        num_frames: int,
        fps: float,
        clip_start: str | float,
        num_temporal_views: int,
        pad_mode: str,
    ) -> np.ndarray:
        timestamps = frame_times(metadata)
        end, clip_seconds = video_end(timestamps, fallback_fps=metadata.fps or fps), num_frames / fps
        if clip_start == "center":
            starts = evenly_spaced_starts(end, clip_seconds, num_temporal_views)
        elif clip_start == "random":
            starts = torch.rand(num_temporal_views, dtype=torch.float64).numpy() * max(0.0, end - clip_seconds)
        elif float(clip_start) < end:
            starts = np.array([float(clip_start)])
        else:
            raise ValueError(f"clip_start={clip_start} s is after the end of the video, which lasts {end:.3f} s.")
        return fixed_rate_clips(timestamps, end, num_frames, fps, starts, pad_mode)

    def _decode_and_sample_videos(  # type: ignore[override]  # called by `preprocess` below only, with more arguments
        self,
        videos: Any,
        video_metadata: Any = None,
        do_sample_frames: bool | None = None,
        sample_indices_fn: Callable | None = None,
        frame_transform: Callable[[torch.Tensor], torch.Tensor] = lambda frames: frames,
        input_data_format: str | None = None,
        pixel_format: PixelFormat | None = None,
        **decode_kwargs,
    ) -> tuple[list[torch.Tensor], list[VideoMetadata]]:
        """
        The sampled frames of each video, `(frames, channels, height, width)`, and its metadata with `frames_indices`.

        `frame_transform` is applied once to each distinct sampled frame, in groups of frames; its results are returned.
        `decode_kwargs` are those of `decode_video`, for files.
        """

        def load(video, given):
            if is_torchcodec_decoder(video):
                video = encoded_source(video) or video
            if is_encoded(video):
                video = with_frame_rate(video, given)
                return self.fetch_videos(video, sample_indices_fn, frame_transform=frame_transform, **decode_kwargs)
            if is_torchcodec_decoder(video):
                return take_from_torchcodec(video, sample_indices_fn, frame_transform)
            if is_frame_files(video):
                if do_sample_frames:
                    raise ValueError(
                        "Sampling frames from a list of images is not supported! Set `do_sample_frames=False`."
                    )
                video = [load_image(os.fspath(name)) for name in video]
            frames = FrameSequence(video, input_data_format, pixel_format)
            return take_frames(frames, decoded_metadata(given, len(frames)), sample_indices_fn, frame_transform)

        videos = flatten_videos(videos)
        loaded = [load(*pair) for pair in zip(videos, flatten_metadata(video_metadata, len(videos)), strict=True)]
        frames, metadata = zip(*loaded, strict=True)
        return list(frames), list(metadata)

    def _prepare_frames(
        self,
        frames: torch.Tensor,
        pixel_format: PixelFormat,
        do_resize: bool,
        size: SizeDict,
        resample: Any,
        do_center_crop: bool,
        crop_size: SizeDict,
        num_spatial_views: int,
        device: Any = None,
        **kwargs,
    ) -> torch.Tensor:
        """Convert the channels of frames `(frames, channels, height, width)`, resize, and crop if there is one spatial view."""
        pixel_format.check_integers(frames)
        frames = pixel_format.to_channels(frames)
        if device is not None:
            frames = frames.to(device)
        if do_resize:
            # torch resizes uint8 pixels in channels-last format twice as fast, with the same result
            frames = self.resize(frames.contiguous(memory_format=torch.channels_last), size=size, resample=resample)
        if do_center_crop and num_spatial_views == 1:
            (frames,) = crop_views(frames, _height_and_width(crop_size), rounds_up=self.crops_round_up)
        return frames

    def _preprocess(  # type: ignore[override]  # called by `preprocess` above only
        self,
        videos: list[torch.Tensor],
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        num_temporal_views: int,
        num_spatial_views: int,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Split the frames of each video, `(clips * frames, channels, height, width)`, into views; batch and normalize."""
        crop = _height_and_width(crop_size) if num_spatial_views > 1 else None
        videos = [
            split_views(video, num_temporal_views, num_spatial_views, crop, self.crops_round_up) for video in videos
        ]
        shapes = {tuple(video.shape) for video in videos}
        if len(shapes) == 1:  # one batch; a single video is not copied
            videos = [videos[0].unsqueeze(0) if len(videos) == 1 else torch.stack(videos)]
        elif return_tensors is not None:
            raise ValueError(
                f"Videos of different shapes cannot be batched: {', '.join(map(str, sorted(shapes)))}; use the same sampling, "
                "resize and crop for all, or omit return_tensors."
            )
        videos = [
            self.rescale_and_normalize(video, do_rescale, rescale_factor, do_normalize, image_mean, image_std)
            for video in videos
        ]
        pixels: list[torch.Tensor] | torch.Tensor = videos
        if len(shapes) == 1:
            pixels = list(videos[0]) if return_tensors is None else videos[0]
        return BatchFeature(data={"pixel_values_videos": pixels}, tensor_type=return_tensors)


def _height_and_width(size: SizeDict) -> tuple[int, int]:
    """A size that `VIDEO_RULES` restricts to height and width."""
    assert size.height is not None and size.width is not None
    return size.height, size.width


__all__ = ["TubeViTVideoProcessor"]
