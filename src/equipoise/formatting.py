"""Counts, durations and scores as people read them, and the one-line progress."""

import math
import textwrap
from collections.abc import Sequence

from equipoise.sizes import MIN_SIDE
from equipoise.storage.records import Score

ROUGH = (2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90)  # minutes
MOST_PLACES = 12  # behind the point; of a number with more an exponent is written
MOST_WRITTEN_OUT = 1e12


def count(number: float) -> str:
    """Shorten a count to three digits: `950`, `12.3k`, `60k`, `1.23M`."""
    for limit, scale, unit in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (math.inf, 1e9, "G")):
        short = float(f"{number / scale:.3g}")
        if abs(short) * scale < limit:
            return f"{short:g}{unit}"
    return "–"


def duration(seconds: float) -> str:
    """Write seconds as a clock does: `0:12`, `12:05`, `3:02:05`; a dash where they are unknown."""
    if not math.isfinite(seconds):
        return "–"
    total = max(0, round(seconds))
    hours, minutes = total // 3600, total // 60 % 60
    return f"{hours}:{minutes:02}:{total % 60:02}" if hours else f"{minutes}:{total % 60:02}"


def rough_duration(seconds: float) -> str:
    """Write an estimate of seconds as one says it, rounded up: `1 minute`, `15 minutes`, `2 hours`."""
    minutes = rough_seconds(seconds) // 60
    if minutes == 1:
        return "1 minute"
    return f"{minutes} minutes" if minutes <= ROUGH[-1] else f"{minutes // 60:,} hours"


def rough_seconds(seconds: float) -> int:
    """Round an estimate up to what one says: some whole minutes, or hours of one digit that counts."""
    minutes = math.ceil(seconds / 60 - 1e-9)
    if minutes <= ROUGH[-1]:
        return 60 * next(step for step in (1, *ROUGH) if step >= minutes)
    hours = math.ceil(minutes / 60)
    step = 10 ** max(0, len(str(hours)) - 1)
    return 3_600 * (-(-hours // step) * step)


def first_few(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """Join the first texts, with an ellipsis where there are more than `most`."""
    return separator.join([*texts[:most], *(["…"] if len(texts) > most else [])])


def percent(share: float) -> str:
    """Write a share as a whole per cent, rounded down so that 100 % means all."""
    return f"{math.floor(100 * share + 1e-9)} %" if math.isfinite(share) else "–"


def colours_of(channels: object) -> str:
    """Say in words what so many channels of an image are."""
    match channels:
        case 1:
            return "grey"
        case 3:
            return "colour"
        case 4:
            return "colour with transparency"
        case _:
            return f"{channels} channels"


def value(number: float | None) -> str:
    """Write a number with three significant digits, no exponent where it is near 1; a count whole; a dash for none."""
    if number is None or not math.isfinite(number):
        return "–"
    if number == round(number) and abs(number) < 1e6:
        return f"{number:.0f}"
    if not 1e-4 <= abs(number) < 1e6:
        return f"{number:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:.{digits}f}"


def with_error(number: float | None, error: float | None) -> str:
    """Write `0.034 ± 0.002`: the error to one digit (two if that is a 1), the number to the same place."""
    if number is None or not math.isfinite(number):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return value(number)
    first = f"{error:.1e}"
    digits = 1 if first[0] == "1" else 0
    places = max(0, digits - math.floor(math.log10(float(f"{error:.{digits}e}"))))
    if places > MOST_PLACES or max(abs(number), error) >= MOST_WRITTEN_OUT:
        return f"{value(number)} ± {value(error)}"
    if number != 0 and float(f"{number:.{places}f}") == 0:  # a distance of 0.000 would read as perfect
        places += 1
    text = f"{number:.{places}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return f"{text} ± {error:.{places}f}"


def printable(text: str) -> str:
    """Return text as one line without control characters, whatever odd names it quotes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """Return the lines of a text without control characters; what they quote must not have lines of its own."""
    return "\n".join(map(printable, text.split("\n")))


def wrapped(text: str, width: int, label: str = "", indent: int = 0) -> list[str]:
    """Break a text into lines of a width, the first led by a label, the others indented as far."""
    lead = f"{label:<{indent}}"
    lines = textwrap.wrap(printable(text), width - len(lead), break_on_hyphens=False, break_long_words=False) or [""]
    return [f"{lead}{lines[0]}", *(f"{'':<{len(lead)}}{line}" for line in lines[1:])]


def shown(value: object) -> str:
    """Write a setting or a fact as people read it: yes and no, `none`, lists with commas, a size as 40x30."""
    if isinstance(value, list | tuple):
        is_size = len(value) == 2 and all(type(side) is int and side >= MIN_SIDE for side in value)
        if is_size:
            return f"{value[0]}x{value[1]}"
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def is_lower_not_significant(last: Score, best: Score) -> bool:
    """Return whether a score is lower than the best one's, and not significantly better in the paired comparison.

    One that breaks a guard may well be significantly better: it is not the best for another reason.
    """
    is_paired = last.compared_with == best.samples and last.samples != best.samples
    is_known = is_paired and math.isfinite(last.difference + last.difference_error)
    return is_known and last.loss < best.loss and not last.broken


def why_not_best(last: Score, best: Score) -> str:
    """Say why a score that is lower than the best one's is not the best; empty where it is not lower."""
    if last.broken and last.loss < best.loss:
        return f"the last is lower, but misses a limit ({', '.join(last.broken)})"
    if is_lower_not_significant(last, best):
        return "the last is lower, but not significantly"
    return ""


def score(found: Score) -> str:
    """Write a score's loss, with its standard error where one is known."""
    return with_error(found.loss, found.error)


def progress_line(
    samples: int,
    horizon: int | None,
    samples_per_second: float,
    seconds_left: float,
    last: Score | None = None,
    best: Score | None = None,
    label: str = "KID",
) -> str:
    """Say in one line how far a run is; what is not known yet is left out."""
    parts = [f"{count(samples)} samples"]
    if horizon:
        whole = max(samples, horizon)  # the last round may go beyond
        parts = [f"{count(samples)} / {count(whole)} samples", percent(samples / whole)]
    if math.isfinite(samples_per_second) and samples_per_second > 0:
        parts.append(f"{samples_per_second:,.0f}/s")
    if math.isfinite(seconds_left):
        parts.append(f"{duration(seconds_left)} left")
    if last is not None:
        text = f"{label} {score(last)}"
        if best is not None and best.samples == last.samples:
            text += " (the best so far)"
        elif best is not None:
            note = why_not_best(last, best)
            shown = score(best).partition(" ± ")[0]  # as it was rounded when it was the last one
            text += f" (best {shown}; {note})" if note else f" (best {shown})"
        parts.append(text)
    return " · ".join(parts)
