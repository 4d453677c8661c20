"""Settings that would change nothing, refused before anything is trained."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from equipoise.errors import Setting, UserError
from equipoise.recipe import Augment, Recipe

OF_IMAGES = {  # settings that images alone make something of
    "networks.conditional": False,
    "networks.groups": 0,
    "networks.discriminator_norm": "none",
    "networks.pretrained": False,
    "networks.smooth": False,
    "networks.attention": 0,
    "networks.generator_spectral_norm": False,
    "networks.latent_skips": False,
    "networks.orthogonal": False,
    "networks.growing": 0,
    "networks.stacked": 0,
    "networks.frozen": 0,
    "networks.condition": "projection",
    "networks.label_scale": 1.0,
    "networks.discriminators": 1,
    "networks.scales": 1,
    "networks.autoencoder": False,
    "networks.categorical_codes": 0,
    "networks.continuous_codes": 0,
    "augment.kinds": (),
    "augment.probability": 0.0,
    "game.variety": 0.0,
}
IDLE_ON_POINTS = {
    "networks.family": "mlp",
    **OF_IMAGES,
    "evaluation.features": "auto",
    "precision": "auto",
}
IDLE_ON_PHOTOGRAPHS = {
    "networks.family": "resnet",
    "networks.latent_size": 1,
    "networks.generator_norm": "none",
    "networks.dropout": 0.0,
    "networks.minibatch_deviation": False,
    **OF_IMAGES,
    "game.packing": 1,
    "game.instance_noise": 0.0,
    "evaluation.num_samples": 2_000,
}


def refuse_without_effect(recipe: Recipe, task: str, idle: Mapping[str, Any]) -> None:
    """Raise UserError for a field that a task makes nothing of, where its value is not the one that is given here."""
    for name, without in idle.items():
        value = attrgetter(name)(recipe)
        if value != without:
            raise UserError(Setting(name, value), f"without effect on {task}", Setting(name, without))


def refuse_idle_augmentation(augment: Augment) -> None:
    """Raise UserError for an augmentation that would change nothing; few images bring kinds of their own."""
    if augment.probability and not augment.kinds:
        raise UserError(
            Setting("augment.probability", augment.probability),
            "without effect, as augment.kinds is empty",
            Setting("augment.kinds", "translation,cutout"),
            Setting("augment.probability", 0),
        )
    if augment.kinds and not augment.probability:
        raise UserError(
            Setting("augment.kinds", augment.kinds),
            "without effect, as augment.probability=0",
            Setting("augment.probability", 0.5),
            Setting("augment.kinds", ""),
        )
