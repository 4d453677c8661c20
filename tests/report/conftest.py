"""A report read back as a tree, which refuses whatever would not stand alone or could run."""

import html.parser
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from equipoise.report.comparison import write_comparison
from equipoise.report.report import write_report
from equipoise.runs.folder import RunFolder

VOID = {"meta", "img", "path", "rect", "circle", "polygon", "polyline"}
STYLE = r"max-width: \d+px"
MEDIA = r"data:(image/(png|gif|webp)|audio/wav);base64,[A-Za-z0-9+/=]*"


@dataclass
class Element:
    """A tag with its attributes, and what is in it."""

    tag: str
    attributes: dict[str, str]
    inside: "list[Element | str]" = field(default_factory=list)

    def every(self) -> "Iterator[Element]":
        """Yield this element and all below it."""
        yield self
        for child in self.inside:
            if isinstance(child, Element):
                yield from child.every()

    def all(self, tag: str = "", **attributes: str) -> "list[Element]":
        """Return the elements below with this tag and these attributes; `data_chart` is `data-chart`."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.every()
            if element is not self
            and tag in ("", element.tag)
            and all(value in (element.attributes.get(name), "*") for name, value in wanted.items())
            and wanted.keys() <= element.attributes.keys()
        ]

    def one(self, tag: str = "", **attributes: str) -> "Element":
        """Return the only element of a kind."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {attributes}"
        return found[0]

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        parts = [child if isinstance(child, str) else child.text for child in self.inside]
        return " ".join(" ".join(parts).split())

    def cells(self) -> list[list[str]]:
        """Return the texts of a table's cells, a list for each row."""
        return [[cell.text for cell in row.every() if cell.tag in ("td", "th")] for row in self.all("tr")]


class Parser(html.parser.HTMLParser):
    """Builds the tree, and refuses tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attributes) == len(attrs), attrs
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parsed(text: str) -> Element:
    """Return a page as a tree; it fetches nothing and runs nothing."""
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root]
    policy = parser.root.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy.split(";")[0].split() == ["default-src", "'none'"]
    assert "script" not in policy
    for element in parser.root.every():
        assert element.tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "a")
        for name, value in element.attributes.items():
            assert not name.startswith("on"), element
            assert name not in ("href", "xlink:href", "action", "srcdoc", "data")
            assert name != "src" or re.fullmatch(MEDIA, value), value[:80]
            assert name != "style" or re.fullmatch(STYLE, value), value
    styles = "".join(element.text for element in parser.root.all("style"))
    assert not re.search(r"url\((?!#)|@import", styles)
    ids = [element.attributes["id"] for element in parser.root.all(id="*")]
    assert len(ids) == len(set(ids))
    return parser.root


@pytest.fixture
def page() -> Callable[[RunFolder], Element]:
    """Return a reader of a run's report, which is written first."""
    return lambda run: parsed(write_report(run).read_text("utf-8"))


@pytest.fixture
def comparison(tmp_path: Path) -> Callable[..., Element]:
    """Return a reader of the page of several runs, which is written first."""

    def read(*runs: RunFolder) -> Element:
        path = tmp_path / "page.html"
        write_comparison(path, runs)
        return parsed(path.read_text("utf-8"))

    return read
