"""A generator of large photographs from small ones, as it is applied: to files and folders, tile by tile."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from equipoise.data.decode import BrokenImage
from equipoise.data.photos import read_photo
from equipoise.data.pool import to_float, to_uint8
from equipoise.errors import Command, Option, UserError
from equipoise.nets.super_resolution import SuperGenerator
from equipoise.recipe import Networks
from equipoise.storage.files import write_bytes
from equipoise.storage.safe_open import read_bytes
from equipoise.tasks.exhibits import png

TILE = 192  # pixels a side of a small image that are enlarged at once
MARGIN = 24  # pixels around them that an output depends on, and that are cut off again
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
MAX_FILE_BYTES = 2**28


@dataclass(frozen=True)
class SuperModel:
    """A generator of large images from small ones, without its data."""

    networks: Networks
    scale: int

    def network(self) -> nn.Module:
        """Build the generator."""
        return SuperGenerator(self.scale, self.networks.width)

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> NoReturn:
        """Raise UserError: the generator needs small images."""
        problem = "this run's generator enlarges images; it draws none by itself"
        raise UserError("sample", problem, Command("apply", "RUN", "small.png", out="large.png"))

    def applied(self, generator: nn.Module, source: Path) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, large image `[3, H, W]` in [-1, 1]) for a file, or each image file of a folder."""
        for name, path in _image_files(source).items():
            try:
                pixels = read_photo(read_bytes(path, MAX_FILE_BYTES))
            except OSError as error:
                raise UserError(path, f"cannot be read ({error.strerror or error})") from None
            except BrokenImage as broken:
                raise UserError(path, f"cannot be used: {broken}") from None
            small = to_float(torch.from_numpy(pixels).permute(2, 0, 1))
            yield name, self.enlarged(generator, small)

    @torch.no_grad()
    def enlarged(self, generator: nn.Module, small: Tensor) -> Tensor:
        """Enlarge an image `[3, h, w]` of any size in [-1, 1], tile by tile."""
        device = next(generator.parameters()).device
        _, height, width = small.shape
        scale = self.scale
        large = torch.empty(3, height * scale, width * scale)
        for row in _tiles(height):
            for column in _tiles(width):
                part = small[:, row.before : row.after, column.before : column.after]
                found = generator(part[None].to(device)).float().cpu()[0].clamp(-1, 1)
                inside = found[:, row.slice(scale, row.before), column.slice(scale, column.before)]
                large[:, row.slice(scale), column.slice(scale)] = inside
        return large

    def write(self, batches: Iterable[Tensor], out: Path) -> NoReturn:
        """Raise UserError, as `samples` does."""
        self.samples(nn.Identity(), 0, 0, None)

    def write_applied(self, outputs: Iterable[tuple[str, Tensor]], out: Path) -> str:
        """Write one image as `out`, where that ends in .png, else all into a folder of PNG files."""
        if out.suffix.lower() == ".png" and not out.is_dir():
            found = list(islice(outputs, 2))
            if len(found) > 1:
                problem = "one file for several images"
                raise UserError(Option("out", out), problem, "Give a folder", Option("out", "large/"))
            _write(found[0][1], out)
            return str(out)
        num = 0
        for name, image in outputs:
            _write(image, out / f"{name}.png")
            num += 1
        return f"{num} images in {out}"


class _Tile(NamedTuple):
    """A part of a side in pixels, alone and with its margins."""

    begin: int
    end: int
    before: int
    after: int

    def slice(self, scale: int, origin: int = 0) -> slice:
        """Return where the part lies in an enlarged side that begins at an origin."""
        return slice((self.begin - origin) * scale, (self.end - origin) * scale)


def _tiles(length: int) -> Iterator[_Tile]:
    for begin in range(0, length, TILE):
        end = min(length, begin + TILE)
        yield _Tile(begin, end, max(0, begin - MARGIN), min(length, end + MARGIN))


def _write(image: Tensor, path: Path) -> None:
    """Write an image [3, H, W] in [-1, 1] as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, png(to_uint8(image).permute(1, 2, 0).numpy()))


def _image_files(source: Path) -> dict[str, Path]:
    """Return a file, or the image files of a folder, each by a name of its own; raises UserError where there is none.

    That name is the file's without its suffix, or the whole of it where two would be called alike.
    """
    if source.is_file():
        return {source.stem: source}
    if not source.is_dir():
        raise UserError(source, "no such file or folder; an image or a folder of images was expected")
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UserError(source, "no images in this folder")
    times = Counter(path.stem.lower() for path in found)  # no two may differ by case alone, as on some disks
    alone = {path.stem: path for path in found if times[path.stem.lower()] == 1}
    return alone | {path.name: path for path in found if times[path.stem.lower()] > 1}
