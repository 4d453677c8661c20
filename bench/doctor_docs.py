"""The sections of docs/doctor.md on each condition, written from health/pages.py.

    python bench/doctor_docs.py

Replaces what stands between the two marks in docs/doctor.md; the rest of that page is written by hand.
"""

from pathlib import Path

from equipoise.health.pages import PAGES, SUBJECTS, Subject, heading

DOCS = Path(__file__).parents[1] / "docs" / "doctor.md"
BEGIN, END = "<!-- conditions: written by bench/doctor_docs.py -->\n", "<!-- end of conditions -->"


def section(subject: Subject) -> str:
    """Return the section on a subject."""
    page = PAGES[subject]
    helps = []
    for one in page.helps:
        settings = "".join(f" `--set {setting}`" for setting in one.settings)
        helps.append(f"- {one.what[:1].upper()}{one.what[1:]}" + (f":{settings}" if settings else "."))
    rows = [
        f"### {heading(subject)}",
        f"{page.meaning} (`equipoise explain {subject}`)",
        f"- **It looks like:** {page.looks}\n- **Told from:** {page.numbers}\n- **Causes:** {page.causes}",
        "What helps:",
        "\n".join(helps),
        f"Source: {page.source}",
    ]
    return "\n\n".join(rows) + "\n"


def written(text: str) -> str:
    """Return the page with its sections written anew."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n" + "\n".join(section(subject) for subject in SUBJECTS) + f"\n{END}{after}"


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
