"""What a task's outputs are written as: known before torch is imported, so that a wrong name is reported at once."""

from dataclasses import dataclass
from pathlib import Path

from equipoise.errors import Option, UserError, listed

MAX_IN_ONE = 10_000  # outputs in one picture
FILES = frozenset(  # endings that mean a file, of whatever kind; any other name may be a folder's
    ".png .jpg .jpeg .webp .gif .bmp .tif .tiff .pdf .svg .csv .tsv .json .txt .wav .npz .npy .zip .pt".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Formats:
    """Endings of single files, whether a folder will do, an example, and how the generator is used."""

    endings: tuple[str, ...]
    folder: bool
    example: str
    most: int | None = None  # outputs in one file
    takes_inputs: bool = False  # the generator is applied to files; else it draws samples
    needs_python: bool = False  # the task is defined in Python, so the command line cannot use the generator

    def refuse(self, out: Path, num: int | None = None) -> None:
        """Raise UserError where outputs cannot be written under this name."""
        if not self.endings:
            return
        is_folder = out.is_dir() or (not out.exists() and out.suffix.lower() not in FILES)
        if is_folder and self.folder:
            return
        if out.suffix.lower() not in self.endings or out.is_dir():
            allowed = f"give a name that ends in {listed(self.endings)}"
            if self.folder:
                allowed += ", or a folder"
            raise UserError(Option("out", out), allowed, Option("out", self.example))
        if num is not None and self.most is not None and num > self.most:
            raise UserError(Option("num", num), f"one file holds at most {self.most}", Option("out", "samples/"))


IMAGES = Formats((".png",), True, "grid.png", MAX_IN_ONE)
POINTS = Formats((".csv",), False, "points.csv")
PICTURES = Formats((".png",), True, "large.png", takes_inputs=True)
ANYTHING = Formats((), True, "out", needs_python=True)
