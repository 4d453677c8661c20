"""One named recipe, explained: its game as a picture and in mathematics, what is the paper's, and its settings."""

import dataclasses
import textwrap
from dataclasses import dataclass
from typing import Any

from equipoise.recipe import Recipe, leaves, to_dict
from equipoise.recipes import SETTING, RecipeName, build, named, sizes_in_words
from equipoise.recipes.base import About, Facts
from equipoise.recipes.drawing import Drawing, drawing_of, in_characters

WIDTH = 80
USUAL = "for 60,000 grey images of 28 × 28 pixels on a CPU"


@dataclass(frozen=True)
class Explained:
    """What is known of a recipe, and what its settings are for usual images."""

    name: RecipeName
    about: About
    recipe: Recipe
    settings: tuple[tuple[str, str, str], ...]  # field, value, and the default of a recipe without a name

    @property
    def drawing(self) -> Drawing:
        """The picture of its game."""
        return drawing_of(self.recipe)


def explained(name: RecipeName) -> Explained:
    """Return a named recipe with all that explains it."""
    recipe = build(name, Facts())
    return Explained(name, named(name).about, recipe, tuple(differences(recipe)))


def differences(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Return (field, value, default) for each setting that is not that of a recipe without a name."""
    usual = dict(leaves(to_dict(Recipe())))
    found = dict(leaves(to_dict(recipe)))
    return [
        (field, _written(value), _written(usual.get(field)))
        for field, value in found.items()
        if field != "name" and value != usual.get(field)
    ]


def _written(value: Any) -> str:
    """Write a value as `--set` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


def explained_values(found: Explained) -> dict[str, Any]:
    """Return it as plain values."""
    return {
        "name": found.name,
        **dataclasses.asdict(found.about),
        "drawing": dataclasses.asdict(found.drawing),
        "settings": {field: {"value": value, "default": default} for field, value, default in found.settings},
        "recipe": to_dict(found.recipe),
    }


def explained_text(found: Explained) -> str:
    """Return it as a text of at most 80 columns."""
    about = found.about
    facts = [
        f"{about.purpose} ({about.paper})",
        f"for {about.whom}",
        f"made for: {sizes_in_words(about.sizes)}",
        measured_in_words(about),
    ]
    blocks = [
        found.name,
        "\n".join(map(_filled, facts)),
        "\n".join(["The game", "", *in_characters(found.drawing)]),
        "\n".join(["In mathematics", "", *map(_hanging, about.formulas)]),
        "\n".join(["As in the paper", "", _filled(about.papers)]),
        "\n".join(["Not as in the paper", "", _filled(about.differs)]),
        "\n".join([textwrap.fill(f"Settings that are not the defaults, {USUAL}", WIDTH), "", *_table(found.settings)]),
        f"Use it with: equipoise train SOURCE --recipe {found.name}",
    ]
    return "\n\n".join(blocks)


def measured_in_words(about: About) -> str:
    """Say what was measured of a recipe, and how."""
    return f"measured: {about.result}" if about.samples is None else f"measured: {about.result}. {SETTING}"


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _hanging(line: str) -> str:
    return textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def _table(settings: tuple[tuple[str, str, str], ...]) -> list[str]:
    wide = max(len(field) for field, _, _ in settings)
    long = max(len(value) for _, value, _ in settings)
    rows = [f"  {field:<{wide}}  {value:<{long}}  (default {default})" for field, value, default in settings]
    return [row if len(row) <= WIDTH else f"{row[: WIDTH - 1]}…" for row in rows]
