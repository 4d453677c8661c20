"""The Keras callback in a real `fit`, on the torch backend: stats, evaluation, stopping, kept weights."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="Keras is not installed")

from equipoise.errors import Option, UserError  # noqa: E402
from equipoise.integrations.keras import WatchCallback  # noqa: E402
from equipoise.runs.folder import RunFolder  # noqa: E402
from equipoise.storage.logs import records  # noqa: E402
from equipoise.watch.watch import Watch  # noqa: E402


def make_generator() -> Any:
    """Return a network from latents [N, 4] to images [N, 8, 8, 1]."""
    layers = [keras.layers.Input((4,)), keras.layers.Dense(64, activation="tanh"), keras.layers.Reshape((8, 8, 1))]
    return keras.Sequential(layers)


class Game(keras.Model):
    """A generator that is moved by hand, and numbers that are known."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = make_generator()
        self.num = 0
        self.built = True

    def train_step(self, data: Any) -> dict[str, Any]:
        self.num += 1
        weights = self.generator.get_weights()
        self.generator.set_weights([weights[0], np.full_like(weights[1], 0.1 * self.num)])
        logits = keras.ops.convert_to_tensor([[1.0], [2.0], [-3.0]])
        return {"d_loss": 0.25, "real_logits": logits, "fake_logits": logits - 1.5, "fid": 100.0 - self.num}


def fit(callback: WatchCallback, **options: Any) -> Game:
    """Train on 40 samples an epoch in batches of 4."""
    game = Game()
    game.compile()
    game.fit(np.zeros((40, 1), "float32"), batch_size=4, verbose=0, callbacks=[callback], **options)
    return game


def test_stats_scores_and_the_stop(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", loss="hinge", metric="fid", log_every=20, policy="budget", budget="100", say=None)
    game = fit(WatchCallback(watch, batch=4, metric="fid"), epochs=5)
    assert game.num == 25  # stopped within an epoch, where the budget was spent
    lines = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert [line["samples"] for line in lines] == [20, 40, 60, 80, 100]
    assert lines[0]["accuracy"] == pytest.approx(2 / 3)
    assert lines[0]["discriminator_loss"] == 0.25
    scores = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert [line["loss"] for line in scores] == [90.0, 80.0, 75.0]
    kept = make_generator()
    kept.load_weights(tmp_path / "run" / "best" / "generator.weights.h5")
    assert kept.get_weights()[1][0] == pytest.approx(2.5)
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.status, state.stop_reason) == ("finished", "budget")
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.usefixtures("small")
def test_the_generator_is_evaluated_beside_the_best_and_left_as_it_was(tmp_path: Path) -> None:
    real = np.random.default_rng(0).integers(100, 150, (600, 1, 8, 8)).astype(np.uint8)
    options: dict[str, Any] = {"policy": "budget", "settings": ["evaluation.num_samples=100"], "say": None}
    watch = Watch(tmp_path / "run", real=real, latents=4, evaluate_every=20, **options)
    game = fit(WatchCallback(watch, batch=4), epochs=1)
    assert game.generator.get_weights()[1][0] == pytest.approx(1.0)  # the best one's weights were only lent
    lines = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert [(line["samples"], line["compared_with"]) for line in lines] == [(20, 0), (40, 20)]
    assert lines[1]["difference"] > 0  # its images grow brighter than the real ones
    state = RunFolder.open(tmp_path / "run").read_state()
    assert state.selection is not None
    assert state.test is not None
    assert [one.found.samples for one in state.selection.candidates] == [20, 40]  # both were loaded
    assert state.selection.winner == state.test.samples == 20
    again = Watch(tmp_path / "run", real=real, latents=4, evaluate_every=20, resume=True, **options)
    fit(WatchCallback(again, batch=4), epochs=1)
    assert records(tmp_path / "run" / "log" / "scores.jsonl")[2]["compared_with"] == 20


def test_mistakes_are_found_before_or_where_they_count(tmp_path: Path) -> None:
    with Watch(tmp_path / "run", say=None) as watch:
        for mistake, subject in (
            (lambda: WatchCallback(watch, batch=4, names={"d": "d_los"}), Option("names")),
            (lambda: fit(WatchCallback(watch, batch=4, generator="net_g"), epochs=1), Option("generator", "net_g")),
            (lambda: fit(WatchCallback(watch, batch=4, metric="kid"), epochs=1), Option("metric", "kid")),
        ):
            with pytest.raises(UserError) as error:
                mistake()
            assert error.value.subject == subject


@pytest.mark.parametrize("is_in_block", [False, True])
def test_a_second_fit_goes_on_with_the_same_run(tmp_path: Path, is_in_block: bool) -> None:
    watch = Watch(tmp_path / "run", loss="hinge", metric="fid", log_every=20, policy="budget", say=None)
    callback = WatchCallback(watch, batch=4, metric="fid")
    with watch if is_in_block else contextlib.nullcontext():
        fit(callback, epochs=1)
        assert watch.is_closed is not is_in_block
        fit(callback, epochs=2)
    assert watch.samples == 120
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.status, state.samples) == ("finished", 120)


class Averaging(Game):
    """One whose numbers are means over the epoch so far, of which some are not finite."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self.bad = bad
        self.tracker = keras.metrics.Mean(name="d_loss")

    def train_step(self, data: Any) -> dict[str, Any]:
        self.num += 1
        self.tracker.update_state(float("nan") if self.num in self.bad else 0.25)
        return {"d_loss": self.tracker.result()}


@pytest.mark.parametrize(("bad", "reason"), [({12}, None), ({1}, None), (set(range(1, 99)), "diverged")])
def test_one_bad_batch_in_a_running_mean_is_no_divergence(tmp_path: Path, bad: set[int], reason: str | None) -> None:
    watch = Watch(tmp_path / "run", log_every=4, policy="budget", say=None)
    game = Averaging(bad)
    game.compile()
    game.fit(np.zeros((40, 1), "float32"), batch_size=4, verbose=0, epochs=4, callbacks=[WatchCallback(watch, batch=4)])
    assert (watch.verdict.reason if watch.verdict else None) == reason
