"""What a run was made from and what to do with it: the recipe's fields, and the lines to type."""

import dataclasses
import shlex

from equipoise import formatting, tasks
from equipoise.recipe import Recipe, to_dict
from equipoise.runs.compare import flattened
from equipoise.runs.status import Status


def fields_of(now: Status) -> list[tuple[str, str, str]]:
    """Return the fields of the recipe with their values, and their defaults where those are others."""
    defaults = flattened(to_dict(dataclasses.replace(Recipe(), task=type(now.recipe.task)())))
    fields = []
    for name, value in flattened(now.settings).items():
        default = "" if value == defaults.get(name) else formatting.shown(defaults.get(name))
        fields.append((name, formatting.shown(value), default))
    return fields


def shell_lines(path: str, now: Status) -> str:
    """Return the commands that use the best generator; none where only Python can."""
    formats = tasks.formats_of(now.recipe.task)
    run = shlex.quote(path)
    if formats.needs_python:
        return ""
    if formats.takes_inputs:
        return f"equipoise apply {run} photo.png -o {formats.example}"
    lines = [f"equipoise sample {run} -n 64 -o {formats.example}"]
    if formats.folder:
        lines.append(f"equipoise sample {run} -n 1000 -o samples/")
    lines.append(f"equipoise evaluate {run} --against {shlex.quote(now.recipe.data.source)}")
    return "\n".join(lines)


def python_lines(path: str, now: Status) -> str:
    """Return the lines that load and use the best generator; `path` is a string as Python writes it."""
    formats = tasks.formats_of(now.recipe.task)
    load = f"run = eq.load({path})"
    use = f"samples = run.best.sample(64)  # 64 {now.noun}"
    if formats.needs_python:
        load = f"run = eq.load({path}, task=task)  # the same task as in train(task=…)"
    if formats.takes_inputs:
        use = 'outputs = dict(run.best.apply("photo.png"))  # by name'
    network = "generator = run.best.generator  # an ordinary torch.nn.Module"
    return "\n".join(["import equipoise as eq", "", load, use, network])
