"""Encoders in the cache: which one is taken again, which one is begun with, and which one a run keeps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from equipoise.data.splits import content_digests, to_hashes
from equipoise.metrics.features import encoder, kept
from equipoise.metrics.features.encoder import Loaded, load_or_train, train_encoder
from equipoise.metrics.features.kept import Lesson, RunEncoder

STEPS = 5
WARM = 2  # of them, where another encoder has seen the pictures


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "PAIRS", 8)
    monkeypatch.setattr(encoder, "NUM_FOR_SCALE", 500)


def pictures(num: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Return smooth random pictures uint8 [N, 1, size, size]; of one seed the same ones at any size."""
    coarse = np.random.default_rng(seed).integers(0, 256, (num, 1, 4, 4), dtype=np.uint8)
    smooth = F.interpolate(torch.from_numpy(coarse).float(), size=(48, 48), mode="bicubic").clamp(0, 255)
    return F.interpolate(smooth, size=(size, size), mode="bilinear", antialias=True).round().to(torch.uint8).numpy()


def hashes_of(images: np.ndarray) -> np.ndarray:
    return to_hashes(content_digests(images))


class Calls:
    """The shares of a training that were reported."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def __call__(self, share: float) -> None:
        self.shares.append(share)


def load(
    cache: Path,
    images: np.ndarray,
    key: str,
    held_out: np.ndarray | None = None,
    run: RunEncoder | None = None,
    report: Callable[[float], None] | None = None,
) -> tuple[Loaded, int]:
    """Return the encoder of some images, and how many steps it took to train it here."""
    calls = Calls()
    hidden = hashes_of(pictures(20, seed=9)) if held_out is None else held_out
    lesson = Lesson.of(hashes_of(images), hidden)
    found = load_or_train(images, cache, key, lesson=lesson, run=run, steps=STEPS, report=report or calls)
    return found, len(calls.shares)


def test_twenty_more_of_four_hundred_images_are_judged_by_the_same_encoder(tmp_path: Path) -> None:
    images = pictures(420)
    first, steps = load(tmp_path, images[:400], "a")
    assert steps == STEPS
    assert not first.record.is_reused
    again, steps = load(tmp_path, images[10:], "b")
    assert steps == 0
    assert again.digest == first.digest
    record = again.record
    assert (record.num_taught, record.num_shared, record.num_train) == (400, 390, 410)
    assert record.is_reused
    assert record == load(tmp_path, images[10:], "b")[0].record, "and it is found so again"


def test_an_encoder_that_was_taught_by_what_is_held_out_now_is_not_taken(tmp_path: Path) -> None:
    images = pictures(400)
    first, _ = load(tmp_path, images, "a")
    again, steps = load(tmp_path, images[4:], "b", held_out=hashes_of(images[:4]))
    assert (steps, again.record.started_from) == (STEPS, ""), "nor begun with"
    assert again.digest != first.digest


@pytest.mark.parametrize("num_new", [60, 400])
def test_an_encoder_of_images_that_are_too_different_is_not_taken(tmp_path: Path, num_new: int) -> None:
    images = pictures(400 + num_new)
    first, _ = load(tmp_path, images[:400], "a")
    again, steps = load(tmp_path, images[num_new:], "b")
    assert steps == (WARM if num_new == 60 else STEPS), "begun with where most of the pictures are known"
    assert again.digest != first.digest
    assert again.record.started_from == (first.digest if num_new == 60 else "")


def test_an_encoder_that_many_more_images_taught_is_begun_with_and_not_taken(tmp_path: Path) -> None:
    """However well it knows these: half of what it has learned is of others."""
    images = pictures(400)
    first, _ = load(tmp_path, images, "a")
    again, steps = load(tmp_path, images[:200], "b")
    assert (steps, again.record.started_from) == (WARM, first.digest)
    assert not again.record.is_reused


def test_of_two_encoders_the_nearer_one_is_taken_and_that_which_knows_more_is_begun_with(tmp_path: Path) -> None:
    images = pictures(500)
    load(tmp_path / "near", images[:400], "a")
    nearer, _ = load(tmp_path / "near", images[:450], "b")
    assert load(tmp_path / "near", images[:430], "c")[0].digest == nearer.digest
    load(tmp_path / "known", images[:300], "a")
    better, _ = load(tmp_path / "known", images[100:], "b")
    assert load(tmp_path / "known", images[60:360], "c")[0].record.started_from == better.digest


def test_an_encoder_that_began_with_another_one_is_not_begun_with(tmp_path: Path) -> None:
    """Else steps would be saved again and again, until hardly any of the images had taught it."""
    images = pictures(400)
    first, _ = load(tmp_path, images[:300], "a")
    second, _ = load(tmp_path, images[60:360], "b")
    assert second.record.started_from == first.digest
    third, steps = load(tmp_path, images[100:], "c")
    assert (steps, third.record.started_from) == (STEPS, "")


def test_the_same_images_keep_their_encoder_when_a_nearer_one_has_come(tmp_path: Path) -> None:
    images = pictures(480)
    first, _ = load(tmp_path, images[:400], "a")
    near, _ = load(tmp_path, images[:440], "b")
    assert near.digest == first.digest
    nearer, steps = load(tmp_path, images[:460], "c")
    assert steps > 0
    assert nearer.digest != first.digest
    assert load(tmp_path, images[:440], "b")[0].digest == first.digest


@pytest.mark.parametrize("suffix", [".safetensors", ".taught.safetensors"])
def test_where_the_encoder_that_was_taken_again_is_gone_another_is_trained(tmp_path: Path, suffix: str) -> None:
    images = pictures(420)
    load(tmp_path, images[:400], "a")
    load(tmp_path, images, "b")
    (tmp_path / f"{kept.stem_of('a', STEPS)}{suffix}").write_bytes(b"x")
    again, steps = load(tmp_path, images, "b")
    assert steps > 0
    assert not again.record.is_reused


def test_an_encoder_of_the_same_pictures_at_another_size_is_not_begun_with(tmp_path: Path) -> None:
    """Scores of one that was begun so are noise on some photographs."""
    first, _ = load(tmp_path, pictures(300, 16), "a")
    for size in (24, 40):  # as they are, and with 2 × 2 pixels folded into channels
        again, steps = load(tmp_path, pictures(300, size), f"b{size}")
        assert steps == STEPS
        assert again.record.started_from == ""
        assert again.digest != first.digest
        assert load(tmp_path, pictures(300, size), f"b{size}")[0].record == again.record
    other, steps = load(tmp_path, pictures(300, 24, seed=1), "c")
    assert (steps, other.record.started_from) == (STEPS, "")


class Interrupted(BaseException):
    """Ctrl-C."""


def test_a_training_that_began_with_another_encoder_is_taken_up_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "KEEP_EVERY", 1)

    def interrupt(share: float) -> None:
        raise Interrupted

    whole = tmp_path / "whole"
    cut = tmp_path / "cut"
    for cache in (whole, cut):
        load(cache, pictures(460)[:400], "a")
    others = pictures(460)[60:]
    expected, _ = load(whole, others, "b")
    with pytest.raises(Interrupted):
        load(cut, others, "b", report=interrupt)
    found, steps = load(cut, others, "b")
    assert steps == WARM - 1
    assert found.digest == expected.digest


def test_an_interrupted_training_is_ended_as_it_began_although_there_is_now_one_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "KEEP_EVERY", 1)

    def interrupt(share: float) -> None:
        if share > 0.5:
            raise Interrupted

    with pytest.raises(Interrupted):
        load(tmp_path, pictures(460)[60:], "b", report=interrupt)
    load(tmp_path, pictures(460)[:400], "a")
    found, steps = load(tmp_path, pictures(460)[60:], "b")
    assert steps == STEPS - 3
    assert found.record.started_from == ""


def test_a_run_keeps_its_encoder_whatever_becomes_of_the_cache(tmp_path: Path) -> None:
    images = pictures(300)
    found, _ = load(tmp_path / "one", images, "a")
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(found.data)
    run = RunEncoder(path, found.record, "a")
    other = pictures(300, seed=3)
    again, steps = load(tmp_path / "two", other, "other", run=run)
    assert (steps, again.digest, again.record) == (0, found.digest, found.record)
    path.write_bytes(b"damaged")
    again, steps = load(tmp_path / "one", other, "other", run=run)
    assert (steps, again.digest) == (0, found.digest), "the cache still has it, known by its digest"
    again, steps = load(tmp_path / "two", other, "other", run=run)
    assert steps > 0
    assert again.digest != found.digest


def test_a_run_of_before_finds_its_encoder_by_its_key(tmp_path: Path) -> None:
    found, _ = load(tmp_path, pictures(300), "a")
    run = RunEncoder(tmp_path / "none", None, "a")
    again, steps = load(tmp_path, pictures(300, seed=3), "other", run=run)
    assert (steps, again.digest) == (0, found.digest)


def test_a_name_that_leads_out_of_the_cache_is_not_followed(tmp_path: Path) -> None:
    images = pictures(300)
    found, _ = load(tmp_path / "cache", images, "a")
    (tmp_path / "outside.safetensors").write_bytes(found.data)
    stem = tmp_path / "cache" / kept.stem_of("b", STEPS)
    kept._write_json(stem, {"sha256": found.digest, "weights": "../outside"})
    assert kept.under(stem, None, lambda data: True) is None


def test_an_encoder_is_trained_by_one_thread_whatever_there_are() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        counts: list[int] = []
        train_encoder(pictures(32), steps=1, report=lambda share: counts.append(torch.get_num_threads()))
        assert counts == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_of_a_lesson_each_image_counts_once_and_one_that_is_on_both_sides_is_no_secret() -> None:
    found = Lesson.of(np.array([2, 1, 2], np.uint64), np.array([3, 2, 3], np.uint64))
    assert (found.hashes.tolist(), found.held_out.tolist()) == ([1, 2], [3])


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_interrupted_training_goes_on_with_what_it_began_with_as_long_as_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    """Although there is an encoder now that knows more of the pictures; what came of other weights is not mixed in."""
    monkeypatch.setattr(encoder, "KEEP_EVERY", 1)

    def interrupt(share: float) -> None:
        raise Interrupted

    images = pictures(500)
    first, _ = load(tmp_path, images[:300], "a")
    with pytest.raises(Interrupted):
        load(tmp_path, images[60:360], "b", report=interrupt)
    better, _ = load(tmp_path, images[100:], "c")
    if is_gone:
        (tmp_path / f"{kept.stem_of('a', STEPS)}.safetensors").unlink()
    found, steps = load(tmp_path, images[60:360], "b")
    expected = (WARM, better.digest) if is_gone else (WARM - 1, first.digest)
    assert (steps, found.record.started_from) == expected
