"""The two players as charts, and the forecasts of their game; how to read each of them stands in the template."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from equipoise.report.charts import TONES, Level, Line, line_of
from equipoise.report.values import FLAT, Chart, Known, drawn
from equipoise.runs.stopping_status import forecasts
from equipoise.storage.records import StepStats

SHARE = {"bounds": (0.0, 1.02)}
ACCURACY = ("accuracy", "Discriminator accuracy", {"accuracy": "accuracy"}, SHARE | {"levels": (Level(0.5),)})
PROBABILITIES = {"generated": "fake_probability", "real": "real_probability"}
LOGITS = {"generated": "fake_logit", "real": "real_logit"}
LOSSES = {"generator": "generator_loss", "discriminator": "discriminator_loss"}
GRADIENTS = {"generator": "generator_gradient", "discriminator": "discriminator_gradient"}
STEPS = {"generator": "step/generator", "discriminator": "step/discriminator"}
VARIETY = {"distance to the nearest": "nearest", "deviation": "spread"}


def game_charts(steps: Sequence[StepStats]) -> tuple[Chart, ...]:
    """Return a chart of every number of the game that is known at two places."""
    belief = ("logits", "What the discriminator answers", LOGITS, {})
    if any(math.isfinite(stats.fake_probability) for stats in steps):
        belief = ("probabilities", "What the discriminator believes", PROBABILITIES, SHARE)
    speeds = [stats.samples_per_second for stats in steps if math.isfinite(stats.samples_per_second)]
    speed = {"bounds": (0.0, 1.15 * max(speeds, default=0.0) or 1.0)}
    charts = [
        _of_fields(steps, *ACCURACY),
        _of_fields(steps, *belief),
        _of_fields(steps, "losses", "Losses", LOSSES, {}),
        _terms("generator", steps),
        _terms("discriminator", steps),
        _of_fields(steps, "gradients", "Gradient norms", GRADIENTS, {"log": True}),
        _of_signals(steps, "steps", "Step, relative to the weights", STEPS, {"log": True}),
        _of_signals(
            steps,
            "variety",
            "Variety of a generated batch",
            VARIETY,
            {"levels": (Level(1.0),), "bounds": upwards(steps, VARIETY)},
        ),
        _of_fields(steps, "penalty", "Penalty", {"penalty": "penalty"}, {}, varies=True),
        _of_fields(steps, "rate", "Learning rate", {"rate": "generator_rate"}, {}, varies=True),
        _of_fields(steps, "speed", "Speed", {"samples/s": "samples_per_second"}, speed),
    ]
    return tuple(chart for chart in charts if chart is not None)


def upwards(steps: Sequence[StepStats], signals: dict[str, str]) -> tuple[float, float]:
    """Return an axis from 0 to above 1 and all values of some signals: what is little noise shall not look large."""
    found = [stats.signals.get(name, math.nan) for stats in steps for name in signals.values()]
    return 0.0, 1.15 * max([1.0, *filter(math.isfinite, found)])


def forecast_chart(known: Known) -> Chart | None:
    """Return the chart of what 25 % more training was predicted to bring, in per cent, and the minimum as a level."""
    found = forecasts(known.run, known.now.recipe)
    minimum = 100 * known.now.recipe.stopping.evidence.min_gain
    gains = [100 * forecast.gain for forecast in found]
    line = line_of("forecast", [forecast.samples for forecast in found], gains)
    title = "What more training was predicted to bring"
    levels = [Level(minimum, f"minimum {minimum:g} %")]
    return drawn("forecast", title, [line], sizes=FLAT, bounds=(0.0, 1.1 * max([minimum, *gains])), levels=levels)


def _of_fields(
    steps: Sequence[StepStats],
    name: str,
    title: str,
    fields: dict[str, str],
    options: dict[str, Any],
    *,
    varies: bool = False,
) -> Chart | None:
    """Return a chart of fields by the labels of their lines; of `varies`, none where it is always the same."""
    values = {label: [getattr(stats, field) for stats in steps] for label, field in fields.items()}
    lines = _lines(steps, values.items())
    if varies and len({point.y for line in lines for point in line.points}) < 2:
        return None
    return drawn(name, title, lines, **options)


def _of_signals(
    steps: Sequence[StepStats], name: str, title: str, signals: dict[str, str], options: dict[str, Any]
) -> Chart | None:
    """Return a chart of signals by the labels of their lines, None where no line has one of them."""
    if not any(signal in stats.signals for stats in steps for signal in signals.values()):
        return None
    values = {label: [stats.signals.get(name, math.nan) for stats in steps] for label, name in signals.items()}
    return drawn(name, title, _lines(steps, values.items()), **options)


def _terms(player: str, steps: Sequence[StepStats]) -> Chart | None:
    """Return a chart of a player's loss terms, where it has more than one."""
    names = sorted({name for stats in steps for name in stats.terms if name.startswith(f"{player}_")})
    if len(names) < 2:
        return None
    values = [[stats.terms.get(name, math.nan) for stats in steps] for name in names]
    labels = [name.removeprefix(f"{player}_") for name in names]
    lines = _lines(steps, zip(labels, values, strict=True))
    return drawn(f"{player}-terms", f"Loss terms, {player}", lines, log=True)


def _lines(steps: Sequence[StepStats], values: Iterable[tuple[str, list[float]]]) -> list[Line]:
    xs = [stats.samples for stats in steps]
    return [line_of(label, xs, ys, tone=tone) for (label, ys), tone in zip(values, TONES, strict=False)]
