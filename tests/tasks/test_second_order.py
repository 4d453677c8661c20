"""Updates that differentiate gradients, in whole trainings: points have what they need, other networks are refused."""

from pathlib import Path

import pytest
import torch
from once import Once

import equipoise as eq
from equipoise.errors import Setting, UserError
from equipoise.game.losses import loss_named
from equipoise.game.updates import Players
from equipoise.recipe import Points, with_settings
from equipoise.recipes import Facts, build
from equipoise.tasks.points import PointTask, opened

QUICK = ["evaluation.num_samples=200", "evaluation.every=4000", "saving.every=4000", "saving.log_every=1000"]
WAYS = {
    "consensus": ["game.correction.kind=consensus"],
    "symplectic": ["game.update=simultaneous", "game.correction.kind=symplectic"],
    "competitive": [
        "game.loss=wasserstein",
        *(f"game.{role}.{one}" for role in ("generator", "discriminator") for one in ("optimizer=rmsprop", "beta1=0")),
        "game.update=competitive",
    ],
}


class OnceTask(PointTask):
    """Points with a discriminator that has no second derivatives."""

    def players(self) -> Players:
        found = super().players()
        return Players(found.generator, Once(found.discriminator))


@pytest.mark.parametrize("way", WAYS)
def test_points_are_trained_by_second_derivatives(tmp_path: Path, way: str) -> None:
    run = eq.train("ring", budget="4000", out=tmp_path / "run", settings=[*QUICK, *WAYS[way]])
    assert run.state.status == "finished"
    assert run.state.best is not None


@pytest.mark.parametrize("way", WAYS)
def test_networks_without_second_derivatives_are_refused_and_leave_no_folder(tmp_path: Path, way: str) -> None:
    recipe = with_settings(build("modern", Facts(), Points()), ["data.source=ring", *QUICK, *WAYS[way]])
    source = opened(recipe, torch.device("cpu"))
    task = OnceTask(recipe, source, loss_named(recipe.game.loss), torch.device("cpu"))
    settings = [*QUICK, *WAYS[way]]
    with pytest.raises(UserError) as refused:
        eq.train(task=task, recipe=recipe, budget="4000", out=tmp_path / "run", settings=settings)
    assert isinstance(refused.value.subject, Setting)
    assert refused.value.subject.field in ("game.update", "game.correction.kind")
    assert "second derivatives" in refused.value.problem
    assert not (tmp_path / "run").exists()
