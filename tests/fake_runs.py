"""Fake run folders with believable curves, to read back and to look at."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import msgspec
import pytest

from equipoise.metrics.feature_judge import METRICS
from equipoise.recipe import Recipe, with_settings
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import (
    Compared,
    DataRecord,
    Exhibit,
    Exhibits,
    IntervalsRecord,
    Rejected,
    Rivals,
    RivalScore,
    RunState,
    Score,
    Status,
    StepStats,
)

PROTOCOL = {
    "features": "encoder",
    "features_digest": "8f1c0b",
    "data_digest": "5d41402a",
    "split": "validation",
    "num_real": 5000,
    "num_generated": 2000,
    "neighbours": 5,
    "seed": 0,
}
TEST_PROTOCOL = PROTOCOL | {"split": "test"}
HORIZON = 2_400_000


def png(width: int, height: int, shade: Callable[[int, int], int]) -> bytes:
    """Return a grey PNG with a shade for every pixel."""
    rows = b"".join(b"\0" + bytes(shade(x, y) & 255 for x in range(width)) for y in range(height))
    return corpus.png(width, height, rows, color=0)


def stats_at(samples: int, noise: random.Random, **changes: Any) -> StepStats:
    """Return believable signals of a healthy game."""
    done = samples / HORIZON
    accuracy = 0.72 - 0.1 * done + 0.2 * math.exp(-40 * done) + noise.gauss(0, 0.015)
    values: dict[str, Any] = {
        "samples": samples,
        "seconds": samples / 4010,
        "discriminator_loss": 0.55 + 0.08 * done + noise.gauss(0, 0.02),
        "generator_loss": 0.95 + 0.6 * math.exp(-30 * done) - 0.1 * done + noise.gauss(0, 0.04),
        "penalty": 0.08 + 0.25 * math.exp(-20 * done) + abs(noise.gauss(0, 0.01)),
        "real_logit": 0.6 + noise.gauss(0, 0.1),
        "fake_logit": -0.5 + noise.gauss(0, 0.1),
        "real_probability": 0.62 - 0.05 * done + noise.gauss(0, 0.015),
        "fake_probability": 0.36 + 0.06 * done - 0.2 * math.exp(-40 * done) + noise.gauss(0, 0.015),
        "accuracy": accuracy,
        "discriminator_gradient": 0.4 * math.exp(noise.gauss(0, 0.2)) + 3 * math.exp(-60 * done),
        "generator_gradient": 0.09 * math.exp(noise.gauss(0, 0.2)) + 1.5 * math.exp(-80 * done),
        "discriminator_rate": 2e-4 * (0.25 + 0.375 * (1 + math.cos(math.pi * done))),
        "generator_rate": 2e-4 * (0.25 + 0.375 * (1 + math.cos(math.pi * done))),
        "samples_per_second": 4010 + noise.gauss(0, 60) - (noise.random() < 0.03) * 900,
    }
    return StepStats(**(values | changes))


def score_at(samples: int, noise: random.Random, **changes: Any) -> Score:
    """Return a believable score at some samples."""
    done = samples / HORIZON
    kid = 0.006 + 0.5 * math.exp(-25 * done) + 0.02 * math.exp(-3 * done) + 0.002 * max(0, done - 0.8) * 10
    error = 0.0006 + 0.03 * kid
    measured = kid + noise.gauss(0, error)
    values = {
        "kid": measured,
        "fid": 220 * kid + 1.2 + noise.gauss(0, 0.1),
        "precision": 0.84 - 0.6 * math.exp(-18 * done) + noise.gauss(0, 0.01),
        "recall": 0.71 - 0.65 * math.exp(-9 * done) + noise.gauss(0, 0.01),
        "density": 1.02 - 0.9 * math.exp(-15 * done) + noise.gauss(0, 0.02),
        "coverage": 0.9 - 0.85 * math.exp(-12 * done) + noise.gauss(0, 0.01),
    }
    known: dict[str, Any] = {"seconds": 1.4, "loss": measured, "error": error, "values": values, "protocol": PROTOCOL}
    return Score(samples=samples, **known | changes)


def data_record(**changes: Any) -> DataRecord:
    """Return what a training on the digits writes down of them."""
    known: dict[str, Any] = {
        "source": "mnist",
        "digest": "5d41402abc4b2a76b9719d911017c592",
        "num_train": 48_000,
        "num_validation": 6_000,
        "num_test": 6_000,
        "noun": "images",
        "summary": "28 × 28 grey images",
        "num_duplicates": 12,
        "rejected": (Rejected("scan 7.png", "truncated after 812 bytes"),),
        "classes": tuple("0123456789"),
        "class_counts": (4_800,) * 10,
        "metrics": METRICS,
        "facts": {"size": 28, "channels": 1},
    }
    return DataRecord(**known | changes)


def rivals(protocol: dict[str, Any], best: bool) -> Rivals:
    """Return a floor and a ceiling, compared with the best generator or not."""
    compared = Compared(difference=-0.31, error=0.004) if best else None
    floor = RivalScore(name="the mean image with noise", role="floor", loss=0.32, error=0.004, num=2000, best=compared)
    ceiling = RivalScore(name="real images", role="ceiling", loss=0.0002, error=0.0003, num=2000)
    return Rivals(protocol=protocol, scores=(floor, ceiling))


def change_state(run: RunFolder, **changes: Any) -> None:
    """Write the state of a run with some of it changed."""
    run.write_state(msgspec.structs.replace(run.read_state(), **changes))


def make_run(
    path: Path, *settings: str, status: Status = "finished", num_steps: int = 600, num_scores: int = 40
) -> RunFolder:
    """Write a run folder as a training does."""
    noise = random.Random(0)
    base = ["networks.width=32", "augment.kinds=translation", "augment.probability=0.5"]
    run = RunFolder.create(path, with_settings(Recipe(), [*base, *settings]), data_record())
    run.write_environment({"equipoise": "0.1.0", "torch": "2.13.0", "python": "3.11.2", "device": "cpu", "threads": 2})
    run.write_intervals(
        IntervalsRecord(
            samples_per_second=4010.0,
            evaluation_seconds=1.4,
            horizon=HORIZON,
            log_every=4000,
            evaluate_every=60_000,
            save_every=240_000,
        )
    )
    run.write_rivals(rivals(PROTOCOL, best=False))
    for index in range(1, num_steps + 1):
        run.log_step(stats_at(HORIZON * index // num_steps, noise))
    scores = [score_at(HORIZON * index // max(1, num_scores), noise) for index in range(1, num_scores + 1)]
    best = min(scores, key=lambda score: score.loss, default=None)
    for score in scores:
        run.log_score(score, is_best=score is best)
    message = "The budget of 10 min of training is spent."
    run.log_event(HORIZON, 600.0, "stop", message)
    ended: dict[str, Any] = {}
    if status in ("finished", "stopped"):
        ended = {"message": message, "stop_reason": "budget"}
    if best is not None:
        test = msgspec.structs.replace(best, loss=0.0104, protocol=TEST_PROTOCOL)
        ended |= {"best": best, "test": test, "rivals": rivals(TEST_PROTOCOL, best=True)}
    samples = HORIZON if num_steps else 0
    run.write_state(RunState(status=status, samples=samples, spent=samples, seconds=598.6, **ended))
    picture = png(64, 64, lambda x, y: x * y // 16)
    exhibits = [
        Exhibit(kind="picture", file="best.png", title="Samples", caption="Generated."),
        Exhibit(kind="picture", file="real.png", title="Samples", caption="Real."),
        Exhibit(kind="picture", file="nearest.png", title="Nearest training images", intro="Above, generated images."),
    ]
    run.write_exhibits(Exhibits(exhibits=tuple(exhibits)), {exhibit.file: picture for exhibit in exhibits})
    for samples in (4000, 60_000, 240_000, 600_000, 1_200_000, 1_800_000, 2_400_000):
        run.write_snapshot(samples, png(64, 64, lambda x, y, z=samples: x * y // 16 + z))
    return run


@pytest.fixture
def fake_run() -> Callable[..., RunFolder]:
    """Return the maker of run folders."""
    return make_run
