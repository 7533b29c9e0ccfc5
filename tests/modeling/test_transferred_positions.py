"""Positions and kernels from image checkpoints equal torch's interpolation and values computed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_model, tiny_clips
from torch.nn.functional import interpolate

from tubevit import Tube, TubeViTModel
from tubevit.kernel_inflation import inflate_kernel
from tubevit.position_embeddings import sincos_position_embedding
from tubevit.transferred_positions import interpolation_weights, patch_coordinates, rotary_angles, temporal_code


MODES = {
    "bicubic": {"mode": "bicubic"},
    "bicubic_antialias": {"mode": "bicubic", "antialias": True},
    "bilinear_antialias": {"mode": "bilinear", "antialias": True},
}


@settings(max_examples=60, deadline=None)
@given(points=st.integers(1, 20), count=st.integers(1, 40), mode=st.sampled_from(list(MODES)))
def test_weights_at_patch_centers_equal_torch_interpolate(points, count, mode):
    ours = interpolation_weights([index + 0.5 for index in range(count)], count, points, mode)
    grid = torch.eye(points, dtype=torch.float64).T[None, :, None]  # one channel per point
    theirs = interpolate(grid, size=(1, count), align_corners=False, **MODES[mode])
    torch.testing.assert_close(ours, theirs[0, :, 0].T, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    points=st.integers(1, 20), count=st.integers(1, 40), share=st.floats(-0.1, 1.1), mode=st.sampled_from(list(MODES))
)
def test_weights_sum_to_one_at_any_coordinate(points, count, share, mode):
    weights = interpolation_weights([share * count], count, points, mode)
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)


def test_grid_of_the_frame_size_is_read_exactly():
    coordinates, count = patch_coordinates(Tube((1, 14, 14), (1, 14, 14)).centers((1, 518, 518))[1], 518, 14)
    assert coordinates == [index + 0.5 for index in range(37)] and count == 37
    for mode in MODES:
        assert torch.equal(interpolation_weights(coordinates, 37, 37, mode), torch.eye(37, dtype=torch.float64))


def test_larger_tube_interpolates_between_grid_points():
    """The center of a 16x16 tube over four 8x8 patches is their common corner; linear filters weight the four equally."""
    coordinates, count = patch_coordinates(Tube((4, 16, 16), (4, 16, 16)).centers((4, 32, 32))[1], 32, 8)
    assert (coordinates, count) == ([1.0, 3.0], 4)
    weights = interpolation_weights(coordinates, count, 4, "bilinear_antialias")
    assert weights.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


def test_temporal_code_is_the_fixed_code_minus_its_start():
    tube, size = Tube((2, 4, 4), (3, 4, 4), (1, 0, 0)), (20, 4, 4)
    centers = tube.centers(size)
    fixed = sincos_position_embedding(centers, 31, 10000.0) - sincos_position_embedding(
        ([0.0], *centers[1:]), 31, 10000.0
    )
    torch.testing.assert_close(temporal_code(centers[0], 31, 10000.0), fixed, rtol=0, atol=1e-12)
    assert not temporal_code([0.0], 31, 10000.0).any()


def test_rotary_angles_by_hand():
    """One row of two patches, heads of 8 channels: two frequencies per axis."""
    angles = rotary_angles(Tube((1, 4, 4), (1, 4, 4)).centers((1, 4, 8)), (1, 4, 8), (4, 4), head_dim=8, theta=100.0)
    turn = math.pi * torch.tensor([1.0, 0.1], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    left, right = torch.cat((zero, -turn)), torch.cat((zero, turn))
    torch.testing.assert_close(angles, torch.stack((left.repeat(2), right.repeat(2))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", ["central", "average"])
@pytest.mark.parametrize("kernel_size", [(8, 8, 8), (16, 4, 4), (4, 12, 12), (3, 20, 6)])
def test_inflated_kernel_on_a_clip_of_one_color_equals_the_patch(how, kernel_size):
    torch.manual_seed(0)
    kernel = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    inflated = inflate_kernel(kernel, kernel_size, 6, how)
    assert inflated.shape == (6, 3, *kernel_size)
    torch.testing.assert_close(inflated.sum(dim=(2, 3, 4)), kernel.sum(dim=(2, 3)), rtol=0, atol=1e-9)


def test_frames_of_an_inflated_kernel():
    kernel = torch.randn(6, 3, 8, 8)
    central = inflate_kernel(kernel, (4, 8, 8), 6, "central")
    assert torch.equal(central[:, :, 2], kernel) and not central[:, :, [0, 1, 3]].any()
    average = inflate_kernel(kernel, (4, 8, 8), 3, "average")
    assert all(torch.equal(average[:, :, frame], kernel[:3] / 4) for frame in range(4))
    with pytest.raises(ValueError, match="'central' or 'average', got 'mean'"):
        inflate_kernel(kernel, (4, 8, 8), 6, "mean")


@pytest.mark.parametrize("source", [{"position_grid": [3, 3]}, {"rope_theta": 100.0, "num_attention_heads": 2}])
def test_compile_with_images_of_several_sizes(source):
    model = make_model(TubeViTModel, position_embedding="transfer", num_hidden_layers=1, **source)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for size in (16, 24):
        images = tiny_clips(size=size)[:, 0]
        with torch.no_grad():
            torch.testing.assert_close(compiled(pixel_values=images)[0], model(pixel_values=images)[0])
