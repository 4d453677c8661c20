"""What each command does; torch and all else that is heavy is imported once nothing can be refused without it."""

import argparse
import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from equipoise.cli import EXIT_INTERRUPTED, EXIT_MISTAKE
from equipoise.cli.arguments import RUN, CommandName, parsed, parser
from equipoise.cli.display import WIDTH, Display, in_vain
from equipoise.cli.text import json_text
from equipoise.errors import Command, Option, Part, Setting, StorageError, UserError, is_of_disk, what_failed
from equipoise.formatting import count, printable, shown

if TYPE_CHECKING:
    from equipoise.recipe import Recipe
    from equipoise.runs.folder import RunFolder
    from equipoise.tasks.formats import Formats

Options = argparse.Namespace
PAGE = "comparison.html"  # an example


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; raises UserError, and OSError where the disk fails."""
    if not arguments:
        parser().print_help()
        return EXIT_MISTAKE
    options = parsed(arguments)
    command: CommandName = options.command
    match command:
        case "train":
            return train(options)
        case "resume":
            return resume(options)
        case "status":
            return status(options)
        case "sample":
            return sample(options)
        case "apply":
            return apply(options)
        case "study":
            from equipoise.cli.studying import study

            return study(options)
        case "explore":
            from equipoise.cli.exploring import explore

            return explore(options)
        case "evaluate":
            return evaluate(options)
        case "compare":
            return compare(options)
        case "replay":
            return replay(options)
        case "digest":
            return digest(options)
        case "recipes":
            return recipes(options)
        case "explain":
            return explain(options)
        case "diagnose":
            return diagnose(options)
        case "data":
            return check_data(options)
        case _ as unreachable:
            assert_never(unreachable)


# Training


def train(options: Options) -> int:
    """Begin a run, or with --resume continue it."""
    from equipoise.data.cache import default_cache, refuse_unusable
    from equipoise.recipe import with_settings
    from equipoise.recipes import Facts, checked_name, recipe_for
    from equipoise.runs import rules
    from equipoise.runs.folder import new_path
    from equipoise.runs.start_rules import refuse_frozen
    from equipoise.tasks import task_settings

    settings = _settings(options)
    name = checked_name(options.recipe) if options.recipe is not None else None
    task = task_settings(options.task, options.source)
    first = recipe_for(name, Facts(), task)
    if options.start_from is None:  # mistakes are reported before torch is imported
        refuse_frozen(with_settings(first, settings), None)
    if options.resume and options.out is None:
        again = Command("train", options.source, out="DIR", resume=None)
        raise UserError(Option("resume"), "it needs the run's folder", again)
    if options.resume and rules.is_run(options.out):
        return _resume_same(options, settings)
    if options.start_from is not None:
        _refuse_start(options, settings)
    rules.refuse_taken(options.out or new_path(Path("runs"), first.name))  # the name may be another, the place is not
    _refuse_missing(options.source)
    refuse_unusable(default_cache())
    return _shown(
        lambda api, show: api.train(
            options.source,
            recipe=name,
            task=options.task,
            budget=options.budget,
            seed=options.seed,
            out=options.out,
            device=options.device,
            settings=settings,
            start_from=options.start_from,
            observer=show,
        )
    )


def _refuse_start(options: Options, settings: list[str]) -> None:
    """Raise UserError where a training cannot start from the weights of the run that is asked for."""
    from equipoise.runs.start_rules import recipe_to_start, refuse_with_recipe, run_to_start_from
    from equipoise.tasks import refuse_without_python, task_settings

    refuse_with_recipe(options.start_from, options.recipe)
    begun = run_to_start_from(options.start_from).recipe()
    refuse_without_python(begun.task)
    recipe_to_start(options.start_from, begun, task_settings(options.task, options.source), settings)


def _resume_same(options: Options, settings: list[str]) -> int:
    """Continue the run in --out, if this command would have begun the same one."""
    from equipoise.data.cache import default_cache, refuse_unusable
    from equipoise.report.report import write_missing_report
    from equipoise.runs import rules
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.start_rules import refuse_another_start

    folder = RunFolder.open(options.out)
    rules.refuse_custom_loop(folder)
    rules.refuse_busy(folder)
    if options.start_from is not None:
        refuse_another_start(folder, options.start_from)
    state = folder.read_state()
    moved = state.status != "finished" and _is_moved(folder, options.source)
    source = folder.recipe().data.source if moved else options.source
    _refuse_another_recipe(folder, source, options, settings)
    write_missing_report(folder)
    rules.refuse_lost(folder)
    if state.status == "finished":
        _print(f"{folder.path} has finished already. {state.message or ''}")
        _print(f"Report: {folder.report}")
        return 0
    rules.refuse_unwritable(folder)
    refuse_unusable(default_cache())
    place = options.source if moved else None  # where a resume finds other content, it says so
    return _shown(lambda api, show: api.resume(options.out, source=place, observer=show))


def _is_moved(folder: "RunFolder", source: str) -> bool:
    """Return whether a run's data are no longer where they were, and a source is given that is somewhere else."""
    data = folder.read_data()
    if data is None or data.path is None or Path(data.path).exists():
        return False
    return Path(source).expanduser().exists()


def _refuse_another_recipe(folder: "RunFolder", source: str, options: Options, settings: list[str]) -> None:
    """Raise UserError where a source and the options differ from what the run was begun with."""
    from equipoise.runs.compare import differences

    begun = folder.recipe()
    for field, (before, now) in differences([begun, _asked(begun, source, options, settings)]).items():
        same: dict[str, Any] = {}
        other: Part = Option("out", "DIR")
        ways = "Continue that run, or begin another one in another folder"
        if field.startswith("budget."):
            same = {"budget": options.budget}
        elif field == "stopping.policy":
            same = {"policy": now}
        elif field == "remedies.policy":
            same = {"remedies": now}
        elif field == "data.source":
            same = {"source": now}
            ways = "Continue that run if these are the same data, else begin another one with its weights"
            other = Command("train", now, start_from=folder.path)
        problem = f"the run in {folder.path} was begun with {field}={shown(before)}"
        raise UserError(Setting(field, now), problem, ways, Command("resume", folder.path, **same), other)


def _asked(begun: "Recipe", source: str, options: Options, settings: list[str]) -> "Recipe":
    """Return the recipe of a run with what the options say in place of what it was begun with."""
    from equipoise.budgets import parsed_budget
    from equipoise.recipe import task_name, with_settings
    from equipoise.tasks import task_settings

    recipe = begun
    task = task_settings(options.task, source)
    if task is not None and task_name(task) != task_name(begun.task):
        recipe = dataclasses.replace(recipe, task=task)
    given = [f"{name}={value}" for name in ("seed", "device") if (value := getattr(options, name)) is not None]
    recipe = with_settings(recipe, [*settings, *given])
    if options.budget is not None:
        recipe = dataclasses.replace(recipe, budget=parsed_budget(options.budget))
    data = dataclasses.replace(recipe.data, source=source)
    return dataclasses.replace(recipe, name=options.recipe or begun.name, data=data)


def resume(options: Options) -> int:
    """Continue a run."""
    from equipoise.data.cache import default_cache, refuse_unusable
    from equipoise.report.report import write_missing_report
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.resume_rules import recipe_to_resume
    from equipoise.tasks import refuse_without_python

    folder = RunFolder.open(options.run)
    write_missing_report(folder)
    recipe = recipe_to_resume(folder, options.budget, options.policy, options.source, options.remedies)
    refuse_without_python(recipe.task)
    refuse_unusable(default_cache())
    return _shown(
        lambda api, show: api.resume(
            options.run,
            budget=options.budget,
            policy=options.policy,
            remedies=options.remedies,
            source=options.source,
            observer=show,
        )
    )


def _shown(training: Callable[[Any, Display], Any]) -> int:
    """Train behind the live display, then print how it ended."""
    with Display() as show:
        from equipoise import api

        finished = training(api, show)
        from equipoise.runs.status import read_status

        show.ended(read_status(finished.folder))
    from equipoise.cli.end_text import end_text

    width = max(20, min(WIDTH, shutil.get_terminal_size().columns))
    with in_vain(sys.stdout):
        print(end_text(finished.folder, width), flush=True)
    if finished.state.status == "stopped":
        return EXIT_INTERRUPTED
    return 0


# Using a run's generator


def sample(options: Options) -> int:
    """Draw samples from the best generator into a file or a folder."""
    from equipoise.runs.missing_best import refuse_without_best

    folder, formats = _with_generator(options.run)
    if formats.takes_inputs:
        problem = "its generator is applied to files; it draws no samples"
        raise UserError(options.run, problem, Command("apply", options.run, "small.png", out=formats.example))
    out = options.out or Path(formats.example)
    _refuse_out(formats, out, options.force, options.num)
    refuse_without_best(folder)
    from equipoise import api

    best = api.load(options.run).best
    with _writing(Option("out", out), formats.example):
        _print(best.model.write(best.batches(options.num, options.seed, options.label), out))
    if options.label is not None:
        _print_label(folder, options.label)
    _print_quality(folder)
    return 0


def apply(options: Options) -> int:
    """Apply the best generator to a file or to those of a folder."""
    from equipoise.runs.missing_best import refuse_without_best

    folder, formats = _with_generator(options.run)
    if not formats.takes_inputs:
        problem = "its generator draws samples; it is not applied to files"
        raise UserError(options.run, problem, Command("sample", options.run, num=64, out=formats.example))
    if not os.path.exists(options.input):
        raise UserError(options.input, "does not exist; give a file, or a folder of files")
    _refuse_out(formats, options.out, options.force)
    refuse_without_best(folder)
    from equipoise import api

    best = api.load(options.run).best
    with _writing(Option("out", options.out), formats.example):
        _print(best.model.write_applied(best.apply(options.input), options.out))
    _print_quality(folder)
    return 0


def _print_label(folder: "RunFolder", label: str) -> None:
    """Say what a label stood for, where that may surprise: labels that no picture has together, or no class at all."""
    from equipoise.cli.text import labelled
    from equipoise.data.several import never_seen, places_of

    data, networks = folder.data(), folder.recipe().networks
    text = ""
    if networks.conditional and not networks.groups and data.sets:
        text = never_seen(places_of(label, data.classes), data.classes, data.sets, data.set_counts)
    elif networks.categorical_codes and not networks.conditional and not networks.groups:
        text = f"{label} is the number of a category of this generator's code, and not the name of a class."
    if text:
        print("\n".join(labelled("Labels: ", text, 9)), file=sys.stderr)


def _print_quality(folder: "RunFolder") -> None:
    """Say of how much training the outputs are, and how good their generator is, where no script reads it."""
    from equipoise.cli.text import labelled
    from equipoise.runs.quality import quality_of
    from equipoise.runs.status import read_status

    now = read_status(folder)
    quality = quality_of(now)
    if now.best is not None and quality is not None:
        text = f"of the best generator, after {count(now.best.samples)} samples of training. {quality.sentence}"
        print("\n".join(labelled("Quality: ", text, 9)), file=sys.stderr)


def _with_generator(path: Path) -> "tuple[RunFolder, Formats]":
    """Open a run whose generator can be used without its script, with what its outputs are written as."""
    from equipoise.runs import rules
    from equipoise.runs.folder import RunFolder
    from equipoise.tasks import formats_of, refuse_without_python

    folder = RunFolder.open(path)
    rules.refuse_custom_loop(folder)
    settings = folder.recipe().task
    refuse_without_python(settings)
    return folder, formats_of(settings)


def _refuse_out(formats: "Formats", out: Path, force: bool, num: int | None = None) -> None:
    """Raise UserError where outputs cannot be written under a name, or would overwrite something."""
    try:
        formats.refuse(out, num)
        is_taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise UserError(Option("out", out), problem, Option("out", formats.example)) from None
    if is_taken and not force:
        raise _taken(Option("out", out))


def _taken(option: Option) -> UserError:
    """Return the error for an output that would overwrite something."""
    return UserError(option, "exists already", "Give another name, or overwrite it", Option("force"))


@contextlib.contextmanager
def _writing(option: Option, example: str) -> Iterator[None]:
    """Report in one line that what an option names cannot be written."""
    try:
        yield
    except OSError as error:
        if is_of_disk(error):
            raise StorageError(option, what_failed(error), "Free some space, or write to another disk") from None
        problem = f"cannot be written ({error.strerror})"
        raise UserError(option, problem, Option(option.name, example)) from None


def evaluate(options: Options) -> int:
    """Score a run or generated samples, and print the metrics."""
    from equipoise.runs import rules
    from equipoise.runs.missing_best import refuse_without_best

    if rules.is_run(options.target):
        folder, _ = _with_generator(options.target)
        refuse_without_best(folder)
    elif not options.target.exists():
        problem = "does not exist; give a run's folder, or a source of generated samples"
        raise UserError(options.target, problem, options.parser.example)
    _refuse_missing(options.against, Option("against", options.against))
    with Display(sys.stderr) as show:
        from equipoise import api

        found = api.evaluate(
            options.target,
            options.against,
            task=options.task,
            split=options.split,
            size=options.size,
            fit=options.fit,
            num=options.num,
            features=options.features,
            device=options.device,
            observer=show,
        )
    from equipoise.cli.evaluation_text import evaluation_text, evaluation_values

    return _printed(options, lambda: evaluation_values(found), lambda: evaluation_text(found))


# Reading


def status(options: Options) -> int:
    """Print how a run stands, or which runs there are."""
    from equipoise.cli.status_text import list_text, list_values, status_text
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.status import nearby, read_status, status_values

    if options.run is not None:
        now = read_status(RunFolder.open(options.run))
        return _printed(options, lambda: status_values(now), lambda: status_text(now))
    found = nearby(Path("runs"))
    if not found:
        raise UserError(
            "status", "there are no runs in runs/ or here", Command("status", RUN), Command("train", "mnist")
        )
    return _printed(options, lambda: list_values(found), lambda: list_text(found))


def compare(options: Options) -> int:
    """Print how runs differ, their scores, and which is better; write them as a page where one is asked for."""
    from equipoise.cli.compare_text import compare_text
    from equipoise.runs import compare as facts
    from equipoise.runs.better import verdict_values, verdicts
    from equipoise.runs.folder import RunFolder

    if len(options.runs) < 2:
        raise UserError("compare", "one run is given; give at least two", options.parser.example)
    if options.html is not None:
        _refuse_page(options.html, options.force)
    folders = [RunFolder.open(path) for path in options.runs]
    _refuse_twice(options)
    found = facts.compare(folders)
    if options.html is not None:
        from equipoise.report.comparison import write_comparison

        _write_page(options.html, lambda: write_comparison(options.html, folders))
    return _printed(
        options,
        lambda: {**facts.compare_values(found), "verdicts": verdict_values(verdicts(found))},
        lambda: compare_text(found) + (f"\n\nPage: {printable(str(options.html))}" if options.html else ""),
    )


def _refuse_twice(options: Options) -> None:
    """Raise UserError where a run is to be compared with itself, by whatever path."""
    distinct: dict[Path, Path] = {}
    twice = None
    for path in options.runs:
        if distinct.setdefault(path.resolve(), path) is not path:
            twice = path
    if twice is None:
        return
    again = Command("compare", *distinct.values()) if len(distinct) > 1 else options.parser.example
    raise UserError(twice, "is given twice; a run is compared with other runs", again)


def _refuse_page(path: Path, force: bool) -> None:
    """Raise UserError where a page cannot be written under a name, or would overwrite something."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError(Option("html", path), "give a name that ends in .html", Option("html", PAGE))
    if path.exists() and not force:
        raise _taken(Option("html", path))


def _write_page(path: Path, write: Callable[[], None]) -> None:
    with _writing(Option("html", path), PAGE):
        path.parent.mkdir(parents=True, exist_ok=True)
        write()


def replay(options: Options) -> int:
    """Print what stopping policies would have saved."""
    from equipoise.cli.replay_text import replay_text
    from equipoise.runs.replay import DEFAULT_POLICIES, replay_values, stopping_with, summaries
    from equipoise.runs.replay_read import read

    stopping = stopping_with(options.set)
    series = read(options.sources, options.metric)
    found = summaries(list(dict.fromkeys(options.policy)) or DEFAULT_POLICIES, stopping, series)
    return _printed(options, lambda: replay_values(found, series), lambda: replay_text(found, series))


def digest(options: Options) -> int:
    """Print a checksum of the complete training state."""
    from equipoise.cli.digest_text import digest_text
    from equipoise.runs import digest as facts
    from equipoise.runs.folder import RunFolder

    found = facts.digest(RunFolder.open(options.run))
    return _printed(options, lambda: facts.digest_values(found), lambda: digest_text(found))


def recipes(options: Options) -> int:
    """Print the recipes, or explain one, which may also become a page."""
    from equipoise.recipes import listing, listing_values
    from equipoise.recipes.explained import explained, explained_text, explained_values

    if options.name is None:
        if options.html is not None:
            problem = "a page shows one recipe, and none was named"
            raise UserError(Option("html", options.html), problem, Command("recipes", "modern", html=options.html))
        return _printed(options, listing_values, listing)
    found = explained(options.name)
    if options.html is not None:
        from equipoise.report.recipe_page import write_recipe

        _refuse_page(options.html, options.force)
        _write_page(options.html, lambda: write_recipe(options.html, found))
    page = f"\n\nPage: {printable(str(options.html))}" if options.html else ""
    return _printed(options, lambda: explained_values(found), lambda: explained_text(found) + page)


def explain(options: Options) -> int:
    """Print the page on a condition of a game, or all conditions."""
    from equipoise.cli import explain_text as texts

    if not options.condition:
        return _printed(options, texts.list_values, texts.list_text)
    subject = texts.checked_subject("-".join(options.condition))
    return _printed(options, lambda: texts.page_values(subject), lambda: texts.page_text(subject))


def diagnose(options: Options) -> int:
    """Print what the log of a run or of another tool's training says is wrong."""
    from equipoise.cli.diagnose_text import diagnose_text
    from equipoise.runs.diagnosed import diagnosed, diagnosed_values

    found = diagnosed(options.log)
    return _printed(options, lambda: diagnosed_values(found), lambda: diagnose_text(found))


def check_data(options: Options) -> int:
    """Print what a source holds, and whether a training on it would start."""
    from equipoise.recipe import with_settings
    from equipoise.recipes import Facts, checked_name, recipe_for
    from equipoise.tasks import examined, task_settings

    settings = _settings(options)
    name = checked_name(options.recipe) if options.recipe is not None else None
    recipe = recipe_for(name, Facts(), task_settings(None, options.source))
    examined(recipe.task, options.source)  # mistakes are reported before torch is imported
    with_settings(recipe, settings)
    _refuse_missing(options.source)
    with Display(sys.stderr) as show:
        from equipoise import api
        from equipoise.cli.audit_text import check_text, check_values

        found = api.check_data(options.source, name, settings, show)
    _printed(options, lambda: check_values(found, settings), lambda: check_text(found, settings))
    if found.training.refusal is not None:
        raise found.training.refusal
    return 0


# What several commands need


def _settings(options: Options) -> list[str]:
    """Return the settings of the recipe that were given, those with an option of their own last."""
    short = {
        "task.fit": options.fit,
        "task.size": options.size,
        "remedies.policy": getattr(options, "remedies", None),
    }
    return [*options.set, *(f"{field}={value}" for field, value in short.items() if value is not None)]


def _refuse_missing(source: str, subject: Part | None = None) -> None:
    """Refuse a source that does not exist before torch is imported; the rest is reported when it is read."""
    from equipoise.tasks import EMBEDDED

    is_known = source in EMBEDDED or source.startswith("hub:")
    if is_known or (source.strip() and os.path.exists(Path(source).expanduser())):
        return
    from equipoise.data.sources import open_source

    try:
        open_source(source)
    except UserError as error:
        if subject is not None:
            error = error.about(subject)
        raise error from None


def _printed(options: Options, values: Callable[[], Any], text: Callable[[], str]) -> int:
    """Print JSON where it is asked for, else a text."""
    if options.json:
        print(json_text(values()))
    else:
        print(text())
    return 0


def _print(text: str) -> None:
    print(printable(text))
