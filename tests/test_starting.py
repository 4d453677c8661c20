"""A training that starts from another run's weights, and a resume whose data have changed."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_task import own_task
from PIL import Image
from small import FOR_PHOTOS, SETTLED
from trainings import TrainSmall, assert_the_same, copy_at_first_checkpoint, final_tensors, nothing, raising, scores

import equipoise as eq
from equipoise import api, state, tasks
from equipoise.cli import main
from equipoise.data import changes
from equipoise.data.splits import split
from equipoise.errors import Command, Option, Setting, UserError
from equipoise.runs.folder import RunFolder
from equipoise.runs.start_rules import refuse_another_start
from equipoise.starting import MODULES, read_start

NUM_ADDED = 20


def add_images(folder: Path, num: int = NUM_ADDED) -> None:
    """Add images to the classes of a folder."""
    generator = np.random.default_rng(5)
    for index in range(num):
        pixels = generator.integers(0, 255, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / ("lying" if index % 2 else "standing") / f"added-{index}.png")


@pytest.fixture
def photos(shapes: Path, tmp_path: Path) -> Path:
    """Return a copy of the shapes that a test may change."""
    return Path(shutil.copytree(shapes, tmp_path / "photos"))


@pytest.fixture
def begun(train_once: TrainSmall, shapes: Path, photos: Path, tmp_path: Path) -> eq.Run:
    """Return a short run on the photos, which a test may change: a copy of one on the shapes, which are the same."""
    path = Path(shutil.copytree(train_once("first", source=shapes, budget="320").path, tmp_path / "first"))
    for name in ("recipe.json", "data.json"):
        (path / name).write_text((path / name).read_text().replace(str(shapes), str(photos)))
    return eq.load(path)


def commands(error: UserError) -> list[Command]:
    return [part for part in error.remedies if isinstance(part, Command)]


def counts(error: UserError) -> list[int]:
    """Return the numbers of examples in a problem: new, gone, changed, the same."""
    return [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", error.problem)]


def trained_by(run: eq.Run) -> np.ndarray:
    """Return the contents that have trained a run's weights, all of them under its own settings."""
    trained = read_start(run.path).trained
    assert trained is not None
    (own,) = trained
    return own.contents


def changed_by(run: eq.Run) -> UserError:
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="1600")
    return caught.value


def test_an_evaluation_leaves_out_what_trained_the_weights_that_a_run_started_from(
    begun: eq.Run, shapes: Path, photos: Path, tmp_path: Path
) -> None:
    for path in sorted((photos / "lying").iterdir())[:80]:
        path.unlink()
    run = eq.train(photos, start_from=begun.path, out=tmp_path / "second", budget="160")
    data = begun.folder.data()
    found = eq.evaluate(run.path, shapes, num=50)
    held_out = found.protocol["num_real"]
    assert found.protocol["real"]["seen_by_the_run"] + held_out == 240
    assert found.protocol["real"]["seen_by_the_run"] >= data.num_train, "those that are gone, too"
    assert held_out <= data.num_validation + data.num_test


# What changed


def test_images_that_were_added_are_counted_and_the_command_that_is_offered_trains_with_them(
    begun: eq.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_images(photos)
    error = changed_by(begun)
    assert counts(error) == [NUM_ADDED, 0, 0, 240]
    assert error.subject == str(photos)
    (offered,) = commands(error)
    assert offered == Command("train", str(photos), start_from=begun.path)
    words = shlex.split(error.told(in_shell=True).partition("equipoise ")[2])
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    (made,) = (tmp_path / "runs").iterdir()
    data = eq.load(made).folder.read_data()
    assert data is not None
    assert data.num_train + data.num_validation + data.num_test == 240 + NUM_ADDED
    assert data.start is not None
    assert data.start.path == str(begun.path)


def test_other_images_in_the_place_of_all_of_them_are_told_in_two_numbers(begun: eq.Run, photos: Path) -> None:
    for path in photos.rglob("*.png"):
        Image.open(path).resize((12, 12)).save(path)
    error = changed_by(begun)
    assert counts(error) == [240, 240], "none of so many, and how many there are"


def test_what_is_gone_and_what_was_changed_is_told_apart(begun: eq.Run, photos: Path) -> None:
    paths = sorted((photos / "lying").iterdir())
    for path in paths[:3]:
        path.unlink()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(paths[5])
    error = changed_by(begun)
    assert counts(error) == [0, 3, 1, 236]
    resumed = [dict(command.options) for command in commands(error) if command.name == "resume"]
    assert {"source": "PATH", "budget": "1600"} in resumed


def rename_one(photos: Path) -> None:
    """Give an image another name, with which it comes at another place."""
    first = min((photos / "lying").iterdir())
    first.rename(first.with_name("zzz.png"))


def continued(
    train_small: TrainSmall, tmp_path: Path, source: Path, rename: Callable[[], None], *settings: str, **options: Any
) -> None:
    """Assert that a run whose data got other names is continued to the end of the one that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        whole = train_small("whole", *settings, source=source, **options)
    before = tasks.opened(whole.recipe, torch.device("cpu"), nothing).digest
    rename()
    assert tasks.opened(whole.recipe, torch.device("cpu"), nothing).digest != before, "as the order is another one"
    resumed = eq.resume(tmp_path / "cut")
    assert_the_same(whole, resumed)
    assert len({score["protocol"]["data_digest"] for score in scores(resumed)}) == 1


def test_a_run_whose_images_were_only_renamed_is_continued_bit_for_bit(
    train_small: TrainSmall, photos: Path, tmp_path: Path
) -> None:
    def rename() -> None:
        rename_one(photos)
        (photos / "lying" / "zzz.png").rename(photos / "standing" / "moved.png")
        rename_one(photos)

    continued(train_small, tmp_path, photos, rename)


def test_a_run_on_points_of_a_file_is_continued_when_they_come_in_another_order(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    path = tmp_path / "points.csv"
    lines = [f"{x:.4f},{y:.4f}" for x, y in np.random.default_rng(0).normal(size=(300, 2))]
    path.write_text("\n".join(lines))

    def turn_round() -> None:
        path.write_text("\n".join(lines[::-1]))

    continued(train_small, tmp_path, path, turn_round, task="points")


def large(folder: Path, *names: str) -> Path:
    """Write the next photographs of one sequence, of 100 × 100 pixels, under these names into a folder."""
    folder.mkdir(exist_ok=True)
    num_before = len(list(folder.iterdir()))
    pixels = np.random.default_rng(0).integers(0, 255, (num_before + len(names), 100, 100, 3), dtype=np.uint8)
    for name, photograph in zip(names, pixels[num_before:], strict=True):
        Image.fromarray(photograph).save(folder / name)
    return folder


def test_a_run_on_photographs_is_continued_under_other_names(train_small: TrainSmall, tmp_path: Path) -> None:
    folder = large(tmp_path / "large", *(f"{index}.png" for index in range(60)))
    few = [*FOR_PHOTOS, "game.batch=2", "networks.width=4", "task.patch=24", "evaluation.every=4", "saving.every=4"]

    def rename() -> None:
        (folder / "0.png").rename(folder / "zzz.png")

    continued(train_small, tmp_path, folder, rename, *few, task="super-resolution", budget="8")


def test_images_that_were_renamed_are_neither_new_nor_gone_among_others(begun: eq.Run, photos: Path) -> None:
    rename_one(photos)
    add_images(photos, 2)
    assert counts(changed_by(begun)) == [2, 0, 0, 240]


def test_where_networks_know_classes_a_new_name_is_refused_as_it_may_be_another_class(
    train_small: TrainSmall, photos: Path
) -> None:
    run = train_small("classes", "networks.conditional=true", source=photos, budget="160")
    rename_one(photos)
    assert counts(changed_by(run)) == [1]


def test_the_same_images_split_otherwise_are_no_other_names(begun: eq.Run, photos: Path) -> None:
    path = begun.path / "recipe.json"
    path.write_text(path.read_text().replace('"validation": 0.1', '"validation": 0.3'))
    rename_one(photos)
    assert "data.validation" in changed_by(begun).problem


def test_a_run_does_not_meet_what_trained_the_weights_it_began_with(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for name in ("lying", "standing"):
        (other / name).mkdir(parents=True)
    add_images(other, 200)
    second = eq.train(other, start_from=begun.path, out=tmp_path / "second", settings=["game.batch=8"])
    trained = trained_by(begun)
    found = eq.evaluate(second.path, photos, num=50)
    assert found.protocol["real"]["seen_by_the_run"] == len(trained)
    assert found.protocol["num_real"] == 240 - len(trained)
    assert "seen" in [warning.kind for warning in found.warnings]


def test_train_with_resume_says_the_same(begun: eq.Run, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_images(photos)
    text = (begun.path / "state.json").read_text().replace('"finished"', '"stopped"')
    (begun.path / "state.json").write_text(text)
    assert main(["train", str(photos), "--out", str(begun.path), "--resume"]) == 2
    assert f"--start-from {begun.path}" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [None, b"", b"\x00" * 50, b'{"contents": 1}', b"\xff" * 8 + b"{}"])
def test_a_list_that_is_damaged_or_gone_costs_the_counts_only(
    begun: eq.Run, photos: Path, damage: bytes | None
) -> None:
    if damage is None:
        begun.folder.examples.unlink()
    else:
        begun.folder.examples.write_bytes(damage)
    add_images(photos)
    error = changed_by(begun)
    assert counts(error) == []
    assert Command("train", str(photos), start_from=begun.path) in commands(error)


@pytest.fixture
def lost(begun: eq.Run, photos: Path, tmp_path: Path) -> eq.Run:
    """Return a run that began with the weights of another one, and whose list of examples has one wrong bit."""
    for path in sorted((photos / "lying").iterdir())[:40]:
        path.unlink()
    run = eq.train(photos, start_from=begun.path, out=tmp_path / "second")
    flip_last_bit(run.folder.examples)
    return run


def flip_last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_list_is_told_of_and_written_anew_where_the_run_is_continued(
    begun: eq.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = begun.folder.examples.read_bytes()
    flip_last_bit(begun.folder.examples)
    assert main(["resume", str(begun.path), "--budget", "480"]) == 0
    assert str(begun.folder.examples) in capsys.readouterr().out
    assert begun.folder.examples.read_bytes() == before


def test_a_damaged_list_leaves_trained_images_in_training_by_the_shares_and_says_so(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    flip_last_bit(begun.folder.examples)
    assert begun.folder.examples.name in read_start(begun.path).told
    error = refused(photos, begun.path, settings=["data.validation=0.2"])
    assert Setting("data.validation", 0.1) in error.remedies
    second = eq.train(photos, start_from=begun.path, out=tmp_path / "second", budget="160")
    known = changes.read(second.folder.examples)
    assert known is not None
    assert known.seen is None, "not empty: images have trained these weights"


@pytest.mark.parametrize("is_resumed", [False, True])
def test_what_trained_the_runs_before_is_never_taken_for_unseen_once_the_list_is_lost(
    lost: eq.Run, photos: Path, shapes: Path, is_resumed: bool
) -> None:
    if is_resumed:
        eq.resume(lost.path, budget="480")
        known = changes.read(lost.folder.examples)
        assert known is not None
        assert len(known.contents) == 200
    assert read_start(lost.path).trained is None
    for source in (photos, shapes):
        error = refused(source, lost.path)
        assert error.subject == Option("start_from", lost.path)
        assert str(lost.folder.examples) in error.problem
    found = eq.evaluate(lost.path, shapes, num=50)
    assert found.protocol["real"]["seen_by_the_run"] == 0
    assert "not checked" in [warning.kind for warning in found.warnings]


def test_a_list_that_is_gone_from_a_started_run_is_told_of(lost: eq.Run, capsys: pytest.CaptureFixture[str]) -> None:
    lost.folder.examples.unlink()
    assert main(["resume", str(lost.path), "--budget", "480"]) == 0
    assert str(lost.folder.examples) in capsys.readouterr().out
    assert read_start(lost.path).trained is None


def test_a_start_that_is_killed_at_any_moment_leaves_no_run_without_its_list(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "second"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_recipe", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            eq.train(photos, start_from=begun.path, out=out)
    assert changes.read(RunFolder(out).examples) is not None
    assert not RunFolder.is_run(out)
    run = eq.train(photos, start_from=begun.path, out=out, budget="160")
    assert run.state.status == "finished"


def test_a_file_of_the_users_that_has_the_name_of_the_list_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_recipe", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            eq.train(photos, out=out, settings=SETTLED)
    (out / "examples.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError) as caught:
        eq.train(photos, out=out, settings=SETTLED)
    assert caught.value.subject == out
    assert (out / "examples.safetensors").read_bytes() == b"mine"


def test_a_run_of_an_earlier_version_remembers_its_examples_from_its_next_resume_on(begun: eq.Run) -> None:
    begun.folder.examples.unlink()
    eq.resume(begun.path, budget="480")
    known = changes.read(begun.folder.examples)
    assert known is not None
    assert len(known.contents) == 240


def test_another_source_is_none_of_this_run(begun: eq.Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    images = generator.integers(0, 255, (300, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "other.npz", images=images)
    with pytest.raises(UserError) as caught:
        eq.resume(begun.path, budget="1600", source=tmp_path / "other.npz")
    assert {240, 300} <= set(counts(caught.value))


def test_points_of_a_file_are_compared_by_content(train_small: TrainSmall, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    lines = [f"{x:.4f},{y:.4f}" for x, y in np.random.default_rng(0).normal(size=(300, 2))]
    path.write_text("\n".join(lines))
    run = train_small("points", source=path, task="points", budget="320")
    path.write_text("\n".join(["5,5", *lines[10:]]))
    error = changed_by(run)
    assert counts(error) == [1, 10, 0, 290]
    again = eq.train(path, start_from=run.path, out=tmp_path / "again")
    assert again.state.status == "finished"


# The weights


def test_a_run_begins_with_the_weights_of_the_other_one_and_with_fresh_optimizers(
    begun: eq.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_images(photos)
    seen: list[Any] = []
    real = state.begin_with

    def begin_with(now: Any, *arguments: Any, **options: Any) -> None:
        real(now, *arguments, **options)
        seen.append(({name: tensor.clone() for name, tensor in state.live_tensors(now).items()}, now.begun))

    monkeypatch.setattr(state, "begin_with", begin_with)
    run = eq.train(photos, start_from=begun.path, out=tmp_path / "second")
    before = final_tensors(begun)
    tensors, num = seen[0]
    assert num == 320
    assert {name.split(".")[0] for name in tensors} == set(MODULES)  # no optimizer has moments yet
    for name, tensor in tensors.items():
        assert torch.equal(tensor, before[name]), name
    assert run.recipe.networks == begun.recipe.networks
    assert run.recipe.budget == begun.recipe.budget
    assert run.state.samples == 320


def test_a_started_run_that_was_killed_is_resumed_to_the_same_end_without_the_other_one(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        whole = eq.train(photos, start_from=begun.path, out=tmp_path / "whole", budget="480")
    with pytest.MonkeyPatch.context() as patch:  # before any checkpoint, too
        patch.setattr(api, "run_training", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            eq.train(photos, start_from=begun.path, out=tmp_path / "early", budget="480")
    shutil.rmtree(begun.path)
    assert_the_same(whole, eq.resume(tmp_path / "cut"))
    assert_the_same(whole, eq.resume(tmp_path / "early"))


def test_a_resume_without_the_weights_that_it_began_with_is_refused(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "run_training", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            eq.train(photos, start_from=begun.path, out=tmp_path / "early")
    (tmp_path / "early" / "start" / "tensors.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError) as caught:
        eq.resume(tmp_path / "early")
    assert caught.value.subject == tmp_path / "early" / "start"


def test_images_that_have_trained_stay_training_images_while_the_shares_are_the_same(
    begun: eq.Run, photos: Path
) -> None:
    before = changes.read(begun.folder.examples)
    assert before is not None
    data = begun.recipe.data
    more = np.append(before.contents, np.random.default_rng(0).integers(0, 2**63, 500, dtype=np.uint64))
    old = split(before.contents, data.validation, data.test)
    new = split(more, data.validation, data.test)
    for name in ("train", "validation", "test"):
        assert set(before.contents[getattr(old, name)]) <= set(more[getattr(new, name)])


# What is refused


def refused(source: Path, start: Path, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        eq.train(source, start_from=start, out=start.parent / "refused", **options)
    assert not (start.parent / "refused").exists()
    return caught.value


@pytest.mark.parametrize(
    ("setting", "own"),
    [
        ("networks.width=32", Setting("networks.width", 16)),
        ("networks.latent_size=8", Setting("networks.latent_size", 4)),
        ("networks.spectral_norm=true", Setting("networks.spectral_norm", False)),
        ("game.packing=2", Setting("game.packing", 1)),
        ("networks.family=resnet", Setting("networks.family", "mlp")),
        ("networks.minibatch_deviation=true", Setting("networks.minibatch_deviation", False)),
    ],
)
def test_settings_that_the_weights_do_not_fit_are_named(
    begun: eq.Run, photos: Path, setting: str, own: Setting
) -> None:
    error = refused(photos, begun.path, settings=[setting])
    assert isinstance(error.subject, Setting)
    assert error.subject.field == own.field
    assert own in error.remedies


def test_shares_by_which_trained_images_would_be_held_out_are_refused_and_smaller_ones_are_not(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    for is_known in (True, False):
        if not is_known:
            begun.folder.examples.unlink()
        error = refused(photos, begun.path, settings=["data.validation=0.2"])
        assert Setting("data.validation", 0.1) in error.remedies
    run = eq.train(photos, start_from=begun.path, out=tmp_path / "less", settings=["data.validation=0.08"])
    assert run.state.status == "finished"


def test_images_that_trained_an_earlier_run_are_remembered_by_every_later_one(
    begun: eq.Run, photos: Path, tmp_path: Path
) -> None:
    trained = trained_by(begun)
    for path in sorted((photos / "lying").iterdir())[:40]:
        path.unlink()
    second = eq.train(photos, start_from=begun.path, out=tmp_path / "second")
    assert set(trained) <= set(trained_by(second))
    record = second.folder.read_data()
    assert record is not None
    assert record.start is not None
    assert read_start(second.path).record.seen == record.start.seen + 320


def test_a_recipe_beside_a_run_is_refused(begun: eq.Run, photos: Path) -> None:
    assert refused(photos, begun.path, recipe="dcgan").subject == Option("recipe", "dcgan")


def test_another_task_is_refused(begun: eq.Run, photos: Path) -> None:
    assert refused(photos, begun.path, task="points").subject == Option("task", "points")
    assert refused(Path("ring"), begun.path).subject == Option("task", "points")


def no_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def all_damaged(run: Path) -> None:
    for path in (run / "checkpoints").glob("*/tensors.safetensors"):
        path.write_bytes(b"damaged")


def diverged(run: Path) -> None:
    values = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps(values | {"stop_reason": "diverged"}))


def newer(run: Path) -> None:
    values = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps(values | {"format": 99}))


def custom_loop(run: Path) -> None:
    values = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps(values | {"name": "custom loop"}))


def no_run(run: Path) -> None:
    (run / "recipe.json").unlink()


def data_gone(run: Path) -> None:
    (run / "data.json").unlink()


@pytest.mark.parametrize("harm", [no_checkpoints, all_damaged, diverged, newer, custom_loop, no_run, data_gone])
def test_a_run_from_which_nothing_can_start_is_refused_in_one_line(
    begun: eq.Run, photos: Path, tmp_path: Path, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(begun.path)
    error = refused(photos, begun.path)
    assert error.remedies
    words = ["train", str(photos), "--start-from", str(begun.path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_run_that_was_started_from_is_found_from_every_folder(
    begun: eq.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(begun.path.parent)
    run = eq.train(photos, start_from=begun.path.name, out=tmp_path / "second", budget="160")
    record = run.folder.data().start
    assert record is not None
    assert record.path == str(begun.path.resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    refuse_another_start(run.folder, begun.path)
    with pytest.raises(UserError):
        refuse_another_start(run.folder, Path(begun.path.name))


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before_and_that_is_told(
    train_small: TrainSmall, photos: Path, tmp_path: Path
) -> None:
    run = train_small("first", source=photos)
    newest = max(path for path in run.folder.checkpoints.iterdir())
    (newest / "tensors.safetensors").write_bytes(b"damaged")
    again = eq.train(photos, start_from=run.path, out=tmp_path / "second", budget="160")
    data = again.folder.read_data()
    assert data is not None
    assert data.start is not None
    assert 0 < data.start.samples < int(newest.name)
    start = read_start(run.path)
    assert newest.name in start.told
    assert f"{data.start.samples:,}" in start.told
    (damage,) = start.damages
    events = [json.loads(line) for line in again.folder.events.read_text().splitlines()]
    assert damage in [event["message"] for event in events]


def test_a_task_from_python_starts_from_its_own_weights(small: None, tmp_path: Path) -> None:
    task = own_task(SETTLED)
    first = eq.train(task=task, out=tmp_path / "first", budget="160", settings=SETTLED)
    second = eq.train(task=task, start_from=first.path, out=tmp_path / "second")
    record = second.folder.read_data()
    assert record is not None
    assert record.start is not None
    assert record.start.samples == 160
    with pytest.raises(UserError):
        eq.train("spiral", start_from=first.path, out=tmp_path / "third")


# Where it is said


def test_status_and_report_say_where_a_run_came_from(
    begun: eq.Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "second"
    assert main(["train", str(photos), "--start-from", str(begun.path), "--out", str(out), "--budget", "160"]) == 0
    assert str(begun.path) in capsys.readouterr().out
    assert str(begun.path) in (out / "report.html").read_text()
    assert main(["status", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["start"]
    assert (found["path"], found["samples"]) == (str(begun.path), 320)
    again = ["train", str(photos), "--out", str(out), "--resume"]
    assert main([*again, "--start-from", str(begun.path)]) == 0
    assert main([*again, "--start-from", str(tmp_path / "another")]) == 2
    assert main(["train", str(photos), "--out", str(begun.path), "--resume", "--start-from", str(out)]) == 2


def test_settings_that_leave_the_networks_as_they_are_may_be_others(
    photos: Path, begun: eq.Run, tmp_path: Path
) -> None:
    settings = ["game.generator.rate=0.0001", "task.flip=true"]
    run = eq.train(photos, start_from=begun.path, out=tmp_path / "second", settings=settings, budget="160", seed=7)
    assert run.recipe.game.generator.rate == 0.0001
    assert run.recipe.seed == 7


@pytest.mark.slow
def test_photographs_that_were_added_are_counted_and_trained_with(train_small: TrainSmall, tmp_path: Path) -> None:
    folder = large(tmp_path / "large", *(f"{index}.png" for index in range(60)))
    few = ("game.batch=2", "networks.width=4", "task.patch=24", "evaluation.every=4")
    settings = [*FOR_PHOTOS, *few]
    run = train_small("photos", *settings, source=folder, task="super-resolution", budget="8")
    large(folder, "new.png")
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="16")
    assert counts(caught.value) == [1, 0, 0, 60]
    assert eq.train(folder, start_from=run.path, out=tmp_path / "second").state.status == "finished"
    with pytest.raises(UserError) as caught:
        eq.train(folder, start_from=run.path, out=tmp_path / "third", settings=["task.scale=2"])
    assert caught.value.subject == Setting("task.scale", 2)
