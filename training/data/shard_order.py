# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`ShardOrder`, the order of training clips with `streaming=true`, for storage that is slow at random access: shards one after the
other, shuffled by the seed and the epoch, and clips shuffled within a buffer.

The order depends on the clips, the batch size, the number of ranks, the seed and the epoch only. A resumed run computes it again
and continues behind the last batch, as with files: it reads nothing twice, and no clip is lost or repeated within the epoch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from .shards import ADDRESS


ARROW_ADDRESS = f"^(?s:{ADDRESS.pattern})$"  # in the syntax of Arrow's regular expressions
LANES = (24, 12, 8, 6, 4, 3, 2, 1)  # of a rank: numbers that many numbers of workers divide


def shard_order(
    shards: np.ndarray, offsets: np.ndarray, batch_size: int, num_ranks: int, buffer_size: int, seed: tuple[int, int]
) -> np.ndarray:
    """
    The order of the clips of an epoch, each exactly once: int64 `(clips,)`.

    shards, offsets: number of the shard of each clip, and its place in the shard. seed: seed and epoch.

    Batch `b` of the order is for rank `b % num_ranks`, as Accelerate divides batches. The shards, in random order, are one long
    sequence that is cut into equal parts ("lanes"), 24 for each rank if the parts are not shorter than the buffer. Batch `b` is
    from lane `b % num_lanes`. Each rank, and each of up to 24 loader workers if their number divides 24, thus reads its own
    shards from the start to the end, whatever the number of workers. Clips are shuffled within buffers of `buffer_size` clips of
    a lane.
    """
    rng = np.random.default_rng(seed)
    by_shard = np.lexsort((offsets, shards))
    starts = np.flatnonzero(np.diff(shards[by_shard], prepend=-1))
    pieces = np.split(by_shard, starts[1:])
    sequence = np.concatenate([pieces[index] for index in rng.permutation(len(pieces))])
    longest = len(shards) // (num_ranks * max(buffer_size, batch_size))
    num_lanes = num_ranks * next((number for number in LANES if number <= longest), 1)
    num_batches = -(-len(shards) // batch_size)
    counts = np.array([-(-(num_batches - lane) // num_lanes) for lane in range(num_lanes)]) * batch_size
    counts[(num_batches - 1) % num_lanes] -= num_batches * batch_size - len(shards)  # the last batch may be shorter
    lanes = np.split(sequence, np.cumsum(counts)[:-1])
    for lane in lanes:
        for first in range(0, len(lane), buffer_size):
            rng.shuffle(lane[first : first + buffer_size])
    batches = (
        lanes[number % num_lanes][number // num_lanes * batch_size :][:batch_size] for number in range(num_batches)
    )
    return np.concatenate(list(batches))


class ShardOrder(Sampler):
    """
    `shard_order` of the current epoch.

    clips: a `ClipDataset` of videos in shards. Its epoch counts, which is set before an epoch begins.
    batch_size: per rank. buffer_size: in clips.

    Raises `ValueError` for videos that are not in shards.
    """

    def __init__(self, clips: Any, batch_size: int, num_ranks: int, buffer_size: int, seed: int):
        self.clips, self.batch_size, self.num_ranks = clips, batch_size, num_ranks
        self.buffer_size, self.seed = buffer_size, seed
        self.shards, self.offsets = find_places(clips.rows, clips.read.media)

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[int]:
        seed = (self.seed, self.clips.epoch.value)
        yield from shard_order(
            self.shards, self.offsets, self.batch_size, self.num_ranks, self.buffer_size, seed
        ).tolist()


def find_places(rows: Any, media: str) -> tuple[np.ndarray, np.ndarray]:
    """The number of the shard of each row, and the offset in the shard in bytes: int64 `(rows,)`. Raises `ValueError` for a file."""
    import pyarrow.compute as pc

    numbers: dict[str, int] = {}
    shards, offsets = [], []
    for batch in rows.select_columns([media]).with_format("arrow").iter(batch_size=10_000):
        paths = pc.struct_field(batch.column(0), "path").combine_chunks()
        parts = pc.extract_regex(paths, ARROW_ADDRESS)
        if parts.null_count:
            raise ValueError(f"{paths.filter(pc.is_null(parts))[0]} is not in a shard.")
        names = pc.dictionary_encode(pc.struct_field(parts, "shard"))
        own = [numbers.setdefault(name, len(numbers)) for name in names.dictionary.to_pylist()]
        shards.append(np.array(own)[names.indices.to_numpy()])
        offsets.append(pc.struct_field(parts, "offset").cast("int64").to_numpy())
    return np.concatenate(shards), np.concatenate(offsets)
