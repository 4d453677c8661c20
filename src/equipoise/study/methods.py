"""What a study compares: methods (an order of the steps with an optimizer) and losses with their penalties."""

from dataclasses import dataclass, replace
from typing import Any

from equipoise.errors import UserError
from equipoise.recipe import Correction, Game, OptimizerSettings, Penalty, Recipe, checked

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "beta1": 0.0},
    "momentum": {"optimizer": "sgd", "beta1": 0.9},
    "adagrad": {"optimizer": "adagrad"},
    "rmsprop": {"optimizer": "rmsprop", "beta1": 0.0, "beta2": 0.99},
    "adam": {"optimizer": "adam", "beta1": 0.5, "beta2": 0.99},
    "adamw": {"optimizer": "adamw", "beta1": 0.5, "beta2": 0.99, "weight_decay": 0.01},
}
RULES: dict[str, dict[str, Any]] = {
    "alternating": {"update": "alternating"},
    "simultaneous": {"update": "simultaneous"},
    "extragradient": {"update": "extragradient"},
    "past extragradient": {"update": "past-extragradient"},
    "optimistic": {"update": "optimistic"},
    "lookahead": {"update": "alternating", "lookahead": 5},
    "consensus": {"update": "simultaneous", "correction": Correction(kind="consensus", weight=1.0)},
    "symplectic": {"update": "simultaneous", "correction": Correction(kind="symplectic", weight=1.0)},
    "competitive": {"update": "competitive"},
}
LOSSES: dict[str, dict[str, Any]] = {
    "minimax": {"loss": "minimax"},
    "non-saturating": {"loss": "non-saturating"},
    "non-saturating + R1": {"loss": "non-saturating", "penalty": Penalty(kind="r1", gamma=0.3)},
    "wasserstein": {"loss": "wasserstein"},
    "wasserstein + GP": {"loss": "wasserstein", "penalty": Penalty(kind="wgan-gp", gamma=0.1)},
    "relativistic + R1 + R2": {"loss": "relativistic", "penalty": Penalty(kind="r1+r2", gamma=0.3)},
}


@dataclass(frozen=True)
class Method:
    """An order of the players' steps with the optimizer of both."""

    rule: str
    optimizer: str

    @property
    def name(self) -> str:
        """What it is called: the optimizer alone where the players alternate."""
        return self.optimizer if self.rule == "alternating" else f"{self.rule} {self.optimizer}"


METHODS: dict[str, Method] = {
    method.name: method
    for method in (Method(rule, optimizer) for rule in RULES for optimizer in OPTIMIZERS)
    if method.rule != "competitive" or method.optimizer in ("sgd", "rmsprop")  # it takes no others
}
PLAIN = tuple(Method(rule, "sgd").name for rule in RULES)  # as theory has them
WITH_SQUARES = {"consensus": "rmsprop", "symplectic": "rmsprop", "competitive": "rmsprop"}  # as their authors do
PRACTICAL = (
    *OPTIMIZERS,
    *(Method(rule, WITH_SQUARES.get(rule, "adam")).name for rule in RULES if rule != "alternating"),
)


def game_of(method: Method, loss: str, generator_rate: float, discriminator_rate: float, batch: int) -> Game:
    """Return the game of a method and a loss at two rates; raises UserError where they do not go together."""
    settings = OPTIMIZERS[method.optimizer]
    game = Game(
        **LOSSES[loss],
        **RULES[method.rule],
        batch=batch,
        generator=OptimizerSettings(**settings, rate=generator_rate),
        discriminator=OptimizerSettings(**settings, rate=discriminator_rate),
        ema_half_life=0,
    )
    return checked(replace(Recipe(), game=game)).game


def go_together(method: Method, loss: str) -> bool:
    """Return whether a recipe may have both."""
    try:
        game_of(method, loss, 0.1, 0.1, 64)
    except UserError:
        return False
    return True
