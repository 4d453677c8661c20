"""What the documents tell people to type exists: commands, options, fields, names of the Python interface."""

import argparse
import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import equipoise
from equipoise.cli.arguments import COMMANDS, parser
from equipoise.errors import UserError
from equipoise.recipe import with_settings
from equipoise.recipes import Facts, build, checked_name

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if page.is_file())


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
    try:
        name = checked_name(next((word for before, word in given if before == "--recipe"), "modern"))
        with_settings(build(name, Facts()), [word for before, word in given if before == "--set" and "…" not in word])
    except UserError as error:
        wrong.append(str(error))
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    for words in typed(page.read_text("utf-8")):
        assert mistakes(words) == [], f"{page.name}: equipoise {shlex.join(words)}"


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
    assert mistakes(["train", "mnist", "--set", "game.batch=128"]) == []
