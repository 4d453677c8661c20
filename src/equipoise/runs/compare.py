"""Runs side by side: what differs in their recipes, and their scores, each kept to its protocol."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from equipoise import formatting
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.scale import SURE
from equipoise.runs.status import Status, read_status
from equipoise.storage.records import Metric, Score, deciding

# What a protocol holds here besides its own fields.
MEASURES = "measures"  # the metrics by label
DATA = "data digest"
ENCODER = "another evaluation encoder"
OF_TEACHING = ("features_taught", "features_started_from")  # of an encoder
# What differs between protocols, in words, and the fields that say so.
WORDS = (
    ("other data, or another split of them", (DATA, "data_digest", "split")),
    ("another size or fit", ("size", "channels", "fit", "background", "scale")),
    (ENCODER, ("features", "features_digest", *OF_TEACHING)),
    ("a generator that learned from features like the judge's", ("features_flatter",)),
    ("another number of examples", ("num_real", "num_generated", "num_photographs", "neighbour_samples", "folds")),
    ("other metrics", (MEASURES, "decides", "neighbours")),
    ("another seed", ("seed",)),
)
REST = "other settings of the evaluation"


@dataclass(frozen=True)
class Entry:
    """One score of one run, with everything that must agree before it is compared."""

    run: str
    split: str  # "validation" for the best score, "test" for the final one
    score: Score
    metrics: tuple[Metric, ...]
    protocol: dict[str, Any]  # of the score, with the metrics and the digest of the data

    def belongs_to(self, group: "Sequence[Entry]") -> bool:
        """Return whether this score can be compared with those of a group."""
        return (self.split, self.protocol) == (group[0].split, group[0].protocol)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, each called by a name of its own."""

    names: tuple[str, ...]
    paths: tuple[str, ...]
    differences: dict[str, list[Any]]  # of the recipes: a field's value in every run, None where it has none
    settings: tuple[dict[str, Any], ...]  # of each recipe, with dotted paths as keys
    groups: tuple[tuple[Entry, ...], ...]  # only scores within one group may be compared
    without_score: tuple[str, ...]
    tested_before: tuple[Entry, ...] = ()  # tests at an earlier end, of runs that went on after it
    heir: Status | None = None  # a run that began with the weights of another one of these


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """Compare runs; raises UserError where one of their files is damaged."""
    states = [read_status(run) for run in runs]
    names = _names(runs)
    return Comparison(
        names=tuple(names),
        paths=tuple(str(run.path) for run in runs),
        differences=differences([state.settings for state in states]),
        settings=tuple(flattened(state.settings) for state in states),
        groups=_grouped(_entries(names, states)),
        without_score=tuple(name for name, state in zip(names, states, strict=True) if state.best is None),
        tested_before=_tested_before(names, states),
        heir=_heir(states),
    )


def _heir(states: Sequence[Status]) -> Status | None:
    """Return the last run that began with the weights of another one of these, None where none did."""
    paths = {str(state.path.resolve()) for state in states}
    return next((state for state in reversed(states) if state.start is not None and state.start.path in paths), None)


def compare_values(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values for `--json`."""
    rows = found.differences.items()
    return {
        "runs": [{"name": name, "path": path} for name, path in zip(found.names, found.paths, strict=True)],
        "differences": {field: dict(zip(found.names, values, strict=True)) for field, values in rows},
        "groups": [
            {
                "split": group[0].split,
                "protocol": group[0].protocol,
                "lowest": lowest.run if (lowest := clearly_lowest(group)) else None,
                "scores": {entry.run: entry.score for entry in group},
            }
            for group in found.groups
        ],
        "tested_before": {entry.run: entry.score for entry in found.tested_before},
    }


def flattened(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, with dotted paths as keys."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}.{key}".removeprefix("."))
    return flat


def differences(recipes: Sequence[Recipe | dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the dotted fields in which recipes differ, each with the value of every recipe in order.

    They may be given as plain values; what one does not have is None.
    """
    flats = [flattened(msgspec.to_builtins(recipe)) for recipe in recipes]
    fields = dict.fromkeys(field for flat in flats for field in flat)
    rows = {field: [flat.get(field) for flat in flats] for field in fields}
    return {field: row for field, row in rows.items() if any(value != row[0] for value in row)}


def protocol_differences(protocols: Sequence[dict[str, Any]]) -> list[str]:
    """Return the dotted fields in which protocols differ; the digest of the data only where they do not say it.

    Where the data differ, one encoder is taught by other shares of them: that makes it no other one.
    """
    fields = list(differences(protocols))
    if "data_digest" not in fields:
        return fields
    return [field for field in fields if field != DATA and field.partition(".")[0] not in OF_TEACHING]


def words_for(fields: Sequence[str]) -> list[str]:
    """Return in plain words what differs where protocols differ in these fields, the most telling first."""
    found = {_word_for(field) for field in fields}
    return [words for words, _ in WORDS if words in found] + [REST] * (REST in found)


def _word_for(field: str) -> str:
    top = field.partition(".")[0]
    return next((words for words, names in WORDS if top in names), REST)


def clearly_lowest(group: Sequence[Entry]) -> Entry | None:
    """Return the score below all others by more than twice the standard error of the difference, None if none is."""
    finite = [entry for entry in group if entry.score.is_finite]
    if len(finite) < 2:
        return None
    lowest = min(finite, key=lambda entry: entry.score.loss)
    others = [entry.score for entry in finite if entry is not lowest]
    if not all(_is_below(lowest.score, other) for other in others):
        return None
    return lowest


def known_metrics(group: Sequence[Entry]) -> list[Metric]:
    """Return the metrics of a group, without those that none of its scores has a value of."""
    return [
        metric
        for metric in group[0].metrics
        if metric.decides or any(math.isfinite(entry.score.value(metric.name)) for entry in group)
    ]


def headings(metrics: Sequence[Metric]) -> list[str]:
    """Return the headings above `score_cells`, the metric that decides first."""
    return [deciding(metrics).shown, *(metric.shown for metric in metrics if not metric.decides), "at samples"]


def score_cells(score: Score, metrics: Sequence[Metric]) -> list[str]:
    """Return what decides with its error, the other metrics, and the samples, as cells of a table."""
    others = [formatting.value(score.value(metric.name)) for metric in metrics if not metric.decides]
    return [formatting.score(score), *others, formatting.count(score.samples)]


def _is_below(score: Score, other: Score) -> bool:
    error = math.hypot(score.error, other.error)
    return error > 0 and other.loss - score.loss > SURE * error  # nobody knows how sure it is without one


def _entries(names: Sequence[str], states: Sequence[Status]) -> list[Entry]:
    entries = []
    for name, state in zip(names, states, strict=True):
        for split, score in (("validation", state.best), ("test", state.test)):
            if score is not None:
                entries.append(_entry(name, state, split, score))
    return entries


def _tested_before(names: Sequence[str], states: Sequence[Status]) -> tuple[Entry, ...]:
    """Return the tests of an earlier end, of the runs that have no other."""
    return tuple(
        _entry(name, state, "test", state.tested_before)
        for name, state in zip(names, states, strict=True)
        if state.test is None and state.tested_before is not None
    )


def _entry(name: str, state: Status, split: str, score: Score) -> Entry:
    shared: dict[str, Any] = {DATA: None, MEASURES: [metric.shown for metric in state.metrics]}
    if state.data is not None:
        shared[DATA] = state.data.digest
    return Entry(name, split, score, state.metrics, {**score.protocol, **shared})


def _grouped(entries: Sequence[Entry]) -> tuple[tuple[Entry, ...], ...]:
    groups: list[list[Entry]] = []
    for entry in entries:
        group = next((group for group in groups if entry.belongs_to(group)), None)
        if group is None:
            groups.append([entry])
        else:
            group.append(entry)
    return tuple(map(tuple, groups))


def _names(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) < len(names):
        return [str(run.path) for run in runs]
    return names
