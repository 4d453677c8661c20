"""Real images for a watch to evaluate by, and files that need not last."""

import numpy as np
import pytest


@pytest.fixture
def real() -> np.ndarray:
    """Return 600 distinct images of mean 0.5: enough for two halves to evaluate by."""
    noise = np.random.default_rng(0)
    return np.clip(0.5 + 0.2 * noise.standard_normal((600, 1, 8, 8)), -1, 1).astype(np.float32)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the system when files reach the disk: nothing here cuts the power."""
    monkeypatch.setattr("os.fsync", lambda _: None)
