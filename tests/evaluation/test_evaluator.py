import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.evaluation import evaluator
from equipoise.evaluation.evaluator import (
    Judge,
    NotFiniteError,
    Score,
    compare,
    extracted,
    from_dict,
    make_judge,
    score,
    score_features,
    to_dict,
)
from equipoise.metrics.features.load import Features
from equipoise.metrics.fid import fid, moments
from equipoise.metrics.kid import kid
from equipoise.metrics.memorization import copying
from equipoise.metrics.prdc import prdc

PIXELS = Features("encoder", "f" * 64, 12, lambda images: images.flatten(1).float())


def _images(seed: int, num: int) -> Tensor:
    return torch.rand(num, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _judge(**changes) -> Judge:
    fields = {"data_digest": "d" * 64, "split": "validation", "num_generated": 60, "seed": 1, **changes}
    fields.setdefault("train_batches", _images(9, 90).split(40))
    return make_judge(PIXELS, _images(1, 80).split(32), **fields)


def test_a_score_is_the_measures_of_the_features_under_the_judges_protocol():
    real, fake = _images(1, 80).flatten(1), _images(2, 60).flatten(1) * 0.8
    found = score(_judge(), fake.view(60, 3, 2, 2).split(25))
    distance, shares = kid(real, fake), prdc(real, fake)
    assert (found.kid, found.kid_se) == (distance.value, distance.standard_error)
    assert found.fid == pytest.approx(fid(moments(real), moments(fake)), rel=1e-9)
    assert (found.precision, found.recall) == (shares.precision, shares.recall)
    assert (found.density, found.coverage) == (shares.density, shares.coverage)
    assert (found.protocol.num_real, found.protocol.num_generated, found.protocol.split) == (80, 60, "validation")


def test_scoring_features_is_scoring_without_the_extraction():
    judge, batches = _judge(), _images(2, 60).split(25)
    features = extracted(PIXELS, batches)
    assert torch.equal(features, _images(2, 60).flatten(1))
    a, b = score(judge, batches), score_features(judge, features)
    assert dataclasses.replace(a, seconds=0.0) == dataclasses.replace(b, seconds=0.0)
    with pytest.raises(UserError, match="59 generated images were given"):
        score_features(judge, features[:59])


def test_the_seconds_of_a_score_hold_the_extraction(monkeypatch):
    clock = iter([100.0, 107.0, 108.0, 110.0])  # score begins, score_features begins, ends, score ends
    judge = _judge()
    monkeypatch.setattr(evaluator.time, "perf_counter", lambda: next(clock))
    assert score(judge, [_images(2, 60)]).seconds == 10.0


def test_copying_is_told_where_training_images_are_given_and_nan_where_not():
    real, train, fake = (_images(seed, num).flatten(1) for seed, num in ((1, 80), (9, 90), (2, 60)))
    assert score(_judge(), [_images(2, 60)]).copying == copying(train, real, fake)
    assert score(_judge(), [_images(9, 60)]).copying < -8
    assert math.isnan(score(_judge(train_batches=None), [_images(2, 60)]).copying)


def test_copying_uses_the_first_samples_where_there_are_many(monkeypatch):
    monkeypatch.setattr(evaluator, "COPYING_SAMPLES", 30)
    real, train, fake = (_images(seed, num).flatten(1) for seed, num in ((1, 30), (9, 90), (2, 30)))
    assert score(_judge(), [_images(2, 60)]).copying == copying(train, real, fake)


def test_a_score_from_before_copying_was_looked_for_is_read():
    values = to_dict(score(_judge(), [_images(2, 60)]))
    assert math.isnan(from_dict({**values, "copying": None}).copying)  # how a JSON file says NaN
    del values["copying"]
    assert math.isnan(from_dict(values).copying)


def test_neighbour_measures_use_the_first_samples_where_there_are_many(monkeypatch):
    monkeypatch.setattr(evaluator, "NEIGHBOUR_SAMPLES", 30)
    found = score(_judge(), [_images(2, 60)])
    shares = prdc(_images(1, 30).flatten(1), _images(2, 30).flatten(1))
    assert (found.precision, found.coverage) == (shares.precision, shares.coverage)


@pytest.mark.parametrize("num", [59, 61, 0])
def test_another_number_of_images_than_the_protocols_is_refused(num):
    with pytest.raises(UserError, match=f"{num} generated images were given; the protocol says 60"):
        score(_judge(), _images(2, num).split(20) if num else [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_an_error_of_their_own(bad):
    images = _images(2, 60)
    images[3, 0, 0, 0] = bad
    with pytest.raises(NotFiniteError, match="1 of 60"):
        score(_judge(), [images])
    assert issubclass(NotFiniteError, ValueError)


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 2), ("split", "test"), ("data_digest", "e"), ("num_generated", 50), ("neighbours", 3)]
)
def test_scores_of_two_protocols_do_not_compare(field, value):
    other = _judge(**{field: value})
    a, b = score(_judge(), [_images(2, 60)]), score(other, [_images(2, other.protocol.num_generated)])
    with pytest.raises(UserError, match=f"differ in {field} "):
        compare(a, b)


def test_every_field_of_the_protocol_is_compared():
    a = score(_judge(), [_images(2, 60)])
    for field in dataclasses.fields(a.protocol):
        value = getattr(a.protocol, field.name)
        changed = dataclasses.replace(a.protocol, **{field.name: value + 1 if isinstance(value, int) else value + "x"})
        with pytest.raises(UserError, match=field.name):
            compare(a, dataclasses.replace(a, protocol=changed))


def test_a_comparison_is_second_minus_first():
    a, b = score(_judge(), [_images(2, 60)]), score(_judge(), [_images(3, 60) * 0.3])
    found = compare(a, b)
    assert found.kid == b.kid - a.kid > 0
    assert found.kid_se == pytest.approx((a.kid_se**2 + b.kid_se**2) ** 0.5)
    assert found.recall == b.recall - a.recall < 0


def test_a_score_survives_json():
    a = score(_judge(), [_images(2, 60)])
    assert from_dict(json.loads(json.dumps(to_dict(a)))) == a


@pytest.mark.parametrize("damage", [{"kid": None}, {"protocol": None}, {"protocol": {"features": "encoder"}}])
def test_what_is_no_score_is_told(damage):
    values = {**to_dict(score(_judge(), [_images(2, 60)])), **damage}
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(UserError, match="not a score"):
        from_dict(values)


def test_judging_changes_neither_the_global_stream_nor_the_mode_of_the_generator():
    judge = _judge()
    generator = torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.BatchNorm1d(12), torch.nn.Tanh()).train()
    latents = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    images = generator(latents).view(60, 3, 2, 2)
    before, buffers = torch.get_rng_state(), [b.clone() for b in generator.buffers()]
    score(judge, [images])
    assert torch.equal(torch.get_rng_state(), before)
    assert generator.training
    assert all(torch.equal(a, b) for a, b in zip(buffers, generator.buffers(), strict=True))
    assert torch.is_grad_enabled()


def test_too_few_images_are_refused_when_the_judge_is_made():
    with pytest.raises(UserError, match="at least 6 of each"):
        make_judge(PIXELS, [_images(1, 5)], data_digest="d", split="validation", num_generated=60)
    with pytest.raises(UserError, match="at least 6 of each"):
        make_judge(PIXELS, [], data_digest="d", split="validation", num_generated=60)


def test_the_same_images_give_the_same_score():
    a, b = (score(_judge(), [_images(2, 60)]) for _ in range(2))
    assert dataclasses.replace(a, seconds=0.0) == dataclasses.replace(b, seconds=0.0)
    assert isinstance(a, Score)
