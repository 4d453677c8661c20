"""Logs of other tools: what is unambiguous is read as it is meant, and says how; the rest is refused with a remedy."""

import gzip
import json
import math
from pathlib import Path

import pytest

from equipoise.cli import main
from equipoise.errors import Command, Option, UserError
from equipoise.runs.replay_read import Series, read, read_file

FIDS = (30.5, 20.25, 12.0, 9.5, 8.0, 8.5)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a file."""

    def write(content: str | bytes, name: str = "scores.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def points(series: Series) -> list[tuple[int, float]]:
    return [(score.samples, score.loss) for score in series.scores]


EXPECTED = [(100 * place, fid) for place, fid in enumerate(FIDS, 1)]
LIGHTNING = "epoch,step,train_loss,val/fid\n" + "".join(
    f"{step // 100},{step},{0.5 if step % 100 else ''},{'' if step % 100 else FIDS[step // 100 - 1]}\n"
    for step in range(2, 601, 2)
)
STYLEGAN = "".join(
    json.dumps(
        {
            "results": {"fid50k_full": fid},
            "metric": "fid50k_full",
            "total_time": 60.1,
            "snapshot_pkl": f"network-snapshot-{100 * place:06}.pkl",
            "timestamp": 1.7e9,
        }
    )
    + "\n"
    for place, fid in enumerate(FIDS, 1)
)
BIGGAN = "".join(
    json.dumps({"itr": 100 * place, "IS_mean": 5.0, "IS_std": 0.1, "FID": fid, "_stamp": 1.5e9}) + "\n"
    for place, fid in enumerate(FIDS, 1)
)


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("Step,FID\n" + "".join(f"{step},{fid}\n" for step, fid in EXPECTED), ['"Step"']),
        ("step\tfid\n" + "".join(f"{step}.0\t{fid}\n" for step, fid in EXPECTED), ["tabs"]),
        (
            "step;fid\n" + "".join(f"{step};{str(fid).replace('.', ',')}\n" for step, fid in EXPECTED),
            ["semicolons"],
        ),
        (LIGHTNING, ['"val/fid"', "294"]),
        (STYLEGAN, ["JSON", "snapshots"]),
        (BIGGAN, ["JSON", '"itr"']),
        (
            "iteration,loss,fid_score\n" + "".join(f"{step},1,{fid}\n" for step, fid in EXPECTED),
            ['"fid_score"', '"iteration"'],
        ),
    ],
    ids=["capitals", "tabs", "decimal commas", "Lightning", "StyleGAN", "BigGAN", "other names"],
)
def test_a_log_of_one_run_is_read_as_it_is_meant_and_says_how(written, content, notes):
    (found,) = read_file(written(content))
    assert points(found) == EXPECTED
    assert (found.name, found.metric.name) == ("scores", "fid")
    told = ", ".join(found.notes)
    assert '"scores"' in told
    for note in notes:
        assert note in told


def plain(head: str = "step,fid") -> str:
    return f"{head}\n" + "".join(f"{step},{fid}\n" for step, fid in EXPECTED)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (plain().encode("utf-16"), ""),
        (gzip.compress(plain().encode(), mtime=0), ""),
        ("# made by a tool\n\n# on Monday\n" + plain(), ""),
        (plain("# step,fid"), ""),
        ("sep=|\n" + plain().replace(",", "|"), "bars"),
        (plain("Training Step,FID (50k) ↓"), '"FID (50k) ↓"'),
        (plain("iters,frechet_inception_distance"), '"iters"'),
        (plain("kimgs,fid_val"), '"fid_val"'),
        (plain() + "step,fid\n" + "".join(f"{step},{fid}\n" for step, fid in EXPECTED[-2:]), "again"),
        ("step,fid\n" + "".join(f"{step},{fid}\n" for step, fid in reversed(EXPECTED)), "sorted"),
        (json.dumps([{"step": step, "fid": fid} for step, fid in EXPECTED], indent=1), "JSON"),
        (json.dumps({"step": [one[0] for one in EXPECTED], "fid": [one[1] for one in EXPECTED]}), "JSON"),
        ("".join(json.dumps({"step": step, "fid": fid}) + "\n" for step, fid in EXPECTED) + '{"step": 8', "cut"),
    ],
)
def test_marks_heads_order_and_packing_of_other_tools_are_read(written, content, note):
    (found,) = read_file(written(content))
    assert points(found) == EXPECTED
    assert note in ", ".join(found.notes)


@pytest.mark.parametrize(
    ("content", "mark"),
    [
        ("step,fid\n" + "".join(f'"{place},000",{9 - place}\n' for place in range(1, 7)), "commas"),
        ("step;fid\n" + "".join(f"{place}.000;{9 - place},5\n" for place in range(1, 7)), "points"),
    ],
)
def test_marks_between_the_thousands_of_steps_make_no_other_number_of_them(written, content, mark):
    (found,) = read_file(written(content))
    assert [score.samples for score in found.scores] == [1000 * place for place in range(1, 7)]
    assert any(mark in note for note in found.notes)


def test_marks_of_missing_numbers_are_failed_evaluations(written):
    marks = ["9", "-", "N/A", "null", "None", "5", "4"]
    (found,) = read_file(written("step,fid\n" + "".join(f"{place},{one}\n" for place, one in enumerate(marks))))
    assert [score.is_finite for score in found.scores] == [one.isdigit() for one in marks]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("step,fid\n1,9\n2,8\n3,7\n2,8.5\n3,6\n4,5\n", "line"),
        (
            "seed,step,fid\n" + "".join(f"{seed},{place},{9 - seed}\n" for seed in (0, 1) for place in range(6)),
            '"seed"',
        ),
        (
            "trial,step,fid\n" + "".join(f"{place % 2},{place},{9 - place}\n" for place in range(12)),
            '"trial"',
        ),
    ],
)
def test_a_step_with_two_scores_is_refused_with_what_tells_them_apart(written, content, remedy):
    with pytest.raises(UserError) as caught:
        read_file(written(content))
    assert remedy in str(caught.value.remedies[0])


def test_a_column_of_one_seed_tells_no_runs_apart(written):
    (found,) = read_file(written("seed,step,fid\n" + "".join(f"3,{step},{fid}\n" for step, fid in EXPECTED)))
    assert points(found) == EXPECTED


def test_cells_that_pandas_fills_with_nan_are_empty_ones(written):
    """Where they are all that a line of something else has of the metric; a NaN beside nothing else has failed."""
    sparse = "".join(f"{step - 50},nan,0.5\n{step},{fid},NaN\n" for step, fid in EXPECTED)
    (found,) = read_file(written("step,fid,loss\n" + sparse))
    assert points(found) == EXPECTED
    assert any(note.startswith("6 lines") for note in found.notes)
    failing = "".join(f"{step},{'nan' if step == 300 else fid},0.5\n" for step, fid in EXPECTED)
    (found,) = read_file(written("step,fid,loss\n" + failing))
    assert [step for step, fid in points(found) if math.isnan(fid)] == [300]


OF_TAGS = "".join(f"{step},loss,0.5\n{step},val/fid,{fid}\n" for step, fid in EXPECTED)


@pytest.mark.parametrize(
    "content",
    [
        "step,tag,value\n" + OF_TAGS,
        "key,value,step,timestamp\n" + "".join(f"fid,{fid},{step},{step}000\n" for step, fid in EXPECTED),
        json.dumps([{"metricName": "fid", "metricValue": str(fid), "step": step} for step, fid in EXPECTED]),
        "step,metric,value\n" + "".join(f"{step},fid,{fid}\n{step},kid,0.1\n" for step, fid in EXPECTED),
    ],
    ids=["TensorBoard", "MLflow", "Comet", "two metrics"],
)
def test_a_line_for_each_number_is_read_by_the_name_of_the_number(written, content):
    (found,) = read_file(written(content))
    assert points(found) == EXPECTED
    assert any("a line for each number" in note for note in found.notes)


def test_two_numbers_of_one_name_and_step_are_refused(written):
    with pytest.raises(UserError, match="twice"):
        read_file(written("step,tag,value\n" + OF_TAGS + "100,val/fid,3\n"))


def test_thousands_of_images_may_have_decimals(written):
    (found,) = read_file(written("kimg,fid\n" + "".join(f"{step / 1000},{fid}\n" for step, fid in EXPECTED)))
    assert points(found) == EXPECTED
    assert any("thousands" in note for note in found.notes)


def test_a_folder_of_another_tool_is_answered_with_its_logs(tmp_path):
    (tmp_path / "run" / "version_0").mkdir(parents=True)
    (tmp_path / "run" / "empty").mkdir()
    for name in ("metric-fid50k_full.jsonl", "version_0/metrics.csv", "training_options.json"):
        (tmp_path / "run" / name).write_text("")
    with pytest.raises(UserError) as refused:
        read([tmp_path / "run"])
    names = ["metric-fid50k_full.jsonl", "version_0/metrics.csv"]
    assert refused.value.remedies == tuple(Command("replay", tmp_path / "run" / name) for name in names)
    with pytest.raises(UserError, match="recipe"):
        read([tmp_path / "run" / "empty"])


def test_an_inception_score_alone_is_refused_by_its_direction(written):
    with pytest.raises(UserError) as caught:
        read_file(written("step,inception_score\n1,2\n"))
    assert "higher" in caught.value.problem


def test_an_export_of_weights_and_biases_has_a_column_for_each_run(written):
    head = '"Step","calm-sea-1 - fid","calm-sea-1 - fid__MIN","calm-sea-1 - fid__MAX","red-hill-2 - fid"\n'
    body = "".join(
        f'"{step}","{fid}","{fid}","{fid}",""\n"{step + 50}","","","","{fid + 1}"\n' for step, fid in EXPECTED
    )
    first, second = read_file(written(head + body))
    assert points(first) == EXPECTED
    assert points(second) == [(step + 50, fid + 1) for step, fid in EXPECTED]
    assert (first.name, second.name) == ("calm-sea-1", "red-hill-2")


def test_an_export_of_tensorboard_is_named_by_its_file_or_the_option(written):
    content = "Wall time,Step,Value\n" + "".join(f"1.7e9,{step},{fid}\n" for step, fid in EXPECTED)
    (by_name,) = read_file(written(content, "run1-tag-metrics_fid.csv"))
    assert (points(by_name), by_name.metric.name) == (EXPECTED, "fid")
    path = written(content, "export.csv")
    assert read_file(path, "kid")[0].metric.name == "kid"
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert caught.value.remedies == (Option("metric", "fid"),)


def test_an_empty_cell_is_a_failed_evaluation_where_nothing_else_stands_in_its_line(written):
    """Of our own columns, and also where a few lines of many are without: those did fail."""
    own = "run,step,fid,coverage\n" + "".join(f"a,{place},{'' if place % 2 else 5},0.5\n" for place in range(1, 11))
    assert sum(math.isnan(score.loss) for score in read_file(written(own))[0].scores) == 5
    few = "step,fid,seconds\n" + "".join(f"{place},{'' if place == 4 else 9},1\n" for place in range(1, 11))
    (found,) = read_file(written(few))
    assert [math.isnan(score.loss) for score in found.scores] == [place == 4 for place in range(1, 11)]


def test_lines_of_something_else_are_told_by_what_they_alone_fill(written):
    """However many they are; and where a failed evaluation has an epoch, that is no number of something else."""
    lines = "".join(f"{place},,{0.5 + place}\n{place},{10 - place},\n" for place in range(1, 8))
    (found,) = read_file(written("step,fid,train_loss\n" + lines))
    assert [score.samples for score in found.scores] == list(range(1, 8))
    failing = "".join(f"{place},{place},{'' if place % 4 else 7}\n" for place in range(1, 21))
    (found,) = read_file(written("epoch,step,fid\n" + failing))
    assert sum(math.isnan(score.loss) for score in found.scores) == 15


def test_files_of_one_name_are_runs_of_two(tmp_path):
    paths = []
    for version in ("version_0", "version_1"):
        (tmp_path / version).mkdir()
        paths.append(tmp_path / version / "metrics.csv")
        paths[-1].write_text("step,fid\n" + "".join(f"{step},{fid}\n" for step, fid in EXPECTED))
    assert [one.name for one in read(paths)] == ["version_0/metrics", "version_1/metrics"]


def test_a_running_minimum_is_no_series_and_the_other_metric_may_be_ambiguous(written):
    with pytest.raises(UserError, match='"fid"'):
        read_file(written("step,best_fid\n1,2\n"))
    both = "epoch,train/fid,val/fid,kid\n" + "".join(f"{place},1,2,{place}\n" for place in range(1, 7))
    assert read_file(written(both), "kid")[0].metric.name == "kid"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("step,val/fid,train/fid\n1,2,3\n", "train/fid"),
        ('{"step": 1, "fid": 2}\n{"step": 2, "fid": \n', "JSON"),
        ('{"step": 1, "fid": 2}\n[2, 3]\n', "object"),
        ("step\tfid\n1,000\t29.5\n2,000\t28\n", "thousands"),
        ("step;fid\n1;1,290\n2;1,280\n", "thousands"),
        ("step,a - fid,a - fid\n1,2,3\n", "times"),
        ('{"loss": 1}\n', '"step"'),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused_with_what_to_change(written, content, what):
    with pytest.raises(UserError) as caught:
        read_file(written(content))
    assert what in caught.value.problem
    assert caught.value.remedies


def test_how_a_file_was_read_is_said_on_the_screen_and_in_json(written, capsys):
    path = written(LIGHTNING)
    assert main(["replay", str(path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert '"val/fid"' in shown
    assert main(["replay", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["read_as"]["scores"] == list(read_file(path)[0].notes)


LINES = "".join(f"{step},{fid}\n" for step, fid in EXPECTED)
SPACED = "".join(f"{step:6}  {fid:8.2f} \n" for step, fid in EXPECTED)
BARRED = "".join(f"| {step} | {f'**{fid}**' if fid == 8 else fid} |\n" for step, fid in EXPECTED)
EDGE = "+------+------+\n"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (f"step,fid\n{LINES}".encode("utf-16-le"), "UTF-16-LE"),
        (f"step,fid\n{LINES}".encode("utf-16-be"), "UTF-16-BE"),
        (f"step,fid\n{LINES}".encode("utf-32"), ""),
        ("  step       fid\n" + SPACED, "blanks"),
        ("step fid\n" + SPACED.replace(".", ","), "blanks"),
        ("  step fid\n" + "".join(f"{place}  {step} {fid}\n" for place, (step, fid) in enumerate(EXPECTED)), "blanks"),
        ('"step" "fid"\n' + "".join(f'"{step}" "{fid}"\n' for step, fid in EXPECTED), "blanks"),
        ("| step | FID ↓ |\n|-----:|:---:|\n" + BARRED, "Markdown"),
        ("| step | fid |\r\n| --- | --- |\r\n" + BARRED.replace("\n", "\r\n"), "Markdown"),
        ("# Results\n\nOurs:\n\n| step | fid |\n|---|---|\n" + BARRED + "\nLower is better.\n", "(3)"),
        ("step | fid\n--- | ---\n" + LINES.replace(",", " | "), "Markdown"),
        (f"{EDGE}| step | fid |\n{EDGE}{BARRED}{EDGE}", "Markdown"),
        ("┌────┬────┐\n│ step │ fid │\n├────┼────┤\n" + BARRED.replace("|", "│") + "└────┴────┘\n", "Markdown"),
        ("".join(f"step: {step}, fid: {fid}\n" for step, fid in EXPECTED), "names"),
        ("".join(f"step={step} loss=0.5 fid={fid}\n" for step, fid in EXPECTED), "names"),
        ("Start\n" + "".join(f"step={step} d=0.5\nstep={step} fid={fid}\n" for step, fid in EXPECTED), "(1)"),
        ("".join(f"step {step} loss 0.5 fid {fid}\n" for step, fid in EXPECTED), "names"),
        ("".join(f"[2024-05-01 10:00:00] INFO step: {step} | FID: {fid}\n" for step, fid in EXPECTED), "names"),
        ("".join(f"{{'step': {step}, 'fid': {fid}, 'loss': nan}}\n" for step, fid in EXPECTED), "JSON"),
        (
            "".join(f"network-snapshot-{step:06}   time 2m 30s   fid50k {fid}\n" for step, fid in EXPECTED),
            "snapshots",
        ),
        ("# step fid\n" + "".join(f"{step:.18e} {fid:.18e}\n" for step, fid in EXPECTED), "blanks"),
        (json.dumps({"history": [{"step": step, "fid": fid} for step, fid in EXPECTED]}), "JSON"),
        (json.dumps({str(step): {"fid": fid} for step, fid in EXPECTED}), "JSON"),
    ],
)
def test_other_encodings_and_drawn_tables_are_read_and_said(written, content, note):
    (found,) = read_file(written(content))
    assert points(found) == EXPECTED
    assert any(note in told for told in found.notes)


def test_shares_in_per_cent_are_shares(written):
    rows = "".join(f"{step};{fid};12,5 %\n" for step, fid in EXPECTED)
    (found,) = read_file(written("step;fid;precision\n" + rows))
    assert [score.value("precision") for score in found.scores] == [0.125] * len(EXPECTED)
    assert any("%" in told for told in found.notes)


@pytest.mark.parametrize("mark", ["{}k", "0.{}M", "{}_000", "{} 000", "{}kimg"])
def test_steps_in_thousands_are_plain_numbers_and_said(written, mark):
    rows = "".join(f"{mark.format(step)},{fid}\n" for step, fid in EXPECTED)
    (found,) = read_file(written("step,fid\n" + rows))
    assert points(found) == [(1_000 * step, fid) for step, fid in EXPECTED]
    assert len(found.notes) == 2


def test_the_json_of_tensorboard_is_named_by_the_option(written):
    content = json.dumps([[1.7e9, step, fid] for step, fid in EXPECTED])
    (found,) = read_file(written(content), "fid")
    assert points(found) == EXPECTED


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("step,fid\n100,30.5%\n", "sign"),
        ("step,kid\n100,0.5 %\n", "sign"),
        ("step,fid\n100,30.5 ± 0.4\n", "30.5"),
        ("step,fid\n100/600,30.5\n", "100"),
        (LINES, "step,fid"),
        (2 * ("| step | fid |\n|---|---|\n" + BARRED + "\n"), "one"),
        ("fid\n3\n4\n", "add"),
        ("step,100,200,300\nfid,3,2,1\n", "columns"),
        ("step fid loss\n100 3\n", "nan"),
        ("Schritt,fid\nä,3\n".encode("latin-1"), "iconv"),
        (b"PK\3\4" + bytes(100), "Excel"),
        (bytes(9) + b"brain.Event:2", "TensorBoard"),
    ],
)
def test_what_is_refused_is_answered_with_what_to_write(written, content, remedy):
    with pytest.raises(UserError) as refused:
        read_file(written(content))
    assert remedy in str(refused.value)
    assert refused.value.remedies
