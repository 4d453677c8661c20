"""Scores at the edge of what a float holds never end in a traceback, and a watch that is still open says so."""

import math
import random
from pathlib import Path
from typing import get_args

import pytest

from equipoise.errors import RunBusyError
from equipoise.recipe import PolicyName
from equipoise.report.charts import drawable
from equipoise.watch.watch import Watch

ODD = (1e-300, 1e300, 5e-324, 1.7e308, math.inf, math.nan, 1e-320, 1.0)


@pytest.mark.parametrize("policy", [name for name in get_args(PolicyName) if name != "discriminator-threshold"])
@pytest.mark.parametrize("error", [None, 1e-300, 1e300, 5e-324, math.inf])
def test_scores_at_the_edge_are_followed_reported_and_resumed(
    tmp_path: Path, policy: PolicyName, error: float | None
) -> None:
    draws = random.Random(0)
    for name, scores in {"mixed": draws.choices(ODD, k=12), **{str(odd): [odd] * 6 for odd in ODD}}.items():
        watch = Watch(tmp_path / name, metric="fid", policy=policy, say=None, budget="1000")
        for score in scores:
            watch.step(10, discriminator_loss=1.7e308, generator_loss=5e-324)
            watch.score(fid=score, fid_error=error)
        watch.load_state_dict(watch.state_dict())
        watch.close()
        assert (tmp_path / name / "report.html").is_file()
        Watch(tmp_path / name, metric="fid", policy=policy, say=None, budget="1000", resume=True).close()


def test_what_a_chart_draws_has_ratios_and_differences() -> None:
    drawn = [drawable(sign * value) for value in (5e-324, 1e-300, 1.0, 1.7e308) for sign in (1, -1)]
    assert all(math.isfinite(a - b) and math.isfinite(a / b) for a in drawn for b in drawn)
    assert (drawable(0.0), drawable(0.3)) == (0.0, 0.3)


def test_a_cell_that_is_run_twice_is_told_that_this_process_holds_the_run(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", say=None)
    for resume in (False, True):
        with pytest.raises(RunBusyError) as error:
            Watch(tmp_path / "run", say=None, resume=resume)
        assert "close()" in str(error.value.remedies)
        assert "this" in error.value.problem
    watch.close()
    Watch(tmp_path / "run", say=None, resume=True).close()
