"""The model for mteb: its embeddings are those of `tubevit embed`, and mteb evaluates it on a tiny task."""

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from video_classifiers import save_tubevit
from video_files import moving_frames, write_video

from tubevit import TubeViTModel
from tubevit.processing import TubeViTVideoProcessor
from tubevit.training.evaluation.mteb_model import MtebVideoModel


class Metadata:
    name = "TinyVideoClassification"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tubevit(tmp_path_factory.mktemp("tubevit"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Twelve videos, as bytes and as files: of class 0 dark, of class 1 bright."""
    folder, videos = tmp_path_factory.mktemp("videos"), []
    for index in range(12):
        frames = moving_frames(9, 32, 40, seed=index) // 8 + 200 * (index % 2)
        path = write_video(folder / f"{index}.mp4", frames.astype(np.uint8), fps=10)
        videos.append({"path": str(path), "bytes": None if index < 6 else path.read_bytes()})
    rows = datasets.Dataset.from_dict({"video": videos, "label": [index % 2 for index in range(12)]})
    return rows.cast_column("video", datasets.Video(decode=False))


def encode(model, rows, **kwargs):
    loader = DataLoader(rows, batch_size=3)
    return model.encode(loader, task_metadata=Metadata(), hf_split="test", hf_subset="default", **kwargs)


@pytest.mark.parametrize("views", [{}, {"num_temporal_views": 2}], ids=["one view", "two views"])
def test_embeddings_are_those_of_the_processors_clips(views, model, rows):
    found = encode(MtebVideoModel(model, device="cpu", **views), rows.cast_column("video", datasets.Video()))
    own, processor = TubeViTModel.from_pretrained(model).eval(), TubeViTVideoProcessor.from_pretrained(model, **views)
    with torch.no_grad():
        for vector, row in zip(found, rows, strict=True):
            clips = processor(row["video"], return_tensors="pt").pixel_values_videos
            expected = own(pixel_values_videos=clips.reshape(-1, *clips.shape[-4:])).pooler_output.mean(0)
            np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)


def test_a_forward_pass_has_batch_size_videos(model, rows, monkeypatch):
    encoder, sizes = MtebVideoModel(model, device="cpu", num_temporal_views=2), []
    encoder.encoder.model.register_forward_pre_hook(
        lambda module, args, inputs: sizes.append(len(inputs["pixel_values_videos"])), with_kwargs=True
    )
    encode(encoder, rows.cast_column("video", datasets.Video()), batch_size=5)
    assert sizes == [10, 10, 4]


def test_other_columns_and_revisions_are_refused(model, rows):
    encoder = MtebVideoModel(model, device="cpu")
    with pytest.raises(
        ValueError, match="has the columns text, video; a MtebVideoModel encodes a column `video` only"
    ):
        encode(encoder, rows.add_column("text", ["a"] * 12))
    with pytest.raises(ValueError, match="download this revision"):
        MtebVideoModel(model, revision="abc")


def test_similarities_are_cosines(model):
    encoder, rng = MtebVideoModel(model, device="cpu"), np.random.default_rng(0)
    first, second = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    norms = [np.linalg.norm(each, axis=1) for each in (first, second)]
    expected = first @ second.T / norms[0][:, None] / norms[1]
    np.testing.assert_allclose(encoder.similarity(first, second), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(first, second), np.diag(expected), atol=1e-6)


def test_mteb_evaluates_the_model_on_a_tiny_task(model, rows, tmp_path):
    mteb = pytest.importorskip("mteb")
    from mteb.abstasks import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import EncoderProtocol

    class TinyVideoClassification(AbsTaskClassification):
        metadata = TaskMetadata(
            name="TinyVideoClassification",
            description="Dark and bright videos.",
            reference="https://example.com",
            dataset={"path": "none/none", "revision": "none"},
            type="VideoClassification",
            category="v2c",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
            modalities=["video"],
        )
        input_column_name = "video"
        samples_per_label = 2
        n_experiments = 2

        def load_data(self, **kwargs):
            videos = rows.cast_column("video", datasets.Video())
            self.dataset = datasets.DatasetDict(train=videos.select(range(8)), test=videos.select(range(8, 12)))
            self.data_loaded = True

    encoder = MtebVideoModel(model, device="cpu")
    assert isinstance(encoder, EncoderProtocol) and encoder.mteb_model_meta.modalities == ["video"]
    results = mteb.evaluate(encoder, TinyVideoClassification(), cache=None, co2_tracker=False)
    (result,) = results.task_results
    assert result.scores["test"][0]["accuracy"] == 1
