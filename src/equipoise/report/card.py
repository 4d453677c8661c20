"""The model card: what a generator is, how good it was found, and how to use it, as Markdown beside its weights."""

from dataclasses import asdict
from typing import Any

from equipoise.health.stats import score_from
from equipoise.report.selection import how_chosen
from equipoise.runs.compare import HEADINGS, score_cells
from equipoise.runs.folder import RunFolder
from equipoise.runs.selection import rescoring_from


def model_card(run: RunFolder, state: dict[str, Any]) -> str:
    """Return the card of a run's best generator, as Markdown."""
    recipe, data, best = run.read_recipe(), run.read_data(), state["best"]
    rescoring, metric = rescoring_from(state), recipe["judging"]["metric"]
    again = asdict(rescoring.best.rescored) if rescoring else None
    colours = "grey" if data["channels"] == 1 else "colour"
    classes = f" in {len(data['classes'])} classes" if recipe["networks"]["conditional"] else ""
    protocol = best["protocol"]
    lines = [
        f"# {_text(recipe['name'])} on {_text(data['source'])}",
        "",
        f"A generator of {colours} images of {data['size']}×{data['size']} pixels{classes}, after {best['samples']:,} "
        f"samples: the best of its run by {metric.upper()} on the validation split.",
        "",
        f"| split | {' | '.join(HEADINGS[:-1])} |",
        f"|---|{'---|' * len(HEADINGS[:-1])}",
    ]
    for split, line in (("validation", best), ("validation, second half", again), ("test", state["test"])):
        if line is not None:
            lines.append(f"| {split} | {' | '.join(score_cells(score_from(line))[:-1])} |")
    lines += [
        "",
        "KID and FID: lower is better; the others: higher is better. ± is one standard error.",
        f"Protocol: {protocol['features']} features ({protocol['features_digest'][:12]}), "
        f"{protocol['num_generated']:,} generated images against {protocol['num_real']:,} real ones of the validation "
        "split. Scores under another protocol are not comparable.",
        *(["", how_chosen(rescoring, metric)] if rescoring else []),
        "",
        "```python",
        "import equipoise as eq",
        "",
        'run = eq.load("PATH OF THE RUN")  # the folder that holds this folder',
        "images = run.best.sample(64)  # [64, C, H, W] in [-1, 1]",
        "generator = run.best.generator  # an ordinary torch.nn.Module: latents [N, Z] to images",
        "```",
        "",
        f"Trained on {data['num_train']:,} images (digest {data['digest'][:12]}) with seed {recipe['seed']}; the whole "
        "recipe is `recipe.json`.",
        "",
    ]
    return "\n".join(lines)


def _text(name: str) -> str:
    """Return a name as one line of Markdown that means itself."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|" else letter for letter in plain)
