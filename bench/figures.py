"""The size and the density of the source, and how much English the tests assert, by the syntax tree alone.

    python bench/figures.py                    # this tree
    python bench/figures.py --before PATH      # beside another checkout, recorded in records/figures.json

Code lines are lines that are neither blank, comment nor docstring. A packed assignment gives several names several
values in one statement; a swap of the same names is a pair and does not count. McCabe is one and a branch for each if,
loop, handler, case, conditional expression, comprehension condition and further operand of `and` or `or`. An English
phrase is a string of two words or more that a test compares with what a person reads (in `assert`, `match=`, the
cases of a parametrised test, or the arguments of a helper that asserts) and that is neither a command, nor Python, nor
a value that the source allows by name (in a `Literal`).
"""

import argparse
import ast
import io
import json
import math
import re
import statistics
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PHRASE = re.compile(r"[A-Za-z][A-Za-z'’-]+[,:;]? [A-Za-z]")
COMMAND = re.compile(r"equipoise:? [a-z]+( [^ ]*)?")  # what can be typed, or the head of a refusal: no phrase


def files_of(folder: Path) -> list[Path]:
    """Return the Python files below a folder."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def docstring_lines(node: Any) -> set[int]:
    """Return the numbers of a docstring's lines."""
    first = node.body[0] if getattr(node, "body", None) else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return set()


def mccabe(function: ast.AST) -> int:
    """Return the cyclomatic complexity of a function, inner functions included."""
    total = 1
    for node in ast.walk(function):
        if isinstance(node, ast.If | ast.For | ast.While | ast.ExceptHandler | ast.IfExp | ast.match_case):
            total += 1
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            total += len(node.ifs)
    return total


def is_packed(node: ast.AST) -> bool:
    """Return whether a statement gives several names several values, and is not a swap."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    target = node.targets[0]
    if not isinstance(target, ast.Tuple) or len(target.elts) != len(node.value.elts):
        return False
    return sorted(map(ast.unparse, target.elts)) != sorted(map(ast.unparse, node.value.elts))


def comments_of(text: str) -> tuple[int, set[int]]:
    """Return the number of comments but for pragmas, and the lines that hold nothing else."""
    num, alone = 0, set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not re.match(r"#\s*(noqa|type:|pyright|fmt:)", token.string):
                num += 1
            if token.line.strip().startswith("#"):
                alone.add(token.start[0])
    return num, alone


def percentile(values: Iterable[float], share: float) -> float:
    """Return a percentile by index."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]


def source_figures(folder: Path) -> dict[str, Any]:
    """Return the figures of a package's source."""
    paths = files_of(folder)
    lengths, bodies, parameters, complexities, words = [], [], [], {}, []
    num_public = num_documented = num_code = num_comments = packed = conditional = long_lines = characters = 0
    file_lengths = []
    for path in paths:
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        file_lengths.append(text.count("\n"))
        documented = docstring_lines(tree)
        for node in ast.walk(tree):
            packed += is_packed(node)
            conditional += isinstance(node, ast.IfExp)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                documented |= docstring_lines(node)
        for function in functions_of(tree):
            lengths.append(length(function))
            bodies.append(length(function) - len(docstring_lines(function)))
            arguments = function.args
            parameters.append(len(arguments.args) + len(arguments.kwonlyargs) + len(arguments.posonlyargs))
            complexities[f"{path.relative_to(folder)}:{function.name}"] = mccabe(function)
            if not function.name.startswith("_"):
                num_public += 1
                if text_of := ast.get_docstring(function):
                    num_documented += 1
                    words.append(len(text_of.split()))
        found, alone = comments_of(text)
        num_comments += found
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and number not in documented and number not in alone:
                num_code += 1
                characters += len(line)
                long_lines += len(line) > 100
    worst = max(complexities, key=lambda name: complexities[name])
    loops = [value for name, value in complexities.items() if name == "loop.py:train"]
    return {
        "files": len(paths),
        "lines": sum(file_lengths),
        "code_lines": num_code,
        "functions": len(lengths),
        "function_p50": percentile(lengths, 0.5),
        "function_p90": percentile(lengths, 0.9),
        "function_max": max(lengths),
        "body_p90": percentile(bodies, 0.9),
        "functions_over_40": sum(value > 40 for value in lengths),
        "functions_over_100": sum(value > 100 for value in lengths),
        "files_over_400": sum(value > 400 for value in file_lengths),
        "files_over_600": sum(value > 600 for value in file_lengths),
        "parameters_p90": percentile(parameters, 0.9),
        "parameters_max": max(parameters),
        "public_documented_percent": round(100 * num_documented / num_public, 1),
        "docstring_words_p50": statistics.median(words),
        "comments_per_100": round(100 * num_comments / num_code, 1),
        "mccabe_max": complexities[worst],
        "mccabe_worst": worst,
        "mccabe_loop": max(loops, default=0),
        "packed_per_1000": round(1000 * packed / num_code, 1),
        "conditional_per_1000": round(1000 * conditional / num_code, 1),
        "characters_a_line": round(characters / num_code, 1),
        "over_100_columns_percent": round(100 * long_lines / num_code, 1),
    }


@dataclass(frozen=True)
class Phrases:
    """What counts as English in a tree: two words or more that are no command, no Python and no name of a kind."""

    kinds: frozenset[str]

    def found_in(self, node: ast.AST) -> bool:
        """Say whether a node is a string of English."""
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            return False
        if node.value in self.kinds or "import " in node.value:
            return False
        return bool(PHRASE.search(COMMAND.sub("", node.value)))

    def number_in(self, nodes: Iterable[ast.AST]) -> int:
        """Return how many strings of English stand in some nodes and below them."""
        return sum(self.found_in(inner) for node in nodes for inner in ast.walk(node))


def kinds_of(source: Path) -> frozenset[str]:
    """Return the strings that the source allows as values: those of every `Literal`."""
    found = set()
    for path in files_of(source):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
                found |= {inner.value for inner in ast.walk(node.slice) if isinstance(inner, ast.Constant)}
    return frozenset(found)


def compared_by(function: ast.AST, asserting: frozenset[str]) -> list[ast.AST]:
    """Return what a test compares with something, its parametrised cases included, their ids apart."""
    nodes: list[ast.AST] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            nodes.append(node.test)
        elif isinstance(node, ast.Call):
            nodes += [keyword.value for keyword in node.keywords if keyword.arg == "match"]
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in asserting:
                nodes += node.args
    for decorator in getattr(function, "decorator_list", ()):
        if isinstance(decorator, ast.Call) and "parametrize" in ast.unparse(decorator.func):
            nodes += decorator.args[1:]
    return nodes


def test_figures(folder: Path, english: Phrases) -> dict[str, Any]:
    """Return how many tests there are, and how many English phrases they assert."""
    num_tests = num_asserts = num_phrases = num_with = lines = 0
    for path in files_of(folder):
        text = path.read_text("utf-8")
        lines += text.count("\n")
        tree = ast.parse(text)
        helpers = frozenset(
            function.name
            for function in functions_of(tree)
            if not function.name.startswith("test_")
            and any(isinstance(node, ast.Assert) for node in ast.walk(function))
        )
        for function in functions_of(tree):
            num_asserts += sum(isinstance(node, ast.Assert) for node in ast.walk(function))
            if function.name.startswith("test_"):
                num_tests += 1
                phrases = english.number_in(compared_by(function, helpers))
                num_phrases += phrases
                num_with += bool(phrases)
    return {
        "lines": lines,
        "tests": num_tests,
        "asserts": num_asserts,
        "phrases": num_phrases,
        "tests_with_phrases": num_with,
    }


def figures(root: Path) -> dict[str, Any]:
    """Return all figures of a checkout."""
    source = root / "src" / "equipoise"
    return {"source": source_figures(source), "tests": test_figures(root / "tests", Phrases(kinds_of(source)))}


def main() -> None:
    """Print the figures, and record them beside another checkout's if one is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    values = {"now": figures(ROOT)}
    if options.before:
        values = {"before": figures(options.before), **values}
        from common import write_record

        print(write_record("figures", values))
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
