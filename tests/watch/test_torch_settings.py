"""Evaluations do not depend on what a loop has set in torch for the whole process, and leave it as it was."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shifted import Shifted, opened
from torch import Tensor

from equipoise.storage.logs import records
from equipoise.watch.generators import drawing
from equipoise.watch.torch_settings import USUAL, present_settings, usual_settings


@contextlib.contextmanager
def wide() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


class Typed(Shifted):
    """One that makes a tensor of the default type, as many do."""

    seen: Any

    def forward(self, latents: Tensor) -> Tensor:
        assert torch.zeros(1).dtype == torch.get_default_dtype() == self.seen
        return super().forward(latents)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "setting",
    [wide, deterministic, lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode, torch.no_grad],
    ids=["float64", "deterministic", "autocast", "inference", "no_grad"],
)
def test_a_score_is_the_same_under_any_settings_of_the_loop(tmp_path: Path, real: np.ndarray, setting: Any) -> None:
    losses = []
    for name, context in (("usual", contextlib.nullcontext()), ("set", setting())):
        with context:
            before = present_settings()
            generator = Typed(0.4)
            generator.seen = before.dtype
            watch = opened(tmp_path / name, real)
            watch.step(10)
            assert watch.evaluate(generator)
            watch.close()
            assert present_settings() == before
        assert [event["kind"] for event in records(tmp_path / name / "log" / "events.jsonl")] == []
        losses += [line["loss"] for line in records(tmp_path / name / "log" / "scores.jsonl")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_generator_finds_the_settings_of_its_loop_and_cannot_change_them() -> None:
    threads = torch.get_num_threads()
    seen = []

    def meddling(latents: Tensor) -> Tensor:
        seen.append(present_settings())
        torch.set_default_dtype(torch.float16)
        torch.use_deterministic_algorithms(True)
        torch.autograd.set_detect_anomaly(True)
        torch.set_num_threads(threads + 1)
        torch.set_grad_enabled(True)
        np.seterr(all="raise")
        raise RuntimeError("mine")

    errors = np.geterr()
    with wide(), torch.autocast("cpu", torch.bfloat16):
        before = present_settings()
        with usual_settings():
            assert present_settings() == USUAL
            with pytest.raises(RuntimeError, match="mine"):
                drawing(meddling, None)(torch.zeros(2, 4))
            assert present_settings() == USUAL
        assert present_settings() == before == seen[0]
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert np.geterr() == errors
