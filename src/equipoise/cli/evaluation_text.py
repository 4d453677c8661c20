"""What `equipoise evaluate` found, as text and as plain values."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from equipoise import formatting
from equipoise.cli.text import counted, labelled, setting
from equipoise.runs.quality import graded
from equipoise.runs.scale import scale_sentence
from equipoise.sizes import size_of
from equipoise.storage.records import Metric, Rivals, deciding

if TYPE_CHECKING:
    from equipoise.api import Evaluation
    from equipoise.tasks.sides import Side

INDENT = 12
MOST_SIZES = 3
MOST_REJECTED = 3
GRADED_DESPITE = ("not checked", "chosen")  # kinds of warnings
SHOWN_APART = ("generated", "real", "size", "channels", "fit", "background", "split", "num_real", "num_generated")


def evaluation_text(found: "Evaluation") -> str:
    """Return warnings, the metrics with their meanings, how the baselines compare, both sides, then the protocol."""
    lines: list[str] = []
    for warning in found.warnings:
        lines += [*labelled("Warning: ", warning.told(in_shell=True), 9), ""]
    rows = [(metric.shown, _value(found, metric), _meaning(metric)) for metric in _known(found)]
    names = max(len(name) for name, _, _ in rows)
    values = max(len(value) for _, value, _ in rows)
    leads = [f"{name:<{names}}  {value:<{values}}   " for name, value, _ in rows]
    lines += [line for lead, row in zip(leads, rows, strict=True) for line in labelled(lead, row[2], len(lead))]
    scale = scale_sentence(Rivals(scores=found.rivals), deciding(found.metrics))
    if scale:
        lines += ["", *labelled("Scale: ", scale, 7)]
    if quality := _quality(found):
        lines += ["", *labelled("Quality: ", quality, 9)]
    sides = list(_sides_lines(found))
    if sides:
        lines += ["", "Compared:", *sides]
    lines += ["", f"Protocol, with {found.measured.num:,} generated samples:"]
    apart = SHOWN_APART if sides else ()
    shown = {name: value for name, value in found.protocol.items() if name not in apart}
    width = max((len(name) for name in shown), default=0) + 2
    for name, value in shown.items():
        lines += [f"  {line}" for line in labelled(name.replace("_", " "), setting(value), width)]
    return "\n".join(lines)


def evaluation_values(found: "Evaluation") -> dict[str, Any]:
    """Return what was found as plain values for `--json`."""
    return {
        "metric": deciding(found.metrics).name,
        "loss": found.measured.loss,
        "error": found.measured.error,
        "values": found.measured.values,
        "num": found.measured.num,
        "warnings": [
            {"kind": warning.kind, "text": formatting.printable(warning.told(in_shell=True))}
            for warning in found.warnings
        ],
        "quality": _quality(found),
        "baselines": [msgspec.to_builtins(rival) for rival in found.rivals],
        "protocol": found.protocol,
    }


def _quality(found: "Evaluation") -> str:
    """Return the grade and what it rests on; empty without a scale, and why not where a warning makes it doubtful."""
    quality = graded(found.measured, deciding(found.metrics), found.rivals, 0, "")
    if quality is None:
        return ""
    despite = (*GRADED_DESPITE, "few") if found.is_own else GRADED_DESPITE  # as at the end of the training
    if any(warning.kind not in despite for warning in found.warnings):
        return "not graded, because of what is warned of above."
    return quality.sentence


def _sides_lines(found: "Evaluation") -> Iterator[str]:
    for name, side in (("generated", found.generated), ("real", found.real)):
        if side is not None:
            for label, text in ((name, _counts(side)), *(("", text) for text in _details(side))):
                yield from (f"  {line}" for line in labelled(label, text, INDENT))
    if size := found.protocol.get("size"):
        colours = formatting.colours_of(found.protocol.get("channels"))
        width, height = size_of(size)
        text = f"{width}×{height}, {colours}, fit: {found.protocol['fit']}"
        yield from (f"  {line}" for line in labelled("brought to", text, INDENT))


def _counts(side: "Side") -> str:
    """Say how many are compared, of how many, and by which split."""
    text = f"{side.num_compared:,}"
    if side.split == "all" and side.num_compared == side.num_used:
        text += ", all"
    elif side.split is not None:
        text += f" of {side.num_used:,}"
        if side.split == "held-out":
            text += ", held out"
        elif side.split != "all":
            text += f", {side.split} split"
    if side.num_seen:
        text += f", {side.num_seen:,} left out that the run has seen"
    if side.num_distinct is not None and side.num_distinct < side.num_compared:
        text += f", {side.num_distinct:,} different"
    if side.num_same:
        text += f", {side.num_same:,} also real ones"
    return f"{text}: {side.source}"


def _details(side: "Side") -> Iterator[str]:
    looks = []
    if side.sizes:
        looks.append(_listed({f"{width}×{height}": num for (width, height), num in side.sizes.items()}))
    if side.modes:
        looks.append(_listed(side.modes))
    if side.num_enlarged:
        looks.append(f"{side.num_enlarged:,} enlarged")
    if side.num_cropped:
        looks.append(f"{side.num_cropped:,} of another shape")
    if looks:
        yield "; ".join(looks)
    if side.rejected:
        reasons = [f"{item.name}: {item.reason}" for item in side.rejected]
        shown = formatting.first_few(reasons, MOST_REJECTED, "; ")
        yield f"{counted(len(side.rejected), 'file')} could not be used: {shown}"
    if side.num_passed_over:
        yield f"{counted(side.num_passed_over, 'file')} passed over, not images by name"
    yield from map(formatting.printable, side.notes)


def _listed(counts: Mapping[str, int]) -> str:
    """List what is most frequent, with its count where there are several."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    if len(ordered) == 1:
        return ordered[0][0]
    shown = [f"{name} ({num:,})" for name, num in ordered[:MOST_SIZES]]
    rest = len(ordered) - len(shown)
    return ", ".join([*shown, *([f"{rest:,} more"] if rest else [])])


def _known(found: "Evaluation") -> list[Metric]:
    """Return the metric that decides, then those that have a value."""
    others = [metric for metric in found.metrics if not metric.decides]
    known = [metric for metric in others if math.isfinite(found.measured.values.get(metric.name, math.nan))]
    return [deciding(found.metrics), *known]


def _value(found: "Evaluation", metric: Metric) -> str:
    text = formatting.value(found.measured.values.get(metric.name))
    if metric.decides:
        text = formatting.with_error(found.measured.loss, found.measured.error)
    return f"{text} {metric.unit}".rstrip()


def _meaning(metric: Metric) -> str:
    better = f"{metric.better} is better"
    if metric.decides:
        better += "; ± one standard error"
    return f"{metric.meaning}; {better}" if metric.meaning else better
