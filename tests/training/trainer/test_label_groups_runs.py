"""Training on EPIC-KITCHENS-100: a noun and a verb per clip, from annotations to scores, predictions and the saved model, in every family."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import ONE_VIEW, OPTIONS
from transformers import AutoConfig, pipeline
from video_classifiers import save_peer
from video_files import write_video

from tubevit.training.cli import main
from tubevit.training.commands.predict import make_classifier


NOUNS = {"cup": (220, 40, 40), "knife": (40, 200, 60), "plate": (40, 60, 220)}
VERBS = {"take": 1.0, "wash": 0.35}  # brightness
NAMES = [*(f"noun: {name}" for name in NOUNS), *(f"verb: {name}" for name in VERBS)]
COLUMNS = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,noun,noun_class"
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}


@pytest.fixture(scope="module")
def epic(tmp_path_factory) -> Path:
    """Annotations of three training films and one validation film of each noun; each film has a clip of each verb."""
    root = tmp_path_factory.mktemp("epic")
    rng, rows = np.random.default_rng(0), {"train": [], "validation": []}
    for noun, color in NOUNS.items():
        for film in range(4):
            video_id, split = f"P{film:02d}_{noun}", "validation" if film == 3 else "train"
            (root / f"P{film:02d}" / "videos").mkdir(parents=True, exist_ok=True)
            means = np.repeat([np.multiply(color, factor) for factor in VERBS.values()], 12, axis=0)
            frames = np.clip(rng.normal(means[:, None, None], 20, (24, 32, 40, 3)), 0, 255).astype(np.uint8)
            write_video(root / f"P{film:02d}" / "videos" / f"{video_id}.MP4", frames, fps=10)
            for index, verb in enumerate(VERBS):
                times = f"00:00:0{1.2 * index:.2f},00:00:0{1.2 * (index + 1):.2f},{12 * index + 1},{12 * (index + 1)}"
                rows[split].append(
                    f"{video_id}_{index},P{film:02d},{video_id},{times},{verb},{index},{noun},{list(NOUNS).index(noun)}"
                )
    for split, lines in rows.items():
        (root / f"EPIC_100_{split}.csv").write_text("\n".join([COLUMNS, *lines]) + "\n")
    for name, keys in (("noun_classes_v2", NOUNS), ("verb_classes", VERBS)):
        (root / f"EPIC_100_{name}.csv").write_text("id,key\n" + "".join(f"{i},{key}\n" for i, key in enumerate(keys)))
    return root


def arguments(epic: Path, folder: Path, **options) -> list[str]:
    options = {
        **OPTIONS,
        **ONE_VIEW,
        "data": epic,
        "num_classes": 5,
        "output_dir": folder,
        "check_data": False,
        **options,
    }
    options = {name: value for name, value in options.items() if value is not None}
    return [f"{name}={value}" for name, value in options.items()]


LEARNS = {"num_train_epochs": 12, "learning_rate": 1e-2, "rand_augment_layers": 0, "flip": "off", "rrc_scale_min": 1.0}


@pytest.fixture(scope="module")
def trained(epic, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 1, "num_temporal_views": 2}
    assert main(["train", *arguments(epic, folder, **LEARNS, **options)]) == 0
    return folder


def read_json(path: Path):
    return json.loads(path.read_text())


def test_a_run_learns_nouns_and_verbs_and_saves_which_label_is_which(trained):
    config = read_json(trained / "config.json")
    assert config["label_groups"] == [["noun", 3], ["verb", 2]]
    assert list(config["id2label"].values()) == NAMES and config["problem_type"] == "single_label_classification"
    metrics = read_json(trained / "evaluation" / "metrics.json")
    names = {name for name in metrics if "accuracy" in name}
    assert names == {"action_accuracy", "action_top5_accuracy", "noun_accuracy", "verb_accuracy"}
    assert metrics["majority_action_rate"] == pytest.approx(1 / 6) and metrics["label_groups"] == {
        "noun": 3,
        "verb": 2,
    }
    assert metrics["noun_accuracy"] == metrics["verb_accuracy"] == metrics["action_accuracy"] == 1
    assert "best_action_accuracy" in read_json(trained / "train_metrics.json")
    card = (trained / "README.md").read_text()
    assert "noun 3: cup, knife, plate; verb 2: take, wash" in card and "- action accuracy: 1.0000" in card
    assert "a softmax to each group" in card


def test_eval_reports_every_clip_and_head(epic, trained, tmp_path):
    options = [
        f"data={epic}",
        "num_classes=5",
        "view_aggregation=logits",
        "use_cpu=true",
        f"output_dir={tmp_path / 'out'}",
    ]
    assert (
        main(["eval", f"model_name_or_path={trained}", *options, "num_temporal_views=2", "num_spatial_views=1"]) == 0
    )
    assert read_json(tmp_path / "out" / "metrics.json")["action_accuracy"] == 1
    rows = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert "noun: cup;verb: take" in rows[1] and rows[1].count("noun: cup;verb: take") == 2  # label and prediction
    per_class = (tmp_path / "out" / "per_class.csv").read_text().splitlines()
    assert per_class[4] == "3,verb: take,3,3,1.0"
    assert all((tmp_path / "out" / f"confusion_matrix_{group}.png").is_file() for group in ("noun", "verb"))


def test_data_of_another_kind_is_refused(epic, trained, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text(f"path,label\n{epic}/P03/videos/P03_cup.MP4,noun: cup\n")
    options = [f"validation_data={tmp_path / 'labels.csv'}", "use_cpu=true", f"output_dir={tmp_path / 'out'}"]
    assert main(["eval", f"model_name_or_path={trained}", *options]) == 2
    assert (
        "one label per video, the checkpoint was trained on one label of each of 3 nouns, 2 verbs"
        in capsys.readouterr().err
    )


def test_predict_gives_a_noun_and_a_verb_and_the_stock_pipeline_mixes_them(epic, trained, capsys):
    clip = f"{epic}/P03/videos/P03_knife.MP4#t=1.2,2.4"
    assert main(["predict", str(trained), clip, "--top-k", "2", "--json", "--device", "cpu"]) == 0
    entries = json.loads(capsys.readouterr().out)[0]["predictions"]
    assert [entry["rank"] for entry in entries] == [1, 2, 1, 2]
    assert entries[0]["label"] == "noun: knife" and entries[2]["label"] == "verb: wash"
    assert entries[2]["score"] + entries[3]["score"] == pytest.approx(1) and entries[0]["score"] > 0.5
    assert main(["predict", str(trained), clip, "--csv", "--device", "cpu"]) == 0
    assert ",video,1,verb: wash," in capsys.readouterr().out
    stock = pipeline("video-classification", model=str(trained))(
        {"path": clip.partition("#")[0], "start": 1.2, "end": 2.4}, top_k=5
    )
    assert sum(entry["score"] for entry in stock) == pytest.approx(1)  # over both groups, as the model card says
    own = make_classifier(str(trained), {"video"}, 5)(clip)
    by_noun = [entry["label"] for entry in stock if entry["label"].startswith("noun")]
    assert by_noun == [entry["label"] for entry in own if entry["label"].startswith("noun")]


STARTS = {
    "uniformerv2": {"preset": "uniformerv2-b16", "model_config": {**SMALL, "patch_size": 8}},
    "factorized_vivit": {"preset": "vivit-b16x2-fe", "model_config": {**SMALL, "tubelet_size": [2, 8, 8]}},
    "videomae": {
        "preset": None,
        "model_config": None,
        "ignore_mismatched_sizes": True,
        "image_size": None,
        "short_side": None,
    },
}


@pytest.mark.parametrize("name", STARTS)
def test_other_families_train_with_mixup_and_label_smoothing(epic, tmp_path, name, capsys):
    options = {"num_frames": 4, "max_steps": 2, "mixup_alpha": 0.3, "label_smoothing": 0.2, **STARTS[name]}
    if name == "videomae":
        save_peer(tmp_path / "source", name)
        options["model_name_or_path"] = tmp_path / "source"
    assert main(["train", *arguments(epic, tmp_path / "run", **options)]) == 0
    assert "2 groups of labels, each with a softmax" in capsys.readouterr().out
    assert AutoConfig.from_pretrained(tmp_path / "run").label_groups == [["noun", 3], ["verb", 2]]
    metrics = read_json(tmp_path / "run" / "evaluation" / "metrics.json")
    assert metrics["num_scored"] == 6 and 0 <= metrics["action_accuracy"] <= metrics["noun_accuracy"]
    entries = make_classifier(str(tmp_path / "run"), {"video"}, 1)(f"{epic}/P03/videos/P03_cup.MP4")
    assert [entry["label"].partition(":")[0] for entry in entries] == ["noun", "verb"]


def test_the_plain_loop_has_the_losses_of_trainer(epic, tmp_path):
    losses = []
    for command in ("train", "train-loop"):
        options = {
            "max_steps": 3,
            "gradient_accumulation_steps": 2,
            "label_smoothing": 0.1,
            "lr_scheduler_type": "constant",
        }
        assert main([command, *arguments(epic, tmp_path / command, **options)]) == 0
        history = read_json(tmp_path / command / "trainer_state.json")["log_history"]
        losses.append([entry["loss"] for entry in history if "loss" in entry])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_fine_tuning_keeps_the_classifier_and_other_classes_drop_the_groups(epic, trained, tmp_path):
    from tiny_runs import make_videos

    options = {
        "preset": None,
        "model_config": None,
        "model_name_or_path": trained,
        "max_steps": 1,
        "learning_rate": 1e-9,
    }
    assert main(["train", *arguments(epic, tmp_path / "same", **options)]) == 0
    assert read_json(tmp_path / "same" / "evaluation" / "metrics.json")["action_accuracy"] == 1
    videos = make_videos(tmp_path / "videos", 2, 1)
    options |= {"data": videos, "num_classes": None, "ignore_mismatched_sizes": True}
    assert main(["train", *arguments(epic, tmp_path / "other", **options)]) == 0
    config = read_json(tmp_path / "other" / "config.json")
    assert config["label_groups"] is None and len(config["id2label"]) == 3


def test_joint_training_refuses_label_groups(epic, tmp_path, capsys):
    config = tmp_path / "joint.yaml"
    config.write_text(
        json.dumps(
            {
                "datasets": {
                    "kitchen": {"data": str(epic), "num_classes": 5},
                    "again": {"data": str(epic), "num_classes": 5},
                }
            }
        )
    )
    options = [f"{name}={value}" for name, value in OPTIONS.items() if name != "data"]
    assert main(["train", "--config", str(config), *options, f"output_dir={tmp_path / 'run'}"]) == 2
    assert "kitchen: A video has one label of each of noun, verb" in capsys.readouterr().err
