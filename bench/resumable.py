"""Games that are played one after the other, or side by side, and go on where they were killed.

Each game is told by its setting, plain values among which is its seed. A finished one is one line of a file. One that
is not finished leaves its state beside that file about once a minute; as all draws are positional, it ends as if it had
never been interrupted.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import torch
from common import hardware
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from equipoise.game.updates import Update
from equipoise.storage.logs import append, records

SAVE_EVERY = 60.0  # seconds
TELL_EVERY = 10.0
NUM_GLANCES = 10  # scores on the way, so that one sees whether longer would be better

Setting: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Play:
    """A game that can be played: its update, how a round is played, and what is measured of it."""

    num_rounds: int
    update: Update
    play_round: Callable[[int], None]  # of an index, from 0
    score: Callable[[], dict[str, float]]  # at the end
    glance: Callable[[], dict[str, float]]  # a cheaper one, on the way


@dataclass
class Progress:
    """How far a game is, with what was seen on the way."""

    rounds: int = 0
    seconds: float = 0.0
    glances: list[dict[str, float]] = field(default_factory=list)


Build: TypeAlias = Callable[[Setting], Play]


def finished(out: Path) -> list[dict[str, Any]]:
    """Return the lines of all finished games; a torn last line is none."""
    return records(out)


def run_all(settings: Iterable[Setting], build: Build, out: Path, workers: int) -> None:
    """Play all games that have no line yet, each on one thread, and append a line for each that is finished."""
    with alone(out):
        _run_all(list(settings), build, out, workers)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold a file of finished games while entered; ends the program with a sentence where another process does."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another process plays for {out}: wait for it, or give another --out") from None
        yield


def _run_all(settings: list[Setting], build: Build, out: Path, workers: int) -> None:
    done = [line["setting"] for line in finished(out)]
    waiting = [setting for setting in settings if setting not in done]
    print(f"{len(settings)} games, {len(settings) - len(waiting)} of them finished before", flush=True)
    if workers == 1:
        for index, setting in enumerate(waiting):
            keep(out, played(setting, build, out, len(waiting) - index - 1))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), partial(_end_with, os.getpid())) as pool:
        waits = [max(0, len(waiting) - index - workers) / workers for index in range(len(waiting))]
        games = [pool.submit(played, *each) for each in zip(waiting, *_same(build, out, waits), strict=True)]
        for game in as_completed(games):
            keep(out, game.result())


def keep(out: Path, line: dict[str, Any]) -> None:
    """Append the line of a finished game, and throw away the state that it left."""
    append(out, line)
    state_of(out, line["setting"]).unlink(missing_ok=True)
    print(f"{named(line['setting'])}: {line['score']}, {line['seconds']:.0f} s", flush=True)


def played(setting: Setting, build: Build, out: Path, num_after: float) -> dict[str, Any]:
    """Play a game to its end, from where it was left, and return its line; `num_after` others wait for this thread."""
    torch.set_num_threads(1)
    torch.manual_seed(setting["seed"])
    play = build(setting)
    path = state_of(out, setting)
    progress = restored(play, path)
    saved = told = begin = time.perf_counter()
    first, before = progress.rounds, progress.seconds
    while progress.rounds < play.num_rounds:
        play.play_round(progress.rounds)
        progress.rounds += 1
        now = time.perf_counter()
        progress.seconds = before + now - begin
        if progress.rounds * NUM_GLANCES // play.num_rounds > len(progress.glances):
            progress.glances.append({"rounds": progress.rounds, **play.glance()})
        if now - saved > SAVE_EVERY:
            save(play, progress, path)
            saved = now
        if now - told > TELL_EVERY or progress.rounds == first + 20:  # soon, for an estimate
            tell(setting, progress, play.num_rounds, (now - begin) / (progress.rounds - first), num_after)
            told = now
    score = play.score()
    return {
        "setting": setting,
        "score": score,
        "glances": progress.glances,
        "rounds": play.num_rounds,
        "seconds": round(progress.seconds, 1),
        "milliseconds_a_round": round(1000 * progress.seconds / max(1, play.num_rounds), 2),
        "hardware": hardware(),
    }


def tell(setting: Setting, progress: Progress, num_rounds: int, seconds: float, num_after: float) -> None:
    """Say how far a game is and how long it will take, at so many seconds a round."""
    left = (num_rounds - progress.rounds) * seconds / 60
    text = f"{named(setting)}: round {progress.rounds:,} of {num_rounds:,}, {1000 * seconds:.1f} ms each"
    text += f", {left:.1f} minutes left"
    if num_after:
        text += f"; {left + num_after * num_rounds * seconds / 60:.0f} with those that wait, if they are as fast"
    print(text, flush=True)


# The state of a game


def state_of(out: Path, setting: Setting) -> Path:
    """Return where an unfinished game leaves its state."""
    digest = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()
    return out.with_name(f"{out.name}.{digest[:12]}.safetensors")


def named(setting: Setting) -> str:
    """Return a setting as a line of text."""
    return ", ".join(f"{value}" if isinstance(value, str) else f"{key} {value}" for key, value in setting.items())


def save(play: Play, progress: Progress, path: Path) -> None:
    """Write the state of a game, whole or not at all."""
    players = play.update.players
    tensors: dict[str, Tensor] = {}
    tensors |= {f"g.{name}": value for name, value in players.generator.state_dict().items()}
    tensors |= {f"d.{name}": value for name, value in players.discriminator.state_dict().items()}
    tensors |= {f"u.{name}": value for name, value in play.update.tensors().items()}
    rest = {"update": play.update.values(), "progress": vars(progress)}
    aside = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, aside, {"rest": json.dumps(rest)})
    aside.replace(path)


def restored(play: Play, path: Path) -> Progress:
    """Bring a game to where it was left, and return how far that is; without a state it begins."""
    if not path.exists():
        return Progress()
    parts: dict[str, dict[str, Tensor]] = {"g": {}, "d": {}, "u": {}}
    with safe_open(path, "pt") as file:
        rest = json.loads(file.metadata()["rest"])
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            parts[name[0]][name[2:]] = file.get_tensor(name)
    play.update.players.generator.load_state_dict(parts["g"])
    play.update.players.discriminator.load_state_dict(parts["d"])
    play.update.load(parts["u"], rest["update"])
    progress = Progress(**rest["progress"])
    print(f"goes on at round {progress.rounds:,} of {play.num_rounds:,}", flush=True)
    return progress


# Processes


def _same(build: Build, out: Path, waits: list[float]) -> tuple[list[Build], list[Path], list[float]]:
    return [build] * len(waits), [out] * len(waits), waits


def _end_with(parent: int) -> None:
    """End this process when the one that started it is killed: else it would wait for work without end."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
