"""push_to_hub: the repository is created before training, and the finished run is uploaded. The Hub is mocked."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from tiny_runs import ONE_VIEW, arguments, make_run, make_videos

from tubevit.training import run_video_classification, run_video_classification_no_trainer
from tubevit.training.cli import main


SCRIPTS = {"train": run_video_classification, "train-loop": run_video_classification_no_trainer}
OPTIONS = {**ONE_VIEW, "max_steps": 1, "push_to_hub": True, "hub_model_id": "mine", "load_best_model_at_end": False}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 2, 1)


@pytest.fixture
def hub(monkeypatch):
    """Calls of the Hub, in order: names of created repositories, and uploaded files with the text of the card."""
    asked = []

    def create_repo(name, *, token, private, exist_ok):
        assert exist_ok
        asked.append(name)
        return SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(*, repo_id, folder_path, token, revision, ignore_patterns):
        files = [str(path.relative_to(folder_path)) for path in folder_path.rglob("*") if path.is_file()]
        kept = set(huggingface_hub.utils.filter_repo_objects(files, ignore_patterns=ignore_patterns))
        asked.append((repo_id, kept, (folder_path / "README.md").read_text()))

    monkeypatch.setattr(huggingface_hub, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    return asked


@pytest.mark.parametrize("script", SCRIPTS)
def test_finished_run_is_uploaded_with_its_evaluation(script, videos, hub, tmp_path):
    assert SCRIPTS[script].train(make_run(videos, tmp_path / "run", **OPTIONS, save_strategy="epoch")) == 0
    assert list((tmp_path / "run").glob("*-1"))  # a checkpoint
    *names, (name, files, card) = hub
    assert names == ["mine", "mine"] and name == "me/mine"
    assert {"model.safetensors", "config.json", "video_preprocessor_config.json", "evaluation/metrics.json"} <= files
    assert not any("-1" in Path(file).parts[0] for file in files)
    assert "of 3 videos" in card and card == (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_run_does_not_call_the_hub(script, videos, hub, tmp_path):
    assert SCRIPTS[script].train(make_run(videos, tmp_path / "run", **OPTIONS), dry_run=True) == 0
    assert not hub


@pytest.mark.parametrize("script", SCRIPTS)
def test_missing_hub_access_raises_before_training(script, videos, monkeypatch, tmp_path, capsys):
    def create_repo(*args, **kwargs):
        raise huggingface_hub.errors.LocalTokenNotFoundError("Token is required,\nbut no token found.")

    monkeypatch.setattr(huggingface_hub, "create_repo", create_repo)
    assert main([script, *arguments(videos, tmp_path / "run", **OPTIONS)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "cannot write to mine on the Hub (Token is required, but no token found.)" in error and "hf auth" in error
    assert not list((tmp_path / "run").rglob("*.safetensors"))
