"""Super-resolution as a task: terms and their ramp, pairs by position, judges, rivals, tiles, inputs of any kind."""

import dataclasses
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from small import by_update
from torch import Tensor, nn

from equipoise.data.photos import read_photos
from equipoise.data.splits import JudgedSplit, Splits
from equipoise.errors import Option, Setting, UserError
from equipoise.evaluation.choosing import Trained, choose
from equipoise.evaluation.rivals import judge_rivals
from equipoise.game.losses import loss_named
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players
from equipoise.host.deadline import Deadline
from equipoise.metrics.features.load import Features
from equipoise.nets.super_resolution import SuperDiscriminator, SuperGenerator, enlarge, reduce
from equipoise.randomness import Randomness
from equipoise.recipe import Networks, Recipe, SuperResolution
from equipoise.storage.records import deciding
from equipoise.tasks import super_resolution, super_resolution_model
from equipoise.tasks.super_resolution import PhotoSource, SuperTask, reduced
from equipoise.tasks.super_resolution_model import SuperModel

CPU = torch.device("cpu")


def steps(patches: Tensor) -> Tensor:
    """Return how much neighbouring pixels differ, by colour and direction, [N, 6]."""
    return 20 * torch.cat([patches.diff(dim=axis).abs().mean((2, 3)) for axis in (2, 3)], 1)


STEPS = Features("steps", "none", 6, steps)


@pytest.fixture(scope="module")
def source(photos: Path) -> PhotoSource:
    """Return the photographs, cut for a scale of 2: 30 to train on, 6 and 4 held out."""
    read = read_photos(str(photos), 2, 32)
    order = np.argsort(read.hashes)
    return PhotoSource(str(photos), read, Splits(order[10:], order[4:10], order[:4]), CPU)


def made(source: PhotoSource, **settings: Any) -> SuperTask:
    """Return the task of these photographs, judged by the steps between pixels."""
    chosen = SuperResolution(scale=2, patch=32, **settings)
    recipe = Recipe(task=chosen, networks=Networks(width=4))
    return SuperTask(recipe, source, STEPS, loss_named("non-saturating"), CPU, torch.float32)


def stirred(width: int = 4, scale: int = 2) -> SuperGenerator:
    """Return a generator whose detail is not zero, as after some training."""
    torch.manual_seed(0)
    generator = SuperGenerator(scale, width).eval().requires_grad_(False)
    for parameter in generator.parameters():
        if parameter.dim() == 4:
            nn.init.normal_(parameter, std=0.1)
    return generator


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    """Write an image file."""
    image.save(path, **options)
    return path


def coloured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


# The game


def test_the_adversarial_term_comes_in_after_the_faithful_part(source: PhotoSource) -> None:
    task = made(source, faithful=0.5, adversarial=0.02)
    weights = [task.adversarial_weight(progress) for progress in (0.0, 0.5, 0.55, 0.6, 1.0)]
    assert weights == pytest.approx([0.0, 0.0, 0.01, 0.02, 0.02])
    torch.manual_seed(0)
    players = task.players()
    batch = task.batch(Randomness(0), 3)

    def terms(progress: float) -> tuple[set[str], set[str]]:
        step = StepContext(Randomness(0), progress)
        found = (task.discriminator_terms(players, batch, step), task.generator_terms(players, batch, step))
        return set(found[0].losses), set(found[1].losses)

    assert terms(0.0) == (set(), {"l1"})
    assert terms(0.46) == ({"adversarial"}, {"l1"}), "the discriminator is warmed up before it counts"
    assert terms(0.55) == ({"adversarial"}, {"l1", "adversarial", "features"})
    assert (
        made(source, adversarial=0.0).discriminator_terms(players, batch, StepContext(Randomness(0), 1.0)).losses == {}
    )


class Telling(nn.Module):
    """A discriminator whose logits are means of the images beside their inputs."""

    def forward(self, large: Tensor, enlarged: Tensor) -> Tensor:
        return (large - enlarged).flatten(1).mean(1)


def test_terms_by_hand(source: PhotoSource) -> None:
    task = dataclasses.replace(made(source, faithful=0.0, adversarial=20.0), loss=loss_named("relativistic"))
    batch = task.batch(Randomness(0), 3)
    generator = stirred()
    step = StepContext(Randomness(0), 1.0)
    fake = generator(batch.small)
    enlarged = enlarge(batch.small, batch.large.shape[-2:])
    found = task.discriminator_terms(Players(generator, Telling()), batch, step).losses["adversarial"]
    real_logits = (batch.large - enlarged).mean((1, 2, 3))
    fake_logits = (fake - enlarged).mean((1, 2, 3))
    torch.testing.assert_close(found, task.loss.discriminator(real_logits, fake_logits))

    discriminator = task.players().discriminator
    assert isinstance(discriminator, SuperDiscriminator)
    losses = task.generator_terms(Players(generator, discriminator), batch, step).losses
    torch.testing.assert_close(losses["l1"], (fake - batch.large).abs().mean((1, 2, 3)))
    with torch.no_grad():
        stages = zip(discriminator.features(fake, enlarged), discriminator.features(batch.large, enlarged), strict=True)
        distances = [(one - other).abs().mean((1, 2, 3)) for one, other in stages]
        real_logits = discriminator(batch.large, enlarged)
        fake_logits = discriminator(fake, enlarged)
    torch.testing.assert_close(losses["features"].detach(), 20 * torch.stack(distances).mean(0))
    expected = 20 * nn.functional.softplus(real_logits - fake_logits)
    torch.testing.assert_close(losses["adversarial"].detach(), expected)


def test_everything_drawn_is_a_function_of_the_position(source: PhotoSource) -> None:
    task = made(source)
    one = task.batch(Randomness(3, 64), 6)
    torch.rand(5)  # the global stream must not matter
    again = task.batch(Randomness(3, 64), 6)
    assert torch.equal(one.large, again.large)
    assert torch.equal(one.small, again.small)
    for other in (Randomness(4, 64), Randomness(3, 70), Randomness(3, 64, attempt=1)):
        assert not torch.equal(one.large, task.batch(other, 6).large)


def test_a_batch_pairs_patches_of_training_photographs_with_what_they_were_reduced_to(source: PhotoSource) -> None:
    task = made(source)
    large, small = task.batch(Randomness(0), 40)
    assert (large.shape, small.shape) == ((40, 3, 32, 32), (40, 3, 16, 16))
    inside = slice(4, -4)  # at the border of a patch, what lies beyond it has a part
    error = (reduce(large, 2).clamp(-1, 1) - small)[..., inside, inside].abs().max().item()
    assert error < 0.6 / 127.5, "no more than rounding to 8 bits"
    photos = [source.photos.images[index] for index in source.splits.train]
    values = torch.cat([torch.from_numpy(photo).reshape(3, -1).unique(dim=1).T for photo in photos]).unique(dim=0)
    known = {tuple(value) for value in values.tolist()}
    pixels = ((large + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).reshape(-1, 3)
    assert {tuple(value) for value in pixels.unique(dim=0).tolist()} <= known


def test_patches_come_in_all_eight_orientations() -> None:
    patch = np.arange(12).reshape(3, 2, 2)
    turned = [super_resolution._turned(patch, turn) for turn in range(8)]
    assert len({found.tobytes() for found in turned}) == 8
    assert all(sorted(found[0].ravel()) == [0, 1, 2, 3] for found in turned)
    assert np.array_equal(turned[0], patch)


# Judges and rivals


def test_rivals_score_in_their_order(source: PhotoSource) -> None:
    task = made(source)
    for split in ("validation", "test"):
        judge = task.judge(split)
        assert judge is not None
        failures: list[str] = []
        found = judge_rivals(task.rivals(), judge, Deadline(60), failures.append).rivals.scores
        assert not failures
        assert [score.role for score in found] == ["floor", "rival", "ceiling"]
        nearest, bicubic, originals = (score.values for score in found)
        assert nearest["psnr"] < bicubic["psnr"] < originals["psnr"]
        assert originals["mse"] == 0
        assert found[2].loss < min(found[0].loss, found[1].loss)


def test_an_untrained_generator_keeps_to_its_input(source: PhotoSource) -> None:
    task = made(source)
    judge = task.judge("validation")
    assert judge is not None
    found = judge.measure([task.outputs(task.players().generator, Randomness(0), "validation", 0, 6)])
    assert found.values["consistency"] > 45
    assert found.values.keys() == {metric.name for metric in judge.metrics}


def test_an_adversarial_run_is_decided_by_patches_and_a_faithful_one_by_the_error(source: PhotoSource) -> None:
    for adversarial, decides in ((0.01, "patch_kid"), (0.0, "mse")):
        task = made(source, adversarial=adversarial)
        judge = task.judge("validation")
        assert judge is not None
        assert deciding(judge.metrics).name == decides == judge.protocol["decides"]


def test_each_judge_has_the_photographs_of_its_split(source: PhotoSource, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made(source)
    assert task.judge("validation, second half") is None
    monkeypatch.setattr("equipoise.tasks.base.MIN_HALF", 3)
    task = made(source)
    found = [task.judge(split) for split in ("validation", "validation, second half", "test")]
    assert [judge.num for judge in found if judge] == [3, 3, 4]
    assert [judge.split for judge in found if judge] == ["validation", "validation, second half", "test"]
    expected = [*source.splits.validation, *source.splits.test]
    originals = [original for judge in found if judge for original in judge.originals]
    for original, index in zip(originals, expected, strict=True):
        assert np.array_equal(original.numpy(), source.photos.images[index])


def test_the_originals_are_perfect_by_the_judge_of_every_split(
    source: PhotoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equipoise.tasks.base.MIN_HALF", 3)
    task = made(source, adversarial=0.0)
    originals = task.rivals()[-1]
    for split in get_args(JudgedSplit):
        judge = task.judge(split)
        assert judge is not None
        found = judge_rivals([originals], judge, Deadline(60.0), pytest.fail, task.chunk)
        assert found.measured[originals.name].loss == 0.0


def test_examples_and_outputs_belong_to_their_positions(source: PhotoSource) -> None:
    task = made(source)
    inputs, targets = task.examples("validation", 0, 6)
    again = task.examples("validation", 2, 3)
    assert all(map(torch.equal, again.targets, targets[2:5]))
    for small, large in zip(inputs, targets, strict=True):
        assert (reduce(large[None], 2)[0].clamp(-1, 1) - small).abs().max() < 0.6 / 127.5
    generator = stirred()
    outputs = task.outputs(generator, Randomness(0), "validation", 0, 6)
    assert all(map(torch.equal, task.outputs(generator, Randomness(9), "validation", 2, 3), outputs[2:5]))
    assert [output.shape for output in outputs] == [target.shape for target in targets]
    torch.manual_seed(0)
    discriminator = task.players().discriminator.eval()
    logits = task.logits(discriminator, inputs, targets)
    assert logits.shape == (6,)
    first = discriminator(targets[3][None], enlarge(inputs[3][None], targets[3].shape[-2:]))
    torch.testing.assert_close(logits[3:4], first)


# Bicubic on the benchmarks, through the task as a run is tested


@pytest.mark.parametrize(
    ("name", "scale", "decibels", "similarity"),
    [("set5", 4, 28.42, 0.810), ("set5", 3, 30.39, 0.868), ("set5", 2, 33.65, 0.9295), ("set14", 4, 26.09, 0.704)],
)
def test_bicubic_has_its_published_values(
    tmp_path: Path, name: str, scale: int, decibels: float, similarity: float
) -> None:
    folder = os.environ.get("EQUIPOISE_DATA")
    path = Path(folder or ".") / "sr-photos.zip"
    if folder is None or not path.is_file():
        pytest.skip("EQUIPOISE_DATA names no folder with sr-photos.zip")
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.startswith(f"test-{name}/"):
                (tmp_path / Path(member).name).write_bytes(archive.read(member))
    photos = read_photos(str(tmp_path), scale, 32)
    every = np.arange(len(photos.images))
    nothing = every[:0]
    benchmark = PhotoSource(name, photos, Splits(nothing, nothing, every), CPU)
    recipe = Recipe(task=SuperResolution(scale=scale))  # type: ignore[arg-type]
    task = SuperTask(recipe, benchmark, STEPS, loss_named("non-saturating"), CPU, torch.float32)
    judge = task.judge("test")
    assert judge is not None
    bicubic = next(rival for rival in task.rivals() if rival.role == "rival")
    found = judge.measure([bicubic.outputs("test", 0, judge.num)]).values
    assert found["psnr"] == pytest.approx(decibels, abs=0.02)
    assert found["ssim"] == pytest.approx(similarity, abs=0.001)
    untrained = judge.measure([task.outputs(SuperGenerator(scale, 4), Randomness(0), "test", 0, judge.num)]).values
    assert untrained["psnr"] > found["psnr"], "bicubic with back-projection is a little better"


# Enlarging


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarging_in_tiles_is_enlarging_at_once(monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    monkeypatch.setattr(super_resolution_model, "TILE", 20)
    generator = stirred(8, scale)
    model = SuperModel(Networks(width=8), scale)
    small = torch.rand(3, 61, 43, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        whole = generator(small[None])[0].clamp(-1, 1)
    assert (whole.abs() == 1).float().mean() < 0.9, "there is something to see"
    torch.testing.assert_close(model.enlarged(generator, small), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_output_depends_on_no_pixel_beyond_the_margin(scale: int) -> None:
    generator = SuperGenerator(scale, 4).double()
    for parameter in generator.parameters():
        nn.init.constant_(parameter, 0.1)  # nothing cancels, and no unit is off
    middle = 40
    small = torch.ones(1, 3, 1 + 2 * middle, 9, dtype=torch.float64, requires_grad=True)
    rows = generator(small)[0, :, middle * scale : (middle + 1) * scale]
    (gradient,) = torch.autograd.grad(rows.sum(), small)
    reached = gradient.abs().sum((0, 1, 3)).nonzero()[:, 0] - middle
    assert super_resolution_model.MARGIN - 3 <= reached.abs().max() <= super_resolution_model.MARGIN


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (20, 20), (21, 19)])
def test_images_of_any_size_are_enlarged(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setattr(super_resolution_model, "TILE", 20)
    found = SuperModel(Networks(width=4), 2).enlarged(stirred(), torch.zeros(3, *size))
    assert found.shape == (3, 2 * size[0], 2 * size[1])
    assert found.isfinite().all()


def test_a_generator_is_applied_to_images_of_every_kind(tmp_path: Path) -> None:
    pixels = coloured(6, 4)
    clear = np.dstack([pixels, np.zeros((6, 4), np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6
    paths = {
        "colour": saved(Image.fromarray(pixels), tmp_path / "colour.png"),
        "grey": saved(Image.fromarray(pixels[:, :, 0]), tmp_path / "grey.png"),
        "clear": saved(Image.fromarray(clear), tmp_path / "clear.png"),
        "print": saved(Image.fromarray(pixels).convert("CMYK"), tmp_path / "print.jpg", quality=95),
        "turned": saved(Image.fromarray(pixels), tmp_path / "turned.png", exif=exif),
        "dot": saved(Image.fromarray(pixels[:1, :1]), tmp_path / "dot.png"),
    }
    model = SuperModel(Networks(width=4), 2)
    generator = stirred()
    found = dict(model.applied(generator, tmp_path))
    assert found.keys() == paths.keys()
    for name, path in paths.items():
        ((alone, image),) = model.applied(generator, path)
        assert alone == name
        assert torch.equal(image, found[name])
        assert image.isfinite().all()
    shapes = {name: tuple(image.shape) for name, image in found.items()}
    plain = (3, 12, 8)
    assert shapes == dict.fromkeys(paths, plain) | {"turned": (3, 8, 12), "dot": (3, 2, 2)}
    assert torch.equal(found["clear"], model.enlarged(generator, torch.ones(3, 6, 4))), "what is transparent is white"
    turned = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(found["turned"], model.enlarged(generator, turned))


def test_outputs_of_a_folder_keep_names_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    saved(Image.fromarray(coloured(4, 4, 0)), folder / "a.png")
    saved(Image.fromarray(coloured(4, 4, 1)), folder / "a.jpg")
    saved(Image.fromarray(coloured(4, 4, 2)), folder / "A.bmp")
    saved(Image.fromarray(coloured(4, 4, 3)), folder / "B.webp")
    (folder / "notes.txt").write_text("no image")
    model = SuperModel(Networks(width=4), 2)
    generator = stirred()
    told = model.write_applied(model.applied(generator, folder), tmp_path / "large")
    assert told.startswith("4 ")
    names = {path.name for path in (tmp_path / "large").iterdir()}
    assert names == {"a.png.png", "a.jpg.png", "A.bmp.png", "B.png"}
    assert len({name.lower() for name in names}) == 4
    assert len({path.read_bytes() for path in (tmp_path / "large").iterdir()}) == 4


def test_one_image_is_written_as_one_file_to_the_pixel(tmp_path: Path) -> None:
    model = SuperModel(Networks(width=4), 2)
    generator = stirred()
    path = saved(Image.fromarray(coloured(6, 4)), tmp_path / "a.png")
    out = tmp_path / "new" / "large.png"
    model.write_applied(model.applied(generator, path), out)
    ((_, expected),) = model.applied(generator, path)
    written = np.asarray(Image.open(out)).transpose(2, 0, 1).astype(int)
    assert np.abs(written - (expected.numpy() + 1) * 127.5).max() <= 0.5 + 1e-3


def test_several_images_are_not_written_into_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("a", "b"):
        saved(Image.fromarray(coloured(4, 4)), folder / f"{name}.png")
    model = SuperModel(Networks(width=4), 2)
    out = tmp_path / "large.PNG"
    out.write_bytes(b"before")
    with pytest.raises(UserError) as error:
        model.write_applied(model.applied(stirred(), folder), out)
    assert error.value.subject == Option("out", out)
    assert out.read_bytes() == b"before", "not even the first one"


def test_inputs_that_are_none_are_refused(tmp_path: Path) -> None:
    model = SuperModel(Networks(width=4), 2)
    generator = stirred()
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    for given in (tmp_path / "gone", tmp_path / "notes.txt", tmp_path / "empty"):
        with pytest.raises(UserError) as error:
            list(model.applied(generator, given))
        assert error.value.subject == given
    with pytest.raises(UserError) as error:
        list(model.applied(generator, tmp_path / "broken"))
    assert error.value.subject == tmp_path / "broken" / "a.png"


def test_it_draws_nothing_by_itself(tmp_path: Path) -> None:
    model = SuperModel(Networks(width=4), 2)
    for attempt in (lambda: model.samples(stirred(), 3, 0, None), lambda: model.write([], tmp_path / "a.png")):
        with pytest.raises(UserError) as error:
            attempt()
        (remedy,) = error.value.remedies
        assert getattr(remedy, "name", None) == "apply"


# From a source to a task


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (["task.patch=33"], "task.patch"),
        (["networks.conditional=true"], "networks.conditional"),
        (["networks.generator_norm=batch"], "networks.generator_norm"),
        (["networks.discriminator_norm=layer"], "networks.discriminator_norm"),
        (["networks.dropout=0.5"], "networks.dropout"),
        (["augment.kinds=flip", "augment.probability=0.5"], "augment.kinds"),
        (["augment.probability=0.5"], "augment.probability"),
        (["game.instance_noise=0.1"], "game.instance_noise"),
        (["game.packing=2"], "game.packing"),
        (["networks.minibatch_deviation=true"], "networks.minibatch_deviation"),
        ([*by_update("competitive"), "game.penalty.kind=none"], "game.update"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(
    open_source: Callable[..., Any], photos: Path, settings: list[str], field: str
) -> None:
    recipe, source = open_source("super-resolution", photos, "task.scale=2", "task.patch=32", *settings)
    with pytest.raises(UserError) as error:
        source.settled(recipe)
    assert isinstance(error.value.subject, Setting)
    assert error.value.subject.field == field
    (remedy,) = error.value.remedies
    assert isinstance(remedy, Setting)
    assert remedy.field == field


def test_too_few_photographs_are_refused_with_what_is_there(open_source: Callable[..., Any], tmp_path: Path) -> None:
    for index in range(21):
        saved(Image.fromarray(coloured(40, 40, index)), tmp_path / f"{index}.png")
    recipe, source = open_source("super-resolution", tmp_path, "task.scale=2", "task.patch=32")
    with pytest.raises(UserError) as error:
        source.settled(recipe)
    assert "21" in error.value.problem
    assert "22" in error.value.problem


def test_photographs_must_hold_a_patch_of_the_training_and_one_of_the_judge(
    open_source: Callable[..., Any], tmp_path: Path
) -> None:
    for index, side in enumerate([28, 28, *[40] * 18]):
        saved(Image.fromarray(coloured(side, 40, index)), tmp_path / f"{index:02d}.png")
    for patch in (24, 32):
        _, source = open_source("super-resolution", tmp_path, "task.scale=2", f"task.patch={patch}")
        assert [rejected.name for rejected in source.photos.rejected] == ["00.png", "01.png"]
        assert "32" in source.photos.rejected[0].reason


def test_an_encoder_without_a_photograph_to_learn_from_is_refused(
    quick: None, open_source: Callable[..., Any], photos: Path, source: PhotoSource
) -> None:
    recipe, _ = open_source("super-resolution", photos, "task.scale=2", "task.patch=32")
    splits = dataclasses.replace(source.splits, train=source.splits.train[:0])
    with pytest.raises(UserError) as error:
        dataclasses.replace(source, splits=splits).task(recipe, loss_named("hinge"), torch.float32, lambda *_: None)
    assert str(photos) in str(error.value.subject)


def test_a_test_elsewhere_takes_all_that_the_run_has_not_seen(source: PhotoSource) -> None:
    seen = source.hashes[np.concatenate([source.splits.train, source.splits.validation])]
    trained = Trained("another digest", seen, is_same_place=True)
    assert list(choose(source, None, trained, "photographs").indices) == list(source.splits.test)
    own = dataclasses.replace(trained, digest=source.digest)
    assert list(choose(source, None, own, "photographs").indices) == list(source.splits.test)
    names = {name: index for index, name in enumerate(source.photos.names)}
    hashes = source.photos.hashes.copy()
    new = [names["00.png"], names["01.png"]]
    hashes[new] = [7, 2**64 - 1]  # two that this run has never met
    other = dataclasses.replace(source, photos=dataclasses.replace(source.photos, hashes=hashes))
    found = choose(other, None, trained, "photographs")
    test = found.indices
    assert found.num_seen == 36 - len(set(new) - set(source.splits.test))
    assert set(test) == set(source.splits.test) | set(new)
    assert list(other.photos.hashes[test]) == sorted(other.photos.hashes[test]), "in the order of content, not of names"


def test_the_digest_knows_the_splits(source: PhotoSource) -> None:
    moved = dataclasses.replace(
        source.splits, validation=source.splits.validation[1:], test=np.append(source.splits.test, 0)
    )
    assert source.digest != dataclasses.replace(source, splits=moved).digest
    assert source.digest == dataclasses.replace(source).digest


def test_the_record_and_the_model_say_all_that_is_needed_later(source: PhotoSource, photos: Path) -> None:
    task = made(source)
    data = task.describe()
    assert (data.num_train, data.num_validation, data.num_test) == (30, 6, 4)
    assert data.path == str(photos.resolve())
    generator = task.players().generator
    again = super_resolution.model_of(task.recipe, data)
    network = again.network()
    network.load_state_dict(generator.state_dict())
    small = torch.zeros(3, 5, 4)
    assert torch.equal(again.enlarged(network, small), task.model().enlarged(generator, small))
    assert "40" in source.summary(task.recipe)
    with pytest.raises(UserError):
        source.everything()


def test_reducing_rounds_to_eight_bits_within_their_range() -> None:
    checks = np.zeros((3, 8, 8), np.uint8)
    checks[:, :, 4:] = 255  # a bicubic filter overshoots at an edge
    found = reduced(checks, 2)
    exact = reduce(torch.from_numpy(checks)[None].float(), 2)[0]
    assert exact.min() < -1
    assert found.dtype == np.uint8
    assert np.array_equal(found, exact.round().clamp(0, 255).numpy())


# What is shown


def test_exhibits_show_input_bicubic_output_and_original_side_by_side(
    source: PhotoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(super_resolution, "SIDE_SHOWN", 40)
    task = made(source)
    (exhibit,) = task.exhibits(stirred())
    with Image.open(io.BytesIO(exhibit.content)) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (4 * 42 + 2, 4 * 42 + 2, 3)
    target = task.examples("validation", 1, 1).targets[0]
    top = (target.shape[1] - 40) // 2
    left = (target.shape[2] - 40) // 2
    expected = ((target[:, top : top + 40, left : left + 40] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels[44:84, 128:168], expected), "the second photograph's original stands last in its row"
    assert task.snapshot(stirred()).content != task.snapshot(task.players().generator).content


def test_a_small_image_is_shown_whole_on_white() -> None:
    found = super_resolution._crop(torch.zeros(3, 5, 7))
    assert found.shape == (3, super_resolution.SIDE_SHOWN, super_resolution.SIDE_SHOWN)
    assert (found == 0).sum() == 3 * 5 * 7
    assert (found[:, :5, :7] == 0).all()
