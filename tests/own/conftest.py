"""Real images for a watch to judge by, and an end of the run that takes an instant."""

import numpy as np
import pytest


@pytest.fixture
def real() -> np.ndarray:
    """Return 600 distinct images of mean 0.5: enough for two halves to judge by."""
    noise = np.random.default_rng(0)
    return np.clip(0.5 + 0.2 * noise.standard_normal((600, 1, 8, 8)), -1, 1).astype(np.float32)


@pytest.fixture
def small(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the judge learn in a second, and the end of a run take 200 generated images instead of 5,000."""
    monkeypatch.setattr("equipoise.api.NUM_REAL", 200)
    monkeypatch.setattr("equipoise.own.judge.NUM_REAL", 200)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the system when files reach the disk: nothing here cuts the power."""
    monkeypatch.setattr("os.fsync", lambda _: None)
