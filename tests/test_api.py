"""From Python: the lines of the README, an ordinary module as the result, and mistakes as UserError."""

import csv
import dataclasses
import doctest
import inspect
import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import FOR_PHOTOS, SETTLED, SMALL
from trainings import Recorder, TrainSmall

import equipoise as eq
import equipoise.game
from equipoise import api, tasks
from equipoise.data import pool
from equipoise.errors import Command, Near, Option, Setting, Together, UserError
from equipoise.game.losses import loss_named
from equipoise.recipe import (
    Augment,
    Budget,
    Data,
    Evaluation,
    Game,
    Images,
    Networks,
    Points,
    Recipe,
    SuperResolution,
)
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.storage import checkpoints
from equipoise.storage.files import read_json, write_json
from equipoise.storage.records import plain

PARTS = ("data.validation=0.2", "data.test=0.3")
SUPER = (*FOR_PHOTOS, *PARTS, "task.scale=2", "task.patch=32", "networks.width=4", "game.batch=4")


def small_recipe(source: str | Path, **changes: Any) -> Recipe:
    """Return a recipe that trains in a second."""
    recipe = Recipe(
        name="mine",
        data=Data(source=str(source)),
        networks=Networks(family="mlp", width=16, latent_size=4),
        game=Game(batch=8),
        evaluation=Evaluation(num_samples=100, every=160),
        budget=Budget(samples=160, seconds=None),
    )
    return dataclasses.replace(recipe, **changes)


def write_points(path: Path, points: Any) -> Path:
    """Write points [N, 2] as a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(np.asarray(points).tolist())
    return path


def refusal(call: Callable[[], Any]) -> UserError:
    """Return the mistake that a call is refused with, in one line."""
    with pytest.raises(UserError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 30 photographs of 48×40 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    draws = np.random.default_rng(1)
    for index in range(30):
        coarse = Image.fromarray(draws.integers(0, 256, (5, 6, 3)).astype(np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


# A training and its result


def test_the_lines_of_the_readme(small: None, shapes: Path, tmp_path: Path) -> None:
    run = eq.train(source=shapes, budget="400", out=tmp_path / "run", settings=SMALL)
    images = run.best.sample(64)
    assert images.shape == (64, 1, 8, 8)
    assert images.dtype == torch.float32
    assert float(images.abs().max()) <= 1
    generator = run.best.generator
    assert isinstance(generator, torch.nn.Module)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert generator(torch.randn(2, 4)).shape == (2, 1, 8, 8)
    assert run.report.is_file()
    assert run.state.status == "finished"


@pytest.mark.parametrize("source", [None, "ring"])
def test_samples_are_a_function_of_the_seed_however_they_are_drawn(train_small: TrainSmall, source: str | None) -> None:
    run = train_small("run", source=source, budget="160")
    torch.manual_seed(1)
    first = run.best.sample(300, seed=5)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), expected), "drawing samples must not move the caller's stream"
    assert torch.equal(first, eq.load(run.path).best.sample(300, seed=5))
    assert torch.equal(first, torch.cat(list(run.best.batches(300, seed=5))))
    assert not torch.equal(first, run.best.sample(300, seed=6))


def test_a_best_generator_that_is_replaced_while_it_is_loaded_comes_with_its_own_score(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_small("run", source="ring", budget="160")
    first = run.best.score.samples
    real = api.load_weights
    loads: list[Path] = []

    def replaced(path: Path, generator: torch.nn.Module) -> None:
        real(path, generator)
        loads.append(path)
        if len(loads) == 1:
            names = checkpoints.module_tensors("generator", generator)
            tensors = {name: torch.full_like(tensor, 0.5) for name, tensor in names.items()}
            score = (read_json(path / "score.json") or {}) | {"samples": first + 1}
            checkpoints.write_folder(run.folder.best, {"generator.safetensors": tensors}, {"score.json": score})

    monkeypatch.setattr(api, "load_weights", replaced)
    best = eq.load(run.path).best
    assert best.score.samples == first + 1
    assert all(bool((tensor == 0.5).all()) for tensor in best.generator.state_dict().values())
    assert len(loads) == 2


def test_a_conditional_generator_draws_the_class_it_is_asked_for(train_small: TrainSmall) -> None:
    best = train_small("run", "networks.conditional=true", budget="160").best
    lying = best.sample(40, label="lying")
    standing = best.sample(40, label="standing")
    both = best.sample(40)
    is_lying = (both - lying).abs().amax((1, 2, 3)) < 1e-6
    is_standing = (both - standing).abs().amax((1, 2, 3)) < 1e-6
    assert bool((is_lying ^ is_standing).all()), "without a label, each image is of one class"
    assert 5 < int(is_lying.sum()) < 35, "the classes are as frequent as in the images: half and half"
    error = refusal(lambda: best.sample(4, label="layin"))
    assert error.remedies == (Near("lying"),)
    assert "standing" in error.problem


def test_a_generator_with_a_code_draws_the_category_it_is_asked_for(train_small: TrainSmall) -> None:
    settings = ("networks.categorical_codes=2", "game.information=1")
    best = train_small("run", *settings, budget="160").best
    first, second, both = (best.sample(40, label=label) for label in ("1", "2", None))
    is_first = (both - first).abs().amax((1, 2, 3)) < 1e-6
    is_second = (both - second).abs().amax((1, 2, 3)) < 1e-6
    assert bool((is_first ^ is_second).all()), "without a label, each image is of one category"
    for label in ("0", "3", "one"):
        error = refusal(lambda label=label: best.sample(4, label=label))
        assert (error.subject, error.remedies) == (Option("label", label), (Option("label", 1),))
        assert "2 categories: 1 to 2" in error.problem


def test_what_a_generator_cannot_do_is_refused_in_words(train_small: TrainSmall, shapes: Path, tmp_path: Path) -> None:
    image = next(shapes.rglob("*.png"))
    for source, noun in ((None, "images"), ("ring", "points")):
        best = train_small(noun, source=source, budget="160").best
        assert refusal(lambda best=best: list(best.apply(image))).subject == image
        assert refusal(lambda best=best: best.sample(2, label="seven")).subject == Option("label", "seven")
        assert refusal(lambda best=best: best.sample(0)).subject == Option("num", 0)
    assert list(tmp_path.glob("*.png")) == []


def test_a_generator_of_large_images_is_applied_to_files_and_folders_and_draws_none(
    train_small: TrainSmall, photos: Path, tmp_path: Path
) -> None:
    run = train_small("large", *SUPER, task="super-resolution", source=photos, budget="80")
    refusal(lambda: run.best.sample(1))
    small = tmp_path / "small"
    small.mkdir()
    for name, size in (("a", (7, 5)), ("b", (12, 9))):
        Image.new("RGB", size, "red").save(small / f"{name}.png")
    outputs = dict(run.best.apply(small))
    assert {name: tuple(image.shape) for name, image in outputs.items()} == {"a": (3, 10, 14), "b": (3, 18, 24)}
    [(name, image)] = run.best.apply(small / "a.png")
    assert name == "a"
    assert torch.equal(image, outputs["a"])
    refusal(lambda: list(run.best.apply(tmp_path / "none.png")))
    found = eq.evaluate(run.path, photos)
    assert run.state.test is not None
    assert found.measured.loss == pytest.approx(run.state.test.loss)


def test_a_run_is_loaded_from_any_folder(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_small("run", budget="160").best.sample(3)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(eq.load("run").best.sample(3), trained)
    monkeypatch.chdir("/")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert torch.equal(eq.load(os.fspath(tmp_path / "moved")).best.sample(3), trained)


def test_a_run_that_was_begun_in_another_folder_is_resumed_with_its_own_data(
    small: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shapes.parent)
    run = eq.train(shapes.name, out=tmp_path / "run", budget="160", settings=SETTLED)
    monkeypatch.chdir(tmp_path)
    assert eq.resume("run", budget="320").state.samples == 320
    assert run.recipe.data.source == shapes.name


def test_two_trainings_without_a_folder_of_their_own_take_two(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real = RunFolder.begin
    recipe = small_recipe("ring", task=Points())
    taken: list[Path] = []

    def begin(path: Path, *given: Any) -> Any:
        if not taken:
            taken.append(path)
            RunFolder.create(path, recipe)  # by another, in the instant before
        return real(path, *given)

    monkeypatch.setattr(RunFolder, "begin", begin)
    run = eq.train(recipe=recipe)
    assert run.path == taken[0].with_name(taken[0].name[:-1] + "2")
    error = refusal(lambda: eq.train(recipe=recipe, out=taken[0]))
    assert error.subject == taken[0]
    assert error.remedies[0] == Command("resume", taken[0])


def test_training_in_a_thread_leaves_the_signals_alone(train_small: TrainSmall) -> None:
    def signals() -> dict[signal.Signals, object]:
        return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    class Looking(api.Silent):
        """Looks at the signals while it is trained."""

        def progress(self, progress: Any) -> None:
            """Look."""
            seen.append(signals())

    before = signals()
    seen: list[object] = []
    runs: list[eq.Run] = []
    thread = threading.Thread(target=lambda: runs.append(train_small("run", source="ring", observer=Looking())))
    thread.start()
    thread.join()
    assert runs[0].state.status == "finished"
    assert len(seen) == 10
    assert all(one == before for one in seen)
    assert signals() == before


def test_points_say_what_they_take_of_a_recipe_for_images(train_small: TrainSmall) -> None:
    named, usual = Recorder(), Recorder()
    train_small("named", source="ring", recipe="acgan", budget="160", observer=named)
    train_small("usual", source="ring", budget="160", observer=usual)
    assert any("Of the recipe acgan, points take the loss" in text for text in named.messages)
    assert not any("Of the recipe" in text for text in usual.messages)


def test_what_is_shown_while_it_trains(train_small: TrainSmall, tmp_path: Path) -> None:
    observer = Recorder()
    train_small("run", budget="160", observer=observer)
    assert "240" in observer.messages[0]
    assert "8×8" in observer.messages[0]
    assert str(tmp_path / "run") in observer.messages[1]
    assert len({text for text, _ in observer.stages}) >= 4
    assert all(0 <= share <= 1 for _, share in observer.stages)


def test_augmentation_and_bfloat16_train_together(small: None, shapes: Path, tmp_path: Path) -> None:
    augment = Augment(kinds=("translation", "rotation", "color", "cutout"), probability=1.0)
    recipe = small_recipe(shapes, augment=augment, precision="bfloat16")
    run = eq.train(recipe=recipe, out=tmp_path / "run")
    assert run.state.stop_reason == "budget"
    assert run.folder.read_environment()["precision"] == "bfloat16"


# Which recipe is trained


def test_a_recipe_object_is_trained_as_it_is(small: None, shapes: Path, tmp_path: Path) -> None:
    recipe = small_recipe(shapes, seed=9)
    run = eq.train(recipe=recipe, out=tmp_path / "run")
    assert run.recipe == dataclasses.replace(recipe, task=Images(size=8, channels=1))


@pytest.mark.parametrize("options", [{}, {"source": "ring"}, {"task": "points"}, {"source": "ring", "task": "points"}])
def test_a_recipe_object_keeps_its_own_settings_of_its_task(
    small: None, tmp_path: Path, options: dict[str, Any]
) -> None:
    recipe = small_recipe("ring", task=Points(deviation=0.2))
    run = eq.train(recipe=recipe, out=tmp_path / "run", **options)
    assert run.recipe == recipe
    points = run.task or tasks.opened(run.recipe, torch.device("cpu"), lambda *_: None)
    assert points.mixture is not None  # type: ignore[union-attr]
    assert points.mixture.deviation == 0.2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"source": "ring"}, Points()),
        ({"source": "grid", "settings": ["task.deviation=0.1"]}, Points(deviation=0.1)),
        ({"task": "points", "source": "points.csv"}, Points()),
        ({"task": "super-resolution", "settings": ["task.scale=2"]}, SuperResolution(scale=2)),
        ({"task": "images", "size": 16}, Images(size=16)),
        ({"recipe": "dcgan-64"}, Images(size=64)),
        ({"recipe": "dcgan-64", "size": 32}, Images(size=32)),
        ({"size": 16, "settings": ["task.size=32"]}, Images(size=16)),
    ],
)
def test_the_task_follows_from_its_name_or_from_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, Any], expected: Any
) -> None:
    assert asked_for(monkeypatch, tmp_path, **options).task == expected


def asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> Recipe:
    """Return the recipe with which a training goes to its data."""
    seen: list[Recipe] = []

    def opened(recipe: Recipe, *_: Any) -> Any:
        seen.append(recipe)
        raise UserError("data", "is not read here")

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "opened", opened)
        refusal(lambda: eq.train(out=tmp_path / "run", **options))
    return seen[0]


def test_arguments_go_before_settings_and_settings_before_the_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def asked(**options: Any) -> Recipe:
        return asked_for(monkeypatch, tmp_path, **options)

    recipe = Recipe(seed=1, game=Game(batch=16), device="auto")
    found = asked(recipe=recipe, settings=["game.batch=32", "seed=2", "device=auto"], seed=3, device="cpu")
    assert (found.game.batch, found.seed, found.device) == (32, 3, "cpu")
    assert asked(recipe=recipe, settings=["game.batch=8", "game.batch=24"]).game.batch == 24, "the last counts"
    assert asked(recipe=recipe, source="photos/").data.source == "photos/"
    assert asked(recipe=recipe).data.source == recipe.data.source == "mnist"
    assert asked(recipe=recipe, budget="5k").budget == Budget(samples=5000, seconds=None)
    assert asked(recipe=recipe, budget="5m").budget == Budget(samples=None, seconds=300.0)
    found = asked(recipe="hinge-sn", loss=loss_named("hinge"), settings=["game.loss=wasserstein"])
    assert found.game.loss == "custom", "what is trained by is what the recipe says"
    assert asked(recipe="wgan-gp", source="ring").networks.family == "mlp", "a named recipe fits itself to points"
    assert asked(recipe="wgan-gp", source="ring").game.penalty.kind == "wgan-gp"


# Mistakes


@pytest.mark.parametrize(
    ("options", "subject", "remedy"),
    [
        ({"recipe": "modren"}, Option("recipe", "modren"), Near("modern")),
        ({"task": "imges"}, Option("task", "imges"), Near("images")),
        ({"task": "custom"}, Option("task", "custom"), None),
        ({"size": 7}, Setting("task.size", "7"), None),
        ({"size": 8, "source": "ring"}, Setting("task.size"), None),
        ({"seed": -1}, Setting("seed", "-1"), None),
        ({"budget": "soon"}, Option("budget", "soon"), Option("budget", "10m")),
        ({"device": "gpu"}, Setting("device", "gpu"), None),
        ({"device": "cuda:77"}, Option("device", "cuda:77"), Option("device", "cpu")),
        ({"settings": ["game.bach=3"]}, Setting("game.bach"), Near("game.batch")),
        ({"settings": ["game.loss=custom"]}, Setting("game.loss", "custom"), None),
        ({"source": "does-not-exist"}, 'source "does-not-exist"', None),
        ({"source": ""}, 'source ""', None),
        ({"source": "none.csv", "task": "points"}, 'source "none.csv"', Option("task", "images")),
        ({"source": "ring", "settings": ["networks.conditional=true"]}, Setting("networks.conditional", True), None),
    ],
    ids=str,
)
def test_mistakes_are_user_errors_and_make_no_folder(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], subject: Any, remedy: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(lambda: eq.train(**options))
    assert error.subject == subject
    assert remedy is None or remedy in error.remedies
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "modren"},
        {"budget": "soon"},
        {"settings": ["game.bach=3"]},
        {"settings": ["game.loss=custom"]},
        {"device": "cuda:77"},
        {"out": "taken"},
        {"out": "file"},
    ],
    ids=str,
)
def test_what_can_be_known_is_refused_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder.create(tmp_path / "taken", Recipe())
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(tasks, "opened", lambda *_: pytest.fail("the data were read"))
    refusal(lambda: eq.train(**options))


@pytest.mark.parametrize("share", ["0.05", "0.3"])
def test_the_one_remedy_for_few_images_is_enough(small: None, tmp_path: Path, share: str) -> None:
    (tmp_path / "few").mkdir()
    for index in range(25):
        Image.fromarray(np.full((8, 8), 10 * index, np.uint8)).save(tmp_path / "few" / f"{index}.png")
    given = [*SMALL, "game.batch=8", f"data.validation={share}", f"data.test={share}"]
    error = refusal(lambda: eq.train(tmp_path / "few", budget="80", settings=given, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    (together,) = [part for part in error.remedies if isinstance(part, Together)]
    assert {setting.field for setting in together.settings} == {"data.validation", "data.test", "game.batch"}
    given += [f"{setting.field}={setting.value}" for setting in together.settings]
    run = eq.train(tmp_path / "few", budget="80", settings=given, out=tmp_path / "run")
    assert run.state.status == "finished"


def test_of_a_folder_of_which_little_is_used_the_refusal_says_what_was_left_out(small: None, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for index in range(120):
        (tmp_path / "few" / f"{index}.heic").write_bytes(b"")
    for index in range(10):
        Image.fromarray(np.full((8, 8), 10 * index, np.uint8)).save(tmp_path / "few" / f"{index}.png")
    error = refusal(lambda: eq.train(tmp_path / "few", out=tmp_path / "run"))
    for part in ("10 distinct", "120 of 130", ".heic", "22"):
        assert part in error.problem
    assert "12" in str(error.remedies)


def test_a_task_that_breaks_its_contract_is_refused_before_there_is_a_folder(small: None, tmp_path: Path) -> None:
    class Broken:
        """Describes nothing."""

        def describe(self) -> None:
            """Return nothing."""

    for broken in (Broken(), object()):
        task: Any = broken
        assert "describe" in str(refusal(lambda task=task: eq.train(task=task, out=tmp_path / "run")))
        assert not (tmp_path / "run").exists()


def test_a_loss_beside_a_task_from_python_is_refused_and_not_ignored(small: None, tmp_path: Path) -> None:
    recipe = dataclasses.replace(small_recipe("ring"), task=Points())
    loss = loss_named("hinge")
    task = tasks.opened(recipe, torch.device("cpu"), print).task(recipe, loss, torch.float32, print)
    error = refusal(lambda: eq.train(task=task, recipe=recipe, loss=loss, out=tmp_path / "run"))
    assert error.subject == Option("loss")
    assert not (tmp_path / "run").exists()


def test_a_device_on_which_a_task_from_python_does_not_compute_is_refused() -> None:
    recipe = Recipe(device="cpu")
    for asked in (recipe, Recipe()):
        api.refuse_ignored(asked, None, torch.device("cpu"))
    api.refuse_ignored(Recipe(), None, torch.device("meta"))
    error = refusal(lambda: api.refuse_ignored(recipe, None, torch.device("meta")))
    assert error.subject == Option("device", "cpu")
    assert "meta" in error.problem


def test_wrong_arguments_of_the_other_functions_are_user_errors(
    train_once: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    run = train_once("run", budget="160")
    wrong: Any = "incption"
    subjects = {
        "num": refusal(lambda: run.best.sample(0)).subject,
        "label": refusal(lambda: run.best.sample(1, label="seven")).subject,
        "no run": refusal(lambda: eq.load(tmp_path)).subject,
        "finished": refusal(lambda: eq.resume(run.path)).subject,
        "spent": refusal(lambda: eq.resume(run.path, budget="80")).subject,
        "features": refusal(lambda: eq.evaluate(run.path, shapes, features=wrong)).subject,
        "few": refusal(lambda: eq.evaluate(run.path, shapes, num=3)).subject,
        "device": refusal(lambda: eq.evaluate(run.path, shapes, device="gpu")).subject,
        "nothing": refusal(lambda: eq.evaluate(tmp_path / "nothing", shapes)).subject,
        "taken": refusal(lambda: eq.train(recipe=small_recipe(shapes), out=run.path)).subject,
    }
    assert subjects["num"] == Option("num", 0)
    assert subjects["label"] == Option("label", "seven")
    assert subjects["no run"] == tmp_path
    assert subjects["finished"] == subjects["taken"] == run.path
    assert subjects["spent"] == Option("budget", "80")
    assert subjects["features"] == Setting("evaluation.features", "incption")
    assert subjects["device"] == Setting("device", "gpu")


def test_a_run_of_a_custom_loop_is_only_for_its_script(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"name": CUSTOM_LOOP})
    for call in (lambda: eq.load(run.path).best, lambda: eq.resume(run.path), lambda: eq.evaluate(run.path, "ring")):
        assert refusal(call).subject == run.path


DAMAGES = [
    *itertools.product(["recipe.json", "data.json", "state.json", "environment.json"], ["{", "[1]"]),
    *((name, '{"format": "new"}') for name in ("recipe.json", "state.json")),
    ("data.json", '{"num_train": "many"}'),
]


@pytest.mark.parametrize(("name", "text"), DAMAGES)
def test_a_damaged_file_is_named_by_a_resume_and_left_as_it_is(
    train_once: TrainSmall, tmp_path: Path, name: str, text: str
) -> None:
    run = eq.load(shutil.copytree(train_once("run", source="ring", budget="160").path, tmp_path / "run"))
    (run.path / name).write_text(text)
    error = refusal(lambda: eq.resume(run.path, budget="320"))
    assert error.subject == run.path / name
    assert (run.path / name).read_text() == text


@pytest.mark.parametrize("facts", [{}, {"size": "large", "channels": 1}, {"size": 8}])
def test_damaged_facts_of_the_data_are_named_by_their_file(
    train_once: TrainSmall, tmp_path: Path, facts: dict[str, Any]
) -> None:
    run = eq.load(shutil.copytree(train_once("run", budget="160").path, tmp_path / "run"))
    data = run.folder.read_data()
    assert data is not None
    write_json(run.path / "data.json", plain(data) | {"facts": facts})
    assert refusal(lambda: eq.load(run.path).best).subject == run.path / "data.json"
    (run.path / "data.json").unlink()
    for call in (lambda: eq.load(run.path).best, lambda: eq.resume(run.path, budget="320")):
        assert refusal(call).subject == run.path / "data.json"


# Data that change, and evaluations


def test_data_that_have_grown_are_found_out_by_their_digest(small: None, shapes: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shapes, tmp_path / "images"))
    csv_file = write_points(tmp_path / "points.csv", np.random.default_rng(0).normal(size=(400, 2)))
    of_images = eq.train(folder, out=tmp_path / "a", budget="160", settings=SETTLED)
    of_points = eq.train(csv_file, task="points", out=tmp_path / "b", budget="160", settings=SETTLED)
    for run in (of_images, of_points):
        assert eq.resume(run.path, budget="320").state.samples == 320
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(folder / "lying" / "one more.png")
    csv_file.write_text(csv_file.read_text() + "0.5,0.5\n")
    for run in (of_images, of_points):
        error = refusal(lambda run=run: eq.resume(run.path, budget="480"))
        assert error.remedies[-1] == Command("train", run.recipe.data.source, start_from=run.path)


def test_an_evaluation_right_after_the_training_decodes_nothing_again(
    train_small: TrainSmall, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Path(shutil.copytree(shapes, tmp_path / "images"))
    run = train_small("run", source=images, budget="160")
    monkeypatch.setattr(pool, "_build", lambda *_: pytest.fail("decoded again"))
    found = eq.evaluate(run.path, images, num=20)
    assert found.protocol["num_generated"] == found.measured.num == 20


def shared(protocol: dict[str, Any]) -> dict[str, Any]:
    """Return a protocol without what only one side is."""
    return {name: value for name, value in protocol.items() if name != "generated"}


def test_generated_images_and_points_are_scored_as_a_generator_is(
    train_once: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    run = train_once("run", budget="160")
    run.best.model.write(run.best.batches(60), tmp_path / "generated")
    found = eq.evaluate(tmp_path / "generated", shapes, split="test")
    assert found.protocol["num_generated"] == 60
    assert found.protocol["split"] == "test"
    drawn = eq.evaluate(run.path, shapes, split="test", num=60)
    assert shared(found.protocol) == shared(drawn.protocol)
    assert found.measured.loss == pytest.approx(drawn.measured.loss, rel=0.5)
    assert {metric.name for metric in found.metrics} == found.measured.values.keys()
    assert {score.role for score in found.rivals} == {"floor", "ceiling"}

    run = train_once("run", source="ring", budget="160")
    run.best.model.write(run.best.batches(200), tmp_path / "generated.csv")
    found = eq.evaluate(tmp_path / "generated.csv", "ring", task="points", split="test")
    assert found.protocol["num_generated"] == 200
    assert "modes" in found.measured.values
    real = write_points(tmp_path / "real.csv", tasks.opened(run.recipe, torch.device("cpu"), print).of("test")[:200])  # type: ignore[attr-defined]
    assert eq.evaluate(real, "ring", task="points").measured.loss < found.measured.loss


def test_a_source_is_examined_as_a_training_would(small: None, shapes: Path, tmp_path: Path) -> None:
    few = Path(shutil.copytree(shapes, tmp_path / "images"))
    (few / "lying" / "broken.png").write_bytes(b"no picture")
    found = eq_check(few, settings=["game.batch=8"])
    assert (found.num_files, found.num_used) == (241, 240)
    assert [item.name for item in found.rejected] == [os.path.join("lying", "broken.png")]
    assert found.training.refusal is None
    assert found.training.recipe.task == Images(size=8, channels=1)
    refused = eq_check(few, settings=["game.batch=4096"]).training.refusal
    assert refused is not None
    assert Setting("game.batch", found.training.num_train // 2) in refused.remedies
    assert refusal(lambda: eq_check(tmp_path / "nowhere")).subject == f'source "{tmp_path / "nowhere"}"'
    assert refusal(lambda: eq_check("ring", recipe=Recipe(task=Points()))).subject == Option("recipe")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


eq_check: Callable[..., Any] = api.check_data


# The public names


def test_names_that_are_asked_for_exist_and_say_what_they_are() -> None:
    assert set(eq.__all__) <= set(dir(eq))
    for name in eq.__all__:
        assert inspect.getdoc(getattr(eq, name))
    assert set(equipoise.game.__all__) == set(dir(equipoise.game))
    for name in equipoise.game.__all__:
        assert inspect.getdoc(getattr(equipoise.game, name))
    with pytest.raises(AttributeError, match="trian"):
        eq.trian  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def examples() -> list[doctest.DocTest]:
    """Return the examples in the docstrings of all public names."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in eq.__all__ for test in finder.find(getattr(eq, name), f"equipoise.{name}", globs={})]
    found += finder.find(equipoise.game, "equipoise.game", module=False, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_example_in_a_docstring_runs_and_gives_what_it_says(
    small: None, tmp_path: Path, shapes: Path, example: doctest.DocTest
) -> None:
    example.globs = {"FOLDER": str(tmp_path / "run"), "PHOTOS": str(shapes)}
    told: list[str] = []
    doctest.DocTestRunner().run(example, out=told.append, clear_globs=False)
    assert not told, "".join(told)


def test_what_is_called_most_has_an_example() -> None:
    names = {example.name.removeprefix("equipoise.") for example in examples()}
    assert {"train", "resume", "load", "evaluate", "Best.sample", "Watch"} <= names
