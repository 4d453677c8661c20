import math

import numpy as np
import pytest
import scipy.linalg
import torch

from equipoise.errors import UserError
from equipoise.metrics.fid import fid, moments


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_fid_of_one_dimension_is_the_closed_form():
    x, y = _normal(1, 50, 1) * 3 + 1, _normal(2, 70, 1)
    by_hand = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert fid(moments(x), moments(y)) == pytest.approx(by_hand.item(), rel=1e-12)


def test_fid_agrees_with_the_matrix_square_root_of_scipy():
    x, y = _normal(1, 400, 20) @ _normal(3, 20, 20), _normal(2, 300, 20) + 0.5
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = np.real(scipy.linalg.sqrtm(a @ b))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(a + b - 2 * root)
    assert fid(moments(x), moments(y)) == pytest.approx(expected, rel=1e-9)


def test_fid_agrees_with_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 27

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)

    x, y = _normal(1, 300, 3, 3, 3).float(), _normal(2, 200, 3, 3, 3).float() * 1.3 + 0.2
    reference = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 3, 3), normalize=True)
    reference.update(x, real=True)
    reference.update(y, real=False)
    assert fid(moments(x.flatten(1)), moments(y.flatten(1))) == pytest.approx(float(reference.compute()), rel=1e-4)


def test_fid_of_a_set_with_itself_is_0_also_where_its_covariance_is_singular():
    for num in (500, 10):
        features = _normal(1, num, 40) * 5 + 3
        assert fid(moments(features), moments(features)) == pytest.approx(0, abs=1e-9)


def test_fid_of_singular_covariances_is_that_of_the_subspace():
    x, y = _normal(1, 400, 3), _normal(2, 400, 3) * 2
    basis = torch.linalg.qr(_normal(3, 30, 3)).Q.T
    inside = fid(moments(x), moments(y))
    assert fid(moments(x @ basis), moments(y @ basis)) == pytest.approx(inside, rel=1e-6)


def test_moments_of_parts_add_up_to_those_of_the_whole():
    x = _normal(1, 100, 6) + 7
    parts, whole = moments(x[:30]) + moments(x[30:]), moments(x)
    assert parts.num == 100
    torch.testing.assert_close(parts.mean, x.mean(0))
    torch.testing.assert_close(parts.covariance, torch.cov(x.T))
    torch.testing.assert_close(parts.covariance, whole.covariance)


def test_fid_of_one_sample_is_refused():
    one, some = moments(_normal(1, 1, 3)), moments(_normal(1, 9, 3))
    for pair in ((one, some), (some, one)):
        with pytest.raises(UserError) as refused:
            fid(*pair)
        assert refused.value.subject == "FID"


def test_eigenvalues_that_do_not_converge_are_found_another_way_and_else_nothing_fails(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    first, second = (moments(torch.randn(30, 40, generator=generator)) for _ in range(2))
    expected = fid(first, second)

    def fails(*_, **__):
        raise RuntimeError("failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    assert fid(first, second) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(torch.linalg, "svd", fails)
    assert math.isnan(fid(first, second))
