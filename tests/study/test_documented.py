"""The page on optimizers says what the record says, and shows the pictures that it names."""

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "optimizers.md").read_text()
RECORD = json.loads((ROOT / "bench" / "records" / "optimizers.json").read_text())["games"]


def share(game: str, loss: str, method: str) -> float:
    (row,) = [row for row in RECORD[game]["rows"] if (row["loss"], row["method"]) == (loss, method)]
    return row["share"]


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
    looking = [row for row in RECORD["bilinear"]["rows"] if row["method"] not in plain]
    assert len(looking) == 7
    assert all(row["share"] > 0.5 for row in looking)


def test_what_is_said_of_penalties_is_so() -> None:
    for loss, told in (("non-saturating + R1", "81 %"), ("non-saturating", "33 %")):
        assert f"{100 * share('dirac', loss, 'sgd'):.0f} %" == told
        assert told in PAGE
    assert share("dirac", "minimax", "sgd") == 0
    shares = [[share("dirac", loss, name) for name in ("adam", "rmsprop", "adagrad")] for loss in LOSSES]
    told = [f"{100 * one:.0f} %" for every in shares for one in every]
    sentence = "train at {}, {} and {} of the pairs without a penalty, and at {}, {} and {} with R1".format(*told)
    assert sentence in PAGE


def best(loss: str, method: str) -> str:
    (row,) = [row for row in RECORD["ring"]["rows"] if (row["loss"], row["method"]) == (loss, method)]
    return f"{row['score']:.2f}"


def test_what_is_said_of_the_ring_is_so() -> None:
    named = ("adam", "rmsprop", "adagrad")
    plain, with_r1 = ([best(loss, method) for method in named] for loss in LOSSES)
    told = "Adam {}, RMSprop {}, Adagrad {}; with R1: {}, {} and {}".format(*plain, *with_r1)
    assert told in PAGE
    extragradient = best(LOSSES[1], "extragradient adam")
    assert extragradient == max(best(LOSSES[1], row["method"]) for row in RECORD["ring"]["rows"])
    assert f"({extragradient}, for RMSprop's {with_r1[1]} and Adam's {with_r1[0]})" in PAGE
    assert f"({best(LOSSES[0], 'optimistic adam')} and {best(LOSSES[1], 'optimistic adam')})" in PAGE


LOSSES = ("non-saturating", "non-saturating + R1")
