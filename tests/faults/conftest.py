"""What the tests of faults share: small trainings as processes, to be killed."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(os.fspath(Path(__file__).parent))  # the processes import their helpers by name, too

import killing


@pytest.fixture(scope="session")
def case(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> killing.Case:
    """Return a small training, whose images are prepared and whose judge has learned."""
    folder = tmp_path_factory.mktemp("case")
    case = killing.Case(shapes, folder / "cache")
    killing.finished(case.but("judging.every=48", budget=48), folder / "first")
    return case
