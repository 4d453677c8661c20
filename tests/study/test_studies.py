"""A study: its grid, its folder, what a kill leaves, its table, its pictures, and the command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest

from equipoise.cli import main
from equipoise.cli.studying import study_text
from equipoise.errors import Option, RunBusyError, UserError
from equipoise.storage import locks
from equipoise.study.cells import Cell, Played, play
from equipoise.study.methods import METHODS
from equipoise.study.page import write
from equipoise.study.pictures import COLOURS, stability_maps, vector_field
from equipoise.study.pictures import Path as Way
from equipoise.study.studies import (
    RATES,
    Row,
    Study,
    cells_of,
    median_outcome,
    open_study,
    play_on,
    refuse_impossible,
    results_of,
    rows_of,
)

SMALL = Study(games=("bilinear",), methods=("sgd", "optimistic sgd"), rates=(0.1, 0.3), seeds=1, rounds=50)
TOLD = "told"


def played(score: float, rates: tuple[float, float] = (0.1, 0.1), seed: int = 0, method: str = "adam") -> Played:
    cell = Cell(
        game="ring",
        method=method,
        loss="minimax",
        generator_rate=rates[0],
        discriminator_rate=rates[1],
        seed=seed,
    )
    return Played(cell=cell, is_lost=score < 0, score=max(0.0, score), milliseconds=1 + seed)


def test_the_grid_has_every_pair_of_rates_of_every_method_and_loss_a_seed_after_the_other() -> None:
    study = Study(games=("ring",), methods=("adam", "sgd"), losses=("minimax", "non-saturating"), seeds=3)
    cells = cells_of(study)
    assert len(cells) == len(set(cells)) == 3 * 2 * 2 * len(RATES["ring"]) ** 2
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert {cell.seed for cell in cells_of(Study(games=("dirac",), seeds=3))} == {0}  # nothing is drawn there
    assert not [
        cell for cell in cells_of(Study(games=("ring",))) if "competitive" in cell.method and "non" in cell.loss
    ]


@pytest.mark.parametrize(
    ("study", "option"),
    [
        (Study(games=("rings",)), "games"),
        (Study(methods=("addam",)), "methods"),
        (Study(losses=("minmax",)), "losses"),
        (Study(rates=(0.0,)), "rates"),
        (Study(rates=(-1.0,)), "rates"),
        (Study(rates=(1e7,)), "rates"),
        (Study(seeds=0), "seeds"),
        (Study(rounds=0), "rounds"),
        (Study(games=("ring",), methods=("competitive rmsprop",), losses=("non-saturating",)), "methods"),
    ],
)
def test_a_study_of_nothing_or_of_what_is_not_there_is_refused_with_what_to_type(study: Study, option: str) -> None:
    with pytest.raises(UserError) as refused:
        refuse_impossible(study)
    assert option in str(refused.value.subject)
    assert refused.value.remedies


def test_a_study_goes_on_with_the_games_that_are_left(tmp_path: Path) -> None:
    out = tmp_path / "study"
    told: list[float] = []
    open_study(out, SMALL)
    whole = play_on(out, SMALL, 1, lambda text, share: told.append(share))
    assert told[-1] == 1
    lines = (out / "cells.jsonl").read_text().splitlines(keepends=True)
    (out / "cells.jsonl").write_text("".join(lines[:5]) + lines[5][:20])  # as a kill leaves it
    again: list[float] = []
    open_study(out, SMALL)
    found = play_on(out, SMALL, 1, lambda text, share: again.append(share))
    assert [one.score for one in found] == [one.score for one in whole]
    assert [one.milliseconds for one in found[:5]] == [one.milliseconds for one in whole[:5]]  # not played again
    assert len(results_of(out)) == len(cells_of(SMALL))


def test_several_workers_find_what_one_does(tmp_path: Path) -> None:
    for num in (1, 2):
        open_study(tmp_path / str(num), SMALL)
    one, two = (play_on(tmp_path / str(num), SMALL, num, lambda text, share: None) for num in (1, 2))
    assert [found.score for found in one] == [found.score for found in two]


def test_a_cell_that_two_processes_have_played_counts_once(tmp_path: Path) -> None:
    open_study(tmp_path / "study", SMALL)
    play_on(tmp_path / "study", SMALL, 1, lambda text, share: None)
    lines = tmp_path / "study" / "cells.jsonl"
    lines.write_text(2 * lines.read_text())
    assert [one.cell for one in results_of(tmp_path / "study")] == cells_of(SMALL)


def test_a_second_process_does_not_play_the_games_of_a_study_once_more(tmp_path: Path) -> None:
    out = tmp_path / "study"
    open_study(out, SMALL)
    with locks.held(out), pytest.raises(RunBusyError, match="is playing this study") as refused:
        play_on(out, SMALL, 1, lambda text, share: None)
    assert Option("out", f"{out}-2") in refused.value.remedies
    assert not results_of(out)


def test_a_rate_or_a_name_that_is_given_twice_is_played_once() -> None:
    twice = Study(games=("ring", "ring"), methods=("adam", "adam"), losses=("minimax",), rates=(0.1, 0.1), seeds=1)
    assert len(cells_of(twice)) == 1


def test_a_game_is_looked_at_after_its_last_round() -> None:
    cell = Cell(
        game="bilinear",
        method="sgd",
        loss="wasserstein",
        rounds=79,
        generator_rate=0.3,
        discriminator_rate=0.3,
    )
    found = play(cell)
    assert len(found.path) == 1 + 79 // 3 + 1  # a look every three rounds, and one after the last


def test_players_that_turn_around_the_equilibrium_have_not_come_nearer_wherever_the_last_round_finds_them() -> None:
    scores = []
    for rounds in (490, 500, 510):
        cell = Cell(
            game="bilinear",
            method="sgd",
            loss="wasserstein",
            rounds=rounds,
            generator_rate=0.3,
            discriminator_rate=0.03,
        )
        scores.append(play(cell).score)
    assert scores == [0, 0, 0]  # at the last round alone: 0, 0.24 and 0


def test_a_study_whose_games_were_scored_otherwise_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "study"
    open_study(out, SMALL)
    kept = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps(kept | {"protocol": kept["protocol"] - 1}))
    with pytest.raises(UserError, match="as another version does it"):
        open_study(out, SMALL)
    (out / "study.json").write_text(json.dumps(kept["study"]))  # as the first version wrote it
    with pytest.raises(UserError, match="no study of this version"):
        open_study(out, SMALL)


def test_a_folder_of_another_study_or_of_something_else_is_left_alone(tmp_path: Path) -> None:
    open_study(tmp_path / "study", SMALL)
    with pytest.raises(UserError, match="another study"):
        open_study(tmp_path / "study", Study())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UserError):
        open_study(tmp_path / "mine", SMALL)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_table_has_the_best_pair_of_rates_its_range_and_the_share_that_trains() -> None:
    results = [
        *(played(score, (0.1, 0.1), seed) for seed, score in enumerate((0.9, 0.7, 0.8))),
        *(played(score, (0.1, 0.2), seed) for seed, score in enumerate((0.85, 0.2, 0.1))),
        *(played(-1, (0.2, 0.1), seed) for seed in range(3)),
        *(played(0.95, (0.2, 0.2), seed) for seed in range(3)),
    ]
    (row,) = rows_of(results)
    assert (row.score, row.low, row.high) == (0.95, 0.95, 0.95)
    assert (row.generator_rate, row.discriminator_rate) == (0.2, 0.2)
    assert row.partly == 2 / 4
    assert row.share == 2 / 4  # the median of the first trains, that of the second and third do not
    assert row.cost == 2


def test_the_outcome_of_several_seeds_is_the_middle_one_and_the_worse_of_two() -> None:
    assert median_outcome([played(0.9), played(0.5), played(-1)]) == "partly"
    assert median_outcome([played(0.9), played(0.1)]) == "partly"  # as its median score, which the table shows
    assert median_outcome([played(0.9), played(0.75)]) == "trains"
    assert median_outcome([played(0.9), played(-1)]) == "partly"
    assert median_outcome([played(-1), played(-1), played(0.9)]) == "diverges"


def test_a_stability_map_has_a_square_of_the_right_colour_for_each_pair_at_its_place() -> None:
    results = [played(0.9, (0.1, 0.1)), played(0.5, (0.1, 1.0)), played(0.1, (1.0, 0.1)), played(-1, (1.0, 1.0))]
    root = ElementTree.fromstring(stability_maps(results, "Rings & <grids>"))
    squares = [one for one in root.iter() if one.tag.endswith("rect") and len(one)]
    assert len(squares) == 4
    at = {one.attrib["fill"]: (float(one.attrib["x"]), float(one.attrib["y"])) for one in squares}
    left, below = at[COLOURS["trains"]]
    assert at[COLOURS["partly"]][0] > left  # a higher rate of D is to the right
    assert at[COLOURS["partly"]][1] == below
    assert at[COLOURS["fails"]][1] < below  # a higher rate of G is up
    assert at[COLOURS["diverges"]] == (at[COLOURS["partly"]][0], at[COLOURS["fails"]][1])
    assert "Rings & <grids>" in "".join(root.itertext())


def test_a_map_of_a_study_that_is_not_done_has_what_there_is() -> None:
    results = [played(0.9, (0.1, 0.1)), played(0.5, (0.1, 1.0))]  # no game at the higher rate of G yet
    root = ElementTree.fromstring(stability_maps(results, "half"))
    assert len([one for one in root.iter() if one.tag.endswith("rect") and len(one)]) == 2


def test_arrows_of_a_field_point_where_it_leads() -> None:
    root = ElementTree.fromstring(vector_field(lambda theta, psi: (1.0, 0.0), [Way("one", ((0, 0), (1, 0)))], "right"))
    arrows = [one.attrib["d"] for one in root.iter() if one.tag.endswith("path")]
    assert len(arrows) > 200
    for arrow in arrows:
        x0, y0, x1, y1 = (float(number) for number in re.findall(r"[-0-9.]+", arrow)[:4])
        assert x1 > x0
        assert y1 == y0
    (line,) = [one.attrib["points"] for one in root.iter() if one.tag.endswith("polyline")]
    first, last = (tuple(float(part) for part in point.split(",")) for point in line.split())
    assert last[0] > first[0]


def test_the_rates_of_a_narrow_map_do_not_run_into_each_other() -> None:
    def labels(*rates: float) -> list[str]:
        cells = [played(0.5, (one, other)) for one in rates for other in rates]
        root = ElementTree.fromstring(stability_maps(cells, "title"))
        return [one.text or "" for one in root.iter() if one.tag.endswith("text")]

    assert {"1e-4", "1e-3", "0.01", "0.1"} <= set(labels(1e-4, 1e-3, 0.01, 0.1)), "all of them, in few letters"
    assert "1.25e-3 – 1.25e-2" in labels(0.00125, 0.0125)
    below = [text for text in labels(0.00125, 0.0025, 0.0125, 0.025) if text == "2.5e-3"]
    assert len(below) == 1, "beside the map, and not below it, where the first and the last one fit"


def test_the_legend_of_a_map_says_from_which_score_on_this_game_trains() -> None:
    root = ElementTree.fromstring(stability_maps([played(0.9), played(0.1, (0.1, 1.0))], "title"))
    words = [one.text or "" for one in root.iter() if one.tag.endswith("text")]
    assert "trains: 0.8 or more" in words
    assert "fails" in words
    assert "diverges" not in words, "nothing diverges in it"


def test_a_few_methods_stand_beside_each_other_and_many_below() -> None:
    def places(num: int) -> set[tuple[float, float]]:
        names = list(METHODS)[:num]
        cells = [
            msgspec.structs.replace(one, cell=msgspec.structs.replace(one.cell, loss=loss))
            for name in names
            for loss in ("minimax", "non-saturating")
            for one in [played(0.9, method=name)]
        ]
        root = ElementTree.fromstring(stability_maps(cells, "title"))
        found = [one for one in root.iter() if one.tag.endswith("text") and one.text in names]
        assert len(found) == num
        return {(float(one.attrib["x"]), float(one.attrib["y"])) for one in found}

    assert len({y for _, y in places(7)}) == 1
    assert len({x for x, _ in places(8)}) == 1


def test_a_page_shows_each_game_and_can_be_written_again(tmp_path: Path) -> None:
    open_study(tmp_path, SMALL) if not any(tmp_path.iterdir()) else None
    results = play_on(tmp_path, SMALL, 1, lambda text, share: None)
    for _ in range(2):
        write(tmp_path, results)
    page = (tmp_path / "index.html").read_text()
    assert "<svg" in page
    assert page.count("<tr>") == 1 + 2
    assert (tmp_path / "maps-bilinear.svg").read_text().startswith("<svg")
    assert "0.00 to 0.00" not in page, "one start has no range"
    for path in tmp_path.glob("*.svg"):
        for one in ElementTree.fromstring(path.read_text()).iter():
            if one.tag.endswith("text"):
                assert "font-size" in one.attrib["style"], "the page's style sheet would overrule an attribute"


def test_columns_stand_below_their_heads_for_the_longest_names_too() -> None:
    row = Row(
        game="ring",
        method="past extragradient momentum",
        loss="relativistic + R1 + R2",
        share=1.0,
        partly=0.5,
        score=0.5,
        low=0.5,
        high=0.5,
        generator_rate=0.1,
        discriminator_rate=0.1,
        cost=123.4,
    )
    head, line, *_ = study_text([row], Path("out")).splitlines()
    assert len(head) == len(line)


def test_the_command_plays_a_study_and_says_where_its_page_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "small"
    arguments = ["study", "optimizers", "--games", "bilinear", "--methods", "sgd,optimistic sgd", "--rates", "0.1,0.3"]
    assert main([*arguments, "--rounds", "30", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    head, *rows = [line for line in text.splitlines() if line.startswith(("bilinear", "  "))]
    assert {row.split(",")[0].strip() for row in rows} == {"sgd", "optimistic sgd"}
    assert {len(line) for line in rows} == {len(head)}, "columns do not stand below their heads"
    assert str(out / "index.html") in text
    assert main([*arguments, "--rounds", "30", "--out", str(out), "--json"]) == 0
    assert '"share"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["x"], ["optimizers", "--rates", ""], ["optimizers", "--rates", "a"], ["optimizers", "--seeds", "0"]],
)
def test_the_command_refuses_mistakes_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["study", *arguments]) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_study_ends_as_one_that_was_not(tmp_path: Path, how: signal.Signals) -> None:
    games = ["--games", "ring", "--methods", "adam", "--losses", "minimax", "--rates", "0.001,0.01", "--rounds", "150"]
    command = [sys.executable, "-m", "equipoise", "study", "optimizers", *games, "--seeds", "2", "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen([*command, tmp_path / "killed"], stderr=told, stdout=subprocess.DEVNULL)
    lines = tmp_path / "killed" / "cells.jsonl"
    while not lines.exists() or len(lines.read_text().splitlines()) < 3:
        time.sleep(0.05)
    os.kill(process.pid, how)
    process.wait()
    assert 3 <= len(results_of(tmp_path / "killed")) < 8
    said = " ".join((tmp_path / "told").read_text().split())
    assert ("of 8 games are kept in" in said) == (how == signal.SIGINT)
    subprocess.run([*command, tmp_path / "killed"], check=True, capture_output=True)
    whole, killed = ({one.cell: one.score for one in results_of(tmp_path / name)} for name in ("whole", "killed"))
    assert whole == killed
