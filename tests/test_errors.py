"""A mistake has three parts, which are rendered in the words of the command line or of Python: here word for word."""

import errno
from pathlib import Path

import pytest

from equipoise.errors import (
    Command,
    Near,
    Option,
    Part,
    RunBusyError,
    Setting,
    StorageError,
    UserError,
    is_of_disk,
    listed,
    shortened,
    suggested,
    together,
    what_failed,
)

RENDERED: list[tuple[UserError, str, str]] = [
    (
        UserError("source", "is empty", "Put images in it"),
        "source: is empty. Put images in it.",
        "source: is empty. Put images in it.",
    ),
    (
        UserError(Path("a run"), "has finished.", "To train longer", Command("resume", Path("a run"), budget="20m")),
        "a run: has finished. To train longer. Try: equipoise resume 'a run' --budget 20m",
        'a run: has finished. To train longer. Try: equipoise.resume("a run", budget="20m")',
    ),
    (
        UserError(Option("budget", "soon"), "not a time", Option("budget", "10m"), Option("budget", "60k")),
        "--budget soon: not a time. Try: --budget 10m, or --budget 60k",
        'budget="soon": not a time. Try: budget="10m", or budget="60k"',
    ),
    (
        UserError(Option("in_place"), "it needs a folder", Option("num", 64)),
        "--in-place: it needs a folder. Try: --num 64",
        "in_place=: it needs a folder. Try: num=64",
    ),
    (
        UserError(Setting("game.loss", "hing"), "allowed are a or b", Near("hinge")),
        'game.loss=hing: allowed are a or b. Did you mean "hinge"?',
        'game.loss=hing: allowed are a or b. Did you mean "hinge"?',
    ),
    (
        UserError(Setting("augment"), "is a group", Setting("augment.kinds", ("a", "b")), Setting("x.y", None)),
        "augment: is a group. Try: --set augment.kinds=a,b, or --set x.y=none",
        'augment: is a group. Try: settings=["augment.kinds=a,b"], or settings=["x.y=none"]',
    ),
    (
        UserError("few", "is few", "Add some", *together([Setting("a.b", 0.3), Setting("c.d", 2)])),
        "few: is few. Add some. Try: --set a.b=0.3 --set c.d=2",
        'few: is few. Add some. Try: settings=["a.b=0.3", "c.d=2"]',
    ),
    (
        UserError("few", "is few", *together([Setting("a.b", 0.3)]), *together([])),
        "few: is few. Try: --set a.b=0.3",
        'few: is few. Try: settings=["a.b=0.3"]',
    ),
    (
        UserError(Setting("a.b", 0.5), "with c=1", Setting("a.b", True), Setting("c d", "e f")),
        "a.b=0.5: with c=1. Try: --set a.b=true, or --set 'c d=e f'",
        'a.b=0.5: with c=1. Try: settings=["a.b=true"], or settings=["c d=e f"]',
    ),
    (
        UserError(
            Command("resume", "run"), "not now", Command("status", "run"), Command("data", "check", "x", json=None)
        ),
        "equipoise resume run: not now. Try: equipoise status run, or equipoise data check x --json",
        'equipoise.resume("run"): not now. Try: equipoise status run, or equipoise data check x --json',
    ),
    (
        UserError("x", "two\nlines", "and\nmore"),
        "x: two lines. and more.",
        "x: two lines. and more.",
    ),
]


@pytest.mark.parametrize(("error", "shell", "python"), RENDERED, ids=lambda value: str(value)[:30])
def test_an_error_is_one_line_in_the_words_of_who_reads_it(error: UserError, shell: str, python: str) -> None:
    assert error.told(in_shell=True) == shell
    assert error.told(in_shell=False) == str(error) == python


def test_an_error_about_something_else_keeps_its_kind_and_its_other_parts() -> None:
    remedies: tuple[Part, ...] = (Option("out", "x"), "Wait")
    for kind in (UserError, RunBusyError, StorageError):
        error = kind("a", "busy", *remedies).about(Option("run", "b"))
        assert type(error) is kind
        assert (error.subject, error.problem, error.remedies) == (Option("run", "b"), "busy", remedies)


def test_the_nearest_word_is_suggested_and_none_where_nothing_is_near_or_all_is_long() -> None:
    assert suggested("patiense", ["patience", "budget"]) == (Near("patience"),)
    assert suggested("GLASSES", ["classes", "glasses"]) == (Near("glasses"),)
    assert suggested("zzz", ["patience", "budget"]) == ()
    assert suggested("patience" * 20, ["patience" * 20]) == ()


def test_words_are_listed_and_texts_shortened() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b or c"
    assert shortened("x" * 80) == "x" * 80
    assert shortened("x" * 81) == "x" * 79 + "…"


OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@pytest.mark.parametrize("number", [*OF_DISK, errno.EACCES, errno.ENOENT])
def test_a_disk_that_fails_is_told_from_a_permission(number: int) -> None:
    error = OSError(number, "reason")
    assert is_of_disk(error) == (number in OF_DISK)
    is_full = number in (errno.ENOSPC, errno.EDQUOT)
    assert ("full" in what_failed(error)) == is_full
    assert ("reason" in what_failed(error)) == (not is_full)
