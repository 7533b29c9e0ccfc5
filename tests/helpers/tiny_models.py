"""Tiny TubeViT models for tests: the code paths of the real sizes in milliseconds."""

import torch

from tubevit import TubeViTConfig


# A 3D tube, a longer and narrower 3D tube with an offset, and a 2D tube. All fit 8 frames of 16x16.
TINY_TUBES = [
    {"kernel_size": [4, 4, 4], "stride": [4, 8, 8]},
    {"kernel_size": [5, 2, 2], "stride": [2, 8, 8], "offset": [1, 2, 2]},
    {"kernel_size": [1, 8, 8], "stride": [8, 8, 8]},
]


def tiny_config(**overrides) -> TubeViTConfig:
    values = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "image_size": 16,
        "num_frames": 8,
        "tubes": TINY_TUBES,
        "num_labels": 5,
        "initializer_range": 0.2,  # large enough for clearly different logits
    }
    return TubeViTConfig(**{**values, **overrides})


def tiny_clips(batch: int = 2, frames: int = 8, size: int = 16, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    """Random clips `(batch, frames, 3, size, size)`; uint8 values cover 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, frames, 3, size, size)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=dtype, generator=generator)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def make_model(model_class, config=None, seed: int = 0, **overrides):
    """A model in eval mode with seeded random weights; noise makes every parameter nonzero, biases too."""
    torch.manual_seed(seed)
    model = model_class(config or tiny_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model
