"""What an exported network does around the `Segmenter`, against what training and `seglab predict` do."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seglab.data.reader import resize_image
from seglab.models import ConvDecoder, ConvEncoder, Segmenter
from seglab.models.exportable import OUTPUTS, Exportable, pad_to_stride
from seglab.models.opencv_resize import enlarge, resize_shorter_side, shrink
from seglab.models.pyramid import GridMeans, cell_weights


def photos(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def build():
    torch.manual_seed(0)
    encoder = ConvEncoder([4, 5, 6])
    decoder = ConvDecoder(encoder.channels, encoder.strides, [5, 4, 4])
    return Segmenter(encoder, decoder, 3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)).eval()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (4, 4), (4, 5), (5, 4), (8, 8), (9, 30), (21, 17), (3, 200)], ids=str)
def test_the_padding_is_that_of_the_segmenter_to_the_bit(size):
    model, image = build(), photos(2, 3, *size)
    padded = pad_to_stride(image, model.stride)
    assert padded.dtype == torch.uint8
    assert torch.equal(model.prepare(padded), model.prepare(image))


@pytest.mark.parametrize("resize", [None, 12])
def test_outputs_are_those_of_the_prediction(resize):
    model, image = build(), photos(1, 3, 23, 40)
    with torch.no_grad():
        found = Exportable(model, resize, OUTPUTS)(image)
        resized = resize_image(image[0].permute(1, 2, 0).numpy(), resize)
        logits = F.interpolate(model(torch.from_numpy(resized).permute(2, 0, 1)[None]), (23, 40), mode="bilinear")
        assert Exportable(model, resize)(image).keys() == {"mask"}
    torch.testing.assert_close(found["logits"], logits)
    torch.testing.assert_close(found["probabilities"], logits.softmax(1))
    assert found["mask"].dtype == torch.uint8 and torch.equal(found["mask"], found["logits"].argmax(1))


@pytest.mark.parametrize(
    "size",
    [(1, 1), (3, 5), (1, 9), (31, 90), (32, 32), (33, 47), (64, 64), (64, 90), (96, 160), (4, 65), (200, 7), (1, 600)],
)
def test_a_photograph_is_resized_as_opencv_does(size):
    image = photos(2, 3, *size)
    expected = np.stack([resize_image(np.ascontiguousarray(one), 32) for one in image.permute(0, 2, 3, 1).numpy()])
    found = resize_shorter_side(image, 32).permute(0, 2, 3, 1).numpy()
    assert found.shape == expected.shape and found.dtype == np.uint8
    differ = found != expected
    assert differ.mean() < 1e-3 and np.abs(found.astype(int) - expected)[differ].max(initial=0) <= 1


def test_both_ways_are_exact_where_opencv_is():
    image = photos(1, 3, 24, 36)
    picture = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    for way, size, interpolation in [
        (enlarge, (50, 41), cv2.INTER_LINEAR),
        (enlarge, (24, 36), cv2.INTER_LINEAR),
        (shrink, (12, 18), cv2.INTER_AREA),
        (shrink, (8, 12), cv2.INTER_AREA),
        (shrink, (24, 36), cv2.INTER_AREA),
    ]:
        expected = cv2.resize(picture, size[::-1], interpolation=interpolation)
        assert np.array_equal(way(image, size)[0].permute(1, 2, 0).numpy(), expected), (way, size)


def test_the_means_over_a_grid_are_those_of_adaptive_pooling():
    for length in range(1, 15):
        x = torch.rand(2, 3, length, 2 * length)
        for bins in (1, 2, 3, 6):
            rows, columns = cell_weights(length, bins), cell_weights(2 * length, bins)
            torch.testing.assert_close(rows @ (x @ columns.T), F.adaptive_avg_pool2d(x, bins))


def test_where_results_must_repeat_no_adaptive_pooling_is_used(monkeypatch):
    """Its backward pass on a GPU adds in any order, which deterministic algorithms refuse."""
    x, means = torch.rand(1, 3, 7, 9), GridMeans(3)
    expected = means(x)
    monkeypatch.setattr(F, "adaptive_avg_pool2d", None)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    torch.testing.assert_close(means(x), expected)
