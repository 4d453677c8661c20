"""A million images: how long they take to be prepared, reopened and trained on, and how much memory that takes.

    python bench/million.py [--counts 10000 100000 1000000] [--forms folder tar] [--data FOLDER] [--keep]

Makes images in colour of 32×32 pixels (JPEG, about 1 KB each), as files in folders of a thousand or as `.tar` shards
of ten thousand. Each phase is a process of its own: `prepare` decodes into an empty cache, `reopen` finds the images
there, and `train` is a whole small run of the recipe `dcgan`, from its first line to its report; it is taken of the
first form alone, as all become the same prepared pixels. Memory is resident memory that is not a file's (RssAnon),
read every 10 ms: pages of the memory map are the system's to take back. A million needs 4 GB of disk as files and 3 GB
for the cache. Seconds count from after the imports; where other programs take the processor, its seconds tell more.
Writes records/million.json, where rows that were not measured again stay.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RECORDS, write_record
from PIL import Image

SIDE = 32
BLOCK = 1_000  # images made at once, and in a folder
IN_SHARD = 10_000
QUALITY = 85
RECORD = 512  # bytes of a tar file's records
PHASES = ("prepare", "reopen", "train")
BATCH = 64
SETTINGS = (f"game.batch={BATCH}", "networks.width=8", "evaluation.num_samples=500", "saving.every=6400")
POLL_SECONDS = 0.01


def pictures(begin: int, num: int) -> np.ndarray:
    """Return images uint8 [num, 32, 32, 3] that differ: a coloured ground that runs from corner to corner, and a disc.

    They are a function of `begin` alone.
    """
    random = np.random.default_rng(begin)
    corners = random.uniform(0, 255, (num, 2, 2, 3))
    ramp = np.linspace(0, 1, SIDE)
    weights = np.stack([1 - ramp, ramp])
    ground = np.einsum("nijc,ih,jw->nhwc", corners, weights, weights, optimize=True)
    center = random.uniform(8, SIDE - 8, (num, 2, 1, 1))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    radius = random.uniform(3, 10, (num, 1, 1))
    inside = np.hypot(rows - center[:, 0], columns - center[:, 1]) < radius
    colour = random.uniform(0, 255, (num, 1, 1, 3))
    return np.where(inside[..., None], colour, ground).astype(np.uint8)


def encoded(begin: int, num: int) -> Iterator[bytes]:
    """Yield the images as JPEG files."""
    for pixels in pictures(begin, num):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        yield file.getvalue()


def make_folder(path: Path, num: int) -> None:
    """Write images as files, a thousand in a folder: 0000/000000.jpg, …"""
    for begin in range(0, num, BLOCK):
        folder = path / f"{begin // BLOCK:04d}"
        folder.mkdir(parents=True)
        for index, content in enumerate(encoded(begin, BLOCK), begin):
            (folder / f"{index:07d}.jpg").write_bytes(content)


def make_shards(path: Path, num: int) -> None:
    """Write images as shards, ten thousand in each: 00000.tar, … with members 0000000.jpg, …"""
    path.mkdir(parents=True)
    for first in range(0, num, IN_SHARD):
        with (path / f"{first // IN_SHARD:05d}.tar").open("wb") as file:
            for begin in range(first, min(num, first + IN_SHARD), BLOCK):
                for index, content in enumerate(encoded(begin, BLOCK), begin):
                    file.write(tar_header(f"{index:07d}.jpg", len(content)))
                    file.write(content + bytes(-len(content) % RECORD))
            file.write(bytes(2 * RECORD))


def tar_header(name: str, size: int) -> bytes:
    """Return the header record of a member, as POSIX has it."""
    fields = [name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size]
    fields += [b"00000000000\0", b" " * 8, b"0", bytes(100), b"ustar\00000"]
    header = b"".join(fields).ljust(RECORD, b"\0")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


MAKERS = {"folder": make_folder, "tar": make_shards}


# Phases, each in a process of its own


def run_phase(phase: str, source: Path, out: Path, rounds: int) -> None:
    """Do one phase in this process, and print as JSON what it found; seconds count from after the imports."""
    import torch

    from equipoise.data.pool import prepare
    from equipoise.recipe import Data

    torch.set_num_threads(1)
    begin = time.perf_counter()
    begin_processor = time.process_time()
    found: dict[str, Any] = {}
    match phase:
        case "prepare" | "reopen":
            pool = prepare(Data(source=str(source)))
            found = {"images": len(pool.images), "digest": pool.digest}
        case "train":
            found = {"samples": trained(source, out, rounds)}
    found["seconds"] = time.perf_counter() - begin
    found["processor_seconds"] = time.process_time() - begin_processor
    print(json.dumps(found))


def trained(source: Path, out: Path, rounds: int) -> int:
    """Begin a run, train for so many rounds, and end it with its report; return the samples."""
    import equipoise

    run = equipoise.train(str(source), recipe="dcgan", budget=f"{rounds * BATCH}", out=out, settings=SETTINGS)
    return run.state.samples


def measured(phase: str, source: Path, out: Path, rounds: int) -> dict[str, Any]:
    """Run a phase in a process, and return what it found with the memory it took."""
    command = [sys.executable, __file__, "--phase", phase, "--data", str(source), "--out", str(out)]
    begin = time.perf_counter()
    most: dict[str, int] = {}
    process = subprocess.Popen([*command, "--rounds", str(rounds)], stdout=subprocess.PIPE, text=True)
    with process:
        while process.poll() is None:
            for name, value in memory(process.pid).items():
                most[name] = max(value, most.get(name, 0))
            time.sleep(POLL_SECONDS)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{phase} of {source} failed")
    found = json.loads(printed.splitlines()[-1])
    in_mib = {name: round(value / 1024, 1) for name, value in most.items()}
    return {**found, "whole_seconds": time.perf_counter() - begin, "most_mib": in_mib}


def memory(pid: int) -> dict[str, int]:
    """Return the resident memory of a process in KiB: its own, and that of files; empty where it has just ended."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        if "RssAnon" in values:
            return {"own": int(values["RssAnon"].split()[0]), "files": int(values["RssFile"].split()[0])}
    return {}


def main() -> None:
    """Make the images, run every phase, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--forms", nargs="+", choices=MAKERS, default=[*MAKERS])
    parser.add_argument("--data", type=Path, help="a folder for the images; made and removed")
    parser.add_argument("--keep", action="store_true", help="leave the images where they are, and use those there")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=[*PHASES])
    parser.add_argument("--cache", type=Path, help="a cache to use and to leave; else each form has one of its own")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        run_phase(options.phase, options.data, options.out, options.rounds)
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=options.data) as aside:
        for count, form in itertools.product(options.counts, options.forms):
            source = (options.data or Path(aside)) / f"{form}-{count}"
            if not source.exists():
                MAKERS[form](source, count)
            phases = [phase for phase in options.phases if phase != "train" or form == options.forms[0]]
            rows += rows_of(form, count, source, phases, options)
            if not options.keep:
                shutil.rmtree(source)
            print(noted(rows, options.rounds))


def noted(rows: list[dict[str, Any]], rounds: int) -> Path:
    """Write the record, with the rows of an earlier one that these do not replace."""
    path = RECORDS / "million.json"
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    by_key = {(row["count"], row["form"], row["phase"]): row for row in (*earlier, *rows)}
    values = {"side": SIDE, "rounds": rounds, "settings": SETTINGS, "rows": [by_key[key] for key in sorted(by_key)]}
    return write_record("million", values)


def rows_of(
    form: str, count: int, source: Path, phases: Sequence[str], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield what every phase took of so many images in one form."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        os.environ["EQUIPOISE_CACHE"] = str(options.cache or Path(folder) / "cache")
        for phase in phases:
            row: dict[str, Any] = {"form": form, "count": count, "phase": phase}
            row |= measured(phase, source, Path(folder) / "run", options.rounds)
            print(json.dumps(row), flush=True)
            yield row


if __name__ == "__main__":
    main()
