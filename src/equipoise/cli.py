"""The command line: arguments in, one line out for a mistake; everything heavy is imported inside the commands."""

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from equipoise import __version__
from equipoise.errors import RunBusyError, UserError, listed, suggestion

EXIT_MISTAKE = 2
EXIT_BUSY = 3
EXIT_NO_SPACE = 4
EXIT_INTERRUPTED = 130

COMMANDS = ("train", "resume", "status", "sample", "evaluate", "compare", "recipes")


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line with a remedy."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage."""
        command = self.prog.split(" ", 1)[-1] if " " in self.prog else ""
        if "invalid choice" in message and not command:
            word = message.split("'")[1]
            message = f'there is no command "{word}"; there are {listed(COMMANDS)}.{suggestion(word, COMMANDS)}'
            raise UserError(message)
        raise UserError(f"{message}. Try: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for a mistake, 3 for a busy run, 130 when interrupted."""
    try:
        options = parser().parse_args(arguments)
        return options.command(options)
    except RunBusyError as error:
        return _failed(error, EXIT_BUSY)
    except UserError as error:
        return _failed(error, EXIT_MISTAKE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _failed(
                Exception(f"the disk is full ({error.filename}); the last checkpoint is intact"), EXIT_NO_SPACE
            )
        raise


def parser() -> Parser:
    """Return the parser of all commands."""
    top = Parser(
        prog="equipoise",
        description="Train a GAN on your images, see how the game is going, get the best generator with its evidence.",
        epilog="Start with: equipoise train mnist --budget 5m",
    )
    top.add_argument("--version", action="version", version=f"equipoise {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    sub = commands.add_parser("train", help="train on mnist, a folder or zip of images, an .npz or hub:NAME")
    sub.add_argument("source", metavar="SOURCE", help="mnist, a folder, a .zip, an .npz, or hub:NAME")
    sub.add_argument("--recipe", default="modern", metavar="NAME", help="see `equipoise recipes` (default: modern)")
    sub.add_argument("--size", type=int, metavar="N", help="pixels a side, 8 to 256 (default: found from the images)")
    sub.add_argument("--fit", metavar="HOW", help="make rectangles square: crop, pad or stretch (default: crop)")
    sub.add_argument("--budget", metavar="B", help="time (90s, 10m, 2h) or samples (60k, 2M) (default: 10m)")
    sub.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    sub.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: a new one under runs/)")
    sub.add_argument("--device", metavar="D", help="auto, cpu, mps, cuda or cuda:N (default: auto)")
    sub.add_argument("--resume", action="store_true", help="go on if --out already holds this run")
    sub.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field, as in game.penalty.gamma=0.5"
    )
    sub.set_defaults(command=_train)

    sub = commands.add_parser("resume", help="go on with a run exactly where it was")
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--budget", metavar="B", help="a new budget in all, to train a finished run for longer")
    sub.set_defaults(command=_resume)

    sub = commands.add_parser("status", help="one screen about a run")
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub.set_defaults(command=_status)

    sub = commands.add_parser("sample", help="draw images from a run's best generator")
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("-n", "--num", type=int, default=64, metavar="N", help="how many (default: 64)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same images (default: 0)")
    sub.add_argument("--label", metavar="CLASS", help="one class of a conditional generator")
    sub.add_argument("-o", "--out", type=Path, metavar="PATH", default=Path("samples.png"), help="a .png, or a folder")
    sub.add_argument("--force", action="store_true", help="write over an existing file")
    sub.set_defaults(command=_sample)

    sub = commands.add_parser("evaluate", help="score a run, or a folder of images, against real images")
    sub.add_argument("target", type=Path, metavar="RUN_OR_FOLDER")
    sub.add_argument("--against", required=True, metavar="SOURCE", help="the real images")
    sub.add_argument("-n", "--num", type=int, default=5_000, metavar="N", help="drawn from a run (default: 5000)")
    sub.add_argument("--features", default="auto", metavar="F", help="auto, encoder, inception or dinov2")
    sub.add_argument("--device", default="auto", metavar="D", help="auto, cpu, mps, cuda or cuda:N (default: auto)")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub.set_defaults(command=_evaluate)

    sub = commands.add_parser("compare", help="what differs between runs, and their scores side by side")
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub.set_defaults(command=_compare)

    sub = commands.add_parser("recipes", help="every named recipe: paper, what for, measured result")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub.set_defaults(command=_recipes)
    return top


def _train(options: argparse.Namespace) -> int:
    from equipoise.recipes import checked_name
    from equipoise.runs.folder import RunFolder

    settings = list(options.set) + ([f"data.fit={options.fit}"] if options.fit else [])
    name = checked_name(options.recipe)
    if options.resume and options.out is None:
        raise UserError("--resume needs the run's folder. Try: equipoise train SOURCE --out DIR --resume")
    if options.resume and RunFolder.is_run(options.out):
        if RunFolder(options.out).read_state()["status"] == "finished":
            print(f"{options.out} has finished already. Its report: {RunFolder(options.out).report}")
            return 0
        return _shown_training(lambda api, show: api.resume(options.out, tell=show.tell))
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
        )
    )


def _resume(options: argparse.Namespace) -> int:
    from equipoise.runs.folder import RunFolder

    RunFolder.open(options.run)  # before torch is imported: a mistake is told at once
    return _shown_training(lambda api, show: api.resume(options.run, budget=options.budget, tell=show.tell))


def _shown_training(training: Any) -> int:
    from equipoise.display import Display

    with Display() as show:
        from equipoise import api

        run = training(api, show)
    state = run.state
    print(f"\n{state['reason']}")
    if state["test"] is not None:
        from equipoise.runs import format

        test = state["test"]
        print(f"On the test split: KID {format.with_error(test['kid'], test['kid_se'])}, FID {test['fid']:.2f}")
    print(f"Report: {run.report}")
    if state["status"] == "stopped":
        print(f"Go on:  equipoise resume {run.path}")
        return EXIT_INTERRUPTED
    print(f"Sample: equipoise sample {run.path} -n 64 -o grid.png")
    return 0


def _status(options: argparse.Namespace) -> int:
    from equipoise.runs.folder import RunFolder
    from equipoise.runs.status import status, status_values

    run = RunFolder.open(options.run)
    print(_json(status_values(run)) if options.json else status(run))
    return 0


def _sample(options: argparse.Namespace) -> int:
    from equipoise.runs.folder import RunFolder

    RunFolder.open(options.run)
    if options.num < 1:
        raise UserError(f"-n {options.num}: ask for at least one image. Try: -n 64")
    is_file = options.out.suffix.lower() == ".png"
    if not is_file and options.out.suffix:
        raise UserError(f"-o {options.out}: give a name that ends in .png, or a folder. Try: -o grid.png")
    taken = options.out.exists() and (is_file or not options.out.is_dir() or any(options.out.iterdir()))
    if taken and not options.force:
        raise UserError(f"-o {options.out}: exists already. Give another name, or --force to write over it")
    from equipoise import api
    from equipoise.pictures import save_each, save_grid

    images = api.load(options.run).best.sample(options.num, options.seed, options.label)
    if is_file:
        print(save_grid(images, options.out))
    else:
        print(f"{len(save_each(images, options.out))} images in {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from equipoise import api
    from equipoise.judge.protocol import to_dict
    from equipoise.runs import format

    result = api.evaluate(
        options.target, options.against, num=options.num, features=options.features, device=options.device
    )
    if options.json:
        print(_json(to_dict(result)))
        return 0
    protocol = result.protocol
    print(f"KID        {format.with_error(result.kid, result.kid_se)}   (± one standard error; lower is better)")
    print(f"FID        {format.value(result.fid)}   (lower is better)")
    for name in ("precision", "recall", "density", "coverage"):
        print(f"{name:<10} {getattr(result, name):.3f}")
    print(
        f"protocol   {protocol.features} features ({protocol.features_digest[:8]}), "
        f"{protocol.num_generated:,} generated images against {protocol.num_real:,} real ones "
        f"of the {protocol.split} split ({protocol.data_digest[:8]})"
    )
    return 0


def _compare(options: argparse.Namespace) -> int:
    from equipoise.runs.compare import compare, compare_values
    from equipoise.runs.folder import RunFolder

    runs = [RunFolder.open(path) for path in options.runs]
    if len(runs) < 2:
        raise UserError("compare: give at least two runs. Try: equipoise compare runs/a runs/b")
    print(_json(compare_values(runs)) if options.json else compare(runs))
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from equipoise.recipes import listing, listing_values

    print(_json(listing_values()) if options.json else listing())
    return 0


def _json(values: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode()  # NaN becomes null


def _failed(error: Exception, code: int) -> int:
    print(f"equipoise: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
