"""Device, precision and threads: what is there, and no number of threads out of a file that would end the process."""

import json
from typing import Any

import pytest
import torch

from equipoise.errors import Option, UserError
from equipoise.host import device
from equipoise.host.device import (
    chosen_device,
    chosen_precision,
    environment_of,
    fastest_threads,
    is_losing,
    threads_of,
)
from equipoise.recipe import Recipe, with_settings

CPU = torch.device("cpu")


def test_a_run_computes_with_the_threads_it_began_with_and_the_callers_come_back() -> None:
    own = torch.get_num_threads()
    with threads_of(own + 1, CPU):
        assert torch.get_num_threads() == own + 1
    assert torch.get_num_threads() == own


@pytest.mark.parametrize("begun", [None, "2", 0, -1, True, 1.0, 10**6, 10**12, 10**30])
def test_any_other_number_of_threads_in_the_file_changes_nothing(begun: Any) -> None:
    own = torch.get_num_threads()
    with threads_of(begun, CPU):
        assert torch.get_num_threads() == own


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_a_device_that_is_not_there_is_refused_with_one_that_is(name: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has a Metal device")
    with pytest.raises(UserError) as refused:
        chosen_device(name)
    assert refused.value.subject == Option("device", name)
    assert Option("device", "cpu") in refused.value.remedies


def test_auto_is_a_gpu_where_there_is_one_and_a_cpu_is_always_there() -> None:
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device("cpu") == CPU


def test_precision_is_what_was_asked_for_and_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(precision: str) -> torch.dtype:
        return chosen_precision(with_settings(Recipe(), [f"precision={precision}"]), CPU)

    for has_bfloat16, auto in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(device, "processor_has_bfloat16", lambda has=has_bfloat16: has)
        assert [chosen(name) for name in ("float32", "bfloat16", "auto")] == [torch.float32, torch.bfloat16, auto]


def test_the_environment_is_plain_values_and_names_what_decides_the_last_bits() -> None:
    found = environment_of(CPU, torch.bfloat16)
    assert json.loads(json.dumps(found)) == found
    assert (found["torch"], found["device"], found["precision"]) == (str(torch.__version__), "cpu", "bfloat16")
    assert found["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("most", "seconds", "expected"),
    [
        (8, {8: 1.0, 4: 1.5, 2: 2.0, 1: 3.0}, 8),
        (8, {8: 9.0, 4: 5.0, 2: 2.0, 1: 2.5}, 2),
        (2, {2: 1.0, 1: 0.95}, 2),
        (2, {2: 9.0, 1: 1.0}, 1),
        (1, {}, 1),
    ],
)
def test_fewer_threads_are_begun_with_only_where_they_are_clearly_faster(most, seconds, expected):
    assert fastest_threads(most, seconds.__getitem__) == expected


@pytest.mark.parametrize(("seconds", "expected"), [({2: 1.4, 1: 1.0}, False), ({2: 1.6, 1: 1.0}, True)])
def test_threads_are_sure_to_lose_where_they_take_much_longer(seconds, expected):
    assert is_losing(2, 1, seconds.__getitem__) == expected


def test_one_slow_turn_is_enough_to_lose():
    turns = iter([1.0, 1.0, 1.0, 9.0, 1.0])
    assert is_losing(2, 1, lambda threads: next(turns) if threads == 2 else 1.0)


def test_measuring_threads_leaves_their_number_and_the_random_stream_as_they_were():
    own, before = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        assert fastest_threads(2) in (1, 2)
        assert not is_losing(2, 2, lambda threads: 1.0)
        assert is_losing(1, 2) in (True, False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(own)
    assert torch.equal(torch.get_rng_state(), before)
