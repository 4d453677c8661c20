"""Positional randomness: the same place gives the same draws, any other place others, and no global stream moves."""

import itertools

import pytest
import torch

from equipoise.randomness import Randomness, stream_seed


def test_every_part_of_a_place_makes_a_seed_of_its_own():
    places = list(itertools.product((0, 1, 12), ("a", "b"), (0, 1, 23), (0, 1, 2)))
    seeds = [stream_seed(*place) for place in places]
    assert len(set(seeds)) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [stream_seed(*place) for place in places]


def test_parts_of_a_place_do_not_run_into_one_another():
    """Seed 1 at 23 samples is not seed 12 at 3 samples, and an attempt is no end of the samples."""
    assert stream_seed(1, "a", 23) != stream_seed(12, "a", 3)
    assert stream_seed(1, "a", 2, 3) != stream_seed(1, "a", 23)


def test_seeds_are_those_of_runs_that_were_begun_before():
    """What is computed here decides every draw of a run: another number would end the equality after a resume."""
    assert stream_seed(0, "weights", 0) == 6579489009559179723
    assert stream_seed(7, "latents", 640, 2) == 1623669625080530898


def test_a_rewound_run_does_not_meet_the_draws_it_diverged_with():
    first, second = (Randomness(3, 640, attempt).normal("latents", 50) for attempt in (0, 1))
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1].item()) < 0.6
    assert torch.equal(first, Randomness(3, 640).normal("latents", 50))


@pytest.mark.parametrize("stream", ["latents", "noise"])
def test_draws_leave_the_global_stream_as_it_was(stream: str):
    before = torch.get_rng_state()
    found = Randomness(3, 640).normal(stream, 4, 2)
    assert found.shape == (4, 2)
    assert torch.equal(torch.get_rng_state(), before)
    again = torch.randn(4, 2, generator=Randomness(3, 640).generator(stream))
    assert torch.equal(found, again)
