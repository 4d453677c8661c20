import pytest
import torch

from equipoise.errors import UserError
from equipoise.judge import memorization
from equipoise.judge.memorization import nearest


def test_nearest_finds_what_a_full_sort_finds_across_chunks(monkeypatch):
    monkeypatch.setattr(memorization, "CHUNK", 32)
    generator = torch.Generator().manual_seed(0)
    query, bank = torch.randn(7, 5, generator=generator), torch.randn(100, 5, generator=generator)
    distances, indices = nearest(query, bank, 3)
    expected = torch.cdist(query, bank).sort(1)
    assert torch.equal(indices, expected.indices[:, :3])
    torch.testing.assert_close(distances, expected.values[:, :3])


def test_a_copy_is_found_at_distance_0_even_far_from_the_origin():
    bank = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) + 100
    distances, indices = nearest(bank[[17, 4]], bank, 2)
    assert indices[:, 0].tolist() == [17, 4]
    assert distances[:, 0].tolist() == [0, 0]


def test_more_neighbours_than_the_bank_holds_is_refused():
    with pytest.raises(UserError, match="from 1 to 3"):
        nearest(torch.zeros(1, 2), torch.zeros(3, 2), 4)
