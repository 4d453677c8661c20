"""Real images for a watch to evaluate by."""

import numpy as np
import pytest


@pytest.fixture
def real() -> np.ndarray:
    """Return 600 distinct images of mean 0.5: enough for two halves to evaluate by."""
    noise = np.random.default_rng(0)
    return np.clip(0.5 + 0.2 * noise.standard_normal((600, 1, 8, 8)), -1, 1).astype(np.float32)
