"""The parts of docs/doctor.md that are not written by hand: on each condition, and how often the doctor is right.

    python bench/doctor_docs.py

The conditions come from health/pages.py, the tables from records/doctor.json and records/repairs.json. What stands
between the marks is replaced; the rest of that page is written by hand.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from equipoise.health.pages import PAGES, SUBJECTS, Subject, heading

DOCS = Path(__file__).parents[1] / "docs" / "doctor.md"
WAYS = ("nothing", "restart", "act")
RECORDS = Path(__file__).with_name("records")
CONDITIONS = ("<!-- conditions: written by bench/doctor_docs.py -->\n", "<!-- end of conditions -->")
ANY, FALSE = "told_anything", "false_alarms"
TABLES = ("<!-- tables: written by bench/doctor_docs.py -->\n", "<!-- end of tables -->")


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


def share(found: dict[str, Any]) -> str:
    """Write a share with its interval: 61 of 69, 88 % (79 to 94 %)."""
    low, middle, high = (f"{100 * found[name]:.0f}" for name in ("low", "share", "high"))
    return f"{found['num']} of {found['of']}, {middle} % ({low} to {high} %)"


def tables(doctor: dict[str, Any], repairs: dict[str, Any]) -> str:
    """Return what was measured, as text and tables."""
    half = doctor["odd"]
    told, likely = half["summary"]["any"], half["summary"]["likely"]
    seeds = ", ".join(map(str, half["seeds"]))
    lines = [
        f"Measured on {doctor['date']}, {doctor['processor']}, one core a game, by `bench/doctor.py` (seeds {seeds}):",
        "",
        "| | any diagnosis | likely or certain |",
        "|---|---|---|",
        f"| sick games of which a right condition was told | {share(told['detected'])} | {share(likely['detected'])} |",
        f"| sick games of which anything was told | {share(told[ANY])} | {share(likely[ANY])} |",
        f"| healthy games of which anything was told | {share(told[FALSE])} | {share(likely[FALSE])} |",
        "",
        "In brackets: the interval of 95 % (Wilson). A game has 60 log lines and 12 evaluations.",
        "",
        "| sick game | how it is made | right conditions | told | after (share of the game) |",
        "|---|---|---|---|---|",
    ]
    for row in half["games"]:
        if row["conditions"] and row["told"]["of"]:
            delay = "–" if row["median_delay"] is None else f"{100 * row['median_delay'] / row['samples']:.0f} %"
            told_of = f"{row['told']['num']} of {row['told']['of']}"
            lines.append(f"| {row['game']} | {row['how']} | {', '.join(row['conditions'])} | {told_of} | {delay} |")
    healthy = [row for row in half["games"] if not row["conditions"] and row["told"]["of"]]
    alarmed = [f"{row['game']} ({row['told']['num']} of {row['told']['of']})" for row in healthy if row["told"]["num"]]
    lines += ["", f"Healthy kinds: {'; '.join(row['game'] for row in healthy)}."]
    lines += ["", *of_confidence(half["calibration"]), ""]
    lines += [f"False alarms came with: {', '.join(alarmed) or 'none of them'}.", "", *of_repairs(repairs)]
    return "\n".join(lines) + "\n"


def of_confidence(rows: list[dict[str, Any]]) -> list[str]:
    """Return how often a diagnosis is right, by how sure it is: the surest one of a game counts."""
    lines = ["| surest diagnosis of a game | the game was sick | that diagnosis was right |", "|---|---|---|"]
    for row in rows:
        if row["sick"]["of"]:
            lines.append(f"| {row['surest']} | {share(row['sick'])} | {share(row['right'])} |")
    return lines


def of_repairs(record: dict[str, Any]) -> list[str]:
    """Return the tables of what remedies are worth."""
    num = len(record["seeds"])
    lines = [
        "### What remedies are worth",
        "",
        f"`bench/repairs.py` on {record['date']}, {record['processor']}, seeds {', '.join(map(str, record['seeds']))}: "
        "the best MMD that a game reaches in the same number of samples with nothing done, with a restart at half of "
        "the rates after half of them, and with `--remedies act` (median, and how many were repaired). A healthy game "
        f"reaches {record['healthy']:.2g}, an untrained generator has {record['untrained']:.2f}. Repaired is what ends "
        f"within a tenth of that way from the healthy score, at {record['enough']:.3f} or less.",
        "",
        "| sick game | nothing | restart | `act` |",
        "|---|---|---|---|",
    ]
    for row in record["games"]:
        cells = [f"{middle(row['scores'][way])} ({row['repaired'][way]} of {num})" for way in WAYS]
        lines.append(f"| {row['game']}{'' if row['has_remedy'] else ' ¹'} | {' | '.join(cells)} |")
    for name, what in (
        ("repaired", "repaired"),
        ("repaired_where_possible", "repaired, without ¹"),
        ("nearly", "within a hundredth of the way"),
    ):
        shares = [f"{100 * record[name][way]:.0f} %" for way in WAYS]
        lines.append(f"| **{what}** | **{'** | **'.join(shares)}** |")
    mistakes = sum(record["left_alone"].values())
    lines += [
        "",
        "¹ No change that a run can make was found to repair these, also when it was made from the first round on.",
        "",
        f"Games of digits (seed {record['seeds'][0]}), by KID on features of the evaluation encoder; a healthy one "
        f"reaches {record['healthy_digits']:.2f}:",
        "",
        "| sick game | nothing | restart | `act` |",
        "|---|---|---|---|",
    ]
    for row in record["digits"]:
        lines.append(f"| {row['game']} | {' | '.join(middle(row['scores'][way]) for way in WAYS)} |")
    return [
        *lines,
        "",
        f"Remedies that were done to {len(record['left_alone'])} healthy games (seed {record['seeds'][0]}; "
        f"{', '.join(record['left_alone'])}): {mistakes}.",
    ]


def middle(scores: list[float | None]) -> str:
    """Write the median of the scores that there are."""
    known = [score for score in scores if score is not None]
    return f"{statistics.median(known):.3f}" if known else "no score"


def put(text: str, marks: tuple[str, str], inner: str) -> str:
    """Return a page with other text between two marks."""
    before, rest = text.split(marks[0])
    return f"{before}{marks[0]}\n{inner}\n{marks[1]}{rest.split(marks[1])[1]}"


def written(text: str) -> str:
    """Return the page with what is not written by hand anew."""
    doctor, repairs = (json.loads((RECORDS / f"{name}.json").read_text()) for name in ("doctor", "repairs"))
    text = put(text, CONDITIONS, "\n".join(section(subject) for subject in SUBJECTS))
    return put(text, TABLES, tables(doctor, repairs))


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
