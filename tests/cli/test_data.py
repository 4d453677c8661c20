"""`equipoise data check` as a person uses it, and that it never disagrees with `equipoise train`."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
from PIL import Image
from small import as_options

from equipoise.cli import main

STAGE = r"^[a-z ]+ …( [0-9]+ %)?\n"
Checked = Callable[..., tuple[str, str]]


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    """Return a function that checks a source, and returns what was printed to stdout and to stderr."""
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(tmp_path / "cache of checks"))

    def run(*arguments: Any, code: int = 0) -> tuple[str, str]:
        assert main(["data", "check", *map(str, arguments)]) == code
        assert not (tmp_path / "cache of checks").exists(), "a check fills no cache"
        out, err = capsys.readouterr()
        err = re.sub(STAGE, "", err, flags=re.MULTILINE)
        assert err.count("\n") == (0 if code == 0 else 1)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out)
        return out, err

    return run


def filled(folder: Path, num: int, same: bool = False, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + num):
        values = np.random.default_rng(0 if same else index).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{index}.png")
    return folder


def rows(text: str) -> dict[str, list[str]]:
    """Return what stands beside each label, line by line."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines():
        label = line[:14].strip() or label
        found.setdefault(label, []).append(line[14:])
    return found


def test_a_good_source_is_described_in_plain_lines_and_exits_with_0(checked: Checked, shapes: Path):
    out, _ = checked(shapes)
    assert max(map(len, out.splitlines())) <= 80
    found = rows(out)
    assert "240" in found["images"][0]
    assert found["formats"][0] == "240 PNG"
    assert found["sizes"] == ["8 × 8  240  ████████████████████"]
    assert found["classes"][1] == "  lying     120   50.0 %  ████████████████████"
    assert found["training"][0].endswith(" modern in batches of 64")
    assert found["training"][1].startswith("at 8 × 8 ")


def test_json_is_one_object_with_the_same_numbers(checked: Checked, shapes: Path):
    values = json.loads(checked(shapes, "--json")[0])
    assert (values["starts"], values["refusal"], values["files"], values["used"]) == (True, None, 240, 240)
    assert values["classes"] == {"lying": 120, "standing": 120}
    training = values["training"]
    assert training["train"] + training["validation"] + training["test"] == 240
    assert training["median_cut"] is None


def test_size_fit_recipe_and_set_reach_what_the_training_would_do(checked: Checked, shapes: Path):
    options = ["--size", "16", "--fit", "pad", "--recipe", "dcgan-64", "--set=data.test=0.2", "--set=task.channels=3"]
    training = json.loads(checked(shapes, *options, "--json")[0])["training"]
    assert (training["recipe"], training["batch"]) == ("dcgan-64", 128)
    assert (training["size"], training["channels"], training["fit"]) == (16, 3, "pad")
    assert training["enlarged"] == 240
    assert training["test"] > 30


def test_nothing_in_the_source_or_beside_it_changes(checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = filled(tmp_path / "photos", 120)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    checked("photos")
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    assert folder.exists()


@pytest.mark.parametrize(
    ("arguments", "subject", "remedy"),
    [
        (["data"], "data: missing: check, SOURCE", "equipoise data check photos/"),
        (["data", "mnist"], 'data "mnist": ', "equipoise data check mnist"),
        (["data", "check"], "data: missing: SOURCE", "equipoise data check"),
        (["data", "check", "mnist", "--sise", "8"], '"--sise"', '"--size"?'),
        (["data", "check", "mnist", "--size", "7"], "--size 7: ", " 8 to 1024"),
        (["data", "check", "mnist", "--fit", "sqeeze"], "--fit sqeeze: ", "stretch"),
        (["data", "check", "mnist", "--set", "task.flp=true"], "task.flp: ", '"task.flip"?'),
        (["data", "check", "mnist", "--recipe", "modem"], "--recipe modem: ", '"modern"?'),
        (["data", "check", "ring"], "ring: ", "equipoise data check photos/"),
        (["data", "check", "nowhere"], '"nowhere": ', "hub:NAME"),
        (["data", "check", "mnist", "--set=task.background=whit"], "whit", '"white"'),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(
    arguments: list[str], subject: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert subject in err
    assert remedy in err
    assert err.count("\n") == 1


def hopeless(folder: Path, case: str) -> Path:
    """Make a source on which no training can start."""
    match case:
        case "empty":
            folder.mkdir()
        case "words":
            folder.mkdir()
            (folder / "notes.txt").write_text("words")
        case "9 images":
            filled(folder, 9)
        case "fewer than a batch":
            filled(folder, 40)
        case "one image many times":
            filled(folder, 300, same=True)
        case "few to judge by":
            filled(folder, 85)
        case "all broken":
            folder.mkdir()
            for index in range(30):
                (folder / f"{index}.png").write_bytes(b"")
        case _:
            raise AssertionError(case)
    return folder


CASES = ["empty", "words", "9 images", "fewer than a batch", "one image many times", "few to judge by", "all broken"]


@pytest.mark.parametrize("case", CASES)
def test_where_the_training_would_not_start_both_say_the_same_line(
    case: str, checked: Checked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = hopeless(tmp_path / "photos", case)
    _, refusal = checked(folder, code=2)
    out, with_json = checked(folder, "--json", code=2)
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(tmp_path / "cache of trainings"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", os.fspath(folder), "--budget", "80"]) == 2
    assert re.sub(STAGE, "", capsys.readouterr().err, flags=re.MULTILINE) == refusal
    assert refusal == with_json
    assert not (tmp_path / "runs").exists(), "no run's folder is left"
    if out:
        assert f"equipoise: {json.loads(out)['refusal']}\n" == refusal


def test_a_class_without_images_stops_a_conditional_training_in_the_same_words(
    checked: Checked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    filled(tmp_path / "photos" / "cat", 150)
    (tmp_path / "photos" / "dog").mkdir()
    out, refusal = checked(tmp_path / "photos", "--set=networks.conditional=true", code=2)
    assert rows(out)["classes"][-1].endswith(" dog/")
    assert "networks.conditional" in " ".join(rows(out)["training"])
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(tmp_path / "cache of trainings"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "photos", "--set=networks.conditional=true"]) == 2
    assert capsys.readouterr().err == refusal.replace(f"{tmp_path}/", "")
    checked(tmp_path / "photos")  # without classes it can start


@pytest.mark.parametrize("name", corpus.odd_arrays())
def test_arrays_that_cannot_be_used_are_refused_in_one_line(name: str, checked: Checked, tmp_path: Path):
    with warnings_as_errors():
        np.savez(tmp_path / "a.npz", **corpus.odd_arrays()[name])
        out, refusal = checked(tmp_path / "a.npz", code=2)
    assert out == ""
    assert refusal.startswith("equipoise: source ")


def warnings_as_errors() -> Any:
    import warnings

    return warnings.catch_warnings(action="error")


def test_progress_is_shown_on_a_terminal_and_not_in_what_is_piped_on(shapes: Path, tmp_path: Path):
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "equipoise.cli", "data", "check", shapes]
    environment = os.environ | {"TERM": "xterm-256color", "EQUIPOISE_CACHE": os.fspath(tmp_path / "cache")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=child, env=environment) as process:
        os.close(child)
        assert process.stdout
        shown = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        out = process.stdout.read()
    os.close(parent)
    assert process.returncode == 0
    assert b"reading" in shown
    assert b"comparing" in shown
    assert b"\ntraining  " in out
    assert b"\x1b" not in out


def test_where_there_is_no_terminal_a_line_says_what_is_being_done(shapes: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", os.fspath(shapes), "--json"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in err.splitlines()] == ["reading", "comparing"]
    assert json.loads(out)["starts"]


def test_a_recipe_made_for_64_pixels_says_so_at_40(checked: Checked, tmp_path: Path):
    folder = filled(tmp_path / "photos", 200)
    options = [folder, "--recipe", "dcgan-64", "--size", "40"]
    assert "64 × 64" in json.loads(checked(*options, "--json")[0])["training"]["recipe_size"]
    assert "3 → 5 → 10 → 20 → 40" in " ".join(checked(*options)[0].split())
    assert json.loads(checked(folder, "--recipe", "dcgan-64", "--json")[0])["training"]["recipe_size"] is None
    assert json.loads(checked(folder, "--json")[0])["training"]["recipe_size"] is None


def test_a_size_that_is_much_for_this_machine_is_advised_beside_one_that_is_not(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    for index in range(120):
        values = np.random.default_rng(index).integers(0, 256, (90, 120), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{index}.png")
    lines = checked(folder)[0].splitlines()
    sizes = [line.split("--size ")[1] for line in lines if line.startswith("  equipoise train")]
    assert [size.split() for size in sizes] == [["120x90"], ["64x48"]]
    assert [line.split(" ")[-1] for line in lines if line.startswith("to ")] == ["type:", "type:"]


@pytest.mark.slow
def test_a_training_on_good_and_odd_images_leaves_out_what_the_check_has_listed(
    quick: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder = filled(tmp_path / "photos" / "good", 900)
    for index, name in enumerate(corpus.odd_names()):
        (folder / name).write_bytes(corpus.encoded(corpus.picture() // (index + 1)))
    odd = tmp_path / "photos" / "odd"
    odd.mkdir()
    for file in corpus.odd_files():
        (odd / file.name).write_bytes(file.content)
    expected = {f"odd/{name}" for name in corpus.add_special_files(odd)}
    expected |= {f"odd/{file.name}" for file in corpus.odd_files() if file.pixels is None}
    options = [os.fspath(tmp_path / "photos"), "--size", "8"]
    assert main(["data", "check", *options, "--json"]) == 0
    out, err = capfd.readouterr()
    assert re.sub(STAGE, "", err, flags=re.MULTILINE) == ""
    values = json.loads(out)
    assert expected <= {item["name"] for item in values["not_used"]}
    run = tmp_path / "run"
    assert main(["train", *options, "--budget", "200", "--out", os.fspath(run), *as_options()]) == 0
    assert capfd.readouterr().err == ""
    data = json.loads((run / "data.json").read_text())
    assert data["rejected"] == values["not_used"]
    for name in ("train", "validation", "test"):
        assert data[f"num_{name}"] == values["training"][name]
    assert data["num_duplicates"] == values["duplicates"]
    assert data["facts"] == {name: values["training"][name] for name in ("size", "channels")}


def test_a_rectangle_and_channels_are_checked_as_they_are_typed(checked: Checked, tmp_path: Path) -> None:
    folder = filled(tmp_path / "photos", 150)
    options = ("--size", "16x12", "--set", "task.channels=4")
    training = json.loads(checked(folder, *options, "--json")[0])["training"]
    assert (training["size"], training["channels"]) == ([16, 12], 4)
    assert "16 × 12" in checked(folder, *options)[0]
