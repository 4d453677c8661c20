"""The curves that `equipoise explain` and docs/doctor.md show: sick games beside healthy ones.

    python bench/doctor_pages.py --out DIR [--seed 3]

DIR is what `bench/doctor.py play` has written. Writes src/equipoise/health/curves.json and docs/images/doctor.png.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from doctor import GAMES, file_of
from PIL import Image, ImageDraw, ImageFont

from equipoise.health.curves import CURVES, Pair, is_logarithmic, span
from equipoise.health.pages import PAGES, SCORE, Subject, heading

IMAGES = Path(__file__).parents[1] / "docs" / "images"
OF_POINTS = "relativistic, ring"
OF_DIGITS = "digits, relativistic, R1 and R2"
SICK: dict[Subject, str] = {
    "non-finite": "NaN in one gradient",
    "divergence": "wasserstein without a limit",
    "exploding-gradient": "wasserstein without a limit",
    "vanishing-gradient": "digits, 8 discriminator steps and minimax",
    "discriminator-overpowering": "digits, 8 discriminator steps and minimax",
    "discriminator-too-weak": "1 discriminator step in 15",
    "discriminator-overfitting": "few digits",
    "mode-collapse": "rates × 100",
    "mode-dropping": "15 discriminator steps",
    "cycling": "momentum with Adam",
    "memorization": "copied digits",
    "augmentation-leak": "digits, mirrored",
    "rate-too-high": "rates × 30",
    "rate-too-low": "rates ÷ 1000",
    "averaged-generator-worse": "batch norm with batch 2",
}
SHOWN: tuple[Subject, ...] = (
    "discriminator-overpowering",
    "discriminator-too-weak",
    "mode-collapse",
    "mode-dropping",
    "cycling",
    "divergence",
    "rate-too-high",
    "rate-too-low",
)
SIDE, HIGH, GAP, LEFT, TOP = 210, 96, 26, 190, 34
RED, BLUE, GREY = (190, 60, 50), (50, 100, 170), (215, 215, 215)


def digits(value: Any) -> float | None:
    """Return a number with three digits that count; None where there is none."""
    return float(f"{value:.3g}") if isinstance(value, int | float) and math.isfinite(value) else None


Curve = list[tuple[int, float | None]]


def curve(left: dict[str, Any], name: str) -> Curve:
    """Return one curve of what a game left, as samples and values: a number of its log lines or of its scores."""
    if name == SCORE:
        return [(score["samples"], digits(score["loss"])) for score in left["scores"]]
    if name in left["lines"][0]:
        return [(line["samples"], digits(line[name])) for line in left["lines"]]
    if any(name in line["signals"] for line in left["lines"]):
        return [(line["samples"], digits(line["signals"].get(name))) for line in left["lines"]]
    return [(score["samples"], digits(score["values"].get(name))) for score in left["scores"]]


def paired(sick: Curve, healthy: Curve) -> Pair:
    """Return two curves as a pair."""
    return Pair(
        sick=[value for _, value in sick],
        healthy=[value for _, value in healthy],
        sick_samples=[samples for samples, _ in sick],
        healthy_samples=[samples for samples, _ in healthy],
    )


def healthy_beside(name: str) -> str:
    """Return the healthy game with the same data as a sick one."""
    return OF_DIGITS if GAMES[name].source == "mnist" else OF_POINTS


def pairs(folder: Path, subject: Subject, seed: int) -> dict[str, Pair]:
    """Return the curves of a subject, sick and healthy, as far as there are any."""
    name = SICK[subject]
    sick, well = (json.loads(file_of(folder, GAMES[one], seed).read_text()) for one in (name, healthy_beside(name)))
    found = {one: paired(curve(sick, one), curve(well, one)) for one in PAGES[subject].curves}
    return {one: pair for one, pair in found.items() if any(value is not None for value in pair.sick)}


def drawn(shown: dict[Subject, dict[str, Pair]]) -> Image.Image:
    """Draw a row of charts for each subject, the sick game in red over the healthy one in blue."""
    most = max(map(len, shown.values()))
    size = (LEFT + most * (SIDE + GAP), TOP + len(shown) * (HIGH + 2 * GAP))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    draw.text((LEFT, 8), "red: the sick game    blue: a healthy one", (90, 90, 90), font)
    for row, (subject, curves) in enumerate(shown.items()):
        top = TOP + row * (HIGH + 2 * GAP) + GAP
        draw.multiline_text((8, top + HIGH / 2 - 16), heading(subject).replace(" too", "\ntoo"), "black", font)
        for place, (name, pair) in enumerate(curves.items()):
            left = LEFT + place * (SIDE + GAP)
            low, high = span(pair)
            scale = ", log" if is_logarithmic(pair) else ""
            draw.text(
                (left, top - 18), f"{name}, {low:.2g} to {high:.2g}{scale}", (90, 90, 90), ImageFont.load_default(11)
            )
            draw.rectangle((left, top, left + SIDE, top + HIGH), outline=GREY)
            for values, color in ((pair.healthy, BLUE), (pair.sick, RED)):
                draw.line(points(values, pair, left, top), fill=color, width=2)
    return picture


def points(values: list[float | None], pair: Pair, left: float, top: float) -> list[tuple[float, float]]:
    """Return the pixels of a curve."""
    return [
        (left + SIDE * place / max(1, len(values) - 1), top + HIGH - 3 - (HIGH - 6) * share)
        for place, share in enumerate(pair.shares(values))
        if share is not None
    ]


def main() -> None:
    """Write the curves and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    found = {subject: pairs(options.out, subject, options.seed) for subject in SICK}
    plain = {subject: {name: asdict(pair) for name, pair in curves.items()} for subject, curves in found.items()}
    games = {subject: {"sick": name, "healthy": healthy_beside(name)} for subject, name in SICK.items()}
    CURVES.write_text(json.dumps({"seed": options.seed, "games": games, "curves": plain}, ensure_ascii=False) + "\n")
    drawn({subject: found[subject] for subject in SHOWN}).save(IMAGES / "doctor.png", optimize=True)


if __name__ == "__main__":
    main()
