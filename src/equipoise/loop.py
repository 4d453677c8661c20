"""THE loop: read first. One function trains any problem; only here do verdicts become deeds.

Time is counted in samples: real samples shown to the discriminator. Every random draw is a function of
(seed, stream, samples), so a resumed run goes on exactly where it was.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import assert_never

import torch
from torch import Tensor, nn

from equipoise.evaluation.evaluate import adopt_judge, judge_now
from equipoise.evaluation.evaluator import Judge
from equipoise.game.ema import ema_decay, update_ema
from equipoise.game.optimizers import gradient_norm, set_rate
from equipoise.game.schedules import scheduled
from equipoise.health.stats import ScoreLine, StepStats
from equipoise.host.intervals import Stopwatch, measured_pace
from equipoise.host.signals import Interruption
from equipoise.host.writer import Saver, at_once
from equipoise.randomness import Randomness, stream_seed
from equipoise.recipe import Game, MetricName, Player, Recipe
from equipoise.runs.folder import RunFolder
from equipoise.state import Meter, State, prune_candidates, restore, save, start
from equipoise.stopping.monitor import Referee
from equipoise.stopping.policies import Continue, Stop
from equipoise.tasks.images import Moment, Players, Problem, Terms


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
    outlook: str = ""  # how near the policy is to a stop


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
    referee: Referee,
    tell: Callable[[Progress], None],
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train until a verdict says stop; the run folder then holds the best generator and a last checkpoint.

    Each turn first does what is due at its position, then takes one step, so that a resume at any position does what
    the uninterrupted run does. Raises UserError where a run cannot go on, and OSError where it cannot be written.
    """
    state = restore(start(problem, recipe), recipe, referee, run, note)
    if adopt_judge(problem, state, judge, referee, run):
        save(state, referee, run, at_once, Continue())
    stopwatch = Stopwatch(state.seconds, state.samples)
    with torch.random.fork_rng(), Interruption() as interruption, Saver() as saver:
        guard = partial(interruption.look, recipe.judging.timeout)
        look = partial(judge_now, problem, state, judge, referee, run, saver.submit, guard)
        while True:
            must_save = False
            if state.pace is None and state.samples and stopwatch.is_warm(state.samples, recipe.budget):
                speed, line = stopwatch.speed(state.samples), look()
                if interruption.requested is None:  # else both are measured by whoever goes on
                    state.pace = measured_pace(speed, price_of(line, referee.metric), recipe)
                    run.write_pace(asdict(state.pace))
                    must_save = True  # the pace was measured once: a resume must find it
            elif state.pace is not None and state.pace.is_judging_due(state.samples) and state.judged < state.samples:
                must_save = look() in referee.candidates  # or their files would outlive what the run knows of
            state.seconds = stopwatch.seconds()

            verdict = interruption.verdict() or referee.verdict(state.samples, state.seconds)
            is_end = isinstance(verdict, Stop)
            if is_end and not interruption.requested and state.judged < state.samples:
                look()  # what is handed over must have been judged
                must_save, verdict = state.judged == state.samples, interruption.verdict() or verdict
            is_due = is_end or (state.pace is not None and state.pace.is_saving_due(state.samples))
            if must_save or (is_due and state.saved < state.samples):
                verdict = save(state, referee, run, saver.submit, verdict)
            match verdict:
                case Continue():
                    saver.check()
                case Stop() as stop:
                    saver.wait()
                    stop = interruption.verdict() or stop  # a signal may have come while the disk was waited for
                    if stop.policy != "interrupted":
                        prune_candidates(run, {line.samples for line in referee.candidates}.__contains__)
                    return Outcome(stop, state.samples, state.seconds)
                case _:
                    assert_never(verdict)

            progress = state.pace.progress(state.samples) if state.pace else 0.0
            set_rates(state, recipe.game, progress)
            for _ in range(recipe.game.discriminator_steps):
                moment = moment_of(state, recipe, progress, "discriminator")
                state.meter.add(take_discriminator_step(problem, state, recipe.game, moment))
                state.samples += recipe.game.batch
            moment = moment_of(state, recipe, progress, "generator")
            state.meter.add(take_generator_step(problem, state, recipe.game, moment))
            state.seconds = stopwatch.seconds()
            if state.pace is not None and state.pace.is_log_due(state.samples):
                stats = step_stats(state, stopwatch.lap(state.samples))
                log_refused(stats, referee, run)
                referee.observe(stats)
                run.log_step(asdict(stats))
                tell(progress_of(state, recipe, referee, stats))


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


def price_of(first: ScoreLine | None, metric: MetricName) -> float:
    """Return what a look will cost in seconds; with pairs a later one has a champion to draw beside it."""
    return first.seconds * (2 if metric == "kid" else 1) if first else 1.0


def log_refused(stats: StepStats, referee: Referee, run: RunFolder) -> None:
    """Log that steps are being refused, once until there is an interval without."""
    if stats.skipped_steps and not referee.is_refusing:
        text = f"a loss or a gradient was not finite, so {stats.skipped_steps} steps of this interval were not applied"
        run.log_event(stats.samples, stats.seconds, "refused steps", text)


def progress_of(state: State, recipe: Recipe, referee: Referee, stats: StepStats) -> Progress:
    """Return what is to be shown after a log line."""
    horizon = state.pace.horizon if state.pace else 0
    left = (horizon - state.samples) * state.seconds / max(1, state.samples)  # at the rate that is shown
    if recipe.budget.seconds is not None:
        left = recipe.budget.seconds - state.seconds
    return Progress(
        name=f"{recipe.name} on {recipe.data.source}",
        samples=state.samples,
        horizon=0 if recipe.budget.seconds is not None else horizon,
        share=min(1.0, state.seconds / max(1e-9, state.seconds + max(0.0, left))),
        samples_per_second=state.samples / max(state.seconds, 1e-9),
        seconds_left=max(0.0, left),
        sentence=referee.sentence(),
        metric=referee.metric,
        last=referee.last,
        best=referee.best,
        outlook=referee.outlook(),
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
