#!/usr/bin/env python3
# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Classify videos with the file model.onnx in this folder: python classify.py VIDEO ...

`tubevit export --format onnx` wrote both. The script needs NumPy, PyAV and onnxruntime (pip install numpy av onnxruntime), not torch or
Transformers. It reads labels, frame sampling, sizes and normalization from the metadata of model.onnx. Frames, pixels and probabilities are
those of `tubevit predict`. Damage that FFmpeg conceals is not reported.
"""

import json
import sys
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import onnxruntime
from av.sidedata.sidedata import Type


def unnamed_type(types, value):
    """A type of side data that PyAV does not name, such as EXIF data: without it, PyAV cannot read the side data of the frame."""
    member = object.__new__(types)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


Type._missing_ = classmethod(unnamed_type)


def decode(path):
    """Yield the stream and each frame of a video, in presentation order."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        streams = [each for each in container.streams.video if not each.disposition & 0x400]  # 0x400: a cover picture
        if not streams:
            raise ValueError("the file has no video stream")
        streams[0].thread_type = "AUTO"
        for frame in container.decode(streams[0]):
            yield streams[0], frame


def frame_times(path):
    """The time of each frame in seconds, the first at 0. Times within one tick of a constant rate are replaced by those of the rate."""
    ticks = []
    for stream, frame in decode(path):
        ticks.append(frame.pts)
        rate, tick = float(stream.average_rate or stream.guessed_rate or 25), float(stream.time_base)
    if not ticks:
        raise ValueError("the video has no frames")
    constant = np.arange(len(ticks)) / rate
    if None in ticks or len(set(ticks)) < len(ticks):
        return constant
    times = (np.array(sorted(ticks)) - min(ticks)) * tick
    return constant if abs(times - constant).max() <= (tick if tick < 0.25 / rate else 1e-9) else times


def sample(times, clip):
    """Frame indices of each temporal view, (views, frames)."""
    total, count, views, kind = len(times), clip["num_frames"], clip["num_temporal_views"], clip["sampling"]["kind"]
    frames, view, rule = np.arange(count), np.arange(views)[:, None], clip["sampling"]
    if kind == "fixed_rate":
        end = times[-1] + (times[-1] / (total - 1) if times[-1] > 0 else 1 / rule["fps"])
        slack = max(0.0, end - count / rule["fps"])
        start = slack / 2 if views == 1 else slack * view / (views - 1)
        if rule["clip_start"] != "center":
            start = rule["clip_start"]
        tolerance = min(0.97e-3, 0.25 * end / total)
        moments = start + frames / rule["fps"] + tolerance + 0 * view
        if np.max(start) >= end or (rule["pad_mode"] == "error" and moments.max() >= end + tolerance):
            raise ValueError(f"the video of {end:.2f} s is shorter than a clip")
        return np.searchsorted(times, moments % end if rule["pad_mode"] == "loop" else moments, side="right") - 1
    if kind == "segments" and (total >= count or rule["pad_mode"] != "error"):
        shift = np.trunc((total - 1) / count / (views + 1) * (view + 1))
        return np.minimum(np.rint((total - 1) / count * frames) + shift, total - 1).astype(int)
    if kind == "frame_stride":
        slack = max(0, total - (count - 1) * rule["frame_stride"] - 1)
        indices = (slack // 2 if views == 1 else slack * view // (views - 1)) + rule["frame_stride"] * frames
    elif total < count:
        indices = frames
    elif kind == "segment_starts":
        indices = np.minimum(frames * total // count + view * total // (views * count), total - 1)
    else:
        indices = (2 * (frames * views + view) + 1) * total // (2 * count * views)
    if rule["pad_mode"] == "error" and indices.max() >= total:
        raise ValueError(f"the video has {total} frames, and a clip needs {indices.max() + 1}")
    return (indices % total if rule["pad_mode"] == "loop" else np.minimum(indices, total - 1)) + 0 * view


def to_rgb(frame, width, height):
    """The upright picture with square pixels, uint8 (height, width, 3). width, height: of the picture before its rotation."""
    picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


@lru_cache
def taps(before, after, first, count, cubic, antialias):
    """
    `count` pixels from `first` on of a side that is resized from `before` to `after` pixels: the places of the pixels that each one sums,
    their weights, both (count, taps), and the number of fraction bits of integer weights. Pixels outside of the side are black.
    """
    wanted, scale, bits = np.arange(first, first + count), before / after, None
    centers = scale * (np.arange(after) + 0.5)[:, None]
    if antialias:  # torchvision's filter for uint8, with int16 weights
        stretch = max(scale, 1.0)
        reach = (2 if cubic else 1) * stretch
        start, end = (centers - reach + 0.5).astype(int).clip(0), (centers + reach + 0.5).astype(int).clip(0, before)
        places = start + np.arange((end - start).max())
        x = abs((places - centers + 0.5) / stretch)
        far = np.where(x < 2, (((x - 5) * x + 8) * x - 4) * -0.5, 0) if cubic else 0 * x
        weights = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1 if cubic else 1 - x, far) * (places < end)
        weights /= weights.cumsum(1)[:, -1:]
        bits = max(each for each in range(23) if np.floor(0.5 + weights.max() * 2**each) < 2**15)
        weights = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32)
    else:  # linear interpolation of floats
        place = np.maximum(0, centers - 0.5)
        places = place.astype(int) + np.arange(2)
        weights = (1 - abs(place - places)).astype(np.float32)
    inside = wanted.clip(0, after - 1)
    return places[inside].clip(0, before - 1), weights[inside] * (wanted == inside)[:, None], bits


def crops(picture, clip):
    """The spatial views of a picture, (views, channels, height, width): resized, cropped, uint8, or float32 if resized as floats."""
    shape, size, views = picture.shape[:2], clip["size"] or {}, clip["num_spatial_views"]
    sides = [size.get("height", shape[0]), size.get("width", shape[1])]
    if min(shape) != size.get("shortest_edge", min(shape)):
        edge, antialias = size["shortest_edge"], clip["antialias"]
        long = edge * max(shape) // min(shape) if antialias else int(max(shape) / min(shape) * edge)
        sides = [edge, long] if shape[0] <= shape[1] else [long, edge]
    up, slack = int(clip["crops_round_up"]), [sides[0] - clip["height"], sides[1] - clip["width"]]
    corners = [[(each + up) // 2 if each >= 0 else -(-each // 2) for each in slack]] * views
    if views > 1:
        axis, last = int(slack[1] >= slack[0]), views - 1
        starts = [(view * max(0, slack[axis]) + (last - 1) * up) // last for view in range(views)]
        corners = [
            [start if side == axis and slack[side] >= 0 else corner[side] for side in (0, 1)]
            for start, corner in zip(starts, corners, strict=True)
        ]
    return np.stack([crop(picture, sides, corner, clip) for corner in corners])


def crop(picture, sides, corner, clip):
    """The crop at a corner (top, left) of a picture resized to `sides` (height, width): (channels, height, width)."""
    pixels = picture[..., ::-1] if clip["flip_channels"] else picture
    for axis, count in ((1, clip["width"]), (0, clip["height"])):
        places, weights, bits = taps(
            picture.shape[axis], sides[axis], corner[axis], count, clip["filter"] == "bicubic", clip["antialias"]
        )
        along = (1, -1, 1) if axis else (-1, 1, 1)
        pixels = sum(
            weights[:, tap].reshape(along) * pixels.take(places[:, tap], axis) for tap in range(places.shape[1])
        )
        pixels = pixels if bits is None else ((pixels + (1 << bits >> 1)) >> bits).clip(0, 255)
    return pixels.transpose(2, 0, 1)


def classify(session, path):
    """Label groups, each a list of (label, probability), best first. A model without label groups has one group."""
    about = session.get_modelmeta().custom_metadata_map
    clip, labels = json.loads(about["clip"]), json.loads(about["labels"])
    indices = sample(frame_times(path), clip)
    chosen, pictures = set(indices.ravel().tolist()), {}
    for index, (stream, frame) in enumerate(decode(path)):
        if index == 0:
            ratio, (width, height) = float(stream.sample_aspect_ratio or 1), (frame.width, frame.height)
            width = max(1, int(width * ratio + 0.5)) if 1.01 <= max(ratio, 1 / ratio) <= 8 else width
        if index in chosen:
            pictures[index] = crops(to_rgb(frame, width, height), clip)
        if index == max(chosen):
            break
    pixels = np.stack(
        [pictures[index] for index in indices.ravel()]
    )  # (clips * frames, crops, channels, height, width)
    pixels = (
        pixels.reshape(*indices.shape, *pixels.shape[1:])
        .swapaxes(1, 2)
        .reshape(-1, indices.shape[1], *pixels.shape[2:])
    )
    if about["input_dtype"] == "uint8":
        pixels = np.rint(pixels).astype(np.uint8)
    else:
        scale, shift = (np.array(clip[name], np.float32)[:, None, None] for name in ("scale", "shift"))
        pixels = pixels.astype(np.float32) * scale + shift
    name = session.get_inputs()[0].name
    logits = np.concatenate([session.run(None, {name: each[None]})[0] for each in pixels]).astype(float)
    groups, first = [], 0
    for count in json.loads(about["label_groups"]).values() or [len(labels)]:
        own = logits[:, first : first + count]
        powers = np.exp(own - own.max(1, keepdims=True))
        scores = (powers / powers.sum(1, keepdims=True)).mean(0)
        if about["problem_type"] == "multi_label_classification":
            scores = (1 / (1 + np.exp(-own))).mean(0)
        order = np.argsort(-scores, kind="stable")
        groups.append([(labels[first + index], scores[index]) for index in order.tolist()])
        first += count
    return groups


def load(path):
    """The session of the file. Exits with a message for a file that onnxruntime cannot load, and for one of another origin."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime has an exception class for each cause, without a common one
        sys.exit(f"{path} cannot be loaded: {error}")
    if "clip" not in session.get_modelmeta().custom_metadata_map:
        sys.exit(f"{path} was not written with this script: its metadata do not describe the clips")
    return session


def main():
    if not sys.argv[1:]:
        sys.exit(f"usage: {sys.argv[0]} VIDEO ...")
    session, failed = load(Path(__file__).with_name("model.onnx")), 0
    for path in sys.argv[1:]:
        try:
            groups = classify(session, path)
        except (av.FFmpegError, ValueError) as error:
            print(f"{path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
            failed = 1
            continue
        print(path)
        for label, probability in (each for group in groups for each in group[:5]):
            print(f"  {100 * probability:6.2f} %  {label}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
