"""Codes in a generator's latents: what each part of them shows, and how well pictures tell it (arXiv:1606.03657)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.explore.groups import Extract
from equipoise.explore.pictures import labelled_grid
from equipoise.explore.sections import NUM_CLASSES, NUM_ROWS, STEPS, Asked, Found, Progress, _all, _percent, names_of
from equipoise.explore.space import images_of
from equipoise.game.judged import codes_of, with_category, with_number
from equipoise.tasks.base import Exhibit
from equipoise.tasks.exhibits import picture
from equipoise.tasks.image_groups import directions

NUM_SHOWN = 3  # latents for each number
LEAST_FITTED = 20  # pictures for each principal component, or the fit follows chance
TITLE = "Codes"
INTRO = (
    "Some of the latents are a code that the images had to show in training. Nobody said what the code means; what it "
    "has come to mean, you have to see."
)

Seeing = tuple[Extract, str, int]  # what sees pictures, its name in words, and how many pictures it is shown


def coded(asked: Asked, seeing: Callable[[], Seeing], progress: Progress) -> Found:
    """Show the same latents with every category of their code, and with each of its numbers from low to high.

    With classes, all are of one class, as classes differ by more than codes. Where nothing can see pictures, how well
    they tell the code is left out.
    """
    networks = asked.model.networks
    told = asked.space.told(asked.randomness(), 1)
    numbers = _read(asked, told, seeing)
    progress(0.5)
    exhibits = []
    if networks.categorical_codes:
        exhibits.append(_categories(asked, told, numbers))
    if networks.continuous_codes:
        exhibits.append(_numbers(asked, told, numbers, "" if exhibits else INTRO))
    return Found(tuple(exhibits), {"codes": numbers})


def _read(asked: Asked, told: Tensor | None, seeing: Callable[[], Seeing]) -> dict[str, Any]:
    """Return how well new pictures tell their code; why not, where nothing sees them."""
    try:
        extract, seen_by, num = seeing()
    except UserError as error:
        return {"not_read": error.problem}
    networks = asked.model.networks
    categories, numbers = networks.categorical_codes, networks.continuous_codes
    latents = asked.space.latents(asked.randomness(), num, "coded")
    drawn = torch.arange(num) % min(categories, NUM_CLASSES) if categories else None
    if drawn is not None:
        latents = with_category(latents, drawn, categories)
    features = extract(images_of(asked.space, latents, _all(told, 0, num)))
    found: dict[str, Any] = {"seen_by": seen_by, "seen": num}
    if drawn is not None:
        share = share_told(features, drawn)
        error = error_of(share, num - num // 2)
        by_chance = 1 / min(categories, NUM_CLASSES)
        found |= {"category": share, "category_error": error, "category_by_chance": by_chance}
    if numbers:
        every = codes_of(latents, categories, latents.shape[1] - categories).numbers  # the other latents likewise
        explained = variance_told(features, every)
        others = explained[numbers:]
        found |= {"numbers": explained[:numbers].tolist()}
        found |= {"other_latents": float(others.mean()) if len(others) else None}
    return found


def _categories(asked: Asked, told: Tensor | None, numbers: dict[str, Any]) -> Exhibit:
    """Show latents with every category."""
    num = asked.model.networks.categorical_codes
    shown = min(num, NUM_CLASSES)
    latents = asked.space.latents(asked.randomness(), NUM_ROWS, "categories").repeat_interleave(shown, 0)
    chosen = torch.arange(shown).repeat(NUM_ROWS)
    images = images_of(asked.space, with_category(latents, chosen, num), _all(told, 0, len(latents)))
    some = f" The first {shown} of {num} are shown." if shown < num else ""
    caption = (
        f"Each row is one and the same latent{_of_class(asked, told)}, drawn with every category of the code.{some}"
    )
    if "category" in numbers:
        caption += (
            f" From what {numbers['seen_by']} sees, the category of {_percent(numbers['category'])} of new pictures is "
            f"told correctly (standard error {100 * numbers['category_error']:.1f} points); guessing would get "
            f"{_percent(numbers['category_by_chance'])}."
        )
    heads = [str(place + 1) for place in range(shown)]
    return picture("codes", TITLE, labelled_grid(images, [""] * NUM_ROWS, heads), caption + _not_read(numbers), INTRO)


def _numbers(asked: Asked, told: Tensor | None, numbers: dict[str, Any], intro: str) -> Exhibit:
    """Show latents with each number of the code at values that part its range evenly."""
    networks = asked.model.networks
    shown = min(networks.continuous_codes, asked.num)
    values = (2 * torch.arange(STEPS) + 1) / STEPS - 1
    latents = asked.space.latents(asked.randomness(), NUM_SHOWN, "numbers").repeat_interleave(STEPS, 0)
    labels = _all(told, 0, len(latents))
    places = [networks.categorical_codes + place for place in range(shown)]
    images = [images_of(asked.space, with_number(latents, place, values.repeat(NUM_SHOWN)), labels) for place in places]
    words = [f"number {place + 1}" if row == 0 else "" for place in range(shown) for row in range(NUM_SHOWN)]
    heads = [f"{value:+.2f}" if value.abs() > 1e-6 else "0" for value in values]
    some = f" The first {shown} of {networks.continuous_codes} are shown." if shown < networks.continuous_codes else ""
    caption = (
        f"In each row one number of the code grows and nothing else changes: {NUM_SHOWN} latents"
        f"{_of_class(asked, told)} for each number.{some}"
    )
    if "numbers" in numbers:
        squares = ", ".join(_part(one) for one in numbers["numbers"][:shown])
        others = numbers["other_latents"]
        beside = "" if others is None else f"; of other latents, {_part(others)} on average"
        caption += (
            f" A linear function of what {numbers['seen_by']} sees explains this part of the variance of each number "
            f"(R², on new pictures): {squares}{beside}."
        )
    exhibit = labelled_grid(torch.cat(images), words, heads)
    return picture("codes-numbers", TITLE, exhibit, caption + _not_read(numbers), intro)


def _of_class(asked: Asked, told: Tensor | None) -> str:
    return "" if told is None else f" of the class {names_of(asked.model, told)[0]}"


def _not_read(numbers: dict[str, Any]) -> str:
    """Say that it was not measured how well pictures tell the code, where that is so."""
    if "not_read" not in numbers:
        return ""
    return " How well pictures tell it was not measured, as no network that sees them is at hand."


def _part(explained: float) -> str:
    """Write R² of new pictures, which is below 0 by chance where nothing is explained."""
    return f"{max(0.0, explained):.2f}"


def share_told(features: Tensor, categories: Tensor) -> float:
    """Return the share of pictures whose category is that of the nearest mean, of features [N, D] and int64 [N].

    Distances are in standard deviations of each feature. Means and deviations are of the first half of the pictures,
    and the share is of the second half.
    """
    half = len(features) // 2
    seen = _standardised(features)
    known = categories[:half].unique()
    means = torch.stack([seen[:half][categories[:half] == category].mean(0) for category in known])
    nearest = torch.cdist(seen[half:], means).argmin(1)
    return float((known[nearest] == categories[half:]).float().mean())


def error_of(share: float, num: int) -> float:
    """Return the standard error of a share of `num`, with two more of either kind, as 0 and 1 are not certain.

    It is that of the Agresti–Coull interval (doi:10.1080/00031305.1998.10480550).
    """
    share = (share * num + 2) / (num + 4)
    return math.sqrt(share * (1 - share) / (num + 4))


def variance_told(features: Tensor, numbers: Tensor) -> Tensor:
    """Return R² [M] of numbers [N, M], each as a linear function of the principal components of features [N, D].

    The function is fitted to the first half of the pictures, and R² is of the second half: 0 or below where the
    pictures tell nothing.
    """
    half = len(features) // 2
    seen = _standardised(features)
    seen = seen @ directions(seen[:half])[:, : max(1, half // LEAST_FITTED)]
    seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
    numbers = numbers.double()
    weights = torch.linalg.lstsq(seen[:half], numbers[:half], driver="gelsd").solution
    missed = (numbers[half:] - seen[half:] @ weights).square().mean(0)
    return 1 - missed / numbers[half:].var(0, correction=0).clamp(min=1e-12)


def _standardised(features: Tensor) -> Tensor:
    """Return features [N, D] less their mean, in standard deviations, both of the first half; constant ones as 0."""
    first = features[: len(features) // 2].double()
    deviation = first.std(0)
    is_constant = deviation <= 1e-6 * deviation.amax()
    return ((features.double() - first.mean(0)) / deviation.where(~is_constant, 1.0)).where(~is_constant, 0.0)
