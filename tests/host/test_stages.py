"""What comes before and after a training: its time is told once, written down, and named by an interruption."""

import math
from pathlib import Path

import pytest

from equipoise.errors import RunInterrupted
from equipoise.host import stages as module
from equipoise.host.stages import Stage, at_training, interruptible, preparing
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
    assert "evaluation" in text.partition("16:28")[2], "which the end comes on top of"
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
            assert now.stage is not None
            assert now.seconds_left == pytest.approx(900 + now.stage.seconds_left)
            clock[0] = 32.4  # not yet written down
            stage("the encoder", 0.36)
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted) as caught:
        prepare()
    now = read_status(folder)
    assert now.state == "interrupted"
    assert now.stage is not None
    assert now.stage.share == 0.36
    assert math.isnan(now.seconds_left)
    assert caught.value.path == folder.path
    assert str(folder.path) in str(caught.value)
    assert "36 %" in str(caught.value)
    assert len(told) == 1, "there is one message of it, which is the exception's"


def test_what_an_earlier_session_has_done_of_a_stage_makes_this_one_no_faster(
    tmp_path: Path, clock: list[float]
) -> None:
    """From 60 to 70 % in ten seconds: the last 30 % take thirty."""
    folder, recipe = begun(tmp_path / "run", Budget(samples=None, seconds=900))
    with preparing(folder, recipe, no_stage, lambda text: None) as stage:
        for clock[0], share in ((0.0, 0.6), (5.0, 0.65), (10.0, 0.7)):
            stage("the encoder", share)
        now = folder.read_state().stage
    assert now is not None
    assert now.seconds_left == pytest.approx(30.0)


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


def test_each_new_stage_after_a_training_is_written_down_at_once_and_cleared_at_the_end(
    tmp_path: Path, clock: list[float]
) -> None:
    folder, _ = begun(tmp_path / "run", Budget(samples=None, seconds=900))
    before = RunState(status="running", has_saved=True)
    folder.write_state(before)
    shown: list[tuple[str, float]] = []
    seen = []
    with at_training(folder, lambda *stage: shown.append(stage), is_after=True) as stage:
        for second, what, share in ((0, "one", 0.0), (1, "two", 0.0), (4, "two", 0.5), (7, "two", 0.75)):
            clock[0] = second
            stage(what, share)
            now = folder.read_state().stage
            assert now is not None
            seen.append((now.what, now.share, now.is_after))
    assert seen == [("one", 0.0, True), ("two", 0.0, True), ("two", 0.0, True), ("two", 0.75, True)]
    assert shown[-1] == ("two", 0.75)
    assert folder.read_state() == before


def test_an_interruption_names_its_run_once_with_the_stage_where_there_is_one(tmp_path: Path) -> None:
    folder, _ = begun(tmp_path / "run", Budget(samples=None, seconds=900))

    def left(what: str) -> None:
        with interruptible(folder), at_training(folder, no_stage, is_after=True) as stage:
            if what:
                stage(what, 0.0)
            raise KeyboardInterrupt

    for what in ("", "testing"):
        with pytest.raises(RunInterrupted) as caught:
            left(what)
        assert (caught.value.path, caught.value.during) == (folder.path, what)
        assert str(caught.value).count(str(folder.path)) == 1
        assert f"resume {folder.path}" in caught.value.told(in_shell=True)
