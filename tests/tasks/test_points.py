"""Points in the plane as a task: mixtures and their metrics by hand, CSV files, judges, rivals, refusals."""

import csv
import io
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from equipoise.errors import Option, Setting, Together, UserError
from equipoise.evaluation.rivals import judge_rivals
from equipoise.game.signals import SIGNAL, look_at_round
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players, Role, Terms, make_update
from equipoise.host.deadline import Deadline
from equipoise.randomness import Randomness
from equipoise.recipe import Points
from equipoise.storage.records import deciding
from equipoise.tasks import points
from equipoise.tasks.points import SIDE, Mixture, PointTask, metrics_of, mixture_named, mode_metrics, scatter

ZERO, ONE = torch.zeros(2), torch.ones(2)
CROSS = Mixture(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]]), 0.5)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw mixtures of few points, and judge by few."""
    monkeypatch.setattr(points, "NUM_POINTS", 4_000)
    monkeypatch.setattr(points, "NUM_JUDGED", 400)


@pytest.fixture
def ring(make_task: Callable[..., Any]) -> PointTask:
    """Return the task of the eight modes on a circle."""
    return make_task("points", "ring")


def written(path: Path, lines: list[str], end: str = "\n") -> Path:
    """Write a CSV file of these lines."""
    path.write_text(end.join(lines) + end, "utf-8", newline="")
    return path


def drawn(num: int = 300, seed: int = 0) -> list[str]:
    """Return lines of points."""
    values = torch.randn(num, 2, generator=torch.Generator().manual_seed(seed)).tolist()
    return [f"{x:.6f},{y:.6f}" for x, y in values]


# Mixtures


@pytest.mark.parametrize(("name", "num", "deviation"), [("ring", 8, 0.01), ("grid", 25, 0.05), ("spiral", 20, 0.02)])
def test_a_mixture_has_its_modes_and_their_deviation(name: str, num: int, deviation: float) -> None:
    found = mixture_named(name, Points())
    assert found is not None
    assert (len(found.centres), found.deviation) == (num, deviation)
    assert len(found.centres.unique(dim=0)) == num
    apart = torch.cdist(found.centres, found.centres).fill_diagonal_(math.inf).min().item()
    assert apart > 2 * points.GOOD * deviation, "a good point is good by one mode only"
    drawn = found.draw(40_000, torch.Generator().manual_seed(0))
    distances, indices = found.nearest(drawn)
    assert (distances.square().mean() / 2).sqrt().item() == pytest.approx(deviation, rel=0.02)
    counts = torch.bincount(indices, minlength=num)
    assert (counts - 40_000 / num).abs().max() < 5 * (40_000 / num) ** 0.5


def test_a_mixture_may_be_wider_and_a_file_is_none() -> None:
    wide = mixture_named("ring", Points(deviation=0.2))
    assert wide is not None
    assert wide.deviation == 0.2
    assert mixture_named("moons.csv", Points()) is None


def test_the_ring_lies_on_the_unit_circle_and_the_grid_on_even_numbers() -> None:
    assert points.ring().centres.norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    steps = (-4.0, -2.0, 0.0, 2.0, 4.0)
    assert {(x, y) for x, y in points.grid().centres.tolist()} == set(product(steps, steps))


def test_modes_good_points_and_divergence_by_hand() -> None:
    """Three points are nearest to one mode, of which one is 3.8 deviations away; the fourth is another mode's."""
    given = torch.tensor([[0.0, 0.0], [0.0, 0.2], [1.9, 0.0], [4.0, 4.0]])
    found = mode_metrics(CROSS, ZERO, ONE, given)
    assert found["modes"] == 2
    assert found["good"] == 3 / 4
    assert found["kl"] == pytest.approx(0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.25))


@pytest.mark.parametrize(
    ("counts", "modes", "divergence"),
    [
        ((5, 5, 5, 5), 4, 0.0),
        ((20, 0, 0, 0), 1, math.log(4)),
        ((10, 10, 0, 0), 2, math.log(2)),
        ((10, 5, 5, 0), 3, 0.5 * math.log(2) + 2 * 0.25 * math.log(1)),
        ((8, 4, 2, 2), 4, 0.5 * math.log(2) + 0.25 * math.log(1) + 2 * 0.125 * math.log(0.5)),
    ],
)
def test_divergence_of_known_histograms(counts: tuple[int, ...], modes: int, divergence: float) -> None:
    at_centres = torch.cat([centre.expand(num, 2) for centre, num in zip(CROSS.centres, counts, strict=True)])
    found = mode_metrics(CROSS, ZERO, ONE, at_centres)
    assert found == {"modes": modes, "good": 1.0, "kl": pytest.approx(divergence, abs=1e-12)}


def test_a_point_is_good_within_three_deviations_of_its_mode() -> None:
    border = 3 * CROSS.deviation
    assert mode_metrics(CROSS, ZERO, ONE, torch.tensor([[border - 1e-4, 0.0]]))["good"] == 1
    assert mode_metrics(CROSS, ZERO, ONE, torch.tensor([[0.0, -border - 1e-4]])) == {
        "modes": 0,
        "good": 0.0,
        "kl": pytest.approx(math.log(4)),
    }


def test_modes_are_counted_in_the_data_s_own_units() -> None:
    shift = torch.tensor([1.0, -2.0])
    scale = torch.tensor([3.0, 0.5])
    standardised = (CROSS.centres - shift) / scale
    assert mode_metrics(CROSS, shift, scale, standardised)["good"] == 1


def test_only_a_mixture_has_metrics_of_modes() -> None:
    names = {metric.name for metric in metrics_of(CROSS)} - {metric.name for metric in metrics_of(None)}
    assert names == {"modes", "good", "kl"}
    assert deciding(metrics_of(None)) == deciding(metrics_of(CROSS))


# CSV files


@pytest.mark.parametrize("head", [[], ["x,y"], ["longitude,latitude"], ["\ufeffx,y"], ["", "  ", *drawn(1)]])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_is_read_with_names_or_without_and_whatever_ends_its_lines(
    tmp_path: Path, head: list[str], end: str
) -> None:
    lines = drawn()
    path = written(tmp_path / "a.csv", [*head, *lines, ""], end)
    expected = [list(map(float, line.split(","))) for line in [*(line for line in head if "." in line), *lines]]
    assert torch.equal(points.read_points(path, "a.csv").points, torch.tensor(expected))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("{0};{1}", "semicolons"),
        ("{0}\t{1}", "tabs"),
        ("{0}   {1}", "blanks"),
        ("  {0} {1} ", "blanks"),
        ("0,{0},7,{1}", "x"),
        ('"a b";{1};{0}', "X"),
        ("{0}, {1}", ""),
    ],
)
@pytest.mark.parametrize("comma", [False, True])
def test_separators_decimal_commas_and_further_columns_are_read_where_they_are_clear(
    tmp_path: Path, form: str, said: str, comma: bool
) -> None:
    cells = [line.split(",") for line in drawn()]
    lines = [form.format(*line) for line in cells]
    if comma and said in ("semicolons", "tabs", "X"):
        lines = [line.replace(".", ",") for line in lines]
    head = {"x": ["id,x,class,Y"], "X": ["name;y;X"]}.get(said, [])
    found = points.read_points(written(tmp_path / "a.csv", [*head, *lines]), "a.csv")
    assert torch.equal(found.points, torch.tensor([[float(x), float(y)] for x, y in cells]))
    assert said in found.note.replace(",", " ").split() or found.note == said


def test_further_columns_without_the_names_x_and_y_are_refused_by_their_names(tmp_path: Path) -> None:
    lines = [f"7,{line}" for line in drawn()]
    with pytest.raises(UserError) as error:
        points.read_points(written(tmp_path / "a.csv", ["id,width,height", *lines]), "a.csv")
    assert "height" in error.value.problem
    assert error.value.remedies


BROKEN = ("1", "1,2,3", "1,b", "nan,1", "1,inf", "1e400,1")
NAMES = ("a,b", "1;2", '"1,2"')  # in the first line these may be the names of columns


@pytest.mark.parametrize(("broken", "at"), [*product(BROKEN, (0, 1, 7)), *product(NAMES, (1, 7))])
def test_a_line_that_is_no_point_is_named(tmp_path: Path, broken: str, at: int) -> None:
    lines = drawn()
    lines.insert(at, broken)
    with pytest.raises(UserError) as error:
        points.read_points(written(tmp_path / "a.csv", lines), "a.csv")
    assert str(error.value.subject).endswith(f"line {at + 1}")
    assert broken.strip('"') in error.value.problem


@pytest.mark.parametrize(("cell", "is_fine"), [("1e12", True), ("-1.1e12", False), ("1e30", False), ("1e300", False)])
def test_numbers_too_large_to_compute_with_are_refused(tmp_path: Path, cell: str, is_fine: bool) -> None:
    lines = [*drawn(), f"0,{cell}"]
    path = written(tmp_path / "a.csv", lines)
    if is_fine:
        assert points.read_points(path, "a.csv").points.isfinite().all()
        return
    with pytest.raises(UserError) as error:
        points.read_points(path, "a.csv")
    assert f"line {len(lines)}" in str(error.value.subject)
    assert "1e+12" in error.value.problem


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "0 points"),
        (b"x,y\n", "0 points"),
        (b"\xff\xfe\0\0", "CSV"),
        (b"\x89PNG\r\n\x1a\n", "CSV"),
        (b"1,2\n" * 100 + b'3,"' + b"9" * 200_000, "CSV"),
    ],
)
def test_what_holds_no_points_is_refused(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        points.read_points(path, "a.csv")
    assert part in error.value.problem
    assert "a.csv" in str(error.value.subject)


def test_a_folder_or_nothing_is_no_file_of_points(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.csv"):
        with pytest.raises(UserError) as error:
            points.read_points(path, str(path))
        assert Option("task", "images") in error.value.remedies


def test_samples_are_written_as_a_file_that_can_be_read_again(ring: PointTask, tmp_path: Path) -> None:
    model = ring.model()
    torch.manual_seed(0)
    batches = list(model.samples(model.network(), 600, 3, None))
    told = model.write(batches, tmp_path / "new" / "points.csv")
    assert told.startswith("600 ")
    again = points.read_points(tmp_path / "new" / "points.csv", "points.csv").points
    torch.testing.assert_close(again, torch.cat(batches), rtol=1e-6, atol=0)
    head = next(csv.reader(io.StringIO((tmp_path / "new" / "points.csv").read_text())))
    assert head == ["x", "y"]


# From a source to a task


def test_points_are_split_by_content_and_the_digest_knows_the_splits(
    open_source: Callable[..., Any], tmp_path: Path
) -> None:
    lines = drawn()
    one = written(tmp_path / "one.csv", lines)
    other = written(tmp_path / "other.csv", ["x,y", *reversed(lines)])
    doubled = written(tmp_path / "doubled.csv", [*lines, *lines])

    def opened(path: Path, *settings: str) -> Any:
        return open_source("points", path, *settings)[1]

    def test_of(source: Any) -> set[tuple[float, ...]]:
        return {tuple(point) for point in source.of("test").tolist()}

    assert test_of(opened(one)) == test_of(opened(other)) == test_of(opened(doubled))
    assert opened(doubled).num_duplicates == 300
    assert test_of(opened(one)) < test_of(opened(one, "data.test=0.3"))
    digests = [opened(one).digest, opened(one, "data.test=0.3").digest, opened(one, "data.validation=0.3").digest]
    assert len(set(digests)) == 3
    assert opened(one).digest == opened(one).digest
    assert len(opened(one).digest) == 64


def test_a_mixture_is_the_same_each_time_and_another_by_its_deviation(open_source: Callable[..., Any]) -> None:
    def opened(*settings: str) -> Any:
        return open_source("points", "ring", *settings)[1]

    assert torch.equal(opened().points, opened().points)
    assert opened().digest == opened().digest
    assert opened().digest != opened("task.deviation=0.2").digest
    assert "8" in opened().summary(open_source("points", "ring")[0])
    assert torch.equal(torch.cat(list(opened().everything())), opened().points)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("networks.conditional=true", "networks.conditional"),
        ("networks.discriminator_norm=layer", "networks.discriminator_norm"),
        ("augment.kinds=flip", "augment.kinds"),
        ("augment.probability=0.5", "augment.probability"),
    ],
)
def test_settings_that_mean_nothing_for_points_are_refused(
    open_source: Callable[..., Any], setting: str, field: str
) -> None:
    recipe, source = open_source("points", "ring", setting)
    with pytest.raises(UserError) as error:
        source.settled(recipe)
    assert isinstance(error.value.subject, Setting)
    assert error.value.subject.field == field


def test_too_few_points_are_refused_with_what_is_there(open_source: Callable[..., Any], tmp_path: Path) -> None:
    five = written(tmp_path / "five.csv", drawn(5) * 60)
    recipe, source = open_source("points", five)
    with pytest.raises(UserError) as error:
        source.settled(recipe)
    assert "5 distinct" in error.value.problem
    (shares,) = [part for part in error.value.remedies if isinstance(part, Together)]
    settings = [f"{setting.field}={setting.value}" for setting in shares.settings]
    recipe, source = open_source("points", five, *settings)
    assert source.settled(recipe) == recipe
    many = written(tmp_path / "many.csv", drawn(400))
    recipe, source = open_source("points", many, "game.batch=512")
    with pytest.raises(UserError) as error:
        source.settled(recipe)
    assert "512" in error.value.problem
    (remedy,) = [part for part in error.value.remedies if isinstance(part, Setting)]
    recipe, source = open_source("points", many, f"game.batch={remedy.value}")  # type: ignore[union-attr]
    assert source.settled(recipe) == recipe


def test_too_few_points_to_train_on_are_still_read(open_source: Callable[..., Any], tmp_path: Path) -> None:
    few = written(tmp_path / "few.csv", [f"{index},{index}" for index in range(99)])
    recipe, source = open_source("points", few)
    assert len(source.points) == 99
    with pytest.raises(UserError) as error:
        source.settled(recipe)
    assert "99" in error.value.problem


def test_the_test_split_holds_no_point_of_another(ring: PointTask) -> None:
    test = {tuple(point) for point in ring.source.of("test").tolist()}
    for split in ("train", "validation"):
        assert test.isdisjoint(tuple(point) for point in ring.source.of(split).tolist())


def test_the_record_says_what_the_points_are(ring: PointTask, make_task: Callable[..., Any], tmp_path: Path) -> None:
    found = ring.describe()
    assert (found.source, found.path, found.noun) == ("ring", None, "points")
    assert found.num_train + found.num_validation + found.num_test == 4_000
    path = written(tmp_path / "a.csv", drawn())
    of_file = make_task("points", path).describe()
    assert of_file.path == str(path.resolve())
    assert "modes" not in {metric.name for metric in of_file.metrics}


# The game


def losses(task: PointTask, players: Players, randomness: Randomness) -> list[Tensor]:
    """Return all loss terms of a step."""
    step = StepContext(randomness)
    batch = task.batch(randomness, 16)
    terms = task.discriminator_terms(players, batch, step), task.generator_terms(players, batch, step)
    return [loss.detach() for term in terms for loss in term.losses.values()]


def test_everything_drawn_is_a_function_of_the_position(make_task: Callable[..., Any]) -> None:
    task = make_task("points", "ring", "game.instance_noise=0.1", "game.penalty.kind=wgan-gp", "game.penalty.gamma=1")
    torch.manual_seed(0)
    players = task.players()
    first = losses(task, players, Randomness(3, 64))
    torch.rand(5)  # the global stream must not matter
    assert all(map(torch.equal, first, losses(task, players, Randomness(3, 64))))
    for other in (Randomness(4, 64), Randomness(3, 80), Randomness(3, 64, attempt=1)):
        assert not any(map(torch.equal, first, losses(task, players, other)))


def test_terms_are_those_of_the_loss_for_points_as_the_discriminator_sees_them(make_task: Callable[..., Any]) -> None:
    task = make_task("points", "ring", "game.loss=wasserstein", "game.penalty.kind=none")

    class Sum(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            return given.sum(1)

    class Three(nn.Module):
        def forward(self, latents: Tensor) -> Tensor:
            return torch.full((len(latents), 2), 3.0)

    players = Players(Three(), Sum())
    batch = task.batch(Randomness(0), 16)
    real = batch.sum(1)
    found = task.discriminator_terms(players, batch, StepContext(Randomness(0)))
    torch.testing.assert_close(found.losses["adversarial"], 6.0 - real)
    assert found.stats["real_logit"] == real.mean()
    generated = task.generator_terms(players, batch, StepContext(Randomness(0)))
    torch.testing.assert_close(generated.losses["adversarial"], torch.full((16,), -6.0))


def test_packs_have_a_term_each_and_the_rest_of_a_split_that_fills_none_has_no_logit(
    make_task: Callable[..., Any],
) -> None:
    task = make_task("points", "ring", "game.packing=4", "game.penalty.kind=r1+r2", "game.penalty.gamma=1")
    players = task.players()
    assert [len(terms) for terms in losses(task, players, Randomness(0))] == [4, 4, 4, 4]
    outputs = task.examples("validation", 0, 11).targets
    logits = task.logits(players.discriminator, None, outputs)
    assert torch.equal(logits, players.discriminator(outputs[:8]))
    swapped = torch.cat([outputs[4:8], outputs[:4]])  # as many packs: a smaller batch may have other last bits
    assert torch.equal(logits.flip(0), players.discriminator(swapped))


def test_signals_compare_samples_and_not_packs(make_task: Callable[..., Any]) -> None:
    found = []
    for packing in (1, 2):
        task = make_task("points", "ring", f"game.packing={packing}", "game.penalty.kind=none")
        torch.manual_seed(0)
        players = task.players()
        update = make_update(task.recipe.game, players)
        with look_at_round(players, None, is_whole=True) as look:
            update.round(lambda role, _, task=task, players=players: played(task, players, role))
        found.append([float(look.signals[f"{SIGNAL}{name}"]) for name in ("spread", "nearest")])
    assert found[0] == found[1], "D has not changed anything yet where its own batches are compared"


def played(task: PointTask, players: Players, role: Role) -> Terms:
    """Return a player's terms on the same points each time."""
    step = StepContext(Randomness(0))
    batch = task.batch(step.randomness, 16)
    if role == "discriminator":
        return task.discriminator_terms(players, batch, step)
    return task.generator_terms(players, batch, step)


def test_networks_work_in_standardised_units_and_carry_them_along(
    make_task: Callable[..., Any], tmp_path: Path
) -> None:
    shifted = [f"{1000 + 50 * float(x):.4f},{float(y) / 100:.6f}" for x, y in (line.split(",") for line in drawn())]
    task = make_task("points", written(tmp_path / "a.csv", shifted))
    players = task.players()
    train = task.source.of("train")
    for network in (players.generator, players.discriminator):
        torch.testing.assert_close(network.get_buffer("shift"), train.mean(0), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(network.get_buffer("scale"), train.std(0), rtol=1e-4, atol=0)
    network = task.model().network()
    network.load_state_dict(players.generator.state_dict())
    samples = torch.cat(list(task.model().samples(network, 500, 0, None)))
    assert ((samples - train.mean(0)) / train.std(0)).abs().max() < 20


def test_a_column_of_one_number_does_not_divide_by_zero(make_task: Callable[..., Any], tmp_path: Path) -> None:
    flat = [f"{line.split(',')[0]},7" for line in drawn()]
    task = make_task("points", written(tmp_path / "a.csv", flat))
    torch.manual_seed(0)
    assert all(loss.isfinite().all() for loss in losses(task, task.players(), Randomness(0)))
    assert task.snapshot(task.players().generator).content


# Judges and rivals


def test_each_judge_has_its_split_and_inputs_of_its_own(ring: PointTask) -> None:
    judges = [ring.judge(split) for split in ("validation", "validation, second half", "test")]
    validation = ring.source.of("validation")
    assert [judge.split for judge in judges if judge] == ["validation", "validation, second half", "test"]
    assert [judge.num for judge in judges if judge] == [100, 400, 400]
    assert len({judge.seed for judge in judges if judge}) == 3
    network = ring.players().generator
    shift = network.get_buffer("shift")
    scale = network.get_buffer("scale")
    first, second, test = (judge.real * scale + shift for judge in judges if judge)
    torch.testing.assert_close(torch.cat([first, second]), validation)
    torch.testing.assert_close(test, ring.source.of("test")[:400])


def test_a_split_too_small_for_two_halves_has_no_second_judge(make_task: Callable[..., Any], tmp_path: Path) -> None:
    task = make_task("points", written(tmp_path / "a.csv", drawn(200)))
    assert len(task.source.of("validation")) < 40
    assert task.judge("validation, second half") is None
    assert task.judge("validation").protocol["num_real"] == len(task.source.of("validation"))


@pytest.mark.parametrize("name", ["ring", "grid", "spiral"])
def test_floor_rival_and_ceiling_score_in_their_order(make_task: Callable[..., Any], name: str) -> None:
    task = make_task("points", name, "evaluation.num_samples=1000")
    judge = task.judge("validation")
    failures: list[str] = []
    found = judge_rivals(task.rivals(), judge, Deadline(60), failures.append).rivals.scores
    assert [score.role for score in found] == ["floor", "rival", "ceiling"]
    assert not failures
    floor, rival, ceiling = found
    assert ceiling.loss < rival.loss < floor.loss
    assert floor.loss > 3 * floor.error
    assert ceiling.values["good"] > 0.98
    assert ceiling.values["modes"] == len(task.source.mixture.centres)


def test_the_floor_is_one_gaussian_of_the_same_moments_also_on_a_line(
    make_task: Callable[..., Any], tmp_path: Path
) -> None:
    line = [f"{1e4 * float(x):.2f},{2e4 * float(x):.2f}" for x, _ in (line.split(",") for line in drawn())]
    for lines in (drawn(), line):
        task = make_task("points", written(tmp_path / f"{lines is line}.csv", lines))
        floor = task.rivals()[0]
        found = torch.cat([floor.outputs("validation", begin, 1_000) for begin in range(0, 20_000, 1_000)]).double()
        train = task.source.of("train").double()
        scale = train.std(0)
        assert ((found.mean(0) - train.mean(0)) / scale).abs().max() < 5 / 20_000**0.5
        outer = torch.outer(scale, scale)
        torch.testing.assert_close(torch.cov(found.T) / outer, torch.cov(train.T) / outer, rtol=0, atol=0.05)


def test_rivals_differ_by_position_and_the_ceiling_is_real(ring: PointTask) -> None:
    floor, density, ceiling = ring.rivals()
    train = ring.source.of("train")
    for rival in (floor, density):
        assert torch.equal(rival.outputs("test", 0, 5), rival.outputs("validation", 0, 5))
        assert not torch.equal(rival.outputs("test", 0, 5), rival.outputs("test", 5, 5))
    assert torch.equal(ceiling.outputs("test", 3, 4), train[3:7])
    assert ceiling.num == len(train)


def test_a_kernel_density_estimate_is_wider_by_scotts_bandwidth(ring: PointTask) -> None:
    train = ring.source.of("train")
    found = torch.cat([ring.rivals()[1].outputs("test", begin, 1_000) for begin in range(0, 20_000, 1_000)])
    bandwidth = train.var(0) * len(train) ** (-1 / 3)
    torch.testing.assert_close(found.var(0), train.var(0) + bandwidth, rtol=0.03, atol=0)


def test_a_measurement_has_a_value_for_every_metric(ring: PointTask) -> None:
    judge = ring.judge("validation")
    assert judge is not None
    found = judge.measure([ring.examples("train", 0, judge.num).targets])
    assert found.values.keys() == {metric.name for metric in judge.metrics}
    assert found.loss == found.values["mmd"]
    assert found.values["good"] == pytest.approx(0.989, abs=0.02), "of a Gaussian in the plane, 1 − exp(−9/2)"


# What is drawn and shown


def test_examples_and_outputs_belong_to_their_positions(ring: PointTask) -> None:
    validation = ring.examples("validation", 0, 1_000).targets
    assert torch.equal(ring.examples("validation", 3, 5).targets, validation[3:8])
    torch.manual_seed(0)
    generator = ring.players().generator
    one = ring.outputs(generator, Randomness(5), "validation", 0, 10)
    assert one.shape == (10, 2)
    assert torch.equal(one, ring.outputs(generator, Randomness(5), "test", 0, 10))
    assert not torch.equal(one, ring.outputs(generator, Randomness(5, 10), "validation", 10, 10))
    samples = torch.cat(list(ring.model().samples(generator, 300, 5, None)))
    chunks = ((0, 250), (250, 50))
    parts = [ring.outputs(generator, Randomness(5, begin), "test", begin, size) for begin, size in chunks]
    assert torch.equal(samples, torch.cat(parts))
    logits = ring.logits(ring.players().discriminator, None, one)
    assert logits.shape == (10,)


def test_points_have_no_classes_and_take_no_inputs(ring: PointTask, tmp_path: Path) -> None:
    model = ring.model()
    with pytest.raises(UserError) as error:
        list(model.samples(model.network(), 3, 0, "seven"))
    assert error.value.subject == Option("label", "seven")
    with pytest.raises(UserError) as error:
        model.applied(model.network(), tmp_path)
    assert error.value.subject == tmp_path


def test_a_scatter_shows_points_in_their_places_and_leaves_out_those_beyond(tmp_path: Path) -> None:
    far = [[1e30, 0.0], [-5.0, 0.0]]
    content = scatter(torch.tensor([[0.5, 0.5], [-1.0, 0.0], *far]), (-1.0, -1.0, 1.0, 1.0))
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (SIDE, SIDE)
    middle = SIDE // 2
    quarter = SIDE // 4
    for row, column in ((quarter, 3 * quarter), (middle, 0)):
        assert pixels[row - 2 : row + 3, max(0, column - 2) : column + 3].min() < 150
    pixels = pixels.copy()
    pixels[quarter - 5 : quarter + 6, 3 * quarter - 5 : 3 * quarter + 6] = 255
    pixels[middle - 5 : middle + 6, :6] = 255
    assert (pixels == 255).all()


def test_exhibits_show_the_share_of_each_known_mode(
    ring: PointTask, make_task: Callable[..., Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    found = ring.exhibits(ring.players().generator)
    assert [(exhibit.kind, exhibit.name) for exhibit in found] == [
        ("picture", "best"),
        ("picture", "real"),
        ("rows", "modes"),
    ]
    table = json.loads(found[2].content)
    assert [row[0] for row in table["rows"]][:5] == ["(1, 0)", "(0.707, 0.707)", "(0, 1)", "(-0.707, 0.707)", "(-1, 0)"]
    for column in (1, 2):
        shares = [float(row[column].removesuffix("%")) for row in table["rows"]]
        assert sum(shares) == pytest.approx(100, abs=0.5)
    of_file = make_task("points", written(tmp_path / "a.csv", drawn()))
    assert [exhibit.name for exhibit in of_file.exhibits(of_file.players().generator)] == ["best", "real"]


def test_a_recipe_s_norms_and_dropout_reach_the_networks(make_task: Callable[..., Any]) -> None:
    settings = ("networks.generator_norm=batch", "networks.spectral_norm=true", "networks.dropout=0.5")
    plain, rich = (make_task("points", "ring", *chosen).players() for chosen in ((), settings))
    assert sum(isinstance(part, nn.BatchNorm1d) for part in rich.generator.modules()) == 3
    assert sum(isinstance(part, nn.Dropout) for part in rich.discriminator.modules()) == 3
    assert sum("original" in name for name in rich.discriminator.state_dict()) == 4
    kinds = {type(part) for network in (plain.generator, plain.discriminator) for part in network.modules()}
    assert not kinds & {nn.BatchNorm1d, nn.Dropout}
