"""What the grades "usable", "promising" and "not usable yet" look like: real data sets, trained in stages.

    python bench/grades.py mnist emoji=PATH:32 flowers=PATH:64:3 [--first 5000] [--stages 4] [--seed 0] [--keep FOLDER]
    python bench/grades.py --regrade

Each source is NAME=PATH, NAME=PATH:SIZE, NAME=PATH:SIZE:STAGES, or the name of a shipped one, and is trained by
`modern`: at first for some thousand samples, then in each stage for four times as many. After each stage the best
generator's scores are noted, and 16 of its samples, not picked by hand; of each source also how well two halves of its
real images are told apart. Writes records/grades.json and docs/images/grades.png: a row a source, a column a stage, and
at the right real images.
`--keep` keeps the runs there, and goes on with those that it finds. `--regrade` trains nothing:
it grades the recorded numbers by the present thresholds, in the record and in the captions of the picture.
"""

import argparse
import io
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import RECORDS, write_record
from PIL import Image, ImageDraw, ImageFont

import equipoise as eq
from equipoise.data.pool import Pool, gather, prepare, to_float
from equipoise.metrics.feature_judge import extracted
from equipoise.metrics.two_sample import told_apart
from equipoise.recipe import Images
from equipoise.runs.folder import RunFolder
from equipoise.runs.quality import graded, place_of, quality_of
from equipoise.runs.status import read_status
from equipoise.storage.records import Metric, Rivals, RivalScore, Role, Score
from equipoise.tasks.exhibits import grid
from equipoise.tasks.image_judging import NUM_FOR_TRAIN, batches, features_of

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "grades.png"
FACTOR = 4  # of samples, from stage to stage
NUM_SHOWN = 16
SIDE = 160  # pixels of a picture of 4 × 4 samples
GAP = 14
TEXT = 50
DISTANCE = Metric(name="kid", label="KID", decides=True, signed=True)
SCALE: tuple[tuple[str, Role, float], ...] = (
    ("real images", "ceiling", 0.0),
    ("the mean image with noise", "floor", 1.0),
)


@dataclass(frozen=True)
class Asked:
    """A source, what to call it, its size, and how many stages it is trained; None where that is left open."""

    name: str
    source: str
    size: int | None
    stages: int | None


@dataclass(frozen=True)
class Stage:
    """A data set after some training: its scores, its grade, and a picture."""

    source: str
    samples: int
    share: float  # of the way from the ceiling to the floor
    coverage: float
    recall: float
    precision: float
    told_apart: float
    num_real: int  # that it is tested by
    num_distinct: int
    grade: str
    sentence: str


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regrade", action="store_true")
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--first", type=int, default=5_000)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    return parser.parse_args()


def main() -> None:
    """Train all sources stage by stage, so that the early stages of all come first."""
    options = parse()
    if options.regrade:
        regrade()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        stages: list[Stage] = []
        pictures: dict[tuple[str, int], Image.Image] = {}
        apart: dict[str, float] = {}
        for index in range(options.stages):
            samples = options.first * FACTOR**index
            for source in (text for text in options.sources if index < (parsed(text).stages or options.stages)):
                stage, picture = trained(source, samples, options.seed, folder)
                stages.append(stage)
                pictures[stage.source, samples] = picture
                if stage.source not in apart:
                    apart[stage.source] = told_apart_real(source, folder)
                print(f"{stage.source}, {samples:,} samples: {stage.sentence}", flush=True)
                write(stages, apart, pictures, options, folder)


def trained(text: str, samples: int, seed: int, folder: Path) -> tuple[Stage, Image.Image]:
    """Train a source up to a number of samples, and return how that stands, with a picture."""
    asked = parsed(text)
    out = folder / f"{asked.name}-{samples}"  # of each stage a run of its own: its schedules end where it ends
    if not out.exists():
        settings = ["stopping.policy=budget"]
        eq.train(asked.source, size=asked.size, budget=str(samples), seed=seed, out=out, settings=settings)
    found = eq.evaluate(out, asked.source)  # of a run that is there already, too, as this version measures it
    measured = found.measured
    score = Score(samples=samples, seconds=0.0, loss=measured.loss, error=measured.error, values=measured.values)
    rivals = Rivals(protocol=found.protocol, scores=found.rivals)
    now = replace(read_status(RunFolder(out)), test=score, rivals=rivals)
    quality = quality_of(now)
    assert quality is not None
    data = now.data
    assert data is not None
    stage = Stage(
        source=asked.name,
        samples=samples,
        share=place_of(now, score),
        coverage=score.value("coverage"),
        recall=score.value("recall"),
        precision=score.value("precision"),
        told_apart=score.value("c2st"),
        num_real=found.protocol["num_real"],
        num_distinct=data.num_train + data.num_validation + data.num_test - data.num_duplicates,
        grade=quality.grade,
        sentence=quality.sentence,
    )
    shown = eq.load(out).best.sample(NUM_SHOWN)
    return stage, Image.open(io.BytesIO(grid(shown, 4))).convert("RGB")


def parsed(text: str) -> Asked:
    """Return what a word of the command line asks for."""
    name, _, rest = text.partition("=")
    source, *numbers = rest.split(":")
    size, stages = [*map(int, numbers), None, None][:2]
    return Asked(name, source or name, size, stages)


def real(text: str, folder: Path) -> Image.Image:
    """Return 16 real images of a source, as they are trained on."""
    pool = pool_of(text, folder)
    images = to_float(gather(pool, np.asarray(pool.splits.test[:NUM_SHOWN])))
    return Image.open(io.BytesIO(grid(images, 4))).convert("RGB")


def pool_of(text: str, folder: Path) -> Pool:
    """Return the images of a source as its runs take them."""
    recipe = eq.load(next(folder.glob(f"{parsed(text).name}-*"))).recipe
    assert isinstance(recipe.task, Images)
    return prepare(recipe.data, recipe.task)


def told_apart_real(text: str, folder: Path) -> float:
    """Return how well the classifier tells two halves of the real images apart, which are of one distribution."""
    pool = pool_of(text, folder)
    features = features_of(pool, "encoder", torch.device("cpu"), lambda stage, share: None)
    train = extracted(features, batches(pool, pool.splits.train[:NUM_FOR_TRAIN]))
    held_out = extracted(features, batches(pool, np.concatenate([pool.splits.validation, pool.splits.test])))
    return told_apart(train[::2], train[1::2], held_out[::2], held_out[1::2])


def write(
    stages: list[Stage],
    apart: dict[str, float],
    pictures: dict[tuple[str, int], Image.Image],
    options: argparse.Namespace,
    folder: Path,
) -> None:
    """Write the record and the picture of all that is there so far."""
    values = {"seed": options.seed, "told_apart_real": apart, "stages": [asdict(stage) for stage in stages]}
    write_record("grades", values)
    names = [parsed(text).name for text in options.sources]
    columns = sorted({stage.samples for stage in stages})
    width = GAP + (len(columns) + 1) * (SIDE + GAP)
    sheet = Image.new("RGB", (width, GAP + len(names) * (SIDE + TEXT + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for stage in stages:
        left = GAP + columns.index(stage.samples) * (SIDE + GAP)
        top = GAP + names.index(stage.source) * (SIDE + TEXT + GAP)
        sheet.paste(pictures[stage.source, stage.samples].resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top))
        numbers = f"coverage {stage.coverage:.2f}, C2ST {stage.told_apart:.2f}"
        draw.text((left, top + SIDE + 2), f"{stage.source}, {stage.samples:,}: {stage.grade}", "black", font)
        draw.text((left, top + SIDE + 17), f"{100 * stage.share:.1f} % of the way", "black", font)
        draw.text((left, top + SIDE + 32), numbers, "black", font)
    for row, text in enumerate(options.sources):
        if is_begun(text, stages):
            top = GAP + row * (SIDE + TEXT + GAP)
            picture = real(text, folder).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (width - GAP - SIDE, top))
            draw.text((width - GAP - SIDE, top + SIDE + 2), "real", "black", font)
    sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(PICTURE, optimize=True)


def regrade() -> None:
    """Grade what is recorded by the present thresholds."""
    record = json.loads((RECORDS / "grades.json").read_text())
    stages = [Stage(**values) for values in record["stages"]]
    names = list(dict.fromkeys(stage.source for stage in stages))
    columns = sorted({stage.samples for stage in stages})
    sheet = Image.open(PICTURE).convert("RGB")
    draw = ImageDraw.Draw(sheet)
    rivals = tuple(RivalScore(name=name, role=role, loss=loss) for name, role, loss in SCALE)
    for place, stage in enumerate(stages):
        values = {"coverage": stage.coverage, "c2st": stage.told_apart}
        score = Score(samples=stage.samples, seconds=0.0, loss=stage.share, values=values)
        quality = graded(score, DISTANCE, rivals, stage.num_distinct, "images")
        assert quality is not None
        sentence = f"{quality.grade[:1].upper()}{quality.grade[1:]}:{stage.sentence.partition(':')[2]}"
        stages[place] = replace(stage, grade=quality.grade, sentence=sentence)
        left = GAP + columns.index(stage.samples) * (SIDE + GAP)
        top = GAP + names.index(stage.source) * (SIDE + TEXT + GAP) + SIDE + 2
        draw.rectangle((left, top, left + SIDE + GAP - 1, top + 14), "white")
        text = f"{stage.source}, {stage.samples:,}: {quality.grade}"
        draw.text((left, top), text, "black", ImageFont.load_default(size=11))
    record["stages"] = [asdict(stage) for stage in stages]
    (RECORDS / "grades.json").write_text(json.dumps(record, indent=1) + "\n")
    sheet.quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def is_begun(text: str, stages: list[Stage]) -> bool:
    """Return whether a source has a stage to show."""
    return any(stage.source == parsed(text).name for stage in stages)


if __name__ == "__main__":
    main()
