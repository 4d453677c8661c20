"""The loop: steps that must not be taken are not taken, best is by validation, and a resume is a position."""

import dataclasses
import errno
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import SMALL
from torch import Tensor

import equipoise as eq
from equipoise import api, loop
from equipoise import state as state_module
from equipoise.data.pool import Pool
from equipoise.errors import StorageError, UserError
from equipoise.evaluation import evaluate, evaluator
from equipoise.metrics.kid import Estimate
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe, with_settings
from equipoise.runs import replay
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.storage import checkpoints, logs
from equipoise.tasks.images import ImageProblem, Moment, Players, Terms

# Nothing depends on this machine's speed, so two runs may be compared.
SETTLED = (*SMALL, "saving.every=160", "saving.log_every=80")
MEASURED = ["saving.every=none", "saving.log_every=none"]


def made(pool: Pool, *settings: str) -> tuple[ImageProblem, Recipe]:
    recipe = with_settings(Recipe(), [*SETTLED, *settings])
    return ImageProblem(recipe, pool, torch.device("cpu"), torch.float32), recipe


@dataclasses.dataclass(frozen=True)
class Poisoned:
    """A problem whose terms turn to NaN for one player."""

    inner: ImageProblem
    player: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def discriminator_terms(self, players: Players, batch: Any, moment: Moment) -> Terms:
        terms = self.inner.discriminator_terms(players, batch, moment)
        return self._poisoned(terms) if self.player == "discriminator" else terms

    def generator_terms(self, players: Players, batch: Any, moment: Moment) -> Terms:
        terms = self.inner.generator_terms(players, batch, moment)
        return self._poisoned(terms) if self.player == "generator" else terms

    @staticmethod
    def _poisoned(terms: Terms) -> Terms:
        return Terms({name: loss * float("nan") for name, loss in terms.losses.items()}, terms.signals)


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def same(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_step_with_a_loss_that_is_not_finite_changes_no_weight_and_is_counted(pool: Pool, player: str) -> None:
    problem, recipe = made(pool)
    poisoned: Any = Poisoned(problem, player)
    state = loop.start(poisoned, recipe)
    network = getattr(state.players, player)
    before = weights(network)
    step = getattr(loop, f"take_{player}_step")
    numbers = step(poisoned, state, recipe.game, Moment(Randomness(0)))
    assert bool(numbers[f"{player}_skipped"])
    assert same(before, weights(network))
    assert not getattr(state, f"{player}_optimizer").state_dict()["state"]


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_refused_step_leaves_no_trace_in_running_statistics_or_the_average(pool: Pool, player: str) -> None:
    problem, recipe = made(
        pool, "networks.family=dcgan", "networks.generator_norm=batch", "networks.spectral_norm=true"
    )
    poisoned: Any = Poisoned(problem, player)
    state = loop.start(poisoned, recipe)
    before = [weights(module) for module in (state.players.generator, state.players.discriminator, state.average)]
    getattr(loop, f"take_{player}_step")(poisoned, state, recipe.game, Moment(Randomness(0)))
    after = [weights(module) for module in (state.players.generator, state.players.discriminator, state.average)]
    assert all(same(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_an_ordinary_step_changes_its_own_player_only(pool: Pool, player: str) -> None:
    problem, recipe = made(pool)
    state = loop.start(problem, recipe)
    other = "generator" if player == "discriminator" else "discriminator"
    own, others = weights(getattr(state.players, player)), weights(getattr(state.players, other))
    numbers = getattr(loop, f"take_{player}_step")(problem, state, recipe.game, Moment(Randomness(0)))
    assert not bool(numbers[f"{player}_skipped"])
    assert not same(own, weights(getattr(state.players, player)))
    assert same(others, weights(getattr(state.players, other)))


def test_weights_are_clipped_after_a_critic_step(pool: Pool) -> None:
    problem, recipe = made(pool, "game.loss=wasserstein", "game.weight_clip=0.001")
    state = loop.start(problem, recipe)
    loop.take_discriminator_step(problem, state, recipe.game, Moment(Randomness(0)))
    assert all(weight.abs().max() <= 0.001 for weight in state.players.discriminator.parameters())


def test_the_seed_alone_decides_the_first_weights_and_the_callers_stream_is_untouched(pool: Pool) -> None:
    problem, recipe = made(pool)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = loop.start(problem, recipe)
    assert torch.rand(1) == expected
    torch.manual_seed(99)
    other = loop.start(problem, recipe)
    assert same(weights(one.players.discriminator), weights(other.players.discriminator))
    third = loop.start(problem, dataclasses.replace(recipe, seed=1))
    assert not same(weights(one.players.discriminator), weights(third.players.discriminator))


RunMaker = Callable[..., eq.Run]


@pytest.fixture
def run_of(quick: None, shapes: Path, tmp_path: Path) -> RunMaker:
    """Return a function that trains a small run in a folder of this test."""

    def run(name: str, *settings: str, budget: str = "800", **options: Any) -> eq.Run:
        return eq.train(shapes, budget=budget, out=tmp_path / name, settings=[*SETTLED, *settings], **options)

    return run


class Killed(BaseException):
    """The end of a process, as far as its run can tell."""


def kill(*_: Any) -> None:
    raise Killed


def final_tensors(run: eq.Run) -> dict[str, Tensor]:
    found = checkpoints.latest(run.folder.checkpoints)
    assert found is not None
    return found.tensors


def trained_tensors(run: eq.Run) -> dict[str, Tensor]:
    """Return what training alone decides, whenever it was judged and whenever a line was logged."""
    apart = ("champion.", "meter.")
    return {name: tensor for name, tensor in final_tensors(run).items() if not name.startswith(apart)}


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def scores(run: eq.Run) -> list[dict[str, Any]]:
    kept = (
        "samples",
        "kid",
        "kid_se",
        "fid",
        "precision",
        "recall",
        "density",
        "coverage",
        "champion",
        "difference",
        "difference_se",
        "copying",
        "discriminator_gap",
        "best",
    )
    return [{name: record[name] for name in kept} for record in logs.records(run.folder.scores)]


CONVOLUTIONS = ["networks.family=dcgan", "networks.width=4", "networks.generator_norm=batch"]
VARIANTS = [
    pytest.param(CONVOLUTIONS, id="dcgan-batch-norm", marks=pytest.mark.slow),
    pytest.param(
        ["networks.family=modern", "networks.width=4", "networks.generator_norm=none"],
        id="modern",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        [*CONVOLUTIONS, "networks.family=resnet", "networks.spectral_norm=true", "networks.conditional=true"],
        id="resnet-spectral-norm-labels",
        marks=pytest.mark.slow,
    ),
    pytest.param([], id="relativistic-r1-r2", marks=pytest.mark.slow),
    pytest.param(["networks.dropout=0.3", "game.loss=hinge", "game.penalty.kind=none"], id="dropout"),
    pytest.param(
        ["game.loss=wasserstein", "game.penalty.kind=wgan-gp", "game.discriminator_steps=2"], id="wgan-gp-two-d-steps"
    ),
    pytest.param(
        ["augment.kinds=flip,translation,color,cutout", "augment.strength=0.6"], id="augmented", marks=pytest.mark.slow
    ),
    pytest.param(["game.instance_noise=0.2", "game.penalty.every=3"], id="instance-noise-lazy", marks=pytest.mark.slow),
    *(
        pytest.param(
            [f"game.generator.optimizer={name}", f"game.discriminator.optimizer={name}"],
            id=name,
            marks=pytest.mark.slow,
        )
        for name in ("adamw", "rmsprop", "adagrad", "sgd")
    ),
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_a_run_resumed_from_a_checkpoint_is_bit_for_bit_the_run_that_never_stopped(
    run_of: RunMaker, tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of("whole", *settings)
    kept: list[Path] = []
    real_save = checkpoints.save

    def keep_a_copy(folder: Path, samples: int, *rest: Any) -> Path:
        path = real_save(folder, samples, *rest)
        if not kept:
            copy = tmp_path / "cut"
            shutil.copytree(folder.parent, copy)
            kept.append(copy)
        return path

    monkeypatch.setattr(loop.Saver, "submit", lambda self, job: job())  # a copy of one moment
    monkeypatch.setattr(checkpoints, "save", keep_a_copy)
    again = run_of("again", *settings)
    assert same_tensors(final_tensors(whole), final_tensors(again)), "the same recipe must give the same run"
    state = kept[0] / "state.json"
    assert '"running"' in state.read_text()
    resumed = eq.resume(kept[0])
    assert same_tensors(final_tensors(again), final_tensors(resumed))
    assert scores(again) == scores(resumed)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["save", "prune_candidates"])
@pytest.mark.parametrize("place", [1, 3, -1])
def test_a_kill_around_any_save_leaves_the_same_candidates_and_the_same_choice(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, place: int
) -> None:
    """Cut just before the candidates are pruned, or just before a checkpoint is written."""
    kids = [9.0, 8.0, 7.0, 6.0, 6.5, 5.0, 6.0, 4.0, 5.5, 4.5]
    cuts: list[Path] = []
    real = {"save": checkpoints.save, "prune_candidates": state_module.prune_candidates}[where]

    def copying(*given: Any) -> Any:
        cuts.append(tmp_path / f"cut-{len(cuts)}")
        shutil.copytree(tmp_path / "whole", cuts[-1])
        return real(*given)

    with monkeypatch.context() as patch:
        staged(patch, iter(kids))
        patch.setattr(loop.Saver, "submit", lambda self, job: job())  # a copy of one moment
        patch.setattr(checkpoints if where == "save" else state_module, where, copying)
        whole = run_of("whole", "judging.every=80", "data.validation=0.3")
    kept = {path.name for path in whole.folder.candidates.iterdir()}
    cut = cuts[place]
    seen = len(logs.records(cut / "log" / "scores.jsonl"))
    found = checkpoints.latest(cut / "checkpoints")
    taken = len(
        [
            line
            for line in logs.records(cut / "log" / "scores.jsonl")
            if found and line["samples"] <= found.values["samples"]
        ]
    )
    assert seen >= taken
    with monkeypatch.context() as patch:
        best = found.values["watch"]["best"]["kid"] if found else 0.0
        staged(patch, iter(kids[taken:]), best=best)
        resumed = eq.resume(cut)
    assert {path.name for path in resumed.folder.candidates.iterdir()} == kept
    assert [one["samples"] for one in resumed.state["rescored"]["candidates"]] == [
        one["samples"] for one in whole.state["rescored"]["candidates"]
    ]
    assert same_tensors(final_tensors(whole), final_tensors(resumed))


def test_a_run_killed_before_its_first_checkpoint_begins_again_and_ends_the_same(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of("whole")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", kill)
        with pytest.raises(Killed):
            run_of("killed")
    resumed = eq.resume(tmp_path / "killed")
    assert same_tensors(final_tensors(whole), final_tensors(resumed))
    assert scores(whole) == scores(resumed)


def test_an_interrupt_before_the_pace_is_known_records_none_and_goes_on_exactly(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of("whole", *MEASURED)
    real_step, taken = loop.take_generator_step, []

    def interrupting(*arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Stopwatch, "is_warm", lambda *_: False)
        patch.setattr(loop, "take_generator_step", interrupting)
        early = run_of("early", *MEASURED)
    assert early.state["status"] == "stopped"
    assert early.folder.read_pace() == {}
    assert not logs.records(early.folder.scores)
    resumed = eq.resume(tmp_path / "early")
    assert same_tensors(trained_tensors(whole), trained_tensors(resumed))


@pytest.mark.slow
def test_a_resume_under_another_judge_scores_the_best_anew_instead_of_mixing_protocols(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("first", "judging.every=40", "data.validation=0.3", budget="400")
    before = sorted(int(path.name) for path in run.folder.candidates.iterdir())
    assert len(before) == 3
    damaged = run.folder.candidates / str(run.state["rescored"]["candidates"][0]["samples"]) / "generator.safetensors"
    damaged.write_bytes(b"")  # the champion is in the checkpoint besides
    real = api.features_of
    monkeypatch.setattr(
        api, "features_of", lambda *given, **named: dataclasses.replace(real(*given, **named), digest="another")
    )
    resumed = eq.resume(run.path, budget="800")
    events = [event["kind"] for event in logs.records(resumed.folder.events)]
    assert "another judge" in events
    kept = sorted(int(path.name) for path in resumed.folder.candidates.iterdir())
    lines = [line for line in logs.records(resumed.folder.scores) if line["protocol"]["features_digest"] == "another"]
    anew = [line["samples"] for line in lines]
    assert anew[: len(before)] == before, "every candidate is scored anew, in order"
    assert kept
    assert replay.read_run(resumed.path).lines[0].samples == before[0]
    assert resumed.best.score["protocol"]["features_digest"] == "another"
    assert resumed.state["status"] == "finished"


@pytest.mark.slow
def test_a_change_of_the_judge_that_is_killed_leaves_no_score_twice(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = run_of("first", "judging.every=40", "data.validation=0.3", budget="400"), api.features_of
    shutil.copytree(run.path, tmp_path / "whole")
    monkeypatch.setattr(
        api, "features_of", lambda *given, **named: dataclasses.replace(real(*given, **named), digest="another")
    )
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", kill)  # the candidates have been scored anew, and no checkpoint knows
        with pytest.raises(Killed):
            eq.resume(run.path, budget="480")
    found = [eq.resume(path, budget="480") for path in (run.path, tmp_path / "whole")]
    killed, whole = ([line | {"seconds": 0} for line in logs.records(one.folder.scores)] for one in found)
    assert killed == whole


@pytest.mark.slow
def test_a_longer_budget_of_a_finished_run_survives_a_kill_before_its_first_step(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("first", budget="400")
    assert run.state["status"] == "finished"
    for writer, budget in (("write_recipe", "480"), ("write_environment", "480"), ("write_environment", None)):
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, writer, kill)
            with pytest.raises(Killed):
                eq.resume(run.path, budget=budget)
        assert run.state["status"] != "finished", "or it would be refused, and nobody would train it to the end"
    resumed = eq.resume(run.path)
    assert resumed.state["samples"] == 480
    assert resumed.state["status"] == "finished"
    before = [event for event in logs.records(resumed.folder.events) if event["kind"] == "tested before"]
    assert [event["samples"] for event in before] == [400], "the test split was looked at, and the run must say so"


def test_a_best_generator_that_does_not_say_where_it_is_from_is_put_right_by_a_resume(run_of: RunMaker) -> None:
    run = run_of("first", budget="400")
    best = run.folder.best
    tensors = checkpoints.load_tensors(best / "generator.safetensors")
    checkpoints.write_folder(best, {"generator.safetensors": tensors}, {"score.json": {"samples": "x"}})
    resumed = eq.resume(run.path, budget="480")
    assert isinstance(resumed.best.score["samples"], int)


def test_a_run_whose_state_was_damaged_goes_on_without_it_as_the_message_says(run_of: RunMaker, tmp_path: Path) -> None:
    run = run_of("first", budget="400")
    shutil.copytree(run.path, tmp_path / "whole")
    (run.path / "state.json").write_text("{")
    with pytest.raises(UserError, match="remove it and resume the run"):
        eq.resume(run.path, budget="480")
    (run.path / "state.json").unlink()
    digests = [digest(eq.resume(path, budget="480").folder) for path in (run.path, tmp_path / "whole")]
    assert digests[0] == digests[1]


def test_a_training_that_fails_says_so_in_its_folder(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(loop, "train", broken)
    with pytest.raises(RuntimeError):
        run_of("broken")
    state = eq.load(tmp_path / "broken").state
    assert state["status"] == "failed"
    assert "the device is gone" in state["reason"]


def test_a_model_card_that_is_a_link_is_replaced_and_what_it_leads_to_stays(run_of: RunMaker, tmp_path: Path) -> None:
    run = run_of("first", budget="400")
    card, precious = run.folder.best / "README.md", tmp_path / "precious.txt"
    precious.write_text("mine")
    card.unlink()
    card.symlink_to(precious)
    eq.resume(run.path, budget="480")
    assert precious.read_text() == "mine"
    assert not card.is_symlink()


def test_a_resume_that_finds_the_disk_full_says_what_is_intact(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = run_of("first", budget="400")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_recipe", full)
        with pytest.raises(
            StorageError, match=r"the disk is full .*The last good checkpoint, of 400 samples, is intact"
        ):
            eq.resume(run.path, budget="480")
    assert eq.resume(run.path, budget="480").state["samples"] == 480


def test_a_disk_that_ends_a_training_is_told_in_words_in_its_folder_too(
    run_of: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), "steps.jsonl")

    monkeypatch.setattr(loop, "train", too_large)
    with pytest.raises(StorageError, match="a file would be larger"):
        run_of("broken")
    run = eq.load(tmp_path / "broken")
    assert run.state["reason"] == "a file would be larger than this disk or `ulimit -f` allows (steps.jsonl)"
    assert [event["kind"] for event in logs.records(run.folder.events)] == ["failed"]
    assert "This training failed" in run.report.read_text()


def test_the_first_judging_is_not_repeated_at_the_same_samples(run_of: RunMaker) -> None:
    lines = logs.records(run_of("often", "judging.every=8", budget="80").folder.scores)
    samples = [line["samples"] for line in lines]
    assert len(samples) == len(set(samples))


def test_the_scores_of_evaluate_and_of_the_runs_own_test_agree(run_of: RunMaker, shapes: Path) -> None:
    run = run_of("agreed", "networks.conditional=true")
    found = eq.evaluate(run.path, shapes)
    assert run.state["test"]["protocol"] == dataclasses.asdict(found.protocol)
    assert found.kid == pytest.approx(run.state["test"]["kid"], rel=1e-5)


def staged(monkeypatch: pytest.MonkeyPatch, kids: Iterator[float], error: float = 0.0, best: float = 0.0) -> None:
    """Let the judge of the training find these KIDs, and the paired differences that follow from them."""
    real_score, found = evaluator.score_features, [best, 0.0]

    def score_features(judge: Any, fake: Any) -> Any:
        found[1] = next(kids)
        return dataclasses.replace(real_score(judge, fake), kid=found[1])

    def difference(*_: Any) -> Estimate:
        return Estimate(found[1] - found[0], error)

    real_replace = Referee.score

    def score(self: Referee, line: Any) -> bool:
        promoted = real_replace(self, line)
        found[0] = found[1] if promoted else found[0]
        return promoted

    monkeypatch.setattr(evaluate, "score_features", score_features)
    monkeypatch.setattr(evaluate, "kid_difference", difference)
    monkeypatch.setattr(Referee, "score", score)


def test_best_holds_the_best_generator_by_validation_not_the_last(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(monkeypatch, iter([5.0, 1.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0]))
    run = run_of("staged")
    lines = logs.records(run.folder.scores)
    assert [line["best"] for line in lines][:3] == [True, True, False]
    champion = run.folder.candidates / str(lines[1]["samples"])
    assert sorted(path.name for path in run.folder.candidates.iterdir()) == sorted(
        str(lines[place]["samples"]) for place in (1, 2, 3)
    )
    best, last = load_file(champion / "generator.safetensors"), final_tensors(run)
    assert all(torch.equal(tensor, last[name.replace("generator", "champion")]) for name, tensor in best.items())
    assert any(not torch.equal(tensor, last[name.replace("generator", "average")]) for name, tensor in best.items())


def test_a_lower_score_that_chance_explains_does_not_replace_the_best(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(monkeypatch, iter([5.0, 4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 4.3]), error=0.5)
    run = run_of("noisy")
    lines = logs.records(run.folder.scores)
    assert [line["best"] for line in lines][:4] == [True, False, False, False]
    assert [line["champion"] for line in lines][:4] == [0, *[lines[0]["samples"]] * 3]


def test_the_best_and_its_challenger_are_drawn_from_the_same_fresh_latents(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[int, int]] = []
    real = evaluate.generated

    def generated(problem: Any, generator: Any, num: int, seed: int) -> Any:
        seeds.append((id(generator), seed))
        return real(problem, generator, num, seed)

    monkeypatch.setattr(evaluate, "generated", generated)
    run_of("paired")
    later = seeds[1:]  # the first look has nobody to compare with
    pairs = list(zip(later[::2], later[1::2], strict=True))
    assert len(pairs) >= 3
    assert all(one[1] == other[1] and one[0] != other[0] for one, other in pairs)
    assert len({one[1] for one, _ in pairs}) == len(pairs)


def test_judging_that_crashes_changes_nothing_in_the_training(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = run_of("healthy")

    def crash(*_: Any) -> None:
        raise MemoryError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "score_features", crash)
        crashed = run_of("crashed")
    assert same_tensors(trained_tensors(healthy), trained_tensors(crashed))
    events = logs.records(crashed.folder.events)
    assert any("no memory left" in event["message"] for event in events)
    assert crashed.state["status"] == "finished"


def test_judging_more_often_changes_nothing_in_the_training(run_of: RunMaker) -> None:
    seldom, often = run_of("seldom"), run_of("often", "judging.every=80")
    assert same_tensors(trained_tensors(seldom), trained_tensors(often))


def test_patience_stops_and_says_why(run_of: RunMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(monkeypatch, itertools.repeat(2.0))
    run = run_of("patient", "stopping.policy=patience", "stopping.patience=2", budget="100k")
    assert run.state["policy"] == "patience"
    assert "has not improved for 2 scores" in run.state["reason"]
    assert run.state["samples"] < 10_000


def test_a_training_without_a_finite_number_stops_and_says_so(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ImageProblem.generator_terms

    def poisoned(self: ImageProblem, *arguments: Any) -> Terms:
        terms = real(self, *arguments)
        return Terms({name: loss * float("inf") for name, loss in terms.losses.items()}, terms.signals)

    monkeypatch.setattr(ImageProblem, "generator_terms", poisoned)
    run = run_of("diverged", budget="20k")
    assert run.state["policy"] == "diverged"
    assert run.state["samples"] < 20_000


def test_the_training_tells_where_it_stands(run_of: RunMaker) -> None:
    told: list[loop.Progress] = []
    run_of("told", tell=told.append)
    assert told
    assert told[-1].share > 0
    assert all(progress.sentence for progress in told)
    assert [progress.samples for progress in told] == sorted(progress.samples for progress in told)


def test_a_time_budget_ends_in_time(run_of: RunMaker) -> None:
    run = run_of("timed", budget="3s")
    assert run.state["policy"] == "budget"
    assert run.state["seconds"] >= 3.0


def test_the_judge_of_a_run_is_kept_apart_from_its_test(run_of: RunMaker) -> None:
    state = run_of("judged").state
    assert state["best"]["protocol"]["split"] == "validation"
    assert state["test"]["protocol"]["split"] == "test"
    assert api.load(run_of("other").path).state["test"] is not None


def test_a_voter_that_fails_costs_no_score(run_of: RunMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(ImageProblem, "opinions", crash)
    run = run_of("unasked")
    assert run.state["best"] is not None
    assert all(line["discriminator_gap"] is None for line in logs.records(run.folder.scores))
    assert "voter failed" in [event["kind"] for event in logs.records(run.folder.events)]


def test_a_run_decided_by_fid_draws_nobody_beside_its_generator(
    run_of: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    real = evaluate.generated

    def generated(problem: Any, generator: Any, num: int, seed: int) -> Any:
        seeds.append(seed)
        return real(problem, generator, num, seed)

    monkeypatch.setattr(evaluate, "generated", generated)
    run = run_of("by-fid", "judging.metric=fid")
    assert len(seeds) == len(logs.records(run.folder.scores))
