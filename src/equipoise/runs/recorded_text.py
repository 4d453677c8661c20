"""The text of a log, whatever it is packed and encoded in; and tables that are drawn, as plain ones."""

import gzip
import io
import re
import shlex
import zlib
from pathlib import Path

from equipoise.errors import UserError

MAX_BYTES = 2**28  # of a file that is unpacked
WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF")
MOSTLY = 0.9  # of the bytes at even or odd places that are 0 in UTF-16 without its mark
RULE = re.compile(r"[\s|+:=─━═┌┐└┘├┤┬┴┼╔╗╚╝╠╣╦╩╬╒╕╘╛╞╡╤╧╪\-]+")  # of a drawn table: |---|:--:|, +====+, └───┘
BARS = re.compile("[│┃║]")
EMPHASIS = re.compile(r"^([*_`~]{1,3})(.+)\1$")  # **8.5**: the best one, in bold
PAIR = re.compile(  # step=100, fid: 30.5, and without a mark numbers alone: step 100
    r"([A-Za-z][\w/.-]*)(?:\s*[:=]\s*([^\s,;|:=]+)|\s+(?=-?[.]?\d)([^\s,;|:=]+))"
)
OF_SNAPSHOT = re.compile(  # StyleGAN2's metric-fid50k.txt
    r"\s*(network-snapshot-\d+)\S*\s.*?\b((?:fid|kid)\w*)\s+(\S+)\s*", re.IGNORECASE
)


def text_of(path: Path, head: str) -> tuple[str, list[str]]:
    """Return a file's text, and in words how it was read; raises UserError. `head` are columns that it may have."""
    try:
        if not (path.is_file() or path.is_fifo()):
            raise UserError(path, "neither a file nor a folder", f"Give a CSV file with the columns {head}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "Check its name and its permissions") from None
    if content[:2] == b"\x1f\x8b":
        content = _unpacked(path, content)
    if content[:4] == b"PK\3\4":
        raise UserError(path, "a zip or an Excel file", f"Unpack it, or save the sheet as CSV, with the columns {head}")
    if content.startswith(PICTURES) or content[8:12] == b"WEBP":
        raise UserError(path, "a picture, and no table", f"Give the log itself, as CSV with the columns {head}")
    if b"brain.Event:" in content[:64]:
        remedy = "Save its values as CSV: in TensorBoard, tick Show data download links below a chart"
        raise UserError(path, "an event file of TensorBoard", remedy)
    guessed = _wide_without_mark(content)
    encoding = next((name for mark, name in WIDE.items() if content.startswith(mark)), guessed or "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(path, "not text in UTF-8", *_converted(path, content, head))
    return text, [f"its text is {guessed.upper()}"] if guessed else []


def _wide_without_mark(content: bytes) -> str | None:
    """Return the kind of UTF-16 that a text without its mark is in, by where its bytes are 0; None where in none."""
    for begin, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        wide = content[begin::2]
        other = content[1 - begin :: 2]
        if len(content) % 2 == 0 and wide and wide.count(0) >= MOSTLY * len(wide) and 0 not in other:
            return name
    return None


def _converted(path: Path, content: bytes, head: str) -> tuple[str, ...]:
    """Return what to do with a file in another encoding."""
    if b"\0" in content:
        return (f"Save it as CSV in UTF-8, with the columns {head}",)
    another = path.with_name(f"{path.stem}-utf8{path.suffix}")
    told = f"Save it as CSV in UTF-8, with the columns {head}"
    if another.exists():
        return (told,)
    command = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(another))}"
    return (told, f"If it comes from Windows: {command}")


def _unpacked(path: Path, content: bytes) -> bytes:
    """Return what a gzip file holds; raises UserError where it is damaged or very large."""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise UserError(path, "a damaged gzip file", "Unpack it yourself: gunzip --keep") from None
    if len(unpacked) > MAX_BYTES:
        raise UserError(path, f"it unpacks to more than {MAX_BYTES >> 20} MiB", "Keep the columns that matter")
    return unpacked


def undrawn(path: Path, text: str) -> tuple[str, str]:
    """Return a table that is drawn, as in Markdown or a terminal, as cells between bars, and in words what it was.

    Its lines keep their numbers; what stands above and below it is left out. Any other text is returned as it is.
    Raises UserError where there are several tables.
    """
    lines = BARS.sub("|", text).splitlines()
    rules = [place for place, line in enumerate(lines) if _is_rule(line)]
    if not rules:
        return text, ""
    first = next((place for place in range(rules[0], len(lines)) if "|" in lines[place] and place not in rules), None)
    if rules[0] and "|" in lines[rules[0] - 1]:
        first = rules[0] - 1
    if first is None:
        return text, ""
    plain = [""] * len(lines)
    last = first
    for place in range(first, len(lines)):
        if _is_rule(lines[place]):
            continue
        if "|" not in lines[place]:
            break
        last = place
        plain[place] = "|".join(_cell(cell) for cell in _inside(lines[place]).split("|"))
    if any(place > last + 1 and "|" in lines[place + 1 : place + 2][0] for place in rules if place + 1 < len(lines)):
        raise UserError(
            f"{path}, line {last + 1}", "more than one table", "Keep the one that counts, in a file of its own"
        )
    kept = sum(bool(line) for line in plain) + sum(_is_rule(line) for line in lines)
    told = "a drawn table, as in Markdown"
    if num_others := sum(bool(line.strip()) for line in lines) - kept:
        told = f"{told}; lines around it are passed over ({num_others:,})"
    return "\n".join(plain) + "\n", told


def _is_rule(line: str) -> bool:
    return RULE.fullmatch(line) is not None and any(mark in line for mark in ("--", "==", "─", "━", "═"))


def _inside(line: str) -> str:
    """Return what stands between the outer bars of a line, where it has some."""
    inner = line.strip()
    return inner[inner.startswith("|") : len(inner) - inner.endswith("|")]


def _cell(cell: str) -> str:
    """Return a cell without the marks of bold and the like."""
    return EMPHASIS.sub(r"\2", cell.strip())


def paired(text: str) -> tuple[list[tuple[int, dict[str, str]]], int]:
    """Return the named numbers of each line of a log such as `step=100 fid=30.5`, and how many lines have none.

    Of StyleGAN2's logs these are the number of a snapshot and its metric.

    There are none where most lines have no such.
    """
    rows = []
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, line in lines:
        if snapshot := OF_SNAPSHOT.fullmatch(line):
            rows.append((number, {"snapshot_pkl": snapshot[1], snapshot[2]: snapshot[3]}))
            continue
        pairs = [(name, marked or plain) for name, marked, plain in PAIR.findall(line)]
        if len(pairs) >= 2 and len({name for name, _ in pairs}) == len(pairs):
            rows.append((number, dict(pairs)))
    if 2 * len(rows) <= len(lines):
        return [], len(lines)
    return rows, len(lines) - len(rows)
