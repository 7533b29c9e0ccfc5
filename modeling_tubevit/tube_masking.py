# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Masks of tube tokens for masked pretraining. Ours; the rule is VideoMAE's tube masking ("VideoMAE", NeurIPS 2022), for tubes that
overlap.

Several tubes read the same pixel. If 80 % of the tokens of the main configuration are masked independently of each other, 25 % of
the masked tokens share a pixel with a visible token (66 % with the tubes for Charades), and could partly be copied from it.
Therefore whole columns are masked: the frame is divided into cells as large as the largest stride, and the tokens whose centers
lie in a cell are masked together, in all frames.

The tubes of the main configuration do not cross the borders of these cells. Other tubes may, and the last visible cell is cut off
at the number of visible tokens. A masked token that still shares a pixel with a visible one is not a target of the loss
(`find_targets`), so the encoder sees no pixel of a target. These are 0.3 % of the masked tokens with the main configuration, and
17 % with the tubes for Charades.
"""

import math
from collections.abc import Sequence

import torch
from transformers.utils import torch_compilable_check

from .compile_utils import constant_tables
from .tubes import Size, Tube


def count_visible(num_tokens: int, mask_ratio: float) -> int:
    """
    Number of visible tokens: at least one, and at least one token is masked.

    >>> count_visible(539, 0.8)
    108
    """
    return min(max(num_tokens - round(mask_ratio * num_tokens), 1), num_tokens - 1)


def cell_grid(tubes: tuple[Tube, ...], size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    Rows and columns of a cell in pixels, and the numbers of cells along the two axes of a frame, for a clip of
    `size` = (frames, height, width).

    Raises `ValueError` if there is only one cell.
    """
    rows, columns = (max(tube.stride[axis] for tube in tubes) for axis in (1, 2))
    num_rows, num_columns = -(-size[1] // rows), -(-size[2] // columns)
    if num_rows * num_columns < 2:
        raise ValueError(
            f"Masked pretraining hides columns of {rows}x{columns} pixels, the largest strides of the tubes, and a frame of "
            f"{size[1]}x{size[2]} is one column: use frames larger than {rows}x{columns}, or smaller strides."
        )
    return (rows, columns), (num_rows, num_columns)


def token_cells(settings: tuple, size: Size, device: torch.device | str, *tubes: Tube) -> torch.Tensor:
    """The cell of the center of each token, int64 `(tokens,)`; cells are counted row by row. settings: none."""
    (rows, columns), (_, num_columns) = cell_grid(tubes, size)
    cells = []
    for tube in tubes:
        frames, y, x = (torch.tensor(axis) for axis in tube.centers(size))
        grid = (y // rows).long()[:, None] * num_columns + (x // columns).long()
        cells.append(grid.flatten().repeat(len(frames)))
    return torch.cat(cells).to(device)


cell_table = constant_tables(max_cached=32)(token_cells)


def choose_masked(
    cells: torch.Tensor, cell_noise: torch.Tensor, token_noise: torch.Tensor, mask_ratio: float
) -> torch.Tensor:
    """
    Masks of clips: the cells with the least noise are visible, up to the number of visible tokens.

    cells: `(tokens,)`, of `token_cells`. cell_noise: `(batch, cells)`. token_noise: `(batch, tokens)`, from 0 to 1; it chooses the
    visible tokens of the last visible cell.

    Returns bool `(batch, tokens)`, true for masked tokens; each row has the same number of them.
    """
    ranks = cell_noise.argsort(dim=1).argsort(dim=1)
    order = (ranks[:, cells] + token_noise).argsort(dim=1)
    visible = order[:, : count_visible(len(cells), mask_ratio)]
    return torch.ones_like(token_noise, dtype=torch.bool).scatter(1, visible, False)


def random_masks(
    tokens: torch.Tensor, owner: torch.nn.Module, size: Size, tubes: tuple[Tube, ...], mask_ratio: float
) -> torch.Tensor:
    """
    Masks `(batch, tokens)` from torch's global random numbers, as `choose_masked`.

    tokens: `(batch, ...)`, for the batch size and the device. owner: a module with `table_settings`, for the cache of tables.
    """
    cells, (_, grid) = cell_table(tokens, owner, size, tokens.device, *tubes), cell_grid(tubes, size)
    batch_size, device = tokens.shape[0], tokens.device
    cell_noise = torch.rand(batch_size, grid[0] * grid[1], device=device)
    token_noise = torch.rand(batch_size, cells.shape[0], device=device)
    return choose_masked(cells, cell_noise, token_noise, mask_ratio)


class SeededMasks:
    """
    Masks of clips of `size` = (frames, height, width) that depend on a seed of each clip only.

    tubes: those that tokenize the clips.
    """

    def __init__(self, tubes: tuple[Tube, ...], size: Size, mask_ratio: float):
        self.tubes, self.size, self.mask_ratio = tubes, size, mask_ratio
        self.cells = token_cells((), size, "cpu", *tubes)

    def __call__(self, seeds: Sequence[int]) -> torch.Tensor:
        """bool `(clips, tokens)` on the CPU, true for masked tokens."""
        num_cells, cell_noise, token_noise = math.prod(cell_grid(self.tubes, self.size)[1]), [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            cell_noise.append(torch.rand(num_cells, generator=generator))
            token_noise.append(torch.rand(len(self.cells), generator=generator))
        return choose_masked(self.cells, torch.stack(cell_noise), torch.stack(token_noise), self.mask_ratio)

    @property
    def num_visible(self) -> int:
        """Number of tokens of a clip that are not masked."""
        return count_visible(len(self.cells), self.mask_ratio)

    @property
    def cell_size(self) -> tuple[int, int]:
        """Rows and columns of a cell in pixels."""
        return cell_grid(self.tubes, self.size)[0]

    def fraction_of_targets(self, only_3d: bool = False, num_masks: int = 64) -> float:
        """
        The fraction of the masked tokens that share no pixel with a visible token, over `num_masks` masks.

        only_3d: leave tokens of 2D tubes out of the targets, as `mask_target="differences"` does.
        """
        masks = self(range(num_masks))
        overlaps = _overlaps((), self.size, torch.device("cpu"), *self.tubes)
        targets = masks & ((~masks).float() @ overlaps == 0)
        if only_3d:
            targets = targets & torch.cat(
                [torch.full((tube.num_tokens(self.size),), not tube.is_image_tube) for tube in self.tubes]
            )
        return float(targets.sum() / masks.sum())


def check_masks(
    bool_masked_pos: torch.Tensor, shape: tuple[int, int], num_expected: int, num_visible: int | None = None
) -> int:
    """
    Number of visible tokens of each clip.

    shape: `(batch, tube tokens)`. num_expected: the number that a compiled graph assumes. num_visible: the number that the caller
    states. With it a GPU does not wait: CUDA compares the number with the masks when it reaches the check.

    Raises `ValueError` for masks of another shape, for clips with different numbers of visible tokens, for masks of no or of all
    tokens, and for another `num_visible` than that of the masks; on CUDA the last is a `RuntimeError` of a later call.
    """
    if tuple(bool_masked_pos.shape) != shape:
        raise ValueError(
            f"bool_masked_pos must be (batch, tube tokens) = {shape}, got {tuple(bool_masked_pos.shape)}; CLS and register "
            "tokens are not counted."
        )
    # An exporter with dynamic shapes gives a number that follows from a shape as SymInt.
    is_number = isinstance(num_visible, (int, torch.SymInt)) and not isinstance(num_visible, bool)
    if num_visible is not None and not (is_number and 0 < num_visible < shape[1]):
        raise ValueError(
            f"num_visible_tokens must be a whole number from 1 to {shape[1] - 1}, because a clip has {shape[1]} tube tokens, "
            f"got {num_visible!r}."
        )
    numbers = (~bool_masked_pos).sum(dim=1)
    if torch.compiler.is_compiling():  # the number must be known
        assumed = num_expected if num_visible is None else num_visible
        source = "of mask_ratio" if num_visible is None else "of num_visible_tokens"
        torch_compilable_check(
            (numbers == assumed).all(), f"bool_masked_pos needs the number of masked tokens {source}."
        )
        return assumed
    if num_visible is not None and numbers.device.type == "cuda":
        message = f"bool_masked_pos leaves another number of tokens visible than num_visible_tokens={num_visible}."
        torch._assert_async((numbers == num_visible).all(), message)
        return num_visible
    if num_visible is not None and numbers.device.type == "meta":  # for counting FLOPs; there is nothing to count
        return num_visible
    found = sorted(set(numbers.tolist()))
    if len(found) > 1:
        raise ValueError(
            "Each clip of a batch must have the same number of masked tokens, and bool_masked_pos masks from "
            f"{shape[1] - found[-1]} to {shape[1] - found[0]} of {shape[1]}."
        )
    if not 0 < found[0] < shape[1]:
        raise ValueError(
            f"bool_masked_pos must mask some and not all of the {shape[1]} tokens, and masks {shape[1] - found[0]}."
        )
    if num_visible not in (None, found[0]):
        raise ValueError(f"num_visible_tokens={num_visible}, but bool_masked_pos leaves {found[0]} tokens visible.")
    return found[0]


def split_tokens(bool_masked_pos: torch.Tensor, num_visible: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Indices of the visible tokens `(batch, num_visible)` and of the masked ones `(batch, tokens - num_visible)`, ascending.

    bool_masked_pos: `(batch, tokens)`, with `num_visible` visible tokens in each row.
    """
    order = bool_masked_pos.to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, :num_visible], order[:, num_visible:]


def select_tokens(tokens: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """
    The tokens at `indices` `(batch, n)`: `(batch, n, channels)`.

    tokens: `(batch, tokens, channels)`, or `(tokens, channels)` for all clips.
    """
    if tokens.dim() == 2:
        return tokens[indices]
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))


def find_targets(
    bool_masked_pos: torch.Tensor, owner: torch.nn.Module, size: Size, tubes: tuple[Tube, ...]
) -> torch.Tensor:
    """
    The masked tokens that share no pixel with a visible token of their clip, bool `(batch, tokens)`.

    owner: a module with `table_settings`, for the cache of tables.
    """
    overlaps = overlap_table(bool_masked_pos, owner, size, bool_masked_pos.device, *tubes)
    visible = (~bool_masked_pos).to(overlaps.dtype)
    return bool_masked_pos & (visible @ overlaps == 0)


def _overlaps(settings: tuple, size: Size, device: torch.device, *tubes: Tube) -> torch.Tensor:
    """
    Whether two tokens read a common pixel of a clip of `size`: `(tokens, tokens)`, float32 0 or 1.

    The pixels of a token are a product of the frames, rows and columns that it reads, also with space-to-depth. So two tokens have
    a common pixel if they have a common frame, row and column.
    """
    reads = [[_indices_read(tube, size, axis) for axis in range(3)] for tube in tubes]
    rows = []
    for one in reads:
        blocks = []
        for other in reads:
            block = torch.ones(1, 1)
            for mine, theirs in zip(one, other, strict=True):
                block = torch.kron(block, (mine @ theirs.T > 0).float())
            blocks.append(block)
        rows.append(torch.cat(blocks, dim=1))
    return torch.cat(rows).to(device)


overlap_table = constant_tables(max_cached=8)(_overlaps)


def _indices_read(tube: Tube, size: Size, axis: int) -> torch.Tensor:
    """Whether a token of a tube reads an index of an axis: `(tokens along the axis, indices)`, float32 0 or 1."""
    table = torch.zeros(tube.grid(size)[axis], size[axis])
    for application in range(tube.kernel_grid(size)[axis]):
        start = tube.offset[axis] + application * tube.kernel_stride[axis]
        table[application // tube.space_to_depth[axis], start : start + tube.kernel_size[axis]] = 1
    return table
