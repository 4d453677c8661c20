"""A game as a picture of boxes, drawn from a recipe's settings: the same boxes in characters and on a page.

Latents go into the generator; real and generated images go into the discriminator, and what it says into the losses.
"""

from dataclasses import dataclass

from equipoise.recipe import Networks, OptimizerSettings, Recipe

LEFT, RIGHT = 34, 34  # characters of the two columns of boxes, and between them
GAP = 6
MIDDLE = 44


@dataclass(frozen=True)
class Box:
    """One part of a game: what it is, and what the settings make of it, a line each."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """The parts of a game in their order."""

    latents: Box
    generator: Box
    real: Box
    discriminator: Box
    losses: Box

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All parts."""
        return (self.latents, self.generator, self.real, self.discriminator, self.losses)


def drawing_of(recipe: Recipe) -> Drawing:
    """Return the picture of a recipe's game on images."""
    return Drawing(
        latents=Box("latents z", _latents(recipe.networks)),
        generator=Box("generator G", _generator(recipe)),
        real=Box("real images x", _real(recipe)),
        discriminator=Box(_judges(recipe.networks), _discriminator(recipe)),
        losses=Box("losses", _losses(recipe)),
    )


def _told(networks: Networks) -> str:
    """Return what the networks are told of an image; empty where it is nothing."""
    if networks.conditional:
        return "class"
    return "group" if networks.groups else ""


def _latents(networks: Networks) -> tuple[str, ...]:
    lines = [f"{networks.latent_size} normal numbers"]
    if networks.categorical_codes:
        lines.append(f"a category of {networks.categorical_codes}, one-hot")
    if networks.continuous_codes:
        lines.append(f"{networks.continuous_codes} numbers in −1..1")
    if told := _told(networks):
        lines.append(f"and the {told} y of an image")
    return tuple(lines)


def _generator(recipe: Recipe) -> tuple[str, ...]:
    networks, game = recipe.networks, recipe.game
    possible = (
        (True, f"{networks.family}, width {networks.width}"),
        (networks.generator_norm != "none", f"{networks.generator_norm} norm"),
        (networks.generator_spectral_norm, "spectral norm"),
        (networks.attention, f"attends at {networks.attention} pixels a side"),
        (networks.latent_skips, "latents in every block"),
        (networks.family == "style", "styles by a mapping network"),
        (networks.growing, f"grows: {networks.growing:,} samples a stage"),
        (networks.stacked, f"small first: {networks.stacked:,} samples"),
        (networks.smooth, "smoothed doublings"),
        (True, _player(game.generator)),
        (game.ema_half_life, f"averaged, half-life {game.ema_half_life:,.0f}"),
    )
    return tuple(text for is_so, text in possible if is_so)


def _player(settings: OptimizerSettings) -> str:
    rate = f"{settings.optimizer} {settings.rate:g}"
    return rate if settings.rate_end is None else f"{rate} → {settings.rate_end:g}"


def _real(recipe: Recipe) -> tuple[str, ...]:
    game = recipe.game
    lines = [f"batches of {game.batch}"]
    if told := _told(recipe.networks):
        lines.append(f"each with its {told} y")
    if recipe.networks.groups:
        lines.append(f"{recipe.networks.groups} groups of images alike")
    return tuple(lines)


def _judges(networks: Networks) -> str:
    num = networks.discriminators * networks.scales + networks.pretrained
    return "discriminator D" if num == 1 else f"{num} discriminators D"


def _discriminator(recipe: Recipe) -> tuple[str, ...]:
    networks, game = recipe.networks, recipe.game
    told = _told(networks)
    ways = {
        "projection": f"told the {told} by projection",
        "concatenation": f"told the {told} by concatenation",
        "naming": f"not told the {told}: it names it",
    }
    possible = (
        (True, f"{networks.family}, width {networks.width}"),
        (networks.autoencoder, "an autoencoder: D(x) = −E(x)"),
        (networks.discriminators > 1, f"{networks.discriminators} with weights of their own"),
        (networks.scales > 1, f"at {networks.scales} scales: images halved"),
        (networks.pretrained, "one of features of ImageNet"),
        (game.packing > 1, f"judges packs of {game.packing} images"),
        (told, ways[networks.condition]),
        (networks.categorical_codes + networks.continuous_codes, "reads the codes off the images"),
        (networks.discriminator_norm != "none", f"{networks.discriminator_norm} norm"),
        (networks.spectral_norm, "spectral norm"),
        (networks.attention, f"attends at {networks.attention} pixels a side"),
        (networks.growing, "grows with G"),
        (networks.stacked, "one stage, then the other"),
        (networks.dropout, f"dropout {networks.dropout:g}"),
        (networks.minibatch_deviation, "sees how a batch differs"),
        (recipe.augment.kinds, f"sees images augmented (p {recipe.augment.probability:g})"),
        (game.instance_noise, f"sees noise of {game.instance_noise:g}"),
        (True, _player(game.discriminator)),
        (game.discriminator_steps > 1, f"{game.discriminator_steps} steps for each of G"),
    )
    return tuple(text for is_so, text in possible if is_so)


def _losses(recipe: Recipe) -> tuple[str, ...]:
    game, penalty = recipe.game, recipe.game.penalty
    strength = f"γ {penalty.gamma:g}"
    if penalty.gamma_end is not None:
        strength += f" → {penalty.gamma_end:g}"
    possible = (
        (True, game.loss),
        (game.margin, f"margin {game.margin:g}"),
        (penalty.kind != "none", f"D: + {penalty.kind}, {strength}"),
        (penalty.every > 1, f"   on one step of {penalty.every}"),
        (game.weight_clip, f"D: weights clipped to ±{game.weight_clip or 0:g}"),
        (game.auxiliary, f"both: + {game.auxiliary:g} · naming the class"),
        (game.information, f"both: + {game.information:g} · reading the codes"),
        (game.pulling_away, f"G: + {game.pulling_away:g} · pulling codes away"),
        (game.variety, f"G: + {game.variety:g} · variety"),
    )
    return tuple(text for is_so, text in possible if is_so)


# In characters


def in_characters(drawing: Drawing) -> list[str]:
    """Return a picture as lines of at most 80 characters."""
    begin, end = LEFT // 2, LEFT + GAP + RIGHT // 2
    arrow = f"{' ' * begin}▼".ljust(LEFT)
    left = [*framed(drawing.latents, LEFT, down=True), arrow, *framed(drawing.generator, LEFT, down=True)]
    right = framed(drawing.real, RIGHT, down=True)
    right = [" " * RIGHT] * (len(left) - len(right)) + right  # both end where they meet
    lines = [f"{one}{' ' * GAP}{other}".rstrip() for one, other in zip(left, right, strict=True)]
    middle = (begin + end) // 2
    across = "".join(
        "┬" if place == middle else "└" if place == begin else "┘" if place == end else "─"
        for place in range(begin, end + 1)
    )
    names = _placed({begin: "│ G(z)", end - 2: "x │"})
    lines += [names, f"{' ' * begin}{across}", f"{' ' * middle}▼"]
    margin = middle - MIDDLE // 2
    for box, down in ((drawing.discriminator, True), (drawing.losses, False)):
        lines += [f"{' ' * margin}{line}" for line in framed(box, MIDDLE, down=down)]
        if down:
            lines.append(f"{' ' * middle}▼")
    return lines


def _placed(texts: dict[int, str]) -> str:
    """Return texts that begin at these places."""
    line = ""
    for place, text in texts.items():
        line = f"{line:<{place}}{text}"
    return line


def framed(box: Box, width: int, *, down: bool) -> list[str]:
    """Return a box of this width in characters; `down` where a line leaves it below."""
    inner = width - 4
    below = "─" * (width - 2)
    if down:
        below = f"{below[: width // 2 - 1]}┬{below[width // 2 :]}"
    texts = [box.title, *box.lines]
    return [f"┌{'─' * (width - 2)}┐", *(f"│ {text[:inner]:<{inner}} │" for text in texts), f"└{below}┘"]
