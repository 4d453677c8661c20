"""From Python: `run = equipoise.train(source="photos/", budget="10m"); run.best.sample(64)`."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
import torch
from torch import Tensor, nn

from equipoise import formatting, loop
from equipoise.data.audit.check import Check, check
from equipoise.data.cache import default_cache, writing_to
from equipoise.data.description import describe, described
from equipoise.data.pool import Pool, gather, prepare, to_float
from equipoise.errors import UserError, suggestion
from equipoise.evaluation.evaluator import Judge, Score, make_judge, score
from equipoise.evaluation.finish import conclude
from equipoise.health.stats import score_from, whole_of
from equipoise.host.device import chosen_device, chosen_precision, environment_of, threads_of
from equipoise.metrics.features.load import Features, load_features
from equipoise.nets.players import make_players
from equipoise.randomness import Randomness
from equipoise.recipe import (
    Data,
    FeaturesName,
    PolicyName,
    Recipe,
    from_dict,
    parsed_budget,
    refuse_idle_augmentation,
    with_settings,
)
from equipoise.recipes import Facts, RecipeName, build, checked_name
from equipoise.report.report import write_missing_report, write_report
from equipoise.runs.folder import RunFolder, new_path, run_name
from equipoise.runs.missing_best import refuse_without_best
from equipoise.runs.resume_rules import ready_to_go_on
from equipoise.stopping.monitor import Referee
from equipoise.storage import checkpoints, files
from equipoise.storage.safe_open import writable_text
from equipoise.tasks.images import ImageProblem, split_indices
from equipoise.tasks.sampling import CHUNK, chunks, drawn

MAX_SIZE_CPU = 64  # pixels a side when the size is left open; --size asks for more
MAX_SIZE_GPU = 256
NUM_REAL = 5_000  # real images that a score is measured against, at most
NUM_FOR_ENCODER = 60_000  # training images that the judge's encoder learns from, at most; they lie in memory
BYTES_FOR_ENCODER = 2**30
NUM_FOR_COPYING = 2_000  # training images that the judge compares with, to see whether a generator copies them
LEAST_DISTINCT = 22  # images without which no setting helps
MIN_HALF = 20  # images that each half of the validation split must have, or it stays whole
TEST_SEED = 1  # other latents than those by which the best generator was chosen
RESCORE_SEED = 2  # other latents than those by which the candidates were found

JudgedSplit = Literal["validation", "validation, second half", "test"]

Tell = Callable[[loop.Progress], None]  # told of the training about once a second
Preparing = Callable[[str, float], None]  # told of a stage around the training and the share of it that is done
Note = Callable[[str], None]  # told of what is worth a lasting line


def silent(*_: Any) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Best:
    """The best generator of a run by validation; `generator` is an ordinary module in eval mode."""

    generator: nn.Module
    latent_size: int
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]  # of the training images
    score: dict[str, Any]

    def sample(self, num: int, seed: int = 0, label: str | None = None) -> Tensor:
        """Draw images `[num, C, H, W]` in [-1, 1]; the same seed draws the same images.

        `label` names a class of a conditional generator (without it, each as often as in the training images);
        raises UserError if unknown.
        """
        return torch.cat(list(self.batches(num, seed, label)))

    def batches(self, num: int, seed: int = 0, label: str | None = None) -> Iterator[Tensor]:
        """Yield what `sample` returns in parts, for more images than fit into memory at once."""
        if num < 1:
            raise UserError(f"sample: {num} images were asked for; ask for at least 1, for example -n 64")
        index = None if label is None else self._index(label)
        for begin, size in chunks(num):
            randomness = Randomness(seed, begin)
            yield drawn(self.generator, randomness, size, self.latent_size, self.class_counts, index).cpu()

    def _index(self, label: str) -> int:
        if not self.classes:
            raise UserError(
                f'label "{label}": this generator knows no classes. Train one with --set networks.conditional=true'
            )
        if label not in self.classes:
            raise UserError(
                f'label "{label}": this generator knows {", ".join(self.classes)}.{suggestion(label, self.classes)}'
            )
        return self.classes.index(label)


@dataclass(frozen=True)
class Run:
    """A training on disk: its recipe, its state, and its best generator."""

    folder: RunFolder

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def report(self) -> Path:
        """The report's path; it exists once the training has ended."""
        return self.folder.path / "report.html"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it was trained."""
        return from_dict(self.folder.read_recipe())

    @property
    def state(self) -> dict[str, Any]:
        """Status, samples, seconds, reason, and the scores of the best generator."""
        return self.folder.read_state()

    @cached_property
    def best(self) -> Best:
        """The best generator so far, loaded on the CPU; raises UserError before the first score."""
        self.folder.refuse_own_loop()
        for _ in range(9):
            before = self._best_folder()
            try:
                found = self._loaded()
            except (OSError, UserError):
                if self._best_folder() == before:
                    raise
            else:
                if self._best_folder() == before:
                    return found
        raise UserError(f"{self.folder.best}: was replaced again and again while it was read. Try again")

    def _best_folder(self) -> tuple[int, int] | None:
        """Return which folder now is `best/`: a training may put a better one in its place while it is read."""
        with contextlib.suppress(OSError):
            found = files.readable(self.folder.best).stat()
            return found.st_ino, found.st_ctime_ns
        return None

    def _loaded(self) -> Best:
        refuse_without_best(self.folder)
        path = files.readable(self.folder.best)
        data = described(self.folder.read_data(), self.folder.path / "data.json")
        classes = data.classes if self.recipe.networks.conditional else ()
        with torch.random.fork_rng():  # weights are drawn before they are read: the caller's stream stays as it is
            generator, _ = make_players(
                self.recipe.networks, size=data.size, channels=data.channels, num_classes=len(classes)
            )
        checkpoints.load_weights(path, generator)
        return Best(
            generator.requires_grad_(False).eval(),
            self.recipe.networks.latent_size,
            classes,
            data.class_counts if classes else (),
            self.folder.read_json(path / "score.json"),
        )


def train(
    source: str | Path | None = None,
    *,
    recipe: RecipeName | Recipe = "modern",
    size: int | None = None,
    budget: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    settings: Sequence[str] = (),
    tell: Tell = silent,
    preparing: Preparing = silent,
    note: Note = silent,
) -> Run:
    """Train a GAN on a source of images and return the finished run; raises UserError for a caller's mistake.

    Without a source it is the recipe's, which is the embedded digits unless a Recipe says otherwise.
    """
    options = list(settings)
    options += [f"data.size={size}"] if size is not None else []
    options += [f"seed={seed}"] if seed is not None else []
    options += [f"device={device}"] if device is not None else []
    first = with_options(_recipe(recipe, Facts()), source, budget, options)
    chosen = chosen_device(first.device)
    # Before the images are read, which may take long.
    RunFolder.refuse_taken(Path(out) if out is not None else new_path(Path("runs"), run_name(first)))
    pool = prepared(first.data, chosen, preparing)
    facts = _facts(pool, chosen)
    final = with_options(_recipe(recipe, facts), source, budget, options)
    final = dataclasses.replace(final, data=dataclasses.replace(final.data, size=facts.size, channels=facts.channels))
    refuse_impossible(final, pool)
    note(_in_words(pool, final))
    features = features_of(pool, final.judging.features, chosen, preparing)
    with _begun(out, final, describe(pool, final.data.source)) as folder:  # only now: a mistake leaves no folder behind
        note(f"The run's folder: {folder.path}")
        return _trained(folder, final, pool, features, chosen, tell, preparing, note)


def resume(
    path: str | Path,
    *,
    budget: str | None = None,
    policy: PolicyName | None = None,
    tell: Tell = silent,
    preparing: Preparing = silent,
    note: Note = silent,
) -> Run:
    """Go on with a run exactly where it was, with another budget in all or another policy of stopping if given.

    A finished run needs a larger budget, or, where a policy stopped it, another policy. Raises UserError.
    """
    folder = RunFolder.open(Path(path))
    write_missing_report(folder)
    recipe = ready_to_go_on(folder, budget, policy)
    data = described(folder.read_data(), folder.path / "data.json")
    chosen = chosen_device(recipe.device)
    place = data.path  # the source as the recipe names it may be relative to another folder
    source = place if place and Path(place).exists() else recipe.data.source
    pool = prepared(dataclasses.replace(recipe.data, source=source), chosen, preparing)
    if pool.digest != data.digest:
        raise UserError(
            f"{recipe.data.source}: the images changed since this run began, so it cannot go on exactly. "
            "Put them back, or start a new run: equipoise train SOURCE"
        )
    note(_in_words(pool, recipe))
    begun = folder.read_environment()
    with threads_of(begun.get("threads"), chosen):  # also while the judge learns, where the cache has lost it
        features = features_of(pool, recipe.judging.features, chosen, preparing)
        try:
            with folder.lock():
                _adopt(folder, recipe)
                return _trained(folder, recipe, pool, features, chosen, tell, preparing, note)
        except OSError as error:
            raise folder.stopped_by(error) from error


def load(path: str | Path) -> Run:
    """Open a run's folder for reading; raises UserError if it is none."""
    return Run(RunFolder.open(Path(path)))


def evaluate(
    target: str | Path,
    against: str | Path,
    *,
    num: int = 5_000,
    features: FeaturesName = "auto",
    device: str = "auto",
    preparing: Preparing = silent,
) -> Score:
    """Score a run's best generator, or a folder of generated images, against a source of real ones.

    The real images are the source's held-out test split, so a generator is never compared with what it has seen.
    Raises UserError.
    """
    with_settings(Recipe(), [f"judging.features={features}", f"device={device}"])  # refuses unknown names
    chosen = chosen_device(device)
    batches: Iterable[Tensor]
    if RunFolder.is_run(Path(target)):
        run = load(target)
        batches = run.best.batches(num, TEST_SEED)
        pool = prepared(dataclasses.replace(run.recipe.data, source=str(against)), chosen, preparing)
    else:
        pool = prepared(Data(source=str(against)), chosen, preparing)
        _, channels, size, _ = pool.images.shape
        fakes = prepared(Data(source=str(target), size=size, channels=1 if channels == 1 else 3), chosen, preparing)
        num = len(fakes.images)
        batches = (to_float(gather(fakes, part)) for part in torch.arange(num).split(CHUNK))
    judge = judge_of(pool, features_of(pool, features, chosen, preparing), "test", num)
    preparing("scoring", 0.0)
    return score(judge, batches)


def check_data(
    source: str | Path,
    recipe: RecipeName | Recipe = "modern",
    settings: Sequence[str] = (),
    preparing: Preparing = silent,
) -> Check:
    """Look at every image of a source as a training would, which writes nothing; raises UserError if there is none."""
    options = list(settings)
    first = with_options(_recipe(recipe, Facts()), source, None, options)
    device = chosen_device(first.device)

    def final(pool: Pool) -> Recipe:
        facts = _facts(pool, device)
        made = with_options(_recipe(recipe, facts), source, None, options)
        refuse_impossible(made, pool)
        return made

    return check(first.data, _largest(device), final, first, preparing)


def prepared(data: Data, device: torch.device, preparing: Preparing = silent) -> Pool:
    """Return the pool of a source, at most as large as this device trains when no size is asked for."""
    progress = lambda done, total: preparing("reading the images", done / total)  # noqa: E731
    return prepare(data, max_size=_largest(device), progress=progress)


def _largest(device: torch.device) -> int:
    return MAX_SIZE_CPU if device.type == "cpu" else MAX_SIZE_GPU


def _facts(pool: Pool, device: torch.device) -> Facts:
    _, channels, size, _ = pool.images.shape
    return Facts(size, channels, len(pool.splits.train), device.type == "cpu")


def features_of(pool: Pool, name: FeaturesName, device: torch.device, preparing: Preparing = silent) -> Features:
    """Return the judge's features; on a CPU `auto` is always the small encoder, as Inception would take minutes."""
    if name == "auto" and device.type == "cpu":
        name = "encoder"
    bytes_each = pool.images[0].nbytes
    num = min(NUM_FOR_ENCODER, max(1, BYTES_FOR_ENCODER // bytes_each))
    cache = default_cache()
    with writing_to(cache):
        return load_features(
            name,
            train_images=pool.images[pool.splits.train[:num]],  # a split's order is random, so any first ones will do
            cache=cache,
            pool_digest=pool.digest,
            device=device,
            report=lambda share: preparing("teaching the judge what these images look like", share),
        )


def judge_of(pool: Pool, features: Features, split: JudgedSplit, num_generated: int) -> Judge:
    """Return a judge that compares with up to 5,000 real images of what `judged_indices` returns.

    The training's judge also looks for copies of up to 2,000 training images.
    """
    train = _batches(pool, split_indices(pool, "train")[:NUM_FOR_COPYING]) if split == "validation" else None
    return make_judge(
        features,
        _batches(pool, judged_indices(pool, split)[:NUM_REAL]),
        data_digest=pool.digest,
        split=split,
        num_generated=num_generated,
        seed=_judge_seed(split),
        train_batches=train,
    )


def judged_indices(pool: Pool, split: JudgedSplit) -> np.ndarray:
    """Return the indices of the images to judge by; the training's "validation" is the first half of that split.

    The second half, which judges the candidates again, is empty where the halves would have fewer than 20 images:
    then the first is all of the split. A split's order is random and fixed, so both halves are random samples.
    """
    validation = split_indices(pool, "validation")
    half = len(validation) // 2
    cut = half if half >= MIN_HALF else len(validation)
    match split:
        case "validation":
            return validation[:cut]
        case "validation, second half":
            return validation[cut:]
        case "test":
            return split_indices(pool, "test")
        case _:
            assert_never(split)


def rescoring_judge(pool: Pool, features: Features, recipe: Recipe) -> Callable[[], Judge] | None:
    """Return how to make the judge of the candidates, None where there are no images for it.

    It sees at least twice the generated images of a score while training: the choice is between close scores.
    """
    if not len(judged_indices(pool, "validation, second half")):
        return None
    num = max(NUM_REAL, 2 * recipe.judging.num_samples)
    return lambda: judge_of(pool, features, "validation, second half", num)


def refuse_impossible(recipe: Recipe, pool: Pool) -> None:
    """Raise UserError where recipe and data do not fit, before any network is built."""
    refuse_idle_augmentation(recipe.augment)
    step = recipe.game.batch * recipe.game.discriminator_steps
    if recipe.budget.samples is not None and recipe.budget.samples < step:
        raise UserError(
            f"--budget {recipe.budget.samples}: fewer samples than one step takes ({step}). "
            f"For a time give its unit: --budget {recipe.budget.samples}s"
        )
    num, num_distinct = len(pool.splits.train), len(pool.images) - pool.num_duplicates
    if num_distinct < LEAST_DISTINCT:
        raise UserError(
            f"{recipe.data.source}: {num_distinct} distinct images; at least {LEAST_DISTINCT} are needed (10 to "
            "validate by, 10 to test by, 2 to train on). Add images"
        )
    if num < recipe.game.batch:
        raise UserError(
            f"{recipe.data.source}: {num} images are left to train on, fewer than one batch of "
            f"{recipe.game.batch}. Add images, or try: --set game.batch={max(2, num // 2)}"
        )
    if len(pool.splits.validation) < 10 or len(pool.splits.test) < 10:
        large = "--set data.validation=0.3 --set data.test=0.3"
        remedy = f", or try: {large}" if min(recipe.data.validation, recipe.data.test) < 0.3 else ""
        raise UserError(
            f"{recipe.data.source}: {len(pool.splits.validation)} validation and {len(pool.splits.test)} test images "
            f"are too few to judge by; at least 10 of each are needed. Add images{remedy}"
        )
    if recipe.networks.conditional and not pool.classes:
        raise UserError(
            f"{recipe.data.source}: networks.conditional needs classes, but there are no sub-folders with images. "
            "Sort the images into one folder a class, or leave it out."
        )
    _, channels, size, _ = pool.images.shape
    with torch.device("meta"):  # takes no memory; refuses what a family of networks cannot do
        num_classes = len(pool.classes) if recipe.networks.conditional else 0
        make_players(recipe.networks, size=size, channels=channels, num_classes=num_classes)


@contextlib.contextmanager
def _begun(out: str | Path | None, recipe: Recipe, data: dict[str, Any]) -> Iterator[RunFolder]:
    """Begin a run in `out`, or in the next free folder, and hold it while entered; raises UserError."""
    with contextlib.ExitStack() as stack:
        folder = None
        while folder is None:
            path = Path(out) if out is not None else new_path(Path("runs"), run_name(recipe))
            try:
                folder = stack.enter_context(RunFolder.begun(path, recipe, data))
            except UserError:
                if out is not None or path == new_path(Path("runs"), run_name(recipe)):
                    raise  # else another training has taken it meanwhile
        yield folder


def _adopt(folder: RunFolder, recipe: Recipe) -> None:
    """Write the recipe with which a run goes on, and another policy among its events."""
    begun = from_dict(folder.read_recipe())
    if recipe == begun:
        return
    state = folder.read_state()
    samples, seconds = whole_of(state.get("samples")), state.get("seconds") or 0.0
    if recipe.stopping.policy != begun.stopping.policy:
        change = f"{begun.stopping.policy} → {recipe.stopping.policy}"
        folder.log_event(samples, seconds, "another policy", change)
    if state.get("test"):
        found = formatting.score(score_from(state["test"]), recipe.judging.metric)
        tested = f"{recipe.judging.metric.upper()} {found} on the test split, which is looked at again at the next end"
        folder.log_event(samples, seconds, "tested before", tested)
    folder.write_state({"status": "running", "has_saved": folder.has_saved})  # first: a finished run would stay so
    folder.write_recipe(recipe)


def _trained(
    folder: RunFolder,
    recipe: Recipe,
    pool: Pool,
    features: Features,
    device: torch.device,
    tell: Tell,
    preparing: Preparing,
    note: Note,
) -> Run:
    """Train in a folder that the caller has locked."""
    precision, before = chosen_precision(recipe, device), folder.read_environment()
    try:
        environment = environment_of(device, precision)
        changed = [
            f"{name} {before[name]} → {now}" for name, now in environment.items() if before.get(name, now) != now
        ]
        if changed:
            text = f"resumed under {'; '.join(changed)}: from here on not bit for bit the uninterrupted run"
            folder.log_event(0, 0.0, "another environment", text)
            note(f"This run is {text}.")
        folder.write_environment(environment)
        folder.write_state({"status": "running", "has_saved": folder.has_saved})
        problem = ImageProblem(recipe, pool, device, precision)
        judge = judge_of(pool, features, "validation", recipe.judging.num_samples)
        referee = Referee(recipe.stopping, recipe.budget, recipe.judging.metric)
        outcome = loop.train(problem, recipe, folder, judge, referee, tell, note)
        preparing("writing the report", 0.0)
        conclude(
            folder,
            problem,
            features,
            outcome,
            make_test=lambda: judge_of(pool, features, "test", NUM_REAL),
            make_rescoring=rescoring_judge(pool, features, recipe),
        )
    except OSError as error:
        _failed(folder, error)
        raise folder.stopped_by(error) from error
    except Exception as error:
        _failed(folder, error)
        raise
    return Run(folder)


def _failed(folder: RunFolder, error: Exception) -> None:
    with contextlib.suppress(OSError, UserError):  # a full disk may be what ended it
        reason = folder.failure_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        folder.write_state({"status": "failed", "reason": reason, "has_saved": folder.has_saved})
        folder.log_event(0, 0.0, "failed", reason)  # at no place of the training, as a resume cuts what lies beyond
        write_report(folder)


def _batches(pool: Pool, indices: np.ndarray) -> Iterator[Tensor]:
    for begin in range(0, len(indices), CHUNK):
        yield to_float(gather(pool, indices[begin : begin + CHUNK]))


def _judge_seed(split: JudgedSplit) -> int:
    match split:
        case "validation":
            return 0
        case "validation, second half":
            return RESCORE_SEED
        case "test":
            return TEST_SEED
        case _:
            assert_never(split)


def _train_labels(pool: Pool) -> Tensor:
    assert pool.labels is not None
    return torch.from_numpy(pool.labels[pool.splits.train])


def _recipe(recipe: RecipeName | Recipe, facts: Facts) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else build(checked_name(recipe), facts)


def with_options(recipe: Recipe, source: str | Path | None, budget: str | None, settings: list[str]) -> Recipe:
    """Return a recipe with what the caller asks for besides; raises UserError for what is not allowed."""
    if source is not None:
        if (name := writable_text(str(source))) != str(source):
            raise UserError(f'source "{name}": its name is no valid UTF-8. Rename it, then try again')
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, source=str(source)))
    if budget is not None:
        recipe = dataclasses.replace(recipe, budget=parsed_budget(budget))
    return with_settings(recipe, settings)


def _in_words(pool: Pool, recipe: Recipe) -> str:
    num, channels, height, width = pool.images.shape
    kinds = [f"{width}×{height}", "grey" if channels == 1 else "colour"]
    kinds += [f"{len(pool.classes)} classes"] if pool.classes else []
    text = (
        f"{num:,} images of {recipe.data.source} ({', '.join(kinds)}), {len(pool.splits.train):,} of them to train on"
    )
    if pool.rejected:
        first = "; ".join(f"{item.name}: {item.reason}" for item in pool.rejected[:3])
        text += f"; {len(pool.rejected)} could not be used ({first}{'; …' if len(pool.rejected) > 3 else ''})"
    return text
