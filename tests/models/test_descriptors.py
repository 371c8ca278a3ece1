"""Descriptors of texture and colour against what they are defined to be."""

import numpy as np
import pytest
import torch

from seglab.models.descriptors import DenseColor, DenseSIFT


def texture(height, width, seed=0):
    noise = np.random.default_rng(seed).random((height + 4, width + 4), np.float32)
    smooth = sum(noise[i : i + height, j : j + width] for i in range(5) for j in range(5)) / 25
    return torch.from_numpy((smooth - smooth.min()) / (smooth.max() - smooth.min()))[None, None]


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (7, 6), (13, 40)], ids=str)
def test_every_point_of_the_grid_has_a_descriptor(size):
    grid = (-(-size[0] // 6), -(-size[1] // 6))
    assert DenseSIFT(4, 6)(torch.rand(2, 1, *size)).shape == (2, *grid, 128)
    assert DenseColor(4, 6)(torch.rand(2, 3, *size)).shape == (2, *grid, 96)


def test_sift_knows_neither_brightness_nor_contrast_and_has_length_one():
    image, sift = texture(40, 50), DenseSIFT(6, 5)
    found = sift(image)
    torch.testing.assert_close(sift(0.4 * image + 0.3), found, atol=1e-4, rtol=0)
    torch.testing.assert_close((found**4).sum(-1), torch.ones(1, 8, 10))  # of the square roots
    assert found.max() <= (0.2 / 0.5) ** 0.5  # cut at 0.2, and enlarged again
    assert not sift(torch.full((1, 1, 40, 50), 0.5)).any()


def test_a_ramp_has_its_gradient_in_one_direction():
    ramp = (torch.arange(40.0) / 40).expand(1, 1, 40, 40)
    middle = DenseSIFT(4, 20)(ramp)[0, 1, 1].view(16, 8)  # cells by directions: right, down right, down ...
    assert (middle[:, 0] > 0.1).all() and (middle[:, 1:] < 0.3 * middle[:, :1]).all()
    beside = 1 / 2**4 / (16 * (1 + 2 / 2**8)) ** 0.5  # cos(45°)^8 of each of 16 cells' own bin, which is cut at 0.2
    torch.testing.assert_close(middle[:, [1, 7]] / middle[:, :1], torch.full((16, 2), (beside / 0.2) ** 0.5))
    turned = DenseSIFT(4, 20)(ramp.mT)[0, 1, 1].view(16, 8)
    torch.testing.assert_close(turned[:, 2].view(4, 4).mT.flatten(), middle[:, 0])


def test_a_mirrored_image_has_mirrored_cells_and_directions():
    image, sift = texture(31, 31), DenseSIFT(4, 15)
    found, mirrored = (sift(each)[0, 1].view(3, 4, 4, 8) for each in (image, image.flip(-1)))
    directions = [(4 - k) % 8 for k in range(8)]
    torch.testing.assert_close(mirrored, found.flip(0, 2)[..., directions], atol=1e-5, rtol=0)


def test_a_shift_by_the_step_shifts_the_grid():
    image, sift = texture(60, 60), DenseSIFT(4, 5)
    torch.testing.assert_close(sift(image[..., 5:, 5:])[:, 3:-3, 3:-3], sift(image)[:, 4:-3, 4:-3], atol=1e-5, rtol=0)


def test_color_is_mean_and_deviation_of_the_opponent_colours_in_each_cell():
    image = torch.rand(1, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    found = DenseColor(4, 15)(image)[0, 1, 1].view(4, 4, 2, 3)
    red, green, blue = image[0].double()
    opponent = torch.stack([(red - green) / 2**0.5, (red + green - 2 * blue) / 6**0.5, (red + green + blue) / 3**0.5])
    for i in range(4):
        for j in range(4):  # the cells' centres lie 6 and 2 pixels before the point (15, 15) and behind it
            cell = opponent[:, 7 + 4 * i : 11 + 4 * i, 7 + 4 * j : 11 + 4 * j].flatten(1)
            expected = torch.stack([cell.mean(1), cell.std(1, correction=0)])
            torch.testing.assert_close(found[i, j].double(), expected, atol=1e-5, rtol=0)
