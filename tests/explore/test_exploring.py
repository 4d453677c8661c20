"""A run explored from Python: what is found, written and refused."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import equipoise as eq
from equipoise.errors import Option, UserError
from equipoise.explore import exploring, groups, projection, sections
from equipoise.explore.exploring import explored, read_pictures, space_of, write
from equipoise.explore.space import images_of
from equipoise.recipe import Networks
from equipoise.sizes import size_of
from equipoise.tasks.image_model import ImageModel, target_of

ALWAYS = {
    "walk-grid.png",
    "directions-weights.png",
    "directions-activations.png",
    "truncation.png",
    "truncated-normal.png",
    "truncation-scores.json",
}
CONDITIONAL = "networks.conditional=true"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer pictures than for a user."""
    monkeypatch.setattr(sections, "NUM_JUDGED", 40)
    monkeypatch.setattr(exploring, "NUM_JUDGED", 40)
    monkeypatch.setattr(exploring, "NUM_SEEN", 200)
    monkeypatch.setattr(projection, "STEPS", 20)


@pytest.fixture
def drawn(tmp_path: Path) -> list[Path]:
    """Return three pictures of a user's, of another size and in colour."""
    paths = []
    for place in range(3):
        pixels = np.full((30, 24, 3), 40, np.uint8)
        pixels[5 * place + 5 : 5 * place + 15] = (250, 200, 180)
        paths.append(tmp_path / f"mine-{place}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_a_run_without_classes_shows_groups(train_once: Callable[..., eq.Run], tmp_path: Path) -> None:
    found = explored(train_once("plain"), num=3)
    names = set(found.files)
    assert len(names & {"walk.webp", "walk.gif"}) == 1
    assert names - {"walk.webp", "walk.gif"} == {*ALWAYS, "groups.png", "groups-moved.png"}
    assert found.left_out == ()
    assert len(found.numbers["directions_weights"]["shares"]) == 3
    assert found.numbers["groups"]["seen_by"] == "the run's evaluation encoder"
    assert 0 <= found.numbers["groups"]["arrived_by_chance"] <= 1
    by_latents = {row["latents"]: row for row in found.numbers["truncation"]}
    assert by_latents["psi 1"]["variety"] == 1
    assert {"precision", "recall", "coverage"} <= by_latents["± 2"].keys(), "the data are at hand"
    write(found, tmp_path / "out", "the <run>")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img ") == len(found.files) - 1
    assert "<h1>the &lt;run&gt;</h1>" in page
    for exhibit in found.exhibits:
        assert exhibit.caption
    told = json.loads((tmp_path / "out" / "explore.json").read_text())
    assert {picture["file"] for picture in told["pictures"]} == set(found.files)
    kept = safetensors.torch.load_file(tmp_path / "out" / "latents.safetensors")
    assert kept["directions-weights"].shape == (3, 4)


def test_only_what_an_exploration_has_left_is_replaced(train_once: Callable[..., eq.Run], tmp_path: Path) -> None:
    found = explored(train_once("plain"), num=2)
    out = tmp_path / "out"
    write(found, out)
    walk = (out / "walk-grid.png").read_bytes()
    (out / "sum.png").write_text("own")
    (out / "walk-grid.png").write_text("damaged")
    write(found, out)
    assert (out / "walk-grid.png").read_bytes() == walk
    assert (out / "sum.png").read_text() == "own"
    told = json.loads((out / "explore.json").read_text())
    told["pictures"] = [*told["pictures"], {"file": "../kept.png"}, {"file": "sum.txt"}, {"file": 3}]
    told["pictures"] = [one for one in told["pictures"] if one["file"] != "walk-grid.png"]
    (out / "explore.json").write_text(json.dumps(told))
    (tmp_path / "kept.png").write_text("own")
    (out / "sum.txt").write_text("own")
    with pytest.raises(UserError, match=r"walk-grid.*force=True"):
        write(found, out)
    write(found, out, force=True)
    assert (tmp_path / "kept.png").read_text() == (out / "sum.txt").read_text() == "own"


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"pictures": 3}', '{"run": "mine"}'])
def test_a_folder_of_something_else_is_not_written_to(
    train_once: Callable[..., eq.Run], tmp_path: Path, content: str | None
) -> None:
    found = explored(train_once("plain"), num=2)
    (tmp_path / "index.html").write_text("own")
    if content is not None:
        (tmp_path / "explore.json").write_text(content)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="force=True"):
        write(found, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(found, tmp_path, force=True)
    assert (tmp_path / "index.html").read_text() != "own"


def test_the_same_seed_finds_the_same_and_another_one_another(train_once: Callable[..., eq.Run]) -> None:
    run = train_once("plain")
    one, same, other = (explored(run, num=2, seed=seed) for seed in (0, 0, 1))
    assert [exhibit.content for exhibit in one.exhibits] == [exhibit.content for exhibit in same.exhibits]
    assert one.numbers == same.numbers
    assert one.files["walk-grid.png"].content != other.files["walk-grid.png"].content


def test_a_conditional_run_shows_classes_ways_and_given_pictures(
    train_once: Callable[..., eq.Run], drawn: list[Path]
) -> None:
    run = train_once("classes", CONDITIONAL)
    found = explored(run, num=2, images=drawn, labels=["standing,lying", "lying, standing, lying"])
    names = set(found.files)
    assert {"classes.png", "classes-1.png", "classes-2.png", "projection.png", "between.png", "sum.png"} <= names
    assert "groups.png" not in names
    projected = found.numbers["projection"]
    assert [one["image"] for one in projected] == ["mine-0", "mine-1", "mine-2"]
    own = found.numbers["own_rmses"]
    assert len(own) == sections.NUM_OWN
    assert f"({min(own):.1f} to {max(own):.1f})" in found.files["projection.png"].caption
    assert {one["label"] for one in projected} <= {"lying", "standing"}
    assert all(one["rmse"] <= one["nearest_random_rmse"] for one in projected)
    assert found.latents["projected"].shape == (3, 4)
    assert found.latents["labels"].shape == (3,)
    space = space_of(run.best)
    again = images_of(space, found.latents["projected"], found.latents["labels"])
    _, given = read_pictures(drawn, target_of(run.recipe, _model(run)))
    assert projection.rmse(again, given).tolist() == pytest.approx([one["rmse"] for one in projected], abs=0.1)


@pytest.mark.parametrize(
    ("categories", "numbers", "latents", "files"),
    [
        (3, 2, 7, {"codes.png", "codes-numbers.png"}),
        (2, 2, 4, {"codes.png", "codes-numbers.png"}),
        (14, 0, 16, {"codes.png"}),
        (0, 3, 4, {"codes-numbers.png"}),
    ],
)
def test_codes_that_images_had_to_show_are_drawn_and_read(
    train_once: Callable[..., eq.Run], categories: int, numbers: int, latents: int, files: set[str]
) -> None:
    settings = (f"networks.categorical_codes={categories}", f"networks.continuous_codes={numbers}")
    run = train_once("codes", *settings, f"networks.latent_size={latents}", "game.information=1")
    found = explored(run, num=2)
    assert {name for name in found.files if name.startswith("codes")} == files
    told = found.numbers["codes"]
    assert told["seen_by"] == "the run's evaluation encoder"
    if categories:
        assert 1 / told["category_by_chance"] == min(categories, 12)
        assert ("The first 12 of 14 are shown." in found.files["codes.png"].caption) == (categories == 14)
    if numbers:
        caption = found.files["codes-numbers.png"].caption
        assert f"{told['numbers'][1]:.2f}" in caption
        assert ("The first 2 of 3 are shown." in caption) == (numbers == 3)
        assert (told["other_latents"] is None) == (latents == categories + numbers)
        assert ("of other latents" in caption) == (latents > categories + numbers)
    exhibits = [exhibit for exhibit in found.exhibits if exhibit.title == "Codes"]
    assert sum(bool(exhibit.intro) for exhibit in exhibits) == 1


def test_codes_beside_classes_are_drawn_with_one_class_a_row(train_once: Callable[..., eq.Run]) -> None:
    settings = ("networks.categorical_codes=2", "networks.continuous_codes=1", "game.information=1")
    found = explored(train_once("both", CONDITIONAL, *settings), num=2)
    assert {"codes.png", "codes-numbers.png", "classes.png"} <= set(found.files)
    assert "groups.png" not in found.files


def test_a_way_through_several_classes_is_as_wide_as_it_needs_to_be(train_once: Callable[..., eq.Run]) -> None:
    found = explored(train_once("classes", CONDITIONAL), num=2, labels=[",".join(["lying", "standing"] * 5)])
    width, _ = Image.open(io.BytesIO(found.files["classes-1.png"].content)).size
    assert width == 19 * 66 + 2, "ten classes and one picture between each"
    assert len(found.numbers["ways"][0]) == 10


@pytest.fixture
def several(shapes: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that puts the shapes into a folder with a table of whether they lie, and of another label."""

    def put(first: str, second: str, every: int) -> Path:
        folder = tmp_path / "several"
        folder.mkdir()
        lines = [f'file,"{first}","{second}"']
        for index, path in enumerate(sorted(shapes.glob("*/*.png"))):
            shutil.copy(path, folder / f"{index}.png")
            lines.append(f"{index}.png,{int(path.parent.name == 'lying')},{int(every > 0 and index % every == 0)}")
        (folder / "attributes.csv").write_text("\n".join(lines), encoding="utf-8")
        return folder

    return put


def test_several_labels_a_picture_are_shown_one_by_one_and_named_with_commas_and_in_any_letters(
    train_small: Callable[..., eq.Run], several: Callable[..., Path], drawn: list[Path]
) -> None:
    run = train_small("run", CONDITIONAL, source=several("lying, flat", "横", 3), budget="320")
    ways = ["lying, flat;横", "no label; lying, flat; lying, flat; 横", "lying, flat, 横;no label"]
    found = explored(run, num=3, images=drawn, labels=ways)
    assert found.left_out == ()
    assert found.numbers["classes"] == ["lying, flat", "横"]
    assert found.numbers["ways"] == [
        ["lying, flat", "横"],
        ["no label", "lying, flat", "lying, flat", "横"],
        ["lying, flat, 横", "no label"],
    ]
    assert "#2 is 横" in found.files["classes-3.png"].caption
    assert "#2 is 横" in found.files["classes.png"].caption
    assert "#2 is 横" in found.files["classes-1.png"].caption
    labels = [one["label"] for one in found.numbers["projection"]]
    caption = found.files["sum.png"].caption
    assert f'as "{labels[0]}", "{labels[1]}" and "{labels[2]}"' in caption
    assert f'class of the first, "{labels[0]}"' in caption
    with pytest.raises(UserError, match="Put ; between"):
        explored(run, labels=["lying, flat,横"])
    with pytest.raises(UserError, match='labels="横;lying, flat"'):
        explored(run, labels=["横"])


def test_of_a_single_label_the_way_is_from_none_to_it(
    train_small: Callable[..., eq.Run], several: Callable[..., Path]
) -> None:
    run = train_small("run", CONDITIONAL, source=several("lying", "never", 0), budget="320")
    found = explored(run, num=2)
    assert found.numbers["classes"] == ["lying"]
    assert found.numbers["ways"] == [["no label", "lying"]]
    assert {"classes.png", "classes-1.png"} <= set(found.files)
    assert found.left_out == ()
    with pytest.raises(UserError, match='labels="lying,no label"'):
        explored(run, labels=["lying"])


def _model(run: eq.Run) -> ImageModel:
    model = run.best.model
    assert isinstance(model, ImageModel)
    return model


def test_given_pictures_are_read_as_the_data_were(train_once: Callable[..., eq.Run], tmp_path: Path) -> None:
    model = _model(train_once("plain"))
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 4:28] = 255  # what a square cut keeps
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    names, cropped = read_pictures([tmp_path / "wide.png"], target_of(train_once("plain").recipe, model))
    assert names == ["wide"]
    assert cropped.shape == (1, 1, 8, 8)
    assert cropped.min() > 0.95, "what lies beside the square is cut off"
    padded = train_once("padded", "task.fit=pad", "task.background=white")
    _, fitted = read_pictures([tmp_path / "wide.png"], target_of(padded.recipe, _model(padded)))
    assert fitted[0, 0, 0].min() == 1, "a white bar"
    assert fitted[0, 0, 4, 0] < -0.5, "the picture to its edge"


def test_what_cannot_be_found_is_left_out_in_words(
    train_once: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(space: object) -> None:
        raise UserError("the first layer", "was not found", Option("num", 8))

    monkeypatch.setattr("equipoise.explore.directions.first_layer", refuse)
    found = explored(train_once("plain"), num=2)
    assert len(found.left_out) == 2
    assert "directions-weights.png" not in found.files
    assert "groups.png" in found.files
    assert found.left_out[0] in exploring.page_of(found)
    assert "num=8" in found.left_out[0]
    assert "--num 8" in explored(train_once("plain"), num=2, in_shell=True).left_out[0]


def test_without_its_data_truncation_is_not_judged(
    train_once: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_once("plain")
    monkeypatch.setattr("equipoise.tasks.opened", lambda *given: (_ for _ in ()).throw(UserError("data", "are gone")))
    assert list(explored(run, num=2).numbers["truncation"][0]) == ["latents", "variety"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": ["none.png"]}, "none.png"),
        ({"images": ["text.png"]}, "not an image"),
        ({"images": ["folder"]}, "folder"),
        ({"labels": ["lying,standing"]}, "was not trained with classes"),
        ({"num": 1}, "2 to 16"),
    ],
)
def test_what_cannot_be_explored_is_refused(
    train_once: Callable[..., eq.Run],
    options: dict,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train_once("plain")
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    Path("folder").mkdir()
    with pytest.raises(UserError, match=re.escape(said)):
        explored(run, **options)


@pytest.mark.parametrize(
    ("label", "said"), [("lying,standnig", '"standing"'), ("lying", 'labels="lying,standing"'), (" , ", "two classes")]
)
def test_a_way_needs_two_known_classes(train_once: Callable[..., eq.Run], label: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        explored(train_once("classes", CONDITIONAL), labels=[label])


def test_classes_with_a_space_between_are_suggested_with_a_comma() -> None:
    model = ImageModel(Networks(conditional=True), size_of(8), 1, ("cat", "dog", "owl"))
    with pytest.raises(UserError, match="owl,dog"):
        exploring._way("owl", model, ["owl", "dog"])


def test_groups_of_a_run_without_an_encoder_of_its_own_are_left_out_where_nothing_can_see(
    train_once: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equipoise.metrics.features.encoder.read", lambda *given: None)

    def gone(*given: object) -> None:
        raise UserError("weights", "are not to be had")

    monkeypatch.setattr(exploring, "published", gone)
    assert any("not to be had" in text for text in explored(train_once("plain"), num=2).left_out)


def test_moving_uses_normal_latents(train_once: Callable[..., eq.Run]) -> None:
    space = space_of(train_once("plain").best)
    latents = space.latents(exploring.Asked(space, _model(train_once("plain"))).randomness(), 3)
    moved = groups.moved(latents, torch.zeros(3, 4), torch.ones(3, 4))
    assert moved.square().mean(1).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
