"""The meter: sums that wait for nothing, NaN apart, and what an interval's numbers become."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from equipoise.errors import Option, UserError
from equipoise.game.updates import ROLES, STATS
from equipoise.health.stats import NAMES, Meter, flat, interval_stats, reduced
from equipoise.storage.records import Score, StepStats, lenient, plain

# An interval


def metered(*steps: dict[str, Any]) -> Meter:
    meter = Meter()
    for step in steps:
        meter.add(step)
    return meter


def test_an_interval_is_the_means_of_what_was_finite():
    meter = metered(
        {"discriminator_loss": torch.tensor(1.0), "accuracy": torch.tensor(0.5)},
        {"discriminator_loss": torch.tensor(math.nan), "accuracy": torch.tensor(math.inf)},
        {"discriminator_loss": 2.0, "accuracy": torch.tensor(0.75)},
    )
    found = interval_stats(meter, 640, 1.5, 400.0, generator_rate=0.1, attempt=2)
    assert (found.discriminator_loss, found.accuracy) == (1.5, 0.625)
    assert (found.samples, found.seconds, found.samples_per_second) == (640, 1.5, 400.0)
    assert (found.generator_rate, found.attempt) == (0.1, 2)
    assert math.isnan(found.generator_loss)
    assert math.isnan(found.discriminator_rate)


def test_skipped_steps_of_both_players_add_up():
    steps = [
        {"discriminator_skipped": float(i == 1), "generator_skipped": torch.tensor(float(i > 0))} for i in range(4)
    ]
    assert interval_stats(metered(*steps), 1, 1.0, 1.0).skipped_steps == 4
    assert interval_stats(metered({"accuracy": 0.5}), 1, 1.0, 1.0).skipped_steps == 0


def test_terms_are_the_players_losses_by_name_and_not_their_sums_gradients_or_flags():
    own = ("loss", "gradient", "skipped", "rate")
    numbers = {f"{role}_{name}": 1.0 for role in ROLES for name in own}
    terms = {f"term/{role}/{name}": 2.0 for role in ROLES for name in (*own, "adversarial_loss", "a/b")}
    found = interval_stats(metered(numbers | terms | {"real_logit": 3.0}), 1, 1.0, 1.0)
    assert found.terms == {f"{role}_{name}": 2.0 for role in ROLES for name in (*own, "adversarial_loss", "a/b")}
    assert (found.generator_loss, found.generator_rate, found.skipped_steps) == (1.0, 1.0, 2)


def test_every_number_that_is_logged_is_made_by_the_update_given_by_a_task_or_set_by_the_loop():
    """A stat that a task may give is never dropped, nor is there one that nobody gives."""
    assert set(NAMES) <= set(StepStats.__struct_fields__)
    own = {f"{role}_{name}" for role in ROLES for name in ("loss", "gradient", "rate")}
    assert own | set(STATS) == set(NAMES)
    assert not own & set(STATS)


# The meter


class Counting(TorchDispatchMode):
    """Counts how often a value goes from the device to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.num = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += "_local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))


def test_adding_reads_nothing():
    meter = Meter()
    with Counting() as counting:
        for value in range(10):
            meter.add({"a": torch.tensor(float(value)), "b": torch.tensor([2.0])[0]})
    assert counting.num == 0
    assert (meter.mean("a"), meter.mean("b")) == (4.5, 2.0)
    assert math.isnan(meter.mean("c"))


def test_sums_survive_json_and_go_on():
    straight = metered({"a": torch.tensor(0.1), "b": math.nan}, {"a": 0.2})
    resumed = Meter()
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict(), allow_nan=False)))
    for meter in (straight, resumed):
        meter.add({"a": torch.tensor(0.7)})
    assert resumed.state_dict() == straight.state_dict()
    assert resumed.mean("a") == straight.mean("a")
    straight.clear()
    assert straight.state_dict() == {}


@pytest.mark.parametrize("odd", [{"a": [1.0]}, {"a": ["x", 1, 0]}, {"a": None}])
def test_other_sums_are_refused(odd: Any):
    with pytest.raises((TypeError, ValueError)):
        Meter().load_state_dict(odd)


# Numbers of any library


@pytest.mark.parametrize(
    "value",
    [2.0, 2, [1.0, 3.0], (1, [2, 3]), np.array([[1.0, 3.0]]), np.float32(2.0), torch.tensor([1.0, 3.0]).bfloat16()],
    ids=repr,
)
def test_a_number_is_the_mean_of_whatever_was_given(value: Any):
    assert float(reduced("loss", value)) == pytest.approx(2.0)


def test_a_tensor_is_reduced_where_it_is():
    with Counting() as counting:
        found = reduced("loss", torch.tensor([1.0, 3.0], requires_grad=True))
    assert counting.num == 0
    assert not found.requires_grad


@pytest.mark.parametrize(
    "value", ["x", None, [], object(), torch.empty(0), torch.tensor(1j)], ids=lambda value: type(value).__name__
)
def test_what_is_no_number_is_refused_by_its_name(value: Any):
    with pytest.raises(UserError) as refused:
        reduced("loss", value)
    assert refused.value.subject == Option("loss")


def test_numbers_are_flattened_in_order():
    assert flat("loss", [[1, 2], np.array([3.0]), torch.tensor([[4.0], [5.0]])]) == [1, 2, 3, 4, 5]


# The record


def test_statistics_survive_json_with_nan_as_null(stats: Any):
    found = stats(accuracy=math.nan, terms={"a": math.inf, "b": 2.0}, skipped_steps=3)[0]
    back = lenient(StepStats, json.loads(json.dumps(plain(found), allow_nan=False)))
    assert math.isnan(back.accuracy)
    assert math.isnan(back.terms["a"])
    assert back.terms["b"] == 2.0
    whole = stats(terms={"b": 2.0})[0]
    assert lenient(StepStats, json.loads(json.dumps(plain(whole)))) == whole


def test_unknown_and_missing_fields_of_a_record_do_not_break_reading():
    found = lenient(Score, {"samples": 5, "loss": 0.5, "best": True, "values": {"fid": None}})
    assert (found.samples, found.loss) == (5, 0.5)
    assert math.isnan(found.error)
    assert math.isnan(found.value("fid"))
    assert math.isnan(found.value("recall"))
    assert found.protocol == {}
    assert lenient(StepStats, {}).samples == 0


@pytest.mark.parametrize("odd", [True, "x", [1], {"a": 1}, None, 10**400, 1e200, -(10**30)])
def test_a_record_of_another_type_is_read_as_if_the_value_were_not_there(odd: Any):
    found = lenient(StepStats, {"samples": odd, "seconds": odd, "skipped_steps": odd, "terms": odd, "unknown": odd})
    assert (found.samples, found.skipped_steps) == (0, 0)
    assert math.isnan(found.seconds) or odd == -(10**30)
    values = {"samples": odd, "loss": odd, "compared_with": odd, "broken": odd, "values": {"kid": odd}}
    score = lenient(Score, values | {"protocol": odd if odd != {"a": 1} else None})
    assert (score.samples, score.compared_with, score.protocol) == (0, 0, {})
    assert math.isnan(score.loss) or odd == -(10**30)
    assert math.isnan(score.value("kid")) or odd == -(10**30)
    assert score.broken == ()
    assert lenient(StepStats, {"terms": {"a": odd, "b": 1}}).terms["b"] == 1
