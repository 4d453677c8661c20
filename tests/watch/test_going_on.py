"""Whatever fails in watching a training, the training goes on, and what failed can be found."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from shifted import Shifted
from shifted import opened as with_images
from torch import nn
from torch.optim.swa_utils import AveragedModel

from equipoise.errors import Option, UserError
from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records
from equipoise.watch.watch import Watch


def opened(path: Path, **options: Any) -> Watch:
    """Return a watch that logs every 10 samples and says nothing."""
    return Watch(path, **({"log_every": 10, "say": None, "policy": "budget", "metric": "fid"} | options))


def events(path: Path) -> list[str]:
    """Return the kinds of what happened."""
    return [event["kind"] for event in records(path / "log" / "events.jsonl")]


def full(*_: Any, **__: Any) -> Any:
    raise OSError(28, "full")


@pytest.mark.parametrize(
    "error", [BrokenPipeError, ValueError, UnicodeEncodeError("ascii", "é", 0, 1, "mine"), SystemExit(2), GeneratorExit]
)
def test_a_say_that_raises_is_an_event_once(tmp_path: Path, error: Any) -> None:
    def say(_: str) -> None:
        raise error

    with opened(tmp_path / "run", say=say) as watch:
        for _ in range(3):
            watch.step(10, discriminator_loss=float("nan"))
            watch.score(fid=1.0)
    assert events(tmp_path / "run").count("not said") == 1
    assert RunFolder.open(tmp_path / "run").read_state().status == "finished"


def test_a_loop_that_changes_its_directory_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with opened(Path("run")) as watch:
        watch.step(10)
        monkeypatch.chdir(tmp_path / "elsewhere")
        watch.score(fid=1.0, keep={"weight": np.ones(2)})
    assert (tmp_path / "run" / "best" / "generator.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()
    assert events(tmp_path / "run") == []
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_a_terminal_cannot_show_is_said_in_plain_letters(tmp_path: Path) -> None:
    said: list[str] = []
    with opened(tmp_path / "run", say=lambda text: said.append(text.encode("ascii").decode())) as watch:
        watch.step(10)
        watch.score(fid=1.0)
    assert any(" - " in line for line in said)
    assert events(tmp_path / "run") == []


@pytest.mark.parametrize("out", ["closed", "full"])
def test_a_standard_output_that_takes_nothing_changes_neither_loop_nor_exit_status(tmp_path: Path, out: str) -> None:
    script = """
import sys, equipoise
with equipoise.Watch(sys.argv[1], log_every=4) as watch:
    for step in range(50):
        watch.step(2)
        watch.score(loss=10.0 - 0.1 * step)
"""
    reader, writer = os.pipe()
    os.close(reader)
    target = writer if out == "closed" else os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, stdout=target, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert RunFolder.open(tmp_path / "run").read_state().samples == 100
    assert "not said" in events(tmp_path / "run")


def test_ctrl_c_goes_through(tmp_path: Path) -> None:
    def say(_: str) -> None:
        raise KeyboardInterrupt

    watch = opened(tmp_path / "run", say=say)
    with pytest.raises(KeyboardInterrupt):
        watch.score(fid=1.0)


@pytest.mark.parametrize("error", [SystemExit(7), RuntimeError("preempted")])
def test_what_a_handler_of_a_signal_raises_goes_through(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(*_: Any) -> None:
        raise error

    def keep(_: Path) -> None:
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        watch = opened(tmp_path / "run")
        watch.step(10)
        with pytest.raises(type(error)):
            watch.score(fid=1.0, keep=keep)
        assert watch.best is None
        watch.close()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_keep_that_exits_is_an_event(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    watch.step(10)
    assert watch.score(fid=1.0, keep=lambda _: sys.exit(3))
    watch.close()
    assert events(tmp_path / "run") == ["not kept"]


def test_a_forked_process_changes_nothing_of_the_run(tmp_path: Path) -> None:
    script = """
import os, sys, equipoise
said = []
watch = equipoise.Watch(sys.argv[1], log_every=1, say=said.append)
watch.step(2)
if os.fork() == 0:
    watch.step(3)
    watch.score(loss=0.1)
    watch.close()
    sys.exit(any(str(os.getppid()) in line for line in said) - 1)
assert os.wait()[1] == 0
watch.step(2)
watch.score(loss=0.5)
watch.close()
"""
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    state = RunFolder.open(tmp_path / "run").read_state()
    assert (state.samples, state.status) == (4, "finished")
    assert [line["samples"] for line in records(tmp_path / "run" / "log" / "steps.jsonl")] == [2, 4]
    assert [line["loss"] for line in records(tmp_path / "run" / "log" / "scores.jsonl")] == [0.5]
    assert events(tmp_path / "run") == []


@pytest.mark.parametrize("folder", [None, 3, "a\0b"])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    with pytest.raises(UserError) as error:
        Watch(folder, say=None)
    assert error.value.subject == Option("folder", repr(folder))


def test_log_lines_wait_for_a_disk_that_is_full_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    watch = opened(tmp_path / "run", say=said.append)
    with monkeypatch.context() as patched:
        patched.setattr("equipoise.runs.folder.append", full)
        patched.setattr("equipoise.watch.session.write_json", full)
        patched.setattr("equipoise.watch.keeping.keep_candidate", full)
        for step in range(4):
            watch.step(10, discriminator_loss=0.5)
            watch.score(fid=9.0 - step, keep={"weight": np.array([step])})
    assert records(tmp_path / "run" / "log" / "steps.jsonl") == []
    assert sum("full" in line for line in said) >= 2
    watch.step(10)
    watch.close()
    assert [line["samples"] for line in records(tmp_path / "run" / "log" / "steps.jsonl")] == [10, 20, 30, 40, 50]
    assert [line["loss"] for line in records(tmp_path / "run" / "log" / "scores.jsonl")] == [9.0, 8.0, 7.0, 6.0]
    assert {"not written", "not kept"} <= set(events(tmp_path / "run"))
    assert load_file(tmp_path / "run" / "best" / "generator.safetensors")["weight"] == [3]  # written once it could be


def test_a_folder_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with opened(tmp_path / "run", say=said.append) as watch:
        watch.step(10)
        shutil.rmtree(tmp_path / "run")
        for _ in range(3):
            watch.step(10)
            watch.score(fid=1.0, keep=lambda folder: (folder / "mine").write_text("weights"))
    assert watch.samples == 40
    assert any("not written" in line for line in said)


def test_nothing_is_written_where_another_training_took_the_folder(tmp_path: Path) -> None:
    said: list[str] = []
    first = opened(tmp_path / "run", say=said.append)
    shutil.rmtree(tmp_path / "run")
    script = (
        "import sys, equipoise; watch = equipoise.Watch(sys.argv[1], say=None); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = (tmp_path / "run" / "state.json").read_bytes()
        first.step(10)
        first.score(fid=1.0)
        first.close()
        assert (tmp_path / "run" / "state.json").read_bytes() == before
        assert records(tmp_path / "run" / "log" / "scores.jsonl") == []
        other.communicate(b"")


def test_a_report_that_fails_leaves_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.watch.ending.write_report", full)
    with opened(tmp_path / "run") as watch:
        watch.step(10)
    assert RunFolder.open(tmp_path / "run").read_state().status == "finished"
    assert events(tmp_path / "run") == ["final stage failed"]


def test_closed_by_another_thread_the_loop_goes_on(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    watch.step(10)
    thread = threading.Thread(target=watch.close)
    thread.start()
    thread.join(60)
    watch.step(10)
    assert not watch.score(fid=1.0)
    assert watch.samples == 10


def test_later_mistakes_are_events_and_count_nothing(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    watch.step(10, accuracy=0.5)
    watch.score(fid=1.0)
    for _ in range(3):
        watch.step(10, generator_los=1.0, discriminator_loss="high", accuracy=87.5)
        watch.step("many")  # type: ignore[arg-type]
        assert not watch.score(kid=1.0)
        assert not watch.score(fid=-1.0)
        assert not watch.score(fid="low")  # type: ignore[arg-type]
    assert watch.samples == 40
    assert events(tmp_path / "run").count("ignored") == 4  # each once
    assert all(line["accuracy"] in (0.5, None) for line in records(tmp_path / "run" / "log" / "steps.jsonl"))
    watch.close()


@pytest.mark.parametrize(
    ("numbers", "subject"),
    [
        ({"accuracy": 87.5}, Option("accuracy")),
        ({"accuracy": torch.tensor(87.5)}, Option("accuracy")),
        ({"real_probability": torch.tensor([1.5, 0.1])}, Option("real_probability")),
        ({"discriminator_loss": [0.69, 0.81]}, Option("discriminator_loss")),
        ({"generator_loss": np.array([0.69, 0.81])}, Option("generator_loss")),
        ({"generator_loss": [torch.tensor(0.69), torch.tensor(0.81)]}, Option("generator_loss")),
    ],
)
def test_units_and_shapes_are_refused_at_the_first_step(tmp_path: Path, numbers: Any, subject: Any) -> None:
    watch = opened(tmp_path / "run")
    with pytest.raises(UserError) as error:
        watch.step(64, **numbers)
    assert error.value.subject == subject
    assert watch.samples == 0
    watch.close()


@pytest.mark.parametrize(
    "samples",
    [True, np.True_, torch.tensor(True), torch.tensor([8]), torch.ones(1, 1, 1, 1), {"x": 8}, object(), 10**30],
)
def test_what_is_no_count_is_no_number_of_samples(tmp_path: Path, samples: Any) -> None:
    watch = opened(tmp_path / "run")
    with pytest.raises(UserError) as error:
        watch.step(samples)
    assert isinstance(error.value.subject, Option)
    assert error.value.subject.name == "samples"
    watch.step(torch.tensor(8))  # pyright: ignore[reportArgumentType]: a count all the same
    assert watch.samples == 8
    watch.step(samples)
    assert watch.samples == 8
    watch.close()


def test_an_accuracy_that_counts_samples_is_divided_by_them(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    with pytest.raises(UserError) as error:
        watch.step(8, accuracy=7)
    assert "0.875" in str(error.value.remedies[0])
    watch.close()


class Spiteful:
    """What fails where its shape is asked for."""

    @property
    def shape(self) -> Any:
        raise RuntimeError("mine")


@pytest.mark.parametrize("value", [10**400, pytest.param(Spiteful(), id="spiteful"), torch.ones((), device="meta")])
@pytest.mark.parametrize("name", ["discriminator_loss", "accuracy", "real_logits"])
def test_a_number_that_cannot_be_read_ends_nothing(tmp_path: Path, name: str, value: Any) -> None:
    first = opened(tmp_path / "first")
    with contextlib.suppress(UserError):
        first.step(10, **{name: value})
    first.close()
    watch = opened(tmp_path / "run")
    for _ in range(3):
        watch.step(10, discriminator_loss=0.5)
        watch.step(10, **{name: value})
    watch.close()
    assert watch.samples == 60
    assert {"ignored", "watch failed"} & set(events(tmp_path / "run"))


def test_a_loss_may_be_one_number_or_one_or_more_for_each_sample(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    for loss in (0.5, torch.full((4,), 0.5), torch.full((4, 1, 3, 3), 0.5), [0.5] * 4, np.full(8, 0.5)):
        watch.step(4, discriminator_loss=loss)
    assert events(tmp_path / "run") == []
    watch.close()


def test_an_empty_batch_counts_nothing_and_is_no_bad_step(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run")
    nothing = torch.empty(0)
    watch.step(0, real_logits=nothing, fake_logits=nothing, discriminator_loss=nothing.mean(), generator_loss=0.5)
    watch.step(10)
    (line,) = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert (line["samples"], line["generator_loss"], line["discriminator_loss"]) == (10, 0.5, None)
    assert events(tmp_path / "run") == []
    watch.close()


def test_maps_of_several_scales_are_one_set_of_logits(tmp_path: Path) -> None:
    watch = opened(tmp_path / "run", loss="hinge")
    maps = [torch.ones(10, 1, 8, 8), [torch.ones(10, 1, 4, 4)]]
    watch.step(10, real_logits=maps, fake_logits=[torch.ones(10, 1, 8, 8), -torch.ones(10, 1, 4, 4)])
    (line,) = records(tmp_path / "run" / "log" / "steps.jsonl")
    assert line["accuracy"] == pytest.approx((80 + 16) / 160)
    watch.close()


@pytest.mark.usefixtures("small")
def test_a_generator_that_changes_its_shape_later_is_an_event(tmp_path: Path, real: np.ndarray) -> None:
    watch = with_images(tmp_path / "run", real)
    watch.step(10)
    watch.evaluate(Shifted(0.5))
    assert not watch.evaluate(lambda latents: torch.zeros(len(latents), 3, 9, 9))
    assert not watch.evaluate(3)
    assert events(tmp_path / "run") == ["evaluation failed"] * 2
    watch.close()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "change",
    [lambda images: images / 0, lambda images: images.to(torch.complex64), lambda _: None, lambda _: sys.exit(2)],
    ids=["infinite", "complex", "none", "exits"],
)
def test_images_that_are_none_are_no_best_ones(tmp_path: Path, real: np.ndarray, change: Any) -> None:
    watch = with_images(tmp_path / "run", real)
    watch.step(10)
    watch.evaluate(Shifted(-0.5))
    good = Shifted(0.5).eval()
    assert not watch.evaluate(lambda latents: change(good(latents)))
    assert events(tmp_path / "run") == ["evaluation failed"]
    watch.close()


@pytest.mark.usefixtures("small")
def test_an_average_without_statistics_of_its_own_is_named(tmp_path: Path, real: np.ndarray) -> None:
    class Normed(Shifted):
        def __init__(self) -> None:
            super().__init__(0.5)
            self.norm = nn.BatchNorm1d(4)

    said: list[str] = []
    watch = with_images(tmp_path / "run", real, say=said.append)
    average = AveragedModel(Normed())
    watch.step(10)
    for _ in range(2):
        watch.evaluate(average)
    watch.close()
    assert events(tmp_path / "run").count("statistics never updated") == 1
    assert any("update_bn" in line for line in said)
    assert RunFolder.open(tmp_path / "run").read_state().test is not None


SPANNING = """
import os, sys, torch, numpy as np
from datetime import timedelta
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/sync", rank=rank, world_size=2,
                        timeout=timedelta(seconds=90))
sys.path.insert(0, sys.argv[3])
from shifted import Shifted, opened
class Normed(Shifted):
    def __init__(self):
        super().__init__(0.5)
        self.norm = torch.nn.BatchNorm1d(4)
    def forward(self, latents):
        return super().forward(self.norm(latents))
ddp = DistributedDataParallel(Normed())
ddp(torch.randn(8, 4)).mean().backward()
if rank == 0:
    real = np.random.default_rng(0).uniform(0, 1, (600, 1, 8, 8)).astype("float32") * 2 - 1
    settings = ["evaluation.num_samples=100"]
    with opened(sys.argv[2] + "/run", real, settings=settings) as watch:
        watch.step(10)
        watch.evaluate(ddp)
        watch.step(10)
        watch.evaluate(torch.nn.Sequential(ddp), keep=ddp)
ddp(torch.randn(8, 4)).mean().backward()  # both go on
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_the_first_of_two_processes_evaluates_alone(tmp_path: Path) -> None:
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", SPANNING]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path), tests], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        for one in both:
            _, error = one.communicate(timeout=110)
            assert one.returncode == 0, error
    finally:
        for one in both:
            with contextlib.suppress(OSError):
                one.kill()
    kept = load_file(tmp_path / "run" / "best" / "generator.safetensors")
    assert {"mean", "norm.weight"} <= set(kept)
    assert RunFolder.open(tmp_path / "run").read_state().test is not None
