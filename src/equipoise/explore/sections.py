"""The kinds of pictures that show what a generator has learned; each with its sentence and its numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.data.several import NO_LABEL
from equipoise.explore.directions import Directions, along, directions_of_activations, directions_of_weights
from equipoise.explore.groups import MOVES, Extract, Groups, blended, each_with, groups_of, moved, row_of, steps_through
from equipoise.explore.pictures import animated, drawable, labelled_grid, rows_of
from equipoise.explore.projection import NUM_CANDIDATES, Projection, projected
from equipoise.explore.space import Space, centre_of, closed_walk, codes_of, images_of, images_of_codes, on_shell, slerp
from equipoise.explore.truncation import pulled, truncated_normal, variety
from equipoise.randomness import Randomness
from equipoise.tasks.base import Exhibit
from equipoise.tasks.exhibits import picture, rows
from equipoise.tasks.image_model import ImageModel

STEPS = 7  # pictures from one end of a way to the other
FRAMES = 8  # of an animation, from one stop to the next
SHARES = (1.0, 0.7, 0.5, 0.3)  # ψ; of a mapping network also 0, its mean
THRESHOLDS = (2.0, 1.0, 0.5, 0.2)
NUM_JUDGED = 500  # truncated pictures that are measured
JUDGED = ("precision", "recall", "coverage")  # metrics of the judge that are shown
NUM_CLASSES = 12  # columns, at most
NUM_ROWS = 6  # pictures that are shown as every class, or moved to every group
NUM_OWN = 3  # generated pictures that are projected, to see how well that can be done
NUM_MOVED = 100  # pictures that are moved to every group, to see where they arrive

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Asked:
    """What is explored: a generator's space, what it can be told, and how much of it is shown."""

    space: Space
    model: ImageModel
    seed: int = 0
    num: int = 8
    judged: Callable[[Tensor], dict[str, float]] | None = None  # metrics of images, where the run's data are at hand

    def randomness(self, place: int = 0) -> Randomness:
        """Return the randomness of a section."""
        return Randomness(self.seed, place)


@dataclass(frozen=True, eq=False)
class Found:
    """Pictures, numbers by name, and latents to keep."""

    exhibits: tuple[Exhibit, ...]
    numbers: dict[str, Any]
    latents: dict[str, Tensor] = field(default_factory=dict)


def walks(asked: Asked, progress: Progress) -> Found:
    """Show loops through latents as an animation, and the first of them as a grid."""
    space = asked.space
    randomness = asked.randomness()
    stops = space.latents(randomness, asked.num * asked.num, "walk").view(asked.num, asked.num, -1)
    told = space.told(randomness, asked.num)
    loops = []
    for place in range(asked.num):
        progress(place / asked.num)
        loops.append(images_of(space, closed_walk(stops[place], FRAMES), _all(told, place, asked.num * FRAMES)))
    moving, _ = animated(torch.stack(loops, 1))
    shares = torch.linspace(0, 1, STEPS)
    legs = [slerp(one, other, shares) for one, other in zip(stops[0], stops[0].roll(-1, 0), strict=True)]
    words = [f"{place + 1} to {(place + 1) % asked.num + 1}" for place in range(asked.num)]
    still = images_of(space, torch.cat(legs), _all(told, 0, asked.num * STEPS))
    class_of = f" All of them are of the class {names_of(asked.model, told)[0]}." if told is not None else ""
    title = "A walk through the latents"
    intro = (
        "Between any two pictures there is a way of pictures. Where all of them look real, the generator has learned "
        "more than single pictures; where they fade into each other or break, it has not."
    )
    if asked.model.networks.categorical_codes:
        intro += " Where the category of the code changes on the way, a picture may jump."
    looped = f"Each of {asked.num} pictures wanders past {asked.num} random ones, and back to where it began."
    by_row = (
        "The first of these walks: each row goes from one random picture to the next, and the last row back to the "
        f"first picture.{class_of}"
    )
    return Found(
        (
            Exhibit("animation", "walk", title, moving, looped, intro),
            picture("walk-grid", title, labelled_grid(still, words), by_row),
        ),
        {"walk": {"stops": asked.num, "loops": asked.num, "frames": asked.num * FRAMES}},
    )


def by_weights(asked: Asked, progress: Progress) -> Found:
    """Show the directions that the weights of the first layer hold."""
    found = directions_of_weights(asked.space, asked.num, asked.seed)
    layers = _listed(found.layers)
    caption = (
        f"Each row is one direction, the strongest first, read out of the weights of {layers} alone. The picture in "
        "the middle is the same in all rows. To the left and right it is moved along the direction, in standard "
        f"deviations. Beside each row: its share of the squared length of these weights. {_total(found)}"
    )
    title = "Directions in the weights"
    return _directions(asked, found, "directions-weights", title, caption)


def by_activations(asked: Asked, progress: Progress) -> Found:
    """Show the directions in which activations vary most."""
    found = directions_of_activations(asked.space, asked.num, asked.seed)
    of_one = " of the same class" if asked.model.classes else ""
    layers = _listed(found.layers)
    caption = (
        f"The same, but the directions are those in which the activations of {layers} vary most over many random "
        f"pictures{of_one}. Beside each row: the share of their variance that this direction explains. {_total(found)}"
    )
    title = "Directions in the activations"
    return _directions(asked, found, "directions-activations", title, caption)


def _directions(asked: Asked, found: Directions, name: str, title: str, caption: str) -> Found:
    steps = torch.linspace(-3, 3, STEPS)
    randomness = asked.randomness()
    latents = asked.space.latents(randomness, 1, "directions")
    images = along(asked.space, found, latents, asked.space.told(randomness, 1), steps, asked.seed)
    words = [f"{place + 1}:  {_percent(share)}" for place, share in enumerate(_told_shares(found))]
    columns = [f"{step:+.0f}" if step else "0" for step in steps.tolist()]
    numbers = {"layers": list(found.layers), "shares": found.shares.tolist(), "explained": found.explained.tolist()}
    exhibit = picture(name, title, labelled_grid(images, words, columns), caption)
    return Found((exhibit,), {name.replace("-", "_"): numbers}, {name: found.vectors})


def truncations(asked: Asked, progress: Progress) -> Found:
    """Show the same pictures with latents pulled to the middle, and with latents cut at thresholds."""
    space = asked.space
    randomness = asked.randomness()
    latents = space.latents(randomness, NUM_JUDGED, "truncated")
    told = space.told(randomness, NUM_JUDGED)
    codes = codes_of(space, latents, told)
    centre = centre_of(space, asked.seed)
    shares = SHARES if space.mapping is None else (*SHARES, 0.0)
    draws = {f"psi {one:g}": partial(images_of_codes, space, pulled(codes, centre, one), told) for one in shares}
    for limit in THRESHOLDS:
        draws[f"± {limit:g}"] = partial(images_of, space, truncated_normal(latents, limit, randomness), told)
    shown: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, float]] = {}
    for place, (text, draw) in enumerate(draws.items()):
        progress(place / len(draws))
        shown[text], numbers[text] = _measured(asked, draw, told)
    whole = max(numbers["psi 1"]["variety"], 1e-12)
    for one in numbers.values():
        one["variety"] /= whole
    kinds = [] if told is None else names_of(asked.model, told[: asked.num])
    columns = _in_letters(kinds, asked.model.classes)
    legend = _legend(kinds, asked.model.classes)

    def grid(sign: str) -> bytes:
        words = [text for text in shown if text.startswith(sign)]
        return labelled_grid(torch.cat([shown[text] for text in words]), words, columns)

    title = "Truncation"
    intro = (
        "With latents near the middle, many generators draw plainer pictures that are more alike. Others break there: "
        "normal latents of many numbers never come near 0, so a network has not seen such ones in training."
    )
    if asked.model.networks.categorical_codes:
        intro += " A category of the code stays as it is when all latents are pulled to the middle."
    middle = "their mean" if space.mapping is not None else "0, their mean"
    pulling = f"The same pictures with latents pulled towards {middle}: the distance is multiplied by ψ (psi).{legend}"
    cutting = f"The same, but each number of the latents that is beyond ± the threshold is drawn anew.{legend}"
    exhibits = (
        picture("truncation", title, grid("psi"), pulling, intro),
        picture("truncated-normal", title, grid("±"), cutting),
        _table_of_truncation(numbers, title),
    )
    return Found(exhibits, {"truncation": [{"latents": text, **one} for text, one in numbers.items()]})


def _measured(asked: Asked, draw: Callable[[], Tensor], told: Tensor | None) -> tuple[Tensor, dict[str, float]]:
    """Draw a set of pictures; return those that are shown, how far two are apart, and what the judge says if any.

    The other pictures, which may be large, are let go before the next set is drawn.
    """
    images = draw()
    scores = {} if asked.judged is None else asked.judged(images)
    numbers = {"variety": variety(images, told), **{name: scores[name] for name in JUDGED if name in scores}}
    return images[: asked.num].clone(), numbers


def _table_of_truncation(numbers: dict[str, dict[str, float]], title: str) -> Exhibit:
    cells = [[text, *(f"{100 * value:.0f} %" for value in one.values())] for text, one in numbers.items()]
    heads = list(next(iter(numbers.values())))
    caption = f"Variety: how far two of {NUM_JUDGED} pictures are apart, against untruncated ones."
    if len(heads) > 1:
        caption += (
            " Precision: the share of them that are near real ones. Recall and coverage: the share of real ones that "
            f"they reach. A share of {NUM_JUDGED} has a standard error of up to {50 / NUM_JUDGED**0.5:.1f} points. "
            "Compare these numbers with each other alone; `equipoise evaluate` takes more pictures."
        )
    return rows("truncation-scores", title, ["latents", *heads], cells, caption)


# Pictures that are given


def projections(asked: Asked, names: list[str], pictures: Tensor, progress: Progress) -> Found:
    """Show the nearest pictures to given ones [N, C, H, W] that the generator can draw, and what lies between them."""
    space = asked.space
    randomness = asked.randomness(1)
    own = images_of(space, space.latents(randomness, NUM_OWN, "own"), space.told(randomness, NUM_OWN))
    found = projected(space, torch.cat([pictures, own]), asked.randomness(), progress=progress)
    num = len(pictures)
    own_errors = found.rmse[num:].tolist()
    ceiling = sum(own_errors) / NUM_OWN
    grid = rows_of(torch.cat([pictures, own]), found.images, found.random)
    words = [*(_fitted(name) for name in drawable(names)), *["its own"] * NUM_OWN]
    errors = ", ".join(f"{error:.1f}" for error in found.rmse[:num].tolist())
    nearest = ", ".join(f"{error:.1f}" for error in found.nearest[:num].tolist())
    caption = (
        f"Left, what was given; in the middle, the nearest picture that the generator was found to draw, with an error "
        f"of {errors} (of 255); right, the nearest of {NUM_CANDIDATES:,} random ones, with {nearest}. The lower rows "
        f"are pictures of the generator's own, for comparison. It can draw these without an error; the search gets to "
        f"{ceiling:.1f} on average ({min(own_errors):.1f} to {max(own_errors):.1f}).{_legend(names, names)}"
    )
    title = "Your pictures" if num > 1 else "Your picture"
    exhibits = [picture("projection", title, labelled_grid(grid, words, ["given", "found", "random"]), caption)]
    if num > 1:
        exhibits.append(_between(asked, names, pictures, found, title))
    if num == 3:
        exhibits.append(_sum(asked, pictures, found, title))
    labels = None if found.labels is None else names_of(asked.model, found.labels)
    numbers = [
        {
            "image": name,
            "rmse": float(found.rmse[place]),
            "psnr": found.psnr[place],
            "nearest_random_rmse": float(found.nearest[place]),
            **({} if labels is None else {"label": labels[place]}),
        }
        for place, name in enumerate(names)
    ]
    latents = {"projected": found.latents[:num]}
    if found.labels is not None:
        latents["labels"] = found.labels[:num]
    return Found(tuple(exhibits), {"projection": numbers, "own_rmse": ceiling, "own_rmses": own_errors}, latents)


def _between(asked: Asked, names: list[str], pictures: Tensor, found: Projection, title: str) -> Exhibit:
    """Show the way from each given picture to the next."""
    shares = torch.linspace(0, 1, STEPS)
    told_rows = _as_rows(asked.model, found.labels)
    shown = []
    for place in range(len(pictures) - 1):
        latents = slerp(found.latents[place], found.latents[place + 1], shares)
        told = None if told_rows is None else blended(told_rows[place : place + 2], STEPS)
        images = images_of(asked.space, latents, told)
        shown += [pictures[place : place + 1], images, pictures[place + 1 : place + 2]]
    words = [_fitted(name) for name in drawable(names)[:-1]]
    columns = ["given", *[""] * STEPS, "given"]
    caption = "The way from each picture to the next: between the given ones, what the generator draws."
    caption += _legend(names[:-1], names)
    return picture("between", title, labelled_grid(torch.cat(shown), words, columns), caption)


def _sum(asked: Asked, pictures: Tensor, found: Projection, title: str) -> Exhibit:
    """Show the sum of two pictures less the third."""
    one, other, less = found.latents[:3]
    told = None
    as_class = ""
    if found.labels is not None:
        told = found.labels[:1]
        kinds = [f'"{name}"' for name in names_of(asked.model, found.labels[:3])]
        as_class = (
            f" Classes are not added: the three were found as {kinds[0]}, {kinds[1]} and {kinds[2]}, and the sum is "
            f"drawn as the class of the first, {kinds[0]}."
        )
    result = images_of(asked.space, on_shell((one + other - less)[None]), told)
    nothing = torch.ones_like(result)
    shown = torch.cat([pictures[:3], nothing, found.images[:3], result])
    caption = (
        "Arithmetic: what the first picture has, with what the second one has and the third one has not. Single "
        f"latents are a poor measure of what pictures have in common, so this works now and then.{as_class}"
    )
    grid = labelled_grid(shown, ["given", "found"], ["a", "b", "c", "a + b - c"])
    return picture("sum", title, grid, caption)


# Kinds of pictures


def classes(asked: Asked, ways: list[list[str]], progress: Progress) -> Found:
    """Show the same latents as every class, and ways from one class to another."""
    names = list(asked.model.classes)
    counts = _counts(asked.model)
    shown = sorted(sorted(range(len(names)), key=lambda place: -counts[place])[:NUM_CLASSES])
    columns = [names[place] for place in shown]
    heads = _in_letters(columns, names)
    every = torch.stack([row_of(asked.model, name) for name in columns])
    space = asked.space
    latents = space.latents(asked.randomness(), NUM_ROWS, "classes")
    images = images_of(space, *each_with(latents, every))
    some = f" The {len(shown)} most frequent of {len(names)} are shown." if len(shown) < len(names) else ""
    caption = f"Each row is one and the same latent, drawn as {', '.join(columns)}.{some}{_legend(columns, names)}"
    title = "Classes"
    intro = "What a row has in common is what the generator keeps apart from the class, such as the weight of a stroke."
    exhibits = [picture("classes", title, labelled_grid(images, [""] * NUM_ROWS, heads), caption, intro)]
    ways = ways or _first_way(asked.model, columns)
    for place, way in enumerate(ways):
        ends = torch.stack([row_of(asked.model, name) for name in way])
        steps = steps_through(len(way), STEPS)
        images = images_of(space, *each_with(latents, blended(ends, steps)))
        caption = f"From {' to '.join(way)}: the latents stay, and the vector of the class goes in a straight line."
        grid = labelled_grid(images, [""] * NUM_ROWS, _marks(_in_letters(way, names), steps))
        caption += _legend(way, names)
        exhibits.append(picture(f"classes-{place + 1}", title, grid, caption))
    return Found(tuple(exhibits), {"classes": columns, "ways": ways})


def _first_way(model: ImageModel, columns: list[str]) -> list[list[str]]:
    """Return the way that is shown where none is asked for; of a single label, from none to it if there is none."""
    if len(columns) > 1:
        return [columns[:2]]
    return [[NO_LABEL, *columns]] if model.sets else []


def grouped(asked: Asked, extract: Extract, seen_by: str, num: int, progress: Progress) -> Found:
    """Show groups of random pictures, and pictures that are moved from their own group to every other one."""
    space = asked.space
    found = groups_of(space, extract, asked.randomness(), asked.num, num)
    progress(0.5)
    means = images_of(space, on_shell(found.means))
    lines = []
    words = []
    for place, size in enumerate(found.sizes):
        members = found.images[found.places == place]
        filled = members[torch.arange(STEPS) % len(members)]
        lines.append(torch.cat([means[place : place + 1], filled]))
        words.append(f"{place + 1}:  {_percent(size / num)}")
    columns = ["mean", *[""] * STEPS]
    of_groups = (
        f"{num:,} random pictures, parted into {len(words)} groups by what {seen_by} sees. Left, what the mean of a "
        "group's latents shows; then pictures of the group. Beside each row: the group's share."
    )
    arrived, strays = _arrivals(asked, found)
    starts = found.latents[:NUM_ROWS]
    to_all = _to_all_groups(found, starts, found.places[:NUM_ROWS])
    shown = torch.cat([found.images[:NUM_ROWS, None], images_of(space, to_all).unflatten(0, (NUM_ROWS, -1))], 1)
    of_moves = (
        "The same pictures, moved to every group: the mean latents of their own group are taken away, those of the "
        f"other one are added, {MOVES:g} times. Of {NUM_MOVED} pictures {_percent(arrived)} arrive in the group that "
        f"they are moved to; moved as far in random directions, {_percent(strays)} do."
    )
    title = "Groups"
    intro = "The generator was told no classes. These are groups that it has learned by itself."
    heads = ["start", *(str(place + 1) for place in range(len(words)))]
    return Found(
        (
            picture("groups", title, labelled_grid(torch.cat(lines), words, columns), of_groups, intro),
            picture("groups-moved", title, labelled_grid(shown.flatten(0, 1), [""] * NUM_ROWS, heads), of_moves),
        ),
        {"groups": {"sizes": found.sizes, "seen_by": seen_by, "arrived": arrived, "arrived_by_chance": strays}},
        {"groups": found.means},
    )


def _to_all_groups(found: Groups, latents: Tensor, places: Tensor) -> Tensor:
    """Return latents [N · K, Z], each of N moved to each of K groups."""
    num = len(found.means)
    own = found.means[places].repeat_interleave(num, 0)
    return moved(latents.repeat_interleave(num, 0), own, found.means.repeat(len(latents), 1))


def _arrivals(asked: Asked, found: Groups) -> tuple[float, float]:
    """Return the share of pictures that arrive where they are moved to, and of those moved as far at random."""
    num = len(found.means)
    latents = found.latents[-NUM_MOVED:]
    places = found.places[-NUM_MOVED:]
    wanted = torch.arange(num).repeat(len(latents))
    others = wanted != places.repeat_interleave(num)
    if not others.any():
        return 1.0, 1.0
    own = found.means[places].repeat_interleave(num, 0)
    way = found.means.repeat(len(latents), 1) - own
    noise = asked.randomness().normal("strays", *way.shape)
    stray = noise * (way.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))
    begun = latents.repeat_interleave(num, 0)
    shares = []
    for step in (way, stray):
        images = images_of(asked.space, on_shell(begun + MOVES * step)[others])
        shares.append(float((found.nearest(images) == wanted[others]).float().mean()))
    return shares[0], shares[1]


# Words


def _all(told: Tensor | None, place: int, num: int) -> Tensor | None:
    """Return one label for so many images."""
    return None if told is None else told[place : place + 1].expand(num, *told.shape[1:])


def names_of(model: ImageModel, labels: Tensor) -> list[str]:
    """Return in words what labels [N], or 0 and 1 [N, L], stand for."""
    if labels.ndim == 2:
        on = [(row > 0.5).nonzero()[:, 0].tolist() for row in labels]
        return [", ".join(model.classes[place] for place in places) or NO_LABEL for places in on]
    places = labels.tolist()
    return [model.classes[model.group_classes[place] if model.group_classes else place] for place in places]


def _as_rows(model: ImageModel, labels: Tensor | None) -> Tensor | None:
    if labels is None or labels.ndim == 2:
        return labels
    return F.one_hot(labels, model.num_told).float()


def _counts(model: ImageModel) -> list[int]:
    """Return how often each class or label occurs."""
    counts = [0] * len(model.classes)
    for kind, count in enumerate(model.counts):
        places = model.sets[kind] if model.sets else (model.group_classes or range(len(counts)))[kind : kind + 1]
        for place in places:
            counts[place] += count
    return counts


def _marks(way: list[str], steps: int) -> list[str]:
    """Return words above the columns of a way through labels: the labels where it reaches them."""
    leg = (steps - 1) // (len(way) - 1)
    return [way[step // leg] if step % leg == 0 else "" for step in range(steps)]


def _in_letters(shown: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return what stands in pictures for names, or several of them with commas between: numbers where letters lack.

    They are those of the names among all, so that a number is the same name in all pictures.
    """
    drawn = dict(zip(names, drawable(names), strict=True))
    return [drawn.get(text) or ", ".join(drawn.get(part, part) for part in text.split(", ")) for text in shown]


def _legend(shown: Sequence[str], names: Sequence[str]) -> str:
    """Return the sentence that tells the names of the numbers that stand in a picture."""
    words = set(", ".join(_in_letters(shown, names)).split(", "))
    numbered = [f"{word} is {name}" for word, name in zip(drawable(names), names, strict=True) if word != name]
    numbered = [text for text in numbered if text.split(" ")[0] in words]
    return f" In the picture, {', '.join(numbered)}." if numbered else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _listed(layers: tuple[str, ...]) -> str:
    return f"the layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers, from {layers[0]} on"


def _total(found: Directions) -> str:
    return f"Together they are {_percent(sum(_told_shares(found)))}."


def _told_shares(found: Directions) -> list[float]:
    """Return which part of all change each direction explains."""
    return (found.shares * found.explained).tolist()


def _fitted(name: str, longest: int = 16) -> str:
    return name[:longest]
