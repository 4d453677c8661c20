"""Each task goes through its whole life: trained, interrupted, resumed bit for bit, used, reported, compared."""

import html
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import torch
from quick import QUICK_STEPS, encoder_defaults
from small import FEW, FOR_PHOTOS, SETTLED, as_options

import equipoise as eq
from equipoise.api import SILENT, Silent
from equipoise.cli import main
from equipoise.loop import Progress
from equipoise.runs.compare import compare
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import read_status, status_values
from equipoise.storage.logs import records
from equipoise.storage.records import deciding
from equipoise.tasks.base import num_outputs

BUDGET = "800"
STOPPED_AT = 320  # samples
SUPER = (*FOR_PHOTOS, "task.scale=2", "task.patch=32", "task.faithful=0.2", "networks.width=4", "game.batch=16")


@dataclass(frozen=True)
class Life:
    """What differs between the lives of tasks."""

    source: str
    task: Any  # a name, or an object
    settings: tuple[str, ...] = ()
    inputs: Path | None = None  # what the best generator is applied to; None: it draws

    @property
    def again(self) -> dict[str, Any]:
        """Return what must be given again to whoever opens the run."""
        if isinstance(self.task, str):
            return {}
        return {"task": self.task}

    def train(self, path: Path, seed: int = 0, observer: Any = SILENT) -> eq.Run:
        """Train in a folder."""
        settings = [*SETTLED, *self.settings, f"seed={seed}"]
        return eq.train(
            self.source, task=self.task, budget=BUDGET, out=path, settings=settings, observer=observer, device="cpu"
        )

    def outputs(self, best: eq.Best) -> list[Any]:
        """Return some outputs of a generator."""
        if self.inputs is None:
            return list(best.sample(5))
        return [output for _, output in best.apply(self.inputs)]


@pytest.fixture(scope="module")
def quicker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the judge learn in a second, and judge by few examples, as `small` does, for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoder_defaults(), "steps", QUICK_STEPS)
        patch.setenv("EQUIPOISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        for place, num in FEW.items():
            patch.setattr(place, num)
        patch.setattr("equipoise.nets.super_resolution.NUM_BLOCKS", 2)
        yield


@pytest.fixture(scope="module", params=["images", "points", "super-resolution", "custom"])
def life(request: pytest.FixtureRequest, shapes: Path, photos: Path, example: ModuleType, quicker: None) -> Life:
    """Return each task in turn."""
    lives = {
        "images": Life(str(shapes), "images"),
        "points": Life("ring", "points"),
        "super-resolution": Life(str(photos), "super-resolution", SUPER, photos / "00.png"),
        "custom": Life("waves", example.Waves(example.RECIPE.game)),
    }
    return lives[request.param]


@pytest.fixture(scope="module")
def trained(life: Life, tmp_path_factory: pytest.TempPathFactory) -> eq.Run:
    """Return a finished run of the task, which tests must not change."""
    return life.train(tmp_path_factory.mktemp("run") / "one")


class Stopping(Silent):
    """Asks for a stop, as Ctrl-C does, at some samples."""

    def progress(self, progress: Progress) -> None:
        """Send the signal."""
        if progress.samples >= STOPPED_AT:
            signal.raise_signal(signal.SIGINT)


def test_a_stopped_training_goes_on_to_the_same_digest(life: Life, trained: eq.Run, tmp_path: Path) -> None:
    stopped = life.train(tmp_path / "run", observer=Stopping())
    assert (stopped.state.status, stopped.state.samples) == ("stopped", STOPPED_AT)
    assert stopped.state.test is None, "the test split is for the end"
    resumed = eq.resume(stopped.path, **life.again)
    assert resumed.state.status == "finished"
    assert digest(resumed.folder) == digest(trained.folder)
    assert timeless(resumed.state.best) == timeless(trained.state.best)
    assert timeless(resumed.state.test) == timeless(trained.state.test)
    weights = [run.best.generator.state_dict().values() for run in (resumed, trained)]
    assert all(map(torch.equal, *weights))


def timeless(score: Any) -> Any:
    """Return a score without the seconds that it took."""
    assert score is not None
    return msgspec.structs.replace(score, seconds=0.0)


def test_a_larger_budget_trains_on(life: Life, trained: eq.Run, tmp_path: Path) -> None:
    path = Path(shutil.copytree(trained.path, tmp_path / "run"))
    longer = eq.resume(path, budget="960", **life.again)
    assert (longer.state.status, longer.state.samples) == ("finished", 960)
    test = trained.state.test
    assert test is not None
    has_test_split = "folds" not in test.protocol  # else all held-out examples judge all the time
    kinds = [event["kind"] for event in records(longer.folder.events)]
    assert kinds.count("test set used before") == has_test_split


def test_the_best_generator_is_loaded_and_used(life: Life, trained: eq.Run) -> None:
    assert trained.state.status == "finished"
    outputs = []
    for _ in range(2):
        loaded = eq.load(trained.path, **life.again)
        best = loaded.best
        assert not best.generator.training
        assert best.score == trained.state.best
        outputs.append(life.outputs(best))
    assert num_outputs(outputs[0])
    assert all(map(torch.equal, *outputs))
    assert all(output.isfinite().all() for output in outputs[0])


def test_every_evaluation_finds_what_the_task_measures(trained: eq.Run) -> None:
    data = trained.folder.read_data()
    assert data is not None
    scores = list(records(trained.folder.scores))
    assert [score["samples"] for score in scores] == [160, 320, 480, 640, 800]
    for place, score in enumerate(scores, 1):
        raw = {"raw", "averaging"} if place == 4 else set()  # the raw generator is measured at every fourth evaluation
        assert score["values"].keys() - {"augmentation_leak"} == {
            *(metric.name for metric in data.metrics),
            "discriminator_gap",
            *raw,
        }
        assert score["loss"] == score["values"][deciding(data.metrics).name]
    test = trained.state.test
    assert test is not None
    assert test.protocol["split"] == "test"
    assert [event["kind"] for event in records(trained.folder.events)] == ["stop"], "nothing went wrong on the way"


def test_the_score_has_its_scale(trained: eq.Run) -> None:
    for rivals in (trained.folder.read_rivals(), trained.state.rivals):
        assert rivals is not None
        losses = {score.role: score.loss for score in rivals.scores}
        assert losses["ceiling"] < losses["floor"]
        assert all(score.failure is None for score in rivals.scores)
    assert trained.state.rivals is not None
    assert all(score.best is not None for score in trained.state.rivals.scores), "the best is compared with each"


def test_the_status_knows_the_task_by_its_metric_alone(life: Life, trained: eq.Run) -> None:
    data = trained.folder.read_data()
    assert data is not None
    values = status_values(read_status(trained.folder))
    assert (values["state"], values["share"], values["samples"]) == ("finished", 1.0, 800)
    assert values["metric"] == deciding(data.metrics).name
    assert values["source"] == life.source
    assert values["best"].loss == values["best"].values[values["metric"]]


def test_the_report_shows_exhibits_baselines_and_metrics(trained: eq.Run) -> None:
    page = html.unescape(trained.report.read_text("utf-8"))
    data = trained.folder.read_data()
    exhibits = trained.folder.read_exhibits().exhibits
    assert data is not None
    assert exhibits
    for exhibit in exhibits:
        assert (trained.folder.samples / exhibit.file).stat().st_size
        assert exhibit.title in page
        assert exhibit.caption in page
    for score in trained.folder.read_rivals().scores:
        assert score.name in page
    for metric in data.metrics:
        assert metric.shown in page
    assert len(trained.folder.snapshots()) >= 2
    assert page.count("data:image/png;base64,") >= 2


def test_two_runs_are_compared_under_one_protocol(life: Life, trained: eq.Run, tmp_path: Path) -> None:
    other = life.train(tmp_path / "two", seed=1)
    found = compare([trained.folder, other.folder])
    assert found.differences == {"seed": [0, 1]}
    assert not found.without_score
    assert [(group[0].split, len(group)) for group in found.groups] == [("validation", 2), ("test", 2)]
    assert digest(trained.folder).sha256 != digest(other.folder).sha256


# The same by the command line, for the tasks that it knows


@dataclass(frozen=True)
class Commands:
    """The words of a task's life in a shell."""

    task: str
    source: Path
    settings: tuple[str, ...]
    use: Callable[[Path, Path], list[Any]]  # from the run and where to write, the command that uses its generator
    suffix: str


@pytest.fixture(params=["images", "points", "super-resolution"])
def commands(request: pytest.FixtureRequest, shapes: Path, photos: Path, tmp_path: Path, quicker: None) -> Commands:
    """Return each built-in task in turn."""

    def sample(run: Path, out: Path) -> list[Any]:
        return ["sample", run, "-n", 5, "-o", out]

    def apply(run: Path, out: Path) -> list[Any]:
        return ["apply", run, photos / "00.png", "-o", out]

    points = tmp_path / "moons.csv"
    draw = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    points.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in draw.tolist()))
    lives = {
        "images": Commands("images", shapes, (), sample, ".png"),
        "points": Commands("points", points, (), sample, ".csv"),
        "super-resolution": Commands("super-resolution", photos, SUPER, apply, ".png"),
    }
    return lives[request.param]


def test_a_life_in_a_shell(commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: Any) -> str:
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    run = tmp_path / "run"
    copy = tmp_path / "copy"
    train = ["train", commands.source, "--task", commands.task, "--budget", 320, *as_options(SETTLED)]
    told(*train, *as_options(commands.settings), "--out", run)
    shutil.copytree(run, copy)
    told("resume", copy, "--budget", 480)
    assert RunFolder(copy).read_state().samples == 480
    out = tmp_path / f"out{commands.suffix}"
    told(*commands.use(run, out))
    assert out.stat().st_size
    assert (run / "report.html").stat().st_size
    status = json.loads(told("status", run, "--json"))
    assert (status["state"], status["source"]) == ("finished", str(commands.source))
    found = json.loads(told("evaluate", run, "--against", commands.source, "--json"))
    assert found["metric"] == status["metric"]
    assert found["protocol"]["split"] == ("held-out" if commands.task == "images" else "test")
    compared = json.loads(told("compare", run, copy, "--json"))
    assert list(compared["differences"]) == ["budget.samples"]
    assert json.loads(told("digest", run, "--json"))["samples"] == 320


def test_what_only_python_knows_is_refused_in_a_shell(
    example: ModuleType, quicker: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Life("waves", example.Waves(example.RECIPE.game)).train(tmp_path / "run").path
    for words in (
        ["sample", run],
        ["apply", run, run, "-o", tmp_path / "out"],
        ["evaluate", run, "--against", "ring"],
        ["resume", run, "--budget", "2k"],
    ):
        assert main([str(word) for word in words]) == 2
        assert "task=" in capsys.readouterr().err, words
    for words in (["status", run], ["digest", run], ["compare", run, shutil.copytree(run, tmp_path / "copy")]):
        assert main([str(word) for word in words]) == 0
        capsys.readouterr()
