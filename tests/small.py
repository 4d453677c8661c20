"""A small training, which most tests train; what a test wants otherwise it adds, and of a setting the last counts."""

from collections.abc import Sequence

SMALL = (
    "networks.family=mlp",
    "networks.width=16",
    "networks.latent_size=4",
    "game.batch=8",
    "evaluation.num_samples=100",
    "evaluation.every=160",
    "stopping.policy=budget",
)
# Examples that a score is of or that are shown, and pixels of a picture: as shipped they take most of a small training.
FEW = {
    "equipoise.tasks.image_judging.NUM_REAL": 200,
    "equipoise.tasks.image_judging.NUM_SHOWN": 4,
    "equipoise.tasks.points.NUM_JUDGED": 200,
    "equipoise.tasks.points.NUM_POINTS": 4_000,
    "equipoise.tasks.points.NUM_SHOWN": 100,
    "equipoise.tasks.points.SIDE": 60,
}
# Nothing depends on this machine's speed, so two runs may be compared.
SETTLED = (*SMALL, "saving.every=160", "saving.log_every=80")
# What of these has no effect on super-resolution, which refuses it: set back.
FOR_PHOTOS = ("networks.family=resnet", "networks.latent_size=1", "evaluation.num_samples=2000")


def as_options(settings: Sequence[str] = SMALL) -> list[str]:
    """Return settings as the command line takes them."""
    return [f"--set={setting}" for setting in settings]


def by_update(name: str) -> tuple[str, ...]:
    """Return the settings of an update, with those that it needs."""
    if name != "competitive":
        return (f"game.update={name}",)
    roles = ("generator", "discriminator")
    players = [f"game.{role}.{one}" for role in roles for one in ("optimizer=rmsprop", "beta1=0")]
    return ("game.loss=minimax", *players, f"game.update={name}")
