"""Where the stopping stands, from a run's folder alone: its log goes once more through the referee of its policy."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from equipoise.health.stats import ScoreLine, comparable, score_from, stats_from, whole_of
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.storage.logs import MOST_SCORES, last_records, last_scores

NUM_STEPS = 256  # logging intervals, the last ones: more than any policy remembers
MOST_FORECASTS = 500  # each takes as long as there are scores, and a chart shows hardly more
FEWEST_LOOKS = 5  # scores from which forecasts are worth drawing


@dataclass(frozen=True)
class Forecast:
    """What a quarter more training was forecast to bring after one score: a share of it, 0.02 for 2 %."""

    samples: int
    gain: float


def referee_of(run: RunFolder, recipe: Recipe) -> Referee:
    """Return a referee that has seen the log of a run, with the recipe's policy; raises UserError or OSError.

    It knows the scores under the last protocol, failed ones too, and the last 256 logging intervals.
    """
    referee = Referee(recipe.stopping, recipe.budget, recipe.judging.metric)
    for stats in [stats_from(record) for record in last_records(run.steps, NUM_STEPS)]:
        referee.observe(stats)
    for line in _scores(run):
        referee.score(line)
    return referee


def outlook_values(referee: Referee) -> dict[str, Any] | None:
    """Return the numbers behind the outlook as plain values, None where the policy has none."""
    found = referee.findings()
    if found is None:
        return None
    limits = {name: getattr(referee.stopping, name) for name in ("share", "delta", "price", "alpha")}
    return {**dataclasses.asdict(found), "bound": found.bound, "chance": found.chance, **limits}


def forecasts(run: RunFolder, recipe: Recipe) -> list[Forecast]:
    """Return the forecast after each score; none under another policy than evidence, or of fewer than five scores.

    Of more than 500 scores it is the forecast after every second of them, or every third, …, the last one included.
    """
    referee, found, lines = Referee(recipe.stopping, recipe.budget, recipe.judging.metric), [], _scores(run)
    every = math.ceil(len(lines) / MOST_FORECASTS)
    for left, line in zip(reversed(range(len(lines))), lines, strict=True):
        referee.score(line)
        if left % every == 0 and (findings := referee.findings()):
            found.append((line.samples, findings))
    enough = bool(found) and found[-1][1].num_looks >= FEWEST_LOOKS
    return [Forecast(samples, findings.forecast) for samples, findings in found] if enough else []


def _scores(run: RunFolder) -> list[ScoreLine]:
    """Return what the referee has taken in since the judge was last changed, in order."""
    scores, events = [score_from(record) for record in last_scores(run.scores)], last_records(run.events, MOST_SCORES)
    lines = comparable(scores)
    begin = lines[0].samples if len(lines) < len(scores) or len(scores) == MOST_SCORES else 0
    failed = [whole_of(event.get("samples")) for event in events if event.get("kind") == "judging failed"]
    nothing = [ScoreLine(samples=at, seconds=0.0) for at in failed if at > begin]
    return sorted([*lines, *nothing], key=lambda line: line.samples)
