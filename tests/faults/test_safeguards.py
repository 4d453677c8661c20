"""Every safeguard is taken out once on purpose, and the test that guards it must fail.

Each case changes one place of a copy of the source, and runs one test against the copy.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "equipoise"
FAILED = 1  # pytest's exit code where tests ran and some failed; where none could run it is another


@dataclass(frozen=True)
class Broken:
    """A safeguard, the place that makes it, what stands there once it is taken out, and the test that must fail."""

    safeguard: str
    file: str
    old: str
    new: str
    check: str


BROKEN = (
    Broken(
        "a folder is written aside and renamed",
        "storage/files.py",
        'aside = final.with_name(f".{final.name}.partial")\n    shutil.rmtree(aside, ignore_errors=True)',
        "aside = final\n    shutil.rmtree(aside, ignore_errors=True)",
        "tests/storage/test_tensors.py::test_a_crash_while_writing_leaves_the_old_one_and_no_half",
    ),
    Broken(
        "files are synced before a checkpoint has its name",
        "storage/files.py",
        "            sync(path)\n        _replace_folder(aside, final)",
        "            pass\n        _replace_folder(aside, final)",
        "tests/faults/test_kill.py::test_what_a_checkpoint_relies_on_is_on_the_disk_before_it_has_its_name",
    ),
    Broken(
        "the folder is synced after a rename",
        "storage/files.py",
        "        raise\n    sync(final.parent)",
        "        raise",
        "tests/faults/test_kill.py::test_what_a_checkpoint_relies_on_is_on_the_disk_before_it_has_its_name",
    ),
    Broken(
        "logs are synced before the checkpoint",
        "state.py",
        "        run.sync_logs()",
        "        pass",
        "tests/faults/test_kill.py::test_what_a_checkpoint_relies_on_is_on_the_disk_before_it_has_its_name",
    ),
    Broken(
        "a checkpoint is compared with its SHA-256",
        "storage/files.py",
        "return None if _digest(path / name) == digest else",
        "return None if _digest(path / name) else",
        "tests/storage/test_tensors.py::test_a_damaged_checkpoint_gives_way_to_the_one_before_and_is_named",
    ),
    Broken(
        "all checkpoints damaged is an error",
        "storage/checkpoints.py",
        "    if candidates:\n        raise UserError(",
        "    if not candidates:\n        raise UserError(",
        "tests/storage/test_tensors.py::test_all_damaged_is_an_error_and_never_a_silent_restart",
    ),
    Broken(
        "the last two checkpoints stay",
        "storage/checkpoints.py",
        "NUM_KEPT = 2",
        "NUM_KEPT = 1",
        "tests/storage/test_tensors.py::test_only_the_last_two_are_kept",
    ),
    Broken(
        "the place of the last look and the steps come back",
        "state.py",
        "    state.judged, state.discriminator_steps = values.judged, values.discriminator_steps",
        "    pass",
        "tests/faults/test_inventory.py",
    ),
    Broken(
        "what lies aside is put back before the newest checkpoint is looked for",
        "state.py",
        "    run.tidy()  # first",
        "    pass  # first",
        "tests/faults/test_signals.py::test_a_kill_while_the_checkpoint_of_a_look_that_was_given_up_is_written_again_"
        "leaves_no_trace",
    ),
    Broken(
        "checkpoints that are gone are not begun anew over",
        "runs/folder.py",
        "        if self.has_saved and not is_between",
        "        if False and not is_between",
        "tests/runs/test_folder.py::test_a_run_whose_checkpoints_are_gone_is_not_begun_anew_over_what_is_left",
    ),
    Broken(
        "the watch comes back",
        "state.py",
        "    referee.load_state_dict(values.watch)",
        "    pass",
        "tests/faults/test_inventory.py",
    ),
    Broken(
        "the sums since the last log line come back",
        "state.py",
        'found.tensors[f"meter.{name}"], count',
        "torch.zeros(()), count",
        "tests/faults/test_inventory.py",
    ),
    Broken(
        "dropout draws by position",
        "loop.py",
        'seed = stream_seed(recipe.seed, f"{player} dropout", state.samples)',
        "seed = torch.seed()",
        "tests/test_loop.py::test_a_run_resumed_from_a_checkpoint_is_bit_for_bit_the_run_that_never_stopped[dropout]",
    ),
    Broken(
        "data come by position",
        "data/pool.py",
        'generator = torch.Generator().manual_seed(stream_seed(seed, "data order", epoch))',
        "generator = torch.Generator()\n    generator.seed()",
        "tests/data/test_pool.py::test_the_order_is_a_function_of_the_position_and_batches_may_span_epochs",
    ),
    Broken(
        "an optimizer's moments lie as its parameters do",
        "game/optimizers.py",
        "restored = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)",
        "restored = torch.empty_like(value)",
        "tests/test_loop.py::test_a_run_resumed_from_a_checkpoint_is_bit_for_bit_the_run_that_never_stopped",
    ),
    Broken(
        "what a kill left of later looks is cut from the logs",
        "state.py",
        "    run.cut_logs(state.samples, state.judged)",
        "    pass",
        "tests/faults/test_kill.py::test_a_kill_before_every_fifteenth_call_leaves_no_trace",
    ),
    Broken(
        "a run's recipe is written last",
        "runs/folder.py",
        """                if data is not None:
                    run.write_data(data)
                run.write_recipe(recipe)
""",
        """                run.write_recipe(recipe)
                if data is not None:
                    run.write_data(data)
""",
        "tests/runs/test_folder.py::test_what_a_kill_leaves_before_the_recipe_is_no_run_and_is_begun_anew",
    ),
    Broken(
        "a step that is not finite is refused",
        "loop.py",
        "    if not torch.isfinite(loss.detach() + norm):",
        "    if False:",
        "tests/test_loop.py::test_a_step_with_a_loss_that_is_not_finite_changes_no_weight_and_is_counted",
    ),
    Broken(
        "a refused step leaves the running statistics alone",
        "loop.py",
        "            buffer.copy_(before)",
        "            pass",
        "tests/test_loop.py::test_a_refused_step_leaves_no_trace_in_running_statistics_or_the_average",
    ),
    Broken(
        "weights that are not finite are never saved",
        "state.py",
        "if not tensor.isfinite().all()]:",
        "if False]:",
        "tests/faults/test_nan.py::test_what_is_poisoned_all_the_same_is_never_the_last_checkpoint_or_the_best_and_a_"
        "resume_is_of_a_good_one[weight-generator]",
    ),
    Broken(
        "judging that fails does not end the training",
        "evaluation/evaluate.py",
        "    except Exception as error:  # judging must never end a training",
        "    except ZeroDivisionError as error:  # judging must never end a training",
        "tests/test_loop.py::test_judging_that_crashes_changes_nothing_in_the_training",
    ),
    Broken(
        "a look that hangs is given up",
        "host/signals.py",
        "        timer.start()",
        "        pass",
        "tests/faults/test_evaluation.py",
    ),
    Broken(
        "a signal ends a look",
        "host/signals.py",
        "            raise Abandoned\n\n    def _ring",
        "            pass\n\n    def _ring",
        "tests/faults/test_signals.py",
    ),
    Broken(
        "a second Ctrl-C leaves at once",
        "host/signals.py",
        "            raise KeyboardInterrupt\n        self.requested",
        "            pass\n        self.requested",
        "tests/cli/test_cli.py::test_a_second_ctrl_c_leaves_at_once_in_the_middle_of_a_step",
    ),
    Broken(
        "what the saver fails at is raised in the training",
        "host/writer.py",
        "                self._error = error",
        "                pass",
        "tests/host/test_writer.py",
    ),
    Broken(
        "a run is held by one training",
        "runs/folder.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except BlockingIOError:\n            if attempt",
        "            pass\n        except BlockingIOError:\n            if attempt",
        "tests/runs/test_folder.py::test_a_second_training_is_refused_with_host_and_pid_and_a_killed_one_leaves_the_run_"
        "free",
    ),
    Broken(
        "so it is where the lock's file was removed",
        "runs/folder.py",
        "            with _folder_locked(self.path):",
        "            with contextlib.nullcontext():",
        "tests/runs/test_folder.py::test_a_live_trainings_run_is_not_taken_although_its_lock_file_was_removed",
    ),
    Broken(
        "a torn line is dropped before the next is written",
        "storage/logs.py",
        "        _drop_torn_line(file)\n        if os.write",
        "        if os.write",
        "tests/storage/test_logs.py::test_a_log_torn_at_any_byte_of_its_last_record_loses_that_record_only",
    ),
    Broken(
        "pixels are capped before decoding",
        "data/decode.py",
        "    if width * height > MAX_PIXELS:",
        "    if False:",
        "tests/data/test_decode.py::test_a_bomb_is_refused_by_its_header_with_its_size",
    ),
    Broken(
        "the share of broken files is bounded",
        "data/pool.py",
        "MAX_REJECTED_SHARE = 0.1",
        "MAX_REJECTED_SHARE = 1.0",
        "tests/data/test_pool.py::test_many_broken_files_are_an_error_that_names_three_and_leaves_nothing",
    ),
    Broken(
        "what unpacks to too much is refused",
        "data/archives.py",
        "MAX_RATIO = 200",
        "MAX_RATIO = 10**9",
        "tests/data/test_sources.py::test_a_bomb_in_a_zip_is_refused_before_it_is_unpacked",
    ),
    Broken(
        "nothing of another run or of anybody is overwritten",
        "runs/folder.py",
        "            if exists and not _is_begun(path):",
        "            if False:",
        "tests/runs/test_folder.py::test_a_folder_with_other_files_is_refused_and_left_as_it_is",
    ),
    Broken(
        "a negative rate is refused",
        "recipe.py",
        "Positive = Annotated[float, msgspec.Meta(gt=0)]",
        "Positive = float",
        "tests/test_recipe.py::test_a_wrong_setting_is_refused_with_what_is_allowed",
    ),
)


@pytest.mark.faults
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.safeguard)
def test_without_a_safeguard_its_test_fails(broken: Broken, tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "equipoise", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "equipoise" / broken.file
    file.write_text(file.read_text().replace(broken.old, broken.new))
    environment = os.environ | {"PYTHONPATH": os.fspath(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider"]
    command += ["--basetemp", os.fspath(tmp_path / "tests"), broken.check]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == FAILED, f"{broken.check} did not notice: {done.stdout[-2000:]}{done.stderr[-500:]}"


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.safeguard)
def test_each_case_changes_exactly_one_place_and_names_a_test_that_exists(broken: Broken) -> None:
    assert (SOURCE / broken.file).read_text().count(broken.old) == 1
    assert broken.old != broken.new
    file, _, name = broken.check.partition("::")
    text = (ROOT / file).read_text()
    assert not name or f"def {name.partition('[')[0]}(" in text
