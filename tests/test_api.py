"""From Python: the lines of the README, an ordinary module as the result, and mistakes as UserError."""

import dataclasses
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import SMALL

import equipoise as eq
from equipoise import api
from equipoise.data import pool
from equipoise.errors import UserError
from equipoise.recipe import Augment, Budget, Data, Game, Judging, Networks, Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage import checkpoints


def small_recipe(source: Path, **changes: object) -> Recipe:
    recipe = Recipe(
        name="mine",
        data=Data(source=str(source)),
        networks=Networks(family="mlp", width=16, latent_size=4),
        game=Game(batch=8),
        judging=Judging(num_samples=100, every=160),
        budget=Budget(samples=160, seconds=None),
    )
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def test_the_five_lines_of_the_readme(quick: None, shapes: Path, tmp_path: Path) -> None:
    run = eq.train(source=shapes, budget="400", out=tmp_path / "run", settings=SMALL)
    images = run.best.sample(64)
    assert images.shape == (64, 1, 8, 8)
    assert images.dtype == torch.float32
    assert float(images.abs().max()) <= 1
    generator = run.best.generator
    assert isinstance(generator, torch.nn.Module)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert generator(torch.randn(2, run.best.latent_size)).shape == (2, 1, 8, 8)
    assert run.report.is_file()
    assert run.state["status"] == "finished"


def test_samples_are_a_function_of_the_seed_however_they_are_drawn(quick: None, shapes: Path, tmp_path: Path) -> None:
    run = eq.train(recipe=small_recipe(shapes), out=tmp_path / "run")
    torch.manual_seed(1)
    first = run.best.sample(300, seed=5)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), expected), "drawing samples must not move the caller's stream"
    assert torch.equal(first, eq.load(run.path).best.sample(300, seed=5))
    assert torch.equal(first, torch.cat(list(run.best.batches(300, seed=5))))
    assert not torch.equal(first, run.best.sample(300, seed=6))


def test_a_best_generator_that_is_replaced_while_it_is_loaded_comes_with_its_own_score(
    quick: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = eq.train(recipe=small_recipe(shapes), out=tmp_path / "run")
    first, real, loads = run.best.score["samples"], checkpoints.load_weights, []

    def replaced(path: Path, generator: torch.nn.Module) -> None:
        real(path, generator)
        loads.append(path)
        if len(loads) == 1:
            names = checkpoints.module_tensors("generator", generator)
            tensors = {name: torch.full_like(tensor, 0.5) for name, tensor in names.items()}
            score = run.folder.read_json(path / "score.json") | {"samples": first + 1}
            checkpoints.write_folder(run.folder.best, {"generator.safetensors": tensors}, {"score.json": score})

    monkeypatch.setattr(checkpoints, "load_weights", replaced)
    best = eq.load(run.path).best
    assert best.score["samples"] == first + 1
    assert all(bool((tensor == 0.5).all()) for tensor in best.generator.state_dict().values())
    assert len(loads) == 2


@pytest.mark.parametrize(("share", "is_advised"), [("0.05", True), ("0.3", False)])
def test_larger_splits_are_advised_only_where_they_are_not_large_already(
    quick: None, tmp_path: Path, share: str, is_advised: bool
) -> None:
    for index in range(25):
        (tmp_path / "few").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * index, np.uint8)).save(tmp_path / "few" / f"{index}.png")
    shares = [f"data.validation={share}", f"data.test={share}", "game.batch=2"]
    with pytest.raises(UserError, match="too few to judge by") as caught:
        eq.train(tmp_path / "few", settings=shares, out=tmp_path / "run")
    assert ("--set data.validation=0.3" in str(caught.value)) == is_advised


def test_two_trainings_without_a_folder_of_their_own_take_two(
    quick: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real, recipe, taken = RunFolder.begun, small_recipe(shapes), []

    def begun(path: Path, *given: Any) -> Any:
        if not taken:
            taken.append(path)
            RunFolder.create(path, recipe)  # by another, in the instant before
        return real(path, *given)

    monkeypatch.setattr(RunFolder, "begun", begun)
    run = eq.train(recipe=recipe)
    assert run.path == taken[0].with_name(taken[0].name[:-1] + "2")
    with pytest.raises(UserError, match="holds a run already"):
        eq.train(recipe=recipe, out=taken[0])


def test_a_recipe_object_is_trained_as_it_is(quick: None, shapes: Path, tmp_path: Path) -> None:
    recipe = small_recipe(shapes, seed=9)
    run = eq.train(recipe=recipe, out=tmp_path / "run")
    assert run.recipe == dataclasses.replace(recipe, data=Data(source=str(shapes), size=8, channels=1))


def test_a_conditional_generator_draws_the_class_it_is_asked_for(quick: None, shapes: Path, tmp_path: Path) -> None:
    networks = Networks(family="mlp", width=16, latent_size=4, conditional=True)
    best = eq.train(recipe=small_recipe(shapes, networks=networks), out=tmp_path / "run").best
    assert best.classes == ("lying", "standing")
    lying, standing, both = best.sample(40, label="lying"), best.sample(40, label="standing"), best.sample(40)
    is_lying, is_standing = ((both - one).abs().amax((1, 2, 3)) < 1e-6 for one in (lying, standing))
    assert bool((is_lying ^ is_standing).all()), "without a label, each image is of one class"
    assert 5 < int(is_lying.sum()) < 35, "the classes are as frequent as in the images: half and half"
    with pytest.raises(eq.UserError, match="lying, standing"):
        best.sample(4, label="leaning")


def test_augmentation_and_bfloat16_train_together(quick: None, shapes: Path, tmp_path: Path) -> None:
    augment = Augment(kinds=("translation", "rotation", "color", "cutout"), strength=1.0)
    recipe = small_recipe(shapes, augment=augment, precision="bfloat16")
    assert eq.train(recipe=recipe, out=tmp_path / "run").state["policy"] == "budget"


def test_training_in_a_thread_leaves_the_signals_alone(quick: None, shapes: Path, tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen: list[object] = []
    runs: list[eq.Run] = []

    def work() -> None:
        recipe = small_recipe(shapes)
        runs.append(eq.train(recipe=recipe, out=tmp_path / "run", tell=lambda _: seen.append(signals())))

    def signals() -> dict[signal.Signals, object]:
        return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert runs[0].state["status"] == "finished"
    assert seen
    assert all(one == before for one in seen)
    assert signals() == before


def test_a_run_is_loaded_from_any_folder(
    quick: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = eq.train(recipe=small_recipe(shapes), out=tmp_path / "run").best.sample(3)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(eq.load("run").best.sample(3), trained)
    monkeypatch.chdir("/")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert torch.equal(eq.load(os.fspath(tmp_path / "moved")).best.sample(3), trained)


def test_what_is_shown_while_it_trains(quick: None, shapes: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    stages: list[tuple[str, float]] = []
    recipe = small_recipe(shapes)
    eq.train(recipe=recipe, out=tmp_path / "run", note=notes.append, preparing=lambda *stage: stages.append(stage))
    assert notes[0].startswith("240 images of ")
    assert notes[1] == f"The run's folder: {tmp_path / 'run'}"
    assert stages[-1][0] == "writing the report"
    assert all(0 <= share <= 1 for _, share in stages)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "modren"}, "Did you mean"),
        ({"size": 7}, "data.size=7"),
        ({"seed": -1}, "seed=-1"),
        ({"budget": "soon"}, "soon"),
        ({"device": "gpu"}, "auto, cpu, mps, cuda or cuda:N"),
        ({"settings": ["game.bach=3"]}, "game.bach"),
        ({"source": "does-not-exist"}, "does-not-exist"),
        ({"source": ""}, "source"),
    ],
)
def test_mistakes_are_user_errors_and_make_no_folder(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(eq.UserError) as error:
        eq.train(**options)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_of_the_other_functions_are_user_errors(quick: None, shapes: Path, tmp_path: Path) -> None:
    run = eq.train(recipe=small_recipe(shapes), out=tmp_path / "run")
    for call in (
        lambda: run.best.sample(0),
        lambda: run.best.sample(1, label="seven"),
        lambda: eq.load(tmp_path),
        lambda: eq.resume(run.path),
        lambda: eq.resume(run.path, budget="80"),
        lambda: eq.evaluate(run.path, shapes, features="incption"),  # type: ignore[arg-type]
        lambda: eq.evaluate(run.path, shapes, num=3),
        lambda: eq.evaluate(run.path, shapes, device="gpu"),
        lambda: eq.evaluate(tmp_path / "nothing", shapes),
        lambda: eq.train(recipe=small_recipe(shapes), out=run.path),
    ):
        with pytest.raises(eq.UserError):
            call()


def test_a_pool_that_has_grown_is_found_out_by_its_digest(quick: None, shapes: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(shapes, tmp_path / "images"))
    run = eq.train(recipe=small_recipe(images), out=tmp_path / "run")
    trained_on = run.folder.read_data()["digest"]
    assert api.prepared(Data(source=str(images)), torch.device("cpu")).digest == trained_on
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(images / "lying" / "one more.png")
    assert api.prepared(Data(source=str(images)), torch.device("cpu")).digest != trained_on
    with pytest.raises(eq.UserError, match="the images changed"):
        eq.resume(run.path, budget="320")


def test_an_evaluation_right_after_the_training_decodes_nothing_again(
    quick: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Path(shutil.copytree(shapes, tmp_path / "images"))
    run = eq.train(recipe=small_recipe(images), out=tmp_path / "run")
    monkeypatch.setattr(pool, "_build", lambda *_: pytest.fail("decoded again"))
    assert eq.evaluate(run.path, images, num=20).protocol.num_generated == 20


def test_names_that_are_asked_for_exist() -> None:
    for name in eq.__all__:
        assert hasattr(eq, name)
    with pytest.raises(AttributeError, match="trian"):
        eq.trian  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
