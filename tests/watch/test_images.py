"""Real images given to a watch: how they are split, described and refused, and which latents are drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shifted import Shifted, opened
from torch import Tensor

from equipoise.errors import Option, UserError
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records
from equipoise.watch.images import GivenImages, given_images

pytestmark = pytest.mark.usefixtures("small", "unsynced")


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
    def given(seed: int, shape: int | tuple[int, ...]) -> GivenImages:
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
