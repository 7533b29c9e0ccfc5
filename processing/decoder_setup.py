# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Prepare FFmpeg's decoders to report all damage, with one or several threads.

A decoder conceals damage, and flags the frame, raises an error or does neither, by its options and by what it decoded before. These
settings let it report what it notices, whichever frames are decoded and whatever the number of threads.
"""

from contextlib import suppress

import torch

from .cpu_cores import num_cores
from .video_index import Run, VideoIndex, length_bytes
from .video_source import DecodeLimits, import_av


# Codecs whose decoders raise an error for some damage if told to (`err_detect=explode`), and otherwise conceal it without a flag.
# Not HEVC, which then also raises for pictures whose references were cut off.
STRICT_CODECS = {"mjpeg", "mpeg1video", "mpeg2video"}

# Codecs of which several threads notice all damage, though not by FFmpeg's flags: these may come after the frame, if a thread still
# decodes a frame before it. For a damaged packet, these codecs raise an error with `err_detect=explode`, or return no frame. Not
# HEVC: its frame threads may wait forever for a frame that is lost, and its threads within a frame decode damage in another way.
THREADED_CODECS = {"h264", "vp8", "vp9", "libdav1d", "mjpeg", "png", "ffv1", "prores"}

# Pictures by which FFmpeg's H.264 decoder can delay its output at most.
MAX_OUTPUT_DELAY = 15
ACCESS_UNIT_DELIMITER = bytes([9, 0xF0])  # a unit of H.264 without a picture

# Pictures after which FFmpeg's MPEG-4 decoder knows whether the encoder pads pictures rightly.
NUM_MPEG4_PICTURES = 3

# FFmpeg's own default limit: each thread delays the first frame by one frame and buffers a few pictures.
MAX_THREADS = 16


def default_num_threads() -> int:
    return 1 if torch.utils.data.get_worker_info() is not None else min(num_cores(), MAX_THREADS)


def set_decoder_threads(codec, num_threads: int) -> None:
    """
    Let the codec context `codec` decode with at most `num_threads` threads, where threads are safe.

    With FFmpeg's logging on (torchvision 0.25 turns it on), closing the file can deadlock: it waits for the decoder threads while it holds
    Python's GIL, which a thread needs to log. One thread is used then, and for codecs whose threads wait for lost frames.
    """
    codec.thread_type = "AUTO"  # prefers one frame per thread, because most pictures have a single slice
    is_safe = codec.name in THREADED_CODECS and import_av().logging.get_level() is None
    codec.thread_count = num_threads if is_safe else 1


def configure_decoder(stream, num_threads: int, is_strict: bool = True, limits: DecodeLimits | None = None) -> None:
    """Prepare the decoder of `stream` to report all damage, with at most `num_threads` threads, and to refuse larger frames."""
    codec = stream.codec_context
    set_decoder_threads(codec, num_threads)
    # A stream may change its size. FFmpeg counts the pixels of its buffers, whose sides are padded, so its limit is looser.
    options = {} if limits is None else {"max_pixels": str(2 * limits.pixels + 2**16)}
    if is_strict and (codec.name in STRICT_CODECS or codec.thread_count > 1):
        options["err_detect"] = "explode"
    if options:
        codec.options = options


def delay_output(index: VideoIndex, codec) -> None:
    """
    Let an H.264 decoder output a picture when that is safe. By default FFmpeg guesses the delay if the stream does not state it, and
    drops frames until the guess is right. With several threads, a frame gets the flags that its picture has at that moment, while
    another thread may still decode the picture: not if it is output later by the number of threads.
    """
    if codec.name == "h264" and index.unreliable_reason is None:
        codec.thread_count = max(1, min(codec.thread_count, MAX_OUTPUT_DELAY - index.reorder_depth))
        delay = index.reorder_depth + (codec.thread_count if codec.thread_count > 1 else 0)
        codec.reorder_depth = max(codec.reorder_depth, delay)


def finish_threads(codec) -> list:
    """
    Wait until the threads of an H.264 decoder have decoded all packets, so that the pictures that it still holds have their flags: each
    thread takes a packet without a picture, after the one that it decodes. Returns the frames that the decoder outputs meanwhile.
    """
    codec.skip_frame = "NONREF"  # allows a packet without a picture
    num_bytes = length_bytes(codec)
    start = len(ACCESS_UNIT_DELIMITER).to_bytes(num_bytes, "big") if num_bytes else b"\0\0\0\1"
    # Not `Packet(bytes)`: a thread that frees it needs Python's GIL, which is held while a codec waits for its threads to be closed.
    packet = import_av().Packet(len(start) + len(ACCESS_UNIT_DELIMITER))
    packet.update(start + ACCESS_UNIT_DELIMITER)
    return [frame for _ in range(codec.thread_count) for frame in codec.decode(packet)]


def prepare_mpeg4(index: VideoIndex, container, stream) -> None:
    """
    Let FFmpeg's MPEG-4 decoder learn from the first key frame whether the encoder pads its pictures rightly. Until it has seen a few
    pictures it takes damage for wrong padding, and flags no frame. The pictures after the key frame would do as well, but more of them
    may be damaged themselves.
    """
    codec = stream.codec_context
    codec.open(strict=False)
    with suppress(import_av().FFmpegError):  # far from the selected frames
        for _, packet in index.read(Run(0, 0, set()), container, stream):
            for _ in range(NUM_MPEG4_PICTURES):
                codec.decode(packet)
