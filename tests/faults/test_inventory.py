"""Whatever changes while a training goes on is in its checkpoint: a walk through everything that a training holds.

And through everything that it writes: no file of a run is left out where two runs are compared.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import inventory
import killing
import lives
import pytest
import torch
from killing import Case
from small import by_update
from torch import nn

from equipoise.errors import UserError
from equipoise.game.terms import Adjustments
from equipoise.game.updates import Players, make_update
from equipoise.host.intervals import Intervals
from equipoise.recipe import Game, OptimizerName, Recipe, UpdateName
from equipoise.state import TrainingState, plain_values
from equipoise.stopping.monitor import Monitor

SETTINGS = ("saving.log_every=48", "saving.every=80", "evaluation.every=80")
# What a resumed training may hold otherwise: each tells the time, or is set anew before it is read.
OTHERWISE = (
    r"host\.clock\..*",  # tells the time; how many rounds it has seen counts only until the intervals are measured
    r".*(\.|\[')(seconds|samples_per_second)('\])?",  # tells the time
    r"task\.source\.encoder\..*",  # where a resume looks for the run's evaluation encoder, whose digest is compared
    r"host\.writer\._jobs\..*",  # jobs under way: a resume begins with what they have written
)

WIDE = ("networks.width=4", "networks.latent_size=4")
CONVOLUTIONS = (*WIDE, "networks.family=dcgan", "networks.generator_norm=batch")
PROBABLE = "game.loss=non-saturating"
KINDS: dict[str, tuple[str, ...]] = {
    "evidence": ("stopping.policy=evidence",),
    "evidence, normal mixture": ("stopping.policy=evidence", "stopping.evidence.boundary=normal-mixture"),
    "patience": ("stopping.policy=patience", "stopping.patience.evaluations=9"),
    "threshold": ("stopping.policy=discriminator-threshold", PROBABLE, "stopping.threshold.level=1.0"),
    **{
        f"optimizer {name}": tuple(
            f"game.{player}.{setting}"
            for player in ("generator", "discriminator")
            for setting in (f"optimizer={name}", "beta1=0.5")
        )
        for name in get_args(OptimizerName)
    },
    **{f"update {name}": (*CONVOLUTIONS, *by_update(name)) for name in get_args(UpdateName)},
    "resnet, spectral norm": (*WIDE, "networks.family=resnet", "networks.spectral_norm=true"),
    "modern, conditional": (
        *WIDE,
        "networks.family=modern",
        "networks.generator_norm=none",
        "networks.conditional=true",
    ),
    "dropout, lazy penalty": ("networks.dropout=0.3", "game.penalty.every=3"),
    "augmented": ("augment.kinds=flip,translation,rotation,scale,crop,color,cutout", "augment.probability=0.6"),
    "two discriminator steps": ("game.discriminator_steps=2",),
}
OTHER_TASKS = {
    "points": (),
    "super-resolution": ("task.faithful=0.1", "game.penalty.every=3"),  # the adversarial term has come in
    "own": (),
}
PLANTS: dict[str, tuple[Callable[[], None], str]] = {
    "monitor": (inventory.plant_in_monitor, "monitor.planted"),
    "state": (inventory.plant_in_state, "state.planted"),
    "meter": (inventory.plant_in_meter, "state.meter.planted"),
    "update": (inventory.plant_in_update, "state.update.players.generator.planted"),
    "optimizer": (inventory.plant_in_optimizer, "state.update.optimizers['generator'].planted"),
    "buffer": (inventory.plant_in_network, "state.update.players.generator._buffers['planted']"),
    "module": (inventory.plant_in_module, "equipoise.loop.planted"),
}


def small(case: Case, *settings: str) -> Case:
    """Return a training that is longer than the last turn that is looked at."""
    return case.but(*SETTINGS, *settings, budget=480)


def found_in(case: Case, folder: Path, plant: Callable[[], None] | None = None) -> tuple[list[str], int]:
    """Train once whole and once from a checkpoint; return what the second holds otherwise, and how much changes."""
    whole = folder / "whole"
    resumed = folder / "resumed"
    hook = partial(inventory.take, folder / "of whole", plant, resumed)
    assert killing.lived(case, whole, hook) == 0, killing.said(whole)
    hook = partial(inventory.take, folder / "of resumed", plant)
    assert killing.lived(case, resumed, hook) == 0, killing.said(resumed)
    one = inventory.read(folder / "of whole")
    other = inventory.read(folder / "of resumed")
    assert {("turn", samples) for samples in inventory.TURNS[1:]} <= other.keys()
    assert sum(kind == "tell" for kind, _ in other) >= 2
    return inventory.forgotten(one, other, OTHERWISE), len(inventory.stateful(one))


def check_nothing_forgotten(case: Case, folder: Path) -> None:
    """See that a resumed training holds what the uninterrupted one holds."""
    forgotten, num_changing = found_in(case, folder)
    assert num_changing > 100
    assert not forgotten, "\n".join(forgotten)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_resumed_training_holds_what_the_uninterrupted_one_holds(case: Case, tmp_path: Path, name: str) -> None:
    """Networks, optimizers, updates and policies, of images."""
    check_nothing_forgotten(small(case, *KINDS[name]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHER_TASKS)
def test_so_it_does_whatever_is_learned(case_of: Callable[[str], Case], tmp_path: Path, task: str) -> None:
    """Points, photographs, and a task that Python defines."""
    check_nothing_forgotten(small(case_of(task), *OTHER_TASKS[task]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["images", "points"])
def test_so_it_does_after_a_remedy(case_of: Callable[[str], Case], tmp_path: Path, task: str) -> None:
    """The checkpoint gone on from is of the second attempt: with lower rates, and more spent than its position says."""
    befallen = partial(lives.diverging, 176, 1)
    case = small(case_of(task), "saving.log_every=16").but(befallen=befallen, budget=640)
    check_nothing_forgotten(case, tmp_path)
    of_whole = inventory.read(tmp_path / "of whole")["turn", inventory.CUT]
    assert of_whole["state.attempt"] == "1"
    assert of_whole["state.adjustments.generator_rate"] == "0.5"


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_and_forgotten_is_found(case: Case, tmp_path: Path, name: str) -> None:
    """The walk reaches every place in which a training could hide something."""
    plant, path = PLANTS[name]
    forgotten, _ = found_in(small(case), tmp_path, plant)
    assert path in forgotten
    assert all("planted" in found for found in forgotten), "\n".join(forgotten)


RECORDS = ("recipe", "data", "environment", "intervals", "rivals", "exhibits", "state")
OF_A_GENERATOR = ("generator.safetensors", "score.json", "manifest.json")
WRITTEN = {
    *(f"{name}.json" for name in RECORDS),
    *(f"log/{name}.jsonl" for name in ("steps", "scores", "events")),
    *(f"checkpoints/N/{name}" for name in ("tensors.safetensors", "state.json", "manifest.json")),
    *(f"{folder}/{name}" for folder in ("best", "candidates/N") for name in OF_A_GENERATOR),
    "best/README.md",
    "samples/N.png",
    "report.html",
    "lock",
}
ENCODER = "encoder.safetensors"
EXAMPLES = "examples.safetensors"  # a task from Python has no list of them
OF_POINTS = {"samples/best.png", "samples/modes.json", "samples/real.png"}
SHOWN = {
    "images": {"samples/best.png", "samples/nearest.png", "samples/real.png", ENCODER, EXAMPLES},
    "points": {*OF_POINTS, EXAMPLES},
    "super-resolution": {"samples/triplets.png", ENCODER, EXAMPLES},
    "own": OF_POINTS,
}
NOT_COMPARED = ("report.html", "lock")  # by their bytes: the one tells the time, the other is of use while it is held


@pytest.mark.slow
@pytest.mark.parametrize("task", SHOWN)
def test_every_file_of_a_run_is_known_and_none_is_left_out_where_runs_are_compared(
    case_of: Callable[[str], Case], tmp_path: Path, task: str
) -> None:
    """Each is made another in turn, and the comparison that follows every kill must see it."""
    out = tmp_path / "run"
    before = killing.finished(small(case_of(task)), out)
    files = [name for name in before["names"] if (out / name).is_file()]
    assert {re.sub(r"\d+", "N", name) for name in files} == WRITTEN | SHOWN[task]
    unseen = [name for name in files if not is_seen(out, out / name, before)]
    assert [name for name in unseen if name not in NOT_COMPARED] == []


def is_seen(out: Path, path: Path, before: dict[str, Any]) -> bool:
    """Return whether the facts of a run are others, or cannot be read, once a byte of a file is another.

    In JSON that is the end of a name or of a text: it stays JSON.
    """
    content = path.read_bytes()
    place = max((match.start() for match in re.finditer(rb'[0-9a-z](?=")', content)), default=len(content) // 2)
    path.write_bytes(content[:place] + b"Q" + content[place + 1 :])
    try:
        return killing.facts(out) != before
    except (AssertionError, UserError):
        return True
    finally:
        path.write_bytes(content)


def test_what_waits_to_be_written_stays_as_it_was_at_its_moment() -> None:
    """The writer writes while the training goes on: nothing that it was given may be the training's own."""
    update = make_update(Game(), Players(nn.Linear(2, 2), nn.Linear(2, 2)))
    state = TrainingState(update, nn.Linear(2, 2), Intervals())
    state.meter.add({"penalty": torch.tensor(1.0)})
    values = plain_values(state, Monitor(Recipe().stopping, Recipe().budget))
    before = json.dumps(values)
    state.meter.add({"penalty": torch.tensor(1.0), "accuracy": torch.tensor(0.5)})
    state.samples = 8
    state.spent = 16
    state.evaluated = 8
    state.attempt = 1
    state.adjustments = Adjustments(generator_rate=0.25)
    state.update.set_rates(0.5, 0.5)
    assert json.dumps(values) == before
