"""Disk space that checkpoints need."""

import shutil
from types import SimpleNamespace

import pytest

from tubevit.training.trainer.checkpointing import check_disk_space, count_checkpoints
from tubevit.training.trainer.training_arguments import VideoTrainingArguments


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"num_train_epochs": 20, "save_total_limit": None}, 20),
        ({"num_train_epochs": 20, "save_total_limit": 2}, 3),
        ({"num_train_epochs": 1, "save_total_limit": 2}, 1),
        ({"num_train_epochs": 2.5, "save_total_limit": None}, 3),
        ({"max_steps": 25, "save_total_limit": None}, 5),  # 5 steps per epoch
        ({"max_steps": 25, "save_strategy": "steps", "save_steps": 2, "save_total_limit": None}, 13),
        ({"max_steps": 25, "save_strategy": "steps", "save_steps": 0.1, "save_total_limit": None}, 9),  # every 3 steps
        ({"num_train_epochs": 4, "save_strategy": "best", "save_total_limit": None}, 4),
    ],
)
def test_checkpoints_on_the_disk_at_one_time(options, number):
    training = VideoTrainingArguments(
        use_cpu=True, gradient_accumulation_steps=2, load_best_model_at_end=False, **options
    )
    assert count_checkpoints(training, batches_per_epoch=10) == number


def test_all_checkpoints_need_room(tmp_path, monkeypatch):
    free = 4 * 3 * 1000 * 10  # ten checkpoints of 1,000 trained weights and two states of each
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    check_disk_space(tmp_path, 1000, 1000, 10)
    with pytest.raises(OSError, match=r"11 checkpoints need .* lower save_total_limit"):
        check_disk_space(tmp_path, 1000, 1000, 11)
