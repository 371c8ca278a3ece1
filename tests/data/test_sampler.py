from collections import Counter

import numpy as np
import pytest

from seglab.data.sampler import EpochSampler, EvalBatchSampler, MixedSizeSampler, repeat_factors


def test_an_epoch_is_a_permutation_of_its_own():
    sampler = EpochSampler(50, seed=3)
    first, again = list(sampler), list(sampler)
    assert first == again and {epoch for epoch, _ in first} == {0}
    assert sorted(i for _, i in first) == list(range(50)) and [i for _, i in first] != list(range(50))
    sampler.set_epoch(1)
    assert {epoch for epoch, _ in sampler} == {1} and [i for _, i in sampler] != [i for _, i in first]
    assert [i for _, i in EpochSampler(50, seed=4)] != [i for _, i in first]


def test_a_sampler_starts_anywhere_and_goes_on_from_the_next_epoch():
    whole = EpochSampler(20, epoch=5)
    late = EpochSampler(20, epoch=5, skip=12)
    assert list(late) == list(whole)[12:] and len(late) == len(whole) == 20
    late.set_epoch(5)
    assert list(late) == list(whole)[12:]
    late.set_epoch(6)
    whole.set_epoch(6)
    assert list(late) == list(whole) and len(list(late)) == 20


@pytest.mark.parametrize(("length", "world"), [(10, 2), (11, 4), (2, 3), (1, 4)])
def test_processes_share_an_epoch_evenly(length, world):
    shares = [list(EpochSampler(length, rank=rank, world_size=world)) for rank in range(world)]
    assert {len(share) for share in shares} == {len(EpochSampler(length, world_size=world))} == {-(-length // world)}
    seen = [i for share in shares for _, i in share]
    assert set(seen) == set(range(length)) and len(seen) - length < world


def test_weights_are_kept_in_every_epoch_and_met_in_expectation():
    weights = np.random.default_rng(0).uniform(0.2, 4, 30)
    sampler, share, total = EpochSampler(30, weights=weights), weights / weights.sum() * 30, np.zeros(30)
    for epoch in range(400):
        sampler.set_epoch(epoch)
        indices = [i for _, i in sampler]
        assert len(indices) == len(set(indices)) == len(sampler) == 30
        counts = np.bincount([i % 30 for i in indices], minlength=30)
        assert (counts >= np.floor(share - 1e-9)).all() and (counts <= np.ceil(share + 1e-9)).all()
        for i, times in Counter(i % 30 for i in indices).items():
            assert {j for j in indices if j % 30 == i} == {i + 30 * repetition for repetition in range(times)}
        total += counts
    np.testing.assert_allclose(total / 400, share, atol=0.11)  # four standard deviations at most


def test_equal_weights_draw_each_index_once():
    assert sorted(i for _, i in EpochSampler(17, seed=2, weights=np.full(17, 0.3))) == list(range(17))
    assert [i for _, i in EpochSampler(1, weights=np.array([0.1]))] == [0]


@pytest.mark.parametrize("world", [2, 3])
def test_weighted_epochs_start_anywhere_and_are_shared_out(world):
    weights = np.linspace(1, 3, 21)
    whole = list(EpochSampler(21, 1, 5, weights=weights))
    assert list(EpochSampler(21, 1, 5, skip=8, weights=weights)) == whole[8:]
    assert list(EpochSampler(21, 1, 6, weights=weights)) != whole
    shares = [list(EpochSampler(21, 1, 5, 0, rank, world, weights)) for rank in range(world)]
    assert set().union(*shares) == set(whole) and {len(share) for share in shares} == {-(-21 // world)}


def test_repeat_factors_are_those_of_the_paper():
    present = np.zeros((10, 4), bool)
    present[:, 0] = True
    present[:4, 1] = present[3:4, 2] = True  # shares 0.4 and 0.1; class 3 is in no sample
    np.testing.assert_allclose(repeat_factors(present, 0.4), [1, 1, 1, 2, *[1] * 6])
    np.testing.assert_allclose(repeat_factors(present, 1), [*[2.5**0.5] * 3, 10**0.5, *[1] * 6])
    assert (repeat_factors(present, 0.05) == 1).all()
    assert (repeat_factors(np.zeros((3, 2), bool), 1) == 1).all()


@pytest.mark.parametrize("world", [1, 2])
def test_each_batch_has_one_size_wherever_it_starts(world):
    def keys(rank=0, **options):
        return list(MixedSizeSampler([8, 16, 32], 4, length=50, seed=3, rank=rank, world_size=world, **options))

    whole = keys(epoch=2)
    assert [key[:2] for key in whole] == list(EpochSampler(50, 3, 2, world_size=world))
    sizes = [size for _, _, size in whole]
    batches = [sizes[start : start + 4] for start in range(0, len(sizes), 4)]
    assert all(len(set(batch)) == 1 for batch in batches) and set(sizes) == {8, 16, 32}
    assert keys(epoch=2, skip=8) == whole[8:]
    assert [size for _, _, size in keys(epoch=3)] != sizes
    assert {tuple(size for _, _, size in keys(rank, epoch=2)) for rank in range(world)} == {tuple(sizes)}


@pytest.mark.parametrize("length", [1, 7, 8, 20])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 30])
def test_evaluation_counts_each_image_once(length, world, batch_size):
    samplers = [EvalBatchSampler(length, batch_size, rank, world) for rank in range(world)]
    batches = [list(sampler) for sampler in samplers]
    assert sorted(i for share in batches for batch in share for i in batch) == list(range(length))
    assert {len(share) for share in batches} == {len(samplers[0])}
    assert max(len(batch) for share in batches for batch in share) <= batch_size
    assert any(share[-1] for share in batches)
