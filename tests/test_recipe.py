"""Recipes: every wrong value is refused in one line that helps, every right one survives a journey through JSON."""

import dataclasses
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import Near, Option, Setting, UserError
from equipoise.recipe import (
    Budget,
    Custom,
    Data,
    Game,
    Images,
    LossName,
    Networks,
    OptimizerSettings,
    Penalty,
    Points,
    Recipe,
    Stopping,
    SuperResolution,
    TaskSettings,
    checked,
    from_dict,
    task_name,
    to_dict,
    with_settings,
)

TASKS: tuple[TaskSettings, ...] = (Images(), Points(), SuperResolution(), Custom())


def refused(*settings: str, task: TaskSettings | None = None, source: str = "mnist") -> UserError:
    """Return the mistake that settings are refused with, in one line."""
    with pytest.raises(UserError) as caught:
        with_settings(Recipe(task=task or Images(), data=Data(source=source)), settings)
    assert "\n" not in str(caught.value)
    return caught.value


def value_at(recipe: Recipe, path: str) -> Any:
    """Return the value of a field by its path."""
    node: Any = recipe
    for key in path.split("."):
        node = getattr(node, key)
    return node


def test_a_setting_changes_its_field_and_nothing_else() -> None:
    game = Recipe().game
    expected = dataclasses.replace(Recipe(), game=dataclasses.replace(game, penalty=Penalty(every=4)))
    assert with_settings(Recipe(), ["game.penalty.every=4"]) == expected
    assert with_settings(Recipe(), [" game.penalty.every = 4 "]) == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task.size=none", None),
        ("task.size=32", 32),
        ("task.size=40x30", (40, 30)),
        ("task.flip=true", True),
        ("task.channels=3", 3),
        ("augment.kinds=flip,color", ("flip", "color")),
        ("augment.kinds=", ()),
        ("networks.conditional=true", True),
        ("game.weight_clip=0.01", 0.01),
        ("game.loss=hinge", "hinge"),
        ("game.update=extragradient", "extragradient"),
        ("evaluation.timeout=60", 60.0),
        ("stopping.patience.evaluations=3", 3),
        ("stopping.threshold.level=0.7", 0.7),
        ("stopping.evidence.alpha=0.49", 0.49),
        ("stopping.evidence.min_wait=0", 0.0),
        ("stopping.evidence.min_gain=0.001", 0.001),
        ("stopping.evidence.boundary=normal-mixture", "normal-mixture"),
        ("remedies.attempts=0", 0),
        ("remedies.rate_factor=0.1", 0.1),
        ("seed=7", 7),
    ],
)
def test_settings_are_read_as_the_type_of_their_field(setting: str, value: object) -> None:
    beside = ["augment.probability=0.5"] if setting == "augment.kinds=flip,color" else []
    found = value_at(with_settings(Recipe(), [setting, *beside]), setting.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("task", "setting", "value"),
    [
        (Points(), "task.deviation=0.1", 0.1),
        (Points(deviation=1.0), "task.deviation=none", None),
        (SuperResolution(), "task.scale=2", 2),
        (SuperResolution(), "task.faithful=1", 1.0),
        (Custom(), "task.name=mine", "mine"),
    ],
)
def test_the_settings_of_a_task_are_its_own(task: TaskSettings, setting: str, value: object) -> None:
    assert value_at(with_settings(Recipe(task=task), [setting]), setting.partition("=")[0]) == value
    assert refused(setting).subject == Setting(setting.partition("=")[0])


# Names


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("game.penalty.gama", "game.penalty.gamma"),
        ("game.penalty.evry", "game.penalty.every"),
        ("game.discriminator_step", "game.discriminator_steps"),
        ("stopping.patience.evaluation", "stopping.patience.evaluations"),
        ("evaluaton.num_samples", "evaluation.num_samples"),
        ("data.size", "task.size"),
        ("data.flip", "task.flip"),
        ("size", "task.size"),
        ("batch", "game.batch"),
        ("gamma", "game.penalty.gamma"),
        ("networks.batch", "game.batch"),
        ("game.rate", "game.generator.rate"),
        ("stopping.alpha", "stopping.evidence.alpha"),
        ("stopping.delta", "stopping.evidence.delta"),
        ("judging.num_samples", "evaluation.num_samples"),
        ("judging.features", "evaluation.features"),
        ("update", "game.update"),
        ("attempts", "remedies.attempts"),
    ],
)
def test_an_unknown_or_misplaced_name_is_refused_with_the_one_that_was_meant(path: str, nearest: str) -> None:
    error = refused(f"{path}=1")
    assert error.subject == Setting(path)
    assert error.remedies[0] == Near(nearest)
    value_at(Recipe(), nearest)


def test_a_name_that_stands_in_several_places_is_told_with_all_of_them() -> None:
    told = " ".join(map(str, refused("judging.every=8").remedies))
    assert all(name in told for name in ("evaluation.every", "saving.every", "game.penalty.every"))


def test_a_field_of_another_task_says_which_task_that_is() -> None:
    assert refused("task.scale=2").remedies[-1] == Option("task", "super-resolution")
    assert refused("task.deviation=1").remedies[-1] == Option("task", "points")
    assert refused("task.flip=true", task=Points()).remedies[-1] == Option("task", "images")


def test_a_field_of_another_task_is_no_reason_to_train_the_ring_as_images() -> None:
    told = refused("task.flip=true", task=Points(), source="ring").remedies
    assert not any(isinstance(one, Option) for one in told)
    assert "ring" in str(told[0])


@pytest.mark.parametrize(("validation", "test"), [(1.0, 0.1), (0.1, 1.0), (0.6, 0.6), (0.95, 0.95)])
def test_every_remedy_for_shares_that_leave_nothing_works(validation: float, test: float):
    settings = [f"data.validation={validation}", f"data.test={test}"]
    with pytest.raises(UserError) as caught:
        with_settings(Recipe(), settings)
    for remedy in caught.value.remedies:
        if isinstance(remedy, Setting):
            with_settings(Recipe(), [*settings, f"{remedy.field}={remedy.value}"])


@pytest.mark.parametrize("path", ["task", "task.kind"])
def test_the_task_itself_is_an_argument_and_not_a_setting(path: str) -> None:
    assert refused(f"{path}=points").remedies == (Option("task", "points"),)


@pytest.mark.parametrize("name", ["evaluation", "stopping.patience", "game.penalty", "remedies"])
def test_a_group_is_refused_with_its_fields(name: str) -> None:
    error = refused(f"{name}=1")
    assert error.subject == Setting(name)
    fields = to_dict(Recipe())
    for key in name.split("."):
        fields = fields[key]
    assert all(f"{name}.{field}" in error.problem for field in fields)


# Values


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ("game.generator.rate=-1", ["> 0"]),
        ("game.generator.rate=nan", []),
        ("game.generator.rate=inf", []),
        ("game.generator.rate=fast", []),
        ("game.loss=hing", ["non-saturating", "hinge"]),
        ("game.update=together", ["alternating", "simultaneous", "extragradient"]),
        ("augment.kinds=flop", ["flip"]),
        ("task.size=7", ["less than 8"]),
        ("task.size=3000", ["1024"]),
        ("task.size=40x0", ["less than 8"]),
        ("task.channels=17", ["<= 16"]),
        ("task.channels=0", [">= 1"]),
        ("seed=1.5", []),
        ("seed=-1", [">= 0"]),
        ("networks.conditional=maybe", ["true", "false"]),
        ("device=gpu", ["auto", "cpu", "mps", "cuda:N"]),
        ("game.batch=1", [">= 2"]),
        (f"game.packing={10**18}", ["<= 9007199254740992"]),
        ("game.label_smoothing=0.5", ["< 0.5"]),
        ("evaluation.timeout=0", ["> 0"]),
        ("evaluation.share=0.6", ["<= 0.5"]),
        ("evaluation.num_samples=99", [">= 100"]),
        ("stopping.evidence.alpha=0", []),
        ("stopping.evidence.alpha=0.5", ["< 0.5"]),
        ("stopping.evidence.alpha=-0.05", []),
        ("stopping.evidence.alpha=nan", []),
        ("stopping.evidence.alpha=five", []),
        ("stopping.evidence.delta=0", ["> 0"]),
        ("stopping.evidence.delta=nan", []),
        ("stopping.evidence.min_gain=0", ["> 0"]),
        ("stopping.evidence.min_gain=-1", ["> 0"]),
        ("stopping.evidence.min_gain=nan", []),
        ("stopping.evidence.min_gain=inf", []),
        ("stopping.evidence.min_wait=-0.1", [">= 0"]),
        ("stopping.evidence.min_wait=nan", []),
        ("stopping.evidence.boundary=pocock", ["alpha-spending", "normal-mixture"]),
        ("stopping.evidence.boundary=", ["alpha-spending", "normal-mixture"]),
        ("stopping.policy=evidenz", ["evidence", "budget", "discriminator-threshold", "patience"]),
        ("stopping.patience.evaluations=0", [">= 1"]),
        ("stopping.threshold.level=1.1", ["<= 1"]),
        ("remedies.attempts=-1", [">= 0"]),
        ("remedies.attempts=11", ["<= 10"]),
        ("remedies.rate_factor=1", ["< 1"]),
        ("remedies.rate_factor=0", ["> 0"]),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(setting: str, facts: list[str]) -> None:
    error = refused(setting)
    path, _, value = setting.partition("=")
    assert error.subject == Setting(path, value)
    assert error.problem
    assert all(fact in error.problem for fact in facts)


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("game.loss=hing", "hinge"),
        ("augment.kinds=flop", "flip"),
        ("stopping.policy=evidenz", "evidence"),
        ("stopping.evidence.boundary=alpha-spendin", "alpha-spending"),
        ("game.update=alternate", "alternating"),
    ],
)
def test_a_word_that_is_nearly_right_is_refused_with_the_right_one(setting: str, nearest: str) -> None:
    assert refused(setting).remedies == (Near(nearest),)


@pytest.mark.parametrize(
    ("setting", "subject"),
    [
        ("gamma", Setting("gamma")),
        ("seed.low=1", Setting("seed.low")),
        ("=3", Setting("")),
        ("game.penalty.kind.x=1", Setting("game.penalty.kind.x")),
    ],
)
def test_what_is_no_setting_is_refused_by_its_name(setting: str, subject: Setting) -> None:
    assert refused(setting).subject == subject


# Values that do not go together


COMPETITIVE = ("game.loss=wasserstein", "game.generator.optimizer=sgd", "game.discriminator.optimizer=rmsprop")
COMPETITIVE += ("game.update=competitive",)
CONTRADICTIONS = [
    (["data.validation=0.6", "data.test=0.4"], "data.validation", "data.test=0.1"),
    (["game.penalty.kind=r1", "networks.discriminator_norm=batch"], "game.penalty.kind", None),
    (["game.update=simultaneous", "game.discriminator_steps=2"], "game.discriminator_steps", "game.update=alternating"),
    (["game.update=extragradient", "game.discriminator_steps=5"], "game.discriminator_steps", None),
    (["stopping.policy=discriminator-threshold"], "stopping.policy", "stopping.policy=patience"),
    (["game.label_smoothing=0.1", "game.loss=hinge"], "game.label_smoothing", "game.label_smoothing=0"),
    (
        ["game.generator.beta2_end=0.9", "game.generator.optimizer=sgd"],
        "game.generator.beta2_end",
        "game.generator.beta2_end=none",
    ),
    (["game.penalty.kind=r1"], "game.penalty.kind", "game.penalty.gamma=0.5"),
    (["game.penalty.kind=wgan-gp", "game.penalty.gamma_end=0"], "game.penalty.kind", "game.penalty.gamma=10"),
    (["game.batch=64", "game.packing=3"], "game.packing", "game.batch=63"),
    (["game.batch=4", "game.packing=4"], "game.packing", "game.batch=8"),
    (["game.batch=4", "game.packing=100"], "game.packing", "game.packing=1"),
    (["networks.conditional=true", "game.packing=2"], "game.packing", "game.packing=1"),
    (["game.correction.kind=consensus", "game.correction.weight=0"], "game.correction.kind", None),
    ([*COMPETITIVE, "game.loss=hinge"], "game.loss", "game.loss=minimax"),
    ([*COMPETITIVE, "game.generator.optimizer=adam"], "game.generator.optimizer", "game.generator.optimizer=rmsprop"),
    ([*COMPETITIVE, "game.generator.beta1=0.5"], "game.generator.beta1", "game.generator.beta1=0"),
    ([*COMPETITIVE, "game.discriminator.weight_decay=0.1"], "game.discriminator.weight_decay", None),
    ([*COMPETITIVE, "game.discriminator.clip_norm=1"], "game.discriminator.clip_norm", "game.update=extragradient"),
    ([*COMPETITIVE, "game.correction.kind=symplectic"], "game.correction.kind", "game.correction.kind=none"),
    (
        [*COMPETITIVE, "networks.conditional=true", "networks.condition=naming", "game.auxiliary=1"],
        "game.auxiliary",
        "game.update=extragradient",
    ),
]


@pytest.mark.parametrize(("settings", "field", "remedy"), CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused_with_one_that_does_not(
    settings: list[str], field: str, remedy: str | None
) -> None:
    error = refused(*settings)
    assert isinstance(error.subject, Setting)
    assert error.subject.field == field
    offered = [part for part in error.remedies if isinstance(part, Setting)]
    assert offered
    if remedy is not None:
        assert f"--set {remedy}" in error.told(in_shell=True)
        with_settings(Recipe(), [*settings, *(["data.validation=0.1"] if field == "data.validation" else []), remedy])


def test_packs_of_a_task_of_ones_own_are_refused_as_nothing_would_make_them() -> None:
    with pytest.raises(UserError) as error:
        with_settings(Recipe(task=Custom()), ["game.packing=2"])
    assert error.value.remedies == (Setting("game.packing", 1),)


@pytest.mark.parametrize(("loss", "is_allowed"), [("minimax", True), ("least-squares", True), ("wasserstein", False)])
def test_a_threshold_needs_logits_that_are_a_probability(loss: LossName, is_allowed: bool) -> None:
    recipe = Recipe(game=Game(loss=loss), stopping=Stopping(policy="discriminator-threshold"))
    if is_allowed:
        assert checked(recipe) == recipe
        return
    with pytest.raises(UserError) as caught:
        checked(recipe)
    assert loss in caught.value.problem


def test_settings_that_have_effect_only_together_may_come_in_any_order() -> None:
    for settings in (
        ["augment.probability=0.7", "augment.kinds=flip"],
        ["game.penalty.gamma=1", "game.penalty.kind=r1"],
        ["game.penalty.kind=r1", "game.penalty.gamma_end=1"],
        ["game.label_smoothing=0.1", "game.loss=minimax"],
        ["stopping.policy=discriminator-threshold", "game.loss=minimax"],
    ):
        assert with_settings(Recipe(), settings) == with_settings(Recipe(), settings[::-1])


def test_a_penalty_is_switched_off_by_its_kind_alone() -> None:
    switched = with_settings(Recipe(game=Game(penalty=Penalty(kind="r1", gamma=1.0))), ["game.penalty.kind=none"])
    assert switched.game.penalty.kind == "none"


def test_a_recipe_built_in_python_is_checked_too() -> None:
    for wrong in (
        Recipe(game=Game(generator=OptimizerSettings(rate=math.nan))),
        Recipe(game=Game(generator=OptimizerSettings(rate=-1.0))),
        Recipe(game=Game(batch=0)),
        Recipe(budget=Budget(samples=None, seconds=None)),
        Recipe(budget=Budget(samples=5, seconds=5.0)),
        Recipe(budget=Budget(samples=2**53 + 1, seconds=None)),
        Recipe(game=Game(label_smoothing=0.1, loss="hinge")),
        Recipe(task=Images(size=7)),
        Recipe(task=Points(deviation=-1.0)),
        Recipe(task=SuperResolution(patch=8)),
        Recipe(task={"kind": "sounds"}),  # type: ignore[arg-type]
        Recipe(data=Data(source="\udcff")),
    ):
        with pytest.raises(UserError):
            checked(wrong)


# JSON


@given(
    seed=st.integers(0, 2**63 - 1),
    gamma=st.floats(1e-9, 1e6),
    rate=st.floats(1e-12, 10),
    width=st.integers(4, 4096),
    kinds=st.lists(st.sampled_from(["flip", "color", "cutout"]), max_size=3),
    task=st.one_of(
        st.builds(Images, size=st.none() | st.integers(8, 256), flip=st.booleans()),
        st.builds(Points, deviation=st.none() | st.floats(1e-9, 1e9)),
        st.builds(SuperResolution, scale=st.sampled_from([2, 3, 4]), patch=st.integers(24, 256)),
        st.builds(Custom, name=st.text(st.characters(codec="utf-8"))),
    ),
)
def test_every_recipe_survives_json(
    seed: int, gamma: float, rate: float, width: int, kinds: list[str], task: TaskSettings
) -> None:
    recipe = Recipe(
        seed=seed,
        task=task,
        networks=Networks(width=width),
        game=Game(penalty=Penalty(kind="r1", gamma=gamma), generator=OptimizerSettings(rate=rate)),
    )
    recipe = with_settings(recipe, [f"augment.kinds={','.join(kinds)}", f"augment.probability={0.5 if kinds else 0}"])
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


@pytest.mark.parametrize("task", TASKS, ids=task_name)
def test_a_task_is_written_with_its_kind_and_read_back_by_it(task: TaskSettings) -> None:
    values = to_dict(Recipe(task=task))
    assert values["task"]["kind"] == task_name(task)
    assert from_dict(values).task == task
    assert task_name(from_dict(values).task) == task_name(task)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner)
    ).filter(lambda values: values != {})
)
def test_any_other_json_value_is_refused_in_one_line(values: object) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(values)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


@given(st.text())
def test_any_text_as_a_setting_is_refused_in_one_line(text: str) -> None:
    assert len(str(refused(text)).splitlines()) == 1


@pytest.mark.parametrize(
    ("group", "key", "nearest"),
    [
        (("game",), "penalti", "penalty"),
        (("task",), "sizes", "size"),
        (("stopping", "patience"), "evaluation", "evaluations"),
        ((), "remedy", "remedies"),
    ],
)
def test_unknown_keys_of_a_file_are_named_with_the_nearest(group: tuple[str, ...], key: str, nearest: str) -> None:
    values = to_dict(Recipe())
    inside = values
    for name in group:
        inside = inside[name]
    inside[key] = {}
    with pytest.raises(UserError) as caught:
        from_dict(values)
    assert f'"{".".join((*group, key))}"' in caught.value.problem
    assert caught.value.remedies == (Near(nearest),)


@pytest.mark.parametrize(
    "task", [{"kind": "sounds"}, {"kind": "points", "size": 28}, {"size": 28}, {}, None, "points", [], {"kind": []}]
)
def test_a_task_that_is_none_is_refused(task: object) -> None:
    with pytest.raises(UserError):
        from_dict(to_dict(Recipe()) | {"task": task})


def test_a_rectangle_is_kept_in_a_recipe_as_two_numbers_and_read_again() -> None:
    recipe = with_settings(Recipe(), ["task.size=40x30"])
    values = msgspec.json.decode(msgspec.json.encode(to_dict(recipe)))
    assert values["task"]["size"] == [40, 30]
    assert from_dict(values) == recipe


@pytest.mark.parametrize("size", [[40, 7], [40, 3000], 7, 3000, [40], "40x30"])
def test_a_recipe_with_a_size_that_no_image_can_have_is_refused(size: object) -> None:
    values = to_dict(Recipe())
    values["task"] = {**values["task"], "size": size}
    with pytest.raises(UserError):
        from_dict(values)
