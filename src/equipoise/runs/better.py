"""Which of several runs is better and how surely, in a sentence: by test scores of one protocol, over seeds."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from equipoise import formatting
from equipoise.errors import Command, typed
from equipoise.runs.compare import ENCODER, Comparison, Entry, protocol_differences, words_for
from equipoise.runs.folder import CUSTOM_LOOP
from equipoise.runs.held_out import num_together, taken_on
from equipoise.runs.scale import SURE
from equipoise.storage.records import deciding

# Two-sided 95 % points of Student's t with 1, 2, … degrees of freedom; beyond them SURE.
QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)

Kind = Literal["lower", "level", "not known"]


@dataclass(frozen=True)
class Side:
    """A run, or runs that differ in nothing but the seed, with their mean loss."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def loss(self) -> float:
        """The mean loss."""
        return statistics.fmean(entry.score.loss for entry in self.entries)

    @property
    def noise(self) -> float:
        """The variance of the mean that the tests' own standard errors imply; NaN where one is not known."""
        num = len(self.entries)
        return sum(entry.score.error**2 for entry in self.entries) / num**2

    @property
    def spread(self) -> float:
        """The variance of a run's loss over the seeds; NaN of one run."""
        if len(self.entries) < 2:
            return math.nan
        return statistics.variance(entry.score.loss for entry in self.entries)


@dataclass(frozen=True)
class Pair:
    """The lowest side against another one: by how much, its standard error, and from how many errors it counts."""

    lower: str
    higher: str
    difference: float  # not negative
    error: float
    limit: float
    over_seeds: bool

    @property
    def ratio(self) -> float:
        """The difference in standard errors; NaN where these are not known."""
        return self.difference / self.error if self.error > 0 else math.nan

    @property
    def kind(self) -> Kind:
        """Whether the difference is more than noise."""
        if not math.isfinite(self.ratio):
            return "not known"
        return "lower" if self.ratio > self.limit else "level"


@dataclass(frozen=True)
class Verdict:
    """What the scores of one protocol say of their runs."""

    split: str
    sentence: str
    best: str | None  # the side that is better than every other one beyond the noise
    pairs: tuple[Pair, ...]


def verdicts(found: Comparison) -> list[Verdict]:
    """Return a verdict for each protocol of the last scores, and at last one on what cannot be compared.

    Scores are those on the test split; of runs that have none, if none of them has, those on the validation split.
    """
    tested = [group for group in found.groups if group[0].split == "test"]
    groups = tested or list(found.groups)
    said = [_verdict(group, found) for group in groups if len(group) > 1]
    if text := _not_compared(found, groups):
        said.append(Verdict(groups[0][0].split if groups else "test", text, None, ()))
    return said


def verdict_values(said: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as plain values for `--json`."""
    return [
        {
            "split": verdict.split,
            "sentence": verdict.sentence,
            "best": verdict.best,
            "pairs": [
                {
                    **dataclasses.asdict(pair),
                    "ratio": pair.ratio,
                    "verdict": {"lower": "better", "level": "cannot be told apart"}.get(pair.kind, pair.kind),
                }
                for pair in verdict.pairs
            ],
        }
        for verdict in said
    ]


def sides_of(group: Sequence[Entry], found: Comparison) -> list[Side]:
    """Return the runs of a group, those together that differ in the seed alone, the lowest mean loss first."""
    settings = dict(zip(found.names, found.settings, strict=True))
    alike: dict[str, list[Entry]] = {}
    for entry in group:
        if entry.score.is_finite:
            others = {name: value for name, value in settings[entry.run].items() if name != "seed"}
            alike.setdefault(repr(sorted(others.items())), []).append(entry)
    sides = []
    for entries in alike.values():
        seeds = {settings[entry.run].get("seed") for entry in entries}
        if len(seeds) == len(entries):
            several = f" ({len(entries)} seeds)" if len(entries) > 1 else ""
            sides.append(Side(f"{entries[0].run}{several}", tuple(entries)))
        else:  # the same run twice is no second seed
            sides += [Side(entry.run, (entry,)) for entry in entries]
    return sorted(sides, key=lambda side: side.loss)


def paired(lowest: Side, other: Side) -> Pair:
    """Compare two sides: over their seeds where either has several, else by the standard errors of the tests."""
    names = {"lower": lowest.name, "higher": other.name, "difference": other.loss - lowest.loss}
    noise = lowest.noise + other.noise
    spreads = [side.spread for side in (lowest, other) if math.isfinite(side.spread)]
    if not spreads:
        return Pair(**names, error=math.sqrt(noise), limit=SURE, over_seeds=False)
    # Of one run alone the spread is taken to be that of the other side.
    parts = [
        (side.spread if math.isfinite(side.spread) else spreads[0]) / len(side.entries) for side in (lowest, other)
    ]
    degrees = [len(side.entries) - 1 for side in (lowest, other)]
    known = [part**2 / degree for part, degree in zip(parts, degrees, strict=True) if degree]
    total = sum(parts)
    free = total**2 / sum(known) if len(known) == 2 and sum(known) > 0 else max(degrees)  # Welch and Satterthwaite
    error = math.sqrt(max(total, noise) if math.isfinite(noise) else total)
    return Pair(**names, error=error, limit=_limit(free), over_seeds=True)


def _limit(degrees: float) -> float:
    place = math.floor(degrees) - 1
    return QUANTILES[place] if 0 <= place < len(QUANTILES) else SURE


def _verdict(group: Sequence[Entry], found: Comparison) -> Verdict:
    sides = sides_of(group, found)
    split = group[0].split
    if not sides:
        return Verdict(split, "No run has a finite score.", None, ())
    label = deciding(group[0].metrics).shown
    lowest, *others = sides
    pairs = tuple(paired(lowest, other) for other in others)
    if not pairs:
        text = f"{lowest.name}: {label} {_mean_text(lowest)}; there is nothing else to compare it with."
        return Verdict(split, f"{text} {_basis(group, sides, pairs)}".strip(), None, ())
    parts = [_said(pair, label) for pair in pairs]
    is_best = all(pair.kind == "lower" for pair in pairs)
    text = " ".join([*parts, *_limits_missed(group), _basis(group, sides, pairs)])
    return Verdict(split, text.strip(), lowest.name if is_best else None, pairs)


def _said(pair: Pair, label: str) -> str:
    gap = formatting.with_error(pair.difference, pair.error)
    match pair.kind:
        case "lower":
            return f"{pair.lower} is better than {pair.higher}: {label} lower by {gap} ({_ratio(pair)})."
        case "level":
            needed = f"{_ratio(pair)}; a difference counts beyond {pair.limit:g}"
            return f"{pair.lower} and {pair.higher} cannot be told apart: {label} differs by {gap} ({needed})."
        case _:
            return f"{pair.lower} scores lower than {pair.higher} by {gap} {label}; its error is not known."


def _ratio(pair: Pair) -> str:
    return f"{'t' if pair.over_seeds else 'z'} = {pair.ratio:.1f}"


def _mean_text(side: Side) -> str:
    error = math.sqrt(max(side.noise, side.spread / len(side.entries) if len(side.entries) > 1 else 0.0))
    return formatting.with_error(side.loss, error)


def _limits_missed(group: Sequence[Entry]) -> list[str]:
    return [f"{entry.run} misses a limit: {', '.join(entry.score.broken)}." for entry in group if entry.score.broken]


def _seeds(sides: Sequence[Side]) -> str:
    """Name the runs that are seeds of one another."""
    several = [side.entries for side in sides if len(side.entries) > 1]
    return "; ".join(_joined([entry.run for entry in entries]) for entries in several)


def _basis(group: Sequence[Entry], sides: Sequence[Side], pairs: Sequence[Pair]) -> str:
    """Say what the comparison rests on."""
    num = group[0].protocol.get("num_real")
    what = f"the same {num:,} examples" if isinstance(num, int) else "the same examples"
    are_together = num_together(group[0].protocol) > 0
    text = f"All were scored on {what}{'' if are_together else f' of the {group[0].split} split'}."
    if group[0].split == "test" and are_together:
        text += " They have chosen the generators, too, which is corrected for (cross-fitted)."
    elif group[0].split != "test":
        text += " By these scores the generators were chosen, so they look a little too good; a test is still to come."
    if any(pair.over_seeds for pair in pairs):
        return f"{text} The errors are those over the seeds: {_seeds(sides)}."
    if pairs:
        text += " This is of one run each; with another seed the order may be another."
    return text


def _not_compared(found: Comparison, groups: Sequence[Sequence[Entry]]) -> str:
    """Say which runs are in no comparison, and why."""
    parts = []
    if len(groups) > 1:
        differing = words_for(protocol_differences([group[0].protocol for group in groups]))
        named = "; ".join(_joined([entry.run for entry in group]) for group in groups)
        parts.append(f"Not comparable: {named}. They were scored on different terms: {'; '.join(differing)}.")
        if way_out := _way_out(found, differing):
            parts.append(way_out)
    scored = {entry.run for group in groups for entry in group}
    missing = [name for name in found.names if name not in scored]
    if missing:
        verb = "has" if len(missing) == 1 else "have"
        split = groups[0][0].split if groups else "test"
        parts.append(f"{_joined(missing)} {verb} no {'final score' if split == 'test' else 'score'} yet.")
    parts += [_said_before(entry) for entry in found.tested_before]
    return " ".join(parts)


def _said_before(entry: Entry) -> str:
    """Say how a run was tested at an earlier end."""
    score = f"{deciding(entry.metrics).shown} {formatting.score(entry.score)}"
    samples = formatting.count(entry.score.samples)
    where = taken_on(entry.score, "test")
    return f"{entry.run} scored {score} on {where} at {samples} samples, before its training went on."


def _way_out(found: Comparison, differing: Sequence[str]) -> str:
    """Say how runs can be compared all the same; empty where only Python knows their task."""
    if any(settings.get("task.kind") == "custom" for settings in found.settings):
        return ""
    is_custom = any(settings.get("name") == CUSTOM_LOOP for settings in found.settings)
    draws = all(settings.get("task.kind") != "super-resolution" for settings in found.settings)
    # A run is evaluated by its own encoder, a folder of samples by that of the real images.
    by_samples = is_custom or (ENCODER in differing and draws)
    target = "SAMPLES" if by_samples else "RUN"
    drawn = ", after drawing as many samples from each into a folder" if by_samples else ""
    if found.heir is not None and not by_samples:
        command = typed(Command("evaluate", target, against=found.heir.source, split="test"), in_shell=True)
        return (
            f"To compare them, evaluate each by what {found.heir.name} holds out, which trained none of them: {command}"
        )
    command = typed(Command("evaluate", target, against="SOURCE"), in_shell=True)
    return f"To compare them, evaluate each against the same data, which none of them was trained on{drawn}: {command}"


def _joined(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{names[0]}, {names[1]} and {len(names) - 2} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
