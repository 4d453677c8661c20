"""What a task shows of its best generator: each file of `samples/` as the page takes it; damaged ones are left out."""

import base64
import errno
import io
import math
import statistics
import struct
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec

from equipoise import formatting
from equipoise.report.charts import TONES, Svg, histogram, line_of, waveform
from equipoise.report.values import FLAT, Chart, drawn
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import Exhibit, ExhibitKind, number_of
from equipoise.storage.safe_open import read_bytes

MOST_BYTES = 12_000_000  # of all exhibits together, and of all snapshots: a larger page could hardly be opened
LEAST_NUMERIC = 3  # cells of a column whose distribution is shown
NUM_PEAKS = 200  # bars of a waveform
NUM_SNAPSHOTS = 6


@dataclass(frozen=True)
class Media:
    """A picture, an animation or a sound as a data URI; a sound has a waveform instead of a size."""

    source: str
    width: int = 0
    height: int = 0
    wave: Svg | None = None


@dataclass(frozen=True)
class Column:
    """The head of a column, and for numbers how they are distributed."""

    head: str
    histogram: Svg | None = None
    summary: str = ""


@dataclass(frozen=True)
class Rows:
    """A table."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


class _RowsFile(msgspec.Struct):
    head: list[str]
    rows: list[list[str]]


Content: TypeAlias = Media | Chart | Rows | list[str]


@dataclass(frozen=True)
class Shown:
    """One exhibit as the page shows it."""

    kind: ExhibitKind
    caption: str
    content: Content


@dataclass
class Group:
    """Exhibits of one title; `too_large` are files that would make the page too large."""

    title: str
    intro: str
    shown: list[Shown]
    too_large: list[str]


def exhibit_groups(run: RunFolder, num_runs: int = 1) -> list[Group]:
    """Return what a run shows, by title in the order given; raises UserError where the record of it is damaged.

    A page of several runs gives each an equal part of its room.
    """
    left = MOST_BYTES // num_runs
    groups: dict[str, Group] = {}
    for exhibit in run.read_exhibits().exhibits:
        group = groups.setdefault(exhibit.title, Group(exhibit.title, "", [], []))
        group.intro = group.intro or exhibit.intro
        try:
            data = _content(run, exhibit, left)
        except OSError as error:
            if error.errno == errno.EFBIG:
                group.too_large.append(exhibit.file)
            continue
        content = content_of(exhibit.kind, exhibit.title, data)
        if content:
            left -= len(data)
            group.shown.append(Shown(exhibit.kind, exhibit.caption, content))
    return [group for group in groups.values() if group.shown or group.too_large]


def content_of(kind: ExhibitKind, title: str, data: bytes) -> Content | None:
    """Return what a file holds, None where it is damaged or there is nothing to see."""
    try:
        match kind:
            case "picture":
                return _picture(data)
            case "animation":
                return _animation(data)
            case "sound":
                return _sound(data, title)
            case "series":
                return _series(data, title)
            case "rows":
                return _rows(data)
            case "lines":
                return msgspec.json.decode(data, type=list[str])
            case _ as unreachable:
                assert_never(unreachable)
    except (ValueError, EOFError, RuntimeError, struct.error, wave.Error):  # of msgspec, and of wave
        return None


def snapshots_of(run: RunFolder) -> list[tuple[str, Media]]:
    """Return up to six snapshots over the run with the samples shown until then; none of fewer than two."""
    small = [(at, path) for at, path in run.snapshots() if path.stat().st_size * NUM_SNAPSHOTS <= MOST_BYTES]
    num = min(NUM_SNAPSHOTS, len(small))
    frames = []
    for index in range(num):
        at, path = small[round(index * (len(small) - 1) / max(1, num - 1))]
        frame = _picture(path.read_bytes())
        if frame is not None:
            frames.append((formatting.count(at), frame))
    return frames if len(frames) >= 2 else []


def _content(run: RunFolder, exhibit: Exhibit, limit: int) -> bytes:
    """Read an exhibit's file in `samples/`; raises OSError, EFBIG where it is larger than the limit."""
    if Path(exhibit.file).name != exhibit.file or "\0" in exhibit.file:
        raise FileNotFoundError(exhibit.file)
    return read_bytes(run.samples / exhibit.file, limit)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _picture(data: bytes) -> Media | None:
    """Return a whole PNG file with its size in pixels."""
    if len(data) < 33 or data[:8] != b"\x89PNG\r\n\x1a\n" or b"IEND" not in data[-16:]:
        return None
    return Media(_uri("image/png", data), *struct.unpack(">II", data[16:24]))


def _animation(data: bytes) -> Media | None:
    """Return a whole GIF file with its size in pixels, or a WebP file."""
    if data[:6] in (b"GIF87a", b"GIF89a") and data.endswith(b";"):
        return Media(_uri("image/gif", data), *struct.unpack("<HH", data[6:10]))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= struct.unpack("<I", data[4:8])[0]:
        return Media(_uri("image/webp", data))
    return None


def _sound(data: bytes, title: str) -> Media:
    """Return a WAV file; one of 16 bits comes with its waveform."""
    with wave.open(io.BytesIO(data)) as file:
        frames = file.readframes(file.getnframes())
        width = file.getsampwidth()
    if width != 2 or len(frames) < 2:
        return Media(_uri("audio/wav", data))
    samples = struct.unpack(f"<{len(frames) // 2}h", frames[: len(frames) // 2 * 2])
    size = math.ceil(len(samples) / NUM_PEAKS)
    parts = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
    peaks = [max(max(part), -min(part)) / 32768 for part in parts]
    return Media(_uri("audio/wav", data), wave=waveform(peaks, title))


def _series(data: bytes, title: str) -> Chart | None:
    """Return lines of numbers by their labels as a chart."""
    series = msgspec.json.decode(data, type=dict[str, list[float | None]])
    lines = []
    for at, (label, values) in enumerate(series.items()):
        numbers = list(map(number_of, values))
        lines.append(line_of(label, range(len(numbers)), numbers, tone=TONES[at % len(TONES)]))
    return drawn("series", title, lines, sizes=FLAT, unit="")


def _rows(data: bytes) -> Rows:
    """Return a table; a column of numbers comes with how they are distributed."""
    table = msgspec.json.decode(data, type=_RowsFile)
    num = len(table.head)
    rows = [tuple([*row, *[""] * num][:num]) for row in table.rows]
    columns = [_column(head, [row[at] for row in rows]) for at, head in enumerate(table.head)]
    return Rows(tuple(columns), tuple(rows))


def _column(head: str, cells: Sequence[str]) -> Column:
    try:
        numbers = [number_of(float(cell)) for cell in cells]
    except ValueError:
        return Column(head)
    if len(numbers) < LEAST_NUMERIC or not all(map(math.isfinite, numbers)):
        return Column(head)
    low, middle, high = map(_short, (min(numbers), statistics.median(numbers), max(numbers)))
    summary = f"{low} to {high}, median {middle}"
    return Column(head, histogram(numbers, f"{head}: {summary}"), summary)


def _short(number: float) -> str:
    if number.is_integer() and abs(number) < 1e6:
        return f"{number:.0f}"
    return formatting.value(number)
