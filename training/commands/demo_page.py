# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit demo --gradio`: a page that classifies an uploaded video and draws the tubes over its frames.

This file is the whole app: copy `build_page` to use it in a Space. It listens on 127.0.0.1 only, and sends nothing to other machines.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..options import one_line


MAX_FILE_SIZE = "100mb"
TOP_K = 5
DPI = 110


def build_page(name: str, examples: Sequence[str] = ()) -> Any:
    """
    The page of a video classifier as `gradio.Blocks`.

    name: checkpoint of any family, a folder or a name on the Hub. examples: video files that the page offers.

    Raises `ValueError` for a classifier of images.
    """
    import gradio

    from ..evaluation.metrics import best_labels, scores_of
    from ..models.families import family_of
    from ..models.loading import load_video_classifier
    from ..visualization.clips import read_clip
    from ..visualization.tubes import draw_tubes

    classifier = load_video_classifier(name, {})
    if classifier.media != "video":
        raise ValueError(f"{name} classifies images; the page takes a classifier of videos.")
    config = classifier.model.config
    has_tubes = "tubes" in family_of(config, name).pictures

    def classify(path: str | None) -> tuple[dict[str, float], Any]:
        """Scores by label, and the picture of the tubes or `None`."""
        from PIL import Image

        if path is None:
            raise gradio.Error("Choose a video first.", print_exception=False)
        try:
            pixels = classifier.processor(path, return_tensors="pt").pixel_values_videos[0]
            clips = pixels if pixels.ndim == 5 else pixels[None]
            scores = scores_of(classifier, classifier(clips).numpy())
            figure = draw_tubes(read_clip(path, config, name, None), config) if has_tubes else None
        except (ValueError, OSError) as error:  # a file that cannot be read
            raise gradio.Error(one_line(error).replace(path, Path(path).name), print_exception=False) from None
        best = best_labels(scores, config.id2label, TOP_K, classifier.label_groups)
        if figure is None:
            return {each["label"]: each["score"] for each in best}, None
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=DPI)
        return {each["label"]: each["score"] for each in best}, Image.open(buffer)

    with gradio.Blocks(title="TubeViT", analytics_enabled=False) as page:
        gradio.Markdown(f"# TubeViT\nVideo classification by `{name}`, on this machine.")
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(label="Video", sources=["upload"], include_audio=True, height=320)
                button = gradio.Button("Classify", variant="primary")
                if examples:
                    gradio.Examples(list(examples), video, label="Drawn clips", cache_examples=False)
            labels = gradio.Label(label="Labels", num_top_classes=TOP_K)
        tubes = gradio.Image(label="Pixels that each tube reads", visible=has_tubes, interactive=False)
        for event in (button.click, video.upload):
            event(classify, video, [labels, tubes], api_name="classify" if event == button.click else False)
    return page


def serve_page(model: str | None, output: Path, seed: int, port: int) -> int:
    """
    Serve the page until Ctrl-C. Returns the exit code.

    model: a checkpoint; `None` for the model in `output`, or the shipped weights, which are written there, if it has none.
    """
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ImportError(
            f"tubevit demo --gradio needs the package {error.name}: pip install 'tubevit[gradio]'", name=error.name
        ) from error

    from ..logging_utils import quiet_libraries
    from .quick_demo import WEIGHTS, prepare

    quiet_libraries()
    if model is None and not (output / "model" / WEIGHTS).is_file():
        print(f"{output / 'model'} has no model: the shipped weights of the moving shapes are written there.")
        prepare(output, seed)
    videos = output / "videos" / "val"
    examples = [] if model is not None else [str(each) for each in sorted(videos.glob("*/000.mp4"))]
    page = build_page(model or str(output / "model"), examples)
    page.queue(default_concurrency_limit=1)
    print(f"The page is at http://127.0.0.1:{port}; Ctrl-C ends it.", flush=True)
    # Fonts of the system: the page loads nothing from other machines.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        quiet=True,
        max_file_size=MAX_FILE_SIZE,
        allowed_paths=[str(videos.resolve())] if examples else None,
        theme=theme,
        footer_links=[],
    )
    return 0
