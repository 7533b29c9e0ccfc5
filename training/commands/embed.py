# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit embed`: write the embedding of every video of a data set to a file, for retrieval and for `tubevit probe`.

    tubevit embed path/to/videos --model runs/tubevit --output embeddings.parquet
    tubevit embed path/to/videos --model facebook/dinov2-small --level frame --output frames.npy --num_processes 8

`models/encoders.py` says which vector of a model is the embedding. The views of a video are averaged. The file has the columns
`video_id`, `split`, `label`, `group`, `path` and `embedding`; a `.npy` file holds the embeddings only, and a JSON file beside it the
other columns. A run that was stopped goes on with `--resume`.
"""

import argparse
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ..command_line import add_config_arguments
from ..data.video_datasets import DataConfig
from ..evaluation.evaluator import INCOMPLETE, SamplingConfig
from ..models.model_options import TOKEN_BUDGET_HELP
from ..option_types import AT_LEAST_0, AT_LEAST_1, check_ranges, option
from ..options import read_config


MAX_REASONS_SHOWN = 5


@dataclass
class EncoderConfig:
    """The model whose embeddings are written."""

    model_name_or_path: str | None = option(
        None,
        "checkpoint of TubeViT or of any video or image model of Transformers, with or without a classifier: folder or Hub name; "
        "required; --model is the same option",
    )
    level: Literal["pooled", "tube", "frame", "token"] = option(
        "pooled",
        "pooled: a vector per video; tube: the mean over the tokens of each tube of a TubeViT; frame: a vector per frame of an image "
        "model; token: all tokens of the last layer",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "data type of the weights; auto: the checkpoint's; embeddings are written as float32"
    )

    token_budget: Annotated[int, AT_LEAST_1] | None = option(None, TOKEN_BUDGET_HELP)

    def __post_init__(self):
        check_ranges(self)
        if self.model_name_or_path is None:
            raise ValueError("Give model_name_or_path, the model whose embeddings are written.")


@dataclass
class EmbeddedClips(SamplingConfig):
    """Clips of a video; their embeddings are averaged."""

    num_temporal_views: Annotated[int, AT_LEAST_1] | None = option(None, "clips per video (default: the checkpoint's)")
    num_spatial_views: Annotated[int, AT_LEAST_1] | None = option(
        None, "crops per clip, along the longer side (default: the checkpoint's)"
    )


@dataclass
class EmbeddingRun:
    """Output, split, batches and devices."""

    output: str | None = option(
        None,
        "file to write: .parquet, or .npy with ids and labels in a .json file beside it; required; an existing file needs --resume",
    )
    split: str | None = option(None, "split to embed (default: all splits, named in the column `split`)")
    unlabeled: bool = option(False, "embed every video and frame folder of the folder DATA, without labels")
    batch_size: Annotated[int, AT_LEAST_1] = option(
        16, "clips per forward pass and device; a video has num_temporal_views x num_spatial_views clips"
    )
    dataloader_num_workers: Annotated[int, AT_LEAST_0] = option(0, "processes that decode videos, per device")
    use_cpu: bool = option(False, "run on the CPU even if there is a GPU")
    allow_incomplete: bool = option(False, "exit with code 0 even if videos could not be embedded")

    def __post_init__(self):
        if self.output is None:
            raise ValueError("Give output, the file to write: a name that ends with .parquet or .npy.")
        check_ranges(self)


BLOCKS = {"model": EncoderConfig, "data": DataConfig, "clips": EmbeddedClips, "run": EmbeddingRun}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s DATA --model MODEL --output FILE [OPTION=VALUE | --OPTION VALUE ...]"
    add_config_arguments(parser, BLOCKS)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue a run that was stopped, or add to FILE the videos that it lacks",
    )


def run(args: argparse.Namespace) -> int:
    """Write the embeddings; the exit code is 1 if videos could not be embedded and `allow_incomplete` is not set."""
    from accelerate import Accelerator

    from ..logging_utils import quiet_libraries

    quiet_libraries()
    config = read_config(args, BLOCKS)
    num_left_out = embed(config, Accelerator(cpu=config["run"].use_cpu), args.resume)
    return INCOMPLETE if num_left_out and not config["run"].allow_incomplete else 0


def embed(config: dict[str, Any], accelerator: Any, resume: bool = False) -> int:
    """
    Write the embeddings of a data set. Returns the number of videos that could not be embedded.

    config: an object for each block of `BLOCKS`. resume: whether a file or parts of it may exist.
    """
    from accelerate.utils import gather_object

    from ..evaluation.embeddings import PartWriter, SavedVectors, check_name, check_new, check_resumed, finish
    from ..models.encoders import load_encoder

    model, options, log = config["model"], config["run"], accelerator.print
    path = Path(options.output)
    check_name(path)
    if not resume and accelerator.is_main_process:
        check_new(path)
    data, splits = load_data(config["data"], options)
    for message in data.messages:
        log(message)
    encoder = load_encoder(
        model.model_name_or_path,
        data.media,
        model.level,
        config["clips"].processor_settings(),
        model.dtype,
        model.token_budget,
    )
    rows = {split: _rows_of(data, split) for split in splits}
    settings = describe(encoder, config, data)
    if accelerator.is_main_process:
        keys = {row.key for each in rows.values() for row in each}
        found = check_resumed(path, settings, keys)
        log(f"Resumes {' and '.join(found)}." if found else f"{'Nothing to resume: ' * resume}{path} is new.")
    accelerator.wait_for_everyone()
    done = SavedVectors(path).places
    accelerator.wait_for_everyone()  # no process writes before all have read
    log(
        f"{settings['embedding']}, {data.media}s: {', '.join(f'{split} {len(each):,}' for split, each in rows.items())}; "
        f"{settings['clips']}, {encoder.model.dtype} on {accelerator.num_processes} x {accelerator.device.type}."
    )
    encoder.model.to(accelerator.device)
    start, left_out = time.perf_counter(), []
    with closing(PartWriter(path, accelerator.process_index, settings)) as writer:
        for split in splits:
            missing = [index for index, row in enumerate(rows[split]) if row.key not in done]
            remaining = data.splits[split].select(missing)
            left_out += _embed_split(encoder, split, remaining, accelerator, options, writer)
    left_out = gather_object(left_out)  # also waits for all processes
    seconds = time.perf_counter() - start
    if accelerator.is_main_process:
        failed = {each[:2] for each in left_out}
        kept = [row for split in splits for row in rows[split] if row.key not in failed]
        _report(left_out, len(kept) + len(left_out), data.media)
        if not kept:
            raise ValueError(f"None of {len(left_out)} {data.media}s could be embedded; the first: {left_out[0][3]}")
        shape = finish(path, kept, settings)
        num_new = len(kept) - sum(row.key in done for row in kept)
        print(
            f"  {len(kept):,} {data.media}s with embeddings of shape {shape}, {num_new:,} of them new; {seconds:.1f} s; saved in {path}"
        )
    accelerator.wait_for_everyone()
    return len(left_out)


def _embed_split(
    encoder: Any, split: str, rows: Any, accelerator: Any, options: EmbeddingRun, writer: Any
) -> list[tuple[str, str, str, str]]:
    """
    Add the embeddings of this process's part of `rows` of a split to `writer`. Returns `(split, video id, path, reason)` of each video
    that cannot be embedded.
    """
    from ..data.dataset_columns import check_frame_rates
    from ..evaluation.multi_view import iterate_predictions

    if encoder.media == "video":
        check_frame_rates(rows, encoder.processor.sampling)
    left_out = []
    title = f"embedding {split}"
    for predictions, _ in iterate_predictions(
        encoder, rows, accelerator, options.batch_size, options.dataloader_num_workers, title
    ):
        for each in predictions:
            if each.logits is None:
                left_out.append((split, each.video_id, each.path, each.reason))
            else:
                writer.add(split, each.video_id, each.path, each.logits.mean(0))
    return left_out


def load_data(config: DataConfig, options: EmbeddingRun) -> tuple[Any, list[str]]:
    """The data set and the splits to embed. Nothing is held out: videos without a validation split are the training split."""
    from dataclasses import replace

    from ..data.unlabeled import read_unlabeled
    from ..data.video_datasets import load_video_dataset

    if options.unlabeled:
        data = read_unlabeled(config)
    else:
        if config.streaming:
            raise ValueError("tubevit embed needs to know all videos at first: leave out streaming=true.")
        own, default = config.validation_fraction, DataConfig(data="x").validation_fraction
        data = load_video_dataset(replace(config, validation_fraction=0.0))
        if own not in (0, default):
            data.messages.append(
                "validation_fraction has no effect: nothing is held out of the file, and `tubevit probe` makes folds."
            )
    if options.split is None:
        return data, list(data.splits)
    if options.split not in data.splits:
        raise ValueError(f"There is no split {options.split!r}; the data have: {', '.join(data.splits)}.")
    return data, [options.split]


def _rows_of(data: Any, split: str) -> list[Any]:
    from ..evaluation.embeddings import make_row

    rows = data.splits[split].select_columns(["video_id", "label"])
    columns = zip(rows["video_id"], rows["label"], data.groups[split], strict=True)
    return [make_row(video_id, split, label, group, data.class_names) for video_id, label, group in columns]


def describe(encoder: Any, config: dict[str, Any], data: Any) -> dict[str, Any]:
    """The settings that the file keeps, on which its embeddings depend."""
    from ..evaluation.evaluator import describe_clips

    processor, own = encoder.processor, config["data"]
    views = {"num_temporal_views": 1, "num_spatial_views": 1}
    clips = "one view"
    if encoder.media == "video":
        views = {name: getattr(processor, name) for name in views}
        number = "{num_temporal_views} x {num_spatial_views} views".format(**views)
        clips = f"{number} of {processor.num_frames} frames {processor.describe_sampling()}"
    return {
        "model": config["model"].model_name_or_path,
        "token_budget": config["model"].token_budget,
        "level": encoder.level,
        "embedding": encoder.describe(),
        "dtype": str(encoder.model.dtype).removeprefix("torch."),
        "weights_sha256": encoder.weights_sha256(),
        "clips": clips,
        **views,
        **describe_clips(encoder),
        "data": own.data or own.train_data or own.validation_data or own.test_data,
        "media": data.media,
        "multi_label": data.multi_label or bool(data.label_groups),
    }


def _report(left_out: list[tuple[str, str, str, str]], total: int, media: str) -> None:
    import sys

    if left_out:
        print(f"INCOMPLETE: {len(left_out)} of {total} {media}s were not embedded:", file=sys.stderr)
    for _, video_id, path, reason in left_out[:MAX_REASONS_SHOWN]:
        print(f"  {path or video_id}: {reason}", file=sys.stderr)
