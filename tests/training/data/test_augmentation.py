"""Augmentation: random parameters per clip and seed, mixup and CutMix equal references, labels of flipped clips."""

import math
import pickle
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from tiny_models import make_model, tiny_clips
from torchvision.transforms import v2

from tubevit import TubeViTForVideoClassification
from tubevit.training.data import augmentation
from tubevit.training.data.augmentation import (
    TIMM_OPERATIONS,
    AugmentationConfig,
    BatchAugmentation,
    ClipAugmentation,
    flipped_labels,
    mix_pixels,
    soften_labels,
)
from tubevit.training.data.rng import SharedEpoch, fork_rng, sample_seed


MEAN = [0.5, 0.4, 0.3]
NOTHING = {"rand_augment_layers": 0}
SIDES = ["moving left", "moving right", "falling"]


def a_batch(labels: list, **clips) -> dict:
    pixels = tiny_clips(batch=len(labels), dtype=torch.uint8, **clips)
    seeds = torch.arange(len(labels)) + 7
    return {"pixel_values_videos": pixels, "labels": torch.tensor(labels), "sample_seeds": seeds}


def batch_augmentation(multi_label: bool = False, **config) -> BatchAugmentation:
    return BatchAugmentation(AugmentationConfig(**{**NOTHING, **config}), 5, multi_label, MEAN)


def test_random_parameters_are_the_same_for_all_frames():
    augment = ClipAugmentation(AugmentationConfig(random_erasing_prob=0.5), [127, 102, 76])
    frame = tiny_clips(batch=1, frames=1, size=24, dtype=torch.uint8)[0]
    changed = 0
    for seed in range(60):
        clip = augment(frame.expand(6, -1, -1, -1).clone(), seed)
        assert clip.dtype == torch.uint8 and clip.shape == (6, 3, 24, 24)
        assert all(torch.equal(each, clip[0]) for each in clip)
        changed += not torch.equal(clip[0], frame[0])
    assert changed > 40


def test_random_parameters_depend_only_on_the_seed():
    augment = ClipAugmentation(AugmentationConfig(random_erasing_prob=0.5), [127, 102, 76])
    clip = tiny_clips(batch=1, size=24, dtype=torch.uint8)[0]
    torch.manual_seed(0)
    first = augment(clip, 3)
    torch.rand(100)
    assert torch.equal(augment(clip, 3), first)
    assert any(not torch.equal(augment(clip, seed), first) for seed in range(4, 9))


def test_erasing_is_independent_of_flipping():
    augment = ClipAugmentation(AugmentationConfig(**NOTHING, random_erasing_prob=0.5), [127, 102, 76])
    clip, number = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 800
    mirrored, erased = [], []
    for seed in (sample_seed(0, 0, str(index)) for index in range(number)):
        with fork_rng(seed):  # the first random number of `RandomClipReader`
            mirrored.append(bool(torch.rand(()) < 0.5))
        erased.append(bool(augment(clip, seed).any()))
    correlation = np.corrcoef(mirrored, erased)[0, 1]
    assert abs(correlation) < 4.5 / number**0.5


def test_global_generator_is_not_advanced():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    found = [torch.rand(1)]
    with fork_rng(1):
        torch.rand(10)
    found.append(torch.rand(1))
    with pytest.raises(KeyError), fork_rng(2):
        raise KeyError
    found.append(torch.rand(2))
    assert torch.equal(torch.cat(found), expected)


def test_seeds_differ_by_seed_epoch_and_video():
    seeds = {sample_seed(seed, epoch, name) for seed in range(3) for epoch in range(3) for name in ("a", "b", "0/a")}
    assert len(seeds) == 27 and all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(1, 2, "clip.mp4") == 4341163657857974960  # the same on every machine and in every release


PIL_OPERATIONS = {  # as in timm, at a level from 0 to 1; `sign` is that of the random change
    "AutoContrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, sign: ImageOps.equalize(image),
    "Invert": lambda image, level, sign: ImageOps.invert(image),
    "PosterizeIncreasing": lambda image, level, sign: (
        ImageOps.posterize(image, 4 - int(4 * level)) if level < 1 else image.point(lambda value: 0)
    ),
    "SolarizeIncreasing": lambda image, level, sign: ImageOps.solarize(image, 256 - int(256 * level)),
    "SolarizeAdd": lambda image, level, sign: image.point(
        lambda value: min(255, value + int(110 * level)) if value < 128 else value
    ),
    **{
        f"{name}Increasing": lambda image, level, sign, name=name: getattr(ImageEnhance, name)(image).enhance(
            max(0.1, 1 + sign * 0.9 * level)
        )
        for name in ("Color", "Contrast", "Brightness", "Sharpness")
    },
    "TranslateXRel": lambda image, level, sign: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, -sign * 0.45 * level * image.width, 0, 1, 0), fillcolor=(9, 8, 7)
    ),
    "TranslateYRel": lambda image, level, sign: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -sign * 0.45 * level * image.height), fillcolor=(9, 8, 7)
    ),
}


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", sorted(PIL_OPERATIONS))
def test_operations_of_timms_rand_augment_equal_those_of_pil(name, level):
    frame = tiny_clips(batch=1, frames=1, size=40, dtype=torch.uint8)[0]
    clip, signs = torch.cat((frame, frame // 2)), set()
    for seed in range(6):
        with fork_rng(seed):
            found = TIMM_OPERATIONS[name](clip, level, [9, 8, 7])
        expected = {
            sign: torch.stack([
                v2.functional.pil_to_tensor(PIL_OPERATIONS[name](v2.functional.to_pil_image(each), level, sign)) for each in clip
            ])
            for sign in (1, -1)
        }  # fmt: skip
        near = [sign for sign, other in expected.items() if (found.int() - other.int()).abs().max() <= 1]
        assert near and found.dtype == torch.uint8 and found.shape == clip.shape
        signs |= set(near)
    assert signs == {1, -1}


@pytest.mark.parametrize(("name", "moved"), [("Rotate", 0.5), ("ShearX", 0.3), ("ShearY", 0.3)])
def test_rotations_and_shears_of_timms_rand_augment_are_as_large_as_in_timm(name, moved):
    """A vertical line (ShearY: a horizontal one) leans by 0.3 or, in 30 degrees, by tan 30 in proportion to the level."""
    size, slope = 101, math.tan(math.radians(30)) if name == "Rotate" else moved
    clip = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    clip[..., size // 2] = 255
    with fork_rng(0):
        picture = TIMM_OPERATIONS[name](clip.mT if name == "ShearY" else clip, 0.5, [0, 0, 0])[0, 0].double()
    picture = picture.T if name == "ShearY" else picture
    rows = torch.arange(20, 80)
    centers = (picture[rows] * torch.arange(size)).sum(1) / picture[rows].sum(1)
    leaning = abs(float((centers[-1] - centers[0]) / (rows[-1] - rows[0])))
    expected = math.tan(math.radians(15)) if name == "Rotate" else slope / 2
    assert leaning == pytest.approx(expected, abs=0.02)


def test_timms_rand_augment_applies_half_of_the_operations_with_noise_on_their_magnitude(monkeypatch):
    levels = []
    monkeypatch.setattr(augmentation, "TIMM_OPERATIONS", {"a": lambda clip, level, fill: levels.append(level) or clip})
    config = {"rand_augment_layers": 4, "rand_augment_magnitude": 7, "rand_augment_magnitude_std": 0.5}
    augment = ClipAugmentation(AugmentationConfig(**config, rand_augment_space="timm"), [0, 0, 0])
    for seed in range(500):
        augment(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), seed)
    assert len(levels) / 2000 == pytest.approx(0.5, abs=0.05)
    assert np.mean(levels) == pytest.approx(0.7, abs=0.01) and np.std(levels) == pytest.approx(0.05, abs=0.005)
    with pytest.raises(
        ValueError, match="rand_augment_magnitude must be at most 10 with rand_augment_space=timm, got 11"
    ):
        AugmentationConfig(rand_augment_magnitude=11, rand_augment_space="timm")
    with pytest.raises(ValueError, match=r"rand_augment_magnitude_std=0\.5 needs rand_augment_space=timm"):
        AugmentationConfig(rand_augment_magnitude_std=0.5)


def test_colors_are_jittered_and_dropped_with_their_probabilities():
    config = AugmentationConfig(
        **NOTHING, color_jitter=0.4, color_jitter_hue=0.2, color_jitter_prob=0.8, grayscale_prob=0.1
    )
    augment, frame = (
        ClipAugmentation(config, [0, 0, 0]),
        torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None],
    )
    clip, unchanged, gray = frame.expand(2, 3, 4, 4).contiguous(), 0, 0
    for seed in range(600):
        found = augment(clip, seed)
        assert torch.equal(found[0], found[1])
        is_gray = bool((found[0, 0] == found[0, 1]).all() and (found[0, 0] == found[0, 2]).all())
        gray, unchanged = gray + is_gray, unchanged + torch.equal(found, clip)
    assert gray / 600 == pytest.approx(0.1, abs=0.05) and unchanged / 600 == pytest.approx(0.18, abs=0.06)


SPACES = {
    "torchvision": {"rand_augment_layers": 3, "rand_augment_magnitude": 21},
    "timm": {"rand_augment_space": "timm", "rand_augment_layers": 6, "rand_augment_magnitude_std": 0.5},
}


@pytest.mark.parametrize("shape", [(9, 3, 19, 22), (3, 18, 17)], ids=["clip", "image"])
@pytest.mark.parametrize("space", SPACES)
def test_fast_operations_equal_those_of_torchvision_bit_for_bit(space, shape, monkeypatch):
    augment = ClipAugmentation(AugmentationConfig(**SPACES[space], random_erasing_prob=0.2), [127, 102, 76])
    rng = np.random.default_rng(0)
    clips = [torch.from_numpy(rng.integers(20, 230, shape, dtype=np.uint8))]
    clips += [clips[0].mT.contiguous().mT, clips[0][..., :1].expand(shape), torch.full(shape, 200, dtype=torch.uint8)]
    copies = [clip.clone() for clip in clips]
    cases = [(clip, seed) for clip in clips for seed in range(30)]
    found = [augment(clip, seed) for clip, seed in cases]
    monkeypatch.setattr(augmentation, "as_clip", lambda clip: clip)
    for (clip, seed), pixels in zip(cases, found, strict=True):
        expected = augment(clip, seed)
        assert type(pixels) is torch.Tensor and torch.equal(pixels, expected), seed
    assert all(torch.equal(clip, copy) for clip, copy in zip(clips, copies, strict=True))


def test_erased_pixels_get_the_mean_color():
    augment = batch_augmentation(random_erasing_prob=1.0)
    batch = a_batch([1], size=32)
    batch["pixel_values_videos"] = torch.full_like(batch["pixel_values_videos"], 255)
    pixels = augment(batch)["pixel_values_videos"][0]
    erased = (pixels != 255).any(dim=1)
    assert erased.any() and (erased == erased[0]).all()
    assert pixels.permute(0, 2, 3, 1)[erased].unique(dim=0).tolist() == [[128, 102, 76]]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("num_frames", [1, 8, 11])
def test_mixing_clips_equals_mixing_each_frame(kind, num_frames):
    mixer = {"mixup": v2.MixUp(alpha=0.8), "cutmix": v2.CutMix(alpha=1.0)}[kind]
    clips = tiny_clips(batch=3, frames=num_frames, size=16, dtype=torch.uint8)
    with fork_rng(11):
        params = mixer.make_params([clips])
    mixed = mix_pixels(clips, mixer, params)
    others = np.roll(clips.double().numpy(), 1, axis=0)
    if kind == "mixup":
        expected = np.round(params["lam"] * clips.double().numpy() + (1 - params["lam"]) * others)
    else:
        left, top, right, bottom = params["box"]
        expected = clips.double().numpy()
        expected[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    assert mixed.dtype == torch.uint8 and np.abs(mixed.numpy() - expected).max() <= (kind == "mixup")
    images = mix_pixels(clips[:, 0], mixer, params)  # an image is a clip of one frame
    assert torch.equal(images, mixed[:, 0])


@pytest.mark.parametrize(
    "config", [{"mixup_alpha": 0.5}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0}]
)
def test_mixed_labels_equal_the_pixel_fractions(config):
    batch = a_batch([0, 3, 1, 4])
    batch["pixel_values_videos"] = (
        torch.tensor([0, 255, 0, 255], dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 8, 3, 16, 16)
    )
    mixed = batch_augmentation(**config)(batch)
    assert set(mixed) == {"pixel_values_videos", "labels"} and mixed["labels"].shape == (4, 5)
    torch.testing.assert_close(mixed["labels"].sum(-1), torch.ones(4))
    brightness = mixed["pixel_values_videos"].float().mean((1, 2, 3, 4)) / 255
    torch.testing.assert_close(mixed["labels"][:, [3, 4]].sum(-1), brightness, atol=2e-3, rtol=0)
    assert 0 < brightness[0] < 1


def test_batches_use_mixup_or_cutmix_or_neither():
    augment = batch_augmentation(mixup_alpha=1.0, cutmix_alpha=1.0, mixup_prob=0.7)
    kinds = set()
    for number in range(40):
        batch = a_batch([0, 1]) | {"sample_seeds": torch.tensor([number, 1])}
        batch["pixel_values_videos"] = (
            torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1, 1).expand(2, 8, 3, 16, 16)
        )
        values = augment(batch)["pixel_values_videos"][0].unique().tolist()
        kinds.add("none" if values == [0] else "cutmix" if set(values) <= {0, 255} else "mixup")
    assert kinds == {"none", "cutmix", "mixup"}


def test_mixing_depends_on_the_sample_seeds():
    augment = batch_augmentation(mixup_alpha=1.0)
    first, again = augment(a_batch([0, 1, 2])), augment(a_batch([0, 1, 2]))
    assert torch.equal(first["pixel_values_videos"], again["pixel_values_videos"])
    other = augment(a_batch([0, 1, 2]) | {"sample_seeds": torch.tensor([1, 2, 3])})
    assert not torch.equal(first["labels"], other["labels"])


def test_a_batch_is_not_changed_in_place():
    batch = a_batch([0, 1])
    before = batch["pixel_values_videos"].clone()
    batch_augmentation(mixup_alpha=1.0, random_erasing_prob=1.0, rand_augment_layers=2)(batch)
    assert torch.equal(batch["pixel_values_videos"], before) and "sample_seeds" in batch


@pytest.mark.parametrize("labels", [[0, -100, 2, -100], [-100, -100, 2, -100], [-100] * 4])
def test_unreadable_videos_are_not_augmented_or_mixed(labels):
    batch = a_batch(labels)
    bad = [index for index, label in enumerate(labels) if label == -100]
    batch["pixel_values_videos"][bad] = 0
    mixed = batch_augmentation(mixup_alpha=1.0, label_smoothing=0.1, random_erasing_prob=1.0, rand_augment_layers=2)(
        batch
    )
    assert not mixed["pixel_values_videos"][bad].any()
    assert (mixed["labels"][bad] == -100).all()
    good = [index for index in range(4) if index not in bad]
    torch.testing.assert_close(mixed["labels"][good].sum(-1), torch.ones(len(good)))
    assert mixed["pixel_values_videos"][good].bool().all((1, 2, 3, 4)).numel() == len(good)


def test_label_smoothing():
    assert soften_labels(torch.tensor([1, -100]), 4, 0.2).tolist() == [
        pytest.approx([0.05, 0.85, 0.05, 0.05]),
        [-100.0] * 4,
    ]
    multi_hot = torch.tensor([[1.0, 0, 0], [-100, -100, -100]])
    assert soften_labels(multi_hot, 3, 0.2).tolist() == [pytest.approx([0.9, 0.1, 0.1]), [-100.0] * 3]


def test_hard_labels_stay_hard_without_mixing_and_smoothing():
    labels = batch_augmentation(rand_augment_layers=1)(a_batch([3, 1]))["labels"]
    assert labels.tolist() == [3, 1] and labels.dtype == torch.int64


@pytest.mark.parametrize("config", [{}, {"label_smoothing": 0.1}])
def test_loss_ignores_unreadable_videos(config):
    model = make_model(TubeViTForVideoClassification)
    augment = batch_augmentation(**config)
    whole = augment(a_batch([0, -100, 2]))
    rest = {name: tensor[[0, 2]] for name, tensor in whole.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**whole).loss, model(**rest).loss)
        nothing = augment(a_batch([-100, -100]))
        assert model(**nothing).loss == 0
        assert model(**nothing, num_items_in_batch=torch.tensor(0)).loss == 0
    assert model.config.problem_type is None


def test_flip_pairs_by_class_names():
    assert flipped_labels("auto", SIDES) is None and flipped_labels("off", ["a"]) is None
    assert flipped_labels("auto", ["a", "b"]) == {} and flipped_labels("on", SIDES) == {}
    assert flipped_labels("swap_labels", SIDES) == {0: 1, 1: 0}


def test_shared_epoch_is_shared_with_pickled_copies():
    epoch = SharedEpoch()
    copy = pickle.loads(ForkingPickler.dumps(epoch))
    epoch.value = 4
    assert copy.value == 4


NUMBERS = [each.name for each in fields(AugmentationConfig) if each.name != "flip"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rrc_scale_min": 0.0},
        {"rrc_ratio_max": 0.5},
        {"flip": "yes"},
        {"rand_augment_layers": -1},
        {"rand_augment_magnitude": 31},
        {"rand_augment_space": "pil"},
        {"scale_jitter_min": 0.9},
        {"scale_jitter_min": 1.2, "scale_jitter_max": 1.0},
        {"rrc_scale_min": 0.5, "scale_jitter_min": 0.9, "scale_jitter_max": 1.3},
        {"rrc_ratio_max": 2.0, "scale_jitter_min": 0.9, "scale_jitter_max": 1.3},
        {"color_jitter_prob": 0.5},
        {"min_temporal_span": 0},
        {"min_temporal_span": 1.1},
        {"random_erasing_prob": 1.5},
        {"mixup_alpha": -0.1},
        {"label_smoothing": 2.0},
        *({name: value} for name in NUMBERS for value in (math.nan, math.inf, -math.inf, -5)),
    ],
)
def test_invalid_settings_raise_with_their_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentationConfig(**wrong)


def test_label_smoothing_of_label_groups_stays_within_a_group():
    soft = soften_labels(torch.tensor([[1, 4], [-100, -100]]), 5, 0.3, {"noun": 3, "verb": 2})
    assert soft[0].tolist() == pytest.approx([0.1, 0.8, 0.1, 0.15, 0.85]) and soft[1].tolist() == [-100.0] * 5
    labels = torch.tensor([[0, 3], [2, 4], [-100, -100]])
    augment = BatchAugmentation(
        AugmentationConfig(mixup_alpha=0.5, rand_augment_layers=0), 5, False, MEAN, {"noun": 3, "verb": 2}
    )
    batch = {"pixel_values_videos": torch.zeros(3, 2, 3, 8, 8, dtype=torch.uint8), "labels": labels}
    mixed = augment({**batch, "sample_seeds": torch.arange(3)})["labels"]
    weight = mixed[0, 0]
    assert 0 < weight < 1 and torch.allclose(
        mixed[0], torch.stack([weight, torch.tensor(0.0), 1 - weight, weight, 1 - weight])
    )
    assert mixed[2].tolist() == [-100.0] * 5
