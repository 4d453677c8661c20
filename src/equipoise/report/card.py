"""The model card: what a generator is, how good it is, and how to use it, as Markdown beside its weights."""

from equipoise.report.facts import python_lines
from equipoise.report.selection import bias_text
from equipoise.report.values import protocol_words
from equipoise.runs.compare import headings, score_cells
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import label_of, num_together, optimism_text, place_of, taken_on
from equipoise.runs.quality import quality_of
from equipoise.runs.scale import scale_sentence
from equipoise.runs.selection import is_on_the_same_examples
from equipoise.runs.status import read_status
from equipoise.storage.records import RunState


def model_card(run: RunFolder, state: RunState) -> str:
    """Return the card of a run's best generator, as Markdown; raises UserError where a file of the run is damaged."""
    now = read_status(run)
    recipe, data, best = now.recipe, now.data, state.best
    if best is None or data is None:
        return ""
    metric = now.metric
    heads = headings(now.metrics)[:-1]
    scores = [(label_of(best, "validation"), best)]
    if state.test is not None:
        scores.append((label_of(state.test, "test"), state.test))
    if state.selection is not None:
        split = str(state.selection.protocol.get("split", ""))
        if num_together(state.selection.protocol):
            split = "held out, again"
        elif is_on_the_same_examples(state.selection):
            split = "validation, again"
        scores.append((split, state.selection.best.rescored))
    rows = [[split, *score_cells(score, now.metrics)[:-1]] for split, score in scores]
    what = _text(data.summary or data.noun)
    lines = [
        f"# {_text(recipe.name)} on {_text(data.source)}",
        "",
        f"A generator of {what}, after {best.samples:,} samples: the best of its run by {_text(metric.shown)} on "
        f"{_text(taken_on(best, 'validation', data.noun))}.",
        "",
        _row(["split", *heads]),
        _row(["---"] * (len(heads) + 1)),
        *map(_row, rows),
        "",
        " ".join(f"{_text(one.shown)}: {one.better} is better." for one in now.metrics) + " ± is one standard error.",
        f"Measured with {_text(protocol_words(best.protocol, data.noun))}. Scores under another protocol are not "
        "comparable.",
        "",
    ]
    if state.rivals is not None and (scale := scale_sentence(state.rivals, metric)):
        where = place_of(state.rivals.protocol, "test", data.noun)
        lines += [f"On {_text(where)}, {_text(scale)}", ""]
    if (quality := quality_of(now)) is not None:
        lines += [_text(quality.sentence), ""]
    if state.selection is not None:
        lines += [_text(bias_text(state.selection, metric)), ""]
    if state.test is not None and (flattered := optimism_text(state.test, state.selection, data.noun)):
        lines += [_text(flattered), ""]
    lines += [
        "```python",
        python_lines('"PATH OF THE RUN"', now),
        "```",
        "",
        f"Trained on {data.num_train:,} {_text(data.noun)} (digest {_text(data.digest[:12])}) with seed {recipe.seed}; "
        "the whole recipe is `recipe.json`.",
        "",
    ]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


def _text(name: str) -> str:
    """Return a name as one line of Markdown that means itself."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|" else letter for letter in plain)
