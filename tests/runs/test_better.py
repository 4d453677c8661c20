"""Which run is better and how surely: by hand-made scores, over seeds, and never across protocols."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_runs import TEST_PROTOCOL, change_state

from equipoise.runs.better import Verdict, verdict_values, verdicts
from equipoise.runs.compare import compare
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import StartRecord

Maker = Callable[..., RunFolder]


@pytest.fixture
def scored(tmp_path: Path, fake_run: Maker) -> Maker:
    """Return a maker of runs with a test score."""

    def make(name: str, loss: float, error: float, *settings: str, **changes: Any) -> RunFolder:
        run = fake_run(tmp_path / name, *settings, num_steps=3, num_scores=3)
        test = run.read_state().test
        assert test is not None
        change_state(run, test=msgspec.structs.replace(test, loss=loss, error=error, **changes))
        return run

    return make


def of(*runs: RunFolder) -> list[Verdict]:
    return verdicts(compare(runs))


def test_a_run_is_better_where_its_test_score_is_lower_by_more_than_the_noise(scored: Maker) -> None:
    [verdict] = of(scored("b", 0.010, 0.0006, "game.batch=32"), scored("a", 0.007, 0.0008))
    [pair] = verdict.pairs
    assert (verdict.best, verdict.split, pair.kind) == ("a", "test", "lower")
    assert pair.ratio == pytest.approx(3.0)
    for part in ("0.0030 ± 0.0010", "z = 3.0", "5,000"):
        assert part in verdict.sentence


def test_runs_within_the_noise_cannot_be_told_apart(scored: Maker) -> None:
    [verdict] = of(scored("a", 0.010, 0.0008), scored("b", 0.0085, 0.0006, "game.batch=32"))
    assert (verdict.best, verdict.pairs[0].kind) == (None, "level")
    assert verdict.pairs[0].ratio == pytest.approx(1.5)


def test_without_an_error_nobody_can_say_how_surely(scored: Maker) -> None:
    for error in (math.nan, 0.0):
        [verdict] = of(scored(f"a{error}", 0.5, error), scored(f"b{error}", 0.1, error, "game.batch=32"))
        assert (verdict.best, verdict.pairs[0].kind) == (None, "not known")


def test_the_lowest_of_several_is_best_only_if_it_beats_each_of_them(scored: Maker) -> None:
    runs = [scored(name, loss, 0.001, f"game.batch={at + 8}") for at, (name, loss) in enumerate(LOSSES)]
    [verdict] = of(*runs)
    assert [pair.kind for pair in verdict.pairs] == ["level", "lower"]
    assert verdict.best is None
    assert of(runs[0], runs[2])[0].best == "low"


LOSSES = (("low", 0.010), ("near", 0.011), ("far", 0.030))


def test_runs_that_differ_in_the_seed_alone_are_compared_by_the_spread_over_seeds(scored: Maker) -> None:
    ours = [scored(f"a{seed}", loss, 1e-5, f"seed={seed}") for seed, loss in enumerate((0.010, 0.012, 0.014))]
    theirs = [
        scored(f"b{seed}", loss, 1e-5, f"seed={seed}", "game.batch=32")
        for seed, loss in enumerate((0.011, 0.013, 0.015))
    ]
    [verdict] = of(*ours, *theirs)
    [pair] = verdict.pairs
    assert pair.error == pytest.approx(math.sqrt(2 * 0.002**2 / 3))
    assert (pair.kind, pair.over_seeds, pair.limit) == ("level", True, 2.78), "4 degrees of freedom"
    assert verdict.best is None
    [alone] = of(ours[0], theirs[2])
    assert alone.pairs[0].kind == "lower", "by the errors of the tests alone they would seem to differ"


def test_the_error_over_seeds_is_never_below_what_the_tests_imply(scored: Maker) -> None:
    runs = [scored(f"a{seed}", 0.010 + 1e-9 * seed, 0.004, f"seed={seed}") for seed in range(2)]
    runs += [scored(f"b{seed}", 0.014 + 1e-9 * seed, 0.004, f"seed={seed}", "game.batch=32") for seed in range(2)]
    [verdict] = of(*runs)
    assert verdict.pairs[0].error == pytest.approx(0.004)


def test_one_run_beside_several_seeds_is_given_their_spread(scored: Maker) -> None:
    runs = [scored(f"a{seed}", loss, 1e-5, f"seed={seed}") for seed, loss in enumerate((0.010, 0.012))]
    [verdict] = of(*runs, scored("b", 0.02, 1e-5, "game.batch=32"))
    [pair] = verdict.pairs
    assert pair.error == pytest.approx(math.sqrt(2e-6 * 1.5))
    assert pair.limit == 12.71


def test_scores_of_other_protocols_are_named_and_not_compared(scored: Maker) -> None:
    other = TEST_PROTOCOL | {"features": "inception"}
    [verdict] = of(scored("a", 0.01, 0.001), scored("b", 0.5, 0.001, protocol=other))
    assert (verdict.best, verdict.pairs) == (None, ())
    assert "encoder" in verdict.sentence
    assert "equipoise evaluate SAMPLES --against SOURCE" in verdict.sentence, "each run has an encoder of its own"
    [verdict] = of(scored("c", 0.01, 0.001), scored("d", 0.5, 0.001, protocol=TEST_PROTOCOL | {"num_real": 9}))
    assert "equipoise evaluate RUN --against SOURCE" in verdict.sentence


def test_runs_one_of_which_began_with_the_others_weights_are_compared_by_what_trained_neither(scored: Maker) -> None:
    first = scored("a", 0.01, 0.001)
    second = scored("b", 0.5, 0.001, protocol=TEST_PROTOCOL | {"data_digest": "x"})
    data = second.read_data()
    assert data is not None
    start = StartRecord(path=str(first.path.resolve()), samples=100, seen=100, digest="d")
    second.write_data(msgspec.structs.replace(data, start=start))
    [verdict] = of(first, second)
    assert f"equipoise evaluate RUN --against {second.recipe().data.source} --split test" in verdict.sentence


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"data_digest": "x"}, "data"),
        ({"data_digest": "x", "features_taught": {"num_taught": 3}, "features_started_from": "y"}, "data"),
        ({"features_digest": "x", "features_taught": {"num_taught": 3}, "features_started_from": "y"}, "encoder"),
        ({"num_real": 10, "neighbour_samples": 10}, "number"),
        ({"neighbours": 3}, "metrics"),
        ({"something_new": 3}, "settings"),
    ],
)
def test_what_keeps_scores_apart_is_said_in_words_and_not_in_names_of_fields(
    scored: Maker, change: dict[str, Any], word: str
) -> None:
    [verdict] = of(scored("a", 0.01, 0.001), scored("b", 0.5, 0.001, protocol=TEST_PROTOCOL | change))
    headline, _, _ = verdict.sentence.partition("To compare")
    reasons = {"data", "encoder", "number", "metrics", "settings"}
    assert reasons & set(re.findall("[a-z]+", headline)) == {word}
    assert not [field for field in change if "_" in field and field in verdict.sentence]


def test_a_run_without_a_test_is_named_and_where_none_has_one_validation_is_compared(scored: Maker) -> None:
    runs = [scored("a", 0.01, 0.001), scored("b", 0.02, 0.001, "game.batch=32"), scored("c", 0.02, 0.001, "seed=4")]
    change_state(runs[2], test=None)
    assert "c has" in of(*runs)[-1].sentence
    for run in runs:
        change_state(run, test=None)
    assert [verdict.split for verdict in of(*runs)] == ["validation"]


def test_the_test_of_an_earlier_end_is_said_of_a_run_that_went_on_and_decides_nothing(scored: Maker) -> None:
    runs = [scored("a", 0.01, 0.001), scored("b", 0.0254, 0.001, "game.batch=32")]
    before = runs[1].read_state().test
    change_state(runs[1], test=None, tested_before=before)
    [verdict] = of(*runs)
    assert "b has" in verdict.sentence
    assert "0.0254" in verdict.sentence
    assert (verdict.best, verdict.pairs) == (None, ())
    change_state(runs[0], test=None)
    assert "0.0254" in of(*runs)[-1].sentence, "also where none has another test"


def test_a_limit_that_is_missed_is_said(scored: Maker) -> None:
    [verdict] = of(scored("a", 0.01, 0.001, broken=("psnr",)), scored("b", 0.02, 0.001, "game.batch=32"))
    assert "psnr" in verdict.sentence


def test_the_values_are_json(scored: Maker) -> None:
    found = of(scored("a", 0.01, math.nan), scored("b", 0.02, 0.001, "game.batch=32"))
    [values] = msgspec.json.decode(msgspec.json.encode(verdict_values(found)))
    assert values["pairs"][0]["error"] is None
    assert values["pairs"][0]["verdict"] == "not known"
