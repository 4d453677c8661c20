"""The display: plain lines where they are logged, a calm panel on a terminal, and no name is ever markup."""

import dataclasses
import io
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_runs import change_state
from rich.console import Console

from equipoise.cli import display
from equipoise.cli.display import EARLY, Display, Ending, in_vain, is_terminal, line, panel
from equipoise.formatting import printable
from equipoise.loop import Observer, Progress
from equipoise.runs.status import read_status
from equipoise.storage.records import Score

SENTENCE = (
    "The discriminator is right 81 % of the time: it is ahead, and the generator is following; KID has been level "
    "lately."
)
PROGRESS = Progress(
    name="modern on mnist",
    samples=120_000,
    spent=120_000,
    horizon=480_000,
    share=0.25,
    samples_per_second=4012.3,
    seconds_left=90.0,
    sentence=SENTENCE,
    label="KID",
    last=Score(samples=120_000, seconds=1.0, loss=0.034, error=0.002),
    best=Score(samples=60_000, seconds=1.0, loss=0.031, error=0.002),
)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return Terminal()


def rendered(progress: Progress, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(panel(progress, width))
    file: Any = console.file
    return file.getvalue().splitlines()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_the_display_is_what_a_training_is_observed_by() -> None:
    observer: Observer = Display(io.StringIO())
    observer.message("checked by the types")


def test_a_plain_line_says_all() -> None:
    text = line(PROGRESS)
    assert text.startswith("120k / 480k samples · 25 % · 4,012/s · 1:30 left · KID 0.034 ± 0.002 (best 0.031) · ")
    assert text.endswith(SENTENCE)


def test_after_a_remedy_what_is_spent_is_shown_of_the_budget_not_the_position() -> None:
    rewound = dataclasses.replace(PROGRESS, samples=60_000, spent=240_000, share=0.5)
    assert line(rewound).startswith("240k / 480k samples · 50 % ")
    assert rows(rewound)["progress"].startswith("240k of 480k samples ")
    assert rendered(rewound)[1].endswith("50 % │")


def test_off_a_terminal_there_is_a_line_now_and_then_and_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Display(stream) as show:
        for seconds, samples in ((0, 1000), (5, 2000), (20, 3000), (21, 4000)):
            now[0] = seconds
            show.progress(dataclasses.replace(PROGRESS, samples=samples, spent=samples))
    counts = [text.split(" /")[0] for text in stream.getvalue().splitlines()]
    assert counts == ["1k", "3k", "4k"]


def test_off_a_terminal_a_stage_is_one_line_and_nothing_is_a_control_character() -> None:
    stream = io.StringIO()
    with Display(stream) as show:
        for share in (0.0, 0.5, 1.0):
            show.stage("reading the images", share)
        show.message("odd \x1b[31m name\r\n  and more")
    assert stream.getvalue() == "reading the images …\nodd ?[31m name?\n  and more\n"


def test_a_mistake_ends_the_lines_without_a_last_one() -> None:
    stream = io.StringIO()
    show = Display(stream)
    show.progress(PROGRESS)
    show.progress(PROGRESS)
    show.__exit__(KeyError, KeyError("x"), None)
    assert stream.getvalue().count("\n") == 1


def rows(progress: Progress, width: int = 80) -> dict[str, str]:
    """Return what stands beside each label of the panel, on one line; hyphens stand for the spaces of a label."""
    found: dict[str, str] = {}
    label = ""
    for part in rendered(progress, width)[3:-1]:
        text = part.strip("│").removeprefix(" ").rstrip()
        label = text[:10].strip().replace(" ", "-") or label
        found[label] = f"{found.get(label, '')} {text[10:].strip()}".strip()
    return found


def test_the_panel_fits_80_columns_and_shows_everything() -> None:
    lines = rendered(PROGRESS)
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("╭─ modern on mnist ─")
    assert lines[1].endswith("25 % │")
    found = rows(PROGRESS)
    assert found["progress"].startswith("120k of 480k samples · 4,012 ")
    assert found["progress"].endswith(" · 1:30 left")
    assert found["last-score"].startswith("KID 0.034 ± 0.002,")
    assert found["best-score"] == "KID 0.031 ± 0.002, after 60k samples"
    assert found["game"] == SENTENCE


def test_the_panel_keeps_its_height_from_the_first_moment_on() -> None:
    first = dataclasses.replace(PROGRESS, last=None, best=None, sentence="Too early to say.", horizon=0)
    same = dataclasses.replace(PROGRESS, best=PROGRESS.last)
    assert len(rendered(first)) == len(rendered(PROGRESS)) == len(rendered(same))
    assert rows(first)["best-score"] == rows(first)["last-score"] == "none yet"
    assert "KID" not in rows(same)["best-score"], "it is the last score, which stands above"


def test_a_lower_last_score_that_is_not_significant_is_noted_in_the_same_height() -> None:
    best = Score(samples=1_980_000, seconds=1.0, loss=0.0066, error=0.0008)
    paired = {"compared_with": 1_980_000, "difference": -0.0004, "difference_error": 0.0005}
    last = Score(samples=2_000_000, seconds=1.0, loss=0.0062, error=0.0008, **paired)
    chance = dataclasses.replace(PROGRESS, last=last, best=best)
    assert rows(chance)["best-score"].startswith("KID 0.0066 ± 0.0008, after 1.98M samples; ")
    assert "(best 0.0066; " in line(chance)
    for width in (60, 80, 96):
        assert (
            len(rendered(chance, width))
            == len(rendered(PROGRESS, width))
            == len(rendered(dataclasses.replace(PROGRESS, best=PROGRESS.last), width))
        )
    higher = dataclasses.replace(chance, last=msgspec.structs.replace(last, loss=0.0067))
    for progress in (PROGRESS, higher):
        assert ";" not in rows(progress)["best-score"]
        assert ";" not in line(progress).partition("left")[2].partition(")")[0]


def test_the_panel_shows_how_close_the_stop_is_and_keeps_its_height_and_a_screen() -> None:
    long = (
        "No improvement in 107 of the 110 evaluations required. Predicted gain from 25 % more training: 0.9 % "
        "(minimum 2.0 %). Improvement since then is not ruled out yet."
    )
    texts = ("Too few evaluations so far.", long)
    heights = {len(rendered(dataclasses.replace(PROGRESS, stopping_status=text))) for text in texts}
    assert len(heights) == 1
    assert heights.pop() <= 20
    assert rows(dataclasses.replace(PROGRESS, stopping_status=long))["stopping"] == long
    assert "stopping" not in rows(PROGRESS), "where only the budget stops it there is nothing to say"


@pytest.mark.parametrize("width", [20, 40, 60, 96])
def test_the_panel_stays_within_any_terminal(width: int) -> None:
    assert max(map(len, rendered(PROGRESS, width))) <= width


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/nothing]", ":smile:", "x" * 255, "数字 ünïcode", "a\x1b[31m\nb"])
def test_names_are_shown_as_they_are_never_as_markup(terminal: Terminal, name: str) -> None:
    progress = dataclasses.replace(PROGRESS, name=name, sentence=f"{name} says")
    with Display(terminal) as show:
        show.stage(name, 0.5)
        show.message(name)
        show.progress(progress)
    text = plain(terminal.getvalue())
    assert printable(name)[:20] in text.splitlines()[1] + text.splitlines()[0]
    assert printable(name)[:20] in next(part for part in text.splitlines() if part.startswith("╭"))
    assert "\x1b" not in text
    assert max(len(part) for part in re.split(r"[\r\n]+", text)) <= 80


def test_on_a_terminal_the_stage_then_the_panel_then_the_stage_below_it(terminal: Terminal) -> None:
    with Display(terminal) as show:
        show.stage("reading the images", 0.5)
        assert "reading the images … 50 %" in plain(terminal.getvalue())
        show.progress(PROGRESS)
        assert "╭─ modern on mnist" in plain(terminal.getvalue())
        terminal.truncate(0)
        show.stage("writing the report", 0.0)
        assert re.search(r"╰─+╯\s+writing the report …", plain(terminal.getvalue()))
        terminal.truncate(0)
    assert "writing the report" not in plain(terminal.getvalue()).split("╭")[-1], "what stays is the panel alone"


def test_a_stage_says_how_long_it_will_still_take_once_that_can_be_told(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Display(terminal) as show:
        for share, expected in ((0.1, "… 10 %"), (0.2, "… 20 %"), (0.4, "… 40 %, 0:20 left")):
            terminal.truncate(0)
            show.stage("learning", share)
            assert plain(terminal.getvalue()).rstrip().endswith(f"learning {expected}")
            now[0] += 1.0 if share == 0.1 else 9.0
        terminal.truncate(0)
        show.stage("drawing", 0.5)
        assert plain(terminal.getvalue()).rstrip().endswith("drawing … 50 %"), "another stage begins anew"


def test_a_stage_is_drawn_now_and_then_and_always_where_it_is_done(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    with Display(terminal) as show:
        for share in (0.5, 0.6, 1.0):
            show.stage("reading", share)
        text = plain(terminal.getvalue())
    assert "50 %" in text
    assert "60 %" not in text
    assert "100 %" in text


def test_an_ended_training_is_shown_as_its_folder_says(tmp_path: Path, fake_run: Any, terminal: Terminal) -> None:
    now = read_status(fake_run(tmp_path / "run"))
    with Display(terminal) as show:
        show.progress(dataclasses.replace(PROGRESS, share=0.99))
        show.ended(now)
    last = plain(terminal.getvalue()).split("╭")[-1]
    assert " 100 % " in last
    assert "2.4M of 2.4M" in last
    assert {"0.0066", "1.98M", "7"} <= set(last.split()), "the best score, and how close the stop was"
    assert " left" not in last
    stream = io.StringIO()
    with Display(stream) as show:
        show.progress(PROGRESS)
        show.ended(now)
    assert stream.getvalue().splitlines()[-1].startswith("100 % ")


@pytest.mark.parametrize("reason", EARLY)
def test_a_training_that_ended_early_has_words_in_place_of_an_unfinished_bar(
    reason: Any, tmp_path: Path, fake_run: Any
) -> None:
    run = fake_run(tmp_path / "run")
    change_state(run, stop_reason=reason, seconds=150.0)
    now = dataclasses.replace(read_status(run), share=0.43)
    for stream in (Terminal(), io.StringIO()):
        with Display(stream) as show:
            show.progress(PROGRESS)
            show.ended(now)
        last = plain(stream.getvalue()).split("╭")[-1]
        assert " 43 % " in last
        assert EARLY[reason] in last
        assert "━" not in last
        assert " 100 %" not in last


def test_an_interrupted_training_keeps_its_bar(tmp_path: Path, fake_run: Any, terminal: Terminal) -> None:
    run = fake_run(tmp_path / "run", status="stopped")
    change_state(run, stop_reason="interrupted")
    now = dataclasses.replace(read_status(run), share=0.43)
    with Display(terminal) as show:
        show.progress(PROGRESS)
        show.ended(now)
    assert re.search(r"━ +43 % ", plain(terminal.getvalue()).split("╭")[-1])


def test_the_end_of_a_training_does_not_change_the_height_of_the_panel() -> None:
    for ending in (Ending(150.0), Ending(150.0, "ended at 43 % of the budget, as it diverged")):
        console = Console(file=io.StringIO(), width=80, force_terminal=False, color_system=None)
        console.print(panel(PROGRESS, 80, ending))
        file: Any = console.file
        assert len(file.getvalue().splitlines()) == len(rendered(PROGRESS))


def test_a_dumb_terminal_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_terminal(terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(terminal)
    with Display(terminal) as show:
        show.progress(PROGRESS)
    assert terminal.getvalue() == line(PROGRESS) + "\n"


@pytest.mark.parametrize("has_descriptor", [True, False])
def test_showing_in_vain_leaves_no_descriptor_open(tmp_path: Path, has_descriptor: bool) -> None:
    stream: Any = (tmp_path / "shown").open("w") if has_descriptor else Terminal()
    for _ in range(3):
        before = os.dup(0)  # the lowest number that is free
        os.close(before)
        with in_vain(stream):
            raise BrokenPipeError
        after = os.dup(0)
        os.close(after)
        assert after == before
    print("nobody sees it", file=stream, flush=True)
    stream.close()
    assert not has_descriptor or (tmp_path / "shown").read_bytes() == b""
