"""The monitor: the best, the candidates, guards, verdicts, and its state at every point of any history."""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import UserError
from equipoise.health.stats import HISTORY
from equipoise.recipe import (
    BoundaryName,
    Budget,
    EvidenceSettings,
    Game,
    OptimizerSettings,
    PatienceSettings,
    PolicyName,
    Remedies,
    Stopping,
)
from equipoise.stopping.monitor import NUM_CANDIDATES, SCORES, Monitor, guard_text
from equipoise.stopping.verdicts import NUM_FAILED, NUM_STUCK, Continue, Remedy, Stop, Verdict
from equipoise.storage.records import Metric, Score, StepStats

changed = msgspec.structs.replace
Kids = Callable[..., list[Score]]
Stats = Callable[..., list[StepStats]]
BUDGET = Budget(samples=100_000, seconds=None)
METRICS = (Metric(name="kid", label="KID", decides=True, signed=True), Metric(name="fid", label="FID"))


def a_monitor(policy: PolicyName = "budget", *metrics: Metric, **options: Any) -> Monitor:
    stopping = Stopping(policy=policy, **options)
    return Monitor(stopping, BUDGET, metrics or METRICS)


def patient(evaluations: int) -> dict[str, Any]:
    return {"patience": PatienceSettings(evaluations=evaluations)}


def test_the_best_is_the_lowest_and_an_equal_one_is_not_better(kids: Kids):
    monitor = a_monitor()
    assert [monitor.score(one) for one in kids(0.5, 0.5, 0.4, math.nan, 0.45)] == [True, False, True, False, False]
    assert monitor.best is not None
    assert monitor.best.samples == 3000
    assert monitor.last is not None
    assert monitor.last.loss == 0.45


def test_a_failed_evaluation_is_never_the_best_but_uses_up_patience(kids: Kids):
    monitor = a_monitor("patience", **patient(2))
    assert monitor.score(None) is False
    assert monitor.best is None
    assert monitor.last is None
    assert monitor.verdict(1, 1.0) == Continue()
    assert monitor.score(kids(0.5)[0]) is True
    monitor.score(None)
    monitor.score(None)
    assert isinstance(monitor.verdict(1, 1.0), Stop)


def test_scores_of_two_protocols_are_never_compared(kids: Kids):
    monitor = a_monitor()
    monitor.score(kids(0.5)[0])
    before = monitor.state_dict()
    with pytest.raises(ValueError, match="protocols"):
        monitor.score(changed(kids(0.4)[0], protocol={"split": "test"}))
    assert monitor.best is not None
    assert monitor.best.loss == 0.5
    assert monitor.state_dict()["evidence"] == before["evidence"]


@pytest.mark.parametrize(
    ("policy", "stops"),
    [("evidence", True), ("budget", False), ("patience", True), ("discriminator-threshold", True)],
)
def test_only_the_chosen_policy_decides(stats: Stats, kids: Kids, policy: PolicyName, stops: bool):
    monitor = a_monitor(policy, **patient(2))
    for one in stats(30, fake_probability=0.9):
        monitor.observe(one)
    for one in kids(0.1, 0.9, 0.9, 0.9, 0.9):
        monitor.score(one)
    verdict = monitor.verdict(50_000, 1e9)
    assert isinstance(verdict, Stop) == stops
    spent = monitor.verdict(100_000, 0.0)
    assert isinstance(spent, Stop)
    assert spent.reason == policy


def test_the_policy_says_what_the_deciding_metric_is_called(stats: Stats, kids: Kids):
    metrics = (Metric(name="a", label="A"), Metric(name="mse", label="MSE-Y", decides=True))
    monitor = a_monitor("patience", *metrics, **patient(1))
    for one in kids(0.1, 0.9):
        monitor.score(one)
    verdict = monitor.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert "MSE-Y" in verdict.message
    assert "MSE-Y" in monitor.sentence()


Item = StepStats | Score | None


def a_stream(stats: Stats, kids: Kids) -> list[Item]:
    probabilities = [0.2 + 0.01 * index for index in range(60)]
    steps = [stats(first=i, fake_probability=p, accuracy=1 - p / 2)[0] for i, p in enumerate(probabilities, 1)]
    values = [0.5, 0.4, math.nan, 0.45, 0.3, 0.35, 0.31, 0.33, 0.4, 0.31, 0.32, 0.4]
    found = kids(*values)
    return [
        one for index, step in enumerate(steps) for one in ([step, found[index // 5]] if index % 5 == 4 else [step])
    ]


def feed(monitor: Monitor, item: Item) -> bool:
    if isinstance(item, StepStats):
        monitor.observe(item)
        return False
    return monitor.score(item)


@pytest.mark.parametrize("policy", ["evidence", "budget", "patience", "discriminator-threshold"])
def test_a_monitor_restored_from_json_at_any_point_gives_the_same_verdicts(
    stats: Stats, kids: Kids, policy: PolicyName
):
    stream = a_stream(stats, kids)

    def verdicts(monitor: Monitor, items: list[Item]) -> list[tuple[Verdict, str]]:
        found = []
        for item in items:
            feed(monitor, item)
            found.append((monitor.verdict(1000, 1.0), monitor.sentence()))
        return found

    eager = {"evidence": EvidenceSettings(min_gain=1.0, delta=1.0), **patient(4)}
    whole = verdicts(a_monitor(policy, **eager), stream)
    assert policy == "budget" or any(isinstance(verdict, Stop) for verdict, _ in whole)
    for cut in range(0, len(stream), 3):
        first = a_monitor(policy, **eager)
        for item in stream[:cut]:
            feed(first, item)
        again = a_monitor(policy, **eager)
        again.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        assert again.state_dict() == first.state_dict()
        assert verdicts(again, stream[cut:]) == whole[cut:]


def test_the_history_stays_bounded_and_reaches_back_to_the_beginning(stats: Stats):
    monitor = a_monitor()
    for one in stats(5000):
        monitor.observe(one)
    kept = [record["samples"] for record in monitor.state_dict()["history"]]
    assert len(kept) <= HISTORY
    assert kept == sorted(kept)
    assert kept[0] == 100
    assert kept[-32:] == [100 * index for index in range(4969, 5001)]


def test_a_moment_with_skipped_steps_is_none_to_go_back_to(stats: Stats):
    monitor = a_monitor()
    assert monitor.is_healthy
    monitor.observe(stats(1, skipped_steps=1)[0])
    assert not monitor.is_healthy
    monitor.observe(stats(1, first=2)[0])
    assert monitor.is_healthy


# Divergence


def test_a_stuck_game_is_remedied_as_often_as_is_allowed_and_then_stopped(stats: Stats):
    game = Game(generator=OptimizerSettings(rate=0.5))
    monitor = Monitor(Stopping(policy="budget"), BUDGET, METRICS, Remedies(attempts=2), game=game)
    for one in stats(NUM_STUCK, discriminator_loss=math.nan, skipped_steps=5):
        assert monitor.verdict(1, 1.0) == Continue()
        monitor.observe(one)
    found = [monitor.verdict(1, 1.0, attempt) for attempt in range(4)]
    assert [type(verdict) for verdict in found] == [Remedy, Remedy, Stop, Stop]
    assert isinstance(found[-1], Stop)
    assert found[-1].reason == "diverged"
    assert "game.generator.rate=0.125" in found[-1].message
    monitor.observe(stats(1, first=4)[0])
    assert monitor.verdict(1, 1.0) == Continue()


def test_without_remedies_a_stuck_game_is_stopped_at_once_before_its_budget_is_looked_at(stats: Stats):
    monitor = a_monitor()
    for one in stats(NUM_STUCK, generator_loss=math.nan, skipped_steps=5):
        monitor.observe(one)
    for spent in (1, 10**9):
        verdict = monitor.verdict(spent, 1.0)
        assert isinstance(verdict, Stop)
        assert verdict.reason == "diverged"


# Evaluations that fail


@pytest.mark.parametrize("policy", ["evidence", "budget", "discriminator-threshold"])
def test_evaluations_that_all_fail_stop_the_run_with_the_last_error(policy: PolicyName):
    monitor = a_monitor(policy)
    for index in range(NUM_FAILED):
        assert monitor.verdict(1, 1.0) == Continue()
        monitor.score(None, f"ValueError: {index}")
    verdict = monitor.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert verdict.reason == "evaluation-failed"
    assert f"ValueError: {NUM_FAILED - 1}" in verdict.message


def test_evaluations_that_fail_after_one_that_succeeded_stop_nothing(kids: Kids):
    monitor = a_monitor()
    for found in (None, None, kids(0.5)[0], *[None] * (SCORES + NUM_FAILED)):
        monitor.score(found, "ValueError")
        assert monitor.verdict(1, 1.0) == Continue()


def test_evaluations_that_fail_after_broken_guards_are_not_all_of_them(kids: Kids):
    monitor = a_monitor("budget", *GUARDED)
    monitor.score(with_guards(kids(0.5)[0], 20.0))
    for _ in range(2 * NUM_FAILED):
        monitor.score(None, "ValueError")
    assert monitor.verdict(1, 1.0) == Continue()


def test_scores_that_are_not_finite_are_no_evaluations_that_succeeded_and_no_failed_ones(kids: Kids):
    monitor = a_monitor()
    for found in kids(*[math.nan] * 2 * NUM_FAILED):
        monitor.score(found)
    assert monitor.verdict(1, 1.0) == Continue(), "the judge works; it is the generator that does not"
    for found in (*[None] * (NUM_FAILED - 1), kids(math.nan)[0], None):
        monitor.score(found, "ValueError")
        assert monitor.verdict(1, 1.0) == Continue()
    for _ in range(NUM_FAILED - 1):
        monitor.score(None, "ValueError")
    verdict = monitor.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert verdict.reason == "evaluation-failed"


# Guards

GUARDED = (
    Metric(name="kid", label="KID", decides=True, signed=True),
    Metric(name="psnr", label="PSNR-Y", unit="dB", better="higher", guard=26.0),
    Metric(name="copies", guard=0.1),
)


def with_guards(found: Score, psnr: float, copies: float = 0.0) -> Score:
    values = {"kid": found.loss, "psnr": psnr, "copies": copies}
    broken = tuple(metric.name for metric in GUARDED if not metric.is_kept_by(values[metric.name]))
    return changed(found, values=values, broken=broken)


def test_a_generator_that_breaks_a_guard_is_neither_best_nor_candidate_however_low_its_score(kids: Kids):
    monitor = a_monitor("evidence", *GUARDED)
    every = [with_guards(one, psnr) for one, psnr in zip(kids(0.1, 0.5, 0.2, 0.6), (25.9, 26, 20, 27), strict=True)]
    assert [monitor.score(one) for one in every] == [False, True, False, False]
    assert [one.samples for one in monitor.candidates] == [2000, 4000]
    assert monitor.last == every[-1]


@pytest.mark.parametrize("policy", ["patience", "evidence"])
def test_no_policy_measures_the_others_against_it(kids: Kids, policy: PolicyName):
    """A generator that cannot be selected must not end a training in which those that can still improve."""
    monitor = a_monitor(policy, *GUARDED, **patient(3))
    losses = (0.1, *(0.5 - 0.02 * index for index in range(12)))
    for index, one in enumerate(kids(*losses, se=0.001)):
        monitor.score(with_guards(one, 27.0 if index else 20.0))
        assert monitor.verdict(1, 1.0) == Continue()
    assert monitor.best is not None
    assert monitor.best.samples == 13_000


def test_a_row_of_them_uses_up_patience_and_is_no_evidence(kids: Kids):
    patience, evidence = a_monitor("patience", *GUARDED, **patient(3)), a_monitor("evidence", *GUARDED)
    for one in kids(0.5, 0.4, 0.3, 0.2):
        patience.score(with_guards(one, 20.0))
        evidence.score(with_guards(one, 20.0))
    verdict = patience.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert verdict.reason == "patience"
    assert evidence.certificate() is None
    for monitor in (patience, evidence):
        assert monitor.last is not None
        assert monitor.best is None


def test_nor_does_a_paired_difference_carry_it(kids: Kids):
    monitor = a_monitor("evidence", *GUARDED)
    first = with_guards(kids(0.5)[0], 27.0)
    monitor.score(first)
    assert monitor.score(with_guards(paired(2000, first, -0.4, loss=0.1), 25.0)) is False
    assert monitor.score(with_guards(paired(3000, first, -0.4, loss=0.1), 27.0)) is True


def test_the_status_names_each_broken_guard_its_limit_and_by_how_much(kids: Kids):
    for policy in ("evidence", "budget", "patience"):
        monitor = a_monitor(policy, *GUARDED)
        monitor.score(with_guards(kids(0.5)[0], 25.25, copies=0.375))
        told = monitor.stopping_status()
        for part in ("PSNR-Y", "25.25", "26", "dB", "copies", "0.375", "0.1"):
            assert part in told
        monitor.score(with_guards(kids(0.5, 0.4)[1], 27.0))
        assert "PSNR-Y" not in monitor.stopping_status()


def stopped(monitor: Monitor) -> str:
    """Return the words of a stop."""
    verdict = monitor.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    return verdict.message


@pytest.mark.parametrize("policy", ["patience", "evidence", "discriminator-threshold"])
@pytest.mark.parametrize(("broken", "is_named"), [((), False), ((2000,), True), ((7000,), True), ((4000,), False)])
def test_a_stop_names_the_guard_that_the_last_or_a_lower_generator_breaks(
    stats: Stats, kids: Kids, policy: PolicyName, broken: tuple[int, ...], is_named: bool
):
    """That of 2,000 samples is lower than the best one's, that of 4,000 and the last one are higher."""
    options: dict[str, Any] = patient(3) | {"evidence": EvidenceSettings(min_gain=1.0)}
    second = 0.3 if 2000 in broken else 0.6
    monitor, again = a_monitor(policy, *GUARDED, **options), a_monitor(policy, *GUARDED, **options)
    for one in stats(30, fake_probability=0.9):
        monitor.observe(one)
    for one in kids(0.5, second, *[0.8] * 5, se=0.001):
        monitor.score(with_guards(one, 25.25 if one.samples in broken else 27.0))
    message = stopped(monitor)
    for part in ("PSNR-Y", "25.25 dB"):
        assert (part in message) == is_named
    assert ("2,000" in message) == (2000 in broken)
    assert ("that keep" in message) == (2000 in broken and policy != "discriminator-threshold")
    again.load_state_dict(json.loads(json.dumps(monitor.state_dict(), allow_nan=False)))
    assert stopped(again) == message


def test_a_stop_without_a_candidate_names_the_guard(kids: Kids):
    monitor = a_monitor("patience", *GUARDED, **patient(3))
    for one in kids(0.5, 0.4, 0.3):
        monitor.score(with_guards(one, 20.0))
    assert "PSNR-Y" in stopped(monitor)
    monitor.forget_scores()
    assert monitor.state_dict() == a_monitor("patience", *GUARDED).state_dict()


def test_a_missed_guard_is_told_on_its_right_side(kids: Kids):
    found = with_guards(kids(0.5)[0], 25.25, copies=0.375)
    assert "below" in guard_text(GUARDED[1], found)
    assert "above" in guard_text(GUARDED[2], found)


def test_a_guard_is_not_kept_by_what_is_no_number_or_on_the_wrong_side_without_end():
    for metric, wrong in ((GUARDED[1], -math.inf), (GUARDED[2], math.inf)):
        assert not metric.is_kept_by(math.nan)
        assert not metric.is_kept_by(wrong)
        assert metric.guard is not None
        assert metric.is_kept_by(metric.guard)


# The state, at every point of any history

PLACES = st.sampled_from([math.nan, 0.0, 0.4, 0.9])
ERRORS = st.sampled_from([math.nan, 0.0, 0.001, 0.01, 0.1])


@st.composite
def histories(draw: st.DrawFn) -> list[Item]:
    """Return logging intervals, scores and failed scores in any order, many of them against the present best."""
    monitor, items = a_monitor(), []
    numbers: dict[str, Any] = dict.fromkeys(NUMBERS, 0.3)
    for index in range(1, draw(st.integers(5, 16)) + 1):
        kind = draw(st.sampled_from(["step", "score", "score", "score", "failed"]))
        if kind == "step":
            loss, fooled = draw(st.sampled_from([0.5, math.nan])), draw(PLACES)
            items.append(
                StepStats(
                    samples=100 * index,
                    seconds=0.1 * index,
                    discriminator_loss=loss,
                    fake_probability=fooled,
                    terms={"a": loss},
                    **numbers,
                )
            )
            continue
        items.append(None)
        if kind == "score":
            loss = draw(st.one_of(st.just(math.nan), st.floats(-0.01, 10), st.sampled_from([1.0, 9.0])))
            best = monitor.best.samples if monitor.best else 0
            names = ("coverage", "recall", "discriminator_gap")
            items[-1] = Score(
                samples=100 * index,
                seconds=0.1,
                loss=loss,
                error=draw(ERRORS),
                compared_with=draw(st.sampled_from([best, best, 100])),
                difference=draw(st.one_of(st.just(math.nan), st.floats(-1, 1))),
                difference_error=draw(ERRORS),
                values={name: draw(PLACES) for name in names} | {"copying": draw(st.sampled_from([0.1, -5.0]))},
                broken=draw(st.sampled_from([(), (), (), ("psnr",)])),
                protocol={"split": "validation"},
            )
        monitor.score(items[-1], "OSError")
    return items


NUMBERS = (
    *("generator_loss", "penalty", "real_logit", "fake_logit", "real_probability", "accuracy"),
    *("discriminator_gradient", "generator_gradient", "discriminator_rate", "generator_rate", "samples_per_second"),
)


def told(monitor: Monitor, item: Item) -> tuple[Any, ...]:
    """Feed one item, and return everything that a monitor says after it."""
    is_best = feed(monitor, item)
    candidates = [msgspec.to_builtins(one) for one in monitor.candidates]
    words = (monitor.sentence(), monitor.stopping_status())
    found = (monitor.verdict(100, 1.0), monitor.certificate(), monitor.is_healthy)
    return is_best, repr(candidates), *found, words, monitor.state_dict()


@pytest.mark.parametrize("boundary", ["alpha-spending", "normal-mixture"])
@pytest.mark.parametrize("policy", ["evidence", "budget", "patience", "discriminator-threshold"])
@given(history=histories())
@settings(deadline=None, max_examples=12)
def test_a_monitor_restored_at_any_point_of_any_history_says_the_same_ever_after(
    policy: PolicyName, boundary: BoundaryName, history: list[Item]
):
    stopping = Stopping(policy=policy, evidence=EvidenceSettings(boundary=boundary, min_gain=0.05), **patient(3))
    first = Monitor(stopping, BUDGET, GUARDED)
    written, whole = [first.state_dict()], []
    for item in history:
        whole.append(told(first, item))
        written.append(first.state_dict())
    for cut, state in enumerate(written):
        again = Monitor(stopping, BUDGET, GUARDED)
        again.load_state_dict(json.loads(json.dumps(state, allow_nan=False)))
        assert again.state_dict() == state
        assert [told(again, item) for item in history[cut:]] == whole[cut:]


def a_state(kids: Kids) -> dict[str, Any]:
    monitor = a_monitor("evidence")
    for one in kids(0.5, 0.4, 0.45, 0.46):
        monitor.score(one)
    return monitor.state_dict()


def refused(state: Any) -> None:
    monitor = a_monitor("evidence")
    before = monitor.state_dict()
    with pytest.raises(UserError) as error:
        monitor.load_state_dict(state)
    assert error.value.subject == "checkpoint"
    assert error.value.remedies
    assert len(str(error.value).splitlines()) == 1
    assert monitor.state_dict() == before, "half of a state was taken"


def test_a_state_of_another_shape_is_refused_in_one_line():
    refused({"threshold": {"recent": "x"}})
    refused([])
    refused(None)


def test_an_older_state_that_lacks_a_part_is_refused_in_one_line(kids: Kids):
    state = a_state(kids)
    for name in state:
        refused({key: value for key, value in state.items() if key != name})


@pytest.mark.parametrize("part", ["evidence", "patience", "threshold"])
def test_an_older_state_that_lacks_a_number_within_a_part_is_refused_and_not_begun_anew(kids: Kids, part: str):
    state = a_state(kids)
    for name in state[part]:
        older = copy.deepcopy(state)
        del older[part][name]
        refused(older)


@pytest.mark.parametrize("index", [4, -1])
@pytest.mark.parametrize("name", ["best", "lowest"])
def test_a_state_whose_best_is_none_of_its_scores_is_refused(kids: Kids, name: str, index: int):
    state = a_state(kids)
    state["evidence"][name] = index
    refused(state)


# Paired differences, through the monitor


def paired(samples: int, best: Score, difference: float, error: float = 0.001, **changes: Any) -> Score:
    found = changed(best, samples=samples, compared_with=best.samples, difference=difference, difference_error=error)
    return changed(found, **changes)


def test_the_best_changes_by_a_significant_paired_difference_and_not_by_luck(kids: Kids):
    monitor = a_monitor("evidence")
    first = kids(0.1)[0]
    monitor.score(first)
    assert monitor.score(paired(2000, first, -0.001, loss=0.01)) is False  # one standard error
    assert monitor.score(paired(3000, first, -0.005, loss=0.2)) is True  # five
    assert monitor.best is not None
    assert monitor.best.loss == 0.2


def test_alpha_is_spent_by_every_paired_evaluation_of_a_run_whichever_is_the_best(kids: Kids):
    first = kids(0.1)[0]
    fresh, used = a_monitor("evidence"), a_monitor("evidence")
    fresh.score(first)
    used.score(first)
    for index in range(2, 60):
        used.score(paired(1000 * index, first, 0.001))
    found = paired(100_000, first, -0.003)
    assert fresh.score(found) is True
    assert used.score(found) is False
    assert used.score(paired(101_000, first, -0.006)) is True
    best = used.best
    assert best is not None
    assert used.score(paired(102_000, best, -0.003)) is False


@pytest.mark.slow
def test_candidates_that_are_no_better_hardly_ever_become_the_best_in_200_evaluations(kids: Kids):
    alpha, runs, wrong = 0.05, 300, 0
    first = kids(0.1)[0]
    for seed in range(runs):
        draw, monitor = random.Random(seed), a_monitor("evidence")
        monitor.score(first)
        every = (paired(1000 * index, first, 0.001 * draw.gauss()) for index in range(2, 202))
        wrong += any(monitor.score(one) for one in every)
    assert 0 < wrong / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.slow
def test_nor_do_they_where_truly_better_ones_come_every_ten_evaluations(kids: Kids):
    alpha, runs, wrong, better = 0.05, 150, 0, 0
    for seed in range(runs):
        draw, monitor, promoted = random.Random(seed), a_monitor("evidence"), []
        monitor.score(kids(0.1)[0])
        for index in range(2, 202):
            assert monitor.best is not None
            truth = -0.01 if index % 10 == 0 else 0.0
            if monitor.score(paired(1000 * index, monitor.best, truth + 0.001 * draw.gauss())):
                promoted.append(index)
        wrong += any(index % 10 for index in promoted)
        better += sum(index % 10 == 0 for index in promoted)
    assert wrong / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)
    assert better >= 0.99 * 20 * runs


def test_a_truly_better_candidate_becomes_the_best_at_once(kids: Kids):
    first, promoted = kids(0.1)[0], 0
    for seed in range(200):
        monitor = a_monitor("evidence")
        monitor.score(first)
        promoted += monitor.score(paired(2000, first, 0.001 * (random.Random(seed).gauss() - 5)))
    assert promoted >= 0.99 * 200


def test_the_message_names_the_generator_that_is_selected_also_where_another_scored_lower_by_luck(kids: Kids):
    monitor = a_monitor("evidence")
    first = kids(0.1, se=0.001)[0]
    monitor.score(first)
    monitor.score(paired(2000, first, 0.0, loss=0.05))
    for index, loss in enumerate((0.9, 0.95, 0.9, 0.92, 0.9), 3):
        monitor.score(paired(1000 * index, first, 0.01, error=0.1, loss=loss))
    verdict = monitor.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert monitor.best == first
    assert "1,000" in verdict.message


# Candidates


def samples_of(monitor: Monitor) -> list[int]:
    return [one.samples for one in monitor.candidates]


def test_the_candidates_are_the_best_and_the_two_lowest_others(kids: Kids):
    monitor = a_monitor()
    assert monitor.candidates == ()
    seen = []
    for one in kids(0.5, 0.6, 0.4, math.nan, 0.55, 0.45, 0.3):
        monitor.score(one)
        seen.append(samples_of(monitor))
    assert seen == [
        [1000],
        [1000, 2000],
        [3000, 1000, 2000],
        [3000, 1000, 2000],
        [3000, 1000, 5000],
        [3000, 6000, 1000],
        [7000, 3000, 6000],
    ]
    assert NUM_CANDIDATES == 3


def test_a_best_generator_that_was_replaced_stays_a_candidate_while_its_score_is_low(kids: Kids):
    monitor = a_monitor("evidence")
    first = kids(0.1)[0]
    monitor.score(first)
    better = paired(2000, first, -0.01, loss=0.3)
    monitor.score(better)
    assert samples_of(monitor) == [2000, 1000]  # the best first, though its own score is the higher one
    for index, loss in enumerate((0.5, 0.05, 0.2), 3):
        monitor.score(paired(1000 * index, better, 0.01, loss=loss))
    assert samples_of(monitor) == [2000, 4000, 1000]
    monitor.score(paired(6000, better, 0.01, loss=0.06))
    assert samples_of(monitor) == [2000, 4000, 6000]


def test_forgotten_scores_leave_neither_candidates_nor_evidence_nor_spent_alpha(kids: Kids):
    monitor = a_monitor("evidence")
    first = kids(0.1)[0]
    for one in (first, *(paired(1000 * index, first, 0.5, loss=0.6) for index in range(2, 40)), None):
        monitor.score(one)
    assert isinstance(monitor.verdict(1, 1.0), Stop)
    monitor.forget_scores()
    assert monitor.candidates == ()
    assert monitor.best is monitor.last is None
    assert monitor.verdict(1, 1.0) == Continue()
    assert monitor.state_dict() == a_monitor("evidence").state_dict()
    other = changed(first, protocol={"split": "another"})
    monitor.score(other)
    assert monitor.score(paired(2000, other, -0.002)) is True


def test_a_verdict_once_given_stays_until_a_new_score_changes_it(kids: Kids):
    monitor = a_monitor("evidence")
    verdicts: list[Verdict] = []
    for one in kids(0.5, 0.1, 0.9, 0.9, 0.9, 0.9):
        monitor.score(one)
        verdicts.append(monitor.verdict(1, 1.0))
    assert [isinstance(verdict, Stop) for verdict in verdicts] == [False] * 5 + [True]
    assert monitor.verdict(1, 1.0) == verdicts[-1]
    monitor.score(kids(*[0.01] * 7)[6])
    assert monitor.verdict(1, 1.0) == Continue()


# Words


@pytest.mark.parametrize("policy", ["evidence", "patience", "discriminator-threshold"])
def test_each_policy_says_how_close_it_is_and_the_budget_has_nothing_to_say(kids: Kids, policy: PolicyName):
    monitor, other = a_monitor(policy), a_monitor("budget")
    for one in kids(0.5, 0.6):
        monitor.score(one)
        other.score(one)
    assert monitor.stopping_status()
    assert other.stopping_status() == ""
    assert (monitor.certificate() is not None) == (policy == "evidence")


def test_the_sentence_leaves_the_game_out_where_nobody_knows_it(stats: Stats, kids: Kids):
    monitor = Monitor(Stopping(policy="budget"), BUDGET, METRICS)
    for one in stats(10):
        monitor.observe(one)
    for score in kids(0.5, 0.3):
        monitor.score(score)
    whole, scores = monitor.sentence(), monitor.sentence(knows_game=False)
    assert whole.lower().endswith(scores.lower())
    assert len(whole) > len(scores)


def test_scores_of_smaller_pictures_are_no_sign_of_divergence(kids: Kids, stats: Stats):
    found = {}
    for stages in ((), (5_500,)):
        monitor = Monitor(Stopping(policy="budget"), BUDGET, METRICS, stages=stages)
        for one in kids(0.5, 0.3, 0.2, 0.1, 0.1, 5.0, 5.0, 5.0, 5.0):
            monitor.score(one)
        for one in stats(30, first=60):
            monitor.observe(one)
        found[stages] = "divergence" in {diagnosis.condition for diagnosis in monitor.diagnoses}
    assert found == {(): True, (5_500,): False}


def test_no_rule_stops_before_the_last_stage_has_begun(kids: Kids):
    for stages, stopped in (((), True), ((50_000,), False)):
        monitor = Monitor(Stopping(policy="patience", **patient(2)), BUDGET, METRICS, stages=stages)
        for one in kids(0.5, 0.6, 0.7, 0.8, 0.9):
            monitor.score(one)
        assert isinstance(monitor.verdict(6_000, 1.0), Stop) == stopped
