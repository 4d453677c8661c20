"""Settings that are allowed by themselves and not together, or that would change nothing; each with what to type.

The settings are plain values by their dotted names, as `recipe.to_dict` gives them, so that a rule reads as it is told.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from equipoise.errors import Part, Setting, UserError, together

Settings = Mapping[str, Any]


def refuse_contradictions(of: Settings) -> None:
    """Raise UserError for the first settings of networks and game that do not go together."""
    _refuse_of_classes(of)
    _refuse_of_codes(of)
    _refuse_of_energies(of)
    _refuse_shared_aims(of)


def _refuse_of_classes(of: Settings) -> None:
    condition, auxiliary = of["networks.condition"], of["game.auxiliary"]
    classes = Setting("networks.conditional", True)
    usual = Setting("networks.condition", "projection")
    naming = Setting("networks.condition", "naming")
    if condition != "projection" and not (of["networks.conditional"] or of["networks.groups"]):
        problem = "without effect, as the networks are told no classes"
        _refuse(of, "networks.condition", problem, classes, *together(_unnamed(of, usual)))
    if of["networks.label_scale"] != 1 and not (of["networks.conditional"] or of["networks.groups"]):
        problem = "without effect, as the networks are told no classes"
        _refuse(of, "networks.label_scale", problem, classes, Setting("networks.label_scale", 1))
    if condition == "naming" and not auxiliary:
        problem = "with game.auxiliary=0: nothing would ask for the class"
        _refuse(of, "networks.condition", problem, Setting("game.auxiliary", 1), usual)
    if auxiliary and condition != "naming":
        problem = f"with networks.condition={condition}: the discriminator names no class"
        ways = [naming] if of["networks.conditional"] or of["networks.groups"] else [classes, naming]
        _refuse(of, "game.auxiliary", problem, *together(ways), Setting("game.auxiliary", 0))


def _unnamed(of: Settings, usual: Setting) -> list[Setting]:
    return [usual, Setting("game.auxiliary", 0)] if of["game.auxiliary"] else [usual]


def _refuse_of_codes(of: Settings) -> None:
    categories, numbers = of["networks.categorical_codes"], of["networks.continuous_codes"]
    information = of["game.information"]
    if categories == 1:
        problem = "one category says nothing; give two or more, or 0 for none"
        _refuse(of, "networks.categorical_codes", problem, Setting("networks.categorical_codes", 10))
    if information and not categories + numbers:
        problem = "without effect, as there are no codes to read"
        ways = (Setting("networks.categorical_codes", 10), Setting("game.information", 0))
        _refuse(of, "game.information", problem, *ways)
    if not categories + numbers:
        return
    first = "networks.categorical_codes" if categories else "networks.continuous_codes"
    none = [Setting(name, 0) for name in ("networks.categorical_codes", "networks.continuous_codes") if of[name]]
    if not information:
        problem = "with game.information=0: nothing would ask the images to show the codes"
        _refuse(of, first, problem, Setting("game.information", 1), *together(none))
    if categories + numbers > of["networks.latent_size"]:
        size = of["networks.latent_size"]
        problem = f"with networks.latent_size={size}: the codes are made of {categories + numbers} of its numbers"
        without = together([*none, Setting("game.information", 0)])
        _refuse(of, first, problem, Setting("networks.latent_size", categories + numbers), *without)
    if of["game.packing"] > 1:
        problem = f"with game.packing={of['game.packing']}: the images of a pack have several codes"
        _refuse(of, "game.information", problem, Setting("game.packing", 1))


def _refuse_of_energies(of: Settings) -> None:
    loss, margin = of["game.loss"], of["game.margin"]
    is_encoder = of["networks.autoencoder"]
    alone = Setting("networks.autoencoder", False)
    if margin and loss != "energy":
        problem = f"without effect on game.loss={loss}; the margin is one of energies"
        _refuse(of, "game.margin", problem, Setting("game.margin", 0))
    if loss == "energy" and not is_encoder:
        problem = "the logits are no energies without networks.autoencoder=true"
        both = together([Setting("networks.autoencoder", True), Setting("networks.family", "dcgan")])
        _refuse(of, "game.loss", problem, *both, Setting("game.loss", "hinge"))
    if loss == "energy" and not margin:
        problem = "with game.margin=0: the discriminator would not raise the energy of generated images"
        _refuse(of, "game.loss", problem, Setting("game.margin", 0.1))
    if not is_encoder:
        if of["game.pulling_away"]:
            problem = "without effect, as it is on the codes of a discriminator with networks.autoencoder=true"
            _refuse(of, "game.pulling_away", problem, Setting("game.pulling_away", 0))
        return
    if loss not in ("energy", "custom"):
        problem = f"with game.loss={loss}: its logits are energies, below 0"
        energy = together([Setting("game.loss", "energy"), Setting("game.margin", 0.1)])
        _refuse(of, "networks.autoencoder", problem, *energy, alone)
    _refuse_beside_an_autoencoder(of)


def _refuse_beside_an_autoencoder(of: Settings) -> None:
    """Refuse what an autoencoding discriminator has no place for: what acts on the last layer before a logit."""
    problems = {
        "networks.conditional": (False, "an autoencoder is told no classes"),
        "networks.groups": (0, "an autoencoder is told no groups"),
        "networks.spectral_norm": (False, "its output has to reach the size of the images"),
        "networks.pretrained": (False, "logits of features are no energies"),
        "networks.growing": (0, "its energies are errors of pictures of the full size"),
        "game.packing": (1, "it gives back one image"),
        "game.information": (0.0, "it has no layer that reads codes"),
    }
    for name, (without, why) in problems.items():
        if of[name] != without:
            _refuse(of, name, f"with networks.autoencoder=true: {why}", *_out(of, name, without))


def _refuse_shared_aims(of: Settings) -> None:
    """Refuse terms that D does not raise where G lowers them, for an update that answers each player by the other's."""
    if of["game.update"] != "competitive":
        return
    for name in ("game.auxiliary", "game.information", "game.pulling_away"):
        if of[name]:
            problem = "with game.update=competitive, for games in which one wins what the other loses"
            _refuse(of, name, problem, Setting("game.update", "extragradient"), *_out(of, name, 0.0))


def _out(of: Settings, name: str, without: Any) -> tuple[Part, ...]:
    """Return the settings that leave one of them out, with what would then have no effect."""
    settings = [Setting(name, without)]
    if name == "game.information":
        codes = ("networks.categorical_codes", "networks.continuous_codes")
        settings += [Setting(code, 0) for code in codes if of[code]]
    if name == "game.auxiliary":
        settings.append(Setting("networks.condition", "projection"))
    return together(settings)


def _refuse(of: Settings, name: str, problem: str, *remedies: Part) -> NoReturn:
    raise UserError(Setting(name, of[name]), problem, *remedies)
