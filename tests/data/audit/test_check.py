import dataclasses
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from equipoise import api
from equipoise.cli.audit_text import MOST_SHOWN, check_text, check_values
from equipoise.data import pool as pool_module
from equipoise.data.audit.check import Check, Copies, check
from equipoise.data.pool import Pool, prepare
from equipoise.errors import UserError
from equipoise.recipe import Data, Images, Recipe
from equipoise.tasks.images import refuse_impossible


def photo(index: int, width: int = 20, height: int = 20) -> Image.Image:
    values = np.random.default_rng(index).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def photos(folder: Path, num: int = 150, **shape: int) -> Path:
    for index in range(num):
        path = folder / ("cat" if index % 3 else "dog") / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(index, **shape).save(path)
    return folder


def silent(stage: str, share: float) -> None:
    """Report nothing."""


def checked(source: Path | str, **options: Any) -> Check:
    recipe = Recipe(data=Data(source=str(source)), task=Images(**options))

    def final(pool: Pool) -> Recipe:
        refuse_impossible(recipe, pool)
        return recipe

    return check(recipe.data, Images(**options), 64, final, recipe, silent)


def shown(found: Check) -> str:
    """Return the text on one line, as the terminal's width does not matter here."""
    text = check_text(found)
    table, _, _ = text.partition("  equipoise train")  # a path stays in one piece
    assert max(map(len, table.splitlines())) <= 80
    return " ".join(text.split())


def test_all_that_the_training_finds_is_found_without_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = photos(tmp_path / "photos", width=24)
    shutil.copy(folder / "cat" / "0001.png", folder / "cat" / "copy.png")
    (folder / "dog" / "bad.png").write_bytes(b"")
    (folder / "notes.txt").write_text("words")
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(tmp_path / "cache"))
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    seen: list[Pool] = []

    def final(pool: Pool) -> Recipe:
        seen.append(pool)
        return Recipe()

    data = Data(source=str(folder))
    found = check(data, Images(), 64, final, Recipe(), silent)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    real, outline = prepare(data, max_size=64), seen[0]
    assert outline.images.shape == real.images.shape
    assert outline.classes == real.classes
    assert outline.labels is not None
    assert real.labels is not None
    assert (outline.labels == real.labels).all()
    assert outline.rejected == real.rejected == found.rejected
    assert outline.num_duplicates == real.num_duplicates == found.num_duplicates == 1
    assert outline.num_skipped == real.num_skipped == 1
    for name in ("train", "validation", "test"):
        assert (getattr(outline.splits, name) == getattr(real.splits, name)).all()


def test_each_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = photos(tmp_path / "photos", 30)
    from equipoise.data.audit import counting as module

    calls: list[int] = []
    decode = module.decode_described
    monkeypatch.setattr(module, "decode_described", lambda raw, target: (calls.append(1), decode(raw, target))[1])
    checked(folder, size=16, channels=3)
    assert len(calls) == 30


def test_every_bad_file_is_in_the_values_and_the_first_ones_in_the_text(tmp_path: Path):
    folder = photos(tmp_path / "photos")
    for index in range(MOST_SHOWN + 5):
        (folder / "cat" / f"bad{index:02}.png").write_bytes(b"" if index % 2 else b"words")
    found = checked(folder)
    listed = check_values(found)["not_used"]
    assert [item["name"] for item in listed] == [f"cat/bad{index:02}.png" for index in range(MOST_SHOWN + 5)]
    assert listed[0]["reason"] == "not an image (text?)"
    text = shown(found)
    assert re.search(r"\b150\b.*\b175\b", text)
    assert "cat/bad19.png" in text
    assert "cat/bad20.png" not in text
    assert re.search(r"\b5\b.*--json", text)


def test_too_many_bad_files_are_a_refusal_in_the_words_of_the_training(tmp_path: Path):
    folder = photos(tmp_path / "photos", 30)
    for index in range(4):
        (folder / f"bad{index}.png").write_bytes(b"")
    found = checked(folder)
    with pytest.raises(UserError) as caught:
        prepare(Data(source=str(folder)), cache=tmp_path / "cache")
    assert found.training.refusal is not None
    assert found.training.refusal.args == caught.value.args
    assert len(found.rejected) == 4
    assert not check_values(found)["starts"]
    assert "would not start" in shown(found)


def test_a_source_without_any_usable_image_is_still_reported(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"words")
    found = checked(tmp_path / "photos")
    assert found.training.refusal is not None
    assert found.training.refusal.subject == f'source "{tmp_path / "photos"}"'
    assert found.training.refusal.problem.startswith("0 of 1 ")
    assert check_values(found)["training"]["median_cut"] is None
    assert re.search(r"\b0\b.*\b1\b", shown(found))


def test_what_the_training_would_refuse_is_the_refusal(tmp_path: Path):
    folder = photos(tmp_path / "photos", 10)
    found = checked(folder)
    assert found.training.refusal is not None
    assert "10 distinct" in found.training.refusal.problem
    assert not check_values(found)["starts"]


def test_what_is_ignored_is_counted_by_suffix_and_reason(tmp_path: Path):
    folder = photos(tmp_path / "photos")
    for name in ("a.txt", "b.txt", "clip.mov", ".hidden.png", "README"):
        (folder / name).write_text("words")
    assert list(checked(folder).skipped.items()) == [(".txt", 2), (".mov", 1), ("hidden", 1), ("without a suffix", 1)]


def test_formats_modes_turns_and_animations_are_counted(tmp_path: Path):
    folder = photos(tmp_path / "photos", 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(900, 30, 20).save(folder / "cat" / "turned.jpg", exif=exif)
    photo(901).convert("CMYK").save(folder / "cat" / "print.jpg")
    clear = photo(902)
    clear.putalpha(100)
    clear.save(folder / "cat" / "clear.webp", lossless=True)
    frames = [photo(index) for index in (903, 904)]
    frames[0].save(folder / "cat" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160).save(folder / "cat" / "deep.png")
    values = check_values(checked(folder))
    assert values["formats"] == {"PNG": 61, "JPEG": 2, "GIF": 1, "WebP": 1}
    assert values["modes"]["CMYK"] == 1
    assert values["modes"]["16-bit grey"] == 1
    assert values["modes"]["RGB with transparency"] == 1
    assert (values["turned"], values["animated"]) == (1, 1)
    assert {"width": 20, "height": 30, "images": 1} in values["sizes"], "the upright size counts"


def test_few_sizes_are_listed_and_many_are_counted_by_the_smaller_side(tmp_path: Path):
    few = photos(tmp_path / "few", 40, width=30)
    assert "30 × 20 40 ████" in shown(checked(few))
    many = tmp_path / "many"
    many.mkdir()
    for index in range(60):
        photo(index, 20 + index, 17 + index).save(many / f"{index}.png")
    text = shown(checked(many))
    assert "60 different ones; by the smaller side in pixels: 16 to 31 15" in text
    assert "32 to 63 32" in text
    assert "64 to 127 13" in text
    assert "from 20 × 17 to 79 × 76" in text


def test_what_is_cut_filled_squeezed_and_enlarged_follows_fit(tmp_path: Path):
    folder = photos(tmp_path / "photos", 60)
    for index in range(4):
        photo(800 + index, 40, 30 if index else 10).save(folder / "cat" / f"wide{index}.png")
    training = check_values(checked(folder, size=24))["training"]
    assert (training["size"], training["channels"], training["fit"]) == (24, 3, "crop")
    assert (training["not_square"], training["median_cut"], training["largest_cut"]) == (4, 0.25, 0.75)
    assert (training["enlarged"], training["smallest_side"]) == (61, 10)
    assert "4 images are not square and cut to the middle: half of them lose 25 % or more, at most 75 %" in shown(
        checked(folder, size=24)
    )
    assert check_values(checked(folder, size=24, fit="pad"))["training"]["enlarged"] == 60
    assert "bars" in shown(checked(folder, fit="pad"))
    assert "squeezed" in shown(checked(folder, fit="stretch"))


def sprites(folder: Path, num: int, color: tuple[int, int, int], width: int = 40, height: int = 30) -> Path:
    """Write drawings on a transparent ground, no two of them the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(num):
        picture = Image.new("RGBA", (width, height))
        picture.paste((*color, 255), (index % 7, index % 5, width - 4, height - 2))
        picture.putpixel((index % width, index // width), (index % 200, 90, 60, 255))
        picture.save(folder / f"{index:04}.png")
    return folder


def advised(found: Check, *settings: str) -> dict[str, str]:
    """Return the options of the command that a check advises."""
    command = check_values(found, settings)["command"]
    assert command is not None
    words = shlex.split(command)
    assert words[:3] == ["equipoise", "train", found.source]
    return {name: value for name, value in zip(words[3::2], words[4::2], strict=True) if name != "--set"} | {
        "--set": " ".join(value for name, value in zip(words[3::2], words[4::2], strict=True) if name == "--set")
    }


def test_sprites_are_advised_a_size_that_keeps_every_pixel_and_a_background_that_does_not_hide_them(tmp_path: Path):
    folder = sprites(tmp_path / "sprites", 150, (250, 250, 250))
    found = checked(folder)
    assert advised(found) == {"--size": "40x30", "--set": "task.background=black"}
    values = check_values(found)
    assert values["every_pixel"] == {"images": 150, "kept": 0, "size": (40, 30), "fit": "crop", "kept_then": 150}
    clear = values["transparency"]
    assert (clear["images"], clear["background"], clear["vanishing"]) == (150, "white", 150)
    text = check_text(found)
    command = text[text.index("  equipoise train") :].replace("\\\n", " ")
    assert shlex.split(command) == shlex.split(values["command"]), "what is shown can be copied"
    then = checked(folder, size=(40, 30), background="black")
    values = check_values(then)
    assert values["command"] is None
    assert values["every_pixel"]["kept"] == 150
    assert values["transparency"]["vanishing"] == 0
    assert values["training"]["not_square"] == 0


def test_settings_that_were_given_stand_in_the_advised_command_unless_it_changes_them(tmp_path: Path):
    found = checked(sprites(tmp_path / "sprites", 150, (9, 90, 200)), size=20)
    options = advised(found, "task.flip=true", "task.size=20", "data.test=0.2")
    assert options == {"--size": "40x30", "--set": "task.flip=true data.test=0.2"}


def test_where_no_size_keeps_every_pixel_it_says_so_and_advises_the_shape_that_the_pictures_share(tmp_path: Path):
    found = checked(photos(tmp_path / "photos", 60, width=320, height=240))
    values = check_values(found)
    assert (values["every_pixel"]["size"], values["every_pixel"]["kept"]) == (None, 0)
    assert (values["training"]["reduced"], values["training"]["largest_reduction"]) == (60, 240 / 64)
    assert "--size 64x48" in shown(found)
    folder = photos(tmp_path / "wide", 150, width=320, height=160)
    assert advised(checked(folder)) == {"--size": "64x32", "--set": ""}
    for index in range(75):
        photo(1000 + index, 300, 100).save(folder / "cat" / f"wide{index}.png")
    assert advised(checked(folder)) == {"--fit": "pad", "--set": ""}
    assert "256" in shown(found)


def test_a_size_that_is_much_for_the_machine_is_named_with_a_smaller_one(tmp_path: Path):
    found = checked(photos(tmp_path / "photos", 150, width=100, height=80))
    assert advised(found)["--size"] == "100x80"
    assert "--size 64x51" in shown(found)


def test_a_few_far_larger_images_do_not_make_all_others_larger(tmp_path: Path):
    folder = photos(tmp_path / "photos", 150, width=16, height=16)
    photo(999, 200, 200).save(folder / "cat" / "large.png")
    values = check_values(checked(folder))
    assert values["command"] is None
    assert values["every_pixel"] == {"images": 151, "kept": 150, "size": 16, "fit": "crop", "kept_then": 150}


def test_of_a_source_that_cannot_be_trained_on_no_training_is_advised(tmp_path: Path):
    values = check_values(checked(sprites(tmp_path / "sprites", 10, (250, 250, 250))))
    assert values["command"] is None
    assert values["transparency"]["suggested_background"] == "black"


def test_transparency_that_is_kept_needs_no_other_background(tmp_path: Path):
    folder = sprites(tmp_path / "sprites", 150, (250, 250, 250))
    found = checked(folder, size=(40, 30), channels=4)
    assert check_values(found)["command"] is None
    text = shown(found)
    assert "150 images (100 %)" in text
    assert "task.background" not in text
    assert "task.channels=4" in shown(checked(folder, size=(40, 30)))


def test_transparent_arrays_are_looked_at_as_well(tmp_path: Path):
    values = np.full((120, 12, 12, 4), 255, dtype=np.uint8)
    values[:, :4, :, 3] = 0
    values[np.arange(120), 6, np.arange(120) % 12] = (9, 9, 9, 255)
    np.savez(tmp_path / "a.npz", images=values)
    found = checked(tmp_path / "a.npz").transparency
    assert (found.num, found.num_vanishing) == (120, 120)


def test_copies_are_grouped_with_their_names_and_their_side_of_the_split(tmp_path: Path):
    folder = photos(tmp_path / "photos", 200, width=60, height=60)
    for index in range(3, 9):
        path = folder / ("cat" if index % 3 else "dog") / f"{index:04}.png"
        shutil.copy(path, path.with_name(f"{index:04}-same.png"))
    for index in range(100, 160):
        name = f"{'cat' if index % 3 else 'dog'}/{index:04}"
        ImageEnhance.Brightness(photo(index, 60, 60)).enhance(0.96).save(folder / f"{name}-dark.jpg", quality=85)
    found = checked(folder)
    assert found.num_duplicates == 6
    assert ("dog/0003-same.png", "dog/0003.png") in {group.names for group in found.exact}
    assert all(len(set(group.splits)) == 1 for group in found.exact)
    assert len(found.near) >= 57
    assert all(len(group.names) == 2 and group.names[0][:8] == group.names[1][:8] for group in found.near)
    leaks = [group for group in found.near if group.leaks]
    assert leaks
    assert leaks == list(found.near[: len(leaks)]), "those that matter come first"
    pool = prepare(Data(source=str(folder)), cache=tmp_path / "cache")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    trained = {names[index] for index in pool.splits.train}
    for group in found.near:
        sides = [side == "train" for side in group.splits]
        assert sides == [name in trained for name in group.names]
        assert group.leaks == (any(sides) and not all(sides))
    assert f"{len(leaks)} group" in shown(found)
    assert check_values(found)["leaks"] == len(leaks)


def group(*splits: str, name: str = "img") -> Copies:
    sides: Any = splits
    return Copies(tuple(f"{name}{index:02}.png" for index in range(len(splits))), sides)


def near(tmp_path: Path, *groups: Copies) -> list[str]:
    """Return the lines on near copies, each group on one."""
    text = check_text(dataclasses.replace(checked(photos(tmp_path / "photos", 60)), near=groups))
    assert max(map(len, text.splitlines())) <= 80
    part = text.split("\nnear copies")[1].split("\nclasses")[0]
    return re.sub(r"\n {18}", " ", part).splitlines()


def test_a_copy_in_another_split_is_shown_however_many_others_there_are(tmp_path: Path):
    lines = near(
        tmp_path,
        group("train", "train", "train", "test", name="four"),
        group(*["train"] * 20, "validation", name="many"),
        group(*["test"] * 20, "train", name="tested"),
        group(*["validation"] * 9, *["train"] * 9, "test", name="half"),
        group(*["train"] * 4, name="one"),
        group(*["train"] * 5, name="two"),
    )
    four, many, tested, half, one, two = (line.strip() for line in lines[-6:])
    assert four == "four03.png (test) ≈ four00.png (train) ≈ four01.png (train) ≈ four02.png (train)"
    assert many.startswith("many20.png (validation) ≈ many00.png (train) ≈ ")
    assert many.endswith("many04.png (train) and 15 more (15 train)")
    assert tested.startswith("tested20.png (train) ≈ tested00.png (test) ≈ ")
    assert half.startswith("half18.png (test) ≈ ")
    assert "(train)" in half.split(" and ")[0]
    assert "(validation)" in half.split(" and ")[0]
    assert one == "one00.png ≈ one01.png ≈ one02.png ≈ one03.png (train)"
    assert two == "two00.png ≈ two01.png ≈ two02.png and 2 more (train)"


def test_groups_that_leak_are_all_shown_where_they_are_few_and_counted_where_not(tmp_path: Path):
    leaks, others = [group("train", "test", name=f"leak{index}-") for index in range(30)], [group("train", "train")] * 9
    lines = near(tmp_path, *leaks[:15], *others)
    assert sum("leak" in line for line in lines) == 15
    assert re.findall(r"\d+|--json", lines[-1]) == ["9", "--json"]
    lines = near(tmp_path, *leaks, *others)
    assert sum("leak" in line for line in lines) == 20
    assert re.findall(r"\d+|--json", " ".join(lines))[-3:] == ["19", "10", "--json"]


def test_of_files_one_is_to_be_kept_and_of_an_array_one_row(tmp_path: Path):
    leak = group("train", "test")
    assert "one file" in " ".join(" ".join(near(tmp_path, leak)).split())
    values = np.random.default_rng(0).integers(0, 256, (120, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=values)
    text = shown(dataclasses.replace(checked(tmp_path / "a.npz"), near=(leak,)))
    assert "one row" in text
    assert "one file" not in text
    assert "array named labels" in text
    assert "sub-folders" not in text
    rows = dataclasses.replace(checked(photos(tmp_path / "photos", 60)), near=(leak,), source="hub:someone/photos")
    assert "one row" in shown(rows)


def test_classes_are_counted_with_the_rare_and_the_empty_ones(tmp_path: Path):
    folder = photos(tmp_path / "photos", 150)
    (folder / "owl").mkdir()
    for index in range(3):
        photo(600 + index).save(folder / "owl" / f"{index}.png")
    for name in ("bird", "fish/small", ".hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "bird" / "1.png").write_bytes(b"")
    found = checked(folder)
    assert found.class_counts == {"bird": 0, "cat": 100, "dog": 50, "owl": 3}
    values = check_values(found)
    assert values["rare_classes"] == ["owl"]
    assert values["empty_folders"] == ["bird/", "fish/"]
    assert "bird/, fish/" in shown(found)
    assert "rare: owl" in shown(found)


def test_one_class_alone_is_said_to_be_none_and_the_empty_folder_is_named(tmp_path: Path):
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    for index in range(150):
        photo(index).save(folder / "cat" / f"{index}.png")
    text = shown(checked(folder))
    assert re.search(r"classes +none", text)
    assert "dog/" in text


def test_the_values_are_plain_json_whatever_the_names(tmp_path: Path):
    folder = photos(tmp_path / "photos")
    for name in (os.fsdecode(b"caf\xe9.png"), "line\nbreak.png"):
        (folder / "cat" / name).write_bytes(b"")
    found = checked(folder)
    values = json.loads(json.dumps(check_values(found)).encode())
    assert [item["name"] for item in values["not_used"]] == ["cat/caf?.png", "cat/line\nbreak.png"]
    assert "cat/caf?.png" in check_text(found)
    assert "cat/line?break.png" in check_text(found)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_are_checked_like_files(tmp_path: Path, channels: int):
    values = np.random.default_rng(0).integers(0, 256, (120, 12, 16, channels), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=values, labels=np.arange(120) % 3)
    found = checked(tmp_path / "a.npz")
    assert found.num_used == 120
    assert found.class_counts == {"0": 40, "1": 40, "2": 40}
    assert check_values(found)["sizes"] == [{"width": 16, "height": 12, "images": 120}]
    assert check_values(found)["training"]["not_square"] == 120
    modes = ("grey", "grey with transparency", "RGB", "RGB with transparency")
    assert check_values(found)["modes"] == {modes[channels - 1]: 120}


def test_progress_reaches_the_end_of_both_stages(tmp_path: Path):
    seen: list[tuple[str, float]] = []
    data = Data(source=str(photos(tmp_path / "photos")))
    check(data, Images(), 64, lambda _: Recipe(), Recipe(), lambda *stage: seen.append(stage))
    first, second = dict.fromkeys(stage for stage, _ in seen)
    assert (first, 1.0) in seen
    assert seen[-1] == (second, 1.0)


def test_the_outline_of_a_pool_takes_no_memory_for_pixels(tmp_path: Path):
    seen: list[Pool] = []
    data = Data(source=str(photos(tmp_path / "photos")))

    def final(pool: Pool) -> Recipe:
        seen.append(pool)
        return Recipe()

    check(data, Images(size=256), 64, final, Recipe(), silent)
    assert seen[0].images.shape == (150, 3, 256, 256)
    assert seen[0].images.base is not None
    assert seen[0].images.strides == (0, 0, 0, 0)
    assert torch.is_tensor(pool_module.gather(seen[0], np.array([0])))


def test_where_no_recipe_is_named_it_goes_by_the_images_and_the_advised_command_names_none(tmp_path: Path):
    folder = photos(tmp_path / "photos", 300, width=40, height=32)
    found = api.check_data(folder, settings=["device=cpu"])
    assert (found.training.recipe.name, found.named) == ("photos", None)
    assert "--recipe" not in str(check_values(found)["command"])
    smaller = api.check_data(folder, settings=["device=cpu", "task.size=24"])
    assert smaller.training.recipe.name == "modern"
    named = api.check_data(folder, "lsgan", settings=["device=cpu"])
    assert (named.training.recipe.name, named.named) == ("lsgan", "lsgan")
    assert "--recipe lsgan" in str(check_values(named)["command"])
