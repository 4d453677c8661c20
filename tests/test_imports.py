"""Imports go one way, and nothing grows beyond what one can read: the design's rules, held by reading the source."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import equipoise

TASKS = {"Images", "Points", "SuperResolution", "Custom", "SHAPES"}
OF_TASKS = {"tasks", "recipe", "recipes"}  # which may know one task from another
READ_IMAGES = {
    "data/pool.py",
    "data/audit/check.py",
    "datasets.py",
    "watch/images.py",
}  # `Images` is also how a source's images are read
ROOT = Path(equipoise.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# The order of the rooms, as in docs/design.md: each may import those before it. Nothing imports `cli`.
ORDER = (
    *(
        "errors",
        "randomness",
        "sizes",
        "fields",
        "contradictions",
        "recipe",
        "budgets",
        "recipes",
        "storage",
        "formatting",
        "game",
        "nets",
        "data",
        "metrics",
    ),
    *("tasks", "health", "stopping", "runs", "host", "state", "repair", "evaluation", "loop", "report"),
    *(
        "starting",
        "changed",
        "setup",
        "against",
        "api",
        "explore",
        "datasets",
        "study",
        "watch",
        "integrations",
        "__init__",
        "cli",
        "__main__",
    ),
)
WITHOUT_TORCH = {
    "errors",
    "sizes",
    "fields",
    "contradictions",
    "recipe",
    "budgets",
    "recipes",
    "storage",
    "formatting",
    "health",
    "stopping",
    "runs",
}
WITHOUT_TORCH |= {"report", "host", "watch", "cli"}  # but for what is imported once there is something to compute
HEAVY = {"torch", "numpy", "PIL", "rich"}
WITH_TORCH = {
    ROOT / "watch" / "images.py",
    ROOT / "watch" / "leaks.py",
    ROOT / "watch" / "reading.py",
    ROOT / "watch" / "generators.py",
    ROOT / "watch" / "modules.py",
    ROOT / "watch" / "torch_settings.py",
    ROOT / "watch" / "trained_on.py",
    ROOT / "host" / "device.py",
    ROOT / "tasks" / "__init__.py",
}


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


def part(path: Path) -> str:
    """Return the first folder, or the module, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def called(path: Path) -> str:
    """Return a file's path below the package."""
    return path.relative_to(ROOT).as_posix()


def imported(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports, by their full names."""
    tree = tree_of(path)
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "equipoise":
                yield from (f"equipoise.{name.name}" for name in node.names)
            else:
                yield node.module


def test_imports_go_one_way() -> None:
    for path in FILES:
        own = part(path)
        parts = {name.split(".")[1] for name in imported(path) if name.startswith("equipoise.")} - {own, "__version__"}
        assert own in ORDER, f"say where {own} stands"
        later = {name for name in parts if ORDER.index(name) > ORDER.index(own)}
        assert not later, f"{called(path)}: {own} must not import {later}"


def named(path: Path) -> set[str]:
    """Return every name that a file imports, or reads as a variable or an attribute."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add(node.name)
    return names


def test_a_task_is_a_branch_nowhere_but_in_tasks() -> None:
    for path in FILES:
        if part(path) in OF_TASKS:
            continue
        allowed = {"Images"} if called(path) in READ_IMAGES else set[str]()
        branches = named(path) & TASKS - allowed
        assert not branches, f"{called(path)}: {branches}"


def test_what_must_start_at_once_imports_no_torch_or_numpy() -> None:
    for path in FILES:
        if part(path) in WITHOUT_TORCH and path not in WITH_TORCH:
            heavy = {name.split(".")[0] for name in imported(path, top_level_only=True)} & HEAVY
            assert not heavy, f"{called(path)}: {heavy}"


def test_files_and_functions_stay_short() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") < 600, f"{called(path)} is {text.count(chr(10))} lines long"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                limit = 150 if (path.name, node.name) == ("loop.py", "train") else 100
                assert length <= limit, f"{called(path)}: {node.name} is {length} lines long"


def test_public_things_have_docstrings() -> None:
    for path in FILES:
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{called(path)}: {node.name} has no docstring"


def test_only_safe_files_are_loaded() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = node.func.value
                name = owner.id if isinstance(owner, ast.Name) else ""
                safe = any(
                    keyword.arg == "weights_only" and ast.literal_eval(keyword.value) is True
                    for keyword in node.keywords
                )
                assert name not in {"torch", "pickle"} or safe, f"{path.name}: {name}.load can run code"


def test_no_module_uses_the_word_of_a_workplace() -> None:
    for path in [*FILES, *Path(__file__).parent.rglob("*.py")]:
        text = path.read_text()
        assert "/work" + "/" not in text, f"{path} names a machine's path"
