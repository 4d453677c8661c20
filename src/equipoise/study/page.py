"""The page of a study: stability maps, vector fields, and a table; and the files that hold them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from equipoise.game.updates import ROLES, make_update
from equipoise.report.charts import Svg
from equipoise.report.report import rendered
from equipoise.storage.files import write_bytes
from equipoise.study.cells import BATCH, BOUNDS, USUAL_BOUNDS, Cell, Played
from equipoise.study.games import begun, field_terms
from equipoise.study.methods import METHODS, game_of, go_together
from equipoise.study.pictures import Path as Way
from equipoise.study.pictures import stability_maps, vector_field
from equipoise.study.studies import OF_TWO_WEIGHTS, Row, protocol, rows_of

PAGE, TABLE = "index.html", "table.json"
TITLES = {
    "dirac": "Dirac-GAN: one real point, one generated point, a linear discriminator",
    "bilinear": "The bilinear game min max θψ: nothing but rotation",
    "ring": "Ring: 8 modes in the plane",
    "grid": "Grid: 25 modes in the plane",
    "digits": "Digits: 14 × 14 pixels, small perceptrons",
}
WALKED = tuple(
    f"{rule} sgd".strip()
    for rule in ("simultaneous", "", "extragradient", "optimistic", "lookahead", "consensus", "competitive")
)
WALKED_BY_NAME = ("sgd", "momentum", "adagrad", "rmsprop", "adam")  # optimizers, where players alternate
STEP, NUM_STEPS = 0.2, 120  # of the ways that are drawn, as in arXiv:1801.04406
SLOW_STEP = 0.05  # of the optimizers, whose steps do not shrink with the gradient


@dataclass(frozen=True)
class Picture:
    """A picture of a study with its file's name and what it shows."""

    file: str
    svg: Svg
    caption: str


def pictures_of(results: Sequence[Played]) -> dict[str, list[Picture]]:
    """Return the pictures of each game that was played."""
    found: dict[str, list[Picture]] = {}
    for game in dict.fromkeys(one.cell.game for one in results):
        of_game = [one for one in results if one.cell.game == game]
        maps = stability_maps(of_game, TITLES[game])
        found[game] = [Picture(f"maps-{game}.svg", maps, caption_of(game, of_game))]
        if game not in OF_TWO_WEIGHTS:
            continue
        for loss in dict.fromkeys(one.cell.loss for one in of_game):
            name = loss.replace(" + ", "-").replace(" ", "-").lower()
            for kind, methods, step in (("", WALKED, STEP), ("-optimizers", WALKED_BY_NAME, SLOW_STEP)):
                svg = field_of(game, loss, methods, step)
                told = (
                    f"Arrows: where both players step. Lines: {NUM_STEPS} rounds of each method with a rate of "
                    f"{step:g} for both from the same start, whatever rates and methods the study plays."
                )
                found[game].append(Picture(f"field-{game}-{name}{kind}.svg", svg, told))
    return found


def caption_of(game: str, results: Sequence[Played]) -> str:
    """Say what a map shows."""
    trains, partly = BOUNDS.get(game, USUAL_BOUNDS)
    num = len({one.cell.seed for one in results})
    seeds = "one seed" if num == 1 else f"by the median score of {num} seeds"
    what = "probability in common with the data"
    if game in OF_TWO_WEIGHTS:
        seeds = "one start"
        what = "how much nearer to the equilibrium than at the start, at the worst of the last fifth of the rounds"
    return (
        f"Each square is one pair of rates after {results[0].cell.rounds:,} rounds, {seeds}. Trains: a score of "
        f"{trains:g} or more ({what}); in part: {partly:g} or more; diverges: a number was not finite, or the weights "
        "grew without bound. An empty frame: not played, or the method and the loss do not go together."
    )


def field_of(game: str, loss: str, methods: Sequence[str], step: float) -> Svg:
    """Return the vector field of a game of two weights under a loss, with the ways of some methods."""
    ways = []
    for method in methods:
        if go_together(METHODS[method], loss):
            cell = Cell(game=game, method=method, loss=loss, generator_rate=step, discriminator_rate=step)
            ways.append(Way(method, trajectory(cell, NUM_STEPS)))
    title = f"{'Bilinear game' if game == 'bilinear' else f'Dirac-GAN, {loss}'}"
    return vector_field(lambda theta, psi: descent(game, loss, theta, psi), ways, title)


def trajectory(cell: Cell, num: int) -> tuple[tuple[float, float], ...]:
    """Return where a game of two weights stands after each of its first rounds, the start first."""
    game = game_of(METHODS[cell.method], cell.loss, cell.generator_rate, cell.discriminator_rate, BATCH)
    arena = begun(cell.game, game, cell.seed)
    update = make_update(game, arena.players)
    points = [arena.point()]
    for index in range(num):
        update.round(arena.terms(index))
        points.append(arena.point())
    return tuple(point for point in points if point is not None)


def descent(name: str, loss: str, theta: float, psi: float) -> tuple[float, float]:
    """Return the direction (−∂L_G/∂θ, −∂L_D/∂ψ) in which both players move at a point of a game of two weights."""
    game = game_of(METHODS["sgd"], loss, 1.0, 1.0, BATCH)
    players = begun(name, game, 0).players
    with torch.no_grad():
        for role, value in zip(ROLES, (theta, psi), strict=True):
            next(players.of(role).parameters()).fill_(value)
    found = []
    for role in ROLES:
        terms = field_terms(game, players, role, 0, is_bilinear=name == "bilinear")
        total = torch.stack([values.mean() for values in terms.losses.values()]).sum()
        (gradient,) = torch.autograd.grad(total, list(players.of(role).parameters()))
        found.append(-gradient.item())
    return found[0], found[1]


def write(folder: Path, results: Sequence[Played]) -> list[Row]:
    """Write the pictures, the table and the page of a study into its folder, and return the table."""
    rows = rows_of(results)
    pictures = pictures_of(results)
    for every in pictures.values():
        for picture in every:
            write_bytes(folder / picture.file, picture.svg.encode())
    write_bytes(folder / TABLE, msgspec.json.format(msgspec.json.encode(rows)))
    games = [
        {"title": TITLES[game], "pictures": every, "rows": [row for row in rows if row.game == game]}
        for game, every in pictures.items()
    ]
    values = {"games": games, "num": len(results), "protocol": protocol(results)}
    write_bytes(folder / PAGE, rendered(values, "study.html.j2").encode())
    return rows
