"""What the documents tell people to type exists: commands, options, fields, names of the Python interface."""

import argparse
import ast
import dataclasses
import functools
import itertools
import re
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import equipoise
from equipoise.cli.arguments import COMMANDS, parser
from equipoise.errors import UserError
from equipoise.recipe import Recipe, with_settings
from equipoise.recipes import Facts, build, checked_name
from equipoise.tasks import task_settings

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if page.is_file())
HISTORY = ("LOG.md", "CHANGELOG.md")  # these speak of what was, too
# Names in the pages that are not of this tree: of the system, of Python, of the field.
FOREIGN = {"Ctrl-C", "fsync", "kill", "pip", "flock", "torch", "numpy", "safetensors", "pickle", "GPU", "CPU", "make"}
FOREIGN |= {"LOG.md", "train.py", "self.log", ".venv", "mlp-classic/seed0"}
FOREIGN |= {"tests/tasks/test_<name>.py", "tasks/<name>.py"}
NAME = re.compile(r"\.?[A-Za-z_][\w-]*(?:[./][\w<>*-]+)*(?:\(\))?/?")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (language, content) of every fenced block."""
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def typed(text: str) -> Iterator[list[str]]:
    """Yield the words after `equipoise` of every command in fenced blocks and in `inline code`."""
    lines = [line for _, content in blocks(text) for line in content.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`([^`\n]+)`", prose)
    for line in lines:
        match = re.match(r"(?:\$ )?(?:\.venv/bin/)?equipoise\s+(\S.*)", line.strip())
        if match:
            yield shlex.split(match[1], comments=True)


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    return next(action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))


def mistakes(words: list[str]) -> list[str]:
    """Return what is wrong with a command."""
    if words[0].startswith("-") or words[0] in ("COMMAND", "…", "..."):
        return [] if words[0] in ("--help", "-h", "--version", "COMMAND", "…", "...") else [words[0]]
    if words[0] not in COMMANDS:
        return [words[0]]
    known = {option for action in subparsers()[words[0]]._actions for option in action.option_strings}
    wrong = [word for word in words[1:] if word.startswith("-") and word.split("=")[0].rstrip("…") not in known]
    given = [(before, word) for before, word in itertools.pairwise(words) if not word.isupper()]
    options = dict(given)
    try:
        task = task_settings(options.get("--task"), options.get("train"))
        recipe = build(checked_name(options.get("--recipe", "modern")), Facts(), task)
        with_settings(recipe, [word for before, word in given if before == "--set" and "…" not in word])
    except UserError as error:
        wrong.append(str(error))
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    for words in typed(page.read_text("utf-8")):
        assert mistakes(words) == [], f"{page.name}: equipoise {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_of_a_page_is_there(page: Path) -> None:
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_a_page_is_python_that_names_what_exists(page: Path) -> None:
    for language, content in blocks(page.read_text("utf-8")):
        if language in ("python", "py") and "import equipoise" in content:
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "eq":
                    assert node.attr in equipoise.__all__, f"{page.name}: eq.{node.attr}"


def test_every_example_of_the_help_can_be_typed() -> None:
    for name, sub in subparsers().items():
        assert sub.epilog
        examples = [shlex.split(line)[1:] for line in sub.epilog.splitlines() if line.startswith("  equipoise ")]
        assert examples, name
        for words in examples:
            assert words[0] == name
            parser().parse_args(words)
            assert mistakes(words) == []


def test_these_checks_see_a_command_that_does_not_exist() -> None:
    wrong = "```\n$ equipoise train mnist --bugdet 5m  # a comment\nequipoise fly\n```\nThe `equipoise train --sed 1`."
    assert [mistakes(words) for words in typed(wrong)] == [["--bugdet"], ["fly"], ["--sed"]]
    assert mistakes(["train", "mnist", "--set", "game.gamma=1"])
    assert mistakes(["train", "mnist", "--recipe", "unknown"])
    assert mistakes(["train", "mnist", "--set", "task.scale=4"])
    assert mistakes(["train", "mnist", "--set", "game.batch=128"]) == []
    assert mistakes(["train", "photos/", "--task", "super-resolution", "--set", "task.scale=4"]) == []


# Names in the text


def called_by_name(text: str) -> Iterator[str]:
    """Yield every piece of `inline code` that is a name, a path, or a dotted chain of names."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", prose):
        if NAME.fullmatch(code):
            yield code.removesuffix("()")


@functools.cache
def vocabulary() -> frozenset[str]:
    """Return every name and every word of a string in the source, the tests and the benchmarks, and every file."""
    found: set[str] = set()
    for folder in ("src", "tests", "bench", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if "__pycache__" not in path.parts:
                found |= {path.name, path.stem}
            if path.suffix == ".py" and path != Path(__file__):
                for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                    found |= set(names_in(node))
    return frozenset(found)


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node of a syntax tree defines or uses, and the words of its strings."""
    for field in ("name", "id", "attr", "arg"):
        if isinstance(value := getattr(node, field, None), str):
            yield value
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
        yield from re.findall(r"[\w.-]+", node.value)


@functools.cache
def members() -> dict[str, frozenset[str]]:
    """Return what the modules, packages and classes of the source hold, by their names."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src" / "equipoise").rglob("*.py"):
        package = found.setdefault(path.parent.name, set())
        package |= {path.stem, path.name, path.parent.name}
        stem = path.stem if path.stem != "__init__" else path.parent.name
        found.setdefault(path.parent.parent.name, set()).add(path.parent.name)
        module = found.setdefault(stem, set())
        for node in ast.parse(path.read_text("utf-8")).body:
            module |= set(defined_by(node))
            if isinstance(node, ast.ClassDef):
                owner = found.setdefault(node.name, set())
                owner |= {name for part in node.body for name in defined_by(part)}
    found["equipoise"] |= set(equipoise.__all__)
    found["eq"] = found["equipoise"]
    found["watch"] |= found["Watch"]  # what a page calls an object of it
    found["run"] = found["Run"]
    found["best"] = found["Best"]
    return {name: frozenset(names) for name, names in found.items()}


def defined_by(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def is_setting(name: str) -> bool:
    """Say whether a dotted name leads to a field, or a group of fields, of a recipe."""
    kinds: list[Any] = [Recipe]
    for part in name.split("."):
        if part == "*":
            return True
        records = [kind for kind in kinds if isinstance(kind, type) and is_record(kind)]
        types = [hints[part] for hints in map(typing.get_type_hints, records) if part in hints]
        kinds = [one for kind in types for one in (kind, *typing.get_args(kind))]
    return bool(kinds)


def is_record(kind: type) -> bool:
    """Say whether a type has fields that a recipe may hold."""
    return dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct)


def exists(name: str) -> bool:
    """Say whether what a page calls by this name is a file, a setting or a name of this tree."""
    if name in FOREIGN or name in vocabulary() or name.removeprefix(".") in vocabulary():
        return True
    if any((folder / name).exists() for folder in (ROOT, ROOT / "src" / "equipoise")):
        return True
    if "/" in name:
        parts = [part for part in name.strip("/").split("/") if not part.startswith("<")]
        return not name.endswith(".py") and all(part in vocabulary() for part in parts)
    if is_setting(name.removeprefix(".")):
        return True
    pairs = [pair for pair in itertools.pairwise(name.split(".")) if pair[0] in members()]
    return bool(pairs) and all(member in members()[owner] for owner, member in pairs)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=lambda page: page.name)
def test_what_a_page_calls_by_name_exists(page: Path) -> None:
    assert [name for name in called_by_name(page.read_text("utf-8")) if not exists(name)] == []


def test_this_check_sees_names_that_do_not_exist() -> None:
    planted = "`problem.py`, `eq.judge`, `game.gama`, `tasks/audio.py`, `Watch.look` and `game.losses.no_such_loss`"
    names = list(called_by_name(planted))
    assert len(names) == 6
    assert [name for name in names if exists(name)] == []
    assert all(map(exists, ["recipe.json", "eq.train", "game.batch", "tasks/images.py", "Watch.evaluate", "loop.py"]))


# Links


def anchors(text: str) -> set[str]:
    """Return what a page's headings are linked by."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).strip().lower() for head in heads]
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in plain}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files that are not there, or to headings that they do not have."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`\n[a](#one-two) [b](#one) [c](page.md#one-two) [d](none.md) [e](page.md#three)\n")
    assert broken_links(page) == ["#one", "none.md", "page.md#three"]
