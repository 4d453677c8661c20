"""How near a policy is to a stop, in one plain sentence each, from the same states and findings as its verdict."""

import math
import statistics

from equipoise.stopping.evidence import NUM_SINCE, Evidence, EvidenceState, examined, percent
from equipoise.stopping.policies import Patience, PatienceState, Threshold, ThresholdState


def evidence_outlook(policy: Evidence, state: EvidenceState) -> str:
    """Say what has been waited for, what more training is forecast to bring, and what is certified."""
    found = examined(policy, state)
    if found is None:
        return "Too few scores so far."
    gain = f"a quarter more training is forecast to bring {percent(found.forecast)} (price {percent(policy.price)})"
    if found.num_since == 0:
        return f"The last score is the lowest so far; {gain}."
    last, best = state.looks[-1].samples, found.best.samples
    spacing = last / found.num_looks
    missing = policy.share * max(best, spacing) - (last - best)
    needed = max(NUM_SINCE, found.num_since + math.ceil(max(0.0, missing) / max(spacing, 1.0)))
    stood = f"{found.num_since} of {needed}" if needed > found.num_since else f"{found.num_since}"
    certified = found.bound > -math.log1p(policy.delta)
    since = "no mean gain since (certified)" if certified else "a gain since is not ruled out"
    return f"Unbeaten for {stood} scores; {gain}; {since}."


def threshold_outlook(policy: Threshold, state: ThresholdState) -> str:
    """Say how near D(G(z)) is to the level."""
    if not state.recent:
        return "No D(G(z)) so far."
    seen = f" ({state.num_seen} of at least {policy.minimum})" if state.num_seen < policy.minimum else ""
    num, mean = len(state.recent), statistics.fmean(state.recent)
    return f"D(G(z)) averages {mean:.2f} over the last {num} intervals{seen}; {policy.level:g} stops it."


def patience_outlook(policy: Patience, state: PatienceState) -> str:
    """Say how much of the patience is used up."""
    return f"{state.num_since} of {policy.patience} scores without a better one."
