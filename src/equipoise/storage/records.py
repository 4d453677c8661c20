"""The schema of every file in a run folder, as typed records; JSON has null where a number is not finite.

Readers of logs are lenient (`lenient`): a line may be damaged, or written by somebody else. What a run goes on from is
read strictly. `FORMAT` is the version of all of it; a folder of a newer version is refused.
"""

import contextlib
import itertools
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

FORMAT = 1
MAX_NUMBER = 1e150  # beyond it, squares overflow; no number of a game is as large
MAX_COUNT = 2**53
SNAPSHOT_NAME = "[0-9]{12,18}"  # pattern of a snapshot's name without its suffix: the samples it was taken at

Status: TypeAlias = Literal["new", "running", "stopped", "finished", "failed"]
StopReason: TypeAlias = Literal[
    "budget",
    "evidence",
    "patience",
    "discriminator-threshold",
    "diverged",
    "evaluation-failed",
    "not-repaired",
    "interrupted",
]
EventKind: TypeAlias = Literal[
    "stop",
    "remedy",
    "no remedy",
    "steps skipped",
    "not saved",
    "damaged checkpoint",
    "evaluation failed",
    "final stage failed",
    "evaluation protocol changed",
    "guard broken",
    "overfitting check failed",
    "snapshot failed",
    "baseline failed",
    "environment changed",
    "policy changed",
    "budget changed",
    "speed changed",
    "threads changed",
    "test set used before",
    "failed",
    "no score",
    "not kept",
    "not finite",
    "not tested",
    "not found",
    "set aside",
    "not said",
    "not written",
    "ignored",
    "statistics never updated",
    "watch failed",
    "doubtful images",
    "trained on held-out images",
]
Role: TypeAlias = Literal["floor", "rival", "ceiling"]
ExhibitKind: TypeAlias = Literal["picture", "sound", "series", "rows", "lines", "animation"]

NotNegativeInt = Annotated[int, msgspec.Meta(ge=0)]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A number that a judge finds, as data: what it is called, what is better, whether it decides or guards."""

    name: str
    label: str = ""  # as people write it; empty: the name
    meaning: str = ""  # in a few words
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"
    decides: bool = False
    guard: float | None = None  # the bound that a candidate must keep: at most, or at least where higher is better
    signed: bool = False  # an unbiased estimate, which noise can carry below zero

    @property
    def shown(self) -> str:
        """Return the name as people write it."""
        return self.label or self.name

    def is_kept_by(self, value: float) -> bool:
        """Return whether a value keeps the guard; a number that is not finite does not."""
        if self.guard is None:
            return True
        if not math.isfinite(value):
            return False
        return value <= self.guard if self.better == "lower" else value >= self.guard


def deciding(metrics: Sequence[Metric]) -> Metric:
    """Return the metric that decides what is best."""
    return next((metric for metric in metrics if metric.decides), Metric(name="loss"))


Condition = Literal[
    "non-finite",
    "divergence",
    "exploding-gradient",
    "vanishing-gradient",
    "discriminator-overpowering",
    "discriminator-too-weak",
    "discriminator-overfitting",
    "mode-collapse",
    "mode-dropping",
    "cycling",
    "saturation",
    "memorization",
    "augmentation-leak",
    "rate-too-high",
    "rate-too-low",
    "averaged-generator-worse",
    "nothing-more-to-gain",
]
Confidence = Literal["possible", "likely", "certain"]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """A condition of a game: since when, how sure, and the numbers that speak for it in a sentence."""

    condition: Condition
    since: int  # samples
    num_lines: int = 1  # log lines in a row at which it was told
    confidence: Confidence
    evidence: str


class Span(msgspec.Struct, frozen=True):
    """One time of a condition, in samples, or in the unit of the log."""

    condition: Condition
    begin: int
    end: int
    is_sure: bool  # at least likely at some log line


SIGNAL = "signal/"  # begins the name of a signal among a step's numbers: signal/step/generator


class StepStats(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the steps of one logging interval; a number that could not be taken is NaN."""

    samples: int  # real samples shown to the discriminator, at this position
    seconds: float  # on the training clock, which stands still while a run is paused
    discriminator_loss: float
    generator_loss: float
    penalty: float
    real_logit: float
    fake_logit: float
    real_probability: float  # mean P(real) of real samples
    fake_probability: float  # mean D(G(z))
    accuracy: float  # share of logits on the right side; of pairs with real > fake where only differences count
    discriminator_gradient: float  # norm over all parameters
    generator_gradient: float
    discriminator_rate: float
    generator_rate: float
    samples_per_second: float
    skipped_steps: int = 0  # not finite, so not applied
    attempt: int = 0  # remedies so far
    spent: int = 0  # samples, those of abandoned attempts included
    terms: dict[str, float] = {}  # loss terms by name, of both players
    signals: dict[str, float] = {}  # of the last round, by name: game/signals.py
    diagnoses: tuple[Diagnosis, ...] = ()  # the most urgent first: health/conditions.py


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation of one generator under a protocol; NaN stands for what was not or could not be computed."""

    samples: int
    seconds: float  # that the evaluation took
    loss: float = math.nan  # what decides; lower is better
    error: float = math.nan  # its standard error
    compared_with: int = 0  # samples of the best generator that it was compared with; 0: none
    difference: float = math.nan  # this loss minus that of the best, on the same inputs and the same real examples
    difference_error: float = math.nan
    values: dict[str, float] = {}  # every metric by name
    folds: tuple[float, ...] = ()  # losses by parts of the real examples, up to what these add: metrics/crossfit.py
    optimism: float = math.nan  # added to the loss, as the same examples chose this generator; NaN: others did
    broken: tuple[str, ...] = ()  # names of the guards that this generator breaks
    protocol: dict[str, Any] = {}

    @property
    def is_finite(self) -> bool:
        """Return whether there is a loss."""
        return math.isfinite(self.loss)

    def value(self, name: str) -> float:
        """Return a metric by name, NaN where it is not known."""
        return self.values.get(name, math.nan)


class RemedyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a remedy did: for which condition, what it changed, and what was abandoned where the run went back."""

    condition: Condition
    changed: str  # before → after
    back_to: int | None = None  # samples; None: it did not go back
    abandoned: tuple[Span, ...] = ()  # conditions beyond that, whose log lines are gone


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at a position of a run."""

    samples: int
    seconds: float
    kind: EventKind
    message: str
    attempt: int = 0
    remedy: RemedyRecord | None = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A difference of two losses and its standard error; negative: the generator is better."""

    difference: float = math.nan
    error: float = math.nan


class RivalScore(msgspec.Struct, frozen=True, kw_only=True):
    """A floor, a classical rival or a ceiling under a protocol, and how the best generator compares with it."""

    name: str
    role: Role
    loss: float = math.nan
    error: float = math.nan
    values: dict[str, float] = {}
    num: int = 0  # outputs that it was judged by
    best: Compared | None = None  # the best generator's loss minus this one's
    failure: str | None = None


class Rivals(msgspec.Struct, frozen=True, kw_only=True):
    """The rivals under one protocol."""

    protocol: dict[str, Any] = {}
    scores: tuple[RivalScore, ...] = ()


class CandidateScore(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate with its score while training, its second score, and its difference to the selected one."""

    found: Score
    rescored: Score
    difference: float = math.nan  # loss of this one minus that of the selected one; 0 for that one
    difference_error: float = math.nan


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The candidates evaluated again under one protocol, and the samples of the one that was selected."""

    protocol: dict[str, Any]
    num_scores: int  # finite ones that the training took: of so many, a candidate was one of the lowest
    candidates: tuple[CandidateScore, ...]
    winner: int

    def __post_init__(self) -> None:
        """Raise ValueError, which a reader reports as damage, where the winner is not among the candidates."""
        if all(candidate.found.samples != self.winner for candidate in self.candidates):
            raise ValueError(f"the winner, {self.winner}, is not among the candidates")

    @property
    def best(self) -> CandidateScore:
        """Return the candidate that was selected."""
        return next(candidate for candidate in self.candidates if candidate.found.samples == self.winner)


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is done before a training begins or after it has ended, and for how much longer."""

    what: str
    share: float = 0.0  # that is done; 0 where it is not known
    seconds_left: float = math.nan  # of this stage
    is_after: bool = False  # whether the training has ended


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands: `state.json`."""

    status: Status = "new"
    format: int = FORMAT
    has_saved: bool = False  # a checkpoint was written: if there is none any more, it is lost
    samples: NotNegativeInt = 0
    spent: NotNegativeInt = 0  # samples, those of abandoned attempts included
    seconds: float = 0.0
    stop_reason: StopReason | None = None
    message: str | None = None  # the same in words
    best: Score | None = None
    test: Score | None = None
    tested_before: Score | None = None  # at an earlier end, after which the training went on
    rivals: Rivals | None = None  # on the test split
    not_tested: str | None = None  # why, where there should be a test
    selection: Selection | None = None
    not_selected: str | None = None  # why the candidates were not evaluated again
    stage: StageRecord | None = None  # before the training or after it, as long as that goes on


class Rejected(msgspec.Struct, frozen=True):
    """A file that could not be used, with the reason in plain words."""

    name: str
    reason: str


class EncoderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluation encoder of a run, and which images taught it; counts are of different ones, 0 where unknown."""

    digest: str  # SHA-256 of its weights, which are in `encoder.safetensors`
    num_taught: NotNegativeInt = 0  # images that taught it
    num_shared: NotNegativeInt = 0  # of them, those that this run would have taught it
    num_train: NotNegativeInt = 0  # images that this run would have taught it
    started_from: str = ""  # SHA-256 of the weights of another encoder that it began with; empty: with random ones

    @property
    def is_reused(self) -> bool:
        """Whether it was taught by nearly the same images, and not by these very ones."""
        return (self.num_shared, self.num_shared) != (self.num_taught, self.num_train)


class StartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The run whose weights this one began with; they are in `start/`, so that run may go."""

    path: str  # in full
    samples: NotNegativeInt  # of the checkpoint that they are from
    seen: NotNegativeInt  # samples that the weights had seen, those of the runs before that one included
    digest: str  # SHA-256 of that checkpoint's tensors.safetensors
    generator: float = 1.0  # share of the weights that are that run's; the others were drawn anew
    discriminator: float = 1.0


class DataRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the data of a run are, by what its task measures, and what its weights began with: `data.json`."""

    source: str
    digest: str
    num_train: NotNegativeInt
    num_validation: NotNegativeInt
    num_test: NotNegativeInt
    noun: str = "examples"  # what one calls them
    summary: str = ""  # one phrase: "28 × 28 grey images"
    path: str | None = None  # the source in full, where it is a path
    num_duplicates: int = 0
    rejected: tuple[Rejected, ...] = ()
    classes: tuple[str, ...] = ()
    class_counts: tuple[NotNegativeInt, ...] = ()  # of the training split
    sets: tuple[tuple[NotNegativeInt, ...], ...] = ()  # of several labels a picture: places of classes
    set_counts: tuple[NotNegativeInt, ...] = ()  # of the training split, of each combination
    group_counts: tuple[NotNegativeInt, ...] = ()  # of the training split, where networks are told groups
    group_classes: tuple[NotNegativeInt, ...] = ()  # of each group within a class, the place of that class
    metrics: tuple[Metric, ...] = ()
    encoder: EncoderRecord | None = None  # where one judges
    start: StartRecord | None = None  # None: random weights
    facts: dict[str, Any] = {}  # whatever the task needs to build its generator without the data


class IntervalsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How often to act, in samples, for readers: `intervals.json`."""

    samples_per_second: float = math.nan
    evaluation_seconds: float = math.nan
    horizon: int = 0  # samples that the budget pays for; 0: not known
    log_every: int | None = None
    evaluate_every: int | None = None
    save_every: int | None = None
    keep_every: int | None = None


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a training got on, measured at a position: a line of `log/pace.jsonl`, which a resume follows again."""

    spent: NotNegativeInt
    seconds: Annotated[float, msgspec.Meta(ge=0)]  # of training up to here: where schedules of a time budget stand
    samples_per_second: float = math.nan  # the two measurements from which the intervals follow, NaN where none do
    evaluation_seconds: float = math.nan
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None  # to compute with from here on, where chosen

    @property
    def is_sound(self) -> bool:
        """Whether its measurements are positive, or there are none."""
        found = (self.samples_per_second, self.evaluation_seconds)
        return all(map(math.isnan, found)) or all(value > 0 for value in found)


class Exhibit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the report shows: a file in `samples/` with a caption."""

    kind: ExhibitKind
    file: str
    title: str  # of its section; exhibits of one title stand together
    caption: str = ""
    intro: str = ""  # said once above the first of a section


class Exhibits(msgspec.Struct, frozen=True, kw_only=True):
    """All exhibits of a run: `exhibits.json`."""

    exhibits: tuple[Exhibit, ...] = ()


Record = TypeVar("Record", bound=msgspec.Struct)


def plain(record: msgspec.Struct) -> dict[str, Any]:
    """Return a record as plain JSON values, in which null stands for what is not finite."""
    return msgspec.json.decode(msgspec.json.encode(record))


def strict(kind: type[Record], values: Any) -> Record:
    """Build a record from plain values; raises msgspec.ValidationError where one is missing or of another type.

    So it does for a whole number of more than 64 bits: none is ever written, and to divide by one would fail.
    """
    if _is_too_long(values):
        raise msgspec.ValidationError("a whole number of more than 64 bits")
    return msgspec.convert(_with_nan(kind, values), kind)


def _is_too_long(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_is_too_long, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_is_too_long, value))
    return isinstance(value, int) and value.bit_length() > 64


def lenient(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Build a record from plain values as far as they go; what is missing or of another type is NaN, 0 or empty."""
    found = {}
    for part in msgspec.structs.fields(kind):
        value = _lenient(part.type, values.get(part.name))
        if value is not None or part.required:
            found[part.name] = value
    return kind(**found)


def _lenient(hint: Any, value: Any) -> Any:
    """Return a value of a type as far as it can be read, None where the field's default stands in."""
    if hint is float:
        return number_of(value)
    if hint is int:
        return whole_of(value)
    if hint is bool:
        return value is True
    if typing.get_origin(hint) is dict and isinstance(value, Mapping):
        is_numbers = typing.get_args(hint)[1] is float
        return {str(name): number_of(inner) for name, inner in value.items()} if is_numbers else dict(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_lenient_items(typing.get_args(hint)[0], value))
    if hint is str or typing.get_origin(hint) is Literal:
        return value if isinstance(value, str) else ""
    if typing.get_origin(hint) in (types.UnionType, typing.Union) and isinstance(value, Mapping):
        return next(iter(_whole_records(typing.get_args(hint)[0], [value])), None)
    return None


def _lenient_items(hint: Any, items: list[Any]) -> list[Any]:
    """Return the texts of a list, or its numbers; of a list of records, those that are whole."""
    if hint is float:
        return [number_of(item) for item in items]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _whole_records(hint, items)
    return [item for item in items if isinstance(item, str)]


def _whole_records(hint: type[msgspec.Struct], items: Iterable[Any]) -> list[Any]:
    found = []
    for item in items:
        with contextlib.suppress(msgspec.ValidationError, RecursionError):
            found.append(strict(hint, item))
    return found


def _with_nan(hint: Any, value: Any) -> Any:
    """Put NaN where JSON has null and the type is a number, at any depth."""
    if value is None:
        return math.nan if hint is float else None
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and isinstance(value, Mapping):
        hints = {part.name: part.type for part in msgspec.structs.fields(hint)}
        return {name: _with_nan(hints.get(name), inner) for name, inner in value.items()}
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _with_nan(next((one for one in arguments if one is not type(None)), None), value)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return [_with_nan(arguments[0], inner) for inner in value]
    if typing.get_origin(hint) is dict and isinstance(value, Mapping):
        return {name: _with_nan(arguments[1], inner) for name, inner in value.items()}
    return value


def whole_of(value: Any) -> int:
    """Return a count out of a file, 0 for anything that is none."""
    number = number_of(value)
    return int(number) if 0 <= number <= MAX_COUNT else 0


def number_of(value: Any) -> float:
    """Return a number out of a file as a float, NaN for anything else: it may be damaged, or written by others."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.nan
    return number if abs(number) <= MAX_NUMBER else math.nan


def comparable(scores: Sequence[Score]) -> list[Score]:
    """Return the last scores under one protocol: only those may stand side by side, earlier ones were given up."""
    last = list(itertools.takewhile(lambda score: score.protocol == scores[-1].protocol, reversed(scores)))
    return last[::-1]
