# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit bench --data-scale`: start of a run on a data set of the size of Kinetics: 240,000 empty files and their annotations.

Each case runs in fresh processes, as the ranks of a run. CPU time and memory are those of reading or mapping the annotations, without
the import of the libraries; memory is the growth of the resident set. Of several processes the highest value counts.

`python -m tubevit.training.benchmarks.data_scale FOLDER` is one process: it prints its numbers as JSON.
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

from ..tables import format_table


NUM_CLASSES, VALIDATION = 400, 0.08  # fraction of the validation split
MANY_NAMES = 21_841  # the classes of ImageNet-21k
RANKS = 4
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
    the last, imports included. And CPU seconds to count the labels and to match 21,841 class names.
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
    return report


def _run_processes(data: Path, cache: Path, number: int) -> tuple[list[dict[str, float]], float]:
    environment = {**os.environ, "TUBEVIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command, start = [sys.executable, "-m", __name__, str(data)], time.perf_counter()
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
        ]
    )


if __name__ == "__main__":
    print(json.dumps(measure_process(Path(sys.argv[1]))))
