"""The digest: it changes with each single thing that decides how a run goes on, and with nothing else."""

import dataclasses
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.cli import main
from equipoise.cli.digest_text import digest_text
from equipoise.errors import Command, UserError
from equipoise.recipe import Recipe
from equipoise.runs import digest as module
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import MANIFEST, written_whole
from equipoise.storage.logs import append

VALUES: dict[str, Any] = {
    "samples": 160,
    "spent": 160,
    "attempt": 0,
    "adjustments": {"generator_rate": 1.0, "discriminator_rate": 1.0, "augment_probability": 0.5},
    "evaluated": 160,
    "healthy": 80,
    "seconds": 3.25,
    "meter": {"penalty": [5.0, 4, 0]},
    "intervals": None,
    "has_best": True,
    "monitor": {
        "patience": {"best": 3.0, "num_since": 1},
        "history": [{"samples": 80, "seconds": 1.5, "penalty": 0.25, "samples_per_second": 90.0}],
    },
    "update": {"discriminator_steps": 20, "discriminator": {"groups": [{"lr": 0.0002, "betas": [0.0, 0.99]}]}},
}
PARTS = ("generator", "discriminator", "generator_ema", "best_generator", "update.generator", "update.discriminator")
TENSORS = {f"{part}.0.weight": [0.5, -1.25, 3.0] for part in PARTS}

Change = Callable[[dict[str, Any], dict[str, list[float]], dict[str, list[dict[str, Any]]]], object]


def header_and_bytes(tensors: dict[str, list[float]], kind: str = "F32") -> bytes:
    """Return a safetensors file by hand, its tensors in the order given."""
    header: dict[str, Any] = {"__metadata__": {"by": "hand"}}
    data = b""
    for name, values in tensors.items():
        part = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": kind, "shape": [len(values)], "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def fresh() -> tuple[dict[str, Any], dict[str, list[float]], dict[str, list[dict[str, Any]]]]:
    logs = {
        "steps": [{"samples": 80, "seconds": 1.5, "penalty": 0.25}, {"samples": 160, "seconds": 3.0, "penalty": 0.125}],
        "scores": [{"samples": 160, "seconds": 0.25, "loss": 3.0, "best": True}],
    }
    return json.loads(json.dumps(VALUES)), {name: list(values) for name, values in TENSORS.items()}, logs


def checkpoint(run: RunFolder, samples: int, values: dict[str, Any], tensors: bytes) -> Path:
    path = run.checkpoints / f"{samples:012d}"
    with written_whole(path) as folder:
        (folder / "tensors.safetensors").write_bytes(tensors)
        (folder / "state.json").write_text(json.dumps(values))
    return path


def run_of(path: Path, change: Change = lambda *_: None, **options: Any) -> RunFolder:
    run, (values, tensors, logs) = RunFolder.create(path, Recipe()), fresh()
    change(values, tensors, logs)
    for path in (run.steps, run.scores):
        for record in logs[path.stem]:
            append(path, record)
    checkpoint(run, values["samples"], values, header_and_bytes(tensors, **options))
    return run


def set_at(place: int, *path: Any, value: Any) -> Change:
    """Return what sets one thing in the values (0), the tensors (1) or the logs (2)."""

    def change(*parts: Any) -> None:
        inner = parts[place]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


LAST_BIT = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", 3.0))[0] + 1))[0]
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "the last bit of a weight": (set_at(1, "generator.0.weight", 2, value=LAST_BIT), {"generator"}),
    "the sign of a weight": (set_at(1, "generator_ema.0.weight", 0, value=-0.5), {"generator_ema"}),
    "one weight of the best generator": (set_at(1, "best_generator.0.weight", 0, value=0.25), {"best_generator"}),
    "one moment of an optimizer": (set_at(1, "update.generator.0.weight", 1, value=1.0), {"update"}),
    "one of the other player's": (set_at(1, "update.discriminator.0.weight", 1, value=1.0), {"update"}),
    "the rate in a group": (set_at(0, "update", "discriminator", "groups", 0, "lr", value=0.0001), {"update"}),
    "the steps of the discriminator": (set_at(0, "update", "discriminator_steps", value=21), {"update"}),
    "the probability of augmentation": (set_at(0, "adjustments", "augment_probability", value=0.25), {"position"}),
    "the attempt": (set_at(0, "attempt", value=1), {"position"}),
    "what was spent": (set_at(0, "spent", value=240), {"position"}),
    "the last healthy checkpoint": (set_at(0, "healthy", value=160), {"position"}),
    "the last evaluation": (set_at(0, "evaluated", value=80), {"position"}),
    "what was measured": (set_at(0, "intervals", value=[4000.0, 1.5]), {"position"}),
    "what a later version adds": (set_at(0, "anything", value=1), {"position"}),
    "a sum of stats": (set_at(0, "meter", "penalty", 0, value=5.5), {"stats"}),
    "a count of stats": (set_at(0, "meter", "penalty", 1, value=6), {"stats"}),
    "one number of a policy": (set_at(0, "monitor", "patience", "num_since", value=2), {"policies"}),
    "one number of the history": (set_at(0, "monitor", "history", 0, "penalty", value=0.5), {"policies"}),
    "one logged number": (set_at(2, "steps", 1, "penalty", value=0.5), {"logs"}),
    "one logged score": (set_at(2, "scores", 0, "loss", value=2.0), {"logs"}),
    "which score was the best": (set_at(2, "scores", 0, "best", value=False), {"logs"}),
    "one log record less": (lambda values, tensors, logs: logs["steps"].pop(), {"logs"}),
    "a tensor's name": (
        lambda values, tensors, logs: tensors.update({"generator.1.weight": tensors.pop("generator.0.weight")}),
        {"generator"},
    ),
    "no best generator": (lambda values, tensors, logs: tensors.pop("best_generator.0.weight"), {"best_generator"}),
    "the samples": (set_at(0, "samples", value=168), {"position"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_digest_changes_with_each_single_thing_and_names_the_part(tmp_path: Path, name: str) -> None:
    change, parts = CHANGES[name]
    one, other = digest(run_of(tmp_path / "one")), digest(run_of(tmp_path / "other", change))
    assert one.sha256 != other.sha256
    assert {part for part in one.parts.keys() | other.parts.keys() if one.parts.get(part) != other.parts.get(part)} == (
        parts
    )


def test_a_digest_changes_with_the_type_of_a_tensor(tmp_path: Path) -> None:
    one, other = digest(run_of(tmp_path / "one")), digest(run_of(tmp_path / "other", kind="I32"))
    assert one.parts["generator"] != other.parts["generator"]


def later(values: dict[str, Any], tensors: dict[str, list[float]], logs: dict[str, list[dict[str, Any]]]) -> None:
    """Change every time that there is."""
    values["seconds"] = values["monitor"]["history"][0]["seconds"] = 99.0
    values["monitor"]["history"][0]["samples_per_second"] = 1.0
    for record in (*logs["steps"], *logs["scores"]):
        record["seconds"] = 99.0


def beyond(values: dict[str, Any], tensors: dict[str, list[float]], logs: dict[str, list[dict[str, Any]]]) -> None:
    logs["steps"].append({"samples": 240, "seconds": 4.0, "penalty": 9.0})


def reordered(values: dict[str, Any], tensors: dict[str, list[float]], logs: dict[str, list[dict[str, Any]]]) -> None:
    for name in sorted(tensors, reverse=True):
        tensors[name] = tensors.pop(name)


@pytest.mark.parametrize("change", [later, beyond, reordered], ids=["times", "lines beyond it", "order in the file"])
def test_a_digest_is_the_same_whatever_decides_nothing(tmp_path: Path, change: Change) -> None:
    one, other = run_of(tmp_path / "one"), run_of(tmp_path / "another name", change)
    assert digest(one) == digest(other)


def test_a_digest_is_of_the_newest_good_checkpoint(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    before, (values, tensors, _) = digest(run), fresh()
    path = checkpoint(run, 240, values | {"samples": 240}, header_and_bytes(tensors))
    assert digest(run).samples == 240
    data = bytearray((path / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "tensors.safetensors").write_bytes(data)
    assert digest(run) == dataclasses.replace(before, passed_over=(path.name,))
    assert f"damaged: checkpoint {path.name}" in digest_text(digest(run))


def pruning(monkeypatch: pytest.MonkeyPatch, run: RunFolder, place: str, most: int) -> list[int]:
    """Have a training save a later checkpoint, and prune the one before it, just before each of `most` readings."""
    saved, read = [160], getattr(module, place)

    def prune_and_read(path: Path, *more: object) -> object:
        if len(saved) <= most:
            (values, tensors, _), last = fresh(), saved[-1]
            checkpoint(run, last + 80, values | {"samples": last + 80}, header_and_bytes(tensors))
            shutil.rmtree(run.checkpoints / f"{last:012d}")
            saved.append(last + 80)
        return read(path, *more)

    monkeypatch.setattr(module, place, prune_and_read)
    return saved


@pytest.mark.parametrize("place", ["damage_of", "_of_tensors", "read_json"])
@pytest.mark.parametrize("most", [1, 4])
def test_a_checkpoint_that_a_training_prunes_while_it_is_read_makes_it_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, most: int
) -> None:
    run = run_of(tmp_path / "run")
    saved = pruning(monkeypatch, run, place, most)
    found = digest(run)
    assert saved[-1] == 160 + 80 * most
    assert (found.samples, found.passed_over) == (saved[-1], ())
    assert found == digest(run)


def test_where_every_checkpoint_is_pruned_while_it_is_read_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run")
    saved = pruning(monkeypatch, run, "_of_tensors", 100)
    with pytest.raises(UserError) as caught:
        digest(run)
    assert str(caught.value.subject).endswith("tensors.safetensors")
    assert len(saved) == 1 + 5


def test_a_newer_checkpoint_that_is_pruned_while_it_is_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run")
    values, tensors, _ = fresh()
    newer = checkpoint(run, 240, values | {"samples": 240}, header_and_bytes(tensors))
    damage = module.damage_of

    def prune_and_tell(path: Path) -> str | None:
        if path == newer and newer.exists():
            shutil.rmtree(newer)
            checkpoint(run, 320, values | {"samples": 320}, header_and_bytes(tensors))
        return damage(path)

    monkeypatch.setattr(module, "damage_of", prune_and_tell)
    found = digest(run)
    assert (found.samples, found.passed_over) == (320, ())


def no_checkpoint(run: RunFolder) -> None:
    shutil.rmtree(run.checkpoints)


def damaged(run: RunFolder) -> None:
    for path in run.checkpoints.iterdir():
        (path / MANIFEST).write_text("{")


@pytest.mark.parametrize(("deed", "has_remedy"), [(no_checkpoint, True), (damaged, False)])
def test_a_run_without_a_good_checkpoint_is_refused_in_one_line(
    tmp_path: Path, deed: Callable[[RunFolder], None], has_remedy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run")
    deed(run)
    with pytest.raises(UserError) as caught:
        digest(run)
    assert caught.value.subject == run.path
    assert caught.value.remedies == ((Command("resume", run.path),) if has_remedy else ())
    assert main(["digest", str(run.path)]) == 2
    said = capsys.readouterr()
    assert str(run.path) in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def headed(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


BROKEN_HEADERS = {
    "no length": b"",
    "a length beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "no object": struct.pack("<Q", 2) + b"[]",
    "a tensor without a place": struct.pack("<Q", 12) + b'{"a.b": {}}  ',
    "a tensor beyond any memory": headed({"a.b": {"dtype": "U8", "shape": [2**62], "data_offsets": [0, 2**62]}}),
    "a tensor beyond the file": headed({"a.b": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"12345678"),
    "a tensor before it": headed({"a.b": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}}, b"12345678"),
    "a tensor backwards": headed({"a.b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}}, b"12345678"),
    "bytes claimed by many": headed(
        {f"a.{index}": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} for index in range(2)}, b"12345678"
    ),
    "a place that is none": headed({"a.b": {"dtype": "U8", "shape": [4], "data_offsets": ["a", None]}}, b"1234"),
    "a nested header": struct.pack("<Q", 100_000) + b"[" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN_HEADERS)
def test_tensors_that_are_none_are_refused_in_one_line_though_their_manifest_fits(tmp_path: Path, name: str) -> None:
    run = run_of(tmp_path / "run")
    checkpoint(run, 160, fresh()[0], BROKEN_HEADERS[name])
    with pytest.raises(UserError) as caught:
        digest(run)
    assert "\n" not in str(caught.value)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


BROKEN_STATES = {
    "samples that are text": {"samples": "x"},
    "samples below zero": {"samples": -1},
    "samples that are true": {"samples": True},
    "samples in a list": {"samples": [160]},
    "no samples": {"samples": None},
    "a state nested deep": {"anything": nested(700)},
    "a monitor nested deep": {"monitor": nested(700)},
}


@pytest.mark.parametrize("name", BROKEN_STATES)
def test_a_state_that_no_training_writes_is_refused_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, (values, tensors, _) = run_of(tmp_path / "run"), fresh()
    checkpoint(run, 160, values | BROKEN_STATES[name], header_and_bytes(tensors))
    assert main(["digest", str(run.path)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "state.json" in said.err
    assert not said.out


def test_a_log_nested_deep_is_refused_in_one_line(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    with run.steps.open("a") as file:
        file.write(json.dumps({"samples": 160, "more": nested(700)}) + "\n")
    with pytest.raises(UserError) as caught:
        digest(run)
    assert "nested" in caught.value.problem
    assert "\n" not in str(caught.value)


def test_a_tensor_is_read_in_blocks_and_digested_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path / "run")
    whole = digest(run)
    monkeypatch.setattr("equipoise.runs.digest._BLOCK", 5)  # of 12 bytes
    assert digest(run) == whole


def test_the_command_line_prints_the_digest_and_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run")
    found = digest(run)
    assert main(["digest", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert said.strip() == digest_text(found).strip()
    assert said.startswith(f"{found.sha256}  after 160 samples")
    assert all(f"{name} " in said and part[:16] in said for name, part in found.parts.items())
    assert main(["digest", "--json", str(run.path)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == {"samples": 160, "sha256": found.sha256, "parts": found.parts, "passed_over": []}


def test_a_part_whose_name_could_steer_the_terminal_is_shown_without_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def hostile(values: Any, tensors: dict[str, list[float]], logs: Any) -> None:
        tensors |= {"\x1b[2J\x9b31mred\n  generator.weight": [1.0], "x" * 10_000 + ".weight": [1.0]}

    assert main(["digest", str(run_of(tmp_path / "run", hostile).path)]) == 0
    said = capsys.readouterr().out
    assert all(letter.isprintable() for line in said.split("\n") for letter in line)
    assert "  ?[2J?31mred?  generator " in said
    assert max(map(len, said.split("\n"))) <= 100


def test_the_digest_is_taken_without_torch(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    code = (
        "import sys; from equipoise.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, "digest", str(run.path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
