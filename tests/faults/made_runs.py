"""Small runs written by hand, with every file that a run of its kind can have."""

import io
import json
import wave
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PIL import Image

from equipoise.metrics import pair_judge
from equipoise.metrics.feature_judge import METRICS
from equipoise.recipe import Points, Recipe, SuperResolution, to_dict
from equipoise.recipes import for_points, for_super_resolution
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.storage.records import (
    CandidateScore,
    Compared,
    DataRecord,
    Exhibit,
    ExhibitKind,
    Exhibits,
    IntervalsRecord,
    Metric,
    Rejected,
    Rivals,
    RivalScore,
    RunState,
    Score,
    Selection,
    StepStats,
)
from equipoise.tasks.points import DISTANCE, OF_MODES, SHARES

Kind: TypeAlias = Literal["images", "points", "super-resolution", "custom loop"]
KINDS: tuple[Kind, ...] = ("images", "points", "super-resolution", "custom loop")
PROTOCOL = {"num_real": 500, "num_generated": 500, "features": "encoder", "split": "validation"}
LAST = 640
BEST = 576  # samples of the selected generator


def made(path: Path, kind: Kind = "images") -> RunFolder:
    """Write a small run with everything that a run of its kind can have."""
    run = RunFolder.create(path, recipe_of(kind), data_of(kind))
    run.write_state(ended(kind))
    run.write_environment({"torch": "2", "threads": 1})
    run.write_intervals(
        IntervalsRecord(samples_per_second=4.0, evaluation_seconds=1.0, horizon=LAST, log_every=8, evaluate_every=64)
    )
    run.write_rivals(rivals("validation"))
    for samples in range(64, LAST + 1, 64):
        run.log_score(score(kind, samples), is_best=samples == BEST)
        run.log_step(stats(samples))
    run.log_event(100, 1.0, "evaluation failed", "once")
    run.log_event(200, 2.0, "remedy", "Went back.", 1)
    run.log_event(LAST, 9.0, "stop", "Enough.")
    write_shown(run)
    if kind == "custom loop":
        (path / "watch.json").write_text(json.dumps({"sentence": "All is well."}))
    return run


def recipe_of(kind: Kind) -> Any:
    """Return a recipe, or what of it applies to a custom loop."""
    match kind:
        case "images":
            return Recipe()
        case "points":
            return for_points(Recipe(), Points())
        case "super-resolution":
            return for_super_resolution(Recipe(), SuperResolution())
        case "custom loop":
            return {"name": CUSTOM_LOOP, "stopping": to_dict(Recipe())["stopping"]}


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """Return what is measured in a run of a kind."""
    match kind:
        case "images":
            return METRICS
        case "points":
            return (DISTANCE, *SHARES, *OF_MODES)
        case "super-resolution":
            return pair_judge.metrics_of(26.0, is_faithful=False)
        case "custom loop":
            return (Metric(name="fid", label="FID", decides=True),)


def data_of(kind: Kind) -> DataRecord:
    """Return what a run of a kind writes down of its data."""
    facts: dict[str, Any] = {}
    if kind == "images":
        facts = {"size": 8, "channels": 1}
    if kind == "super-resolution":
        facts = {"encoder": "ab"}
    return DataRecord(
        source="somewhere",
        digest="ab",
        num_train=600,
        num_validation=100,
        num_test=100,
        noun="examples",
        summary="small ones",
        num_duplicates=1,
        rejected=(Rejected("a", "b"),),
        classes=("a", "b"),
        class_counts=(300, 300),
        metrics=metrics_of(kind),
        facts=facts,
    )


def score(kind: Kind, samples: int, split: str = "validation") -> Score:
    """Return a score that is lower the later it is."""
    return Score(
        samples=samples,
        seconds=1.0,
        loss=0.2 - samples / 10_000,
        error=0.01,
        compared_with=max(0, samples - 64),
        difference=-0.01,
        difference_error=0.005,
        values={metric.name: 0.5 for metric in metrics_of(kind)} | {"discriminator_gap": 0.1},
        protocol=PROTOCOL | {"split": split},
    )


def stats(samples: int) -> StepStats:
    """Return the stats of a healthy interval."""
    return StepStats(
        samples=samples,
        seconds=samples / 64,
        discriminator_loss=0.6,
        generator_loss=0.9,
        penalty=0.1,
        real_logit=0.5,
        fake_logit=-0.5,
        real_probability=0.6,
        fake_probability=0.4,
        accuracy=0.7,
        discriminator_gradient=0.3,
        generator_gradient=0.2,
        discriminator_rate=2e-4,
        generator_rate=2e-4,
        samples_per_second=64.0,
        spent=samples,
        terms={"adversarial": 0.6},
    )


def rivals(split: str, best: Compared | None = None) -> Rivals:
    """Return one rival of each role, one of which could not be scored."""
    found = (
        RivalScore(name="noise", role="floor", loss=0.9, error=0.01, num=500, best=best),
        RivalScore(name="a classic", role="rival", failure="KeyError: 'x'"),
        RivalScore(name="real ones", role="ceiling", loss=0.01, error=0.01, values={"fid": 1.0}, num=500, best=best),
    )
    return Rivals(protocol=PROTOCOL | {"split": split}, scores=found)


def ended(kind: Kind) -> RunState:
    """Return the state of a run that has ended with a selection and a test."""
    found = score(kind, BEST)
    other = score(kind, LAST)
    again = "validation, second half"
    selection = Selection(
        protocol=PROTOCOL | {"split": again},
        num_scores=10,
        candidates=(
            CandidateScore(found=found, rescored=score(kind, BEST, again), difference=0.0, difference_error=0.0),
            CandidateScore(found=other, rescored=score(kind, LAST, again), difference=0.1, difference_error=0.1),
        ),
        winner=BEST,
    )
    return RunState(
        status="finished",
        has_saved=True,
        samples=LAST,
        spent=LAST,
        seconds=9.0,
        stop_reason="evidence",
        message="Enough.",
        best=found,
        test=score(kind, BEST, "test"),
        rivals=rivals("test", Compared(difference=-0.1, error=0.01)),
        selection=selection,
    )


def write_shown(run: RunFolder) -> None:
    """Write an exhibit of each kind, and two snapshots."""
    contents: dict[ExhibitKind, tuple[str, bytes]] = {
        "picture": ("a.png", picture("PNG")),
        "animation": ("b.gif", picture("GIF")),
        "sound": ("c.wav", sound()),
        "series": ("d.json", b'{"one": [1, null, 3]}'),
        "rows": ("e.json", b'{"head": ["x", "y"], "rows": [["1", "2"], ["3", "4"], ["5", "6"]]}'),
        "lines": ("f.json", b'["one", "two"]'),
    }
    exhibits = tuple(
        Exhibit(kind=kind, file=name, title="Samples", caption=name) for kind, (name, _) in contents.items()
    )
    run.write_exhibits(Exhibits(exhibits=exhibits), dict(contents.values()))
    for samples in (64, LAST):
        run.write_snapshot(samples, picture("PNG"))


def picture(kind: str) -> bytes:
    """Return a grey picture of a kind."""
    file = io.BytesIO()
    Image.new("L", (8, 8), 7).save(file, kind)
    return file.getvalue()


def sound() -> bytes:
    """Return a short sound."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writing:
        writing.setnchannels(1)
        writing.setsampwidth(2)
        writing.setframerate(8_000)
        writing.writeframes(bytes(range(200)))
    return file.getvalue()


def files_in(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path, but the report and what says who holds a run."""
    every = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in every}
    return {name: data for name, data in found.items() if name not in ("report.html", "lock")}
