"""Tube geometry equals numbers computed by hand from the paper's formula."""

import pytest

from tubevit.tubes import MAIN_TUBES, Tube, select_tubes


MAIN = [Tube.from_dict(values) for values in MAIN_TUBES]


@pytest.mark.parametrize(
    ("size", "per_tube"),
    [
        # time x rows x columns of each tube, e.g. 8x8x8: (32-8)//16+1 = 2, (224-8)//32+1 = 7 twice
        ((32, 224, 224), [2 * 7 * 7, 3 * 7 * 7, 2 * 7 * 7, 1 * 14 * 14]),
        ((64, 224, 224), [4 * 7 * 7, 8 * 7 * 7, 4 * 7 * 7, 2 * 14 * 14]),
        ((20, 28, 28), [1, 1, 2, 1]),  # 4x12x12 fits twice in 20 frames: 20 - 4 = 16
        ((32, 224, 336), [2 * 7 * 11, 3 * 7 * 11, 2 * 7 * 10, 14 * 21]),
    ],
)
def test_token_counts_by_hand(size, per_tube):
    assert [tube.num_tokens(size) for tube in MAIN] == per_tube


def test_main_configuration_has_539_and_1176_tokens():
    assert sum(tube.num_tokens((32, 224, 224)) for tube in MAIN) == 539
    assert sum(tube.num_tokens((64, 224, 224)) for tube in MAIN) == 1176


def test_grid_counts_applications_inside_the_clip():
    tube = Tube((3, 2, 4), (2, 3, 1), (1, 0, 2))
    for extent in range(1, 15):
        size = (extent, extent, extent)
        starts = [range(offset, extent, stride) for offset, stride in zip(tube.offset, tube.stride, strict=True)]
        inside = [[s for s in axis if s + k <= extent] for axis, k in zip(starts, tube.kernel_size, strict=True)]
        expected = tuple(len(axis) for axis in inside) if all(inside) else (0, 0, 0)
        assert tube.grid(size) == expected
        assert tube.fits(size) == all(inside)


def test_centers_are_the_means_of_the_covered_indices():
    tube = Tube((3, 2, 4), (2, 3, 1), (1, 0, 2))
    size = (9, 9, 9)
    for axis, centers in enumerate(tube.centers(size)):
        for index, center in enumerate(centers):
            start = tube.offset[axis] + index * tube.stride[axis]
            covered = range(start, start + tube.kernel_size[axis])
            assert center == sum(covered) / len(covered)


@pytest.mark.parametrize("factors", [(2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2), (4, 1, 1), (2, 2, 2), (4, 2, 2)])
def test_space_to_depth_keeps_the_number_of_tokens(factors):
    plain = Tube((3, 2, 5), (4, 8, 8), (1, 0, 2))
    merged = Tube((3, 2, 5), (4, 8, 8), (1, 0, 2), factors)
    for extent in range(1, 40):
        size = (extent, extent, extent + 1)
        assert merged.grid(size) == plain.grid(size)


def test_the_center_of_a_merged_token_by_hand():
    # 8 frames at 0 and 8 frames at 8 make up a token that covers frames 0 to 15
    assert Tube((8, 8, 8), (16, 32, 32), (0, 0, 0), (2, 1, 1)).centers((32, 8, 8))[0] == [7.5, 23.5]
    # columns 8 to 11 and 24 to 27
    assert Tube((16, 4, 4), (6, 32, 32), (4, 8, 8), (1, 2, 2)).centers((20, 60, 60))[2] == [17.5, 49.5]
    # the second neighbor of the last token, frames 24 to 31, lies outside a clip of 24 frames
    assert Tube((8, 8, 8), (16, 32, 32), (0, 0, 0), (2, 1, 1)).centers((24, 8, 8))[0] == [7.5, 19.5]


def test_factor_that_does_not_divide_the_stride_raises():
    with pytest.raises(ValueError, match=r"stride of 6 rows, which its space_to_depth factor 4 does not divide"):
        Tube((2, 2, 2), (4, 6, 8), (0, 0, 0), (1, 4, 2))


def test_smallest_size_is_the_smallest_that_fits():
    for tube in MAIN:
        assert tube.grid(tube.smallest_size) == (1, 1, 1)
        for axis in range(3):
            smaller = list(tube.smallest_size)
            smaller[axis] -= 1
            assert not tube.fits(tuple(smaller))


def test_dict_round_trip():
    for tube in MAIN:
        assert Tube.from_dict(tube.to_dict()) == tube


def test_select_tubes_names_the_tube_and_the_smallest_size():
    with pytest.raises(
        ValueError,
        match=r"Tube 1 \(kernel 16x4x4, offset 4x8x8, space-to-depth 1x2x2\).*8 frames where it needs 20",
    ) as error:
        select_tubes(MAIN, (8, 224, 224), allow_missing=False)
    assert "20x28x28" in str(error.value)
    assert select_tubes(MAIN, (20, 28, 28), allow_missing=False) == [0, 1, 2, 3]


def test_select_tubes_omits_tubes_that_do_not_fit_if_allowed():
    assert select_tubes(MAIN, (8, 224, 224), allow_missing=True) == [0, 2, 3]
    assert select_tubes(MAIN, (1, 224, 224), allow_missing=True) == [3]
    with pytest.raises(ValueError, match=r"No tube fits a clip of 1x8x8.* smallest size that works is 1x16x16"):
        select_tubes(MAIN, (1, 8, 8), allow_missing=True)
