"""The command line as a person uses it: what every command does; mistakes are in test_mistakes.py."""

import json
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import change_state
from PIL import Image
from small import as_options

from equipoise import loop
from equipoise.cli import main
from equipoise.cli.arguments import COMMANDS, parser
from equipoise.formatting import duration
from equipoise.recipe import Recipe, from_dict
from equipoise.recipes import NAMES, Facts, RecipeName, build, named
from equipoise.runs.folder import RunFolder
from equipoise.runs.quality import ORDER
from equipoise.storage.records import RemedyRecord, RunState, Span

QUICK = Path(__file__).parents[1] / "quick.py"
SMALL = as_options()
STAGES = r"([a-z ]+ …( [0-9]+ %)?\n)*"  # what is said of a long wait where there is no terminal


Command = Callable[..., str]


def ended(text: str) -> dict[str, str]:
    """Return what is printed at the end of a training: what stands beside each label, each on one line."""
    found: dict[str, str] = {}
    label = "message"
    for line in text.rpartition("\n\n")[2].splitlines():
        match = re.match("(Time|Best|Test|Final|Scale|Quality|Report|Sample|Resume|Apply|Longer): +", line)
        if match:
            label = match[1]
            line = line[match.end() :]
        found[label] = f"{found.get(label, '')} {line.strip()}".strip()
    return found


def state_of(run: Path) -> RunState:
    return RunFolder(run).read_state()


# Training


def test_train_on_a_folder_says_what_it_does_and_leaves_a_run(output: Command, shapes: Path, tmp_path: Path) -> None:
    text = output("train", shapes, "--budget", "400", "--seed", "3", "--out", tmp_path / "a run", *SMALL)
    assert "240 images" in text
    assert "(8×8, grey, 2 classes)" in text
    found = ended(text)
    assert " 400 " in found["message"]
    seconds = state_of(tmp_path / "a run").seconds
    assert found["Time"].startswith(f"{duration(seconds)} ")
    assert " 400 " in found["Time"]
    assert found["Best"].startswith("KID ")
    assert found["Final"].startswith("KID "), "of so few images all that are held out judge"
    assert found["Scale"].startswith("KID: ")
    assert found["Report"] == f"{tmp_path}/a run/report.html"
    assert found["Sample"].startswith(f"equipoise sample '{tmp_path}/a run' ")
    assert state_of(tmp_path / "a run").samples == 400
    assert (tmp_path / "a run" / "report.html").is_file()
    assert (tmp_path / "a run" / "best" / "README.md").is_file()
    recipe = json.loads((tmp_path / "a run" / "recipe.json").read_text())
    assert recipe["seed"] == 3
    assert recipe["networks"]["width"] == 16


def test_train_without_out_numbers_the_runs(
    output: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink(shapes, tmp_path / "photos")
    for number in ("001", "002"):
        assert f"runs/modern-photos-{number}" in output("train", "photos", "--budget", "80", *SMALL)


def test_train_on_a_zip_and_on_an_npz(output: Command, shapes: Path, tmp_path: Path) -> None:
    files = sorted(shapes.rglob("*.png"))
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for file in files:
            archive.write(file, file.relative_to(shapes))
    array = np.stack([np.asarray(Image.open(file)) for file in files])
    np.savez(tmp_path / "shapes.npz", images=array)
    for name in ("shapes.zip", "shapes.npz"):
        text = output("train", tmp_path / name, "--budget", "80", "--out", tmp_path / f"run {name}", *SMALL)
        assert "240 images" in text
        assert state_of(tmp_path / f"run {name}").status == "finished"


@pytest.mark.slow
def test_train_on_the_embedded_digits(output: Command, tmp_path: Path) -> None:
    text = output("train", "mnist", "--budget", "400", "--out", tmp_path / "run", *SMALL)
    assert "(28×28, grey, 10 classes)" in text
    assert state_of(tmp_path / "run").samples == 400


def test_train_on_points_by_the_name_of_a_shape_or_a_csv_file(output: Command, tmp_path: Path) -> None:
    settings = ["--set=evaluation.num_samples=100", "--set=evaluation.every=1024", "--set=networks.width=8"]
    output("train", "ring", "--budget", "2048", "--out", tmp_path / "ring", *settings)
    output("sample", tmp_path / "ring", "-n", "300", "-o", tmp_path / "points.csv")
    assert len((tmp_path / "points.csv").read_text().splitlines()) == 301
    more = ["--set=game.batch=32", "--set=data.validation=0.2", "--set=data.test=0.2", *settings]
    command = ["train", tmp_path / "points.csv", "--task", "points", "--budget", "2048", "--out", tmp_path / "csv"]
    told = ended(output(*command, *more))
    assert told["Sample"].endswith(".csv")
    budget = told["Longer"].split()[-1]
    assert " samples" in ended(output("resume", tmp_path / "csv", "--budget", budget))["message"], (
        "what is advised works"
    )
    recipe = json.loads((tmp_path / "csv" / "recipe.json").read_text())
    assert recipe["task"]["kind"] == "points"
    values = json.loads(output("evaluate", tmp_path / "ring", "--against", "ring", "-n", "200", "--json"))
    assert values["num"] == values["protocol"]["num_generated"] == 200
    command = ["evaluate", tmp_path / "points.csv", "--against", "ring", "--task", "points", "--json"]
    generated = json.loads(output(*command))
    assert generated["num"] == 300
    assert generated["values"].keys() == values["values"].keys()


def test_every_option_of_train_reaches_the_recipe(output: Command, shapes: Path, tmp_path: Path) -> None:
    given = ["--recipe", "lsgan", "--size", "12", "--fit", "pad", "--device", "cpu"]
    output("train", shapes, "--budget", "80", "--out", tmp_path / "run", *given, *SMALL)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["name"], recipe["game"]["loss"], recipe["device"]) == ("lsgan", "least-squares", "cpu")
    assert (recipe["task"]["size"], recipe["task"]["fit"]) == (12, "pad")


def test_broken_files_are_named_and_the_training_continues(output: Command, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "images")
    (tmp_path / "images" / "lying" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    text = output("train", tmp_path / "images", "--budget", "80", "--out", tmp_path / "run", *SMALL)
    assert re.search(r"\b1 of 241 \D*\(lying/torn[.]png: ", text)


@pytest.mark.parametrize("name", ["[bold red] ünïcode 数字 a$b'c\"d", "x" * 255, "-n"])
def test_odd_names_of_sources_and_runs_work(output: Command, shapes: Path, tmp_path: Path, name: str) -> None:
    source, run = tmp_path / "sources" / name, tmp_path / "runs" / name
    source.parent.mkdir()
    source.symlink_to(shapes)
    text = output("train", source, "--budget", "80", "--out", run, *SMALL)
    assert ended(text)["Report"] == f"{run}/report.html"
    assert "finished" in output("status", run)
    assert output("sample", run, "-n", "1", "-o", tmp_path / f"{name[:200]}.png")


def test_names_that_are_no_text_never_end_in_a_traceback(
    quick: None, capsys: pytest.CaptureFixture[str], shapes: Path, tmp_path: Path
) -> None:
    source = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m")
    os.symlink(shapes, source)
    assert main(["train", source, "--budget", "80", "--out", str(tmp_path / "run"), *SMALL]) in (0, 2)
    streams = capsys.readouterr()
    assert "\x1b" not in streams.out + streams.err


# Continuing


def test_train_with_resume_begins_continues_and_leaves_a_finished_run_alone(
    output: Command, refused: Command, shapes: Path, tmp_path: Path
) -> None:
    command = ["train", shapes, "--budget", "400", "--out", tmp_path / "run", "--resume", *SMALL]
    output(*command)
    (tmp_path / "run" / "state.json").write_text('{"status": "running"}')  # as a killed training leaves it
    assert "Best" in ended(output(*command))
    assert (state_of(tmp_path / "run").status, state_of(tmp_path / "run").samples) == ("finished", 400)
    before = (tmp_path / "run" / "report.html").stat().st_mtime_ns
    assert f"{tmp_path}/run/report.html" in output(*command)
    assert (tmp_path / "run" / "report.html").stat().st_mtime_ns == before
    for option, value, field, begun in (
        ("--seed", "5", "seed", "0"),
        ("--recipe", "dcgan", "name", "modern"),
        ("--set", "game.batch=16", "game.batch", "8"),
        ("--size", "16", "task.size", "8"),
    ):
        line = refused(*command, option, value)
        assert line.startswith(f"equipoise: {field}={value.rpartition('=')[2]}: ")
        assert f"{field}={begun}." in line
        assert f"equipoise resume {tmp_path}/run," in line


def test_train_with_resume_goes_on_where_the_same_images_are_now_and_with_no_others(
    output: Command, refused: Command, shapes: Path, tmp_path: Path
) -> None:
    before, after = shutil.copytree(shapes, tmp_path / "before"), tmp_path / "after"
    command = ["--budget", "400", "--out", tmp_path / "run", "--resume", *SMALL]
    output("train", before, *command)
    (tmp_path / "run" / "state.json").write_text('{"status": "running"}')  # as a killed training leaves it
    shutil.copytree(before, after)
    line = refused("train", after, *command)
    assert f"resume {tmp_path / 'run'} --source {after}" in line, "both are there: which one is meant?"
    assert f"train {after} --start-from {tmp_path / 'run'}" in line, "they may be others"
    shutil.rmtree(before)
    (after / "lying" / "1.png").rename(tmp_path / "1.png")
    assert refused("train", after, *command).startswith(f"equipoise: {after}: ")
    (tmp_path / "1.png").rename(after / "lying" / "1.png")
    assert "Best" in ended(output("train", after, *command))
    assert state_of(tmp_path / "run").samples == 400


def test_resume_of_a_finished_run_wants_a_larger_budget(output: Command, refused: Command, copy: Path) -> None:
    assert f"equipoise resume {copy} --budget" in refused("resume", copy)
    recipe = (copy / "recipe.json").read_bytes()
    assert "800 samples" in refused("resume", copy, "--budget", "700")
    assert (copy / "recipe.json").read_bytes() == recipe
    assert " 1,200 " in ended(output("resume", copy, "--budget", "1200"))["message"]
    assert state_of(copy).samples == 1200


def test_a_run_whose_policy_stopped_it_is_not_promised_more_by_a_larger_budget_but_continues_with_another_policy(
    output: Command, refused: Command, copy: Path
) -> None:
    change_state(RunFolder(copy), stop_reason="evidence", message="No better one. Statistical test: passed.")
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["stopping"]["policy"] = "evidence"
    (copy / "recipe.json").write_text(json.dumps(recipe))
    assert refused("resume", copy, "--budget", "2k").endswith(f"equipoise resume {copy} --policy budget --budget 2k\n")
    output("resume", copy, "--policy", "budget", "--budget", "1200")
    assert (state_of(copy).stop_reason, state_of(copy).samples) == ("budget", 1200)
    begun = ["train", json.loads((copy / "data.json").read_text())["path"], "--out", copy, "--resume"]
    line = refused(*begun, "--set", "stopping.policy=patience")
    assert line.startswith("equipoise: stopping.policy=patience: ")
    assert f"equipoise resume {copy} --policy patience," in line


def test_a_run_continues_from_any_folder_and_refuses_other_images(
    output: Command, refused: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shapes, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    output("train", "images", "--budget", "80", "--out", "run", *SMALL)
    monkeypatch.chdir("/")
    output("resume", tmp_path / "run", "--budget", "160")
    (tmp_path / "images" / "lying" / "1.png").unlink()
    line = refused("resume", tmp_path / "run", "--budget", "240")
    assert line.startswith(f"equipoise: {tmp_path}/images: ")
    assert line.endswith(f"equipoise train {tmp_path}/images --start-from {tmp_path}/run\n")


def test_a_run_inside_its_own_source_continues_and_is_not_trained_on(
    output: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(shapes, tmp_path / "images"))
    assert "240 images" in output("train", ".", "--budget", "80", *SMALL)
    (run,) = (tmp_path / "images" / "runs").iterdir()
    assert "240 images" in output("resume", run.relative_to(tmp_path / "images"), "--budget", "160")
    assert "240 images" in output("train", ".", "--budget", "80", *SMALL)


@pytest.fixture
def started(shapes: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a long training as a process of its own, and wait until it trains."""
    command = [sys.executable, QUICK, "train", shapes, "--budget", "1h", "--out", tmp_path / "run", *SMALL]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "left" in line:
                break
        yield process, tmp_path / "run"
        process.kill()


def test_a_second_training_is_refused_and_ctrl_c_leaves_a_run_that_can_be_resumed(
    started: tuple[subprocess.Popen[str], Path], output: Command, refused: Command, shapes: Path
) -> None:
    process, run = started
    for command in (["resume", run], ["train", shapes, "--out", run], ["train", shapes, "--out", run, "--resume"]):
        assert f"process {process.pid} on " in refused(*command, code=3)
    assert "running, process" in output("status", run)
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "")
    assert ended(text)["Resume"] == f"equipoise resume {run}"
    status = json.loads(output("status", run, "--json"))
    assert (status["state"], status["holder"]) == ("stopped", None)
    output("resume", run, "--budget", str(status["samples"] + 160))
    assert json.loads(output("status", run, "--json"))["state"] == "finished"


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_can_be_resumed(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, run = started
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert json.loads((run / "state.json").read_text())["status"] == "stopped"
    assert list((run / "checkpoints").iterdir())


def test_a_second_ctrl_c_leaves_at_once_in_the_middle_of_a_step(
    quick: None, capsys: pytest.CaptureFixture[str], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any) -> None:
        for _signal in range(2):
            time.sleep(0.01)
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("it should have left")

    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a script
    monkeypatch.setattr(loop, "update_ema", hang)
    assert main(["train", str(shapes), "--out", str(tmp_path / "run"), *SMALL]) == 130
    assert "resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_kill_while_the_report_is_written_costs_no_step(
    output: Command,
    capsys: pytest.CaptureFixture[str],
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from equipoise import setup

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup, "end", interrupted)
        assert main(["train", str(shapes), "--budget", "400", "--out", str(tmp_path / "run"), *SMALL]) == 130
    capsys.readouterr()
    assert json.loads(output("status", tmp_path / "run", "--json"))["state"] == "interrupted"
    output("resume", tmp_path / "run")
    assert (state_of(tmp_path / "run").status, state_of(tmp_path / "run").samples) == ("finished", 400)


# Reading a run


def test_status_on_one_screen_and_as_strict_json(output: Command, trained: Path) -> None:
    text = output("status", trained)
    assert "finished" in text
    assert max(map(len, text.splitlines())) <= 80 or len(str(trained)) > 60

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    values = json.loads(output("status", trained, "--json"), parse_constant=refuse)
    assert values["state"] == "finished"
    assert values["samples"] == 800
    assert values["seconds_left"] is None


def test_status_tells_each_remedy_on_one_line_and_as_values(output: Command, copy: Path) -> None:
    done = RemedyRecord(
        condition="mode-collapse",
        changed="learning rates × 1 → × 0.5",
        back_to=320,
        abandoned=(Span("mode-collapse", 400, 640, is_sure=True),),
    )
    run = RunFolder.open(copy)
    run.log_event(640, 1.0, "remedy", "Mode collapse since 400 samples (likely). It went back.", 0, done)
    run.log_event(720, 2.0, "no remedy", "Nothing is done about saturation: nothing is known to help.", 1)
    (line,) = (line for line in output("status", copy).splitlines() if line.startswith("remedies"))
    assert line.split(maxsplit=1)[1] == "640, mode collapse: back to 320, rates × 1 → × 0.5"
    first, second = json.loads(output("status", copy, "--json"))["remedies"]
    assert (first["samples"], first["kind"], first["attempt"]) == (640, "remedy", 0)
    assert first["remedy"]["changed"] == done.changed
    assert first["remedy"]["abandoned"] == [{"condition": "mode-collapse", "begin": 400, "end": 640, "is_sure": True}]
    assert (second["samples"], second["kind"], second["remedy"]) == (720, "no remedy", None)


def test_status_without_a_run_lists_those_nearby(
    output: Command, refused: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "equipoise train mnist" in refused("status")
    shutil.copytree(trained, tmp_path / "runs" / "one")
    RunFolder.create(tmp_path / "runs" / "two", Recipe()).path.joinpath("state.json").write_text("[]")
    rows = {row[0]: row[1:] for row in map(str.split, output("status").splitlines()[2:])}
    assert rows["runs/one"][:3] == ["finished", "800", "KID"]
    assert "runs/two" in rows
    values = {one["path"]: one for one in json.loads(output("status", "--json"))}
    assert values["runs/one"]["samples"] == 800
    assert "state.json" in values["runs/two"]["error"]
    monkeypatch.chdir(tmp_path / "runs")
    assert "one" in output("status")


def test_sample_writes_a_grid_or_a_folder_and_the_same_seed_the_same_bytes(
    output: Command, trained: Path, tmp_path: Path
) -> None:
    def grid(name: str, *options: str) -> bytes:
        assert output("sample", trained, "-n", "6", "-o", tmp_path / name, *options) == f"{tmp_path / name}\n"
        return (tmp_path / name).read_bytes()

    first = grid("a.png", "--seed", "1")
    assert grid("b.png", "--seed", "1") == first
    assert grid("c.png", "--seed", "2") != first
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (3 * 66 + 2, 2 * 66 + 2)  # 8×8 eight times as large, and the gaps


def test_sample_says_beside_what_scripts_read_how_good_the_generator_is(
    quick: None, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(trained), "-o", str(tmp_path / "a.png")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'a.png'}\n"
    assert any(grade in err.lower() for grade in ORDER)
    best = RunFolder.open(trained).read_state().best
    assert best is not None
    assert f"{best.samples} samples" in " ".join(err.split())


def test_sample_into_a_folder_writes_one_png_each(output: Command, trained: Path, tmp_path: Path) -> None:
    assert "300" in output("sample", trained, "-n", "300", "-o", tmp_path / "v1.many")
    files = sorted((tmp_path / "v1.many").iterdir())
    assert [file.name for file in files] == [f"{index:06d}.png" for index in range(300)]
    with Image.open(files[0]) as image:
        assert (image.size, image.mode) == ((8, 8), "L")
    output("sample", trained, "-n", "300", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "000299.png").read_bytes() == files[299].read_bytes()
    output("sample", trained, "-n", "1", "-o", tmp_path / "one")
    assert len(list((tmp_path / "one").iterdir())) == 1


def test_sample_overwrites_only_when_forced(output: Command, refused: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.png").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "000000.png").write_text("precious")
    for name in ("grid.png", "folder"):
        assert "--force" in refused("sample", trained, "-o", tmp_path / name)
    assert (tmp_path / "grid.png").read_text() == (tmp_path / "folder" / "000000.png").read_text() == "precious"
    for name in ("grid.png", "folder"):
        output("sample", trained, "-n", "1", "-o", tmp_path / name, "--force")
    assert Image.open(tmp_path / "folder" / "000000.png").size == (8, 8)


def test_sample_of_one_class(output: Command, refused: Command, shapes: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    output("train", shapes, "--budget", "80", "--out", run, *SMALL, "--set", "networks.conditional=true")
    for label in ("lying", "standing"):
        output("sample", run, "-n", "4", "--label", label, "-o", tmp_path / f"{label}.png")
    assert (tmp_path / "lying.png").read_bytes() != (tmp_path / "standing.png").read_bytes()
    line = refused("sample", run, "--label", "lyin", "-o", tmp_path / "x.png")
    assert line.startswith("equipoise: --label lyin: ")
    assert '"lying"?' in line
    line = refused("sample", trained, "--label", "lying", "-o", tmp_path / "x.png")
    assert "networks.conditional=true" in line


def test_sample_without_a_name_writes_one_that_fits_the_run(
    output: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (name,) = output("sample", trained, "-n", "4").splitlines()
    assert Path(name).suffix == ".png"
    assert Path(name).is_file()


def test_apply_refuses_a_generator_that_takes_no_input(refused: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "small.png").touch()
    text = refused("apply", trained, tmp_path / "small.png", "-o", tmp_path / "large.png")
    assert f"equipoise sample {trained}" in text
    assert not (tmp_path / "large.png").exists()


@pytest.mark.slow
def test_apply_enlarges_a_file_and_a_folder_and_overwrites_nothing(
    output: Command, refused: Command, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for index in range(60):
        pixels = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(photos / f"{index}.png")
    more = ["--set=task.patch=48", "--set=task.scale=2", "--set=task.adversarial=0", "--set=networks.width=8"]
    more += ["--set=evaluation.every=16", "--set=game.batch=4"]
    run = tmp_path / "run"
    text = output("train", photos, "--task", "super-resolution", "--budget", "32", "--out", run, *more)
    assert ended(text)["Apply"].startswith(f"equipoise apply {run} ")
    Image.open(photos / "0.png").resize((48, 32)).save(tmp_path / "small.png")
    output("apply", run, tmp_path / "small.png", "-o", tmp_path / "large.png")
    assert Image.open(tmp_path / "large.png").size == (96, 64)
    output("apply", run, photos, "-o", tmp_path / "large")
    assert len(list((tmp_path / "large").iterdir())) == 60
    assert "--force" in refused("apply", run, tmp_path / "small.png", "-o", tmp_path / "large.png")
    assert str(tmp_path / "none.png") in refused("apply", run, tmp_path / "none.png", "-o", tmp_path / "x.png")
    assert f"equipoise apply {run}" in refused("sample", run, "-o", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def grade_of(sentence: str) -> str:
    """Return what stands before the colon."""
    return sentence.partition(":")[0].lower()


def test_evaluate_a_run_and_a_folder(output: Command, trained: Path, shapes: Path, tmp_path: Path) -> None:
    text = output("evaluate", trained, "--against", shapes, "-n", "200")
    rows = {row[0]: row[1:] for row in map(str.split, text.splitlines()) if row}
    assert rows["KID"][1] == "±"
    assert {"FID", "precision", "recall", "density", "coverage", "Quality:"} <= rows.keys()
    assert "held" in " ".join(rows["real"]), "so few that all of them judge"
    for path in (trained, shapes):  # which may be longer than a line, and are not broken
        text = text.replace(str(path), path.name)
    assert max(map(len, text.splitlines())) <= 80
    values = json.loads(output("evaluate", trained, "--against", shapes, "-n", "200", "--json"))
    assert values["metric"] == "kid"
    assert values["loss"] == values["values"]["kid"]
    assert values["error"] > 0
    assert (values["protocol"]["num_generated"], values["protocol"]["num_real"]) == (200, 44)
    output("sample", trained, "-n", "200", "-o", tmp_path / "generated")
    command = ("evaluate", tmp_path / "generated", "--against", shapes, "--json")
    generated = json.loads(output(*command, "--split", "test"))["protocol"]
    assert generated.pop("generated")["compared"] == values["protocol"].pop("generated")["compared"] == 200
    of_test = json.loads(output("evaluate", trained, "--against", shapes, "-n", "200", "--split", "test", "--json"))
    assert generated == {name: value for name, value in of_test["protocol"].items() if name != "generated"}
    whole = json.loads(output(*command))
    assert (whole["protocol"]["split"], whole["protocol"]["num_real"]) == ("all", 240)
    real = json.loads(output("evaluate", shapes, "--against", shapes, "--json"))
    assert real["values"]["fid"] < values["values"]["fid"]
    assert [warning["kind"] for warning in real["warnings"]] == ["same"]
    output("sample", trained, "-n", "300", "-o", tmp_path / "enough")
    enough = json.loads(output("evaluate", tmp_path / "enough", "--against", shapes, "--json"))
    assert not enough["warnings"]
    assert grade_of(enough["quality"]) in ORDER
    assert real["warnings"], "images compared with themselves"
    assert grade_of(real["quality"]) not in ORDER
    assert values["warnings"], "44 real images; as there are no others, graded as at the end of the training"
    assert grade_of(values["quality"]) in ORDER


def test_evaluate_shows_both_sides_and_warns_above_the_numbers(output: Command, shapes: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shapes, tmp_path / "folder"))
    (folder / "lying" / "broken.png").write_bytes(b"no picture")
    text = output("evaluate", folder, "--against", shapes)
    lines = text.splitlines()
    assert lines[0].startswith("Warning: ")
    assert max(map(len, lines)) <= 80 + len(str(tmp_path))
    assert "broken.png" in text
    rows = {row[0]: row[1:] for row in map(str.split, lines) if row}
    assert (rows["generated"][0], rows["real"][0]) == ("240,", "240,")
    assert rows["brought"][1].startswith("8×8")


def test_evaluate_says_what_it_is_at_where_there_is_no_terminal(
    quick: None, trained: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), "--against", str(shapes), "-n", "200", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("scoring ")
    assert re.fullmatch(STAGES, err)
    assert json.loads(out)["protocol"]["num_generated"] == 200


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_lost_best_generator_can_be_put_back_as_the_refusal_says(
    output: Command, refused: Command, copy: Path, shapes: Path, command: str
) -> None:
    picture = copy / "x.png"
    options = ["-o", picture, "--force"] if command == "sample" else ["--against", shapes, "-n", "200"]
    before, drawn = output(command, copy, *options), picture.read_bytes() if picture.exists() else b""
    picture.unlink(missing_ok=True)
    shutil.rmtree(copy / "best")
    line = refused(command, copy, *options)
    assert line.startswith(f"equipoise: {copy}/best: ")
    (typed,) = re.findall("`(.*)`", line)
    subprocess.run(["sh", "-c", typed], check=True)
    assert output(command, copy, *options) == before
    assert (picture.read_bytes() if picture.exists() else b"") == drawn


def test_a_file_that_may_not_grow_so_large_is_not_a_full_disk(
    environment: dict[str, str], trained: Path, tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    with (tmp_path / "out").open("w") as out:
        drawing = ["sample", trained, "-o", tmp_path / "x.png"]
        for command, place in ((drawing, f"--out {tmp_path}/x.png: "), (["recipes"], "")):
            done = subprocess.run(
                [sys.executable, QUICK, *command], env=environment, stdout=out, stderr=subprocess.PIPE, text=True,
                check=False, preexec_fn=limit,
            )  # fmt: skip
            assert done.returncode == 4, done.stderr
            assert done.stderr.startswith(f"equipoise: {place}")
            assert "ulimit -f" in done.stderr
            assert done.stderr.count("\n") == 1
            assert " full" not in done.stderr


def test_compare_two_runs(output: Command, refused: Command, trained: Path, copy: Path) -> None:
    text = output("compare", trained, copy)
    assert "*" not in text, "equal scores are level"
    values = json.loads(output("compare", trained, copy, "--json"))
    assert values["differences"] == {}
    assert [(group["split"], group["lowest"]) for group in values["groups"]] == [("validation", None), ("test", None)]
    assert "equipoise compare " in refused("compare", trained)


def test_recipes_are_listed(output: Command) -> None:
    text = output("recipes")
    assert max(map(len, text.splitlines())) <= 80
    assert json.loads(output("recipes", "--json"))[0]["name"] == "modern"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_explained_in_a_terminal(output: Command, name: RecipeName) -> None:
    text = output("recipes", name)
    about = named(name).about
    assert max(map(len, text.splitlines())) <= 80
    flowing = " ".join(text.split())
    for part in (about.paper, about.purpose, about.papers, about.differs, about.result, *about.formulas):
        assert " ".join(part.split()) in flowing
    assert f"--recipe {name}" in text
    values = json.loads(output("recipes", name, "--json"))
    assert values["name"] == name
    assert values["settings"]
    assert from_dict(values["recipe"]) == build(name, Facts())


def test_a_recipe_becomes_a_page_that_is_not_overwritten(output: Command, refused: Command, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "infogan.html"
    assert str(page) in output("recipes", "infogan", "--html", page)
    assert "<svg" in page.read_text("utf-8")
    assert "--force" in refused("recipes", "infogan", "--html", page)
    output("recipes", "infogan", "--html", page, "--force")


# Help and start


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: equipoise")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_80_columns_and_lists_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str | None
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"] if command else ["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    subs = next(action for action in parser()._actions if action.dest == "==SUPPRESS==" and action.choices)
    assert isinstance(subs.choices, dict)
    for action in subs.choices[command]._actions if command else []:
        assert (action.option_strings or [action.metavar])[-1] in text
        assert action.help
    for name in COMMANDS if command is None else []:
        assert re.search(rf"^    {name} ", text, re.MULTILINE)


HEAVY = ("torch", "numpy", "rich", "PIL", "safetensors")


@pytest.mark.parametrize(
    "code",
    [
        "import equipoise; dir(equipoise); equipoise.UserError",
        "from equipoise.cli import main; main(['recipes'])",
        "from equipoise.cli import main; main(['status', RUN])",
        "from equipoise.cli import main; main(['status', RUN, '--json'])",
        "from equipoise.cli import main; main(['compare', RUN, RUN])",
        "from equipoise.cli import main; main(['train', 'mnist', '--set', 'sead=1'])",
        "from equipoise.cli import main; main(['train', 'mnist', '--out', RUN])",
        "from equipoise.cli import main; main(['resume', 'nothing'])",
        "from equipoise.cli import main; main(['resume', RUN, '--policy', 'patience'])",
        "from equipoise.cli import main; main(['sample', 'nothing'])",
        "from equipoise.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from equipoise.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_what_must_start_at_once_loads_nothing_heavy(trained: Path, code: str) -> None:
    code = f"RUN = {str(trained)!r}\nimport sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_closes_early_gets_no_traceback(trained: Path) -> None:
    command = f"'{sys.executable}' -m equipoise.cli recipes | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_terminal_that_knows_only_ascii_gets_no_traceback(trained: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "equipoise.cli", "status", trained]
    done = subprocess.run(
        command, env=environment | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True
    )
    assert "finished" in done.stdout


@pytest.mark.slow
def test_on_a_terminal_a_panel_is_drawn_within_80_columns_and_ends_at_100_per_cent(
    shapes: Path, on_terminal: Callable[..., str], tmp_path: Path
) -> None:
    text = on_terminal("train", shapes, "--budget", "1600", "--out", tmp_path / "run", *SMALL)
    lines = [line for line in re.split(r"[\r\n]+", text) if str(tmp_path) not in line]
    assert any(line.startswith("╭─ modern on") for line in text.splitlines())
    assert any("best score" in line for line in lines)
    assert max(map(len, lines)) <= 80
    head, progress = last_panel(text)
    assert head.endswith(" 100 %")
    assert progress.startswith("progress 1.6k of 1.6k samples ")


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["3s", "100k"])
def test_the_last_panel_of_a_training_that_ended_early_has_no_bar_and_one_by_time_ends_at_100_per_cent(
    budget: str, shapes: Path, on_terminal: Callable[..., str], tmp_path: Path
) -> None:
    options = [*SMALL, "--set=stopping.policy=patience", "--set=stopping.patience.evaluations=2"]
    options += ["--set=saving.log_every=80"]  # however fast the machine, there is a panel
    if budget == "3s":
        options = [*SMALL, "--set=stopping.policy=budget"]
    head, progress = last_panel(on_terminal("train", shapes, "--budget", budget, "--out", tmp_path / "run", *options))
    assert " left" not in progress
    if budget == "3s":
        assert head.endswith(" 100 %")
        assert "━" in head
    else:
        assert re.fullmatch(r".* [0-9] % .* patience", head)
        assert "━" not in head


def last_panel(text: str) -> tuple[str, str]:
    """Return the first line and the line of the progress in the panel that was drawn last."""
    lines = [line.strip("│ ") for line in text.split("╭")[-1].splitlines() if "│" in line]
    return lines[0], next(" ".join(line.split()) for line in lines if line.startswith("progress"))


def test_python_m_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["equipoise", "explain", "mode-collapse"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("equipoise", run_name="__main__")
    assert left.value.code == 0
    assert "game.packing=2" in capsys.readouterr().out
