"""Which real examples an evaluation compares with, what is refused as too few, and what few ones leave unsure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np

from equipoise.errors import Option, Part, UserError, suggested
from equipoise.evaluation.rivals import compared_with, judge_rivals
from equipoise.formatting import value
from equipoise.host.deadline import Deadline
from equipoise.metrics.units import Measured
from equipoise.storage.records import Metric, RivalScore, deciding
from equipoise.tasks import Source
from equipoise.tasks.base import Judge, SourceTask, indices_of
from equipoise.tasks.sides import Caution

SplitName: TypeAlias = Literal["test", "validation", "train"]
ALL: Literal["all"] = "all"
HELD_OUT: Literal["held-out"] = "held-out"  # the validation and the test split together
Among: TypeAlias = SplitName | Literal["all", "held-out"]
FEW = 200  # examples of a side below which it is said what a score does not tell
BY_NEIGHBOURS = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True, eq=False)
class Trained:
    """What is known of the examples that a run was trained on or chosen by."""

    digest: str
    hashes: np.ndarray | None  # of their contents; None where they cannot be found any more
    is_same_place: bool  # whether they lay where the real examples are now
    chose_by_all: bool = False  # whether all held-out ones chose its best generator, the test split too


@dataclass(frozen=True, eq=False)
class Chosen:
    """The real examples to compare with: which split, their places in its order, and how many a run had seen."""

    split: str
    indices: np.ndarray
    num_seen: int = 0
    is_own: bool = False  # the very data that the run was trained on
    cautions: tuple[Caution, ...] = ()


def checked_split(split: str | None) -> None:
    """Raise UserError for a split that there is not."""
    allowed = get_args(SplitName)
    if split is not None and split not in allowed:
        problem = f"allowed are {', '.join(allowed)}; without it, all examples are used"
        raise UserError(Option("split", split), problem, *suggested(split, allowed))


def choose(source: Source, split: SplitName | None, trained: Trained | None, noun: str) -> Chosen:
    """Choose among a source's examples; a run is never compared with what it has seen, unless that is asked for.

    Without a split it is all of them; of a run's own data the test split; of other data all that it has not seen. Where
    a run has few examples, all held-out ones have chosen its best generator, and all of them are taken.
    """
    if trained is None:
        name = split or ALL
        return Chosen(name, _indices(source, name))
    if source.digest == trained.digest:
        name = split or (HELD_OUT if trained.chose_by_all else "test")
        cautions = of_own(name, noun, trained.chose_by_all)
        return Chosen(name, _indices(source, name), is_own=True, cautions=cautions)
    name = split or ALL
    if trained.hashes is None and split is None and trained.is_same_place:
        name = "test"
    indices = _indices(source, name)
    if trained.hashes is None:
        return Chosen(name, indices, cautions=_not_checked(name, len(indices), split, noun, trained.chose_by_all))
    is_seen = np.isin(source.hashes[indices], trained.hashes)
    num_seen = int(is_seen.sum())
    return Chosen(name, indices[~is_seen], num_seen, cautions=_of_seen(num_seen, len(indices), noun))


def _indices(source: Source, name: Among) -> np.ndarray:
    """Return the places of a split's examples, or of all, in a random and fixed order, as many as are compared."""
    most = source.most_compared(name)
    if name == ALL:
        return np.argsort(source.hashes, kind="stable")[:most]
    if name == HELD_OUT:
        return np.concatenate([source.splits.validation, source.splits.test])
    return indices_of(source.splits, name)[:most]


def of_own(name: Among, noun: str, chose_by_all: bool) -> tuple[Caution, ...]:
    """Say what a run's own examples have done for it before they score it: they trained it, or chose it."""
    if name == "train":
        problem = f"The run was trained on these {noun}: a generator that copies them scores best"
    elif name == "validation" or chose_by_all:
        problem = f"The best generator was chosen by these {noun}: its score looks better than it is"
    else:
        return ()
    if chose_by_all and name != "train":
        remedy = f"The run's own final score is corrected for that; {noun} that it has not seen need no correction"
        return (Caution("seen", problem, remedy),)
    return (Caution("seen", problem, "Leave the split out" if chose_by_all else Option("split", "test")),)


def chosen_by(metric: Metric, amount: float, noun: str) -> tuple[Caution, ...]:
    """Say that the real examples chose the generator that they score, and by how much that was corrected."""
    problem = (
        f"The best generator was chosen by these {noun}: as at the end of its training, {value(amount)} is added to "
        f"{metric.shown} for that (cross-fitting)"
    )
    return (Caution("chosen", problem, f"{noun.capitalize()} that the run has not seen need no correction"),)


def _of_seen(num_seen: int, num: int, noun: str) -> tuple[Caution, ...]:
    if not num_seen:
        return ()
    problem = (
        f"{num_seen:,} of the {num:,} real {noun} are left out: the run was trained on them or its best generator was "
        "chosen by them, so it would be compared with what it has seen"
    )
    return (Caution("seen", problem, f"Give other {noun} if more are needed"),)


def _not_checked(name: str, num: int, split: str | None, noun: str, chose_by_all: bool) -> tuple[Caution, ...]:
    found = f"Whether the run was trained on some of these {noun} cannot be checked: its own are not found any more"
    if split == "test" and not chose_by_all:
        return ()
    if name == "test":
        remedy = "Put the run's data back to compare with all that it has not seen"
        known = "of which it has seen none"
        if chose_by_all:
            known = "which it was not trained on, but some may have chosen its best generator"
        problem = f"{found}. Only the test split ({num:,}) is used, {known}"
        return (Caution("not checked", problem, remedy),)
    return (Caution("not checked", found, "The test split holds none that it has seen", Option("split", "test")),)


def refuse_few(
    chosen: Chosen, num_generated: int, least: int, target: Part, against: str, noun: str, hints: Sequence[str]
) -> None:
    """Raise UserError where a side has fewer examples than can be scored, with what is missing on both."""
    num_real = len(chosen.indices)
    if min(num_real, num_generated) >= least:
        return
    split = "" if chosen.split == ALL else f" of the {chosen.split} split"
    seen = f", {chosen.num_seen} that the run has seen left out" if chosen.num_seen else ""
    problem = (
        f"{num_generated} generated and {num_real} real {noun}{split}{seen}; at least {least} of each are needed, as a "
        f"score goes by {least - 1} neighbours"
    )
    subject: Part = target if num_generated < least else Option("against", against)
    lacking = [
        f"{least - num} more {what}" for num, what in ((num_generated, "generated"), (num_real, "real")) if num < least
    ]
    remedies = [hint for hint in hints if hint] or [f"Give at least {' and '.join(lacking)} {noun}"]
    if chosen.split != ALL and not chosen.is_own and num_real < least:
        remedies.append("Without a split all are used")
    raise UserError(subject, problem, *remedies)


def baselines(
    made: SourceTask, judge: Judge, measured: Measured, real: Chosen, on_failure: Callable[[str], None]
) -> tuple[RivalScore, ...]:
    """Score a task's baselines; what they learn from, or are, is never among the real examples that they meet.

    Of a test or a validation split they learn from the training split. Where that is compared with, one random half of
    the real examples teaches them and the other tests them: KID and MMD do not depend on how many there are, the other
    metrics do and are left out.
    """
    if real.split in ("test", "validation", HELD_OUT):
        task = made.judging(real.indices)
        found = compared_with(judge_rivals(task.rivals(), judge, Deadline(math.inf), on_failure, task.chunk), measured)
        return found.scores
    task = made.judging(real.indices).halved()
    if task is None:
        return ()
    of_half = task.judge("test")
    assert of_half is not None
    of_half = of_half.sized(measured.num)
    found = compared_with(judge_rivals(task.rivals(), of_half, Deadline(math.inf), on_failure, task.chunk), measured)
    if of_half.protocol.get("num_real") == judge.protocol.get("num_real"):
        return found.scores
    return tuple(msgspec.structs.replace(score, values={}) for score in found.scores)


def few_cautions(
    measured: Measured,
    metrics: tuple[Metric, ...],
    protocol: dict[str, Any],
    dimension: int,
    noun: str,
    num_left: int = 0,
    *,
    is_own: bool = False,
) -> list[Caution]:
    """Say what so few examples leave unsure: the score, what goes by neighbours, and FID.

    `num_left` real ones more would be compared without the split that was asked for. `is_own`: they are held out
    of a run's own data, and there are no others that it has not seen.
    """
    neighbours = protocol.get("neighbours")
    if neighbours is None:
        return []
    num_real = protocol["num_real"]
    num = min(num_real, measured.num)
    parts = []
    least = 0  # of a side, for none of these parts to be said
    if num < FEW:
        least = FEW
        name = deciding(metrics).shown
        parts.append(
            f"a difference in {name} below {value(2 * measured.error)}, twice its standard error, may be chance"
        )
        shares = [metric.name for metric in metrics if metric.name in BY_NEIGHBOURS]
        if shares:
            joined = f"{', '.join(shares[:-1])} and {shares[-1]}" if len(shares) > 1 else shares[0]
            share = f"{100 * neighbours / num:.0f} %"
            parts.append(f"{joined} go by {neighbours} neighbours, here {share} of a side, and are rough")
    if num <= dimension and any(metric.name == "fid" for metric in metrics):
        least = max(least, dimension + 1)
        parts.append(f"FID is far too high, as its {dimension:,} features need more {noun} than that")
    if not parts:
        return []
    few = {name: num for name, num in (("generated", measured.num), ("real", num_real)) if num < least}
    sides = " and ".join(f"{num:,} {name}" for name, num in few.items())
    remedies = []
    if num_left and "real" in few:
        unless = f", unless they have trained the generator of these {noun}"
        remedies.append(f"Leave the split out, which compares with {num_left:,} more real {noun}{unless}")
        del few["real"]
    if is_own and "real" in few:
        remedies.append(
            f"They are all {noun} of its data that the run was not trained on; give others, if there are any"
        )
        del few["real"]
    if few:
        remedies.append(f"Give at least {least:,} {' and as many '.join(few)} {noun}, if there are more")
    return [Caution("few", f"{sides} {noun} are few: {'; '.join(parts)}", *remedies)]
