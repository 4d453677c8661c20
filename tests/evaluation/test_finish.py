"""The end of a run: the best of the candidates on images that chose nothing is handed over, and tested once."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL

import equipoise as eq
from equipoise import api
from equipoise.data.description import describe
from equipoise.data.pool import Pool, prepare
from equipoise.evaluation import finish
from equipoise.evaluation.evaluator import Judge
from equipoise.evaluation.finish import Candidate, candidate_folders, chosen, hand_over, lowest
from equipoise.health.stats import ScoreLine
from equipoise.loop import Outcome
from equipoise.metrics.features.load import Features
from equipoise.recipe import Data, Recipe, with_settings
from equipoise.runs.folder import RunFolder
from equipoise.stopping.policies import Stop
from equipoise.storage import checkpoints, files
from equipoise.tasks.images import ImageProblem

HALVED = (*SMALL, "data.validation=0.4")
PIXELS = Features("encoder", "f" * 64, 64, lambda images: images.flatten(1).float())
ENDED = Outcome(Stop("budget", "The budget is spent."), 300, 1.5)


@pytest.fixture(scope="module")
def pool(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return prepare(Data(source=str(shapes), validation=0.4), cache=tmp_path_factory.mktemp("cache"))


@dataclasses.dataclass(frozen=True)
class Ended:
    """A run whose training has just ended."""

    run: RunFolder
    problem: ImageProblem
    recipe: Recipe
    pool: Pool

    def write(self, folder: Path, line: ScoreLine, grey: float) -> None:
        """Keep a generator whose images are one shade, -1 to 1, everywhere."""
        generator = self.problem.networks().generator
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.zero_()
            list(generator.parameters())[-1].fill_(float(np.arctanh(grey)))
        tensors = checkpoints.module_tensors("generator", generator)
        values = {name: None if value != value else value for name, value in asdict(line).items()}
        checkpoints.write_folder(folder, {"generator.safetensors": tensors}, {"score.json": values})

    def add(self, samples: int, kid: float, grey: float, *, best: bool = False) -> None:
        """Add a candidate; a best one also lies in `best/`."""
        line = ScoreLine(samples=samples, seconds=0.1, kid=kid, kid_se=0.01, protocol=PROTOCOL)
        self.run.log_score(asdict(line) | {"best": best})
        self.write(self.run.candidates / str(samples), line, grey)
        if best:
            self.write(self.run.best, line, grey)

    def conclude(self, outcome: Outcome = ENDED, make_test: Callable[[], Judge] | None = None) -> dict[str, Any]:
        """End the run as `equipoise train` does."""
        finish.conclude(
            self.run,
            self.problem,
            PIXELS,
            outcome,
            make_test=make_test or self.test_judge,
            make_rescoring=api.rescoring_judge(self.pool, PIXELS, self.recipe),
        )
        return self.run.read_state()

    def test_judge(self) -> Judge:
        return api.judge_of(self.pool, PIXELS, "test", 50)


PROTOCOL = {"features": "encoder", "features_digest": "f" * 64, "num_real": 40, "num_generated": 100}
CLOSE, FAR = -0.5, 0.999  # the mean shade of the drawn shapes is near the first


@pytest.fixture
def ended(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    monkeypatch.setattr(api, "NUM_REAL", 200)
    recipe = with_settings(Recipe(), [*HALVED, "data.source=shapes"])
    run = RunFolder.create(tmp_path / "run", recipe)
    run.write_data(describe(pool, recipe.data.source))
    return Ended(run, ImageProblem(recipe, pool, torch.device("cpu"), torch.float32), recipe, pool)


def handed_over(run: RunFolder) -> tuple[dict[str, Any], bytes]:
    path = files.readable(run.best)
    assert files.verify(path) is None
    return json.loads((path / "score.json").read_text()), (path / "generator.safetensors").read_bytes()


def test_a_candidate_that_was_second_in_training_wins_where_it_is_better_on_new_images(ended: Ended) -> None:
    ended.add(100, 0.020, FAR, best=True)
    ended.add(200, 0.021, CLOSE)
    state = ended.conclude()
    values, weights = handed_over(ended.run)
    assert state["rescored"]["winner"] == values["samples"] == state["best"]["samples"] == state["test"]["samples"]
    assert values["samples"] == 200
    assert values["kid"] == state["best"]["kid"] == 0.021, "best/ keeps the score of the training"
    assert weights == (ended.run.candidates / "200" / "generator.safetensors").read_bytes()
    assert {path.name for path in ended.run.candidates.iterdir()} == {"100", "200"}, "a resume goes on from these"
    first, second = state["rescored"]["candidates"]
    assert (first["samples"], second["samples"]) == (100, 200)
    assert first["rescored"]["kid"] > second["rescored"]["kid"]
    assert first["difference"] == pytest.approx(first["rescored"]["kid"] - second["rescored"]["kid"], rel=1e-4)
    assert first["difference_se"] > 0
    assert second["difference"] == second["difference_se"] == 0.0
    assert state["rescored"]["num_scores"] == 2
    assert state["not_rescored"] is None
    assert "handed over" in ended.run.report.read_text()
    card = (ended.run.best / "README.md").read_text()
    assert "| validation, second half |" in card
    assert "Judged again when the training had ended, the lowest of 2 candidates" in card


def test_all_candidates_are_judged_by_the_other_half_with_other_latents_and_more_of_them(ended: Ended) -> None:
    ended.add(100, 0.020, FAR, best=True)
    ended.add(200, 0.021, CLOSE)
    state = ended.conclude()
    protocol, test = state["rescored"]["protocol"], state["test"]["protocol"]
    assert protocol["split"] == "validation, second half"
    assert protocol["num_generated"] == 200 == 2 * ended.recipe.judging.num_samples
    assert {candidate["rescored"]["protocol"]["seed"] for candidate in state["rescored"]["candidates"]} == {2}
    assert (test["split"], test["seed"]) == ("test", 1)


def test_only_the_winner_is_tested_and_only_once(ended: Ended) -> None:
    ended.add(100, 0.020, FAR, best=True)
    ended.add(200, 0.021, CLOSE)
    calls: list[int] = []

    def make_test() -> Judge:
        assert handed_over(ended.run)[0]["samples"] == 200, "nothing looks at the test split before the choice"
        calls.append(1)
        return ended.test_judge()

    ended.conclude(make_test=make_test)
    assert calls == [1]


def test_the_champion_stays_where_none_is_lower_or_no_score_is_finite() -> None:
    def candidate(name: str, kid: float) -> Candidate:
        lines = [ScoreLine(samples=1, seconds=0.0, kid=value) for value in (0.1, kid)]
        return Candidate(Path(name), lines[0], lines[1], None)

    def winner(*kids: float) -> str:
        return lowest([candidate(str(index), kid) for index, kid in enumerate(kids)], "kid").path.name

    assert winner(0.2, 0.2, 0.2) == "0"
    assert winner(0.2, 0.1) == "1"
    assert winner(float("nan"), float("inf")) == "0"
    assert winner(float("nan"), 0.3) == "1"


def test_the_champion_of_the_training_comes_first_and_damaged_candidates_are_left_out(ended: Ended) -> None:
    for samples in (90, 100, 200):
        ended.add(samples, 0.02, CLOSE, best=samples == 100)
    assert [path.name for path in candidate_folders(ended.run)] == ["100", "90", "200"]
    (ended.run.candidates / "100" / "generator.safetensors").write_bytes(b"torn")
    (ended.run.candidates / ".300.partial").mkdir()
    assert [path.name for path in candidate_folders(ended.run)] == ["90", "200"]


def test_a_candidate_whose_images_are_not_finite_never_wins(ended: Ended) -> None:
    ended.add(100, 0.020, float("nan"), best=True)
    ended.add(200, 0.021, FAR)
    state = ended.conclude()
    assert state["best"]["samples"] == 200
    lost = state["rescored"]["candidates"][0]
    assert lost["rescored"]["kid"] is lost["difference"] is None
    assert "–" in ended.run.report.read_text()


def test_an_interrupted_run_chooses_nothing_yet(ended: Ended) -> None:
    ended.add(100, 0.020, FAR, best=True)
    ended.add(200, 0.021, CLOSE)
    state = ended.conclude(Outcome(Stop("interrupted", "Interrupted."), 300, 1.5))
    assert state["status"] == "stopped"
    assert state["rescored"] is state["test"] is None
    assert state["not_rescored"] in ended.run.report.read_text()
    assert handed_over(ended.run)[0]["samples"] == 100


def test_a_run_without_candidates_judges_its_best_one_again(ended: Ended) -> None:
    ended.add(100, 0.020, FAR, best=True)
    shutil.rmtree(ended.run.candidates)
    state = ended.conclude()
    assert [candidate["samples"] for candidate in state["rescored"]["candidates"]] == [100]
    assert "There was one candidate, so nothing had to be chosen." in ended.run.report.read_text()


def test_a_run_without_any_score_concludes(ended: Ended) -> None:
    state = ended.conclude()
    assert state["best"] is state["rescored"] is state["test"] is None
    assert state["not_rescored"] in ended.run.report.read_text()


def test_a_validation_split_too_small_for_halves_stays_whole_and_says_so(
    pool: Pool, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pool.splits.validation
    for num, sizes in ((39, (39, 0)), (40, (20, 20)), (41, (20, 21))):
        small = dataclasses.replace(pool, splits=dataclasses.replace(pool.splits, validation=whole[:num]))
        halves = api.judged_indices(small, "validation"), api.judged_indices(small, "validation, second half")
        assert tuple(map(len, halves)) == sizes
        assert np.array_equal(np.concatenate(halves), whole[:num]), "no image is lost, and none is in both"
    monkeypatch.setattr(api, "MIN_HALF", 10_000)
    ended.add(100, 0.020, FAR, best=True)
    ended.add(200, 0.021, CLOSE)
    state = ended.conclude()
    assert state["rescored"] is None
    assert state["best"]["samples"] == 100
    assert state["test"] is not None
    assert "too small to be halved" in state["not_rescored"]
    assert "too small to be halved" in ended.run.report.read_text()


def test_a_kill_while_the_winner_is_put_in_place_leaves_a_whole_best_and_the_same_choice(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended.add(100, 0.020, FAR, best=True)
    ended.add(200, 0.021, CLOSE)
    real = os.rename
    for allowed in range(3):
        left = [allowed]

        def rename(*paths: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(*paths)

        with monkeypatch.context() as patch:
            patch.setattr("os.rename", rename)
            if allowed < 2:
                with pytest.raises(KeyboardInterrupt):
                    ended.conclude()
                assert handed_over(ended.run)[0]["samples"] == 100
            else:
                ended.conclude()
    assert handed_over(ended.run)[0]["samples"] == 200


def test_what_lies_in_best_already_is_not_written_again(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    ended.add(100, 0.020, CLOSE, best=True)
    monkeypatch.setattr(checkpoints, "write_folder", lambda *_: pytest.fail("written again"))
    hand_over(ended.run, ended.run.candidates / "100")
    assert chosen(ended.run, ended.problem, None) == (None, finish.TOO_FEW)


def test_a_training_is_judged_by_the_first_half_and_chosen_by_the_second(
    quick: None, shapes: Path, tmp_path: Path
) -> None:
    run = eq.train(source=shapes, budget="400", out=tmp_path / "run", settings=HALVED)
    data, state = run.folder.read_data(), run.state
    found, again = state["best"]["protocol"], state["rescored"]["protocol"]
    assert (found["split"], found["num_real"]) == ("validation", data["num_validation"] // 2)
    assert found["num_real"] + again["num_real"] == data["num_validation"]
    assert again["num_generated"] == 5_000
    assert run.best.score["samples"] == state["rescored"]["winner"]
    assert "The choice of the best generator" in run.report.read_text()
