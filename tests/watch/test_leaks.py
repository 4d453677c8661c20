"""What a loop trains on is held against what is held out: by path, by place, by content."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shifted import Shifted, opened
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from equipoise.errors import UserError
from equipoise.storage.logs import records
from equipoise.watch.leaks import TrainingCheck
from equipoise.watch.watch import Watch

pytestmark = pytest.mark.usefixtures("small")


class Files(Dataset):
    """Images of a folder as a loop reads them, in the order of torchvision's ImageFolder."""

    def __init__(self, folder: Path, side: int = 8) -> None:
        self.samples = [(str(path), 0) for place in sorted(folder.iterdir()) for path in sorted(place.glob("*.png"))]
        self.side = side

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        image = Image.open(self.samples[index][0]).convert("L").resize((self.side, self.side))
        return torch.tensor(np.array(image))[None].float() / 255, 0


@pytest.fixture
def folder(tmp_path: Path, shapes: Path) -> Path:
    """Return a folder of odd names, one broken file and one that is no image."""
    target = tmp_path / "pets"
    names = ("cat", "cat-big", "cat 2", "Zebra")
    for name in names:
        (target / name).mkdir(parents=True)
    for index, path in enumerate(sorted(shapes.rglob("*.png"))):
        shutil.copy(path, target / names[index % 4] / path.name)
    (target / "cat" / "0.png").write_bytes(b"no image")
    (target / "cat" / "notes.txt").write_bytes(b"words")
    return target


@pytest.fixture
def watch(tmp_path: Path, folder: Path) -> Watch:
    return opened(tmp_path / "run", folder)


def test_paths_names_and_places_speak_of_the_same_images(watch: Watch, folder: Path) -> None:
    paths = watch.train_paths
    assert all(path.is_file() for path in paths)
    assert [path.relative_to(folder).as_posix() for path in paths] == watch.train_names
    usable = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    usable.remove("cat/0.png")
    assert [usable[place] for place in watch.train_indices] == watch.train_names, "the order that is documented"
    watch.close()


def test_a_listing_in_another_order_is_found_to_train_on_held_out_images(watch: Watch, folder: Path) -> None:
    usual = [Path(path) for path, _ in Files(folder).samples]
    mine = [usual[place] for place in watch.train_indices]
    held_out = set(usual) - set(watch.train_paths) - {folder / "cat" / "0.png"}
    found = watch.check_training(mine)
    assert [mine[place] for place in found.held_out] == [path for path in mine if path in held_out]
    assert len(found.held_out) > 0
    assert found.how == "paths"
    assert sum(event["kind"] == "trained on held-out images" for event in records(watch.folder / "log/events.jsonl"))
    right = watch.check_training(watch.train_paths)
    assert (len(right.train), len(right.held_out), len(right.unknown)) == (len(watch.train_indices), 0, 0)
    watch.close()


def test_a_data_set_of_files_parts_and_loaders_are_checked_by_their_paths(watch: Watch, folder: Path) -> None:
    files = Files(folder)
    every = watch.check_training(files)
    assert len(every.unknown) == 1, "the broken file"
    for given in (Subset(files, every.train.tolist()), DataLoader(Subset(files, every.train.tolist()))):
        assert len(watch.check_training(given).held_out) == 0
    sampled = DataLoader(files, sampler=SubsetRandomSampler(every.held_out.tolist()))
    assert len(watch.check_training(sampled).held_out) == len(every.held_out)
    watch.close()


class Hidden(Dataset):
    """Images of files that no attribute lists, changed by a function."""

    def __init__(self, paths: list[Path], change: Any = lambda image: image) -> None:
        self.read = lambda index: change(torch.tensor(np.array(Image.open(paths[index]).convert("RGB"))).movedim(-1, 0))
        self.num = len(paths)
        self.files: list[str] = []

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Any:
        return self.read(index)


class Stream(IterableDataset):
    """Images one after the other, without end."""

    def __init__(self, items: Dataset) -> None:
        self.items = items

    def __iter__(self) -> Any:
        while True:
            for index in range(len(self.items)):  # type: ignore[arg-type]
                yield self.items[index]


class Frame:
    """A table of columns, as pandas has them."""

    def __init__(self, held: dict[str, np.ndarray]) -> None:
        self.held = held
        self.columns = list(held)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.held[name]


class Chosen(Sampler):
    """What draws the given places, as a sampler of one's own."""

    def __init__(self, places: list[int]) -> None:
        self.places = places

    def __iter__(self) -> Any:
        return iter(self.places)


def counts(check: TrainingCheck) -> tuple[int, int, int]:
    """Return how many images were to train on, held out and not found."""
    return len(check.train), len(check.held_out), len(check.unknown)


def test_paths_are_found_in_whatever_holds_them(watch: Watch, folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*.png") if path.name != "0.png")
    expected = counts(watch.check_training(paths))
    assert expected[1] > 0
    listing = Hidden(paths, lambda image: image[:, torch.randperm(8)])  # other images each time
    listing.files = [str(path) for path in paths]
    for given in (
        np.array([str(path) for path in paths]),
        np.array(paths, dtype=object),
        iter(paths),
        set(paths),
        dict.fromkeys(paths, 0),
        {"label": [0] * len(paths), "path": [str(path) for path in paths]},
        Frame({"label": np.zeros(len(paths)), "path": np.array([str(path) for path in paths])}),
        [(str(path), 0) for path in paths],
        [{"class": 0, "file": path} for path in paths],
        [os.fsencode(path) for path in paths],
        [f"file://{path}" for path in paths],
        [entry for place in os.scandir(folder) for entry in os.scandir(place) if entry.path.endswith(".png")],
        str(folder),
        listing,
        ConcatDataset([Subset(listing, range(100)), Subset(listing, range(100, len(paths)))]),
    ):
        found = watch.check_training(given)
        assert found.how == "paths"
        assert counts(found)[:2] == expected[:2]
    assert not watch.check_training(folder).is_clean
    assert watch.check_training(watch.train_paths).is_clean
    watch.close()


def test_of_a_loader_counts_what_its_sampler_draws(watch: Watch, folder: Path) -> None:
    files = Files(folder)
    train = watch.check_training(files).train.tolist()
    weights = np.isin(np.arange(len(files)), train).astype(float).tolist()
    state = torch.get_rng_state()
    for loader in (
        DataLoader(files, sampler=Chosen(train)),
        DataLoader(files, sampler=train),
        DataLoader(files, batch_sampler=BatchSampler(Chosen(train), 4, drop_last=False)),
        DataLoader(files, batch_sampler=[train[:100], train[100:]]),
        DataLoader(files, sampler=WeightedRandomSampler(weights, 500)),
    ):
        assert counts(watch.check_training(loader)) == (len(train), 0, 0)
    assert counts(watch.check_training(DataLoader(files, shuffle=True)))[1] > 0
    assert torch.equal(torch.get_rng_state(), state)
    watch.close()


def test_what_maps_a_data_set_in_its_own_way_is_read_itself(watch: Watch, folder: Path) -> None:
    class Mapped(Dataset):
        dataset = Files(folder)

        def __init__(self, places: list[int]) -> None:
            self.places = places

        def __len__(self) -> int:
            return len(self.places)

        def __getitem__(self, index: int) -> Any:
            return self.dataset[self.places[index]]

    train = watch.check_training(Mapped.dataset).train.tolist()
    assert counts(watch.check_training(Mapped(train))) == (len(train), 0, 0)
    watch.close()


def test_places_come_as_numbers_or_as_a_mask(watch: Watch) -> None:
    places = watch.train_indices
    mask = np.zeros(239, bool)
    mask[places] = True
    for given in (
        list(places),
        set(places.tolist()),
        iter(places.tolist()),
        [torch.tensor(place) for place in places],
        places[:, None],
        np.where(mask),
        mask,
        torch.tensor(mask),
        mask.tolist(),
        SubsetRandomSampler(places.tolist()),
    ):
        assert counts(watch.check_training(given)) == (len(places), 0, 0)
    for mistake in (mask[1:], places.astype(float)):
        with pytest.raises(UserError) as error:
            watch.check_training(mistake)
        assert str(len(mistake)) in error.value.problem
    watch.close()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Return files of 240 smooth pictures in colour."""
    draws = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{index:03d}.png" for index in range(240)]
    for path in paths:
        coarse = Image.fromarray(draws.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        coarse.resize((16, 16), Image.Resampling.BICUBIC).save(path)
    return paths


def test_augmented_images_are_found_and_others_are_not(tmp_path: Path, photos: list[Path]) -> None:
    watch = opened(tmp_path / "run", photos[0].parent)
    expected = counts(watch.check_training(photos))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    for change in (
        lambda image: image.flip(-1),
        lambda image: image.flip(-1) if torch.rand(1) < 0.5 else image,
        lambda image: (image / 255 - mean) / deviation,
        lambda image: (image / 127.5 - 1).half(),
        lambda image: (image * 0.7 + 40 + 3 * torch.randn(image.shape)).clamp(0, 255).byte(),
        lambda image: image.float().mean(0, keepdim=True),
        lambda image: nn.functional.interpolate(image[None].float(), size=32, mode="bilinear")[0],
        lambda image: nn.functional.avg_pool2d(image.float(), 2),
    ):
        assert counts(watch.check_training(Hidden(photos, change))) == expected
    cut = watch.check_training(Hidden(photos, lambda image: image[:, 3:13, 3:13]))
    assert counts(cut)[2] > 200
    assert not cut.is_clean
    draws = np.random.default_rng(2)
    others = np.stack([np.kron(draws.integers(0, 256, (3, 4, 4)), np.ones((4, 4))) for _ in range(300)])
    assert counts(watch.check_training(others.astype(np.uint8))) == (0, 0, 300)
    watch.close()


def test_batches_and_streams_are_images(tmp_path: Path, photos: list[Path]) -> None:
    watch = opened(tmp_path / "run", photos[0].parent)
    items = Hidden(photos)
    images = torch.stack([items[index] for index in range(240)])
    expected = counts(watch.check_training(photos))
    for given in (
        list(images.split(16)),
        [(part, torch.zeros(len(part))) for part in images.split(16)],
        ({"image": part, "label": torch.zeros(len(part))} for part in images.split(16)),
        (images, torch.zeros(240)),
        {"image": images},
    ):
        assert counts(watch.check_training(given)) == expected
    twice = counts(watch.check_training(DataLoader(Stream(items), batch_size=16)))
    assert twice == (2 * expected[0], 2 * expected[1], 0)
    watch.close()


def test_paths_are_understood_from_wherever_they_are_written(
    watch: Watch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    first = watch.train_names[0]
    os.symlink(folder, folder.parent / "link")
    for path in (first, f"pets/{first}", f"link/{first}", str(folder / first), folder / first):
        assert len(watch.check_training([path]).train) == 1, path
    assert len(watch.check_training(["pets/no.png", "cat/0.png", "cat/notes.txt"]).unknown) == 3
    watch.close()


def test_images_are_found_by_their_content(tmp_path: Path, folder: Path) -> None:
    shutil.make_archive(str(tmp_path / "pets"), "zip", folder)
    watch = opened(tmp_path / "zipped", tmp_path / "pets.zip")
    (folder / "cat" / "0.png").unlink()
    files = Files(folder)
    by_name = watch.check_training([str(Path(path).relative_to(folder)) for path, _ in files.samples])
    assert len(by_name.unknown) == 0
    for given in (files, torch.stack([image * 2 - 1 for image, _ in files])):
        found = watch.check_training(given)
        assert found.how == "content"
        assert found.held_out.tolist() == by_name.held_out.tolist()
    with pytest.raises(UserError):
        _ = watch.train_paths
    assert len(watch.train_names) == len(watch.train_indices)
    watch.close()


def test_images_that_were_resized_are_found_by_their_content(tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    (tmp_path / "photos" / "all").mkdir(parents=True)
    for index in range(240):
        coarse = Image.fromarray(draws.integers(0, 256, (5, 6)).astype(np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "photos" / "all" / f"{index:03d}.png")
    watch = opened(tmp_path / "run", tmp_path / "photos")
    files = Files(tmp_path / "photos")
    by_path = watch.check_training(files)
    resized = torch.stack([image for image, _ in Files(tmp_path / "photos", side=24)])
    found = watch.check_training(resized)
    assert found.how == "content"
    assert len(found.unknown) <= 5
    assert set(found.held_out) <= set(by_path.held_out)
    assert len(watch.check_training(1 - resized).unknown) == 240, "another picture is another picture"
    watch.close()


def test_of_an_array_there_are_places_and_no_paths(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", TensorDataset(torch.as_tensor(real)))
    train = watch.train_indices
    assert len(watch.check_training(train).train) == len(train)
    assert len(watch.check_training(real).held_out) == len(real) - len(train)
    assert watch.check_training(range(len(real))).held_out.tolist() == sorted(set(range(600)) - set(train.tolist()))
    assert len(watch.check_training([-1, 600]).unknown) == 2
    assert len(watch.check_training(np.zeros((5, 1, 8, 8), np.uint8)).unknown) == 5
    for call in (lambda: watch.train_paths, lambda: watch.train_names, lambda: watch.check_training(["a.png"])):
        with pytest.raises(UserError):
            call()
    watch.step(10)
    watch.evaluate(Shifted())
    watch.close()


def test_without_real_images_nothing_can_be_checked(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", say=None)
    for call in (lambda: watch.train_paths, lambda: watch.train_names, lambda: watch.check_training([1])):
        with pytest.raises(UserError):
            call()
    watch.close()
