import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine
from equipoise.recipe import MetricName, PolicyName, Stopping
from equipoise.runs.replay import (
    DEFAULT_POLICIES,
    Replayed,
    Series,
    follow,
    oracle,
    read,
    read_csv,
    read_run,
    regret_of,
    replay,
    replay_text,
    replay_values,
    stopping_with,
    summaries,
    summary,
)
from equipoise.stopping.policies import Continue, Stop

NAN = math.nan


def series_of(*values: float, metric: MetricName = "fid") -> Series:
    """Return a series with a score every hundred samples."""
    lines = [ScoreLine(**{"samples": 100 * index, "seconds": 0.0, metric: v}) for index, v in enumerate(values, 1)]
    return Series("run", metric, tuple(lines))


def patience(number: int) -> Stopping:
    return Stopping(policy="patience", patience=number)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a CSV file."""

    def write(content: str | bytes, name: str = "scores.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(*values: object, run: str = "a", head: str = "run,step,fid\n") -> str:
    return head + "".join(f"{run},{100 * index},{value}\n" for index, value in enumerate(values, 1))


# What a policy may see


@st.composite
def histories(draw: st.DrawFn) -> list[ScoreLine]:
    """Draw the evaluations of a run: any positive scores, some failed, some with all that a judge can say."""
    count = draw(st.integers(1, 40))
    scores = st.one_of(st.floats(0.01, 500), st.floats(9, 11), st.just(NAN))
    measure = st.one_of(st.just(NAN), st.floats(0.001, 1))
    lines = []
    for index in range(1, count + 1):
        score = draw(scores)
        line = ScoreLine(samples=100 * index, seconds=0.0, fid=score, kid=score / 100)
        if draw(st.booleans()):
            line = dataclasses.replace(
                line,
                kid_se=draw(measure),
                recall=draw(measure),
                coverage=draw(measure),
                copying=draw(st.floats(-5, 5)),
                discriminator_gap=draw(measure),
                champion=100 * draw(st.integers(0, index - 1)),
                difference=draw(st.floats(-1, 1)),
                difference_se=draw(measure),
            )
        lines.append(line)
    return lines


POLICIES = pytest.mark.parametrize("policy", DEFAULT_POLICIES)


@POLICIES
@settings(max_examples=60, deadline=None, derandomize=True)
@given(past=histories(), future=histories(), other=histories(), number=st.integers(1, 6), by_kid=st.booleans())
def test_changing_the_future_changes_no_earlier_verdict(policy: PolicyName, past, future, other, number, by_kid):
    stopping, metric = Stopping(policy=policy, patience=number), "kid" if by_kid else "fid"

    def verdicts(*later: ScoreLine) -> list:
        moved = [dataclasses.replace(line, samples=line.samples + past[-1].samples) for line in later]
        seen = list(follow(stopping, metric, [*past, *moved]))
        assert len(seen) == len(past) + len(later)
        return [(one.samples, one.verdict, one.best) for one in seen[: len(past)]]

    truncated = verdicts()
    blank = [ScoreLine(samples=line.samples, seconds=0.0) for line in future]
    for later in (future, other, blank):
        assert repr(verdicts(*later)) == repr(truncated)  # repr, since NaN is not equal to itself


@POLICIES
def test_no_record_is_read_before_the_verdict_on_the_one_before(policy: PolicyName):
    read_so_far: list[int] = []

    def records() -> Iterator[ScoreLine]:
        for line in series_of(*[10 + (-1) ** i for i in range(30)]).lines:
            read_so_far.append(line.samples)
            yield line

    for number, seen in enumerate(follow(Stopping(policy=policy), "fid", records()), 1):
        assert len(read_so_far) == number
        assert seen.samples == read_so_far[-1]


@POLICIES
def test_what_comes_after_the_stop_changes_the_regret_but_not_the_stop(policy: PolicyName):
    start = [50, 20, 10, *[12] * 40]
    before, after = (replay(Stopping(policy=policy), series_of(*start, *end)) for end in ([12] * 60, [1, NAN] * 30))
    if policy == "budget":
        assert (before.reason, before.saved) == (None, 0.0)
    else:
        assert before.reason
    assert after.stop_samples == before.stop_samples
    assert after.reason == before.reason


# What a replay says


def test_stop_saved_and_regret_are_those_of_a_hand_count():
    result = replay(patience(2), series_of(20, 10, 11, 12, 8, 16, 18, 20, 22, 24))
    assert (result.stop_samples, result.last_samples, result.num_evaluations) == (400, 1000, 4)
    assert result.saved == pytest.approx(0.6)
    assert result.regret == 10 / 8
    assert result.reason
    assert "its best was 10 at 200 samples" in result.reason


def test_a_policy_that_never_stops_saves_nothing_and_loses_nothing():
    result = replay(Stopping(policy="budget"), series_of(5, 4, 3, 2, 9))
    assert result == Replayed("run", "budget", 500, 500, 400, 5, 0.0, 1.0, None)


def test_a_failed_evaluation_is_no_improvement_and_never_the_best():
    assert replay(patience(2), series_of(10, NAN, NAN, 5, 4)).stop_samples == 300
    assert replay(patience(3), series_of(10, NAN, NAN, 5, 4)).reason is None
    whole = replay(patience(9), series_of(10, 9, math.inf, -math.inf, 12))
    assert (whole.stop_samples, whole.regret) == (500, 1.0)


def test_a_stop_before_any_finite_score_hands_nothing_over_and_regrets_without_bound():
    series = series_of(NAN, NAN, 5, 4, 3)
    result = replay(patience(2), series)
    assert (result.stop_samples, result.regret) == (200, math.inf)
    found = summary([result])
    assert (found.worst_regret, found.within_5pct) == (math.inf, 0)
    assert "∞" in replay_text([found, found], [series])


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
    assert "In 1 of 1 runs the best score is zero or below" in replay_text(table, [negative])
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
    assert values["policies"][0]["settings"]["patience"] == 2
    assert values["oracle"]["policy"] == "oracle"


def test_the_table_is_aligned_and_narrow_and_one_run_comes_with_its_reasons():
    series = [series_of(*[20, 10, *[11] * 20])]
    text = replay_text(summaries(["patience", "budget"], patience(2), series), series)
    assert len({len(line) for line in text.splitlines()[:5]}) == 1
    assert max(map(len, text.splitlines())) <= 80
    assert "patience stops at step 400 of 2,200: FID has not improved for 2 scores in a row" in text
    assert "budget goes on to the last step, 2,200." in text
    assert "oracle stops at step 200 of 2,200: " in text
    assert "81.8 %" in text
    assert "Over 1 run judged by FID" in " ".join(text.splitlines())
    many = [*series, series_of(3, 2, 1, 2, 3, metric="kid")]
    text = replay_text(summaries(["patience"], patience(2), many), many)
    assert "stops at" not in text
    assert "Over 2 runs judged by FID or KID" in " ".join(text.splitlines())


@pytest.mark.parametrize(
    ("number", "saved", "within", "worst"),
    [(5, 40.7, 50, 2.09), (8, 24.1, 82, 1.87), (10, 18.5, 87, 1.57), (12, 14.5, 93, 1.57), (15, 11.6, 95, 1.57),
     (20, 7.9, 95, 1.57)],
)  # fmt: skip
def test_patience_on_published_runs_gives_the_numbers_that_another_program_gave(number, saved, within, worst):
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        pytest.skip("EQUIPOISE_DATA names no folder with fid-trajectories/development.csv")
    series = read_csv(Path(folder) / "fid-trajectories" / "development.csv")
    found, best = summaries(["patience"], patience(number), series)
    assert (found.runs, best.runs) == (98, 98)
    assert round(100 * found.saved, 1) == saved
    assert found.within_2pct == within
    assert round(found.worst_regret, 2) == worst
    assert (round(100 * best.saved, 1), best.within_2pct, round(best.worst_regret, 2)) == (36.4, 98, 1.02)


# CSV files


def test_runs_of_a_file_may_be_mixed_and_keep_their_order(written):
    body = "".join(f"b,{i},{9 - i}\na,{2 * i},{i + 1}\n" for i in range(5))
    found = read_csv(written("run,step,fid\n" + body))
    assert [one.name for one in found] == ["b", "a"]
    assert [line.samples for line in found[1].lines] == [0, 2, 4, 6, 8]
    assert [line.fid for line in found[0].lines] == [9, 8, 7, 6, 5]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_line_ends_quotes_blanks_and_other_columns_are_read(written, end, mark):
    lines = ['"run", step,"a ""note""", fid,coverage', *[f'"x, ""y""",{i}00.0, "tw\n o",{i}e1,' for i in range(1, 6)]]
    lines.insert(3, "")
    (found,) = read_csv(written(mark + end.join([*lines, ",,,,", ""]).encode()))
    assert (found.name, found.metric) == ('x, "y"', "fid")
    assert [(line.samples, line.fid) for line in found.lines] == [(100 * i, 10.0 * i) for i in range(1, 6)]
    assert all(math.isnan(line.coverage) for line in found.lines)


def test_empty_cells_and_what_is_not_finite_are_failed_evaluations(written):
    (found,) = read_csv(written(rows(1.5, "", "nan", "inf", "-inf", "NaN", " 2 ")))
    assert [line.fid for line in found.lines if math.isfinite(line.fid)] == [1.5, 2.0]
    assert len(found.lines) == 7


def test_every_column_that_a_score_knows_is_handed_on(written):
    known = "kid,kid_se,precision,recall,density,coverage,difference,difference_se,copying,discriminator_gap"
    head = f"run,step,fid,{known},champion,inception_score\n"
    body = "".join(f"a,{i},3,{','.join(str(n) for n in range(1, 11))},{i - 1},high\n" for i in range(1, 6))
    (found,) = read_csv(written(head + body))
    assert [getattr(found.lines[0], name) for name in known.split(",")] == list(range(1, 11))
    assert [line.champion for line in found.lines] == [0, 1, 2, 3, 4]


def test_the_metric_is_fid_if_there_else_kid_unless_said(written):
    both = written("run,step,kid,fid\n" + "".join(f"a,{i},{-i},{i}\n" for i in range(1, 6)))
    assert read_csv(both)[0].metric == "fid"
    assert read_csv(both, "kid")[0].metric == "kid"
    assert read_csv(written(rows(1, 2, 3, -4, 5, head="run,step,kid\n")))[0].metric == "kid"


def test_a_negative_fid_beside_the_kid_that_counts_is_let_pass_but_not_where_it_counts(written):
    both = written("run,step,kid,fid\n" + "".join(f"a,{i},{i},-1\n" for i in range(1, 6)))
    assert read_csv(both, "kid")
    with pytest.raises(UserError, match="line 2: FID -1"):
        read_csv(both)


GOOD = rows(5, 4, 3, 2, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("run,step,fid\n", "no evaluations"),
        ("run,step,fid,\xe9\n".encode("latin-1"), "no text in UTF-8"),
        (GOOD.encode("utf-16"), "no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no text in UTF-8"),
        (GOOD + "\0", "no text in UTF-8"),
        ("step,fid,time\n1,2,3\n", 'no column "run"; found are step, fid, time; needed are run, step and fid (or kid)'),
        ("run,fid\na,2\n", 'no column "step"; found are run, fid'),
        ("run,step,loss\na,1,2\n", 'no column "fid"; found are run, step, loss; needed are run, step and fid (or kid)'),
        ("run;step;fid\na;1;2\n", 'no column "run"; found are run;step;fid'),
        ("run,step,fid,fid\n", 'the column "fid" is there 2 times'),
        (rows(5, 4, 3, 2), 'run "a" has 4 evaluations, too few'),
        (rows(5), 'run "a" has 1 evaluation, too few'),
        (GOOD + "b,1,1\n", 'run "b" has 1 evaluation,'),
        (rows("", "nan", "", "", ""), 'run "a" has 5 evaluations, and none with a finite FID'),
        (rows(5, 4, "abc", 2, 1), 'line 4: fid "abc" is no number'),
        (rows(5, 4, "1_0", 2, 1), 'line 4: fid "1_0" is no number'),
        (rows(5, 4, "1e300", 2, 1), "line 4: fid 1e+300 is too large"),
        (rows(5, 4, 0, 2, 1), "line 4: FID 0, and a FID is above zero"),
        (rows(5, 4, -0.5, 2, 1), "line 4: FID -0.5, and a FID is above zero"),
        (GOOD.replace("300", "abc"), 'line 4: step "abc" is no whole number'),
        (GOOD.replace("300", "300.5"), 'line 4: step "300.5" is no whole number'),
        (GOOD.replace("300", "-300"), 'line 4: step "-300" is no whole number'),
        (GOOD.replace("300", "1e99"), 'line 4: step "1e99" is no whole number'),
        (GOOD.replace("300", "nan"), 'line 4: step "nan" is no whole number'),
        (GOOD.replace("300", ""), 'line 4: step "" is no whole number'),
        (GOOD.replace("a,300", ",300"), "line 4: the cell of run is empty"),
        (GOOD.replace("300", "200"), 'line 4: run "a": step 200 is there twice (steps 200, 200)'),
        (GOOD.replace("300", "150"), 'line 4: run "a": step 150 follows step 200 (steps 200, 150)'),
        (GOOD.replace("300,3", "300"), "line 4: has 2 cells, and the first line names 3 columns"),
        (GOOD.replace("300,3", "300,3,7"), "line 4: has 4 cells"),
        (GOOD.replace("300,3", '300,"3'), "is no CSV"),
        ("\n" + GOOD.replace("a,100", '"a",100').replace("300,3", "300,x"), "line 5: fid"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_in_one_line(written, content, words):
    with pytest.raises(UserError) as refused:
        read_csv(written(content))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_cell_of_another_known_column_is_refused_with_its_line(written):
    with pytest.raises(UserError, match='line 2: recall "high" is no number'):
        read_csv(written("run,step,fid,recall\na,1,2,high\n"))


def test_other_scores_are_offered_where_the_chosen_ones_are_all_missing(written):
    with pytest.raises(UserError, match="Try: --metric kid"):
        read_csv(written("run,step,fid,kid\n" + "".join(f"a,{i},,{i}\n" for i in range(1, 6))))


def test_paths_that_hold_nothing_are_refused(written, tmp_path):
    good = written(GOOD)
    (tmp_path / "folder").mkdir()
    for paths, words in (
        ([tmp_path / "none.csv"], "does not exist"),
        ([tmp_path / "folder"], "is no run"),
        ([good, tmp_path / "folder" / ".." / "scores.csv"], "given twice"),
        ([tmp_path / ("x" * 300)], "cannot be read"),
        ([Path(os.devnull)], "neither a file nor a folder"),
    ):
        with pytest.raises(UserError, match=words):
            read(paths)
    assert [one.name for one in read([good, written(rows(3, 2, 1, 2, 3, run="b"), "b.csv")])] == ["a", "b"]


# Run folders


def test_a_run_folder_is_replayed_by_its_own_metric_or_another(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    found = read_run(run.path)
    assert (found.name, found.metric, len(found.lines), found.signals) == ("run", "kid", 40, ())
    assert found.lines[0].kid_se > 0
    assert read([run.path], "fid")[0].metric == "fid"
    assert replay(patience(40), found).reason is None


def test_only_scores_under_the_last_protocol_of_a_run_count(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    for samples in range(2_500_000, 2_500_005):
        run.log_score({"samples": samples, "seconds": 1.0, "kid": 0.1, "protocol": {"features": "other"}})
    found = read_run(run.path)
    assert [line.samples for line in found.lines] == list(range(2_500_000, 2_500_005))
    run.log_score({"samples": 2_500_009, "seconds": 1.0, "kid": 0.1, "protocol": {"features": "third"}})
    with pytest.raises(UserError, match='run "run" has 1 evaluation,'):
        read_run(run.path)


def test_evaluations_that_failed_in_a_run_count_as_they_did_there(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    run.log_event(500_000, 1.0, "judging failed", "RuntimeError: out of memory")
    run.log_event(1, 1.0, "judging failed", "RuntimeError: before the first score of this protocol")
    run.log_event(600_000, 1.0, "saved", "something else")
    lines = read_run(run.path).lines
    assert [line.samples for line in lines] == [480_000, 500_000, 960_000, 1_440_000, 1_920_000, 2_400_000]
    assert math.isnan(lines[1].kid)
    assert list(follow(patience(9), "kid", lines))[1].best == lines[0]


def test_a_null_in_a_log_is_a_failed_evaluation_and_a_word_is_damage(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    protocol = read_run(run.path).lines[0].protocol
    run.log_score({"samples": 2_500_000, "seconds": 1.0, "kid": None, "protocol": protocol})
    assert math.isnan(read_run(run.path).lines[-1].kid)
    run.log_score({"samples": 2_600_000, "seconds": 1.0, "kid": "low", "protocol": protocol})
    with pytest.raises(UserError, match="its log is damaged"):
        read_run(run.path)


def test_a_record_that_does_not_say_after_how_many_samples_is_no_evaluation(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    before = read_run(run.path)
    for record in ({}, {"kid": 0.001}, {"samples": None, "kid": 0.001}):
        run.log_score(record)
    assert read_run(run.path) == before


def test_a_log_out_of_order_is_refused(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    run.log_score({"samples": 7, "seconds": 1.0, "kid": 0.1, "protocol": read_run(run.path).lines[0].protocol})
    with pytest.raises(UserError, match=r'run "run": step 7 follows step 2400000 \(steps 2400000, 7\)'):
        read_run(run.path)


def test_the_threshold_is_replayed_where_there_are_signals_of_a_probability_only(tmp_path, fake_run):
    stopping = Stopping(policy="discriminator-threshold", threshold=0.4)
    run = fake_run(tmp_path / "probable", "game.loss=non-saturating")
    found = replay(stopping, read_run(run.path))
    assert found.reason
    assert "D(G(z)) averaged 0.4" in found.reason
    assert 0 < found.stop_samples < found.last_samples
    assert found.stop_samples % 4000 == 0  # at a logging interval, between two scores
    never = replay(dataclasses.replace(stopping, threshold=1.0), read_run(run.path))
    assert (never.reason, never.saved) == (None, 0.0)
    for series in (read_run(fake_run(tmp_path / "other").path), series_of(5, 4, 3, 2, 1)):
        with pytest.raises(UserError, match=f"{series.name}: the policy .* reads D"):
            replay(stopping, series)


# Settings


def test_settings_change_the_stopping_and_nothing_else():
    assert stopping_with([]).patience == Stopping().patience
    assert stopping_with(["stopping.patience=12", "stopping.threshold=0.6"]).patience == 12
    for setting, words in (
        ("game.batch=8", "replay trains nothing"),
        ("stopping.patiense=8", 'Did you mean "stopping.patience"?'),
        ("stopping.patience", "expected FIELD=VALUE. Try: --set stopping.patience=12"),
        ("patience=8", "stopping.patience"),
        ("stopping.policy=patience", "--policy"),
        ("stopping.patience=0", "stopping.patience"),
        ("stopping.patience=soon", "stopping.patience"),
    ):
        with pytest.raises(UserError) as refused:
            stopping_with([setting])
        assert words in str(refused.value)


def test_verdicts_are_those_of_the_referee_itself():
    seen = list(follow(patience(2), "fid", series_of(3, 2, 4, 5, 1).lines))
    assert [isinstance(one.verdict, Stop) for one in seen] == [False, False, False, True, False]
    assert isinstance(seen[-1].verdict, Continue)
    assert [one.best.fid if one.best else None for one in seen] == [3, 2, 2, 2, 1]
