"""What the report says of a run that a Watch followed: only what is known of a loop that Equipoise did not write."""

import shlex
from typing import Any

from equipoise.report import page
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import Status, shown_path

OWN_SETTINGS = "What the watch was told. Networks, losses and optimizers are the loop's own, and not known here."


def own_subject(data: dict[str, Any]) -> str:
    """Return what was trained, as far as it is known."""
    source = data.get("source")
    return "A generator trained by a loop of its own" + (f", judged by {source}" if source else "")


def own_scores_note(data: dict[str, Any]) -> str:
    """Say what the scores were taken on."""
    if not data:
        return "Taken by the loop itself. The lowest of many noisy scores looks a little better than it is."
    return (
        "Taken on real images that the watch sets aside; the generator has never seen them if its loop trains on the "
        "others alone (train_indices). The lowest of many noisy scores looks a little better than it is; a score on "
        "the test split, taken once at the end, does not."
    )


def own_use(run: RunFolder, now: Status) -> str:
    """Return the section on how to use the result, by what lies in `best/`."""
    title, path = "How to use the result", shown_path(run.path)
    untested = run.read_state().get("not_tested")
    note = page.note(f"{untested[:1].upper()}{untested[1:]}.") if isinstance(untested, str) and untested else ""
    if (run.best / "generator.safetensors").is_file():
        code = (
            "from safetensors.torch import load_file\n\n"
            f"generator.load_state_dict(load_file({f'{path}/best/generator.safetensors'!r}))"
        )
    elif (run.best / "generator.weights.h5").is_file():
        code = f"generator.load_weights({f'{path}/best/generator.weights.h5'!r})"
    elif run.best.is_dir():
        code = f"ls {shlex.quote(f'{path}/best')}     # as the loop wrote it"
    else:
        why = "no generator has been scored yet" if now.best is None else "no generator was given to be kept (keep=)"
        return page.section(title, f"There is nothing to use: {why}.", note)
    return page.section(
        title,
        "The best generator's weights, for the network that the loop defines:",
        page.code(code),
        note,
    )
