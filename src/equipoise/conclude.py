"""The end of a run: the best generator is tested once, pictures are made, and the report is written."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise import checkpoint
from equipoise.card import model_card
from equipoise.data.pool import Pool, gather, to_float
from equipoise.judge.features import Features
from equipoise.judge.memorization import nearest
from equipoise.judge.protocol import Judge, score, to_dict
from equipoise.loop import NUM_SNAPSHOT, Outcome, generated
from equipoise.pictures import save_grid
from equipoise.problem import ImageProblem
from equipoise.randomness import Randomness
from equipoise.runs.folder import RunFolder
from equipoise.runs.report import write_report
from equipoise.watch.signals import ScoreLine

NUM_NEAREST = 10  # generated images shown beside their nearest training images
CHUNK = 1_000


def conclude(
    run: RunFolder, problem: ImageProblem, features: Features, make_test: Callable[[], Judge], outcome: Outcome
) -> None:
    """Write how the run ended; unless it was interrupted (leave soon then), test the best generator once.

    `make_test` gives the judge by the test split, which nothing looks at before.
    """
    state: dict[str, Any] = {
        "status": "stopped" if outcome.stop.policy == "interrupted" else "finished",
        "samples": outcome.samples,
        "seconds": outcome.seconds,
        "reason": outcome.stop.reason,
        "policy": outcome.stop.policy,
        "best": run.read_json(checkpoint.readable(run.best) / "score.json") or None,
        "test": None,
    }
    if state["best"] is not None:
        generator = best_generator(run, problem)
        images = problem.generate(generator, Randomness(0), NUM_SNAPSHOT).cpu()
        problem.show(images, run.samples / "best.png")
        problem.show(problem.real("validation", NUM_SNAPSHOT), run.samples / "real.png")
        if state["status"] == "finished":
            pairs = with_nearest(images[:NUM_NEAREST], problem.pool, features)
            save_grid(pairs, run.samples / "nearest.png", NUM_NEAREST)
            test = make_test()
            batches = generated(problem, generator, test.protocol.num_generated, test.protocol.seed)
            result = to_dict(score(test, batches))
            state["test"] = asdict(ScoreLine.from_score(state["best"]["samples"], result))
        (checkpoint.readable(run.best) / "README.md").write_text(model_card(run, state), "utf-8")
    run.write_state(state)
    write_report(run)


def best_generator(run: RunFolder, problem: ImageProblem) -> nn.Module:
    """Load the generator in `best/` into a fresh network on the problem's device."""
    with torch.random.fork_rng():
        generator = problem.networks().generator
    tensors = load_file(checkpoint.readable(run.best) / "generator.safetensors")
    checkpoint.load_module("generator", generator, tensors)
    return generator.requires_grad_(False).eval()


def with_nearest(images: Tensor, pool: Pool, features: Features) -> Tensor:
    """Return generated images `[N, C, H, W]` followed by each one's nearest training image in the judge's features."""
    query = features.extract(images)
    least = torch.full((len(images),), torch.inf)
    found = torch.zeros(len(images), dtype=torch.int64)
    train = torch.from_numpy(pool.splits.train)
    for part in train.split(CHUNK):  # the features of a large set would not fit into memory at once
        distances, places = nearest(query, features.extract(to_float(gather(pool, part))), 1)
        closer = distances[:, 0] < least
        least = torch.where(closer, distances[:, 0].to(least), least)
        found = torch.where(closer, part[places[:, 0]], found)
    return torch.cat([images, to_float(gather(pool, found))])
