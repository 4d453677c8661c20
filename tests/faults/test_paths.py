"""Odd places for a run, its cache and its user: each works from the first step on, or one line says why not."""

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
from equipoise.runs.folder import RunFolder

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
STOP = lives.signalled("loop.take_generator_step", 20, signal.SIGTERM)


def stopped(command: lives.Command, out: Path, before: Callable[[], None] | None = None) -> None:
    hook = STOP if before is None else partial(lives.both, before, STOP)
    life = command.begun(out, hook)
    assert life.ended() == 130, life.told()
    assert life.told() == ""


def check_readers(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["status", run], ["digest", run], ["sample", run, "-n", "1", "-o", folder / "one.png"]):
        assert main([str(argument) for argument in arguments]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_is_trained_stopped_gone_on_with_and_read(
    command: lives.Command, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
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
    run, place = tmp_path / "run", tmp_path / "other" / "place"
    place.mkdir(parents=True)
    if how == "relative":
        out = Path("../../run")
        life = command.begun(out, partial(lives.both, partial(lives.go_to, place, 0o022), STOP))
        assert life.ended() == 130, life.told()
        life = command.begun(out, partial(lives.go_to, place, 0o022))
        assert life.ended() == 0, life.told()
    elif how == "link":
        run.symlink_to(place)
        stopped(command, run)
        command.finished(run)
        assert run.is_symlink()
    elif how == "beside":  # `..` after a link is not what its text says
        (tmp_path / "link").symlink_to(place)
        stopped(command, tmp_path / "link" / ".." / "run")
        run = tmp_path / "other" / "run"
        command.finished(run)
    else:
        stopped(command, run)
        (shutil.move if how == "moved" else shutil.copytree)(run, place / "run")
        run = place / "run"
        command.finished(run)
    assert lives.parts_of(run) == lives.expected(command)
    check_readers(run, tmp_path, capsys)


@pytest.mark.faults
def test_odd_surroundings_change_nothing(
    command: lives.Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    longest = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    for length in (longest, longest - 40):
        assert main(["train", str(shapes), "--out", str(deep(tmp_path, length))]) == 2
        assert "File name too long" in lives.one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    RunFolder.refuse_taken(deep(tmp_path, longest - 200))


def test_a_user_without_a_home_is_told_where_the_cache_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("EQUIPOISE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(UserError, match="set EQUIPOISE_CACHE") as caught:
        default_cache()
    assert not isinstance(caught.value, StorageError)
    monkeypatch.setenv("EQUIPOISE_CACHE", "~no-such-user-here/cache")
    with pytest.raises(UserError, match="set EQUIPOISE_CACHE"):
        default_cache()
