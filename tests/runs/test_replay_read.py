"""Series of scores to replay: what CSV files and run folders may look like, and what is refused in one line."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
from fake_runs import PROTOCOL, data_record

from equipoise.errors import Option, UserError
from equipoise.recipe import PatienceSettings, Stopping, ThresholdSettings
from equipoise.runs.replay import follow, replay
from equipoise.runs.replay_read import read, read_file, read_run
from equipoise.storage.logs import append
from equipoise.storage.records import Metric, Score


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


# CSV files


def test_runs_of_a_file_may_be_mixed_and_keep_their_order(written):
    body = "".join(f"b,{i},{9 - i}\na,{2 * i},{i + 1}\n" for i in range(5))
    found = read_file(written("run,step,fid\n" + body))
    assert [one.name for one in found] == ["b", "a"]
    assert [score.samples for score in found[1].scores] == [0, 2, 4, 6, 8]
    assert [score.loss for score in found[0].scores] == [9, 8, 7, 6, 5]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_line_ends_quotes_blanks_and_other_columns_are_read(written, end, mark):
    lines = ['"run", step,"a ""note""", fid,coverage', *[f'"x, ""y""",{i}00.0, "tw\n o",{i}e1,' for i in range(1, 6)]]
    lines.insert(3, "")
    (found,) = read_file(written(mark + end.join([*lines, ",,,,", ""]).encode()))
    assert (found.name, found.metric.name) == ('x, "y"', "fid")
    assert [(score.samples, score.loss) for score in found.scores] == [(100 * i, 10.0 * i) for i in range(1, 6)]
    assert all(math.isnan(score.value("coverage")) for score in found.scores)


def test_empty_cells_and_what_is_not_finite_are_failed_evaluations(written):
    (found,) = read_file(written(rows(1.5, "", "nan", "inf", "-inf", "NaN", " 2 ")))
    assert [score.loss for score in found.scores if score.is_finite] == [1.5, 2.0]
    assert all(score.is_finite or math.isnan(score.loss) for score in found.scores)
    assert len(found.scores) == 7


KNOWN = ("kid", "precision", "recall", "density", "coverage", "copying", "discriminator_gap")


def test_every_column_that_a_score_knows_is_read_by_its_name(written):
    head = f"run,step,fid,{','.join(KNOWN)},kid_se,difference,difference_error,compared_with,inception_score\n"
    body = "".join(f"a,{i},3,{','.join(str(n) for n in range(1, 11))},{i - 1},high\n" for i in range(1, 6))
    (found,) = read_file(written(head + body), "kid")
    first = found.scores[0]
    assert [first.value(name) for name in KNOWN] == list(range(1, 8))
    assert (first.loss, first.error, first.difference, first.difference_error) == (1, 8, 9, 10)
    assert first.value("fid") == 3
    assert [score.compared_with for score in found.scores] == [0, 1, 2, 3, 4]


def test_errors_and_differences_are_those_of_the_kid_and_say_nothing_of_the_fid(written):
    body = "".join(f"a,{i},3,1,0.1,-0.5,0.1,{i - 1}\n" for i in range(1, 6))
    path = written("run,step,fid,kid,kid_se,difference,difference_error,compared_with\n" + body)
    score = read_file(path)[0].scores[-1]
    assert score.loss == 3
    assert math.isnan(score.error + score.difference)
    assert score.compared_with == 0
    assert read_file(path, "kid")[0].scores[-1].difference == -0.5


def test_the_metric_is_fid_if_there_else_kid_unless_said(written):
    both = written("run,step,kid,fid\n" + "".join(f"a,{i},{-i},{i}\n" for i in range(1, 6)))
    assert read_file(both)[0].metric.name == "fid"
    assert read_file(both, "kid")[0].metric.name == "kid"
    assert read_file(both, "kid")[0].metric.signed
    assert read_file(written(rows(1, 2, 3, -4, 5, head="run,step,kid\n")))[0].metric.name == "kid"


def test_a_negative_fid_beside_the_kid_that_counts_is_let_pass_but_not_where_it_counts(written):
    both = written("run,step,kid,fid\n" + "".join(f"a,{i},{i},-1\n" for i in range(1, 6)))
    assert read_file(both, "kid")
    with pytest.raises(UserError) as caught:
        read_file(both)
    assert caught.value.subject == f"{both}, line 2"


GOOD = rows(5, 4, 3, 2, 1)


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("", "", ""),
        ("\n \n", "", ""),
        ("run,step,fid\n", "", ""),
        ("run,step,fid,\xe9\n".encode("latin-1"), "", "UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "", "picture"),
        (GOOD + "\0", "", "UTF-8"),
        ("step,fid,time\n1,2,3\n", ': run "scores"', "1"),
        ("run,fid\na,2\n", "", '"step"'),
        ("run,step,loss\na,1,2\n", "", '"fid"'),
        ("run:step:fid\na:1:2\n", "", '"step"'),
        ("run;step;fid\na;1;2\n", ': run "a"', "1"),
        ("run,step,fid,fid\n", "", '"fid"'),
        (rows(5, 4, 3, 2), ': run "a"', "4"),
        (rows(5), ': run "a"', "1"),
        (GOOD + "b,1,1\n", ': run "b"', "1"),
        (rows("", "nan", "", "", ""), ': run "a"', "FID"),
        (rows(5, 4, "abc", 2, 1), ', line 4: fid "abc"', ""),
        (rows(5, 4, "1_0", 2, 1), ', line 4: fid "1_0"', ""),
        (rows(5, 4, "1e300", 2, 1), ", line 4: fid 1e+300", ""),
        (rows(5, 4, 0, 2, 1), ", line 4", "FID 0"),
        (rows(5, 4, -0.5, 2, 1), ", line 4", "FID -0.5"),
        (GOOD.replace("300", "abc"), ', line 4: step "abc"', ""),
        (GOOD.replace("300", "300.5"), ', line 4: step "300.5"', ""),
        (GOOD.replace("300", "-300"), ', line 4: step "-300"', ""),
        (GOOD.replace("300", "1e99"), ', line 4: step "1e99"', ""),
        (GOOD.replace("300", "nan"), ', line 4: step "nan"', ""),
        (GOOD.replace("300", ""), ', line 4: step ""', ""),
        (GOOD.replace("a,300", ",300"), ', line 4: run ""', ""),
        (GOOD.replace("300", "200"), ', line 4: run "a"', "200"),
        (GOOD.replace("300,3", "300"), ", line 4", "2"),
        (GOOD.replace("300,3", "300,3,7"), ", line 4", "4"),
        (GOOD.replace("300,3", '300,"3'), ", line 4", ""),
        ("\n" + GOOD.replace("a,100", '"a",100').replace("300,3", "300,x"), ', line 5: fid "x"', ""),
        ("run,step,fid,recall\na,1,2,high\n", ', line 2: recall "high"', ""),
        ("run,step,kid,kid_se\na,1,2,-1\n", ", line 2", ""),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_in_one_line(written, content, where, what):
    path = written(content)
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert str(caught.value.subject) == f"{path}{where}"
    assert what in caught.value.problem
    assert "\n" not in str(caught.value)


def test_other_scores_are_offered_where_the_chosen_ones_are_all_missing(written):
    with pytest.raises(UserError) as caught:
        read_file(written("run,step,fid,kid\n" + "".join(f"a,{i},,{i}\n" for i in range(1, 6))))
    assert caught.value.remedies == (Option("metric", "kid"),)


def test_paths_that_hold_nothing_are_refused(written, tmp_path):
    good = written(GOOD)
    (tmp_path / "folder").mkdir()
    again = tmp_path / "folder" / ".." / "scores.csv"
    for paths in (
        [tmp_path / "none.csv"],
        [tmp_path / "folder"],
        [good, again],
        [tmp_path / ("x" * 300)],
        [Path(os.devnull)],
    ):
        with pytest.raises(UserError) as caught:
            read(paths)
        assert caught.value.subject == paths[-1]
    assert [one.name for one in read([good, written(rows(3, 2, 1, 2, 3, run="b"), "b.csv")])] == ["a", "b"]


# Run folders


def patience(number: int) -> Stopping:
    return Stopping(policy="patience", patience=PatienceSettings(evaluations=number))


def logged(run: Any, samples: int, **values: Any) -> None:
    append(run.scores, {"samples": samples, "seconds": 1.0, "loss": 0.1, "protocol": PROTOCOL} | values)


def test_a_run_folder_is_replayed_by_its_own_metric_or_another(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    found = read_run(run.path)
    assert (found.name, found.metric.name, len(found.scores), found.stats) == ("run", "kid", 40, ())
    assert found.scores[0].error > 0
    (by_fid,) = read([run.path], "fid")
    assert by_fid.metric.name == "fid"
    assert by_fid.scores[0].loss == found.scores[0].value("fid")
    assert math.isnan(by_fid.scores[0].error)
    assert replay(patience(40), found).message is None


def test_a_run_of_another_task_is_replayed_by_what_decided_there(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    run.write_data(data_record(metrics=(Metric(name="mse", label="MSE", decides=True),)))
    assert read_run(run.path).metric.shown == "MSE"
    with pytest.raises(UserError) as caught:
        read_run(run.path, "fid")
    assert caught.value.subject == Option("metric", "fid")
    assert "mse" in caught.value.problem


def test_only_scores_under_the_last_protocol_of_a_run_count(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    for samples in range(2_500_000, 2_500_005):
        logged(run, samples, protocol={"features": "other"})
    found = read_run(run.path)
    assert [score.samples for score in found.scores] == list(range(2_500_000, 2_500_005))
    logged(run, 2_500_009, protocol={"features": "third"})
    with pytest.raises(UserError) as caught:
        read_run(run.path)
    assert caught.value.subject == f'{run.path}: run "run"'


def test_evaluations_that_failed_in_a_run_count_as_they_did_there(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    run.log_event(500_000, 1.0, "evaluation failed", "RuntimeError: out of memory")
    run.log_event(1, 1.0, "evaluation failed", "RuntimeError: before the first score of this protocol")
    run.log_event(600_000, 1.0, "not saved", "something else")
    found = read_run(run.path)
    assert [score.samples for score in found.scores] == [480_000, 500_000, 960_000, 1_440_000, 1_920_000, 2_400_000]
    assert math.isnan(found.scores[1].loss)
    assert list(follow(patience(9), found.metric, found.scores))[1].best == found.scores[0]


def test_a_null_in_a_log_is_a_failed_evaluation_and_a_word_is_damage(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    logged(run, 2_500_000, loss=None)
    assert math.isnan(read_run(run.path).scores[-1].loss)
    logged(run, 2_600_000, loss="low")
    with pytest.raises(UserError) as caught:
        read_run(run.path)
    assert caught.value.subject == run.path
    assert "loss" in caught.value.problem


def test_a_record_that_does_not_say_after_how_many_samples_is_not_an_evaluation(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    before = read_run(run.path)
    for record in ({}, {"loss": 0.001}, {"samples": None, "loss": 0.001}):
        append(run.scores, record)
    assert repr(read_run(run.path)) == repr(before)


def test_a_log_out_of_order_is_refused(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    logged(run, 7)
    with pytest.raises(UserError) as caught:
        read_run(run.path)
    assert caught.value.subject == f'{run.scores}: run "run"'
    assert "2400000" in caught.value.problem


def test_the_threshold_is_replayed_where_there_are_stats_of_a_probability_only(tmp_path, fake_run):
    stopping = Stopping(policy="discriminator-threshold", threshold=ThresholdSettings(level=0.4))
    run = fake_run(tmp_path / "probable", "game.loss=non-saturating")
    found = replay(stopping, read_run(run.path))
    assert found.message
    assert " 0.4" in found.message
    assert 0 < found.stop_samples < found.last_samples
    assert found.stop_samples % 4000 == 0  # at a logging interval, between two scores
    always = Stopping(policy="discriminator-threshold", threshold=ThresholdSettings(level=1.0))
    never = replay(always, read_run(run.path))
    assert (never.message, never.saved) == (None, 0.0)
    other = read_run(fake_run(tmp_path / "other").path)
    with pytest.raises(UserError) as caught:
        replay(stopping, other)
    assert other.name in str(caught.value.subject)


def test_an_error_below_zero_in_a_log_is_refused(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    run.log_score(Score(samples=2_500_000, seconds=1.0, loss=0.1, error=-1.0, protocol=PROTOCOL), is_best=False)
    with pytest.raises(UserError) as caught:
        read_run(run.path)
    assert caught.value.subject == f"{run.scores}, step 2500000"
