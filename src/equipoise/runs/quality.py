"""Whether what a run has learned can be used, in one plain line: the grade, what it rests on, what would help most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

from equipoise import formatting
from equipoise.health.remedies import CAUSES, ENDING
from equipoise.health.telling import title
from equipoise.runs.scale import is_lower
from equipoise.runs.status import Status
from equipoise.runs.stopping_status import FEWEST_SCORES
from equipoise.stopping.verdicts import spoken
from equipoise.storage.records import Compared, Condition, Metric, RivalScore, Role, Score

if TYPE_CHECKING:
    from equipoise.metrics.units import Measured  # which takes torch along

Scored: TypeAlias = Union[Score, "Measured"]
Grade = Literal["usable", "promising", "not usable yet"]
ORDER: tuple[Grade, ...] = ("not usable yet", "promising", "usable")

# Conventions: shares of the way from real examples to the floor.
USABLE = 0.01
PROMISING = 0.1
COVERED = 0.7
SOME = 0.3  # of coverage, below which most kinds of examples are never drawn
HARD_TO_TELL = 0.75  # of pairs that a classifier tells apart, at most, of what is usable
TOLD = 0.95  # of pairs, above which generated examples are of another kind
FEW = 500  # distinct examples, of which nobody can tell variety from copying
MORE = 2_000  # below it more examples help most
LEAST_LONGER = 1.25  # times as long as the run is worth a command
LONGEST = 20.0  # times as long as the run; beyond it another way is better advice


@dataclass(frozen=True)
class Quality:
    """A grade, what it rests on, and what would help most; the last is empty where nothing is needed or known."""

    grade: Grade
    basis: str
    share: float  # of the way from the ceiling to the floor, NaN without both
    advice: str = ""
    times: float = 2.0  # as long in all as so far: what a longer training is suggested with

    @property
    def sentence(self) -> str:
        """All of it as one text."""
        text = f"{self.grade[:1].upper()}{self.grade[1:]}: {self.basis}."
        return f"{text} {self.advice}" if self.advice else text


@dataclass(frozen=True)
class Longer:
    """How many times as long in all, until what is usable: by the run's own curve, and within its noise."""

    times: float
    least: float
    most: float


@dataclass(frozen=True)
class Standing:
    """How a score stands among the baselines: the grade by that alone, in words, and its share of the way, if any."""

    grade: Grade
    text: str
    share: float = math.nan


def quality_of(now: Status) -> Quality | None:
    """Return how good the best generator is, None without a score or anything to measure it by."""
    score = now.test if now.test is not None and now.test.is_finite else now.best
    if score is None:
        return None
    num = _num_distinct(now)
    found = graded(score, now.metric, now.rivals.scores, num, now.noun)
    if found is None:
        return None
    longer = _longer(now, found.share)
    if longer is not None and longer.times <= LONGEST:
        times = formatting.rough_seconds(longer.times * now.seconds) / max(now.seconds, 1.0)
        found = replace(found, times=max(LEAST_LONGER, times))
    return replace(found, advice=_advice(now, found.grade, found.share, num, longer))


def graded(score: Scored, metric: Metric, rivals: Sequence[RivalScore], num: int, noun: str) -> Quality | None:
    """Return the grade of a score beside its baselines, None without anything to measure it by.

    `num` counts the distinct examples that trained what is graded; 0 where that is not known.
    """
    coverage = score.values.get("coverage", math.nan)
    standing = _among_rivals(metric, rivals, score) or _between(metric, rivals, score)
    if standing is None and not coverage < SOME:
        return None
    standing = standing or Standing("not usable yet", "")
    parts: list[tuple[Grade, str]] = [(standing.grade, standing.text)] if standing.text else []
    if math.isfinite(coverage):
        parts.append((_by_coverage(coverage), f"coverage {formatting.value(coverage)}"))
    told = score.values.get("c2st", math.nan)
    if math.isfinite(told):
        parts.append((_by_classifier(told), f"a classifier tells {_per_cent(told)} of pairs apart (chance: 50 %)"))
    grade = standing.grade
    for found, _ in parts:
        grade = _least(grade, found)
    # What decides stands first, or a sentence begins with what sounds like another grade.
    words = [text for _, text in sorted(parts, key=lambda part: ORDER.index(part[0]))]
    if num:
        words.append(f"{num:,} distinct real {noun}")
    if 0 < num < FEW and math.isfinite(standing.share):
        grade = _least(grade, "promising")
        words[-1] += ", too few to tell variety from copying"
    return Quality(grade, ", ".join(words), standing.share)


def place_of(now: Status, score: Score) -> float:
    """Return the share of the way from the ceiling (0) to the floor (1) at which a score stands, NaN without both."""
    standing = _between(now.metric, now.rivals.scores, score)
    return math.nan if standing is None else standing.share


def _known(rivals: Sequence[RivalScore], role: Role) -> list[RivalScore]:
    return [one for one in rivals if one.role == role and math.isfinite(one.loss)]


def _among_rivals(metric: Metric, every: Sequence[RivalScore], score: Scored) -> Standing | None:
    """Return how a score stands to the classical methods, None where there are none."""
    rivals = _known(every, "rival")
    if not rivals:
        return None
    worse = [one.name for one in rivals if not _beats(score, one)]
    names = " and ".join(worse or [one.name for one in rivals])
    lower = "not significantly lower" if worse else "lower"
    text = f"{metric.shown} is {lower} than that of {names}"
    if not worse:
        return Standing("usable", text)
    beats_floor = any(_beats(score, one) for one in _known(every, "floor"))
    return Standing("promising" if beats_floor else "not usable yet", text)


def _between(metric: Metric, rivals: Sequence[RivalScore], score: Scored) -> Standing | None:
    """Return where a score stands between ceiling and floor, None where one of them is missing."""
    floors = _known(rivals, "floor")
    ceilings = _known(rivals, "ceiling")
    if not floors or not ceilings or floors[0].loss <= ceilings[0].loss:
        return None
    floor = floors[0]
    ceiling = ceilings[0]
    share = (score.loss - ceiling.loss) / (floor.loss - ceiling.loss)
    text = f"{metric.shown} is {_of_the_way(share)} from {ceiling.name} to {floor.name}"
    if share >= 1:
        text = f"{metric.shown} is higher than that of {floor.name}, so nothing is learned yet"
    return Standing(_by_share(share), text, share)


def _beats(score: Scored, rival: RivalScore) -> bool:
    """Return whether a score is lower than a baseline's beyond the noise, as if independent where not compared."""
    if rival.best is not None and math.isfinite(rival.best.difference + rival.best.error):
        return is_lower(rival.best)
    error = math.hypot(score.error, rival.error)
    return is_lower(Compared(difference=score.loss - rival.loss, error=error if math.isfinite(error) else 0.0))


def _by_share(share: float) -> Grade:
    if share <= USABLE:
        return "usable"
    return "promising" if share <= PROMISING else "not usable yet"


def _by_coverage(coverage: float) -> Grade:
    if coverage >= COVERED:
        return "usable"
    return "promising" if coverage >= SOME else "not usable yet"


def _by_classifier(told: float) -> Grade:
    if told <= HARD_TO_TELL:
        return "usable"
    return "promising" if told <= TOLD else "not usable yet"


def _per_cent(share: float) -> str:
    """Return a share in per cent, as exact as is needed near 100."""
    decimals = sum(0 < 1 - share < bound for bound in (0.0195, 0.00195))
    return f"{100 * share:.{decimals}f} %"


def _least(one: Grade, other: Grade) -> Grade:
    return one if ORDER.index(one) <= ORDER.index(other) else other


def _of_the_way(share: float) -> str:
    if share <= 0:
        return "none of the way"
    decimals = sum(share < bound for bound in (0.0995, 0.0195))  # two digits that count, three near a threshold
    return f"{100 * share:.{decimals}f} % of the way"


def _num_distinct(now: Status) -> int:
    data = now.data
    if data is None:
        return 0
    return data.num_train + data.num_validation + data.num_test - data.num_duplicates


def _longer(now: Status, share: float) -> Longer | None:
    """Return how much longer the run would have to be, None where its curve tells too little."""
    found = now.certificate
    if found is None or found["num_evaluations"] < FEWEST_SCORES or not share > USABLE:
        return None
    if found["forecast"] < found["min_gain"]:
        return None
    error = math.sqrt(2) * found["noise"] / math.log(2)  # of a gain between two scores, over half of the run

    def times(speed: float) -> float:
        """Return e to the gain that is missing over the speed, both in e-folds; infinity where nothing is gained."""
        if speed <= 0:
            return math.inf
        return math.exp(min(math.log(share / USABLE) / speed, math.log(100 * LONGEST)))

    speed = found["speed"]
    return Longer(times(speed), times(speed + error), times(speed - error))


def _advice(now: Status, grade: Grade, share: float, num: int, longer: Longer | None) -> str:
    """Say what would help most: to go on, longer, more examples, lower rates, or another recipe."""
    if grade == "usable":
        return ""
    if now.stop_reason == "diverged":
        return "The training has diverged: lower learning rates would help most."
    if now.stop_reason == "not-repaired":
        return "The game could not be repaired: another recipe would help most (equipoise recipes)."
    if ill := illness(now):
        return f"{title(ill)} was told, and longer training alone does not end it: equipoise explain {ill}."
    if now.state in ("interrupted", "stopped"):
        return "The training was interrupted: continue it."
    if now.state == "failed":
        return "The training has failed: continue it."
    another = "another recipe would help most (equipoise recipes)."
    if num and num < MORE and math.isfinite(share):
        another = f"more {now.noun} would help most."
    if now.stop_reason == "patience":
        return f"The scores no longer improve: {another}"
    found = now.certificate
    if found is None or found["num_evaluations"] < FEWEST_SCORES:
        return "Longer training would help most."
    if found["forecast"] < found["min_gain"]:
        return f"More training is predicted to bring little: {another}"
    if longer is None:
        return "Longer training would help most."
    by = "by this run's curve since its middle"
    if longer.times > LONGEST:
        total = spoken(60 * max(1, math.floor(LONGEST * now.seconds / 60)))
        return f"Longer training helps, but {by} more than {total} would be needed: {another}"
    return f"Longer training would help most: {by}, {_total(longer, now.seconds)} in all on this machine."


def illness(now: Status) -> Condition | None:
    """Return the first condition at the end of the log that is sure and does not end by itself; None without one."""
    found = (one.condition for one in now.diagnoses if one.confidence != "possible")
    return next((condition for condition in found if condition in (*CAUSES, *ENDING, "mode-dropping", "cycling")), None)


def _total(longer: Longer, seconds: float) -> str:
    """Say how long in all, as far as the noise of the scores lets one tell."""
    about, least, most = (
        formatting.rough_duration(times * seconds) if times <= LONGEST else ""
        for times in (longer.times, longer.least, longer.most)
    )
    if not most:
        return f"about {about}, {least} at least," if least != about else f"{about} at least"
    if least == most:
        return f"about {about}"
    return f"about {about}, {least} to {most},"
