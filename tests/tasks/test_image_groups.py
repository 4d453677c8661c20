"""Groups of images that are alike: how they are found and kept, and what a run makes of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from trainings import TrainSmall, assert_the_same, copy_at_first_checkpoint, events, final_tensors

import equipoise as eq
from equipoise.data.cache import default_cache
from equipoise.data.pool import Pool
from equipoise.errors import Setting, UserError
from equipoise.recipe import Networks, Recipe, with_settings
from equipoise.sizes import size_of
from equipoise.storage.records import DataRecord
from equipoise.tasks import image_groups
from equipoise.tasks.image_groups import (
    Groups,
    classes_of,
    counts_of,
    grouped,
    groups_of_run,
    nearest_centre,
    read,
    shares_of,
    spherical_k_means,
    unit,
)
from equipoise.tasks.image_model import ImageModel, known_classes, names_of_groups

CPU = torch.device("cpu")
NUM = 4


def nothing(text: str, share: float) -> None:
    """Show nothing."""


def bars(images: Tensor) -> Tensor:
    """Return features that tell bars that lie from bars that stand, and where they are."""
    return torch.cat([images.mean(2), images.mean(3)], 2)[:, 0].double()


def forget() -> None:
    """Empty the cache of groups, which the tests of this process share."""
    for path in default_cache().glob("groups-*"):
        path.unlink()


@pytest.fixture
def formed(small: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let rows and columns take the place of EfficientNet's features; the list grows whenever groups are formed."""
    calls: list[int] = []
    real = grouped
    forget()

    def with_bars(
        pool: Pool, shares: tuple[int, ...], extract: image_groups.Extract, stage: image_groups.Stage
    ) -> np.ndarray:
        calls.append(sum(shares))
        return real(pool, shares, bars, stage)

    monkeypatch.setattr(image_groups, "grouped", with_bars)
    return calls


# Forming them


def test_k_means_finds_bundles_of_directions_whatever_their_sizes() -> None:
    generator = torch.Generator().manual_seed(3)
    axes = torch.eye(6, dtype=torch.float64)[:3]
    sizes = (10, 40, 150)
    bundle = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    seen = unit(axes[bundle] + 0.1 * torch.randn(sum(sizes), 6, generator=generator, dtype=torch.float64))
    centres = spherical_k_means(seen, 3)
    found = nearest_centre(seen, centres)
    assert torch.allclose(centres.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert [len(found[bundle == place].unique()) for place in range(3)] == [1, 1, 1]
    assert len(found.unique()) == 3
    assert torch.equal(centres, spherical_k_means(seen, 3)), "they must not depend on chance"


def test_a_centre_that_has_lost_all_its_features_moves_to_the_one_worst_served() -> None:
    seen = unit(torch.tensor([[1.0, 0.0], [1.0, 0.01], [1.0, 0.02], [0.0, 1.0]], dtype=torch.float64))
    same = seen[[0, 0, 0, 0, 3]]
    for points in (seen, same):
        found = nearest_centre(points, spherical_k_means(points, 2))
        assert found[-1] not in found[:-1]
        assert len(found[:-1].unique()) == 1


def test_every_image_of_a_pool_is_in_the_group_of_those_that_look_alike(pool: Pool) -> None:
    groups = grouped(
        pool, (2,), lambda images: torch.cat([images.mean(3).var(2), images.mean(2).var(2)], 1).double(), nothing
    )
    assert pool.labels is not None
    agreement = (groups == pool.labels).mean()
    assert max(agreement, 1 - agreement) > 0.9, "lying and standing bars are the two kinds there are"
    assert groups.shape == (len(pool.images),)


def test_held_out_images_do_not_decide_what_the_groups_are(pool: Pool) -> None:
    held_out = np.concatenate([pool.splits.validation, pool.splits.test])
    changed = pool.images.copy()
    changed[held_out] = 255 - changed[held_out]
    train = pool.splits.train
    assert np.array_equal(
        grouped(pool, (NUM,), bars, nothing)[train],
        grouped(replace(pool, images=changed), (NUM,), bars, nothing)[train],
    )


def test_progress_is_told_of_all_images(pool: Pool) -> None:
    told: list[float] = []
    grouped(pool, (NUM,), bars, lambda _, share: told.append(share))
    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] < 1


# Within classes


def test_each_class_has_groups_of_its_own_by_its_training_images_and_one_at_least(pool: Pool) -> None:
    assert pool.labels is not None
    train = pool.splits.train
    few = np.flatnonzero(pool.labels[train] == 0)[:15]
    many = np.flatnonzero(pool.labels[train] == 1)[:85]
    splits = replace(pool.splits, train=train[np.concatenate([few, many])])
    assert shares_of(replace(pool, splits=splits), 10) == (1, 8), "two of the few would have 7 images each"
    assert shares_of(replace(pool, splits=splits), 2) == (1, 2)
    splits = replace(pool.splits, train=train[many])
    assert shares_of(replace(pool, splits=splits), 4) == (1, 4), "held-out images may be of a class without others"


def test_no_group_within_classes_holds_images_of_two_classes_in_whatever_split(pool: Pool) -> None:
    assert pool.labels is not None
    groups = grouped(pool, (2, 3), bars, nothing)
    assert set(groups[pool.labels == 0].tolist()) == {0, 1}
    assert set(groups[pool.labels == 1].tolist()) == {2, 3, 4}
    assert classes_of((2, 3)) == (0, 0, 1, 1, 1)
    none = replace(pool, splits=replace(pool.splits, train=pool.splits.train[pool.labels[pool.splits.train] == 1]))
    assert set(grouped(none, (1, 2), bars, nothing)[pool.labels == 0].tolist()) == {0}


def test_groups_within_classes_that_are_not_those_of_the_labels_are_not_believed(pool: Pool, tmp_path: Path) -> None:
    assert pool.labels is not None
    groups = grouped(pool, (2, 3), bars, nothing)
    path = tmp_path / "groups.safetensors"
    path.write_bytes(Groups(counts_of(pool, groups, 5), (0, 0, 1, 1, 1), pool.hashes, groups).packed())
    found = read(path, pool, 5, (0, 0, 1, 1, 1))
    assert found is not None
    assert found.classes == (0, 0, 1, 1, 1)
    assert read(path, pool, 4, (0, 0, 1, 1)) is None
    other = pool.labels.copy()
    other[pool.splits.test[0]] = 1 - other[pool.splits.test[0]]
    assert read(path, replace(pool, labels=other), 5, (0, 0, 1, 1, 1)) is None


def test_the_same_picture_in_two_classes_is_in_a_group_of_each(pool: Pool, tmp_path: Path) -> None:
    assert pool.labels is not None
    hashes = pool.hashes.copy()
    images = pool.images.copy()
    train = pool.splits.train
    one, other = (train[pool.labels[train] == place][0] for place in (0, 1))
    images[other], hashes[other] = images[one], hashes[one]
    twice = replace(pool, images=images, hashes=hashes)
    groups = grouped(twice, (2, 3), bars, nothing)
    path = tmp_path / "groups.safetensors"
    path.write_bytes(Groups(counts_of(twice, groups, 5), (0, 0, 1, 1, 1), hashes, groups).packed())
    found = read(path, twice, 5, (0, 0, 1, 1, 1))
    assert found is not None
    assert found.groups is not None
    assert np.array_equal(found.groups, groups)


def test_a_class_of_held_out_images_alone_can_be_asked_for_as_without_groups() -> None:
    told: list[Tensor] = []

    class Telling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            told.append(labels)
            return latents.new_zeros(len(latents), 1, 8, 8)

    networks = Networks(conditional=True, groups=3)
    model = ImageModel(networks, size_of(8), 1, ("cat", "dog"), (0, 30, 10), group_classes=(0, 1, 1))
    assert len(torch.cat(list(model.samples(Telling(), 5, 0, "cat")))) == 5
    assert torch.cat(told).tolist() == [0] * 5


# Keeping them


def kept(pool: Pool, folder: Path) -> tuple[Groups, DataRecord, Path]:
    """Return groups of a pool, the record of a run that has them, and their file."""
    groups = grouped(pool, (NUM,), bars, nothing)
    found = Groups(counts_of(pool, groups, NUM), (), pool.hashes, groups)
    path = folder / "groups.safetensors"
    path.write_bytes(found.packed())
    sizes = (len(pool.splits.train), len(pool.splits.validation), len(pool.splits.test))
    record = DataRecord(
        source="",
        digest=pool.digest,
        num_train=sizes[0],
        num_validation=sizes[1],
        num_test=sizes[2],
        group_counts=found.counts,
    )
    return found, record, path


def test_the_groups_of_a_run_are_those_of_its_file_in_whatever_order_the_images_come(
    pool: Pool, tmp_path: Path
) -> None:
    found, record, path = kept(pool, tmp_path)
    assert found.groups is not None
    assert sum(found.counts) == len(pool.splits.train)
    order = np.random.default_rng(0).permutation(len(pool.images))
    place = np.argsort(order)
    splits = replace(
        pool.splits,
        train=place[pool.splits.train],
        validation=place[pool.splits.validation],
        test=place[pool.splits.test],
    )
    again = groups_of_run(
        replace(pool, images=pool.images[order], hashes=pool.hashes[order], splits=splits), record, path
    )
    assert again is not None
    assert again.groups is not None
    assert np.array_equal(again.groups, found.groups[order])


def test_groups_that_are_damaged_or_of_other_images_are_not_believed(pool: Pool, tmp_path: Path) -> None:
    _, record, path = kept(pool, tmp_path)
    whole = path.read_bytes()
    for data in (b"", whole[:-1], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        path.write_bytes(data)
        assert groups_of_run(pool, record, path) is None
    path.write_bytes(whole)
    assert groups_of_run(replace(pool, hashes=pool.hashes + np.uint64(1)), record, path) is None
    path.unlink()
    assert groups_of_run(pool, record, path) is None


def test_of_other_images_only_the_frequencies_of_the_groups_are_known(pool: Pool, tmp_path: Path) -> None:
    found, record, path = kept(pool, tmp_path)
    other = groups_of_run(replace(pool, digest="other"), record, path)
    assert other is not None
    assert other.counts == found.counts
    assert other.groups is None


# A run


def test_a_run_draws_its_groups_as_often_as_they_train_it_and_one_by_name(
    formed: list[int], train_small: TrainSmall
) -> None:
    run = train_small("run", f"networks.groups={NUM}", budget="320")
    data = run.folder.data()
    assert sum(data.group_counts) == data.num_train
    assert len(data.group_counts) == NUM
    model = run.best.model
    assert isinstance(model, ImageModel)
    assert model.classes == names_of_groups(NUM)
    assert model.counts == data.group_counts
    one = run.best.sample(4, label="group-1")
    assert not torch.equal(one, run.best.sample(4, label="group-2"))
    with pytest.raises(UserError) as error:
        run.best.sample(4, label="lying")
    assert "group-1" in error.value.problem


@pytest.fixture
def whole(formed: list[int], train_small: TrainSmall) -> eq.Run:
    """Return a run with groups; beside it lies another one, `cut`, that was killed at its first checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        return train_small("whole", f"networks.groups={NUM}")


def test_a_run_with_groups_that_was_killed_is_resumed_to_the_same_end(
    formed: list[int], whole: eq.Run, tmp_path: Path
) -> None:
    forget()
    assert_the_same(whole, eq.resume(tmp_path / "cut"))
    assert formed == [NUM], "the groups of the run are in its folder"


def test_groups_that_a_run_has_lost_are_formed_anew_and_told_where_they_are_others(
    whole: eq.Run, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "cut", tmp_path / "other")
    for name in ("cut", "other"):
        (tmp_path / name / "groups.safetensors").unlink()
    assert_the_same(whole, eq.resume(tmp_path / "cut"))
    record = json.loads((tmp_path / "other" / "data.json").read_text())
    record["group_counts"] = [1] * NUM
    (tmp_path / "other" / "data.json").write_text(json.dumps(record))
    other = eq.resume(tmp_path / "other")
    assert [event for event in events(other, "environment changed") if "groups.safetensors" in event["message"]]
    assert other.folder.data().group_counts == whole.folder.data().group_counts


def test_the_same_images_are_grouped_once(formed: list[int], train_small: TrainSmall) -> None:
    first = train_small("first", f"networks.groups={NUM}", budget="160")
    second = train_small("second", f"networks.groups={NUM}", budget="160")
    assert formed == [NUM]
    assert first.folder.groups.read_bytes() == second.folder.groups.read_bytes()


@pytest.mark.parametrize("conditional", ["true", "false"])
def test_a_run_with_groups_is_scored_against_other_images(
    formed: list[int], train_small: TrainSmall, shapes: Path, tmp_path: Path, conditional: str
) -> None:
    run = train_small("run", f"networks.groups={NUM}", f"networks.conditional={conditional}", budget="160")
    others = tmp_path / "others"
    others.mkdir()
    for path in sorted((shapes / "lying").iterdir())[:60]:
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(others / path.name)
    found = eq.evaluate(run.path, others)
    assert found.measured.num
    assert formed == [NUM], "the other images need no groups"


def test_a_run_from_the_weights_of_another_one_keeps_its_groups_where_the_images_are_the_same_alone(
    formed: list[int], train_small: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    first = train_small("first", f"networks.groups={NUM}", budget="160")
    fewer = tmp_path / "fewer"
    shutil.copytree(shapes, fewer)
    for path in sorted((fewer / "lying").iterdir())[:40]:
        path.unlink()
    old = final_tensors(first)
    group = "generator.inputs.embedding.weight"
    layer = "generator.layers.0.weight"
    for source, is_same in ((shapes, True), (fewer, False)):
        run = eq.train(source, start_from=first.path, out=tmp_path / f"second-{is_same}", budget="160")
        begun = load_file(run.folder.start / "tensors.safetensors")
        assert torch.equal(begun[layer], old[layer])
        assert torch.equal(begun[group], old[group]) is is_same


def test_a_run_told_classes_in_groups_draws_a_class_by_name_from_its_groups_and_resumes(
    formed: list[int], train_small: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        run = train_small("run", f"networks.groups={NUM}", "networks.conditional=true")
    data = run.folder.data()
    assert len(data.group_counts) == NUM
    assert data.group_classes == (0, 0, 1, 1)
    model = run.best.model
    assert isinstance(model, ImageModel)
    assert model.classes == data.classes == ("lying", "standing")
    assert model.num_told == NUM
    assert run.best.generator.state_dict()["inputs.embedding.weight"].shape[0] == NUM
    told: list[Tensor] = []
    with torch.no_grad():
        run.best.generator.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
        run.best.sample(200, label="standing")
    drawn = torch.bincount(torch.cat(told), minlength=NUM).double()
    assert drawn[:2].sum() == 0
    counts = torch.tensor(data.group_counts[2:], dtype=torch.float64)
    assert (drawn[2:] / 200 - counts / counts.sum()).abs().max() < 0.15
    for label, problem in (("group-1", "knows lying, standing"), ("lying, standing", "one class a picture")):
        with pytest.raises(UserError) as error:
            run.best.sample(4, label=label)
        assert problem in error.value.problem
    assert_the_same(run, eq.resume(tmp_path / "cut"))
    assert formed == [NUM]
    second = eq.train(shapes, start_from=run.path, out=tmp_path / "second", budget="160")
    begun = load_file(second.folder.start / "tensors.safetensors")
    assert torch.equal(
        begun["generator.inputs.embedding.weight"], final_tensors(run)["generator.inputs.embedding.weight"]
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["networks.groups=4"], ["networks.conditional=true", "networks.groups=4"]),
        (["networks.conditional=true", "networks.groups=4"], ["networks.conditional=false"]),
        (["networks.conditional=true"], ["networks.conditional=true", "networks.groups=4"]),
        (["networks.conditional=true"], ["networks.conditional=false", "networks.groups=2"]),
        (["networks.conditional=true", "networks.groups=4"], ["networks.groups=8"]),
        (["networks.conditional=true", "networks.groups=4"], ["networks.conditional=true"]),
    ],
)
def test_what_a_group_has_learned_is_not_taken_for_another_group_or_a_class(
    formed: list[int], train_small: TrainSmall, shapes: Path, tmp_path: Path, before: list[str], now: list[str]
) -> None:
    first = train_small("first", *before, budget="160")
    run = eq.train(shapes, start_from=first.path, out=tmp_path / "second", budget="160", settings=now)
    old = final_tensors(first)
    begun = load_file(run.folder.start / "tensors.safetensors")
    assert torch.equal(begun["generator.layers.0.weight"], old["generator.layers.0.weight"])
    name = "generator.inputs.embedding.weight"
    assert not (begun[name][:, None] == old[name]).all(2).any()


# What is refused


def test_groups_beside_packs_or_too_few_images_are_refused_with_what_to_type(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    for settings, remedy in (
        (["networks.groups=4", "game.packing=2"], Setting("game.packing", 1)),
        (["networks.groups=1"], Setting("networks.groups", 20)),
    ):
        with pytest.raises(UserError) as error:
            with_settings(Recipe(), settings)
        assert remedy in error.value.remedies
    with pytest.raises(UserError) as error:
        train_small("run", "networks.groups=100")
    assert error.value.subject == Setting("networks.groups", 100)
    assert Setting("networks.groups", 0) in error.value.remedies
    assert not (tmp_path / "run").exists()


def test_networks_are_told_a_group_a_class_or_nothing() -> None:
    classes = ("cat", "dog")
    assert known_classes(Networks(), classes) == ()
    assert known_classes(Networks(conditional=True), classes) == classes
    assert known_classes(Networks(groups=2), classes) == ("group-1", "group-2")
    assert known_classes(Networks(conditional=True, groups=2), classes) == classes
    assert names_of_groups(12)[8:] == ("group-09", "group-10", "group-11", "group-12")
