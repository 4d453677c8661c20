"""All that training changes, how it begins, and how it goes into a checkpoint and comes back."""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.game.optimizers import load_optimizer_tensors, make_optimizer, optimizer_tensors
from equipoise.health.stats import record_of
from equipoise.host.intervals import Pace, measured_pace, settled_pace
from equipoise.randomness import stream_seed
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.stopping.policies import Stop, Verdict, poisoned_stop
from equipoise.storage import checkpoints, files
from equipoise.storage.checkpoints import candidate_paths
from equipoise.storage.files import as_read, discard
from equipoise.tasks.images import Players, Problem

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


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
    """All that training changes; everything in here goes into a checkpoint, unless it says otherwise."""

    players: Players
    average: nn.Module  # the moving average of the generator: what is judged and handed over
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    strength: float  # of the augmentation
    samples: int = 0
    judged: int = 0  # samples at the last look, also at one that failed
    saved: int = 0  # samples of the last checkpoint, also of one that was refused; not in it
    discriminator_steps: int = 0
    seconds: float = 0.0  # spent in training and judging, over all sessions
    meter: Meter = field(default_factory=Meter)
    pace: Pace | None = None  # as the recipe asks, or measured once and kept
    champion: nn.Module | None = None  # the best average so far, which the next one is compared with
    named: set[int] = field(default_factory=set)  # samples of the candidates that the last checkpoint speaks of


class Values(msgspec.Struct, forbid_unknown_fields=True):
    """What a checkpoint holds besides tensors, as it must be to be taken back."""

    samples: Count
    judged: Count
    discriminator_steps: Count
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    strength: Annotated[float, msgspec.Meta(ge=0, le=1)]
    meter: dict[str, Annotated[int, msgspec.Meta(ge=1)]]
    pace: tuple[Positive, Positive] | None  # samples a second, seconds of a look
    has_champion: bool
    watch: dict[str, Any]
    generator_optimizer: dict[str, Any]
    discriminator_optimizer: dict[str, Any]


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
        pace=settled_pace(recipe),
    )


def save(
    state: State, referee: Referee, run: RunFolder, write: Callable[[Callable[[], None]], None], verdict: Verdict
) -> Verdict:
    """Copy everything that a resume needs, `write` it as one checkpoint, and return the verdict.

    One with a number that is not finite is never written; what would go on ends there.
    """
    if isinstance(verdict, Stop):  # before the checkpoint, so that no kill comes between
        run.log_event(state.samples, state.seconds, "stop", verdict.reason)
    state.saved = state.samples
    tensors = checkpoints.copied(live_tensors(state))
    if poisoned := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        message = f"{poisoned[0]} is not finite; the last good checkpoint stays the last"
        run.log_event(state.samples, state.seconds, "not saved", message)
        return verdict if isinstance(verdict, Stop) else poisoned_stop(poisoned[0])
    tensors |= checkpoints.copied({f"meter.{name}": total for name, total in state.meter.sums.items()})  # may be NaN
    values, samples, named = plain_values(state, referee), state.samples, {line.samples for line in referee.candidates}
    is_kept, candidates = kept_for_good(state, referee), named | state.named
    state.named = named  # those of the checkpoint before stay, too: a resume may fall back on it

    def job() -> None:
        run.sync_logs()  # or a power cut could take lines from them that this checkpoint has behind it
        checkpoints.save(run.checkpoints, samples, tensors, values, is_kept)
        if not run.has_saved:
            run.write_state({"status": "running", "has_saved": True})  # where they are gone later, it is known
        prune_candidates(run, candidates.__contains__)

    write(job)
    return verdict


def kept_for_good(state: State, referee: Referee) -> Callable[[int], bool]:
    """Return which checkpoints stay beside the last two: the best one's, and every n-th where that is asked for."""
    best, keep_every = referee.best, state.pace.keep_every if state.pace else None
    return lambda old: (best is not None and old == best.samples) or (keep_every is not None and old % keep_every == 0)


def live_tensors(state: State) -> dict[str, Tensor]:
    """Return every tensor that training changes, under the names of the checkpoint; not copies."""
    tensors: dict[str, Tensor] = {}
    for name, module in _modules(state):
        tensors |= checkpoints.module_tensors(name, module)
    for name, optimizer in _optimizers(state):
        moments, _ = optimizer_tensors(optimizer)
        tensors |= {f"{name}.{key}": tensor for key, tensor in moments.items()}
    return tensors


def plain_values(state: State, referee: Referee) -> dict[str, Any]:
    """Return everything else that training changes, as values for JSON."""
    values: dict[str, Any] = {name: optimizer_tensors(optimizer)[1] for name, optimizer in _optimizers(state)}
    return values | {
        "samples": state.samples,
        "judged": state.judged,
        "discriminator_steps": state.discriminator_steps,
        "seconds": state.seconds,
        "strength": state.strength,
        "meter": dict(state.meter.counts),  # written while the training counts on
        "pace": measured_once(state.pace),
        "has_champion": state.champion is not None,
        "watch": referee.state_dict(),
    }


def measured_once(pace: Pace | None) -> tuple[float, float] | None:
    """Return the two measurements that a pace follows from, None where it follows from the recipe alone."""
    return (
        None if pace is None or math.isnan(pace.samples_per_second) else (pace.samples_per_second, pace.judge_seconds)
    )


def restore(state: State, recipe: Recipe, referee: Referee, run: RunFolder, note: Callable[[str], None]) -> State:
    """Put the newest good checkpoint into a fresh state, and cut the logs back to it; a new run stays as it is.

    `note` is told of damage. Raises UserError where no checkpoint is good, or one does not fit.
    """
    run.tidy()  # first: between two renames the newest checkpoint lies aside
    damages: list[str] = []
    found = checkpoints.latest(run.checkpoints, on_damage=damages.append)
    if found is not None:
        try:
            take_back(state, found, recipe, referee)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"{found.path}: does not fit this run ({reason}): it was written by another version, or for other "
                "networks. Resume with the version that wrote it, or start a new run: equipoise train SOURCE"
            ) from None
        checkpoints.prune(run.checkpoints, state.samples, kept_for_good(state, referee))  # a kill may have prevented it
    run.cut_logs(state.samples, state.judged)
    for damage in damages:
        run.log_event(state.samples, state.seconds, "damage", damage)
        note(damage)
    if found is not None:
        note(f"Going on from the checkpoint at {state.samples:,} samples.")
    prune_candidates(run, lambda samples: samples <= state.samples)  # what a kill left of looks that are taken again
    put_back_best(state, referee, run)
    if state.pace is not None:
        run.write_pace(asdict(state.pace))
    return state


def put_back_best(state: State, referee: Referee, run: RunFolder) -> None:
    """Make `best/` what the checkpoint knows as best, where it is damaged or of a look that is taken again."""
    if not run.best.exists() and referee.best is None:
        return
    if files.verify(run.best, checkpoints.WEIGHTS_FILES) is None:
        known = [line for line in (referee.best, *referee.candidates) if line is not None]
        if run.read_json(run.best / "score.json") in [as_read(record_of(line)) for line in known]:
            return  # also a candidate's, of a finished run, where they were judged again
    if state.champion is None or referee.best is None:
        discard(run.best)
        return
    tensors = checkpoints.copied(checkpoints.module_tensors("generator", state.champion))
    record = record_of(referee.best)
    checkpoints.write_folder(run.best, {"generator.safetensors": tensors}, {"score.json": record})


def take_back(state: State, found: checkpoints.Checkpoint, recipe: Recipe, referee: Referee) -> None:
    """Put a checkpoint into a fresh state and a fresh referee; raises what its not fitting raises."""
    values = msgspec.convert(found.values, Values)
    if values.samples != int(found.path.name):
        raise ValueError(f"it says that it is of {values.samples} samples")
    if values.has_champion:
        state.champion = copy.deepcopy(state.average)
    for name, module in _modules(state):
        checkpoints.load_module(name, module, found.tensors)
    plain = (values.generator_optimizer, values.discriminator_optimizer)
    for (name, optimizer), rest in zip(_optimizers(state), plain, strict=True):
        start_of_name = len(name) + 1
        moments = {key[start_of_name:]: t for key, t in found.tensors.items() if key.startswith(f"{name}.")}
        load_optimizer_tensors(optimizer, moments, rest)
    state.samples = state.saved = values.samples
    state.judged, state.discriminator_steps = values.judged, values.discriminator_steps
    state.seconds, state.strength = values.seconds, values.strength
    for name, count in values.meter.items():
        state.meter.sums[name], state.meter.counts[name] = found.tensors[f"meter.{name}"], count
    if state.pace is None and values.pace is not None:  # a new budget moves what follows from it
        state.pace = measured_pace(*values.pace, recipe)
    referee.load_state_dict(values.watch)
    state.named = {line.samples for line in referee.candidates}


def prune_candidates(run: RunFolder, is_kept: Callable[[int], bool]) -> None:
    """Remove the generators that are no candidates any more, by their samples; raises OSError."""
    for path in candidate_paths(run.candidates):
        if not is_kept(int(path.name)):
            discard(path)


def _modules(state: State) -> tuple[tuple[str, nn.Module], ...]:
    players = state.players
    found = (("generator", players.generator), ("discriminator", players.discriminator), ("average", state.average))
    return found if state.champion is None else (*found, ("champion", state.champion))


def _optimizers(state: State) -> tuple[tuple[str, torch.optim.Optimizer], ...]:
    return (
        ("generator_optimizer", state.generator_optimizer),
        ("discriminator_optimizer", state.discriminator_optimizer),
    )
