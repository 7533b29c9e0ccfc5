# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit predict`: classify videos and images with a checkpoint of any family.

A TubeViT runs in the pipelines of Transformers: videos in `pipeline("video-classification")`, images in
`pipeline("image-classification")`, with the same backbone and classifier, because the 2D tube treats an image as a video of one
frame. Other video classifiers run as in `tubevit eval`.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tubevit.processing.frame_folders import list_frames

from ..command_line import whole_number
from ..data.data_config import DECODER_HELP, Decoder
from ..data.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, describe_left_out, frame_folders, kind_of, scan_folder
from ..environment import add_device_arguments, pick_device, prepare_model
from ..errors import is_user_error
from ..models.model_options import TOKEN_BUDGET_HELP
from ..options import one_line


BAR_WIDTH = 24
# A part of a video, as in W3C media fragment URIs and in the `video_id` of `tubevit eval`.
FRAGMENT = re.compile(r"(?P<path>.+)#(?P<unit>t|frames)=(?P<start>\d*\.?\d*)(?:,(?P<end>\d*\.?\d*))?")
CSV_COLUMNS = ("file", "kind", "rank", "label", "score", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL CLIP ... [options], or %(prog)s --model MODEL CLIP ... [options]"
    parser.add_argument(
        "clips",
        nargs="*",
        metavar="CLIP",
        help="video, image, URL, or folder of videos and images. A folder of numbered pictures is one video; VIDEO#t=3,7.5 is the "
        "part of a video from 3 to 7.5 seconds",
    )
    parser.add_argument(
        "--model",
        help="checkpoint of a classifier: a folder, a name on the Hub, or an ONNX file of `tubevit export` (default: the first "
        "argument)",
    )
    parser.add_argument(
        "--top-k",
        type=whole_number(1),
        default=5,
        metavar="K",
        help="number of labels per clip, of each group of labels if there are several (default: 5)",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON instead of a table")
    output.add_argument(
        "--csv",
        action="store_true",
        help=f"print CSV instead of a table: {', '.join(CSV_COLUMNS)}; a row per label, and one per clip that cannot be read",
    )
    parser.add_argument(
        "--token-budget",
        type=whole_number(1),
        metavar="N",
        help=TOKEN_BUDGET_HELP,
    )
    parser.add_argument(
        "--temporal-views",
        type=whole_number(1),
        metavar="N",
        help="clips per video whose predictions are averaged (default: the checkpoint's)",
    )
    parser.add_argument(
        "--spatial-views",
        type=whole_number(1),
        metavar="N",
        help="crops per clip whose predictions are averaged (default: the checkpoint's)",
    )
    parser.add_argument(
        "--frame-stride",
        type=whole_number(1),
        metavar="N",
        help="distance between the frames of a clip, in frames of the video, for models whose processor has a frame stride, such as ViViT "
        "(default: the checkpoint's)",
    )
    parser.add_argument(
        "--frame-folder-fps",
        type=float,
        metavar="FPS",
        help="frame rate of folders of numbered pictures; a model that samples frames at a rate needs it",
    )
    parser.add_argument(
        "--provider",
        choices=("cpu", "openvino"),
        help="with an ONNX file: onnxruntime's execution provider; openvino needs the package onnxruntime-openvino (default: cpu)",
    )
    parser.add_argument("--decoder", choices=get_args(Decoder), default="av", help=f"{DECODER_HELP} (default: av)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print predictions of all clips that can be read. Returns the exit code, 1 if a clip could not be read."""
    from tqdm.auto import tqdm

    from ..data.torchcodec_decoding import chosen_decoder, use_decoder
    from ..logging_utils import progress_bar, quiet_libraries
    from ..models.loading import load_config
    from ..models.onnx_files import find_onnx_file

    _take_model(args)
    if find_onnx_file(args.model) is None:
        load_config(args.model)  # a wrong model name raises before the search for files
        if args.provider:
            raise ValueError(
                f"--provider {args.provider} has no effect on {args.model}, which runs in torch: leave it out."
            )
    elif args.compile or args.matmul_precision:
        option = "--compile" if args.compile else "--matmul-precision"
        raise ValueError(f"{option} has no effect on {args.model}, which runs in onnxruntime: leave it out.")
    clips = expand_clips(args.clips)
    quiet_libraries()
    views = {
        "num_temporal_views": args.temporal_views,
        "num_spatial_views": args.spatial_views,
        "frame_stride": args.frame_stride,
    }
    views = {name: number for name, number in views.items() if number is not None}
    kinds = {kind_of(clip) for clip in clips}
    classify = make_classifier(
        args.model,
        kinds,
        args.top_k,
        views,
        pick_device(args.device),
        args.dtype,
        args.frame_folder_fps,
        args.token_budget,
        args.matmul_precision,
        args.compile,
        args.provider or "cpu",
    )
    results = []
    with (
        use_decoder(args.decoder),
        chosen_decoder(),
        progress_bar(clips, "predicting", unit="clip", leave=False) as progress,
    ):
        for clip in progress:
            results.append(predict_one(classify, clip))
            if not (args.json or args.csv):
                tqdm.write(format_result(results[-1]), file=sys.stdout)
    if args.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    elif args.csv:
        csv.DictWriter(sys.stdout, CSV_COLUMNS, lineterminator="\n").writerows(_csv_rows(results))
    broken = [result for result in results if "error" in result]
    if broken:
        reasons = [f"\n  {result['file']}: {result['error']}" for result in broken] if args.json or args.csv else []
        end = ":" if reasons else "."
        print(f"{len(broken)} of {len(results)} clips could not be read{end}{''.join(reasons)}", file=sys.stderr)
    return 1 if broken else 0


def _take_model(args: argparse.Namespace) -> None:
    """Without `--model`, the first argument is the model. Raises `ValueError` if it is a clip, or the only argument."""
    if args.model is not None:
        return
    if len(args.clips) < 2 or Path(args.clips[0]).suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise ValueError("Give a model and clips: tubevit predict MODEL CLIP ..., or --model MODEL CLIP ...")
    args.model, *args.clips = args.clips


def expand_clips(names: list[str]) -> list[str]:
    """
    The clips to classify: all videos and images of the folders in `names`, and the other names unchanged. A folder of numbered
    pictures is one video.
    """
    if not names:
        raise ValueError("Give videos or images to classify, or folders of them.")
    clips, folders = [], []
    for name in names:
        if not Path(name).is_dir():
            clips.append(name)
            continue
        tree = scan_folder(name)
        of_frames = [folder.path for folder in frame_folders(tree) if have_one_size(folder.path)]
        files = tree.files(VIDEO_SUFFIXES | IMAGE_SUFFIXES, without=set(of_frames))
        if not (files or of_frames):
            raise ValueError(f"{name} holds no videos or images.")
        clips += map(str, sorted([*files, *of_frames]))
        for message in describe_left_out(tree, []):
            print(message, file=sys.stderr)
        folders += of_frames
    if folders:
        print(
            f"{len(folders):,} folders of numbered pictures are read as one video each ({folders[0]}, ...); give the pictures "
            f"themselves to classify images, as {folders[0]}/*.",
            file=sys.stderr,
        )
    return clips


def have_one_size(folder: Path) -> bool:
    """Whether the first and the last frame of a folder have one size, as those of a video do; pictures that are read fail later."""
    from PIL import Image

    names, sizes = list_frames(folder).names, set()
    for name in (names[0], names[-1]):
        try:
            with Image.open(folder / name) as picture:
                sizes.add(picture.size)
        except OSError:
            return True
    return len(sizes) == 1


def predict_one(classify: Callable[[str], list[dict]], clip: str) -> dict[str, Any]:
    """`{"file", "kind", "predictions"}` of a clip, or `{"file", "kind", "error"}` if it cannot be read."""
    result = {"file": clip, "kind": kind_of(clip)}
    try:
        if result["kind"] == "image" and "://" not in clip:
            open(clip, "rb").close()  # for a missing file Transformers' message is about base64
        return {**result, "predictions": classify(clip)}
    except Exception as error:
        if not is_user_error(error):
            raise  # only a file that cannot be read must not stop the others
        text = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        return {**result, "error": text.removeprefix(f"{clip}: ").removeprefix(f"{clip} ")}


def make_classifier(
    model: str,
    kinds: Collection[str],
    top_k: int = 5,
    views: dict[str, int] | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    frame_folder_fps: float | None = None,
    token_budget: int | None = None,
    matmul_precision: str | None = None,
    compiles: bool = False,
    provider: str = "cpu",
) -> Callable[[str], list[dict[str, Any]]]:
    """
    A function from a file name or URL to `[{"label", "score"}, ...]`, best first. With label groups, the best of each group follow each
    other, and an entry also has the `rank` within its group.

    kinds: the kinds of clips to classify, "video" and "image".
    views: settings of the video processor that replace the checkpoint's: `num_temporal_views`, `num_spatial_views`, `frame_stride`.
    device: of `pipeline`. dtype: of `from_pretrained`. frame_folder_fps: frame rate of frame folders.
    token_budget: tube tokens per clip at most, for TubeViT; images are classified as without it.
    matmul_precision, compiles: of `prepare_model`.
    provider: of onnxruntime, for an ONNX file, a key of `onnx_files.PROVIDERS`.

    Raises `ValueError` for a kind that the model does not classify, and for a token budget that has no effect.
    """
    from ..models.families import family_of
    from ..models.loading import load_config
    from ..models.onnx_files import find_onnx_file

    pipelines, onnx_file = {}, find_onnx_file(model)
    if token_budget is not None and (onnx_file is not None or "video" not in kinds):
        reason = "the tubes of an ONNX file are fixed" if onnx_file is not None else "there are only images"
        raise ValueError(f"--token-budget {token_budget} has no effect: {reason}.")
    if onnx_file is not None:
        pipelines = _make_onnx_classifiers(onnx_file, kinds, views or {}, device, dtype, provider)
    else:
        family = family_of(load_config(model), model)
        prepare = partial(prepare_model, matmul_precision=matmul_precision, compiles=compiles)
        if "video" in kinds:
            pipelines["video"] = _make_video_classifier(
                model, family, views or {}, device, dtype, token_budget, prepare
            )
        if "image" in kinds:
            pipelines["image"] = _make_image_pipeline(model, family, device, dtype, prepare)

    def classify(clip: str) -> list[dict[str, Any]]:
        kind = kind_of(clip)
        return pipelines[kind](clip_source(clip, frame_folder_fps) if kind == "video" else clip, top_k=top_k)

    return classify


def clip_source(clip: str, frame_folder_fps: float | None = None) -> str | dict[str, Any]:
    """
    The source of a video for a video processor: its name, or a dictionary for a segment or a frame folder with a frame rate.

    >>> clip_source("film.mp4#t=3,7.5"), clip_source("film.mp4#frames=10,20")["end_frame"], clip_source("film.mp4")
    ({'path': 'film.mp4', 'start': 3.0, 'end': 7.5}, 20, 'film.mp4')
    """
    source: dict[str, Any] = {"path": clip}
    fragment = None if Path(clip).exists() else FRAGMENT.fullmatch(clip)
    if fragment is not None:
        kind = float if fragment["unit"] == "t" else int
        names = ("start", "end") if kind is float else ("start_frame", "end_frame")
        times = zip(names, (fragment["start"], fragment["end"]), strict=True)
        source = {"path": fragment["path"], **{name: kind(text) for name, text in times if text}}
    if frame_folder_fps is not None and Path(source["path"]).is_dir():
        source["fps"] = frame_folder_fps
    return source if len(source) > 1 else clip


def _csv_rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The header, a row per label of each clip, and a row per clip that cannot be read."""
    rows: list[dict[str, Any]] = [dict(zip(CSV_COLUMNS, CSV_COLUMNS, strict=True))]
    for result in results:
        clip = {"file": result["file"], "kind": result["kind"]}
        rows += [clip | {"rank": rank, **each} for rank, each in enumerate(result.get("predictions", ()), 1)]
        rows += [clip | {"error": result["error"]}] if "error" in result else []
    return rows


def format_result(result: dict[str, Any]) -> str:
    """A result as text for a terminal: a line with the file, then lines with score, bar and label."""
    if "error" in result:
        return f"{result['file']}\n  could not be read: {result['error']}"
    lines = [
        f"  {100 * entry['score']:5.1f} %  {_bar(entry['score'])}  {entry['label']}" for entry in result["predictions"]
    ]
    return "\n".join([result["file"], *lines])


def _make_video_classifier(
    name: str,
    family: Any,
    views: dict[str, int],
    device: str,
    dtype: str,
    token_budget: int | None,
    prepare: Callable[[Any], None],
) -> Any:
    from transformers import pipeline

    from tubevit.processing import TubeViTVideoProcessor

    from ..models.clip_processors import check_frame_stride, complete_sampling
    from ..models.loading import load_model, load_processor, load_video_classifier

    processor = load_processor(name, family, "video")
    check_frame_stride(type(processor), views)
    processor = load_processor(name, family, "video", **complete_sampling(views))
    if not isinstance(processor, TubeViTVideoProcessor):  # Transformers' processors need TorchCodec to decode files.
        return _make_view_classifier(load_video_classifier(name, views, dtype, token_budget), device, prepare)
    model = load_model(name, family.classifier("video"), token_budget, dtype=dtype)
    classify = pipeline("video-classification", model=model, video_processor=processor, device=device)
    prepare(model)
    # The number of frames of the processor, as in `tubevit eval`. The pipeline's default is the one in the model's config.
    return _with_label_groups(partial(classify, num_frames=processor.num_frames), model.config)


def _with_label_groups(classify: Callable[..., list[dict[str, Any]]], config: Any) -> Callable:
    """For a config with label groups, a pipeline that applies a softmax to each of them; else `classify` itself."""
    from tubevit.classification import label_groups_of

    from ..evaluation.metrics import aggregate_views, best_labels

    label_groups = label_groups_of(config)
    if not label_groups:
        return classify
    labels = {index: config.id2label[index] for index in range(config.num_labels)}

    def classify_groups(clip: Any, top_k: int) -> list[dict[str, Any]]:
        entries = classify(clip, top_k=len(labels), function_to_apply="none")
        logits = {entry["label"]: entry["score"] for entry in entries}
        scores = aggregate_views([[logits[label] for label in labels.values()]], label_groups=label_groups)
        return best_labels(scores, labels, top_k, label_groups)

    return classify_groups


def _make_onnx_classifiers(
    file: Path, kinds: Collection[str], views: dict[str, int], device: str, dtype: str, provider: str
) -> dict[str, Any]:
    from ..models.onnx_files import ProviderError, load_onnx_classifier

    if dtype != "auto":
        raise ValueError(f"--dtype {dtype} has no effect on {file}: its weights have the type of its export.")
    try:
        classifier = load_onnx_classifier(file, views, provider)
    except ProviderError as error:
        raise ValueError(f"--provider {provider}: {error.reason}") from error
    if others := set(kinds) - {classifier.media}:
        raise ValueError(f"{file} classifies {classifier.media}s, and {others.pop()}s were given.")
    return {classifier.media: _make_view_classifier(classifier, device)}


def _make_view_classifier(classifier: Any, device: str, prepare: Callable[[Any], None] | None = None) -> Any:
    from transformers.image_utils import load_image

    from ..evaluation.metrics import best_labels, scores_of

    classifier.model.to(device)
    if prepare is not None:
        prepare(classifier.model)
    labels = classifier.model.config.id2label

    def classify(clip: str | dict[str, Any], top_k: int) -> list[dict[str, Any]]:
        if classifier.media == "image":
            clip = load_image(clip)
        (pixels,) = classifier.processor(clip, return_tensors="pt").values()
        clips = pixels[0] if classifier.num_views > 1 else pixels
        logits = classifier(clips.to(device)).cpu().numpy()
        scores = scores_of(classifier, logits)
        return best_labels(scores, labels, top_k, classifier.label_groups)

    return classify


def _make_image_pipeline(name: str, family: Any, device: str, dtype: str, prepare: Callable[[Any], None]) -> Any:
    from transformers import pipeline
    from transformers.image_utils import load_image

    from ..models.loading import load_model, load_processor

    model = load_model(name, family.classifier("image"), dtype=dtype)
    processor = load_processor(name, family, "image")
    classifier = pipeline("image-classification", model=model, image_processor=processor, device=device)
    prepare(model)
    classifier = _with_label_groups(classifier, model.config)

    def classify(clip: str, top_k: int) -> list[dict[str, Any]]:
        try:
            image = load_image(clip)
        except OSError:
            raise
        except Exception as error:  # for a damaged file or a failed download, of PIL or the HTTP client
            raise ValueError(one_line(error)) from error
        return classifier(image, top_k=top_k)

    return classify


def _bar(fraction: float) -> str:
    eighths = round(fraction * BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(BAR_WIDTH)
