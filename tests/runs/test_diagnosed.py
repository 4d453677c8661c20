"""What is told of a log: at its end, before, and in one screen of text."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from equipoise.cli.diagnose_text import BAR, diagnose_text
from equipoise.errors import UserError
from equipoise.runs.diagnosed import diagnosed, diagnosed_values
from equipoise.runs.folder import RunFolder


def a_log(folder: Path, accuracies: list[float]) -> Path:
    path = folder / "log.csv"
    rows = [f"{100 * place},{value},0.5,0.9" for place, value in enumerate(accuracies)]
    path.write_text("\n".join(["step,d_acc,d_loss,g_loss", *rows]) + "\n")
    return path


def test_a_condition_that_lasts_is_told_with_its_beginning_and_one_that_is_over_in_the_timeline(tmp_path: Path) -> None:
    found = diagnosed(a_log(tmp_path, [0.7] * 20 + [0.3] * 20))
    assert [(one.condition, one.since) for one in found.diagnoses] == [("discriminator-too-weak", 1700)]
    assert [(span.condition, span.begin, span.end) for span in found.spans] == [("discriminator-too-weak", 1700, 3900)]
    over = diagnosed(a_log(tmp_path, [0.7] * 10 + [0.3] * 20 + [0.7] * 20))
    assert over.diagnoses == ()
    assert len(over.spans) == 1
    assert over.spans[0].end < 4_900
    assert "discriminator-too-weak" in over.last_told


def test_the_text_fits_a_screen_and_draws_when(tmp_path: Path) -> None:
    text = diagnose_text(diagnosed(a_log(tmp_path, [0.7] * 20 + [0.3] * 20)))
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 24
    (row,) = [line for line in text.splitlines() if line.startswith("  discriminator-too-weak")]
    bar = row.split()[-1]
    assert len(bar) == BAR
    assert bar[0] != bar[-1]


def test_a_run_is_read_as_it_is(tmp_path: Path, fake_run: Callable[..., RunFolder]) -> None:
    run = fake_run(tmp_path / "run")
    found = diagnosed(run.path)
    assert found.unit == "samples"
    assert found.missing == ()
    values = diagnosed_values(found)
    assert json.loads(json.dumps(values)) == values


def test_a_folder_that_is_no_run_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(UserError) as caught:
            diagnosed(path)
        assert str(path) in str(caught.value)


def test_the_command_prints_text_or_json_and_ends_well_whatever_is_wrong(tmp_path: Path) -> None:
    path = a_log(tmp_path, [0.3] * 20)
    command = [sys.executable, "-m", "equipoise.cli", "diagnose", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "discriminator-too-weak" in text
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert found["diagnoses"][0]["condition"] == "discriminator-too-weak"
    assert found["columns"] == {"d_acc": "accuracy", "d_loss": "discriminator_loss", "g_loss": "generator_loss"}
