"""Going on after a stop by a policy: exactly as if the run had had the other policy from its start."""

import dataclasses
import itertools
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import SMALL, as_options

import equipoise as eq
from equipoise.cli import main
from equipoise.evaluation import evaluate, evaluator
from equipoise.metrics.kid import Estimate
from equipoise.stopping.monitor import Referee
from equipoise.storage import checkpoints, files
from equipoise.storage.logs import records

SETTLED = (*SMALL, "saving.every=160", "saving.log_every=80", "data.validation=0.3", "stopping.policy=evidence")


def staged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every training meet the same KIDs: one good look, and from then on nothing better."""
    kids: Iterator[float] = itertools.chain([5.0, 1.0], (3.0 + 0.01 * index for index in itertools.count()))
    real_score, real_referee, found = evaluator.score_features, Referee.score, [0.0, 0.0]

    def score_features(judge: Any, fake: Any) -> Any:
        found[1] = next(kids)
        return dataclasses.replace(real_score(judge, fake), kid=found[1], kid_se=0.001)

    def score(self: Referee, line: Any) -> bool:
        promoted = real_referee(self, line)
        found[0] = found[1] if promoted and line.kid == found[1] else found[0]
        return promoted

    monkeypatch.setattr(evaluate, "score_features", score_features)
    monkeypatch.setattr(evaluate, "kid_difference", lambda *_, **__: Estimate(found[1] - found[0], 0.001))
    monkeypatch.setattr(Referee, "score", score)


def trained(shapes: Path, path: Path, *settings: str) -> eq.Run:
    return eq.train(shapes, budget="1600", out=path, settings=[*SETTLED, *settings])


def logged(run: eq.Run) -> list[dict[str, Any]]:
    return [{**record, "seconds": None} for record in records(run.folder.scores)]


@pytest.mark.slow
def test_a_run_that_evidence_stopped_goes_on_as_the_run_that_had_the_budget_policy_from_the_start(
    quick: None,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        staged(patch)
        whole = trained(shapes, tmp_path / "whole", "stopping.policy=budget")
    monkeypatch.setenv("COLUMNS", "70")
    staged(monkeypatch)
    command = ["train", os.fspath(shapes), "--budget", "1600", "--out", os.fspath(tmp_path / "run")]
    assert main([*command, *as_options(SETTLED)]) == 0
    stopped = eq.load(tmp_path / "run").state
    assert stopped["policy"] == "evidence"
    assert 320 < stopped["samples"] < 1600

    said = capsys.readouterr().out.split("\n\n")[-1]
    go_on = f"equipoise resume {shlex.quote(os.fspath(tmp_path / 'run'))} --policy budget"
    assert f"To train on all the same: {go_on}\n" in said
    reason = said.split("\nBest:")[0]
    assert max(map(len, reason.splitlines())) <= 70
    assert " ".join(reason.split()) == stopped["reason"]
    assert main(["resume", os.fspath(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith(f"{go_on}\n")

    assert main(shlex.split(go_on)[1:]) == 0
    went_on = eq.load(tmp_path / "run")
    assert went_on.recipe == whole.recipe
    assert went_on.state["reason"] == whole.state["reason"] == "The budget of 1,600 samples is spent."
    events = [record for record in records(went_on.folder.events) if record["kind"] == "another policy"]
    assert [(event["samples"], event["message"]) for event in events] == [(stopped["samples"], "evidence → budget")]
    ends = [checkpoints.latest(run.folder.checkpoints) for run in (whole, went_on)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].tensors.keys() == ends[1].tensors.keys()
    assert any(name.startswith("champion.") for name in ends[0].tensors)
    assert all(torch.equal(tensor, ends[1].tensors[name]) for name, tensor in ends[0].tensors.items())
    assert logged(whole) == logged(went_on)
    handed = [load_file(files.readable(run.folder.best) / "generator.safetensors") for run in (whole, went_on)]
    assert all(torch.equal(tensor, handed[1][name]) for name, tensor in handed[0].items())
    assert whole.state["rescored"]["winner"] == went_on.state["rescored"]["winner"]
