"""A watch for a training loop that Equipoise did not write.

It is told of every step, scores the generator or takes the loop's own scores, says in plain words how the game is
going, says when to stop and why, keeps the best generator, and writes a run folder with a report. It imports torch only
to judge images.
"""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from equipoise import formatting
from equipoise.errors import UserError, listed, suggestion
from equipoise.health.stats import ScoreLine, StepStats, metric_value, record_of, score_from, stats_from
from equipoise.host.intervals import LOG_SECONDS, MOST_JUDGINGS, WARM_SECONDS, Stopwatch
from equipoise.recipe import LossName, MetricName, PolicyName
from equipoise.report.report import write_report
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.stopping.policies import Continue, Stop, budget_verdict
from equipoise.storage.files import write_json
from equipoise.watch.candidates import SELF_SCORED, found, hand_over, keep_candidate, prune, set_later_aside
from equipoise.watch.keep import filler, is_keras, is_module
from equipoise.watch.meter import (
    GIVEN,
    SIGNALS,
    Meter,
    logit_numbers,
    probability_numbers,
    reduced,
    score_numbers,
)
from equipoise.watch.settings import environment, recipe_of, recorded, refuse_unfit, whole

if TYPE_CHECKING:
    from equipoise.watch.judge import Generate, ImageJudge

STATE = "watch.json"
TELL_SECONDS = 15.0  # between two lines on how the game is going
SAVE_SECONDS = 10.0  # between two writings of the state where no score comes between
JUDGE_SECONDS = 10.0  # between two scores, at least, where no budget says how long the run is
NUM_PINNED = 2  # states last given out by `state_dict`, whose candidates are kept besides the present ones


class Watch:
    """Watches one training; used in a `with` block, or closed by `close`.

    `folder` becomes a run folder. With `real` (a tensor or array of images [N, C, H, W], uint8 or floats in [-1, 1], or
    a source as `equipoise train` takes it) and `latents` (the size of one latent), `judge` scores a generator; without,
    `score` takes the loop's own scores. `verdict` is None until it is time to stop. `tell` is handed plain lines.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        real: Any = None,
        latents: int | tuple[int, ...] | None = None,
        generate: "Generate | None" = None,
        loss: LossName | None = None,
        metric: MetricName | None = None,
        budget: str | None = None,
        policy: PolicyName = "evidence",
        settings: Sequence[str] = (),
        judge_every: int | None = None,
        log_every: int | None = None,
        protocol: str | None = None,
        seed: int = 0,
        resume: bool = False,
        tell: Callable[[str], None] | None = print,
    ) -> None:
        """Begin a run, or go on with the one in `folder` if `resume` and there is one; raises UserError.

        `loss` says what the logits mean: without it, only their differences do. `judge_every` and `log_every` are in
        samples; left out, they are measured. `settings` are such as "judging.num_samples=5000" or
        "stopping.patience=20". `protocol` says in words how the loop takes its own scores.
        """
        self._open = contextlib.ExitStack()
        if real is None and (latents is not None or generate is not None):
            raise UserError("Watch: latents and generate are for judging images. Try: real=images, all of them")
        if real is not None and latents is None:
            raise UserError("Watch: real is given, but not latents, the size of one latent. Try: latents=100")
        self.metric: MetricName = metric or ("fid" if real is None else "kid")
        self._recipe = recipe_of(self.metric, loss, budget, policy, settings, judge_every, seed)
        self._loss: LossName | None = loss
        self._log_every = whole("log_every", log_every)
        self._say = tell or _silent
        path = Path(folder)
        is_old = resume and RunFolder.is_run(path)
        try:
            refuse_unfit(path, self.metric, resume)
        except UserError as error:  # the folder's words are for the command line
            raise type(error)(str(error).replace(": --out", ":").replace(" with --out", "")) from None
        self._protocol = {"numbers": protocol or f"of the loop of {path.resolve().name}"}
        self._judge = None if real is None else self._judge_of(real, latents or 0, generate)
        try:
            self._begin_run(path, real, is_old)
        except BaseException:
            self._open.close()
            raise

    @property
    def samples(self) -> int:
        """Real samples shown to the discriminator so far, as the steps told."""
        return self._samples

    @property
    def seconds(self) -> float:
        """Seconds since the first step, over all sessions of the run."""
        return self._stopwatch.seconds() if self._stopwatch else self._seconds

    @property
    def best(self) -> ScoreLine | None:
        """The score of the best generator so far, None before the first; once closed, of the one handed over."""
        return self._handed_over or self._referee.best

    @property
    def folder(self) -> Path:
        """The run's folder; the best generator is in its sub-folder `best`."""
        return self._run.path

    @property
    def train_indices(self) -> Any:
        """The places of the real images that no score is taken on, int64 [n]: train on these alone.

        Raises UserError where no real images were given.
        """
        if self._judge is None:
            raise UserError("train_indices: no real images were given to split. Try: Watch(..., real=images)")
        return self._judge.pool.splits.train.copy()

    @property
    def is_judging_due(self) -> bool:
        """Whether it is time for a score: every `judge_every` samples, or as often as takes 5 % of the time.

        Once more, too, when the budget is spent.
        """
        due = self._next_judging is not None and self._samples >= self._next_judging
        is_last = self.verdict is not None and self.verdict.policy == "budget"
        due |= is_last and self._judged_at < self._samples
        if due and self._due_at is None:
            self._due_at = time.monotonic()
        return due

    @property
    def verdict(self) -> Stop | None:
        """None while training pays; then a Stop with its `policy` and its `reason` in words."""
        if self._stop is None:
            found = budget_verdict(self._recipe.budget, self._samples, self.seconds)
            self._decide(found)
        return self._stop

    def step(self, samples: int, *, real_logits: Any = None, fake_logits: Any = None, **signals: Any) -> None:
        """Tell of one step on `samples` real samples.

        Logits are one or more per sample; `signals` are `discriminator_loss`, `generator_loss`, `penalty`, `accuracy`,
        `real_probability`, `fake_probability`, and gradients and rates of both players. Numbers, arrays or tensors: of
        these the mean is taken, and nothing waits for an accelerator. Raises UserError for a name that does not exist.
        """
        self._refuse_closed()
        num = whole("step: samples", samples) or 0
        for name in signals:
            if name not in SIGNALS:
                near = suggestion(name, (*SIGNALS, *GIVEN))
                raise UserError(f"step: there is no signal {name}; there are {listed((*SIGNALS, *GIVEN))}.{near}")
        self._meter.add(self._numbers(real_logits, fake_logits, signals))
        self._samples += num
        if self._stopwatch is None:  # a step is told of when it is done: the clock begins with the second one
            self._stopwatch = Stopwatch(self._seconds, self._samples)
            self._start = (self._seconds, self._samples)
        elif self._speed is None and self._samples != self._start[1]:
            self._measure_if_warm(self._stopwatch.seconds())
        if self._next_log is None and self._log_every is not None:
            self._next_log = self._log_every
        if self._next_log is not None and self._samples >= self._next_log:
            is_timed = self._samples != self._start[1]
            self._log(self._stopwatch.lap(self._samples) if is_timed else math.nan)

    def score(self, *, keep: Any = None, **numbers: float | None) -> bool:
        """Take the loop's own score and return whether it is the best so far, which is then kept.

        `fid` or `kid` (whichever `metric` says) is a number above zero of which lower is better and ratios mean
        something; a `kid` with its `kid_se` may be below. `precision`, `recall`, `density` and `coverage` may come with
        it. `keep` is a torch module, a dict of tensors or arrays, a Keras model, or a function that writes into the
        folder it is given. Raises UserError.
        """
        self._refuse_closed()
        values = score_numbers(self.metric, numbers)
        if keep is not None:
            filler(keep)  # before anything is taken in
        if self._referee.best is not None and self._referee.best.protocol != self._protocol:
            raise UserError(
                f"score: the scores so far are under another protocol ({self._referee.best.protocol}), so they are not "
                "comparable. Use either judge or score, with the same protocol= for the whole run"
            )
        seconds = time.monotonic() - self._due_at if self._due_at is not None else math.nan
        line = score_from({**values, "samples": self._samples, "seconds": seconds, "protocol": self._protocol})
        if math.isfinite(metric_value(line, self.metric)):
            return self._take(line, keep)
        self._event("no score", f"{self.metric} is {metric_value(line, self.metric)}: it counts as no improvement")
        return self._take(None, None)

    def judge(self, generator: Any, keep: Any = None) -> bool:
        """Score a generator, against the best so far on the same latents; return whether it is the new best.

        `generator` is a torch module or a Keras model, which is kept where it may be the one to hand over, or a
        function of latents [N, ...], which is compared by its score alone, with `keep` as in `score`. Raises UserError.
        """
        self._refuse_closed()
        if self._judge is None:
            raise UserError("judge: no real images to judge by. Try: Watch(..., real=images, latents=100), or score()")
        if not callable(generator):
            raise UserError(f"judge: {type(generator).__name__}; give a torch module, a Keras model or a function")
        from equipoise.watch.choice import take_up

        is_copied = is_module(generator) or is_keras(generator)
        if keep is None and is_copied:
            keep = generator
        if keep is not None:
            filler(keep)  # before anything is taken in
        if self._referee.last is None:
            self._judge.refuse_misfit(generator)
        self._judge.like, self._judge.has_judged = generator if is_copied else None, True
        take_up(self._run, self._referee, self._judge, self._event)
        try:
            line = self._judge.score(generator, self._samples)
        except UserError:
            raise
        except Exception as error:  # judging must never end a training: the event says what went wrong
            self._event("judging failed", f"{type(error).__name__}: {error}")
            return self._take(None, None)
        is_best = self._take(line, keep)
        if is_best:
            self._judge.adopt(generator, self._samples)
        if self._run.is_snapshot_due(self._samples):
            self._judge.snapshot(generator, self._run.snapshot_path(self._samples))
        return is_best

    def sentence(self) -> str:
        """Say in one plain sentence how the game is going."""
        text = self._referee.sentence()
        if "accuracy" in self._seen or self._is_broken:
            return text
        outlook = text.partition("; ")[2]  # who is ahead cannot be said
        return outlook[:1].upper() + outlook[1:]

    def state_dict(self) -> dict[str, Any]:
        """Return everything the watch knows, as plain JSON, for a checkpoint of the loop's own.

        What is kept on the disk for the last two of these states stays there, so that one can go back to them.
        """
        self._pin()
        return self._state()

    def _state(self) -> dict[str, Any]:
        return {
            "samples": self._samples,
            "seconds": self.seconds,
            "speed": self._speed,
            "log_every": self._log_every,
            "next_log": self._next_log,
            "judge_every": self._judge_every,
            "next_judging": self._next_judging,
            "judged_at": self._judged_at,
            "seen": sorted(self._seen),
            "is_broken": self._is_broken,
            "meter": self._meter.state_dict(),
            "referee": self._referee.state_dict(),
            "sentence": self.sentence(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back exactly, and cut the run's logs back to it; raises UserError if it is none."""
        self._refuse_closed()
        self._load(state)
        self._pin()

    def _load(self, state: Mapping[str, Any]) -> None:
        try:
            samples, seconds = int(state["samples"]), float(state["seconds"])
            speed, log_every, judge_every = state["speed"], state["log_every"], state["judge_every"]
            next_log, next_judging, judged_at = state["next_log"], state["next_judging"], int(state["judged_at"])
            seen, is_broken, meter = set(state["seen"]), bool(state["is_broken"]), Meter()
            meter.load_state_dict(state["meter"])
            self._referee.load_state_dict(state["referee"])  # the last that can fail, and it takes all or nothing
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this is no state of a watch ({error!r}); give what state_dict() returned") from None
        self._samples, self._seconds, self._speed = samples, seconds, speed
        self._log_every, self._next_log = log_every, next_log
        self._judge_every, self._next_judging = self._recipe.judging.every or judge_every, next_judging
        self._judged_at, self._seen, self._is_broken, self._meter = judged_at, seen, is_broken, meter
        self._stopwatch, self._due_at, self._stop = None, None, None
        self._run.cut_logs(self._samples)
        self._go_back()
        self._decide(self._referee.verdict(self._samples, self._seconds))
        self._save()

    def close(self) -> None:
        """End the run: judge the candidates again, test the best once, write the report; once is enough."""
        stop = self.verdict if not self._is_closed else None
        self._close("finished", stop.policy if stop else None, stop.reason if stop else self._ended_by_itself())

    def interrupt(self, reason: str = "Interrupted by its user.") -> None:
        """End the run for now, to be gone on with by `resume=True`: the test split stays untouched."""
        self._close("stopped", "interrupted", reason)

    def fail(self, error: BaseException) -> None:
        """End the run because the loop raised an error."""
        self._close("failed", None, f"{type(error).__name__}: {error}")

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif isinstance(error, KeyboardInterrupt):
            self.interrupt()
        else:
            self.fail(error)

    # What follows is for the watch itself.

    def _judge_of(self, real: Any, latents: int | tuple[int, ...], generate: "Generate | None") -> "ImageJudge":
        from equipoise.watch.judge import ImageJudge

        def preparing(stage: str, share: float) -> None:
            if share == 0 or not told:
                told.append(stage)
                self._say(f"{stage} …")

        told: list[str] = []
        return ImageJudge(real, latents, generate, self._recipe.judging, self._recipe.seed, preparing)

    def _begin_run(self, path: Path, real: Any, is_old: bool) -> None:
        """Make or open the run folder, hold its lock, and set everything to the state it begins with."""
        self._samples, self._seconds, self._is_closed = 0, 0.0, False
        self._stopwatch: Stopwatch | None = None
        self._start = (0.0, 0)  # seconds and samples where this session's clock began
        self._speed: float | None = None  # samples a second, measured once
        self._judge_every = self._recipe.judging.every
        self._next_log: int | None = None
        self._next_judging = self._judge_every
        self._judged_at = 0
        self._due_at: float | None = None  # when a score was first said to be due
        self._told_at = self._saved_at = -math.inf
        self._seen: set[str] = set()  # signals that were ever given
        self._is_broken = False  # the last losses were not finite
        self._pinned: list[list[int]] = []  # samples of the candidates of the states that were given out last
        self._handed_over: ScoreLine | None = None  # at the end
        self._before: dict[str, Any] = {}  # how an earlier session ended
        self._stop: Stop | None = None
        self._meter = Meter()
        self._referee = Referee(self._recipe.stopping, self._recipe.budget, self.metric)
        values = recorded(self._recipe, self._loss, is_judging=self._judge is not None)
        self._run = RunFolder.open(path) if is_old else RunFolder.create(path, values)
        self._open.enter_context(self._run.lock())
        self._run.write_recipe(values)
        if self._judge is not None:
            source = str(real) if isinstance(real, str | Path) else "images given to the watch"
            self._run.write_data(self._judge.described(source))
        self._run.write_environment(environment())
        if is_old and (state := self._run.read_json(self._run.path / STATE)):
            self._before = self._run.read_state()
            self._pinned = [[int(samples) for samples in pinned] for pinned in state.get("pinned", [])]
            self._load(state)
        else:
            self._save()

    def _numbers(self, real_logits: Any, fake_logits: Any, signals: dict[str, Any]) -> dict[str, Any]:
        """Return one step's signals by name, those that follow from others included."""
        numbers = logit_numbers(self._loss, real_logits, fake_logits)
        numbers |= probability_numbers(signals.get("real_probability"), signals.get("fake_probability"))
        numbers |= {name: reduced(name, value) for name, value in signals.items() if value is not None}
        self._seen |= numbers.keys()
        return numbers

    def _measure_if_warm(self, now: float) -> None:
        """Turn this machine's speed into spacings in samples, once it has been watched for long enough."""
        (then, before), budget = self._start, self._recipe.budget
        is_short = budget.seconds is not None and 20 * (now - then) >= budget.seconds
        is_short |= budget.samples is not None and 20 * (self._samples - before) >= budget.samples
        if now - then < WARM_SECONDS and not is_short:
            return
        self._speed = (self._samples - before) / max(now - then, 1e-9)
        if self._log_every is None:
            self._log_every = max(1, math.ceil(self._speed * LOG_SECONDS))
        if self._judge_every is None:
            self._next_judging = self._samples
        self._write_pace()

    def _write_pace(self) -> None:
        self._run.write_pace(
            {"samples_per_second": self._speed, "log_every": self._log_every, "judge_every": self._judge_every}
        )

    def _log(self, samples_per_second: float) -> None:
        """Write down the means since the last log line, and say how the game is going now and then."""
        assert self._log_every is not None
        self._next_log = self._samples + self._log_every
        stats = self._stats(samples_per_second)
        unheard = {name: 0.0 for name in ("discriminator_loss", "generator_loss") if name not in self._seen}
        observed = dataclasses.replace(stats, **unheard)  # a loss that is never given is no sign of divergence
        self._is_broken = not (math.isfinite(observed.discriminator_loss) and math.isfinite(observed.generator_loss))
        self._referee.observe(observed)
        self._run.log_step(asdict(stats))
        sums = self._meter.fold()
        if bad := max((sums[name].num_not_finite for name in sums if name.endswith("_loss")), default=0):
            self._event("not finite", f"{bad} of the last steps had a loss that is not a finite number")
        self._meter.clear()
        self._decide(self._referee.verdict(self._samples, self.seconds))
        if time.monotonic() - self._told_at >= TELL_SECONDS:
            self._tell()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._save()

    def _stats(self, samples_per_second: float) -> StepStats:
        means = {name: self._meter.mean(name) for name in SIGNALS}
        given = {"samples": self._samples, "seconds": self.seconds, "samples_per_second": samples_per_second}
        return stats_from(means | given)

    def _take(self, line: ScoreLine | None, kept: Any) -> bool:
        """Take in a score, None for one that failed; keep what belongs to it if it is the best."""
        before = self._referee.state_dict()
        is_best = self._referee.score(line)
        if line is not None:
            try:
                self._keep(line, kept, is_best)
            except BaseException:  # a full disk, an error in a function of the loop's: nothing half-done
                self._referee.load_state_dict(before)
                raise
            self._run.log_score(record_of(line) | {"best": is_best})
        self._plan_judging()
        self._decide(self._referee.verdict(self._samples, self.seconds))
        self._tell()
        self._save()
        return is_best

    def _keep(self, line: ScoreLine, kept: Any, is_best: bool) -> None:
        """Keep what belongs to a score if it is the best, or may be by judging again at the end."""
        of_these_samples = [other for other in self._referee.candidates if other.samples == line.samples]
        is_wanted = is_best or (self._judge is not None and self._judge.like is not None)
        if kept is None:
            if is_best and self._run.best.exists():
                self._event("not kept", "a new best score came without keep=, so best/ holds an earlier generator")
        elif is_wanted and of_these_samples and of_these_samples[0] is line:  # their folder is the better one's
            folder = keep_candidate(self._run, line, kept)
            if is_best:
                hand_over(self._run, folder)

    def _plan_judging(self) -> None:
        """Say when the next score is due; how long the first one took decides it, unless the caller did."""
        took = time.monotonic() - self._due_at if self._due_at is not None else None
        self._due_at, self._judged_at = None, self._samples
        if self._judge_every is None and took is not None and self._speed is not None:
            budget = self._recipe.budget
            least = JUDGE_SECONDS
            if budget.seconds is not None or budget.samples is not None:
                least = (budget.seconds or (budget.samples or 0) / self._speed) / MOST_JUDGINGS
            seconds = max(took / self._recipe.judging.share, least)
            self._judge_every = max(1, math.ceil(seconds * self._speed))
            self._write_pace()
        if self._judge_every is not None:
            self._next_judging = self._samples + self._judge_every

    def _decide(self, found: Continue | Stop) -> None:
        """Make a stop the verdict, and say it once."""
        if isinstance(found, Continue) or self._stop is not None:
            return
        if found.policy == "diverged":  # the referee's words are for Equipoise's own loop, which refuses such steps
            found = Stop(
                "diverged",
                "A player's loss has not been finite once for three intervals: the training has diverged, and the "
                "present weights are probably lost. Go back to the best, and try lower learning rates.",
            )
        self._stop = found
        self._run.log_event(self._samples, self.seconds, "stop", found.reason)
        self._say(f"Time to stop ({found.policy}): {found.reason}")

    def _tell(self) -> None:
        self._told_at, rate = time.monotonic(), self._samples / max(self.seconds, 1e-9)
        horizon, left = self._recipe.budget.samples, math.nan
        if self._recipe.budget.seconds is not None:
            left = max(0.0, self._recipe.budget.seconds - self.seconds)
        line = formatting.progress_line(
            self._samples, horizon, rate, left, self._referee.last, self._referee.best, self.metric
        )
        self._say(f"{line} · {self.sentence()}")

    def _event(self, kind: str, message: str) -> None:
        self._run.log_event(self._samples, self.seconds, kind, message)
        self._say(f"{kind}: {message}")

    def _save(self) -> None:
        """Write the state that `resume=True` takes back; only then remove what it no longer speaks of."""
        self._saved_at = time.monotonic()
        write_json(self._run.path / STATE, self._state() | {"pinned": self._pinned})
        self._run.write_state(self._standing("running", None, None))
        prune(self._run, {*itertools.chain(*self._pinned), *self._candidates()})

    def _candidates(self) -> list[int]:
        return [line.samples for line in self._referee.candidates]

    def _pin(self) -> None:
        """Keep the present candidates for a return to this state."""
        others = [pinned for pinned in self._pinned if pinned != self._candidates()]
        self._pinned = [*others, self._candidates()][-NUM_PINNED:]

    def _standing(self, status: str, policy: str | None, reason: str | None) -> dict[str, Any]:
        best = self._referee.best
        return {
            "status": status,
            "samples": self._samples,
            "seconds": self.seconds,
            "reason": reason,
            "policy": policy,
            "best": asdict(best) if best else None,
            "test": None,
            "not_tested": None,  # why, where there should be one
            "rescored": None,
            "not_rescored": SELF_SCORED if self._judge is None else None,
        }

    def _go_back(self) -> None:
        """Make `best/` that of the present state again, and set a later one aside."""
        best = self._referee.best
        if moved := set_later_aside(self._run, best, self._referee.candidates):
            samples, place = moved
            self._event(
                "set aside", f"a best generator, of {samples:,} samples, that this state does not know: {place}"
            )
        folder = found(self._run, best) if best else None
        if folder is not None:
            hand_over(self._run, folder)
        elif best is not None and moved:
            self._event(
                "not found",
                f"the best generator of this state, of {best.samples:,} samples, is no longer kept: only the last "
                f"{NUM_PINNED} states are. Its score still counts",
            )
        if self._judge is not None:
            self._judge.champion = None

    def _ended_by_itself(self) -> str:
        return f"The loop ended by itself after {self._samples:,} samples, before any rule said stop."

    def _close(self, status: str, policy: str | None, reason: str) -> None:
        if self._is_closed:
            return
        self._is_closed, seconds = True, self.seconds
        self._stopwatch, self._seconds = None, seconds  # the clock stands
        try:
            self._save()
            state = self._standing(status, policy, reason)
            if self._judge is not None:
                from equipoise.watch.choice import concluded

                is_final = status == "finished"
                state |= concluded(self._run, self._referee, self._judge, self._before, is_final, self._event)
                self._handed_over = score_from(state["best"]) if state["rescored"] else None
            self._run.write_state(state)
            write_report(self._run)
        finally:
            self._open.close()
        self._say(f"{self._outcome(state)} Report: {self._run.report}")

    def _outcome(self, state: dict[str, Any]) -> str:
        """Return the end of the run in a line: the best generator and its test, or why there is none."""
        if state["best"] is None:
            return f"{state['reason']} No generator was scored."
        name, best = self.metric.upper(), score_from(state["best"])
        text = f"Best: {name} {formatting.score(best, self.metric)} after {best.samples:,} samples"
        if state["test"] is not None:
            text += f", {formatting.score(score_from(state['test']), self.metric)} on the test split"
        return f"{text}."

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise UserError(f"this watch is closed. To go on: Watch({str(self._run.path)!r}, resume=True)")


def _silent(_: str) -> None:
    """Say nothing."""
