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


class FileClassifier:
    """
    Labels of a video file, and the picture of the tubes that a TubeViT lays over it.

    name: checkpoint of any family, a folder or a name on the Hub. Raises `ValueError` for a classifier of images.
    """

    def __init__(self, name: str):
        from ..models.families import family_of
        from ..models.loading import load_video_classifier

        self.name, self.classifier = name, load_video_classifier(name, {})
        if self.classifier.media != "video":
            raise ValueError(f"{name} classifies images; the page takes a classifier of videos.")
        self.has_tubes = "tubes" in family_of(self.classifier.model.config, name).pictures

    def __call__(self, path: str) -> tuple[dict[str, float], Any]:
        """The best labels with their scores, and a PIL image, `None` for other families. Raises `ValueError` or `OSError`."""
        from PIL import Image

        from ..evaluation.metrics import best_labels, scores_of
        from ..models.clip_processors import read_views
        from ..visualization.clips import read_clip
        from ..visualization.tubes import draw_tubes

        classifier, config = self.classifier, self.classifier.model.config
        scores = scores_of(classifier, classifier(read_views(classifier.processor, path)).numpy())
        best = best_labels(scores, config.id2label, TOP_K, classifier.label_groups)
        labels = {each["label"]: each["score"] for each in best}
        if not self.has_tubes:
            return labels, None
        buffer = io.BytesIO()
        draw_tubes(read_clip(path, config, self.name, None), config).savefig(buffer, dpi=DPI)
        return labels, Image.open(buffer)


def build_page(classify_file: FileClassifier, examples: Sequence[str] = ()) -> Any:
    """The page of a classifier as `gradio.Blocks`. examples: video files that the page offers."""
    import gradio

    def classify(path: str | None) -> tuple[dict[str, float], Any]:
        if path is None:
            raise gradio.Error("Choose a video first.", print_exception=False)
        try:
            return classify_file(path)
        except (ValueError, OSError) as error:  # a file that cannot be read
            reason = one_line(error).replace(path, Path(path).name)
            raise gradio.Error(reason, duration=None, print_exception=False) from None

    with gradio.Blocks(title="TubeViT", analytics_enabled=False) as page:
        gradio.Markdown(f"# TubeViT\nVideo classification by `{classify_file.name}`, on this machine.")
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(label="Video", sources=["upload"], include_audio=True, height=320)
                button = gradio.Button("Classify", variant="primary")
                if examples:
                    gradio.Examples(list(examples), video, label="Drawn clips", cache_examples=False)
            labels = gradio.Label(label="Labels", num_top_classes=TOP_K)
        tubes = gradio.Image(
            label="Pixels that each tube reads", show_label=False, visible=classify_file.has_tubes, interactive=False
        )
        button.click(classify, video, [labels, tubes], api_name="classify")
        video.upload(classify, video, [labels, tubes], api_name=False)
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
    page = build_page(FileClassifier(model or str(output / "model")), examples)
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
