"""What can be typed after `equipoise`: the parser of all commands, and values refused in one line."""

import argparse
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from equipoise import __version__
from equipoise.errors import UserError, listed, suggestion

CommandName = Literal[
    "train", "resume", "status", "digest", "sample", "evaluate", "compare", "replay", "recipes", "data"
]
COMMANDS: tuple[CommandName, ...] = get_args(CommandName)
MAX_SEED = 2**63 - 1
RUN = "runs/modern-mnist-001"  # what a run is called in examples


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line with a remedy."""

    def __init__(self, *, example: str = "equipoise --help", **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.example = example

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage."""
        message = message.replace("the following arguments are required:", "missing:")
        raise UserError(f"{_command_of(self)}{message}. Try: {self.example}")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; raises UserError for what is unknown, missing or wrong."""
    _refuse_unknown_command(arguments)
    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        _refuse_unknown(options.parser, unknown[0])
    return options


def parser() -> Parser:
    """Return the parser of all commands; it sets `command` to the command's name and `parser` to its parser."""
    top = Parser(
        prog="equipoise",
        description="Train a GAN on your images, see how the game is going, get the best generator\nwith its evidence.",
        epilog="Start with: equipoise train mnist --budget 5m\nOptions of a command: equipoise COMMAND --help",
    )
    top.add_argument("--version", action="version", version=f"equipoise {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    _add_train(commands)
    _add_resume(commands)
    _add_status(commands)
    _add_digest(commands)
    _add_sample(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_replay(commands)
    _add_recipes(commands)
    _add_data(commands)
    return top


def _added(commands: Any, name: CommandName, text: str, *examples: str) -> Parser:
    """Add a command with the line that the list of commands shows, and examples; the first is the remedy."""
    epilog = "\n  ".join(["For example:", *examples])
    added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog)
    added.example = examples[0]
    added.set_defaults(command=name, parser=added)
    return added


def _add_train(commands: Any) -> None:
    sub = _added(
        commands,
        "train",
        "train on mnist, a folder or zip of images, an .npz or hub:NAME",
        "equipoise train mnist --budget 5m",
        "equipoise train photos/ --size 32 --budget 1h --set data.flip=true",
    )
    add = sub.add_argument
    _add_source(sub)
    add("--budget", metavar="B", type=_budget, help="time (90s, 10m, 2h) or samples (60k, 2M) (default: 10m)")
    add("--seed", metavar="N", type=_seed, help="of everything random (default: 0)")
    add("--out", metavar="DIR", type=_path("--out"), help="the run's folder (default: a new one under runs/)")
    add("--device", metavar="D", type=_device, help="auto, cpu, mps, cuda or cuda:N (default: auto)")
    add("--resume", action="store_true", help="go on if --out already holds this run")
    text = "change any field of the recipe, as in game.penalty.gamma=0.5; may be given many times"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=text)


def _add_resume(commands: Any) -> None:
    text = "go on with a run exactly where it was"
    again = f"equipoise resume {RUN}"
    sub = _added(commands, "resume", text, again, f"{again} --budget 20m", f"{again} --policy budget")
    add = sub.add_argument
    add("run", metavar="RUN", type=_path("RUN"), help="the run's folder")
    add("--budget", metavar="B", type=_budget, help="a new budget in all, to train a finished run for longer")
    text = "what may stop it from now on: evidence, budget (nothing earlier), discriminator-threshold or patience"
    add("--policy", metavar="NAME", type=_one_of("--policy", *_policies()), help=text)


def _add_status(commands: Any) -> None:
    sub = _added(commands, "status", "show how a run stands, on one screen", f"equipoise status {RUN}")
    sub.add_argument("run", metavar="RUN", type=_path("RUN"), help="the run's folder")
    sub.add_argument("--json", action="store_true", help="as JSON")


def _add_digest(commands: Any) -> None:
    text = "print one digest of a run's state, to compare runs bit for bit"
    sub = _added(commands, "digest", text, f"equipoise digest {RUN}")
    sub.add_argument("run", metavar="RUN", type=_path("RUN"), help="the run's folder")
    sub.add_argument("--json", action="store_true", help="as JSON")


def _add_sample(commands: Any) -> None:
    sub = _added(
        commands,
        "sample",
        "draw images from a run's best generator",
        f"equipoise sample {RUN} -n 64 --seed 1 -o grid.png",
        f"equipoise sample {RUN} -n 5000 -o samples/",
    )
    add = sub.add_argument
    add("run", metavar="RUN", type=_path("RUN"), help="the run's folder")
    num = _whole("-n", 1, 10_000_000, 64)
    add("-n", "--num", metavar="N", type=num, default=64, help="how many (default: 64)")
    add("--seed", metavar="N", type=_seed, default=0, help="same seed, same images (default: 0)")
    add("--label", metavar="CLASS", help="one class of a conditional generator (default: each in turn)")
    text = "a .png, or a folder for one PNG each (default: samples.png)"
    add("-o", "--out", metavar="PATH", type=_path("-o"), default=Path("samples.png"), help=text)
    add("--force", action="store_true", help="write over what exists")


def _add_evaluate(commands: Any) -> None:
    text = "score a run, or a folder of images, against real images"
    sub = _added(commands, "evaluate", text, f"equipoise evaluate {RUN} --against mnist")
    add = sub.add_argument
    text = "a run's folder, or a folder, .zip or .npz of images"
    add("target", metavar="RUN_OR_FOLDER", type=_path("RUN_OR_FOLDER"), help=text)
    add("--against", metavar="SOURCE", required=True, help="the real images; their test split is used")
    num = _whole("-n", 6, 10_000_000, 5_000)
    add("-n", "--num", metavar="N", type=num, default=5_000, help="how many are drawn from a run (default: 5000)")
    text = "auto, encoder, inception or dinov2 (default: auto)"
    add("--features", metavar="F", type=_features, default="auto", help=text)
    text = "auto, cpu, mps, cuda or cuda:N (default: auto)"
    add("--device", metavar="D", type=_device, default="auto", help=text)
    add("--json", action="store_true", help="as JSON")


def _add_compare(commands: Any) -> None:
    text = "show what differs between runs, and their scores side by side"
    sub = _added(commands, "compare", text, f"equipoise compare {RUN} runs/dcgan-mnist-001")
    sub.add_argument("runs", metavar="RUN", type=_path("RUN"), nargs="+", help="two or more folders of runs")
    sub.add_argument("--json", action="store_true", help="as JSON")


REPLAY_RULES = """
A CSV file has a line for each evaluation and at least the columns run, step,
and fid or kid; of a run folder, the scores under its last protocol are read.
The policies see one evaluation at a time and never the rest:
- Lower is better. A FID is above zero.
- An empty cell, or a score that is not finite, is a failed evaluation: no
  improvement, and never the best. A run needs one finite score at least.
- A run has at least five evaluations, and its steps rise.
- saved is 1 - step at the stop / last step; regret is the score of what the
  policy hands over / the best of the whole run. Where the best is zero or
  below (a KID can be), there is no regret, and the run counts in saved only.
- The last row, oracle, stops at the first score within 2 % of the best."""


def _add_replay(commands: Any) -> None:
    sub = _added(
        commands,
        "replay",
        "try stopping policies on recorded runs: what is saved, what lost",
        f"equipoise replay {RUN}",
        "equipoise replay scores.csv --policy patience --set stopping.patience=12",
    )
    sub.description = f"{sub.description}\n{REPLAY_RULES}"
    add = sub.add_argument
    text = "CSV files with the columns run,step,fid, and folders of runs"
    add("sources", metavar="FILE.csv|RUN", type=_path("FILE.csv|RUN"), nargs="+", help=text)
    text = "evidence, patience, budget or discriminator-threshold; one or more (default: the first three)"
    add("--policy", metavar="NAME", type=_policy, nargs="+", action="extend", default=[], help=text)
    text = "fid or kid (default: fid if it is a column, else kid; of a run folder, its own)"
    add("--metric", metavar="M", type=_metric, help=text)
    text = "change a field of stopping, as in stopping.patience=12; may be given many times"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=text)
    add("--json", action="store_true", help="as JSON")


def _add_recipes(commands: Any) -> None:
    text = "list every named recipe: paper, what for, measured result"
    sub = _added(commands, "recipes", text, "equipoise recipes", "equipoise recipes --json")
    sub.add_argument("--json", action="store_true", help="as JSON")


def _add_data(commands: Any) -> None:
    sub = _added(
        commands,
        "data",
        "check a source before training: files, sizes, copies, classes, splits",
        "equipoise data check photos/",
        "equipoise data check photos/ --size 64 --fit pad --json",
    )
    sub.description = (
        f"{sub.description}\nEvery image is decoded as `equipoise train` with the same options would do it,\n"
        "and nothing is written. Exit code 0 if the training would start, 2 if not."
    )
    add = sub.add_argument
    add("task", metavar="check", type=_data_task, help="the one thing to do with data so far")
    _add_source(sub)
    text = "change any field of the recipe, as in data.channels=1; may be given many times"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=text)
    add("--json", action="store_true", help="as JSON, with every file and group")


def _add_source(sub: Parser) -> None:
    """Add what says which images a training sees, and how."""
    add = sub.add_argument
    add("source", metavar="SOURCE", help="mnist, a folder, a .zip, an .npz, or hub:NAME")
    add("--recipe", metavar="NAME", type=_recipe, help="see `equipoise recipes` (default: modern)")
    size = _whole("--size", 8, 256, 32)
    add("--size", metavar="N", type=size, help="pixels a side, 8 to 256 (default: found from the images)")
    fit = _one_of("--fit", "crop", "pad", "stretch")
    add("--fit", metavar="HOW", type=fit, help="make rectangles square: crop, pad or stretch (default: crop)")


# Values


def _whole(option: str, low: int, high: int, example: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,30}", text) and low <= int(text) <= high:
            return int(text)
        raise UserError(f'{option} "{text}": give a whole number from {low} to {high}. Try: {option} {example}')

    return read


def _one_of(option: str, *allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in allowed:
            return text
        near = suggestion(text, allowed) or f" Try: {option} {allowed[0]}"
        raise UserError(f'{option} "{text}": allowed are {listed(allowed)}.{near}')

    return read


def _path(what: str) -> Callable[[str], Path]:
    def read(text: str) -> Path:
        if not text.strip() or "\0" in text:
            raise UserError(f'{what} "{text}": is no path. Try one such as {RUN}')
        return Path(text)

    return read


def _seed(text: str) -> int:
    return _whole("--seed", 0, MAX_SEED, 1)(text)


def _budget(text: str) -> str:
    from equipoise.recipe import parsed_budget

    parsed_budget(text)
    return text


def _recipe(text: str) -> str:
    from equipoise.recipes import checked_name

    return checked_name(text)


def _features(text: str) -> str:
    from equipoise.recipe import FeaturesName

    return _one_of("--features", *get_args(FeaturesName))(text)


def _data_task(text: str) -> str:
    if text == "check":
        return text
    source = shlex.quote(text) if text == "mnist" or text.startswith("hub:") or os.path.exists(text) else "SOURCE"
    raise UserError(f'data "{text}": there is nothing but "check" to do with data. Try: equipoise data check {source}')


def _policies() -> tuple[str, ...]:
    from equipoise.recipe import PolicyName

    return get_args(PolicyName)


def _policy(text: str) -> str:
    names = _policies()
    if text not in names and os.path.exists(text):
        raise UserError(f'--policy "{text}": is a file; files come first. Try: equipoise replay {shlex.quote(text)}')
    return _one_of("--policy", *names)(text)


def _metric(text: str) -> str:
    from equipoise.recipe import MetricName

    return _one_of("--metric", *get_args(MetricName))(text)


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,4})?", text):
        return text
    raise UserError(f'--device "{text}": allowed are auto, cpu, mps, cuda or cuda:N. Try: --device cpu')


# What the parser does not know


def _refuse_unknown_command(arguments: Sequence[str]) -> None:
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is None or word in COMMANDS:
        return
    near = suggestion(word, COMMANDS)
    if not near and (word == "mnist" or word.startswith("hub:") or os.path.exists(word)):
        near = f" To train on it: equipoise train {shlex.quote(word)}"
    raise UserError(f'there is no command "{word}"; there are {listed(COMMANDS)}.{near or " Try: equipoise --help"}')


def _refuse_unknown(sub: Parser, word: str) -> NoReturn:
    options = [option for action in sub._actions for option in action.option_strings]
    name = word.split("=", 1)[0]
    if name in options:
        raise UserError(f"{name}: belongs after the command. Try: {sub.prog} … {name}")
    if word.startswith("-"):
        near = suggestion(name, options) or f" Try: {sub.prog} --help"
        raise UserError(f'{_command_of(sub)}there is no option "{name}"; there are {listed(options)}.{near}')
    raise UserError(f'{_command_of(sub)}"{word}" is one argument too many. Try: {sub.example}')


def _command_of(sub: argparse.ArgumentParser) -> str:
    return f"{sub.prog.partition(' ')[2]}: " if " " in sub.prog else ""
