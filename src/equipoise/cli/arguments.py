"""What can be typed after `equipoise`: the parser of all commands, and values refused in one line."""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from equipoise import __version__
from equipoise.cli.study_values import names_of, rates_of, study_of
from equipoise.cli.text import typed
from equipoise.errors import Command, Option, Part, UserError, listed, shortened, suggested
from equipoise.sizes import parsed_size, size_of

CommandName = Literal[
    "train",
    "resume",
    "status",
    "sample",
    "apply",
    "explore",
    "study",
    "evaluate",
    "compare",
    "replay",
    "digest",
    "recipes",
    "explain",
    "diagnose",
    "data",
]
COMMANDS: tuple[CommandName, ...] = get_args(CommandName)
MAX_SEED = 2**63 - 1
RUN = "runs/modern-mnist-001"  # what a run is called in examples
HELP = Command("--help")
LONGEST_UNIT = 7  # "minutes": a word after a number


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line with a remedy."""

    def __init__(self, *, example: Command = HELP, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.example = example

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage."""
        problem = message.replace("the following arguments are required:", "missing:")
        raise UserError(_name(self), problem, with_own_run(self.example))


def with_own_run(example: Command) -> Command:
    """Return an example with the run that was touched last in place of the usual name, where there are runs here."""
    if RUN not in example.arguments:
        return example
    try:
        found = [path for path in Path(RUN).parent.iterdir() if (path / "recipe.json").is_file()]
        own = str(max(found, key=lambda path: path.stat().st_mtime, default=RUN))
    except OSError:
        return example
    arguments = [own if argument == RUN else argument for argument in example.arguments]
    return Command(example.name, *arguments, **dict(example.options))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; raises UserError for what is unknown, missing or wrong."""
    _refuse_unknown_command(arguments)
    top = parser()
    try:
        options, unknown = top.parse_known_args(arguments)
    except UserError:
        _refuse_misspelt(top, arguments)  # what is missing may be there under a wrong name
        raise
    if unknown:
        _refuse_unknown(options.parser, unknown[0], arguments)
    return options


def parser() -> Parser:
    """Return the parser of all commands; it sets `command` to the command's name and `parser` to its parser."""
    top = Parser(
        prog="equipoise",
        description="Train a GAN on your data, see how the training is going, and get the best\n"
        "generator together with its evaluation.",
        epilog="Start with: equipoise train mnist --budget 5m\nOptions of a command: equipoise COMMAND --help",
    )
    top.add_argument("--version", action="version", version=f"equipoise {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    adders = (_add_train, _add_resume, _add_status, _add_sample, _add_apply, _add_explore, _add_study, _add_evaluate)
    for add in (*adders, _add_compare, _add_replay, _add_digest, _add_recipes, _add_explain, _add_diagnose, _add_data):
        add(commands)
    return top


def _added(commands: Any, name: CommandName, text: str, *examples: Command) -> Parser:
    """Add a command with the line that the list of commands shows, and examples; the first is the remedy."""
    epilog = "\n  ".join(["For example:", *map(typed, examples)])
    added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog)
    added.example = examples[0]
    added.set_defaults(command=name, parser=added)
    return added


def _add_train(commands: Any) -> None:
    sub = _added(
        commands,
        "train",
        "train a GAN: images, points or super-resolution",
        Command("train", "mnist", budget="5m"),
        Command("train", "photos/", size=32, budget="1h", set="task.flip=true"),
        Command("train", "ring", budget="2m"),
        Command("train", "photos/", start_from=RUN),
    )
    add = sub.add_argument
    _add_source(sub, "mnist, ring, grid, spiral, a folder, .zip, .tar, .parquet, .npz or .csv, hub:NAME")
    tasks = _one_of("task", *_tasks())
    add("--task", metavar="NAME", type=tasks, help=f"{listed(_tasks())} (default: what SOURCE is)")
    add("--budget", metavar="B", type=_budget, help="time (90s, 10m, 2h) or samples (60k, 2M) (default: 10m)")
    add("--seed", metavar="N", type=_seed, help="random seed (default: 0)")
    add("--out", metavar="DIR", type=_path("out"), help="the run's folder (default: a new one under runs/)")
    _add_device(sub)
    _add_remedies(sub, " (default: suggest)")
    add("--resume", action="store_true", help="continue if --out already holds this run")
    text = "begin with the recipe and the last weights of RUN, as where images were added"
    add("--start-from", metavar="RUN", type=_path("start_from"), help=text)
    _add_settings(sub, "any setting of the recipe", "game.penalty.gamma=0.5")


def _add_resume(commands: Any) -> None:
    again = [Command("resume", RUN), Command("resume", RUN, budget="20m"), Command("resume", RUN, policy="budget")]
    sub = _added(commands, "resume", "continue a run exactly where it stopped", *again)
    _add_run(sub)
    text = "budget of the whole run, not of what is added; a larger one trains a finished run for longer"
    sub.add_argument("--budget", metavar="B", type=_budget, help=text)
    text = f"stopping policy from now on: {listed(_policies())}"
    sub.add_argument("--policy", metavar="NAME", type=_one_of("policy", *_policies()), help=text)
    _add_remedies(sub, ", from now on")
    sub.add_argument("--source", metavar="PATH", help="where the same data are now, if they were moved")


def _add_status(commands: Any) -> None:
    text = "show how a run stands, or list the runs here"
    sub = _added(commands, "status", text, Command("status", RUN), Command("status"))
    text = "the run's folder (default: list the runs in runs/ or here)"
    sub.add_argument("run", metavar="RUN", type=_path("RUN"), nargs="?", help=text)
    _add_json(sub)


def _add_sample(commands: Any) -> None:
    sub = _added(
        commands,
        "sample",
        "draw samples from a run's best generator",
        Command("sample", RUN, num=64, seed=1, out="grid.png"),
        Command("sample", RUN, num=5000, out="samples/"),
    )
    add = sub.add_argument
    _add_run(sub)
    num = _whole("num", 1, 10_000_000, 64)
    add("-n", "--num", metavar="N", type=num, default=64, help="how many samples (default: 64)")
    add("--seed", metavar="N", type=_seed, default=0, help="random seed: the same one, the same samples (default: 0)")
    text = 'a class, labels such as "glasses, smiling", or the number of a category of a code (default: as in the data)'
    add("--label", metavar="CLASS", help=text)
    text = "images: a .png for all, or a folder; points: a .csv (default: a name that fits the run)"
    add("-o", "--out", metavar="PATH", type=_path("out"), help=text)
    _add_force(sub)


def _add_apply(commands: Any) -> None:
    text = "apply a run's best generator to files, such as small images to enlarge"
    run = "runs/modern-photos-001"
    examples = [Command("apply", run, "small.png", out="large.png"), Command("apply", run, "small/", out="large/")]
    sub = _added(commands, "apply", text, *examples)
    _add_run(sub)
    sub.add_argument("input", metavar="INPUT", type=_path("INPUT"), help="a file, or a folder of files")
    text = "a file, or a folder for several"
    sub.add_argument("-o", "--out", metavar="OUT", type=_path("out"), required=True, help=text)
    _add_force(sub)


def _add_explore(commands: Any) -> None:
    sub = _added(
        commands,
        "explore",
        "show what a run's best generator has learned",
        Command("explore", RUN),
        Command("explore", RUN, image="seven.png", out="explored/"),
        Command("explore", RUN, labels="3,8"),
    )
    sub.description = (
        f"{sub.description}\nA folder with pictures, one page with all of them (index.html), their numbers\n"
        "(explore.json) and latents. On a CPU it takes seconds to minutes."
    )
    add = sub.add_argument
    _add_run(sub)
    text = "the folder that is written (default: explore/ in the run's folder)"
    add("-o", "--out", metavar="FOLDER", type=_path("out"), help=text)
    add("--seed", metavar="N", type=_seed, default=0, help="random seed: the same one, the same pictures (default: 0)")
    num = _whole("num", 2, 16, 8)
    text = "how many directions and pictures each grid shows, 2 to 16 (default: 8)"
    add("-n", "--num", metavar="N", type=num, default=8, help=text)
    text = "pictures of yours to look for among what the generator can draw; of three, also a + b - c"
    add("--image", metavar="FILE", type=_path("image"), nargs="+", action="extend", default=[], help=text)
    text = "ways between classes of a conditional generator, such as 3,8 (default: between the first two);"
    text += " put ; in place of commas where names have commas, and quotes around it"
    add("--labels", metavar="A,B", nargs="+", action="extend", default=[], help=text)
    _add_force(sub)
    _add_json(sub)


def _add_study(commands: Any) -> None:
    text = "play many short games over a grid of rates, and draw which train"
    sub = _added(
        commands,
        "study",
        text,
        Command("study", "optimizers"),
        Command("study", "optimizers", games="dirac,bilinear", out="small/"),
        Command("study", "optimizers", games="ring", rates="0.0001,0.001,0.01"),
    )
    sub.description = (
        f"{sub.description}\nA folder with stability maps, vector fields, a table and one page with all of\n"
        "them. The whole grid takes hours; the same command goes on where it was ended."
    )
    add = sub.add_argument
    add("what", metavar="optimizers", type=study_of, help="what is studied: optimizers")
    add("-o", "--out", metavar="FOLDER", type=_path("out"), default=Path("study"), help="its folder (default: study/)")
    names = names_of
    add("--games", metavar="A,B", type=names, default=[], help="dirac, bilinear, ring, grid, digits (default: all)")
    add("--methods", metavar="A,B", type=names, default=[], help='such as "adam,optimistic adam" (default: by game)')
    told = 'such as "minimax,non-saturating + R1"; bilinear has its own'
    add("--losses", metavar="A,B", type=names, default=[], help=told)
    add("--rates", metavar="A,B", type=rates_of, default=[], help="rates of both players (default: by game)")
    add("--seeds", metavar="N", type=_whole("seeds", 1, 1_000, 2), default=2, help="seeds of each game (default: 2)")
    add("--rounds", metavar="N", type=_whole("rounds", 1, 10**7, 500), help="rounds of each game (default: by game)")
    workers = _whole("workers", 1, 1_024, 2)
    add("--workers", metavar="N", type=workers, default=1, help="games at the same time, a thread each (default: 1)")
    _add_json(sub)


def _add_evaluate(commands: Any) -> None:
    text = "score a run, or generated samples, against real ones"
    sub = _added(
        commands,
        "evaluate",
        text,
        Command("evaluate", RUN, against="mnist"),
        Command("evaluate", "generated/", against="photos/"),
        Command("evaluate", "generated/", against="photos/", split="test"),
    )
    sub.description = (
        f"{sub.description}\nAll images of both folders are compared. A run is never compared with\n"
        "what it has seen: of its own data the test split is used, of other data what it\n"
        "was neither trained on nor chosen by."
    )
    add = sub.add_argument
    text = "a run's folder, or a source of generated samples"
    add("target", metavar="RUN_OR_SOURCE", type=_path("RUN_OR_SOURCE"), help=text)
    add("--against", metavar="SOURCE", required=True, help="the real samples")
    splits = _one_of("split", "test", "validation", "train")
    text = "test, validation or train: a split of SOURCE, as a training would make it (default: see above)"
    add("--split", metavar="NAME", type=splits, help=text)
    text = "size that both are brought to, 64 or 40x30 (width x height; default: that of the real images)"
    add("--size", metavar="SIZE", type=_size, help=text)
    fit = _one_of("fit", "crop", "pad", "stretch")
    add(
        "--fit",
        metavar="HOW",
        type=fit,
        help="how images of another shape are fitted: crop, pad or stretch (default: crop)",
    )
    text = "what the samples are, where it is not a run: images or points (default: what SOURCE is)"
    add("--task", metavar="NAME", type=_one_of("task", *_tasks()), help=text)
    num = _whole("num", 6, 10_000_000, 5_000)
    add("-n", "--num", metavar="N", type=num, help="how many samples are drawn from a run (default: as in training)")
    text = "features of images: auto, encoder, efficientnet, inception or dinov2 (default: auto)"
    add("--features", metavar="F", type=_features, default="auto", help=text)
    _add_device(sub, default="auto")
    _add_json(sub)


def _add_compare(commands: Any) -> None:
    text = "show how runs differ, their scores side by side, and which is better"
    two = (RUN, "runs/dcgan-mnist-001")
    sub = _added(commands, "compare", text, Command("compare", *two), Command("compare", *two, html="page.html"))
    add = sub.add_argument
    add("runs", metavar="RUN", type=_path("RUN"), nargs="+", help="the folders of two or more runs")
    text = "also write a page with their samples and curves side by side"
    add("--html", metavar="FILE", type=_path("html"), help=text)
    _add_force(sub)
    _add_json(sub)


REPLAY_RULES = """
A file has a line for each evaluation and at least a step and a fid or kid: CSV
or JSON, also as other tools write it; the output says how it was read. Of a
run's folder, the scores under its last protocol are read.
The policies see one evaluation at a time and never the rest:
- Lower is better. A FID is above zero.
- An empty cell, or a score that is not finite, is a failed evaluation: no
  improvement, and never the best. A run needs one finite score at least.
- A run has at least five evaluations, and its steps rise.
- saved is 1 - step at the stop / last step. regret is the best score that the
  policy had seen / the best of the whole run. Where that is zero or below (a
  KID can be), there is no regret, and the run counts in saved only.
- The last row, oracle, stops at the first score within 2 % of the best."""


def _add_replay(commands: Any) -> None:
    sub = _added(
        commands,
        "replay",
        "try stopping policies on recorded runs: what is saved, what is lost",
        Command("replay", RUN),
        Command("replay", "scores.csv", set="stopping.patience.evaluations=12"),
    )
    sub.description = f"{sub.description}\n{REPLAY_RULES}"
    add = sub.add_argument
    text = "files with the columns run,step,fid, and folders of runs"
    add("sources", metavar="FILE|RUN", type=_path("FILE|RUN"), nargs="+", help=text)
    text = "evidence, patience, budget or discriminator-threshold; one or more (default: the first three)"
    add("--policy", metavar="NAME", type=_policy, nargs="+", action="extend", default=[], help=text)
    text = "fid or kid (default: fid if there is such a column, else kid; of a run, its own metric)"
    add("--metric", metavar="M", type=_one_of("metric", "fid", "kid"), help=text)
    _add_settings(sub, "a setting of the policies", "stopping.patience.evaluations=12")
    _add_json(sub)


def _add_digest(commands: Any) -> None:
    text = "print a checksum of the complete training state"
    sub = _added(commands, "digest", text, Command("digest", RUN))
    _add_run(sub)
    _add_json(sub)


def _add_recipes(commands: Any) -> None:
    text = "list the recipes, or explain one: paper, game, settings, measured result"
    examples = [Command("recipes"), Command("recipes", "infogan"), Command("recipes", "infogan", html="infogan.html")]
    sub = _added(commands, "recipes", text, *examples)
    sub.add_argument("name", metavar="NAME", nargs="?", type=_recipe_alone, help="explain this one (default: list all)")
    sub.add_argument("--html", metavar="FILE", type=_path("html"), help="also write NAME as a page with a picture")
    _add_force(sub)
    _add_json(sub)


def _add_explain(commands: Any) -> None:
    text = "say what a condition of a game means, how it looks, and what helps"
    sub = _added(commands, "explain", text, Command("explain", "mode-collapse"), Command("explain"))
    sub.add_argument("condition", metavar="CONDITION", nargs="*", help="such as mode-collapse (default: list them all)")
    _add_json(sub)


def _add_diagnose(commands: Any) -> None:
    text = "say what is wrong with a game by its log, also of another tool"
    sub = _added(commands, "diagnose", text, Command("diagnose", "losses.csv"), Command("diagnose", RUN, json=None))
    sub.description = (
        f"{sub.description}\nReads CSV, JSON lines and lines such as `[0/5][50/1583] Loss_D: 1.2 Loss_G: 3`:\n"
        "of StyleGAN, Keras, Lightning, Weights & Biases, TensorBoard, and plain columns.\n"
        "Exit code 0 whatever is wrong with the game."
    )
    sub.add_argument("log", metavar="FILE|RUN", type=_path("FILE|RUN"), help="a log with losses, or a run's folder")
    _add_json(sub)


def _add_data(commands: Any) -> None:
    sub = _added(
        commands,
        "data",
        "check images before training: files, sizes, copies, classes, splits",
        Command("data", "check", "photos/"),
        Command("data", "check", "photos/", size=64, fit="pad", json=None),
    )
    sub.description = (
        f"{sub.description}\nEvery image is decoded as `equipoise train` with the same options would do it,\n"
        "and nothing is written. Exit code 0 if the training would start, 2 if not."
    )
    sub.add_argument("action", metavar="check", type=_action, help="action (only: check)")
    _add_source(sub, "mnist, a folder, .zip, .tar, .parquet or .npz, hub:NAME")
    _add_settings(sub, "any setting of the recipe", "task.channels=1")
    _add_json(sub)


# Arguments that several commands have


def _add_run(sub: Parser) -> None:
    sub.add_argument("run", metavar="RUN", type=_path("RUN"), help="the run's folder")


def _add_json(sub: Parser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON, with all that is known")


def _add_force(sub: Parser) -> None:
    sub.add_argument("--force", action="store_true", help="overwrite what exists")


def _add_device(sub: Parser, default: str | None = None) -> None:
    text = "auto, cpu, mps, cuda or cuda:N (default: auto)"
    sub.add_argument("--device", metavar="D", type=_device, default=default, help=text)


def _add_remedies(sub: Parser, more: str) -> None:
    text = f"what is done where the game goes wrong: off, suggest or act{more}"
    sub.add_argument("--remedies", metavar="HOW", type=_one_of("remedies", "off", "suggest", "act"), help=text)


def _add_settings(sub: Parser, what: str, example: str) -> None:
    text = f"change {what}, as in {example}; may be given many times"
    sub.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=text)


def _add_source(sub: Parser, allowed: str) -> None:
    """Add what says which examples a training sees, and how."""
    add = sub.add_argument
    add("source", metavar="SOURCE", help=allowed)
    text = "see `equipoise recipes` (default: photos for colour of 32 to 64 pixels on a CPU, else modern)"
    add("--recipe", metavar="NAME", type=_recipe, help=text)
    text = "pixels: 64 (a square) or 40x30 (width x height), 8 to 1024 a side (default: found from the images)"
    add("--size", metavar="SIZE", type=_size, help=text)
    fit = _one_of("fit", "crop", "pad", "stretch")
    add(
        "--fit",
        metavar="HOW",
        type=fit,
        help="how images of another shape are fitted: crop, pad or stretch (default: crop)",
    )


# Values


def _whole(option: str, low: int, high: int, example: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        nearest = example
        if re.fullmatch(r"[+-]?[0-9]{1,30}", text):
            nearest = min(max(int(text), low), high)
            if int(text) == nearest:
                return nearest
        problem = f"give a whole number from {low} to {high}"
        raise UserError(Option(option, shortened(text)), problem, Option(option, nearest))

    return read


def _size(text: str) -> int | str:
    return size_of(parsed_size(text, Option("size", shortened(text)))).typed


def _one_of(option: str, *allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in allowed:
            return text
        near = suggested(text, allowed) or (Option(option, allowed[0]),)
        raise UserError(Option(option, shortened(text)), f"allowed are {listed(allowed)}", *near)

    return read


def _path(what: str) -> Callable[[str], Path]:
    """Return what reads the path of an option, or of an argument, whose name is in capitals."""

    def read(text: str) -> Path:
        if text.strip() and "\0" not in text:
            return Path(text)
        subject: Part = f'{what} "{text}"' if what.isupper() else Option(what, text)
        raise UserError(subject, "not a path", f"Give one such as {RUN}")

    return read


def _seed(text: str) -> int:
    return _whole("seed", 0, MAX_SEED, 1)(text)


def _budget(text: str) -> str:
    from equipoise.budgets import parsed_budget

    parsed_budget(text)
    return text


def _recipe(text: str) -> str:
    from equipoise.recipes import checked_name

    return checked_name(text)


def _recipe_alone(text: str) -> str:
    try:
        return _recipe(text)
    except UserError as error:
        raise error.about(f'recipes "{shortened(text)}"') from None


def _features(text: str) -> str:
    from equipoise.recipe import FeaturesName

    return _one_of("features", *get_args(FeaturesName))(text)


def _action(text: str) -> str:
    if text == "check":
        return text
    source = text if _is_source(text) else "SOURCE"
    raise UserError(f'data "{text}"', 'the only action is "check"', Command("data", "check", source))


def _is_source(text: str) -> bool:
    return text in _embedded() or text.startswith("hub:") or os.path.exists(text)


def _embedded() -> tuple[str, ...]:
    from equipoise.tasks import EMBEDDED

    return EMBEDDED


def _tasks() -> tuple[str, ...]:
    from equipoise.tasks import NAMES

    return NAMES


def _policies() -> tuple[str, ...]:
    from equipoise.recipe import PolicyName

    return get_args(PolicyName)


def _policy(text: str) -> str:
    names = _policies()
    if text not in names and os.path.exists(text):
        raise UserError(Option("policy", text), "this is a file, and files come first", Command("replay", text))
    return _one_of("policy", *names)(text)


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,4})?", text):
        return text
    problem = "allowed are auto, cpu, mps, cuda or cuda:N"
    raise UserError(Option("device", shortened(text)), problem, Option("device", "cpu"))


# What the parser does not know


def _refuse_unknown_command(arguments: Sequence[str]) -> None:
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is None or word in COMMANDS:
        return
    remedies: Sequence[Part] = suggested(word, COMMANDS)
    if word in _embedded() or (_is_source(word) and not remedies):
        remedies = [Command("train", word)]
    elif not remedies:
        remedies = [HELP]
    raise UserError(f'command "{shortened(word)}"', f"unknown; there are {listed(COMMANDS)}", *remedies)


def _refuse_misspelt(top: Parser, arguments: Sequence[str]) -> None:
    """Raise UserError for the first option that does not exist and is near to one of its command."""
    command = next(iter(arguments), "")
    sub = next((commands[command] for commands in _commands_of(top) if command in commands), None)
    if sub is None:
        return
    options = [option for action in sub._actions for option in action.option_strings]
    for word in arguments[1:]:
        name = word.split("=", 1)[0]
        if name.startswith("--") and name not in options and suggested(name, options):
            _refuse_unknown(sub, word, arguments)


def _commands_of(top: Parser) -> list[dict[str, Any]]:
    return [action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction)]


def _refuse_unknown(sub: Parser, word: str, arguments: Sequence[str]) -> NoReturn:
    options = [option for action in sub._actions for option in action.option_strings]
    name = word.split("=", 1)[0]
    if name in options:
        raise UserError(name, "it belongs after the command", f"Write: {sub.prog} … {name}")
    if word.startswith("-"):
        near = suggested(name, options) or (Command(_name(sub), "--help"),)
        problem = f'there is no option "{shortened(name)}"; there are {listed(options)}'
        raise UserError(_name(sub), problem, *near)
    problem = f'"{shortened(word)}" is one argument too many'
    place = list(arguments).index(word)
    if len(word) <= LONGEST_UNIT and place > 1 and re.fullmatch(r"[0-9.]+", arguments[place - 1]):
        raise UserError(_name(sub), problem, f"Write {arguments[place - 1]}{word} without a space between")
    raise UserError(_name(sub), problem, with_own_run(sub.example))


def _name(parser: argparse.ArgumentParser) -> str:
    """Return the name of a command, or that of the program."""
    return parser.prog.partition(" ")[2] or parser.prog
