import math

from equipoise.health.stats import ScoreLine
from equipoise.stopping.evidence import Evidence, EvidenceState, evidence_step, evidence_verdict, promotes
from equipoise.stopping.policies import (
    Patience,
    PatienceState,
    Stop,
    Threshold,
    ThresholdState,
    patience_step,
    threshold_step,
)
from equipoise.stopping.progress import evidence_outlook, patience_outlook, threshold_outlook

BARE = Evidence(metric="fid")
COLLAPSE = (16.0, 12.0, 9.0, 7.0, 6.0, 5.0, 50.0, 51.0, 49.0, 50.0)
LATE = (*(16.0 * 0.94**index for index in range(20)), *[80.0, 81.0, 79.0, 80.0] * 3)


def told(policy: Evidence, *values: float) -> list[tuple[str, bool]]:
    """Return the outlook after each score, and whether it was a stop."""
    state, best, found = EvidenceState(), None, []
    for index, value in enumerate(values, 1):
        line = ScoreLine(samples=1000 * index, seconds=0.0, fid=value)
        promoted = best is None or promotes(policy, line, best, 1)
        best = line if promoted else best
        state = evidence_step(policy, state, line, promoted)
        found.append((evidence_outlook(policy, state), isinstance(evidence_verdict(policy, state), Stop)))
    return found


def test_the_outlook_counts_the_scores_down_to_the_stop():
    assert "scores so far" in evidence_outlook(BARE, EvidenceState())
    four = told(BARE, *COLLAPSE)
    assert [f"for {index} of 4 scores" in four[5 + index][0] for index in range(1, 4)] == [True] * 3
    assert four[9][1]
    ten = told(BARE, *LATE)
    assert all(f"for {index} of 10 scores" in ten[19 + index][0] for index in range(1, 10))
    assert [stop for _, stop in ten].index(True) == 29


def test_the_outlook_says_certified_only_of_what_is():
    words = [words for words, _ in told(BARE, *COLLAPSE)]
    assert "certified" not in words[5]  # nothing came since
    assert "certified" in words[9]
    loud = told(Evidence(metric="fid", delta=1e-9), 9, 1, 3, 1.01, 3, 1.01)
    assert all("certified" not in words for words, _ in loud)


def test_the_outlook_of_patience_counts_scores_since_the_best(kids):
    policy, state, words = Patience(3), PatienceState(), []
    for line in kids(0.5, 0.6, math.nan, 0.4):
        state = patience_step(policy, state, line)
        words.append(patience_outlook(policy, state).partition(" scores")[0])
    assert words == ["0 of 3", "1 of 3", "2 of 3", "0 of 3"]


def test_the_outlook_of_the_threshold_says_what_still_has_to_pass(stats):
    policy, state = Threshold(0.5, window=2, minimum=4), ThresholdState()
    assert threshold_outlook(policy, state) == "No D(G(z)) so far."
    for line in stats(3, fake_probability=0.25):
        state = threshold_step(policy, state, line)
    assert "averages 0.25 over the last 2 intervals (3 of at least 4)" in threshold_outlook(policy, state)
    state = threshold_step(policy, state, stats(1, fake_probability=0.75)[0])
    assert threshold_outlook(policy, state) == "D(G(z)) averages 0.50 over the last 2 intervals; 0.5 stops it."
