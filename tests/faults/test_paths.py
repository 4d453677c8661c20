"""Odd places for a run, its cache and its user: each works from the first step on, or one line says why not."""

import errno
import os
import shutil
import signal
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lives
import pytest

from equipoise.cli import main
from equipoise.data.cache import default_cache
from equipoise.errors import StorageError, UserError
from equipoise.runs import rules

NAMES = {
    "spaces": "a run  of mine ",
    "composed": unicodedata.normalize("NFC", "Über ångström é"),
    "decomposed": unicodedata.normalize("NFD", "Über ångström é"),
    "emoji": "🐈‍⬛ 数字",
    "quotes": 'it\'s "quoted" `x` $HOME \\n %s {0} [red]',
    "newline": "two\nlines",
    "dash": "-n",
    "long": "x" * 255,
    "dots": "...",
}
STOP = lives.signalled("loop.set_rates", 20, signal.SIGTERM)  # before the 20th round


def stopped(command: lives.Command, out: Path, before: Callable[[], None] | None = None) -> None:
    """Let a training do something first, and be told to leave a little later."""
    hook = STOP
    if before is not None:
        hook = partial(lives.both, before, STOP)
    life = command.begun(out, hook)
    assert life.ended() == 130, life.told()
    assert life.told() == ""


def check_readers(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """See that a run can be read, and its best generator drawn from."""
    for arguments in (["status", run], ["digest", run], ["sample", run, "-n", "1", "-o", folder / "one.png"]):
        assert main([str(argument) for argument in arguments]) == 0
        told = capsys.readouterr().err
        assert told.startswith("Quality: ") if arguments[0] == "sample" else told == ""


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_is_trained_stopped_gone_on_with_and_read(
    command: lives.Command, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is taken as it is, and nothing else is made beside it."""
    run = tmp_path / "runs" / NAMES[name]
    stopped(command, run)
    assert command.finished(run) == lives.expected(command)
    check_readers(run, tmp_path, capsys)
    assert [path.name for path in run.parent.iterdir()] == [NAMES[name]]


@pytest.mark.faults
@pytest.mark.parametrize("how", ["relative", "link", "moved", "copied", "beside"])
def test_a_run_is_where_it_is_found(
    command: lives.Command, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a relative path, by a link, and in another place than where it began: it goes on the same way."""
    run = tmp_path / "run"
    place = tmp_path / "other" / "place"
    place.mkdir(parents=True)
    match how:
        case "relative":
            out = Path("../../run")
            stopped(command, out, partial(lives.go_to, place, 0o022))
            life = command.begun(out, partial(lives.go_to, place, 0o022))
            assert life.ended() == 0, life.told()
        case "link":
            run.symlink_to(place)
            stopped(command, run)
            command.finished(run)
            assert run.is_symlink()
        case "beside":  # `..` after a link is not what its text says
            (tmp_path / "link").symlink_to(place)
            stopped(command, tmp_path / "link" / ".." / "run")
            run = tmp_path / "other" / "run"
            command.finished(run)
        case "moved":
            stopped(command, run)
            run = Path(shutil.move(run, place / "run"))
            command.finished(run)
        case _:
            stopped(command, run)
            run = shutil.copytree(run, place / "run")
            command.finished(run)
    assert lives.parts_of(run) == lives.expected(command)
    check_readers(run, tmp_path, capsys)


@pytest.mark.faults
def test_odd_surroundings_change_nothing(
    command: lives.Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No home, another language, a mask that lets nobody else in, and no place for temporary files."""
    spaced = lives.Command(command.source, tmp_path / "a cache 数字")
    (tmp_path / "temporary").mkdir()
    (tmp_path / "temporary").chmod(0o555)
    changes = {"HOME": None, "XDG_CACHE_HOME": None, "TMPDIR": os.fspath(tmp_path / "temporary"), "LC_ALL": "C"}
    hook = partial(lives.both, partial(lives.surround, changes), partial(lives.go_to, tmp_path, 0o077))
    stopped(spaced, tmp_path / "run", hook)
    life = spaced.begun(tmp_path / "run", hook)
    assert life.ended() == 0, life.told()
    assert lives.parts_of(tmp_path / "run") == lives.expected(command)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700, "nobody else may look into it"
    check_readers(tmp_path / "run", tmp_path, capsys)


def deep(folder: Path, length: int) -> Path:
    """Return a path below a folder that has this many bytes."""
    while length - len(os.fsencode(folder)) > 201:
        folder = folder / ("x" * 99)
    return folder / ("x" * (length - len(os.fsencode(folder)) - 1))


def test_a_path_too_long_for_what_a_run_holds_is_refused_at_once(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written before."""
    longest = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    for length in (longest, longest - 40):
        assert main(["train", str(shapes), "--out", str(deep(tmp_path, length))]) == 2
        assert os.strerror(errno.ENAMETOOLONG) in lives.one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    rules.refuse_taken(deep(tmp_path, longest - 200))


def test_a_user_without_a_home_is_told_where_the_cache_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no failure of the disk, and there is a variable to set."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("EQUIPOISE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    for chosen in (None, "~no-such-user-here/cache"):
        if chosen is not None:
            monkeypatch.setenv("EQUIPOISE_CACHE", chosen)
        with pytest.raises(UserError, match="EQUIPOISE_CACHE") as caught:
            default_cache()
        assert not isinstance(caught.value, StorageError)
