"""What everything around the bare step costs: Equipoise's loop against a hand-written one, interleaved in one process.

    python bench/overhead.py [--rounds 5] [--steps 600]

Both train the same networks with the same numerics (losses, penalty, optimizers, average, precision) on the same
images. The hand-written loop has nothing else: no signals, log, display, checkpoints or checks. Rounds alternate;
the ratio of each pair of neighbours is taken, and the median with the range is recorded in records/overhead.json.
Judging is left out of both: it is bounded by its own share (5 %).
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from common import spread, write_record
from torch.nn import functional

from equipoise import loop
from equipoise.api import chosen_precision, features_of, judge_of
from equipoise.data.pool import prepare
from equipoise.display import Display
from equipoise.game.ema import ema_decay, update_ema
from equipoise.game.penalties import gradient_norm_squared
from equipoise.pace import Pace
from equipoise.problem import ImageProblem
from equipoise.recipe import Budget, Data, Recipe
from equipoise.recipes import Facts, build
from equipoise.runs.folder import RunFolder
from equipoise.watch.watch import Watch

DEVICE = torch.device("cpu")


def bare_loop(problem: ImageProblem, recipe: Recipe, num_steps: int) -> float:
    """Train by hand for some steps and return the seconds."""
    state = loop.start(problem, recipe)
    game, penalty = recipe.game, recipe.game.penalty
    generator, discriminator = state.players.generator, state.players.discriminator
    images = torch.from_numpy(problem.pool.images[problem.pool.splits.train])
    optimizer_g, optimizer_d = state.generator_optimizer, state.discriminator_optimizer

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", dtype=problem.precision, enabled=problem.precision != torch.float32)

    begin = time.perf_counter()
    for step in range(num_steps):
        chosen = torch.randint(len(images), (game.batch,))
        real = (images[chosen].float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        generator.requires_grad_(False)
        discriminator.requires_grad_(True)
        with torch.no_grad(), autocast():
            fake = generator(torch.randn(game.batch, recipe.networks.latent_size)).float()
        due = step % penalty.every == 0
        real.requires_grad_(due)
        fake.requires_grad_(due)
        with autocast():
            real_logits, fake_logits = discriminator(real).float(), discriminator(fake).float()
        loss = functional.softplus(fake_logits - real_logits).mean()
        if due:
            weight = 0.5 * penalty.gamma * penalty.every
            loss = loss + weight * gradient_norm_squared(real_logits, real).mean()
            loss = loss + weight * gradient_norm_squared(fake_logits, fake).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        optimizer_d.step()

        generator.requires_grad_(True)
        discriminator.requires_grad_(False)
        with autocast():
            fake_logits = discriminator(generator(torch.randn(game.batch, recipe.networks.latent_size)).float()).float()
            with torch.no_grad():
                real_logits = discriminator(real.detach()).float()
        loss = functional.softplus(real_logits - fake_logits).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss.backward()
        optimizer_g.step()
        update_ema(state.average, generator, ema_decay(game.batch, game.ema_half_life, (step + 1) * game.batch))
    return time.perf_counter() - begin


def full_loop(problem: ImageProblem, recipe: Recipe, judge: object, num_steps: int, pace: Pace) -> float:
    """Train with Equipoise's loop for the same steps, with display, log and checkpoints, and return the seconds."""
    with tempfile.TemporaryDirectory() as folder, Display() as display:
        run = RunFolder.create(Path(folder) / "run", recipe)
        run.write_pace(vars(pace))
        watch = Watch(recipe.stopping, Budget(samples=num_steps * recipe.game.batch, seconds=None))
        seconds: list[float] = []
        real_judge, loop.judge_now = loop.judge_now, lambda *_: None
        begin = time.perf_counter()
        try:
            loop.train(problem, recipe, run, judge, watch, display.tell)  # type: ignore[arg-type]
        finally:
            loop.judge_now = real_judge
        seconds.append(time.perf_counter() - begin)
    return seconds[0]


def main() -> None:
    """Alternate the two loops and record the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    pool = prepare(Data())
    recipe = build("modern", Facts(num_train=len(pool.splits.train)))
    problem = ImageProblem(recipe, pool, DEVICE, chosen_precision(recipe, DEVICE))
    judge = judge_of(pool, features_of(pool, "encoder", DEVICE), "validation", 2_000)
    speed = options.steps / 2 * recipe.game.batch / bare_loop(problem, recipe, options.steps // 2)
    log_every = round(speed) // recipe.game.batch * recipe.game.batch
    samples = options.steps * recipe.game.batch
    pace = Pace(speed, 0.5, 100 * samples, log_every, 1000 * log_every, 60 * log_every)
    bare, full = [], []
    for _ in range(options.rounds):
        bare.append(bare_loop(problem, recipe, options.steps) / options.steps)
        full.append(full_loop(problem, recipe, judge, options.steps, pace) / options.steps)
    ratios = [b / a for a, b in zip(bare, full, strict=True)]
    values = {
        "steps_a_round": options.steps,
        "bare_milliseconds": spread([1000 * second for second in bare]),
        "full_milliseconds": spread([1000 * second for second in full]),
        "ratio": spread(ratios),
        "note": "the full loop also starts networks, reads its folder and writes the last checkpoint in each round",
    }
    print(values)
    print(write_record("overhead", values))


if __name__ == "__main__":
    main()
