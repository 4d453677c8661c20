import json
import math

import msgspec
import pytest

from equipoise.health.stats import ScoreLine, metric_error, metric_value, record_of, score_from, stats_from


def test_statistics_survive_json_with_nan_as_null(stats):
    line = stats(accuracy=math.nan, terms={"a": math.inf, "b": 2.0}, skipped_steps=3)[0]
    back = stats_from(json.loads(msgspec.json.encode(line)))
    assert math.isnan(back.accuracy)
    assert math.isnan(back.terms["a"])
    assert back.terms["b"] == 2.0
    plain = stats(terms={"b": 2.0})[0]
    assert stats_from(json.loads(msgspec.json.encode(plain))) == plain


def test_unknown_and_missing_fields_of_a_record_do_not_break_reading():
    line = score_from({"samples": 5, "kid": 0.5, "best": True})
    assert (line.samples, line.kid) == (5, 0.5)
    assert math.isnan(line.fid)
    assert line.protocol == {}
    assert stats_from({}).samples == 0


def test_a_score_line_is_built_from_a_judges_values():
    values = {"kid": 0.1, "kid_se": 0.01, "fid": 9.0, "seconds": 1.5, "protocol": {"split": "validation"}, "extra": 1}
    line = ScoreLine.from_score(700, values)
    known = {name: value for name, value in record_of(line).items() if value is not None}
    assert known == {key: value for key, value in values.items() if key != "extra"} | {"samples": 700, "champion": 0}


def test_the_metric_chooses_value_and_error():
    line = ScoreLine(samples=1, seconds=1.0, kid=0.1, kid_se=0.01, fid=9.0)
    assert (metric_value(line, "kid"), metric_error(line, "kid")) == (0.1, 0.01)
    assert metric_value(line, "fid") == 9.0
    assert math.isnan(metric_error(line, "fid"))


@pytest.mark.parametrize("odd", [True, "x", [1], {"a": 1}, None, 10**400, 1e200, -(10**30)])
def test_a_record_of_another_type_is_read_as_if_the_value_were_not_there(odd: object) -> None:
    stats = stats_from({"samples": odd, "seconds": odd, "skipped_steps": odd, "terms": odd, "unknown": odd})
    assert (stats.samples, stats.skipped_steps) == (0, 0)
    assert math.isnan(stats.seconds) or odd == -(10**30)
    line = score_from({"samples": odd, "kid": odd, "champion": odd, "protocol": odd if odd != {"a": 1} else None})
    assert (line.samples, line.champion, line.protocol) == (0, 0, {})
    assert math.isnan(line.kid) or odd == -(10**30)
    assert stats_from({"terms": {"a": odd, "b": 1}}).terms["b"] == 1
