"""What a check of images advises: a background, a size and fit that keep every pixel, and the command to type."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from equipoise.cli.text import WIDTH, counted, typed
from equipoise.data.audit.check import Check
from equipoise.data.audit.sizes import MOST, Keeping
from equipoise.data.audit.transparency import ABSENT
from equipoise.data.channels import OPACITY
from equipoise.errors import Command, Setting
from equipoise.formatting import percent, printable
from equipoise.sizes import Size

MUCH_CUT = 1 / 3  # share of a picture, from which showing all of it is the better advice
OF_FIT = "task.fit="
OF_SIZE = "task.size="
OF_BACKGROUND = "task.background="


def advised_command(found: Check, settings: Sequence[str]) -> str | None:
    """Return the training to type, None where it would be the same, or would not start; `settings` are those given."""
    return _command(found, settings, [*_advised_size(found), *_advised_background(found)])


def advised_lines(found: Check, settings: Sequence[str]) -> Iterator[str]:
    """Yield the training to type, and beside one that is much for this machine the one that takes less time."""
    if not _is_much(found):
        yield from _command_lines("to train so, type:", advised_command(found, settings))
        return
    yield from _command_lines("to keep every pixel, type:", advised_command(found, settings))
    training = found.training
    quick = [Setting("task.size", (training.shape or training.target.size).typed)]
    if training.cut_shares and training.shape is None:
        quick.append(Setting("task.fit", "pad"))
    quick += _advised_background(found)
    yield from _command_lines("to train in less time, type:", _command(found, settings, quick))


def _command(found: Check, settings: Sequence[str], changes: Sequence[Setting]) -> str | None:
    if not changes or found.training.refusal is not None:
        return None
    fields = {change.field for change in changes}
    kept = [setting for setting in settings if setting.partition("=")[0].strip() not in fields]
    named: dict[str, Any] = {"recipe": found.named} if found.named is not None else {}
    words = [typed(Command("train", found.source, **named))]
    for setting in [*kept, *(f"{change.field}={change.value}" for change in changes)]:
        if setting.startswith(OF_SIZE):
            words.append(f"--size {shlex.quote(setting.removeprefix(OF_SIZE))}")
        elif setting.startswith(OF_FIT):
            words.append(f"--fit {shlex.quote(setting.removeprefix(OF_FIT))}")
        else:
            words.append(f"--set {shlex.quote(setting)}")
    return printable(" ".join(words))


def _command_lines(lead: str, command: str | None) -> Iterator[str]:
    """Yield a command as it can be copied: a long one in several lines, each but the last with a backslash."""
    if command is None:
        return
    yield lead
    line = "  "
    for word in command.replace(" --", "\n--").split("\n"):
        if len(line) + len(word) > WIDTH - 2 and line.strip():
            yield f"{line.rstrip()} \\"
            line = "      "
        line += f"{word} "
    yield line.rstrip()


def transparency_values(found: Check) -> dict[str, Any]:
    """Return what is known of transparent images as plain values."""
    clear = found.transparency
    return {
        "images": clear.num,
        "background": _background(found),
        "nothing_seen": clear.num_blank,
        "vanishing": clear.num_vanishing,
        "suggested_background": _suggested(found) or None,
    }


def transparency_lines(found: Check) -> Iterator[str]:
    """Yield what shows through transparent images, and whether they stand out from it."""
    clear = found.transparency
    background = _background(found)
    if not clear.num:
        return
    verb = "has" if clear.num == 1 else "have"
    has = f"{counted(clear.num, 'image')} ({percent(clear.num / max(1, found.num_used))}) {verb} transparent pixels"
    if found.training.target.channels == OPACITY:
        yield f"{has}, which are kept as a fourth channel"
        return
    yield f"{has}; they become {background} (task.background)"
    yield "--set task.channels=4 keeps them: samples are then transparent, too"
    if clear.num_blank:
        yield f"{clear.num_blank:,} of them show nothing at all"
    if clear.num_vanishing == 1:
        yield f"1 of them is mostly {background} itself, and vanishes on it"
    elif clear.num_vanishing:
        yield f"{clear.num_vanishing:,} of them are mostly {background} themselves, and vanish on it"
    if color := _suggested(found):
        occurs = "does not occur in them" if clear.share < ABSENT else f"is {100 * clear.share:.1f} % of what they show"
        yield f"{color} {occurs}: --set task.background={color}"


def every_pixel_values(found: Check) -> dict[str, Any]:
    """Return what would keep every pixel as plain values; size and fit are None where no size does."""
    best = found.training.keeping
    return {
        "images": found.num_used,
        "kept": found.training.num_kept,
        "size": best.size.given if best is not None else None,
        "fit": best.fit if best is not None else None,
        "kept_then": best.num_kept if best is not None else None,
    }


def every_pixel_lines(found: Check) -> Iterator[str]:
    """Yield of how many images every pixel is kept, what would keep more, or what is lost in any case."""
    training = found.training
    best = training.keeping
    if not found.num_used:
        return
    if training.num_kept == found.num_used:
        yield "all are kept"
    elif best is None:
        yield from _impossible_lines(found)
    elif best.num_kept <= training.num_kept:
        yield f"{training.num_kept:,} of {counted(found.num_used, 'image')} keep all of them; the others are far larger"
    else:
        yield from _possible_lines(found, best)


def _possible_lines(found: Check, best: Keeping) -> Iterator[str]:
    training = found.training
    size = training.target.size
    now = f"{training.num_kept:,}" if training.num_kept else "none"
    then = "all" if best.num_kept == found.num_used else f"{best.num_kept:,}"
    option = f"--size {best.size.typed}"
    if best.fit != training.target.fit:
        option += f" --fit {best.fit}"
    yield f"{now} of {counted(found.num_used, 'image')} keep all of them; with {option}, {then} would"
    if best.size.pixels > size.pixels:
        yield f"{best.size} has {_times(best.size, size)} the pixels of {size}"
    if _is_much(found):
        yield (
            f"that is much for this machine, which by itself takes {training.max_size} × {training.max_size} at most; "
            f"{training.shape or size} takes less time, and reduces the images"
        )


def _is_much(found: Check) -> bool:
    """Return whether the size that keeps more pixels is beyond what this machine takes by itself."""
    best = found.training.keeping
    if best is None or best.num_kept <= found.training.num_kept:
        return False
    return best.size.pixels > found.training.max_size**2


def _impossible_lines(found: Check) -> Iterator[str]:
    training = found.training
    target = training.target
    num = sum(count for header, count in found.headers.items() if max(header.width, header.height) > MOST)
    have = f"{counted(num, 'image')} {'has' if num == 1 else 'have'}"
    yield f"no size up to {MOST} keeps all of them: {have} a side of more than that"
    if training.shape is not None:
        yield f"most images share one shape: --size {training.shape.typed} shows them whole"
    elif training.cut_shares and target.fit != "stretch":
        share = percent(_median(training.cut_shares))
        yield (
            f"--fit crop is sensible where the middle is what matters ({share} is cut off), --fit pad where the whole "
            f"picture is ({share} is bars)"
        )
    if 2 * max(target.size) <= MOST:
        twice = Size(2 * target.size.width, 2 * target.size.height)
        yield (
            f"a larger size shows finer detail and takes longer: --size {twice.typed} has {_times(twice, target.size)} "
            f"the pixels of {target.size}"
        )


def _times(large: Size, small: Size) -> str:
    return f"{large.pixels / small.pixels:.2g} times"


def _median(values: Sequence[float]) -> float:
    return values[len(values) // 2]


def _advised_size(found: Check) -> list[Setting]:
    """Return the settings that keep more pixels than what would be done, where any do."""
    training = found.training
    best = training.keeping
    target = training.target
    if best is None:
        if training.shape is not None:
            return [Setting("task.size", training.shape.typed)]
        shares = training.cut_shares
        is_much_cut = 2 * len(shares) > found.num_used and _median(shares) > MUCH_CUT
        return [Setting("task.fit", "pad")] if target.fit == "crop" and is_much_cut else []
    if best.num_kept <= training.num_kept:
        return []
    changes = [Setting("task.size", best.size.typed)]
    if best.fit != target.fit:
        changes.append(Setting("task.fit", best.fit))
    return changes


def _advised_background(found: Check) -> list[Setting]:
    color = _suggested(found)
    return [Setting("task.background", color)] if color else []


def _suggested(found: Check) -> str:
    """Return another background, where enough images would vanish on the present one."""
    clear = found.transparency
    if found.training.target.channels == OPACITY:
        return ""
    return clear.suggested or "" if clear.is_worth_another else ""


def _background(found: Check) -> str:
    return str(getattr(found.training.recipe.task, "background", "white"))
