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


RELIES = "tests/faults/test_kill.py::test_what_a_checkpoint_relies_on_is_on_the_disk_before_it_has_its_name"
INVENTORY = "tests/faults/test_inventory.py::test_so_it_does_whatever_is_learned[points]"
TAKEN_BACK = "tests/test_state.py::test_a_state_that_is_taken_back_is_the_one_that_was_saved"
REFUSED = "tests/game/test_updates.py::test_a_refused_round_changes_nothing_and_the_next_is_that_of_a_run_without_it"
ABANDONED = "tests/test_state.py::test_a_remedy_leaves_nothing_of_the_abandoned_attempt_but_its_events"

BROKEN = (
    Broken(
        "a folder is written aside and renamed",
        "storage/files.py",
        'aside = final.with_name(f".{final.name}.partial")',
        "aside = final",
        "tests/storage/test_files.py::test_a_folder_that_cannot_be_filled_leaves_the_old_one_and_nothing_beside_it",
    ),
    Broken(
        "files are synced before a checkpoint has its name",
        "storage/files.py",
        "        sync_all(aside)\n",
        "",
        RELIES,
    ),
    Broken(
        "the folder is synced after a folder's rename",
        "storage/files.py",
        "        raise\n    sync(final.parent)",
        "        raise",
        RELIES,
    ),
    Broken(
        "a file is synced before it has its name",
        "storage/files.py",
        "            os.fsync(file.fileno())\n",
        "",
        "tests/storage/test_files.py::test_the_content_is_on_the_disk_before_the_name_is",
    ),
    Broken(
        "the folder is synced after a file's rename",
        "storage/files.py",
        "        raise\n    sync(path.parent)",
        "        raise",
        "tests/storage/test_files.py::test_the_content_is_on_the_disk_before_the_name_is",
    ),
    Broken(
        "logs are synced before the checkpoint",
        "state.py",
        "        run.sync_logs()",
        "        pass",
        RELIES,
    ),
    Broken(
        "a checkpoint is compared with its SHA-256",
        "storage/files.py",
        "if _digest(path / name) != digest:",
        "if False:",
        "tests/storage/test_tensors.py::test_a_damaged_checkpoint_gives_way_to_the_one_before_and_is_named",
    ),
    Broken(
        "no file of a checkpoint is a link",
        "storage/files.py",
        "if not may_be_link and",
        "if False and",
        "tests/storage/test_files.py::test_only_the_files_asked_for_may_stand_in_a_manifest_and_none_is_a_link",
    ),
    Broken(
        "all checkpoints damaged is an error",
        "storage/checkpoints.py",
        "    if not candidates:\n",
        "    if candidates:\n",
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
        "the last healthy checkpoint stays",
        "state.py",
        "    kept = {state.healthy, *state.kept}",
        "    kept: set[int | None] = {*state.kept}",
        "tests/test_state.py::test_the_checkpoints_that_stay_are_the_last_two_the_best_the_healthy_and_every_nth",
    ),
    *(
        Broken(f"{name} come back", "state.py", f"    state.{name} = values.{name}\n", "", TAKEN_BACK)
        for name in ("samples", "spent", "attempt", "evaluated", "healthy", "seconds")
    ),
    Broken(
        "adjustments come back",
        "state.py",
        "    adjust(state, values.adjustments)",
        "    adjust(state, state.adjustments)",
        TAKEN_BACK,
    ),
    Broken(
        "what abandoned tests have spent of alpha stays spent",
        "state.py",
        "max(num_paired, monitor.num_paired)",
        "monitor.num_paired",
        "tests/test_state.py::test_tests_of_an_abandoned_attempt_have_spent_their_share_of_alpha",
    ),
    Broken(
        "what the monitor knows comes back",
        "state.py",
        "    monitor.load_state_dict(values.monitor)\n",
        "",
        TAKEN_BACK,
    ),
    Broken(
        "the sums since the last log line come back",
        "state.py",
        "    state.meter.load_state_dict(values.meter)\n",
        "",
        INVENTORY,
    ),
    Broken(
        "intervals that were measured come back",
        "state.py",
        "    if not state.intervals.is_known and values.intervals is not None:",
        "    if False and values.intervals is not None:",
        "tests/test_resume.py::test_measured_intervals_are_kept_for_good",
    ),
    Broken(
        "what lies aside is put back before the newest checkpoint is looked for",
        "state.py",
        "    run.tidy()  # first",
        "    pass  # first",
        "tests/faults/test_signals.py::test_a_kill_while_the_checkpoint_of_an_evaluation_that_was_g"
        "iven_up_is_written_again_leaves_no_trace",
    ),
    Broken(
        "checkpoints that are gone are not begun again over",
        "runs/rules.py",
        "    if run.has_saved and not is_between",
        "    if False and not is_between",
        "tests/runs/test_folder.py::test_a_run_whose_checkpoints_are_gone_is_not_begun_again_over_what_is_left",
    ),
    Broken(
        "dropout draws by position",
        "loop.py",
        '    seed = randomness.stream_seed(f"{role} dropout")',
        "    seed = torch.seed()",
        "tests/test_resume.py::test_a_run_of_images_resumed_from_a_checkpoint_is_the_run_that_never_stopped[dropout]",
    ),
    Broken(
        "data come by position",
        "data/pool.py",
        "torch.randperm(num, generator=torch.Generator().manual_seed(seed))",
        "torch.randperm(num)",
        "tests/data/test_pool.py::test_the_order_is_a_function_of_the_position_and_batches_may_span_epochs",
    ),
    Broken(
        "an attempt has draws of its own",
        "randomness.py",
        "    if attempt:",
        "    if False:",
        "tests/test_randomness.py::test_a_rewound_run_does_not_meet_the_draws_it_diverged_with",
    ),
    Broken(
        "an optimizer's moments lie as its parameters do",
        "game/optimizers.py",
        "like = parameter if value.shape == parameter.shape else value",
        "like = value",
        "tests/test_resume.py::test_a_run_of_images_resumed_from_a_checkpoint_is_the_run_that_never_stopped",
    ),
    Broken(
        "what a kill left of later evaluations is cut from the logs",
        "state.py",
        "    run.cut_logs(state.samples, state.evaluated)\n",
        "",
        "tests/faults/test_kill.py::test_a_kill_before_every_fifteenth_call_leaves_no_trace",
    ),
    Broken(
        "an event that a resume comes to again is logged once",
        "runs/folder.py",
        "        if not any(_is_same(record, event) for record in last_records(self.events, NUM_RECENT_EVENTS)):",
        "        if True:",
        "tests/runs/test_folder.py::test_an_event_that_a_resume_comes_to_again_is_logged_once",
    ),
    Broken(
        "a run's recipe is written last",
        "runs/folder.py",
        "                if data is not None:\n                    run.write_data(data)\n            "
        "    run.write_recipe(recipe)\n",
        "                run.write_recipe(recipe)\n                if data is not None:\n            "
        "        run.write_data(data)\n",
        "tests/runs/test_folder.py::test_what_a_kill_leaves_before_the_recipe_is_not_a_run_and_is_begun_again",
    ),
    Broken(
        "a step that is not finite is refused",
        "game/steps.py",
        "over_ranks(~torch.isfinite(loss.detach() + norm))",
        "over_ranks(torch.zeros_like(norm).bool())",
        REFUSED,
    ),
    Broken(
        "all processes refuse a step together",
        "game/steps.py",
        "        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)\n",
        "",
        "tests/game/test_updates.py::test_two_processes_refuse_a_step_together_where_one_of_them_must",
    ),
    Broken(
        "a refused step leaves the running statistics alone",
        "game/steps.py",
        "        buffer.copy_(torch.where(is_refused, before, buffer))",
        "        pass",
        REFUSED,
    ),
    Broken(
        "a refused step leaves weights and moments alone",
        "game/optimizers.py",
        "    put_back(optimizer, before, is_refused)",
        "    pass",
        REFUSED,
    ),
    Broken(
        "so it does in a fused kernel",
        "game/optimizers.py",
        "optimizer.found_inf = is_refused.float()",
        "optimizer.found_inf = 0 * is_refused.float()",
        REFUSED,
    ),
    Broken(
        "weights that are not finite are never saved",
        "state.py",
        "if not tensor.isfinite().all()), None)",
        "if False), None)",
        "tests/test_remedies.py::test_weights_that_are_not_finite_are_never_saved_and_are_a_divergence",
    ),
    Broken(
        "a moment with refused steps is none to go back to",
        "stopping/monitor.py",
        "        return not self.is_skipping",
        "        return True",
        "tests/stopping/test_monitor.py::test_a_moment_with_skipped_steps_is_none_to_go_back_to",
    ),
    Broken(
        "where only an interrupted run saves is none either",
        "state.py",
        "    if monitor.is_healthy and _is_planned(state):",
        "    if monitor.is_healthy:",
        "tests/test_state.py::test_a_place_to_go_back_to_is_one_where_an_uninterrupted_run_saves_too",
    ),
    Broken(
        "a remedy lowers both rates",
        "health/remedies.py",
        "    before, factor = at.adjustments, at.recipe.remedies.rate_factor",
        "    before, factor = at.adjustments, 1.0",
        "tests/test_state.py::test_a_remedy_goes_back_to_the_last_healthy_checkpoint_and_lowers_both_rates",
    ),
    Broken(
        "what was spent stays spent",
        "state.py",
        "    rewound.spent = state.spent\n",
        "",
        "tests/test_state.py::test_a_remedy_goes_back_to_the_last_healthy_checkpoint_and_lowers_both_rates",
    ),
    Broken(
        "a remedy removes the checkpoints of what it abandons",
        "state.py",
        "            discard(path)\n",
        "            pass\n",
        ABANDONED,
    ),
    Broken(
        "and its best generator",
        "state.py",
        "    put_back_best(run, monitor, state.best_generator)\n",
        "",
        ABANDONED,
    ),
    Broken(
        "and its candidates",
        "state.py",
        "    prune(run, lambda samples: samples <= state.samples)",
        "    pass",
        ABANDONED,
    ),
    Broken(
        "remedies end",
        "stopping/verdicts.py",
        "    if attempt < allowed:",
        "    if True:",
        "tests/stopping/test_monitor.py::test_a_stuck_game_is_remedied_as_often_as_is_allowed_and_then_stopped",
    ),
    Broken(
        "a generator that breaks a guard is no candidate",
        "stopping/monitor.py",
        "        is_allowed = found.is_finite and not found.broken",
        "        is_allowed = found.is_finite",
        "tests/stopping/test_monitor.py::test_a_generator_that_breaks_a_guard_is_neither_best_nor_c"
        "andidate_however_low_its_score",
    ),
    Broken(
        "scores of two protocols are never compared",
        "stopping/monitor.py",
        " and found.protocol != best.protocol:",
        " and False:",
        "tests/stopping/test_monitor.py::test_scores_of_two_protocols_are_never_compared",
    ),
    Broken(
        "an evaluation that fails does not end the training",
        "evaluation/scoring.py",
        "    except Exception as error:\n        failure",
        "    except ZeroDivisionError as error:\n        failure",
        "tests/test_loop.py::test_an_evaluation_that_fails_changes_nothing_in_the_training_and_is_an_event",
    ),
    Broken(
        "an evaluation that takes too long is given up",
        "host/deadline.py",
        "        if time.monotonic() > self._end:",
        "        if False:",
        "tests/test_loop.py::test_an_evaluation_that_runs_out_of_time_leaves_the_networks_as_they_were_in_training",
    ),
    Broken(
        "it is asked between two chunks",
        "evaluation/evaluate.py",
        "        deadline.check()\n        outputs",
        "        outputs",
        "tests/host/test_deadline.py::test_an_evaluation_is_given_up_between_two_chunks_and_draws_no_more",
    ),
    Broken(
        "a signal ends an evaluation",
        "host/deadline.py",
        "        if self._is_abandoned():",
        "        if False:",
        "tests/test_resume.py::test_an_evaluation_that_a_signal_interrupts_leaves_no_trace_and_is_taken_again",
    ),
    Broken(
        "a second Ctrl-C leaves at once",
        "host/signals.py",
        "        if self.requested is not None and number == signal.SIGINT:",
        "        if False:",
        "tests/cli/test_cli.py::test_a_second_ctrl_c_leaves_at_once_in_the_middle_of_a_step",
    ),
    Broken(
        "what the writer fails at is raised in the training",
        "host/writer.py",
        "                self._error = error",
        "                pass",
        "tests/host/test_writer.py::test_an_error_is_raised_in_the_training_and_nothing_after_it_is_written",
    ),
    Broken(
        "a run is held by one training",
        "storage/locks.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        except Blocking"
        "IOError:\n            if attempt",
        "            pass\n        except BlockingIOError:\n            if attempt",
        "tests/runs/test_folder.py::test_a_second_training_is_refused_with_host_and_pid_and_a_kille"
        "d_one_leaves_the_run_free",
    ),
    Broken(
        "so it is where the lock's file was removed",
        "storage/locks.py",
        "        with _folder_locked(folder):",
        "        with contextlib.nullcontext():",
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
        "no part of a run is a link",
        "runs/rules.py",
        "        if os.path.islink(path):",
        "        if False:",
        "tests/runs/test_folder.py::test_a_part_of_a_run_that_is_a_link_is_refused_in_one_line_and_not_written_through",
    ),
    Broken(
        "nothing of another run or of anybody is overwritten",
        "runs/rules.py",
        "        if exists and not _is_begun(path):",
        "        if False:",
        "tests/runs/test_folder.py::test_a_folder_with_other_files_is_refused_and_left_as_it_is",
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
        "a negative rate is refused",
        "recipe.py",
        "Positive = Annotated[float, msgspec.Meta(gt=0)]",
        "Positive = float",
        "tests/test_recipe.py::test_a_wrong_value_is_refused_with_what_is_allowed",
    ),
)


@pytest.mark.faults
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.safeguard)
def test_without_a_safeguard_its_test_fails(broken: Broken, tmp_path: Path) -> None:
    """It fails, and is not merely one that cannot run."""
    shutil.copytree(SOURCE, tmp_path / "equipoise", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "equipoise" / broken.file
    file.write_text(file.read_text().replace(broken.old, broken.new))
    environment = os.environ | {"PYTHONPATH": os.fspath(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider"]
    command += ["--basetemp", os.fspath(tmp_path / "tests"), broken.check]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    told = f"{done.stdout[-2000:]}{done.stderr[-500:]}"
    assert done.returncode == FAILED, f"{broken.check} did not notice: {told}"
    assert f"FAILED {broken.check.partition('[')[0]}" in done.stdout, told


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.safeguard)
def test_each_case_changes_exactly_one_place_and_names_a_test_that_exists(broken: Broken) -> None:
    """What is changed can still be read as Python."""
    text = (SOURCE / broken.file).read_text()
    assert text.count(broken.old) == 1
    assert broken.old != broken.new
    compile(text.replace(broken.old, broken.new), broken.file, "exec")
    file, _, name = broken.check.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
