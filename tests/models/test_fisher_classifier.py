"""What the Fisher vectors' word changes in a network's logits, and what it leaves."""

import copy

import pytest
import torch

from seglab.models import ConvDecoder, ConvEncoder, FisherClassifier, Segmenter
from seglab.models.exportable import Exportable
from seglab.models.segmenter import forward_flops, idle_parameters


def classifier(num_classes=4, **options):
    torch.manual_seed(0)
    found = FisherClassifier(num_classes, cells=(4, 6), words=(3, 2), dims=(5, 4), **options)
    for vectors in found.vectors:
        vectors.components.normal_()
        vectors.means.normal_()
    found.weight.normal_(std=5)
    found.bias.normal_()
    return found.eval()


def network(objects=None):
    torch.manual_seed(0)
    encoder = ConvEncoder([4, 5, 6])
    decoder = ConvDecoder(encoder.channels, encoder.strides, [5, 4, 4])
    return Segmenter(encoder, decoder, 4, object_classifier=objects)


def photos(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("background", [0, 2])
def test_classes_but_background_are_weighed_by_the_opinion_and_keep_their_sum(background):
    objects, image = classifier(background=background), photos(2, 3, 20, 31)
    logits = torch.randn(2, 4, 20, 31, generator=torch.Generator().manual_seed(0))
    before, after = logits.softmax(1), objects(image, logits).softmax(1)
    torch.testing.assert_close(after[:, background], before[:, background])
    others = [k for k in range(4) if k != background]
    region = 1 - before[:, background, None]
    vector = objects.object_vectors(image, region, 1 - region)[:, 0]
    opinion = (vector @ objects.weight.T + objects.bias)[:, others].softmax(1)
    expected = before[:, others] * opinion[:, :, None, None]
    expected = expected / expected.sum(1, keepdim=True) * before[:, others].sum(1, keepdim=True)
    torch.testing.assert_close(after[:, others], expected)
    assert not torch.allclose(after, before, atol=0.05)


def test_a_class_that_is_not_judged_keeps_its_probability():
    objects, image = classifier(num_classes=5), photos(1, 3, 20, 31)
    objects.judged[3] = False
    logits = torch.randn(1, 5, 20, 31, generator=torch.Generator().manual_seed(0))
    before, after = logits.softmax(1), objects(image, logits).softmax(1)
    torch.testing.assert_close(after[:, [0, 3]], before[:, [0, 3]])
    torch.testing.assert_close(after.sum(1), torch.ones(1, 20, 31))
    assert not torch.allclose(after, before, atol=0.05)


@pytest.mark.parametrize("magnify", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (6, 9)], ids=str)
def test_photographs_are_magnified_by_whole_times(magnify, size):
    objects = classifier(magnify=magnify)
    grid = [-(-side * magnify // 6) for side in size]
    texture, color = objects.describe(photos(1, 3, *size))
    assert {each.shape for each in texture} == {(1, grid[0] * grid[1], 130)} and len(texture) == len(color) == 2
    assert objects.at_grid(torch.rand(1, 2, *size)).shape == (1, 2, grid[0] * grid[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (19, 33)], ids=str)
def test_any_size_and_a_batch_as_its_images_one_by_one(size):
    objects, image, logits = classifier(), photos(3, 3, *size), torch.randn(3, 4, *size)
    together = objects(image, logits)
    assert together.shape == logits.shape and together.isfinite().all()
    for i in range(3):
        torch.testing.assert_close(together[i], objects(image[i, None], logits[i, None])[0], atol=1e-4, rtol=1e-4)


def test_of_an_object_only_what_is_inside_it_counts_and_what_is_around_all():
    objects, image = classifier(), photos(1, 3, 60, 60)
    region = torch.zeros(1, 3, 60, 60)
    region[:, 0, :20, :20], region[:, 1, 40:, 40:], region[:, 2, :20, 40:] = 1, 1, 1
    found, changed = objects.object_vectors(image, region[:, :2], region[:, 2:]), image.clone()
    changed[..., 40:, 40:] = photos(1, 3, 20, 20, seed=1)
    again = objects.object_vectors(changed, region[:, :2], region[:, 2:])
    assert found.shape == (1, 2, objects.weight.shape[1])
    (inside, around), (inside_again, around_again) = (each[0].chunk(2, -1) for each in (found, again))
    torch.testing.assert_close(inside_again[0], inside[0])
    assert not torch.allclose(inside_again[1], inside[1], atol=0.01)
    torch.testing.assert_close(around, around[:1].expand(2, -1))
    torch.testing.assert_close(around_again, around)
    changed[..., :20, 40:] = photos(1, 3, 20, 20, seed=2)
    inside_again, around_again = objects.object_vectors(changed, region[:, :2], region[:, 2:])[0].chunk(2, -1)
    torch.testing.assert_close(inside_again[0], inside[0])
    assert not torch.allclose(around_again, around, atol=0.01)


def test_vectors_of_texture_and_colour_of_objects_and_surroundings_have_their_lengths():
    objects = classifier(color=0.25, surroundings=2)
    region = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    found = objects.object_vectors(photos(2, 3, 40, 40), region, 1 - region)[:, 0]
    parts = found.split([each.length for each in objects.vectors] * 2, -1)
    lengths = torch.stack([part.norm(dim=-1) for part in parts], 1)
    torch.testing.assert_close(lengths, torch.tensor([[1, 0.25, 2, 0.5]]).expand(2, 4))


def test_it_takes_no_part_in_training():
    plain, joined, image = network().train(), network(classifier()).train(), photos(2, 3, 16, 16)
    assert torch.equal(plain(image), joined(image))
    assert [name for name, _ in joined.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert idle_parameters(joined) == []
    with torch.no_grad():
        evaluated = joined.eval()(image)
    assert not torch.allclose(plain.eval()(image), evaluated, atol=0.1)
    assert forward_flops(joined, 32) > forward_flops(plain, 32)


def test_bfloat16_is_for_the_network_alone():
    objects, image, logits = classifier(), photos(1, 3, 20, 31), torch.randn(1, 4, 20, 31)
    plain = objects(image, logits)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(objects(image, logits), plain)


def test_what_is_fitted_is_in_its_state():
    objects, image = classifier(), photos(1, 3, 20, 31)
    logits = torch.randn(1, 4, 20, 31)
    fresh = FisherClassifier(4, cells=(4, 6), words=(3, 2), dims=(5, 4))
    before = copy.deepcopy(fresh)(image, logits)
    torch.testing.assert_close(before.softmax(1), logits.softmax(1))  # without an opinion all stays
    fresh.load_state_dict(objects.state_dict())
    assert torch.equal(fresh(image, logits), objects(image, logits))


@pytest.mark.parametrize("resize", [None, 24])
def test_an_exported_network_joins_it_as_the_run_does(resize):
    model, image = network(classifier()).eval(), photos(1, 3, 24, 31)  # no multiple of the stride
    with torch.no_grad():
        exported = Exportable(model, resize, ("logits",))(image)["logits"]
        torch.testing.assert_close(exported, model(image))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cells": ()}, "even numbers"),
        ({"cells": (3,)}, "even numbers"),
        ({"cells": (4, 0)}, "even numbers"),
        ({"cells": (4.0,)}, "even numbers"),
        ({"background": 4}, "background=4: .*one of the 4 classes"),
        ({"background": 0.0}, "background=0.0"),
        ({"words": (8,)}, r"words=\(8,\): give two whole numbers"),
        ({"words": 8}, "words=8: give two whole numbers"),
        ({"dims": (8, 0)}, r"dims=\(8, 0\): .*from 1 to 128 and 96"),
        ({"dims": (64, 97)}, "from 1 to 128 and 96"),
        ({"step": 0}, "step=0"),
        ({"magnify": 0.5}, "magnify=0.5: give a whole number from 1"),
        ({"color": -0.5}, "color=-0.5: give a number from 0"),
        ({"color": float("inf")}, "color=inf: give a number from 0"),
        ({"surroundings": True}, "surroundings=True: give a number from 0"),
        ({"num_classes": 2}, "2 classes: there are not two but background"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        FisherClassifier(**{"num_classes": 4, **options})
