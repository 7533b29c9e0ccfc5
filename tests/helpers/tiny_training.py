"""A few Trainer steps on random clips, in this process or under torchrun in several.

`torchrun --nproc-per-node 2 tests/helpers/tiny_training.py OUT BATCH ACCUMULATION` writes the weights `OUT/KIND.pt` for each kind of
labels, and those of `train_uniformerv2` for each of `DESIGNS`.
"""

import sys
import tempfile
from pathlib import Path

import torch
from random_weights import randomize
from tiny_models import make_model, tiny_clips
from transformers import Trainer, TrainingArguments

from tubevit import TubeViTForVideoClassification, UniFormerV2Config, UniFormerV2ForVideoClassification
from tubevit.training.models.batch_norm import StatisticsOfForward, synchronize_batch_norms


KINDS = ["hard", "soft", "multi-hot"]
NUM_SAMPLES, SAMPLES_PER_STEP = 24, 8


def samples(kind: str) -> list[dict]:
    """Clips with labels. Some hard labels are -100, so that the parts of a batch have different numbers of labels."""
    generator = torch.Generator().manual_seed(1)
    clips = tiny_clips(batch=NUM_SAMPLES, dtype=torch.uint8)
    if kind == "hard":
        labels = torch.randint(0, 5, (NUM_SAMPLES,), generator=generator)
        labels[[1, 2, 9]] = -100
    elif kind == "soft":
        labels = torch.rand(NUM_SAMPLES, 5, generator=generator).mul(3).softmax(-1)
    else:
        labels = torch.randint(0, 2, (NUM_SAMPLES, 5), generator=generator).float()
    return [{"pixel_values_videos": clip, "labels": label} for clip, label in zip(clips, labels, strict=True)]


def train(kind: str, batch_size: int, accumulation: int) -> dict[str, torch.Tensor]:
    """Three SGD steps of eight samples each, for any split into batches. Returns the weights."""
    problem_type = "multi_label_classification" if kind == "multi-hot" else None
    model = make_model(TubeViTForVideoClassification, problem_type=problem_type)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=1,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0,
            train_sampling_strategy="sequential",
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(model, arguments, train_dataset=samples(kind))
        trainer.train()
    assert trainer.state.global_step == NUM_SAMPLES // SAMPLES_PER_STEP
    assert model.config.problem_type == problem_type
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


DESIGNS = {  # of UniFormerV2, and whether the batch norms of several processes are synchronized
    "global": ({}, False),
    "full": ({"num_local_blocks": 2, "temporal_downsampling": True}, True),
    "full-separate": ({"num_local_blocks": 2, "temporal_downsampling": True}, False),
}


def train_uniformerv2(name: str, accumulation: int = 1, checkpointing: bool = False) -> dict[str, torch.Tensor]:
    """Three SGD steps of eight samples each of a design, without dropout; DDP if there are several processes. Returns the state."""
    fields, is_synchronized = DESIGNS[name]
    config = UniFormerV2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8, num_labels=5,
        global_dropout=0.0, classifier_dropout=0.0, **fields,
    )  # fmt: skip
    plain = model = randomize(UniFormerV2ForVideoClassification(config))
    rank, num_ranks = 0, 1
    if torch.distributed.is_initialized():
        rank, num_ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if is_synchronized:
            synchronize_batch_norms(plain, "cpu")
        model = torch.nn.parallel.DistributedDataParallel(plain)
    if checkpointing:
        plain.gradient_checkpointing_enable()
    model.train()
    statistics = StatisticsOfForward(plain)
    optimizer, data = torch.optim.SGD(plain.parameters(), lr=0.05), samples("soft")
    for start in range(0, NUM_SAMPLES, SAMPLES_PER_STEP):
        own = data[start : start + SAMPLES_PER_STEP][rank::num_ranks]
        for part in range(accumulation):
            batch = {key: torch.stack([sample[key] for sample in own[part::accumulation]]) for key in own[0]}
            loss = model(**batch).loss / accumulation
            statistics.save()
            loss.backward()
            statistics.restore()
        optimizer.step()
        optimizer.zero_grad()
    return {key: each.detach().clone() for key, each in plain.state_dict().items()}


def main() -> None:
    out, batch_size, accumulation = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for kind in KINDS:
        weights = train(kind, batch_size, accumulation)
        assert torch.distributed.get_world_size() == 2
        if torch.distributed.get_rank() == 0:
            torch.save(weights, out / f"{kind}.pt")
    for name in DESIGNS:
        state = train_uniformerv2(name)
        if torch.distributed.get_rank() == 0:
            torch.save(state, out / f"{name}.pt")


if __name__ == "__main__":
    main()
