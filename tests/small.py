"""A small training, which most tests train; what a test wants otherwise it adds, and of a setting the last counts."""

from collections.abc import Sequence

SMALL = (
    "networks.family=mlp",
    "networks.width=16",
    "networks.latent_size=4",
    "game.batch=8",
    "judging.num_samples=100",
    "judging.every=160",
    "stopping.policy=budget",
)


def as_options(settings: Sequence[str] = SMALL) -> list[str]:
    """Return settings as the command line takes them."""
    return [f"--set={setting}" for setting in settings]
