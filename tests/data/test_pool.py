import dataclasses
import errno
import json
import multiprocessing
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from equipoise import recipe
from equipoise.data import pool as module
from equipoise.data import sources, store
from equipoise.data.changes import name_hashes
from equipoise.data.pool import Pool, default_cache, gather, names_of, prepare, to_float, to_uint8, train_indices
from equipoise.errors import Near, Setting, UserError
from equipoise.randomness import Randomness, stream_seed
from equipoise.recipe import Images
from equipoise.storage.records import Rejected


def pixels(index: int, height: int = 12, width: int = 10, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def photos(folder: Path, num: int = 20, first: int = 0, **shape: int) -> Path:
    for index in range(first, first + num):
        path = folder / ("cat" if index % 2 else "dog") / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(index, **shape)).save(path)
    return folder


def data(source: Path | str, **options: Any) -> recipe.Data:
    return recipe.Data(source=str(source), **options)


def content_in(cache: Path) -> Path:
    """Return the folder of the one pool of a cache."""
    (content,) = (cache / "pools").iterdir()
    return content


def refuse_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "_build", refuse)


def test_a_folder_becomes_a_pool_of_its_pixels_and_labels(tmp_path: Path):
    pool = prepare(data(photos(tmp_path / "photos", height=12, width=12)), cache=tmp_path / "cache")
    assert pool.images.shape == (20, 3, 12, 12)
    assert pool.images.dtype == np.uint8
    assert pool.classes == ("cat", "dog")
    assert pool.labels is not None
    assert pool.labels.tolist() == [0] * 10 + [1] * 10
    expected = [pixels(index, 12, 12).transpose(2, 0, 1) for index in [*range(1, 20, 2), *range(0, 20, 2)]]
    assert (pool.images == np.stack(expected)).all()
    assert sum(map(len, (pool.splits.train, pool.splits.validation, pool.splits.test))) == 20
    assert pool.rejected == ()


def test_size_is_the_median_smaller_side_within_its_bounds(tmp_path: Path):
    for index, side in enumerate((20, 24, 90)):
        photos(tmp_path / "photos", 1, first=index, height=side, width=100)
    assert prepare(data(tmp_path / "photos"), cache=tmp_path / "cache").images.shape[2:] == (24, 24)
    assert prepare(data(tmp_path / "photos"), cache=tmp_path / "cache", max_size=16).images.shape[2:] == (16, 16)
    assert (
        prepare(data(tmp_path / "photos"), Images(size=32), cache=tmp_path / "cache", max_size=16).images.shape[2] == 32
    )
    photos(tmp_path / "tiny", height=3, width=3)
    assert prepare(data(tmp_path / "tiny"), cache=tmp_path / "cache").images.shape[2:] == (8, 8)


def test_channels_are_one_only_if_every_image_is_grey(tmp_path: Path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(40):
        grey = pixels(index, channels=1)
        Image.fromarray(np.repeat(grey[:, :, None], 3, 2) if index % 2 else grey).save(folder / f"{index}.png")
    assert prepare(data(folder), cache=tmp_path / "cache").images.shape[1] == 1
    assert prepare(data(folder), Images(channels=3), cache=tmp_path / "cache").images.shape[1] == 3
    Image.fromarray(pixels(99)).save(folder / "99.png")
    assert prepare(data(folder), cache=tmp_path / "cache").images.shape[1] == 3
    assert prepare(data(folder), Images(channels=1), cache=tmp_path / "cache").images.shape[1] == 1


def test_one_coloured_image_among_many_grey_ones_is_found_beyond_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_NUM_SCANNED", 3)
    photos(tmp_path / "photos", 20, channels=1)
    Image.fromarray(pixels(7)).save(tmp_path / "photos" / "cat" / "0007.png")
    assert prepare(data(tmp_path / "photos"), cache=tmp_path / "cache").images.shape[1] == 3


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_npz_files_become_pools_with_and_without_resizing(tmp_path: Path, channels: int):
    values = np.random.default_rng(0).integers(0, 256, (30, 16, 16, channels), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=values, labels=np.arange(30) % 3)
    pool = prepare(data(tmp_path / "a.npz"), cache=tmp_path / "cache")
    assert pool.images.shape == (30, min(channels, 3), 16, 16)
    if channels < 4:
        assert (pool.images == values.transpose(0, 3, 1, 2)).all()
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1, 2] * 10
    assert prepare(data(tmp_path / "a.npz"), Images(size=8), cache=tmp_path / "cache").images.shape[2:] == (8, 8)


def test_a_second_preparation_decodes_nothing_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    (folder / "cat" / "bad.png").write_bytes(b"")
    first = prepare(data(folder), cache=cache)
    refuse_decoding(monkeypatch)
    again = prepare(data(folder), cache=cache)
    assert again.digest == first.digest
    assert again.rejected == first.rejected != ()
    assert again.classes == first.classes
    assert (again.images == first.images).all()
    other = prepare(data(folder, validation=0.3), cache=cache)  # another split needs no decoding either
    assert other.digest != first.digest


def test_a_read_only_cache_that_holds_the_data_serves_a_split_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, cache = photos(tmp_path / "photos", 40), tmp_path / "cache"
    first = prepare(data(folder), cache=cache)
    before = sorted((path, path.stat().st_mtime_ns) for path in [cache, *cache.rglob("*")])
    refuse_decoding(monkeypatch)

    def read_only(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:  # root may write whatever the permissions say
        for name in ("mkdir", "rename", "replace", "utime"):
            patch.setattr(os, name, read_only)
        other = prepare(data(folder, validation=0.3, test=0.2), cache=cache)
    assert len(other.splits.validation) > len(first.splits.validation)
    assert other.digest != first.digest
    assert sorted((path, path.stat().st_mtime_ns) for path in [cache, *cache.rglob("*")]) == before


def test_size_and_channels_that_were_found_and_are_then_asked_for_decode_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    (folder / "cat" / "bad.png").write_bytes(b"")
    first = prepare(data(folder), cache=cache, max_size=64)
    _, channels, size, _ = first.images.shape
    refuse_decoding(monkeypatch)
    again = prepare(data(folder), Images(size=size, channels=channels), cache=cache, max_size=64)
    assert again.digest == first.digest
    assert again.rejected == first.rejected != ()


def test_what_was_prepared_is_found_again_without_a_look_at_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    first = prepare(data(folder), cache=cache)
    _, channels, size, _ = first.images.shape
    with monkeypatch.context() as patch:
        patch.setattr(sources, "_look_into", lambda *_: pytest.fail("the files were listed again"))
        for images in (Images(), Images(size=size, channels=channels)):
            assert prepare(data(folder), images, cache=cache).digest == first.digest
    (folder / "notes.txt").write_text("no image")
    refuse_decoding(monkeypatch)
    assert prepare(data(folder), cache=cache).digest == first.digest
    monkeypatch.setattr(sources, "_look_into", lambda *_: pytest.fail("the files were listed again"))
    assert prepare(data(folder), cache=cache).digest == first.digest


def test_the_names_of_images_are_kept_with_them_and_damage_of_these_is_noticed(tmp_path: Path):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    (folder / "cat" / "bad.png").write_bytes(b"")
    for _ in range(2):  # decoded, and found again
        pool = prepare(data(folder), cache=cache)
        assert pool.name_hashes is not None
        assert pool.name_hashes.tolist() == name_hashes(names_of(data(folder), pool)).tolist()
    (kept,) = (cache / "names").iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    pool = prepare(data(folder), cache=cache)
    assert pool.name_hashes is None
    assert len(names_of(data(folder), pool)) == len(pool.images)


@pytest.mark.parametrize("options", [{"size": 9}, {"channels": 1}, {"fit": "stretch"}, {"background": "red"}])
def test_other_options_never_meet_the_wrong_cache(tmp_path: Path, options: dict[str, Any]):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(pixels(index, channels=4)).save(folder / f"{index}.png")
    first = prepare(data(folder), cache=tmp_path / "cache")
    assert prepare(data(folder), Images(**options), cache=tmp_path / "cache").digest != first.digest


def test_transparency_is_kept_of_files_and_arrays_and_a_hidden_colour_makes_no_other_image(tmp_path: Path):
    folder = tmp_path / "sprites"
    folder.mkdir()
    rgba = np.stack([pixels(index, 10, 10, channels=4) for index in range(6)])
    rgba[:, :5, :, 3] = 0
    rgba[5] = rgba[4]
    rgba[5, :5, :, :3] = 7  # nobody sees it
    for index, image in enumerate(rgba):
        Image.fromarray(image).save(folder / f"{index}.png")
    np.savez(tmp_path / "a.npz", images=rgba)
    settings = Images(channels=4, size=10)
    pools = [prepare(data(source), settings, cache=tmp_path / "c") for source in (folder, tmp_path / "a.npz")]
    for found in pools:
        assert found.images.shape == (6, 4, 10, 10)
        assert found.num_duplicates == 1
        assert (found.images[:, :, :5] == 0).all()
        assert (found.images[:, :3] <= found.images[:, 3:]).all()
        opaque = found.images[:, 3] > 250
        assert (found.images[:, 0][opaque] - rgba[..., 0][opaque].astype(int)).min() >= -5
        assert any("6 of 6" in note for note in found.notes)


def test_a_fourth_channel_that_says_nothing_is_told(tmp_path: Path):
    folder = photos(tmp_path / "photos", 20)
    opaque = prepare(data(folder), Images(channels=4), cache=tmp_path / "cache")
    assert (opaque.images[:, 3] == 255).all()
    assert any("task.channels=3" in note for note in opaque.notes)


def test_a_changed_folder_is_prepared_anew_and_old_images_stay_in_their_splits(tmp_path: Path):
    folder, cache = photos(tmp_path / "photos", 60, height=12, width=12), tmp_path / "cache"

    def members(pool: Pool) -> dict[str, set[bytes]]:
        return {
            name: {pool.images[index].tobytes() for index in getattr(pool.splits, name)}
            for name in ("train", "validation", "test")
        }

    before = members(prepare(data(folder, validation=0.2, test=0.2), cache=cache))
    photos(folder, 60, first=60, height=12, width=12)
    after = members(prepare(data(folder, validation=0.2, test=0.2), cache=cache))
    assert sum(map(len, after.values())) == 120
    for name, images in before.items():
        assert images < after[name]


def test_the_same_content_from_two_places_is_kept_once(tmp_path: Path):
    first = prepare(data(photos(tmp_path / "here")), cache=tmp_path / "cache")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    second = prepare(data(tmp_path / "there"), cache=tmp_path / "cache")
    assert second.digest == first.digest
    assert len(list((tmp_path / "cache" / "pools").iterdir())) == 1


def test_duplicates_are_counted_and_land_on_one_side(tmp_path: Path):
    folder = photos(tmp_path / "photos", 30)
    for path in sorted(folder.rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    pool = prepare(data(folder, validation=0.3, test=0.3), cache=tmp_path / "cache")
    assert pool.num_duplicates == 30
    sides: dict[bytes, set[str]] = {}
    for name in ("train", "validation", "test"):
        for index in getattr(pool.splits, name):
            sides.setdefault(pool.images[index].tobytes(), set()).add(name)
    assert all(len(names) == 1 for names in sides.values())


def test_few_broken_files_are_listed_with_reasons_and_their_classes_dropped_if_empty(tmp_path: Path):
    folder = photos(tmp_path / "photos", 20)
    (folder / "bird").mkdir()
    (folder / "bird" / "1.png").write_bytes(b"")
    (folder / "cat" / "2.jpg").write_bytes(b"%PDF-1.7")
    pool = prepare(data(folder), cache=tmp_path / "cache")
    assert pool.rejected == (Rejected("bird/1.png", "0 bytes"), Rejected("cat/2.jpg", "not an image (PDF?)"))
    assert pool.classes == ("cat", "dog")
    assert pool.labels is not None
    assert len(pool.labels) == len(pool.images) == 20


def test_many_broken_files_are_an_error_that_names_three_and_leaves_nothing(tmp_path: Path):
    folder = photos(tmp_path / "photos", 30)
    for index in range(4):
        (folder / f"bad{index}.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        prepare(data(folder), cache=tmp_path / "cache")
    assert caught.value.subject == f'source "{folder}"'
    assert caught.value.problem.startswith("30 of 34 ")
    assert "bad0.png: 0 bytes; bad1.png: 0 bytes; bad2.png" in caught.value.problem
    assert "bad3" not in str(caught.value)
    assert {"4", "3", "34"} <= set(re.findall("[0-9]+", str(caught.value.remedies[0]))), "how many, and the limit"
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "pools").iterdir()) == []


def test_the_limit_of_broken_files_is_a_share_of_many_and_is_named(tmp_path: Path):
    folder = photos(tmp_path / "photos", 45)
    for index in range(6):
        (folder / f"bad{index}.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        prepare(data(folder), cache=tmp_path / "cache")
    assert re.findall("[0-9]+", str(caught.value.remedies[0])) == ["6", "5", "51", "10"]
    (folder / "bad5.png").unlink()
    assert len(prepare(data(folder), cache=tmp_path / "cache").images) == 45


def test_a_folder_of_broken_files_alone_is_an_error_however_few(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"words")
    with pytest.raises(UserError) as caught:
        prepare(data(tmp_path / "photos"), cache=tmp_path / "cache")
    assert caught.value.problem.startswith("0 of 1 ")
    assert "bad.png" in caught.value.problem


def empty_last_page(content: Path) -> None:
    raw = bytearray((content / "images.bin").read_bytes())
    raw[-200:] = bytes(200)
    (content / "images.bin").write_bytes(raw)


def replaced(path: Path, old: bytes, new: bytes) -> None:
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: (content / "images.bin").unlink(),
        lambda content: (content / "images.bin").write_bytes(b""),
        lambda content: (content / "images.bin").write_bytes((content / "images.bin").read_bytes()[:-5]),
        empty_last_page,
        lambda content: (content / "pool.json").write_text('{"version": 1'),
        lambda content: (content / "hashes.npy").write_bytes(b"junk"),
        lambda content: replaced(content / "hashes.npy", b"'shape'", b"'shape("),
        lambda content: replaced(content / "hashes.npy", b"False", b"F lse"),
        lambda content: (content / "labels.npy").unlink(),
        shutil.rmtree,
    ],
)
def test_a_damaged_cache_is_noticed_and_rebuilt(tmp_path: Path, damage: Callable[[Path], object]):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    first = prepare(data(folder), cache=cache)
    expected = first.images.copy()
    damage(content_in(cache))
    again = prepare(data(folder), cache=cache)
    assert again.digest == first.digest
    assert (again.images == expected).all()
    assert not list((cache / "pools").glob(".aside-*"))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"content": "x"}', '{"content": "../..", "rejected": [], "num_skipped": 0}']
)
def test_a_damaged_listing_is_noticed_and_rebuilt(tmp_path: Path, text: str):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    first = prepare(data(folder), cache=cache)
    listings = list((cache / "sources").iterdir())
    for listing in listings:
        listing.write_text(text)
    assert prepare(data(folder), cache=cache).digest == first.digest
    assert {json.loads(listing.read_text())["content"] for listing in listings} == {content_in(cache).name}


def test_an_interrupted_preparation_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, cache = photos(tmp_path / "photos"), tmp_path / "cache"

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(data(folder), cache=cache, progress=interrupt)
    assert list((cache / "pools").iterdir()) == []
    assert len(prepare(data(folder), cache=cache).images) == 20


def _prepare_and_report(source: str, cache: Path, answers: Any) -> None:
    torch.set_num_threads(1)
    answers.put(prepare(recipe.Data(source=source), cache=cache).digest)


def test_two_processes_that_prepare_at_once_agree(tmp_path: Path):
    folder, cache = photos(tmp_path / "photos", 40), tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_prepare_and_report, args=(str(folder), cache, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    digests = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert digests == {prepare(data(folder), cache=cache).digest}
    assert len(list((cache / "pools").iterdir())) == 1


def test_a_pool_that_another_process_published_meanwhile_is_kept(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 255, (3, 1, 8, 8), dtype=np.uint8)
    batches = [(np.arange(3), images)]
    content = store.write(tmp_path, batches, None, ())
    inode = (tmp_path / "pools" / content / "images.bin").stat().st_ino
    assert store.write(tmp_path, batches, None, ()) == content
    assert (tmp_path / "pools" / content / "images.bin").stat().st_ino == inode


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError) as caught:
        prepare(data(photos(tmp_path / "photos")), cache=tmp_path / "file")
    assert caught.value.subject == f'cache folder "{tmp_path / "file"}"'
    assert "EQUIPOISE_CACHE" in str(caught.value.remedies)
    assert "\n" not in str(caught.value)


def test_a_bad_background_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        prepare(data(tmp_path / "nowhere"), Images(background="blak"), cache=tmp_path)
    assert caught.value.subject == Setting("task.background", "blak")
    assert Near("black") in caught.value.remedies


def test_progress_reaches_the_total(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    prepare(data(photos(tmp_path / "photos")), cache=tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert calls[-1] == (20, 20)


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"
    monkeypatch.delenv("EQUIPOISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "equipoise"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    return prepare(data(photos(folder / "photos", 50)), cache=folder / "cache")


def test_gathered_images_are_the_pool_s_and_own_their_memory(pool: Pool):
    chosen = torch.tensor([3, 1, 3])
    images = gather(pool, chosen)
    assert images.dtype == torch.uint8
    assert (images.numpy() == pool.images[[3, 1, 3]]).all()
    assert torch.equal(gather(pool, chosen.numpy()), images)
    before = pool.images[3].copy()
    images.zero_()
    assert (pool.images[3] == before).all()


def test_an_epoch_shows_every_training_image_once_in_a_fresh_order(pool: Pool):
    num = len(pool.splits.train)
    first, second = (train_indices(pool, Randomness(0, epoch * num), num) for epoch in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(pool.splits.train.tolist())
    assert first.tolist() != second.tolist()
    assert train_indices(pool, Randomness(1), num).tolist() != first.tolist()


def test_an_attempt_has_an_order_of_its_own_and_the_first_that_of_its_seed(pool: Pool):
    num = len(pool.splits.train)
    attempts = [train_indices(pool, Randomness(0, num, attempt), num).tolist() for attempt in range(3)]
    assert sorted(attempts[0]) == sorted(attempts[1]) == sorted(attempts[2])
    assert len({tuple(order) for order in attempts}) == 3
    for attempt, order in enumerate(attempts):
        generator = torch.Generator().manual_seed(stream_seed(0, "data order", 1, attempt))
        assert order == pool.splits.train[torch.randperm(num, generator=generator).numpy()].tolist()
    assert stream_seed(0, "data order", 1) == 51649429526844791, "that of all runs so far"


def test_a_pool_without_training_images_is_refused(pool: Pool):
    empty = dataclasses.replace(pool, splits=dataclasses.replace(pool.splits, train=pool.splits.train[:0]))
    with pytest.raises(UserError) as caught:
        train_indices(empty, Randomness(0), 1)
    assert "50" in caught.value.problem
    assert Setting("data.test", 0) in caught.value.remedies


def test_the_order_is_a_function_of_the_position_and_batches_may_span_epochs(pool: Pool):
    whole = train_indices(pool, Randomness(0), 5 * len(pool.splits.train))
    for start, num in ((0, 7), (13, 64), (len(pool.splits.train) - 1, 2), (100, 1), (90, 0)):
        assert train_indices(pool, Randomness(0, start), num).tolist() == whole[start : start + num].tolist()
    counts = Counter(whole.tolist())
    assert set(counts.values()) == {5}


def test_uint8_survives_the_way_to_floats_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    floats = to_float(every)
    assert floats.dtype == torch.float32
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(to_uint8(floats), every)
    assert torch.equal(to_uint8(floats.bfloat16().float().requires_grad_()).sort().values[[0, -1]], every[[0, -1]])
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_whichever_bit_of_a_header_in_the_cache_flips_it_is_as_good_or_noticed(tmp_path: Path):
    prepare(data(photos(tmp_path / "photos")), cache=tmp_path / "cache")
    content = content_in(tmp_path / "cache")
    path = content / "hashes.npy"
    whole = path.read_bytes()
    for bit in range(8 * 128):
        raw = bytearray(whole)
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        with warnings.catch_warnings(action="ignore"):  # NumPy's, of headers that Python 2 has written
            store._opened(content)  # raises nothing


def test_what_much_is_lost_of_the_images_is_noted_and_found_again_with_them(tmp_path: Path):
    folder = tmp_path / "sprites"
    folder.mkdir()
    for index in range(40):
        picture = Image.new("RGBA", (40, 20))
        picture.paste((250, 250, 250, 255), (2, 2, 30, 18))
        picture.putpixel((index, 5), (200, 60, 20, 255))
        picture.save(folder / f"{index}.png")
    data = recipe.Data(source=str(folder))
    for _ in range(2):
        notes = " ".join(prepare(data, Images(size=8), cache=tmp_path / "cache").notes)
        assert "--fit pad" in notes
        assert "2 times" in notes
        assert "task.background=black" in notes
    notes = prepare(data, Images(size=40, fit="pad", background="black"), cache=tmp_path / "cache").notes
    assert len(notes) == 1, "that there is transparency"
