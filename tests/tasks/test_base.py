"""What all tasks share: parts of a split, chunks, modes of networks, logits by split, and what a model need not say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equipoise.data.splits import Splits
from equipoise.errors import UserError
from equipoise.game.updates import Players
from equipoise.randomness import Randomness
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import (
    CHUNK,
    MIN_HALF,
    Examples,
    Model,
    chunks,
    digest_with,
    evaluating,
    halves,
    judged,
    num_outputs,
    split_logits,
)


@pytest.mark.parametrize("num", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_chunks_cover_every_position_once(num: int) -> None:
    positions = [place for begin, size in chunks(num) for place in range(begin, begin + size)]
    assert positions == list(range(num))
    assert all(0 < size <= CHUNK for _, size in chunks(num))


def test_a_validation_split_is_cut_in_halves_that_are_large_enough() -> None:
    for num, cut in ((0, 0), (2 * MIN_HALF - 1, 2 * MIN_HALF - 1), (2 * MIN_HALF, MIN_HALF), (101, 50)):
        assert halves(num) == cut
    validation = np.arange(101)
    test = np.arange(200, 220)
    first, second = (judged(split, validation, test) for split in ("validation", "validation, second half"))
    assert [*first, *second] == list(validation)
    assert (len(first), len(second)) == (50, 51)
    assert judged("test", validation, test) is test
    few = torch.arange(30)
    assert torch.equal(judged("validation", few, few), few)
    assert not len(judged("validation, second half", few, few))


def test_a_digest_knows_content_and_splits() -> None:
    def digest(content: bytes, *parts: list[int]) -> str:
        return digest_with(content, Splits(*map(np.array, parts)))

    found = {
        digest(b"abc", [0, 1], [2], [3]),
        digest(b"abd", [0, 1], [2], [3]),
        digest(b"abc", [0], [1, 2], [3]),
        digest(b"abc", [0, 1, 2], [3], []),
        digest(b"abc", [1, 0], [2], [3]),
    }
    assert len(found) == 5
    assert digest(b"abc", [0, 1], [2], [3]) in found


def test_the_number_of_outputs_is_known_of_what_a_task_may_return() -> None:
    assert num_outputs(torch.zeros(3, 2)) == 3
    assert num_outputs((torch.zeros(3, 2), torch.zeros(3))) == 3
    assert num_outputs([torch.zeros(3), torch.zeros(4)]) == 2
    assert num_outputs([]) == 0
    for other in ((), None, "abc", np.zeros(3), {"a": torch.zeros(3)}):
        assert num_outputs(other) is None


def test_every_part_goes_back_to_the_mode_it_was_in() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout()))
    network[1].eval()

    def modes() -> list[bool]:
        return [part.training for part in network.modules()]

    before = modes()
    with evaluating(network):
        assert not any(modes())
    assert modes() == before
    with pytest.raises(ZeroDivisionError), evaluating(network):
        raise ZeroDivisionError
    assert modes() == before


class Counting:
    """A task whose examples are their positions, shifted by their split, and whose outputs count down."""

    chunk = CHUNK

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    def describe(self) -> DataRecord:
        """Describe 600 training and 40 validation examples."""
        return DataRecord(source="numbers", digest="d", num_train=600, num_validation=40, num_test=0)

    def examples(self, split: str, begin: int, size: int) -> Examples:
        """Return positions."""
        self.asked.append((split, begin, size))
        start = {"train": 0, "validation": 10_000}[split] + begin
        places = torch.arange(start, start + size).float()
        return Examples(places, places)

    def outputs(self, generator: nn.Module, randomness: Randomness, split: str, begin: int, size: int) -> Tensor:
        """Return negative positions."""
        assert not generator.training
        assert split == "train"
        assert randomness == Randomness(7, begin)
        return -torch.arange(begin, begin + size).float()

    def logits(self, discriminator: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return outputs, each of which belongs to its input."""
        assert not discriminator.training
        assert torch.equal(inputs, outputs.abs())
        return outputs.double()


def test_the_discriminator_is_asked_about_both_splits_and_about_generated_outputs() -> None:
    task: Any = Counting()
    players = Players(nn.Dropout(), nn.Dropout())
    found = split_logits(task, players, 7, 500)
    assert found.train.tolist() == list(range(500))
    assert found.validation.tolist() == list(range(10_000, 10_040)), "there are no more of them"
    assert found.generated.tolist() == [-place for place in range(500)]
    assert found.train.dtype == torch.float32
    assert task.asked == [("train", 0, CHUNK), ("train", CHUNK, CHUNK), ("validation", 0, 40)]
    assert players.generator.training


class Drawing(Model):
    """A model that says what it must and no more."""

    def network(self) -> nn.Module:
        """Return nothing of use."""
        return nn.Identity()

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> Any:
        """Return nothing."""
        return iter([])


@pytest.mark.parametrize(
    "attempt",
    [
        lambda model, path: model.applied(nn.Identity(), path),
        lambda model, path: model.write([], path),
        lambda model, path: model.write_applied([], path),
    ],
)
def test_a_model_need_not_say_how_it_reads_and_writes(tmp_path: Path, attempt: Callable[..., Any]) -> None:
    with pytest.raises(UserError) as error:
        attempt(Drawing(), tmp_path)
    assert error.value.subject == tmp_path
    assert error.value.remedies
