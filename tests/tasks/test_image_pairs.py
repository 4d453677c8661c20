"""Batches in pairs: partners are of the same kind, are drawn evenly, and depend on the position alone."""

import numpy as np
import torch

from equipoise.randomness import Randomness
from equipoise.tasks.image_pairs import in_pairs, kinds_of

OF_IMAGE = np.array([0, 2, 0, 2, 2, 0, 3, 9], np.int64)  # the last one is not trained on, and nothing is of kind 1
TRAIN = np.array([5, 0, 2, 3, 1, 4, 6])


def test_the_training_images_of_each_kind_are_its_part_and_held_out_ones_are_in_none() -> None:
    parts = kinds_of(OF_IMAGE, TRAIN, 4).parts
    assert [sorted(part.tolist()) for part in parts] == [[0, 2, 5], [], [1, 3, 4], [6]]


def test_each_image_of_the_first_half_gets_a_partner_of_its_kind_drawn_evenly_from_all_of_them() -> None:
    kinds = kinds_of(OF_IMAGE, TRAIN, 4)
    first = torch.tensor([0, 1, 6])
    partners = []
    for place in range(3_000):
        batch = in_pairs(torch.cat([first, torch.tensor([2, 3, 4])]), kinds, Randomness(0, samples=place))
        assert torch.equal(batch[:3], first)
        assert OF_IMAGE[batch[3:]].tolist() == [0, 2, 3]
        partners.append(batch[3:].tolist())
    counts = np.bincount(np.array(partners)[:, 0], minlength=6)[[0, 2, 5]]
    assert counts.sum() == 3_000
    assert np.abs(counts - 1_000).max() < 4 * (3_000 * 2 / 9) ** 0.5, "each of the kind is as likely"
    assert {partner for _, _, partner in partners} == {6}, "one alone is its own partner"


def test_partners_depend_on_the_position_alone_and_an_odd_one_keeps_its_place() -> None:
    kinds = kinds_of(OF_IMAGE, TRAIN, 4)
    indices = torch.tensor([0, 1, 3, 5, 4])
    one = in_pairs(indices, kinds, Randomness(7, samples=64))
    assert torch.equal(one, in_pairs(indices, kinds, Randomness(7, samples=64)))
    assert one[4] == 4
    many = {tuple(in_pairs(indices, kinds, Randomness(7, samples=place)).tolist()) for place in range(20)}
    assert len(many) > 1
