# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit data shard`: writes the videos of a data set into shards, tar files of the WebDataset convention or Parquet files, with
their labels, ids and segments, and a manifest (`shards`).

Videos are re-encoded as by `tubevit data prepare` and stored in a random order, so that a shard is a random sample of its split.
A video that several clips refer to is stored once. A stopped run can be continued: first all copies are encoded, then
they are packed, each shard under a temporary name until it is complete.
"""

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..command_line import add_config_arguments, whole_number
from ..options import read_config
from .encoding import PrepareSettings
from .formats.samples import VideoSample
from .media_files import count, kind_of
from .prepare import FAILED_FILE, add_encoder_arguments, encoder_settings, prepare_all, write_failed
from .segments import Segment
from .shards import MANIFEST, TAR_BLOCK, UNFINISHED, Address, Clip, Manifest, read_manifest, write_manifest
from .video_datasets import DataConfig, ListedSplits, read_splits
from .worker_processes import ItemFailed, map_in_processes


BLOCKS = {"data": DataConfig}
HOLDING_OUT = ("validation_fraction", "split_seed", "group_pattern")  # options of the run that reads the shards
COPIES, PLAN, RECORD = "copies", "plan.json", "record.json"
CONTAINERS = ("tar", "parquet")
MIB = 2**20
SECONDS_PER_SHARD = 6 * 3600.0
SHARDS_PER_PROCESS = 1  # a shard is worth a process


class Video(NamedTuple):
    """
    A file to store. path: path of the original. copy: path of the file whose bytes are stored. split: split of its clips. key: its name
    in a shard, without suffix. clips: the samples that refer to it, with their positions in the data set.
    """

    path: str
    copy: str
    split: str
    key: str
    clips: list[tuple[int, VideoSample]]


class Shard(NamedTuple):
    """A shard to write. name: of its file. sidecar: file with the result, so that a continued run does not write it again."""

    name: str
    folder: str
    sidecar: str
    videos: list[Video]
    has_several_labels: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tubevit data shard [DATA] OUTPUT [--OPTION VALUE | OPTION=VALUE ...]"
    add_config_arguments(parser, BLOCKS)
    (positional,) = (action for action in parser._actions if action.dest == "overrides")
    positional.help = "DATA, the data set; OUTPUT, the folder for the shards; and any option as OPTION=VALUE"
    parser.add_argument(
        "--container",
        choices=CONTAINERS,
        default="tar",
        help="format of the shards: tar (WebDataset) or parquet (default: tar)",
    )
    parser.add_argument(
        "--shard-size", type=float, default=256.0, metavar="MIB", help="size of a shard in MiB (default: 256)"
    )
    parser.add_argument(
        "--as-is", action="store_true", help="store the files as they are, instead of re-encoding them"
    )
    add_encoder_arguments(parser)
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="random seed of the order of the videos (default: 0)",
    )
    parser.add_argument(
        "--workers", type=whole_number(1), metavar="N", help="number of processes (default: one per CPU core)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the shards; the exit code is 1 if a video could not be read."""
    names = [each for each in args.overrides if "=" not in each]
    pairs = [each for each in args.overrides if "=" in each]
    if not 1 <= len(names) <= 2:
        raise ValueError("Give a data set and a folder for its shards: tubevit data shard DATA OUTPUT.")
    if not 0 < args.shard_size < math.inf:
        raise ValueError(f"--shard-size must be a number of MiB above 0, got {args.shard_size:g}.")
    *data, output = names
    args.overrides = [*pairs, *(f"data={each}" for each in data)]
    config = read_config(args, BLOCKS)["data"]
    settings = _settings_of(args, config)
    listed = read_splits(config)
    unused = [name for name in HOLDING_OUT if getattr(config, name) != getattr(DataConfig, name)]
    for message in listed.messages + [f"{name} has no effect: nothing is held out of shards." for name in unused]:
        print(message)
    folder = Path(output)
    record = {
        "container": args.container,
        "shard_size": args.shard_size,
        "seed": args.seed,
        "encoding": "as is" if settings is None else settings.record(),
        "source": _digest(listed),
    }
    videos = plan_videos(listed, folder / UNFINISHED / COPIES, settings)
    if args.container == "parquet" and (shared := next((each for each in videos if len(each.clips) > 1), None)):
        raise ValueError(
            f"{len(shared.clips)} clips are parts of {shared.path}, which Parquet would store for each: use --container tar."
        )
    if not claim_folder(folder, record):
        print(f"{folder} is complete: its {MANIFEST} is that of these options and this data set.")
        return 0
    plan = folder / UNFINISHED / PLAN
    if not plan.exists():
        failed = _make_copies(videos, settings, args.workers)
        write_failed(failed, folder / FAILED_FILE)
        _write_json(plan, plan_shards(videos, int(args.shard_size * MIB), args.seed, args.container))
    shards = _read_plan(plan, folder, videos, listed)
    manifest, clips = pack_all(shards, record, listed, args.workers)
    write_manifest(manifest, clips)
    shutil.rmtree(folder / UNFINISHED)
    return _report(folder, manifest, clips, listed)


def _settings_of(args: argparse.Namespace, config: DataConfig) -> PrepareSettings | None:
    """The settings of the encoder, `None` to store the files as they are. Raises `ValueError` for an option without effect."""
    if not args.as_is:
        return encoder_settings(args, frame_folder_fps=config.frame_folder_fps)
    given = [name for name in ("short_side", "gop", "crf", "preset") if getattr(args, name) is not None]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} has no effect with --as-is: leave one of them out.")
    return None


def claim_folder(folder: Path, record: dict[str, Any]) -> bool:
    """
    Create the folder, or continue in that of an earlier run. Returns whether there is something to do.

    Raises `ValueError` if the folder holds other files, or shards of another data set or other options.
    """
    manifest, unfinished = read_manifest(str(folder)), folder / UNFINISHED / RECORD
    if manifest is not None:
        earlier = manifest.record
    elif unfinished.is_file():
        earlier = json.loads(unfinished.read_text(encoding="utf-8"))
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and was not written by `tubevit data shard`: give another folder.")
    else:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        _write_json(unfinished, record)
        return True
    changed = [name for name in record if earlier.get(name) != record[name]]
    if changed:
        stated = ", ".join(
            "another data set" if name == "source" else f"{name}={earlier.get(name)}" for name in changed
        )
        raise ValueError(f"{folder} was written with {stated}: use the same options and data, or another folder.")
    return manifest is None


def _digest(listed: ListedSplits) -> str:
    """A digest of the samples, by which a continued run knows that the data set is the same."""
    rows = [(split, list(sample)) for split, samples in listed.splits.items() for sample in samples]
    return hashlib.sha256(json.dumps([rows, listed.class_names, listed.labels]).encode()).hexdigest()[:32]


def plan_videos(listed: ListedSplits, copies: Path, settings: PrepareSettings | None) -> list[Video]:
    """
    The files of a data set, each once per split.

    Raises `ValueError` for a video in a shard, an image, a URL, and a folder of pictures with `--as-is` or without its frame rate.
    """
    videos: dict[tuple[str, str], Video] = {}
    keys: set[str] = set()
    position = 0
    for split, samples in listed.splits.items():
        for sample in samples:
            video = videos.get((split, sample.path))
            if video is None:
                if "://" in sample.path:
                    raise ValueError(f"{sample.path} is not a file on this machine: download the videos first.")
                if Address.parse(sample.path) is not None:
                    raise ValueError(f"{sample.path} is in a shard: write the shards from the data set of files.")
                if kind_of(sample.path) == "image":
                    raise ValueError(f"{sample.path} is an image: shards hold videos.")
                if os.path.isdir(sample.path) and (settings is None or settings.frame_folder_fps is None):
                    raise ValueError(
                        f"{sample.path} is a folder of pictures, which becomes a video: give its frame_folder_fps, without --as-is."
                    )
                key = _unique_key(sample.video_id, keys)
                copy = sample.path if settings is None else str(copies / f"{len(videos):08d}.mp4")
                video = videos[split, sample.path] = Video(sample.path, copy, split, key, [])
            video.clips.append((position, sample))
            position += 1
    return list(videos.values())


def _unique_key(video_id: str, keys: set[str]) -> str:
    """A name for a member of a tar: without dots, which would begin its suffix, and unlike the names in `keys`, to which it is added."""
    path = Path(video_id.partition("#")[0])
    folders = [part for part in path.parent.parts if part not in ("..", path.anchor)]
    stem = path.stem.replace(".", "_").lstrip("_") or "video"
    base = key = "/".join([*(part.lstrip(".") or "_" for part in folders), stem])
    number = 1
    while key in keys:
        number += 1
        key = f"{base}_{number}"
    keys.add(key)
    return key


def _make_copies(
    videos: list[Video], settings: PrepareSettings | None, num_workers: int | None
) -> list[tuple[str, str]]:
    """Encode the copies that are missing. Returns `(path, reason)` of the files that cannot be read."""
    if settings is None:
        missing = [video for video in videos if not os.path.isfile(video.path) or not os.path.getsize(video.path)]
        return [(video.path, "is empty" if os.path.isfile(video.path) else "does not exist") for video in missing]
    waiting = [(Path(video.path), Path(video.copy)) for video in videos if not os.path.exists(video.copy)]
    if len(waiting) < len(videos):
        print(f"{len(videos) - len(waiting):,} of {len(videos):,} videos are encoded already.")
    failed, _ = prepare_all(waiting, settings, num_workers)
    return failed


def plan_shards(videos: list[Video], shard_bytes: int, seed: int, container: str) -> list[dict[str, Any]]:
    """The shards, each with its name and the positions of its videos: in random order, as many as fit into `shard_bytes`."""
    by_split: dict[str, list[int]] = {}
    for position, video in enumerate(videos):
        if os.path.isfile(video.copy) and os.path.getsize(video.copy):
            by_split.setdefault(video.split, []).append(position)
    if not by_split:
        raise ValueError(f"None of the {len(videos):,} videos can be read; the first: {videos[0].path}.")
    plan = []
    for split, positions in by_split.items():
        random.Random(f"{seed} {split}").shuffle(positions)
        shards: list[list[int]] = []
        used = shard_bytes
        for position in positions:
            size = (
                os.path.getsize(videos[position].copy) + 4 * TAR_BLOCK
            )  # headers and padding of the video and its label
            if used + size > shard_bytes:
                shards.append([])
                used = 0
            shards[-1].append(position)
            used += size
        suffix = ".tar" if container == "tar" else ".parquet"
        plan += [{"name": f"{split}-{number:06d}{suffix}", "videos": each} for number, each in enumerate(shards)]
    return plan


def _read_plan(path: Path, folder: Path, videos: list[Video], listed: ListedSplits) -> list[Shard]:
    sidecars = folder / UNFINISHED
    return [
        Shard(
            each["name"],
            str(folder),
            str(sidecars / f"{each['name']}.json"),
            [videos[position] for position in each["videos"]],
            listed.labels.multi_label or bool(listed.labels.label_groups),
        )
        for each in json.loads(path.read_text(encoding="utf-8"))
    ]


# Packing


def pack_all(
    shards: list[Shard], record: dict[str, Any], listed: ListedSplits, num_workers: int | None
) -> tuple[Manifest, list[Clip]]:
    """Write all shards. Returns the manifest and its clips in the order of the data set. Raises `RuntimeError` if a process dies, `OSError` for a full disk."""
    packed = {
        shard.name: json.loads(Path(shard.sidecar).read_text(encoding="utf-8"))
        for shard in shards
        if os.path.exists(shard.sidecar)
    }
    waiting = [shard for shard in shards if shard.name not in packed]
    results = map_in_processes(
        pack, waiting, len(waiting), num_workers, "writing shards", SHARDS_PER_PROCESS, SECONDS_PER_SHARD
    )
    for shard, result in results:
        if isinstance(result, ItemFailed):
            raise RuntimeError(f"{shard.name} could not be written: {result}; call the command again to continue.")
        packed[shard.name] = result
    entries: list[dict[str, Any]] = []
    clips: dict[int, Clip] = {}
    for number, shard in enumerate(shards):
        result, before = packed[shard.name], len(clips)
        for video, (name, offset, size, crc) in zip(shard.videos, result["members"], strict=True):
            for position, each in video.clips:
                of_sample = (each.video_id, each.label, each.segment, each.group)
                clips[position] = Clip(number, name, offset, size, crc, video.split, *of_sample)
        entries.append(
            {
                "name": shard.name,
                "split": shard.videos[0].split,
                "num_videos": len(shard.videos),
                "num_clips": len(clips) - before,
                "size": result["size"],
                "sha256": result["sha256"],
            }
        )
    manifest = Manifest(shards[0].folder, record, listed.class_names, *listed.labels, entries)
    return manifest, [clips[each] for each in sorted(clips)]


def pack(shard: Shard) -> dict[str, Any]:
    """
    Write a shard, remove the copies that it holds, and write its sidecar. Returns its `size` in bytes, `sha256`, and `members`:
    `(name, offset, size, CRC-32)` of each video.
    """
    target, unfinished = Path(shard.folder) / shard.name, Path(shard.folder) / f".{shard.name}.unfinished"
    write = _write_tar if target.suffix == ".tar" else _write_parquet
    members = write(shard, unfinished)
    with open(unfinished, "rb") as file:
        result = {
            "size": os.fstat(file.fileno()).st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "members": members,
        }
    os.replace(unfinished, target)
    _write_json(Path(shard.sidecar), result)
    for video in shard.videos:
        if video.copy != video.path:
            os.remove(video.copy)
    return result


def _write_tar(shard: Shard, path: Path) -> list[tuple[str, int, int, int]]:
    import io
    import tarfile

    members = []
    with tarfile.open(path, "w") as archive:
        for video in shard.videos:
            content = Path(video.copy).read_bytes()
            text = json.dumps(_label_file(video), ensure_ascii=False).encode()
            for name, data in ((f"{video.key}{_suffix(video)}", content), (f"{video.key}.json", text)):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
                if data is content:
                    members.append((name, archive.offset - _padded(len(data)), len(data), zlib.crc32(data)))
    return members


def _padded(size: int) -> int:
    return -(-size // TAR_BLOCK) * TAR_BLOCK


def _suffix(video: Video) -> str:
    return os.path.splitext(video.copy)[1].lower()


def _label_file(video: Video) -> dict[str, Any]:
    """The content of the JSON beside a video, for readers that do not know the manifest."""
    clips = [_describe(sample) for _, sample in video.clips]
    return clips[0] if len(clips) == 1 else {"clips": clips}


def _describe(sample: VideoSample) -> dict[str, Any]:
    label = list(sample.label) if isinstance(sample.label, tuple) else sample.label
    found = {"video_id": sample.video_id, "label": label}
    found |= {} if sample.group is None else {"group": sample.group}
    return found | (sample.segment or Segment()).given()


def _write_parquet(shard: Shard, path: Path) -> list[tuple[str, int, int, int]]:
    """
    A row group per video, uncompressed and without a dictionary: the bytes of a video are then the last ones of its column chunk,
    where a reader finds them without reading Parquet.
    """
    import pyarrow.parquet as pq

    schema = _schema(shard)
    sizes = []
    with pq.ParquetWriter(path, schema, compression="NONE", use_dictionary=False, write_statistics=False) as writer:
        for table, content in _tables(shard, schema):
            writer.write_table(table, row_group_size=1)
            sizes.append((len(content), zlib.crc32(content)))
    members = []
    metadata = pq.read_metadata(path)
    column = next(
        index for index in range(metadata.num_columns) if metadata.schema.column(index).path == "video.bytes"
    )
    with open(path, "rb") as file:
        for number, (video, (size, crc)) in enumerate(zip(shard.videos, sizes, strict=True)):
            chunk = metadata.row_group(number).column(column)
            offset = chunk.data_page_offset + chunk.total_compressed_size - size
            file.seek(offset)
            if zlib.crc32(file.read(size)) != crc:
                raise RuntimeError(f"PyArrow does not store {video.path} as plain bytes: use --container tar.")
            members.append((f"{video.key}{_suffix(video)}", offset, size, crc))
    return members


def _schema(shard: Shard) -> Any:
    from datasets import Features, List, Value, Video

    label = List(Value("string")) if shard.has_several_labels else Value("string")
    times = {"start": "float64", "end": "float64", "start_frame": "int64", "end_frame": "int64", "may_be_cut": "bool"}
    features = {"video": Video(decode=False), "label": label, "video_id": Value("string"), "group": Value("string")}
    return Features(features | {name: Value(kind) for name, kind in times.items()}).arrow_schema


def _tables(shard: Shard, schema: Any) -> Iterator[tuple[Any, bytes]]:
    """A table of one row for each video, and the bytes of the video."""
    import pyarrow as pa

    for video in shard.videos:
        content, described = Path(video.copy).read_bytes(), _describe(video.clips[0][1])
        label = described["label"]
        if label is not None:
            described["label"] = list(map(str, label)) if shard.has_several_labels else str(label)
        row = {name: described.get(name) for name in schema.names}
        row["video"] = {"bytes": content, "path": f"{video.key}{_suffix(video)}"}
        yield pa.Table.from_pylist([row], schema=schema), content


def _report(folder: Path, manifest: Manifest, clips: list[Clip], listed: ListedSplits) -> int:
    shards = manifest.shards
    size, videos = sum(shard["size"] for shard in shards), sum(shard["num_videos"] for shard in shards)
    print(
        f"{count(len(clips), 'clip')} of {count(videos, 'video')} are in {count(len(shards), 'shard')} in {folder}, {size / MIB:,.1f} MiB, in the random order "
        f"of seed {manifest.record['seed']}. Train with data={folder}; streaming=true reads one shard after the other."
    )
    left_out = sum(map(len, listed.splits.values())) - len(clips)
    if left_out:
        print(
            f"Left out: {count(left_out, 'clip')} whose videos could not be read; {folder / FAILED_FILE} lists the reasons."
        )
    return 1 if left_out else 0


def _write_json(path: Path, content: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    os.replace(unfinished, path)
