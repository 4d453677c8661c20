import numpy as np
import pytest
import torch
from prdc import compute_prdc

from equipoise.errors import UserError
from equipoise.metrics import prdc as module
from equipoise.metrics.prdc import prdc, squared_distances, squared_radii


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("num_real", "num_fake", "k"), [(200, 200, 5), (150, 90, 3), (80, 160, 1)])
def test_prdc_agrees_with_the_reference_implementation(num_real, num_fake, k, capsys):
    real, fake = _normal(1, num_real, 6), _normal(2, num_fake, 6) * 0.8 + 0.3
    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    ours = prdc(real, fake, k)
    for name, value in expected.items():
        assert getattr(ours, name) == pytest.approx(value, rel=1e-12), name


def test_prdc_by_hand_on_a_line():
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.5], [9.0]])
    # k = 1: real radii 1, 1, 2; fake radii 2, 2, 6.5. 0.5 lies in two real balls, 2.5 in one, 9 in none.
    # Real 0, 1 and 3 all lie in a fake ball; every real ball holds a fake point.
    found = prdc(real, fake, 1)
    assert (found.precision, found.recall) == (pytest.approx(2 / 3), 1.0)
    assert (found.density, found.coverage) == (pytest.approx(1.0), 1.0)


def test_chunks_and_a_cached_real_side_do_not_change_the_result(monkeypatch):
    real, fake = _normal(1, 90, 4), _normal(2, 70, 4)
    whole = prdc(real, fake)
    monkeypatch.setattr(module, "CHUNK", 16)
    assert prdc(real, fake) == whole
    assert prdc(real, fake, real_radii=squared_radii(real - real.mean(0), 5)) == whole


def test_a_far_offset_does_not_cost_digits():
    real, fake = _normal(1, 200, 8).float(), _normal(2, 200, 8).float()
    assert prdc(real + 1000, fake + 1000).coverage == pytest.approx(prdc(real, fake).coverage, abs=0.02)


def test_squared_distances_are_those_of_cdist():
    a, b = _normal(1, 30, 7), _normal(2, 20, 7)
    torch.testing.assert_close(squared_distances(a, b), torch.cdist(a, b).square())


def test_a_dropped_mode_lowers_recall_and_coverage_but_not_precision():
    real = torch.cat([_normal(1, 300, 4), _normal(2, 300, 4) + 20])
    found = prdc(real, _normal(3, 600, 4))
    assert found.precision > 0.85
    assert found.recall < 0.5
    assert found.coverage < 0.52


def test_more_neighbours_than_samples_is_refused():
    with pytest.raises(UserError, match="k=5"):
        prdc(_normal(1, 5, 2), _normal(2, 50, 2))
    assert np.isfinite(prdc(_normal(1, 6, 2), _normal(2, 6, 2)).density)
