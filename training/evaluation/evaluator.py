# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Evaluate a video classifier on a data set: predictions for all views of every video, metrics and result files.
"""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..data.data_config import DECODER_HELP, DataConfig, Decoder
from ..environment import COMPILE_HELP, MATMUL_PRECISION_HELP, prepare_model
from ..models.model_options import FRAME_STRIDE_HELP, RANDOM_TOKENS_HELP, TOKEN_BUDGET_HELP, check_sampling
from ..option_types import AT_LEAST_0, AT_LEAST_1, POSITIVE, check_ranges, option


INCOMPLETE = 1  # exit code
MAX_REASONS_SHOWN = 5


@dataclass
class EvaluatedModel:
    """The classifier to evaluate."""

    model_name_or_path: str | None = option(
        None,
        "checkpoint of a video classifier (TubeViT, VideoMAE, ViViT, ...) to evaluate: folder or Hub name; required; --model is the same option",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "data type of the weights; auto: the checkpoint's"
    )

    token_budget: Annotated[int, AT_LEAST_1] | None = option(None, TOKEN_BUDGET_HELP)
    random_tokens: Annotated[int, AT_LEAST_1] | None = option(None, RANDOM_TOKENS_HELP)
    matmul_precision: Literal["highest", "high", "medium"] | None = option(None, MATMUL_PRECISION_HELP)
    compile: bool = option(False, COMPILE_HELP)

    def __post_init__(self):
        check_ranges(self)
        if self.model_name_or_path is None:
            raise ValueError("Give model_name_or_path, the classifier to evaluate.")


@dataclass
class SamplingConfig:
    """Frames of a clip. Options that are not given are those of the checkpoint's own processor."""

    num_frames: Annotated[int, AT_LEAST_1] | None = option(None, "frames per clip (default: the checkpoint's)")
    fps: Annotated[float, POSITIVE] | None = option(
        None, "frames per second of a clip; sets sampling=fixed_rate (default: the checkpoint's)"
    )
    frame_stride: Annotated[int, AT_LEAST_1] | None = option(None, FRAME_STRIDE_HELP)
    sampling: Literal["fixed_rate", "uniform", "frame_stride"] | None = option(
        None,
        "uniform: frames spread over the whole video; fixed_rate: consecutive frames at fps; frame_stride: every frame_stride-th frame "
        "(default: the checkpoint's)",
    )
    pad_mode: Literal["loop", "last", "error"] | None = option(
        None,
        "how to pad a clip longer than its video: loop starts over; last repeats the last frame; error treats the video as unreadable "
        "(default: the checkpoint's)",
    )

    def __post_init__(self):
        check_ranges(self)
        check_sampling(self)

    def processor_settings(self) -> dict[str, Any]:
        """Settings of the video processor that replace the checkpoint's; `None` for those that stay."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "view_aggregation"}


@dataclass
class ViewConfig(SamplingConfig):
    """Views of a video, and how their predictions are combined."""

    num_temporal_views: Annotated[int, AT_LEAST_1] = option(4, "clips per video")
    num_spatial_views: Annotated[int, AT_LEAST_1] = option(3, "crops per clip, along the longer side")
    view_aggregation: Literal["probs", "logits", "max"] = option(
        "probs",
        "score of a video from its views; probs: mean of their probabilities; logits: probabilities of their mean logits; max: "
        "largest probability of each class",
    )


@dataclass
class EvaluationRun:
    """Output, split, batches and devices of the evaluation."""

    output_dir: str = option("evaluation", "folder to write to; it must be new or empty")
    split: str | None = option(None, "split to evaluate (default: validation if the data have one, else test)")
    batch_size: Annotated[int, AT_LEAST_1] = option(
        16, "clips per forward pass and device; a video has num_temporal_views x num_spatial_views clips"
    )
    dataloader_num_workers: Annotated[int, AT_LEAST_0] = option(0, "processes that decode videos, per device")
    decoder: Decoder = option("av", DECODER_HELP)  # noqa: RUF009  (an alias of Literal)
    use_cpu: bool = option(False, "run on the CPU even if there is a GPU")
    allow_incomplete: bool = option(False, "exit with code 0 even if videos could not be scored")

    def __post_init__(self):
        check_ranges(self)


BLOCKS = {"model": EvaluatedModel, "data": DataConfig, "views": ViewConfig, "run": EvaluationRun}


def evaluate(config: dict[str, Any], dry_run: bool = False, shown: Sequence[str] = ()) -> int:
    """
    Score a classifier and write the results. Returns the exit code: `INCOMPLETE` if videos could not be scored and
    `allow_incomplete` is not set, else 0.

    config: an object for each block of `BLOCKS`. dry_run: score one batch and write nothing. shown: messages on the data that the user
    has seen, which are not printed again.
    """
    from accelerate import Accelerator

    from ..data.torchcodec_decoding import use_decoder
    from ..run_folder import check_new_folder, ensure_writable_dir

    folder = Path(config["run"].output_dir)
    accelerator = Accelerator(cpu=config["run"].use_cpu)
    if accelerator.is_main_process:
        check_new_folder(folder)
    decoding = use_decoder(
        config["run"].decoder, config["run"].dataloader_num_workers, "spawn"
    )  # see `worker_start_method`
    with decoding, ensure_writable_dir(folder) if accelerator.is_main_process else nullcontext():
        results = _evaluate(config, accelerator, None if dry_run else folder, shown)
    return 0 if results.counts()["is_complete"] or config["run"].allow_incomplete else INCOMPLETE


def _evaluate(config: dict[str, Any], accelerator: Any, folder: Path | None, shown: Sequence[str]) -> Any:
    """The `ScoredVideos`, after writing the result files to `folder`; without a folder those of one batch. shown: of `evaluate`."""
    from ..models.loading import load_video_classifier
    from ..models.random_tokens import RandomTokens, check_random_tokens
    from .multi_view import load_evaluation_data, predict_multi_view
    from .results import ScoredVideos

    model, views, options = config["model"], config["views"], config["run"]
    log = accelerator.print
    classifier = load_video_classifier(
        model.model_name_or_path, views.processor_settings(), model.dtype, model.token_budget
    )
    name, config_of_model = Path(model.model_name_or_path).name, classifier.model.config
    check_random_tokens(name, config_of_model, classifier.media, model.random_tokens, model.token_budget)
    if model.random_tokens is not None:
        RandomTokens(classifier.model, model.random_tokens)
    if classifier.media == "image":
        views = replace(views, num_temporal_views=1, num_spatial_views=1)
        config = {**config, "views": views}
    classifier.model.to(accelerator.device)
    prepare_model(classifier.model, model.matmul_precision, model.compile)
    data = load_evaluation_data(config["data"], classifier, options.split)
    for message in data.messages:
        if message not in shown:
            log(message)
    log(_describe(classifier, data, views, accelerator.num_processes, model))
    predictions, throughput = predict_multi_view(
        classifier,
        data.rows,
        accelerator,
        options.batch_size,
        options.dataloader_num_workers,
        max_batches=1 if folder is None else None,
    )
    predictions = [each._replace(label=data.label_of(each.label)) for each in predictions]
    results = ScoredVideos.of(
        predictions, data.class_names, views.view_aggregation, classifier.multi_label, classifier.label_groups
    )
    if accelerator.is_main_process:
        _print_results(results, throughput.summary(), folder, classifier.media, options.dataloader_num_workers)
        if folder is not None:
            write_results(folder, results, throughput.summary(), config, classifier, data.split)
    accelerator.wait_for_everyone()
    return results


def write_results(
    folder: Path, results: Any, throughput: dict[str, Any], config: dict[str, Any], classifier: Any, split: str
) -> None:
    """Write all files of an evaluation. `metrics.json` comes last: if it exists, the others are complete."""
    from ..run_folder import write_json, write_run_files
    from ..visualization.confusion import draw_confusion_matrix
    from .results import without_nan

    write_run_files(folder, config, results.class_names)
    results.write_views(folder / "predictions.parquet")
    results.write_videos(folder / "predictions.csv")
    results.write_per_class(folder / "per_class.csv")
    metrics, counts = results.metrics(), results.counts()
    name = config["model"].model_name_or_path
    if results.has_labels and not results.multi_label:
        for group, (matrix, names) in results.confusions().items():
            accuracy = metrics[f"{group}_accuracy" if group else "accuracy"]
            subtitle = f"{100 * accuracy:.1f} % of {counts['num_scored'] - counts['num_without_label']} videos correct"
            file = folder / (f"confusion_matrix_{group}.png" if group else "confusion_matrix.png")
            title = f"{Path(name).name}, {group}" if group else Path(name).name
            if (note := draw_confusion_matrix(file, matrix, names, title, subtitle)) is not None:
                print(f"  {note}")
    write_json(folder / "throughput.json", throughput)
    description = {
        "model": name,
        **{
            each: getattr(config["model"], each)
            for each in ("token_budget", "random_tokens")
            if getattr(config["model"], each) is not None
        },
        "data": config["data"].data or config["data"].validation_data or config["data"].test_data,
        "split": split,
        "num_classes": len(results.class_names),
        **({"label_groups": results.label_groups} if results.label_groups else {}),
        **_describe_views(classifier, config["views"]),
    }
    write_json(folder / "metrics.json", without_nan(metrics | counts | description))


def _describe_views(classifier: Any, views: ViewConfig) -> dict[str, Any]:
    """Sampling, sizes and views of the videos (or images)."""
    return {
        "num_temporal_views": views.num_temporal_views,
        "num_spatial_views": views.num_spatial_views,
        "view_aggregation": views.view_aggregation,
        **describe_clips(classifier),
    }


def describe_clips(model: Any) -> dict[str, Any]:
    """Sampling and sizes of the clips (or images) of a `ClipModel`."""
    processor = model.processor
    clip = ("sampling", "num_frames", "fps", "frame_stride", "pad_mode") if model.media == "video" else ()
    return {
        **{name: getattr(processor, name) for name in clip if name in processor.rules},
        "size": {name: value for name, value in dict(processor.size).items() if value is not None},
        "crop_size": dict(processor.crop_size) if processor.do_center_crop else None,
    }


def _describe(classifier: Any, data: Any, views: ViewConfig, num_processes: int, options: EvaluatedModel) -> str:
    number = f"{len(data.rows):,}" if hasattr(data.rows, "__len__") else "a stream of"
    processor, read = classifier.processor, "one view"
    if classifier.media == "video":
        rate = f" {processor.describe_sampling()}"
        number_of_views = f"{views.num_temporal_views} x {views.num_spatial_views} views"
        read = f"{number_of_views} of {processor.num_frames} frames{rate}, aggregated by {views.view_aggregation}"
    precision = f", matrix products of {options.matmul_precision} precision" if options.matmul_precision else ""
    return (
        f"{type(classifier.model).__name__}, {len(data.class_names)} classes, on {number} {data.split} "
        f"{classifier.media}s: {read}, {classifier.model.dtype}{precision}{', compiled' if options.compile else ''} on {num_processes} x "
        f"{classifier.model.device.type}."
    )


def _print_results(
    results: Any, throughput: dict[str, Any], folder: Path | None, media: str, num_workers: int
) -> None:
    from ..data.worker_processes import waiting_messages

    counts = results.counts()
    for name, value in results.metrics().items():
        print(f"  {name.replace('_', ' '):<24}{100 * value:>8.2f} %")
    if not results.has_labels:
        print(f"None of the {media}s has a label: predictions are written, metrics are not.")
    if (warning := results.chance_warning()) is not None:
        print(warning)
    print(
        f"  {counts['num_scored']:,} of {counts['num_videos']:,} {media}s scored, {counts['num_missing']:,} missing, "
        f"{counts['num_skipped']:,} skipped; {throughput['seconds']:.1f} s, "
        f"{throughput['clips_per_second']:.1f} clips/s, {100 * throughput['share_of_time_waiting_for_data']:.0f} % of the "
        "time waiting for data"
    )
    for message in waiting_messages(throughput["seconds"], throughput["share_of_time_waiting_for_data"], num_workers):
        print(f"  {message}")
    left_out = [each for each in results.predictions if each.logits is None]
    if left_out:
        print(f"INCOMPLETE: {len(left_out)} of {counts['num_videos']} {media}s were not scored:", file=sys.stderr)
    for video in left_out[:MAX_REASONS_SHOWN]:
        print(f"  {video.path or video.video_id}: {video.reason}", file=sys.stderr)
    if folder is not None:
        print(f"  saved in {folder}")
