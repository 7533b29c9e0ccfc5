"""The pixels that a tube's tokens read equal the pixels with a gradient of the tokenizer; frame grids of them."""

import numpy as np
import pytest
import torch
from tiny_models import make_model, tiny_config

from tubevit import Tube, TubeViTModel
from tubevit.training.visualization.frame_grid import film_strip, heat_strip, some_frames
from tubevit.training.visualization.tube_masks import (
    applied_tubes,
    boxes_read,
    central_token,
    paint,
    read_mask,
    token_mask,
)


# Space-to-depth on every axis, overlapping tokens, and last tokens whose neighbors do not fit into the clip.
TUBES = [
    {"kernel_size": [2, 3, 3], "stride": [4, 6, 6], "space_to_depth": [2, 1, 1]},
    {"kernel_size": [4, 2, 2], "stride": [3, 6, 8], "offset": [1, 2, 1], "space_to_depth": [1, 2, 2]},
    {"kernel_size": [3, 2, 5], "stride": [4, 7, 6], "offset": [1, 3, 2]},
    {"kernel_size": [2, 2, 2], "stride": [6, 8, 8], "offset": [3, 9, 0], "space_to_depth": [2, 2, 1]},
    {"kernel_size": [1, 8, 8], "stride": [8, 8, 8]},
]
SIZE = (8, 16, 16)


def tube(index: int) -> Tube:
    return Tube.from_dict(TUBES[index])


@pytest.mark.parametrize("index", range(len(TUBES)))
@pytest.mark.parametrize("size", [SIZE, (9, 15, 17)])
def test_token_reads_exactly_the_pixels_with_a_gradient(index, size):
    embeddings = make_model(TubeViTModel, tubes=[TUBES[index]], position_embedding="none").embeddings
    clip = torch.zeros(1, size[0], 3, *size[1:], requires_grad=True)
    tokens = embeddings(pixel_values_videos=clip)[0]
    grid = tube(index).grid(size)
    assert len(tokens) == np.prod(grid)
    read = np.zeros(size, bool)
    for number, token in enumerate(np.ndindex(*grid)):
        (gradient,) = torch.autograd.grad(
            tokens[number].square().sum() + tokens[number].sum(), clip, retain_graph=True
        )
        reached = (gradient[0] != 0).any(dim=1).numpy()
        assert np.array_equal(token_mask(tube(index), size, token), reached)
        read |= reached
    assert np.array_equal(read_mask([tube(index)], size), read)


@pytest.mark.parametrize("index", range(len(TUBES)))
@pytest.mark.parametrize("size", [SIZE, (9, 15, 17)])
def test_boxes_cover_the_read_pixels_and_mark_first_applications(index, size):
    one = tube(index)
    expected, first = read_mask([one], size), np.zeros(size, bool)
    num_frames, num_rows, num_columns = one.grid(size)
    for time, row, column in np.ndindex(num_frames, num_rows, num_columns):
        t, y, x = (
            offset + stride * i for offset, stride, i in zip(one.offset, one.stride, (time, row, column), strict=True)
        )
        first[tuple(slice(a, a + k) for a, k in zip((t, y, x), one.kernel_size, strict=True))] = True
    for frame in range(size[0]):
        all_boxes, first_boxes = np.zeros(size[1:], bool), np.zeros(size[1:], bool)
        for top, left, height, width, is_merged in boxes_read(one, size, frame):
            all_boxes[top : top + height, left : left + width] = True
            if not is_merged:
                first_boxes[top : top + height, left : left + width] = True
        assert np.array_equal(all_boxes, expected[frame])
        assert np.array_equal(first_boxes, first[frame])


def test_pixel_values_are_the_mean_over_the_tokens_that_read_a_pixel():
    tubes = {index: tube(index) for index in (1, 2, 4)}
    generator = np.random.default_rng(0)
    values = {index: generator.uniform(size=one.grid(SIZE)) for index, one in tubes.items()}
    total, count = np.zeros(SIZE), np.zeros(SIZE)
    for index, one in tubes.items():
        for token in np.ndindex(*one.grid(SIZE)):
            mask = token_mask(one, SIZE, token)
            total += mask * values[index][token]
            count += mask
    painted = paint(tubes, values, SIZE)
    assert np.array_equal(np.isnan(painted), ~read_mask(tubes.values(), SIZE))
    assert count.max() > 1
    np.testing.assert_allclose(painted[count > 0], (total / np.maximum(count, 1))[count > 0], rtol=1e-12)


def test_only_2d_tubes_read_an_image():
    config = tiny_config(tubes=TUBES)
    assert list(applied_tubes(config, SIZE)) == [0, 1, 2, 3, 4]
    late = tiny_config(tubes=[*TUBES[:2], {**TUBES[4], "offset": [3, 0, 0]}])
    ((index, one),) = applied_tubes(late, (1, 16, 16)).items()
    assert (index, one.offset) == (2, (0, 0, 0))
    with pytest.raises(ValueError, match="cannot take an image"):
        applied_tubes(tiny_config(tubes=TUBES[:2]), (1, 16, 16))
    with pytest.raises(ValueError, match="does not fit a clip of 2x16x16"):
        applied_tubes(config, (2, 16, 16))


def test_strips_dim_only_pixels_that_are_not_read():
    tube, size = Tube((1, 8, 8), (2, 16, 16)), (4, 16, 16)
    clip = np.full((4, 32, 32, 3), 200, np.uint8)
    strip = film_strip(clip, [0, 1], [tube], ["#ff0000"], size, dimming=0.75, gap=0.25)
    assert strip.shape == (32, 32 + 8 + 32, 3)
    assert (strip[4:12, 4:12] == 200).all()  # inside the box, which is 16 pixels wide here
    assert strip[0, 0, 0] > 200 > strip[0, 0, 1]  # its red outline
    assert (strip[20:, :32] < 100).all()
    assert (strip[:, 32:40] == 255).all()
    assert (strip[:, 40:] < 100).all()  # frame 1 is not read
    assert (clip == 200).all()


def test_filled_token_has_the_color_of_its_tube():
    clip = np.full((*SIZE, 3), 200, np.uint8)
    token = central_token(tube(1), SIZE)
    arguments = (clip, range(8), [tube(1)], ["#0000ff"], SIZE, 0.5)
    plain, filled = (film_strip(*arguments, filled=tokens, gap=0) for tokens in (None, {0: token}))
    changed = np.stack(np.split((plain != filled).any(-1), 8, axis=1))
    assert changed.any()
    assert not (changed & ~token_mask(tube(1), SIZE, token)).any()
    # Where a box is all outline, filling changes the faint outlines of neighbors and the strong ones alike.
    assert np.array_equal(changed.any((0,)), token_mask(tube(1), SIZE, token).any(0))


def test_heat_is_drawn_where_it_is_positive():
    clip = np.full((2, 8, 8, 3), 90, np.uint8)
    heat = np.full((2, 4, 4), np.nan)
    heat[0, 0, 0], heat[0, 0, 1] = 0.0, 5.0
    first, _, second = np.split(heat_strip(clip, [0, 1], heat, "gray", top=2.0), [8, 8], axis=1)
    assert (second == second[0, -1]).all()
    assert (first[2:] == second[0, -1]).all()
    assert first[0, 0, 0] < second[0, -1, 0] < first[0, 2, 0]
    assert (first[:2, :2] == first[0, 0]).all()


def test_some_frames_are_spread_from_the_first_one_on():
    assert some_frames(32, 8).tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    assert some_frames(3, 8).tolist() == [0, 1, 2]
    assert all(total // 2 in some_frames(total, 4) for total in range(1, 40))  # where the central token lies
