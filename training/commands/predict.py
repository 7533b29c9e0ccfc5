# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit predict`: labels and scores of videos and images, through the stock pipelines of Transformers.

Videos go to `pipeline("video-classification")`, images to `pipeline("image-classification")` on the same checkpoint: the
backbone and the classifier are shared, and an image is what the 2D tube sees of a video of one frame.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ..data.formats.samples import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of, list_files
from ..environment import pick_device
from ..option_files import add_option_file
from ..options import one_line, whole_number


BAR_WIDTH = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option_file(parser)
    parser.add_argument("clips", nargs="*", metavar="CLIP", help="video or image file, URL, or folder of them")
    parser.add_argument("--model", required=True, help="folder of a TubeViT checkpoint, or its name on the Hub")
    parser.add_argument("--top-k", type=whole_number(1), default=5, metavar="K", help="labels per clip (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--temporal-views", type=whole_number(1), metavar="N", help="clips per video whose predictions are averaged"
    )
    parser.add_argument("--spatial-views", type=whole_number(1), metavar="N", help="crops per clip, likewise")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: the GPU if there is one"
    )
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="default: the checkpoint's"
    )
    parser.add_argument("--dry-run", action="store_true", help="make all checks and classify the first clip alone")


def run(args: argparse.Namespace) -> int:
    """Print predictions; the exit code is 1 if a clip could not be read, after all others are done."""
    from tqdm.auto import tqdm

    from ..logging_utils import quiet_libraries
    from ..models.loading import load_config

    load_config(args.model)  # a wrong name is said before anything else
    clips = expand_clips(args.clips)
    quiet_libraries()
    views = {"num_temporal_views": args.temporal_views, "num_spatial_views": args.spatial_views}
    views = {name: number for name, number in views.items() if number is not None}
    kinds = {kind_of(clip) for clip in clips}
    classify = make_classifier(args.model, kinds, args.top_k, views, pick_device(args.device), args.dtype)
    num_clips, clips = len(clips), clips[:1] if args.dry_run else clips
    results = []
    # `disable=None` shows the bar on a terminal only.
    with tqdm(clips, desc="predicting", unit="clip", disable=None, dynamic_ncols=True, leave=False) as progress:
        for clip in progress:
            results.append(predict_one(classify, clip))
            if not args.json:
                tqdm.write(format_result(results[-1]), file=sys.stdout)
    if args.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    if args.dry_run:
        print(f"Dry run: the first of {num_clips} clips was tried.", file=sys.stderr)
    broken = [result for result in results if "error" in result]
    if broken:
        reasons = [f"\n  {result['file']}: {result['error']}" for result in broken] if args.json else []
        end = ":" if reasons else "."
        print(f"{len(broken)} of {len(results)} clips could not be read{end}{''.join(reasons)}", file=sys.stderr)
    return 1 if broken else 0


def expand_clips(names: list[str]) -> list[str]:
    """The files to classify: folders are searched for videos and images, everything else is kept as it was given."""
    if not names:
        raise ValueError("Give videos or images to classify, or folders of them.")
    clips = []
    for name in names:
        if not Path(name).is_dir():
            clips.append(name)
        elif found := list_files(Path(name), VIDEO_SUFFIXES | IMAGE_SUFFIXES):
            clips += map(str, found)
        else:
            raise ValueError(f"{name} holds no videos or images.")
    return clips


def predict_one(classify: Callable[[str], list[dict]], clip: str) -> dict[str, Any]:
    """`{"file", "kind", "predictions"}` of a clip, or `{"file", "kind", "error"}` for one that cannot be read."""
    result = {"file": clip, "kind": kind_of(clip)}
    try:
        if result["kind"] == "image" and "://" not in clip:
            open(clip, "rb").close()  # of a missing file the library says that it is no valid base64
        return {**result, "predictions": classify(clip)}
    except Exception as error:  # whatever is wrong with a file, the others are still classified
        text = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        return {**result, "error": text.removeprefix(f"{clip}: ").removeprefix(f"{clip} ")}


def make_classifier(
    model: str,
    kinds: Collection[str],
    top_k: int = 5,
    views: dict[str, int] | None = None,
    device: str = "cpu",
    dtype: str = "auto",
) -> Callable[[str], list[dict[str, Any]]]:
    """
    A function from a file name or URL to `[{"label", "score"}, ...]`, best first.

    kinds: which of "video" and "image" will come.
    views: settings of the video processor, `num_temporal_views` and `num_spatial_views`, that replace the checkpoint's.
    device, dtype: as `pipeline` and `from_pretrained` take them.
    """
    pipelines = {}
    if "video" in kinds:
        pipelines["video"] = _make_video_pipeline(model, views or {}, device, dtype)
    if "image" in kinds:
        pipelines["image"] = _make_image_pipeline(model, device, dtype)
    return lambda clip: pipelines[kind_of(clip)](clip, top_k=top_k)


def format_result(result: dict[str, Any]) -> str:
    """A result as lines for a terminal: the file, then a bar, score and label per line."""
    if "error" in result:
        return f"{result['file']}\n  could not be read: {result['error']}"
    lines = [
        f"  {100 * entry['score']:5.1f} %  {_bar(entry['score'])}  {entry['label']}" for entry in result["predictions"]
    ]
    return "\n".join([result["file"], *lines])


def _make_video_pipeline(name: str, views: dict[str, int], device: str, dtype: str) -> Any:
    from transformers import AutoVideoProcessor, pipeline

    from tubevit import TubeViTForVideoClassification

    from ..models.loading import load_model

    model = load_model(name, TubeViTForVideoClassification, dtype=dtype)
    processor = AutoVideoProcessor.from_pretrained(name, **views)
    return pipeline("video-classification", model=model, video_processor=processor, device=device)


def _make_image_pipeline(name: str, device: str, dtype: str) -> Any:
    from transformers import AutoImageProcessor, pipeline

    from tubevit import TubeViTForImageClassification

    from ..models.loading import load_model

    model = load_model(name, TubeViTForImageClassification, dtype=dtype)
    processor = AutoImageProcessor.from_pretrained(name)
    return pipeline("image-classification", model=model, image_processor=processor, device=device)


def _bar(share: float) -> str:
    eighths = round(share * BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(BAR_WIDTH)
