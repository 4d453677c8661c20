"""The judge by features: its measures, its protocol, and what it refuses; nothing outside of it moves."""

import dataclasses
import json
import math
import statistics
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics import feature_judge as module
from equipoise.metrics.crossfit import fold_losses
from equipoise.metrics.feature_judge import (
    METRICS,
    FeatureJudge,
    NotFiniteError,
    extracted,
    make_feature_judge,
    plain_features,
)
from equipoise.metrics.features.load import Features
from equipoise.metrics.fid import fid, moments
from equipoise.metrics.kid import discrepancy, gaussian_kernel, kid
from equipoise.metrics.memorization import mann_whitney, nearest_distances
from equipoise.metrics.prdc import prdc
from equipoise.metrics.two_sample import told_apart
from equipoise.metrics.units import Measured, difference
from equipoise.storage.records import Metric, deciding

PIXELS = Features("encoder", "f" * 64, 12, lambda images: images.flatten(1).float())


def _images(seed: int, num: int) -> Tensor:
    return torch.rand(num, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _flat(seed: int, num: int) -> Tensor:
    return _images(seed, num).flatten(1)


def _judge(**changes: Any) -> FeatureJudge:
    fields = {"data_digest": "d" * 64, "split": "validation", "num_generated": 60, "seed": 1, **changes}
    fields.setdefault("train_batches", _images(9, 90).split(40))
    return make_feature_judge(PIXELS, _images(1, 80).split(32), **fields)


def copying(train: Tensor, real: Tensor, fake: Tensor) -> float:
    return mann_whitney(nearest_distances(fake, train), nearest_distances(real, train))


def same(a: Measured, b: Measured) -> bool:
    return dataclasses.replace(a, units=()) == dataclasses.replace(b, units=()) and all(
        torch.equal(one, other) for one, other in zip(a.units, b.units, strict=True)
    )


def test_a_measurement_is_the_measures_of_the_features_under_the_judges_protocol():
    real, fake = _flat(1, 80), _flat(2, 60) * 0.8
    judge = _judge()
    found = judge.measure(fake.view(60, 3, 2, 2).split(25))
    distance, shares = kid(real, fake), prdc(real[:60], fake)
    assert (found.loss, found.error) == (distance.value, distance.standard_error)
    assert found.values["kid"] == found.loss
    assert found.values["fid"] == pytest.approx(fid(moments(real), moments(fake)), rel=1e-9)
    for name, value in dataclasses.asdict(shares).items():
        assert found.values[name] == value, name
    assert found.values.keys() == {metric.name for metric in METRICS} == {metric.name for metric in judge.metrics}
    assert found.num == 60
    assert [len(side) for side in found.units] == [60, 80]
    assert found.folds == ()


def test_protocol_names_all_that_two_scores_must_share_and_survives_json():
    judge = _judge()
    assert judge.protocol == {
        "features": "encoder",
        "features_digest": "f" * 64,
        "data_digest": "d" * 64,
        "split": "validation",
        "num_real": 80,
        "num_generated": 60,
        "neighbours": 5,
        "neighbour_samples": 60,
        "seed": 1,
    }
    assert json.loads(json.dumps(judge.protocol)) == judge.protocol
    assert (judge.split, judge.num, judge.seed) == ("validation", 60, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 2},
        {"split": "test"},
        {"data_digest": "e"},
        {"num_generated": 50, "neighbour_samples": 50},
        {"neighbours": 3},
        {"folds": 5},
    ],
    ids=str,
)
def test_another_way_of_judging_is_another_protocol(changed: dict[str, Any]):
    settings = {name: value for name, value in changed.items() if name != "neighbour_samples"}
    if "folds" in settings:
        settings["num_folds"] = settings.pop("folds")
    assert _judge(**settings).protocol == _judge().protocol | changed


def test_one_metric_decides_and_is_known_to_be_an_estimate_that_may_fall_below_zero():
    assert [metric.name for metric in METRICS if metric.decides] == ["kid"] == [deciding(_judge().metrics).name]
    assert deciding(METRICS).signed
    assert all(metric.is_kept_by(-1e9) and metric.is_kept_by(1e9) for metric in METRICS), "no guards"


def test_a_judge_by_folds_finds_the_loss_of_each_of_them_for_any_number_of_samples():
    judge = _judge(num_folds=5)
    for one in (judge, judge.sized(40)):
        fake = _flat(2, one.num) * 0.8
        found = one.measure_features(fake)
        assert found.folds == fold_losses(discrepancy(_flat(1, 80), fake).units, 5)
        assert found.values == _judge(num_generated=one.num).measure_features(fake).values


def test_measuring_features_is_measuring_without_the_extraction():
    judge, batches = _judge(), _images(2, 60).split(25)
    features = extracted(PIXELS, batches)
    assert torch.equal(features, _flat(2, 60))
    assert same(judge.measure(batches), judge.measure_features(features))


@pytest.mark.parametrize("num", [59, 61, 0])
def test_another_number_of_images_than_the_protocols_is_refused(num: int):
    for measure, given in (("measure", _images(2, num).split(20) if num else []), ("measure_features", _flat(2, num))):
        with pytest.raises(UserError, match=rf"{num}\D+60") as refused:
            getattr(_judge(), measure)(given)
        assert refused.value.remedies


def test_copying_is_told_where_training_images_are_given_and_nan_where_not():
    real, train, fake = _flat(1, 80), _flat(9, 90), _flat(2, 60)
    assert _judge().measure([_images(2, 60)]).values["copying"] == copying(train, real, fake)
    assert _judge().measure([_images(9, 60)]).values["copying"] < -8
    assert math.isnan(_judge(train_batches=None).measure([_images(2, 60)]).values["copying"])


def test_a_classifier_learns_of_training_samples_and_half_of_the_generated_ones_and_is_tested_on_the_rest():
    real, train, fake = _flat(1, 80), _flat(9, 90), 0.8 * _flat(2, 60)
    found = _judge().measure_features(fake).values["c2st"]
    assert found == told_apart(train, fake[:30], real, fake[30:])
    assert math.isnan(_judge(train_batches=None).measure_features(fake).values["c2st"])


def test_copying_uses_the_first_samples_where_there_are_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COPYING_SAMPLES", 30)
    expected = copying(_flat(9, 90), _flat(1, 30), _flat(2, 30))
    assert _judge().measure([_images(2, 60)]).values["copying"] == expected


def test_neighbour_measures_use_the_first_samples_where_there_are_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "NEIGHBOUR_SAMPLES", 30)
    found = _judge().measure([_images(2, 60)])
    assert _judge().protocol["neighbour_samples"] == 30
    shares = prdc(_flat(1, 30), _flat(2, 30))
    assert (found.values["precision"], found.values["coverage"]) == (shares.precision, shares.coverage)
    assert found.loss == kid(_flat(1, 80), _flat(2, 60)).value


def test_few_real_samples_meet_groups_of_as_many_generated_ones():
    judge = make_feature_judge(PIXELS, [_images(1, 25)], data_digest="d", split="test", num_generated=60)
    found = judge.measure([_images(2, 60)])
    groups = [prdc(_flat(1, 25), _flat(2, 60)[begin : begin + 25]) for begin in (0, 25)]  # ten are left over
    for name in ("precision", "recall", "density", "coverage"):
        expected = statistics.fmean(getattr(group, name) for group in groups)
        assert found.values[name] == pytest.approx(expected, abs=1e-12), name


def test_coverage_of_few_real_samples_is_not_one_only_because_many_are_generated():
    real = torch.randn(100, 12, generator=torch.Generator().manual_seed(1))
    fake = 1.6 * torch.randn(5_000, 12, generator=torch.Generator().manual_seed(2))
    judge = make_feature_judge(PIXELS, [real], data_digest="d", split="test", num_generated=5_000)
    assert prdc(real, fake).coverage > 0.9
    assert judge.measure([fake]).values["coverage"] < 0.6
    honest = torch.randn(5_000, 12, generator=torch.Generator().manual_seed(3))
    assert judge.measure([honest]).values["coverage"] == pytest.approx(0.97, abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_an_error_of_their_own(bad: float):
    images = _images(2, 60)
    images[3, 0, 0, 0] = bad
    with pytest.raises(NotFiniteError, match=r"1\D+60"):
        _judge().measure([images])
    assert issubclass(NotFiniteError, ValueError)


def test_two_measurements_of_one_judge_are_compared_by_the_judges_own_reals():
    judge, latents = _judge(), _images(2, 60)
    before, after = judge.measure([latents]), judge.measure([latents * 0.3])
    found = difference(before, after)
    assert found.value == after.loss - before.loss > 0
    assert found.standard_error < math.hypot(before.error, after.error)


def test_a_judge_for_another_number_of_outputs_says_so_and_has_the_same_reals():
    judge = _judge()
    smaller = judge.sized(40)
    assert (smaller.num, judge.num) == (40, 60)
    assert smaller.protocol == judge.protocol | {"num_generated": 40, "neighbour_samples": 40}
    found = smaller.measure([_images(2, 40)])
    assert found.loss == kid(_flat(1, 80), _flat(2, 40)).value
    assert found.values["recall"] == prdc(_flat(1, 80)[:40], _flat(2, 40)).recall
    assert same(smaller.sized(60).measure([_images(2, 60)]), judge.measure([_images(2, 60)]))


def test_judging_changes_neither_the_global_stream_nor_the_mode_of_the_generator():
    judge = _judge()
    generator = torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.BatchNorm1d(12), torch.nn.Tanh()).train()
    latents = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    images = generator(latents).view(60, 3, 2, 2)
    before, buffers = torch.get_rng_state(), [b.clone() for b in generator.buffers()]
    judge.measure([images])
    assert torch.equal(torch.get_rng_state(), before)
    assert generator.training
    assert all(torch.equal(a, b) for a, b in zip(buffers, generator.buffers(), strict=True))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("num_real", "num_generated"), [(5, 60), (0, 60), (80, 5)])
def test_too_few_images_are_refused_when_the_judge_is_made(num_real: int, num_generated: int):
    batches = [_images(1, num_real)] if num_real else []
    with pytest.raises(UserError, match=rf"{num_real}\D+{num_generated}\D+6\b") as refused:
        make_feature_judge(PIXELS, batches, data_digest="d", split="validation", num_generated=num_generated)
    assert refused.value.remedies


def test_the_same_images_give_the_same_measurement():
    assert same(*(_judge().measure([_images(2, 60)]) for _ in range(2)))


# Judges of other things than images


def test_another_kernel_decides_where_it_is_given():
    kernel = partial(gaussian_kernel, widths=(0.5, 1.0))
    metrics = (Metric(name="mmd", decides=True, signed=True), Metric(name="coverage", better="higher"))
    found = _judge(kernel=kernel, metrics=metrics).measure([_images(2, 60)])
    expected = discrepancy(_flat(1, 80), _flat(2, 60), kernel=kernel).estimate
    assert (found.loss, found.error) == (expected.value, expected.standard_error)
    assert found.values.keys() == {"mmd", "coverage"}
    assert found.values["mmd"] == found.loss


def test_more_metrics_are_found_in_the_features_of_the_generated_samples():
    metrics = (*METRICS, Metric(name="modes", better="higher"))
    found = _judge(metrics=metrics, more=lambda fake: {"modes": fake.sum().item()}).measure([_images(2, 60)])
    assert found.values["modes"] == _flat(2, 60).sum().item()


def test_plain_features_are_the_samples_shifted_and_scaled():
    features = plain_features("plane", 2, torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.5]))
    samples = torch.tensor([[3.0, 0.0], [1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    found = features.extract(samples)
    assert found.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
