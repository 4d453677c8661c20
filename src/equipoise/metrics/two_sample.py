"""How well a classifier tells generated samples from real ones, a two-sample test (arXiv:1610.06545)."""

import torch
from torch import Tensor

from equipoise.metrics.auroc import auroc

RIDGE = 1e-3  # of the mean variance: enough for fewer samples than dimensions
LEAST = 1e-30  # variance, so that features that never vary divide nothing by zero


@torch.no_grad()
def told_apart(real_train: Tensor, fake_train: Tensor, real_test: Tensor, fake_test: Tensor) -> float:
    """Return in which share of pairs of a real and a generated test sample Fisher's discriminant picks the real one.

    It is fitted to features [N, D] of other samples, so that two samples of one distribution give ½, in the mean and
    whatever the dimension. All differences are weighed against the spread of the features in their direction: it sees
    one that is small and consistent, which hardly adds to a distance. Raises UserError where a sample is empty.
    """
    real = real_train.double()
    fake = fake_train.double()
    real_mean = real.mean(0)
    fake_mean = fake.mean(0)
    scatter = torch.cat([real - real_mean, fake - fake_mean])
    within = scatter.T @ scatter / len(scatter)
    within.diagonal().add_(RIDGE * within.diagonal().mean().clamp(min=LEAST))
    direction = torch.linalg.solve(within, real_mean - fake_mean)
    return auroc(real_test.double() @ direction, fake_test.double() @ direction)
