"""Whatever changes while a training goes on is in its checkpoint: a walk through everything that a training holds."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import inventory
import killing
import pytest
import torch
from killing import Case
from torch import nn

from equipoise.recipe import Recipe
from equipoise.state import State, plain_values
from equipoise.stopping.monitor import Referee
from equipoise.tasks.images import Players

SETTINGS = ("saving.log_every=48", "saving.every=80", "judging.every=80")
# What a resumed training may hold otherwise: each tells the time, or is set anew before it is read.
OTHERWISE = (
    r"stopwatch\..*",  # tells the time; how many steps it has seen counts only until a pace is measured
    r".*(\.|\[')(seconds|samples_per_second)('\])?",  # tells the time
    r"interruption\._timeout",  # the limit of the last look: each look sets it first
    r"saver\._jobs\..*",  # jobs under way: a resume begins with what they have written
)

WIDE = ("networks.width=4", "networks.latent_size=4")
PROBABLE = "game.loss=non-saturating"
KINDS: dict[str, tuple[str, ...]] = {
    "evidence": ("stopping.policy=evidence",),
    "evidence, normal mixture": ("stopping.policy=evidence", "stopping.boundary=normal-mixture"),
    "patience": ("stopping.policy=patience", "stopping.patience=9"),
    "threshold": ("stopping.policy=discriminator-threshold", PROBABLE, "stopping.threshold=1.0"),
    "by fid": ("judging.metric=fid", "stopping.policy=evidence"),
    **{
        f"optimizer {name}": tuple(
            f"game.{player}.{setting}"
            for player in ("generator", "discriminator")
            for setting in (f"optimizer={name}", "beta1=0.5")
        )
        for name in ("adam", "adamw", "rmsprop", "adagrad", "sgd")
    },
    "dcgan, batch norm": (*WIDE, "networks.family=dcgan", "networks.generator_norm=batch"),
    "resnet, spectral norm": (*WIDE, "networks.family=resnet", "networks.spectral_norm=true"),
    "modern, conditional": (
        *WIDE,
        "networks.family=modern",
        "networks.generator_norm=none",
        "networks.conditional=true",
    ),
    "dropout, lazy penalty": ("networks.dropout=0.3", "game.penalty.every=3"),
    "augmented": ("augment.kinds=flip,translation,rotation,scale,crop,color,cutout", "augment.strength=0.6"),
    "two discriminator steps": ("game.discriminator_steps=2",),
}
PLANTS: dict[str, tuple[Callable[[], None], str]] = {
    "referee": (inventory.plant_in_referee, "referee.planted"),
    "state": (inventory.plant_in_state, "state.planted"),
    "meter": (inventory.plant_in_meter, "state.meter.planted"),
    "optimizer": (inventory.plant_in_optimizer, "state.generator_optimizer.planted"),
    "buffer": (inventory.plant_in_network, "state.players.generator._buffers['planted']"),
    "module": (inventory.plant_in_module, "equipoise.loop.planted"),
}


def small(case: Case, *settings: str) -> Case:
    return case.but(*SETTINGS, *settings, budget=480)


def found_in(case: Case, folder: Path, plant: Callable[[], None] | None = None) -> tuple[list[str], int]:
    """Train once whole and once from a checkpoint; return what the second holds otherwise, and how much changes."""
    whole, resumed = folder / "whole", folder / "resumed"
    hook = partial(inventory.take, folder / "of whole", plant, resumed)
    assert killing.lived(case, whole, hook) == 0, killing.said(whole)
    hook = partial(inventory.take, folder / "of resumed", plant)
    assert killing.lived(case, resumed, hook) == 0, killing.said(resumed)
    one, other = inventory.read(folder / "of whole"), inventory.read(folder / "of resumed")
    assert {("turn", samples) for samples in inventory.TURNS[1:]} <= other.keys()
    assert sum(kind == "tell" for kind, _ in other) >= 2
    return inventory.forgotten(one, other, OTHERWISE), len(inventory.stateful(one))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_resumed_training_holds_what_the_uninterrupted_one_holds(case: Case, tmp_path: Path, name: str) -> None:
    forgotten, num_changing = found_in(small(case, *KINDS[name]), tmp_path)
    assert num_changing > 100
    assert not forgotten, "\n".join(forgotten)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_and_forgotten_is_found(case: Case, tmp_path: Path, name: str) -> None:
    plant, path = PLANTS[name]
    forgotten, _ = found_in(small(case), tmp_path, plant)
    assert path in forgotten
    assert all("planted" in found for found in forgotten), "\n".join(forgotten)


def test_what_waits_to_be_written_stays_as_it_was_at_its_moment() -> None:
    """The saver writes while the training goes on: nothing that it was given may be the training's own."""
    networks = [nn.Linear(2, 2) for _ in range(3)]
    optimizers = [torch.optim.Adam(network.parameters()) for network in networks[:2]]
    state = State(Players(networks[0], networks[1]), networks[2], optimizers[0], optimizers[1], strength=0.5)
    state.meter.add({"penalty": torch.tensor(1.0)})
    values = plain_values(state, Referee(Recipe().stopping, Recipe().budget))
    before = json.dumps(values)
    state.meter.add({"penalty": torch.tensor(1.0), "accuracy": torch.tensor(0.5)})
    state.samples, state.strength, state.judged = 8, 0.75, 8
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 0.5
    assert json.dumps(values) == before
