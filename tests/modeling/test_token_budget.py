"""Laws of token budgets: the choice of strides, and a model that tokenizes with them."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import make_model, tiny_clips

from tubevit import TubeViTForVideoClassification, TubeViTModel
from tubevit.token_budget import tubes_for_budget
from tubevit.tubes import MAIN_TUBES, Tube


SIZE = (32, 224, 224)
MAIN = tuple(Tube.from_dict(values) for values in MAIN_TUBES)
MERGED = (Tube((8, 8, 8), (16, 32, 32), (0, 0, 0), (2, 1, 1)), Tube((16, 4, 4), (6, 32, 32), (4, 8, 8), (1, 2, 2)))
ODD = (Tube((3, 5, 7), (2, 9, 11), (1, 0, 3)),)
DENSE = (Tube((2, 16, 16), (2, 16, 16)),)


def total(tubes):
    return sum(tube.num_tokens(SIZE) for tube in tubes)


@pytest.mark.parametrize("tubes", [MAIN, MERGED, ODD, DENSE], ids=["main", "space-to-depth", "odd", "dense"])
@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.25, 0.07])
def test_tubes_for_a_budget_fill_it_inside_their_volume(tubes, fraction):
    budget = int(fraction * total(tubes))
    coarser = tubes_for_budget(tubes, SIZE, budget)
    assert 0.96 * budget - 1 <= total(coarser) <= budget
    for old, new in zip(tubes, coarser, strict=True):
        assert (new.kernel_size, new.space_to_depth) == (old.kernel_size, old.space_to_depth)
        merged = zip(new.grid(SIZE), new.space_to_depth, strict=True)
        assert new.kernel_grid(SIZE) == tuple(count * factor for count, factor in merged)
        for wide, narrow in zip(new.centers(SIZE), old.centers(SIZE), strict=True):
            assert wide and len(wide) <= len(narrow)
            if old.num_merged == 1:
                assert narrow[0] <= wide[0] and wide[-1] <= narrow[-1]
        for axis in range(3):
            assert is_centered(old, new, axis)


def is_centered(old, new, axis):
    """
    Whether the tokens leave out as much of the start as of the end, up to one pixel, or begin as early as their number allows: a pixel
    earlier, another token would fit.
    """
    spans = [(tube.kernel_grid(SIZE)[axis] - 1) * tube.kernel_stride[axis] for tube in (old, new)]
    shift = new.offset[axis] - old.offset[axis]
    earlier = replace(new, offset=tuple(value - (index == axis) for index, value in enumerate(new.offset)))
    return abs(spans[0] - spans[1] - 2 * shift) <= 1 or earlier.grid(SIZE)[axis] > new.grid(SIZE)[axis]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(("stride", "offset"), [(6, 0), (12, 5), (18, 1)])
def test_every_number_of_tokens_of_a_tube_is_found(axis, factor, stride, offset):
    """Also with space-to-depth, where the last token of the full tube may merge fewer kernel applications."""

    def on_axis(value, other):
        return tuple(value if index == axis else other for index in range(3))

    for size in (SIZE, (41, 97, 100)):
        kernel = tuple(4 if index == axis else size[index] for index in range(3))  # one token along the other axes
        tube = Tube(kernel, on_axis(stride, 1), on_axis(offset, 0), on_axis(factor, 1))
        for number in range(1, tube.num_tokens(size)):
            (coarser,) = tubes_for_budget((tube,), size, number)
            assert coarser.grid(size)[axis] == coarser.num_tokens(size) == number
            assert coarser.kernel_grid(size)[axis] == number * factor  # none is outside of the clip


def test_tubes_are_thinned_evenly():
    coarser = tubes_for_budget(MAIN, SIZE, 270)
    assert total(coarser) == 270
    for old, new in zip(MAIN, coarser, strict=True):
        assert 0.3 < new.num_tokens(SIZE) / old.num_tokens(SIZE) < 0.75


def test_largest_and_smallest_budget():
    assert tubes_for_budget(MAIN, SIZE, 539) == tubes_for_budget(MAIN, SIZE, 10**6) == MAIN
    smallest = tubes_for_budget(MAIN, SIZE, 4)
    assert [tube.num_tokens(SIZE) for tube in smallest] == [1] * 4
    with pytest.raises(
        ValueError, match=r"token_budget=3 is too small .* smallest possible budget of its 4 tubes is 4"
    ):
        tubes_for_budget(MAIN, SIZE, 3)
    assert tubes_for_budget(MAIN, SIZE, np.int64(4)) == smallest
    for wrong in (2.5, 4.0, True, "4", [4]):  # also one that equals an earlier budget
        with pytest.raises(ValueError, match=re.escape(f"must be an integer, got {wrong!r}")):
            tubes_for_budget(MAIN, SIZE, wrong)


@pytest.mark.parametrize("position_embedding", ["fixed", "transfer", "relative", "none"])
def test_a_budget_changes_the_tokens_and_neither_weights_nor_config(tmp_path, position_embedding):
    grid = {"position_grid": [2, 2]} if position_embedding == "transfer" else {}
    model = make_model(TubeViTForVideoClassification, position_embedding=position_embedding, num_labels=3, **grid)
    clips, full = tiny_clips(), model.config.num_tokens()
    before = model(pixel_values_videos=clips).logits
    saved, weights = model.config.to_dict(), {name: value.clone() for name, value in model.state_dict().items()}
    num_tokens = model.set_token_budget(full // 2)
    size = (model.config.num_frames, *model.config.image_height_width)
    assert num_tokens == sum(model.tubevit.embeddings.num_tokens_per_tube(size)) <= full // 2
    coarse = model(pixel_values_videos=clips).logits
    assert not torch.equal(coarse, before)
    assert model.config.to_dict() == saved
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    model.save_pretrained(tmp_path)
    assert "token_budget" not in json.loads((tmp_path / "config.json").read_text())
    load = TubeViTForVideoClassification.from_pretrained
    assert torch.equal(load(tmp_path, token_budget=full // 2)(pixel_values_videos=clips).logits, coarse)
    assert torch.equal(load(tmp_path)(pixel_values_videos=clips).logits, before)
    for budget in (full, None):
        model.set_token_budget(budget)
        assert torch.equal(model(pixel_values_videos=clips).logits, before)


def test_images_keep_their_tokens():
    model = make_model(TubeViTModel)
    image = tiny_clips()[:, 0]
    before = model(pixel_values=image).pooler_output
    model.set_token_budget(model.config.num_tokens() // 2)
    assert torch.equal(model(pixel_values=image).pooler_output, before)


@pytest.mark.parametrize("position_embedding", ["learned", "fixed_without_stride"])
def test_positions_that_number_the_tokens_take_no_budget(position_embedding):
    model = make_model(TubeViTModel, position_embedding=position_embedding)
    with pytest.raises(ValueError, match=f"'{position_embedding}' numbers the tokens"):
        model.set_token_budget(10)
