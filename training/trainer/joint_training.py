# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit train` with `datasets`: one model on videos and images of several data sets (section 3.5).

    tubevit train --config joint-small datasets.videos.data=path/to/videos datasets.images.data=path/to/images

Each batch is of one data set, drawn by weight. In the end there are the joint model, and in a folder for each data set a plain
classifier of it with its evaluation, which pipelines load.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .run_config import JointRun


if TYPE_CHECKING:
    from .build_joint import JointSetup
    from .joint_trainer import JointTrainer


def train_jointly(run: JointRun, dry_run: bool = False) -> int:
    """Train as `run` says. With `dry_run` all is checked, and a batch of each data set goes forward and backward."""
    from accelerate import PartialState

    from .build_joint import MEAN_SCORE, build_joint_run
    from .hub import push
    from .joint_model_card import write_joint_card
    from .joint_summary import describe_inputs, joint_summary
    from .joint_trainer import JointTrainer
    from .run_steps import begin_or_resume, claim_folder, finish

    with ExitStack() as stack:
        folder = claim_folder(run, dry_run, stack, list(map(run.report_of, run.names)))
        setup = build_joint_run(run, folder)
        arguments = run.training.for_trainer(setup.validation_clips is not None, MEAN_SCORE)
        inputs = describe_inputs(setup)
        is_main = PartialState().is_main_process
        if is_main:
            print("\n".join(setup.notes))
            print(joint_summary(setup, arguments.world_size, arguments.device.type, inputs), flush=True)
        trainer = JointTrainer(setup, arguments, {name: 1e9 * each["gflops"] for name, each in inputs.items()})
        if dry_run:
            try_each_data_set(trainer)
            return 0
        checkpoint = begin_or_resume(setup, folder, arguments)
        result = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        finish(trainer, folder, result)
    exit_code = save_and_evaluate(setup, folder)
    if is_main:
        write_joint_card(folder, setup, trainer.state.log_history)
        if run.training.push_to_hub:
            push(folder, arguments)
    return exit_code


def try_each_data_set(trainer: "JointTrainer") -> None:
    """The first batch of each data set, forward and backward."""
    import torch

    trainer.create_optimizer()
    model = trainer.accelerator.prepare(trainer.model)
    for name, size in trainer.setup.batch_sizes.items():
        samples = [trainer.train_dataset[index] for index in trainer.joint_batches.rows[name][0:size]]
        batches, _ = trainer.get_batch_samples(iter([trainer.data_collator(samples)]), 1, trainer.args.device)
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(model, batches[0])
        if not torch.isfinite(loss):
            raise ValueError(f"datasets.{name}: the loss of the first batch is {loss.item()}.")
        print(f"Dry run: the loss of the first batch of {name} is {loss.item():.4f}.")
    print("Nothing was written.")


def save_and_evaluate(setup: "JointSetup", folder: Path) -> int:
    """
    Split the saved model into a classifier for each data set, and score each by `tubevit eval`, whatever comes of the others.
    Returns the first exit code that is not 0.
    """
    from accelerate import PartialState

    from ..models.build_joint import save_classifiers
    from .run_steps import evaluate_saved

    state = PartialState()
    if state.is_main_process:
        save_classifiers(setup.model, folder)
    state.wait_for_everyone()
    exit_code = 0
    for name, part in setup.parts.items():
        if "validation" in part.data.splits:
            if state.is_main_process:
                print(f"Evaluating {name}:", flush=True)
            own_code = evaluate_saved(part.run, folder / name)
            exit_code = exit_code or own_code
    return exit_code
