import errno
import os
from pathlib import Path

import pytest

from equipoise.storage.safe_open import open_regular


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_could_keep_one_waiting_is_not_opened_and_leaves_no_descriptor(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            path.mkdir()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(OSError) as caught:  # noqa: PT011
        open_regular(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOTSUP, str(path))
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    (tmp_path / "b").symlink_to("a")
    with open_regular(tmp_path / "b") as file:
        assert file.read() == b"bytes"
