"""What outputs may be written as: names are refused before torch is imported, with what would do instead."""

from pathlib import Path
from typing import Any, get_args

import pytest

from equipoise import tasks
from equipoise.errors import Near, Option, UserError
from equipoise.recipe import Custom, Images, Points, SuperResolution, TaskName, TaskSettings, task_name
from equipoise.tasks import formats
from equipoise.tasks.formats import ANYTHING, IMAGES, PICTURES, POINTS, Formats


@pytest.mark.parametrize(
    ("kind", "name", "is_allowed"),
    [
        (IMAGES, "grid.png", True),
        (IMAGES, "grid.PNG", True),
        (IMAGES, "samples", True),
        (IMAGES, "samples/v1.2", True),
        (IMAGES, "grid.jpg", False),
        (IMAGES, "samples.zip", False),
        (POINTS, "points.csv", True),
        (POINTS, "points", False),
        (POINTS, "points.png", False),
        (PICTURES, "large.png", True),
        (PICTURES, "large", True),
        (PICTURES, "large.webp", False),
        (ANYTHING, "whatever.wav", True),
        (ANYTHING, "folder", True),
    ],
)
def test_names_are_allowed_by_their_endings(tmp_path: Path, kind: Formats, name: str, is_allowed: bool) -> None:
    if is_allowed:
        kind.refuse(tmp_path / name)
        return
    with pytest.raises(UserError) as error:
        kind.refuse(tmp_path / name)
    assert error.value.subject == Option("out", tmp_path / name)
    assert error.value.remedies == (Option("out", kind.example),)
    assert all(ending in error.value.problem for ending in kind.endings)
    assert ("folder" in error.value.problem) == kind.folder


def test_what_exists_counts_more_than_its_name(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").mkdir()
    IMAGES.refuse(tmp_path / "odd.csv")
    with pytest.raises(UserError):
        POINTS.refuse(tmp_path / "odd.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        IMAGES.refuse(tmp_path / "file")


def test_one_picture_holds_only_so_many(tmp_path: Path) -> None:
    IMAGES.refuse(tmp_path / "grid.png", formats.MAX_IN_ONE)
    IMAGES.refuse(tmp_path / "folder", formats.MAX_IN_ONE + 1)
    POINTS.refuse(tmp_path / "points.csv", formats.MAX_IN_ONE + 1)
    with pytest.raises(UserError) as error:
        IMAGES.refuse(tmp_path / "grid.png", formats.MAX_IN_ONE + 1)
    assert error.value.subject == Option("num", formats.MAX_IN_ONE + 1)


@pytest.mark.parametrize("kind", [IMAGES, POINTS, PICTURES, ANYTHING])
def test_the_example_is_itself_allowed(tmp_path: Path, kind: Formats) -> None:
    kind.refuse(tmp_path / kind.example, 1)


def test_only_super_resolution_takes_inputs() -> None:
    assert [kind.takes_inputs for kind in (IMAGES, POINTS, PICTURES)] == [False, False, True]


def test_only_a_task_from_python_needs_python() -> None:
    assert [kind.needs_python for kind in (IMAGES, POINTS, PICTURES, ANYTHING)] == [False, False, False, True]
    tasks.refuse_without_python(Points())
    with pytest.raises(UserError) as error:
        tasks.refuse_without_python(Custom(name="Waves"))
    assert error.value.subject == "task Waves"


# Which file holds which task


@pytest.mark.parametrize("settings", [Images(), Points(), SuperResolution(), Custom(name="Waves")])
def test_every_task_has_its_formats_and_its_name(settings: TaskSettings) -> None:
    assert isinstance(tasks.formats_of(settings), Formats)
    assert task_name(settings) in get_args(TaskName)


@pytest.mark.parametrize("settings", [Points(), SuperResolution(), Custom(name="Waves")])
def test_only_images_are_examined(settings: TaskSettings) -> None:
    with pytest.raises(UserError) as error:
        tasks.examined(settings, "ring")
    assert error.value.subject == "ring"
    assert task_name(settings) in error.value.problem
    assert tasks.examined(Images(size=8), "photos") == Images(size=8)


def test_a_task_is_chosen_by_its_name_or_by_its_source() -> None:
    for name in tasks.NAMES:
        found = tasks.task_settings(name, None)
        assert found is not None
        assert task_name(found) == name
    for source in tasks.SHAPES:
        assert tasks.task_settings(None, source) == Points()
    assert tasks.task_settings(None, "photos/") is None
    waves: Any = type("Waves", (), {})()
    assert tasks.task_settings(waves, "ring") == Custom(name="Waves")
    assert tasks.task_settings("images", "ring") == Images(), "a folder may be called so"
    with pytest.raises(UserError) as error:
        tasks.task_settings("point", None)
    assert error.value.subject == Option("task", "point")
    assert error.value.remedies == (Near("points"),)
    assert all(name in error.value.problem for name in tasks.NAMES)
