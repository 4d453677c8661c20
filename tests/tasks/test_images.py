"""Image generation as a problem: terms by hand computation, draws by position, signals by example."""

import dataclasses

import pytest
import torch
from small import SMALL
from torch import Tensor, nn

from equipoise.data.pool import Pool
from equipoise.randomness import Randomness
from equipoise.recipe import Augment, Recipe, with_settings
from equipoise.tasks.images import ImageBatch, ImageProblem, Moment, Players, signals


def problem(pool: Pool, *settings: str) -> ImageProblem:
    return ImageProblem(with_settings(Recipe(), [*SMALL, *settings]), pool, torch.device("cpu"), torch.float32)


class Linear(nn.Module):
    """D(x) = w · Σx: its gradient is w everywhere."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.weight * images.flatten(1).sum(1)


def constant_generator() -> nn.Module:
    class Constant(nn.Module):
        def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
            return torch.zeros(len(latents), 1, 8, 8)

    return Constant()


@pytest.mark.parametrize("kind", ["r1", "r2", "r1+r2"])
def test_penalties_of_a_linear_discriminator_are_known(pool: Pool, kind: str) -> None:
    made = problem(pool, f"game.penalty.kind={kind}", "game.penalty.gamma=2")
    terms = made.discriminator_terms(
        Players(constant_generator(), Linear(0.5)), made.batch(Randomness(0), 8), Moment(Randomness(0))
    )
    for name in kind.split("+"):
        torch.testing.assert_close(terms.losses[name], torch.full((8,), 0.5**2 * 64))
    assert terms.losses.keys() == {"adversarial", *kind.split("+")}


def test_a_lazy_penalty_comes_every_nth_step_n_times_as_strong(pool: Pool) -> None:
    made = problem(pool, "game.penalty.kind=r1", "game.penalty.gamma=2", "game.penalty.every=4")
    players = Players(constant_generator(), Linear(0.5))
    batch = made.batch(Randomness(0), 8)
    for step in range(9):
        terms = made.discriminator_terms(players, batch, Moment(Randomness(0), discriminator_steps=step))
        assert ("r1" in terms.losses) == (step % 4 == 0)
        if step % 4 == 0:
            torch.testing.assert_close(terms.losses["r1"], torch.full((8,), 4 * 0.5**2 * 64))


def test_gamma_follows_its_schedule(pool: Pool) -> None:
    made = problem(pool, "game.penalty.kind=r1", "game.penalty.gamma=2", "game.penalty.gamma_end=1")
    players, batch = Players(constant_generator(), Linear(0.5)), made.batch(Randomness(0), 8)
    end = made.discriminator_terms(players, batch, Moment(Randomness(0), progress=1.0))
    torch.testing.assert_close(end.losses["r1"], torch.full((8,), 0.5 * 0.5**2 * 64))


def test_wgan_gp_of_a_linear_discriminator_is_known(pool: Pool) -> None:
    made = problem(pool, "game.loss=wasserstein", "game.penalty.kind=wgan-gp", "game.penalty.gamma=10")
    terms = made.discriminator_terms(
        Players(constant_generator(), Linear(0.5)), made.batch(Randomness(0), 8), Moment(Randomness(0))
    )
    torch.testing.assert_close(terms.losses["wgan-gp"], torch.full((8,), 10 * (0.5 * 8 - 1.0) ** 2))


def test_a_caller_may_bring_losses_of_their_own(pool: Pool) -> None:
    own = (lambda real, fake: real * 0 + 3.0, lambda real, fake: fake * 0 + 5.0)
    made = dataclasses.replace(problem(pool), losses=own)
    players, batch = Players(constant_generator(), Linear(0.5)), made.batch(Randomness(0), 8)
    moment = Moment(Randomness(0))
    assert made.discriminator_terms(players, batch, moment).losses["adversarial"].tolist() == [3.0] * 8
    assert made.generator_terms(players, batch, moment).losses["adversarial"].tolist() == [5.0] * 8


def test_everything_drawn_is_a_function_of_seed_and_samples(pool: Pool) -> None:
    made = problem(
        pool, "data.flip=true", "game.instance_noise=0.1", "game.penalty.kind=wgan-gp", "game.penalty.gamma=1"
    )
    made = dataclasses.replace(
        made,
        recipe=dataclasses.replace(made.recipe, augment=Augment(kinds=("translation", "cutout", "flip"), strength=0.7)),
    )
    torch.manual_seed(0)
    players = made.networks()

    def losses(seed: int, samples: int) -> list[Tensor]:
        moment = Moment(Randomness(seed, samples), strength=0.7)
        batch = made.batch(moment.randomness, 8)
        terms = made.discriminator_terms(players, batch, moment), made.generator_terms(players, batch, moment)
        return [loss.detach() for term in terms for loss in term.losses.values()]

    first = losses(3, 64)
    torch.rand(5)  # the global stream must not matter
    assert all(torch.equal(a, b) for a, b in zip(first, losses(3, 64), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, losses(3, 72), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, losses(4, 64), strict=True))


def test_generating_draws_the_same_images_for_the_same_seed_and_stays_in_range(pool: Pool) -> None:
    made = problem(pool)
    torch.manual_seed(0)
    generator = made.networks().generator
    images = made.generate(generator, Randomness(5), 10)
    assert images.shape == (10, 1, 8, 8)
    assert images.abs().max() <= 1
    assert torch.equal(images, made.generate(generator, Randomness(5), 10))
    assert not torch.equal(images, made.generate(generator, Randomness(6), 10))


def test_real_images_of_a_split_are_always_the_same_and_splits_share_none(pool: Pool) -> None:
    made = problem(pool)
    train, validation = made.real("train", 50), made.real("validation", 1000)
    assert torch.equal(made.real("validation", 5), validation[:5])
    assert len(validation) == len(pool.splits.validation)
    assert not any(torch.equal(a, b) for a in train for b in validation)


def test_a_conditional_game_tells_both_players_the_class(pool: Pool) -> None:
    made = problem(pool, "networks.conditional=true")
    batch = made.batch(Randomness(0), 8)
    assert isinstance(batch, ImageBatch)
    assert batch.labels is not None
    assert set(batch.labels.tolist()) <= {0, 1}
    torch.manual_seed(0)
    players = made.networks()
    latents = torch.zeros(2, 4)
    one, other = players.generator(latents, torch.tensor([0, 1]))
    assert not torch.equal(one, other)


def test_signals_read_logits_as_their_loss_means_them() -> None:
    real, fake = torch.tensor([2.0, -1.0, 3.0, 1.0]), torch.tensor([1.0, -2.0, 4.0, -1.0])
    assert signals("non-saturating", real, fake)["accuracy"] == 5 / 8
    assert signals("hinge", real, fake)["accuracy"] == 5 / 8
    for loss in ("relativistic", "relativistic-average", "wasserstein", None):
        found = signals(loss, real, fake)
        assert found["accuracy"] == 3 / 4
        assert found["fake_logit"] == 0.5
        assert found["fake_probability"].isnan(), "an offset common to both is no probability"


def test_a_perfect_least_squares_discriminator_is_right_every_time() -> None:
    found = signals("least-squares", torch.ones(4), torch.zeros(4))
    assert found["accuracy"] == 1
    assert found["real_probability"] == 1
    assert found["fake_probability"] == 0


def test_wgan_gp_is_taken_in_float32_whatever_the_networks_compute_in(pool: Pool) -> None:
    class Spying(Linear):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(images, labels)

    seen: list[bool] = []
    made = problem(pool, "game.loss=wasserstein", "game.penalty.kind=wgan-gp", "game.penalty.gamma=10")
    made = dataclasses.replace(made, precision=torch.bfloat16)
    players = Players(constant_generator(), Spying(0.5))
    made.discriminator_terms(players, made.batch(Randomness(0), 8), Moment(Randomness(0)))
    assert seen == [True, True, False]


def test_the_penalty_that_is_shown_is_what_was_added_to_the_loss(pool: Pool) -> None:
    made = problem(pool, "game.penalty.kind=r1+r2", "game.penalty.gamma=2", "game.penalty.every=4")
    players, batch = Players(constant_generator(), Linear(0.5)), made.batch(Randomness(0), 8)
    shown = [
        made.discriminator_terms(players, batch, Moment(Randomness(0), discriminator_steps=step)).signals["penalty"]
        for step in range(4)
    ]
    torch.testing.assert_close(torch.stack(shown), torch.tensor([2 * 4 * 0.5**2 * 64, 0.0, 0.0, 0.0]))


def test_classes_are_drawn_as_often_as_they_are_trained_on_and_in_every_chunk(pool: Pool) -> None:
    made = problem(pool, "networks.conditional=true")

    class Telling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(()))

        def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            return (labels.float() - 0.5).view(-1, 1, 1, 1)

    assert pool.labels is not None
    expected = pool.labels[pool.splits.train].mean()
    means = [(made.generate(Telling(), Randomness(0, begin), 2_000) > 0).float().mean() for begin in (0, 2_000)]
    for mean in means:
        assert abs(mean - expected) < 0.05
    assert means[0] != means[1]


def test_augmentation_works_whatever_precision_the_networks_compute_in(pool: Pool) -> None:
    made = dataclasses.replace(
        problem(pool, "augment.kinds=translation,rotation,color", "augment.strength=1"), precision=torch.bfloat16
    )
    torch.manual_seed(0)
    players, moment = made.networks(), Moment(Randomness(0), strength=1.0)
    batch = made.batch(Randomness(0), 8)
    for terms in (made.discriminator_terms(players, batch, moment), made.generator_terms(players, batch, moment)):
        assert all(torch.isfinite(loss).all() and loss.dtype == torch.float32 for loss in terms.losses.values())
