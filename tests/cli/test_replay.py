"""`equipoise replay` as a person types it: tables, JSON, and one line for every mistake."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import data_record

from equipoise.cli import main
from equipoise.recipe import Recipe, with_settings
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import Score

Command = Callable[..., str]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that replays, which succeeds, and returns what was printed."""

    def run(*arguments: Any) -> str:
        assert main(["replay", *map(str, arguments)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that replays what is a mistake, and returns its one line."""

    def run(*arguments: Any) -> str:
        assert main(["replay", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("equipoise: ")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Return a file with two runs of 40 evaluations; the first is at its best at the fifth."""
    path = tmp_path / "scores.csv"
    first = [f"a,{i},{10 + abs(i - 5)},{0.01 * i}" for i in range(1, 41)]
    second = [f"b,{i},{50 - i},{0.01 * i}" for i in range(1, 41)]
    path.write_text("\n".join(["run,step,fid,kid", *first, *second, ""]))
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Return a run that was scored 40 times, the lowest KID at the fifth."""
    run = RunFolder.create(tmp_path / "runs" / "one", with_settings(Recipe(), ["seed=3"]), data_record())
    for index in range(1, 41):
        kid = 0.01 + 0.001 * abs(index - 5)
        values = {"kid": kid, "fid": 100 * kid}
        run.log_score(Score(samples=100 * index, seconds=1.0, loss=kid, error=1e-4, values=values), is_best=False)
    return run.path


def test_by_default_every_policy_that_scores_allow_has_a_row(output: Command, scores: Path) -> None:
    lines = output(scores).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["evidence", "patience", "budget", "oracle"]
    assert max(map(len, lines)) <= 80
    assert [one["policy"] for one in json.loads(output(scores, "--json"))["policies"]] == [
        "evidence",
        "patience",
        "budget",
    ]


def test_numbers_of_a_table_and_of_json_are_those_of_a_hand_count(output: Command, scores: Path) -> None:
    text = output(scores, "--policy", "patience", "--set", "stopping.patience.evaluations=3")
    row = next(line for line in text.splitlines() if line.strip().startswith("patience"))
    assert row.split() == ["patience", "2", "40.0", "%", "2", "(100", "%)", "2", "(100", "%)", *["1.000"] * 3]
    values = json.loads(output(scores, "--policy", "patience", "--set", "stopping.patience.evaluations=3", "--json"))
    assert values["policies"][0].pop("settings")["patience"] == {"evaluations": 3}
    same = {"runs": 2, "within_2pct": 2, "within_5pct": 2}
    assert values["policies"] == [
        {"policy": "patience", "saved": 0.4, "mean_regret": 1.0, "p90_regret": 1.0, "worst_regret": 1.0} | same
    ]
    assert values["oracle"]["saved"] == pytest.approx((1 - 5 / 40) / 2)
    assert set(values) == {"policies", "oracle"}


def test_policies_may_be_given_together_or_one_by_one_and_each_counts_once(output: Command, scores: Path) -> None:
    together = output(scores, "--policy", "budget", "patience", "budget")
    assert together == output(scores, "--policy", "budget", "--policy", "patience")
    assert together.count("budget") == together.count("patience") == 1


def test_runs_and_files_are_replayed_together_and_another_metric_on_demand(
    output: Command, scores: Path, run_folder: Path
) -> None:
    both = json.loads(output(scores, run_folder, "--policy", "patience", "--json"))
    assert both["policies"][0]["runs"] == 3
    text = output(scores, "--policy", "patience", "--metric", "kid", "--set", "stopping.patience.evaluations=3")
    assert "90.0 %" in text  # by KID both runs are at their best at once


def test_one_run_comes_with_the_reason_of_every_policy(output: Command, run_folder: Path) -> None:
    text = " ".join(output(run_folder, "--policy", "patience", "budget").split())
    stopped = text[text.index("1,500 of 4,000: ") :]
    assert "0.01 ± 0.0001 at 500 " in stopped
    assert " 4,000." in stopped


@pytest.fixture
def odd_files(tmp_path: Path) -> Path:
    """Return a folder with files that cannot be replayed."""
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "empty.csv").touch()
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "short.csv").write_text("run,step,fid\n" + "".join(f"a\x1b[31m,{i},{i}\n" for i in range(1, 5)))
    return folder


def test_what_cannot_be_read_is_refused_in_one_line(refused: Command, scores: Path, odd_files: Path) -> None:
    for name in ("none.csv", "empty.csv", "picture.png", "."):
        assert refused(odd_files / name).startswith(f"equipoise: {odd_files / name}: ")
    assert 'run "a?[31m": 4 ' in refused(odd_files / "short.csv")
    assert refused(scores, scores).startswith(f"equipoise: {scores}: ")


@pytest.mark.parametrize(
    ("arguments", "subject", "remedy"),
    [
        ([], "replay: missing: FILE|RUN", "equipoise replay "),
        (["FILE", "--policy", "pateince"], "--policy pateince: ", '"patience"?'),
        (["FILE", "--policy", "oracle"], "--policy oracle: ", "--policy evidence"),
        (["FILE", "--policy"], "replay: ", "equipoise replay "),
        (["--policy", "patience", "FILE"], "--policy FILE: ", "equipoise replay FILE"),
        (["FILE", "--policy", "discriminator-threshold"], "D(G(z))", "--policy evidence"),
        (["RUN", "--policy", "discriminator-threshold"], "D(G(z))", "--policy evidence"),
        (["FILE", "--metric", "is"], "--metric is: ", "--metric fid"),
        (["FILE", "--set", "game.batch=8"], "game.batch=8: ", "stopping.evidence.alpha"),
        (["FILE", "--polcy", "patience"], '"--polcy"', '"--policy"?'),
    ],
)
def test_mistakes_are_refused_in_one_line(
    refused: Command, scores: Path, run_folder: Path, arguments: list[str], subject: str, remedy: str
) -> None:
    def named(text: str) -> str:
        return text.replace("FILE|RUN", "\0").replace("FILE", str(scores)).replace("\0", "FILE|RUN")

    line = refused(*[str(run_folder) if argument == "RUN" else named(argument) for argument in arguments])
    assert named(subject) in line
    assert named(remedy) in line


def test_a_log_that_may_not_be_read_is_a_mistake_of_one_line(refused: Command, run_folder: Path) -> None:
    (run_folder / "log" / "scores.jsonl").unlink()
    (run_folder / "log" / "scores.jsonl").mkdir()
    assert refused(run_folder).startswith(f"equipoise: {run_folder}: ")


def test_the_help_states_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    text = capsys.readouterr().out
    for word in ("run,step,fid", "fid or kid", "Lower", "five", "1 - step", "regret", "oracle", "2 %"):
        assert word in text


def test_replaying_loads_nothing_heavy(scores: Path) -> None:
    code = (
        f"import sys; from equipoise.cli import main; main(['replay', {str(scores)!r}, '--policy', 'patience']); "
        "print([name for name in ('torch', 'numpy', 'rich', 'PIL', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_series_may_come_through_a_pipe(scores: Path) -> None:
    command = f"cat '{scores}' | '{sys.executable}' -m equipoise.cli replay /dev/stdin --policy patience --json"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(done.stdout)["policies"][0]["runs"] == 2
