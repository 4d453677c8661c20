"""The page on optimizers says what the record says, and shows the pictures that it names."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "optimizers.md").read_text()
RECORD = json.loads((ROOT / "bench" / "records" / "optimizers.json").read_text())["games"]


def share(game: str, loss: str, method: str) -> float:
    return row_of(game, loss, method)["share"]


def test_the_tables_are_those_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    bench = importlib.import_module("optimizers")
    assert f"{bench.BEGIN}\n{bench.tables(RECORD)}\n{bench.END}" in PAGE


def test_every_game_of_the_record_has_its_map_and_every_picture_is_there() -> None:
    named = re.findall(r"\]\(images/([^)]+)\)", PAGE)
    assert {f"study-maps-{game}.svg" for game in RECORD} <= set(named)
    for name in named:
        assert (ROOT / "docs" / "images" / name).exists(), name


def test_what_is_said_of_rotation_is_so() -> None:
    plain = ("sgd", "simultaneous sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw")
    assert all(share("bilinear", "wasserstein", method) == 0 for method in plain)
    looking = [row["share"] for row in RECORD["bilinear"]["rows"] if row["method"] not in plain]
    assert len(looking) == 7
    assert f"at {100 * min(looking):.0f} to {100 * max(looking):.0f} % of all pairs of rates" in PAGE


def test_what_is_said_of_penalties_is_so() -> None:
    with_r1, without = (f"{100 * share('dirac', loss, 'sgd'):.0f} %" for loss in reversed(LOSSES))
    assert f"it lets plain steps train at {with_r1} of all pairs of rates instead of {without}" in PAGE
    assert (
        f"plain steps in turn train at {with_r1} of all pairs of rates; with the same loss and no penalty, at {without}"
        in PAGE
    )
    assert share("dirac", "minimax", "sgd") == 0
    shares = [[share("dirac", loss, name) for name in ("adam", "rmsprop", "adagrad")] for loss in LOSSES]
    told = [f"{100 * one:.0f} %" for every in shares for one in every]
    sentence = "train at {}, {} and {} of the pairs without a penalty, and at {}, {} and {} with R1".format(*told)
    assert sentence in PAGE
    of_wgan = {row["method"]: row["share"] for row in RECORD["dirac"]["rows"] if row["loss"] == "wasserstein + GP"}
    most = [method for method, found in of_wgan.items() if found > 0.5]
    assert sorted(most) == ["consensus sgd", "symplectic sgd"]
    assert f"train at more than half of the pairs ({100 * of_wgan[most[0]]:.0f} %)" in PAGE


def fresh(game: str, loss: str, method: str) -> list[float]:
    """Return the scores on seeds that did not choose the pair of rates, from the lowest."""
    return row_of(game, loss, method)["fresh"]


def middle(game: str, loss: str, method: str) -> str:
    return f"{fresh(game, loss, method)[1]:.2f}"


def test_what_is_said_of_the_ring_is_so() -> None:
    plain, with_r1 = ([middle("ring", loss, one) for one in ("adam", "rmsprop", "adagrad")] for loss in LOSSES)
    assert "Adam {}, RMSprop {}, Adagrad {}; with R1: {}, {} and {}".format(*plain, *with_r1) in PAGE
    assert f"Adam {plain[0]} and {with_r1[0]}, RMSprop {plain[1]} and {with_r1[1]}." in PAGE
    three = (*LOSSES, "minimax")
    best = [middle("ring", loss, "extragradient adam") for loss in three]
    assert "three of the four losses ({}, {} and {})".format(*best) in PAGE
    for loss, highest in zip(three, best, strict=True):
        rows = [row for row in RECORD["ring"]["rows"] if row["loss"] == loss]
        assert highest == f"{max(row['fresh'][1] for row in rows):.2f}"
    with_penalty = [row for row in RECORD["ring"]["rows"] if row["loss"] == LOSSES[1]]
    others = [row["fresh"][2] for row in with_penalty if row["method"] != "extragradient adam"]
    assert fresh("ring", LOSSES[1], "extragradient adam")[0] > max(others), "with R1 all its seeds are above"
    low, _, high = fresh("ring", LOSSES[0], "optimistic adam")
    assert f"({low:.2f} to {high:.2f} without a penalty)" in PAGE


def test_what_is_said_of_wgan_gp_and_of_minimax_on_the_ring_is_so() -> None:
    wgan = "wasserstein + GP"
    names = ("lookahead adam", "extragradient adam", "sgd", "adam")
    told = [middle("ring", wgan, name) for name in names]
    low, _, high = fresh("ring", wgan, "adam")
    assert "Lookahead {}, extragradient {}, SGD {}, Adam {}".format(*told) + f" ({low:.2f} to {high:.2f})" in PAGE
    assert told[0] == f"{max(row['fresh'][1] for row in RECORD['ring']['rows'] if row['loss'] == wgan):.2f}"
    of_rmsprop = row_of("ring", wgan, "rmsprop")
    assert f"{of_rmsprop['score']:.2f} on the two seeds that chose it, 0.00 on each of three fresh ones" in PAGE
    assert of_rmsprop["fresh"] == [0.0, 0.0, 0.0]
    competitive = row_of("ring", "minimax", "competitive rmsprop")
    assert f"at {100 * competitive['partly']:.0f} % of all pairs of rates, more than any other" in PAGE
    assert competitive["partly"] > max(row["partly"] for row in RECORD["ring"]["rows"] if row != competitive)
    reached = [middle("ring", "minimax", name) for name in ("competitive rmsprop", "adam")]
    assert "reaches {} on fresh seeds; Adam with the same loss reaches {}".format(*reached) in PAGE
    cost = [row_of("ring", "minimax", name)["milliseconds"] for name in ("competitive rmsprop", "rmsprop")]
    assert "takes {:.1f} ms, one of RMSprop {:.1f} ms".format(*cost) in PAGE


def row_of(game: str, loss: str, method: str) -> dict[str, Any]:
    (row,) = [row for row in RECORD[game]["rows"] if (row["loss"], row["method"]) == (loss, method)]
    return row


def test_what_is_said_of_the_grid_is_so() -> None:
    names = ("extragradient adam", "rmsprop", "adam", "lookahead adam", "adagrad")
    best, rmsprop, adam, lookahead, adagrad = (middle("grid", LOSSES[1], name) for name in names)
    low, _, high = fresh("grid", LOSSES[1], "extragradient adam")
    assert f"{best} on fresh seeds, but its three seeds go from {low:.2f} to {high:.2f}" in PAGE
    assert f"RMSprop {rmsprop}, Adam {adam} and Lookahead {lookahead}, Adagrad {adagrad}" in PAGE
    (row,) = [row for row in RECORD["grid"]["rows"] if row["method"] == "lookahead adam"]
    assert f"{row['score']:.2f} on the seeds that chose it, {lookahead} on fresh ones" in PAGE


def test_what_is_said_of_digits_is_so() -> None:
    named = ("adam", "rmsprop", "adagrad", "sgd", "extragradient adam", "lookahead adam")
    adam, rmsprop, adagrad, sgd, best, lookahead = (middle("digits", LOSSES[1], one) for one in named)
    assert f"Adam {adam}, RMSprop {rmsprop}, Adagrad {adagrad}. Samples" in PAGE
    assert f"the data themselves score {RECORD['digits']['ceiling']:.2f}" in PAGE
    shares = {row["method"]: f"{100 * row['share']:.0f} %" for row in RECORD["digits"]["rows"]}
    most = max(row["share"] for row in RECORD["digits"]["rows"])
    assert {row["method"] for row in RECORD["digits"]["rows"] if row["share"] == most} == {"rmsprop", "lookahead adam"}
    told = f"({shares['rmsprop']}), Adam at {shares['adam']}, Adagrad at {shares['adagrad']}"
    assert told in PAGE
    for row in RECORD["digits"]["rows"]:
        of_generator, of_discriminator = row["rates"]
        assert of_discriminator == pytest.approx(of_generator * (10 if "adam" in row["method"] else 1)), row["method"]
        assert row["share"] > 0, "every method has some"
    assert f"{sgd} on fresh seeds, as RMSprop. It trains at {shares['sgd']} of the pairs" in PAGE
    assert sgd == rmsprop
    assert f"ahead by little: {best}, Lookahead {lookahead}" in PAGE
    assert best == max(middle("digits", LOSSES[1], row["method"]) for row in RECORD["digits"]["rows"])
    assert fresh("digits", LOSSES[1], "extragradient adam")[0] < fresh("digits", LOSSES[1], "lookahead adam")[2]


def test_the_answer_in_three_sentences_is_so() -> None:
    answer = PAGE.split("**In three sentences.**")[1].split("This page")[0]
    for game in ("ring", "grid", "digits"):
        numbers = [middle(game, LOSSES[1], one) for one in ("extragradient adam", "adam", "rmsprop")]
        told = "({} on fresh seeds, for Adam's {} and RMSprop's {})" if game == "ring" else "({}, for {} and {})"
        assert told.format(*numbers) in answer
        of_adagrad = [middle(game, loss, "adagrad") for loss in LOSSES if has(game, loss)]
        others = [middle(game, loss, one) for loss in LOSSES if has(game, loss) for one in ("adam", "rmsprop")]
        assert max(of_adagrad) < min(others), f"{game}: Adagrad ends lower"
    rates = {
        (game, method): row_of(game, LOSSES[1], method)["rates"]
        for game in ("ring", "grid", "digits")
        for method in ("adam", "rmsprop", "adagrad", "sgd")
    }
    assert {tuple(rates[game, "rmsprop"]) for game in ("ring", "grid", "digits")} == {(1e-3, 1e-3)}
    assert rates["ring", "adam"] == rates["grid", "adam"] == [1e-3, 1e-3]
    assert rates["digits", "adam"] == [1e-3, 1e-2]
    assert {rate for game in ("ring", "grid", "digits") for rate in rates[game, "adagrad"]} == {1e-2, 1e-1}
    assert rates["digits", "sgd"] == [0.1, 0.1]
    assert {
        rate for game in ("ring", "grid", "digits") for rate in row_of(game, LOSSES[1], "extragradient adam")["rates"]
    } == {1e-3, 1e-2}
    assert float(middle("digits", LOSSES[1], "sgd")) > 0.8
    assert max(float(middle(game, LOSSES[1], "sgd")) for game in ("ring", "grid")) < 0.6


def has(game: str, loss: str) -> bool:
    return any(row["loss"] == loss for row in RECORD[game]["rows"])


LOSSES = ("non-saturating", "non-saturating + R1")
