"""The page on optimizers says what the record says, and shows the pictures that it names."""

import importlib
import json
import re
from collections.abc import Callable
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
    assert f"train in the smallest GAN at {with_r1} of all pairs of rates instead of {without}" in PAGE
    without_penalty = {method: share("dirac", LOSSES[0], method) for method in ("extragradient sgd", "symplectic sgd")}
    assert f"extragradient has {100 * without_penalty['extragradient sgd']:.0f} %" in PAGE
    consensus = share("dirac", LOSSES[0], "consensus sgd")
    assert f"symplectic {100 * without_penalty['symplectic sgd']:.0f} %, consensus {100 * consensus:.0f} %" in PAGE
    as_much = {row["method"] for row in RECORD["dirac"]["rows"] if row["loss"] == LOSSES[0] and row["share"] >= 0.8}
    assert as_much == {"symplectic sgd", "consensus sgd"}
    of_gp = [row["score"] for row in RECORD["dirac"]["rows"] if row["loss"] == "wasserstein + GP"]
    assert f"no method scores more than {max(of_gp):.2f}" in PAGE
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


def longer(game: str, loss: str, method: str) -> list[float]:
    """Return the scores on the same seeds with twice the rounds, from the lowest."""
    return row_of(game, loss, method)["fresh_longer"]


def middle_longer(game: str, loss: str, method: str) -> str:
    return f"{longer(game, loss, method)[1]:.2f}"


def in_order(game: str, loss: str, score: Callable[[str, str, str], str]) -> list[str]:
    """Return the methods of a game and a loss with their scores, the best first."""
    found = [(row["method"], score(game, loss, row["method"])) for row in RECORD[game]["rows"] if row["loss"] == loss]
    return [f"{NAMES.get(method, method)} {told}" for method, told in sorted(found, key=lambda one: -float(one[1]))]


def test_what_is_said_of_the_ring_is_so() -> None:
    plain, with_r1 = ([middle("ring", loss, one) for one in ("adam", "rmsprop", "adagrad")] for loss in LOSSES)
    twice = [middle_longer("ring", LOSSES[1], one) for one in ("adam", "rmsprop", "adagrad")]
    told = "Adam {}, RMSprop {}, Adagrad {}; with R1: {}, {} and {}; with R1 and twice the rounds: {}, {} and {}"
    assert told.format(*plain, *with_r1, *twice) in PAGE
    assert f"Adam {plain[0]} and {with_r1[0]}, RMSprop {plain[1]} and {with_r1[1]}." in PAGE
    of_adam = [middle_longer("ring", loss, "adam") for loss in (*LOSSES, "minimax")]
    assert "With as many gradients Adam reaches {}, {} and {}".format(*of_adam) in PAGE
    costs = [row_of("ring", LOSSES[1], method)["milliseconds"] for method in ("extragradient adam", "adam")]
    assert "its round takes {:.1f} ms with R1, one of Adam {:.1f} ms".format(*costs) in PAGE
    of_sgd = [middle_longer("ring", loss, "sgd") for loss in reversed(LOSSES)]
    assert "plain SGD rises with it to {}, and falls without it to {}.".format(*of_sgd) in PAGE
    assert row_of("ring", LOSSES[0], "sgd")["rates"] == row_of("ring", LOSSES[1], "sgd")["rates"]
    assert float(of_sgd[1]) < float(middle("ring", LOSSES[0], "sgd"))
    assert float(of_sgd[0]) > float(middle("ring", LOSSES[1], "sgd"))
    adaptive = ("adam", "adamw", "rmsprop")
    changes: dict[float, set[bool]] = {1e-2: set(), 1e-3: set()}
    for row in RECORD["ring"]["rows"]:
        if row["loss"] == LOSSES[0] and row["fresh_longer"] and row["method"].split()[-1] in adaptive:
            changes[max(row["rates"])].add(row["fresh_longer"][1] > row["fresh"][1])
    assert changes == {1e-2: {False}, 1e-3: {True}}, "without R1 what plays at 1e-2 falls, and at 1e-3 rises"
    told = [middle_longer("ring", LOSSES[0], one) for one in ("rmsprop", "adamw", "adam", "lookahead adam")]
    assert "falls (RMSprop {}, AdamW {}), and what plays at 1e-3 rises (Adam {}, Lookahead {})".format(*told) in PAGE
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
    least, _, most = longer("ring", LOSSES[0], "optimistic adam")
    told = f"({low:.2f} to {high:.2f} without a penalty, with twice the rounds {least:.2f} to {most:.2f})"
    assert told in PAGE


def test_what_is_said_of_wgan_gp_and_of_minimax_on_the_ring_is_so() -> None:
    wgan = "wasserstein + GP"
    assert f"After 1,500 rounds: {', '.join(in_order('ring', wgan, middle))}." in PAGE
    twice = [one for one in in_order("ring", wgan, middle_or_none) if "extragradient" not in one]
    assert f"After 3,000: {', '.join(twice)}." in PAGE
    of_rmsprop = row_of("ring", wgan, "rmsprop")
    told = f"{of_rmsprop['score']:.2f} on the two seeds that chose it, 0.00 on each of three fresh ones"
    least, _, most = of_rmsprop["fresh_longer"]
    assert f"{told} after 1,500 rounds, and {least:.2f} to {most:.2f} there after 3,000" in PAGE
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


def middle_or_none(game: str, loss: str, method: str) -> str:
    return middle_longer(game, loss, method) if longer(game, loss, method) else "0"


NAMES = {
    "adagrad": "Adagrad",
    "adam": "Adam",
    "extragradient adam": "extragradient",
    "lookahead adam": "Lookahead",
    "optimistic adam": "optimistic Adam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
}


def test_what_is_said_of_the_grid_is_so() -> None:
    low, _, high = fresh("grid", LOSSES[1], "extragradient adam")
    first, *others = in_order("grid", LOSSES[1], middle)
    assert f"on fresh seeds: {first} ({low:.2f} to {high:.2f}), {', '.join(others)}." in PAGE
    assert first.startswith("extragradient")
    twice = [one for one in in_order("grid", LOSSES[1], middle_or_none) if not one.startswith("extragradient")]
    assert f"as many gradients: {', '.join(twice)}." in PAGE
    assert all(row["share"] == 0 for row in RECORD["grid"]["rows"]), "no pair of rates trains on the seeds of the map"
    lookahead = middle("grid", LOSSES[1], "lookahead adam")
    of_adam = longer("grid", LOSSES[1], "adam")
    assert f"({of_adam[0]:.2f} to {of_adam[2]:.2f})" in PAGE
    assert of_adam[0] > high, "each seed of Adam is above each of extragradient"
    (row,) = [row for row in RECORD["grid"]["rows"] if row["method"] == "lookahead adam"]
    assert f"{row['score']:.2f} on the seeds that chose it and {lookahead} on fresh ones; their ranges overlap" in PAGE
    assert row["low"] < row["fresh"][2]


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
    assert f"ahead by little after as many rounds: {best}, Lookahead {lookahead}" in PAGE
    *others, last = [one for one in in_order("digits", LOSSES[1], middle_or_none) if "extragradient" not in one]
    assert f"With twice the rounds {', '.join(others)} and {last}.".replace("Lookahead ", "Lookahead has ") in PAGE
    assert best == max(middle("digits", LOSSES[1], row["method"]) for row in RECORD["digits"]["rows"])
    assert fresh("digits", LOSSES[1], "extragradient adam")[0] < fresh("digits", LOSSES[1], "lookahead adam")[2]


def test_the_answer_in_three_sentences_is_so() -> None:
    answer = PAGE.split("**In three sentences.**")[1].split("This page")[0]
    r1, games = LOSSES[1], ("ring", "grid", "digits")
    for game in games:
        twice = [middle_longer(game, r1, one) for one in ("adam", "rmsprop")]
        assert "({} and {} for {})".format(*twice, middle(game, r1, "extragradient adam")) in answer
        best = max(RECORD[game]["rows"], key=lambda row: (row["loss"] == r1, row["fresh"][1] if row["fresh"] else 0))
        assert best["method"] == "extragradient adam", "after as many rounds it is ahead"
        for method in ("adagrad", "sgd"):
            both = row_of(game, r1, method)
            assert set(both["rates"]) <= {1e-2, 1e-1}
            ends_lower = [
                float(score(game, r1, method)) < min(float(score(game, r1, one)) for one in ("adam", "rmsprop"))
                for score in (middle, middle_longer)
            ]
            assert all(ends_lower) == ((game, method) != ("digits", "sgd")), (game, method)
    assert {tuple(row_of(game, r1, "rmsprop")["rates"]) for game in games} == {(1e-3, 1e-3)}
    assert [row_of(game, r1, "adam")["rates"] for game in games] == [[1e-3, 1e-3], [1e-3, 1e-3], [1e-3, 1e-2]]
    of_grid = [longer("grid", r1, one)[0] for one in ("adam", "rmsprop")]
    assert min(of_grid) > fresh("grid", r1, "extragradient adam")[1], "better on the grid"
    wgan = [one.split()[0] for one in in_order("ring", "wasserstein + GP", middle)]
    with_r1 = [one.split()[0] for one in in_order("ring", r1, middle) if one.split()[0] in wgan]
    assert wgan != with_r1, "with WGAN-GP the order is another one"


LOSSES = ("non-saturating", "non-saturating + R1")
