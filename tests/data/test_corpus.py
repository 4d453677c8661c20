"""Every odd file is used with the right pixels, or left out with a plain reason: never a crash, a hang or a warning."""

import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest

from equipoise.data.decode import BrokenImage, Target, decode, decode_described, has_color, smaller_side
from equipoise.data.pool import prepare
from equipoise.data.sources import open_source
from equipoise.errors import UserError
from equipoise.recipe import Data
from equipoise.sizes import size_of

WHITE = (255, 255, 255)
ODD = corpus.odd_files()
TARGET = Target(size_of(corpus.SIDE), 3, "crop", WHITE)


def reason_against(function: Callable[..., object], *arguments: Any) -> str | None:
    """Return why a file cannot be used, None if it can."""
    try:
        function(*arguments)
    except BrokenImage as broken:
        return str(broken)
    return None


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_an_odd_file_is_used_with_its_pixels_or_left_out_with_its_reason(odd: Any, capfd: pytest.CaptureFixture[str]):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as the pool does
        reason = reason_against(decode_described, odd.content, TARGET)
        if reason is not None:
            assert odd.reason is not None, f"left out: {reason}"
            assert re.search(odd.reason, reason), reason
        else:
            described = decode_described(odd.content, TARGET)
            pixels, header = described.pixels, described.header
            assert odd.pixels is not None, "used"
            off = abs(pixels.transpose(1, 2, 0).astype(int) - odd.pixels)
            assert off.max() <= odd.tolerance
            assert (decode(odd.content, TARGET) == pixels).all()
            assert header.is_turned == ("turned" in odd.name and "turned 1" not in odd.name)
            assert header.is_animated == odd.name.startswith(("moving", "pages"))
        for reason in (reason_against(smaller_side, odd.content), reason_against(has_color, odd.content, WHITE)):
            assert reason is None or re.search(odd.reason, reason)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_odd_files_break_no_other_way_to_make_them_square(odd: Any, fit: Any):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            assert decode(odd.content, Target(size_of(8), 1, fit, WHITE)).shape == (1, 8, 8)
        except BrokenImage:
            assert odd.reason is not None


BOMBS = """
import resource, sys
sys.path.append(sys.argv[1])
import corpus
from equipoise.data.decode import BrokenImage, Target, decode, has_color
from equipoise.sizes import size_of

target = Target(size_of(16), 3, "crop", (255, 255, 255))
bombs = [corpus.small_bomb(), corpus.large_bomb(), corpus.text_bomb()]
decode(corpus.encoded(corpus.picture()), target)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 80_000_000, used + 80_000_000))
for bomb in bombs:
    for look in (lambda raw: decode(raw, target), lambda raw: has_color(raw, (255, 255, 255))):
        try:
            look(bomb)
        except BrokenImage as broken:
            print(broken)
        else:
            print("used")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_bombs_are_refused_before_they_take_memory():
    command = [sys.executable, "-c", BOMBS, Path(corpus.__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert len(lines) == 6
    assert all("too large: 8064x8064" in line for line in lines[:2])
    assert all("too large: 18000x18000" in line for line in lines[2:4])
    assert "memory" not in done.stdout


@pytest.mark.slow
def test_a_real_photo_of_many_pixels_is_not_taken_for_a_bomb():
    rows = np.random.default_rng(0).integers(0, 2, (5000, 625), dtype=np.uint8) * np.uint8(129)
    raw = corpus.png(5000, 5000, corpus.unfiltered(rows), 1, 0)
    assert decode(raw, TARGET).shape == (3, corpus.SIDE, corpus.SIDE)


@pytest.mark.skipif(not hasattr(corpus.os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_devices_and_broken_links_are_left_out_with_their_reason_and_nothing_hangs(tmp_path: Path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate(corpus.odd_names()):
        (folder / name).write_bytes(corpus.encoded(corpus.picture() // (index + 1)))
    for index in range(60):
        (folder / f"{index}.png").write_bytes(corpus.encoded(np.roll(corpus.picture(), index, 0) ^ np.uint8(index)))
    expected = corpus.add_special_files(folder)
    found: list[Any] = []
    reader = threading.Thread(
        target=lambda: found.append(prepare(Data(source=str(folder)), cache=tmp_path / "cache")), daemon=True
    )
    reader.start()
    reader.join(60)
    assert not reader.is_alive(), "a pipe was waited for"
    pool = found[0]
    assert {rejected.name: rejected.reason for rejected in pool.rejected} == expected
    assert len(pool.images) == 60 + len(corpus.odd_names())


def test_a_file_without_a_suffix_that_is_a_pipe_is_ignored(tmp_path: Path):
    corpus.os.mkfifo(tmp_path / "pipe")
    (tmp_path / "1.png").write_bytes(corpus.encoded(corpus.picture()))
    images = open_source(str(tmp_path)).load()
    assert list(images.names) == ["1.png"]
    assert images.skipped == {"without a suffix": 1}


def test_a_source_of_odd_files_alone_is_refused_in_one_line_without_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
):
    folder = tmp_path / "photos"
    folder.mkdir()
    for odd in ODD:
        (folder / odd.name).write_bytes(odd.content)
    with pytest.raises(UserError) as caught:
        prepare(Data(source=str(folder)), cache=tmp_path / "cache")
    assert caught.value.subject == f'source "{folder}"'
    assert f" of {len(ODD)} " in caught.value.problem
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
