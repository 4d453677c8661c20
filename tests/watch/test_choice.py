"""The candidates of an own loop that is judged: gone back to, judged again at the end, handed over, tested once."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records
from equipoise.watch.watch import Watch

pytestmark = pytest.mark.usefixtures("small", "unsynced")
LATENTS = 4


class Shifted(nn.Module):
    """Latents to 8×8 images whose mean is a weight."""

    def __init__(self, mean: float = 0.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    def forward(self, latents: Tensor) -> Tensor:
        return (self.mean + 0.2 * latents.repeat(1, 16).view(-1, 1, 8, 8)).clamp(-1, 1)


def judged(path: Path, real: Any, **options: Any) -> Watch:
    """Return a watch that judges by 100 generated images."""
    settings = ["judging.num_samples=100"]
    return Watch(
        path,
        real=real,
        latents=LATENTS,
        **({"log_every": 10, "tell": None, "policy": "budget", "settings": settings} | options),
    )


def look(watch: Watch, mean: float) -> bool:
    """Train on ten samples more, to images of this mean, and have the generator judged."""
    watch.step(10)
    return watch.judge(Shifted(mean))


def looked(path: Path, real: Any, *means: float) -> Watch:
    """Return a watch that has judged a generator of each mean, one after the other."""
    watch = judged(path, real)
    for mean in means:
        look(watch, mean)
    return watch


def mean_in(folder: Path) -> float:
    """Return the weight that was kept in a folder."""
    return round(load_file(folder / "generator.safetensors")["mean"].item(), 6)


def scores(path: Path) -> list[dict[str, Any]]:
    """Return the logged scores without the seconds that they took."""
    return [line | {"seconds": None} for line in records(path / "log" / "scores.jsonl")]


def killed(path: Path) -> Path:
    """Return what a kill would leave of a run now: a copy that nobody holds."""
    number = sum(1 for _ in path.parent.iterdir())
    return Path(shutil.copytree(path, path.parent / f"{path.name}-killed-{number}"))


def state_of(path: Path) -> dict[str, Any]:
    """Return the state of a run."""
    return RunFolder.open(path).read_state()


def num_validation(path: Path) -> int:
    """Return the number of real images that were set aside for scores."""
    return RunFolder.open(path).read_data()["num_validation"]


def events(path: Path) -> list[str]:
    """Return the kinds of what happened."""
    return [event["kind"] for event in records(path / "log" / "events.jsonl")]


@pytest.mark.parametrize("how", ["in one process", "after a kill"])
def test_gone_back_to_the_next_look_is_the_one_of_an_uninterrupted_run(
    tmp_path: Path, real: np.ndarray, how: str
) -> None:
    path = tmp_path / "run"
    watch = looked(path, real, -0.5)
    state = json.loads(json.dumps(watch.state_dict()))
    assert look(watch, 0.5), "beyond chance"
    expected = scores(path)
    assert expected[-1]["champion"] == 10
    if how == "after a kill":
        path = killed(path)
        watch.close()
        watch = judged(path, real, resume=True)
    watch.load_state_dict(state)
    assert watch.best is not None
    assert (watch.best.samples, mean_in(path / "best")) == (10, -0.5)
    assert mean_in(path / "later" / "20") == 0.5, "set aside, not lost"
    assert look(watch, 0.5)
    assert scores(path) == expected
    assert mean_in(path / "best") == 0.5
    watch.close()
    found = state_of(path)
    assert found["best"]["samples"] == found["test"]["samples"] == 20
    assert mean_in(path / "later" / "20") == 0.5


def test_a_kill_between_the_weights_and_the_state_loses_no_best(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real, -0.5)
    before = (tmp_path / "run" / "watch.json").read_bytes()
    look(watch, 0.5)
    path = killed(tmp_path / "run")
    (path / "watch.json").write_bytes(before)
    watch.close()
    again = judged(path, real, resume=True)
    assert again.best is not None
    assert (again.best.samples, mean_in(path / "best")) == (10, -0.5)
    assert not look(again, -0.8)
    assert scores(path)[-1]["champion"] == 10
    again.close()
    assert state_of(path)["test"]["samples"] == state_of(path)["best"]["samples"]


def test_a_champion_of_another_time_is_never_tested_as_the_best(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real, -0.5)
    state = watch.state_dict()
    look(watch, 0.5)
    watch.load_state_dict(state)
    shutil.rmtree(tmp_path / "run" / "candidates")
    shutil.rmtree(tmp_path / "run" / "best")
    watch.close()
    found = state_of(tmp_path / "run")
    assert (found["best"]["samples"], found["test"]) == (10, None)
    assert "missing, damaged" in found["not_tested"]


def test_a_state_of_which_nothing_is_kept_any_more_says_so(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real, -0.9)
    oldest = watch.state_dict()
    for mean in (-0.6, -0.4, -0.2, 0.0, 0.2, 0.45):
        look(watch, mean)
        watch.state_dict()
    kept = {path.name for path in (tmp_path / "run" / "candidates").iterdir()}
    assert "10" not in kept
    assert len(kept) <= 3 + 2 * 3
    watch.load_state_dict(oldest)
    assert events(tmp_path / "run")[-2:] == ["set aside", "not found"]
    watch.close()
    assert state_of(tmp_path / "run")["test"] is None


def test_the_last_two_states_that_were_given_out_can_be_gone_back_to_after_a_kill(
    tmp_path: Path, real: np.ndarray
) -> None:
    watch, states = judged(tmp_path / "run", real), []
    for mean in (-0.9, -0.7, -0.5, -0.3, -0.1, 0.1, 0.3):
        look(watch, mean)
        if mean in (-0.9, -0.7):
            states.append(watch.state_dict())
    path = killed(tmp_path / "run")
    watch.close()
    for state in states:
        again = judged(path, real, resume=True)
        again.load_state_dict(state)
        assert again.best is not None
        assert mean_in(path / "best") == {10: -0.9, 20: -0.7}[again.best.samples]
        assert "not found" not in events(path)
        again.interrupt()


def test_resumed_and_closed_without_a_look_it_says_that_nothing_was_tested(tmp_path: Path, real: np.ndarray) -> None:
    told: list[str] = []
    watch = looked(tmp_path / "run", real, 0.5)
    watch.interrupt()
    assert state_of(tmp_path / "run")["not_tested"] is None, "an interrupted run is tested later"
    judged(tmp_path / "run", real, resume=True, tell=told.append).close()
    found = state_of(tmp_path / "run")
    words = "call judge(generator) once after a resume, so that the best can be loaded"
    assert (found["status"], found["test"], found["not_tested"]) == ("finished", None, f"not tested: {words}")
    assert words in found["not_rescored"]
    assert events(tmp_path / "run") == ["not tested"]
    assert any(words in line for line in told)
    report = (tmp_path / "run" / "report.html").read_text()
    assert f"Not tested: {words}." in report


def test_an_end_to_which_nothing_is_added_stays_as_it_was(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real, -0.5, 0.52, 0.5)
    watch.close()
    before, weights = state_of(tmp_path / "run"), mean_in(tmp_path / "run" / "best")
    assert before["test"] is not None
    judged(tmp_path / "run", real, resume=True).close()
    after = state_of(tmp_path / "run")
    assert {**after, "seconds": 0, "reason": ""} == {**before, "seconds": 0, "reason": ""}
    assert mean_in(tmp_path / "run" / "best") == weights


def test_the_lowest_judged_again_is_handed_over_and_tested(tmp_path: Path, real: np.ndarray) -> None:
    path = tmp_path / "run"
    watch = looked(path, real, -0.5, 0.35, 0.42, 0.5)
    champion = watch.best
    assert champion is not None
    assert champion.samples < 40, "the champion is cautious"
    watch.close()
    found = state_of(path)
    again = found["rescored"]
    assert again["candidates"][0]["samples"] == champion.samples
    assert len(again["candidates"]) == 3
    lowest = min(again["candidates"], key=lambda one: one["rescored"]["kid"])["samples"]
    assert lowest != champion.samples, "else this shows nothing"
    assert again["winner"] == found["best"]["samples"] == found["test"]["samples"] == lowest
    assert watch.best is not None
    assert watch.best.samples == lowest
    assert mean_in(path / "best") == {20: 0.35, 30: 0.42, 40: 0.5}[lowest]
    assert again["protocol"]["split"] == "validation, second half"
    assert found["not_rescored"] is None
    assert (again["num_scores"], again["protocol"]["num_generated"]) == (4, 200)
    assert "handed over" in (path / "report.html").read_text()
    assert again["protocol"]["num_real"] + champion.protocol["num_real"] == num_validation(path), "halves"


def test_going_on_after_an_end_begins_with_the_champion(tmp_path: Path, real: np.ndarray) -> None:
    path = tmp_path / "run"
    watch = looked(path, real, -0.5, 0.35, 0.42, 0.5)
    champion = watch.best
    watch.close()
    again = judged(path, real, resume=True)
    assert again.best == champion or (again.best and champion and again.best.samples == champion.samples)
    assert champion is not None
    look(again, -0.8)
    assert scores(path)[-1]["champion"] == champion.samples
    again.close()
    assert not (path / "later").exists(), "what was handed over is a candidate, not a later best"


def test_functions_cannot_be_judged_again_and_it_is_said(tmp_path: Path, real: np.ndarray) -> None:
    good = Shifted(0.5)
    watch = judged(tmp_path / "run", real)
    watch.step(10)
    watch.judge(lambda latents: good(latents), keep=good)
    watch.close()
    found = state_of(tmp_path / "run")
    assert found["rescored"] is None
    assert "cannot be copied" in found["not_rescored"]
    assert "cannot be copied" in found["not_tested"]
    assert mean_in(tmp_path / "run" / "best") == 0.5


def test_too_few_real_images_for_two_halves_are_said(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real[:300], 0.5)
    watch.close()
    found = state_of(tmp_path / "run")
    assert "too small to be halved" in found["not_rescored"]
    assert found["test"]["samples"] == 10


def test_another_judge_scores_all_candidates_anew(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real, -0.5, 0.5, 0.45)
    champion = watch.best
    assert champion is not None
    watch.interrupt()
    again = judged(tmp_path / "run", real[:300], resume=True)
    look(again, -0.9)
    anew = [line["samples"] for line in scores(tmp_path / "run")[3:]]
    assert anew == [10, 20, 30, 40]
    assert len({json.dumps(line["protocol"]) for line in scores(tmp_path / "run")[3:]}) == 1
    assert again.best is not None
    assert again.best.samples in (20, 30)
    assert again.best.protocol["num_real"] != champion.protocol["num_real"]
    again.close()
    found = state_of(tmp_path / "run")
    assert found["test"]["samples"] == found["best"]["samples"] == again.best.samples


@pytest.mark.parametrize(("metric", "drawn"), [("kid", 200), ("fid", 100)])
def test_a_champion_is_drawn_only_where_pairs_decide(tmp_path: Path, real: np.ndarray, metric: str, drawn: int) -> None:
    num: list[int] = []

    def generate(generator: nn.Module, latents: Tensor) -> Tensor:
        num.append(len(latents))
        return generator(latents)

    watch = judged(tmp_path / "run", real, metric=metric, generate=generate)
    look(watch, -0.5)
    del num[:]
    watch.step(1)
    watch.judge(Shifted(0.4))
    assert sum(num) - 64 * (len(RunFolder(tmp_path / "run").snapshots()) - 1) == drawn
    watch.close()


def fails(folder: Path) -> None:
    """Write a half, as on a full disk."""
    (folder / "half").write_text("half")
    raise OSError("disk full")


@pytest.mark.parametrize("keep", [3, fails])
def test_a_keep_that_fails_leaves_nothing_half_done(tmp_path: Path, real: np.ndarray, keep: Any) -> None:
    watch = looked(tmp_path / "run", real, -0.5)
    watch.step(10)
    state, files = watch.state_dict(), sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(Exception, match=r"keep=int|disk full"):
        watch.judge(Shifted(0.5), keep=keep)
    assert {**watch.state_dict(), "seconds": 0} == {**state, "seconds": 0}
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == files
    assert watch.judge(Shifted(0.5)), "and it goes on"
    watch.close()
    assert math.isfinite(state_of(tmp_path / "run")["test"]["kid"])


def test_two_looks_at_the_same_samples_keep_the_better_one(tmp_path: Path, real: np.ndarray) -> None:
    watch = looked(tmp_path / "run", real, 0.5)
    watch.judge(Shifted(-0.5))
    assert mean_in(tmp_path / "run" / "candidates" / "10") == 0.5
    watch.close()
    assert mean_in(tmp_path / "run" / "best") == 0.5


def test_what_cannot_be_copied_is_scored_and_said(tmp_path: Path, real: np.ndarray) -> None:
    class Locked(Shifted):
        def __deepcopy__(self, _: Any) -> "Locked":
            raise TypeError("a lock cannot be copied")

    watch = judged(tmp_path / "run", real)
    watch.step(10)
    watch.judge(Locked(0.5))
    watch.close()
    found = state_of(tmp_path / "run")
    assert (found["best"]["samples"], found["test"]) == (10, None)
    assert found["not_tested"].startswith("not tested: ")
    assert mean_in(tmp_path / "run" / "best") == 0.5


def test_a_failure_at_the_end_leaves_the_champion_and_a_report(
    tmp_path: Path, real: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    watch = looked(tmp_path / "run", real, 0.5)
    monkeypatch.setattr("equipoise.watch.judge.ImageJudge.judged_again", breaks)
    watch.close()
    found = state_of(tmp_path / "run")
    assert "out of memory" in found["not_rescored"]
    assert found["test"]["samples"] == 10
    assert (tmp_path / "run" / "report.html").exists()
