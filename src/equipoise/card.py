"""The model card: what a generator is, how good it was found, and how to use it, as Markdown beside its weights."""

from typing import Any

from equipoise.runs.folder import RunFolder


def model_card(run: RunFolder, state: dict[str, Any]) -> str:
    """Return the card of a run's best generator."""
    recipe, data, best = run.read_recipe(), run.read_data(), state["best"]
    lines = [
        f"# {recipe['name']} on {data['source']}",
        "",
        f"Generator after {best['samples']:,} samples, the best of its run by {recipe['judging']['metric'].upper()} on "
        "the validation split.",
        "",
        "| split | KID | FID | precision | recall | density | coverage |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, line in (("validation", best), ("test", state["test"])):
        if line is not None:
            lines.append(
                f"| {name} | {line['kid']:.4f} ± {line['kid_se']:.4f} | {line['fid']:.2f} | {line['precision']:.3f} "
                f"| {line['recall']:.3f} | {line['density']:.3f} | {line['coverage']:.3f} |"
            )
    protocol = best["protocol"]
    lines += [
        "",
        f"Features: {protocol['features']} ({protocol['features_digest'][:12]}); {protocol['num_real']:,} real and "
        f"{protocol['num_generated']:,} generated images. Scores under another protocol are not comparable. ± is one "
        "standard error.",
        "",
        "```python",
        "import equipoise as eq",
        'run = eq.load("PATH OF THE RUN")',
        "images = run.best.sample(64)  # [64, C, H, W] in [-1, 1]",
        "```",
        "",
        f"Data: {data['num_train']:,} training images of {data['size']}×{data['size']} pixels, {data['channels']} "
        f"channel(s), digest {data['digest'][:12]}.",
        "",
    ]
    return "\n".join(lines)
