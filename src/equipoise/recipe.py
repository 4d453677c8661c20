"""The recipe: everything that determines a run, as frozen dataclasses; read after loop.py.

A recipe is checked by `checked`, written and read as JSON, and changed by `with_settings`
(`game.penalty.gamma=0.5`). This module imports no torch, so that the command line starts at once.
"""

import dataclasses
import math
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from equipoise.errors import UserError, listed, suggestion

LossName = Literal[
    "minimax", "non-saturating", "least-squares", "wasserstein", "hinge", "relativistic", "relativistic-average"
]
PenaltyName = Literal["none", "r1", "r2", "r1+r2", "wgan-gp"]
OptimizerName = Literal["adam", "adamw", "rmsprop", "adagrad", "sgd"]
FamilyName = Literal["mlp", "dcgan", "resnet", "modern"]
AugmentationName = Literal["flip", "translation", "rotation", "scale", "crop", "color", "cutout"]
FeaturesName = Literal["auto", "encoder", "inception", "dinov2"]
MetricName = Literal["kid", "fid"]
PolicyName = Literal["evidence", "budget", "discriminator-threshold", "patience"]
BoundaryName = Literal["alpha-spending", "normal-mixture"]

PROBABILISTIC: tuple[LossName, ...] = ("minimax", "non-saturating", "least-squares")  # D's output is one

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Decay = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Size = Annotated[int, msgspec.Meta(ge=8, le=256)]

_LONGEST = 80  # characters of what was typed that a message quotes
MAX_BUDGET = 2**53  # the last whole number up to which a float counts every one


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where real images come from and how they become uint8 tensors of one size."""

    source: str = "mnist"
    size: Size | None = None  # pixels a side; None: found from the data
    channels: Literal[1, 3] | None = None  # None: 1 if every image is grey, else 3
    fit: Literal["crop", "pad", "stretch"] = "crop"  # how a rectangle becomes a square
    background: str = "white"  # what shows through transparency, and fills a pad
    flip: bool = False  # show each image mirrored half of the time
    validation: Fraction = 0.1  # shares of the distinct images
    test: Fraction = 0.1


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The two players' networks."""

    family: FamilyName = "modern"
    width: Annotated[int, msgspec.Meta(ge=4, le=4096)] = 64  # the one dial; each family says what it scales
    latent_size: Count = 64
    conditional: bool = False  # on the class label (sub-folders); projection discriminator
    generator_norm: Literal["batch", "none"] = "none"
    discriminator_norm: Literal["batch", "layer", "none"] = "none"
    spectral_norm: bool = False  # on every layer of the discriminator
    dropout: Decay = 0.0  # in the discriminator


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A penalty on the discriminator's gradient with respect to its input."""

    kind: PenaltyName = "none"
    gamma: NotNegative = 0.0  # r1, r2: gamma/2 · ‖∇D‖²; wgan-gp: gamma · (‖∇D‖ − 1)²
    gamma_end: NotNegative | None = None  # reached on a cosine at the end of the budget; None: constant
    every: Count = 1  # lazily: on every n-th discriminator step, n times as strong


@dataclass(frozen=True, kw_only=True)
class Player:
    """One player's optimizer; `beta1` is the momentum of sgd and rmsprop, `beta2` rmsprop's smoothing."""

    optimizer: OptimizerName = "adam"
    rate: Positive = 2e-4
    rate_end: Positive | None = None  # reached at the end of the budget; None: constant
    schedule: Literal["cosine", "linear"] = "cosine"
    beta1: Decay = 0.0
    beta2: Decay = 0.99
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None  # gradients are scaled down to at most this norm


@dataclass(frozen=True, kw_only=True)
class Game:
    """Generator against discriminator: losses, penalty, optimizers and their ratio."""

    loss: LossName = "relativistic"
    penalty: Penalty = field(default_factory=Penalty)
    generator: Player = field(default_factory=Player)
    discriminator: Player = field(default_factory=Player)
    batch: Annotated[int, msgspec.Meta(ge=2)] = 64
    discriminator_steps: Count = 1  # per generator step
    weight_clip: Positive | None = None  # WGAN: every weight of D is clipped to ±this
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] = 0.0  # one-sided, minimax and non-saturating
    instance_noise: NotNegative = 0.0  # standard deviation on D's input, falling linearly to 0 over the budget
    ema_half_life: NotNegative = 10_000.0  # in samples; 0: no averaging


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Differentiable augmentation of everything the discriminator sees (arXiv:2006.10738)."""

    kinds: tuple[AugmentationName, ...] = ()
    strength: Fraction = 0.0  # the probability p with which each kind is applied to each image


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How a generator is scored while it trains."""

    features: FeaturesName = "auto"  # auto: on a GPU inception if its file is present, else the encoder
    metric: MetricName = "kid"  # what "best" means
    num_samples: Annotated[int, msgspec.Meta(ge=100)] = 2_000  # generated images a score
    every: Count | None = None  # in samples; None: spaced so that judging takes `share` of the time
    share: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MAX_BUDGET)] = 1800.0  # seconds; longer looks are given up


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How often what is written, in samples; with all of them and `judging.every`, runs of any machine act alike."""

    every: Count | None = None  # checkpoints; None: about one a minute, and one at each new best
    keep: Count | None = None  # every n-th of those stays for good; None: the last two and the best one's alone
    log_every: Count | None = None  # signals; None: about once a second


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When to stop before the budget is spent."""

    policy: PolicyName = "evidence"
    alpha: Annotated[float, msgspec.Meta(ge=1e-6, lt=0.5)] = 0.05  # evidence: error of its certificates, over all looks
    delta: Positive = 0.02  # evidence: relative gain that would matter
    price: Positive = 0.02  # evidence: relative gain that a quarter more training must promise
    share: NotNegative = 0.5  # evidence: how long the best must have stood, as a share of what it took
    boundary: BoundaryName = "alpha-spending"  # evidence: what makes looking again and again valid
    patience: Count = 10  # patience: evaluations without a better score
    threshold: Fraction = 0.5  # discriminator-threshold: mean D(G(z)) that counts as "fooled"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training is paid for: samples shown to the discriminator, or seconds."""

    samples: Annotated[int, msgspec.Meta(ge=1, le=MAX_BUDGET)] | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_BUDGET)] | None = 600.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run."""

    name: str = "modern"
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    data: Data = field(default_factory=Data)
    networks: Networks = field(default_factory=Networks)
    game: Game = field(default_factory=Game)
    augment: Augment = field(default_factory=Augment)
    judging: Judging = field(default_factory=Judging)
    saving: Saving = field(default_factory=Saving)
    stopping: Stopping = field(default_factory=Stopping)
    budget: Budget = field(default_factory=Budget)
    device: Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)\Z")] = (
        "auto"  # auto: a GPU if there is one
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain dicts, lists, strings and numbers."""
    return msgspec.to_builtins(recipe)


def from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain values; raises UserError on an unknown key or a wrong type."""
    _refuse_unknown_keys(values, Recipe, "")
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise UserError(f"recipe: {_plain(str(error))}") from None
    return checked(recipe)


def checked(recipe: Recipe) -> Recipe:
    """Return the recipe if every value is allowed; raises UserError that names the field."""
    values = to_dict(recipe)
    for path, value in _leaves(values):
        if isinstance(value, str) and not _is_text(value):
            raise UserError(f"{path}={_short(ascii(value))}: is no text in UTF-8. Rename what it names, or link to it")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}={value}: must be a finite number. Try: --set {path}=0.001")
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise UserError(f"recipe: {_plain(str(error))}") from None
    if recipe.data.validation + recipe.data.test >= 1:
        raise UserError(
            f"data.validation={recipe.data.validation} and data.test={recipe.data.test} leave nothing to train on: "
            "their sum must be below 1. Try: --set data.validation=0.1 --set data.test=0.1"
        )
    if recipe.game.penalty.kind != "none" and recipe.networks.discriminator_norm == "batch":
        raise UserError(
            f"game.penalty.kind={recipe.game.penalty.kind} with networks.discriminator_norm=batch: batch norm ties the "
            "images of a batch together, so a gradient by one image means nothing. "
            "Try: --set networks.discriminator_norm=layer"
        )
    if (recipe.budget.samples is None) == (recipe.budget.seconds is None):
        raise UserError("budget: give either samples or seconds. Try: --budget 10m or --budget 200k")
    if recipe.stopping.policy == "discriminator-threshold" and recipe.game.loss not in PROBABILISTIC:
        raise UserError(
            f"stopping.policy=discriminator-threshold with game.loss={recipe.game.loss}: its logits are no "
            f"probability, so D(G(z)) means nothing; it does with {listed(PROBABILISTIC)}. "
            "Try: --set stopping.policy=patience"
        )
    _refuse_without_effect(recipe.game)
    return recipe


def _refuse_without_effect(game: Game) -> None:
    """Raise UserError for settings that would change nothing, each with what was probably meant."""
    kind, gamma, gamma_end = game.penalty.kind, game.penalty.gamma, game.penalty.gamma_end
    if game.label_smoothing and game.loss not in ("minimax", "non-saturating"):
        raise UserError(
            f"game.label_smoothing={game.label_smoothing}: game.loss={game.loss} has no label to smooth; minimax and "
            "non-saturating have. Try: --set game.label_smoothing=0"
        )
    if kind != "none" and not (gamma or gamma_end):
        raise UserError(
            f"game.penalty.kind={kind}: without effect, as game.penalty.gamma=0. "
            f"Try: --set game.penalty.gamma={10 if kind == 'wgan-gp' else 0.5}, or --set game.penalty.kind=none"
        )


def refuse_idle_augmentation(augment: Augment) -> None:
    """Raise UserError for an augmentation that would change nothing; few images bring kinds of their own."""
    if augment.strength and not augment.kinds:
        raise UserError(
            f"augment.strength={augment.strength:g}: without effect, as augment.kinds is empty. "
            "Try: --set augment.kinds=translation,cutout, or --set augment.strength=0"
        )
    if augment.kinds and not augment.strength:
        raise UserError(
            f"augment.kinds={','.join(augment.kinds)}: without effect, as augment.strength=0. "
            "Try: --set augment.strength=0.5, or --set augment.kinds= --set augment.strength=0"
        )


def with_settings(recipe: Recipe, settings: typing.Sequence[str]) -> Recipe:
    """Apply settings such as `game.penalty.gamma=0.5`; raises UserError for an unknown field or a wrong value."""
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise UserError(f'--set "{_short(setting)}": expected FIELD=VALUE. Try: --set game.penalty.gamma=0.5')
        recipe = _with_setting(recipe, path.strip().split("."), text.strip(), path.strip())
    return checked(recipe)


def _with_setting(node: Any, keys: list[str], text: str, path: str) -> Any:
    hints = typing.get_type_hints(type(node), include_extras=True)
    key, rest = keys[0], keys[1:]
    if key not in hints:
        prefix = _short(path[: path.rindex(key)] if key else path)
        owner = f"{prefix}…" if prefix else "a recipe"
        every = [name for name, _ in _leaves(to_dict(Recipe()))]
        near = suggestion(path, every) or suggestion(key, hints) if len(path) <= _LONGEST else ""
        raise UserError(
            f'--set {_short(path)}: there is no field "{_short(key)}" here; {owner} has {listed(hints)}.{near}'
        )
    child = getattr(node, key)
    if dataclasses.is_dataclass(child):
        if not rest:
            fields = [f"{path}.{f.name}" for f in dataclasses.fields(child)]
            raise UserError(f"--set {path}: this is a group; set one of {listed(fields)}.")
        return dataclasses.replace(node, **{key: _with_setting(child, rest, text, path)})
    if rest:
        raise UserError(f'--set {_short(path)}: "{key}" is a single value and has no field "{_short(rest[0])}".')
    return dataclasses.replace(node, **{key: _parsed(text, hints[key], path)})


def _parsed(text: str, kind: Any, path: str) -> Any:
    value: Any = text
    if typing.get_origin(kind) is tuple:
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif type(None) in typing.get_args(kind) and text.lower() == "none":
        value = None
    try:
        value = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        choices = _choices(kind)
        if choices:
            near = suggestion(text, choices) if len(text) <= _LONGEST else ""
            raise UserError(f"--set {path}={_short(text)}: allowed are {listed(choices)}.{near}") from None
        raise UserError(f"--set {path}={_short(text)}: {_plain(str(error))}.") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--set {path}={_short(text)}: must be a finite number.")
    return value


def _choices(kind: Any) -> list[str]:
    """Return the words a Literal allows, wherever it hides inside Optional, tuple or Annotated."""
    if typing.get_origin(kind) is Literal:
        return [str(choice) for choice in typing.get_args(kind)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, Annotated):
        return [choice for part in typing.get_args(kind) for choice in _choices(part)]
    return []


def _leaves(values: Any, prefix: str = "") -> typing.Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        yield prefix, values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else key)


def _refuse_unknown_keys(values: Any, kind: Any, prefix: str) -> None:
    if not isinstance(values, dict) or not dataclasses.is_dataclass(kind):
        return
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            near = suggestion(str(key), hints) if len(str(key)) <= _LONGEST else ""
            raise UserError(f'recipe: there is no field "{prefix}{_short(str(key))}".{near}')
        _refuse_unknown_keys(value, hints[key], f"{prefix}{key}.")


def _plain(message: str) -> str:
    """Turn a msgspec message into words: types by their plain names, the field by its path."""
    for python, plain in (("`int`", "a whole number"), ("`float`", "a number"), ("`bool`", "true or false")):
        message = message.replace(python, plain)
    message = re.sub(r"`str` matching regex '\^\(auto\|.*\\Z'", "auto, cpu, mps, cuda or cuda:N", message)
    message = message.replace("`str`", "text").replace(" - at `$.", " at `").replace("`null`", "none")
    message = re.sub(r"^Expected", "expected", message)
    return message if len(message) <= 2 * _LONGEST else f"{message[:_LONGEST]} … {message[-_LONGEST:]}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MULTIPLES = {"": 1, "k": 1_000, "M": 1_000_000}


def parsed_budget(text: str) -> Budget:
    """Read `90s`, `10m`, `2h` as time and `60k`, `2M`, `5000` as samples; raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhkM]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise UserError(
            f'--budget "{_short(text)}": give a time (90s, 10m, 2h) or a number of samples (60k, 2M). Try: --budget 10m'
        )
    unit = match[2]
    amount = float(match[1]) * (_UNITS | _MULTIPLES)[unit]  # infinite where there are hundreds of digits
    if amount > MAX_BUDGET:
        shown = text if len(text) <= 20 else f"{text[:16]}…{unit}"
        raise UserError(f'--budget "{shown}": more than can be counted. Try: --budget 24h or --budget 100M')
    if unit in _UNITS:
        return Budget(samples=None, seconds=amount)
    if round(amount) < 1:
        raise UserError(f'--budget "{_short(text)}": less than one sample. Try: --budget 60k')
    return Budget(samples=round(amount), seconds=None)
