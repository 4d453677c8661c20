"""All that training changes, how it begins, and how it goes into a checkpoint and comes back."""

import copy
import math
import shutil
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import checkpoint
from equipoise.game.optimizers import load_optimizer_tensors, make_optimizer, optimizer_tensors
from equipoise.pace import Pace, measured_pace
from equipoise.problem import Players, Problem
from equipoise.randomness import stream_seed
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.watch.referee import Referee


@dataclass
class Meter:
    """Sums of the steps' numbers since the last log line."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, numbers: dict[str, Tensor]) -> None:
        """Add one step's numbers."""
        for name, value in numbers.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self, name: str) -> float:
        """Return the mean of a number, NaN if no step had it."""
        return float(self.sums[name]) / self.counts[name] if name in self.sums else math.nan


@dataclass
class State:
    """All that training changes; everything in here goes into a checkpoint."""

    players: Players
    average: nn.Module  # the moving average of the generator: what is judged and handed over
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    strength: float  # of the augmentation
    samples: int = 0
    discriminator_steps: int = 0
    seconds: float = 0.0  # spent in training and judging, over all sessions
    meter: Meter = field(default_factory=Meter)
    pace: Pace | None = None  # measured once, and kept in the run folder
    champion: nn.Module | None = None  # the best average so far, which the next one is compared with


def start(problem: Problem, recipe: Recipe) -> State:
    """Build networks and optimizers with weights drawn from the recipe's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(recipe.seed, "weights", 0))
        players = problem.networks()
        average = problem.networks().generator
    average.load_state_dict(players.generator.state_dict())
    average.requires_grad_(False).eval()
    return State(
        players,
        average,
        make_optimizer(recipe.game.generator, players.generator.parameters()),
        make_optimizer(recipe.game.discriminator, players.discriminator.parameters()),
        recipe.augment.strength,
    )


def save(state: State, referee: Referee, run: RunFolder) -> None:
    """Write everything that a resume needs as one checkpoint."""
    tensors = checkpoint.module_tensors("generator", state.players.generator)
    tensors |= checkpoint.module_tensors("discriminator", state.players.discriminator)
    tensors |= checkpoint.module_tensors("average", state.average)
    if state.champion is not None:
        tensors |= checkpoint.module_tensors("champion", state.champion)
    values: dict[str, Any] = {}
    for name, optimizer in _optimizers(state):
        moments, values[name] = optimizer_tensors(optimizer)
        tensors |= {f"{name}.{key}": tensor for key, tensor in moments.items()}
    values |= {
        "samples": state.samples,
        "discriminator_steps": state.discriminator_steps,
        "seconds": state.seconds,
        "strength": state.strength,
        "meter": {name: [float(total), state.meter.counts[name]] for name, total in state.meter.sums.items()},
        "pace": [state.pace.samples_per_second, state.pace.judge_seconds] if state.pace else None,
        "has_champion": state.champion is not None,
        "watch": referee.state_dict(),
    }
    checkpoint.save(run.checkpoints, state.samples, tensors, values)
    prune_candidates(referee, run)


def restore(state: State, recipe: Recipe, referee: Referee, run: RunFolder) -> State:
    """Put the newest good checkpoint into a fresh state, and cut the logs back to it; a new run stays as it is."""
    found = checkpoint.latest(run.checkpoints, on_damage=lambda text: run.log_event(0, 0.0, "damage", text))
    if found is None:
        run.cut_logs(0)
        prune_candidates(referee, run)
        return state
    checkpoint.load_module("generator", state.players.generator, found.tensors)
    checkpoint.load_module("discriminator", state.players.discriminator, found.tensors)
    checkpoint.load_module("average", state.average, found.tensors)
    if found.values.get("has_champion"):  # one of 0.1.0 is refused by the referee below
        state.champion = copy.deepcopy(state.average)
        checkpoint.load_module("champion", state.champion, found.tensors)
    for name, optimizer in _optimizers(state):
        start_of_name = len(name) + 1
        moments = {key[start_of_name:]: t for key, t in found.tensors.items() if key.startswith(f"{name}.")}
        load_optimizer_tensors(optimizer, moments, found.values[name])
    state.samples = found.values["samples"]
    state.discriminator_steps = found.values["discriminator_steps"]
    state.seconds = found.values["seconds"]
    state.strength = found.values["strength"]
    for name, (total, count) in found.values["meter"].items():
        state.meter.sums[name], state.meter.counts[name] = torch.tensor(total), count
    if found.values["pace"] is not None:  # measured once; a new budget moves what follows from it
        speed, judge_seconds = found.values["pace"]
        state.pace = measured_pace(speed, judge_seconds, recipe)
        run.write_pace(asdict(state.pace))
    referee.load_state_dict(found.values["watch"])
    run.cut_logs(state.samples)
    prune_candidates(referee, run)  # what a kill left of looks that are taken again
    return state


def prune_candidates(referee: Referee, run: RunFolder) -> None:
    """Remove the generators that are no candidates any more: only once the checkpoint no longer speaks of them."""
    kept = {str(line.samples) for line in referee.candidates}
    for folder in run.candidates.iterdir() if run.candidates.is_dir() else ():
        if folder.name not in kept:
            shutil.rmtree(folder)


def _optimizers(state: State) -> tuple[tuple[str, torch.optim.Optimizer], ...]:
    return (
        ("generator_optimizer", state.generator_optimizer),
        ("discriminator_optimizer", state.discriminator_optimizer),
    )
