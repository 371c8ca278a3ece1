import pytest

from seglab.data.sampler import EpochSampler, EvalBatchSampler


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
