"""The command `explore`, as a person uses it."""

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from equipoise.explore import exploring, projection, sections

Command = Callable[..., str]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "NUM_JUDGED", 40)
    monkeypatch.setattr(exploring, "NUM_JUDGED", 40)
    monkeypatch.setattr(exploring, "NUM_SEEN", 200)
    monkeypatch.setattr(projection, "STEPS", 5)


def test_explore_writes_a_folder_in_the_run_and_says_what_is_in_it(output: Command, copy: Path, shapes: Path) -> None:
    picture = next(shapes.glob("*/*.png"))
    text = output("explore", copy, "-n", "2", "--image", picture)
    folder = copy / "explore"
    told = json.loads((folder / "explore.json").read_text())
    for one in told["pictures"]:
        assert (folder / one["file"]).is_file()
        assert f"  {one['file']}\n" in text
    assert text.endswith(f"Page: {folder}/index.html\n")
    assert "projection.png" in text
    assert told["quality"], "how good what is explored is"
    assert html.escape(told["quality"], quote=False) in (folder / "index.html").read_text()


def test_explore_overwrites_nothing_unless_it_is_told_to(
    output: Command, refused: Command, copy: Path, shapes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    (out / "projection.png").write_text("of the user's own, under a name of ours")
    assert "--force" in refused("explore", copy, "-o", out)
    assert [path.name for path in copy.iterdir() if path.name == "explore"] == []
    values = json.loads(output("explore", copy, "-n", "2", "-o", out, "--force", "--json"))
    assert values["num"] == 2
    assert values["left_out"] == []
    assert (out / "mine.txt").read_text() == "kept"
    assert "own" in (out / "projection.png").read_text(), "no exploration has left it there"
    (out / "projection.png").unlink()
    output("explore", copy, "-n", "2", "-o", out, "--force", "--image", next(shapes.glob("*/*.png")))
    assert (out / "projection.png").is_file()
    (out / "sum.png").write_text("of the user's own")
    assert "--force" in refused("explore", copy, "-o", out)
    output("explore", copy, "-n", "2", "-o", out, "--force")
    assert not (out / "projection.png").exists(), "nothing is left that this page does not show"
    assert "own" in (out / "sum.png").read_text()
    assert "is a file" in refused("explore", copy, "-o", out / "mine.txt")


def test_explore_refuses_what_it_is_not_for_before_it_writes(
    output: Command, refused: Command, copy: Path, tmp_path: Path
) -> None:
    output("train", "ring", "--budget", "400", "--out", tmp_path / "ring", "--set", "evaluation.num_samples=100")
    line = refused("explore", tmp_path / "ring")
    assert "points" in line
    assert "equipoise sample" in line
    assert "--image" in refused("explore", copy, "--image", tmp_path / "none.png")
    assert "--labels" in refused("explore", copy, "--labels", "lying,standing")
    assert "--num 16" in refused("explore", copy, "-n", "17")
    assert "explore" in refused("explore")
    (copy / "best" / "generator.safetensors").unlink()
    assert "generator.safetensors" in refused("explore", copy)
    assert not (copy / "explore").exists()
