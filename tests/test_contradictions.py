"""Settings that do not go together, or would change nothing, are refused, and what is advised instead is accepted."""

from typing import Any

import pytest

from equipoise.errors import Setting, Together, UserError, typed
from equipoise.recipe import Recipe, from_dict, with_settings
from equipoise.recipes import Facts, build

DCGAN = ("networks.family=dcgan", "game.loss=energy", "game.margin=0.25", "networks.autoencoder=true")
CODES = ("networks.categorical_codes=4", "game.information=1")
NAMING = ("networks.conditional=true", "networks.condition=naming", "game.auxiliary=1")
COMPETITIVE = (
    *("game.update=competitive", "game.loss=minimax"),
    *("game.generator.optimizer=rmsprop", "game.discriminator.optimizer=rmsprop"),
)
REFUSED = [
    (("networks.condition=concatenation",), "networks.condition"),
    (("networks.condition=naming",), "networks.condition"),
    (("networks.condition=naming", "game.auxiliary=1"), "networks.condition"),
    (("networks.condition=naming", "networks.conditional=true"), "networks.condition"),
    (("game.auxiliary=1",), "game.auxiliary"),
    (("game.auxiliary=1", "networks.groups=20"), "game.auxiliary"),
    (("game.auxiliary=1", "networks.conditional=true", "networks.condition=concatenation"), "game.auxiliary"),
    (("networks.label_scale=0.1",), "networks.label_scale"),
    (("networks.categorical_codes=1",), "networks.categorical_codes"),
    (("networks.categorical_codes=4",), "networks.categorical_codes"),
    (("networks.continuous_codes=2",), "networks.continuous_codes"),
    (("networks.categorical_codes=4", "networks.continuous_codes=2"), "networks.categorical_codes"),
    (("game.information=1",), "game.information"),
    ((*CODES, "networks.latent_size=3"), "networks.categorical_codes"),
    ((*CODES, "game.packing=2"), "game.information"),
    (("game.margin=1",), "game.margin"),
    (("game.loss=energy",), "game.loss"),
    (("game.loss=energy", "networks.autoencoder=true"), "game.loss"),
    (("game.pulling_away=0.1",), "game.pulling_away"),
    (("networks.autoencoder=true",), "networks.autoencoder"),
    ((*DCGAN, "networks.conditional=true"), "networks.conditional"),
    ((*DCGAN, "networks.groups=20"), "networks.groups"),
    ((*DCGAN, "networks.spectral_norm=true"), "networks.spectral_norm"),
    ((*DCGAN, "networks.pretrained=true"), "networks.pretrained"),
    ((*DCGAN, "game.packing=2"), "game.packing"),
    ((*DCGAN, *CODES), "game.information"),
    ((*DCGAN, "networks.growing=1000"), "networks.growing"),
    ((*COMPETITIVE, *NAMING), "game.auxiliary"),
    ((*COMPETITIVE, *CODES), "game.information"),
    ((*COMPETITIVE, *DCGAN, "game.loss=custom", "game.margin=0", "game.pulling_away=1"), "game.pulling_away"),
]


MOST_STEPS = 2  # more, where one setting needs another


def advised(part: Any) -> list[str]:
    """Return a remedy as settings; none of one that is no setting."""
    if not isinstance(part, Setting | Together):
        return []
    return [text.strip("'") for text in typed(part, in_shell=True).replace("--set ", "").split()]


@pytest.mark.parametrize(("settings", "subject"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_does_not_go_together_is_refused_by_name_and_each_remedy_leads_on(
    settings: tuple[str, ...], subject: str
) -> None:
    with pytest.raises(UserError) as caught:
        with_settings(Recipe(), settings)
    assert isinstance(caught.value.subject, Setting)
    assert caught.value.subject.field == subject
    remedies = [found for found in map(advised, caught.value.remedies) if found]
    assert remedies
    for remedy in remedies:
        assert follow([*settings, *remedy]) <= MOST_STEPS


def follow(settings: list[str]) -> int:
    """Do what each refusal advises first, until the settings are accepted; return how many more it took."""
    for step in range(MOST_STEPS + 1):
        try:
            with_settings(Recipe(), settings)
        except UserError as error:
            settings = [*settings, *advised(error.remedies[0])]
        else:
            return step
    return MOST_STEPS + 1


@pytest.mark.parametrize(
    "settings",
    [
        (*DCGAN, "networks.discriminators=2", "networks.scales=2", "game.pulling_away=0.1"),
        (*CODES, "networks.discriminators=3", "networks.conditional=true", "networks.condition=concatenation"),
        ("networks.groups=20", "networks.condition=naming", "game.auxiliary=0.5", *CODES),
        ("networks.conditional=true", "networks.label_scale=0.1"),
        ("game.packing=2", "networks.scales=2"),
    ],
)
def test_what_does_go_together_is_accepted(settings: tuple[str, ...]) -> None:
    with_settings(Recipe(), settings)


@pytest.mark.parametrize("name", ["cgan", "cgan-projection", "acgan"])
def test_without_classes_what_a_recipe_does_with_them_is_left_out_unless_it_is_named(name: str) -> None:
    recipe = with_settings(build(name, Facts()), ["networks.conditional=false"])
    assert recipe.networks.condition == "projection"
    assert recipe.networks.label_scale == 1
    assert recipe.game.auxiliary == 0
    if name != "cgan-projection":
        with pytest.raises(UserError):
            with_settings(build(name, Facts()), ["networks.conditional=false", "networks.condition=concatenation"])
        grouped = with_settings(build(name, Facts()), ["networks.conditional=false", "networks.groups=20"])
        assert grouped.networks.condition == build(name, Facts()).networks.condition


def test_a_recipe_that_leaves_out_what_has_defaults_is_read() -> None:
    """As the recipe of a training loop of one's own does, and that of an earlier version."""
    assert from_dict({"name": "custom loop", "game": {"loss": "hinge"}}).game.auxiliary == 0
