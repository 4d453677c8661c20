"""The schema of a run's files: what is written comes back, state is read strictly, logs as far as they go."""

import json
import math
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbers_by_hand import HEALTHY

import equipoise
from equipoise.storage.records import (
    MAX_COUNT,
    MAX_NUMBER,
    CandidateScore,
    Compared,
    DataRecord,
    Event,
    EventKind,
    Exhibit,
    Exhibits,
    IntervalsRecord,
    Metric,
    Rejected,
    RemedyRecord,
    Rivals,
    RivalScore,
    RunState,
    Score,
    Selection,
    Span,
    StepStats,
    comparable,
    deciding,
    lenient,
    number_of,
    plain,
    strict,
    whole_of,
)

NAN = math.nan
SCORE = Score(
    samples=160,
    seconds=0.5,
    loss=0.25,
    error=NAN,
    values={"kid": 0.25, "copying": NAN},
    folds=(0.5, NAN, 0.125),
    optimism=0.0625,
    broken=("fid",),
)
UNKNOWN = Score(samples=320, seconds=0.5)
RIVALS = Rivals(
    protocol={"seed": 0},
    scores=(
        RivalScore(name="noise", role="floor", loss=1.0, values={"fid": NAN}, num=5, best=Compared(difference=-0.5)),
        RivalScore(name="real", role="ceiling", failure="MemoryError: none left"),
    ),
)
SELECTION = Selection(
    protocol={"split": "validation"},
    num_scores=7,
    candidates=(CandidateScore(found=UNKNOWN, rescored=SCORE), CandidateScore(found=SCORE, rescored=UNKNOWN)),
    winner=160,
)
STATE = RunState(
    status="finished", stop_reason="budget", best=SCORE, test=UNKNOWN, rivals=RIVALS, selection=SELECTION, spent=9
)
METRIC = Metric(name="psnr", label="PSNR", unit="dB", better="higher", guard=20.0)
DATA = DataRecord(
    source="mnist",
    digest="5d",
    num_train=8,
    num_validation=1,
    num_test=1,
    rejected=(Rejected("a.png", "no picture"),),
    classes=("a", "b"),
    class_counts=(4, 4),
    metrics=(METRIC,),
    facts={"size": 28},
)
RECORDS = (
    SCORE,
    UNKNOWN,
    RIVALS,
    SELECTION,
    STATE,
    RunState(),
    DATA,
    METRIC,
    Event(samples=1, seconds=2.0, kind="remedy", message="why", attempt=1),
    StepStats(samples=1, **HEALTHY | {"penalty": NAN, "terms": {"generator_l1": NAN, "generator_adversarial": 1.0}}),
    IntervalsRecord(horizon=800),
    Exhibits(exhibits=(Exhibit(kind="picture", file="best.png", title="Samples"),)),
)


# There and back


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was_written_with_nan_where_a_number_was_not_finite(record: msgspec.Struct) -> None:
    text = json.dumps(plain(record), allow_nan=False)
    assert repr(strict(type(record), json.loads(text))) == repr(record), "NaN is not equal to itself"


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_what_is_not_finite_is_null_and_comes_back_as_nan(value: float) -> None:
    values = plain(Score(samples=1, seconds=0.0, loss=value, values={"kid": value}))
    assert values["loss"] is None
    assert values["values"] == {"kid": None}
    found = strict(Score, values)
    assert math.isnan(found.loss)
    assert math.isnan(found.value("kid"))
    assert not found.is_finite


def test_null_stays_none_where_that_is_allowed() -> None:
    found = strict(RunState, plain(RunState()))
    assert found.best is None
    assert found.message is None
    assert strict(Metric, plain(Metric(name="kid"))).guard is None


# Strictly


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RunState, {"status": "asleep"}),
        (RunState, {"samples": -1}),
        (RunState, {"samples": "many"}),
        (RunState, {"spent": 0.5}),
        (RunState, {"stop_reason": "tired"}),
        (RunState, {"best": {"samples": 1}}),
        (RunState, {"best": []}),
        (DataRecord, {}),
        (DataRecord, plain(DATA) | {"num_train": -1}),
        (DataRecord, plain(DATA) | {"classes": "ab"}),
        (DataRecord, plain(DATA) | {"metrics": [{"better": "lower"}]}),
        (Rivals, {"scores": [{"name": "noise", "role": "spectator"}]}),
        (Exhibits, {"exhibits": [{"kind": "smell", "file": "a", "title": "b"}]}),
    ],
)
def test_what_no_run_writes_is_refused(kind: type[msgspec.Struct], values: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        strict(kind, values)


def test_a_field_of_a_later_version_is_passed_over() -> None:
    assert strict(RunState, plain(STATE) | {"mood": "good"}) == strict(RunState, plain(STATE))


# Leniently


@pytest.mark.parametrize("kind", [StepStats, Score, Event])
@given(values=st.data())
def test_a_line_of_a_log_is_read_whatever_it_holds(kind: type[Any], values: st.DataObject) -> None:
    names = st.sampled_from(kind.__struct_fields__) | st.text(max_size=5)
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    found = lenient(kind, values.draw(st.dictionaries(names, anything, max_size=6)))
    for part in msgspec.structs.fields(kind):
        value = getattr(found, part.name)
        if part.type is float:
            assert isinstance(value, float)
            assert not abs(value) > MAX_NUMBER
        if part.type is int:
            assert 0 <= value <= MAX_COUNT


def test_what_can_be_read_of_a_damaged_line_is_kept() -> None:
    values = {"samples": 160, "loss": "low", "values": {"kid": 0.5, "fid": "?"}, "broken": ["a", 1], "protocol": [1]}
    found = lenient(Score, values)
    assert (found.samples, found.broken, found.protocol) == (160, ("a",), {})
    assert math.isnan(found.loss)
    assert found.value("kid") == 0.5
    assert math.isnan(found.value("fid"))
    assert math.isnan(found.value("unknown"))


def test_a_line_that_is_whole_is_read_as_strictly() -> None:
    for record in RECORDS:
        if isinstance(record, Score | StepStats | Event):
            assert repr(lenient(type(record), plain(record))) == repr(record)


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (3, 3.0, 3),
        (2.5, 2.5, 2),
        (-1, -1.0, 0),
        (True, NAN, 0),
        ("3", NAN, 0),
        (None, NAN, 0),
        ([3], NAN, 0),
        (10**400, NAN, 0),
        (1e200, NAN, 0),
        (-1e200, NAN, 0),
        (math.inf, NAN, 0),
        (NAN, NAN, 0),
        (2**53, 2.0**53, 2**53),
        (2**54, 2.0**54, 0),
    ],
)
def test_numbers_out_of_a_file(value: object, number: float, whole: int) -> None:
    assert repr(number_of(value)) == repr(number)
    assert whole_of(value) == whole


# What records know


@pytest.mark.parametrize(
    ("better", "guard", "value", "is_kept"),
    [
        ("lower", 2.0, 2.0, True),
        ("lower", 2.0, 2.1, False),
        ("higher", 2.0, 2.0, True),
        ("higher", 2.0, 1.9, False),
        ("lower", 2.0, NAN, False),
        ("higher", 2.0, NAN, False),
        ("lower", None, 1e9, True),
        ("lower", None, NAN, True),
    ],
)
def test_a_guard_is_a_bound_on_the_worse_side(better: Any, guard: float | None, value: float, is_kept: bool) -> None:
    assert Metric(name="m", better=better, guard=guard).is_kept_by(value) == is_kept


def test_a_metric_is_shown_by_its_label_and_one_decides() -> None:
    assert (METRIC.shown, Metric(name="kl").shown) == ("PSNR", "kl")
    kid = Metric(name="kid", decides=True)
    assert deciding([METRIC, kid]) is kid
    assert deciding([METRIC]).name == deciding([]).name == "loss"


def test_the_candidate_that_was_selected_is_found_by_its_samples() -> None:
    assert SELECTION.best is SELECTION.candidates[1]


def test_only_the_last_scores_under_one_protocol_compare() -> None:
    protocols = [{"seed": 0}, {"seed": 1}, {"seed": 0}, {"seed": 0}]
    scores = [Score(samples=at, seconds=0.0, protocol=protocol) for at, protocol in enumerate(protocols)]
    assert [score.samples for score in comparable(scores)] == [2, 3]
    assert comparable([]) == []


def test_every_kind_of_event_is_one_that_something_logs() -> None:
    """A kind that nobody writes any more would stay in the schema unseen."""
    root = Path(equipoise.__file__).parent
    texts = [path.read_text() for path in root.rglob("*.py") if path.name != "records.py"]
    unused = [kind for kind in get_args(EventKind) if not any(f'"{kind}"' in text for text in texts)]
    assert not unused


def test_a_whole_number_that_no_float_can_hold_is_damage_however_deep_it_lies() -> None:
    for change in ({"samples": 10**400}, {"best": plain(Score(samples=64, seconds=1.0)) | {"samples": 10**400}}):
        with pytest.raises(msgspec.ValidationError):
            strict(RunState, plain(STATE) | change)
    assert strict(RunState, plain(STATE) | {"samples": 2**53}).samples == 2**53


@pytest.mark.parametrize(
    "remedy", [None, 3, {}, {"condition": "unheard of", "changed": "x"}, {"condition": "cycling", "changed": [1]}]
)
def test_what_a_remedy_did_is_left_out_where_it_is_damaged_and_the_event_stays(remedy: object) -> None:
    values = {"samples": 5, "kind": "remedy", "message": "why", "remedy": remedy}
    found = lenient(Event, values)
    assert (found.samples, found.message, found.remedy) == (5, "why", None)


def test_what_a_remedy_did_comes_back_from_a_log() -> None:
    span = Span("mode-collapse", 250, 400, is_sure=True)
    done = RemedyRecord(condition="cycling", changed="x 1 → 2", back_to=100, abandoned=(span,))
    event = Event(samples=5, seconds=1.0, kind="remedy", message="why", remedy=done)
    assert lenient(Event, plain(event)) == event
