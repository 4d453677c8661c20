"""The Lightning callback in a real trainer: stats, evaluation, stopping, checkpoints, every refusal."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

from equipoise.errors import Option, UserError  # noqa: E402
from equipoise.integrations.lightning import WatchCallback  # noqa: E402
from equipoise.runs.folder import RunFolder  # noqa: E402
from equipoise.storage.logs import records  # noqa: E402
from equipoise.watch.watch import Watch  # noqa: E402


class Game(pl.LightningModule):
    """A discriminator whose answers are fixed, and a generator of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.nets = nn.ModuleDict({"g": nn.Linear(4, 64)})

    def training_step(self, batch: list[Tensor]) -> dict[str, Tensor]:
        optimizer: Any = self.optimizers()
        loss = self.nets["g"](torch.ones(1, 4)).square().mean()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("d_loss", torch.tensor(0.25))
        self.log("game/g", loss)
        logits = torch.tensor([1.0, 2.0, -3.0])
        return {"real_logits": logits, "fake_logits": logits - 1.5, "unknown": logits}

    def validation_step(self, batch: list[Tensor]) -> None:
        self.log("val_fid", 10.0 - self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(callback: WatchCallback, path: Path | None = None, **options: Any) -> Any:
    """Train on 40 samples an epoch in batches of 4."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet["enable_checkpointing"] = False  # it would write into the present folder
    trainer = pl.Trainer(**(quiet | {"callbacks": [callback], "devices": 1} | options))
    loader = DataLoader(TensorDataset(torch.zeros(40, 1)), batch_size=4)
    trainer.fit(Game(), loader, loader, ckpt_path=path)
    return trainer


def test_stats_come_from_what_is_returned_and_logged(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", loss="hinge", metric="fid", log_every=20, policy="budget", budget="60", say=None)
    names = {"d_loss": "discriminator_loss", "game/g": "generator_loss"}
    callback = WatchCallback(watch, generator="nets.g", names=names, metric="val_fid")
    trainer = fit(callback, max_epochs=5)
    assert trainer.global_step == 15  # stopped within an epoch, where the budget was spent
    lines = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert [line["samples"] for line in lines] == [20, 40, 60]
    assert lines[0]["accuracy"] == pytest.approx(2 / 3)
    assert lines[0]["discriminator_loss"] == 0.25
    assert lines[0]["generator_loss"] > 0
    scores = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert scores[0]["values"] == {"fid": 10.0}
    assert (tmp_path / "run" / "best" / "generator.safetensors").exists()
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.status, state.stop_reason) == ("finished", "budget")
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.usefixtures("small")
def test_the_generator_is_evaluated_when_that_is_due(tmp_path: Path) -> None:
    real = np.random.default_rng(0).integers(0, 255, (600, 1, 8, 8)).astype(np.uint8)
    watch = Watch(
        tmp_path / "run",
        real=real,
        latents=4,
        generate=lambda generator, latents: generator(latents).view(-1, 1, 8, 8).tanh(),
        evaluate_every=40,
        policy="budget",
        settings=["evaluation.num_samples=100"],
        say=None,
    )
    fit(WatchCallback(watch, generator="nets.g"), max_epochs=2)
    assert [line["samples"] for line in records(tmp_path / "run" / "log" / "scores.jsonl")] == [40, 80]
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.status, state.stop_reason) == ("finished", None)
    assert state.selection is not None
    assert state.test is not None
    assert state.best is not None
    assert len(state.selection.candidates) == 2
    assert state.test.samples == state.best.samples == state.selection.winner


def test_its_checkpoints_hold_the_watch(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "log_every": 20,
        "policy": "patience",
        "settings": ["stopping.patience.evaluations=3"],
        "say": None,
    }
    first = Watch(tmp_path / "run", **options)
    trainer = fit(WatchCallback(first, generator="nets", metric="val_fid"), max_epochs=2)
    assert first.samples == 80
    trainer.save_checkpoint(tmp_path / "at-80.ckpt")
    second = Watch(tmp_path / "run", resume=True, **options)
    fit(WatchCallback(second, generator="nets", metric="val_fid"), tmp_path / "at-80.ckpt", max_epochs=3)
    assert second.samples == 120
    lines = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert [(line["samples"], line["loss"]) for line in lines] == [(40, 10.0), (80, 9.0), (120, 8.0)]


def test_an_error_in_the_training_is_written_down(tmp_path: Path) -> None:
    class Failing(Game):
        def training_step(self, batch: list[Tensor]) -> dict[str, Tensor]:
            raise RuntimeError("mine")

    watch = Watch(tmp_path / "run", say=None)
    trainer = pl.Trainer(
        callbacks=[WatchCallback(watch, generator="nets")],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        max_epochs=1,
        accelerator="cpu",
    )
    with pytest.raises(RuntimeError, match="mine"):
        trainer.fit(Failing(), DataLoader(TensorDataset(torch.zeros(4, 1))))
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.status, state.message) == ("failed", "RuntimeError: mine")


def test_mistakes_are_found_before_or_where_they_count(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", say=None)
    again = Watch(tmp_path / "again", say=None)
    for mistake, subject in (
        (lambda: WatchCallback(watch, names={"d": "d_los"}), Option("names")),
        (lambda: fit(WatchCallback(watch), max_epochs=1), Option("generator", "generator")),
        (
            lambda: fit(WatchCallback(again, generator="nets", metric="val_kid"), max_epochs=1, num_sanity_val_steps=0),
            Option("metric", "val_kid"),
        ),
    ):
        with pytest.raises(UserError) as error:
            mistake()
        assert error.value.subject == subject
    assert "game/g" in error.value.problem  # what was logged is listed


@pytest.mark.parametrize("is_in_block", [False, True])
def test_a_second_fit_goes_on_with_the_same_run(tmp_path: Path, is_in_block: bool) -> None:
    watch = Watch(tmp_path / "run", log_every=20, policy="budget", say=None)
    callback = WatchCallback(watch, generator="nets", metric="val_fid")
    with watch if is_in_block else contextlib.nullcontext():
        fit(callback, max_epochs=1)
        assert watch.is_closed is not is_in_block
        fit(callback, max_epochs=1)
    assert watch.samples == 80
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.status, state.samples) == ("finished", 80)
    assert [line["samples"] for line in records(tmp_path / "run" / "log" / "scores.jsonl")] == [40, 80]


def test_what_was_logged_for_an_epoch_or_an_earlier_step_counts_once(tmp_path: Path) -> None:
    class Averaging(Game):
        def training_step(self, batch: list[Tensor]) -> Any:
            bad = self.current_epoch == 0 and self.trainer.global_step == 0
            self.optimizers().step()  # type: ignore[union-attr]
            self.log("d_loss", torch.tensor(float("nan") if bad else 0.25), on_step=False, on_epoch=True)

    watch = Watch(tmp_path / "run", log_every=4, policy="budget", say=None)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        **quiet, callbacks=[WatchCallback(watch, generator="nets")], enable_checkpointing=False, max_epochs=2
    )
    trainer.fit(Averaging(), DataLoader(TensorDataset(torch.zeros(40, 1)), batch_size=4))
    assert (watch.samples, watch.verdict) == (80, None)


@pytest.mark.usefixtures("small")
def test_a_metric_beside_real_images_is_refused_at_once(tmp_path: Path) -> None:
    real = np.random.default_rng(0).integers(0, 255, (600, 1, 8, 8)).astype(np.uint8)
    with Watch(tmp_path / "run", real=real, latents=4, say=None) as watch, pytest.raises(UserError) as error:
        WatchCallback(watch, metric="val_fid")
    assert error.value.subject == Option("metric", "val_fid")


def test_what_a_callback_is_given_may_fail_later(tmp_path: Path) -> None:
    class Losing(Game):
        def on_train_epoch_end(self) -> None:
            if "g" in self.nets:
                del self.nets["g"]
            self.nets["other"] = nn.Linear(4, 64)

        def training_step(self, batch: list[Tensor]) -> Any:
            return {"d_loss": 0.25}

    counted = iter([4, 4])
    watch = Watch(tmp_path / "run", metric="fid", policy="budget", say=None)
    callback = WatchCallback(watch, generator="nets.g", metric="val_fid", samples=lambda _: next(counted))
    trainer = pl.Trainer(
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        accelerator="cpu",
        max_epochs=2,
    )
    loader = DataLoader(TensorDataset(torch.zeros(12, 1)), batch_size=4)
    trainer.fit(Losing(), loader, loader)
    assert trainer.current_epoch == 2
    assert watch.samples == 8
    lines = records(tmp_path / "run" / "log" / "events.jsonl")
    assert {line["kind"] for line in lines} == {"ignored", "not kept"}
    again = Watch(tmp_path / "again", say=None)
    with pytest.raises(UserError) as error:
        fit(WatchCallback(again, generator="nets.g", metric="val_fid", samples=lambda _: 1 // 0), max_epochs=1)
    assert error.value.subject == Option("samples")
