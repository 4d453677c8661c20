"""What `equipoise evaluate` found, as text and as plain values."""

import math
from typing import TYPE_CHECKING, Any

import msgspec

from equipoise import formatting
from equipoise.cli.text import labelled, setting
from equipoise.runs.scale import scale_sentence
from equipoise.storage.records import Metric, Rivals, deciding

if TYPE_CHECKING:
    from equipoise.api import Evaluation


def evaluation_text(found: "Evaluation") -> str:
    """Return the metrics with their meanings, how the baselines compare, then the protocol."""
    rows = [(metric.shown, _value(found, metric), _meaning(metric)) for metric in _known(found)]
    names = max(len(name) for name, _, _ in rows)
    values = max(len(value) for _, value, _ in rows)
    leads = [f"{name:<{names}}  {value:<{values}}   " for name, value, _ in rows]
    lines = [line for lead, row in zip(leads, rows, strict=True) for line in labelled(lead, row[2], len(lead))]
    scale = scale_sentence(Rivals(scores=found.rivals), deciding(found.metrics))
    if scale:
        lines += ["", *labelled("Scale: ", scale, 7)]
    lines += ["", f"Protocol, with {found.measured.num:,} generated samples:"]
    width = max((len(name) for name in found.protocol), default=0) + 2
    for name, value in found.protocol.items():
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
        "baselines": [msgspec.to_builtins(rival) for rival in found.rivals],
        "protocol": found.protocol,
    }


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
