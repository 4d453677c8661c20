"""What Equipoise promises about faults and bad input, each with its tests, and how they came out.

    python bench/promises.py            run the tests of every promise and record the results
    python bench/promises.py --files …  run these test files alone, and put their results into the record; a single
                                        test (FILE::NAME) is one that failed and was mended
    python bench/promises.py --table    print the table of docs/promises.md from the record

Writes records/promises.json. The soak has a record of its own (bench/soak.py).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Promise:
    """What may happen, what is promised then, how it is tried, and the test files that try it."""

    fault: str
    promise: str
    check: str
    files: tuple[str, ...]


PROMISES = (
    Promise(
        "`kill -9` at any moment",
        "`resume` continues, and the run is bit for bit the one that was never killed: weights, averages, optimizers, "
        "order of the data, means of the game, state of the policy, scores, candidates",
        "processes killed at random moments, at every fsync, rename, unlink, mkdir and write of a run, and once for "
        "every recipe, network, loss, penalty, optimizer and policy; then `equipoise digest` against a run left alone",
        ("tests/faults/test_kill.py", "tests/runs/test_digest.py", "tests/host/test_writer.py"),
    ),
    Promise(
        "state that a checkpoint forgets",
        "there is none: whatever changes while it trains comes back",
        "every object that a running training reaches is walked, and compared with a restored one",
        ("tests/faults/test_inventory.py",),
    ),
    Promise(
        "SIGTERM, SIGINT, SIGHUP",
        "the checkpoint is written at the end of the round; an evaluation that is under way is given up before its "
        "next chunk of outputs, and `resume` takes it again; the process leaves with a code of its own; a second "
        "Ctrl-C leaves at once",
        "signals sent to processes in every phase, then the digest",
        ("tests/faults/test_signals.py", "tests/host/test_signals.py"),
    ),
    Promise(
        "full, failing or read-only disk",
        "the last good checkpoint stays; one line says so, exit code 4; with room again `resume` continues exactly; "
        "what cannot be written is refused before the training",
        "a file system of 4 MB, file size limits, errors injected at write, fsync and rename, folders without rights",
        ("tests/faults/test_disk.py",),
    ),
    Promise(
        "damaged checkpoint, or another damaged file of a run",
        "a checkpoint is found by its SHA-256 manifest; the one before is used and the bad file named; with none good "
        "the command fails, and never begins again in silence; a record that can be made again is, any other is named "
        "and left as it is",
        "truncated and flipped at many places, every file of a run, for each task",
        ("tests/storage/test_tensors.py", "tests/faults/test_hostile.py", "tests/faults/test_damaged_runs.py"),
    ),
    Promise(
        "hostile checkpoint, recipe, log or archive",
        "only safetensors and JSON are read, nothing is unpacked to disk, sizes and ratios are capped; one line, no "
        "traceback",
        "pickles with a canary on every load path, archives made to harm, fuzzing of all four readers, a lint",
        (
            "tests/faults/test_hostile.py",
            "tests/faults/test_fuzzing.py",
            "tests/data/test_archives.py",
            "tests/test_lints.py",
        ),
    ),
    Promise(
        "NaN or infinity in a loss, a gradient, a moment, a weight",
        "the step is not applied, and the event is logged; a state with such a number never becomes the last "
        "checkpoint or the best generator",
        "each injected, for both players",
        ("tests/faults/test_nan.py", "tests/game/test_updates.py"),
    ),
    Promise(
        "a game that diverges",
        "the run goes back to its last healthy checkpoint with lower learning rates; what was spent stays spent; after "
        "`remedies.attempts` of these it stops and says so; a kill around one leaves no trace",
        "numbers that are not finite from some position on, rates that are too high, kills before, within and after",
        ("tests/faults/test_remedy.py", "tests/test_remedies.py", "tests/stopping/test_verdicts.py"),
    ),
    Promise(
        "an evaluation that raises, runs out of memory or takes too long",
        "it costs its score alone: the training continues, and its weights are those of a run whose evaluations "
        "succeed; one that takes longer than `evaluation.timeout` is given up between two chunks of outputs; a "
        "checkpoint evaluated again gives the score in the log; a selection or a test that fails leaves a finished run "
        "that says so",
        "each injected, then the digest",
        ("tests/faults/test_evaluation.py", "tests/host/test_deadline.py"),
    ),
    Promise(
        "odd images",
        "used rightly or left out with a plain reason, a bound on the share left out; never a crash after the first "
        "step",
        "a corpus of odd files through `equipoise data check` and a training",
        (
            "tests/data/test_corpus.py",
            "tests/data/audit/test_check.py",
            "tests/data/test_decode.py",
            "tests/cli/test_data.py",
        ),
    ),
    Promise(
        "two trainings in one folder",
        "the second exits with 3 and names host and process; a dead one's lock is free, a live one's never stolen, "
        "not even where its lock file was removed; readers are always welcome",
        "20 started at once",
        ("tests/faults/test_locks.py", "tests/runs/test_folder.py"),
    ),
    Promise(
        "torn log line",
        "as if never written; a resume cuts the logs back to the checkpoint",
        "cut at every byte of the last record",
        ("tests/storage/test_logs.py",),
    ),
    Promise(
        "clock that jumps or stands",
        "nothing stops or divides by it",
        "the clock patched by hours either way",
        ("tests/faults/test_clock.py",),
    ),
    Promise(
        "odd paths",
        "spaces, quotes, any alphabet, 255 bytes, links: they work, or are refused in one line",
        "train, resume, status, sample and digest with each",
        ("tests/faults/test_paths.py",),
    ),
    Promise(
        "a safeguard that does nothing",
        "each is broken once on purpose, and its test fails",
        "a copy of the source with one safeguard taken out at a time",
        ("tests/faults/test_safeguards.py",),
    ),
)


def main() -> None:
    """Run the tests and record, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--files", nargs="+", metavar="FILE")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    from common import write_record

    files = options.files or sorted({file for promise in PROMISES for file in promise.files})
    before: dict[str, dict[str, Any]] = {}
    if options.files:
        before = recorded()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-n", "2", "--timeout", "900", f"--junitxml={report}", *files]
        subprocess.run(command, cwd=ROOT, check=False)
        found = outcomes(report)
    single = {file.partition("::")[0] for file in options.files or () if "::" in file}
    for file in single & found.keys():
        found[file] = mended(before[file], found[file])
    print(write_record("promises", {"files": before | found}))
    print(table())


def outcomes(report: Path) -> dict[str, dict[str, Any]]:
    """Return, for each test file, how its tests came out, their seconds, and the sums of what they counted."""
    found: dict[str, dict[str, Any]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("classname", "").replace(".", "/") + ".py"
        values = found.setdefault(file, {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0, "counted": {}})
        values[outcome_of(case)] += 1
        values["seconds"] = round(values["seconds"] + float(case.get("time", 0)), 1)
        for counted in case.iter("property"):
            if (number := counted.get("value", "")).isdigit():
                name = counted.get("name", "")
                values["counted"][name] = values["counted"].get(name, 0) + int(number)
    return found


def outcome_of(case: ElementTree.Element) -> str:
    """Return how one test came out."""
    kinds = {child.tag for child in case}
    if "skipped" in kinds:
        return "skipped"
    if kinds & {"failure", "error"}:
        return "failed"
    return "passed"


def mended(before: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """Return a file's results where tests that had failed have passed since."""
    return before | {"passed": before["passed"] + again["passed"], "failed": before["failed"] - again["passed"]}


def recorded() -> dict[str, dict[str, Any]]:
    """Return the outcomes of the last run, by test file."""
    return json.loads((RECORDS / "promises.json").read_text())["files"]


def table() -> str:
    """Return the table of docs/promises.md."""
    record = recorded()
    lines = ["| when | what is promised | how it is tested | result |", "|---|---|---|---|"]
    for one in PROMISES:
        results = [record[file] for file in one.files if file in record]
        lines.append(f"| {one.fault} | {one.promise} | {one.check} | {spoken(results)} |")
    return "\n".join(lines)


def spoken(results: list[dict[str, Any]]) -> str:
    """Say in words how a promise's tests came out."""
    if not results:
        return "not measured"
    sums = {name: sum(result[name] for result in results) for name in ("passed", "failed", "skipped")}
    counted: Counter[str] = sum((Counter(result["counted"]) for result in results), Counter())
    words = [
        f"{sums['passed']} tests passed",
        *(f"{sums[name]} {name}" for name in ("failed", "skipped") if sums[name]),
    ]
    return ", ".join([*words, *(f"{number:,} {name}" for name, number in counted.items())])


if __name__ == "__main__":
    main()
