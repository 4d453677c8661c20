"""The command line as a person uses it: what every command does, and one line with a remedy for every mistake."""

import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small import as_options

from equipoise import loop
from equipoise.cli import main
from equipoise.cli.arguments import COMMANDS, parser
from equipoise.runs.folder import RunFolder
from equipoise.storage import checkpoints

QUICK = Path(__file__).parents[1] / "quick.py"
SMALL = as_options()
STAGES = r"([a-z ]+ …( [0-9]+ %)?\n)*"  # what is told of a long wait where there is no terminal


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = os.fspath(tmp_path_factory.getbasetemp() / "cache")
    return os.environ | {"OMP_NUM_THREADS": "1", "EQUIPOISE_CACHE": cache, "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def trained(shapes: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run, which tests must not change."""
    path = tmp_path_factory.mktemp("runs") / "one"
    command = [sys.executable, QUICK, "train", shapes, "--budget", "800", "--out", path, *SMALL]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return path


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


Command = Callable[..., str]


@pytest.fixture
def output(quick: None, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command which succeeds, and returns what it printed."""

    def run(*arguments: Any, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert re.fullmatch(STAGES, err) if arguments[0] == "evaluate" else err == ""
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out), "plain output has no control characters"
        return out

    return run


@pytest.fixture
def refused(quick: None, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command which is a mistake, and returns its one line."""

    def run(*arguments: Any, code: int = 2) -> str:
        assert main([str(argument) for argument in arguments]) == code
        line = capsys.readouterr().err
        assert line.startswith("equipoise: ")
        assert line.endswith("\n")
        assert line.count("\n") == 1
        return line

    return run


# Training


def test_train_on_a_folder_tells_what_it_does_and_leaves_a_run(output: Command, shapes: Path, tmp_path: Path) -> None:
    text = output("train", shapes, "--budget", "400", "--seed", "3", "--out", tmp_path / "a run", *SMALL)
    assert "240 images" in text
    assert "(8×8, grey, 2 classes)" in text
    assert "The budget of 400 samples is spent." in text
    assert f"equipoise sample '{tmp_path}/a run'" in text
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
        assert "The budget of 80 samples is spent." in text


@pytest.mark.slow
def test_train_on_the_embedded_digits(output: Command, tmp_path: Path) -> None:
    text = output("train", "mnist", "--budget", "400", "--out", tmp_path / "run", *SMALL)
    assert "(28×28, grey, 10 classes)" in text
    assert "The budget of 400 samples is spent." in text


def test_every_option_of_train_reaches_the_recipe(output: Command, shapes: Path, tmp_path: Path) -> None:
    given = ["--recipe", "lsgan", "--size", "12", "--fit", "pad", "--device", "cpu"]
    output("train", shapes, "--budget", "80", "--out", tmp_path / "run", *given, *SMALL)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["name"], recipe["game"]["loss"], recipe["device"]) == ("lsgan", "least-squares", "cpu")
    assert (recipe["data"]["size"], recipe["data"]["fit"]) == (12, "pad")


def test_broken_files_are_told_and_the_training_goes_on(output: Command, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "images")
    (tmp_path / "images" / "lying" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    text = output("train", tmp_path / "images", "--budget", "80", "--out", tmp_path / "run", *SMALL)
    assert "1 could not be used (lying/torn.png: " in text


@pytest.mark.parametrize("name", ["[bold red] ünïcode 数字 a$b'c\"d", "x" * 255, "-n"])
def test_odd_names_of_sources_and_runs_work(output: Command, shapes: Path, tmp_path: Path, name: str) -> None:
    source, run = tmp_path / "sources" / name, tmp_path / "runs" / name
    source.parent.mkdir()
    source.symlink_to(shapes)
    text = output("train", source, "--budget", "80", "--out", run, *SMALL)
    assert f"Report: {run}/report.html" in text
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


# Going on


def test_train_with_resume_begins_goes_on_and_leaves_a_finished_run_alone(
    output: Command, refused: Command, shapes: Path, tmp_path: Path
) -> None:
    command = ["train", shapes, "--budget", "400", "--out", tmp_path / "run", "--resume", *SMALL]
    output(*command)
    (tmp_path / "run" / "state.json").write_text('{"status": "running"}')  # as a killed training leaves it
    assert "The budget of 400 samples is spent." in output(*command)
    before = (tmp_path / "run" / "report.html").stat().st_mtime_ns
    assert "has finished already" in output(*command)
    assert (tmp_path / "run" / "report.html").stat().st_mtime_ns == before
    assert "seed=0, and 5" in refused(*command, "--seed", "5")
    assert "name=modern, and dcgan" in refused(*command, "--recipe", "dcgan")
    assert "game.batch=8, and 16" in refused(*command, "--set", "game.batch=16")


def test_resume_of_a_finished_run_wants_a_larger_budget(output: Command, refused: Command, copy: Path) -> None:
    assert f"equipoise resume {copy} --budget" in refused("resume", copy)
    recipe = (copy / "recipe.json").read_bytes()
    assert "800 samples are spent" in refused("resume", copy, "--budget", "700")
    assert (copy / "recipe.json").read_bytes() == recipe
    assert "The budget of 1,200 samples is spent." in output("resume", copy, "--budget", "1200")
    assert json.loads((copy / "state.json").read_text())["samples"] == 1200


def test_a_run_whose_policy_stopped_it_is_not_promised_more_by_a_larger_budget_but_goes_on_with_another_policy(
    output: Command, refused: Command, copy: Path
) -> None:
    state = json.loads((copy / "state.json").read_text())
    (copy / "state.json").write_text(json.dumps(state | {"policy": "evidence", "reason": "No better one. Certified."}))
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["stopping"]["policy"] = "evidence"
    (copy / "recipe.json").write_text(json.dumps(recipe))
    line = refused("resume", copy, "--budget", "2k")
    assert "A larger budget does not change that" in line
    assert line.endswith(f"equipoise resume {copy} --policy budget\n")
    assert "The budget of 1,200 samples is spent." in output("resume", copy, "--policy", "budget", "--budget", "1200")
    begun = ["train", json.loads((copy / "data.json").read_text())["path"], "--out", copy, "--resume"]
    line = refused(*begun, "--set", "stopping.policy=patience")
    assert "stopping.policy=budget, and patience" in line
    assert f"equipoise resume {copy} --policy patience." in line


def test_a_run_goes_on_from_any_folder_and_refuses_other_images(
    output: Command, refused: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shapes, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    output("train", "images", "--budget", "80", "--out", "run", *SMALL)
    monkeypatch.chdir("/")
    output("resume", tmp_path / "run", "--budget", "160")
    (tmp_path / "images" / "lying" / "1.png").unlink()
    assert "the images changed" in refused("resume", tmp_path / "run", "--budget", "240")


def test_a_run_inside_its_own_source_goes_on_and_is_not_trained_on(
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


def test_a_second_training_is_refused_and_ctrl_c_leaves_a_run_that_goes_on(
    started: tuple[subprocess.Popen[str], Path], output: Command, refused: Command, shapes: Path
) -> None:
    process, run = started
    for command in (["resume", run], ["train", shapes, "--out", run], ["train", shapes, "--out", run, "--resume"]):
        assert f"process {process.pid} on " in refused(*command, code=3)
    assert "running, process" in output("status", run)
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "")
    assert f"Go on:  equipoise resume {run}" in text
    status = json.loads(output("status", run, "--json"))
    assert (status["state"], status["holder"]) == ("stopped", None)
    output("resume", run, "--budget", str(status["samples"] + 160))
    assert json.loads(output("status", run, "--json"))["state"] == "finished"


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_goes_on(started: tuple[subprocess.Popen[str], Path]) -> None:
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
    monkeypatch.setattr(loop, "take_generator_step", hang)
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
    from equipoise import api

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(api, "conclude", interrupted)
        assert main(["train", str(shapes), "--budget", "400", "--out", str(tmp_path / "run"), *SMALL]) == 130
    capsys.readouterr()
    assert "interrupted; go on with" in output("status", tmp_path / "run").replace("\n            ", " ")
    output("resume", tmp_path / "run")
    state = RunFolder(tmp_path / "run").read_state()
    assert (state["status"], state["samples"]) == ("finished", 400)


# Reading a run


def test_status_on_one_screen_and_as_strict_json(output: Command, trained: Path) -> None:
    text = output("status", trained)
    assert "finished" in text
    assert max(map(len, text.splitlines())) <= 80 or len(str(trained)) > 60

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads(output("status", trained, "--json"), parse_constant=refuse)
    assert values["state"] == "finished"
    assert values["samples"] == 800
    assert values["seconds_left"] is None


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


def test_sample_into_a_folder_writes_one_png_each(output: Command, trained: Path, tmp_path: Path) -> None:
    assert "300 images" in output("sample", trained, "-n", "300", "-o", tmp_path / "v1.many")
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
    assert 'lying, standing. Did you mean "lying"?' in line
    assert "knows no classes" in refused("sample", trained, "--label", "lying", "-o", tmp_path / "x.png")


def test_evaluate_a_run_and_a_folder(output: Command, trained: Path, shapes: Path, tmp_path: Path) -> None:
    text = output("evaluate", trained, "--against", shapes, "-n", "200")
    assert "200 generated images against 20 real ones" in text
    assert "of the test split" in text
    assert max(map(len, text.splitlines())) <= 80
    values = json.loads(output("evaluate", trained, "--against", shapes, "-n", "200", "--json"))
    assert values["protocol"]["num_generated"] == 200
    output("sample", trained, "-n", "200", "-o", tmp_path / "generated")
    assert "200 generated images" in output("evaluate", tmp_path / "generated", "--against", shapes)
    real = json.loads(output("evaluate", shapes, "--against", shapes, "--json"))
    assert real["fid"] < values["fid"]


def test_evaluate_says_what_it_is_at_where_there_is_no_terminal(
    quick: None, trained: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), "--against", str(shapes), "-n", "200", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "scoring …"
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
    assert f"{copy}/best: is gone" in line
    assert "A copy of it is in candidates/" in line
    subprocess.run(line.split("To put that in its place: ")[1], shell=True, check=True)
    assert output(command, copy, *options) == before
    assert (picture.read_bytes() if picture.exists() else b"") == drawn


def test_a_file_that_may_not_grow_so_large_is_no_full_disk(
    environment: dict[str, str], trained: Path, tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    allowed = "a file would be larger than this disk or `ulimit -f` allows"
    with (tmp_path / "out").open("w") as out:
        for command, place in ((["sample", trained, "-o", tmp_path / "x.png"], "-o "), (["recipes"], "")):
            done = subprocess.run(
                [sys.executable, QUICK, *command], env=environment, stdout=out, stderr=subprocess.PIPE, text=True,
                check=False, preexec_fn=limit,
            )  # fmt: skip
            assert done.returncode == 4, done.stderr
            assert done.stderr.startswith(f"equipoise: {place and f'-o {tmp_path}/x.png: '}{allowed}")
            assert done.stderr.count("\n") == 1
            assert "the disk is full" not in done.stderr


def test_compare_two_runs(output: Command, refused: Command, trained: Path, copy: Path) -> None:
    assert "The recipes are the same." in output("compare", trained, copy)
    assert json.loads(output("compare", trained, copy, "--json"))["differences"] == {}
    assert "give at least two" in refused("compare", trained)


def test_recipes_are_listed(output: Command) -> None:
    text = output("recipes")
    assert max(map(len, text.splitlines())) <= 80
    assert json.loads(output("recipes", "--json"))[0]["name"] == "modern"


# Mistakes

TYPED = [
    (["trian", "x"], 'there is no command "trian"', 'Did you mean "train"?'),
    (["mnist"], 'there is no command "mnist"', "equipoise train mnist"),
    (["train"], "missing: SOURCE", "Try: equipoise train mnist"),
    (["train", "mnist", "extra"], '"extra" is one argument too many', "Try:"),
    (["train", "mnist", "--bugdet", "1m"], 'there is no option "--bugdet"', 'Did you mean "--budget"?'),
    (["train", "mnist", "--budg", "1m"], 'there is no option "--budg"', 'Did you mean "--budget"?'),
    (["train", "mnist", "--budget"], "expected one argument", "Try:"),
    (["train", "mnist", "--budget", "soon"], '"soon"', "Try: --budget 10m"),
    (["train", "mnist", "--budget=-5m"], '"-5m"', "Try: --budget 10m"),
    (["train", "mnist", "--budget", "nan"], '"nan"', "Try: --budget 10m"),
    (["train", "mnist", "--size", "7"], '"7"', "from 8 to 256"),
    (["train", "mnist", "--size", "257"], '"257"', "from 8 to 256"),
    (["train", "mnist", "--size", "big"], '"big"', "from 8 to 256"),
    (["train", "mnist", "--seed", "-1"], '"-1"', "Try: --seed 1"),
    (["train", "mnist", "--seed", "x"], '"x"', "Try: --seed 1"),
    (["train", "mnist", "--seed", "9" * 5000], "99", "Try: --seed 1"),
    (["train", "mnist", "--device", "gpu"], '"gpu"', "cuda or cuda:N"),
    (["train", "mnist", "--fit", "crpo"], '"crpo"', 'Did you mean "crop"?'),
    (["train", "mnist", "--recipe", "modren"], '"modren"', 'Did you mean "modern"?'),
    (["train", "mnist", "--set", "game.penalty.gama=1"], "gama", 'Did you mean "game.penalty.gamma"?'),
    (["train", "mnist", "--set", "game.batch=many"], "game.batch=many", "a whole number"),
    (["train", "mnist", "--set", "game.generator.rate=-1"], "rate=-1", "> 0"),
    (["train", "mnist", "--set", "game.generator.rate=nan"], "rate=nan", "a number"),
    (["train", "mnist", "--set", "game.loss=hing"], "hing", 'Did you mean "hinge"?'),
    (["train", "mnist", "--set", "width"], '"width"', "FIELD=VALUE"),
    (["train", "mnist", "--set", "device=gpu"], "device=gpu", "auto, cpu, mps, cuda or cuda:N"),
    (["resume", "x", "--policy", "patiense"], '"patiense"', 'Did you mean "patience"?'),
    (["resume", "x", "--policy", "none"], '"none"', "Try: --policy"),
    (["train", "mnist", "--resume"], "--resume needs", "--out DIR --resume"),
    (["train", "mnist", "--out", ""], '--out ""', "Try"),
    (["train", "does-not-exist"], '"does-not-exist"', "a folder of images"),
    (["train", ""], '""', "a folder of images"),
    (["status", ""], 'RUN ""', "Try"),
    (["--json", "status", "x"], "--json: belongs after the command", "equipoise status"),
    (["sample", "x", "-n", "0"], '-n "0"', "Try: -n 64"),
    (["sample", "x", "-n", "1e9"], '"1e9"', "Try: -n 64"),
    (["evaluate", "x"], "missing: --against", "Try:"),
    (["evaluate", "x", "--against", "mnist", "--features", "incption"], "incption", 'Did you mean "inception"?'),
    (["evaluate", "does-not-exist", "--against", "mnist"], "does-not-exist", "a run's folder"),
    (["compare", "x"], "at least two", "Try: equipoise compare"),
    (["recipes", "modern"], "one argument too many", "Try: equipoise recipes"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "received", "remedy"), TYPED, ids=lambda value: str(value)[:40])
def test_a_mistake_in_typing_is_told_in_one_line_and_makes_no_folder(
    refused: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    received: str,
    remedy: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(*arguments)
    assert received in line
    assert remedy in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["resume", "status", "sample", "compare"])
@pytest.mark.parametrize("what", ["missing", "empty", "file", "below a file", "images", "too long", "damaged"])
def test_what_is_no_run_is_refused(
    refused: Command, trained: Path, copy: Path, shapes: Path, tmp_path: Path, command: str, what: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (copy / "recipe.json").write_text('{"name": ')
    places = {"below a file": "file/x", "too long": "x" * 300}
    path = {"images": shapes, "damaged": copy}.get(what) or tmp_path / places.get(what, what)
    more = {"sample": ["-o", tmp_path / "x.png"], "compare": [trained]}.get(command, [])
    assert str(path) in refused(command, path, *more)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.json", "[]"), ("recipe.json", '{"seed": "x"}'), ("recipe.json", '{"sead": 1}'), ("recipe.json", ""),
        ("state.json", "[]"), ("state.json", "{}"), ("state.json", '{"status": 3}'), ("state.json", "\udcff"),
        ("state.json", '{"status": "finished", "best": 3}'), ("data.json", "{}"), ("data.json", "null"),
    ],
)  # fmt: skip
def test_a_run_with_a_damaged_file_is_refused(refused: Command, copy: Path, name: str, content: str) -> None:
    (copy / name).write_bytes(content.encode(errors="surrogateescape"))
    assert "recipe" in refused("resume", copy, "--budget", "2k") or name in refused("resume", copy, "--budget", "2k")
    if name != "data.json":
        assert name.removesuffix(".json") in refused("status", copy)


def test_a_damaged_best_generator_is_refused(refused: Command, copy: Path, tmp_path: Path) -> None:
    weights = copy / "best" / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    line = refused("sample", copy, "-o", tmp_path / "x.png")
    assert "generator.safetensors does not match its SHA-256" in line


def test_a_source_that_cannot_be_trained_on_leaves_no_folder(refused: Command, shapes: Path, tmp_path: Path) -> None:
    for name in ("empty", "words", "few", "some", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "words" / "a.txt").write_text("words")
    for index in range(9):
        shutil.copy(shapes / "lying" / f"{2 * index + 1}.png", tmp_path / "few")
        (tmp_path / "broken" / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for path in sorted((shapes / "lying").iterdir())[:40]:
        shutil.copy(path, tmp_path / "some")
    cases = [
        (tmp_path / "some", "fewer than one batch", []),
        (tmp_path / "empty", "empty; put images in it", []),
        (tmp_path / "words", "no images among 1 files (1 .txt)", []),
        (tmp_path / "few", "at least 22 are needed", []),
        (tmp_path / "broken", "none of 9 images can be used", []),
        (shapes, "--set game.batch=98", ["--set", "game.batch=400"]),
        (shapes, "networks.family=resnet", ["--set", "networks.family=modern", "--set", "networks.spectral_norm=true"]),
        (shapes, "at least 10 of each", ["--set", "data.test=0.01", "--set", "game.batch=8"]),
        (shapes, "cpu", ["--device", "cuda:99"]),
        (shapes / "lying" / "1.png", "a single image", []),
    ]
    for source, words, options in cases:
        assert words in refused("train", source, "--out", tmp_path / "run", *options)
        assert not (tmp_path / "run").exists()


def test_where_a_run_cannot_be_is_refused_and_nothing_is_overwritten(
    refused: Command, trained: Path, shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    cases = [
        (trained, f"equipoise resume {trained}"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "full", "holds other files"),
        (tmp_path / "file" / "run", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/run"), "cannot be written"),
    ]
    for out, words in cases:
        line = refused("train", shapes, "--out", out, *SMALL)
        assert words in line
        assert "--out" in line
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "thesis.txt").read_text() == "precious"
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """Become a user without privileges, and return a folder that only its owner may write to."""
    folder = Path(tempfile.mkdtemp())
    (folder / "theirs").mkdir()
    (folder / "theirs").chmod(0o555)
    folder.chmod(0o755)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield folder / "theirs"
    if was_root:
        os.seteuid(0)
    (folder / "theirs").chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_without_permission_is_refused(refused: Command, ordinary_user: Path) -> None:
    folder = ordinary_user
    for out in (folder, folder / "run", folder / "a" / "run"):
        assert "cannot be written here (Permission denied)" in refused("train", "mnist", "--out", out)
    assert list(folder.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_refused(refused: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "x").touch()
    assert "ends in .png" in refused("sample", trained, "-o", tmp_path / "x.jpg")
    assert "cannot be written" in refused("sample", trained, "-o", tmp_path / "file" / "x.png")
    assert "ends in .png" in refused("sample", trained, "-o", tmp_path / "file")
    assert "exists already" in refused("sample", trained, "-o", tmp_path / "folder.png")
    assert "at most 10000" in refused("sample", trained, "-n", "10001", "-o", tmp_path / "x.png")
    assert "cannot be read" in refused("sample", trained, "-o", tmp_path / ("x" * 300 + ".png"))


def test_a_disk_that_fills_up_in_a_checkpoint_has_its_own_exit_code_and_costs_no_earlier_one(
    output: Command, environment: dict[str, str], copy: Path
) -> None:
    last = checkpoints.latest(copy / "checkpoints")
    assert last is not None
    largest = (last.path / "tensors.safetensors").stat().st_size

    def fill() -> None:  # no file may grow to the size of a checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))

    command = [sys.executable, QUICK, "resume", copy, "--budget", "1200"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, preexec_fn=fill)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert done.stderr.startswith("equipoise: a file would be larger than this disk or `ulimit -f` allows (")
    kept = checkpoints.latest(copy / "checkpoints")
    assert kept is not None
    assert kept.values["samples"] == last.values["samples"] == 800
    assert "The budget of 1,200 samples is spent." in output("resume", copy)


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
def test_on_a_terminal_a_panel_is_drawn_within_80_columns(
    shapes: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, QUICK, "train", shapes, "--budget", "1600", "--out", run, *SMALL]
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(master, 65536):
                chunks.append(chunk)
        except OSError:
            pass  # how Linux says that the terminal has closed

    reader = threading.Thread(target=read)
    reader.start()
    environment = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(command, env=environment, stdout=slave, stderr=slave, stdin=slave) as process:
        os.close(slave)
        process.wait(timeout=60)
    reader.join(timeout=10)
    os.close(master)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(chunks).decode())
    lines = [line for line in re.split(r"[\r\n]+", text) if str(tmp_path) not in line]
    assert any(line.startswith("╭─ modern on") for line in text.splitlines())
    assert any("best score" in line for line in lines)
    assert max(map(len, lines)) <= 80
