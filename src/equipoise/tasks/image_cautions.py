"""What makes a comparison of two folders of images doubtful; each is said with what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from equipoise.data.audit.duplicates import joined, near_duplicates, sketched
from equipoise.data.glance import COLOURED, Glance, Look
from equipoise.errors import Option
from equipoise.sizes import MIN_SIDE, Size
from equipoise.tasks.sides import Caution, repeated, same_on_both

NUM_COMPARED = 10_000  # images of each side that near copies are looked for among
COPIES_SHARE = 0.5  # of the generated images that nearly equal real ones; real frames of one film can be a quarter
MOSTLY = 0.5
LARGER = 1.1  # times, from which sizes count as different
IN_COLOUR, IN_GREY = 0.75, 0.1  # shares of coloured images, from and up to which a side is in colour, or grey
BLANK = 2.0  # grey levels, standard deviation within an image
ALIKE = 4.0  # grey levels, standard deviation of a pixel over the images; of the real sets tried it is 30 to 75
MANY_BLANK = 0.9
CLEAR_SHEETS = 0.2  # share of the files; more than four even tiles are seen on one emoji of 1,900, and on no photograph
LIKELY_SHEETS = 0.5
SURE_TILES = 9  # on one file that is much larger than the others

Kind = str  # "real" or "generated"


@dataclass(frozen=True, eq=False)
class Seen:
    """The images of one side: as they are compared, and as their files are, where there are files."""

    what: Kind
    source: str
    pixels: np.ndarray  # uint8 [N, C, H, W]
    hashes: np.ndarray  # uint64 [N]
    glance: Glance | None = None
    own_side: int = 0  # median pixels that become the smaller side, by the fit; 0 where there are no files
    whole_side: int = 0  # the same of the larger sides


def image_cautions(real: Seen, generated: Seen, size: Size) -> list[Caution]:
    """Return what is doubtful about comparing two sides at a size, the gravest first."""
    found: list[Caution] = []
    for seen in (generated, real):
        found += _sheets(seen)
        found += _blank_or_alike(seen)
        if seen.glance is not None:
            found += repeated(seen.what, seen.source, "images", seen.hashes)
    found += same_on_both(real.hashes, generated.hashes, "images")
    if not any(caution.kind in ("same", "repeated", "blank", "alike") for caution in found):
        found += _near_copies(real, generated)
    if not any(caution.kind in ("sheets", "blank") for caution in found):  # which explain the others
        found += _sizes(real, generated, size)
        found += _colours(real, generated)
    return found


def sheet_caution(glance: Glance, what: Kind, source: str) -> Caution | None:
    """Say where files show many pictures each: all of them, or one among single pictures."""
    sheets = [look for look in glance.looks if look.sheet is not None]
    clear = [look for look in sheets if _num_tiles(look) > 4]
    num = max(1, len(glance.looks))
    large = [look for look in clear if _num_tiles(look) >= SURE_TILES and look.side >= 2 * glance.side]
    if len(sheets) < LIKELY_SHEETS * num and len(clear) < CLEAR_SHEETS * num and not large:
        return None
    first = (clear or sheets)[0]
    rows, columns = first.sheet or (1, 1)
    tiles = f"({rows} rows of {columns})"
    looks = f"{first.name} shows many pictures {tiles}"
    if num > 1:
        which = f"{num:,} {what} files that were looked at"
        looks = f"Of {which}, {len(sheets):,} hold many pictures: {first.name} {tiles}"
    problem = f"{looks}. A sheet is compared as one picture"
    return Caution("sheets", problem, f"Save each picture of {source} as a file of its own")


def _sheets(seen: Seen) -> Iterator[Caution]:
    if seen.glance is not None and (caution := sheet_caution(seen.glance, seen.what, seen.source)):
        yield caution


def _num_tiles(look: Look) -> int:
    rows, columns = look.sheet or (1, 1)
    return rows * columns


def _blank_or_alike(seen: Seen) -> Iterator[Caution]:
    if len(seen.pixels) < 2:
        return
    part = seen.pixels[:NUM_COMPARED].astype(np.float32)
    within = part.std((1, 2, 3))
    if (within < BLANK).mean() >= MANY_BLANK:
        problem = f"The {seen.what} images of {seen.source} are of one colour each: nothing is on them"
        yield Caution("blank", problem, "Look at some, and at how their values became pixels (0 to 255)")
    elif part.std(0).mean() < ALIKE and len(np.unique(seen.hashes)) > 1:
        problem = (
            f"The {seen.what} images of {seen.source} are nearly all alike: over them, a pixel varies by "
            f"{part.std(0).mean():.1f} of 255 grey levels"
        )
        yield Caution("alike", problem, "Look at some: the generator may have collapsed, or one was saved many times")


def _near_copies(real: Seen, generated: Seen) -> Iterator[Caution]:
    if generated.glance is None:
        return
    drawn = generated.pixels[:NUM_COMPARED]
    pairs = near_duplicates(joined([sketched(drawn), sketched(real.pixels[:NUM_COMPARED])]))
    across = pairs[(pairs[:, 0] < len(drawn)) & (pairs[:, 1] >= len(drawn))]
    num = len(np.unique(across[:, 0]))
    if num < COPIES_SHARE * len(drawn) or not num:
        return
    problem = (
        f"{num:,} of the {len(drawn):,} generated images nearly equal a real one: these are the same pictures, saved "
        "anew, or copies that a generator has learned"
    )
    yield Caution("near copies", problem, "Give samples of a generator, and real images that it was not trained on")


def _sizes(real: Seen, generated: Seen, size: Size) -> Iterator[Caution]:
    side = min(size)
    sides = {seen.what: seen.own_side for seen in (generated, real) if seen.glance is not None}
    for seen in (generated, real):
        own = sides.get(seen.what, side)
        if own and own * LARGER <= side:
            problem = (
                f"The {seen.what} images of {seen.source} are smaller than what is compared: {own} pixels a side, "
                f"enlarged to {side}, which blurs them"
            )
            yield _at_size(problem, own, size, generated)
            return
    if "generated" in sides and "real" in sides and sides["generated"] >= LARGER * sides["real"]:
        problem = (
            f"The generated images are larger than the real ones: {sides['generated']} pixels a side against "
            f"{sides['real']}. They are reduced to {side}, so their finer detail is not judged"
        )
        if real.whole_side < LARGER * real.own_side or not _is_near(sides["generated"], real.whole_side):
            yield Caution("sizes", problem, f"Give real images of at least {sides['generated']} pixels a side")
            return
        problem += ". They are as large as the whole real images, of which only the middle is compared"
        yield Caution("sizes", problem, "If they were trained with a border around", Option("fit", "pad"))


def _is_near(one: int, other: int) -> bool:
    return one < LARGER * other and other < LARGER * one


def _at_size(problem: str, own: int, size: Size, generated: Seen) -> Caution:
    if generated.glance is None:
        return Caution("sizes", problem, "Give real images that are at least as large as those of the run")
    if own < MIN_SIDE:
        return Caution("sizes", problem, "Give images of one size on both sides")
    smaller = Size(*(round(side * own / min(size)) for side in size))
    return Caution("sizes", problem, "Compare both at the smaller size", Option("size", smaller.typed))


def _colours(real: Seen, generated: Seen) -> Iterator[Caution]:
    of_real = _share_coloured(real)
    of_generated = _share_coloured(generated)
    names = {"generated": of_generated, "real": of_real}
    coloured = [name for name, share in names.items() if share >= IN_COLOUR]
    grey = [name for name, share in names.items() if share <= IN_GREY]
    if not coloured or not grey:
        return
    how = "compared in grey, so that colours are not judged"
    if real.pixels.shape[1] == 3:
        how = "compared in colour, and that alone tells them apart"
    problem = f"The {coloured[0]} images are in colour, the {grey[0]} ones are grey: they are {how}"
    yield Caution("colours", problem, "Give both in colour, or both in grey")


def _share_coloured(seen: Seen) -> float:
    if seen.glance is not None:
        return seen.glance.share_coloured
    if seen.pixels.shape[1] == 1:
        return 0.0
    ranges = np.ptp(seen.pixels.astype(np.int16), axis=1).mean((1, 2))
    return float((ranges > COLOURED).mean())
