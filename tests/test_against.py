"""What an evaluation compares of both sides: all, a split, or what a run has not seen; and what it says of it."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from trainings import TrainSmall

import equipoise as eq
from equipoise.data import splits
from equipoise.errors import Option, UserError
from equipoise.evaluation.choosing import FEW


def bars(folder: Path, num: int, seed: int, side: int = 8) -> Path:
    """Write grey pictures of a bright bar, such as the shapes have."""
    generator = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for index in range(num):
        pixels = generator.integers(0, 60, (side, side)).astype(np.uint8)
        row = int(generator.integers(1, side - 2))
        pixels[row : row + 2] = generator.integers(180, 255)
        Image.fromarray(pixels).save(folder / f"bar {seed} {index}.png")
    return folder


def points(path: Path, num: int, seed: int) -> Path:
    values = np.random.default_rng(seed).normal(size=(num, 2))
    path.write_text("".join(f"{x},{y}\n" for x, y in values))
    return path


def refused(call: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value


def kinds(found: eq.Evaluation) -> list[str]:
    return [warning.kind for warning in found.warnings]


# Two folders


def test_both_folders_are_compared_whole(small: None, tmp_path: Path) -> None:
    found = eq.evaluate(bars(tmp_path / "generated", 230, 1), bars(tmp_path / "photos", 260, 2))
    assert (found.protocol["num_generated"], found.protocol["num_real"]) == (230, 260)
    assert (found.protocol["split"], found.protocol["fit"], found.protocol["size"]) == ("all", "crop", 8)
    for side, num in (("generated", 230), ("real", 260)):
        values = found.protocol[side]
        assert (values["found"], values["used"], values["compared"], values["distinct"]) == (num, num, num, num)
        assert values["sizes"] == [{"width": 8, "height": 8, "images": num}]
        assert values["modes"] == {"grey": num}
        assert values["not_used"] == []
    assert kinds(found) == []


def arrays(path: Path, num: int, seed: int, as_saved: Callable[[np.ndarray], np.ndarray]) -> Path:
    images = np.random.default_rng(seed).integers(0, 256, (num, 8, 8)).astype(np.uint8)
    images[:, :2] = images[:, 3:5] // 2
    np.savez(path, images=as_saved(images))
    return path


@pytest.mark.parametrize(
    ("of_real", "of_generated"),
    [
        (lambda images: (images / 127.5 - 1).astype(np.float32), lambda images: (images / 255).astype(np.float32)),
        (lambda images: images / 255, lambda images: images / 127.5 - 1),
        (lambda images: images / 255, lambda images: images.astype(np.uint16) * 257),
        (lambda images: images / 127.5 - 1, lambda images: images),
        (lambda images: images.astype(np.uint16) * 16, lambda images: images),
    ],
    ids=["0..1 beside -1..1", "-1..1 beside 0..1", "16 bits beside 0..1", "bytes beside -1..1", "bytes beside 12 bits"],
)
def test_each_side_has_its_own_pixel_values_where_these_are_usual_ones(
    small: None, tmp_path: Path, of_real: Callable[..., np.ndarray], of_generated: Callable[..., np.ndarray]
) -> None:
    plain = arrays(tmp_path / "plain.npz", 60, 1, lambda images: images)
    real = arrays(tmp_path / "real.npz", 60, 2, of_real)
    generated = arrays(tmp_path / "generated.npz", 60, 1, of_generated)
    found = eq.evaluate(generated, real)
    assert found.measured.loss == pytest.approx(eq.evaluate(plain, real).measured.loss, rel=1e-3)
    assert found.real is not None
    assert found.generated is not None
    assert any("become 0 to 255" in note for note in found.real.notes)
    assert not any("task.black" in note for note in found.generated.notes)


def test_samples_are_on_the_scale_of_the_real_images_where_that_is_one_of_measurements(
    small: None, tmp_path: Path
) -> None:
    real = arrays(tmp_path / "real.npz", 60, 2, lambda images: images.astype(np.int16) * 16 - 1024)
    dark = arrays(tmp_path / "dark.npz", 60, 1, lambda images: images.astype(np.int16) * 4 - 1024)
    found = eq.evaluate(dark, real)
    assert found.generated is not None
    assert {"black", "white"} <= found.protocol.keys()
    assert any(f"{found.protocol['black']:,.0f}" in note for note in found.generated.notes)


def test_of_whole_folders_the_ceiling_is_one_half_of_the_real_ones_against_the_other(
    small: None, tmp_path: Path
) -> None:
    found = eq.evaluate(bars(tmp_path / "generated", 60, 1), bars(tmp_path / "photos", 200, 2))
    scores = {score.role: score for score in found.rivals}
    assert scores["ceiling"].num == 60, "as many as are generated"
    assert abs(scores["ceiling"].loss) < 5 * scores["ceiling"].error
    assert scores["floor"].loss > 10 * abs(scores["ceiling"].loss)
    for score in scores.values():
        assert score.values == {}, "FID and recall depend on how many there are"
        assert score.best is not None
        assert math.isfinite(score.best.error)


def test_a_split_of_the_real_ones_is_that_of_a_training(train_once: TrainSmall, shapes: Path, tmp_path: Path) -> None:
    run = train_once("run", budget="160")
    data = run.folder.read_data()
    assert data is not None
    generated = bars(tmp_path / "generated", 40, 1)
    numbers = {"test": data.num_test, "validation": data.num_validation, "train": data.num_train}
    for split, num in numbers.items():
        found = eq.evaluate(generated, shapes, split=split)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert (found.protocol["split"], found.protocol["num_real"]) == (split, num)
        assert found.protocol["real"]["used"] == 240
        assert {score.role for score in found.rivals} == {"floor", "ceiling"}
    error = refused(lambda: eq.evaluate(generated, shapes, split="tset"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert error.subject == Option("split", "tset")


def test_files_that_cannot_be_used_are_named_on_both_sides(small: None, tmp_path: Path) -> None:
    generated = bars(tmp_path / "generated", 30, 1)
    photos = bars(tmp_path / "photos", 30, 2)
    (generated / "broken.png").write_bytes(b"no picture")
    (photos / "half.png").write_bytes((photos / "bar 2 0.png").read_bytes()[:40])
    (photos / "notes.txt").write_text("hello")
    found = eq.evaluate(generated, photos)
    assert [item["name"] for item in found.protocol["generated"]["not_used"]] == ["broken.png"]
    assert [item["name"] for item in found.protocol["real"]["not_used"]] == ["half.png"]
    assert found.protocol["real"]["not_used"][0]["reason"]
    assert (found.protocol["real"]["found"], found.protocol["real"]["passed_over"]) == (31, 1)
    json.dumps(found.protocol)


def test_both_are_brought_to_the_size_that_is_asked_for(small: None, tmp_path: Path) -> None:
    generated = bars(tmp_path / "generated", 30, 1)
    photos = bars(tmp_path / "photos", 30, 2, side=16)
    enlarged = eq.evaluate(generated, photos)
    assert (enlarged.protocol["size"], enlarged.protocol["generated"]["enlarged"]) == (16, 30)
    (remedy,) = [
        part
        for warning in enlarged.warnings
        if warning.kind == "sizes"
        for part in warning.remedies
        if isinstance(part, Option)
    ]
    found = eq.evaluate(generated, photos, size=remedy.value, fit="pad")
    assert (found.protocol["size"], found.protocol["fit"], found.protocol["background"]) == (8, "pad", "white")
    assert "sizes" not in kinds(found)


def test_few_are_scored_and_said_to_be_few(small: None, tmp_path: Path) -> None:
    found = eq.evaluate(bars(tmp_path / "generated", 6, 1), bars(tmp_path / "photos", 9, 2))
    assert math.isfinite(found.measured.loss)
    assert kinds(found) == ["few"]
    assert (found.protocol["num_generated"], found.protocol["num_real"]) == (6, 9)
    assert "FID" in str(found.warnings[0])
    assert FEW > 9
    assert found.rivals == (), "nine are too few for two halves"


def test_too_few_on_both_sides_are_refused_at_once(small: None, tmp_path: Path) -> None:
    generated = bars(tmp_path / "generated", 2, 1)
    photos = bars(tmp_path / "photos", 4, 2)
    error = refused(lambda: eq.evaluate(generated, photos))
    assert error.subject == generated
    for number in ("2 generated", "4 real"):
        assert number in str(error)
    bars(generated, 4, 3)
    bars(photos, 2, 4)
    assert eq.evaluate(generated, photos).measured.num == 6


def test_a_split_with_too_few_says_that_all_would_do(small: None, tmp_path: Path) -> None:
    generated = bars(tmp_path / "generated", 20, 1)
    photos = bars(tmp_path / "photos", 20, 2)
    error = refused(lambda: eq.evaluate(generated, photos, split="test"))
    assert error.subject == Option("against", str(photos))
    assert eq.evaluate(generated, photos).protocol["num_real"] == 20
    (caution,) = eq.evaluate(generated, photos, split="train").warnings
    num_train = eq.evaluate(generated, photos, split="train").protocol["num_real"]
    assert f"{20 - num_train} more" in str(caution)


def test_one_sheet_is_refused_as_too_few_and_called_a_sheet(small: None, tmp_path: Path) -> None:
    (tmp_path / "generated").mkdir()
    sheet = np.zeros((8 * 34 + 2, 8 * 34 + 2), np.uint8)
    for index in range(64):
        top = index // 8 * 34 + 2
        left = index % 8 * 34 + 2
        sheet[top : top + 32, left : left + 32] = np.random.default_rng(index).integers(0, 255, (32, 32))
    Image.fromarray(sheet).save(tmp_path / "generated" / "samples.png")
    error = refused(lambda: eq.evaluate(tmp_path / "generated", bars(tmp_path / "photos", 20, 2)))
    assert "samples.png" in str(error)


def test_two_sources_that_cannot_be_read_are_refused_at_once(small: None, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    text = str(refused(lambda: eq.evaluate(tmp_path / "a", tmp_path / "b")))
    assert str(tmp_path / "a") in text
    assert str(tmp_path / "b") in text


def test_how_many_are_drawn_and_the_size_are_refused_where_they_do_nothing(
    train_once: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    generated = bars(tmp_path / "generated", 20, 1)
    assert refused(lambda: eq.evaluate(generated, shapes, num=10)).subject == Option("num", 10)
    run = train_once("run", budget="160")
    assert refused(lambda: eq.evaluate(run.path, shapes, size=16)).subject == Option("size", 16)
    assert refused(lambda: eq.evaluate(run.path, shapes, fit="pad")).subject == Option("fit", "pad")


# A run


def test_a_run_of_few_images_meets_all_that_it_holds_out_and_their_choice_is_corrected_for(
    train_small: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    run = train_small("run", budget="160")
    test, data = run.state.test, run.folder.read_data()
    assert test is not None
    assert data is not None
    flattered = msgspec.structs.replace(test, loss=test.loss + 2.0, optimism=test.optimism + 2.0)
    run.folder.write_state(msgspec.structs.replace(run.folder.read_state(), test=flattered))
    for source in (shapes, shutil.copytree(shapes, tmp_path / "elsewhere")):
        found = eq.evaluate(run.path, source)
        assert found.protocol["split"] == "held-out"
        assert found.protocol["num_real"] == data.num_validation + data.num_test
        assert found.measured.loss == found.measured.values["kid"] == pytest.approx(flattered.loss)
        assert set(kinds(found)) == {"chosen", "few"}
    for split in ("train", "validation", "test"):
        assert "seen" in kinds(eq.evaluate(run.path, shapes, split=split, num=50))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run.folder.write_state(msgspec.structs.replace(run.folder.read_state(), test=None))
    found = eq.evaluate(run.path, shapes)
    assert found.measured.loss == pytest.approx(test.loss - test.optimism), "nothing is known to be added"
    assert "seen" in kinds(found)


def test_a_run_meets_the_test_split_of_its_own_data(
    train_small: TrainSmall, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "FEW_HELD_OUT", 0)
    run = train_small("run", budget="160")
    assert run.state.test is not None
    moved = shutil.copytree(shapes, tmp_path / "elsewhere")
    for source in (shapes, moved):
        found = eq.evaluate(run.path, source)
        tested = run.state.test.protocol
        assert {name: found.protocol[name] for name in tested} == tested
        assert found.measured.loss == pytest.approx(run.state.test.loss)
        assert set(kinds(found)) <= {"few"}
    for split in ("train", "validation"):
        assert "seen" in kinds(eq.evaluate(run.path, shapes, split=split, num=50))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_of_other_data_a_run_meets_all_that_it_has_not_seen(
    train_once: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    run = train_once("run", budget="160")
    data = run.folder.read_data()
    assert data is not None
    other = bars(tmp_path / "other", 50, 7)
    found = eq.evaluate(run.path, other, num=50)
    assert (found.protocol["split"], found.protocol["num_real"]) == ("all", 50)
    assert "seen" not in kinds(found)
    grown = shutil.copytree(shapes, tmp_path / "grown")
    bars(grown, 50, 7)
    found = eq.evaluate(run.path, grown, num=50)
    num_seen = data.num_train + data.num_validation + data.num_test  # of so few, all have chosen
    assert found.protocol["real"]["seen_by_the_run"] == num_seen
    assert found.protocol["num_real"] == 290 - num_seen
    assert "seen" in kinds(found)
    assert found.protocol["features_digest"] == eq.evaluate(run.path, shapes, num=50).protocol["features_digest"]


@pytest.mark.parametrize("kept", ["list", "source", "nothing"])
def test_what_a_run_has_seen_is_found_in_its_list_or_where_it_lies(
    train_small: TrainSmall,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: str,
) -> None:
    images = Path(shutil.copytree(shapes, tmp_path / "images"))
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    run = train_small("run", source=images, budget="160")
    grown = Path(shutil.copytree(shapes, tmp_path / "grown"))
    bars(grown, 50, 7)
    if kept != "source":
        shutil.rmtree(images)
    if kept != "list":
        run.folder.examples.unlink()
    shutil.rmtree(tmp_path / "cache")
    found = eq.evaluate(run.path, grown, num=50)
    if kept == "nothing":
        assert "not checked" in kinds(found)
        assert found.protocol["num_real"] == 290
        assert "not checked" in kinds(eq.evaluate(run.path, grown, num=50, split="test")), "they may have chosen it"
    else:
        assert found.protocol["num_real"] == 290 - found.protocol["real"]["seen_by_the_run"] < 100


def test_a_folder_that_has_grown_since_is_compared_by_its_test_split_where_nothing_else_is_known(
    train_small: TrainSmall, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Path(shutil.copytree(shapes, tmp_path / "images"))
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    run = train_small("run", source=images, budget="160")
    bars(images, 50, 7)
    shutil.rmtree(tmp_path / "cache")
    run.folder.examples.unlink()
    found = eq.evaluate(run.path, images, num=50)
    assert found.protocol["split"] == "test"
    assert "not checked" in kinds(found)


# Points


def test_all_points_of_two_files_are_compared(small: None, tmp_path: Path) -> None:
    found = eq.evaluate(points(tmp_path / "a.csv", 40, 1), points(tmp_path / "b.csv", 320, 2), task="points")
    assert (found.protocol["num_generated"], found.protocol["num_real"], found.protocol["split"]) == (40, 320, "all")
    assert {score.role for score in found.rivals} == {"floor", "rival", "ceiling"}
    assert kinds(found) == ["few"]
    same = eq.evaluate(tmp_path / "b.csv", tmp_path / "b.csv", task="points")
    assert kinds(same) == ["same"]
    of_split = eq.evaluate(tmp_path / "a.csv", tmp_path / "b.csv", task="points", split="train")
    assert 200 < of_split.protocol["num_real"] < 320


def test_of_other_points_a_run_meets_all(train_small: TrainSmall, tmp_path: Path) -> None:
    run = train_small("run", source="ring", budget="160")
    found = eq.evaluate(run.path, points(tmp_path / "b.csv", 300, 2), num=50)
    assert (found.protocol["num_real"], found.protocol["split"]) == (300, "all")
    assert eq.evaluate(run.path, "ring", num=50).protocol["split"] == "test"


def test_a_table_of_labels_that_came_or_is_read_since_leaves_a_runs_own_test_split_in_use(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    folder = bars(tmp_path / "bars", 240, seed=0)
    run = train_small("run", source=folder, budget="80")
    before = eq.evaluate(run.path, folder)
    names = sorted(path.name for path in folder.iterdir())
    lines = [f"{name},{index % 2},{index // 2 % 2}" for index, name in enumerate(names)]
    (folder / "attributes.csv").write_text("\n".join(["file,a,b", *lines]), encoding="utf-8")
    after = eq.evaluate(run.path, folder)
    assert after.is_own
    assert before.real is not None
    assert after.real is not None
    assert (after.real.split, after.real.num_compared) == (before.real.split, before.real.num_compared)
    assert after.measured.values == before.measured.values
