"""A watch in a loop that Equipoise did not write: signals, scores, stopping, the best, resuming, and every refusal."""

import contextlib
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
from torch import Tensor, nn

import equipoise
from equipoise.errors import RunBusyError, UserError
from equipoise.recipe import LossName, Recipe
from equipoise.runs.compare import compare
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import status, status_values
from equipoise.storage.files import verify
from equipoise.storage.logs import records
from equipoise.tasks.images import signals
from equipoise.watch.keep import keep
from equipoise.watch.meter import Meter, logit_numbers, probability_numbers
from equipoise.watch.watch import Watch

LATENTS = 4
LOSSES: tuple[LossName | None, ...] = ("minimax", "non-saturating", "least-squares", "hinge", "wasserstein", None)


def opened(path: Path, **options: Any) -> Watch:
    """Return a watch that logs every 10 samples and says nothing."""
    return Watch(path, **({"log_every": 10, "tell": None, "policy": "budget"} | options))


class Shifted(nn.Module):
    """Latents to 8×8 images whose mean is a weight; its batch norm and dropout tell modes apart."""

    def __init__(self, mean: float = 0.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.norm = nn.BatchNorm1d(LATENTS)
        self.dropout = nn.Dropout(0.5)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.dropout(self.norm(latents))
        return (self.mean + 0.2 * hidden.repeat(1, 16).view(-1, 1, 8, 8)).clamp(-1, 1)


@pytest.fixture
def real() -> np.ndarray:
    """Return 400 distinct images of mean 0.5."""
    noise = np.random.default_rng(0)
    return np.clip(0.5 + 0.2 * noise.standard_normal((400, 1, 8, 8)), -1, 1).astype(np.float32)


def judged(path: Path, real: Any, **options: Any) -> Watch:
    """Return a watch that judges by 100 generated images."""
    return opened(path, real=real, latents=LATENTS, settings=["judging.num_samples=100"], **options)


def test_a_loop_of_floats_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    script = """
import sys, equipoise
with equipoise.Watch(sys.argv[1], log_every=4, tell=None) as watch:
    for step in range(8):
        watch.step(2, real_logits=[1.0, -1.0], fake_logits=[0.5, -2.0], discriminator_loss=0.7, generator_loss=0.7)
        watch.score(fid=10.0 - step, keep=lambda folder: (folder / "mine.txt").write_text("weights"))
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
    assert [(line["fid"], line["best"]) for line in logged] == [(9.0, True), (7.0, True), (8.0, False), (7.0, False)]
    events = records(tmp_path / "run" / "log" / "events.jsonl")
    assert [(event["kind"], event["samples"]) for event in events] == [("no score", 40)]
    state = RunFolder.open(tmp_path / "run").read_state()
    assert state["status"] == "finished"
    assert state["best"]["samples"] == 20
    assert "by itself" in state["reason"]


@pytest.mark.parametrize("loss", [*LOSSES, "relativistic", "relativistic-average"])
def test_signals_of_logits_are_those_of_the_loop(loss: LossName | None) -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(64, generator=generator) + 0.3, torch.randn(64, generator=generator)
    expected = {name: float(value) for name, value in signals(loss, real, fake).items()}
    expected = {name: value for name, value in expected.items() if not math.isnan(value)}
    found = {name: float(value) for name, value in logit_numbers(loss, real[:, None], fake[:, None]).items()}
    assert found == pytest.approx(expected)
    plain = logit_numbers(loss, real.tolist(), fake.numpy())
    assert plain == pytest.approx(expected, abs=1e-6)


def test_probabilities_have_an_accuracy_of_their_own() -> None:
    found = probability_numbers([0.9, 0.4], [0.2, 0.1])
    assert found == pytest.approx({"real_probability": 0.65, "fake_probability": 0.15, "accuracy": 0.75})


def test_a_mean_of_logits_has_no_accuracy() -> None:
    assert logit_numbers("hinge", 0.5, torch.tensor(-0.5)) == {"real_logit": 0.5, "fake_logit": torch.tensor(-0.5)}


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
    watch.step(10, real_logits=logits, fake_logits=logits, discriminator_loss=logits.sum() + 2)
    watch.close()
    (line,) = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert (line["samples"], line["accuracy"], line["discriminator_loss"]) == (100, 0.5, 2.0)
    assert line["generator_loss"] is None


def test_the_meter_counts_what_is_not_finite_and_folds_at_any_time() -> None:
    values = [1.0, torch.tensor(2.0), math.nan, torch.tensor(math.inf), 0.1]
    at_once, bit_by_bit = Meter(), Meter()
    for value in values:
        at_once.add({"loss": value})
        bit_by_bit.add({"loss": value})
        again = Meter()
        again.load_state_dict(json.loads(json.dumps(bit_by_bit.state_dict())))
        bit_by_bit = again
    assert at_once.state_dict() == bit_by_bit.state_dict()
    assert at_once.state_dict()["loss"][1:] == [3, 2]
    assert at_once.mean("loss") == pytest.approx(3.1 / 3)


def test_losses_that_are_no_numbers_end_the_training(tmp_path: Path) -> None:
    told: list[str] = []
    watch = opened(tmp_path / "run", tell=told.append)
    watch.step(10, discriminator_loss=0.5, generator_loss=0.5)
    for _ in range(2):
        watch.step(10, discriminator_loss=0.5, generator_loss=torch.tensor(math.nan))
        assert watch.verdict is None
    watch.step(10, discriminator_loss=0.5, generator_loss=math.nan)
    assert watch.verdict is not None
    assert watch.verdict.policy == "diverged"
    assert "--set" not in watch.verdict.reason
    assert "broken down" in watch.sentence()
    assert any("not a finite number" in line for line in told)
    watch.close()
    assert "diverged" in status(RunFolder.open(tmp_path / "run"))


def test_a_loop_that_gives_no_losses_has_not_diverged(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    for step in range(10):
        watch.step(10)
        watch.score(fid=20.0 - step)
    assert watch.verdict is None
    assert watch.sentence() == "FID is still falling (lower is better)."
    assert "FID is still falling" in status(RunFolder.open(tmp_path / "run"))
    watch.close()


def test_patience_and_the_budget_say_stop(tmp_path: Path) -> None:
    watch = opened(tmp_path / "patient", policy="patience", settings=["stopping.patience=3"])
    for fid in (5.0, 6.0, 6.0):
        watch.step(10)
        watch.score(fid=fid)
    assert watch.verdict is None
    watch.score(fid=5.0)
    assert watch.verdict is not None
    assert watch.verdict.policy == "patience"
    short = opened(tmp_path / "short", budget="40")
    short.step(39)
    assert short.verdict is None
    short.step(1)
    assert short.verdict is not None
    assert short.verdict.reason == "The budget of 40 samples is spent."


def curve(step: int) -> float:
    """Return a FID that falls, then rises, with noise that is the same every time."""
    return 50 + 400 / (1 + step) + 0.8 * max(0, step - 25) + 2 * math.sin(37.0 * step)


def train(watch: Watch, begin: int, end: int) -> int:
    """Take steps from one position to another or to the verdict; return where it ended."""
    for step in range(begin, end):
        loss = torch.tensor(0.5 + 0.01 * (step % 7))
        watch.step(7, real_logits=[0.1 * step, -1.0], fake_logits=[-0.2, 0.1], discriminator_loss=loss)
        if watch.is_judging_due:
            watch.score(fid=curve(step), keep={"step": np.array([step])})
        if watch.verdict:
            return step
    return end


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("policy", ["patience", "evidence"])
def test_interrupted_anywhere_the_verdicts_are_the_same(tmp_path: Path, policy: str) -> None:
    options: dict[str, Any] = {"policy": policy, "judge_every": 21, "loss": "non-saturating"}
    whole = opened(tmp_path / "whole", **options)
    end = train(whole, 0, 3000)
    assert whole.verdict is not None
    assert whole.verdict.policy == policy
    for cut in (1, 20, end // 2, end):
        path = tmp_path / f"cut-{cut}"
        first = opened(path, **options)
        train(first, 0, cut)
        first.interrupt()
        assert status_values(RunFolder.open(path))["state"] == "stopped"
        second = opened(path, resume=True, **options)
        assert train(second, cut, 3000) == end
        assert second.verdict == whole.verdict
        assert second.best == whole.best or (second.best and whole.best and second.best.fid == whole.best.fid)
        names = ("samples", "accuracy", "discriminator_loss", "real_logit")
        logs = [records(run / "log" / "steps.jsonl") for run in (tmp_path / "whole", path)]
        assert [[line[name] for name in names] for line in logs[0]] == [
            [line[name] for name in names] for line in logs[1]
        ]
        second.close()


@pytest.mark.usefixtures("unsynced")
def test_a_state_of_ones_own_checkpoint_is_taken_back_exactly(tmp_path: Path) -> None:
    options: dict[str, Any] = {"policy": "patience", "judge_every": 21}
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
    assert load_file(kept)["step"].item() == later // 7 - 1, "the later best is set aside, not lost"
    assert train(second, 12, 3000) == train(opened(tmp_path / "other", **options), 0, 3000)


def test_a_failing_keep_leaves_the_best_before_it(tmp_path: Path) -> None:
    keep(tmp_path / "best", {"weight": np.ones(2)}, {"samples": 1})

    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        keep(tmp_path / "best", fails, {"samples": 2})
    assert json.loads((tmp_path / "best" / "score.json").read_text()) == {"samples": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_tied_weights_and_mixed_dicts_are_kept(tmp_path: Path) -> None:

    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    keep(tmp_path / "module", nn.Sequential(first, second), {})
    loaded = load_file(tmp_path / "module" / "generator.safetensors")
    assert set(loaded) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    keep(tmp_path / "mixed", {"a": first.weight, "b": np.arange(3)}, {})
    assert load_file(tmp_path / "mixed" / "generator.safetensors")["b"].tolist() == [0, 1, 2]
    assert verify(tmp_path / "module") is None
    (tmp_path / "mixed" / "score.json").write_text("{ }")
    assert verify(tmp_path / "mixed") == "score.json does not match its SHA-256"


@pytest.mark.usefixtures("small")
def test_a_judged_generator_is_kept_when_it_beats_the_best_on_the_same_latents(
    tmp_path: Path, real: np.ndarray
) -> None:
    watch = judged(tmp_path / "run", real)
    generator = Shifted(-0.5).train()
    generator.norm.eval()
    state = torch.random.get_rng_state()
    assert watch.judge(generator)
    assert torch.equal(state, torch.random.get_rng_state()), "judging draws from streams of its own"
    assert generator.training
    assert not generator.norm.training, "each part's own mode"
    assert generator.norm.running_mean is not None
    assert not generator.norm.running_mean.any()
    watch.step(10)
    with torch.no_grad():
        generator.mean.fill_(0.5)
    assert watch.judge(generator)
    watch.step(10)
    with torch.no_grad():
        generator.mean.fill_(-0.2)
    assert not watch.judge(generator)
    watch.close()
    first, second, third = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert (first["champion"], first["difference"]) == (0, None)
    assert second["difference"] < -2 * second["difference_se"] < 0
    assert (third["champion"], third["best"]) == (10, False)
    assert third["difference"] > 2 * third["difference_se"]
    weights = load_file(tmp_path / "run" / "best" / "generator.safetensors")
    assert weights["mean"] == 0.5
    state = RunFolder.open(tmp_path / "run").read_state()
    assert state["test"]["protocol"]["split"] == "test"
    assert state["best"]["protocol"]["split"] == "validation"
    for name in ("best.png", "real.png", "nearest.png"):
        assert (tmp_path / "run" / "samples" / name).exists()
    assert "<img" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.usefixtures("small")
def test_the_champion_comes_back_from_the_disk(tmp_path: Path, real: np.ndarray) -> None:
    watch = judged(tmp_path / "run", real)
    generator = Shifted(0.4)
    watch.step(10)
    watch.judge(generator)
    watch.interrupt()
    assert RunFolder.open(tmp_path / "run").read_state()["test"] is None, "the test split is for the end"
    again = judged(tmp_path / "run", real, resume=True)
    with torch.no_grad():
        generator.mean.fill_(-0.4)
    again.step(10)
    assert not again.judge(generator)
    line = records(tmp_path / "run" / "log" / "scores.jsonl")[-1]
    assert line["champion"] == 10
    assert line["difference"] > 0
    again.close()


@pytest.mark.usefixtures("small")
def test_scores_of_another_judge_are_left_and_the_best_is_scored_anew(tmp_path: Path, real: np.ndarray) -> None:
    watch = judged(tmp_path / "run", real)
    watch.step(10)
    watch.judge(Shifted(0.4))
    watch.interrupt()
    again = judged(tmp_path / "run", real[:300], resume=True)
    again.step(10)
    assert not again.judge(Shifted(-0.4))
    assert again.best is not None
    assert again.best.samples == 10
    assert again.best.protocol["num_real"] < 40
    again.close()


@pytest.mark.usefixtures("small")
def test_functions_are_judged_by_their_score_alone(tmp_path: Path, real: np.ndarray) -> None:
    watch = judged(tmp_path / "run", torch.from_numpy(real))
    good, bad = Shifted(0.5).eval(), Shifted(-0.5).eval()
    assert watch.judge(lambda latents: bad(latents).numpy(), keep=bad)
    watch.step(10)
    assert watch.judge(lambda latents: good(latents), keep=good)
    watch.step(10)
    assert not watch.judge(lambda latents: bad(latents).fill_(math.nan)), "a failed judging ends nothing"
    assert len(records(tmp_path / "run" / "log" / "scores.jsonl")) == 2
    assert load_file(tmp_path / "run" / "best" / "generator.safetensors")["mean"] == 0.5
    watch.close()


@pytest.mark.usefixtures("small")
def test_real_images_are_split_by_content(tmp_path: Path, real: np.ndarray) -> None:
    watch = judged(tmp_path / "run", np.concatenate([real, real]))
    train = watch.train_indices
    assert 0.7 < len(train) / 800 < 0.9
    assert set(train % 400) | (set(range(400)) - set(train % 400)) == set(range(400))
    assert len(set(train % 400)) * 2 == len(train), "duplicates stay on one side"
    watch.close()
    again = judged(tmp_path / "uint8", ((real + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
    assert len(again.train_indices) == len(train) / 2
    again.close()


def test_the_folder_says_only_what_is_known(tmp_path: Path) -> None:
    watch = opened(tmp_path / "mine")
    watch.step(10, discriminator_loss=1.0, generator_loss=1.0)
    watch.score(fid=12.5, coverage=0.5)
    run = RunFolder.open(tmp_path / "mine")
    assert run.is_own_loop
    assert run.holder() is not None
    watch.interrupt()
    recipe = run.read_recipe()
    assert set(recipe) == {"name", "stopping", "judging"}
    assert recipe["judging"] == {"metric": "fid"}
    text = status(run)
    assert "FID 12.5" in text
    assert "no budget" in text
    assert "resume=True" in text
    for word in ("seed", "modern", "mnist", "equipoise resume"):
        assert word not in text
    values = status_values(run)
    assert (values["source"], values["seed"], values["horizon"]) == (None, None, None)
    other = RunFolder.create(tmp_path / "other", Recipe())
    row = next(line for line in compare([run, other]).splitlines() if "networks.width" in line)
    assert row.split() == ["networks.width", "–", "64"]
    with pytest.raises(UserError, match="resume=True"):
        run.refuse_own_loop()
    other.refuse_own_loop()


def test_how_a_with_block_ends_is_how_the_run_ends(tmp_path: Path) -> None:
    for error, written in ((KeyboardInterrupt(), "stopped"), (RuntimeError("mine"), "failed"), (None, "finished")):
        path = tmp_path / written
        expected = pytest.raises(type(error)) if error else contextlib.nullcontext()
        with expected, opened(path) as watch:
            watch.step(10)
            if error:
                raise error
        state = RunFolder.open(path).read_state()
        assert state["status"] == written
        assert RunFolder.open(path).holder() is None
        assert (path / "report.html").exists()
        watch.close()
        assert RunFolder.open(path).read_state() == state, "closing twice does nothing"


def test_judging_is_spaced_by_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Watch(tmp_path / "run", tell=None, policy="budget")
    due = []
    for step in range(400):
        now[0] += 0.5  # 20 samples a second
        watch.step(10)
        if watch.is_judging_due:
            due.append(step)
            now[0] += 2.0
            watch.score(fid=1.0)
    assert len(set(np.diff(due))) == 1
    assert due[1] - due[0] == 2.0 / 0.05 * 20 / 10


REFUSED: list[tuple[Callable[[Watch], Any], str]] = [
    (lambda watch: watch.score(), "fid is missing"),
    (lambda watch: watch.score(kid=0.1), 'metric="kid"'),
    (lambda watch: watch.score(fid="low"), "not all numbers"),  # type: ignore[arg-type]
    (lambda watch: watch.score(fit=1.0), 'Did you mean "fid"'),
    (lambda watch: watch.score(fid=1.0, keep=3), "keep=int"),
    (lambda watch: watch.score(fid=0.0), r"above zero, for example score\(fid=math.exp\(loss\)\)"),
    (lambda watch: watch.score(fid=-1.5), "fid=-1.5"),
    (lambda watch: watch.step(0), "at least 1"),
    (lambda watch: watch.step(1.5), "at least 1"),  # type: ignore[arg-type]
    (lambda watch: watch.step(8, d_loss=1.0), "no signal d_loss"),
    (lambda watch: watch.step(8, accuracy="high"), "give a number"),
    (lambda watch: watch.step(8, generator_loss=torch.empty(0)), "generator_loss"),
    (lambda watch: watch.judge(Shifted()), "no real images"),
    (lambda watch: watch.train_indices, "no real images"),
    (lambda watch: watch.load_state_dict({}), "no state of a watch"),
    (lambda watch: watch.load_state_dict(watch.state_dict() | {"samples": 9, "meter": {"loss": 3}}), "no state of a"),
    (lambda watch: watch.load_state_dict(watch.state_dict() | {"samples": 9, "referee": {}}), "does not fit"),
    (lambda watch: (watch.close(), watch.step(8)), "is closed"),
    (lambda watch: (watch.close(), watch.score(fid=1.0)), "is closed"),
]


@pytest.mark.parametrize(("mistake", "words"), REFUSED)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, mistake: Callable[[Watch], Any], words: str) -> None:
    watch = opened(tmp_path / "run")
    state = watch.state_dict()
    with pytest.raises(UserError, match=words) as error:
        mistake(watch)
    assert "\n" not in str(error.value)
    assert watch.state_dict() == state, "nothing is half-done"
    watch.close()


def test_a_kid_below_zero_needs_its_error(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run", metric="kid", policy="evidence")
    for wrong in ({}, {"kid_se": 0.0}, {"kid_se": math.nan}):
        with pytest.raises(UserError, match="standard error"):
            watch.score(kid=-0.001, **wrong)
    for step in range(8):
        watch.step(10)
        watch.score(kid=-0.001 * step, kid_se=0.01)
    assert watch.best is not None
    assert watch.best.kid == -0.007
    watch.close()


@pytest.mark.usefixtures("unsynced")
def test_folder_and_state_stay_small_however_long_a_run_is(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run", log_every=100, loss="non-saturating")
    files, candidates, history = [], [], []
    for step in range(10_000):
        watch.step(1, real_logits=[1.0, -1.0], fake_logits=[0.5, -2.0], discriminator_loss=0.7, generator_loss=0.7)
        if step % 33 == 0:  # each score is the best
            watch.score(fid=1e6 / (1 + step), keep={"weight": np.ones(100)})
        if step % 1000 == 999:
            history.append(len(watch.state_dict()["referee"]["history"]))
            written = {path.name for path in (tmp_path / "run").iterdir()} - {"pace.json"}  # once two seconds are over
            files.append(len(written) + sum(1 for _ in (tmp_path / "run").rglob("*/**/*")))
            candidates.append(len(list((tmp_path / "run" / "candidates").iterdir())))
    assert len(records(tmp_path / "run" / "log" / "scores.jsonl")) == 304
    assert max(candidates) == 9, "three now, and three for each of the last two states that were given out"
    assert max(files) == files[2]
    assert max(history) < 100
    assert (tmp_path / "run" / "watch.json").stat().st_size < 300_000
    watch.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"latents": 4}, "real=images"),
        ({"real": np.zeros((400, 1, 8, 8), np.uint8)}, "latents=100"),
        ({"real": np.zeros((400, 8, 8, 1)), "latents": 4}, "np.moveaxis"),
        ({"real": np.zeros((400, 8, 8)), "latents": 4}, r"\[N, C, H, W\]"),
        ({"real": np.random.default_rng(0).random((400, 1, 8, 8)), "latents": 4}, r"2 \* images - 1"),
        ({"real": np.full((400, 1, 8, 8), np.nan), "latents": 4}, "nan"),
        ({"real": np.full((400, 1, 8, 8), 200.0), "latents": 4}, "uint8"),
        ({"real": np.zeros((400, 1, 8, 8), np.int64), "latents": 4}, "int64"),
        ({"real": "no/such/folder", "latents": 4}, "no such file"),
        ({"policy": "discriminator-threshold"}, "loss="),
        ({"policy": "discriminator-threshold", "loss": "hinge"}, "no probability"),
        ({"budget": "soon"}, "soon"),
        ({"settings": ["game.batch=3"]}, "only judging"),
        ({"judge_every": 0}, "judge_every"),
        ({"metric": "loss"}, "loss"),
    ],
)
def test_a_watch_that_cannot_be_leaves_no_folder(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        opened(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("small")
def test_images_of_another_shape_or_range_are_refused_at_the_first_score(tmp_path: Path, real: np.ndarray) -> None:
    watch = judged(tmp_path / "run", real)
    with pytest.raises(UserError, match=r"gave \[8, 1, 4, 16\]"):
        watch.judge(lambda latents: torch.zeros(len(latents), 1, 4, 16))
    with pytest.raises(UserError, match="final tanh"):
        watch.judge(lambda latents: torch.full((len(latents), 1, 8, 8), 100.0))
    with pytest.raises(UserError, match="torch module"):
        watch.judge(3)
    watch.close()


def test_folders_are_neither_shared_nor_overwritten(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    with pytest.raises(UserError, match="is training here"):
        opened(tmp_path / "run")
    with pytest.raises(RunBusyError):
        opened(tmp_path / "run", resume=True)
    watch.step(10)
    watch.close()
    with pytest.raises(UserError, match="resume=True"):
        opened(tmp_path / "run")
    with pytest.raises(UserError, match='metric="fid"'):
        opened(tmp_path / "run", resume=True, metric="kid")
    RunFolder.create(tmp_path / "theirs", Recipe())
    with pytest.raises(UserError, match="equipoise train"):
        opened(tmp_path / "theirs", resume=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="other files") as error:
        opened(tmp_path / "files", resume=True)
    assert "--out" not in str(error.value)
    new = opened(tmp_path / "new", resume=True)  # the same script serves the first start and every other
    assert new.samples == 0
    new.close()


def test_a_larger_budget_goes_on_after_a_stop(tmp_path: Path) -> None:
    with opened(tmp_path / "run", budget="20") as watch:
        watch.step(20)
        assert watch.verdict is not None
    again = opened(tmp_path / "run", budget="60", resume=True)
    assert again.samples == 20
    assert again.verdict is None
    again.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policy": "evidnce"}, 'policy="evidnce": allowed are evidence, budget'),
        ({"loss": "bce"}, 'loss="bce": allowed are minimax, non-saturating'),
        ({"metric": "is"}, 'metric="is": allowed are kid or fid'),
    ],
)
def test_a_name_that_does_not_exist_is_told_with_those_that_do(tmp_path, given, said):
    with pytest.raises(UserError) as error:
        Watch(tmp_path / "run", **given)
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()
