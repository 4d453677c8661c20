"""Two halves of a folder of real images, compared as samples and real ones: what is warned of, and how they score.

    python bench/folders.py DATA/flowers-128.zip:64 DATA/emoji-64.zip:32 … [--seed 0] [--most 1000]

Each source is PATH or PATH:SIZE, a zip or a folder of images. Its files, at most `--most`, are dealt out to two folders
at random, and `equipoise evaluate ONE --against OTHER` compares them. Nothing should be warned of but what is true of
the set, and the score should be zero within its error. Writes records/folders.json.
"""

import argparse
import random
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from common import write_record

import equipoise as eq
from equipoise.data.sources import SUFFIXES


def main() -> None:
    """Compare the halves of every source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=1_000)
    options = parser.parse_args()
    found = []
    for text in options.sources:
        path, _, size = text.partition(":")
        with tempfile.TemporaryDirectory() as temporary:
            halves = dealt(Path(path), Path(temporary), options.most, options.seed)
            found.append({"set": Path(path).stem, **compared(*halves, int(size) if size else None)})
        print(found[-1], flush=True)
    write_record("folders", {"seed": options.seed, "sets": found})


def dealt(source: Path, folder: Path, most: int, seed: int) -> tuple[Path, Path]:
    """Put the images of a source into two folders at random, and return these."""
    if source.is_file():
        source = unpacked(source, folder / "all")
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    random.Random(seed).shuffle(files)
    halves = (folder / "one", folder / "other")
    for half in halves:
        half.mkdir()
    for index, path in enumerate(files[:most]):
        shutil.copy(path, halves[index % 2] / f"{index}{path.suffix}")
    return halves


def unpacked(archive: Path, folder: Path) -> Path:
    """Write the images of a zip into a new folder, by number, and return it."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in sorted(opened.namelist()) if Path(name).suffix.lower() in SUFFIXES]
        for index, name in enumerate(names):
            (folder / f"{index:06d}{Path(name).suffix}").write_bytes(opened.read(name))
    return folder


def compared(one: Path, other: Path, size: int | None) -> dict[str, Any]:
    """Return how one half scores against the other, and what is warned of."""
    found = eq.evaluate(one, other, size=size)
    return {
        "size": found.protocol["size"],
        "images": found.protocol["num_generated"],
        "kid": round(found.measured.loss, 4),
        "kid_error": round(found.measured.error, 4),
        "coverage": round(found.measured.values["coverage"], 3),
        "warnings": [warning.kind for warning in found.warnings],
    }


if __name__ == "__main__":
    main()
