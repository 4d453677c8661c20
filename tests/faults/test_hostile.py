"""Files made to do harm, in every place where a file is read: one line or a fresh start, and no code ever runs."""

import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest
import safetensors.torch
import torch
from harm import (
    FORMS,
    READERS,
    Canary,
    as_npy,
    as_pickle,
    as_torch,
    awaited,
    change_json,
    done_or_refused,
    refused,
    seal,
)
from made_runs import Kind, files_in
from PIL import Image
from torch import nn

import equipoise as eq
from equipoise.data import store
from equipoise.data.pool import prepare
from equipoise.errors import UserError
from equipoise.metrics.features import encoder
from equipoise.nets import weights
from equipoise.recipe import Data, Recipe
from equipoise.report.report import write_report
from equipoise.runs.candidates import find, keep_candidate
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage import checkpoints
from equipoise.storage.files import MANIFEST, verify
from equipoise.storage.records import Score
from equipoise.watch.generators import copied
from equipoise.watch.keeping import content_of

RunOf = Callable[..., eq.Run]
NEWER = "000000000128"
OLDER = "000000000064"


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Return the path of the file that must never appear, and look for it at the end."""
    yield from awaited(tmp_path)


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """Or the tests below would see nothing."""
    pickle.loads(as_pickle(tmp_path / "one")).close()
    torch.load(io.BytesIO(as_torch(tmp_path / "two")), weights_only=False)["w"].close()
    np.load(io.BytesIO(as_npy(tmp_path / "three")), allow_pickle=True)[0].close()
    assert all((tmp_path / name).exists() for name in ("one", "two", "three"))


# Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    """Return the tensors of a small layer."""
    return {"g.weight": torch.full((3, 2), float(value)), "g.bias": torch.full((3,), float(value))}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Return a folder of two good checkpoints."""
    folder = tmp_path / "checkpoints"
    for samples in (64, 128):
        checkpoints.save(folder, samples, tensors(samples), {"samples": samples})
    return folder


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
    """Return a file as safetensors has them, whatever its header."""
    text = header
    if not isinstance(header, bytes):
        text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    """Return what a header says of one tensor."""
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
    """Also where the manifest agrees with them."""
    path = two / NEWER / "tensors.safetensors"
    path.write_bytes(data)
    if is_sealed:
        seal(two / NEWER)
    said = fallen_back(two)
    assert str(two / NEWER) in said
    assert path.name in said


@pytest.mark.parametrize(
    "data", [safe({"g.bias": entry("F8_E8M0", (4,))}, b"1234"), safe({"g.bias": entry("F4", (8,))}, b"1234")]
)
def test_types_that_only_some_versions_of_torch_have_fit_no_network(tmp_path: Path, data: bytes) -> None:
    """They are refused when they are read, or when they are loaded."""
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
    """Also where the manifest agrees with it."""
    if is_sealed and name == MANIFEST:
        return
    (two / NEWER / name).write_bytes(data)
    if is_sealed:
        seal(two / NEWER)
    said = fallen_back(two)
    assert str(two / NEWER) in said
    assert name in said


SEALED = [(checkpoints.FILES[0], data) for data in TENSORS.values()]
SEALED += [(checkpoints.FILES[1], data) for data in STATES.values()]


@pytest.mark.parametrize(("name", "data"), SEALED, ids=[*TENSORS, *(f"{name} as state" for name in STATES)])
def test_the_digest_of_sealed_files_of_every_wrong_kind_is_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    """It reads them without torch."""
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
    """It may name files outside of its folder, which must not be opened."""
    (two.parent / "outside").write_text("")
    path = two / NEWER / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert str(two / NEWER) in fallen_back(two)


def test_keys_that_are_there_twice_do_not_deceive(two: Path) -> None:
    """Of two digests of a file the last counts, whoever reads."""
    path = two / NEWER / MANIFEST
    right = json.loads(path.read_text())["state.json"]
    path.write_text(path.read_text().rstrip("}\n") + f', "state.json": "{right}", "state.json": "{"0" * 64}"}}')
    assert "state.json" in fallen_back(two)


@pytest.mark.parametrize("name", [*checkpoints.FILES, MANIFEST])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "sparse"])
def test_what_is_no_plain_file_is_not_read(two: Path, name: str, kind: str) -> None:
    """A pipe would keep the reader waiting, and a link may lead anywhere."""
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
    """Its size is asked for first."""
    seal(two / NEWER)
    monkeypatch.setattr("equipoise.storage.files.MAX_JSON_BYTES", 250)
    (two / NEWER / "state.json").write_text(json.dumps({"samples": "x" * 300}))
    seal(two / NEWER)
    assert "250" in fallen_back(two)


def test_a_checkpoint_that_is_a_link_is_not_followed(two: Path) -> None:
    """Nor is a file in its place."""
    elsewhere = (two / NEWER).rename(two.parent / "elsewhere")
    (two / NEWER).symlink_to(elsewhere)
    assert "link" in fallen_back(two)
    (two / NEWER).unlink()
    (two / NEWER).write_text("a file")
    fallen_back(two)


def test_what_lies_beside_the_checkpoints_is_not_taken_for_one(two: Path) -> None:
    """What a kill has left, and what a user has copied there."""
    for name in (f".{NEWER}.old", f".{NEWER}.partial", "999", "²" * 12, "000000000999.bak", "0000000000999", "notes"):
        shutil.copytree(two / NEWER, two / name)
    read = checkpoints.latest(two)
    assert read is not None
    assert read.path == two / NEWER


@pytest.mark.parametrize("name", [*checkpoints.FILES, MANIFEST])
def test_truncated_at_20_offsets_and_with_20_bits_flipped_the_one_before_is_used(two: Path, name: str) -> None:
    """And where the one before is damaged, too, that is told."""
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
        assert str(two / NEWER) in fallen_back(two)
    shutil.copytree(two / NEWER, two / OLDER, dirs_exist_ok=True)
    assert "all 2" in refused(lambda: checkpoints.latest(two))


def test_a_folder_of_checkpoints_that_cannot_be_reached_is_no_reason_to_begin_anew(two: Path) -> None:
    """A link to a larger disk works as long as that is there."""
    elsewhere = two.rename(two.parent / "elsewhere")
    two.symlink_to(two.parent / "nowhere")
    assert str(two) in refused(lambda: checkpoints.latest(two))
    two.unlink()
    two.symlink_to(elsewhere)
    assert checkpoints.latest(two) is not None
    two.unlink()
    two.write_text("a file")
    assert os.strerror(errno.ENOTDIR) in refused(lambda: checkpoints.latest(two))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda given: given.update({"g.weight": torch.zeros(2, 3)}), "[2, 3]"),
        (lambda given: given.update({"g.weight": given["g.weight"].double()}), "float64"),
        (lambda given: given.update({"g.weight": given["g.weight"].half()}), "float16"),
        (lambda given: given.pop("g.bias"), "bias"),
        (lambda given: given.update({"g.more": torch.zeros(1)}), "g.more"),
    ],
)
def test_weights_of_another_network_are_refused_and_never_converted(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    """PyTorch would copy halves into floats."""
    given = tensors(1)
    layer = nn.Linear(2, 3)
    checkpoints.load_module("g", layer, given)
    change(given)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        checkpoints.load_module("g", layer, given)
    given = {name.replace("g.", "generator."): tensor.contiguous() for name, tensor in given.items()}
    checkpoints.write_folder(tmp_path / "best", {"generator.safetensors": given}, {"score.json": {}})
    message = refused(lambda: checkpoints.load_weights(tmp_path / "best", layer))
    assert reason.removeprefix("g.") in message
    assert str(tmp_path / "best" / "generator.safetensors") in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


# The canary, in place of every file that is read


@FORMS
@pytest.mark.parametrize("name", [*checkpoints.FILES, MANIFEST])
@pytest.mark.parametrize("is_sealed", [False, True], ids=["damaged", "sealed"])
def test_no_code_in_a_checkpoint_runs(two: Path, canary: Path, form: Any, name: str, is_sealed: bool) -> None:
    """The checkpoint before is used."""
    (two / NEWER / name).write_bytes(form(canary))
    if is_sealed and name != MANIFEST:
        seal(two / NEWER)
    fallen_back(two)


@FORMS
def test_no_code_among_the_best_and_the_candidates_runs(tmp_path: Path, canary: Path, form: Any) -> None:
    """Neither where a folder is looked for, nor where a generator is copied from it or its weights are loaded."""
    layer = nn.Linear(2, 3)
    run = RunFolder.create(tmp_path / "run", Recipe())
    score = Score(samples=64, seconds=0.0, loss=1.0)
    folder = keep_candidate(run, score, content_of(layer).fill)
    assert find(run, score) == folder
    assert copied(layer, None, folder) is not None
    (folder / "generator.safetensors").write_bytes(form(canary))
    assert find(run, score) is None
    seal(folder, checkpoints.WEIGHTS_FILES)
    assert verify(folder, checkpoints.WEIGHTS_FILES) is None
    assert copied(layer, None, folder) is None
    refused(lambda: checkpoints.load_weights(folder, layer))
    (folder / "score.json").write_bytes(form(canary))
    assert find(run, score) is None


def put_shades(folder: Path, num: int, size: int = 8) -> Path:
    """Write grey images into a folder."""
    folder.mkdir(parents=True)
    for index in range(num):
        Image.fromarray(np.full((size, size), 20 * index, np.uint8)).save(folder / f"{index}.png")
    return folder


SOURCES = [("images", "a.npz"), ("images", "a.zip"), ("points", "a.csv"), ("super-resolution", "photos")]


@FORMS
@pytest.mark.parametrize(("task", "name"), SOURCES)
def test_no_code_in_a_source_runs(tmp_path: Path, canary: Path, small: None, form: Any, task: str, name: str) -> None:
    """It is refused before a run's folder is made."""
    place = tmp_path / name
    if task == "super-resolution":
        place.mkdir()
        for index in range(40):
            (place / f"{index}.png").write_bytes(form(canary))
    else:
        place.write_bytes(form(canary))
    assert name in refused(lambda: eq.train(place, task=task, budget="1000", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["images", "labels"])
def test_no_code_in_an_array_runs(tmp_path: Path, canary: Path, key: str) -> None:
    """NumPy itself would not read it either, and say so in other words."""
    arrays: dict[str, Any] = {"images": np.zeros((3, 8, 8), np.uint8), "labels": np.arange(3)}
    arrays[key] = np.array([Canary(canary)] * 3, dtype=object)
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused(lambda: prepare(Data(source=str(tmp_path / "a.npz")), cache=tmp_path / "cache"))
    assert "Python" in message


def content_in(cache: Path) -> Path:
    """Return the folder of the one pool of a cache."""
    (found,) = (cache / "pools").iterdir()
    return found


@FORMS
@pytest.mark.parametrize("name", ["hashes.npy", "labels.npy", "pool.json", "images.bin", "source"])
def test_a_cache_that_holds_code_is_made_again(tmp_path: Path, canary: Path, form: Any, name: str) -> None:
    """Every file of it."""
    photos = tmp_path / "photos"
    for label in ("even", "odd"):
        put_shades(photos / label, 6 + (label == "odd"))
    data = Data(source=str(photos))
    cache = tmp_path / "cache"
    before = prepare(data, cache=cache)
    place = content_in(cache) / name
    if name == "source":
        place = next((cache / "sources").glob("*.json"))
    assert place.is_file()
    place.unlink()  # the pool that was opened is mapped still
    place.write_bytes(form(canary))
    again = prepare(data, cache=cache)
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
    """What it says becomes a part of a path."""
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
def test_a_pool_that_lies_about_its_shape_is_made_again(tmp_path: Path, shape: Any) -> None:
    """It is not mapped as what it says."""
    cache = tmp_path / "cache"
    data = Data(source=str(put_shades(tmp_path / "photos", 4)))
    before = prepare(data, cache=cache)
    path = content_in(cache) / "pool.json"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(whole) | {"shape": shape}))
    again = prepare(data, cache=cache)
    assert (again.images == before.images).all()
    assert (content_in(cache) / "pool.json").read_bytes() == whole


@FORMS
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_an_encoder_that_holds_code_is_learnt_again(tmp_path: Path, canary: Path, form: Any, suffix: str) -> None:
    """Also where somebody who can write both files has made them agree."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    before = encoder.load_or_train(images, tmp_path / "cache", "pool", steps=1).digest
    path = next((tmp_path / "cache").glob(f"*{suffix}"))
    path.write_bytes(form(canary))
    if suffix == ".safetensors":
        change_json(path.with_suffix(".json"), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert encoder.load_or_train(images, tmp_path / "cache", "pool", steps=1).digest == before


def test_an_encoder_of_another_type_is_learnt_again_and_not_converted(tmp_path: Path) -> None:
    """Doubles in place of floats would score otherwise."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    before = encoder.load_or_train(images, tmp_path, "pool", steps=1).digest
    path = next(tmp_path.glob("*.safetensors"))
    state = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save({name: tensor.double() for name, tensor in state.items()}))
    change_json(path.with_suffix(".json"), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert encoder.load_or_train(images, tmp_path, "pool", steps=1).digest == before


@FORMS
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("is_published", [False, True])
def test_no_code_in_published_weights_runs_even_where_the_digest_matches(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, form: Any, name: str, is_published: bool
) -> None:
    """Tensors alone are read from the one pickle that is opened."""
    data = form(canary)
    sha256 = "0" * 64
    if is_published:
        sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / name).write_bytes(data)
    monkeypatch.setenv("EQUIPOISE_WEIGHTS", str(tmp_path))
    wanted = weights.Weights("net.pth", "file:///nowhere", sha256)
    path = tmp_path / name
    assert weights.find(wanted, tmp_path / "cache") == path
    assert str(path) in refused(lambda: weights.read(path, wanted))


@FORMS
def test_no_code_in_the_folder_of_a_watch_runs(tmp_path: Path, canary: Path, form: Any) -> None:
    """A watch that goes on reads all of it."""

    def watched(resume: bool) -> None:
        with eq.Watch(tmp_path / "run", metric="fid", say=None, resume=resume) as watch:
            watch.step(64, generator_loss=1.0, discriminator_loss=1.0)
            watch.score(fid=1.0, keep={"w": np.ones(2)})

    watched(resume=False)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    names = list(files_in(tmp_path / "whole"))
    assert {"watch.json", "state.json", "recipe.json", "best/generator.safetensors"} <= set(names)
    for name in names:
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(form(canary))
        done_or_refused(lambda: watched(resume=True))


@FORMS
@pytest.mark.parametrize("kind", made_runs.KINDS)
def test_no_code_in_any_file_of_a_run_runs_and_every_reader_says_one_line(
    tmp_path: Path, canary: Path, form: Any, kind: Kind
) -> None:
    """Of a run of each task, and of a custom loop."""
    run = made_runs.made(tmp_path / "run", kind)
    for name, whole in files_in(run.path).items():
        (run.path / name).write_bytes(form(canary))
        for read in READERS:
            done_or_refused(partial(read, run))
        (run.path / name).write_bytes(whole)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_in_place_of_a_record_keeps_nobody_waiting(tmp_path: Path, kind: str) -> None:
    """What cannot be read is named."""
    run = made_runs.made(tmp_path / "run")
    for name in ("log/scores.jsonl", "state.json", "rivals.json", "exhibits.json", "intervals.json"):
        path = run.path / name
        whole = path.read_bytes()
        path.unlink()
        make: Callable[[Path], None] = Path.mkdir
        remove: Callable[[Path], None] = Path.rmdir
        if kind == "pipe":
            make = os.mkfifo
            remove = Path.unlink
        make(path)
        with pytest.raises((UserError, OSError), match=re.escape(str(path))):
            write_report(run)
        remove(path)
        path.write_bytes(whole)
