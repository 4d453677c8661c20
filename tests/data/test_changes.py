"""The list of examples that a run keeps, and what it says of a source that changed."""

from pathlib import Path

import numpy as np
import pytest

from equipoise.data import changes
from equipoise.data.changes import Listed, is_damaged, name_hashes, packed

CONTENTS = np.array([3, 1, 2, 2**64 - 1], np.uint64)
SEEN = np.array([7, 8], np.uint64)


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


@pytest.mark.parametrize("names", [None, ["a", "b", "c", "d"]])
@pytest.mark.parametrize("seen", [None, SEEN, SEEN[:0]])
def test_a_list_comes_back_as_it_was(tmp_path: Path, names: list[str] | None, seen: np.ndarray | None) -> None:
    path = tmp_path / "list"
    examples = Listed(CONTENTS, None if names is None else name_hashes(names), seen)
    path.write_bytes(packed(examples))
    found = changes.read(path)
    assert found is not None
    assert same(found.contents, CONTENTS)
    assert same(found.names, examples.names)
    assert same(found.seen, seen), "unknown is not the same as none"
    assert not is_damaged(path)


def test_no_wrong_byte_of_a_list_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "list"
    whole = packed(Listed(CONTENTS, name_hashes(["a", "b", "c", "d"]), SEEN))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        found = changes.read(path)
        assert found is None or packed(found) == whole, place
    path.write_bytes(whole[:-1])
    assert is_damaged(path)
    path.unlink()
    assert not is_damaged(path)


def test_a_list_without_a_checksum_or_of_other_types_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(packed(Listed(CONTENTS.astype(np.int64))))
    assert is_damaged(path)
    path.write_bytes(packed(Listed(CONTENTS, CONTENTS[:2])))
    assert is_damaged(path)
