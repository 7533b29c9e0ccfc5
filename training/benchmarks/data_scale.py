# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench --data-scale`: start of a run on a data set of the size of Kinetics, 240,000 empty files and their annotations, and the
start and the resumption of a stream of 1,000 small shards.

Each case runs in fresh processes, as the ranks of a run. CPU time and memory are those of reading or mapping the annotations, without
the import of the libraries; memory is the growth of the resident set. Of several processes the highest value counts.

`python -m tubevit.training.benchmarks.data_scale FOLDER` is one process: it prints its numbers as JSON. With `BATCHES` as the second
argument, it resumes a stream of the shards in FOLDER behind that number of batches.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..tables import format_table
from .startup import CLI


NUM_CLASSES, VALIDATION = 400, 0.08  # fraction of the validation split
MANY_NAMES = 21_841  # the classes of ImageNet-21k
RANKS = 4
NUM_SHARDS, CLIPS_PER_SHARD = 1_000, 8
BATCH_SIZE = 8  # clips of the stream
STATUS = Path("/proc/self/status")


def write_listing(folder: Path, num_videos: int) -> dict[str, Path]:
    """The same videos, as empty files, in class folders and in flat folders with the CSV files of Kinetics. Returns both folders."""
    folders = {"class folders": folder / "classes", "Kinetics CSV": folder / "kinetics"}
    first = 0
    for split, number in (
        ("train", num_videos - int(num_videos * VALIDATION)),
        ("validate", int(num_videos * VALIDATION)),
    ):
        flat = folders["Kinetics CSV"] / split
        flat.mkdir(parents=True)
        names = [f"class {index:03d}" for index in range(NUM_CLASSES)]
        for name in names:
            (folders["class folders"] / split / name).mkdir(parents=True)
        with open(folders["Kinetics CSV"] / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            for index in range(first, first + number):
                name, video = names[index % NUM_CLASSES], f"{index:011x}"
                writer.writerow((name, video, 7, 17, split))
                for parent in (flat, folders["class folders"] / split / name):
                    os.close(os.open(parent / f"{video}_000007_000017.mp4", os.O_CREAT | os.O_WRONLY))
        first += number
    return folders


def measure_data_scale(num_videos: int) -> dict[str, Any]:
    """
    For each layout and case: the highest `cpu_seconds` and `mib` of a process, and `seconds` from the start of the processes to the end of
    the last, imports included. Also CPU seconds to count the labels and to match 21,841 class names, and under "stream" the numbers of
    `measure_stream`.
    """
    report: dict[str, Any] = {"videos": num_videos, "cases": []}
    with tempfile.TemporaryDirectory() as folder:
        for layout, data in write_listing(Path(folder), num_videos).items():
            for number in (1, RANKS):
                cache = Path(folder) / f"cache of {number} {layout}"
                for case in ("first start", "later start"):
                    results, seconds = _run_processes(data, cache, number)
                    highest = {name: max(each[name] for each in results) for name in ("cpu_seconds", "mib")}
                    report["cases"].append({"layout": layout, "case": case, "processes": number, **highest})
                    report["cases"][-1]["seconds"] = seconds
        report["count_cpu_seconds"] = max(each["count_cpu_seconds"] for each in results)
        report["class_names_cpu_seconds"] = _measure_names()
        report["stream"] = measure_stream(Path(folder) / "stream", NUM_SHARDS)
    return report


def measure_stream(folder: Path, num_shards: int) -> dict[str, Any]:
    """
    Of a stream of small shards in `folder`: the numbers of `shards` and `clips`, and by case, "begin" and "resume" in the middle of the
    epoch, the numbers of `measure_resume`. The index of the shards exists, as in a resumed run.
    """
    shards = write_shards(folder, num_shards)
    clips = num_shards * CLIPS_PER_SHARD
    report: dict[str, Any] = {"shards": len(list(shards.glob("*.tar"))), "clips": clips}
    for case, batches in (("index", 0), ("begin", 0), ("resume", clips // BATCH_SIZE // 2)):
        (report[case],), _ = _run_processes(shards, folder / "cache", 1, str(batches))
    del report["index"]
    return report


def write_shards(folder: Path, num_shards: int) -> Path:
    """`num_shards` tars with `CLIPS_PER_SHARD` copies of a short video each, written by `tubevit data shard`. Returns their folder."""
    from ..data.shard_writer import MIB, TAR_BLOCK
    from ..synthetic.moving_shapes import write_clip

    videos = folder / "videos" / "train" / "one"
    videos.mkdir(parents=True)
    (folder / "videos" / "train" / "two").mkdir()
    first = videos / "0.mp4"
    write_clip(first, np.zeros((16, 32, 32, 3), np.uint8))
    for index in range(1, num_shards * CLIPS_PER_SHARD):
        os.link(first, videos.with_name(("one", "two")[index % 2]) / f"{index}.mp4")
    mib = CLIPS_PER_SHARD * (first.stat().st_size + 4 * TAR_BLOCK) / MIB
    command = [sys.executable, *CLI, "data", "shard", str(folder / "videos"), str(folder / "shards"), "--as-is"]
    subprocess.run([*command, "--shard-size", f"{mib}"], check=True, stdout=subprocess.PIPE)
    return folder / "shards"


def measure_resume(shards: Path, num_batches: int) -> dict[str, float]:
    """
    Of a stream (`streaming=true`) from its start to its first batch behind `num_batches` batches of an epoch, as a resumed run skips
    them: `seconds` and `cpu_seconds` without the import of the libraries, and `clips_read`.
    """
    import datasets  # noqa: F401  # the import is not counted
    from accelerate import skip_first_batches
    from torch.utils.data import DataLoader

    from tubevit.processing import TubeViTVideoProcessor

    from ..data.augmentation import AugmentationConfig
    from ..data.clip_datasets import ClipCollator, ClipDataset
    from ..data.clip_sampling import RandomClipReader
    from ..data.shard_order import ShardOrder
    from ..data.video_datasets import DataConfig, load_video_dataset

    cpu, start = _cpu_seconds(), time.perf_counter()
    config = DataConfig(data=str(shards), streaming=True)
    loaded = load_video_dataset(config)
    processor = TubeViTVideoProcessor(num_frames=8, sampling="uniform", size={"shortest_edge": 32}, crop_size=(32, 32))
    read = CountingReader(RandomClipReader(processor, AugmentationConfig(), mirror=False))
    clips = ClipDataset(loaded.splits["train"], read, len(loaded.class_names))
    order = ShardOrder(clips, BATCH_SIZE, 1, config.shuffle_buffer_size, 0)
    loader = DataLoader(clips, BATCH_SIZE, sampler=order, collate_fn=ClipCollator())
    next(iter(skip_first_batches(loader, num_batches)))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu_seconds": _cpu_seconds() - cpu, "clips_read": read.number}


class CountingReader:
    """A reader of clips that counts them in `number`."""

    def __init__(self, reader: Any):
        self.reader, self.number = reader, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def __call__(self, *args: Any) -> Any:
        self.number += 1
        return self.reader(*args)


def _run_processes(data: Path, cache: Path, number: int, *arguments: str) -> tuple[list[dict[str, float]], float]:
    environment = {**os.environ, "TUBEVIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command, start = [sys.executable, "-m", __name__, str(data), *arguments], time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(number)]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"A process that reads {data} failed.")
    return [json.loads(output) for output in outputs], time.perf_counter() - start


def measure_process(data: Path) -> dict[str, float]:
    """Of loading the annotations in this process: CPU seconds, growth of the resident set in MiB, CPU seconds to count labels."""
    import datasets  # noqa: F401  # the import is not counted

    from ..data.dataset_columns import count_labels
    from ..data.video_datasets import DataConfig, list_formats, load_video_dataset

    list_formats()
    memory, start = resident_mib(), _cpu_seconds()
    loaded = load_video_dataset(DataConfig(data=str(data)))
    result = {"cpu_seconds": _cpu_seconds() - start, "mib": resident_mib() - memory}
    start = _cpu_seconds()
    count_labels(loaded.splits["train"], len(loaded.class_names))
    return result | {"count_cpu_seconds": _cpu_seconds() - start}


def _measure_names() -> float:
    """CPU seconds to encode 21,841 labels by name, with all checks of the names."""
    from ..data.class_names import LabelEncoder, check_spelling, flip_pairs, sort_names

    start = _cpu_seconds()
    names = sort_names(f"n{index:08d} class {index}" for index in range(MANY_NAMES))
    check_spelling(names)
    flip_pairs(names)
    list(map(LabelEncoder(names), names))
    return _cpu_seconds() - start


def resident_mib() -> float:
    """Resident memory of this process."""
    if STATUS.is_file():
        return int(STATUS.read_text(encoding="utf-8").split("VmRSS:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: the highest so far, in bytes


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def format_data_scale(report: dict[str, Any]) -> str:
    title = f"{report['videos']:,} videos"
    columns = [title, "processes", "CPU s, each", "MiB, each", "s, with imports"]
    rows = [
        [
            f"{each['layout']}, {each['case']}",
            each["processes"],
            round(each["cpu_seconds"], 2),
            round(each["mib"]),
            round(each["seconds"], 1),
        ]
        for each in report["cases"]
    ]
    return "\n".join(
        [
            format_table(columns, rows),
            f"counts of the training labels, for the chance loss: {report['count_cpu_seconds']:.3f} CPU s",
            f"{MANY_NAMES:,} class names: {report['class_names_cpu_seconds']:.2f} CPU s",
            "",
            _format_stream(report["stream"]),
        ]
    )


def _format_stream(stream: dict[str, Any]) -> str:
    columns = [f"stream of {stream['shards']:,} shards, {stream['clips']:,} clips", "CPU s", "s", "clips read"]
    rows = [
        [title, round(each["cpu_seconds"], 2), round(each["seconds"], 2), each["clips_read"]]
        for title, each in (
            ("from the start to the first batch", stream["begin"]),
            ("from a resumption in the middle of the epoch to the first batch", stream["resume"]),
        )
    ]
    return format_table(columns, rows)


if __name__ == "__main__":
    path, *batches = sys.argv[1:]
    print(json.dumps(measure_resume(Path(path), int(batches[0])) if batches else measure_process(Path(path))))
