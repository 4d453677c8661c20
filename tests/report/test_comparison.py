"""Runs side by side as a page: their pictures, what is the same shown once, and nothing in it runs or is fetched."""

import msgspec
from fake_runs import change_state, png

from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def differ(run: RunFolder) -> None:
    """Let a run show other samples, and have another score."""
    (run.samples / "best.png").write_bytes(png(64, 64, lambda x, y: x + y))
    test = run.read_state().test
    assert test is not None
    change_state(run, test=msgspec.structs.replace(test, loss=0.05))


def test_samples_stand_side_by_side_and_what_is_the_same_is_shown_once(tmp_path, fake_run, comparison):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second", "game.batch=32")
    differ(second)
    found = comparison(first, second)
    samples = found.one("section", id="exhibits-1")
    runs = [part.attributes["data-run"] for part in samples.all(data_run="*")]
    assert runs == ["first", "second", ""]
    assert len(samples.all("img")) == 3
    assert "first is better" in found.one("header").one("p", class_="verdict").text
    assert len(found.one("section", id="curves").all("polyline")) == 4, "two runs, on broad and on narrow screens"
    assert ["game.batch", "64", "32"] in found.one("section", id="recipes").cells()
    assert [row[0] for row in found.one("section", id="runs").cells()[1:]] == ["first", "second"]
    assert len(found.one("section", id="scores").all("tr", class_="winner")) == 1


def test_the_same_inputs_are_promised_only_where_they_are_the_same(tmp_path, fake_run, comparison):
    first = fake_run(tmp_path / "first")
    alike = fake_run(tmp_path / "alike", "game.batch=32")
    other = fake_run(tmp_path / "other", "networks.latent_size=7")
    assert comparison(first, alike).one("section", id="exhibits-1").all("p", class_="intro")
    assert not comparison(first, other).one("section", id="exhibits-1").all("p", class_="intro")


def test_runs_of_which_nothing_is_known_yet_make_a_page_and_many_runs_too(tmp_path, fake_run, comparison):
    new = [RunFolder.create(tmp_path / name, Recipe()) for name in ("a", "b")]
    found = comparison(*new)
    assert not found.all("svg")
    assert found.one("section", id="samples")
    many = [fake_run(tmp_path / f"run{at}", f"seed={at}", num_steps=3, num_scores=4) for at in range(7)]
    assert len(comparison(*many).one("section", id="curves").all("figure")) == 2


def test_names_with_markup_are_inert(tmp_path, fake_run, comparison):
    first = fake_run(tmp_path / EVIL.replace("/", "_"), "data.source=" + EVIL)
    found = comparison(first, fake_run(tmp_path / "b"))
    assert EVIL.replace("/", "_") in found.text
