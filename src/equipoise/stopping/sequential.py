"""Tests that stay valid however often one looks: alpha-spending and the normal mixture, over differences with errors.

A z-test at 5 % that is repeated at each of 200 looks promotes a generator that is no better about 40 % of the time.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

RHO = 2.5  # of the mixture, in variances of its first look: tightest after about 20 looks at alpha = 0.05


def spent(alpha: float, look: int) -> float:
    """Return the error 6 alpha/(π² look²) that look 1, 2, 3, … may make; over all looks they add up to alpha."""
    return 6 * alpha / (math.pi * look) ** 2


def z_value(alpha: float) -> float:
    """Return the number that a standard normal draw exceeds with probability alpha in (0, 1)."""
    return -NormalDist().inv_cdf(alpha)  # not inv_cdf(1 − alpha), which rounds a small alpha away


def half_width(alpha: float, look: int, standard_error: float) -> float:
    """Return by how much the difference at this look must be below 0 for a promotion, by alpha-spending.

    It holds for each new generator by itself, and whatever the dependence between looks: over all looks together, the
    probability that any difference is this far below its true value is at most alpha (union bound).
    """
    return z_value(spent(alpha, look)) * standard_error


@dataclass(frozen=True)
class Mixture:
    """The differences since the best generator was found: their sum, its variance V, and ρ, fixed by the first look."""

    sum: float
    variance: float
    rho: float


def mixture_step(state: Mixture | None, difference: float, standard_error: float) -> Mixture:
    """Return the state after one more look at a generator beside the same best one; None before the first."""
    variance = standard_error**2
    if state is None:
        return Mixture(difference, variance, RHO * variance)
    # A first look without error (at the best generator itself) fixes nothing.
    return Mixture(state.sum + difference, state.variance + variance, state.rho or RHO * variance)


def mixture_half_width(state: Mixture, alpha: float) -> float:
    """Return √((V + ρ)(log(1 + V/ρ) + 2 log(1/alpha))), the half width of the interval around the sum; 0 without error.

    It holds for the mean of all generators since the best one, if each look draws a fresh independent sample: with
    probability 1 − alpha the sum of their true differences is inside at every look (Robbins 1970; arXiv:1810.08240).
    Where looks share their reals, the error that these bring does not average out: it speaks of these reals only.
    """
    if state.variance == 0:
        return 0.0
    growth = math.log1p(state.variance / state.rho)
    return math.sqrt((state.variance + state.rho) * (growth - 2 * math.log(alpha)))
