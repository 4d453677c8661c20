"""The recipe: everything that determines a run, as frozen dataclasses; read after loop.py.

A recipe is checked by `checked`, written and read as JSON, and changed by `with_settings`
(`game.penalty.gamma=0.5`). This module imports no torch, so that the command line starts at once.
"""

import dataclasses
import math
import pkgutil
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from equipoise.contradictions import refuse_contradictions
from equipoise.errors import Near, Option, Part, Setting, UserError, listed, shortened, suggested
from equipoise.fields import (
    hints_of,
    is_group,
    is_text,
    leaves,
    parsed,
    plain,
    refuse_unknown_keys,
    replaced,
    values_of,
)
from equipoise.sizes import MAX_CHANNELS, GivenSize, refuse_size


def _files(folder: str) -> tuple[str, ...]:
    """Return the names of the modules in a folder of the package, which are those that a setting may have."""
    found = pkgutil.iter_modules([str(Path(__file__).parent / folder)])
    return tuple(module.name.replace("_", "-") for module in found)


PenaltyName = Literal["none", "r1", "r2", "r1+r2", "wgan-gp"]
OptimizerName = Literal["adam", "adamw", "rmsprop", "adagrad", "sgd"]
if typing.TYPE_CHECKING:
    LossName: TypeAlias = str
    UpdateName: TypeAlias = str
else:
    LossName = Literal[(*_files("game/losses"), "custom")]  # custom: functions from Python, train(loss=Loss(...))
    UpdateName = Literal[_files("game/rules")]
ConditionName = Literal["projection", "concatenation", "naming"]
CorrectionName = Literal["none", "consensus", "symplectic"]
FamilyName = Literal["mlp", "dcgan", "resnet", "modern", "style"]
AugmentationName = Literal["flip", "translation", "rotation", "scale", "crop", "color", "cutout"]
FeaturesName = Literal["auto", "encoder", "efficientnet", "inception", "dinov2"]
PolicyName = Literal["evidence", "budget", "discriminator-threshold", "patience"]
RemedyPolicy = Literal["off", "suggest", "act"]
BoundaryName = Literal["alpha-spending", "normal-mixture"]
TaskName = Literal["images", "points", "super-resolution", "custom"]

PROBABILISTIC: tuple[LossName, ...] = ("minimax", "non-saturating", "least-squares")  # D's output is a probability
ZERO_SUM: tuple[LossName, ...] = ("minimax", "wasserstein", "custom")  # G loses what D wins; custom ones may be
SMOOTHED: tuple[LossName, ...] = ("minimax", "non-saturating")  # there is a label to smooth

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Decay = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Channels = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANNELS)]

TAG = "task.kind"  # which task it is
SHAPES = ("ring", "grid", "spiral")  # sources that mean points
MOST_LISTED = 10  # fields of a group that a message names
MAX_BUDGET = 2**53  # the last whole number up to which a float counts every one
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_BUDGET)]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where real examples come from, and how many of them are held out."""

    source: str = "mnist"
    validation: Fraction = 0.1  # shares of the distinct examples
    test: Fraction = 0.1


class Images(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="images"):
    """Task: images from latents. How a source's images become uint8 tensors of one size."""

    size: GivenSize | None = None  # pixels a side, or width and height (40x30); None: found from the data
    channels: Channels | None = None  # 1 grey, 3 in colour, 4 with opacity, others measured; None: 1 or 3, as found
    fit: Literal["crop", "pad", "stretch"] = "crop"  # how an image of another shape is fitted
    background: str = "white"  # what shows through transparency where that is not kept, and fills a pad
    black: float | None = None  # pixel value of deep images (16 bits, floats) that becomes 0; None: found from all
    white: float | None = None  # the one that becomes 255
    flip: bool = False  # show each image mirrored half of the time


class Points(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="points"):
    """Task: points in the plane from latents; `ring`, `grid`, `spiral`, or a CSV of x,y."""

    deviation: Positive | None = None  # of each mode; None: that of the shape (PacGAN's, arXiv:1712.04086)


class SuperResolution(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="super-resolution"):
    """Task: large photographs from small ones, reduced by antialiased bicubic interpolation."""

    scale: Literal[2, 3, 4] = 4
    patch: Annotated[int, msgspec.Meta(ge=24, le=256)] = 96  # pixels a side of a large training patch
    faithful: Fraction = 0.5  # share of the budget before the adversarial term comes in
    adversarial: NotNegative = 0.01  # weight of that term once it is ramped up; 0: never


class Custom(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="custom"):
    """A task that is defined in Python and given to `equipoise.train(task=…)`."""

    name: str = "custom"


TaskSettings: TypeAlias = Images | Points | SuperResolution | Custom


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The two networks; each task says what it makes of this."""

    family: FamilyName = "modern"
    width: Annotated[int, msgspec.Meta(ge=4, le=4096)] = 64  # the one dial; each family says what it scales
    latent_size: Count = 64
    conditional: bool = False  # on the class label, or on several labels
    condition: ConditionName = "projection"  # how the discriminator is told the label; naming: not, it says it
    label_scale: Positive = 1.0  # of a label's vector at first, where a latent's numbers are of scale 1
    groups: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0  # of images that are alike, which both networks are told
    generator_norm: Literal["batch", "none"] = "none"
    discriminator_norm: Literal["batch", "layer", "none"] = "none"
    spectral_norm: bool = False  # on every layer of the discriminator
    dropout: Decay = 0.0  # in the discriminator
    smooth: bool = False  # the generator's doublings are filtered against a checkerboard; dcgan family
    pretrained: bool = False  # the discriminator also judges features of a network that was trained on ImageNet
    discriminators: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1  # with weights of their own, whose losses are added
    scales: Annotated[int, msgspec.Meta(ge=1, le=6)] = 1  # one more for the images halved, and halved again
    autoencoder: bool = False  # the discriminator is one: its logit is minus the error of what it makes of an image
    categorical_codes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0  # categories of a code in the latents
    continuous_codes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0  # numbers of that code in -1..1
    minibatch_deviation: bool = False  # the discriminator also sees how much the samples of a batch differ
    attention: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0  # pixels a side from which both networks attend; 0: none
    generator_spectral_norm: bool = False  # on every convolution and linear layer of the generator
    latent_skips: bool = False  # each block's norms get a piece of the latents; resnet family
    orthogonal: bool = False  # weights begin as orthogonal matrices; resnet family
    growing: Annotated[int, msgspec.Meta(ge=0, le=MAX_BUDGET)] = 0  # samples of each size the networks grow by; 0: none
    stacked: Annotated[int, msgspec.Meta(ge=0, le=MAX_BUDGET)] = 0  # samples of small pictures, refined then; 0: none
    frozen: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0  # its stages from the pixels that keep another run's weights


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A penalty on the discriminator's gradient with respect to its input."""

    kind: PenaltyName = "none"
    gamma: NotNegative = 0.0  # r1, r2: gamma/2 · ‖∇D‖²; wgan-gp: gamma · (‖∇D‖ − 1)²
    gamma_end: NotNegative | None = None  # reached on a cosine at the end of the budget; None: constant
    every: Count = 1  # lazily: on every n-th discriminator step, n times as strong


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """One player's optimizer; `beta1` is the momentum of sgd and rmsprop, `beta2` rmsprop's smoothing."""

    optimizer: OptimizerName = "adam"
    rate: Positive = 2e-4
    rate_end: Positive | None = None  # reached at the end of the budget; None: constant
    schedule: Literal["cosine", "linear"] = "cosine"
    beta1: Decay = 0.0
    beta2: Decay = 0.99
    beta2_end: Decay | None = None  # of Adam, reached on a cosine at the end of the budget; None: constant
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None  # gradients are scaled down to at most this norm


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A correction of both players' gradients by second derivatives."""

    kind: CorrectionName = "none"
    weight: NotNegative = 1.0  # consensus: γ of γ/2 · ‖v‖² (arXiv:1705.10461); symplectic: λ (arXiv:1802.05642)


@dataclass(frozen=True, kw_only=True)
class Game:
    """Generator against discriminator: losses, penalty, optimizers and the order of their steps."""

    loss: LossName = "relativistic"
    penalty: Penalty = field(default_factory=Penalty)
    generator: OptimizerSettings = field(default_factory=OptimizerSettings)
    discriminator: OptimizerSettings = field(default_factory=OptimizerSettings)
    update: UpdateName = "alternating"
    correction: Correction = field(default_factory=Correction)
    lookahead: Annotated[int, msgspec.Meta(ge=0, le=MAX_BUDGET)] = 0  # rounds between two averages; 0: none
    lookahead_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5  # α: of the way from the slow weights
    batch: Annotated[int, msgspec.Meta(ge=2, le=MAX_BUDGET)] = 64
    packing: Count = 1  # samples that the discriminator judges together, as one
    discriminator_steps: Count = 1  # per generator step, of the alternating update
    weight_clip: Positive | None = None  # WGAN: every weight of D is clipped to ±this
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] = 0.0  # one-sided, minimax and non-saturating
    auxiliary: NotNegative = 0.0  # weight of naming the class of images, of both players
    information: NotNegative = 0.0  # weight of reading the codes off generated images, of both players
    margin: NotNegative = 0.0  # of the energy loss: up to it D raises the energy of generated images
    pulling_away: NotNegative = 0.0  # weight of a term by which the codes of an autoencoding D differ
    variety: NotNegative = 0.0  # weight of a term by which G's images of a class differ as much as real ones
    instance_noise: NotNegative = 0.0  # standard deviation on D's input, falling linearly to 0 over the budget
    ema_half_life: NotNegative = 10_000.0  # in samples; 0: no averaging


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Differentiable augmentation of everything the discriminator sees (arXiv:2006.10738)."""

    kinds: tuple[AugmentationName, ...] = ()
    probability: Fraction = 0.0  # p, with which each kind is applied to each image


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a generator is scored while it trains."""

    features: FeaturesName = "auto"  # efficientnet for colour, the encoder for grey; a GPU: inception if there
    num_samples: Annotated[int, msgspec.Meta(ge=100, le=MAX_BUDGET)] = 2_000  # generated samples a score
    every: Count | None = None  # in samples; None: spaced so that evaluation takes `share` of the time
    share: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MAX_BUDGET)] = 1800.0  # seconds; longer evaluations are given up


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How often what is written, in samples; with all of them and `evaluation.every`, runs of any machine act alike."""

    every: Count | None = None  # checkpoints; None: about one a minute, and one at each new best
    keep: Count | None = None  # every n-th of those stays for good; None: the last two and the best one's alone
    log_every: Count | None = None  # stats of the game; None: about once a second


@dataclass(frozen=True, kw_only=True)
class EvidenceSettings:
    """When the `evidence` policy stops: all three of its conditions must hold."""

    alpha: Annotated[float, msgspec.Meta(ge=1e-6, lt=0.5)] = 0.05  # error of its test, over all evaluations
    delta: Positive = 0.02  # relative gain that would matter
    min_gain: Positive = 0.02  # relative gain that 25 % more training must promise
    min_wait: NotNegative = 0.5  # training since the best, as a share of what the best took
    boundary: BoundaryName = "alpha-spending"  # what makes repeated tests valid


@dataclass(frozen=True, kw_only=True)
class PatienceSettings:
    """When the `patience` policy stops."""

    evaluations: Count = 10  # without a better score


@dataclass(frozen=True, kw_only=True)
class ThresholdSettings:
    """When the `discriminator-threshold` policy stops."""

    level: Fraction = 0.5  # mean D(G(z)) that counts as "fooled"


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When to stop before the budget is spent."""

    policy: PolicyName = "evidence"
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    patience: PatienceSettings = field(default_factory=PatienceSettings)
    threshold: ThresholdSettings = field(default_factory=ThresholdSettings)


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """What is done about a game that breaks down or diverges; with act, about all conditions that can be treated."""

    policy: RemedyPolicy = "suggest"  # suggest: for those it is said what to type; off: nothing is done
    attempts: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3  # in all; 0: a game that is not finite stops at once
    rate_factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5  # by which both rates are multiplied each time


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training is paid for: samples shown to the discriminator, or seconds."""

    samples: Count | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_BUDGET)] | None = 600.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run."""

    name: str = "modern"
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    data: Data = field(default_factory=Data)
    task: TaskSettings = field(default_factory=Images)
    networks: Networks = field(default_factory=Networks)
    game: Game = field(default_factory=Game)
    augment: Augment = field(default_factory=Augment)
    evaluation: Evaluation = field(default_factory=Evaluation)
    saving: Saving = field(default_factory=Saving)
    stopping: Stopping = field(default_factory=Stopping)
    remedies: Remedies = field(default_factory=Remedies)
    budget: Budget = field(default_factory=Budget)
    device: Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)\Z")] = "auto"  # a GPU if there is one
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None  # of the CPU; None: found by their speed


def task_name(settings: TaskSettings) -> TaskName:
    """Return the word that stands for a task in `--task` and in `recipe.json`."""
    return typing.cast(TaskName, type(settings).__struct_config__.tag)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain dicts, lists, strings and numbers."""
    return msgspec.to_builtins(recipe)


def from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain values; raises UserError on an unknown key or a wrong type."""
    refuse_unknown_keys(values, Recipe, "")
    return checked(_converted(values))


def _converted(values: dict[str, Any]) -> Recipe:
    try:
        return msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise UserError("recipe", plain(str(error))) from None


def checked(recipe: Recipe) -> Recipe:
    """Return the recipe if every value is allowed; raises UserError that names the field."""
    values = to_dict(recipe)
    for path, value in leaves(values):
        if isinstance(value, str) and not is_text(value):
            problem = f"{shortened(ascii(value))} is not text in UTF-8"
            raise UserError(Setting(path), problem, "Rename what it names, or link to it")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(Setting(path, value), "must be a finite number", Setting(path, 0.001))
    recipe = _converted(values)
    if isinstance(recipe.task, Images) and recipe.task.size is not None:
        refuse_size(recipe.task.size)
    _refuse_contradictions(recipe)
    _refuse_without_effect(recipe.game)
    _refuse_packing(recipe)
    refuse_contradictions(dict(values_of(recipe)))
    return recipe


def _refuse_contradictions(recipe: Recipe) -> None:
    """Raise UserError for values that are allowed by themselves and not together."""
    if recipe.remedies.policy == "act" and not recipe.remedies.attempts:
        raise UserError(Setting("remedies.attempts", 0), "policy=act needs some", Setting("remedies.attempts", 3))
    held_out = recipe.data.validation + recipe.data.test
    if held_out >= 1:
        remedies = [
            Setting(name, 0.1)
            for name, other in (("data.validation", recipe.data.test), ("data.test", recipe.data.validation))
            if other < 1 - 0.1
        ]
        raise UserError(
            Setting("data.validation", recipe.data.validation),
            f"with data.test={recipe.data.test:g}, {100 * held_out:.0f} % are held out and nothing is left to train on",
            *(remedies or ["Give smaller shares to both"]),
        )
    if recipe.networks.groups == 1:
        problem = "one group holds all images; give two or more, or 0 for none"
        raise UserError(Setting("networks.groups", 1), problem, Setting("networks.groups", 20))
    if recipe.game.penalty.kind != "none" and recipe.networks.discriminator_norm == "batch":
        raise UserError(
            Setting("game.penalty.kind", recipe.game.penalty.kind),
            "with networks.discriminator_norm=batch: batch norm ties the samples of a batch together, so a gradient by "
            "one sample means nothing",
            Setting("networks.discriminator_norm", "layer"),
        )
    if recipe.game.update != "alternating" and recipe.game.discriminator_steps != 1:
        raise UserError(
            Setting("game.discriminator_steps", recipe.game.discriminator_steps),
            f"with game.update={recipe.game.update}: both players step together there",
            Setting("game.discriminator_steps", 1),
            Setting("game.update", "alternating"),
        )
    _refuse_second_order(recipe.game)
    if (recipe.budget.samples is None) == (recipe.budget.seconds is None):
        raise UserError("budget", "give either samples or seconds", Option("budget", "10m"), Option("budget", "200k"))
    refuse_without_probability(recipe.stopping.policy, recipe.game.loss)


def _refuse_second_order(game: Game) -> None:
    """Raise UserError where competitive gradient descent, or a correction, cannot be what was asked for."""
    kind = Setting("game.correction.kind", game.correction.kind)
    without = Setting("game.correction.kind", "none")
    if game.correction.kind != "none" and not game.correction.weight:
        raise UserError(
            kind, "without effect, as game.correction.weight=0", Setting("game.correction.weight", 1), without
        )
    if game.update != "competitive":
        return
    other = Setting("game.update", "extragradient")
    if game.correction.kind != "none":
        raise UserError(kind, "with game.update=competitive: it has mixed derivatives of its own", without, other)
    if game.loss not in ZERO_SUM:
        problem = f"with game.update=competitive, for games in which one wins what the other loses: {listed(ZERO_SUM)}"
        raise UserError(Setting("game.loss", game.loss), problem, Setting("game.loss", "minimax"), other)
    for role, player in (("generator", game.generator), ("discriminator", game.discriminator)):
        if player.optimizer not in ("sgd", "rmsprop"):
            problem = "with game.update=competitive: it takes sgd (plain) and rmsprop (adaptive)"
            name = f"game.{role}.optimizer"
            raise UserError(Setting(name, player.optimizer), problem, Setting(name, "rmsprop"), other)
        for part, without_it in (("beta1", 0.0), ("weight_decay", 0.0), ("clip_norm", None)):
            value = getattr(player, part)
            if value != without_it:
                name = f"game.{role}.{part}"
                problem = "with game.update=competitive, whose steps solve a system and have none of it"
                raise UserError(
                    Setting(name, value), problem, Setting(name, 0 if without_it is not None else "none"), other
                )


def _refuse_packing(recipe: Recipe) -> None:
    """Raise UserError where the samples of a batch cannot be judged in packs."""
    game = recipe.game
    if game.packing == 1:
        return
    given = Setting("game.packing", game.packing)
    alone = Setting("game.packing", 1)
    if isinstance(recipe.task, Custom):
        raise UserError(given, "a task of your own packs its samples itself", alone)
    if recipe.networks.conditional:
        problem = "with networks.conditional=true: the samples of a pack are of several classes"
        raise UserError(given, problem, alone, Setting("networks.conditional", False))
    if recipe.networks.groups:
        problem = f"with networks.groups={recipe.networks.groups}: the samples of a pack are of several groups"
        raise UserError(given, problem, alone, Setting("networks.groups", 0))
    if game.batch % game.packing or game.batch < 2 * game.packing:
        fitting = game.packing * max(2, round(game.batch / game.packing))
        problem = f"with game.batch={game.batch}: a batch must be two or more whole packs"
        raise UserError(given, problem, Setting("game.batch", fitting), alone)


def refuse_without_probability(policy: PolicyName, loss: LossName) -> None:
    """Raise UserError where a policy reads D(G(z)) and the loss gives the logits no probability."""
    if policy == "discriminator-threshold" and loss not in PROBABILISTIC:
        raise UserError(
            Setting("stopping.policy", policy),
            f"with game.loss={loss}, whose logits are no probability: D(G(z)) means nothing. It does with "
            f"{listed(PROBABILISTIC)}",
            Setting("stopping.policy", "patience"),
        )


def _refuse_without_effect(game: Game) -> None:
    """Raise UserError for settings of the game that would change nothing, each with what was probably meant."""
    kind, penalty = game.penalty.kind, game.penalty
    for player, settings in (("generator", game.generator), ("discriminator", game.discriminator)):
        if settings.beta2_end is not None and settings.optimizer not in ("adam", "adamw"):
            problem = f"without effect with game.{player}.optimizer={settings.optimizer}"
            ways = (Setting(f"game.{player}.optimizer", "adam"), Setting(f"game.{player}.beta2_end", "none"))
            raise UserError(Setting(f"game.{player}.beta2_end", settings.beta2_end), problem, *ways)
    if game.label_smoothing and game.loss not in SMOOTHED:
        raise UserError(
            Setting("game.label_smoothing", game.label_smoothing),
            f"game.loss={game.loss} has no label to smooth; {listed(SMOOTHED)} have one",
            Setting("game.label_smoothing", 0),
        )
    if kind != "none" and not (penalty.gamma or penalty.gamma_end):
        usual = 10 if kind == "wgan-gp" else 0.5
        raise UserError(
            Setting("game.penalty.kind", kind),
            "without effect, as game.penalty.gamma=0",
            Setting("game.penalty.gamma", usual),
            Setting("game.penalty.kind", "none"),
        )


def listed_settings(settings: typing.Any) -> list[str]:
    """Return settings as a list of texts; raises UserError with what to type for one text, a dict and others."""
    if isinstance(settings, list | tuple) and all(isinstance(one, str) for one in settings):
        return list(settings)
    remedy: Setting | str = Setting("game.batch", 32)
    if isinstance(settings, str):
        remedy = f'Try: settings=["{shortened(settings)}"]'
    elif isinstance(settings, Mapping):
        remedy = f"Try: settings={shortened(str([f'{name}={value}' for name, value in settings.items()]))}"
    problem = f"{type(settings).__name__}; give a list of texts FIELD=VALUE"
    raise UserError(Option("settings"), problem, remedy)


def with_settings(recipe: Recipe, settings: typing.Sequence[str]) -> Recipe:
    """Apply settings such as `game.penalty.gamma=0.5`; raises UserError for an unknown field or a wrong value.

    Classes that are asked for (`networks.conditional=true`) take the place of a recipe's groups, unless these are, too;
    without classes (`networks.conditional=false`), what a recipe does with them is left out.
    """
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            example = Setting("game.penalty.gamma", 0.5)
            raise UserError(Setting(shortened(setting)), "expected FIELD=VALUE", example)
        if path.strip() in ("task", TAG):
            problem = "the task is an argument of its own; the settings task.… are those of one task"
            raise UserError(Setting(path.strip()), problem, Option("task", shortened(text.strip())))
        recipe = _with_setting(recipe, path.strip().split("."), text.strip(), path.strip(), recipe)
    named = {setting.partition("=")[0].strip() for setting in settings}
    if recipe.networks.conditional and "networks.conditional" in named and "networks.groups" not in named:
        recipe = dataclasses.replace(recipe, networks=dataclasses.replace(recipe.networks, groups=0))
    if not (recipe.networks.conditional or recipe.networks.groups) and "networks.conditional" in named:
        recipe = _without_classes(recipe, named)
    return checked(recipe)


def _without_classes(recipe: Recipe, named: set[str]) -> Recipe:
    """Return a recipe without the settings that are of classes, but for those that are named."""
    networks, game = recipe.networks, recipe.game
    if "networks.condition" not in named:
        networks = dataclasses.replace(networks, condition="projection")
    if "networks.label_scale" not in named:
        networks = dataclasses.replace(networks, label_scale=1.0)
    if "game.auxiliary" not in named:
        game = dataclasses.replace(game, auxiliary=0.0)
    return dataclasses.replace(recipe, networks=networks, game=game)


def _with_setting(node: Any, keys: list[str], text: str, path: str, recipe: Recipe) -> Any:
    hints = hints_of(type(node))
    key, rest = keys[0], keys[1:]
    if key not in hints:
        groups = path.split(".")[: -len(keys)]
        prefix = "".join(f"{name}." for name in groups)
        known = listed((prefix + name for name in hints), MOST_LISTED)
        problem = f'there is no field "{shortened(key)}" here; there are {known}'
        raise UserError(Setting(shortened(path)), problem, *_meant(path, recipe))
    child = getattr(node, key)
    if is_group(child):
        if not rest:
            fields = listed((f"{path}.{name}" for name in hints_of(type(child))), MOST_LISTED)
            raise UserError(Setting(path), f"this is a group; set one of {fields}")
        return replaced(node, key, _with_setting(child, rest, text, path, recipe))
    if rest:
        problem = f'"{key}" is a single value and has no field "{shortened(rest[0])}"'
        raise UserError(Setting(shortened(path)), problem)
    return replaced(node, key, parsed(text, hints[key], path))


def _meant(path: str, recipe: Recipe) -> tuple[Part, ...]:
    """Return what was probably meant: a field of another task, one of that name elsewhere, or the nearest."""
    group, _, last = path.rpartition(".")
    tasks = [task_name(kind()) for kind in (Images, Points, SuperResolution) if last in kind.__struct_fields__]
    if group == "task" and tasks and recipe.data.source in SHAPES:
        return (f"It belongs to the task {listed(tasks)}, and {recipe.data.source} is one of points: leave it out",)
    if group == "task" and tasks:
        return (f"It belongs to the task {listed(tasks)}", Option("task", tasks[0]))
    every = [name for name, _ in leaves(to_dict(recipe)) if name != TAG]
    same = [name for name in every if name.rpartition(".")[2] == last]
    near = suggested(path, same) or tuple(map(Near, same[:1])) or suggested(path, every)
    others = [name for name in same if Near(name) not in near]
    return (*near, f"There is also {' and '.join(others)}") if others else near
