"""Image generation as a task: terms by hand, draws by position, judges of each split, writers, refusals."""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from small import SMALL
from torch import Tensor, nn

from equipoise.data import splits
from equipoise.data.arrays import picture_in
from equipoise.data.channels import NEUTRAL
from equipoise.data.pool import Pool
from equipoise.errors import Near, Option, Setting, UserError
from equipoise.evaluation.rivals import judge_rivals
from equipoise.game.losses import Loss, loss_named
from equipoise.game.terms import Adjustments, StepContext
from equipoise.game.updates import Players
from equipoise.host.deadline import Deadline
from equipoise.metrics.features.load import Features
from equipoise.metrics.units import difference
from equipoise.randomness import Randomness
from equipoise.recipe import Augment, Images, Recipe, with_settings
from equipoise.runs.compare import protocol_differences
from equipoise.sizes import Size, size_of
from equipoise.storage.records import deciding
from equipoise.tasks import image_judging, image_model, images
from equipoise.tasks.base import chunks
from equipoise.tasks.image_judging import image_exhibits, with_nearest
from equipoise.tasks.images import ImageBatch, ImageModel, ImageSource, ImageTask

CPU = torch.device("cpu")
FLAT = Features("flat", "none", 64, lambda pixels: pixels.flatten(1))
BARS = Features("rows and columns", "none", 16, lambda pixels: 4 * torch.cat([pixels.mean(2), pixels.mean(3)], 2)[:, 0])
START = StepContext(Randomness(0))


def made(pool: Pool, *settings: str) -> ImageTask:
    """Return the task of these images, judged by their pixels."""
    recipe = with_settings(Recipe(), [*SMALL, *settings])
    return ImageTask(recipe, pool, FLAT, loss_named(recipe.game.loss), CPU, torch.float32)


class Linear(nn.Module):
    """D(x) = w · Σx: its gradient is w everywhere."""

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.weight * pixels.flatten(1).sum(1)


class Constant(nn.Module):
    """G(z) = value everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.value.expand(len(latents), 1, 8, 8).clone()


def linear_players() -> Players:
    """Return a game whose gradients are known."""
    return Players(Constant(), Linear())


def is_same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Return whether all tensors are equal, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Terms


@pytest.mark.parametrize("kind", ["r1", "r2", "r1+r2"])
def test_penalties_of_a_linear_discriminator_are_known(pool: Pool, kind: str) -> None:
    task = made(pool, f"game.penalty.kind={kind}", "game.penalty.gamma=2")
    terms = task.discriminator_terms(linear_players(), task.batch(Randomness(0), 8), START)
    for name in kind.split("+"):
        torch.testing.assert_close(terms.losses[name], torch.full((8,), 0.5**2 * 64))
    assert terms.losses.keys() == {"adversarial", *kind.split("+")}


def test_wgan_gp_of_a_linear_discriminator_is_known(pool: Pool) -> None:
    task = made(pool, "game.loss=wasserstein", "game.penalty.kind=wgan-gp", "game.penalty.gamma=10")
    terms = task.discriminator_terms(linear_players(), task.batch(Randomness(0), 8), START)
    torch.testing.assert_close(terms.losses["wgan-gp"], torch.full((8,), 10 * (0.5 * 8 - 1.0) ** 2))


def test_a_lazy_penalty_and_its_schedule_follow_the_step(pool: Pool) -> None:
    task = made(pool, "game.penalty.kind=r1", "game.penalty.gamma=2", "game.penalty.gamma_end=1")
    lazy = made(pool, "game.penalty.kind=r1", "game.penalty.gamma=2", "game.penalty.every=4")
    batch = task.batch(Randomness(0), 8)
    end = task.discriminator_terms(linear_players(), batch, StepContext(Randomness(0), progress=1.0))
    torch.testing.assert_close(end.losses["r1"], torch.full((8,), 0.5 * 0.5**2 * 64))
    for index in range(9):
        terms = lazy.discriminator_terms(linear_players(), batch, StepContext(Randomness(0), index=index))
        is_due = index % 4 == 0
        assert ("r1" in terms.losses) == is_due
        torch.testing.assert_close(terms.stats["penalty"], torch.tensor(is_due * 4 * 0.5**2 * 64))


def test_a_caller_may_bring_a_loss_of_their_own(pool: Pool) -> None:
    own = Loss(lambda real, fake: real * 0 + 3.0, lambda real, fake: fake * 0 + 5.0)
    task = dataclasses.replace(made(pool), loss=own)
    batch = task.batch(Randomness(0), 8)
    assert task.discriminator_terms(linear_players(), batch, START).losses["adversarial"].tolist() == [3.0] * 8
    assert task.generator_terms(linear_players(), batch, START).losses["adversarial"].tolist() == [5.0] * 8


def test_a_relativistic_generator_is_compared_with_the_real_images_of_its_batch(pool: Pool) -> None:
    task = made(pool, "game.loss=relativistic")
    batch = task.batch(Randomness(0), 8)
    found = task.generator_terms(linear_players(), batch, START).losses["adversarial"]
    logits = 0.5 * batch.real.flatten(1).sum(1)
    torch.testing.assert_close(found, nn.functional.softplus(logits))  # softplus(r − f), and f is 0


@pytest.mark.parametrize("penalty", ["r1+r2", "wgan-gp"])
def test_packs_of_images_have_a_term_and_a_logit_each(pool: Pool, penalty: str) -> None:
    task = made(pool, "game.packing=2", f"game.penalty.kind={penalty}", "game.penalty.gamma=1")
    players = task.players()
    batch = task.batch(Randomness(0), 8)
    for terms in (task.discriminator_terms(players, batch, START), task.generator_terms(players, batch, START)):
        assert all(losses.shape == (4,) for losses in terms.losses.values())
    assert task.logits(players.discriminator, None, batch.real[:7]).shape == (3,)


def test_everything_drawn_is_a_function_of_seed_and_samples(pool: Pool) -> None:
    settings = ["task.flip=true", "game.instance_noise=0.1", "game.penalty.kind=wgan-gp", "game.penalty.gamma=1"]
    task = made(pool, *settings, "augment.kinds=translation,cutout,flip", "augment.probability=0.7")
    torch.manual_seed(0)
    players = task.players()

    def losses(seed: int, samples: int, attempt: int = 0) -> list[Tensor]:
        step = StepContext(Randomness(seed, samples, attempt))
        batch = task.batch(step.randomness, 8)
        terms = task.discriminator_terms(players, batch, step), task.generator_terms(players, batch, step)
        return [loss.detach() for term in terms for loss in term.losses.values()]

    first = losses(3, 64)
    torch.rand(5)  # the global stream must not matter
    assert is_same(first, losses(3, 64))
    assert not is_same(first, losses(3, 72))
    assert not is_same(first, losses(4, 64))
    assert not is_same(first, losses(3, 64, attempt=1))


def test_real_and_generated_images_are_augmented_by_draws_of_their_own(pool: Pool) -> None:
    task = made(pool, "augment.kinds=cutout", "augment.probability=1")

    class Spying(Linear):
        def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
            holes.append(pixels == 0)  # no pixel of 8 bits is
            return super().forward(pixels, labels)

    holes: list[Tensor] = []
    batch = task.batch(Randomness(0), 8)
    players = Players(Constant(1.0), Spying())
    task.discriminator_terms(players, batch, START)
    task.generator_terms(players, batch, START)
    assert all(found.any((1, 2, 3)).all() for found in holes)
    real, fake, generated, compared = holes  # a relativistic generator looks at real images, too
    for one, other in ((real, fake), (fake, generated), (generated, compared), (real, compared)):
        assert not torch.equal(one, other)


def test_a_remedy_adds_augmentation_and_noise(pool: Pool) -> None:
    task = made(pool, "augment.kinds=translation", "augment.probability=0.001")
    players = Players(Constant(1.0), Linear())

    def loss(**adjustments: Any) -> Tensor:
        step = StepContext(Randomness(5), adjustments=Adjustments(**adjustments))
        return task.generator_terms(players, task.batch(Randomness(5), 8), step).losses["adversarial"]

    assert torch.equal(loss(), loss())
    assert not torch.equal(loss(), loss(augment=1.0))
    assert not torch.equal(loss(), loss(noise=0.1))


def test_wgan_gp_is_taken_in_float32_whatever_the_networks_compute_in(pool: Pool) -> None:
    class Spying(Linear):
        def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(pixels, labels)

    seen: list[bool] = []
    task = made(pool, "game.loss=wasserstein", "game.penalty.kind=wgan-gp", "game.penalty.gamma=10")
    task = dataclasses.replace(task, precision=torch.bfloat16)
    task.discriminator_terms(Players(Constant(), Spying()), task.batch(Randomness(0), 8), START)
    assert seen == [True, True, False]


def test_augmentation_works_whatever_precision_the_networks_compute_in(pool: Pool) -> None:
    task = made(pool, "augment.kinds=translation,rotation,color", "augment.probability=1")
    task = dataclasses.replace(task, precision=torch.bfloat16)
    torch.manual_seed(0)
    players = task.players()
    batch = task.batch(Randomness(0), 8)
    for terms in (task.discriminator_terms(players, batch, START), task.generator_terms(players, batch, START)):
        assert all(torch.isfinite(loss).all() and loss.dtype == torch.float32 for loss in terms.losses.values())


# Real images and generated ones


def test_a_batch_is_a_stretch_of_one_endless_sequence_of_the_training_images(pool: Pool) -> None:
    task = made(pool)
    whole = task.batch(Randomness(7, 64), 16).real
    parts = [task.batch(Randomness(7, begin), 8).real for begin in (64, 72)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, task.batch(Randomness(7, 64, attempt=1), 16).real)


def test_half_of_a_batch_is_mirrored_where_the_recipe_says_so(pool: Pool) -> None:
    plain, flipped = (made(pool, f"task.flip={flip}").batch(Randomness(0), 64).real for flip in ("false", "true"))
    is_mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain, flipped, strict=True)]
    is_kept = [torch.equal(a, b) for a, b in zip(plain, flipped, strict=True)]
    assert all(kept or mirrored for kept, mirrored in zip(is_kept, is_mirrored, strict=True))
    assert 16 <= sum(mirrored and not kept for kept, mirrored in zip(is_kept, is_mirrored, strict=True)) <= 48


def test_examples_of_a_split_are_always_the_same_and_splits_share_none(pool: Pool) -> None:
    task = made(pool)
    train, validation, test = (task.examples(split, 0, 1000).targets for split in ("train", "validation", "test"))
    assert torch.equal(task.examples("validation", 2, 3).targets, validation[2:5])
    counts = (len(pool.splits.train), len(pool.splits.validation), len(pool.splits.test))
    assert (len(train), len(validation), len(test)) == counts
    assert not any(torch.equal(a, b) for a in train for b in [*validation, *test])


def test_outputs_are_drawn_by_position_and_stay_in_range(pool: Pool) -> None:
    task = made(pool)
    torch.manual_seed(0)
    generator = task.players().generator
    outputs = task.outputs(generator, Randomness(5), "validation", 0, 10)
    assert outputs.shape == (10, 1, 8, 8)
    assert outputs.abs().max() <= 1
    assert torch.equal(outputs, task.outputs(generator, Randomness(5), "test", 0, 10))
    for randomness in (Randomness(6), Randomness(5, 10)):
        assert not torch.equal(outputs, task.outputs(generator, randomness, "validation", 0, 10))
    wild = task.outputs(Constant(3.0), Randomness(5), "validation", 0, 2)
    assert wild.unique().tolist() == [1.0]


def test_what_a_run_draws_is_what_its_evaluations_see(pool: Pool) -> None:
    task = made(pool)
    torch.manual_seed(0)
    generator = task.players().generator
    samples = torch.cat(list(task.model().samples(generator, 300, 5, None)))
    parts = [task.outputs(generator, Randomness(5, begin), "validation", begin, size) for begin, size in chunks(300)]
    assert torch.equal(samples, torch.cat(parts))


# Classes


def test_a_conditional_game_tells_both_players_the_class(pool: Pool) -> None:
    task = made(pool, "networks.conditional=true")
    batch = task.batch(Randomness(0), 8)
    assert isinstance(batch, ImageBatch)
    assert batch.labels is not None
    assert set(batch.labels.tolist()) <= {0, 1}
    torch.manual_seed(0)
    players = task.players()
    one, other = players.generator(torch.zeros(2, 4), torch.tensor([0, 1]))
    assert not torch.equal(one, other)
    labels, targets = task.examples("validation", 0, 4)
    logits = [task.logits(players.discriminator, given, targets) for given in (labels, 1 - labels)]
    assert not torch.equal(*logits)


def test_classes_are_drawn_as_often_as_they_are_trained_on_and_in_every_chunk(pool: Pool) -> None:
    task = made(pool, "networks.conditional=true")

    class Telling(Constant):
        def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            return (labels.float() - 0.5).view(-1, 1, 1, 1)

    assert pool.labels is not None
    model = task.model()
    assert list(model.counts) == np.bincount(pool.labels[pool.splits.train]).tolist()
    uneven = dataclasses.replace(model, counts=(30, 10))
    means = [(uneven.draw(Telling(), Randomness(0, begin), 2_000) > 0).float().mean() for begin in (0, 2_000)]
    for mean in means:
        assert abs(mean - 0.25) < 0.05
    assert means[0] != means[1]
    samples = torch.cat(list(model.samples(Telling(), 300, 0, "standing")))
    assert (samples > 0).all(), "a class may be asked for by its name"


@pytest.mark.parametrize(
    ("settings", "label", "remedy"),
    [
        (["networks.conditional=true"], "standin", Near("standing")),
        (["networks.conditional=false"], "standing", "networks.conditional=true"),
    ],
)
def test_a_class_that_the_generator_does_not_know_is_refused(
    pool: Pool, settings: list[str], label: str, remedy: Any
) -> None:
    task = made(pool, *settings)
    with pytest.raises(UserError) as error:
        list(task.model().samples(Constant(), 3, 0, label))
    assert error.value.subject == Option("label", label)
    (found,) = error.value.remedies
    assert found == remedy or str(found).endswith(str(remedy))


# Judges and rivals


def test_the_halves_of_the_validation_split_judge_training_and_candidates(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "FEW_HELD_OUT", 0)
    num = len(pool.splits.validation)
    for least, cut in ((num // 2, num // 2), (num // 2 + 1, num)):
        monkeypatch.setattr("equipoise.tasks.base.MIN_HALF", least)
        first = image_judging.judged_indices(pool, "validation")
        second = image_judging.judged_indices(pool, "validation, second half")
        assert [*first, *second] == list(pool.splits.validation)
        assert len(first) == cut
    task = made(pool)
    assert task.judge("validation, second half") is None
    assert list(image_judging.judged_indices(pool, "test")) == list(pool.splits.test)


def test_each_judge_has_its_split_its_number_and_inputs_of_its_own(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "FEW_HELD_OUT", 0)
    monkeypatch.setattr("equipoise.tasks.base.MIN_HALF", 8)
    monkeypatch.setattr(image_judging, "NUM_REAL", 150)
    task = made(pool)
    judges = [task.judge(split) for split in ("validation", "validation, second half", "test")]
    found = [(judge.split, judge.num, judge.protocol["num_real"]) for judge in judges if judge is not None]
    half = len(pool.splits.validation) // 2
    assert found == [
        ("validation", 100, half),
        ("validation, second half", 200, len(pool.splits.validation) - half),
        ("test", 150, len(pool.splits.test)),
    ]
    assert len({judge.seed for judge in judges if judge is not None}) == 3
    copying = [judge.measure([torch.randn(judge.num, 1, 8, 8)]).values["copying"] for judge in judges if judge]
    assert [np.isfinite(value) for value in copying] == [True, False, True], "not among the candidates"


def test_where_few_images_are_held_out_all_of_them_judge_the_training_and_its_end(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [*pool.splits.validation, *pool.splits.test]
    monkeypatch.setattr(splits, "FEW_HELD_OUT", len(every) + 1)
    task = made(pool)
    assert task.judge("validation, second half") is None
    for split in ("validation", "test"):
        assert list(image_judging.judged_indices(pool, split)) == every
        judge = task.judge(split)
        assert judge is not None
        assert (judge.protocol["num_real"], judge.protocol["folds"]) == (len(every), 5)
        assert judge.train is not None, "none of them is a training image"
        assert len(judge.measure([torch.randn(judge.num, 1, 8, 8)]).folds) == 5
    monkeypatch.setattr(splits, "FEW_HELD_OUT", len(every))
    apart = made(pool).judge("test")
    assert apart is not None
    assert (apart.protocol["num_real"], "folds" in apart.protocol) == (len(pool.splits.test), False)


def test_images_that_an_evaluation_chose_are_judged_alone_however_few_they_are(pool: Pool) -> None:
    judge = made(pool).judging(pool.splits.train[:30]).judge("test")
    assert judge is not None
    assert judge.protocol["num_real"] == 30
    assert "folds" not in judge.protocol, "they have chosen nothing"


def test_floor_and_ceiling_score_in_their_order(pool: Pool) -> None:
    task = dataclasses.replace(made(pool), features=BARS)
    judge = task.judge("validation")
    assert judge is not None
    failures: list[str] = []
    judged = judge_rivals(task.rivals(), judge, Deadline(60), failures.append)
    found = judged.rivals.scores
    assert [score.role for score in found] == ["floor", "ceiling"]
    assert not failures
    floor, ceiling = found
    gap = difference(judged.measured[ceiling.name], judged.measured[floor.name])
    assert gap.value > 3 * gap.standard_error > 0
    assert ceiling.num == min(judge.num, len(pool.splits.train))


def test_the_floor_has_the_moments_of_each_pixel_and_differs_by_position(pool: Pool) -> None:
    floor, ceiling = made(pool).rivals()
    drawn = floor.outputs("validation", 0, 4_000)
    train = made(pool).examples("train", 0, 1000).targets
    mean = train.mean(0)
    deviation = train.std(0)
    noise = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    for row, column in ((0, 0), (3, 4), (7, 2)):
        expected = (mean[0, row, column] + deviation[0, row, column] * noise).clamp(-1, 1)
        assert abs(drawn[:, 0, row, column].mean() - expected.mean()) < 5 * expected.std() / 4_000**0.5
        assert drawn[:, 0, row, column].std() == pytest.approx(expected.std().item(), rel=0.06)
    assert not torch.equal(floor.outputs("test", 0, 5), floor.outputs("test", 5, 5))
    assert torch.equal(ceiling.outputs("validation", 2, 3), train[2:5])


def test_a_measurement_has_a_value_for_every_metric(pool: Pool) -> None:
    task = made(pool)
    judge = task.judge("validation")
    assert judge is not None
    found = judge.measure([task.examples("train", 0, judge.num).targets])
    assert found.values.keys() == {metric.name for metric in judge.metrics}
    assert found.loss == found.values[deciding(judge.metrics).name]


# What is shown, written and described


def test_exhibits_show_generated_images_beside_real_ones_and_their_neighbours(pool: Pool) -> None:
    task = made(pool)
    found = task.exhibits(Constant())
    assert [exhibit.name for exhibit in found] == ["best", "real", "nearest"]
    assert [exhibit.title for exhibit in found][:2] == ["Samples", "Samples"]
    assert all(exhibit.kind == "picture" and exhibit.content.startswith(b"\x89PNG") for exhibit in found)
    assert task.snapshot(Constant()).content != task.snapshot(Constant(1.0)).content
    few = torch.zeros(3, 1, 8, 8)
    assert image_exhibits(few, few, pool, FLAT)[1].content == found[1].content


def test_the_image_below_is_the_training_image_nearest_to_the_one_above(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_judging, "NUM_COMPARED", 50)  # several parts
    train = made(pool).examples("train", 0, 1000).targets
    chosen = train[[150, 3, 77]]
    noise = torch.randn(chosen.shape, generator=torch.Generator().manual_seed(0))
    noisy = chosen + 0.01 * noise
    assert torch.equal(with_nearest(noisy, pool, FLAT), torch.cat([noisy, chosen]))


def test_the_nearest_image_is_looked_for_among_as_many_as_the_features_allow_and_the_caption_says_so(
    pool: Pool,
) -> None:
    train = made(pool).examples("train", 0, 1000).targets
    dear = dataclasses.replace(FLAT, searched=100)
    assert torch.equal(with_nearest(train[[99]], pool, dear), train[[99, 99]])
    assert not torch.equal(with_nearest(train[[100]], pool, dear), train[[100, 100]])
    caption = image_exhibits(train[:4], train[:2], pool, dear)[2].caption
    assert f"100 of all {len(pool.splits.train)}" in caption
    assert "100" not in image_exhibits(train[:4], train[:2], pool, FLAT)[2].caption


def test_samples_are_one_grid_or_a_folder_of_files_whole_to_the_pixel(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batches = (pixels.float() / 127.5 - 1).split(2)
    model = ImageModel(Recipe().networks, size_of(8), 3)
    told = model.write(batches, tmp_path / "new" / "folder")
    assert told.startswith("5 ")
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == [f"{index:06d}.png" for index in range(5)]
    for file, image in zip(files, pixels, strict=True):
        assert (np.asarray(Image.open(file)) == image.permute(1, 2, 0).numpy()).all()
    model.write(batches, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.mode == "RGB"
    (tmp_path / "odd.png").mkdir()
    model.write(batches, tmp_path / "odd.png")
    assert len(list((tmp_path / "odd.png").iterdir())) == 5, "a folder stays one, whatever its name"


def test_samples_with_transparency_are_files_with_it_and_a_grid_over_grey(tmp_path: Path) -> None:
    pixels = torch.zeros(2, 4, 8, 8, dtype=torch.uint8)
    pixels[:, 0, 4:] = 100
    pixels[:, 3, 4:] = 200
    model = ImageModel(Recipe().networks, size_of(8), 4)
    model.write([pixels.float() / 127.5 - 1], tmp_path / "sprites")
    with Image.open(tmp_path / "sprites" / "000001.png") as image:
        assert image.mode == "RGBA"
        found = np.asarray(image)
    assert (found[:4] == 0).all()
    assert (found[4:] == (128, 0, 0, 200)).all(), "100 of 200 is half of a full red"
    model.write([pixels.float() / 127.5 - 1], tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.mode == "RGB"
        assert image.getpixel((6, 6)) == NEUTRAL


@pytest.mark.parametrize(("channels", "scale"), [(2, None), (7, None), (5, (10.0, 4095.0))])
def test_measured_channels_are_written_as_arrays_in_their_own_numbers_and_shown_in_colour(
    tmp_path: Path, channels: int, scale: tuple[float, float] | None
) -> None:
    pixels = torch.randint(0, 256, (3, channels, 8, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batches = [pixels.float() / 127.5 - 1]
    model = ImageModel(Recipe().networks, Size(9, 8), channels, scale=scale)
    model.write(batches, tmp_path / "arrays")
    files = sorted((tmp_path / "arrays").iterdir())
    assert [file.name for file in files] == ["000000.npy", "000001.npy", "000002.npy"]
    found = np.stack([picture_in(file.read_bytes()) for file in files])
    expected = pixels.permute(0, 2, 3, 1).numpy()
    if scale is None:
        assert found.dtype == np.uint8
        assert (found == expected).all()
    else:
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, scale[0] + expected / 255 * (scale[1] - scale[0]), rtol=1e-5)
    told = model.write(batches, tmp_path / "grid.png")
    assert str(channels) in told
    with Image.open(tmp_path / "grid.png") as image:
        assert image.mode == "RGB"


def test_a_run_of_deep_images_gives_the_scale_to_its_generator(pool: Pool) -> None:
    task = made(pool, "task.black=10", "task.white=4095")
    assert image_model.model_of(task.recipe, task.describe()).scale == task.model().scale == (10.0, 4095.0)
    assert made(pool).model().scale is None


def test_features_made_for_colours_see_transparent_images_over_the_background_and_say_so() -> None:
    seen: list[Tensor] = []

    def extract(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1)

    plain = Features("plain", "digest", 192, extract)
    assert image_judging.of_colours(plain, 3, (255, 255, 255)) is plain
    white, black = (image_judging.of_colours(plain, 4, colour) for colour in ((255, 255, 255), (0, 0, 0)))
    assert len({plain.digest, white.digest, black.digest}) == 3
    clear = -torch.ones(1, 4, 8, 8)
    white.extract(clear)
    black.extract(clear)
    assert torch.equal(seen[0], torch.ones(1, 3, 8, 8))
    assert torch.equal(seen[1], -torch.ones(1, 3, 8, 8))


def test_images_take_no_inputs(pool: Pool, tmp_path: Path) -> None:
    model = made(pool).model()
    with pytest.raises(UserError) as error:
        model.applied(Constant(), tmp_path)
    assert error.value.subject == tmp_path
    with pytest.raises(UserError):
        model.write_applied([], tmp_path)


def test_a_run_can_build_its_generator_from_what_it_wrote_down(pool: Pool) -> None:
    task = made(pool, "networks.conditional=true", "networks.family=dcgan")
    recipe = dataclasses.replace(task.recipe, task=Images(size=8, channels=1))
    again = image_model.model_of(recipe, task.describe())
    torch.manual_seed(0)
    generator = task.players().generator
    fresh = again.network()
    fresh.load_state_dict(generator.state_dict())
    samples = [torch.cat(list(model.samples(generator, 3, 1, None))) for model in (task.model(), again)]
    assert torch.equal(*samples)


def test_rectangles_are_drawn_written_down_and_built_again(pool: Pool) -> None:
    wide = dataclasses.replace(pool, images=np.concatenate([pool.images, pool.images], axis=3))
    task = made(wide, "networks.family=dcgan")
    facts = task.describe().facts
    assert facts == {"size": [16, 8], "channels": 1}
    assert facts == msgspec.json.decode(msgspec.json.encode(facts)), "as data.json gives it back"
    assert image_model.model_of(task.recipe, task.describe()).size == Size(16, 8)
    images = task.outputs(task.players().generator, Randomness(0), "test", 0, 3)
    assert images.shape == (3, 1, 8, 16)
    fitted = ImageSource(wide, CPU).fitted(task.recipe)
    assert isinstance(fitted.task, Images)
    assert fitted.task.size == (16, 8)


def test_a_large_rectangle_is_told_with_its_cost_on_a_cpu_alone(pool: Pool) -> None:
    large = dataclasses.replace(pool, images=np.broadcast_to(np.uint8(0), (len(pool.images), 1, 16, 512)))
    recipe = with_settings(Recipe(), SMALL)
    assert "512 × 16" in ImageSource(large, CPU).summary(recipe)
    assert "512 × 16" not in ImageSource(large, torch.device("cuda")).summary(recipe)


def test_the_record_counts_what_there_is(pool: Pool) -> None:
    found = made(pool).describe()
    assert pool.labels is not None
    assert (found.num_train, found.num_validation, found.num_test) == tuple(map(len, dataclasses.astuple(pool.splits)))
    assert found.classes == ("lying", "standing")
    assert list(found.class_counts) == np.bincount(pool.labels[pool.splits.train]).tolist()
    assert found.facts == {"size": 8, "channels": 1}
    assert found.digest == pool.digest


# From a source to a task


def test_the_recipe_learns_the_size_and_channels_that_were_found(pool: Pool) -> None:
    source = ImageSource(pool, CPU)
    recipe = with_settings(Recipe(), SMALL)
    for settled in (source.fitted(recipe), source.settled(recipe)):
        assert isinstance(settled.task, Images)
        assert (settled.task.size, settled.task.channels) == (8, 1)
    assert (source.facts.size, source.facts.channels, source.facts.num_train) == (8, 1, len(pool.splits.train))
    assert sum(len(part) for part in source.everything()) == 240
    run = source.judged_like(made(pool).describe(), Path("encoder.safetensors")).encoder
    assert run is not None
    assert run.key == pool.digest
    assert "240" in source.summary(recipe)


def test_each_thing_that_was_inferred_is_a_line_of_its_own_whatever_name_it_quotes(pool: Pool) -> None:
    source = ImageSource(dataclasses.replace(pool, notes=("classes: a\nb\x1b[1m", "one scale")), CPU)
    lines = source.summary(with_settings(Recipe(), SMALL)).split("\n")
    assert "240" in lines[0]
    assert [line.split()[-1] for line in lines[1:3]] == ["a?b?[1m", "scale"]


def test_classes_that_are_not_used_or_differ_in_capitals_alone_are_told(pool: Pool) -> None:
    source = ImageSource(dataclasses.replace(pool, classes=("Cat", "cat")), CPU)
    told = source.summary(with_settings(Recipe(), SMALL))
    assert "Cat and cat differ in capitals" in told
    assert "networks.conditional=true" in told
    assert "networks.conditional=true" not in source.summary(with_settings(Recipe(), ["networks.conditional=true"]))
    assert "networks.conditional=true" not in ImageSource(dataclasses.replace(pool, classes=()), CPU).summary(Recipe())
    assert "capitals" not in ImageSource(pool, CPU).summary(Recipe())
    assert "capitals" not in ImageSource(dataclasses.replace(pool, classes=("Maße", "Masse")), CPU).summary(Recipe())


def few(pool: Pool, train: int, validation: int, test: int, distinct: int) -> ImageSource:
    """Return a source with so many images of each split, of which some are distinct."""
    splits = dataclasses.replace(
        pool.splits,
        train=np.arange(train),
        validation=np.arange(validation),
        test=np.arange(test),
    )
    num = train + validation + test
    part = dataclasses.replace(pool, images=pool.images[:num], splits=splits, num_duplicates=num - distinct)
    return ImageSource(part, CPU)


@pytest.mark.parametrize(
    ("counts", "settings", "numbers"),
    [
        ((20, 10, 10, 21), [], ["21 distinct", "22"]),
        ((60, 9, 20, 89), [], ["9 validation", "20 test", "10"]),
        ((60, 20, 9, 89), [], ["20 validation", "9 test", "10"]),
        ((60, 20, 20, 100), ["game.batch=64"], ["60 images", "64"]),
    ],
)
def test_too_few_images_are_refused_with_what_is_there_and_what_is_needed(
    pool: Pool, counts: tuple[int, int, int, int], settings: list[str], numbers: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        few(pool, *counts).settled(with_settings(Recipe(), [*SMALL, *settings]))
    assert all(number in error.value.problem for number in numbers)
    assert "mnist" in str(error.value.subject)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (["augment.probability=0.5"], "augment.probability"),
        (["augment.kinds=flip"], "augment.kinds"),
        (["networks.family=modern", "networks.spectral_norm=true"], "networks.spectral_norm"),
    ],
)
def test_settings_that_do_not_fit_images_are_refused_before_anything_is_built(
    pool: Pool, settings: list[str], field: str
) -> None:
    recipe = with_settings(Recipe(), [*SMALL, *settings])
    with pytest.raises(UserError) as error:
        ImageSource(pool, CPU).settled(recipe)
    assert isinstance(error.value.subject, Setting)
    assert error.value.subject.field == field


def test_classes_are_asked_for_and_are_none(pool: Pool) -> None:
    source = ImageSource(dataclasses.replace(pool, classes=(), labels=None), CPU)
    with pytest.raises(UserError) as error:
        source.settled(with_settings(Recipe(), [*SMALL, "networks.conditional=true"]))
    assert Setting("networks.conditional", False) in error.value.remedies
    words = " ".join(part for part in error.value.remedies if isinstance(part, str)).split()
    assert "folder" in words
    assert "Add" not in words, "no image is missing"


def test_few_images_bring_augmentation_kinds_with_them(
    quick: None, open_source: Callable[..., Any], shapes: Path
) -> None:
    recipe, source = open_source("images", shapes)
    assert source.facts.num_train < 240
    assert recipe.augment == Augment(), "the facts were not known yet"
    assert source.settled(recipe).task.size == 8


def test_a_folder_of_sounds_is_no_folder_of_images(open_source: Callable[..., Any], tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(UserError) as error:
        open_source("images", tmp_path)
    assert "3 .wav" in error.value.problem
    assert str(tmp_path) in str(error.value.subject)


def test_the_generators_images_of_a_class_are_to_differ_as_much_as_real_ones_of_that_class(pool: Pool) -> None:
    assert pool.labels is not None
    task = made(pool, "networks.conditional=true", "game.variety=3")
    batch = task.batch(Randomness(0), 6)
    players = linear_players()
    terms = task.generator_terms(players, batch, START)
    assert terms.losses["variety"].tolist() == [3.0] * 3, "the same image every time"
    assert "variety" not in made(pool).generator_terms(players, batch, START).losses
    train = pool.splits.train
    for label in range(2):
        own = torch.from_numpy(pool.images[train[pool.labels[train] == label][:60]]).float() / 127.5 - 1
        assert task._spread[label] == pytest.approx(float(torch.pdist(own.flatten(1), p=1).mean() / 64), rel=1e-5)
    assert made(pool, "game.variety=3")._spread.shape == (1,)


def test_a_discriminator_that_sees_how_much_a_class_differs_is_shown_two_of_each(pool: Pool) -> None:
    deviation = ("networks.conditional=true", "networks.minibatch_deviation=true")
    first = made(pool, *deviation).batch(Randomness(4), 16)
    pairs = made(pool, *deviation, "networks.pretrained=true").batch(Randomness(4), 16)
    assert first.labels is not None
    assert pairs.labels is not None
    assert pairs.labels[:8].tolist() == pairs.labels[8:].tolist() == first.labels[:8].tolist()
    assert first.labels[8:].tolist() != first.labels[:8].tolist(), "without it a batch is what comes"
    assert torch.equal(pairs.real[:8], first.real[:8])
    assert not torch.equal(pairs.real[8:], pairs.real[:8])


def test_a_class_of_one_image_takes_the_spread_of_the_others(pool: Pool) -> None:
    labels = np.zeros(len(pool.images), np.int64)
    labels[pool.splits.train[0]] = 1
    task = made(dataclasses.replace(pool, labels=labels), "networks.conditional=true")
    assert task._spread[1] == task._spread[0] > 0


def test_a_generator_that_learns_from_pretrained_features_is_judged_by_such_ones_under_a_protocol_of_its_own(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features_of(_: Pool, name: str, *__: Any) -> Features:
        return Features(name, "digest", 4, lambda pixels: pixels.flatten(1)[:, :4])

    monkeypatch.setattr(images, "features_of", features_of)
    source = ImageSource(pool, CPU, "photos", Images(), lambda *_: None)

    def protocol(*settings: str) -> dict[str, Any]:
        recipe = with_settings(Recipe(), settings)
        return source.task(recipe, loss_named("hinge"), torch.float32, lambda *_: None).features.protocol

    pretrained = "networks.pretrained=true"
    plain = protocol("evaluation.features=efficientnet")
    flattered = protocol(pretrained, "evaluation.features=efficientnet")
    assert protocol_differences([plain, flattered]) == ["features_flatter"]
    assert protocol(pretrained, "evaluation.features=encoder") == protocol("evaluation.features=encoder")


def test_features_of_a_cpu_are_the_small_encoder_and_are_kept(
    quick: None, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    told: list[float] = []
    found = []
    for _ in range(2):
        found.append(image_judging.features_of(pool, "auto", CPU, lambda text, share: told.append(share)))
        told.append(-1.0)
    assert [features.name for features in found] == ["encoder", "encoder"]
    assert found[0].digest == found[1].digest
    assert told.index(-1.0) > 0, "the first time it is trained"
    assert told[-2:] == [-1.0, -1.0], "and never again"


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/sea"], ["seg_train", "ice", "sea"]),
        (["train/cat", "train/dog", "Validation_set/cat"], ["Validation_set", "cat", "dog"]),
        (["trainA", "trainB", "testA", "testB"], ["A", "B"]),
        (["cat", "dog", "pets/cat", "pets/dog"], ['"pets"', "cat", "dog"]),
        (["tr/cat", "tr/dog", "te/cat"], ["te", "tr", "cat", "dog"]),
    ],
)
def test_the_first_line_of_a_training_says_what_was_made_of_the_folders(
    quick: None, open_source: Callable[..., Any], tmp_path: Path, folders: list[str], said: list[str]
) -> None:
    for index in range(60):
        path = tmp_path / "set" / folders[index % len(folders)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), index).save(path)
    recipe, source = open_source("images", tmp_path / "set")
    told = source.summary(recipe)
    assert set(said) <= set(re.split(r"[\s,:;()]+", told))
    assert "60" in told


def test_most_files_left_out_is_the_first_that_a_training_says(
    quick: None, open_source: Callable[..., Any], tmp_path: Path
) -> None:
    for index in range(120):
        Image.new("L", (8, 8), index).save(tmp_path / f"{index}.png")
    for index in range(1_900):
        (tmp_path / f"{index}.heic").touch()
    recipe, source = open_source("images", tmp_path)
    first = source.summary(recipe).split(".")[0]
    assert "1,900" in first
    assert "2,020" in first


# Leaks of augmentation


def test_a_generator_that_makes_augmented_images_is_told_from_one_that_makes_real_ones() -> None:
    """Real images are bright at the left, augmented ones mirrored half of the time."""
    torch.manual_seed(0)
    real = torch.rand(200, 1, 8, 8) * torch.linspace(1, 0, 8) - 0.5
    other = torch.rand(200, 1, 8, 8) * torch.linspace(1, 0, 8) - 0.5
    mirrored = torch.where(torch.rand(200, 1, 1, 1) < 0.5, other.flip(3), other)
    changed = torch.where(torch.rand(200, 1, 1, 1) < 0.5, real.flip(3), real)
    assert image_judging.leak(BARS, real, changed, mirrored) < -3
    assert image_judging.leak(BARS, real, changed, other) > 3
    assert image_judging.leak(BARS, real, real, other) == 0
    assert math.isnan(image_judging.leak(BARS, real[:40], changed[:40], other))


def test_a_difference_that_is_noise_is_rarely_told_as_a_leak() -> None:
    """Three sets of one distribution: the value varies less than a standard normal variable."""
    torch.manual_seed(0)
    found = []
    for _ in range(200):
        images = [torch.rand(60, 1, 8, 8) - 0.5 for _ in range(3)]
        found.append(image_judging.leak(BARS, *images))
    assert abs(sum(found) / len(found)) < 0.3
    assert 0.3 < torch.tensor(found).std() < 1.1
    assert min(found) > -3


@pytest.mark.parametrize(
    ("settings", "more", "is_known"),
    [
        ((), 1.0, False),
        (("augment.kinds=flip", "augment.probability=0.1"), 0.0, False),
        (("augment.kinds=flip", "augment.probability=0.1"), 0.1, True),
        (("augment.kinds=flip", "augment.probability=1"), 0.0, True),
    ],
)
def test_a_leak_is_looked_for_where_enough_is_augmented(
    pool: Pool, settings: tuple[str, ...], more: float, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = made(pool, *settings)
    monkeypatch.setattr(image_judging, "FEWEST_LEAK", 2)
    generator = task.players().generator
    first, again = (task.augmentation_leak(generator, Randomness(3), more) for _ in range(2))
    assert math.isfinite(first) == is_known
    assert first == again or not is_known
