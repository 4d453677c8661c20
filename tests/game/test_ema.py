"""The average of weights against its closed form."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from equipoise.game.ema import WARM_UP, ema_decay, update_ema


def test_a_weight_loses_half_its_share_in_one_half_life():
    batch, half_life, samples = 50, 1000.0, 10**6
    assert ema_decay(batch, half_life, samples) ** (half_life / batch) == pytest.approx(0.5)


def test_half_life_zero_is_a_plain_copy():
    assert ema_decay(64, 0.0, 10**6) == 0.0
    assert ema_decay(64, 1000.0, 0) == 0.0


def test_early_half_life_is_a_share_of_the_samples_seen():
    assert ema_decay(64, 10_000.0, 6400) == pytest.approx(0.5 ** (64 / (WARM_UP * 6400)))
    assert ema_decay(64, 10_000.0, 10**9) == pytest.approx(0.5 ** (64 / 10_000))


def test_warm_up_leaves_nothing_of_the_initial_weights():
    share = 1.0
    for samples in range(64, 6464, 64):
        share *= ema_decay(64, 10_000.0, samples)
    assert share < 1e-6


def test_update_is_the_geometric_sum_of_the_weights_seen():
    average, module = nn.Linear(3, 2, dtype=torch.float64), nn.Linear(3, 2, dtype=torch.float64)
    decay, history = 0.7, [average.weight.detach().clone()]
    for step in range(5):
        nn.init.constant_(module.weight, step + 1.0)
        history.append(module.weight.detach().clone())
        update_ema(average, module, decay)
    expected = decay**5 * history[0]
    for age, weight in enumerate(reversed(history[1:])):
        expected = expected + (1 - decay) * decay**age * weight
    torch.testing.assert_close(average.weight.detach(), expected)


def test_update_copies_buffers_and_with_decay_zero_the_weights_exactly():
    torch.manual_seed(0)
    average, module = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    module(torch.randn(8, 3))
    update_ema(average, module, 0.0)
    for name, value in module.state_dict().items():
        assert torch.equal(average.state_dict()[name], value), name


def test_update_leaves_the_module_and_the_graph_alone():
    average, module = nn.Linear(2, 2), nn.Linear(2, 2)
    before = module.weight.detach().clone()
    update_ema(average, module, 0.5)
    assert torch.equal(module.weight, before)
    assert average.weight.grad_fn is None


def test_the_averaged_weights_of_a_spectral_norm_have_a_largest_singular_value_of_one():
    torch.manual_seed(0)
    module = parametrizations.spectral_norm(nn.Linear(16, 16))
    average = copy.deepcopy(module).eval()
    original = module.get_parameter("parametrizations.weight.original")
    for _ in range(500):
        with torch.no_grad():
            original.add_(0.02 * torch.randn(16, 16))
        module(torch.randn(2, 16))
        update_ema(average, module, 0.99)
    assert torch.linalg.matrix_norm(average.weight, 2).item() == pytest.approx(1, abs=1e-3)
    assert not average.training
