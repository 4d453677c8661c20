"""The picture of what was wrong and when: bars from the log lines, marks from the events."""

from equipoise.health.timeline import Span, spans
from equipoise.report.timeline import timeline
from equipoise.storage.records import Condition, Confidence, Diagnosis, Event, StepStats, lenient


def line(samples: int, *found: tuple[Condition, int, Confidence]) -> StepStats:
    told = [Diagnosis(condition=name, since=since, confidence=sure, evidence="It is.") for name, since, sure in found]
    return lenient(StepStats, {"samples": samples, "seconds": 1.0, "diagnoses": [*map(vars_of, told)]})


def vars_of(diagnosis: Diagnosis) -> dict[str, object]:
    return {name: getattr(diagnosis, name) for name in diagnosis.__struct_fields__}


STEPS = (
    line(100),
    line(200, ("cycling", 150, "possible")),
    line(300, ("mode-collapse", 250, "possible"), ("cycling", 150, "possible")),
    line(400, ("mode-collapse", 250, "likely")),
    line(500),
    line(600, ("cycling", 550, "possible")),
)


def test_a_condition_that_comes_again_has_two_bars_and_each_ends_where_it_was_last_seen() -> None:
    assert spans(STEPS) == [
        Span("cycling", 150, 300, is_sure=False),
        Span("mode-collapse", 250, 400, is_sure=True),
        Span("cycling", 550, 600, is_sure=False),
    ]


def test_the_picture_has_a_row_for_each_condition_a_bar_for_each_time_and_a_mark_for_each_remedy() -> None:
    events = [Event(samples=400, seconds=1.0, kind=kind, message="x") for kind in ("remedy", "remedy", "no remedy")]
    chart = timeline(STEPS, events)
    assert chart is not None
    for svg in (chart.broad, chart.narrow):
        assert svg is not None
        assert svg.count('class="name"') == 2
        assert svg.count('class="span') == 3
        assert svg.count('class="span sure"') == 1
        assert svg.count('class="remedy"') == 2


def test_a_game_in_which_nothing_was_wrong_has_no_picture() -> None:
    assert timeline([line(100), line(200)], []) is None
