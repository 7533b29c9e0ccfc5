"""Models with random values in all weights: as built, added branches are zero, and a test on them sees nothing."""

import torch


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The model with random weights, biases and BatchNorm statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.3
            center = 1.0 if tensor.dim() == 1 and name.endswith("weight") else 0.0
            values = 0.5 + values.abs() if name.endswith("running_var") else center + scale * values
            tensor.copy_(values)
    return model.eval()
