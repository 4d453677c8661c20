"""A task that breaks its contract is refused before a training begins, by the method that breaks it."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from small import SETTLED
from torch import Tensor, nn

import equipoise as eq
from equipoise.errors import UserError
from equipoise.game.terms import StepContext
from equipoise.metrics.units import Measured, mean_measured
from equipoise.randomness import Randomness
from equipoise.storage.logs import records
from equipoise.storage.records import Metric
from equipoise.tasks import exhibits
from equipoise.tasks.base import Examples, Exhibit, Model, Players, Rival, Task, Terms
from equipoise.tasks.contract import refuse_broken

DRAW = np.random.default_rng(0)
LENGTH = 32


@pytest.fixture
def waves(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> type:
    """Return the worked example's task, with fewer data."""
    real_waves = example.real_waves
    monkeypatch.setattr(example, "real_waves", lambda seed, num: real_waves(seed, num // 10))
    return example.Waves


@pytest.fixture
def changed(example: ModuleType, waves: type) -> Callable[..., Any]:
    """Return a function from methods in place of the example's to the task with them."""
    return lambda **methods: type("Changed", (waves,), methods)(example.RECIPE.game)


@pytest.fixture
def refusal(example: ModuleType, changed: Callable[..., Any]) -> Callable[..., UserError]:
    """Return a function from methods in place of the example's to the mistake that is found in them."""

    def found(**methods: Any) -> UserError:
        with pytest.raises(UserError) as error:
            refuse_broken(changed(**methods), example.RECIPE)
        return error.value

    return found


def test_the_worked_example_keeps_its_contract(example: ModuleType, changed: Callable[..., Any]) -> None:
    refuse_broken(changed(), example.RECIPE)


@pytest.mark.parametrize(
    ("name", "source", "settings"),
    [
        ("points", "ring", ("networks.spectral_norm=true", "networks.dropout=0.3")),
        ("points", "grid", ("networks.generator_norm=batch", "game.loss=wasserstein")),
        ("images", "shapes", ("networks.conditional=true", "networks.dropout=0.3")),
        ("images", "shapes", ("augment.kinds=translation", "augment.probability=0.5", "game.instance_noise=0.1")),
        ("super-resolution", "photos", ("task.scale=2", "task.patch=32", "networks.width=4")),
        ("super-resolution", "photos", ("task.scale=2", "task.patch=32", "networks.width=4", "task.adversarial=0")),
    ],
)
def test_every_built_in_task_keeps_it(
    small: None,
    request: pytest.FixtureRequest,
    make_task: Callable[..., Any],
    name: str,
    source: str,
    settings: tuple[str, ...],
) -> None:
    if source in ("shapes", "photos"):
        source = request.getfixturevalue(source)
    task = make_task(name, source, *settings)
    refuse_broken(task, task.recipe)


# What each method may do wrong. A case is the method's replacement, and what the message must name.


class Shared:
    """Networks that are made once."""

    players = Players(nn.Linear(4, LENGTH), nn.Linear(LENGTH, 1))


def lazy(self: Any) -> Players:
    """Return networks whose sizes are found at their first use."""
    return Players(nn.LazyLinear(LENGTH), nn.LazyLinear(1))


def unseeded(self: Any) -> Players:
    """Return networks whose weights nobody else can draw again."""
    generator = nn.Linear(4, LENGTH)
    with torch.no_grad():
        generator.weight.copy_(torch.from_numpy(DRAW.normal(size=(LENGTH, 4))))
    return Players(generator, nn.Sequential(nn.Linear(LENGTH, 1), nn.Flatten(0)))


def detached(self: Any, players: Players, batch: Tensor, step: StepContext) -> Terms:
    """Return a generator's loss through which nothing flows."""
    fake = players.generator(step.randomness.normal("latents", len(batch), 4)).detach()
    return Terms({"adversarial": -players.discriminator(fake)}, {})


def of_the_other(self: Any, players: Players, batch: Tensor, step: StepContext) -> Terms:
    """Return a loss of the generator alone as the discriminator's."""
    fake = players.generator(step.randomness.normal("latents", len(batch), 4))
    return Terms({"adversarial": fake.square().mean(1)}, {})


def later(self: Any, players: Players, batch: Tensor, step: StepContext) -> Terms:
    """Return terms that go wrong only later in a training."""
    losses = {"plain": players.discriminator(batch)}
    if step.progress > 0.5:
        losses["late"] = players.discriminator(batch).mean()
    return Terms(losses, {})


def with_root(self: Any, players: Players, batch: Tensor, step: StepContext) -> Terms:
    """Return a finite loss whose gradient is infinite."""
    return Terms({"adversarial": (players.discriminator(batch) * 0).abs().sqrt()}, {})


def losses_of(made: Callable[[Tensor], Any], stats: Any = None) -> Callable[..., Terms]:
    """Return a method whose losses are made of a discriminator's logits."""

    def terms(self: Any, players: Players, batch: Tensor, step: StepContext) -> Terms:
        return Terms({"adversarial": made(players.discriminator(batch))}, stats or {})

    return terms


LOSSES = [
    (losses_of(lambda logits: logits.mean()), "float32 []"),
    (losses_of(lambda logits: logits[:, None]), "float32 [64, 1]"),
    (losses_of(lambda logits: (logits > 0).long()), "int64 [64]"),
    (losses_of(lambda logits: logits[:0]), "float32 [0]"),
    (losses_of(lambda logits: logits.tolist()), "list"),
    (losses_of(lambda logits: logits * math.nan), "not finite"),
    (losses_of(lambda logits: logits.detach()), "gradient"),
    (losses_of(lambda logits: logits * float(DRAW.normal())), "second call"),
    (losses_of(lambda logits: logits, {"accuracy": 0.5}), "accuracy"),
    (losses_of(lambda logits: logits, {"acuracy": torch.tensor(0.5)}), "acuracy"),
    (losses_of(lambda logits: logits.item()), "RuntimeError"),
    (lambda self, players, batch, step: {"adversarial": batch.mean(1)}, "dict"),
    (of_the_other, "gradient"),
    (later, "late"),
    (with_root, "not finite"),
]


@pytest.mark.parametrize(("replaced", "part"), LOSSES, ids=range(len(LOSSES)))
def test_terms_are_finite_losses_per_sample_with_a_gradient(
    refusal: Callable[..., UserError], replaced: Any, part: str
) -> None:
    error = refusal(discriminator_terms=replaced)
    assert error.subject == "task.discriminator_terms()"
    assert part in error.problem


def test_a_generator_s_loss_must_reach_the_generator(refusal: Callable[..., UserError]) -> None:
    assert refusal(generator_terms=detached).subject == "task.generator_terms()"


def outputs_by(made: Callable[[Tensor], Any]) -> Callable[..., Any]:
    """Return a method whose outputs are made of good ones."""

    def outputs(self: Any, generator: nn.Module, randomness: Randomness, split: str, begin: int, size: int) -> Any:
        place = dataclasses.replace(randomness, samples=begin)
        with torch.no_grad():
            return made(generator(place.normal("latents", size, 4)))

    return outputs


def by_no_position(self: Any, generator: nn.Module, randomness: Randomness, split: str, begin: int, size: int) -> Any:
    """Return the same outputs wherever they begin."""
    return generator(Randomness(0).normal("latents", size, 4))


def by_the_global_stream(self: Any, generator: nn.Module, *_: Any) -> Any:
    """Return outputs that nobody can draw again."""
    return generator(torch.randn(16, 4))


def of_two_splits(self: Any, generator: nn.Module, randomness: Randomness, split: str, begin: int, size: int) -> Any:
    """Return outputs of the splits that the author thought of."""
    place = dataclasses.replace(randomness, samples=begin)
    return {"train": generator, "validation": generator, "test": generator}[split](place.normal("latents", size, 4))


OUTPUTS = [
    (outputs_by(lambda outputs: outputs[:5]), "5"),
    (outputs_by(lambda outputs: outputs * math.nan), "not finite"),
    (outputs_by(lambda outputs: list(outputs * math.inf)), "not finite"),
    (outputs_by(lambda outputs: (outputs, outputs * math.nan)), "not finite"),
    (outputs_by(lambda outputs: outputs.numpy()), "ndarray"),
    (outputs_by(lambda outputs: None), "NoneType"),
    (outputs_by(lambda outputs: outputs[:, None]), "[16, 1, 32]"),
    (by_no_position, "begin=16"),
    (by_the_global_stream, "second call"),
    (of_two_splits, "second half"),
    (lambda self: None, "TypeError"),
]


@pytest.mark.parametrize(("replaced", "part"), OUTPUTS, ids=range(len(OUTPUTS)))
def test_outputs_are_finite_as_many_as_asked_for_and_of_their_position(
    refusal: Callable[..., UserError], replaced: Any, part: str
) -> None:
    error = refusal(outputs=replaced)
    assert error.subject == "task.outputs()"
    assert part in error.problem


def test_outputs_that_are_all_alike_may_be_alike_everywhere(example: ModuleType, changed: Callable[..., Any]) -> None:
    """A generator whose last layer begins with zeros draws one and the same, whatever its latents."""
    refuse_broken(changed(outputs=outputs_by(lambda outputs: outputs * 0 + 0.1)), example.RECIPE)


def cropped(self: Any, split: str, begin: int, size: int) -> Examples:
    """Return other noise each time."""
    values = self.real[split][begin : begin + size]
    return Examples(None, values + torch.from_numpy(DRAW.normal(size=values.shape)).float())


def shuffled(self: Any, split: str, begin: int, size: int) -> Examples:
    """Return the first ones whatever the position."""
    return Examples(None, self.real[split][:size])


EXAMPLES = [
    (cropped, "second call"),
    (shuffled, "begin=1"),
    (lambda self, split, begin, size: self.real[split][begin : begin + size], "Tensor"),
    (lambda self, split, begin, size: Examples(None, self.real[split][begin:]), "400"),
    (lambda self, split, begin, size: Examples([0], self.real[split][begin : begin + size]), "1 inputs"),
    (lambda self, split, begin, size: Examples(None, self.real[split][begin : begin + size] / 0), "not finite"),
    (
        lambda self, split, begin, size: {"train": Examples(None, self.real["train"][begin : begin + size])}[split],
        "Key",
    ),
]


@pytest.mark.parametrize(("replaced", "part"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_are_the_same_ones_at_the_same_places(
    refusal: Callable[..., UserError], replaced: Any, part: str
) -> None:
    error = refusal(examples=replaced)
    assert error.subject == "task.examples()"
    assert part in error.problem


def original(task: Any) -> Any:
    """Return the worked example's methods of a task that replaces some."""
    return super(type(task), task)


def described(**changes: Any) -> Callable[[Any], Any]:
    """Return a method that describes the waves with changes."""

    def describe(self: Any) -> Any:
        return msgspec.structs.replace(original(self).describe(), **changes)

    return describe


class Means:
    """A judge of one's own: the distance of each output's mean from 0."""

    def __init__(self, asked: str, changes: dict[str, Any]) -> None:
        self.metrics = (Metric(name="distance", decides=True),)
        self.protocol: Any = {"split": asked}
        self.split = asked
        self.num = 100
        self.seed = 0
        self.made = lambda losses: mean_measured(losses, {"distance": losses.mean().item()})
        vars(self).update(changes)

    def sized(self, num: int) -> "Means":
        """Return itself."""
        return self

    def measure(self, outputs: Any) -> Any:
        """Measure outputs."""
        losses = torch.cat([batch.mean(1).abs() for batch in outputs])
        return self.made(losses)


@pytest.fixture
def with_judge(changed: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function from what is changed of a judge of one's own to a task with it."""

    def made(**changes: Any) -> Any:
        return changed(judge=lambda self, split: Means(split, changes))

    return made


def test_a_judge_of_ones_own_is_taken(example: ModuleType, with_judge: Callable[..., Any]) -> None:
    refuse_broken(with_judge(), example.RECIPE)


TWO = (Metric(name="distance", decides=True), Metric(name="other", decides=True))
MORE = (Metric(name="distance", decides=True), Metric(name="other"))
SIGNED = (Metric(name="distance", decides=True, signed=True),)


def negative(losses: Tensor) -> Measured:
    """Return a loss that is lower the better, and below zero, as -AUROC is."""
    return mean_measured(-losses, {"distance": -losses.mean().item()})


def without_error(losses: Tensor) -> Measured:
    """Return such a loss without its error."""
    return dataclasses.replace(negative(losses), error=math.nan)


JUDGES = [
    ({"metrics": ()}, "judge", "decides"),
    ({"metrics": TWO}, "judge", "decides"),
    ({"metrics": [Metric(name="distance", decides=True)]}, "judge", "tuple"),
    ({"metrics": MORE}, "judge().measure", "other"),
    ({"protocol": {"shape": (1, 2)}}, "judge", "protocol"),
    ({"protocol": {"type": torch.float32}}, "judge", "protocol"),
    ({"protocol": {"least": math.nan}}, "judge", "protocol"),
    ({"split": "validation"}, "judge", "second half"),
    ({"num": 0}, "judge", "0 outputs"),
    ({"made": lambda losses: losses.mean().item()}, "judge().measure", "float"),
    ({"made": lambda losses: mean_measured(losses, {"distance": losses.mean()})}, "judge().measure", "float32 []"),
    ({"made": lambda losses: mean_measured(losses * math.nan, {"distance": 0.0})}, "judge().measure", "nan"),
    ({"made": lambda losses: losses.missing}, "judge().measure", "AttributeError"),
    ({"made": negative}, "judge().measure", "non-negative"),
    ({"made": without_error, "metrics": SIGNED}, "judge().measure", "non-negative"),
]


@pytest.mark.parametrize(("changes", "method", "part"), JUDGES, ids=range(len(JUDGES)))
def test_a_judge_measures_by_metrics_under_a_protocol_that_can_be_written_down(
    example: ModuleType, with_judge: Callable[..., Any], changes: dict[str, Any], method: str, part: str
) -> None:
    with pytest.raises(UserError) as error:
        refuse_broken(with_judge(**changes), example.RECIPE)
    assert error.value.subject == f"task.{method}()"
    assert part in error.value.problem


def test_a_judge_may_refuse_so_few_outputs(example: ModuleType, with_judge: Callable[..., Any]) -> None:
    def few(losses: Tensor) -> Any:
        raise UserError("judge", "16 outputs; give at least 50")

    refuse_broken(with_judge(made=few), example.RECIPE)


def test_an_estimate_with_its_error_may_be_below_zero(example: ModuleType, with_judge: Callable[..., Any]) -> None:
    refuse_broken(with_judge(made=negative, metrics=SIGNED), example.RECIPE)


def with_other_digest(self: Any) -> Any:
    """Describe the waves with a digest that nobody finds again."""
    return described(digest=str(DRAW.normal()))(self)


def rivals_of(*rivals: Any) -> Callable[[Any], Any]:
    """Return a method that returns these rivals."""
    return lambda self: rivals


def exhibits_of(*shown: Any) -> Callable[..., Any]:
    """Return a method that returns these exhibits."""
    return lambda self, generator: list(shown)


def noise(split: str, begin: int, size: int) -> Tensor:
    """Return zeros."""
    return torch.zeros(size, LENGTH)


class WithoutSamples:
    """A model with a network only."""

    def network(self) -> nn.Module:
        """Return a network."""
        return nn.Linear(4, LENGTH)


class OtherNetwork(Model):
    """A model whose network is not the generator's."""

    def network(self) -> nn.Module:
        """Return a network."""
        return nn.Linear(4, LENGTH)

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> Any:
        """Return nothing."""
        return iter([])


LINES = exhibits.lines("a", "Samples", [])
OTHERS: list[tuple[dict[str, Any], str, str]] = [
    ({"describe": lambda self: {"digest": "d"}}, "describe", "dict"),
    ({"describe": with_other_digest}, "describe", "digest"),
    ({"describe": described(facts={"shape": (1, 2)})}, "describe", "facts"),
    ({"describe": described(facts={"type": torch.float32})}, "describe", "facts"),
    ({"players": lambda self: (nn.Linear(4, LENGTH), nn.Linear(LENGTH, 1))}, "players", "tuple"),
    ({"players": lambda self: Players(nn.Linear(4, 2), abs)}, "players", "discriminator"),  # type: ignore[arg-type]
    ({"players": lambda self: Players(nn.Flatten(), nn.Flatten())}, "players", "weights"),
    ({"players": lambda self: Shared.players}, "players", "twice"),
    ({"players": lazy}, "players", "lazy"),
    ({"players": unseeded}, "players", "second call"),
    ({"batch": lambda self, randomness, num: self.real["train"][: num - 1]}, "batch", "63"),
    (
        {"batch": lambda self, randomness, num: self.real["train"][torch.randint(400, (num,))]},
        "batch",
        "second call",
    ),
    ({"batch": lambda self, randomness, num: self.missing}, "batch", "missing"),
    ({"logits": lambda self, discriminator, inputs, outputs: discriminator(outputs)[:, None]}, "logits", "[16, 1]"),
    ({"logits": lambda self, discriminator, inputs, outputs: discriminator(outputs).mean()}, "logits", "[]"),
    ({"logits": lambda self, discriminator, inputs, outputs: discriminator(outputs) > 0}, "logits", "bool"),
    ({"judge": lambda self, split: None}, "judge", "None"),
    ({"judge": lambda self, split: nn.Identity()}, "judge", "metrics"),
    ({"judge": lambda self, split: {"validation": None}[split]}, "judge", "KeyError"),
    ({"rivals": lambda self: None}, "rivals", "NoneType"),
    ({"rivals": rivals_of("noise")}, "rivals", "str"),
    ({"rivals": rivals_of(Rival("noise", "worst", noise))}, "rivals", "worst"),  # type: ignore[arg-type]
    ({"rivals": rivals_of(Rival("a", "floor", noise), Rival("a", "rival", noise))}, "rivals", "a, a"),
    ({"snapshot": lambda self, generator: LINES}, "snapshot", "picture"),
    ({"snapshot": lambda self, generator: b"png"}, "snapshot", "bytes"),
    ({"exhibits": lambda self, generator: LINES}, "exhibits", "Exhibit"),
    ({"exhibits": exhibits_of(b"png")}, "exhibits", "bytes"),
    ({"exhibits": exhibits_of(LINES, LINES)}, "exhibits", "a.json, a.json"),
    ({"exhibits": exhibits_of(LINES, exhibits.series("a", "Samples", {}))}, "exhibits", "a.json, a.json"),
    ({"exhibits": exhibits_of(exhibits.picture(f"{64:012d}", "Samples", b""))}, "exhibits", "000000000064"),
    ({"exhibits": exhibits_of(exhibits.lines("../a", "Samples", []))}, "exhibits", "../a"),
    ({"exhibits": exhibits_of(Exhibit("film", "a", "Samples", b""))}, "exhibits", "film"),  # type: ignore[arg-type]
    ({"exhibits": exhibits_of(Exhibit("lines", "a", "Samples", "[]"))}, "exhibits", "str"),  # type: ignore[arg-type]
    ({"model": lambda self: WithoutSamples()}, "model", "samples"),
    ({"model": lambda self: OtherNetwork()}, "model().network", "players"),
]


@pytest.mark.parametrize(("methods", "method", "part"), OTHERS, ids=range(len(OTHERS)))
def test_what_else_is_broken_is_named(
    refusal: Callable[..., UserError], methods: dict[str, Any], method: str, part: str
) -> None:
    error = refusal(**methods)
    assert error.subject == f"task.{method}()"
    assert part in error.problem


@pytest.mark.parametrize("chunk", [0, -1, 2.5, None, "250", property(lambda self: self.missing)])
def test_how_many_outputs_are_drawn_at_once_is_a_whole_number(refusal: Callable[..., UserError], chunk: Any) -> None:
    assert refusal(chunk=chunk).subject == "task.chunk"


class Duck:
    """A task without a base, which has not every attribute."""

    def __init__(self, task: Any, lacks: str) -> None:
        self.task = task
        self.lacks = lacks

    def __getattr__(self, name: str) -> Any:
        """Return what the task has."""
        if name == self.lacks:
            raise AttributeError(name)
        return getattr(self.task, name)


def test_a_task_without_a_base_needs_all_of_it(example: ModuleType, changed: Callable[..., Any]) -> None:
    task: Any = Duck(changed(), "chunk")
    with pytest.raises(UserError) as error:
        refuse_broken(task, example.RECIPE)
    assert error.value.subject == "task.chunk"
    task = Duck(changed(), "nothing")
    refuse_broken(task, example.RECIPE)


def test_exhibits_of_one_name_may_be_files_of_two_kinds(example: ModuleType, changed: Callable[..., Any]) -> None:
    shown = exhibits_of(LINES, exhibits.picture("a", "Samples", b""), exhibits.picture("64", "Samples", b""))
    refuse_broken(changed(exhibits=shown), example.RECIPE)


@pytest.mark.parametrize(
    ("samples", "part"),
    [
        (lambda self, generator, num, seed, label: iter([torch.zeros(3, LENGTH)]), "3"),
        (lambda self, generator, num, seed, label: iter([torch.randn(num, LENGTH)]), "seed"),
        (lambda self, generator, num, seed, label: self.missing, "missing"),
    ],
)
def test_samples_of_a_model_are_as_many_as_asked_for_and_of_their_seed(
    example: ModuleType, refusal: Callable[..., UserError], samples: Any, part: str
) -> None:
    model = type("Broken", (example.WaveModel,), {"samples": samples})
    error = refusal(model=lambda self: model())
    assert error.subject == "task.model().samples()"
    assert part in error.problem


def test_a_model_may_need_inputs(example: ModuleType, changed: Callable[..., Any]) -> None:
    def samples(self: Any, generator: nn.Module, num: int, seed: int, label: str | None) -> Any:
        raise UserError("sample", "this generator needs inputs")

    model = type("Applied", (example.WaveModel,), {"samples": samples})
    refuse_broken(changed(model=lambda self: model()), example.RECIPE)


REQUIRED = (
    *("describe", "players", "batch", "discriminator_terms", "generator_terms", "examples", "outputs", "logits"),
    *("judge", "snapshot", "exhibits", "model"),
)


@pytest.mark.parametrize("method", REQUIRED)
def test_a_missing_method_is_named_with_what_it_must_do(refusal: Callable[..., UserError], method: str) -> None:
    for nothing in (None, getattr(Task, method)):
        error = refusal(**{method: nothing})
        assert error.subject == f"task.{method}()"
        promise = (getattr(Task, method).__doc__ or "").splitlines()[0]
        assert promise in error.problem


def test_a_task_may_be_without_rivals(example: ModuleType, changed: Callable[..., Any]) -> None:
    task = changed(rivals=Task.rivals)
    refuse_broken(task, example.RECIPE)
    assert task.rivals() == ()


def test_a_mistake_that_the_task_tells_itself_stays_as_it_is(refusal: Callable[..., UserError]) -> None:
    def describe(self: Any) -> Any:
        raise UserError("waves.csv", "is empty", "Fill it")

    error = refusal(describe=describe)
    assert (error.subject, error.problem, error.remedies) == ("waves.csv", "is empty", ("Fill it",))


def test_trying_a_task_leaves_the_caller_s_random_stream_alone(
    example: ModuleType, changed: Callable[..., Any]
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    refuse_broken(changed(), example.RECIPE)
    assert torch.equal(torch.rand(3), expected)


# In a training


def train(example: ModuleType, task: Any, path: Path) -> eq.Run:
    """Train a task of one's own for a moment."""
    return eq.train("waves", recipe=example.RECIPE, task=task, budget="320", settings=SETTLED, out=path)


def test_a_broken_task_leaves_no_folder(example: ModuleType, changed: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        train(example, changed(judge=lambda self, split: None), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rival_that_fails_is_an_event_and_ends_nothing(
    example: ModuleType, changed: Callable[..., Any], tmp_path: Path
) -> None:
    def failing(split: str, begin: int, size: int) -> Tensor:
        raise ValueError(f"nothing known of {split}")

    def short(split: str, begin: int, size: int) -> Tensor:
        return torch.zeros(size - 1, LENGTH)

    def rivals(self: Any) -> tuple[Rival, ...]:
        good = original(self).rivals()
        return (*good, Rival("failing", "rival", failing), Rival("short", "rival", short))

    run = train(example, changed(rivals=rivals), tmp_path / "run")
    assert run.state.status == "finished"
    assert run.state.test is not None
    events = [event["message"] for event in records(run.folder.events) if event["kind"] == "baseline failed"]
    assert len(events) == 4, "each on the validation and on the test split"
    assert sum("nothing known of test" in event for event in events) == 1
    for found in (run.folder.read_rivals(), run.state.rivals):
        assert found is not None
        failures = {score.name: score.failure for score in found.scores}
        assert failures["noise"] is None
        assert "ValueError" in str(failures["failing"])
        assert "249" in str(failures["short"])
    assert "failing" in run.report.read_text("utf-8")


def test_an_evaluation_by_the_examples_that_chose_the_generator_says_so(
    example: ModuleType, changed: Callable[..., Any], tmp_path: Path
) -> None:
    run = train(example, changed(), tmp_path / "run")
    by_chosen = eq.evaluate(run.path, "waves", task=changed(), split="validation", num=100)
    assert [warning.kind for warning in by_chosen.warnings] == ["seen"]
    assert not eq.evaluate(run.path, "waves", task=changed(), split="test", num=100).warnings
