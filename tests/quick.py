"""The command line with a judge that learns in a second: for tests that start whole processes."""

import sys
from typing import Any

from equipoise.metrics.features import encoder

QUICK_STEPS = 3


def encoder_defaults() -> dict[str, Any]:
    """Return the options of an encoder's learning that count where none is given."""
    defaults = encoder.load_or_train.__kwdefaults__
    assert defaults is not None
    return defaults


def quicken() -> None:
    """Make the judge's encoder learn for a few steps only: its scores mean little, and come at once."""
    encoder_defaults()["steps"] = QUICK_STEPS


if __name__ == "__main__":
    from equipoise.cli import main

    quicken()
    sys.exit(main())
