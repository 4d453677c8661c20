"""What everything around the bare step costs: Equipoise's loop against a hand-written one, interleaved in one process.

    python bench/overhead.py [--blocks 150] [--device cpu]

Both train the same networks with the same numerics (losses, penalty, optimizers, average, precision) on the same
images; the hand-written loop has nothing else. While Equipoise's loop runs, with signals, log, display, checks and a
checkpoint a minute or oftener, it is halted after every 20 steps for 20 hand-written ones, so that the machine's
moods meet both alike. The ratio of the total times is recorded with a bootstrap interval over blocks, in
records/overhead.json. Evaluations are left out: they are bounded by their own share of the time. On a GPU
(records/overhead-gpu.json) the hand-written loop holds all images there and draws its latents there, too.
"""

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import device_name, spread, write_record
from torch import Tensor
from torch.nn import functional

from equipoise import loop
from equipoise.api import SILENT
from equipoise.cli.display import Display
from equipoise.game.ema import ema_decay, update_ema
from equipoise.game.penalties import gradient_norm_squared
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players, Terms
from equipoise.host.device import chosen_precision
from equipoise.recipe import Budget, Recipe
from equipoise.recipes import build
from equipoise.runs.folder import RunFolder
from equipoise.setup import loss_of, monitor_of
from equipoise.state import TrainingState, start
from equipoise.tasks import images
from equipoise.tasks.images import ImageBatch, ImageTask

BLOCK = 20  # steps


def bare_step(task: ImageTask, recipe: Recipe, state: TrainingState, pixels: Tensor, step: int) -> None:
    """Take one discriminator and one generator step by hand, where the uint8 training images `[N, C, H, W]` are."""
    game = recipe.game
    penalty = game.penalty
    generator = state.players.generator
    discriminator = state.players.discriminator

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, dtype=task.precision, enabled=task.precision != torch.float32)

    device = pixels.device
    chosen = torch.randint(len(pixels), (game.batch,), device=device)
    real = (pixels[chosen].float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    generator.requires_grad_(False)
    discriminator.requires_grad_(True)
    with torch.no_grad(), autocast():
        fake = generator(torch.randn(game.batch, recipe.networks.latent_size, device=device)).float()
    due = step % penalty.every == 0
    real.requires_grad_(due)
    fake.requires_grad_(due)
    with autocast():
        real_logits = discriminator(real).float()
        fake_logits = discriminator(fake).float()
    loss = functional.softplus(fake_logits - real_logits).mean()
    if due:
        weight = 0.5 * penalty.gamma * penalty.every
        loss = loss + weight * gradient_norm_squared(real_logits, real).mean()
        loss = loss + weight * gradient_norm_squared(fake_logits, fake).mean()
    optimizer = state.update.optimizers["discriminator"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

    generator.requires_grad_(True)
    discriminator.requires_grad_(False)
    with autocast():
        fake = generator(torch.randn(game.batch, recipe.networks.latent_size, device=device))
        fake_logits = discriminator(fake.float()).float()
        with torch.no_grad():
            real_logits = discriminator(real.detach()).float()
    loss = functional.softplus(real_logits - fake_logits).mean()
    optimizer = state.update.optimizers["generator"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    update_ema(state.generator_ema, generator, ema_decay(game.batch, game.ema_half_life, (step + 1) * game.batch))


@dataclass
class Interleaved:
    """A task that halts whoever trains on it after every block, for a block of hand-written steps."""

    inner: ImageTask
    recipe: Recipe
    full: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    calls: int = 0
    mark: float = 0.0

    def __post_init__(self) -> None:
        self.state = start(self.inner, self.recipe)
        self.pixels = torch.from_numpy(self.inner.pool.images[self.inner.pool.splits.train]).to(self.inner.device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def discriminator_terms(self, players: Players, batch: ImageBatch, step: StepContext) -> Terms:
        """Count a step; at the end of a block, time it and take as many steps by hand."""
        if self.calls % BLOCK == 0:
            now = seconds(self.inner.device)
            if self.calls > BLOCK:  # the first block warms up
                self.full.append(now - self.mark)
            for index in range(self.calls, self.calls + BLOCK):
                bare_step(self.inner, self.recipe, self.state, self.pixels, index)
            self.mark = seconds(self.inner.device)
            if self.calls > BLOCK:
                self.bare.append(self.mark - now)
        self.calls += 1
        return self.inner.discriminator_terms(players, batch, step)


def seconds(device: torch.device) -> float:
    """Return the time at which a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interval(full: list[float], bare: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the ratio of totals, resampling pairs of blocks."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(full), (2_000, len(full)), generator=generator)
    ratios = torch.tensor(full)[chosen].sum(1) / torch.tensor(bare)[chosen].sum(1)
    low, high = ratios.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def no_score(*_: Any) -> None:
    """Stand in for an evaluation that takes no time."""


def main() -> None:
    """Train with both loops in turn and record the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    source = images.opened(Recipe(), device, SILENT.stage)
    recipe = source.settled(build("modern", source.facts))
    samples = (options.blocks + 2) * BLOCK * recipe.game.batch
    recipe = dataclasses.replace(recipe, budget=Budget(samples=samples, seconds=None))
    precision = chosen_precision(recipe, device)
    task = source.task(recipe, loss_of(recipe, None), precision, SILENT.stage)
    interleaved: Any = Interleaved(task, recipe)
    judge = task.judge("validation")
    assert judge is not None
    monitor = monitor_of(recipe, judge)
    with tempfile.TemporaryDirectory() as folder, Display() as display, patch.object(loop, "take_score", no_score):
        run = RunFolder.create(Path(folder) / "run", recipe, task.describe())
        loop.train(interleaved, recipe, run, judge, monitor, display)
    full = interleaved.full
    bare = interleaved.bare
    values = {
        "device": device_name(device),
        "blocks": len(full),
        "steps_a_block": BLOCK,
        "bare_milliseconds_a_step": spread([1000 * second / BLOCK for second in bare]),
        "full_milliseconds_a_step": spread([1000 * second / BLOCK for second in full]),
        "ratio_of_totals": sum(full) / sum(bare),
        "ratio_interval_95": list(interval(full, bare)),
        "ratio_of_blocks": spread([a / b for a, b in zip(full, bare, strict=True)]),
    }
    print(values)
    print(write_record("overhead" if device.type == "cpu" else "overhead-gpu", values))


if __name__ == "__main__":
    main()
