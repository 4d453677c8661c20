"""A training that starts from a run with other networks: of another size, other channels, other classes; and frozen."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_task import own_task
from small import SETTLED
from torch import Tensor
from trainings import (
    CONVOLUTIONS,
    TrainSmall,
    assert_the_same,
    copy_at_first_checkpoint,
    final_tensors,
    nothing,
    raising,
    task_of,
)

import equipoise as eq
from equipoise import api, state, tasks
from equipoise.cli import main
from equipoise.data import changes
from equipoise.errors import Option, Setting, UserError
from equipoise.recipe import Images, with_settings
from equipoise.repair import renew_discriminator
from equipoise.starting import fitted, read_start
from equipoise.storage import checkpoints
from equipoise.storage.records import StartRecord

RESIDUAL = ("networks.family=resnet", "networks.width=4", "networks.generator_norm=batch")


def drawn(path: Path, size: int = 16, channels: int = 1, seed: int = 1, classes: Sequence[str] = ()) -> Path:
    """Write 240 images of noise that no other source has, of some classes or of none."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 255, (240, size, size, channels), dtype=np.uint8)
    if classes:
        np.savez(path, images=images, labels=np.array(classes)[np.arange(240) % len(classes)])
    else:
        np.savez(path, images=images)
    return path


@pytest.fixture
def begun(train_once: TrainSmall, shapes: Path) -> eq.Run:
    """Return a short run of convolutions on grey 8×8 images, which tests must not change."""
    return train_once("first", *CONVOLUTIONS, source=shapes, budget="320")


def copied(run: eq.Run, path: Path) -> eq.Run:
    """Return a copy of a run that a test may change."""
    return eq.load(Path(shutil.copytree(run.path, path)))


def began_with(run: eq.Run) -> dict[str, Tensor]:
    return checkpoints.load_tensors(run.folder.path / "start" / "tensors.safetensors")


def fresh_weights(run: eq.Run) -> dict[str, Tensor]:
    """Return the weights that a run of this recipe begins with where it starts from no other one."""
    found = state.start(task_of(run.recipe), run.recipe)
    return {name: tensor for name, tensor in state.live_tensors(found).items() if not name.startswith("update.")}


def start_of(run: eq.Run) -> StartRecord:
    start = run.folder.data().start
    assert start is not None
    return start


def refused(source: Path, start: Path, *settings: str, **options: Any) -> UserError:
    out = source.parent / "refused"
    with pytest.raises(UserError) as caught:
        eq.train(source, start_from=start, out=out, settings=settings, **options)
    assert not out.exists()
    return caught.value


# What fits


def test_a_run_of_twice_the_size_begins_with_what_fits_and_says_how_much_that_is(
    begun: eq.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "second"
    words = ["train", str(drawn(tmp_path / "other.npz")), "--start-from", str(begun.path), "--set", "task.size=16"]
    assert main([*words, "--out", str(out), "--budget", "160"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    run = eq.load(out)
    start = start_of(run)
    assert "task.size 8 → 16" in shown
    assert f"{int(100 * start.generator)} %" in shown
    assert f"{int(100 * start.discriminator)} %" in shown
    assert main(["status", str(out)]) == 0
    assert f"{int(100 * start.generator)} %" in " ".join(capsys.readouterr().out.split())
    before = final_tensors(begun)
    fresh = fresh_weights(run)
    tensors = began_with(run)
    assert tensors.keys() == fresh.keys()
    last = {"upwards.1.weight": "upwards.0.weight", "upwards.1.bias": "upwards.0.bias"}
    taken = {
        **{
            f"{player}.{new}": f"{player}.{old}"
            for player in ("generator", "generator_ema")
            for new, old in last.items()
        },
        **{name: name for name in fresh if name.startswith("discriminator.downwards.0.")},
    }
    for name, tensor in tensors.items():
        expected = before[taken[name]] if name in taken else fresh[name]
        assert torch.equal(tensor, expected), name
    assert start.generator == pytest.approx(_share(run, taken, "generator."))
    assert start.discriminator == pytest.approx(_share(run, taken, "discriminator."))


def _share(run: eq.Run, taken: dict[str, str], player: str) -> float:
    players = task_of(run.recipe).players()
    network = players.generator if player == "generator." else players.discriminator
    sizes = {f"{player}{name}": weight.numel() for name, weight in network.named_parameters()}
    return sum(num for name, num in sizes.items() if name in taken) / sum(sizes.values())


def test_a_grey_run_is_gone_on_from_in_colour(begun: eq.Run, tmp_path: Path) -> None:
    source = drawn(tmp_path / "other.npz", size=8, channels=3)
    run = eq.train(
        source,
        start_from=begun.path,
        out=tmp_path / "second",
        settings=["task.channels=3", "evaluation.features=encoder"],
        budget="160",
    )
    assert run.best.sample(2).shape == (2, 3, 8, 8)
    tensors = began_with(run)
    before = final_tensors(begun)
    assert torch.equal(tensors["generator.project.0.weight"], before["generator.project.0.weight"])
    assert torch.equal(tensors["discriminator.head.linear.weight"], before["discriminator.head.linear.weight"])
    assert start_of(run).generator < 1


def test_where_nothing_of_the_generator_fits_the_settings_by_which_it_differs_are_named(
    begun: eq.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = drawn(tmp_path / "other.npz", channels=3)
    error = refused(source, begun.path, "task.size=16", "task.channels=3")
    assert "task.size=8" in error.told(in_shell=True)
    assert "task.channels=1" in error.told(in_shell=True)
    words = ["train", str(source), "--start-from", str(begun.path), "--set=task.size=16", "--set=task.channels=3"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_only_what_changes_the_common_layers_is_named_beside_another_size(begun: eq.Run, tmp_path: Path) -> None:
    error = refused(drawn(tmp_path / "other.npz"), begun.path, "task.size=16", "networks.width=8")
    assert error.subject == Setting("networks.width", 8)
    assert error.remedies[-1] == Setting("networks.width", 4)


def test_dropout_is_no_reason_to_refuse_another_size(begun: eq.Run, tmp_path: Path) -> None:
    source = drawn(tmp_path / "other.npz")
    settings = ["task.size=16", "networks.dropout=0.2"]
    run = eq.train(source, start_from=begun.path, out=tmp_path / "second", settings=settings, budget="160")
    assert run.state.status == "finished"


def test_classes_of_the_same_name_keep_their_rows(train_once: TrainSmall, shapes: Path, tmp_path: Path) -> None:
    run = train_once("classes", *RESIDUAL, "networks.conditional=true", source=shapes, budget="160")
    source = drawn(tmp_path / "other.npz", size=8, classes=["a-new-one", "standing", "zigzag"])
    second = eq.train(source, start_from=run.path, out=tmp_path / "second", budget="160")
    assert second.folder.data().classes == ("a-new-one", "standing", "zigzag")
    assert run.folder.data().classes == ("lying", "standing")
    before = final_tensors(run)
    fresh = fresh_weights(second)
    tensors = began_with(second)
    for name in ("discriminator.head.embedding.weight", "generator.blocks.0.norm1.norm.gain.weight"):
        assert torch.equal(tensors[name][1], before[name][1])
        assert torch.equal(tensors[name][[0, 2]], fresh[name][[0, 2]])
    start = start_of(second)
    assert start.generator < 1
    start = fitted(read_start(run.path), second.recipe, tasks.opened(second.recipe, torch.device("cpu"), nothing))
    assert "a-new-one" in start.told
    assert "zigzag" in start.told
    assert "lying" in start.told


def test_a_run_without_classes_is_gone_on_from_with_classes(
    train_once: TrainSmall, shapes: Path, tmp_path: Path
) -> None:
    run = train_once("residual", *RESIDUAL, source=shapes, budget="160")
    settings = ["networks.conditional=true"]
    second = eq.train(shapes, start_from=run.path, out=tmp_path / "second", settings=settings, budget="160")
    before = final_tensors(run)
    fresh = fresh_weights(second)
    tensors = began_with(second)
    for name in ("generator.blocks.0.conv1.weight", "discriminator.head.linear.weight"):
        assert torch.equal(tensors[name], before[name])
    for name in ("discriminator.head.embedding.weight", "generator.norm.norm.gain.weight"):
        assert torch.equal(tensors[name], fresh[name])
    assert second.best.sample(2, label="lying").shape == (2, 1, 8, 8)


def test_a_run_that_began_with_some_of_the_weights_is_resumed_to_the_same_end_without_the_other_one(
    begun: eq.Run, tmp_path: Path
) -> None:
    first = copied(begun, tmp_path / "first")
    source = drawn(tmp_path / "other.npz")
    options: dict[str, Any] = {"settings": ["task.size=16", "networks.frozen=1"], "budget": "480"}
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        whole = eq.train(source, start_from=first.path, out=tmp_path / "whole", **options)
    with pytest.MonkeyPatch.context() as patch:  # before any checkpoint, too
        patch.setattr(api, "run_training", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            eq.train(source, start_from=first.path, out=tmp_path / "early", **options)
    shutil.rmtree(first.path)
    assert_the_same(whole, eq.resume(tmp_path / "cut"))
    assert_the_same(whole, eq.resume(tmp_path / "early"))


# What must not judge


def test_images_that_trained_the_weights_at_another_size_do_not_judge(
    begun: eq.Run, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shapes
    held_out = 240 - begun.folder.data().num_train
    with pytest.raises(UserError) as caught:
        eq.train(source, start_from=begun.path, out=tmp_path / "refused", settings=["task.size=16"])
    error = caught.value
    assert error.subject == str(source)
    assert Setting("task.size", 8) in error.remedies
    num, num_held_out = (int(word) for word in error.problem.replace(" of the ", " ").split()[:2])
    assert 0 < num <= num_held_out
    assert num_held_out < 2 * held_out
    words = ["train", str(source), "--start-from", str(begun.path), "--set", "task.size=16"]
    assert main([*words, "--out", str(tmp_path / "refused")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "refused").exists()


def test_which_images_trained_at_another_size_is_found_by_their_names(begun: eq.Run, shapes: Path) -> None:
    trained = read_start(begun.path).trained
    assert trained is not None
    assert len(trained) == 1
    seen = trained[0]
    recipe = begun.recipe
    known = tasks.opened(recipe, torch.device("cpu"), nothing)
    larger = tasks.opened(with_settings(recipe, ["task.size=16"]), torch.device("cpu"), nothing)
    names = (known.name_hashes(), larger.name_hashes())
    assert names[0] is not None
    assert names[1] is not None
    at_own_size = dict(zip(names[0], np.isin(known.hashes, seen.contents), strict=True))
    found = dict(zip(names[1], larger.among(seen.contents, seen.settings), strict=True))
    assert found == at_own_size
    assert sum(found.values()) == begun.folder.data().num_train


def test_another_fit_that_changes_no_image_changes_no_side(begun: eq.Run, shapes: Path, tmp_path: Path) -> None:
    run = eq.train(shapes, start_from=begun.path, out=tmp_path / "second", settings=["task.fit=pad"], budget="160")
    assert start_of(run).generator == 1
    trained = read_start(begun.path).trained
    known = changes.read(run.folder.examples)
    assert trained is not None
    assert known is not None
    assert known.seen is not None
    assert set(known.seen) == set(trained[0].contents)
    (earlier,) = known.earlier
    assert isinstance(earlier.settings, Images)
    assert earlier.settings.fit == "crop"


def test_a_lost_list_leaves_nobody_to_say_what_trained_at_another_size(begun: eq.Run, tmp_path: Path) -> None:
    first = copied(begun, tmp_path / "first")
    first.folder.examples.unlink()
    error = refused(drawn(tmp_path / "other.npz"), first.path, "task.size=16")
    assert error.subject == Option("start_from", first.path)
    assert str(first.folder.examples) in error.problem


def test_what_trained_the_first_of_several_runs_at_another_size_never_judges_the_last(
    begun: eq.Run, shapes: Path, tmp_path: Path
) -> None:
    other = drawn(tmp_path / "other.npz")
    second = eq.train(other, start_from=begun.path, out=tmp_path / "second", settings=["task.size=16"], budget="160")
    trained = read_start(begun.path).trained
    assert trained is not None
    known = changes.read(second.folder.examples)
    assert known is not None
    assert [set(seen.contents) for seen in known.earlier] == [set(trained[0].contents)]
    with pytest.raises(UserError) as caught:
        eq.train(shapes, start_from=second.path, out=tmp_path / "third")
    assert caught.value.subject == str(shapes)
    assert not (tmp_path / "third").exists()
    found = eq.evaluate(second.path, shapes, num=50)
    assert found.protocol["real"]["seen_by_the_run"] == begun.folder.data().num_train
    third = eq.train(other, start_from=second.path, out=tmp_path / "third", budget="160")
    again = changes.read(third.folder.examples)
    assert again is not None
    assert [set(seen.contents) for seen in again.earlier] == [set(trained[0].contents)]
    assert second.folder.data().num_train == len(again.seen if again.seen is not None else ())


def test_the_list_of_a_run_keeps_what_other_settings_have_made(tmp_path: Path) -> None:
    seen = [changes.Seen(np.arange(num, dtype=np.uint64), Images(size=(num, 8), black=0.5)) for num in (9, 12)]
    contents = np.arange(3, dtype=np.uint64)
    data = changes.packed(changes.Listed(contents, None, contents, tuple(seen)))
    (tmp_path / "list").write_bytes(data)
    found = changes.read(tmp_path / "list")
    assert found is not None
    assert {one.settings.size for one in found.earlier if isinstance(one.settings, Images)} == {(9, 8), (12, 8)}
    assert sorted(len(one.contents) for one in found.earlier) == [9, 12]
    (tmp_path / "list").write_bytes(data.replace(b"[9,8]", b"[8,8]").replace(b"(9,8)", b"(8,8)"))
    assert changes.read(tmp_path / "list") is None, "the settings are under the checksum, too"


# Frozen stages


def test_frozen_stages_keep_the_weights_of_the_other_run_to_the_end(begun: eq.Run, tmp_path: Path) -> None:
    settings = ["task.size=16", "networks.frozen=1"]
    source = drawn(tmp_path / "other.npz")
    run = eq.train(source, start_from=begun.path, out=tmp_path / "second", settings=settings, budget="320")
    before = final_tensors(begun)
    began = began_with(run)
    after = final_tensors(run)
    frozen = "discriminator.downwards.0."
    names = [name for name in after if name.startswith("discriminator.") and name.endswith("weight")]
    assert any(name.startswith(frozen) for name in names)
    for name in names:
        if name.startswith(frozen):
            assert torch.equal(after[name], before[name])
        else:
            assert not torch.equal(after[name], began[name])


def test_frozen_stages_stay_as_they_are_where_the_discriminator_is_made_anew(begun: eq.Run, tmp_path: Path) -> None:
    settings = ["networks.frozen=1"]
    run = eq.train(begun.recipe.data.source, start_from=begun.path, out=tmp_path / "b", settings=settings, budget="160")
    task = task_of(run.recipe)
    found = state.start(task, run.recipe)
    state.begin_with(found, run.folder, put_weights=True)
    before = {name: tensor.clone() for name, tensor in found.players.discriminator.state_dict().items()}
    renew_discriminator(found, task, run.recipe)
    after = found.players.discriminator.state_dict()
    for name in [name for name in before if name.endswith("weight")]:
        assert torch.equal(before[name], after[name]) == name.startswith("downwards.0."), name


def test_frozen_stages_need_the_weights_of_another_run(
    shapes: Path, tmp_path: Path, small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SETTLED, *CONVOLUTIONS, "networks.frozen=1"]
    with pytest.raises(UserError) as caught:
        eq.train(shapes, out=tmp_path / "out", settings=settings)
    assert caught.value.subject == Setting("networks.frozen", 1)
    assert Option("start_from", "RUN") in caught.value.remedies
    assert main(["train", str(shapes), "--out", str(tmp_path / "out"), "--set", "networks.frozen=1"]) == 2
    assert "--start-from" in capsys.readouterr().err
    with pytest.raises(UserError) as caught:
        eq.train(task=own_task(SETTLED), out=tmp_path / "out", settings=[*SETTLED, "networks.frozen=1"])
    assert caught.value.subject == Setting("networks.frozen", 1)
    assert not (tmp_path / "out").exists()


def test_frozen_stages_that_do_not_fit_are_refused(begun: eq.Run, tmp_path: Path) -> None:
    source = drawn(tmp_path / "other.npz", size=8, channels=3)
    error = refused(source, begun.path, "task.channels=3", "networks.frozen=1")
    assert error.subject == Setting("networks.frozen", 1)
    assert "task.channels" in error.problem


def test_more_frozen_stages_than_the_discriminator_has_are_refused(
    begun: eq.Run, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(shapes), "--start-from", str(begun.path), "--set", "networks.frozen=2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "networks.frozen=1" in error
    assert not (tmp_path / "out").exists()


def test_shares_of_a_run_of_an_earlier_version_are_whole(begun: eq.Run, shapes: Path, tmp_path: Path) -> None:
    run = eq.train(shapes, start_from=begun.path, out=tmp_path / "second", budget="160")
    path = run.path / "data.json"
    values = json.loads(path.read_text())
    del values["start"]["generator"], values["start"]["discriminator"]
    path.write_text(json.dumps(values))
    assert (start_of(run).generator, start_of(run).discriminator) == (1, 1)
