"""A training with several labels a picture, from a folder with a table to samples of labels that are asked for."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small import SMALL, as_options
from torch import Tensor
from trainings import CONVOLUTIONS, TrainSmall, assert_the_same, copy_at_first_checkpoint, final_tensors, task_of

import equipoise as eq
from equipoise.cli import main
from equipoise.data.several import called
from equipoise.errors import Near, Option, Setting, UserError
from equipoise.randomness import Randomness
from equipoise.storage import checkpoints
from equipoise.tasks.images import ImageBatch, ImageTask

CONDITIONAL = "networks.conditional=true"
RESIDUAL = ("networks.family=resnet", "networks.width=4", "networks.generator_norm=batch")


def words_of(index: int) -> tuple[str, ...]:
    """Return the labels of an image: none, of one kind, of the other, or both."""
    return tuple(word for bit, word in enumerate(("bright", "lying")) if index >> bit & 1)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 240 grey 8×8 images of bars, and a table that says which lie and which are bright."""
    folder = tmp_path_factory.mktemp("labelled")
    generator = np.random.default_rng(0)
    lines = ["file,bright,lying,striped"]
    for index in range(240):
        words = words_of(index)
        pixels = generator.integers(0, 60, (8, 8)).astype(np.uint8)
        row = int(generator.integers(1, 6))
        pixels[row : row + 2] = 250 if "bright" in words else 120
        Image.fromarray(pixels if "lying" in words else pixels.T).save(folder / f"{index:03}.png")
        lines.append(f"{index:03}.png,{int('bright' in words)},{int('lying' in words)},0")
    (folder / "attributes.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def task_in(run: eq.Run) -> ImageTask:
    task = task_of(run.recipe)
    assert isinstance(task, ImageTask)
    return task


@pytest.fixture
def run(train_once: TrainSmall, labelled: Path) -> eq.Run:
    """Return a short run, which tests must not change."""
    return train_once("several", CONDITIONAL, source=labelled, budget="320")


def test_both_players_are_told_the_labels_of_the_very_images_of_a_batch(run: eq.Run) -> None:
    task = task_in(run)
    batch = task.batch(Randomness(0), 16)
    assert isinstance(batch, ImageBatch)
    assert batch.labels is not None
    rows = task.model().rows[batch.labels]
    bright = batch.real.amax((1, 2, 3)) > 0.5
    assert torch.equal(rows[:, 0] == 1, bright)
    torch.manual_seed(0)
    players = task.players()
    latents = torch.zeros(4, 4)
    images = players.generator(latents, task.model().rows)
    assert len({tuple(image.flatten().tolist()) for image in images}) == 4
    labels, targets = task.examples("validation", 0, 4)
    logits = [task.logits(players.discriminator, given, targets) for given in (labels, 3 - labels)]
    assert not torch.equal(*logits)


def test_the_record_counts_labels_and_combinations_and_names_no_label_that_no_image_has(run: eq.Run) -> None:
    data = run.folder.data()
    assert data.classes == ("bright", "lying")
    assert data.sets == ((), (0,), (0, 1), (1,))
    assert sum(data.set_counts) == data.num_train
    assert data.class_counts == (sum(data.set_counts[1:3]), sum(data.set_counts[2:4]))
    shapes = {name: tensor.shape for name, tensor in final_tensors(run).items() if "embedding" in name}
    assert shapes
    assert {shape[0] for shape in shapes.values()} == {2}, "a vector for each label, not for each combination"


def test_images_are_drawn_with_the_combinations_of_the_training_images(run: eq.Run) -> None:
    model = task_in(run).model()
    seen: list[Tensor] = []

    class Telling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            seen.append(labels)
            return latents.new_zeros(len(latents), 1, 8, 8)

    model.draw(Telling(), Randomness(0), 4_000)
    found = Counter(tuple(row.nonzero().flatten().tolist()) for row in seen[0])
    for one, num in zip(model.sets, model.counts, strict=True):
        assert abs(found[one] / 4_000 - num / sum(model.counts)) < 0.04, called(one, model.classes)


def test_samples_of_one_label_of_both_and_of_none_differ_and_each_is_what_was_asked(run: eq.Run) -> None:
    best = run.best
    names = ("", "bright", "lying", "bright, lying", "lying;bright")
    none, bright, lying, both, also_both = (best.sample(6, label=label) for label in names)
    assert torch.equal(both, also_both)
    for one, other in ((none, bright), (bright, lying), (lying, both), (both, none)):
        assert not torch.equal(one, other)
    latents = Randomness(0, 0).normal("latents", 6, run.recipe.networks.latent_size)
    with torch.no_grad():
        expected = best.generator(latents, torch.ones(6, 2)).clamp(-1, 1)
    torch.testing.assert_close(both, expected)
    with pytest.raises(UserError) as refused:
        best.sample(2, label="bright, lyin")
    assert refused.value.subject == Option("label", "bright, lyin")
    assert Near("lying") in refused.value.remedies
    assert "bright, lying" in refused.value.problem


def test_labels_that_no_image_has_together_can_be_asked_for(
    train_small: TrainSmall, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (240, 8, 8), dtype=np.uint8)
    rows = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]])[np.arange(240) % 3]
    np.savez(tmp_path / "a.npz", images=images, labels=rows, label_names=np.array(["a", "b", "c"]))
    best = train_small("run", CONDITIONAL, source=tmp_path / "a.npz", budget="160").best
    samples = [best.sample(2, label=label) for label in ("a,b", "a,b,c", "c")]
    assert not torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[1], samples[2])
    told = []
    for label in ("a,b,c", "a,c"):
        capsys.readouterr()
        assert main(["sample", str(tmp_path / "run"), "--label", label, "-o", str(tmp_path / f"{label}.png")]) == 0
        told.append("Labels:" in capsys.readouterr().err)
    assert told == [True, False]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="mlp"),
        pytest.param((*CONVOLUTIONS, "game.variety=0.5"), id="dcgan-variety"),
        pytest.param((*RESIDUAL, "networks.spectral_norm=true"), id="resnet-spectral-norm"),
    ],
)
def test_a_run_with_several_labels_is_resumed_exactly(
    train_small: TrainSmall, labelled: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        whole = train_small("whole", CONDITIONAL, *settings, source=labelled, budget="320")
    assert_the_same(whole, eq.resume(tmp_path / "cut"))


def test_a_resume_tells_which_labels_were_read_before_and_which_are_now(
    train_small: TrainSmall, labelled: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(labelled, tmp_path / "source")
    run = train_small("begun", CONDITIONAL, source=source, budget="160")
    table = source / "attributes.csv"
    text = table.read_text(encoding="utf-8")
    for head, told in (("file,light,lying,striped", "light, lying"), ("file,bright,bright,striped", "none")):
        table.write_text(text.replace("file,bright,lying,striped", head), encoding="utf-8")
        with pytest.raises(UserError, match=f": {told}, and before bright, lying"):
            eq.resume(run.path, budget="320")
    table.write_text(text, encoding="utf-8")
    assert eq.resume(run.path, budget="320").folder.data().classes == ("bright", "lying")


def test_labels_of_the_same_name_keep_what_was_learned(train_small: TrainSmall, run: eq.Run, tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 255, (240, 8, 8), dtype=np.uint8)
    names = np.array(["aloft", "lying", "zigzag"])
    rows = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]])[np.arange(240) % 3]
    np.savez(tmp_path / "other.npz", images=images, labels=rows, label_names=names)
    second = train_small("second", CONDITIONAL, source=tmp_path / "other.npz", start_from=run.path, budget="160")
    before = final_tensors(run)
    tensors = checkpoints.load_tensors(second.folder.path / "start" / "tensors.safetensors")
    names_of = [name for name in tensors if name.endswith("embedding.weight")]
    assert names_of
    for name in names_of:
        assert torch.equal(tensors[name][1], before[name][1]), "of lying"
        assert not torch.equal(tensors[name][0], before[name][0]), "of a new one"


def test_the_command_line_trains_says_what_it_found_and_draws_what_is_asked_for(
    small: None, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(labelled), "--budget", "80", "--out", str(out), *as_options((*SMALL, CONDITIONAL))]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for told in ("attributes.csv", "2 labels", "4 combinations", "striped"):
        assert told in shown
    for label in ("lying", "bright,lying"):
        file = tmp_path / f"{label}.png"
        assert main(["sample", str(out), "-n", "4", "--label", label, "-o", str(file)]) == 0
    assert (tmp_path / "lying.png").read_bytes() != (tmp_path / "bright,lying.png").read_bytes()
    capsys.readouterr()
    assert main(["sample", str(out), "--label", "dark", "-o", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert "dark" in error
    assert "bright, lying" in error


def test_a_check_counts_images_of_each_label_and_calls_no_combination_rare(
    small: None, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(labelled)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    first = next(place for place, line in enumerate(lines) if line.startswith("labels"))
    assert "2 in 4 combinations, with 120 images each" in lines[first]
    assert "50.0 %" in lines[first + 1]
    assert not any("rare" in line for line in lines)


def test_why_a_table_of_labels_was_not_used_stands_in_the_refusal_of_a_conditional_training(
    small: None, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in labelled.glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    text = (labelled / "attributes.csv").read_text(encoding="utf-8")
    (folder / "attributes.csv").write_text(text.replace("005.png,1,0,0", "005.png,1,0,7"), encoding="utf-8")
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), "--set", CONDITIONAL]) == 2
    error = capsys.readouterr().err
    assert "striped" in error
    assert '"7"' in error


def test_a_group_is_drawn_where_the_images_have_several_labels_that_the_networks_are_not_told(
    train_small: TrainSmall, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_small("run", "networks.groups=2", source=labelled, budget="80")
    assert main(["sample", str(tmp_path / "run"), "--label", "group-1", "-o", str(tmp_path / "a.png")]) == 0
    assert "Labels:" not in capsys.readouterr().err


def test_a_category_of_a_code_is_drawn_where_the_images_have_several_labels_that_the_networks_are_not_told(
    train_small: TrainSmall, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_small("run", "networks.categorical_codes=2", "game.information=1", source=labelled, budget="80")
    assert main(["sample", str(tmp_path / "run"), "--label", "2", "-o", str(tmp_path / "a.png")]) == 0
    assert "2 is the number of a category of this generator's code" in " ".join(capsys.readouterr().err.split())


def test_groups_within_several_labels_are_refused_with_what_to_type(
    train_small: TrainSmall, labelled: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        train_small("run", "networks.groups=2", CONDITIONAL, source=labelled, budget="80")
    assert Setting("networks.groups", 0) in error.value.remedies
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["no labels", "other labels", "classes"])
def test_a_run_is_evaluated_against_other_images_with_the_labels_that_it_learned(
    run: eq.Run, tmp_path: Path, kind: str
) -> None:
    images = np.random.default_rng(9).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    labels = {
        "no labels": {},
        "other labels": {"labels": np.arange(60)[:, None] >> np.arange(3) & 1},
        "classes": {"labels": np.arange(60) % 5},
    }
    np.savez(tmp_path / "other.npz", images=images, **labels[kind])
    np.savez(tmp_path / "plain.npz", images=images)
    found = [eq.evaluate(run.path, tmp_path / name, num=50) for name in ("other.npz", "plain.npz")]
    assert found[0].measured.values == found[1].measured.values
