import copy
import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine, StepStats, record_of
from equipoise.recipe import BoundaryName, Budget, PolicyName, Stopping
from equipoise.stopping.monitor import HISTORY, Referee
from equipoise.stopping.policies import Continue, Stop, Verdict

BUDGET = Budget(samples=100_000, seconds=None)


def a_referee(policy: PolicyName = "budget", **settings: float) -> Referee:
    return Referee(replace(Stopping(policy=policy), **settings), BUDGET, "kid")


def test_the_best_is_the_lowest_and_an_equal_one_is_not_better(kids):
    referee = a_referee()
    assert [referee.score(line) for line in kids(0.5, 0.5, 0.4, math.nan, 0.45)] == [True, False, True, False, False]
    assert referee.best is not None
    assert referee.best.samples == 3000
    assert referee.last is not None
    assert referee.last.kid == 0.45


def test_a_failed_judgement_is_never_the_best_but_uses_up_patience(kids):
    referee = a_referee("patience", patience=2)
    assert referee.score(None) is False
    assert referee.best is None
    assert referee.last is None
    assert referee.verdict(1, 1.0) == Continue()
    assert referee.score(kids(0.5)[0]) is True
    referee.score(None)
    referee.score(None)
    assert isinstance(referee.verdict(1, 1.0), Stop)


def test_scores_of_two_protocols_are_never_compared(kids):
    referee = a_referee()
    referee.score(kids(0.5)[0])
    with pytest.raises(ValueError, match="two protocols"):
        referee.score(replace(kids(0.4)[0], protocol={"split": "test"}))


@pytest.mark.parametrize(
    ("policy", "stops"),
    [("evidence", True), ("budget", False), ("patience", True), ("discriminator-threshold", True)],
)
def test_only_the_chosen_policy_decides(stats, kids, policy, stops):
    referee = a_referee(policy, patience=2)
    for line in stats(30, fake_probability=0.9):
        referee.observe(line)
    for line in kids(0.1, 0.9, 0.9, 0.9, 0.9):
        referee.score(line)
    verdict = referee.verdict(50_000, 1e9)
    assert isinstance(verdict, Stop) == stops
    spent = referee.verdict(100_000, 0.0)
    assert isinstance(spent, Stop)
    assert spent.policy == policy


def a_stream(stats, kids):
    probabilities = [0.2 + 0.01 * index for index in range(60)]
    steps = [stats(first=i, fake_probability=p, accuracy=1 - p / 2)[0] for i, p in enumerate(probabilities, 1)]
    values = [0.5, 0.4, math.nan, 0.45, 0.3, 0.35, 0.31, 0.33, 0.4, 0.31, 0.32, 0.4]
    return [("step", step) for step in steps], [("score", line) for line in kids(*values)]


def feed(referee, item):
    kind, value = item
    if kind == "step":
        referee.observe(value)
    else:
        referee.score(value)


@pytest.mark.parametrize("policy", ["evidence", "budget", "patience", "discriminator-threshold"])
def test_a_watch_restored_from_json_at_any_point_gives_the_same_verdicts(stats, kids, policy):
    steps, scores = a_stream(stats, kids)
    stream = [
        item for index, step in enumerate(steps) for item in ([step, scores[index // 5]] if index % 5 == 4 else [step])
    ]

    def verdicts(referee, items):
        told = []
        for item in items:
            feed(referee, item)
            told.append((referee.verdict(1000, 1.0), referee.sentence()))
        return told

    eager = {"patience": 4, "price": 1.0, "delta": 1.0}
    whole = verdicts(a_referee(policy, **eager), stream)
    assert policy == "budget" or any(isinstance(verdict, Stop) for verdict, _ in whole)
    for cut in range(0, len(stream), 3):
        first = a_referee(policy, **eager)
        for item in stream[:cut]:
            feed(first, item)
        again = a_referee(policy, **eager)
        again.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        assert again.state_dict() == first.state_dict()
        assert verdicts(again, stream[cut:]) == whole[cut:]


def test_the_history_stays_bounded_and_reaches_back_to_the_beginning(stats):
    referee = a_referee()
    for line in stats(5000):
        referee.observe(line)
    kept = [record["samples"] for record in referee.state_dict()["history"]]
    assert len(kept) <= HISTORY
    assert kept == sorted(kept)
    assert kept[0] == 100
    assert kept[-32:] == [100 * index for index in range(4969, 5001)]


# The state, at every point of any history

PLACES = st.sampled_from([math.nan, 0.0, 0.4, 0.9])
ERRORS = st.sampled_from([math.nan, 0.0, 0.001, 0.01, 0.1])


@st.composite
def histories(draw: st.DrawFn) -> list[StepStats | ScoreLine | None]:
    """Return logging intervals, scores and failed scores in any order, many of them against the present champion."""
    referee, items = a_referee(), []
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
            kid = draw(st.one_of(st.just(math.nan), st.floats(-0.01, 10), st.sampled_from([1.0, 9.0])))
            best = referee.best.samples if referee.best else 0
            items[-1] = ScoreLine(
                samples=100 * index,
                seconds=0.1,
                kid=kid,
                kid_se=draw(ERRORS),
                champion=draw(st.sampled_from([best, best, 100])),
                difference=draw(st.one_of(st.just(math.nan), st.floats(-1, 1))),
                difference_se=draw(ERRORS),
                coverage=draw(PLACES),
                recall=draw(PLACES),
                copying=draw(st.sampled_from([math.nan, 0.1, -5.0])),
                discriminator_gap=draw(PLACES),
                protocol={"split": "validation"},
            )
        referee.score(items[-1])
    return items


NUMBERS = (
    *("generator_loss", "penalty", "real_logit", "fake_logit", "real_probability", "accuracy"),
    *("discriminator_gradient", "generator_gradient", "discriminator_rate", "generator_rate", "samples_per_second"),
)


def told(referee: Referee, item: StepStats | ScoreLine | None) -> tuple[Any, ...]:
    """Feed one item, and return everything that a referee says after it."""
    if isinstance(item, StepStats):
        referee.observe(item)
    promoted = not isinstance(item, StepStats) and referee.score(item)
    candidates = [record_of(line) for line in referee.candidates]
    words = (referee.sentence(), referee.outlook())
    return promoted, referee.verdict(100, 1.0), candidates, referee.findings(), words, referee.state_dict()


@pytest.mark.parametrize("boundary", ["alpha-spending", "normal-mixture"])
@pytest.mark.parametrize("policy", ["evidence", "budget", "patience", "discriminator-threshold"])
@given(history=histories())
@settings(deadline=None, max_examples=12)
def test_a_referee_restored_at_any_point_of_any_history_says_the_same_ever_after(
    policy: PolicyName, boundary: BoundaryName, history: list[StepStats | ScoreLine | None]
):
    stopping = Stopping(policy=policy, boundary=boundary, patience=3, price=0.05)
    first = Referee(stopping, BUDGET)
    written, whole = [first.state_dict()], []
    for item in history:
        whole.append(told(first, item))
        written.append(first.state_dict())
    for cut, state in enumerate(written):
        again = Referee(stopping, BUDGET)
        again.load_state_dict(json.loads(json.dumps(state, allow_nan=False)))
        assert again.state_dict() == state
        assert [told(again, item) for item in history[cut:]] == whole[cut:]


def a_state(kids) -> dict[str, Any]:
    referee = a_referee("evidence")
    for line in kids(0.5, 0.4, 0.45, 0.46):
        referee.score(line)
    return referee.state_dict()


def refused(state: object) -> None:
    referee = a_referee("evidence")
    before = referee.state_dict()
    with pytest.raises(UserError, match="another version") as error:
        referee.load_state_dict(state)  # type: ignore[arg-type]
    assert len(str(error.value).splitlines()) == 1
    assert referee.state_dict() == before, "half of a state was taken"


def test_a_state_of_another_shape_is_refused_in_one_line():
    refused({"threshold": {"recent": "x"}})
    refused([])
    refused(None)


def test_an_older_state_that_lacks_a_part_is_refused_in_one_line(kids):
    state = a_state(kids)
    for name in state:
        refused({key: value for key, value in state.items() if key != name})


@pytest.mark.parametrize("part", ["evidence", "patience", "threshold"])
def test_an_older_state_that_lacks_a_number_within_a_part_is_refused_and_not_begun_anew(kids, part):
    state = a_state(kids)
    for name in state[part]:
        older = copy.deepcopy(state)
        del older[part][name]
        refused(older)


@pytest.mark.parametrize("index", [4, -1])
@pytest.mark.parametrize("name", ["champion", "lowest"])
def test_a_state_whose_best_is_none_of_its_scores_is_refused(kids, name, index):
    state = a_state(kids)
    state["evidence"][name] = index
    refused(state)


# Paired differences, through the referee


def paired(samples: int, champion: ScoreLine, difference: float, se: float = 0.001, **changes: Any) -> ScoreLine:
    line = replace(champion, samples=samples, champion=champion.samples, difference=difference, difference_se=se)
    return replace(line, **changes)


def test_the_best_changes_by_a_paired_difference_beyond_chance_and_not_by_luck(kids):
    referee = a_referee("evidence")
    first = kids(0.1)[0]
    referee.score(first)
    assert referee.score(paired(2000, first, -0.001, kid=0.01)) is False  # one standard error
    assert referee.score(paired(3000, first, -0.005, kid=0.2)) is True  # five
    assert referee.best is not None
    assert referee.best.kid == 0.2


def test_alpha_is_spent_by_every_paired_look_of_a_run_whoever_is_champion(kids):
    first = kids(0.1)[0]
    fresh, used = a_referee("evidence"), a_referee("evidence")
    fresh.score(first)
    used.score(first)
    for index in range(2, 60):
        used.score(paired(1000 * index, first, 0.001))
    line = paired(100_000, first, -0.003)
    assert fresh.score(line) is True
    assert used.score(line) is False
    assert used.score(paired(101_000, first, -0.006)) is True
    best = used.best
    assert best is not None
    assert used.score(paired(102_000, best, -0.003)) is False


@pytest.mark.slow
def test_challengers_that_are_no_better_are_hardly_ever_promoted_in_200_looks(kids):
    alpha, runs, wrong = 0.05, 300, 0
    first = kids(0.1)[0]
    for seed in range(runs):
        draw, referee = random.Random(seed), a_referee("evidence")
        referee.score(first)
        lines = (paired(1000 * index, first, 0.001 * draw.gauss()) for index in range(2, 202))
        wrong += any(referee.score(line) for line in lines)
    assert 0 < wrong / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.slow
def test_nor_are_they_where_truly_better_ones_come_every_ten_looks(kids):
    alpha, runs, wrong, better = 0.05, 150, 0, 0
    for seed in range(runs):
        draw, referee, promoted = random.Random(seed), a_referee("evidence"), []
        referee.score(kids(0.1)[0])
        for index in range(2, 202):
            assert referee.best is not None
            truth = -0.01 if index % 10 == 0 else 0.0
            if referee.score(paired(1000 * index, referee.best, truth + 0.001 * draw.gauss())):
                promoted.append(index)
        wrong += any(index % 10 for index in promoted)
        better += sum(index % 10 == 0 for index in promoted)
    assert wrong / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)
    assert better >= 0.99 * 20 * runs


def test_a_truly_better_challenger_is_promoted_at_once(kids):
    first, promoted = kids(0.1)[0], 0
    for seed in range(200):
        referee = a_referee("evidence")
        referee.score(first)
        promoted += referee.score(paired(2000, first, 0.001 * (random.Random(seed).gauss() - 5)))
    assert promoted >= 0.99 * 200


def test_a_metric_of_fid_is_decided_by_fid_alone(kids):
    referee = Referee(Stopping(), BUDGET, "fid")
    first = kids(0.1)[0]
    referee.score(first)
    assert referee.score(paired(2000, first, 1.0, fid=first.fid - 1)) is True
    assert referee.score(paired(3000, first, -1.0, fid=first.fid)) is False


def test_the_reason_names_the_generator_that_is_handed_over_also_where_another_scored_lower_by_luck(kids):
    referee = a_referee("evidence")
    first = kids(0.1, se=0.001)[0]
    referee.score(first)
    referee.score(paired(2000, first, 0.0, kid=0.05))
    for index, kid in enumerate((0.9, 0.95, 0.9, 0.92, 0.9), 3):
        referee.score(paired(1000 * index, first, 0.01, se=0.1, kid=kid))
    verdict = referee.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert referee.best == first
    assert "1,000 samples" in verdict.reason


# Candidates


def samples_of(referee: Referee) -> list[int]:
    return [line.samples for line in referee.candidates]


def test_the_candidates_are_the_best_and_the_two_lowest_others(kids):
    referee = a_referee()
    assert referee.candidates == ()
    seen = []
    for line in kids(0.5, 0.6, 0.4, math.nan, 0.55, 0.45, 0.3):
        referee.score(line)
        seen.append(samples_of(referee))
    assert seen == [
        [1000],
        [1000, 2000],
        [3000, 1000, 2000],
        [3000, 1000, 2000],
        [3000, 1000, 5000],
        [3000, 6000, 1000],
        [7000, 3000, 6000],
    ]


def test_a_dethroned_champion_stays_a_candidate_while_its_score_is_low(kids):
    referee = a_referee("evidence")
    first = kids(0.1)[0]
    referee.score(first)
    better = paired(2000, first, -0.01, kid=0.3)
    referee.score(better)
    assert samples_of(referee) == [2000, 1000]  # the best first, though its own score is the higher one
    for index, kid in enumerate((0.5, 0.05, 0.2), 3):
        referee.score(paired(1000 * index, better, 0.01, kid=kid))
    assert samples_of(referee) == [2000, 4000, 1000]
    referee.score(paired(6000, better, 0.01, kid=0.06))
    assert samples_of(referee) == [2000, 4000, 6000]


def test_forgotten_scores_leave_neither_candidates_nor_evidence_nor_spent_alpha(kids):
    referee = a_referee("evidence")
    first = kids(0.1)[0]
    for line in (first, *(paired(1000 * index, first, 0.5, kid=0.6) for index in range(2, 40))):
        referee.score(line)
    assert isinstance(referee.verdict(1, 1.0), Stop)
    referee.forget_scores()
    assert referee.candidates == ()
    assert referee.best is referee.last is None
    assert referee.verdict(1, 1.0) == Continue()
    assert referee.state_dict() == a_referee("evidence").state_dict()
    referee.score(replace(first, protocol={"split": "another"}))
    assert referee.score(paired(2000, replace(first, protocol={"split": "another"}), -0.002)) is True


def test_a_verdict_once_given_stays_until_a_new_score_changes_it(kids):
    referee = a_referee("evidence")
    verdicts: list[Verdict] = []
    for line in kids(0.5, 0.1, 0.9, 0.9, 0.9, 0.9):
        referee.score(line)
        verdicts.append(referee.verdict(1, 1.0))
    assert [isinstance(verdict, Stop) for verdict in verdicts] == [False] * 5 + [True]
    assert referee.verdict(1, 1.0) == verdicts[-1]
    referee.score(kids(*[0.01] * 7)[6])
    assert referee.verdict(1, 1.0) == Continue()
