"""The logs of other tools through the command line: what is told of them, and what is no log in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., str]

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (PICTURE, "picture"),
        (b"", "empty"),
        (b"d_loss\n" + b"0.5\n" * 9, "one column"),
        (b"step,d_loss,g_loss\n1,1,1\n2,abc,1\n" + b"3,1,1\n" * 9, 'line 3: d_loss "abc"'),
        (b"step,d_loss,g_loss\n1,1,1\n2,1,1\n3,1,1\n", "at least 6"),
        (bytes(range(256)), "UTF-8"),
    ],
)
def test_what_is_no_log_is_one_line_that_says_what_it_is(
    refused: Command, tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "losses.csv"
    path.write_bytes(content)
    line = refused("diagnose", path)
    assert str(path) in line
    assert what in line


def test_a_folder_and_a_file_that_is_not_there_are_one_line(refused: Command, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", Path("/dev/null")):
        assert str(path) in refused("diagnose", path)


def test_a_sheet_from_excel_is_read_as_any_log(output: Command, tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    rows = [f"{step};0,{step:02d};{100 - step},5" for step in range(20)]
    path.write_text("\r\n".join(["step;d_loss;d_acc", *rows]), encoding="utf-16")
    assert "20 log lines" in " ".join(output("diagnose", path).split())
    found = json.loads(output("diagnose", path, "--json"))
    assert (found["log_lines"], found["begin"], found["end"]) == (20, 0, 19)
    assert found["columns"] == {"d_loss": "discriminator_loss", "d_acc": "accuracy"}
