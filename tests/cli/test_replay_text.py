"""What stopping policies would have saved, as a table and sentences."""

import math

from equipoise.cli.replay_text import replay_text
from equipoise.recipe import PatienceSettings, Stopping
from equipoise.runs.replay import replay, summaries, summary
from equipoise.runs.replay_read import METRICS, ColumnName, Series
from equipoise.storage.records import Score

PATIENCE = Stopping(policy="patience", patience=PatienceSettings(evaluations=2))


def series_of(*losses: float, metric: ColumnName = "fid") -> Series:
    scores = [Score(samples=100 * index, seconds=0.0, loss=loss) for index, loss in enumerate(losses, 1)]
    return Series("run", METRICS[metric], tuple(scores))


def test_the_table_is_aligned_and_narrow_and_one_run_comes_with_its_reasons():
    series = [series_of(*[20, 10, *[11] * 20])]
    found = summaries(["patience", "budget"], PATIENCE, series)
    text = replay_text(found, series)
    assert len({len(line) for line in text.splitlines()[:5]}) == 1
    assert max(map(len, text.splitlines())) <= 80
    one_line = " ".join(text.split())
    message = found[0].each[0].message
    assert message
    assert f"400 of 2,200: {message}" in one_line
    assert "200 of 2,200: " in one_line
    assert "81.8 %" in text
    assert "FID" in text.split("\n\n")[-1]
    many = [*series, series_of(3, 2, 1, 2, 3, metric="kid")]
    text = replay_text(summaries(["patience"], PATIENCE, many), many)
    assert "2,200" not in text, "of several runs there are no single reasons"
    assert "FID or KID" in text


def test_what_has_no_bound_or_no_value_is_shown_as_such():
    series = series_of(math.nan, math.nan, 5, 4, 3)
    found = summary([replay(PATIENCE, series)])
    assert "∞" in replay_text([found, found], [series])
    negative = series_of(0.2, 0.1, 0.3, -0.1, -0.1, 0.2, metric="kid")
    rows = replay_text(summaries(["patience"], PATIENCE, [negative]), [negative]).splitlines()
    assert rows[2].split()[-3:] == ["–", "–", "–"]
