"""Plain Trainer of the installed Transformers still has each fault that `trainer_overrides` works around.

A test that fails here says that an override can go.
"""

import torch
from tiny_models import make_model, tiny_clips
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
from video_classifiers import save_peer

from tubevit import TubeViTForVideoClassification
from tubevit.training.trainer.joint_trainer import JointTrainer
from tubevit.training.trainer.trainer_overrides import TrainerOverrides
from tubevit.training.trainer.video_trainer import VideoTrainer


CLIPS = [{"pixel_values_videos": clip, "labels": torch.tensor(0)} for clip in tiny_clips(batch=4, dtype=torch.uint8)]


def plain_trainer(folder, callbacks=None, model=None, **options) -> Trainer:
    common = {"per_device_train_batch_size": 1, "use_cpu": True, "disable_tqdm": True, "save_strategy": "steps"}
    common |= {"save_steps": 1, "logging_strategy": "no"}
    arguments = TrainingArguments(output_dir=str(folder), **{**common, **options})
    model = model or make_model(TubeViTForVideoClassification)
    return Trainer(model, arguments, train_dataset=CLIPS, eval_dataset=CLIPS, callbacks=callbacks)


def test_all_overrides_of_private_names_are_in_one_file():
    private = {name for name in vars(Trainer) if name.startswith("_") and not name.startswith("__")}
    assert private & set(vars(TrainerOverrides)) == {
        "_init_training_state",
        "_load_from_checkpoint",
        "_load_best_model",
    }
    overridden = set(vars(VideoTrainer)) | set(vars(JointTrainer))
    assert not overridden & (private | {"get_batch_samples"})


def test_trainer_takes_another_step_after_a_last_checkpoint_within_an_epoch(tmp_path):
    plain_trainer(tmp_path, max_steps=2).train()
    again = plain_trainer(tmp_path, max_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 3


def test_trainer_continues_a_run_that_early_stopping_ended(tmp_path):
    options = {"num_train_epochs": 3, "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    options |= {"metric_for_best_model": "loss", "greater_is_better": False, "learning_rate": 1e-30}
    plain_trainer(tmp_path, [EarlyStoppingCallback(1)], **options).train()
    last = max(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
    assert last < 12
    again = plain_trainer(tmp_path, [EarlyStoppingCallback(1)], **options)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{last}"))
    assert again.state.global_step > last


def test_trainer_does_not_convert_keys_of_checkpoints(tmp_path):
    model, _ = save_peer(tmp_path / "peer", "videomae")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "peer")
    trainer = plain_trainer(tmp_path / "run", model=model)
    expected = {name: each.clone() for name, each in model.state_dict().items()}

    def is_loaded(load) -> bool:
        for parameter in model.parameters():
            parameter.data.zero_()
        load()
        return all(torch.equal(each, expected[name]) for name, each in model.state_dict().items())

    assert not is_loaded(lambda: Trainer._load_from_checkpoint(trainer, str(tmp_path / "peer")))
    trainer.state.best_model_checkpoint = str(tmp_path / "peer")
    assert not is_loaded(lambda: Trainer._load_best_model(trainer))


def test_trainer_counts_the_entries_of_soft_labels(tmp_path):
    """Augmentation of labels after this count would change their number."""
    trainer = plain_trainer(tmp_path)
    hard, soft = {"labels": torch.tensor([0, 1])}, {"labels": torch.eye(2, 5)}
    trainer.model_accepts_loss_kwargs = True
    counts = [trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))[1] for batch in (hard, soft)]
    assert [int(count) for count in counts] == [2, 10]
