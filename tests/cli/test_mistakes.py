"""Mistakes on the command line: one line that names what is wrong, with a remedy, and nothing is written."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small import as_options

from equipoise.runs.folder import RunFolder
from equipoise.storage import checkpoints

QUICK = Path(__file__).parents[1] / "quick.py"
SMALL = as_options()
Command = Callable[..., str]

TYPED = [
    (["trian", "x"], 'command "trian": ', '"train"?'),
    (["mnist"], 'command "mnist": ', "equipoise train mnist"),
    (["ring"], 'command "ring": ', "equipoise train ring"),
    (["zzz"], 'command "zzz": ', "equipoise --help"),
    (["train"], "train: missing: SOURCE", "equipoise train mnist"),
    (["train", "mnist", "extra"], '"extra"', "equipoise train mnist"),
    (["train", "mnist", "--bugdet", "1m"], '"--bugdet"', '"--budget"?'),
    (["train", "mnist", "--budg", "1m"], '"--budg"', '"--budget"?'),
    (["train", "mnist", "--budget", "4", "m"], '"m"', "4m"),
    (["evaluate", "x", "--agianst", "mnist"], '"--agianst"', '"--against"?'),
    (["train", "--bugdet=5m"], '"--bugdet"', '"--budget"?'),
    (["train", "mnist", "--zzz"], '"--zzz"', "equipoise train --help"),
    (["train", "mnist", "--budget"], "--budget", "equipoise train mnist"),
    (["train", "mnist", "--budget", "soon"], "--budget soon: ", "--budget 10m"),
    (["train", "mnist", "--budget=-5m"], "--budget -5m: ", "--budget 10m"),
    (["train", "mnist", "--budget", "nan"], "--budget nan: ", "--budget 10m"),
    (["train", "mnist", "--size", "7"], "--size 7: ", "--size 8"),
    (["train", "mnist", "--size", "1025"], "--size 1025: ", "--size 1024"),
    (["train", "mnist", "--size", "big"], "--size big: ", "--size 64"),
    (["train", "mnist", "--size", "40x0"], "--size 40x0: ", "--size 40"),
    (["train", "mnist", "--size", "2000x10"], "--size 2000x10: ", "--size 1024x10"),
    (["train", "ring", "--size", "32"], "task.size", "task.deviation"),
    (["train", "mnist", "--seed", "-1"], "--seed -1: ", "--seed 0"),
    (["train", "mnist", "--seed", "x"], "--seed x: ", "--seed 1"),
    (["train", "mnist", "--seed", "9" * 5000], "--seed '99", "--seed 1"),
    (["train", "mnist", "--device", "gpu"], "--device gpu: ", "cuda:N"),
    (["train", "mnist", "--fit", "crpo"], "--fit crpo: ", '"crop"?'),
    (["train", "mnist", "--task", "pionts"], "--task pionts: ", '"points"?'),
    (["train", "mnist", "--recipe", "modren"], "--recipe modren: ", '"modern"?'),
    (["train", "mnist", "--set", "game.penalty.gama=1"], "game.penalty.gama: ", '"game.penalty.gamma"?'),
    (["train", "mnist", "--set", "game.batch=many"], "game.batch=many: ", "a whole number"),
    (["train", "mnist", "--set", "game.generator.rate=-1"], "rate=-1: ", "> 0"),
    (["train", "mnist", "--set", "game.generator.rate=nan"], "rate=nan: ", "number"),
    (["train", "mnist", "--set", "game.loss=hing"], "game.loss=hing: ", '"hinge"?'),
    (["train", "mnist", "--set", "width"], "width: ", "FIELD=VALUE"),
    (["train", "mnist", "--set", "device=gpu"], "device=gpu: ", "cuda:N"),
    (["resume", "x", "--policy", "patiense"], "--policy patiense: ", '"patience"?'),
    (["resume", "x", "--policy", "none"], "--policy none: ", "--policy evidence"),
    (["train", "mnist", "--resume"], "--resume: ", "--out DIR --resume"),
    (["train", "mnist", "--out", ""], "--out '': ", "runs/modern-mnist-001"),
    (["train", "does-not-exist"], '"does-not-exist": ', "hub:NAME"),
    (["train", "none.csv", "--task", "points"], '"none.csv": ', ""),
    (["train", ""], '"": ', "hub:NAME"),
    (["status", ""], 'RUN "": ', "runs/modern-mnist-001"),
    (["status"], "status: ", "equipoise train mnist"),
    (["--json", "status", "x"], "--json: ", "equipoise status … --json"),
    (["sample", "x", "-n", "0"], "--num 0: ", "--num 1"),
    (["sample", "x", "-n", "1e9"], "--num 1e9: ", "--num 64"),
    (["apply", "x", "y"], "apply: missing: -o", "equipoise apply"),
    (["evaluate", "x"], "evaluate: missing: --against", "equipoise evaluate"),
    (["evaluate", "x", "--against", "mnist", "--features", "incption"], "--features incption: ", '"inception"?'),
    (["evaluate", "x", "--against", "mnist", "--split", "tset"], "--split tset: ", '"test"?'),
    (["evaluate", "x", "--against", "mnist", "--size", "4"], "--size 4: ", "--size 8"),
    (["evaluate", "does-not-exist", "--against", "mnist"], "does-not-exist: ", "equipoise evaluate"),
    (["compare", "x"], "compare: ", "equipoise compare"),
    (["recipes", "modren"], 'recipes "modren"', '"modern"?'),
    (["recipes", "--html", "x.html"], "--html x.html: ", "equipoise recipes modern --html x.html"),
    (["recipes", "modern", "--html", "x.png"], "--html x.png: ", "--html comparison.html"),
]


@pytest.mark.parametrize(("arguments", "received", "remedy"), TYPED, ids=lambda value: str(value)[:40])
def test_a_mistake_in_typing_is_refused_in_one_line_and_makes_no_folder(
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


@pytest.mark.parametrize("command", ["resume", "sample", "evaluate", "digest"])
def test_where_there_are_runs_the_example_names_the_one_that_was_touched_last(
    refused: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "runs/modern-mnist-001" in refused(command)
    for index, name in enumerate(("one", "two", "three")):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        if name != "three":
            (run / "recipe.json").write_text("{}")
        os.utime(run, (index, index))
    assert "runs/two" in refused(command)


@pytest.mark.parametrize("command", ["resume", "status", "sample", "apply", "compare"])
@pytest.mark.parametrize("what", ["missing", "empty", "file", "below a file", "images", "too long", "damaged"])
def test_what_is_not_a_run_is_refused(
    refused: Command, trained: Path, copy: Path, shapes: Path, tmp_path: Path, command: str, what: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (copy / "recipe.json").write_text('{"name": ')
    places = {"below a file": "file/x", "too long": "x" * 300}
    path = {"images": shapes, "damaged": copy}.get(what) or tmp_path / places.get(what, what)
    drawn = tmp_path / "x.png"
    more = {"sample": ["-o", drawn], "apply": [trained, "-o", drawn], "compare": [trained]}.get(command, [])
    assert str(path) in refused(command, path, *more)
    assert not drawn.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.json", "[]"), ("recipe.json", '{"seed": "x"}'), ("recipe.json", '{"sead": 1}'), ("recipe.json", ""),
        ("recipe.json", '{"format": 99}'), ("state.json", "[]"), ("state.json", '{"status": 3}'),
        ("state.json", "\udcff"),
        ("state.json", '{"status": "finished", "best": 3}'), ("data.json", "{}"), ("data.json", "null"),
    ],
)  # fmt: skip
def test_a_run_with_a_damaged_file_is_refused(refused: Command, copy: Path, name: str, content: str) -> None:
    (copy / name).write_bytes(content.encode(errors="surrogateescape"))
    for command in (["resume", copy, "--budget", "2k"], ["status", copy]):
        assert refused(*command).startswith(f"equipoise: {copy}/{name}: ")


def test_a_damaged_best_generator_is_refused(refused: Command, copy: Path, tmp_path: Path) -> None:
    weights = copy / "best" / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    line = refused("sample", copy, "-o", tmp_path / "x.png")
    assert line.startswith(f"equipoise: {copy}/best: generator.safetensors ")


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
        (tmp_path / "some", " 64", []),
        (tmp_path / "empty", "images", []),
        (tmp_path / "words", "1 .txt", []),
        (tmp_path / "few", " 22 ", []),
        (tmp_path / "broken", " 9 ", []),
        (shapes, "--set game.batch=98", ["--set", "game.batch=400"]),
        (shapes, "networks.family=resnet", ["--set", "networks.family=modern", "--set", "networks.spectral_norm=true"]),
        (shapes, " 10 ", ["--set", "data.test=0.01", "--set", "game.batch=8"]),
        (shapes, "cpu", ["--device", "cuda:99"]),
        (shapes / "lying" / "1.png", str(shapes / "lying"), []),
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
    assert f"equipoise resume {trained}" in refused("train", shapes, "--out", trained, *SMALL)
    for name in ("file", "full", "file/run", "x" * 300, "/proc/run"):
        line = refused("train", shapes, "--out", tmp_path / name, *SMALL)
        assert line.startswith(f"equipoise: {tmp_path / name}: ")
        assert "--out " in line
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
        assert f"equipoise: {out}: " in refused("train", "mnist", "--out", out)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "num", "remedy"),
    [
        ("x.jpg", "4", "--out grid.png"),
        ("file/x.png", "4", "--out grid.png"),
        ("file", "4", "--out grid.png"),
        ("folder.png", "4", "--force"),
        ("x.png", "10001", "--out samples/"),
        ("x" * 300 + ".png", "4", "--out grid.png"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused(
    refused: Command, trained: Path, tmp_path: Path, name: str, num: str, remedy: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "x").touch()
    before = sorted(tmp_path.rglob("*"))
    line = refused("sample", trained, "-n", num, "-o", tmp_path / name)
    assert line.startswith(f"equipoise: --num {num}: " if num != "4" else f"equipoise: --out {tmp_path / name}: ")
    assert line.endswith(f"{remedy}\n")
    assert sorted(tmp_path.rglob("*")) == before


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
    assert done.stderr.startswith(f"equipoise: {copy}")
    assert "ulimit -f" in done.stderr
    assert done.stderr.endswith(f"equipoise resume {copy}\n")
    kept = checkpoints.latest(copy / "checkpoints")
    assert kept is not None
    assert kept.values["samples"] == last.values["samples"] == 800
    output("resume", copy)
    assert RunFolder(copy).read_state().samples == 1200
