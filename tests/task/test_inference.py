"""Test-time augmentation, sliding windows and means of networks, against what a few lines of torch say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab.task import inference
from seglab.task.inference import Inference, resized_bands


class Colors(nn.Module):
    """Logits of each pixel on its own: windows cannot change them."""

    def __init__(self, seed=0):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        nn.init.normal_(self.conv.weight, 0, 3, generator=torch.Generator().manual_seed(seed))

    def forward(self, image):
        return self.conv(image.float() / 255)


class Neighbours(nn.Sequential):
    """Logits that see 9 x 9 pixels."""

    def __init__(self):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 8), (8, 8), (8, 4))]
        super().__init__(*[layer for conv in convolutions for layer in (conv, nn.ReLU())][:-1])

    def forward(self, image):
        return super().forward(image.float() / 255)


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_one_network_and_the_whole_image_are_its_own_logits(image):
    model = Neighbours()
    assert torch.equal(Inference([model])(image[None]), model(image[None]))


@pytest.mark.parametrize("overlap", [0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("window", [1, 7, 16, 50, 70])
def test_windows_cover_every_pixel_once_in_all(image, window, overlap):
    model = Colors()
    found = Inference([model], window=window, overlap=overlap)
    torch.testing.assert_close(found(image[None]), model(image[None]), rtol=1e-4, atol=1e-5)
    tops = [(top, band.shape[1]) for top, band in found.bands(image)]
    assert [top for top, _ in tops] == [sum(rows for _, rows in tops[:place]) for place in range(len(tops))]
    assert sum(rows for _, rows in tops) == 50 and max(rows for _, rows in tops) <= window


def test_where_a_window_sees_enough_it_agrees_with_the_whole(image):
    model = Neighbours()
    whole, windows = model(image[None])[0], Inference([model], window=32)(image[None])[0]
    agree = (whole.argmax(0) == windows.argmax(0)).float().mean()
    assert agree > 0.99
    assert not torch.equal(whole, windows)


def test_images_of_a_batch_go_through_on_their_own(image):
    found = Inference([Neighbours()], flip=True, window=40)
    images = torch.stack([image, image.flip(-2)])
    assert torch.equal(found(images), torch.cat([found(each[None]) for each in images]))


def test_windows_lie_on_the_grid_of_the_network(image):
    class Coarse(Colors):
        stride = 8

    places = Inference([Coarse()], window=20)._places(71)  # rounded up to 24, half of which is not on the grid
    assert [place.start for place in places] == [0, 8, 16, 24, 32, 40, 48]
    assert [place.stop - place.start for place in places] == [24] * 6 + [23]


def test_an_image_within_the_window_goes_through_whole(image):
    model = Neighbours()
    assert torch.equal(Inference([model], window=71)(image[None]), model(image[None]))


def test_a_flip_is_the_mean_of_probabilities(image):
    model = Neighbours()
    mirrored = model(image[None].flip(-1)).flip(-1)
    expected = (model(image[None]).softmax(1) + mirrored.softmax(1)) / 2
    torch.testing.assert_close(Inference([model], flip=True)(image[None]).softmax(1), expected)


def test_scales_and_networks_are_the_mean_of_probabilities(image):
    models = [Neighbours(), Colors(1)]
    small = F.interpolate(image[None].float(), (25, 36), mode="bilinear", antialias=True)
    passes = [model(image[None]) for model in models]
    passes += [F.interpolate(model(small), (50, 71), mode="bilinear") for model in models]
    expected = torch.stack([logits.softmax(1) for logits in passes]).mean(0)
    torch.testing.assert_close(Inference(models, scales=(1.0, 0.5))(image[None]).softmax(1), expected)


@pytest.mark.parametrize("values", [1, 1000, 2**20])
@pytest.mark.parametrize("size", [(40, 33), (13, 40), (40, 17), (7, 9), (1, 1), (400, 3)], ids=str)
def test_resized_bands_are_those_of_the_whole(monkeypatch, size, values):
    monkeypatch.setattr(inference, "_RESIZED_VALUES", values)
    logits = torch.randn(5, 13, 17, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[None], size, mode="bilinear")[0]
    for ends in ([13], [1, 2, 13], [6, 12, 13], range(1, 14)):
        starts = [0, *ends][:-1]
        bands = ((start, logits[:, start:end]) for start, end in zip(starts, ends, strict=True))
        found = list(resized_bands(bands, 13, size))
        assert [top for top, _ in found] == [sum(band.shape[1] for _, band in found[:k]) for k in range(len(found))]
        assert max(band[0].numel() for _, band in found) <= max(values // 5, size[1])
        torch.testing.assert_close(torch.cat([band for _, band in found], 1), whole, rtol=1e-5, atol=1e-5)


def test_bands_are_resized_as_they_come():
    """A row is there as soon as the old ones around it are, and what lies above is let go."""

    def bands():
        for top in range(0, 12, 3):
            came.append(top)
            yield top, torch.zeros(2, 3, 5)

    came = []
    found = [(top, band.shape[1], len(came)) for top, band in resized_bands(bands(), 12, (24, 10))]
    assert found == [(0, 5, 1), (5, 6, 2), (11, 6, 3), (17, 7, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (0.0,)}, "scales"),
        ({"window": 0}, "window=0"),
        ({"overlap": 1.0}, "overlap=1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Inference([Colors()], **options)
