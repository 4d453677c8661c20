"""The number of threads a run began with is taken from its file, and from no number that would end the process."""

from typing import Any

import pytest
import torch

from equipoise.host.device import threads_of

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
