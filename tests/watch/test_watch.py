"""A watch in a custom training loop: steps, scores, stopping, the best, resuming, and every refusal."""

import contextlib
import doctest
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import equipoise
from equipoise.errors import Command, Near, Option, RunBusyError, Setting, UserError
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.rules import refuse_custom_loop
from equipoise.runs.status import read_status
from equipoise.stopping.verdicts import Stop
from equipoise.storage.logs import records
from equipoise.watch.watch import Watch


def opened(path: Path, **options: Any) -> Watch:
    """Return a watch that logs every 10 samples and says nothing."""
    return Watch(path, **({"log_every": 10, "say": None, "policy": "budget", "metric": "fid"} | options))


def run_of(path: Path) -> RunFolder:
    """Return a run as somebody else opens it."""
    return RunFolder.open(path)


def reason(watch: Watch) -> str | None:
    """Return by what rule it is time to stop, None before."""
    return None if watch.verdict is None else watch.verdict.reason


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(Watch, "Watch", globs={"FOLDER": tmp_path / "run"})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_a_loop_of_plain_numbers_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    script = """
import sys, equipoise
with equipoise.Watch(sys.argv[1], log_every=4, say=None) as watch:
    for step in range(8):
        watch.step(2, real_logits=1.0, accuracy=[0.5, 0.75], discriminator_loss=0.7, generator_loss=0.7)
        watch.score(loss=10.0 - step, keep=lambda folder: (folder / "mine.txt").write_text("weights"))
print(sorted({"torch", "numpy", "safetensors"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "run" / "best" / "mine.txt").read_text() == "weights"
    assert (tmp_path / "run" / "report.html").exists()


def test_watch_is_exported() -> None:
    assert equipoise.Watch is Watch


def test_the_best_score_decides_what_is_kept(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    for fid, is_best in ((9.0, True), (7.0, True), (8.0, False), (math.nan, False), (7.0, False)):
        watch.step(10, discriminator_loss=1.0, generator_loss=1.0)
        assert watch.score(fid=fid, keep={"weight": np.array([fid])}) is is_best
    watch.close()
    assert load_file(tmp_path / "run" / "best" / "generator.safetensors")["weight"] == [7.0]
    assert watch.best is not None
    assert watch.best.samples == 20
    logged = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert [(line["loss"], line["best"]) for line in logged] == [(9.0, True), (7.0, True), (8.0, False), (7.0, False)]
    assert logged[0]["values"] == {"fid": 9.0}
    events = records(tmp_path / "run" / "log" / "events.jsonl")
    assert [(event["kind"], event["samples"]) for event in events] == [("no score", 40)]
    state = run_of(tmp_path / "run").read_state()
    assert state.best is not None
    assert (state.status, state.stop_reason, state.best.samples) == ("finished", None, 20)
    assert state.not_selected is not None
    assert state.not_tested is None


def test_steps_do_not_wait_for_an_accelerator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = opened(tmp_path / "run", log_every=100, loss="non-saturating")
    logits = torch.tensor([1.0, -1.0], requires_grad=True)

    def waits(*_: Any) -> Any:
        raise AssertionError("a tensor was read")

    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "cpu", "numpy", "__float__", "__bool__"):
            patched.setattr(torch.Tensor, name, waits)
        for _ in range(9):
            watch.step(10, real_logits=logits, fake_logits=logits, discriminator_loss=logits.sum() + 2)
    watch.step(10, real_logits=logits, fake_logits=logits, discriminator_loss=logits.sum() + 2, generator_rate=0.1)
    watch.close()
    (line,) = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert (line["samples"], line["accuracy"], line["discriminator_loss"]) == (100, 0.5, 2.0)
    assert (line["generator_loss"], line["generator_rate"], line["terms"]) == (None, 0.1, {})


def test_losses_that_are_no_numbers_end_the_training(tmp_path: Path) -> None:
    said: list[str] = []
    watch = opened(tmp_path / "run", say=said.append)
    watch.step(10, discriminator_loss=0.5, generator_loss=0.5)
    for _ in range(2):
        watch.step(10, discriminator_loss=0.5, generator_loss=torch.tensor(math.nan))
        assert watch.verdict is None
    watch.step(10, discriminator_loss=0.5, generator_loss=math.nan)
    assert watch.verdict is not None
    assert watch.verdict.reason == "diverged"
    assert "--set" not in watch.verdict.message
    assert watch.sentence() != watch._monitor.sentence(knows_game=False)
    kinds = [event["kind"] for event in records(tmp_path / "run" / "log" / "events.jsonl")]
    assert kinds == ["not finite"] * 3 + ["stop"]
    assert any(watch.verdict.message in line for line in said)
    watch.close()
    assert read_status(run_of(tmp_path / "run")).stop_reason == "diverged"


def test_a_loop_that_gives_no_losses_has_not_diverged(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    for step in range(10):
        watch.step(10)
        watch.score(fid=20.0 - step)
    assert watch.verdict is None
    assert watch.sentence().startswith("FID ")
    assert read_status(run_of(tmp_path / "run")).diagnosis == watch.sentence()
    watch.close()


def test_a_player_that_steps_less_often_has_not_diverged(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    for step in range(20):
        losses = {"discriminator_loss": 0.5}
        if step % 5 == 0:
            losses["generator_loss"] = 0.5
        watch.step(10, **losses)
    assert watch.verdict is None
    lines = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert [line["generator_loss"] for line in lines[:6]] == [0.5, None, None, None, None, 0.5]
    watch.close()


def test_patience_and_the_budget_say_stop(tmp_path: Path) -> None:
    watch = opened(tmp_path / "patient", policy="patience", settings=["stopping.patience.evaluations=3"])
    for fid in (5.0, 6.0, 6.0):
        watch.step(10)
        watch.score(fid=fid)
    assert watch.verdict is None
    watch.score(fid=5.0)
    assert reason(watch) == "patience"
    short = opened(tmp_path / "short", budget="40")
    short.step(39)
    assert short.verdict is None
    short.step(1)
    assert reason(short) == "budget"
    assert short.is_evaluation_due
    short.score(fid=1.0)
    assert not short.is_evaluation_due


def test_scores_that_never_come_to_anything_end_the_training(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    for _ in range(5):
        assert watch.verdict is None
        watch.step(10)
        assert not watch.score(fid=math.nan)
    assert reason(watch) == "evaluation-failed"
    watch.close()


def test_asking_changes_nothing(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run", budget="20", evaluate_every=10)
    watch.step(20)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    state = watch.state_dict()
    for _ in range(3):
        assert watch.is_evaluation_due
        assert reason(watch) == "budget"
        assert watch.best is None
    assert {**watch.state_dict(), "seconds": 0} == {**state, "seconds": 0}
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def curve(step: int) -> float:
    """Return a FID that falls, then rises, with noise that is the same every time."""
    return 50 + 400 / (1 + step) + 0.8 * max(0, step - 25) + 2 * math.sin(37.0 * step)


def train(watch: Watch, begin: int, end: int) -> int:
    """Take steps from one position to another or to the verdict; return where it ended."""
    for step in range(begin, end):
        loss = torch.tensor(0.5 + 0.01 * (step % 7))
        watch.step(7, real_logits=[0.1 * step, -1.0], fake_logits=[-0.2, 0.1], discriminator_loss=loss)
        if watch.is_evaluation_due:
            watch.score(fid=curve(step), keep={"step": np.array([step])})
        if watch.verdict:
            return step
    return end


@pytest.mark.parametrize("policy", ["patience", "evidence"])
def test_interrupted_anywhere_the_verdicts_are_the_same(tmp_path: Path, policy: str) -> None:
    options: dict[str, Any] = {"policy": policy, "evaluate_every": 21, "loss": "non-saturating"}
    whole = opened(tmp_path / "whole", **options)
    end = train(whole, 0, 3000)
    assert reason(whole) == policy
    assert whole.best is not None
    names = ("samples", "accuracy", "discriminator_loss", "real_logit")
    expected = [[line[name] for name in names] for line in records(tmp_path / "whole" / "log" / "steps.jsonl")]
    for cut in (1, 20, end // 2, end):
        path = tmp_path / f"cut-{cut}"
        first = opened(path, **options)
        train(first, 0, cut)
        first.interrupt()
        state = run_of(path).read_state()
        assert (state.status, state.stop_reason) == ("stopped", "interrupted")
        second = opened(path, resume=True, **options)
        assert train(second, cut, 3000) == end
        assert second.verdict == whole.verdict
        assert second.best is not None
        assert (second.best.samples, second.best.loss) == (whole.best.samples, whole.best.loss)
        assert [[line[name] for name in names] for line in records(path / "log" / "steps.jsonl")] == expected
        second.close()


def test_a_state_of_ones_own_checkpoint_is_taken_back_exactly(tmp_path: Path) -> None:
    options: dict[str, Any] = {"policy": "patience", "evaluate_every": 21}
    first = opened(tmp_path / "run", **options)
    train(first, 0, 12)
    state = json.loads(json.dumps(first.state_dict()))
    train(first, 12, 40)  # goes on after the checkpoint, finds a better one, and is killed
    assert first.best is not None
    later = first.best.samples
    assert later > state["samples"]
    first.interrupt()
    second = opened(tmp_path / "run", resume=True, **options)
    second.load_state_dict(state)
    assert {**second.state_dict(), "seconds": 0} == {**state, "seconds": 0}
    assert records(tmp_path / "run" / "log" / "scores.jsonl")[-1]["samples"] <= state["samples"]
    kept = tmp_path / "run" / "later" / str(later) / "generator.safetensors"
    assert load_file(kept)["step"].item() == later // 7 - 1  # the later best is set aside, not lost
    assert train(second, 12, 3000) == train(opened(tmp_path / "other", **options), 0, 3000)


def test_a_best_score_that_comes_without_a_generator_is_said(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    watch.step(10)
    watch.score(fid=2.0, keep={"weight": np.ones(1)})
    watch.step(10)
    assert watch.score(fid=1.0)
    assert [event["kind"] for event in records(tmp_path / "run" / "log" / "events.jsonl")] == ["not kept"]
    watch.close()
    assert json.loads((tmp_path / "run" / "best" / "score.json").read_text())["samples"] == 10


def test_the_folder_says_only_what_is_known(tmp_path: Path) -> None:
    watch = opened(tmp_path / "mine")
    watch.step(10, discriminator_loss=1.0, generator_loss=1.0)
    watch.score(fid=12.5, coverage=0.5)
    run = run_of(tmp_path / "mine")
    assert run.is_custom_loop
    assert run.holder() is not None
    assert set(run.read_recipe()) == {"name", "stopping"}
    data = run.read_data()
    assert data is not None
    assert (data.digest, data.noun, [metric.name for metric in data.metrics]) == ("", "samples", ["fid"])
    watch.interrupt()
    now = read_status(run)
    assert (now.metric.shown, now.horizon, now.state) == ("FID", None, "stopped")
    assert now.best is not None
    assert (now.best.loss, now.best.value("coverage")) == (12.5, 0.5)
    with pytest.raises(UserError) as error:
        refuse_custom_loop(run)
    assert error.value.remedies[-1] == Command("Watch", run.path, resume=True)


def test_how_a_with_block_ends_is_how_the_run_ends(tmp_path: Path) -> None:
    for error, written in ((KeyboardInterrupt(), "stopped"), (RuntimeError("mine"), "failed"), (None, "finished")):
        path = tmp_path / written
        expected = pytest.raises(type(error)) if error else contextlib.nullcontext()
        with expected, opened(path) as watch:
            watch.step(10)
            if error:
                raise error
        state = run_of(path).read_state()
        assert state.status == written
        assert run_of(path).holder() is None
        assert (path / "report.html").exists()
        watch.close()
        assert run_of(path).read_state() == state  # closing twice does nothing


def test_scores_are_spaced_by_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Watch(tmp_path / "run", say=None, policy="budget")
    due: list[int] = []
    for step in range(500):
        now[0] += 0.5  # 20 samples a second
        watch.step(10)
        if not due:  # the first is due as soon as the speed is known
            assert watch.is_evaluation_due is (tmp_path / "run" / "intervals.json").exists()
        if watch.is_evaluation_due:
            due.append(step)
            now[0] += 2.0
            watch.score(loss=1.0)
    spaces = np.diff(due)
    assert set(spaces[1:]) == {2.0 / 0.05 * 20 / 10}
    assert spaces[0] <= spaces[1]  # from where the speed was known to the next multiple
    intervals = run_of(tmp_path / "run").read_intervals()
    assert (intervals.samples_per_second, intervals.evaluation_seconds) == (pytest.approx(20.0), 2.0)
    assert (intervals.log_every, intervals.evaluate_every) == (20, 800)


REFUSED: list[tuple[Callable[[Watch], Any], Any, Any]] = [
    (lambda watch: watch.score(), "score()", None),
    (lambda watch: watch.score(kid=0.1), "score()", Command("Watch", "…", metric="kid")),
    (lambda watch: watch.score(fid="low"), "score()", None),  # type: ignore[arg-type]
    (lambda watch: watch.score(fid=1.0, keep=3), Option("keep", "int"), None),
    (lambda watch: watch.score(fid=True), "score()", None),
    (lambda watch: watch.score(fid=1.0, coverage=[0.5, 0.4]), "score()", None),  # type: ignore[arg-type]
    (lambda watch: watch.score(fid=1.0, fid_error=-0.1), Option("fid_error", -0.1), None),
    (lambda watch: watch.score(fid=0.0), Option("fid", 0.0), Option("fid_error", 0.01)),
    (lambda watch: watch.score(fid=-1.5), Option("fid", -1.5), Option("fid_error", 0.01)),
    (lambda watch: watch.step(-1), Option("samples", -1), None),
    (lambda watch: watch.step(1.5), Option("samples", 1.5), None),  # type: ignore[arg-type]
    (lambda watch: watch.step(8, generator_los=1.0), Option("generator_los"), Near("generator_loss")),
    (lambda watch: watch.step(8, accuracy="high"), Option("accuracy"), None),
    (lambda watch: watch.step(8, generator_loss=torch.empty(0)), Option("generator_loss"), None),
    (lambda watch: watch.evaluate(len), "evaluate()", None),
    (lambda watch: watch.train_indices, "train_indices", None),
    (lambda watch: watch.load_state_dict({}), "state", None),
    (lambda watch: watch.load_state_dict(watch.state_dict() | {"samples": 9, "meter": {"loss": 3}}), "state", None),
    (lambda watch: watch.load_state_dict(watch.state_dict() | {"samples": 9, "monitor": {}}), "checkpoint", None),
    (lambda watch: (watch.close(), watch.step(8)), "Watch", None),
    (lambda watch: (watch.close(), watch.score(fid=1.0)), "Watch", None),
]


@pytest.mark.parametrize(("mistake", "subject", "remedy"), REFUSED)
def test_a_mistake_changes_nothing(tmp_path: Path, mistake: Callable[[Watch], Any], subject: Any, remedy: Any) -> None:
    watch = opened(tmp_path / "run")
    state = watch.state_dict()
    with pytest.raises(UserError) as error:
        mistake(watch)
    assert error.value.subject == subject
    assert remedy is None or remedy in error.value.remedies
    assert "\n" not in str(error.value)
    assert watch.state_dict() == state
    watch.close()


def test_a_number_beside_the_score_that_is_none_costs_itself_alone_later(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    watch.step(10)
    watch.score(fid=2.0, coverage=0.1)
    watch.step(10)
    assert watch.score(fid=1.0, coverage="high", precision=0.5)  # type: ignore[arg-type]
    assert watch.best is not None
    assert watch.best.values == {"fid": 1.0, "precision": 0.5}
    watch.close()
    told = [event for event in records(tmp_path / "run" / "log" / "events.jsonl") if event["kind"] == "ignored"]
    assert len(told) == 1
    assert "coverage" in told[0]["message"]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"settings": "stopping.patience.evaluations=3"}, '["stopping.patience.evaluations=3"]'),
        ({"settings": {"stopping.patience.evaluations": 3}}, "['stopping.patience.evaluations=3']"),
        ({"settings": None}, "settings="),
        ({"settings": [3]}, "settings="),
        ({"budget": 2.5}, "budget="),
        ({"budget": True}, "budget="),
    ],
)
def test_options_of_another_type_are_answered_with_what_to_type(
    tmp_path: Path, options: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(UserError) as error:
        Watch(tmp_path / "run", say=None, **options)
    assert remedy in str(error.value)


def test_a_budget_may_be_a_number_of_samples(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", say=None, budget=20, policy="budget")
    watch.step(20)
    watch.score(loss=1.0)
    assert watch.verdict is not None
    assert watch.verdict.reason == "budget"
    watch.close()


def test_scores_of_two_protocols_are_not_compared(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    watch.step(10)
    watch.score(fid=1.0)
    watch.interrupt()
    again = opened(tmp_path / "run", protocol="another", resume=True)
    with pytest.raises(UserError) as error:
        again.score(fid=0.5)
    assert error.value.subject == "score()"
    again.close()


@pytest.mark.parametrize(("metric", "error"), [("kid", "kid_se"), ("mmd", "mmd_error")])
def test_a_score_below_zero_comes_with_its_error(tmp_path: Path, metric: str, error: str) -> None:
    watch = opened(tmp_path / "run", metric=metric, policy="evidence")
    for step in range(8):
        watch.step(10)
        watch.score(**{metric: -0.001 * step if step else 0.02, error: 0.01})
    assert watch.best is not None
    assert watch.best.loss == -0.007
    certificate = watch._monitor.certificate()
    assert certificate is not None
    assert certificate.best.score == 0.01  # at least its error: the rest is noise
    data = run_of(tmp_path / "run").read_data()
    assert data is not None
    assert data.metrics[0].signed
    watch.interrupt()
    again = opened(tmp_path / "run", metric=metric, resume=True, policy="evidence")
    assert again._monitor.metric.signed
    again.close()


def test_folder_and_state_stay_small_however_long_a_run_is(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run", log_every=100, loss="non-saturating")
    files, candidates, history = [], [], []
    for step in range(10_000):
        watch.step(1, accuracy=[1.0, 0.5], real_logits=0.5, discriminator_loss=0.7, generator_loss=0.7)
        if step % 33 == 0:  # each score is the best
            watch.score(fid=1e6 / (1 + step), keep={"weight": np.ones(100)})
        if step % 1000 == 999:
            history.append(len(watch.state_dict()["monitor"]["history"]))
            written = {path.name for path in (tmp_path / "run").iterdir()} - {"intervals.json"}  # once it is warm
            files.append(len(written) + sum(1 for _ in (tmp_path / "run").rglob("*/**/*")))
            candidates.append(len(list((tmp_path / "run" / "candidates").iterdir())))
    assert len(records(tmp_path / "run" / "log" / "scores.jsonl")) == 304
    assert max(candidates) == 3 * 3  # three now, and three for each of the last two states that were given out
    assert max(files) == files[2]
    assert max(history) < 100
    assert (tmp_path / "run" / "watch.json").stat().st_size < 300_000
    watch.close()


@pytest.mark.parametrize(
    ("options", "subject", "remedy"),
    [
        ({"latents": 4}, Option("real"), None),
        ({"policy": "discriminator-threshold"}, Option("policy", "discriminator-threshold"), Option),
        ({"policy": "discriminator-threshold", "loss": "hinge"}, Setting, Setting),
        ({"policy": "evidnce"}, Option("policy", "evidnce"), Near("evidence")),
        ({"loss": "non-saturatin"}, Option("loss", "non-saturatin"), Near("non-saturating")),
        ({"loss": "custom"}, Option("loss", "custom"), None),
        ({"budget": "soon"}, Option("budget", "soon"), Option("budget", "10m")),
        ({"settings": ["game.batch=3"]}, Setting("game.batch"), Setting),
        ({"settings": ["stopping.patience=3"]}, Setting("stopping.patience"), None),
        ({"evaluate_every": 0}, Option("evaluate_every", 0), None),
        ({"log_every": 1.5}, Option("log_every", 1.5), None),
    ],
)
def test_a_watch_that_cannot_be_leaves_no_folder(
    tmp_path: Path, options: dict[str, Any], subject: Any, remedy: Any
) -> None:
    with pytest.raises(UserError) as error:
        opened(tmp_path / "run", **options)
    assert error.value.subject == subject or isinstance(error.value.subject, subject)
    if isinstance(remedy, type):
        assert any(isinstance(part, remedy) for part in error.value.remedies)
    elif remedy is not None:
        assert remedy in error.value.remedies
    assert not (tmp_path / "run").exists()


def refused(path: Path, **options: Any) -> UserError:
    """Return the mistake that opening a watch is."""
    with pytest.raises(UserError) as error:
        opened(path, **options)
    assert not any(isinstance(part, Option) for part in error.value.remedies)  # they are for the command line
    return error.value


def test_folders_are_neither_shared_nor_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run"
    elsewhere = Command("Watch", tmp_path / "run-2")
    watch = opened(path)
    for resume in (False, True):
        error = refused(path, resume=resume)
        assert isinstance(error, RunBusyError)
        assert elsewhere in error.remedies
    watch.step(10)
    watch.close()
    assert refused(path).remedies == (Command("Watch", path, resume=True), elsewhere)
    assert refused(path, resume=True, metric="kid").remedies == (Command("Watch", path, resume=True, metric="fid"),)
    RunFolder.create(tmp_path / "theirs", Recipe())
    assert refused(tmp_path / "theirs", resume=True).remedies == (Command("Watch", tmp_path / "theirs-2"),)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "note.txt").write_text("mine")
    assert refused(tmp_path / "files", resume=True).remedies == (Command("Watch", tmp_path / "files-2"),)
    new = opened(tmp_path / "new", resume=True)  # the same script serves the first start and every other
    assert new.samples == 0
    new.close()


def test_what_a_killed_beginning_left_is_begun_again(tmp_path: Path) -> None:
    opened(tmp_path / "run").close()
    for path in (tmp_path / "run").iterdir():
        if path.is_file() and path.name not in ("lock", "data.json"):
            path.unlink()
    opened(tmp_path / "run", metric="kid").close()
    data = run_of(tmp_path / "run").read_data()
    assert data is not None
    assert data.metrics[0].name == "kid"


def test_a_larger_budget_goes_on_after_a_stop(tmp_path: Path) -> None:
    with opened(tmp_path / "run", budget="20") as watch:
        watch.step(20)
        assert watch.verdict == Stop("budget", watch.verdict.message if watch.verdict else "")
    again = opened(tmp_path / "run", budget="60", resume=True)
    assert again.samples == 20
    assert again.verdict is None
    again.close()


def test_a_disk_that_fails_hides_no_error_of_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "full")

    def loop() -> None:
        with opened(tmp_path / "run") as watch:
            watch.step(10)
            monkeypatch.setattr("equipoise.watch.session.write_json", full)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError):
        loop()
    assert run_of(tmp_path / "run").holder() is None
