"""Giving an evaluation up, by time or for a signal: it leaves every network in its own mode, and nothing half-done."""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.evaluation.evaluate import measure
from equipoise.game.updates import Players
from equipoise.host.deadline import Abandoned, Deadline
from equipoise.metrics.units import Measured
from equipoise.randomness import Randomness
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import CHUNK, Examples, chunks, evaluating, split_logits


def over() -> Deadline:
    """Return a deadline that has passed."""
    deadline = Deadline(1e-9)
    end = time.monotonic() + 1e-6
    while time.monotonic() < end:
        pass
    return deadline


def signalled() -> Deadline:
    return Deadline(math.inf, lambda: True)


def test_a_deadline_passes_once_and_for_good_and_says_how_long_it_was() -> None:
    with pytest.raises(TimeoutError, match="1e-09"):
        over().check()
    for seconds in (60.0, math.inf):
        Deadline(seconds).check()


def test_a_signal_is_no_timeout_and_comes_before_one() -> None:
    with pytest.raises(Abandoned):
        signalled().check()
    late = Deadline(-1.0, lambda: True)
    with pytest.raises(Abandoned):
        late.check()
    assert not issubclass(Abandoned, TimeoutError | OSError)


def test_a_signal_that_comes_later_is_heard_at_the_next_check() -> None:
    heard = [False]
    deadline = Deadline(60.0, lambda: heard[0])
    deadline.check()
    heard[0] = True
    with pytest.raises(Abandoned):
        deadline.check()


# Networks


class Doubled(nn.Module):
    """Latents to points; some parts are frozen in evaluation mode, as a fixed encoder would be."""

    def __init__(self) -> None:
        super().__init__()
        self.live = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.frozen = nn.BatchNorm1d(2).eval()
        self.seen: list[bool] = []

    def forward(self, values: Tensor) -> Tensor:
        self.seen.append(self.training)
        return self.frozen(self.live(values))


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, Abandoned, TimeoutError])
def test_each_part_of_a_network_comes_back_to_its_own_mode_whatever_happens(error: type[BaseException] | None) -> None:
    module = Doubled()
    before = modes(module)
    assert True in before
    assert False in before

    def fail() -> None:
        with evaluating(module):
            assert not any(modes(module))
            if error is not None:
                raise error

    if error is None:
        fail()
    else:
        with pytest.raises(error):
            fail()
    assert modes(module) == before


def test_a_mode_comes_back_also_where_entering_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Doubled()
    before = modes(module)
    real = nn.Module.train

    def interrupted(self: nn.Module, mode: bool = True) -> nn.Module:
        real(self, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(nn.Module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt), evaluating(module):
        pass
    assert modes(module) == before


class Task:
    """What an evaluation asks of a task, with networks that pass through `evaluating` in each chunk."""

    chunk = CHUNK

    def __init__(self, num: int = 3 * CHUNK) -> None:
        self.num = num
        self.players = Players(Doubled(), Doubled())
        self.fails: type[BaseException] | None = None
        self.calls = itertools.count()

    def describe(self) -> DataRecord:
        return DataRecord(source="", digest="", num_train=self.num, num_validation=40, num_test=40)

    def outputs(self, generator: nn.Module, randomness: Randomness, split: str, begin: int, size: int) -> Tensor:
        with evaluating(generator), torch.no_grad():
            if self.fails is not None and next(self.calls) == 1:
                raise self.fails
            return generator(Randomness(randomness.seed, begin).normal("latents", size, 2))

    def examples(self, split: str, begin: int, size: int) -> Examples:
        return Examples(None, torch.ones(size, 2))

    def logits(self, discriminator: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        return discriminator(outputs)[:, 0]


class Judge:
    """Averages outputs."""

    split, num, seed = "validation", 3 * CHUNK, 0

    def measure(self, outputs: Iterator[Tensor]) -> Measured:
        return Measured(torch.cat(list(outputs)).mean().item(), 0.1)


@pytest.mark.parametrize("deadline", [over, signalled])
def test_an_evaluation_that_is_given_up_leaves_no_network_in_evaluation_mode(deadline: Any) -> None:
    task: Any = Task()
    judge: Any = Judge()
    before = modes(task.players.generator)
    with pytest.raises((Abandoned, TimeoutError)):
        measure(task, judge, task.players.generator, 1, deadline())
    assert modes(task.players.generator) == before
    assert task.players.generator.seen == [], "it asks before the first chunk"
    measure(task, judge, task.players.generator, 1, Deadline(60.0))
    assert modes(task.players.generator) == before
    assert task.players.generator.seen == [False] * 3


def test_an_evaluation_is_given_up_between_two_chunks_and_draws_no_more() -> None:
    task: Any = Task()
    judge: Any = Judge()
    generator = task.players.generator
    with pytest.raises(Abandoned):
        measure(task, judge, generator, 1, Deadline(60.0, lambda: len(generator.seen) == 2))
    assert len(generator.seen) == 2
    assert all(modes(generator)[:5])


def test_time_that_runs_out_in_the_measuring_itself_is_noticed() -> None:
    task: Any = Task()
    late = [False]

    class Slow(Judge):
        def measure(self, outputs: Iterator[Tensor]) -> Measured:
            found = super().measure(outputs)
            late[0] = True
            return found

    judge: Any = Slow()
    with pytest.raises(Abandoned):
        measure(task, judge, task.players.generator, 1, Deadline(60.0, lambda: late[0]))


@pytest.mark.parametrize("error", [None, TimeoutError, Abandoned, ZeroDivisionError])
def test_asking_the_discriminator_leaves_both_players_as_they_were(error: type[BaseException] | None) -> None:
    task: Any = Task()
    task.fails = error
    players = task.players
    before = [modes(player) for player in (players.generator, players.discriminator)]
    kept = [
        {k: v.clone() for k, v in player.state_dict().items()} for player in (players.generator, players.discriminator)
    ]
    drawn = torch.get_rng_state()
    if error is None:
        found = split_logits(task, players, 1, 2 * CHUNK)
        assert [len(part) for part in found] == [2 * CHUNK, 40, 2 * CHUNK]
    else:
        with pytest.raises(error):
            split_logits(task, players, 1, 2 * CHUNK)
    assert [modes(player) for player in (players.generator, players.discriminator)] == before
    for player, state in zip((players.generator, players.discriminator), kept, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in player.state_dict().items())
        assert set(player.seen) == {False}
    assert torch.equal(torch.get_rng_state(), drawn)


def test_chunks_cover_every_position_once() -> None:
    for num in (0, 1, CHUNK, CHUNK + 1, 3 * CHUNK):
        positions = [begin + index for begin, size in chunks(num) for index in range(size)]
        assert positions == list(range(num))
        assert all(0 < size <= CHUNK for _, size in chunks(num))
