"""On a GPU: the mathematics is the CPU's, every recipe trains, and runs move between the two devices."""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from corpus import write_photographs
from small import FOR_PHOTOS
from torch import Tensor, nn
from torch.nn.functional import softplus
from trainings import TrainSmall, events, scores

import equipoise as eq
from equipoise import tasks
from equipoise.data.augment import augment
from equipoise.game.penalties import gradient_norm_squared, wgan_gp
from equipoise.host.device import chosen_device, chosen_precision
from equipoise.metrics.features.encoder import Encoder
from equipoise.metrics.features.load import load_features
from equipoise.nets.players import make_players
from equipoise.randomness import Randomness
from equipoise.recipe import AugmentationName, FamilyName, Networks, Recipe
from equipoise.recipes import NAMES, RecipeName

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.timeout(300),
]

GPU = torch.device("cuda")
AT = ("device=cuda",)
FEW = ("evaluation.num_samples=100", "evaluation.every=160", "saving.every=160", "saving.log_every=80")


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """A comparison of the devices is one in float32, which a GPU may otherwise round to tf32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)


def assert_near(found: Tensor, expected: Tensor, share: float = 2e-4) -> None:
    """Compare by the norm of the difference, as single values may cancel out."""
    difference = (found.detach().cpu().double() - expected.detach().double()).norm()
    assert difference <= share * expected.detach().double().norm() + 1e-7


# Mathematics


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("family", get_args(FamilyName))
def test_networks_their_gradients_and_those_of_the_penalty_are_the_cpu_s(family: FamilyName, num_classes: int) -> None:
    torch.manual_seed(0)
    norm = "none" if family == "modern" else "batch"
    networks = Networks(family=family, width=16, latent_size=8, generator_norm=norm)
    here = make_players(networks, size=28, channels=3, num_classes=num_classes)
    with torch.no_grad():
        for parameter in (parameter for player in here for parameter in player.parameters()):
            parameter.add_(0.02 * torch.randn_like(parameter))  # fix-up begins with layers of zeros
    layout: dict[str, Any] = {"device": GPU, "memory_format": torch.channels_last}
    there = [copy.deepcopy(player).to(**layout) for player in here]
    latents = torch.randn(6, 8)
    labels = torch.arange(6) % 3 if num_classes else None

    def gradients(players: Any, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        generator, discriminator = players
        given = None if labels is None else labels.to(device)
        images = generator(latents.to(device), given)
        logits = discriminator(images, given)
        loss = softplus(-logits).mean() + gradient_norm_squared(logits, images).mean()
        parameters = [*generator.parameters(), *discriminator.parameters()]
        return images, list(torch.autograd.grad(loss, parameters, allow_unused=True))

    images, expected = gradients(here, torch.device("cpu"))
    drawn, found = gradients(there, GPU)
    assert_near(drawn, images)
    assert_near(
        torch.cat([gradient.flatten().cpu() for gradient in found if gradient is not None]),
        torch.cat([gradient.flatten() for gradient in expected if gradient is not None]),
        1e-3,
    )


def test_the_augmentation_and_its_second_derivative_are_the_cpu_s() -> None:
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    found = []
    for device in (torch.device("cpu"), GPU):
        given = images.to(device).requires_grad_()
        seen = augment(given, get_args(AugmentationName), 0.8, torch.Generator().manual_seed(3))
        (slope,) = torch.autograd.grad((seen**3).sum(), given, create_graph=True)
        (bend,) = torch.autograd.grad(slope.square().sum(), given)
        found.append((seen, slope, bend))
    for expected, there in zip(*found, strict=True):
        assert_near(there, expected)


def test_the_wasserstein_penalty_is_drawn_at_the_same_places() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 8, 12)
    layer = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0))
    expected = wgan_gp(layer, real, fake, 10.0, torch.Generator().manual_seed(1))
    there = copy.deepcopy(layer).to(GPU)
    found = wgan_gp(there, real.to(GPU), fake.to(GPU), 10.0, torch.Generator().manual_seed(1))
    assert_near(found, expected)


def test_the_encoder_s_features_are_the_cpu_s(quick: None, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 20, 20), dtype=np.uint8)
    shown = torch.from_numpy(images).float() / 127.5 - 1
    found = []
    for device in ("cpu", "cuda"):
        features = load_features(
            "encoder",
            train_images=lambda: images,
            channels=3,
            cache=tmp_path,
            pool_digest="one",
            device=torch.device(device),
        )
        assert features.dimension == Encoder.dimension
        found.append(features.extract(shown))
    assert found[1].device.type == "cpu"
    assert_near(found[1], found[0], 1e-3)


def test_auto_takes_the_gpu_and_bfloat16_where_it_has_that() -> None:
    device = chosen_device("auto")
    assert device.type == "cuda"
    is_there = torch.cuda.is_bf16_supported(including_emulation=False)
    assert chosen_precision(Recipe(), device) == (torch.bfloat16 if is_there else torch.float32)


# Trainings


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_evaluates_and_ends(small: None, shapes: Path, tmp_path: Path, name: RecipeName) -> None:
    run = eq.train(shapes, recipe=name, budget="512", out=tmp_path / "run", settings=[*AT, "game.batch=32", *FEW])
    assert run.state.status == "finished", run.state.message
    assert 512 <= run.state.samples <= 640  # a round may be of several steps
    assert run.state.test is not None
    assert math.isfinite(run.state.test.loss)
    environment = run.folder.read_environment()
    assert environment["device"] == "cuda"
    assert environment["device_name"] == torch.cuda.get_device_name()
    assert events(run, "steps skipped") == []
    assert "cuda" in run.report.read_text("utf-8")
    assert bool((run.best.sample(4).abs() <= 1).all())


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(("networks.conditional=true",), id="labels"),
        pytest.param(("augment.kinds=flip,rotation,color,cutout", "augment.probability=0.6"), id="augmented"),
        pytest.param(("game.update=extragradient",), id="extragradient"),
        pytest.param(("game.update=simultaneous", "networks.dropout=0.3"), id="simultaneous-dropout"),
        pytest.param(("precision=float32",), id="float32"),
        pytest.param(("game.instance_noise=0.1", "game.penalty.every=4"), id="noise-lazy"),
    ],
)
def test_settings_train(train_small: TrainSmall, settings: tuple[str, ...]) -> None:
    run = train_small("run", *AT, *settings)
    assert (run.state.status, run.state.samples) == ("finished", 800)
    assert len(scores(run)) == 5


def test_points_and_super_resolution_train(train_small: TrainSmall, tmp_path: Path) -> None:
    points = train_small("points", *AT, "networks.width=8", source="ring")
    assert points.state.status == "finished"
    (tmp_path / "photos").mkdir()
    photos = write_photographs(tmp_path / "photos", 40)
    settings = [*FOR_PHOTOS, "task.scale=2", "task.patch=32", "networks.width=4"]
    sharper = train_small("sharper", *AT, *settings, source=photos, budget="160", task="super-resolution")
    assert sharper.state.status == "finished"
    assert len(list(sharper.best.apply(photos))) == 40


def test_a_loss_that_is_not_finite_is_skipped_there_too(train_small: TrainSmall, poison: Callable[..., None]) -> None:
    poison(lambda randomness: randomness.samples == 240)
    run = train_small("run", *AT)
    assert run.state.status == "finished"
    assert len(events(run, "steps skipped")) == 1


# Between devices and sessions


def test_a_resume_goes_on_near_to_where_an_uninterrupted_run_goes(train_small: TrainSmall, tmp_path: Path) -> None:
    whole = train_small("whole", *AT)
    half = train_small("half", *AT, budget="400")
    eq.resume(half.path, budget="800")
    half = eq.load(half.path)
    assert half.state.samples == whole.state.samples == 800
    assert [score["samples"] for score in scores(half)] == [160, 320, 400, 480, 640, 800]
    before, after = ({score["samples"]: score["loss"] for score in scores(run)} for run in (whole, half))
    assert after[320] == pytest.approx(before[320], rel=0.02, abs=0.02)


@pytest.mark.parametrize("is_gpu_first", [True, False])
def test_a_run_goes_on_on_the_other_device_and_says_so(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, is_gpu_first: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_gpu_first)
    run = train_small("run", budget="400")
    first = run.folder.read_environment()["device"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not is_gpu_first)
    eq.resume(run.path, budget="800")
    found = eq.load(run.path)
    assert found.state.samples == 800
    assert {first, found.folder.read_environment()["device"]} == {"cpu", "cuda"}
    (event,) = events(found, "environment changed")
    assert "device" in event["message"]


def test_a_generator_draws_on_a_cpu_what_it_draws_on_the_gpu(train_small: TrainSmall) -> None:
    run = train_small("run", *AT)
    drawn = run.best.sample(16, seed=3)
    generator = run.best.generator
    assert next(generator.parameters()).device.type == "cpu"
    there = copy.deepcopy(generator).to(GPU)
    model: Any = tasks.model_of(run.recipe, run.folder.data())
    assert_near(model.draw(there, Randomness(3, 0), 16), drawn, 1e-3)
    on_cpu = eq.evaluate(run.path, run.recipe.data.source, num=100, device="cpu")
    on_gpu = eq.evaluate(run.path, run.recipe.data.source, num=100, device="cuda")
    assert on_gpu.measured.values["kid"] == pytest.approx(on_cpu.measured.values["kid"], rel=0.02, abs=1e-3)


def test_a_loop_of_ones_own_is_watched(quick: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    real = np.random.default_rng(0).integers(0, 256, (300, 1, 16, 16), dtype=np.uint8)
    generator = nn.Sequential(nn.Linear(4, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16))).to(GPU)
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0)).to(GPU)
    optimizers = [torch.optim.Adam(player.parameters(), 1e-3) for player in (generator, discriminator)]
    settings = ["evaluation.num_samples=100", "evaluation.every=160"]
    with eq.Watch(
        tmp_path / "run", real=real, latents=4, loss="non-saturating", budget="640", settings=settings
    ) as watch:
        shown = torch.from_numpy(real[np.asarray(watch.train_indices)]).to(GPU).float() / 127.5 - 1
        while True:
            batch = shown[torch.randint(len(shown), (32,), device=GPU)]
            fake = generator(torch.randn(32, 4, device=GPU))
            real_logits, fake_logits = discriminator(batch), discriminator(fake.detach())
            d_loss = (softplus(-real_logits) + softplus(fake_logits)).mean()
            optimizers[1].zero_grad()
            d_loss.backward()
            optimizers[1].step()
            g_loss = softplus(-discriminator(fake)).mean()
            optimizers[0].zero_grad()
            g_loss.backward()
            optimizers[0].step()
            watch.step(
                32,
                real_logits=real_logits,
                fake_logits=fake_logits,
                discriminator_loss=d_loss,
                generator_loss=g_loss,
            )
            if watch.is_evaluation_due:
                watch.evaluate(generator)
            if watch.verdict:
                break
    run = eq.load(tmp_path / "run")
    assert run.state.stop_reason == "budget"
    assert run.state.test is not None
    assert next(generator.parameters()).device.type == "cuda"
