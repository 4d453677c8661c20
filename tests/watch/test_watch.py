import json
import math
from dataclasses import replace

import pytest

from equipoise.errors import UserError
from equipoise.recipe import Budget, PolicyName, Stopping
from equipoise.watch.stopping import Continue, Stop
from equipoise.watch.watch import HISTORY, Watch

BUDGET = Budget(samples=100_000, seconds=None)


def a_watch(policy: PolicyName = "budget", **settings: int) -> Watch:
    return Watch(replace(Stopping(policy=policy), **settings), BUDGET, "kid")


def test_the_best_is_the_lowest_and_an_equal_one_is_not_better(kids):
    watch = a_watch()
    assert [watch.score(line) for line in kids(0.5, 0.5, 0.4, math.nan, 0.45)] == [True, False, True, False, False]
    assert watch.best is not None
    assert watch.best.samples == 3000
    assert watch.last is not None
    assert watch.last.kid == 0.45


def test_a_failed_judgement_is_never_the_best_but_uses_up_patience(kids):
    watch = a_watch("patience", patience=2)
    assert watch.score(None) is False
    assert watch.best is None
    assert watch.last is None
    assert watch.verdict(1, 1.0) == Continue()
    assert watch.score(kids(0.5)[0]) is True
    watch.score(None)
    watch.score(None)
    assert isinstance(watch.verdict(1, 1.0), Stop)


def test_scores_of_two_protocols_are_never_compared(kids):
    watch = a_watch()
    watch.score(kids(0.5)[0])
    with pytest.raises(ValueError, match="two protocols"):
        watch.score(replace(kids(0.4)[0], protocol={"split": "test"}))


@pytest.mark.parametrize(
    ("policy", "stops"), [("budget", False), ("patience", True), ("discriminator-threshold", True)]
)
def test_only_the_chosen_policy_decides(stats, kids, policy, stops):
    watch = a_watch(policy, patience=2)
    for line in stats(30, fake_probability=0.9):
        watch.observe(line)
    for line in kids(0.1, 0.2, 0.3):
        watch.score(line)
    verdict = watch.verdict(50_000, 1e9)
    assert isinstance(verdict, Stop) == stops
    spent = watch.verdict(100_000, 0.0)
    assert isinstance(spent, Stop)
    assert spent.policy == policy


def a_stream(stats, kids):
    probabilities = [0.2 + 0.01 * index for index in range(60)]
    steps = [stats(first=i, fake_probability=p, accuracy=1 - p / 2)[0] for i, p in enumerate(probabilities, 1)]
    values = [0.5, 0.4, math.nan, 0.45, 0.3, 0.35, 0.31, 0.33, 0.4, 0.31, 0.32, 0.4]
    return [("step", step) for step in steps], [("score", line) for line in kids(*values)]


def feed(watch, item):
    kind, value = item
    if kind == "step":
        watch.observe(value)
    else:
        watch.score(value)


@pytest.mark.parametrize("policy", ["budget", "patience", "discriminator-threshold"])
def test_a_watch_restored_from_json_at_any_point_gives_the_same_verdicts(stats, kids, policy):
    steps, scores = a_stream(stats, kids)
    stream = [
        item for index, step in enumerate(steps) for item in ([step, scores[index // 5]] if index % 5 == 4 else [step])
    ]

    def verdicts(watch, items):
        told = []
        for item in items:
            feed(watch, item)
            told.append((watch.verdict(1000, 1.0), watch.sentence()))
        return told

    whole = verdicts(a_watch(policy, patience=4), stream)
    assert policy == "budget" or any(isinstance(verdict, Stop) for verdict, _ in whole)
    for cut in range(0, len(stream), 3):
        first = a_watch(policy, patience=4)
        for item in stream[:cut]:
            feed(first, item)
        again = a_watch(policy, patience=4)
        again.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        assert again.state_dict() == first.state_dict()
        assert verdicts(again, stream[cut:]) == whole[cut:]


def test_the_history_stays_bounded_and_reaches_back_to_the_beginning(stats):
    watch = a_watch()
    for line in stats(5000):
        watch.observe(line)
    kept = [record["samples"] for record in watch.state_dict()["history"]]
    assert len(kept) <= HISTORY
    assert kept == sorted(kept)
    assert kept[0] == 100
    assert kept[-32:] == [100 * index for index in range(4969, 5001)]


def test_a_state_of_another_shape_is_refused_in_one_line():
    with pytest.raises(UserError, match="another version"):
        a_watch().load_state_dict({"threshold": {"recent": "x"}})
