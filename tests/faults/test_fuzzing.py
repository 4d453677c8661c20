"""Every reader on damaged and made-up files: what it reads, or an error of one line, and never anything else.

The same properties twice: a few dozen examples each with all tests, thousands where faults are looked for.
"""

import contextlib
import copy
import hashlib
import io
import json
import math
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import made_runs
import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_runs import Kind
from PIL import Image

from equipoise.budgets import parsed_budget
from equipoise.cli.compare_text import compare_text
from equipoise.cli.replay_text import replay_text
from equipoise.cli.status_text import status_text
from equipoise.data.decode import BrokenImage
from equipoise.data.sources import open_source
from equipoise.errors import UserError
from equipoise.recipe import Recipe, checked, from_dict, to_dict, with_settings
from equipoise.report.report import write_report
from equipoise.runs.compare import compare, compare_values
from equipoise.runs.folder import RunFolder
from equipoise.runs.missing_best import refuse_without_best
from equipoise.runs.replay import DEFAULT_POLICIES, stopping_with, summaries
from equipoise.runs.replay_read import read_run
from equipoise.runs.resume_rules import recipe_to_resume
from equipoise.runs.status import read_status, status_values
from equipoise.storage import checkpoints
from equipoise.storage.files import MANIFEST
from equipoise.storage.logs import append, cut, last_records, records
from equipoise.storage.records import MAX_NUMBER, Score, StepStats, lenient

UNHURRIED = {"deadline": None, "suppress_health_check": list(HealthCheck)}
QUICK = settings(max_examples=60, **UNHURRIED)
LONG = settings(max_examples=3_000, **UNHURRIED)
SLOW = settings(max_examples=600, **UNHURRIED)  # of what writes and reads whole folders

leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(min_size=500, max_size=600)
values = st.recursive(
    leaf | st.integers(10**20, 10**30) | st.sampled_from([10**400, -(10**400), 1e308, -1e308, 5e-324, "9" * 500]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def attempted(act: Callable[[], Any], most: int = 1000) -> Any:
    """Return what an act gives, None where it is refused in one line of at most so many characters."""
    message = ""
    try:
        return act()
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) == 1, message
    assert len(message) < most, message
    return None


def paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value within plain JSON, the whole first."""
    yield path
    inner: Any = ()
    if isinstance(node, dict):
        inner = node.items()
    elif isinstance(node, list):
        inner = enumerate(node)
    for key, value in inner:
        yield from paths(value, (*path, key))


def put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return plain JSON with another value at one place."""
    if not path:
        return value
    first, *rest = path
    node = copy.copy(node)
    node[first] = put(node[first], tuple(rest), value)
    return node


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes near to those of a good file: some changed, cut out, put in, doubled, or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = draw(st.binary(max_size=20) | st.sampled_from([b"\n", b"\0" * 64, b"PK\5\6", b"PK\1\2"]))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case _:
                size = draw(st.sampled_from([1, 2, 4, 8]))
                number = draw(
                    st.sampled_from([0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1])
                )
                data[at : at + size] = number.to_bytes(size, "little")
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def in_folder(act: Callable[[Path], None]) -> None:
    """Do something in a folder that is gone afterwards: hypothesis gives all examples of a test one tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        act(Path(folder))


# Recipes


def is_recipe_or_refused(act: Callable[[], Recipe]) -> None:
    """See that a recipe survives a journey through JSON, or is refused."""
    recipe = attempted(act, 400)
    if recipe is not None:
        assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe
        assert from_dict(msgspec.json.decode(msgspec.json.encode(to_dict(recipe)))) == recipe


PLAIN = {kind: to_dict(made_runs.recipe_of(kind)) for kind in made_runs.KINDS if kind != "custom loop"}
PLACES = [(kind, path) for kind, plain in PLAIN.items() for path in paths(plain)]
FIELDS = sorted({".".join(path) for _, path in PLACES if path})


def check_changed_recipe(change: tuple[tuple[Kind, tuple[Any, ...]], Any]) -> None:
    """See that a recipe of a task with one value changed is one, or is refused."""
    (kind, path), value = change
    is_recipe_or_refused(lambda: from_dict(put(PLAIN[kind], path, value)))


setting = st.text() | st.builds(
    "{}={}".format,
    st.sampled_from(FIELDS) | st.text(),
    leaf.map(str) | st.sampled_from(["none", "true", "flip,flip", "r1", "hinge", "cuda:0", "cpu\n", "1_0", "١٢"]),
)
budget = (
    st.text(max_size=700)
    | st.from_regex(r"\A\s*\d+(\.\d+)?\s*[smhkM]?\s*\Z")
    | st.text("0123456789.smhkM e-", max_size=700)
)
PROPERTIES: list[tuple[str, Any, Callable[[Any], None]]] = [
    ("any JSON", values, lambda node: is_recipe_or_refused(lambda: from_dict(node))),
    (
        "a recipe with one value changed",
        st.tuples(st.sampled_from(PLACES), values),
        check_changed_recipe,
    ),
    (
        "any settings",
        st.lists(setting, max_size=3),
        lambda texts: is_recipe_or_refused(lambda: with_settings(Recipe(), texts)),
    ),
    ("any budget", budget, lambda text: is_recipe_or_refused(lambda: checked(Recipe(budget=parsed_budget(text))))),
]


# Logs

LOG = b'{"samples":1,"kid":0.5,"terms":{"a":1}}\n{"samples":100,"kid":null}\n{"samples":200,"protocol":{"a":[1]}}\n{"sa'


def check_log(data: bytes) -> None:
    """See that all readers of a log agree, and that writing on, and cutting, lose nothing else."""

    def act(folder: Path) -> None:
        path = folder / "log.jsonl"
        path.write_bytes(data)
        every = records(path)
        for num in (0, 1, 3, 1000):
            assert last_records(path, num) == (every[-num:] if num else [])
        for record in every:
            check_typed(lenient(StepStats, record))
            check_typed(lenient(Score, record))
        num_cut = cut(path, 100)
        kept = [record for record in every if not is_beyond(record.get("samples"), 100)]
        assert records(path) == kept
        assert num_cut == len(every) - len(kept)
        path.write_bytes(data)
        append(path, {"samples": 7})
        assert records(path) == [*every, {"samples": 7}]

    in_folder(act)


def is_beyond(value: Any, samples: int) -> bool:
    """Return whether a record's samples are a number beyond some."""
    return type(value) in (int, float) and value > samples


def check_typed(line: StepStats | Score) -> None:
    """See that a line has the types it speaks of, whatever it was read from, and no number too large to square."""
    values = msgspec.structs.asdict(line)
    msgspec.convert(values, type(line))
    for value in values.values():
        assert not isinstance(value, float) or math.isnan(value) or abs(value) <= MAX_NUMBER


record = st.dictionaries(st.sampled_from([*Score.__struct_fields__, "terms", "kind"]), values, max_size=5)
log = damaged(LOG) | st.lists(
    record.map(lambda node: json.dumps(node).encode())
    | st.binary(max_size=30)
    | st.sampled_from([b"[" * 5000, b"\0" * 99]),
    max_size=6,
).map(b"\n".join)
PROPERTIES.append(("a log", log, check_log))


# Archives


@cache
def good_zip() -> bytes:
    """Return a zip of images, and of what is none."""
    file = io.BytesIO()
    picture = io.BytesIO()
    Image.new("L", (8, 8), 7).save(picture, "PNG")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/1.png", "b/2.png", "b/3", "notes.txt"):
            archive.writestr(name, picture.getvalue())
        archive.writestr("stored.png", picture.getvalue(), zipfile.ZIP_STORED)
    return file.getvalue()


@cache
def good_npz(is_compressed: bool) -> bytes:
    """Return images in an archive of NumPy's."""
    file = io.BytesIO()
    write = np.savez
    if is_compressed:
        write = np.savez_compressed
    write(file, images=np.zeros((3, 8, 8), np.uint8), labels=np.array(["a", "b", "a"]))
    return file.getvalue()


def check_archive(name: str, data: bytes) -> None:
    """See that an archive is read, image by image, or refused."""

    def act(folder: Path) -> None:
        (folder / name).write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's own
            images = attempted(lambda: open_source(str(folder / name)).load())
        if images is not None:
            for index in range(len(images.names)):
                with contextlib.suppress(BrokenImage):
                    images.read(index)
        assert [path.name for path in folder.iterdir()] == [name]

    in_folder(act)


PROPERTIES += [
    ("a zip", damaged(good_zip()), partial(check_archive, "a.zip")),
    ("an npz", damaged(good_npz(False)), partial(check_archive, "a.npz")),
    ("a compressed npz", damaged(good_npz(True)), partial(check_archive, "a.npz")),
]


# Checkpoints

SAVED = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}
WHOLE = {
    "tensors.safetensors": safetensors.torch.save(SAVED),
    "state.json": b'{"samples": 64, "more": {"a": [1, null]}}',
}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in WHOLE.items()}


def check_checkpoint(name: str, is_sealed: bool, data: bytes) -> None:
    """See that a checkpoint with one file changed is read as it was, or not at all; a sealed one as what it is."""

    def act(folder: Path) -> None:
        place = folder / "000000000064"
        place.mkdir()
        files = WHOLE | {MANIFEST: json.dumps(SUMS).encode()} | {name: data}
        if is_sealed:
            files[MANIFEST] = json.dumps(SUMS | {name: hashlib.sha256(data).hexdigest()}).encode()
        for each, content in files.items():
            (place / each).write_bytes(content)
        read = attempted(lambda: checkpoints.latest(folder), 2000)
        if read is not None and not is_sealed:
            assert read.values == json.loads(WHOLE["state.json"])
            assert all(torch.equal(read.tensors[key], tensor) for key, tensor in SAVED.items())

    in_folder(act)


for one in (*WHOLE, MANIFEST):
    content = WHOLE.get(one, json.dumps(SUMS).encode())
    made_up = damaged(content) | values.map(lambda node: json.dumps(node).encode())
    PROPERTIES.append((f"a checkpoint's {one}", made_up, partial(check_checkpoint, one, False)))
    if one != MANIFEST:
        PROPERTIES.append((f"a checkpoint's {one}, sealed", made_up, partial(check_checkpoint, one, True)))

NAMES = [name for name, _, _ in PROPERTIES]


def holds(strategy: Any, check: Callable[[Any], None], how: settings) -> None:
    """Look for an example for which a property does not hold."""

    @how
    @given(strategy)
    def property_holds(example: Any) -> None:
        check(example)

    property_holds()


@pytest.mark.parametrize(("strategy", "check"), [rest for _, *rest in PROPERTIES], ids=NAMES)
def test_what_is_damaged_is_read_or_refused_in_one_line(strategy: Any, check: Callable[[Any], None]) -> None:
    """A few dozen examples of each."""
    holds(strategy, check, QUICK)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("strategy", "check"), [rest for _, *rest in PROPERTIES], ids=NAMES)
def test_what_is_damaged_is_read_or_refused_in_one_line_at_length(strategy: Any, check: Callable[[Any], None]) -> None:
    """Thousands of examples of each."""
    holds(strategy, check, LONG)


# Whole run folders


def replayed(run: RunFolder) -> str:
    """Return what policies would have done in a run, as text."""
    series = [read_run(run.path)]
    return replay_text(summaries(DEFAULT_POLICIES, stopping_with(()), series), series)


# Everything that reads a run's folder without torch.
READERS: list[Callable[[RunFolder], Any]] = [
    lambda run: status_text(read_status(run)),
    lambda run: msgspec.json.encode(status_values(read_status(run))),
    lambda run: compare_text(compare([run, run])),
    lambda run: msgspec.json.encode(compare_values(compare([run, run]))),
    replayed,
    write_report,
    refuse_without_best,
    lambda run: recipe_to_resume(run, budget="1M", policy="budget"),
]


@st.composite
def changed_run(draw: st.DrawFn, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Draw the name of one file of a run, and what it holds instead: one value changed, or bytes damaged."""
    name = draw(st.sampled_from(sorted(files)))
    data = files[name]
    if "json" not in name or draw(st.integers(0, 4)) == 0:
        return name, draw(damaged(data))
    lines = [data]
    if name.endswith(".jsonl"):
        lines = data.splitlines()
    index = draw(st.integers(0, len(lines) - 1))
    node = json.loads(lines[index])
    lines[index] = json.dumps(put(node, draw(st.sampled_from(list(paths(node)))), draw(values))).encode()
    return name, b"\n".join(lines) + b"\n"


@cache
def files_of(kind: Kind) -> dict[str, bytes]:
    """Return the files of a small run."""
    with tempfile.TemporaryDirectory() as folder:
        return made_runs.files_in(made_runs.made(Path(folder) / "run", kind).path)


def check_run(kind: Kind, change: tuple[str, bytes]) -> None:
    """See that whatever reads a run shows it or refuses it, with any one of its files changed, and changes nothing."""

    def act(folder: Path) -> None:
        files = files_of(kind) | dict([change])
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        (folder / "checkpoints").mkdir()
        for read in READERS:
            attempted(partial(read, RunFolder(folder)))
        assert made_runs.files_in(folder) == files

    in_folder(act)


@pytest.mark.parametrize("kind", made_runs.KINDS)
def test_a_run_is_shown_by_all_of_its_readers_as_long_as_nothing_is_damaged(tmp_path: Path, kind: Kind) -> None:
    """Or the tests below would see nothing but refusals."""
    run = made_runs.made(tmp_path / "run", kind)
    for read in READERS[:6]:
        read(run)
    page = run.report.read_text()
    for shown in ("data:image/png", "data:image/gif", "data:audio/wav", "a classic", "<td>"):
        assert shown in page


@pytest.mark.parametrize("kind", made_runs.KINDS)
def test_a_run_with_a_changed_file_is_shown_or_refused(kind: Kind) -> None:
    """A few dozen examples of each task, and of a custom loop."""
    holds(changed_run(files_of(kind)), partial(check_run, kind), QUICK)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", made_runs.KINDS)
def test_a_run_with_a_changed_file_is_shown_or_refused_at_length(kind: Kind) -> None:
    """Hundreds of examples of each."""
    holds(changed_run(files_of(kind)), partial(check_run, kind), SLOW)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("log/events.jsonl", ("samples",), ["a", None]),
        ("log/events.jsonl", ("samples",), 10**400),
        ("data.json", ("rejected", 0), None),
        ("data.json", ("rejected",), -1),
        ("data.json", ("num_train",), "x"),
        ("data.json", ("facts", "channels"), []),
        ("data.json", ("facts",), []),
        ("data.json", ("metrics", 0, "better"), "sideways"),
        ("data.json", ("classes",), -1),
        ("state.json", ("samples",), "many"),
        ("state.json", ("seconds",), {}),
        ("state.json", ("best", "protocol", "num_generated"), None),
        ("state.json", ("selection", "winner"), 7),
        ("state.json", ("message",), [1]),
        ("intervals.json", ("horizon",), "far"),
        ("intervals.json", ("horizon",), -1),
        ("rivals.json", ("scores", 0, "role"), "judge"),
        ("rivals.json", ("scores", 0, "loss"), 10**400),
        ("exhibits.json", ("exhibits", 0, "file"), "../state.json"),
        ("exhibits.json", ("exhibits", 0, "kind"), "program"),
        ("log/scores.jsonl", ("protocol",), [1]),
        ("log/scores.jsonl", ("samples",), []),
        ("log/steps.jsonl", ("terms",), [1]),
        ("log/steps.jsonl", ("skipped_steps",), "x"),
    ],
)
def test_values_that_once_ended_a_reader_do_so_no_more(name: str, place: tuple[Any, ...], value: Any) -> None:
    """And others that might."""
    lines = [files_of("images")[name]]
    if name.endswith(".jsonl"):
        lines = lines[0].splitlines()
    lines[0] = json.dumps(put(json.loads(lines[0]), place, value)).encode()
    check_run("images", (name, b"\n".join(lines) + b"\n"))


def test_a_member_without_a_name_is_passed_over() -> None:
    """Python's reader of archives would raise for it what is no error of an archive."""
    data = good_zip()
    at = data.rindex(b"PK\1\2")
    check_archive("a.zip", data[: at + 28] + b"\0\0" + data[at + 30 :])


# The command line


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("game.generator.rate=-1", "> 0"),
        ("game.generator.rate=nan", "number"),
        ("game.generator.rat=1", "game.generator.rate"),
        ("game.batch=many", "whole"),
        ("game.loss=hing", "hinge"),
        ("device=gpu", "cuda"),
        ("seed=" + "9" * 5000, "seed=999"),
    ],
)
def test_a_wrong_recipe_is_told_before_torch_is_imported(tmp_path: Path, setting: str, word: str) -> None:
    """In one line with what is allowed, and nothing is written."""
    code = (
        "import sys\nfrom equipoise.cli import main\n"
        f"code = main(['train', 'mnist', '--out', {str(tmp_path / 'run')!r}, '--set', {setting!r}])\n"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2, run.stderr
    assert word in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip()) < 400
    assert not (tmp_path / "run").exists()
