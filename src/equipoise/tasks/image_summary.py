"""What was found in a source of images, in words."""

from collections.abc import Sequence

from equipoise.data.pool import Pool
from equipoise.formatting import colours_of, first_few, printable
from equipoise.recipe import Networks

LARGE_SHARE = 0.1  # of files left out, in images that are used; said first


def summary_of(pool: Pool, what: str, *more: str) -> str:
    """Say what was found and left out, then a line for each thing inferred and for more; `what` the images are."""
    num, channels, height, width = pool.images.shape
    kinds = [f"{width}×{height}", colours_of(channels)]
    if pool.sets:
        kinds.append(f"{len(pool.classes)} labels in {len(pool.sets):,} combinations")
    elif pool.classes:
        kinds.append(f"{len(pool.classes)} classes")
    text = f"{num:,} {what} ({', '.join(kinds)}), {len(pool.splits.train):,} to train on"
    left_out = left_out_of(pool)
    if left_out and len(pool.rejected) + pool.num_skipped > LARGE_SHARE * num:
        text = f"{left_out[:1].upper()}{left_out[1:]}. {text}"  # first, as it is more than a detail
    elif left_out:
        text = f"{text}; {left_out}"
    notes = [note for note in (*pool.notes, capitals_note(pool.classes), *more) if note]
    return "\n".join([printable(text), *(f"  {printable(note[:1].upper() + note[1:])}" for note in notes)])


def capitals_note(classes: Sequence[str]) -> str:
    """Say which classes may be one that was written in two ways; empty where there are none."""
    ways: dict[str, list[str]] = {}
    for name in classes:
        ways.setdefault(name.lower(), []).append(name)
    alike = [" and ".join(names) for names in ways.values() if len(names) > 1]
    return f"{first_few(alike, 3)} differ in capitals alone, and are taken as different" if alike else ""


def untold_note(networks: Networks, pool: Pool) -> str:
    """Say that labels that were found are not used, and what uses them; empty where there are none, or they are."""
    if networks.conditional or not pool.classes:
        return ""
    what = "labels" if pool.sets else "classes"
    return f"the networks are not told these {what}; the setting networks.conditional=true tells them"


def left_out_of(pool: Pool) -> str:
    """Say which files could not be used, and which were ignored; empty where there are none."""
    parts = []
    every = len(pool.images) + len(pool.rejected) + pool.num_skipped
    if pool.rejected:
        shown = first_few([f"{item.name}: {item.reason}" for item in pool.rejected], 3, "; ")
        parts.append(f"{len(pool.rejected):,} of {every:,} files could not be used ({shown})")
    if pool.num_skipped:
        kinds = sorted(pool.skipped.items(), key=lambda item: (-item[1], item[0]))
        shown = first_few([f"{count:,} {kind}" for kind, count in kinds], 4)
        why = f": {shown}" if shown else ""
        parts.append(f"{pool.num_skipped:,} of {every:,} files ignored{why} (equipoise data check lists them)")
    return "; ".join(parts)


def with_left_out(problem: str, pool: Pool) -> str:
    """Return a problem with what was left out, as that may be its cause."""
    left_out = left_out_of(pool)
    return f"{problem}; {left_out}" if left_out else problem
