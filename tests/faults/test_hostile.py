"""Files made to do harm, in every place where a file is read: one line or a fresh start, and no code ever runs."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import equipoise as eq
from equipoise.data import pool
from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine
from equipoise.metrics.features import encoder, weights
from equipoise.recipe import Data, Recipe
from equipoise.report.report import write_report
from equipoise.runs.compare import compare
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.runs.replay import read_run
from equipoise.runs.status import status
from equipoise.storage import checkpoints
from equipoise.storage.files import MANIFEST, verify
from equipoise.storage.logs import append
from equipoise.watch.candidates import found, keep_candidate
from equipoise.watch.judge import frozen

NEWER, OLDER = "000000000128", "000000000064"


class Canary:
    """An object whose unpickling would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (os.fspath(self.path), "w")


@pytest.fixture
def canary(tmp_path: Path):
    """Return the path of the file that must never appear, and look for it at the end."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in a file has run"


def as_pickle(canary: Path) -> bytes:
    return pickle.dumps(Canary(canary))


def as_torch(canary: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"w": Canary(canary)}, file)
    return file.getvalue()


def as_npy(canary: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    return file.getvalue()


FORMS = pytest.mark.parametrize("form", [as_pickle, as_torch, as_npy])


def test_the_canary_would_sing(tmp_path: Path) -> None:
    pickle.loads(as_pickle(tmp_path / "one")).close()
    torch.load(io.BytesIO(as_torch(tmp_path / "two")), weights_only=False)["w"].close()
    np.load(io.BytesIO(as_npy(tmp_path / "three")), allow_pickle=True)[0].close()
    assert all((tmp_path / name).exists() for name in ("one", "two", "three"))


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


def done_or_refused(act: Callable[[], object]) -> None:
    """Do something that may be refused, in one line."""
    message = ""
    try:
        act()
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert len(message) < 1000


# Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"g.weight": torch.full((3, 2), float(value)), "g.bias": torch.full((3,), float(value))}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Return a folder of two good checkpoints."""
    folder = tmp_path / "checkpoints"
    for samples in (64, 128):
        checkpoints.save(folder, samples, tensors(samples), {"samples": samples})
    return folder


def seal(folder: Path, names: tuple[str, ...] = checkpoints.FILES) -> None:
    """Make the manifest speak the truth about whatever lies there."""
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / MANIFEST).write_text(json.dumps(digests))


def fallen_back(folder: Path) -> str:
    """Read the newest good checkpoint, which is the older one, and return what was told of the newer."""
    told: list[str] = []
    read = checkpoints.latest(folder, told.append)
    assert read is not None
    assert read.values == {"samples": 64}
    assert torch.equal(read.tensors["g.bias"], tensors(64)["g.bias"])
    assert len(told) == 1
    assert len(told[0].splitlines()) == 1
    assert len(told[0]) < 1000
    return told[0]


def safe(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


TENSORS = {
    "empty": b"",
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of -1 bytes": b"\xff" * 8 + b"{}",
    "a header of 100 MB that is not there": struct.pack("<Q", 99_000_000) + b"{}",
    "deep JSON": safe(b"[" * 100_000),
    "deeper JSON": safe(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "a list": safe([1, 2]),
    "an unknown type": safe({"g": entry("X9")}, b"1234"),
    "a type that is no text": safe({"g": entry(7)}, b"1234"),
    "a negative length": safe({"g": entry(shape=(-1,))}, b"1234"),
    "an endless length": safe({"g": entry(shape=(2**62, 2**62))}, b"1234"),
    "a length beyond torch": safe({"g": entry(shape=(0, 2**63), offsets=(0, 0))}),
    "very many dimensions": safe({"g": entry(shape=(1,) * 100_000)}, b"1234"),
    "offsets backwards": safe({"g": entry(offsets=(4, 0))}, b"1234"),
    "offsets beyond the end": safe({"g": entry(offsets=(0, 2**40))}, b"1234"),
    "overlapping": safe({"g": entry(), "h": entry()}, b"1234"),
    "a gap": safe({"g": entry(offsets=(8, 12))}, b"123456789012"),
    "too short": safe({"g": entry()}, b"12"),
    "too long": safe({"g": entry()}, b"1234567"),
}


@pytest.mark.parametrize("data", TENSORS.values(), ids=TENSORS.keys())
@pytest.mark.parametrize("is_sealed", [False, True], ids=["damaged", "sealed"])
def test_tensors_of_every_wrong_kind_give_way_to_the_checkpoint_before(two: Path, data: bytes, is_sealed: bool) -> None:
    path = two / NEWER / "tensors.safetensors"
    path.write_bytes(data)
    if is_sealed:
        seal(two / NEWER)
    assert str(path) in fallen_back(two)


@pytest.mark.parametrize(
    "data", [safe({"g.bias": entry("F8_E8M0", (4,))}, b"1234"), safe({"g.bias": entry("F4", (8,))}, b"1234")]
)
def test_types_that_only_some_versions_of_torch_have_fit_no_network(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(data)
    try:
        given = checkpoints.load_tensors(path)
    except UserError:
        return
    with pytest.raises(RuntimeError, match=r"missing|not"):
        checkpoints.load_module("g", nn.Linear(2, 3), given)


STATES = {
    "empty": b"",
    "a list": b"[]",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep and an object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b'{"samples": NaN}',
    "a huge number": b'{"samples": 1e999}',
    "a number of 5,000 digits": b'{"samples": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"samples": "\xff\xfe"}',
    "half a letter": b'{"samples": "\\ud800"}',
    "two objects": b"{}{}",
}


@pytest.mark.parametrize("data", STATES.values(), ids=STATES.keys())
@pytest.mark.parametrize("name", ["state.json", MANIFEST])
@pytest.mark.parametrize("is_sealed", [False, True], ids=["damaged", "sealed"])
def test_json_of_every_wrong_kind_gives_way_to_the_checkpoint_before(
    two: Path, name: str, data: bytes, is_sealed: bool
) -> None:
    if is_sealed and name == MANIFEST:
        return
    (two / NEWER / name).write_bytes(data)
    if is_sealed:
        seal(two / NEWER)
    assert str(two / NEWER / name) in fallen_back(two)


SEALED = [(checkpoints.FILES[0], data) for data in TENSORS.values()]
SEALED += [(checkpoints.FILES[1], data) for data in STATES.values()]


@pytest.mark.parametrize(("name", "data"), SEALED, ids=[*TENSORS, *(f"{name} as state" for name in STATES)])
def test_the_digest_of_sealed_files_of_every_wrong_kind_is_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    path = checkpoints.save(run.checkpoints, 64, tensors(64), {"samples": 64})
    (path / name).write_bytes(data)
    seal(path)
    done_or_refused(lambda: digest(run))


OUTSIDE = ["../outside", "/etc/hostname", "a/../../outside", "./state.json", "", "no\0name", "extra", "x" * 5000]
MANIFESTS = {
    "a name too few": lambda digests: {"state.json": digests["state.json"]},
    "no names": lambda digests: {},
    "digests that are no text": lambda digests: dict.fromkeys(digests, 7),
    "digests that are lists": lambda digests: {name: [digest] for name, digest in digests.items()},
    "null": lambda digests: None,
} | {
    f"the name {ascii(name)[:20]}": partial(lambda name, digests: {**digests, name: "0" * 64}, name) for name in OUTSIDE
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_speaks_of_anything_else_is_not_followed(two: Path, change: Callable[[Any], Any]) -> None:
    (two.parent / "outside").write_text("")
    path = two / NEWER / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert str(two / NEWER) in fallen_back(two)


def test_keys_that_are_there_twice_do_not_deceive(two: Path) -> None:
    path = two / NEWER / MANIFEST
    digest = json.loads(path.read_text())["state.json"]
    path.write_text(path.read_text().rstrip("}\n") + f', "state.json": "{digest}", "state.json": "{"0" * 64}"}}')
    assert "state.json does not match" in fallen_back(two)


@pytest.mark.parametrize("name", [*checkpoints.FILES, MANIFEST])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "sparse"])
def test_what_is_no_plain_file_is_not_read(two: Path, name: str, kind: str) -> None:
    path = two / NEWER / name
    elsewhere = path.rename(two.parent / "elsewhere")
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            with path.open("wb") as file:
                file.truncate(2**28 + 1)
    if (kind, name) != ("link", MANIFEST):  # what it says holds all the same
        assert name in fallen_back(two)


def test_a_huge_state_is_not_taken_into_memory(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(two / NEWER)
    monkeypatch.setattr("equipoise.storage.files.MAX_JSON_BYTES", 250)
    (two / NEWER / "state.json").write_text(json.dumps({"samples": "x" * 300}))
    seal(two / NEWER)
    assert "more than 250 bytes" in fallen_back(two)


def test_a_checkpoint_that_is_a_link_is_not_followed(two: Path) -> None:
    elsewhere = (two / NEWER).rename(two.parent / "elsewhere")
    (two / NEWER).symlink_to(elsewhere)
    assert "link" in fallen_back(two)
    (two / NEWER).unlink()
    (two / NEWER).write_text("a file")
    fallen_back(two)


def test_what_lies_beside_the_checkpoints_is_not_taken_for_one(two: Path) -> None:
    for name in (f".{NEWER}.old", f".{NEWER}.partial", "999", "²" * 12, "000000000999.bak", "0000000000999", "notes"):
        shutil.copytree(two / NEWER, two / name)
    read = checkpoints.latest(two)
    assert read is not None
    assert read.path == two / NEWER


@pytest.mark.parametrize("name", [*checkpoints.FILES, MANIFEST])
def test_truncated_at_20_offsets_and_with_20_bits_flipped_the_one_before_is_used(two: Path, name: str) -> None:
    path = two / NEWER / name
    whole = path.read_bytes()
    bits = np.random.default_rng(0).integers(0, 8 * len(whole), 20)
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert str(two / NEWER) in fallen_back(two)
    for size in np.linspace(0, len(whole) - 1, 20).astype(int):
        path.write_bytes(whole[:size])
        assert str(path if size else two / NEWER) in fallen_back(two)
    shutil.copytree(two / NEWER, two / OLDER, dirs_exist_ok=True)
    assert "all 2 checkpoints are damaged" in refused(lambda: checkpoints.latest(two))


def test_a_folder_of_checkpoints_that_cannot_be_reached_is_no_reason_to_begin_anew(two: Path) -> None:
    elsewhere = two.rename(two.parent / "elsewhere")
    two.symlink_to(two.parent / "nowhere")
    assert "leads nowhere" in refused(lambda: checkpoints.latest(two))
    two.unlink()
    two.symlink_to(elsewhere)  # on a larger disk, say
    assert checkpoints.latest(two) is not None
    two.unlink()
    two.write_text("a file")
    assert "cannot be read" in refused(lambda: checkpoints.latest(two))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda given: given.update({"g.weight": torch.zeros(2, 3)}), "not float32"),
        (lambda given: given.update({"g.weight": given["g.weight"].double()}), "float64"),
        (lambda given: given.update({"g.weight": given["g.weight"].half()}), "float16"),
        (lambda given: given.pop("g.bias"), "missing"),
        (lambda given: given.update({"g.more": torch.zeros(1)}), "not in this network"),
    ],
)
def test_weights_of_another_network_are_refused_and_never_converted(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    given, layer = tensors(1), nn.Linear(2, 3)
    checkpoints.load_module("g", layer, given)
    change(given)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match=reason):
        checkpoints.load_module("g", layer, given)
    given = {name.replace("g.", "generator."): tensor.contiguous() for name, tensor in given.items()}
    checkpoints.write_folder(tmp_path / "best", {"generator.safetensors": given}, {"score.json": {}})
    message = refused(lambda: checkpoints.load_weights(tmp_path / "best", layer))
    assert reason in message
    assert str(tmp_path / "best" / "generator.safetensors") in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


# The canary, in place of every file that is read


@FORMS
@pytest.mark.parametrize("name", [*checkpoints.FILES, MANIFEST])
@pytest.mark.parametrize("is_sealed", [False, True], ids=["damaged", "sealed"])
def test_no_code_in_a_checkpoint_runs(two: Path, canary: Path, form: Any, name: str, is_sealed: bool) -> None:
    (two / NEWER / name).write_bytes(form(canary))
    if is_sealed and name != MANIFEST:
        seal(two / NEWER)
    fallen_back(two)


@FORMS
def test_no_code_among_the_best_and_the_candidates_runs(tmp_path: Path, canary: Path, form: Any) -> None:
    layer = nn.Linear(2, 3)
    run, line = RunFolder.create(tmp_path / "run", Recipe()), ScoreLine(samples=64, seconds=0.0, kid=1.0)
    folder = keep_candidate(run, line, layer)
    assert found(run, line) == folder
    assert frozen(layer, None, folder) is not None
    (folder / "generator.safetensors").write_bytes(form(canary))
    assert found(run, line) is None
    seal(folder, checkpoints.WEIGHTS_FILES)
    assert verify(folder, checkpoints.WEIGHTS_FILES) is None
    assert frozen(layer, None, folder) is None
    refused(lambda: checkpoints.load_weights(folder, layer))
    (folder / "score.json").write_bytes(form(canary))
    assert found(run, line) is None


@FORMS
@pytest.mark.parametrize("name", ["a.npz", "a.zip"])
def test_no_code_in_a_source_runs(tmp_path: Path, canary: Path, form: Any, name: str) -> None:
    (tmp_path / name).write_bytes(form(canary))
    refused(lambda: pool.prepare(Data(source=str(tmp_path / name)), cache=tmp_path / "cache"))


@pytest.mark.parametrize("key", ["images", "labels"])
def test_no_code_in_an_array_runs(tmp_path: Path, canary: Path, key: str) -> None:
    arrays: dict[str, Any] = {"images": np.zeros((3, 8, 8), np.uint8), "labels": np.arange(3)}
    arrays[key] = np.array([Canary(canary)] * 3, dtype=object)
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused(lambda: pool.prepare(Data(source=str(tmp_path / "a.npz")), cache=tmp_path / "cache"))
    assert "Python objects" in message


@FORMS
@pytest.mark.parametrize("name", ["hashes.npy", "labels.npy", "pool.json", "images.bin", "source"])
def test_a_cache_that_holds_code_is_made_again(tmp_path: Path, canary: Path, form: Any, name: str) -> None:
    for index in range(12):
        (tmp_path / "photos" / str(index % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * index, np.uint8)).save(tmp_path / f"photos/{index % 2}/{index}.png")
    data = Data(source=str(tmp_path / "photos"))
    before = pool.prepare(data, cache=tmp_path / "cache")
    place = next((tmp_path / "cache" / "sources").glob("*.json")) if name == "source" else before.folder.parent / name
    assert place.is_file()
    place.chmod(0o644)
    place.unlink()  # the pool that was opened is mapped still
    place.write_bytes(form(canary))
    again = pool.prepare(data, cache=tmp_path / "cache")
    assert again.digest == before.digest
    assert (again.images == before.images).all()


@pytest.mark.parametrize(
    "values",
    [
        {"content": "../../elsewhere", "rejected": [], "num_skipped": 0},
        {"content": "/etc", "rejected": [], "num_skipped": 0},
        {"content": "0" * 64, "rejected": [], "num_skipped": 1e999},
        [],
        None,
    ],
)
def test_a_note_of_the_cache_leads_nowhere_else(tmp_path: Path, values: Any) -> None:
    from equipoise.data import store

    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "key.json").write_text(json.dumps(values))
    assert store.find(tmp_path, "key") is None
    (tmp_path / "sources" / "key.json").write_text("[" * 100_000)
    assert store.find(tmp_path, "key") is None


SHAPES = [
    [-1, 1, 8, 8],
    [4],
    [],
    [0, 1, 8, 8],
    [10**12, 1, 8, 8],
    ["4", 1, 8, 8],
    [4.0, 1, 8, 8],
    [True, 1, 8, 8],
    None,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pool_that_lies_about_its_shape_is_not_opened(tmp_path: Path, shape: Any) -> None:
    from equipoise.data import store

    (tmp_path / "photos").mkdir()
    for index in range(4):
        Image.fromarray(np.full((8, 8), 20 * index, np.uint8)).save(tmp_path / f"photos/{index}.png")
    folder = pool.prepare(Data(source=str(tmp_path / "photos")), cache=tmp_path / "cache").folder.parent
    meta = json.loads((folder / "pool.json").read_text())
    assert store._opened(folder) is not None
    (folder / "pool.json").chmod(0o644)
    (folder / "pool.json").write_text(json.dumps(meta | {"shape": shape}))
    assert store._opened(folder) is None


@FORMS
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_an_encoder_that_holds_code_is_learnt_again(tmp_path: Path, canary: Path, form: Any, suffix: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    _, digest = encoder.load_or_train(images, tmp_path / "cache", "pool", steps=1)
    path = next((tmp_path / "cache").glob(f"*{suffix}"))
    path.write_bytes(form(canary))
    if suffix == ".safetensors":  # as somebody does who can write both
        facts = path.with_suffix(".json")
        values = json.loads(facts.read_text()) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        facts.write_text(json.dumps(values))
    assert encoder.load_or_train(images, tmp_path / "cache", "pool", steps=1)[1] == digest


def test_an_encoder_of_another_type_is_learnt_again_and_not_converted(tmp_path: Path) -> None:
    import safetensors.torch

    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    _, digest = encoder.load_or_train(images, tmp_path, "pool", steps=1)
    path = next(tmp_path.glob("*.safetensors"))
    state = safetensors.torch.load(path.read_bytes())
    path.write_bytes(
        safetensors.torch.save({name: t.double() if t.is_floating_point() else t for name, t in state.items()})
    )
    facts = path.with_suffix(".json")
    facts.write_text(json.dumps({"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    assert encoder.load_or_train(images, tmp_path, "pool", steps=1)[1] == digest


@FORMS
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("is_published", [False, True])
def test_no_code_in_published_weights_runs_even_where_the_digest_matches(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, form: Any, name: str, is_published: bool
) -> None:
    data = form(canary)
    digest = hashlib.sha256(data).hexdigest() if is_published else "0" * 64
    (tmp_path / name).write_bytes(data)
    monkeypatch.setenv("EQUIPOISE_WEIGHTS", str(tmp_path))
    wanted = weights.Weights("net.pth", "file:///nowhere", digest)
    path = weights.find(wanted, tmp_path / "cache")
    assert path is not None
    assert path == tmp_path / name
    assert str(path) in refused(lambda: weights.read(path, wanted))


@FORMS
def test_no_code_in_the_folder_of_a_watch_runs(tmp_path: Path, canary: Path, form: Any) -> None:
    def watched(resume: bool) -> None:
        with eq.Watch(tmp_path / "run", tell=None, resume=resume) as watch:
            watch.step(64, generator_loss=1.0, discriminator_loss=1.0)
            watch.score(fid=1.0, keep={"w": np.ones(2)})

    watched(resume=False)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    names = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert {"watch.json", "state.json", "recipe.json"} <= {name.name for name in names}
    for name in names:
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(form(canary))
        done_or_refused(lambda: watched(resume=True))


@FORMS
def test_no_code_in_any_file_of_a_run_runs_and_every_reader_says_one_line(
    tmp_path: Path, canary: Path, form: Any
) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    run.write_state({"status": "finished", "samples": 640, "seconds": 1.0})
    run.write_data({"source": "mnist"})
    run.write_pace({"horizon": 640})
    run.write_environment({"torch": "2"})
    for samples in range(64, 641, 64):
        run.log_score({"samples": samples, "seconds": 1.0, "kid": 1 / samples})
        run.log_step({"samples": samples, "seconds": 1.0})
    run.log_event(64, 1.0, "stop", "enough")
    shutil.copytree(run.path, tmp_path / "whole")
    for path in [path for path in run.path.rglob("*") if path.is_file()]:
        path.write_bytes(form(canary))
        acts: tuple[Callable[[RunFolder], object], ...]
        acts = (status, write_report, lambda run: compare([run, run]), lambda run: read_run(run.path))
        for act in acts:
            done_or_refused(partial(act, run))
        shutil.copytree(tmp_path / "whole", run.path, dirs_exist_ok=True)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_in_place_of_a_log_keeps_nobody_waiting(tmp_path: Path, kind: str) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    append(run.steps, {"samples": 1})
    for path in (run.scores, run.path / "state.json"):
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
        with pytest.raises((UserError, OSError), match=re.escape(str(path))):
            status(run)
        path.unlink() if kind == "pipe" else path.rmdir()
