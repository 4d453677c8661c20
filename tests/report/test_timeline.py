"""The picture of what was wrong and when: bars from the log lines, marks from the events."""

from xml.etree import ElementTree

from equipoise.health.timeline import spans
from equipoise.report.timeline import Part, parts_of, timeline
from equipoise.storage.records import Condition, Confidence, Diagnosis, Event, RemedyRecord, Span, StepStats, lenient


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


def test_a_second_time_that_is_told_since_an_earlier_line_does_not_overlap_the_first() -> None:
    steps = [line(300, ("cycling", 100, "possible")), line(400), line(500, ("cycling", 200, "likely"))]
    assert spans(steps) == [Span("cycling", 100, 300, is_sure=False), Span("cycling", 300, 500, is_sure=True)]


def remedy(samples: int, attempt: int, back_to: int | None = None, *abandoned: Span) -> Event:
    done = RemedyRecord(condition="cycling", changed="rates × 1 → × 0.5", back_to=back_to, abandoned=abandoned)
    return Event(samples=samples, seconds=1.0, kind="remedy", message="x", attempt=attempt, remedy=done)


LOST = (Span("mode-collapse", 250, 400, is_sure=True), Span("cycling", 100, 200, is_sure=False))


def test_what_lay_before_a_return_is_a_part_of_its_own_with_the_remedies_that_were_lost_with_it() -> None:
    events = [remedy(90, 0), remedy(200, 0), remedy(400, 0, 100, *LOST), remedy(450, 1)]
    assert parts_of(STEPS, events) == [
        Part(LOST, (200, 400), 100, 400, is_abandoned=True),
        Part(tuple(spans(STEPS)), (90, 450)),
    ]


def test_a_second_return_to_before_the_first_one_takes_only_what_was_kept_since() -> None:
    events = [remedy(90, 0), remedy(400, 0, 200), remedy(300, 1), remedy(500, 1, 50, *LOST), remedy(60, 2)]
    assert [(part.begin, part.end, part.marks) for part in parts_of([], events)] == [
        (200, 400, (400,)),
        (50, 500, (90, 300, 500)),
        (0, 0, (60,)),
    ]


def test_what_was_abandoned_is_drawn_in_its_own_rows_hatched_with_an_arrow_back() -> None:
    chart = timeline(STEPS, [remedy(400, 0, 100, *LOST)])
    assert chart is not None
    for svg in (chart.broad, chart.narrow):
        assert svg is not None
        ElementTree.fromstring(svg)
        assert svg.count('class="name"') == 4
        assert svg.count('style="fill: url(#hatch') == 2
        assert svg.count('class="span') == 5
        assert svg.count('class="remedy"') == svg.count('class="back"') == 1
    assert chart.broad.count("hatch-960") == 3
    assert "hatch-960" not in (chart.narrow or ""), "a pattern in a picture that is not displayed draws nothing"


def test_a_return_is_drawn_even_where_nothing_was_wrong_afterwards_or_was_told_before() -> None:
    for events in ([remedy(400, 0, 100, *LOST)], [remedy(400, 0, 100)], [remedy(400, 0, 0)]):
        chart = timeline([line(100), line(200)], events)
        assert chart is not None
        assert chart.broad.count('class="part"') == 2
        assert chart.broad.count("style=") == sum(len(event.remedy.abandoned) for event in events if event.remedy)
    assert timeline([], [remedy(400, 0, 0)]) is not None


def test_a_game_in_which_nothing_was_wrong_has_no_picture() -> None:
    assert timeline([line(100), line(200)], []) is None
