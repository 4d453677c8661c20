"""The pace of a run: schedules follow the time that is spent, intervals the machine, and a resume meets both again."""

import itertools
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import SETTLED
from trainings import NO_PENALTY, Killed, Recorder, TrainSmall, act_at, events, interrupt, kill

import equipoise as eq
from equipoise.formatting import count
from equipoise.game.schedules import scheduled
from equipoise.game.updates import Update
from equipoise.runs.digest import TIMES
from equipoise.runs.folder import RunFolder
from equipoise.storage import logs

OPEN = ("saving.every=none", "saving.log_every=none", "evaluation.every=none", NO_PENALTY)
BUDGET = 50.0  # seconds
NUM_SLOW = 15.0  # of them, at the start
STEP = 8


class Machine:
    """A machine with a time and threads of its own: a round takes as long as is said, and is computed with one."""

    def __init__(self) -> None:
        self.threads = 1
        self.now = 1_000.0
        self.begin = self.now
        self.seconds_of_round: Callable[[float], float] = lambda seconds: 0.1

    def set_threads(self, num: int) -> None:
        """Let rounds take as long as with some threads."""
        self.threads = num

    def play(self) -> None:
        """Let a round pass."""
        self.now += self.seconds_of_round(self.now - self.begin)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine on which every training of this test runs."""
    found = Machine()
    real = Update.round

    def played(self: Update, *given: Any) -> Any:
        found.play()
        return real(self, *given)

    monkeypatch.setattr(Update, "round", played)
    monkeypatch.setattr("time.monotonic", lambda: found.now)
    return found


@pytest.fixture
def train_killed(
    train_small: TrainSmall, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Path]:
    """Return a function that trains until it is killed at some samples, and gives the run's folder."""

    def train(samples: int, *settings: str, budget: str) -> Path:
        with monkeypatch.context() as patch:
            act_at(patch, 0, samples, kill)
            with pytest.raises(Killed):
                train_small("killed", *OPEN, *settings, budget=budget, source="ring")
        return tmp_path / "killed"

    return train


def slow_at_first(seconds: float) -> float:
    """Return how long a round takes: half a second in the first 15 seconds, a twentieth from then on."""
    return 0.5 if seconds < NUM_SLOW else 0.05


def rates(run: eq.Run) -> list[tuple[float, float]]:
    """Return (seconds, the generator's rate) at every log line."""
    return [(line["seconds"], line["generator_rate"]) for line in logs.records(run.folder.steps)]


def test_a_slow_start_moves_no_schedule_ahead(train_small: TrainSmall, machine: Machine) -> None:
    """Ten times as fast after the first seconds: the rate at each line is that of the share of the time before it."""
    machine.seconds_of_round = slow_at_first
    run = train_small("run", *OPEN, budget=f"{BUDGET:g}s", source="ring")
    settings = run.recipe.game.generator
    lines = rates(run)
    assert lines[-1][0] > 0.97 * BUDGET
    for (before, _), (_, rate) in itertools.pairwise(lines):
        expected = scheduled(settings.rate, settings.rate_end, before / BUDGET, settings.schedule)
        assert rate == pytest.approx(expected, rel=1e-3)


def test_a_machine_that_becomes_faster_is_told_of_and_the_intervals_follow(
    train_small: TrainSmall, machine: Machine
) -> None:
    machine.seconds_of_round = slow_at_first
    observer = Recorder()
    run = train_small("run", *OPEN, budget=f"{BUDGET:g}s", source="ring", observer=observer)
    (event,) = events(run, "speed changed")
    assert event["message"] in observer.messages
    speed, before, every, left = re.findall(r"\d+(?:\.\d+)?k?", event["message"])
    assert (speed, before) == ("160", "16")
    assert every == count(run.folder.read_intervals().evaluate_every or 0)
    assert 3.6e3 < 1e3 * float(left.removesuffix("k")) < 5.6e3, "30 of 50 seconds are left, and a part for evaluations"
    assert NUM_SLOW < event["seconds"] < 2 * NUM_SLOW
    assert run.folder.read_intervals().samples_per_second == pytest.approx(STEP / 0.05)
    after = [seconds for seconds, _ in rates(run) if seconds > 2 * NUM_SLOW]
    gaps = [after[i + 1] - after[i] for i in range(len(after) - 1)]
    assert statistics.median(gaps) == pytest.approx(1.0, abs=0.1), "a line a second again"


def test_a_machine_that_changes_all_the_time_is_told_of_once_a_minute(
    train_small: TrainSmall, machine: Machine
) -> None:
    """All of it is in the events."""
    machine.seconds_of_round = lambda seconds: 0.2 if seconds % 50 < 25 else 0.48
    observer = Recorder()
    run = train_small("run", *OPEN, budget="200s", source="ring", observer=observer)
    changes = events(run, "speed changed")
    told = [change["seconds"] for change in changes if change["message"] in observer.messages]
    assert 2 <= len(told) < len(changes)
    assert all(later - before >= 60 for before, later in itertools.pairwise(told))


def test_a_steady_machine_changes_no_interval(train_small: TrainSmall, machine: Machine) -> None:
    run = train_small("run", *OPEN, budget=f"{BUDGET:g}s", source="ring")
    assert not events(run, "speed changed")


@pytest.mark.parametrize(("killed_at", "now"), [(40, 0.1), (200, 0.1), (1_104, 0.02)])
def test_a_resume_meets_the_rates_and_intervals_that_the_killed_run_met_whatever_the_speed_now(
    train_killed: Callable[..., Path], machine: Machine, killed_at: int, now: float
) -> None:
    """Killed before anything was measured, after it, and after the intervals had changed since the last checkpoint."""
    machine.seconds_of_round = slow_at_first
    path = train_killed(killed_at, "evaluation.every=160", "saving.every=320", budget=f"{BUDGET:g}s")
    before = untimed(path)
    changes = [event["samples"] for event in logs.records(path / "log" / "events.jsonl")]
    assert bool(changes) == (killed_at == 1_104)
    assert all(samples > 960 for samples in changes), "after the last checkpoint"

    machine.seconds_of_round = lambda _: now
    run = eq.resume(path)
    assert untimed(path)[: len(before)] == before
    assert run.state.samples > 10 * killed_at
    assert [line["spent"] for line in logs.records(run.folder.paces)] == sorted(
        {line["spent"] for line in logs.records(run.folder.paces)}
    ), "each position once"


def untimed(path: Path) -> list[dict[str, Any]]:
    """Return the log lines of a run's folder without what only tells the time."""
    lines = logs.records(path / "log" / "steps.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def test_a_longer_budget_takes_the_rates_back_to_where_its_share_is(train_small: TrainSmall, machine: Machine) -> None:
    run = train_small("run", *OPEN, budget="20s", source="ring")
    settings = run.recipe.game.generator
    assert settings.rate_end is not None
    assert rates(run)[-1][1] < 1.1 * settings.rate_end
    longer = rates(eq.resume(run.path, budget="80s"))
    first = next(rate for seconds, rate in longer if seconds > 21.5)
    assert first == pytest.approx(scheduled(settings.rate, settings.rate_end, 0.26, settings.schedule), rel=0.02)
    assert longer[-1][1] < 1.1 * settings.rate_end


@pytest.mark.parametrize(("first", "longer", "told"), [("20s", "80s", "1:00"), ("1600", "6400", "4,800")])
def test_a_resume_with_a_longer_budget_says_what_the_rest_of_it_pays_for(
    train_small: TrainSmall, machine: Machine, first: str, longer: str, told: str
) -> None:
    observer = Recorder()
    run = train_small("run", *OPEN, budget=first, source="ring", observer=observer)
    assert not [text for text in observer.messages if "4,800" in text]
    eq.resume(run.path, budget=longer, observer=observer)
    (text,) = [text for text in observer.messages if "4,800" in text]
    assert {told, "80"} <= set(re.findall(r"[\d,:]*\d", text))


def test_the_price_of_an_evaluation_that_is_told_is_never_none_at_all(
    train_small: TrainSmall, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousandth of a second, too."""
    monkeypatch.setattr("equipoise.loop.first_price", lambda _: 0.00421)
    monkeypatch.setattr("equipoise.stopping.monitor.Monitor.evaluation_seconds", lambda _: 0.0312)
    run = train_small("run", *OPEN, budget="20s", source="ring")
    (event,) = events(run, "speed changed")
    assert {"0.0312", "0.00421"} <= set(event["message"].split())


def test_a_run_that_moves_from_samples_to_a_time_goes_on_at_the_share_of_that_time(
    train_small: TrainSmall, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        run = train_small("run", source="ring", budget="800")
    spent = run.state.seconds
    assert spent == pytest.approx(5.0, abs=0.2)
    settings = run.recipe.game.generator
    resumed = eq.resume(run.path, budget="50s")
    first = next(rate for seconds, rate in rates(resumed) if seconds > spent)
    assert first == pytest.approx(scheduled(settings.rate, settings.rate_end, 0.1, settings.schedule), rel=0.02)


def test_a_damaged_pace_log_costs_nothing_but_the_rates_of_before(train_killed: Callable[..., Path]) -> None:
    """Lines beyond the last checkpoint that hold no time, no speed, or nothing."""
    run = RunFolder.open(train_killed(440, "evaluation.every=160", "saving.every=320", budget="50s"))
    damage = [
        b'{"spent": 400, "seconds": null}',
        b'{"spent": 408, "seconds": 4, "samples_per_second": 0, "evaluation_seconds": 1}',
        b'{"spent": 416, "seconds": -1}',
        b'{"spent": "x", "seconds": 1}',
        b"[]",
        b"\xff",
    ]
    run.paces.write_bytes(b"\n".join(damage) + b"\n")
    assert not run.read_paces(320)
    ended = eq.resume(run.path)
    assert ended.state.stop_reason == "budget"
    settings = ended.recipe.game.generator
    seconds, rate = next((seconds, rate) for seconds, rate in rates(ended) if seconds > 5.0)
    expected = scheduled(settings.rate, settings.rate_end, seconds / 50, settings.schedule)
    assert rate == pytest.approx(expected, rel=0.05)


def test_checkpoints_that_stay_for_good_stay_where_the_intervals_change(
    train_small: TrainSmall, machine: Machine
) -> None:
    machine.seconds_of_round = slow_at_first
    run = train_small("run", *OPEN, "saving.keep=1", budget=f"{BUDGET:g}s", source="ring")
    (event,) = events(run, "speed changed")
    kept = [int(path.name) for path in run.folder.checkpoints.glob("[0-9]*")]
    assert sum(samples < event["samples"] for samples in kept) >= 2, "not the best one's or the last healthy one alone"
    assert sum(samples > event["samples"] for samples in kept) >= 2


def test_under_a_budget_in_samples_measured_intervals_are_met_again_too(
    train_killed: Callable[..., Path], machine: Machine
) -> None:
    """Slower after the kill: what was not measured anew before it is not measured anew there."""
    path = train_killed(600, "saving.every=320", budget="2000")
    before = untimed(path)
    machine.seconds_of_round = lambda _: 0.5
    eq.resume(path)
    assert untimed(path)[: len(before)] == before


def test_under_a_budget_in_samples_only_the_position_moves_a_schedule(
    train_small: TrainSmall, machine: Machine
) -> None:
    run = train_small("run", source="ring", budget="800")
    settings = run.recipe.game.generator
    for line in logs.records(run.folder.steps):
        share = (line["samples"] - STEP) / 800
        expected = scheduled(settings.rate, settings.rate_end, share, settings.schedule)
        assert line["generator_rate"] == pytest.approx(expected)
    assert not run.folder.paces.exists(), "the recipe asks for all intervals"


@pytest.fixture
def two_threads(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with two threads, which seem the fastest at first, on a machine where one is three times as fast."""
    monkeypatch.setattr("equipoise.setup.fastest_threads", lambda most: most)
    machine.threads = 2
    monkeypatch.setattr("torch.get_num_threads", lambda: machine.threads)
    monkeypatch.setattr("torch.set_num_threads", machine.set_threads)
    monkeypatch.setattr("equipoise.loop.is_losing", lambda *_: False)
    machine.seconds_of_round = lambda _: 0.15 if machine.threads == 2 else 0.05


@pytest.mark.usefixtures("two_threads")
def test_on_a_busy_machine_the_training_goes_on_with_fewer_threads_and_says_so(
    train_small: TrainSmall, machine: Machine
) -> None:
    """It records them with their positions, and leaves the caller's number as it was."""
    observer = Recorder()
    run = train_small("run", *OPEN, budget="40s", source="ring", observer=observer)
    (event,) = events(run, "threads changed")
    assert event["message"] in observer.messages
    assert re.findall(r"\d+\.\d", event["message"]) == ["3.0"]
    assert event["seconds"] < NUM_SLOW
    threads = [line["threads"] for line in logs.records(run.folder.paces) if "threads" in line]
    assert threads.count(1) > 0.8 * len(threads)
    assert machine.threads == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("is_sure", [True, False])
def test_more_threads_that_are_sure_to_lose_are_not_tried(
    train_small: TrainSmall, machine: Machine, monkeypatch: pytest.MonkeyPatch, is_sure: bool
) -> None:
    """With two threads a round takes a quarter of a minute: beside other work, each trial would cost as much."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("equipoise.setup.fastest_threads", lambda most: 1)
    monkeypatch.setattr("equipoise.loop.is_losing", lambda *given: asked.append(given) or is_sure)
    machine.seconds_of_round = lambda _: 15.0 if machine.threads == 2 else 0.5
    run = train_small("run", *OPEN, budget="200s", source="ring")
    threads = [line["threads"] for line in logs.records(run.folder.paces) if "threads" in line]
    assert (2 in threads) != is_sure
    assert set(asked) == {(2, 1)}
    if is_sure:
        assert 3 <= len(asked) <= 4, "at first, then once a minute"


@pytest.mark.usefixtures("two_threads")
def test_a_trial_that_loses_ends_within_its_log_line_and_a_resume_meets_that_place(
    train_killed: Callable[..., Path], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two threads a round takes three seconds, and a line would take a minute."""
    monkeypatch.setattr("equipoise.setup.fastest_threads", lambda most: 1)
    machine.seconds_of_round = lambda _: 3.0 if machine.threads == 2 else 0.05
    path = train_killed(552, "evaluation.every=160", "saving.every=320", budget="200s")
    lines = [line for line in logs.records(path / "log" / "pace.jsonl") if "threads" in line]
    ((begin, end),) = [(line, after) for line, after in itertools.pairwise(lines) if line["threads"] == 2]
    assert end["spent"] - begin["spent"] <= 2 * STEP
    assert end["threads"] == 1
    before = untimed(path)
    assert end["spent"] in [line["spent"] for line in before]
    machine.seconds_of_round = lambda _: 0.5
    eq.resume(path)
    assert untimed(path)[: len(before)] == before


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("killed_at", [104, 1_104])
def test_a_resume_computes_with_the_threads_of_the_killed_run_at_every_position(
    train_killed: Callable[..., Path], machine: Machine, killed_at: int
) -> None:
    """Whatever would be faster now; killed before the first checkpoint, and after several."""
    path = train_killed(killed_at, "evaluation.every=160", "saving.every=320", budget="40s")
    before = untimed(path)
    threads = {line["spent"]: line.get("threads") for line in logs.records(path / "log" / "pace.jsonl")}
    machine.seconds_of_round = lambda _: 0.05 if machine.threads == 2 else 0.15
    eq.resume(path)
    assert untimed(path)[: len(before)] == before
    after = {line["spent"]: line.get("threads") for line in logs.records(path / "log" / "pace.jsonl")}
    assert threads.items() <= after.items()
    assert after[max(after)] == 2, "not chosen anew where nothing is recorded"


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("settings", [("threads=2",), SETTLED])
def test_threads_that_are_asked_for_and_those_of_a_run_that_depends_on_no_speed_stay(
    train_small: TrainSmall, machine: Machine, settings: tuple[str, ...]
) -> None:
    budget = "20s"
    if settings == SETTLED:
        budget = "2000"
    run = train_small("run", *settings, budget=budget, source="ring")
    assert not events(run, "threads changed")
    assert run.folder.read_environment()["threads"] == 2
