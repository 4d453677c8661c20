"""What is learned: the contract between a task and everything else.

The loop, the evaluation, the report and the command line know nothing of images. A task hands them two networks,
batches at a position, named loss terms, a judge, rivals that give its score a scale, and exhibits for the report.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, assert_never, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.splits import JudgedSplit as JudgedSplit
from equipoise.data.splits import Split as Split
from equipoise.data.splits import Splits
from equipoise.errors import Command, UserError
from equipoise.game.terms import StepContext as StepContext
from equipoise.game.updates import Players as Players
from equipoise.game.updates import Terms as Terms
from equipoise.metrics.units import Measured as Measured
from equipoise.randomness import Randomness
from equipoise.storage.records import DataRecord, ExhibitKind, Metric, Role

MIN_HALF = 20  # examples that each half of the validation split must have, or it stays whole
CHUNK = 250  # outputs drawn at once
SEEDS: dict[JudgedSplit, int] = {"validation": 0, "validation, second half": 2, "test": 1}  # of each split's judge

Part = TypeVar("Part", Tensor, np.ndarray)


class Examples(NamedTuple):
    """Real examples: what the generator is given, if anything, and what its output stands beside; item by item."""

    inputs: Any
    targets: Any


@dataclass(frozen=True)
class Rival:
    """Something trivial, classical or real that is judged as if it were a generator; it gives the score its scale.

    Args:
        name: a word or two, as in "lower than bicubic".
        role: "floor" (a trivial method), "rival" (the classical method) or "ceiling" (real against real).
        outputs: from (split, begin, size) to outputs at these positions.
        num: how many outputs it can give; None for as many as the judge takes.
    """

    name: str
    role: Role
    outputs: Callable[[Split, int, int], Any]
    num: int | None = None


@dataclass(frozen=True)
class Exhibit:
    """Something to show in the report: its content as the bytes of a file; exhibits of one title stand together.

    Args:
        kind: "picture" (PNG), "sound" (WAV), "animation" (GIF or WebP), or, as JSON, "series", "rows" and "lines".
        name: the file's name without its suffix.
        title: the heading of its section in the report.
        content: the bytes; see `equipoise.tasks.exhibits` for functions that make them.
        caption: a sentence below it.
        intro: a sentence above the first one of its section.
    """

    kind: ExhibitKind
    name: str
    title: str
    content: bytes
    caption: str = ""
    intro: str = ""


class Judge(Protocol):
    """Turns outputs into a measurement under a protocol; see `metrics` for judges that are there."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it finds; one of them decides."""
        ...

    @property
    def protocol(self) -> dict[str, Any]:
        """What two scores must share to be compared, as plain JSON values."""
        ...

    @property
    def split(self) -> JudgedSplit:
        """The split whose real examples it compares with, and at whose positions outputs are asked for."""
        ...

    @property
    def num(self) -> int:
        """How many outputs it takes."""
        ...

    @property
    def seed(self) -> int:
        """The seed of the inputs that are drawn."""
        ...

    def sized(self, num: int) -> "Judge":
        """Return the same judge for another number of outputs, where a rival has fewer."""
        ...

    def measure(self, outputs: Iterable[Any]) -> Measured:
        """Measure outputs in batches, in the order of their positions."""
        ...


class Evaluated(Protocol):
    """What an evaluation asks for, of a task as of a loop that Equipoise did not write."""

    def outputs(self, generator: Any, randomness: Randomness, split: Split, begin: int, size: int) -> Any:
        """Return a generator's outputs at positions `begin` to `begin + size` of a split.

        `randomness` is of this position, so latents are drawn from it as in a step. Returned is a tensor `[size, …]`,
        a tuple of such tensors, or, where outputs differ in shape, a list of them.
        """
        ...

    @property
    def chunk(self) -> int:
        """How many outputs are drawn at once, few where they are large; an evaluation can be given up between them."""
        return CHUNK

    def judge(self, split: JudgedSplit) -> Judge | None:
        """Return the judge by a split, None where the split is too small for one."""
        ...

    def rivals(self) -> Sequence[Rival]:
        """Return the floor, the classical rivals and the ceiling; none, unless a task says which."""
        return ()

    def snapshot(self, generator: Any) -> Exhibit:
        """Return a picture of the same few outputs each time, to see how they develop."""
        ...

    def exhibits(self, generator: Any) -> list[Exhibit]:
        """Return what the report shall show of the best generator."""
        ...


class Model(Protocol):
    """What can be done with a finished generator, without the data it was trained on.

    A class that has this one as its base needs `network` and `samples` only; the command line alone asks for more.
    """

    def network(self) -> nn.Module:
        """Build the generator; its weights are read afterwards."""
        ...

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> Iterator[Any]:
        """Yield `num` outputs in batches, the same for the same seed; raises UserError where inputs are needed."""
        ...

    def applied(self, generator: nn.Module, source: Path) -> Iterator[tuple[str, Any]]:
        """Yield (name, output) for each input in a file or folder; raises UserError where the generator takes none."""
        raise UserError(source, "this run's generator takes no input; it draws by itself", Command("sample", "RUN"))

    def write(self, batches: Iterable[Any], out: Path) -> str:
        """Write samples as a file or a folder, as `out` says; return what was written, in words. Raises UserError."""
        raise UserError(out, "this task does not say how its outputs are written", "In Python: run.best.sample(64)")

    def write_applied(self, outputs: Iterable[tuple[str, Any]], out: Path) -> str:
        """Write what `applied` yields; return what was written, in words. Raises UserError."""
        raise UserError(out, "this task does not say how its outputs are written", "In Python: run.best.apply(path)")


class Task(Evaluated, Protocol):
    """Everything that belongs to images, points or sound lives behind this."""

    def describe(self) -> DataRecord:
        """Return what a run writes down of the data, and all that `model` needs of them."""
        ...

    def players(self) -> Players:
        """Build both networks, of which every parameter is trained; weights come from the global generator, seeded."""
        ...

    def batch(self, randomness: Randomness, num: int) -> Any:
        """Return `num` real training samples: a function of the position alone."""
        ...

    def discriminator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Return what the discriminator minimises on this batch, per sample `[N]`, and stats of its logits."""
        ...

    def generator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Return what the generator minimises on this batch, per sample `[N]`."""
        ...

    def examples(self, split: Split, begin: int, size: int) -> Examples:
        """Return the real examples at positions `begin` to `begin + size` of a split, always the same ones."""
        ...

    def logits(self, discriminator: nn.Module, inputs: Any, outputs: Any) -> Tensor:
        """Return the discriminator's logits `[N]` of outputs, real or generated, that belong to these inputs.

        One that judges packs of samples (`game.packing`) has a logit for each pack in a row.
        """
        ...

    def model(self) -> Model:
        """Return what can be done with the generator without the data."""
        ...


class SourceTask(Task, Protocol):
    """A task of a source, of which any examples can be compared with; an own task from Python has its own splits."""

    def judging(self, indices: np.ndarray) -> "SourceTask":
        """Return this task with these examples of the source as its test split, all of them."""
        ...

    def halved(self) -> "SourceTask | None":
        """Return this task with one half of its test split to learn from and the other to test by; None of too few."""
        ...


@runtime_checkable
class Augmented(Protocol):
    """A task whose discriminator sees augmented samples, so that the generator may come to make such."""

    def augmentation_leak(self, generator: Any, randomness: Randomness, more: float) -> float:
        """Return by how many standard errors outputs are farther from augmented real samples than from real ones.

        Below 0 they resemble augmented ones more. `more` is what remedies have added to the probability; NaN where
        hardly anything is augmented.
        """
        ...


class SplitLogits(NamedTuple):
    """A discriminator's logits `[N]` of samples it trains on, of others, and of generated ones."""

    train: Tensor
    validation: Tensor
    generated: Tensor


@torch.no_grad()
def split_logits(task: Task, players: Players, seed: int, num: int) -> SplitLogits:
    """Ask the discriminator about the first `num` examples of two splits, and about generated ones, chunk by chunk."""
    data = task.describe()
    found: dict[str, list[Tensor]] = {"train": [], "validation": [], "generated": []}
    with evaluating(players.generator), evaluating(players.discriminator):
        of_splits: tuple[tuple[Split, int], ...] = (("train", data.num_train), ("validation", data.num_validation))
        for split, available in of_splits:
            for begin, size in chunks(min(num, available), task.chunk):
                inputs, targets = task.examples(split, begin, size)
                found[split].append(task.logits(players.discriminator, inputs, targets))
                if split == "train":
                    outputs = task.outputs(players.generator, Randomness(seed, begin), split, begin, size)
                    found["generated"].append(task.logits(players.discriminator, inputs, outputs))
    return SplitLogits(*(torch.cat(parts).float().cpu() for parts in found.values()))


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, so that running statistics do not see what passes, and back to each part's own."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def chunks(num: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Yield (begin, size) of the chunks in which `num` outputs are drawn."""
    for begin in range(0, num, size):
        yield begin, min(size, num - begin)


def num_outputs(outputs: Any) -> int | None:
    """Return how many outputs there are in a tensor `[size, …]`, a tuple of such tensors, or a list of outputs.

    None for anything else.
    """
    first = outputs
    if isinstance(outputs, tuple) and outputs:
        first = outputs[0]
    return len(first) if isinstance(first, Tensor | list) else None


def digest_with(content: bytes, splits: Splits) -> str:
    """Return the SHA-256 of examples with their splits: of others, scores are not comparable."""
    found = hashlib.sha256(content)
    for indices in (splits.train, splits.validation, splits.test):
        found.update(f"{len(indices)} ".encode())
        found.update(indices.astype("<i8").tobytes())
    return found.hexdigest()


def indices_of(splits: Splits, split: Split) -> np.ndarray:
    """Return the indices of a split's examples, in its random and fixed order."""
    match split:
        case "train":
            return splits.train
        case "validation":
            return splits.validation
        case "validation, second half" | "test":
            return judged(split, splits.validation, splits.test)
        case _ as unreachable:
            assert_never(unreachable)


def judged(split: JudgedSplit, validation: Part, test: Part) -> Part:
    """Return what a split judges by, out of the validation and the test examples; see `halves`."""
    cut = halves(len(validation))
    match split:
        case "validation":
            return validation[:cut]
        case "validation, second half":
            return validation[cut:]
        case "test":
            return test
        case _ as unreachable:
            assert_never(unreachable)


def halves(num: int) -> int:
    """Return where the validation split is cut: its first half judges the training, the second the candidates.

    The first is all of it where the halves would have fewer than 20 examples each. A split's order is random and
    fixed, so both halves are random samples.
    """
    half = num // 2
    return half if half >= MIN_HALF else num
