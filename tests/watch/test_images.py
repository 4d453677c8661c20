"""Real images given to a watch: how they are split, described and refused, and which latents are drawn."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shifted import Shifted, opened
from torch import Tensor

from equipoise.errors import Option, Setting, Together, UserError
from equipoise.metrics.features import encoder
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records
from equipoise.watch.images import GivenImages, given_images

pytestmark = pytest.mark.usefixtures("small")


def test_the_folder_says_what_the_images_are(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", real, seed=3)
    run = RunFolder(tmp_path / "run")
    data = run.read_data()
    assert data is not None
    assert (data.num_train, data.path) == (len(watch.train_indices), None)
    assert [metric.name for metric in data.metrics if metric.decides] == ["kid"]
    assert data.facts == {"size": 8, "channels": 1}
    assert set(run.read_recipe()) == {"name", "seed", "stopping", "evaluation"}
    assert (run.recipe().seed, run.recipe().evaluation.num_samples) == (3, 100)


def test_the_folder_keeps_the_encoder_that_its_run_goes_on_with(
    tmp_path: Path, real: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    run = RunFolder(tmp_path / "run")
    watch = opened(run.path, real)
    watch.interrupt()
    before = run.read_data()
    assert before is not None
    assert before.encoder is not None
    assert hashlib.sha256(run.encoder.read_bytes()).hexdigest() == before.encoder.digest
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(encoder, "SEED", 1)  # one that were trained now would be another
    opened(run.path, real, resume=True).interrupt()
    now = run.read_data()
    assert now is not None
    assert now.encoder == before.encoder


def test_real_images_are_split_by_content(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", np.concatenate([real[:400], real[:400]]))
    train = watch.train_indices
    assert 0.7 < len(train) / 800 < 0.9
    assert len(set(train % 400)) * 2 == len(train)  # duplicates stay on one side
    watch.close()
    again = opened(tmp_path / "uint8", ((real[:400] + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
    assert len(again.train_indices) == len(train) / 2
    again.close()


def test_a_folder_of_images_is_a_source_as_in_a_training(tmp_path: Path, shapes: Path) -> None:
    watch = opened(tmp_path / "run", shapes)
    watch.step(10)
    watch.evaluate(Shifted(-0.5))
    watch.close()
    data = RunFolder(tmp_path / "run").read_data()
    assert data is not None
    assert (data.source, data.classes) == (str(shapes), ("lying", "standing"))


def test_latents_have_a_shape_and_are_drawn_by_seed(real: np.ndarray) -> None:
    def given(seed: int, shape: tuple[int, ...]) -> GivenImages:
        return given_images(real, shape, Recipe(seed=seed), lambda text, share: None)

    def latents(made: GivenImages, begin: int) -> Tensor:
        found: list[Tensor] = []

        def draw(latents: Tensor) -> Tensor:
            found.append(latents)
            return torch.zeros(len(latents), 1, 8, 8)

        made.outputs(draw, Randomness(5, begin), "validation", begin, 3)
        return found[0]

    first = latents(given(0, (2, 1, 1)), 0)
    assert first.shape == (3, 2, 1, 1)
    assert torch.equal(first, latents(given(0, (2, 1, 1)), 0))
    assert not torch.equal(first, latents(given(0, (2, 1, 1)), 250))
    assert not torch.equal(first, latents(given(1, (2, 1, 1)), 0))


@pytest.mark.parametrize(
    ("generator", "subject"),
    [
        (lambda latents: torch.zeros(len(latents), 1, 4, 16), "generator"),
        (lambda latents: torch.zeros(len(latents) + 1, 1, 8, 8), "generator"),
        (lambda latents: torch.full((len(latents), 1, 8, 8), 100.0), "generator"),
        (lambda latents: "images", "generator"),
        (3, "generator"),
    ],
)
def test_what_is_no_image_is_refused_at_the_first_score(
    tmp_path: Path, real: np.ndarray, generator: Any, subject: str
) -> None:
    watch = opened(tmp_path / "run", real)
    with pytest.raises(UserError) as error:
        watch.evaluate(generator)
    assert error.value.subject == subject
    assert records(tmp_path / "run" / "log" / "scores.jsonl") == []
    watch.close()


def test_a_watch_with_images_takes_no_scores_of_the_loops_own(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", real)
    with pytest.raises(UserError) as error:
        watch.score(kid=0.1)
    assert error.value.subject == "score()"
    watch.close()


REFUSED: list[tuple[dict[str, Any], Any]] = [
    ({"real": np.zeros((400, 8, 8, 1))}, Option("real")),
    ({"real": np.zeros((400, 8, 8))}, Option("real")),
    ({"real": np.full((400, 1, 8, 8), np.nan)}, Option("real")),
    ({"real": np.full((400, 1, 8, 8), 200.0)}, Option("real")),
    ({"real": np.zeros((400, 1, 8, 8), np.int64)}, Option("real")),
    ({"real": np.zeros((400, 1, 8, 8), np.uint8)}, Option("real")),  # one distinct image
    ({"real": "no/such/folder"}, 'source "no/such/folder"'),
    ({"real": np.zeros((400, 1, 8, 8), np.uint8), "latents": None}, Option("latents")),
    ({"real": np.zeros((400, 1, 8, 8), np.uint8), "metric": "fid"}, Option("metric", "fid")),
]


@pytest.mark.parametrize(("options", "subject"), REFUSED)
def test_images_of_no_use_leave_no_folder(tmp_path: Path, options: dict[str, Any], subject: Any) -> None:
    with pytest.raises(UserError) as error:
        opened(tmp_path / "run", **options)
    assert error.value.subject == subject
    assert not (tmp_path / "run").exists()


def events(folder: Path, kind: str) -> list[str]:
    return [event["message"] for event in records(folder / "log" / "events.jsonl") if event["kind"] == kind]


def sigmoid(latents: Tensor) -> Tensor:
    return torch.sigmoid(latents.repeat(1, 16)).view(-1, 1, 8, 8)


@pytest.fixture
def contrasted() -> np.ndarray:
    """Return 600 distinct images over the whole of 0..255."""
    return np.random.default_rng(0).integers(0, 256, (600, 1, 8, 8)).astype(np.uint8)


@pytest.mark.parametrize(
    ("generator", "word"),
    [
        (sigmoid, "generate="),
        (lambda latents: 5 * latents.repeat(1, 16).view(-1, 1, 8, 8), "tanh"),
        (lambda latents: torch.tanh(latents.repeat(1, 16)).view(-1, 1, 8, 8), None),
        (lambda latents: 2 * sigmoid(latents) - 1, None),
        (lambda latents: (sigmoid(latents) > 0.5).long(), "0 and 1"),
        (lambda latents: (sigmoid(latents) * 255).to(torch.uint8), None),
        (lambda latents: np.rint(sigmoid(latents).numpy() * 255).astype(np.int32), None),
    ],
)
def test_a_doubtful_range_of_a_generator_is_said_once_and_ends_nothing(
    tmp_path: Path, contrasted: np.ndarray, generator: Any, word: str | None
) -> None:
    watch = opened(tmp_path / "run", contrasted)
    for _ in range(4):
        watch.step(10)
        watch.evaluate(generator)
    watch.close()
    told = events(tmp_path / "run", "doubtful images")
    assert len(told) == (word is not None)
    assert all(word is not None and word in text for text in told)
    assert len(records(tmp_path / "run" / "log" / "scores.jsonl")) == 4


IMAGES = torch.zeros(16, 1, 8, 8)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ((IMAGES, None), "[0]"),
        ([IMAGES[..., ::2, ::2], IMAGES], "[1]"),
        ({"latent": torch.zeros(16, 4), "sample": IMAGES}, "['sample']"),
        (IMAGES.flatten(1), ".reshape(-1, 1, 8, 8)"),
        (IMAGES[:, 0], ".reshape(-1, 1, 8, 8)"),
        (IMAGES.permute(0, 2, 3, 1), ".permute(0, 3, 1, 2)"),
        (IMAGES.repeat(1, 2, 1, 1), "[:, :1]"),
        (torch.zeros(16, 1, 16, 16), "size"),
    ],
)
def test_images_in_another_form_are_answered_with_what_brings_them_into_this_one(
    tmp_path: Path, contrasted: np.ndarray, given: Any, remedy: str
) -> None:
    watch = opened(tmp_path / "run", contrasted)
    with pytest.raises(UserError) as error:
        watch.evaluate(lambda latents: given)
    assert remedy in str(error.value.remedies[0])
    watch.close()


def test_a_generator_that_takes_something_else_is_told_what_it_was_given(
    tmp_path: Path, contrasted: np.ndarray
) -> None:
    watch = opened(tmp_path / "run", contrasted, latents=5)
    assert not watch.evaluate(torch.nn.Linear(4, 64))
    (told,) = events(tmp_path / "run", "evaluation failed")
    assert "[16, 5]" in told
    assert "generate=" in told
    watch.close()


@pytest.mark.parametrize("latents", [0, "4", 4.5, (4, 0), [], torch.ones(2) / 2, None.__class__])
def test_a_size_of_latents_that_is_none_is_refused_at_once(
    tmp_path: Path, contrasted: np.ndarray, latents: Any
) -> None:
    with pytest.raises(UserError) as error:
        opened(tmp_path / "run", contrasted, latents=latents)
    assert isinstance(error.value.subject, Option)
    assert error.value.subject.name == "latents"


def test_little_contrast_is_doubted_only_after_the_beginning(tmp_path: Path, contrasted: np.ndarray) -> None:
    watch = opened(tmp_path / "run", contrasted)
    for expected in (0, 0, 1, 1):
        watch.step(10)
        watch.evaluate(lambda latents: 0.1 * torch.tanh(latents.repeat(1, 16)).view(-1, 1, 8, 8))
        assert len(events(tmp_path / "run", "doubtful images")) == expected
    watch.close()


def test_whole_numbers_of_a_generator_score_as_the_same_images_in_floats(
    tmp_path: Path, contrasted: np.ndarray
) -> None:
    losses = []
    for name, generator in (("a", lambda latents: (sigmoid(latents) * 255).to(torch.uint8)), ("b", None)):
        watch = opened(tmp_path / name, contrasted)
        watch.step(10)
        watch.evaluate(generator or (lambda latents: (sigmoid(latents) * 255).floor() / 127.5 - 1))
        assert watch.best is not None
        losses.append(watch.best.loss)
        watch.close()
    assert losses[0] == pytest.approx(losses[1])


def test_what_the_images_are_is_said_at_the_beginning(tmp_path: Path, shapes: Path) -> None:
    told: list[str] = []
    folder = tmp_path / "set"
    shutil.copytree(shapes, folder)
    for index in range(100):
        (folder / f"{index}.heic").write_bytes(b"")
    opened(tmp_path / "run", folder, say=told.append).close()
    (line,) = [text for text in told if ".heic" in text]
    assert line.index("100 of 340") < line.index("240 images"), "a large share is said first"
    assert "train_paths" in line
    noise = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    opened(tmp_path / "array", noise * 4095, say=told.append).close()
    assert any("4,095" in text and "train_indices" in text for text in told)


@pytest.mark.parametrize("num", [24, 40, 90])
def test_the_one_remedy_for_few_images_is_enough(tmp_path: Path, real: np.ndarray, num: int) -> None:
    with pytest.raises(UserError) as error:
        opened(tmp_path / "run", real[:num])
    (together,) = [part for part in error.value.remedies if isinstance(part, Together)]
    settings = [f"{setting.field}={setting.value}" for setting in together.settings]
    watch = opened(tmp_path / "run", real[:num], settings=["evaluation.num_samples=100", *settings])
    assert len(watch.train_indices) >= 2
    watch.step(10)
    watch.evaluate(Shifted())
    watch.close()
    assert watch.best is not None


def test_settings_of_images_need_images_that_they_apply_to(tmp_path: Path, real: np.ndarray) -> None:
    for options in ({"real": None, "latents": None}, {"real": real}):
        with pytest.raises(UserError) as error:
            opened(tmp_path / "run", **options, settings=["task.size=16"])
        assert isinstance(error.value.subject, Setting)
        assert error.value.subject.field == "task.size"
    with pytest.raises(UserError):
        opened(tmp_path / "run", real, settings=["task.flip=true"])
    watch = opened(tmp_path / "run", real, settings=["task.black=-2", "task.white=2"])
    assert watch.folder.joinpath("recipe.json").read_text().count('"white": 2') == 1
    watch.close()
