"""push_to_hub: the repository is created before training, and the finished run is uploaded. The Hub is a folder."""

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from tiny_runs import CLASSES, ONE_VIEW, SHADES, arguments, make_images, make_run, make_videos
from transformers import AutoModelForVideoClassification
from warm_processes import run_python

from tubevit.training import run_video_classification, run_video_classification_no_trainer
from tubevit.training.cli import main
from tubevit.training.trainer.run_config import JointRun


SCRIPTS = {"train": run_video_classification, "train-loop": run_video_classification_no_trainer}
OPTIONS = {
    **ONE_VIEW,
    "max_steps": 1,
    "push_to_hub": True,
    "hub_model_id": "mine",
    "load_best_model_at_end": False,
    "hub_license": "cc-by-4.0",
}
MODEL_FILES = {"config.json", "model.safetensors", "processor_config.json", "README.md"}
SCORES = {"evaluation/metrics.json", "evaluation/per_class.csv", "evaluation/confusion_matrix.png"}
# Loads each folder as its card says, where this package cannot be imported. Arguments: folder, media and file, repeated.
ELSEWHERE = """
import sys
sys.modules["tubevit"] = None
from transformers import pipeline
for folder, media, file in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    classify = pipeline(f"{media}-classification", model=folder, trust_remote_code=True)
    print("labels:", *sorted(each["label"] for each in classify(file)))
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("secret-videos"), 2, 1)


class FakeHub:
    """The Hub as a folder. existing: whether a repository exists and is private; `None` = it does not exist."""

    def __init__(self, folder: Path):
        self.folder, self.existing, self.calls, self.fails = folder, None, [], False

    def api(self, token=None):
        return SimpleNamespace(
            create_repo=self.create_repo,
            create_branch=lambda name, *, branch, exist_ok: self.calls.append(("branch", branch)),
            repo_info=lambda name: SimpleNamespace(private=self.existing),
            upload_folder=self.upload_folder,
        )

    def create_repo(self, name, *, private, exist_ok):
        assert exist_ok
        self.existing = private if self.existing is None else self.existing
        self.calls.append(("create", name, private))
        return SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(self, *, repo_id, folder_path, revision):
        if self.fails:
            raise huggingface_hub.errors.HfHubHTTPError(
                "502 Bad\nGateway", response=SimpleNamespace(headers={}, request=None)
            )
        shutil.copytree(folder_path, self.folder / repo_id)
        self.calls.append(("upload", repo_id, revision))

    def files(self, name="me/mine") -> dict[str, bytes]:
        root = self.folder / name
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub.api)
    return hub


def check_nothing_private(files: dict[str, bytes], *secrets: Path | str) -> None:
    for name, content in files.items():
        for secret in map(str, secrets):
            assert secret.encode() not in content and secret not in name, (name, secret)


def labels_elsewhere(folder: Path, *models: Path | str) -> list[list[str]]:
    done = run_python("-c", ELSEWHERE, *models, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("labels: ")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_uploaded_run_is_complete_and_names_no_file(script, videos, hub, tmp_path, capsys):
    options = {**OPTIONS, "save_strategy": "epoch", "hub_revision": "v1"}
    assert SCRIPTS[script].train(make_run(videos, tmp_path / "run", **options)) == 0
    assert list((tmp_path / "run").glob("*-1"))  # a checkpoint
    begin = [("create", "mine", True), ("branch", "v1")]
    assert hub.calls == [*begin, *begin, ("upload", "me/mine", "v1")]
    files = hub.files()
    code = {name for name in files if re.fullmatch(r"\w+\.py", name)}
    assert files.keys() - code == MODEL_FILES | SCORES | {"video_preprocessor_config.json", "preprocessor_config.json"}
    assert {"modeling_tubevit.py", "configuration_tubevit.py", "video_processing_tubevit.py"} <= code
    names = [path.name for path in videos.rglob("*.mp4")]
    check_nothing_private(
        files, tmp_path, videos.parent, *names, *sys.argv[:1] if len(sys.argv[0]) > 9 else [], Path.home()
    )
    card = (tmp_path / "run" / "README.md").read_text()
    assert files["README.md"].decode() == card and "license: cc-by-4.0" in card
    assert 'model="me/mine", trust_remote_code=True' in card and '"transformers>=5' in card and '"av>=' in card
    assert not list((tmp_path / "run").glob(".upload*")) and "Uploaded to me/mine" in capsys.readouterr().out
    models = map(AutoModelForVideoClassification.from_pretrained, (tmp_path / "run", hub.folder / "me" / "mine"))
    saved, uploaded = (model.state_dict() for model in models)
    assert all(torch.equal(saved[name], uploaded[name]) for name in saved | uploaded)


def test_uploaded_runs_load_elsewhere(videos, hub, tmp_path):
    images = make_images(tmp_path / "images", 2, 1)
    data = {"datasets": {"clips": {"data": str(videos)}, "pictures": {"data": str(images)}}}
    options = {name: value for name, value in make_options(tmp_path / "run").items() if name != "data"}
    assert run_video_classification.train(JointRun.of(**options, **data)) == 0
    files = hub.files()
    assert files.keys() >= MODEL_FILES and not any("checkpoint" in name for name in files)
    check_nothing_private(files, tmp_path, videos.parent)
    assert 'snapshot_download("me/mine") + "/clips"' in files["README.md"].decode()
    for name in ("clips", "pictures"):
        assert f'snapshot_download("me/mine") + "/{name}"' in files[f"{name}/README.md"].decode()
    hub.existing = None
    assert run_video_classification.train(make_run(videos, tmp_path / "one", **OPTIONS | {"hub_model_id": "one"})) == 0
    root, clip, image = hub.folder / "me", videos / "val" / "red" / "0.mp4", images / "val" / "dark" / "0.png"
    models = [root / "one", "video", clip, root / "mine" / "clips", "video", clip]
    labels = labels_elsewhere(tmp_path, *models, root / "mine" / "pictures", "image", image)
    assert labels == [sorted(CLASSES), sorted(CLASSES), sorted(SHADES)]


def make_options(output: Path, **options) -> dict:
    from tiny_runs import OPTIONS as TINY

    return {**TINY, "output_dir": str(output), **OPTIONS, **options}


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_run_does_not_call_the_hub(script, videos, hub, tmp_path):
    assert SCRIPTS[script].train(make_run(videos, tmp_path / "run", **OPTIONS), dry_run=True) == 0
    assert not hub.calls


@pytest.mark.parametrize("is_public", [False, True])
def test_public_repository_is_used_on_request_only(is_public, videos, hub, tmp_path, capsys):
    hub.existing = False
    argv = arguments(videos, tmp_path / "run", **OPTIONS, hub_private_repo=str(not is_public).lower())
    assert main(["train", *argv]) == (0 if is_public else 2)
    error = capsys.readouterr().err
    assert ("me/mine is a public repository: set hub_private_repo=false to publish" in error) != is_public
    assert bool(hub.folder.exists()) == is_public == (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_missing_hub_access_raises_before_training(script, videos, monkeypatch, hub, tmp_path, capsys):
    def create_repo(*args, **kwargs):
        raise huggingface_hub.errors.LocalTokenNotFoundError("Token is required,\nbut no token found.")

    monkeypatch.setattr(hub, "create_repo", create_repo)
    assert main([script, *arguments(videos, tmp_path / "run", **OPTIONS)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "cannot write to mine on the Hub (Token is required, but no token found.)" in error and "hf auth" in error
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_failed_upload_is_repeated_by_a_resume(videos, hub, tmp_path, capsys):
    hub.fails, argv = True, arguments(videos, tmp_path / "run", **OPTIONS)
    assert main(["train", *argv]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the upload to me/mine failed (502 Bad Gateway" in error and "resume_from_checkpoint=true" in error
    hub.fails = False
    assert main(["train", *argv, "resume_from_checkpoint=true"]) == 0
    assert hub.files().keys() >= MODEL_FILES
