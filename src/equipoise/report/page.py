"""The report's page: style, and small pieces of HTML; whatever comes from outside is escaped here."""

import base64
import html
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

escape = html.escape

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1b1d21; --soft: #62666f; --faint: #8c9099;
  --rule: #e6e6e2; --wash: #f4f4f1; --accent: #0f6f63; --other: #7b7f88; --alarm: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e9e9e6; --soft: #a3a7af; --faint: #7e828b;
  --rule: #2b2e33; --wash: #1d2024; --accent: #5cc9b5; --other: #949aa5; --alarm: #f08a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif; font-variant-numeric: tabular-nums;
  -webkit-text-size-adjust: 100%; }
main { max-width: 960px; margin: 0 auto; padding: 72px 32px 96px; }
h1, h2, h3, p, figure, dl, dd, pre, table { margin: 0; }
.eyebrow { color: var(--accent); font-size: 13px; font-weight: 600; letter-spacing: .02em; }
h1 { font-size: clamp(28px, 5vw, 42px); line-height: 1.15; letter-spacing: -.02em; font-weight: 650;
  margin: 10px 0 14px; overflow-wrap: anywhere; }
.what { color: var(--soft); font-size: 17px; max-width: 44em; overflow-wrap: anywhere; }
.verdict { font-size: clamp(19px, 2.6vw, 23px); line-height: 1.45; letter-spacing: -.01em; margin-top: 36px;
  max-width: 36em; }
.game { color: var(--soft); margin-top: 8px; max-width: 44em; }
.failed { border-left: 3px solid var(--alarm); padding-left: 18px; margin: 36px 0 20px; }
.failed .verdict { color: var(--alarm); font-weight: 600; margin-top: 0; }
.failed .game { color: var(--ink); overflow-wrap: anywhere; }
.failed pre { margin-top: 8px; }
.reason { font: 14px/1.6 ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  margin-top: 8px; max-width: 60em; overflow-wrap: anywhere; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 28px 24px;
  margin-top: 44px; padding-top: 28px; border-top: 1px solid var(--rule); }
.numbers dt { color: var(--soft); font-size: 13px; }
.numbers dd { font-size: 22px; line-height: 1.35; letter-spacing: -.01em; font-weight: 550; white-space: nowrap; }
.numbers dd small { font-size: 15px; font-weight: 400; color: var(--soft); letter-spacing: 0; }
.numbers div:first-child dd { color: var(--accent); }
.protocol { color: var(--faint); font-size: 13px; margin-top: 22px; overflow-wrap: anywhere; }
section { margin-top: 88px; }
h2 { font-size: 24px; line-height: 1.25; letter-spacing: -.015em; font-weight: 620; }
h3 { font-size: 15px; font-weight: 600; }
.intro { color: var(--soft); max-width: 44em; margin-top: 8px; }
.body { margin-top: 28px; }
.pair, .charts { display: grid; grid-template-columns: 1fr 1fr; gap: 40px 44px; }
.wide { display: grid; gap: 40px; margin-bottom: 48px; }
.chartbox { display: flex; flex-direction: column; min-width: 0; } .chartbox > svg { margin-top: auto; }
figcaption, .note { color: var(--soft); font-size: 14px; line-height: 1.5; }
figure > figcaption { margin-top: 10px; }
.chartbox figcaption { margin: 2px 0 10px; }
img { display: block; width: 100%; height: auto; border-radius: 3px; }
img.pixels { image-rendering: pixelated; }
.only { max-width: 720px; }
.strip { display: grid; grid-template-columns: repeat(6, 1fr); gap: 14px; }
.strip .crop { aspect-ratio: 1; overflow: hidden; border-radius: 3px; }
.strip .crop img { width: 200%; max-width: none; border-radius: 0; }
.strip figcaption { margin-top: 6px; font-size: 13px; }
svg.chart { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
svg .tick { fill: var(--faint); } svg .label { font-weight: 600; }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--faint); stroke-opacity: .6; }
svg .level { stroke: var(--soft); stroke-dasharray: 3 4; }
svg .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
svg .line.accent { stroke: var(--accent); } svg .line.ink { stroke: var(--other); }
svg .band { stroke: none; fill-opacity: .16; } svg .band.accent { fill: var(--accent); }
svg .band.ink { fill: var(--other); }
svg .dots.accent, svg .label.accent { fill: var(--accent); } svg .dots.ink { fill: var(--other); }
svg .label.ink { fill: var(--soft); }
svg .best { fill: var(--paper); stroke: var(--accent); stroke-width: 2.25; }
svg .ring { fill: none; stroke: var(--accent); stroke-width: 1.25; }
svg .bars { fill: none; stroke-opacity: .45; stroke-width: 1.5; } svg .bars.accent { stroke: var(--accent); }
svg .bars.ink { stroke: var(--other); }
.narrow { display: none; }
table { border-collapse: collapse; font-size: 14px; width: 100%; }
td, th { text-align: left; padding: 7px 20px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  font-weight: 400; overflow-wrap: anywhere; }
th { color: var(--soft); white-space: nowrap; width: 15em; }
thead th { font-size: 13px; }
.grid th, .grid td { width: auto; white-space: nowrap; } .grid tr.winner td { font-weight: 600; color: var(--ink); }
.scroll { overflow-x: auto; } .scroll + .note, .note + .note { margin-top: 14px; max-width: 48em; }
tr.changed td, tr.changed th { font-weight: 600; color: var(--ink); }
tr.changed td:last-child { font-weight: 400; color: var(--soft); }
details { margin-top: 20px; } details + details { margin-top: 10px; }
summary { cursor: pointer; color: var(--accent); font-size: 15px; } summary:hover { text-decoration: underline; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 4px; border-radius: 2px; }
details[open] > summary { margin-bottom: 14px; }
pre { background: var(--wash); border-radius: 6px; padding: 16px 20px; overflow-x: auto; font: 13.5px/1.65 ui-monospace,
  "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.howto { display: grid; gap: 24px; } .howto > div { min-width: 0; } .howto h3 { margin-bottom: 8px; }
.quote { border-left: 2px solid var(--accent); padding-left: 18px; font-size: 18px; max-width: 40em; }
.quote + .wide { margin-top: 40px; }
footer { margin-top: 96px; color: var(--faint); font-size: 13px; }
@media (max-width: 680px) {
  main { padding: 40px 20px 64px; } section { margin-top: 64px; }
  .pair, .charts { grid-template-columns: 1fr; gap: 32px; } .strip { grid-template-columns: repeat(3, 1fr); }
  .numbers { grid-template-columns: 1fr 1fr; } .numbers dd { font-size: 19px; } .numbers dd small { font-size: 13px; }
  .wide { gap: 32px; margin-bottom: 32px; } .wide .broad { display: none; } .wide .narrow { display: block; }
  th { width: 40%; white-space: normal; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --faint: #666; --rule: #ccc; --wash: #f4f4f4; --accent: #0f6f63;
    --other: #777; color-scheme: light; }
  body { font-size: 11pt; } main { padding: 0; max-width: none; } section { margin-top: 36pt; }
  figure, .numbers, pre, tr { break-inside: avoid; } h2, .intro { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

# No script runs and nothing is fetched, whatever a name in the report contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: str) -> str:
    """Return a whole document that needs nothing but itself."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def section(title: str, intro: str, *parts: str) -> str:
    """Return a titled section; `intro` is plain text, the parts are HTML."""
    lead = f'<p class="intro">{escape(intro)}</p>' if intro else ""
    body = "".join(parts)
    return (
        f"<section>\n<h2>{escape(title)}</h2>\n{lead}\n"
        + (f'<div class="body">{body}</div>' if body else "")
        + ("\n</section>")
    )


def note(text: str) -> str:
    """Return a small paragraph of plain text."""
    return f'<p class="note">{escape(text)}</p>'


def rows(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values, both plain text."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in pairs)
    return f"<table><tbody>{body}</tbody></table>"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], winner: int | None = None) -> str:
    """Return a table of plain text with a heading for each column; the line of index `winner` stands out."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join(
        f"<tr{' class=winner' if index == winner else ''}>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>"
        for index, line in enumerate(lines)
    )
    return f'<div class="scroll"><table class="grid"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """Return HTML behind a line of plain text that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figure(image: str, caption: str, kind: str = "") -> str:
    """Return an image or chart with a caption of plain text."""
    return f'<figure class="{kind}">{image}<figcaption>{escape(caption)}</figcaption></figure>'


def chart_figure(title: str, caption: str, charts: Sequence[str]) -> str:
    """Return a titled chart; of two, the second is the one for narrow screens."""
    drawn = (
        charts[0]
        if len(charts) == 1
        else (f'<div class="broad">{charts[0]}</div><div class="narrow">{charts[1]}</div>')
    )
    return (
        f'<figure class="chartbox"><h3>{escape(title)}</h3><figcaption>{escape(caption)}</figcaption>{drawn}</figure>'
    )


def code(text: str) -> str:
    """Return text to type."""
    return f"<pre>{escape(text)}</pre>"


def picture(path: Path, alt: str) -> str:
    """Return a PNG as an inline image with its size; one that is missing or damaged gives an empty string."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    size = png_size(data)
    if size is None:
        return ""
    kind = ' class="pixels"' if size[0] < 400 else ""
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img{kind} width="{size[0]}" height="{size[1]}" alt="{escape(alt)}" src="{source}">'


def png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels of a whole PNG file, None if it is not one."""
    if len(data) < 33 or data[:8] != b"\x89PNG\r\n\x1a\n" or b"IEND" not in data[-16:]:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height
