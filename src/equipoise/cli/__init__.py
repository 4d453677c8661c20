"""The command line: arguments in, one line out for a mistake; everything heavy is imported inside the commands."""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, assert_never

from equipoise.cli.arguments import CommandName, parsed, parser
from equipoise.errors import RunBusyError, StorageError, UserError, is_of_disk, what_failed

EXIT_MISTAKE = 2
EXIT_BUSY = 3
EXIT_STORAGE = 4
EXIT_INTERRUPTED = 130

OTHER_FILES = frozenset(".jpg .jpeg .webp .gif .bmp .tif .tiff .pdf .svg .npz .npy .zip .pt".split())  # noqa: SIM905
MAX_GRID = 10_000  # images in one picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 2 for a mistake, 3 for a busy run, 4 for a failing disk, 130 when interrupted."""
    from equipoise.host.signals import leaving_in_order

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this: the next file would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter must not end a training
    try:
        with leaving_in_order():
            code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # here, where what it raises is told
        return code
    except RunBusyError as error:
        return _failed(str(error), EXIT_BUSY)
    except StorageError as error:
        return _failed(str(error), EXIT_STORAGE)
    except UserError as error:
        return _failed(str(error), EXIT_MISTAKE)
    except KeyboardInterrupt:
        words = list(sys.argv[1:] if arguments is None else arguments)
        begun = "; if a run had begun (its folder exists), equipoise resume RUN goes on with it, else begin again"
        return _failed("stopped" + (begun if words[:1] in (["train"], ["resume"]) else ""), EXIT_INTERRUPTED)
    except BrokenPipeError:
        from equipoise.cli.display import silence

        silence(sys.stdout)  # nobody reads on: the last flush is quiet
        return 0
    except OSError as error:
        return _failed(f"{what_failed(error, error.filename)}. Check the disk and the permissions", EXIT_STORAGE)


def _run(arguments: Sequence[str]) -> int:
    if not arguments:
        parser().print_help()
        return EXIT_MISTAKE
    options = parsed(arguments)
    command: CommandName = options.command
    match command:
        case "train":
            return _train(options)
        case "resume":
            return _resume(options)
        case "status":
            return _status(options)
        case "digest":
            return _digest(options)
        case "sample":
            return _sample(options)
        case "evaluate":
            return _evaluate(options)
        case "compare":
            return _compare(options)
        case "replay":
            return _replay(options)
        case "recipes":
            return _recipes(options)
        case "data":
            return _data(options)
        case _ as unreachable:
            assert_never(unreachable)


def _train(options: argparse.Namespace) -> int:
    from equipoise.data.cache import default_cache, refuse_unusable
    from equipoise.recipe import with_settings
    from equipoise.recipes import Facts, build, checked_name
    from equipoise.runs.folder import RunFolder, new_path

    settings = [*options.set, *([f"data.fit={options.fit}"] if options.fit else [])]
    name = checked_name(options.recipe or "modern")
    with_settings(build(name, Facts()), settings)  # mistakes are told before torch is imported
    if options.resume and options.out is None:
        raise UserError("--resume needs the run's folder. Try: equipoise train SOURCE --out DIR --resume")
    if options.resume and RunFolder.is_run(options.out):
        return _resume_same(options, settings)
    RunFolder.refuse_taken(options.out or new_path(Path("runs"), name))  # the name may be another, the place is not
    _refuse_missing(options.source)
    refuse_unusable(default_cache())
    return _shown_training(
        lambda api, show: api.train(
            options.source,
            recipe=name,
            size=options.size,
            budget=options.budget,
            seed=options.seed,
            out=options.out,
            device=options.device,
            settings=settings,
            tell=show.tell,
            preparing=show.preparing,
            note=show.note,
        )
    )


def _resume_same(options: argparse.Namespace, settings: list[str]) -> int:
    """Go on with the run in --out, if this command would have begun the same one."""
    from equipoise.data.cache import default_cache, refuse_unusable
    from equipoise.report.report import write_missing_report
    from equipoise.runs.folder import RunFolder

    run = RunFolder.open(options.out)
    run.refuse_own_loop()
    run.refuse_busy()
    _refuse_another_recipe(run, options, settings)
    write_missing_report(run)
    run.refuse_lost()
    state = run.read_state()
    if state["status"] == "finished":
        print(f"{_shown(run.path)} has finished already. {state.get('reason', '')}\nReport: {_shown(run.report)}")
        return 0
    run.refuse_unwritable()
    refuse_unusable(default_cache())
    return _shown_training(
        lambda api, show: api.resume(options.out, tell=show.tell, preparing=show.preparing, note=show.note)
    )


def _refuse_another_recipe(run: Any, options: argparse.Namespace, settings: list[str]) -> None:
    import dataclasses

    from equipoise.recipe import from_dict, parsed_budget, with_settings
    from equipoise.runs.compare import differences

    begun = from_dict(run.read_recipe())
    given = {"seed": options.seed, "device": options.device, "data.size": options.size}
    asked = with_settings(begun, settings + [f"{field}={value}" for field, value in given.items() if value is not None])
    budget = parsed_budget(options.budget) if options.budget else begun.budget
    data = dataclasses.replace(asked.data, source=options.source)
    asked = dataclasses.replace(asked, name=options.recipe or begun.name, budget=budget, data=data)
    for field, (before, now) in differences([begun, asked]).items():
        remedy = f"equipoise resume {shlex.quote(str(run.path))}"
        remedy += f" --budget {options.budget}" if field.startswith("budget.") else ""
        remedy += f" --policy {now}" if field == "stopping.policy" else ""
        raise UserError(
            f"{run.path}: this run was begun with {field}={_word(before)}, and {_word(now)} is asked for. "
            f"To go on: {remedy}. "
            "For another run give another --out"
        )


def _resume(options: argparse.Namespace) -> int:
    from equipoise.data.cache import default_cache, refuse_unusable
    from equipoise.report.report import write_missing_report
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.resume_rules import ready_to_go_on

    run = RunFolder.open(options.run)
    write_missing_report(run)
    ready_to_go_on(run, options.budget, options.policy)  # before torch is imported: a mistake is told at once
    refuse_unusable(default_cache())
    return _shown_training(
        lambda api, show: api.resume(
            options.run,
            budget=options.budget,
            policy=options.policy,
            tell=show.tell,
            preparing=show.preparing,
            note=show.note,
        )
    )


def _shown_training(training: Callable[[Any, Any], Any]) -> int:
    from equipoise.cli.display import Display, in_vain

    with Display() as show:
        from equipoise import api

        run = training(api, show)
    with in_vain(sys.stdout):
        _tell_end(run)
        sys.stdout.flush()
    return EXIT_INTERRUPTED if run.state["status"] == "stopped" else 0


def _tell_end(run: Any) -> None:
    from equipoise import formatting
    from equipoise.health.diagnoses import failure
    from equipoise.health.stats import score_from
    from equipoise.runs.selection import chosen_again

    state, path = run.state, _shown(shlex.quote(str(run.path)))
    print(f"\n{_wrapped(state['reason'])}")
    for label, line in (("Best", state["best"]), ("Test", state["test"])):
        if line is not None:
            kid, fid = formatting.with_error(line["kid"], line["kid_se"]), formatting.value(line["fid"])
            where = f"the validation split, after {line['samples']:,} samples" if label == "Best" else "the test split"
            print(f"{label}:   KID {kid}, FID {fid} on {where}")
            if label == "Best" and (again := chosen_again(state, score_from(line))):
                print(f"        ({again})")
    if state["best"] is not None and (failed := failure(score_from(state["best"]))):
        print(_wrapped(failed))
    print(f"Report: {_shown(run.report)}")
    if state["status"] == "stopped":
        print(f"Go on:  equipoise resume {path}")
        return
    print(f"Sample: equipoise sample {path} -n 64 -o grid.png")
    if state["policy"] in ("evidence", "patience", "discriminator-threshold"):
        print(f"To train on all the same: equipoise resume {path} --policy budget")


def _status(options: argparse.Namespace) -> int:
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.status import status, status_values

    run = RunFolder.open(options.run)
    print(_json(status_values(run)) if options.json else status(run))
    return 0


def _digest(options: argparse.Namespace) -> int:
    from equipoise.runs.digest import digest, digest_text, digest_values
    from equipoise.runs.folder import RunFolder

    found = digest(RunFolder.open(options.run))
    print(_json(digest_values(found)) if options.json else digest_text(found))
    return 0


def _sample(options: argparse.Namespace) -> int:
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.missing_best import refuse_without_best

    run = RunFolder.open(options.run)
    is_grid = _is_grid(options.out, options.force)
    if is_grid and options.num > MAX_GRID:
        raise UserError(f"-n {options.num}: one picture holds at most {MAX_GRID} images. Try a folder: -o samples/")
    run.refuse_own_loop()
    refuse_without_best(run)
    from equipoise import api
    from equipoise.tasks.pictures import save_each, save_grid

    best = api.load(options.run).best
    try:
        if is_grid:
            print(_shown(save_grid(best.sample(options.num, options.seed, options.label), options.out)))
        else:
            num = save_each(best.batches(options.num, options.seed, options.label), options.out)
            print(f"{num} images in {_shown(options.out)}")
    except OSError as error:
        if is_of_disk(error):
            way_on = "Put that right, or give another disk: -o PATH"
            raise StorageError(f"-o {options.out}: {what_failed(error)}. {way_on}") from None
        raise UserError(f"-o {options.out}: cannot be written ({error.strerror}). Try: -o grid.png") from None
    return 0


def _is_grid(out: Path, force: bool) -> bool:
    """Return whether `out` is to be one picture, else it is a folder; raises UserError where it cannot be either."""
    try:
        exists, is_folder = out.exists(), out.is_dir()
        taken = exists and (not is_folder or any(out.iterdir()))
    except OSError as error:
        raise UserError(f"-o {out}: cannot be read ({error.strerror}). Try: -o grid.png") from None
    is_grid = out.suffix.lower() == ".png" and not is_folder
    if not is_grid and not is_folder and (exists or out.suffix.lower() in OTHER_FILES):
        raise UserError(f"-o {out}: give a name that ends in .png, or a folder. Try: -o grid.png")
    if taken and not force:
        raise UserError(f"-o {out}: exists already. Give another name, or --force to write over it")
    return is_grid


def _evaluate(options: argparse.Namespace) -> int:
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.missing_best import refuse_without_best

    if RunFolder.is_run(options.target):
        run = RunFolder.open(options.target)
        run.refuse_own_loop()
        refuse_without_best(run)
    elif not options.target.exists():
        raise UserError(
            f"{options.target}: does not exist; give a run's folder, or a folder, zip or .npz of images. "
            f"Try: {options.parser.example}"
        )
    _refuse_missing(options.against, "--against ")
    from equipoise.cli.display import Display

    with Display(sys.stderr) as show:
        from equipoise import api

        result = api.evaluate(
            options.target,
            options.against,
            num=options.num,
            features=options.features,
            device=options.device,
            preparing=show.preparing,
        )
    from equipoise.evaluation.evaluator import to_dict

    print(_json(to_dict(result)) if options.json else _score_table(result))
    return 0


def _score_table(result: Any) -> str:
    from equipoise import formatting

    rows = [
        ("KID", formatting.with_error(result.kid, result.kid_se), "lower is better; ± one standard error"),
        ("FID", formatting.value(result.fid), "lower is better"),
        ("precision", f"{result.precision:.3f}", "share of generated images that look real"),
        ("recall", f"{result.recall:.3f}", "share of real images that could be generated"),
        ("density", f"{result.density:.3f}", "how deep they lie among real images; about 1 is ideal"),
        ("coverage", f"{result.coverage:.3f}", "share of real images with a generated one nearby"),
    ]
    width = max(len(value) for _, value, _ in rows)
    protocol = result.protocol
    lines = [f"{name:<10} {value:<{width}}   {meaning}" for name, value, meaning in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"protocol   {protocol.features} features ({protocol.features_digest[:8]})",
            f"           {protocol.num_generated:,} generated images against {protocol.num_real:,} real ones",
            f"           of the {protocol.split} split ({protocol.data_digest[:8]})",
        ]
    )


def _compare(options: argparse.Namespace) -> int:
    from equipoise.runs.compare import compare, compare_values
    from equipoise.runs.folder import RunFolder

    if len(options.runs) < 2:
        raise UserError(f"compare: one run is given; give at least two. Try: {options.parser.example}")
    runs = [RunFolder.open(path) for path in options.runs]
    print(_json(compare_values(runs)) if options.json else compare(runs))
    return 0


def _replay(options: argparse.Namespace) -> int:
    from equipoise.runs.replay import DEFAULT_POLICIES, read, replay_text, replay_values, stopping_with, summaries

    stopping = stopping_with(options.set)
    series = read(options.sources, options.metric)
    found = summaries(list(dict.fromkeys(options.policy)) or DEFAULT_POLICIES, stopping, series)
    print(_json(replay_values(found)) if options.json else replay_text(found, series))
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from equipoise.recipes import listing, listing_values

    print(_json(listing_values()) if options.json else listing())
    return 0


def _data(options: argparse.Namespace) -> int:
    from equipoise.recipe import with_settings
    from equipoise.recipes import Facts, build, checked_name

    settings = [*options.set, *([f"data.fit={options.fit}"] if options.fit else [])]
    settings += [f"data.size={options.size}"] if options.size is not None else []
    name = checked_name(options.recipe or "modern")
    with_settings(build(name, Facts()), settings)  # mistakes are told before torch is imported
    _refuse_missing(options.source)
    from equipoise.cli.display import Display

    with Display(sys.stderr) as show:
        from equipoise import api
        from equipoise.cli.audit_text import check_text, check_values

        found = api.check_data(options.source, name, settings, show.preparing)
    print(_json(check_values(found)) if options.json else check_text(found))
    refusal = found.training.refusal
    return 0 if refusal is None else _failed(refusal, EXIT_MISTAKE)


def _refuse_missing(source: str, option: str = "") -> None:
    """Refuse a source that does not exist before torch is imported; the rest is told when it is read."""
    if source == "mnist" or source.startswith("hub:") or (source.strip() and os.path.exists(Path(source).expanduser())):
        return
    from equipoise.data.sources import open_source

    try:
        open_source(source)
    except UserError as error:
        raise UserError(f"{option}{error}") from None


def _word(value: Any) -> str:
    return "none" if value is None else str(value)


def _shown(path: Path | str) -> str:
    from equipoise.cli.display import printable

    return printable(str(path))


def _wrapped(text: str) -> str:
    """Break a long text into the lines of this terminal, of 96 letters at most."""
    import shutil
    import textwrap

    from equipoise.cli.display import WIDTH

    width = max(20, min(WIDTH, shutil.get_terminal_size().columns))
    return textwrap.fill(_shown(text), width, break_on_hyphens=False, break_long_words=False)


def _json(values: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode()  # NaN becomes null


def _failed(message: str, code: int) -> int:
    from equipoise.cli.display import in_vain

    with in_vain(sys.stdout):  # flushed here, or what could not be shown would be told once more at the exit
        sys.stdout.flush()
    with in_vain(sys.stderr):
        print(f"equipoise: {_shown(message)}", file=sys.stderr, flush=True)
    return code
