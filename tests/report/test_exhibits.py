"""Every kind of exhibit: what the report makes of a good file, a damaged one, and a hostile one."""

import io
import math
import re
import struct
import wave
from collections.abc import Callable

import msgspec
import pytest
import torch
from fake_runs import png

from equipoise.errors import UserError
from equipoise.report.exhibits import content_of
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import Exhibit, ExhibitKind, Exhibits
from equipoise.tasks import exhibits as made

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
SUFFIXES = {"picture": "png", "sound": "wav", "animation": "gif", "series": "json", "rows": "json", "lines": "json"}
PICTURE = png(64, 48, lambda x, y: x * y)


def json(values: object) -> bytes:
    return msgspec.json.encode(values)


def wav(samples: list[int], width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(width)
        out.setframerate(8000)
        out.writeframes(b"".join(sample.to_bytes(width, "little", signed=True) for sample in samples))
    return file.getvalue()


GIF = made.animation("walk", "Walk", torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 24, 32)).content
GOOD: dict[ExhibitKind, bytes] = {
    "picture": PICTURE,
    "animation": GIF,
    "sound": wav([0, 16384, -32768, 100] * 100),
    "series": json({"generated": [1.0, 0.5, None], "real": [1.0, 0.4, 0.2]}),
    "rows": json({"head": ["age", "town"], "rows": [["20", "Oslo"], ["30", "Bergen"], ["40", "Oslo"]]}),
    "lines": json(["one", "two", "three"]),
}
HOSTILE: dict[ExhibitKind, bytes] = {
    "picture": PICTURE[:33] + EVIL.encode() + PICTURE[-12:],
    "animation": GIF[:-1] + EVIL.encode() + b";",
    "sound": wav([1, 2, 3]) + EVIL.encode(),
    "series": json({EVIL: [1.0, 2.0]}),
    "rows": json({"head": [EVIL, EVIL], "rows": [[EVIL, "1"], [EVIL, "2"], [EVIL, "3"]]}),
    "lines": json([EVIL]),
}
KINDS: list[ExhibitKind] = list(GOOD)


@pytest.fixture
def show(tmp_path, page) -> Callable:
    """Return what writes exhibits of one content each into a run, and reads its report."""

    def written(*shown: Exhibit, contents: list[bytes]):
        run = RunFolder.create(tmp_path / "run", {"name": "modern"})
        files = {exhibit.file: content for exhibit, content in zip(shown, contents, strict=True)}
        run.write_exhibits(Exhibits(exhibits=shown), files)
        return page(run)

    return written


def exhibit(kind: ExhibitKind, name: str = "one", **more: str) -> Exhibit:
    title = more.pop("title", "Shown")
    return Exhibit(kind=kind, file=f"{name}.{SUFFIXES[kind]}", title=title, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_shown_under_its_title_with_its_texts(show, kind):
    shown = exhibit(kind, caption="Below & after", intro="Above")
    found = show(shown, contents=[GOOD[kind]])
    section = found.one("section", id="exhibits-1")
    assert section.one("h2").text == "Shown"
    assert section.one("p", class_="intro").text == "Above"
    figure = section.one("figure", data_kind=kind)
    assert figure.all("figcaption")[-1].text == shown.caption
    assert not found.all("section", id="samples")


def test_pictures_and_animations_are_images_of_their_size(show):
    found = show(exhibit("picture", "a"), exhibit("animation", "b"), contents=[PICTURE, GIF])
    picture, animation = found.all("img")
    assert (picture.attributes["width"], picture.attributes["height"]) == ("64", "48")
    assert (animation.attributes["width"], animation.attributes["height"]) == ("32", "24")
    assert picture.attributes["src"].startswith("data:image/png;")
    assert animation.attributes["src"].startswith("data:image/gif;")


def test_a_sound_can_be_played_and_is_drawn(show):
    found = show(exhibit("sound"), contents=[GOOD["sound"]])
    audio = found.one("audio")
    assert audio.attributes["src"].startswith("data:audio/wav;")
    assert "controls" in audio.attributes
    assert found.one("svg", class_="wave").one("path").attributes["d"].count("M") == 200
    policy = found.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert ["media-src", "data:"] in [part.split() for part in policy.split(";")]


def test_a_sound_of_another_width_can_be_played_without_a_drawing():
    content = content_of("sound", "t", wav([1, 2, 3], width=3))
    assert content is not None
    assert content.wave is None  # type: ignore[union-attr]


def test_a_series_is_a_chart_of_its_labelled_lines(show):
    found = show(exhibit("series"), contents=[GOOD["series"]])
    charts = found.one("figure", data_kind="series").all("svg", class_="chart")
    assert len(charts) == 2  # broad and narrow
    assert [line.attributes["points"].count(",") for line in charts[0].all("polyline")] == [2, 3]
    assert {"generated", "real"} <= {text.text for text in charts[0].all("text")}


def test_columns_of_numbers_come_with_their_distribution(show):
    found = show(exhibit("rows"), contents=[GOOD["rows"]])
    age, town = found.all("th", scope="col")
    assert re.findall(r"\d+", age.one("small").text) == ["20", "40", "30"]
    assert len(age.all("svg", class_="histogram")) == 1
    assert town.text == "town"
    table = found.one("figure", data_kind="rows").one("table")
    assert table.cells()[1:] == [["20", "Oslo"], ["30", "Bergen"], ["40", "Oslo"]]


@pytest.mark.parametrize("extreme", ["1e308", "-1e308", "nan", "inf", "1e999", "1_0"])
def test_extreme_numbers_break_no_table_and_no_chart(extreme):
    rows = json({"head": ["n"], "rows": [["-1e308"], [extreme], ["1"], ["1e308"]]})
    content = content_of("rows", "t", rows)
    assert content is not None
    assert "nan" not in str(content.columns[0].histogram)  # type: ignore[union-attr]
    chart = content_of("series", "t", json({"a": [1.0, 2.0, -1e308, 1e308]}))
    assert chart is not None
    assert "nan" not in chart.broad  # type: ignore[union-attr]


def test_a_damaged_header_of_a_sound_is_damage():
    whole = bytearray(GOOD["sound"])
    for at in range(44):
        for value in (0, 127, 255):
            content_of("sound", "t", bytes([*whole[:at], value, *whole[at + 1 :]]))


def test_rows_of_another_length_are_filled_and_cut(show):
    rows = [["1"], [], ["1", "2", "3"]]
    found = show(exhibit("rows"), contents=[json({"head": ["a", "b"], "rows": rows})])
    assert found.one("table", class_="grid").cells() == [["a", "b"], ["1", ""], ["", ""], ["1", "2"]]


def test_long_lists_and_long_lines_are_cut_and_say_so(show):
    rows = json({"head": ["n"], "rows": [[str(index)] for index in range(1150)]})
    lines = json(["x" * 100_000, *map(str, range(1000))])
    found = show(exhibit("rows", "a"), exhibit("lines", "b"), contents=[rows, lines])
    figures = [found.one("figure", data_kind="rows"), found.one("figure", data_kind="lines")]
    assert [len(figures[0].all("tr")) - 1, len(figures[1].all("li"))] == [100, 100]
    assert len(figures[1].all("li")[0].text) == 4000
    assert ["1,050" in figures[0].text, "901" in figures[1].text] == [True, True]
    assert re.findall(r"[\d.]+", figures[0].one("small").text)[:2] == ["0", "1149"]  # of all rows


def test_exhibits_of_one_title_stand_in_one_place_in_their_order(show):
    shown = [exhibit("picture", "a"), exhibit("picture", "b"), exhibit("lines", "c"), exhibit("picture", "d")]
    found = show(*shown, contents=[PICTURE, PICTURE, GOOD["lines"], PICTURE])
    figures = found.one("section", id="exhibits-1").one("div", class_="exhibits").all("figure")
    assert [figure.attributes["data-kind"] for figure in figures] == [one.kind for one in shown]


def test_exhibits_are_grouped_by_title_in_the_order_given(show):
    shown = [exhibit("lines", "a", title="B"), exhibit("lines", "b", title="A"), exhibit("lines", "c", title="B")]
    found = show(*shown, contents=[json([name]) for name in "abc"])
    sections = [found.one("section", id=f"exhibits-{at}") for at in (1, 2)]
    assert [section.one("h2").text for section in sections] == ["B", "A"]
    assert [[item.text for item in section.all("li")] for section in sections] == [["a", "c"], ["b"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"{}", b"[1]", b"[" * 100_000])
def test_damaged_files_are_left_out(show, kind, content):
    found = show(exhibit(kind), contents=[content])
    assert not found.all("figure", data_kind="*")
    assert found.one("section", id="samples")


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_cut_anywhere_break_nothing(kind):
    whole = GOOD[kind]
    for end in range(0, len(whole), max(1, len(whole) // 60)):
        content = content_of(kind, "t", whole[:end])
        assert kind == "sound" or not content  # of a sound the beginning can be heard


def test_files_that_are_missing_links_or_elsewhere_are_left_out(tmp_path, page):
    run = RunFolder.create(tmp_path / "run", {"name": "modern"})
    (tmp_path / "secret.png").write_bytes(PICTURE)
    names = ["gone.png", "../../secret.png", str(tmp_path / "secret.png"), "a\0b.png", "..", "", "log"]
    shown = [Exhibit(kind="picture", file=name, title="Shown") for name in names]
    run.write_exhibits(Exhibits(exhibits=tuple(shown)), {})
    assert not page(run).all("img")


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_texts_are_inert_in_every_kind(show, kind):
    found = show(exhibit(kind, title=EVIL, caption=EVIL, intro=EVIL), contents=[HOSTILE[kind]])
    figure = found.one("figure", data_kind=kind)
    assert found.one("section", id="exhibits-1").one("h2").text == EVIL
    assert figure.all("figcaption")[-1].text == EVIL
    if kind in ("rows", "lines"):
        assert EVIL in figure.all("li" if kind == "lines" else "td")[0].text
    if kind == "series":
        assert any(text.text.startswith("<script>") for text in figure.all("text"))


def test_what_would_make_the_page_too_large_is_left_out_by_name(show):
    large = PICTURE[:-12] + b"\0" * 7_000_000 + PICTURE[-12:]
    shown = [exhibit("picture", "a"), exhibit("picture", "b"), exhibit("picture", "c")]
    found = show(*shown, contents=[large, large, PICTURE])
    section = found.one("section", id="exhibits-1")
    assert len(section.all("img")) == 2
    assert "b.png" in section.one("p", class_="note").text
    assert "a.png" not in section.one("p", class_="note").text


def test_a_damaged_record_of_the_exhibits_is_a_clear_error(tmp_path, page):
    run = RunFolder.create(tmp_path / "run", {"name": "modern"})
    for values in ({"exhibits": [{"kind": "program", "file": "a", "title": "b"}]}, {"exhibits": 3}):
        (run.path / "exhibits.json").write_bytes(json(values))
        with pytest.raises(UserError, match=r"exhibits\.json"):
            page(run)


def test_what_a_task_makes_is_what_the_report_reads():
    samples = torch.sin(torch.arange(4000) / 5)
    numbers = made.series("a", "t", {"x": [1.0, math.nan, 2.0, 3.0]})
    table = made.rows("a", "t", ["n", "name"], [[1.5, "x"], [2.5, "y"], [3, "z"]])
    for item in (made.sound("a", "t", samples, 8000), numbers, table, made.lines("a", "t", ["x"])):
        assert content_of(item.kind, item.title, item.content), item.kind


def test_a_picture_is_measured_by_its_header():
    content = content_of("picture", "t", png(3, 5, lambda x, y: 0))
    assert content is not None
    assert (content.width, content.height) == (3, 5)  # type: ignore[union-attr]
    webp = b"RIFF" + struct.pack("<I", 4) + b"WEBP"
    assert content_of("animation", "t", webp) is not None
    assert content_of("animation", "t", webp[:-1]) is None
