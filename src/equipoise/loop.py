"""THE loop: read first. One function trains any problem; only here do verdicts become deeds.

Time is counted in samples: real samples shown to the discriminator. Every random draw is a function of
(seed, stream, samples), so a resumed run goes on exactly where it was.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, assert_never

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise import checkpoint
from equipoise.game.ema import ema_decay, update_ema
from equipoise.game.optimizers import (
    gradient_norm,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    set_rate,
)
from equipoise.game.schedules import scheduled
from equipoise.interrupt import Interruption
from equipoise.judge.protocol import Judge, score, to_dict
from equipoise.pace import Pace, Stopwatch, measured_pace
from equipoise.problem import Moment, Players, Problem, Terms
from equipoise.randomness import Randomness, stream_seed
from equipoise.recipe import Game, MetricName, Player, Recipe
from equipoise.runs.folder import RunFolder
from equipoise.sampling import chunks
from equipoise.watch.signals import ScoreLine, StepStats
from equipoise.watch.stopping import Continue, Stop
from equipoise.watch.watch import Watch

NUM_SNAPSHOT = 64  # samples of fixed latents in a picture


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


@dataclass(frozen=True)
class Progress:
    """What the loop tells whoever shows the run: the position, its price, the scores, and a sentence."""

    name: str
    samples: int
    horizon: int  # 0 where the budget is a time
    share: float  # of the budget that is spent, 0 to 1
    samples_per_second: float
    seconds_left: float
    sentence: str
    metric: MetricName
    last: ScoreLine | None
    best: ScoreLine | None


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the verdict that stopped it, and where."""

    stop: Stop
    samples: int
    seconds: float


def train(
    problem: Problem,
    recipe: Recipe,
    run: RunFolder,
    judge: Judge,
    watch: Watch,
    tell: Callable[[Progress], None],
) -> Outcome:
    """Train until a verdict says stop; the run folder then holds the best generator and a last checkpoint."""
    state = restore(start(problem, recipe), recipe, watch, run)
    adopt_judge(problem, state, judge, watch, run)
    ended = watch.verdict(state.samples, state.seconds) if state.samples else Continue()
    if isinstance(ended, Stop):  # killed after its last checkpoint: nothing is left to train
        return Outcome(ended, state.samples, state.seconds)
    stopwatch, judged_at = Stopwatch(state.seconds, state.samples), 0
    with torch.random.fork_rng(), Interruption() as interruption:
        while True:
            progress = state.pace.progress(state.samples) if state.pace else 0.0
            set_rates(state, recipe.game, progress)
            for _ in range(recipe.game.discriminator_steps):
                moment = moment_of(state, recipe, progress, "discriminator")
                state.meter.add(take_discriminator_step(problem, state, recipe.game, moment))
                state.samples += recipe.game.batch
            moment = moment_of(state, recipe, progress, "generator")
            state.meter.add(take_generator_step(problem, state, recipe.game, moment))
            state.seconds = stopwatch.seconds()

            must_save = False
            if state.pace is None and stopwatch.is_warm(state.samples, recipe.budget):
                speed, judged_at = stopwatch.speed(state.samples), state.samples
                line = judge_now(problem, state, judge, watch, run)
                state.pace = measured_pace(speed, line.seconds if line else 1.0, recipe)
                run.write_pace(asdict(state.pace))
                must_save = True  # the pace was measured once: a resume must find it
            if state.pace is not None and state.pace.is_log_due(state.samples):
                stats = step_stats(state, stopwatch.lap(state.samples))
                watch.observe(stats)
                run.log_step(asdict(stats))
                tell(progress_of(state, recipe, watch, stats))
            if state.pace is not None and state.pace.is_judging_due(state.samples) and judged_at < state.samples:
                line, judged_at = judge_now(problem, state, judge, watch, run), state.samples
                must_save |= line is not None and line is watch.best  # or best/ would outlive what the run knows of
            state.seconds = stopwatch.seconds()

            verdict = interruption.verdict() or watch.verdict(state.samples, state.seconds)
            match verdict:
                case Continue():
                    if must_save or (state.pace is not None and state.pace.is_saving_due(state.samples)):
                        save(state, watch, run)
                case Stop() as stop:
                    if not interruption.requested and judged_at < state.samples:
                        judge_now(problem, state, judge, watch, run)
                    save(state, watch, run)
                    run.log_event(state.samples, state.seconds, "stop", stop.reason)
                    return Outcome(stop, state.samples, state.seconds)
                case _:
                    assert_never(verdict)


def take_discriminator_step(problem: Problem, state: State, game: Game, moment: Moment) -> dict[str, Tensor]:
    """Update the discriminator once, unless its loss or a gradient is not finite; return the step's numbers."""
    state.players.generator.requires_grad_(False)
    state.players.discriminator.requires_grad_(True)
    batch, kept = problem.batch(moment.randomness, game.batch), kept_buffers(state.players)
    terms = problem.discriminator_terms(state.players, batch, moment)
    parameters = list(state.players.discriminator.parameters())
    numbers = apply_gradients(terms, parameters, state.discriminator_optimizer, game.discriminator, "discriminator")
    if is_skipped(numbers, "discriminator"):
        restore_buffers(kept)
    if game.weight_clip is not None:
        with torch.no_grad():
            for parameter in parameters:
                parameter.clamp_(-game.weight_clip, game.weight_clip)
    state.discriminator_steps += 1
    return numbers


def take_generator_step(problem: Problem, state: State, game: Game, moment: Moment) -> dict[str, Tensor]:
    """Update the generator once, unless a number is not finite, and its moving average; return the numbers."""
    state.players.generator.requires_grad_(True)
    state.players.discriminator.requires_grad_(False)
    batch, kept = problem.batch(moment.randomness, game.batch), kept_buffers(state.players)
    terms = problem.generator_terms(state.players, batch, moment)
    parameters = list(state.players.generator.parameters())
    numbers = apply_gradients(terms, parameters, state.generator_optimizer, game.generator, "generator")
    if is_skipped(numbers, "generator"):
        restore_buffers(kept)
        return numbers
    num = game.batch * game.discriminator_steps
    update_ema(state.average, state.players.generator, ema_decay(num, game.ema_half_life, state.samples))
    return numbers


def apply_gradients(
    terms: Terms, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, player: Player, name: str
) -> dict[str, Tensor]:
    """Add up the loss terms, differentiate, and step only if the loss and every gradient are finite."""
    means = {term: values.mean() for term, values in terms.losses.items()}
    loss = torch.stack(list(means.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = gradient_norm(parameters, player.clip_norm)
    if not torch.isfinite(loss.detach() + norm):
        return {f"{name}_skipped": torch.tensor(1.0)}
    optimizer.step()
    numbers = {f"{name}_{term}": mean.detach() for term, mean in means.items()}
    numbers |= {f"{name}_loss": loss.detach(), f"{name}_gradient": norm, f"{name}_skipped": torch.tensor(0.0)}
    return numbers | {signal: values.mean() for signal, values in terms.signals.items()}


def progress_of(state: State, recipe: Recipe, watch: Watch, stats: StepStats) -> Progress:
    """Return what is to be shown after a log line."""
    horizon = state.pace.horizon if state.pace else 0
    left = (horizon - state.samples) / stats.samples_per_second
    if recipe.budget.seconds is not None:
        left = recipe.budget.seconds - state.seconds
    return Progress(
        name=f"{recipe.name} on {recipe.data.source}",
        samples=state.samples,
        horizon=0 if recipe.budget.seconds is not None else horizon,
        share=min(1.0, state.seconds / (state.seconds + max(0.0, left))),
        samples_per_second=state.samples / max(state.seconds, 1e-9),
        seconds_left=max(0.0, left),
        sentence=watch.sentence(),
        metric=watch.metric,
        last=watch.last,
        best=watch.best,
    )


def is_skipped(numbers: dict[str, Tensor], name: str) -> bool:
    """Return whether a player's step was refused."""
    return bool(numbers[f"{name}_skipped"])


def kept_buffers(players: Players) -> list[tuple[Tensor, Tensor]]:
    """Return both players' buffers (running statistics, singular vectors), each with a copy of its values."""
    modules = (players.generator, players.discriminator)
    return [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]


def restore_buffers(kept: list[tuple[Tensor, Tensor]]) -> None:
    """Undo what a refused step's forward pass wrote into the buffers."""
    with torch.no_grad():
        for buffer, before in kept:
            buffer.copy_(before)


def set_rates(state: State, game: Game, progress: float) -> None:
    """Set both learning rates to their schedules' values."""
    for optimizer, player in (
        (state.generator_optimizer, game.generator),
        (state.discriminator_optimizer, game.discriminator),
    ):
        set_rate(optimizer, scheduled(player.rate, player.rate_end, progress, player.schedule))


def moment_of(state: State, recipe: Recipe, progress: float, player: str) -> Moment:
    """Return a player's moment, and seed the global generator (dropout draws from it) by position."""
    seed = stream_seed(recipe.seed, f"{player} dropout", state.samples)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed does the same in ten times the time
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    randomness = Randomness(recipe.seed, state.samples)
    return Moment(randomness, progress, state.discriminator_steps, state.strength)


def step_stats(state: State, samples_per_second: float) -> StepStats:
    """Return the means since the last log line, and begin anew."""
    meter, state.meter = state.meter, Meter()
    terms = {name: meter.mean(name) for name in meter.sums if name.startswith(("discriminator_", "generator_"))}
    skipped = sum(float(meter.sums[f"{name}_skipped"]) for name in ("discriminator", "generator"))
    return StepStats(
        samples=state.samples,
        seconds=state.seconds,
        discriminator_loss=meter.mean("discriminator_loss"),
        generator_loss=meter.mean("generator_loss"),
        penalty=meter.mean("penalty"),
        real_logit=meter.mean("real_logit"),
        fake_logit=meter.mean("fake_logit"),
        real_probability=meter.mean("real_probability"),
        fake_probability=meter.mean("fake_probability"),
        accuracy=meter.mean("accuracy"),
        discriminator_gradient=meter.mean("discriminator_gradient"),
        generator_gradient=meter.mean("generator_gradient"),
        discriminator_rate=state.discriminator_optimizer.param_groups[0]["lr"],
        generator_rate=state.generator_optimizer.param_groups[0]["lr"],
        samples_per_second=samples_per_second,
        skipped_steps=round(skipped),
        terms={name: terms[name] for name in terms if not name.endswith(("_loss", "_gradient", "_skipped"))},
    )


def judge_now(problem: Problem, state: State, judge: Judge, watch: Watch, run: RunFolder) -> ScoreLine | None:
    """Score the averaged generator on the validation split; keep it if it is the best; never disturb training."""
    begin = time.monotonic()
    batches = generated(problem, state.average, judge.protocol.num_generated, judge.protocol.seed)
    try:
        result = score(judge, batches)
    except Exception as error:  # judging must never end a training: the event says what went wrong
        run.log_event(state.samples, state.seconds, "judging failed", f"{type(error).__name__}: {error}")
        watch.score(None)
        return None
    values = to_dict(result) | {"seconds": time.monotonic() - begin}
    line = ScoreLine.from_score(state.samples, values)
    is_best = watch.score(line)
    run.log_score(asdict(line) | {"best": is_best})
    if is_best:
        tensors = checkpoint.module_tensors("generator", state.average)
        checkpoint.write_folder(run.best, {"generator.safetensors": tensors}, {"score.json": asdict(line)})
    if run.is_snapshot_due(state.samples):
        samples = problem.generate(state.average, Randomness(0), NUM_SNAPSHOT)
        problem.show(samples.cpu(), run.snapshot_path(state.samples))
    return line


def adopt_judge(problem: Problem, state: State, judge: Judge, watch: Watch, run: RunFolder) -> None:
    """Score the best generator anew if this judge's protocol is not the one it was found under.

    Another machine, thread count or version may have taught the encoder other weights: old scores say nothing then.
    """
    if watch.best is None or watch.best.protocol == asdict(judge.protocol):
        return
    message = "the judge is not the one this run began with: its scores are not comparable, the best is scored anew"
    run.log_event(state.samples, state.seconds, "another judge", message)
    best, folder = watch.best, checkpoint.readable(run.best)
    watch.forget_scores()
    if checkpoint.verify(folder) is not None:
        return
    found = dataclasses.replace(state, average=copy.deepcopy(state.average), samples=best.samples)
    checkpoint.load_module("generator", found.average, load_file(folder / "generator.safetensors"))
    judge_now(problem, found, judge, watch, run)


def generated(problem: Problem, generator: nn.Module, num: int, seed: int) -> Iterator[Tensor]:
    """Yield `num` generated samples in chunks; the same seed gives the same latents to every generator."""
    for begin, size in chunks(num):
        yield problem.generate(generator, Randomness(seed, begin), size)


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


def save(state: State, watch: Watch, run: RunFolder) -> None:
    """Write everything that a resume needs as one checkpoint."""
    tensors = checkpoint.module_tensors("generator", state.players.generator)
    tensors |= checkpoint.module_tensors("discriminator", state.players.discriminator)
    tensors |= checkpoint.module_tensors("average", state.average)
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
        "watch": watch.state_dict(),
    }
    checkpoint.save(run.checkpoints, state.samples, tensors, values)


def restore(state: State, recipe: Recipe, watch: Watch, run: RunFolder) -> State:
    """Put the newest good checkpoint into a fresh state, and cut the logs back to it; a new run stays as it is."""
    found = checkpoint.latest(run.checkpoints, on_damage=lambda text: run.log_event(0, 0.0, "damage", text))
    if found is None:
        run.cut_logs(0)
        return state
    checkpoint.load_module("generator", state.players.generator, found.tensors)
    checkpoint.load_module("discriminator", state.players.discriminator, found.tensors)
    checkpoint.load_module("average", state.average, found.tensors)
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
    watch.load_state_dict(found.values["watch"])
    run.cut_logs(state.samples)
    return state


def _optimizers(state: State) -> tuple[tuple[str, torch.optim.Optimizer], ...]:
    return (
        ("generator_optimizer", state.generator_optimizer),
        ("discriminator_optimizer", state.discriminator_optimizer),
    )
