"""The head of a report: what was trained, how it stands, or that it failed, and the numbers that count."""

import math
import shlex
from typing import Any

from equipoise import formatting
from equipoise.health.diagnoses import failure
from equipoise.health.stats import whole_of
from equipoise.report import page
from equipoise.report.custom_loop import own_subject
from equipoise.runs.compare import flattened
from equipoise.runs.folder import RunFolder
from equipoise.runs.selection import rescoring_from
from equipoise.runs.status import Status, shown_path

FEW_REAL = 500  # real images below which a score says little
MOST_LETTERS = 400  # of what ended a training

COLOURS = {1: "grey", 3: "colour"}
STATE_WORDS = {
    "new": "Not started",
    "running": "Still training",
    "interrupted": "Interrupted",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}


def headline(run: RunFolder, now: Status, state: dict[str, Any], data: dict[str, Any]) -> str:
    """Return the head of the report as HTML."""
    what = f"{_article(now.recipe.name)} {now.recipe.name} GAN trained on {now.recipe.data.source}"
    what = own_subject(data) if now.is_own_loop else what
    if data.get("size"):
        size, channels = data["size"], COLOURS.get(whole_of(data.get("channels")), "")
        what += f": {size} × {size} {channels} images, {whole_of(data.get('num_train')):,} of them to learn from"
    numbers = _key_numbers(now, state)
    best = now.best
    protocol = _protocol(best.protocol) if best and best.protocol else ""
    verdict = _verdict(now, state)
    return (
        f'<header><p class="eyebrow">Equipoise · training report</p><h1>{page.escape(now.name)}</h1>'
        f'<p class="what">{page.escape(what)}.</p>'
        + (_failed(run, now) if now.state == "failed" else f'<p class="verdict">{page.escape(verdict)}</p>')
        + (f'<p class="game">{page.escape(now.diagnosis)}</p>' if now.samples else "")
        + (f'<p class="game">{page.escape(failed)}</p>' if best and (failed := failure(best)) else "")
        + '<dl class="numbers">'
        + "".join(f"<div><dt>{page.escape(name)}</dt><dd>{_split_error(text)}</dd></div>" for name, text in numbers)
        + "</dl>"
        + (f'<p class="protocol">{page.escape(protocol)}</p>' if protocol else "")
        + "</header>"
    )


def _failed(run: RunFolder, now: Status) -> str:
    """Say that the training broke off, by what, how to go on, and what there is all the same."""
    after = f" after {formatting.count(now.samples)} samples" if now.samples else ""
    reason = now.reason or "What ended it was not written down."
    reason = reason if len(reason) <= MOST_LETTERS else f"{reason[:MOST_LETTERS]} … (in full below)"
    there = "No generator has been scored yet."
    if now.best:
        score = f"{now.metric.upper()} of {formatting.score(now.best, now.metric)} (lower is better)"
        there = f"The best generator until then, after {formatting.count(now.best.samples)} samples, has a {score}."
        there += " It has not been tested: that is done once, when a training ends." if now.test is None else ""
    return (
        f'<div class="failed"><p class="verdict">This training failed{after}.</p>'
        f'<p class="reason">{page.escape(reason)}</p>{_way_on(run, now)}</div>'
        f'<p class="game">{page.escape(there)}</p>'
    )


def _way_on(run: RunFolder, now: Status) -> str:
    """Say what is safe of a run that failed, and what to type once the cause is put right."""
    path, right = shown_path(run.path), "Once the cause is put right"
    if now.is_own_loop:
        return _typed(f"{right}, start its script again with:", f"Watch({path!r}, resume=True)")
    samples = run.newest_good()
    if samples is not None:
        text = f"Its checkpoint of {samples:,} samples is intact. {right}, go on from there with:"
    elif run.has_saved:
        text = "No good checkpoint of it is left. Put one back from a copy, then go on with:"
    else:
        text = f"It had saved no checkpoint yet. {right}, begin it again with:"
    return _typed(text, f"equipoise resume {shlex.quote(path)}")


def _typed(text: str, line: str) -> str:
    return f'<p class="game">{page.escape(text)}</p>{page.code(line)}'


def _split_error(text: str) -> str:
    number, sign, error = page.escape(text).partition(" ± ")
    return f"{number} <small>± {error}</small>" if sign else number


def _article(word: str) -> str:
    return "An" if word[:1].lower() in "aeiou" else "A"


def _verdict(now: Status, state: dict[str, Any]) -> str:
    word = "Ended early, as it diverged" if now.policy == "diverged" else STATE_WORDS[now.state]
    if not now.best:
        return f"{word}; no generator has been scored yet."
    score = f"{now.metric.upper()} of {formatting.score(now.best, now.metric)}"
    if rescoring := rescoring_from(state):
        score += f" while training and {formatting.score(rescoring.best.rescored, now.metric)} judged again"
    return (
        f"{word}: the best generator was reached after {formatting.count(now.best.samples)} of "
        f"{formatting.count(now.samples)} samples, with a {score} (lower is better)."
    )


def _key_numbers(now: Status, state: dict[str, Any]) -> list[tuple[str, str]]:
    numbers = []
    if now.best:
        numbers.append((f"Best {now.metric.upper()}, validation", formatting.score(now.best, now.metric)))
    if rescoring := rescoring_from(state):
        numbers.append((f"{now.metric.upper()}, judged again", formatting.score(rescoring.best.rescored, now.metric)))
    if now.test:
        numbers.append((f"{now.metric.upper()}, test", formatting.score(now.test, now.metric)))
    if now.best and math.isfinite(now.best.fid) and now.metric == "kid":
        numbers.append(("FID, validation", formatting.value(now.best.fid)))
    if now.best and math.isfinite(now.best.coverage):
        numbers.append(("Coverage, validation", f"{now.best.coverage:.2f}"))
    numbers += [("Samples shown", formatting.count(now.samples)), ("Training time", formatting.duration(now.seconds))]
    if now.seconds > 0:
        numbers.append(("Samples a second", f"{now.samples / now.seconds:,.0f}"))
    return numbers


def _protocol(protocol: dict[str, Any]) -> str:
    """Say in words under which protocol a score was taken; the rest is in the table."""
    words = []
    if "features" in protocol:
        words.append(f"{protocol['features']} features")
    if "num_generated" in protocol and "num_real" in protocol:
        split = f" of the {protocol['split']} split" if "split" in protocol else ""
        num_generated, num_real = whole_of(protocol["num_generated"]), whole_of(protocol["num_real"])
        words.append(f"{num_generated:,} generated against {num_real:,} real images{split}")
    how = ", ".join(words) or ", ".join(f"{key} {value}" for key, value in flattened(protocol).items())
    few = whole_of(protocol.get("num_real", FEW_REAL)) < FEW_REAL
    warning = " So few real images make every one of these numbers rough, and flatter the shares." if few else ""
    return f"Scored with {how}. Only scores of the same protocol can be compared.{warning}"
