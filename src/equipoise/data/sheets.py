"""Sheets: one file that shows many pictures side by side, as training scripts save them to be looked at."""

import numpy as np

LEAST_TILE = 8  # pixels a side of a picture on a sheet
EVEN = 10.0  # grey levels, standard deviation, up to which a line of pixels is of one colour; JPEG blurs a line
TOLERANCE = 0.12  # of a tile, by which lines may stand off their even places: a dark picture has an uneven margin
STEP = 2.0  # how much harder the edges between tiles are than the typical one
EVERY_STEP = 1.4  # and the weakest of them
LEAST_IN_A_ROW = 4  # tiles of a sheet with one row alone
LEAST_OF_FOUR = 24  # pixels a side of the pictures on a sheet of 2 × 2: a small picture is parted so by chance

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Tiles = tuple[int, int]  # rows, columns


def sheet_of(pixels: np.ndarray) -> Tiles | None:
    """Return the rows and columns of a sheet uint8 [H, W, C], or None where it is one picture.

    A sheet has lines of one colour across all of it at even distances, or hard edges at all of them.
    """
    values = pixels.astype(np.float32)
    found = _by_lines(values) or _by_edges(values)
    if found == (2, 2) and min(pixels.shape[:2]) < 2 * LEAST_OF_FOUR:
        return None
    return found


def _by_lines(values: np.ndarray) -> Tiles | None:
    height, width = values.shape[:2]
    rows = _spaced(_is_line(values, 1))
    columns = _spaced(_is_line(values, 0))
    if rows is None or columns is None:
        return None
    tall = height / rows
    wide = width / columns
    is_square = abs(tall - wide) <= TOLERANCE * max(tall, wide)
    is_row = min(rows, columns) == 1 and max(rows, columns) >= LEAST_IN_A_ROW and is_square
    is_grid = min(rows, columns) >= 2 and (is_square or min(rows, columns) >= 3)
    if (is_row or is_grid) and min(tall, wide) >= LEAST_TILE:
        return rows, columns
    return None


def _is_line(values: np.ndarray, axis: int) -> np.ndarray:
    """Return for each row (axis 1) or column (axis 0) of [H, W, C] whether it is of one brightness.

    Colours are not asked for: a JPEG lets those of the pictures run into a thin line between them.
    """
    return (values @ _weights(values.shape[2])).std(axis) <= EVEN


def _weights(channels: int) -> np.ndarray:
    return LUMA if channels == 3 else np.full(channels, 1 / channels, np.float32)


def _spaced(is_line: np.ndarray) -> int | None:
    """Return how many tiles the lines along a side part it into, 1 where there are none; None where not evenly."""
    num = len(is_line)
    if is_line.all():
        return None
    steps = np.diff(np.concatenate([[False], is_line, [False]]).astype(np.int8))
    begins = np.flatnonzero(steps == 1)
    ends = np.flatnonzero(steps == -1)
    inner = (begins > 0) & (ends < num)
    begins_inner = begins[inner]
    ends_inner = ends[inner]
    if not len(begins_inner):
        return 1
    gap = float(np.median(ends_inner - begins_inner))
    left = float(ends[0]) if begins[0] == 0 else 0.0  # a margin; half a gap of it belongs to the first tile
    right = float(begins[-1]) if ends[-1] == num else float(num)
    left = max(0.0, left - gap / 2)
    right = min(float(num), right + gap / 2)
    edges = np.concatenate([[left], (begins_inner + ends_inner) / 2, [right]])
    tiles = np.diff(edges)
    tile = float(tiles.mean())
    if gap > tile / 2 or np.abs(tiles - tile).max() > max(1.5, TOLERANCE * tile):
        return None
    return len(tiles)


def _by_edges(values: np.ndarray) -> Tiles | None:
    """Return the tiles of a sheet without lines: at each of its seams, along all of it, the picture breaks off."""
    height, width = values.shape[:2]
    down = np.abs(np.diff(values, axis=0)).mean((1, 2))
    across = np.abs(np.diff(values, axis=1)).mean((0, 2))
    for side in range(LEAST_TILE, min(height, width) // 2 + 1):
        if height % side or width % side:
            continue
        if _breaks(down, side) and _breaks(across, side):
            return height // side, width // side
    return None


def _breaks(changes: np.ndarray, side: int) -> bool:
    """Return whether the changes from line to line [n − 1] are hard at every multiple of a tile's side."""
    is_seam = (np.arange(1, len(changes) + 1) % side) == 0
    usual = float(np.median(changes[~is_seam])) + 1e-3
    seams = changes[is_seam]
    return bool(np.median(seams) >= STEP * usual and seams.min() >= EVERY_STEP * usual)
