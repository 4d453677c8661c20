"""What a run wrote down of its images is taken back whole, or refused in one line before anything is made of it."""

from pathlib import Path
from typing import Any

import pytest

from equipoise.data.description import describe, described
from equipoise.data.pool import Pool
from equipoise.errors import UserError

GOOD: dict[str, Any] = {"digest": "d", "size": 8, "channels": 1, "classes": ["a"], "class_counts": [0], "path": None}


def test_what_is_written_is_taken_back(pool: Pool) -> None:
    found = described(describe(pool, "shapes"), Path("data.json"))
    assert found.digest == pool.digest
    assert (found.size, found.channels) == (8, 1)
    assert found.classes == pool.classes
    assert sum(found.class_counts) == len(pool.splits.train)
    assert found.path == str(Path("shapes").resolve())
    assert described(describe(pool, "mnist"), Path("data.json")).path is None


BAD = [
    {"path": ["x"]},
    {"path": 5},
    {"size": "8"},
    {"size": 2**20},
    {"channels": 10**9},
    {"channels": True},
    {"classes": "ab"},
    {"class_counts": [-1]},
    {"digest": None},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_no_description_is_refused_in_one_line(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data\.json: gone or damaged .*Restore it from a copy") as caught:
        described(GOOD | bad, Path("run/data.json"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError):
        described({}, Path("run/data.json"))
