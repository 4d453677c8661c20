"""What comes before a training: how long it takes is told once, written down, and left behind by an interruption."""

import math
from pathlib import Path

import pytest

from equipoise.host import preparing as module
from equipoise.host.preparing import Stage, preparing
from equipoise.recipe import Budget, Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import read_status
from equipoise.storage.records import RunState


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds of the clock, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def begun(path: Path, budget: Budget) -> tuple[RunFolder, Recipe]:
    recipe = Recipe(budget=budget)
    return RunFolder.create(path, recipe), recipe


def no_stage(text: str, share: float) -> None:
    """Show nothing."""


def work(stage: Stage, clock: list[float]) -> None:
    """Do a third of a stage that takes 90 seconds."""
    for second in range(31):
        clock[0] = second
        stage("the encoder", second / 90)


def test_the_time_left_is_told_once_with_that_of_the_training(tmp_path: Path, clock: list[float]) -> None:
    folder, recipe = begun(tmp_path / "run", Budget(samples=None, seconds=900))
    shown: list[tuple[str, float]] = []
    told: list[str] = []
    with preparing(folder, recipe, lambda *stage: shown.append(stage), told.append) as stage:
        work(stage, clock)
    (text,) = told
    assert "1:28" in text, "of the encoder, after two seconds of it"
    assert "16:28" in text, "with the budget"
    assert shown[-1][1] == pytest.approx(1 / 3)
    assert all("15:00" in text for text, _ in shown)


def test_of_a_budget_in_samples_only_what_is_known_is_told(tmp_path: Path, clock: list[float]) -> None:
    folder, recipe = begun(tmp_path / "run", Budget(samples=60_000, seconds=None))
    told: list[str] = []
    with preparing(folder, recipe, no_stage, told.append) as stage:
        work(stage, clock)
    (text,) = told
    assert text.count(":") == 2
    assert "1:28" in text


def test_what_has_been_trained_already_is_not_counted_again(tmp_path: Path, clock: list[float]) -> None:
    folder, recipe = begun(tmp_path / "run", Budget(samples=None, seconds=900))
    folder.write_state(RunState(status="stopped", samples=100, seconds=600, has_saved=True))
    told: list[str] = []
    with preparing(folder, recipe, no_stage, told.append) as stage:
        work(stage, clock)
    assert "6:28" in told[0]
    state = folder.read_state()
    assert (state.status, state.samples, state.has_saved) == ("stopped", 100, True)


def test_status_counts_it_while_it_goes_on_and_says_what_an_interruption_left(
    tmp_path: Path, clock: list[float]
) -> None:
    folder, recipe = begun(tmp_path / "run", Budget(samples=None, seconds=900))
    told: list[str] = []

    def prepare() -> None:
        with folder.lock(), preparing(folder, recipe, no_stage, told.append) as stage:
            work(stage, clock)
            now = read_status(folder)
            assert now.state == "running"
            assert now.preparing is not None
            assert now.seconds_left == pytest.approx(900 + now.preparing.seconds_left)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare()
    now = read_status(folder)
    assert now.state == "interrupted"
    assert now.preparing is not None
    assert now.preparing.share == pytest.approx(1 / 3)
    assert math.isnan(now.seconds_left)
    assert str(folder.path) in told[-1]
    assert "33 %" in told[-1]


def test_where_nothing_takes_time_nothing_is_told_or_written(tmp_path: Path) -> None:
    folder, recipe = begun(tmp_path / "run", Budget(samples=None, seconds=900))
    told: list[str] = []
    with preparing(folder, recipe, no_stage, told.append):
        pass
    assert told == []
    assert read_status(folder).state == "new"


def test_a_disk_that_takes_nothing_ends_no_preparation(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, recipe = begun(tmp_path / "run", Budget(samples=None, seconds=900))

    def full(self: RunFolder, state: RunState) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_state", full)
    with preparing(folder, recipe, no_stage, lambda text: None) as stage:
        work(stage, clock)
