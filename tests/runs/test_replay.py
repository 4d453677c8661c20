import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import Near, Option, Setting, UserError
from equipoise.recipe import PatienceSettings, PolicyName, Stopping, ThresholdSettings
from equipoise.runs.replay import (
    DEFAULT_POLICIES,
    Replayed,
    follow,
    oracle,
    regret_of,
    replay,
    replay_values,
    stopping_with,
    summaries,
    summary,
)
from equipoise.runs.replay_read import METRICS, ColumnName, Series, read_file
from equipoise.stopping.verdicts import Continue, Stop
from equipoise.storage.records import Score

NAN = math.nan


def series_of(*losses: float, metric: ColumnName = "fid") -> Series:
    """Return a series with a score every hundred samples."""
    scores = [Score(samples=100 * index, seconds=0.0, loss=loss) for index, loss in enumerate(losses, 1)]
    return Series("run", METRICS[metric], tuple(scores))


def patience(number: int) -> Stopping:
    return Stopping(policy="patience", patience=PatienceSettings(evaluations=number))


# What a policy may see


@st.composite
def histories(draw: st.DrawFn) -> list[Score]:
    """Draw the evaluations of a run: any positive scores, some failed, some with all that a judge can say."""
    count = draw(st.integers(1, 40))
    scores = st.one_of(st.floats(0.01, 500), st.floats(9, 11), st.just(NAN))
    measure = st.one_of(st.just(NAN), st.floats(0.001, 1))
    found = []
    for index in range(1, count + 1):
        score = Score(samples=100 * index, seconds=0.0, loss=draw(scores))
        if draw(st.booleans()):
            values = {name: draw(measure) for name in ("recall", "coverage", "discriminator_gap")}
            score = msgspec.structs.replace(
                score,
                error=draw(measure),
                values={**values, "copying": draw(st.floats(-5, 5))},
                compared_with=100 * draw(st.integers(0, index - 1)),
                difference=draw(st.floats(-1, 1)),
                difference_error=draw(measure),
            )
        found.append(score)
    return found


POLICIES = pytest.mark.parametrize("policy", DEFAULT_POLICIES)


@POLICIES
@settings(max_examples=60, deadline=None, derandomize=True)
@given(past=histories(), future=histories(), other=histories(), number=st.integers(1, 6), by_kid=st.booleans())
def test_changing_the_future_changes_no_earlier_verdict(policy: PolicyName, past, future, other, number, by_kid):
    stopping = replace(patience(number), policy=policy)
    metric = METRICS["kid" if by_kid else "fid"]

    def verdicts(*later: Score) -> list:
        moved = [msgspec.structs.replace(score, samples=score.samples + past[-1].samples) for score in later]
        seen = list(follow(stopping, metric, [*past, *moved]))
        assert len(seen) == len(past) + len(later)
        return [(one.samples, one.verdict, one.best) for one in seen[: len(past)]]

    truncated = verdicts()
    blank = [Score(samples=score.samples, seconds=0.0) for score in future]
    for later in (future, other, blank):
        assert repr(verdicts(*later)) == repr(truncated)  # repr, since NaN is not equal to itself


@POLICIES
def test_no_record_is_read_before_the_verdict_on_the_one_before(policy: PolicyName):
    read_so_far: list[int] = []

    def records() -> Iterator[Score]:
        for score in series_of(*[10 + (-1) ** i for i in range(30)]).scores:
            read_so_far.append(score.samples)
            yield score

    for number, seen in enumerate(follow(Stopping(policy=policy), METRICS["fid"], records()), 1):
        assert len(read_so_far) == number
        assert seen.samples == read_so_far[-1]


@POLICIES
def test_what_comes_after_the_stop_changes_the_regret_but_not_the_stop(policy: PolicyName):
    start = [50, 20, 10, *[12] * 40]
    before, after = (replay(Stopping(policy=policy), series_of(*start, *end)) for end in ([12] * 60, [1, NAN] * 30))
    if policy == "budget":
        assert (before.message, before.saved) == (None, 0.0)
    else:
        assert before.message
    assert after.stop_samples == before.stop_samples
    assert after.message == before.message


# What a replay says


def test_stop_saved_and_regret_are_those_of_a_hand_count():
    result = replay(patience(2), series_of(20, 10, 11, 12, 8, 16, 18, 20, 22, 24))
    assert (result.stop_samples, result.last_samples, result.num_evaluations) == (400, 1000, 4)
    assert result.saved == pytest.approx(0.6)
    assert result.regret == 10 / 8
    assert result.message
    assert "200" in result.message


def test_a_policy_that_never_stops_saves_nothing_and_loses_nothing():
    result = replay(Stopping(policy="budget"), series_of(5, 4, 3, 2, 9))
    assert result == Replayed("run", "budget", 500, 500, 400, 5, 0.0, 1.0, None)


def test_a_failed_evaluation_is_no_improvement_and_never_the_best():
    assert replay(patience(2), series_of(10, NAN, NAN, 5, 4)).stop_samples == 300
    assert replay(patience(3), series_of(10, NAN, NAN, 5, 4)).message is None
    whole = replay(patience(9), series_of(10, 9, math.inf, -math.inf, 12))
    assert (whole.stop_samples, whole.regret) == (500, 1.0)


def test_a_stop_before_any_finite_score_keeps_nothing_and_regrets_without_bound():
    series = series_of(NAN, NAN, 5, 4, 3)
    result = replay(patience(2), series)
    assert (result.stop_samples, result.regret) == (200, math.inf)
    found = summary([result])
    assert (found.worst_regret, found.within_5pct) == (math.inf, 0)


def test_the_oracle_stops_at_the_first_score_within_two_per_cent_of_the_best():
    result = oracle(series_of(50, 10.21, 10.2, 30, 10, 10.1))
    assert (result.stop_samples, result.saved, result.regret) == (300, 0.5, 1.02)


def test_no_ratio_is_made_to_a_best_of_zero_or_below():
    results = [replay(patience(2), series_of(*values, metric="kid")) for values in
               ([3, 2, 4, 4, 4, 1], [0.2, 0.1, 0.3, 0.3, -0.1, 0.2], [1, 0.5, 0, 3, 3, 3])]  # fmt: skip
    assert math.isnan(results[1].regret)
    assert math.isnan(regret_of(0.0, 0.0))
    found = summary(results)
    assert (found.runs, found.without_regret, found.worst_regret, found.within_5pct) == (3, 2, 2.0, 0)
    assert found.saved == pytest.approx((2 / 6 + 2 / 6 + 1 / 6) / 3)
    negative = series_of(0.2, 0.1, 0.3, -0.1, -0.1, 0.2, metric="kid")
    assert oracle(negative).stop_samples == 400
    table = summaries(["patience"], patience(2), [negative])
    values = json.loads(msgspec.json.encode(replay_values(table)))
    assert values["policies"][0]["worst_regret"] is None
    assert values["policies"][0]["without_regret"] == 1


def test_a_summary_is_that_of_a_hand_count():
    regrets = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.02, 1.05, 1.3, 2.0]
    found = summary([Replayed("r", "patience", 1, 2, 1, 5, 0.01 * i, regret, None) for i, regret in enumerate(regrets)])
    assert found.saved == pytest.approx(0.045)
    assert (found.runs, found.within_2pct, found.within_5pct) == (10, 7, 8)
    assert found.mean_regret == pytest.approx(1.137)
    assert (found.p90_regret, found.worst_regret) == (1.3, 2.0)  # nine of ten are at most 1.3
    assert summary(list(found.each[:1])).p90_regret == 1.0


def test_the_values_have_the_names_that_others_read_and_the_settings():
    found = summaries(["patience", "budget"], patience(2), [series_of(20, 10, 11, 12, 8)])
    values = replay_values(found)
    names = ["policy", "runs", "saved", "within_2pct", "within_5pct", "mean_regret", "p90_regret", "worst_regret"]
    assert list(values) == ["policies", "oracle"]
    assert [list(one) for one in values["policies"]] == [[*names, "settings"]] * 2
    assert list(values["oracle"]) == names
    assert [one["policy"] for one in values["policies"]] == ["patience", "budget"]
    assert values["policies"][0]["settings"]["patience"]["evaluations"] == 2
    assert values["oracle"]["policy"] == "oracle"


@pytest.mark.parametrize(
    ("number", "saved", "within", "worst"),
    [(5, 40.7, 50, 2.09), (8, 24.1, 82, 1.87), (10, 18.5, 87, 1.57), (12, 14.5, 93, 1.57), (15, 11.6, 95, 1.57),
     (20, 7.9, 95, 1.57)],
)  # fmt: skip
def test_patience_on_published_runs_gives_the_numbers_that_another_program_gave(number, saved, within, worst):
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        pytest.skip("EQUIPOISE_DATA names no folder with fid-trajectories/development.csv")
    series = read_file(Path(folder) / "fid-trajectories" / "development.csv")
    found, best = summaries(["patience"], patience(number), series)
    assert (found.runs, best.runs) == (98, 98)
    assert round(100 * found.saved, 1) == saved
    assert found.within_2pct == within
    assert round(found.worst_regret, 2) == worst
    assert (round(100 * best.saved, 1), best.within_2pct, round(best.worst_regret, 2)) == (36.4, 98, 1.02)


def test_the_default_policy_on_published_runs_saves_what_it_saved():
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        pytest.skip("EQUIPOISE_DATA names no folder with fid-trajectories/development.csv")
    series = read_file(Path(folder) / "fid-trajectories" / "development.csv")
    found, _ = summaries(["evidence"], Stopping(), series)
    assert (round(100 * found.saved, 1), found.within_2pct, found.within_5pct) == (16.2, 97, 98)
    assert round(found.worst_regret, 3) == 1.021


# Settings


def test_the_threshold_is_not_replayed_where_there_are_scores_alone():
    with pytest.raises(UserError) as caught:
        replay(Stopping(policy="discriminator-threshold"), series_of(5, 4, 3, 2, 1))
    assert caught.value.remedies == (Option("policy", "evidence"),)


def test_settings_change_the_stopping_and_nothing_else():
    assert stopping_with([]) == Stopping()
    found = stopping_with(["stopping.patience.evaluations=12", "stopping.threshold.level=0.6"])
    assert (found.patience.evaluations, found.threshold.level) == (12, 0.6)
    assert replace(found, patience=PatienceSettings(), threshold=ThresholdSettings()) == Stopping()


EXAMPLE = Setting("stopping.patience.evaluations", 12)


@pytest.mark.parametrize(
    ("setting", "remedies"),
    [
        ("game.batch=8", (EXAMPLE,)),
        ("stopping.patience.evaluation=8", (Near("stopping.patience.evaluations"),)),
        ("stopping.patience.evaluations", (EXAMPLE,)),
        ("patience=8", (EXAMPLE,)),
        ("stopping.policy=patience", (Option("policy", "patience"),)),
        ("stopping.patience.evaluations=0", ()),
        ("stopping.patience.evaluations=soon", ()),
    ],
)
def test_what_a_replay_cannot_set_is_refused(setting: str, remedies: tuple) -> None:
    with pytest.raises(UserError) as caught:
        stopping_with([setting])
    assert setting.split("=")[0] in str(caught.value)
    assert caught.value.remedies == remedies


def test_verdicts_are_those_of_the_monitor_itself():
    seen = list(follow(patience(2), METRICS["fid"], series_of(3, 2, 4, 5, 1).scores))
    assert [isinstance(one.verdict, Stop) for one in seen] == [False, False, False, True, False]
    assert isinstance(seen[-1].verdict, Continue)
    assert [one.best.loss if one.best else None for one in seen] == [3, 2, 2, 2, 1]
