"""What `equipoise explore` finds in three generators of digits: the pictures and numbers of docs/explore.md.

    python bench/explore.py FOLDER    # trains three runs of five minutes there, unless they are there; one thread

Three held-out digits are looked for, which no training has seen. Written are records/explore.json and
docs/images/explore-*.png.
"""

import argparse
from pathlib import Path
from typing import Any

from common import write_record
from PIL import Image
from quoted import numbers_of_explore, table_of_truncation

import equipoise as eq
from equipoise.data.pool import Pool, prepare
from equipoise.explore import Explored, explored
from equipoise.recipe import Data

IMAGES = Path(__file__).parent.parent / "docs" / "images"
BUDGET = "5m"
RUNS = {"digits": ("modern", []), "classes": ("modern", ["networks.conditional=true"]), "codes": ("infogan", [])}
LOOKED_FOR = ("7", "3", "8")
WAY = "3,8"
SHOWN = {  # of which run, under which name
    "digits": {
        "walk-grid": "walk",
        "directions-activations": "activations",
        "projection": "projection",
        "between": "between",
        "groups": "groups",
        "groups-moved": "moved",
    },
    "classes": {"directions-weights": "weights", "truncation": "truncation", "classes": "classes", "classes-1": "way"},
    "codes": {"codes": "codes", "codes-numbers": "codes-numbers"},
}


def main() -> None:
    """Train what is not trained yet, explore it, and write the record and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    pictures = held_out(prepare(Data(source="mnist")), folder)
    record: dict[str, Any] = {"budget": BUDGET, "looked_for": LOOKED_FOR}
    for name, (recipe, settings) in RUNS.items():
        path = folder / name
        if not (path / "best").is_dir():
            eq.train("mnist", recipe=recipe, budget=BUDGET, settings=["threads=1", *settings], out=path)
        found = explored(eq.load(path), images=pictures, labels=[WAY] if settings else [])
        keep_pictures(found, SHOWN[name])
        kept = {key: value for key, value in found.numbers.items() if key != "run"}
        record[name] = {"recipe": recipe, **kept}
    write_record("explore", record)
    print(table_of_truncation())
    print("\n".join(numbers_of_explore()))


def held_out(pool: Pool, folder: Path) -> list[Path]:
    """Write the first test image of each class that is looked for, and return their files."""
    paths = []
    assert pool.labels is not None
    for name in LOOKED_FOR:
        place = next(index for index in pool.splits.test if pool.classes[pool.labels[index]] == name)
        paths.append(folder / f"{name}.png")
        Image.fromarray(pool.images[place][0].copy()).save(paths[-1])
    return paths


def keep_pictures(found: Explored, names: dict[str, str]) -> None:
    """Write some of the pictures for the page."""
    for name, called in names.items():
        (IMAGES / f"explore-{called}.png").write_bytes(found.files[f"{name}.png"].content)


if __name__ == "__main__":
    main()
