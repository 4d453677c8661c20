"""The report of a run: one self-contained page, from its headline to the lines that use the result."""

import functools
import importlib.resources
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise import formatting
from equipoise.health.telling import told_all, told_remedy
from equipoise.report.exhibits import exhibit_groups, snapshots_of
from equipoise.report.facts import fields_of, python_lines, shell_lines
from equipoise.report.game import forecast_chart, game_charts
from equipoise.report.scores import baselines_of, deciding_chart, differences_chart, other_charts
from equipoise.report.selection import bias_text, certainty_text, ordered, rule_text
from equipoise.report.timeline import timeline
from equipoise.report.values import Known, capitalised, pairs_of, protocol_words, read, unbroken
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import label_of, num_together, optimism_text, place_of
from equipoise.runs.missing_best import why_none
from equipoise.runs.quality import quality_of
from equipoise.runs.scale import scale_sentence
from equipoise.runs.status import shown_path
from equipoise.storage.files import write_bytes

if TYPE_CHECKING:
    import jinja2

WEIGHTS = ("generator.safetensors", "generator.weights.h5")  # what a Watch may keep of the best generator


def write_missing_report(run: RunFolder) -> None:
    """Write the report of a finished run that was killed just before it; raises RunBusyError, UserError or OSError."""
    if run.read_state().status == "finished" and not run.report.exists():
        with run.lock():
            run.tidy()
            write_report(run)


def write_report(run: RunFolder) -> Path:
    """Write `report.html` into the run's folder, in one step, and return its path; raises UserError or OSError."""
    write_bytes(run.report, rendered(values_of(read(run))).encode(errors="replace"))
    return run.report


def values_of(known: Known) -> dict[str, Any]:
    """Return what the template is filled with; raises UserError where a file is damaged."""
    run, now, state = known.run, known.now, known.state
    path = shown_path(run.path)
    quality = quality_of(now)
    return {
        **vars(known),
        "path": path,
        "newest_good": run.newest_good() if now.state == "failed" else None,
        "quality": quality.sentence if quality is not None else "",
        "held_out": _held_out(known),
        "scale": scale_sentence(state.rivals, now.metric) if state.rivals is not None else "",
        "groups": exhibit_groups(run),
        "snapshots": snapshots_of(run),
        "deciding": deciding_chart(known),
        "differences": differences_chart(known),
        "others": other_charts(known),
        "baselines": baselines_of(known),
        "forecast": forecast_chart(known),
        "game": game_charts(known.steps),
        "timeline": timeline(known.steps, known.events),
        "health": health_text(known),
        "repaired": [told_remedy(event) for event in now.remedies if event.kind == "remedy"],
        "fields": fields_of(now),
        "environment": run.read_environment(),
        "shell": shell_lines(path, now),
        "python": python_lines(_python(path), now),
        "kept": [name for name in WEIGHTS if (run.best / name).is_file()],
        "has_best": run.best.is_dir(),
        "why_none": why_none(run) if now.best is None else "",
    }


def _held_out(known: Known) -> dict[str, Any]:
    """Return how the examples that judged are called: for the best generator's score, and for the final one."""
    best, noun, test = known.now.best, known.now.noun, known.now.test
    return {
        "num": 0 if best is None else num_together(best.protocol),
        "best": "" if best is None else label_of(best, "validation"),
        "test": "" if test is None else label_of(test, "test"),
        "place": "" if test is None else place_of(test.protocol, "test", noun),
        "optimism": "" if test is None else optimism_text(test, known.state.selection, noun),
    }


def health_text(known: Known) -> str:
    """Return what is wrong as of the last log line, with what may help."""
    now = known.now
    return told_all(now.diagnoses, now.num_lines, None if now.is_custom_loop else now.recipe)


def rendered(values: dict[str, Any], name: str = "template.html.j2") -> str:
    """Return a page: its template escapes every value but the SVG that `charts` made."""
    return _templates().get_template(name).render(values).lstrip()


@functools.cache
def _templates() -> "jinja2.Environment":
    import jinja2

    here = importlib.resources.files("equipoise.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: here.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    texts = (bias_text, capitalised, certainty_text, ordered, pairs_of, protocol_words, rule_text, unbroken)
    numbers = (formatting.count, formatting.duration, formatting.score, formatting.value, formatting.with_error)
    environment.filters |= {function.__name__: function for function in (*texts, *numbers)}
    environment.filters |= {"python": _python, "shell": shlex.quote}
    return environment


def _python(text: str) -> str:
    """Write a text as a string of Python."""
    return json.dumps(text, ensure_ascii=False)
