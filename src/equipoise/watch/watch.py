"""A watch for a training loop that Equipoise did not write.

It is given every step, evaluates the generator or takes the loop's own scores, says in plain words how the game is
going, says when to stop and why, keeps the best generator, and writes a run folder with a report. It imports torch only
to evaluate images, and where it is given logits for each sample.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from equipoise.errors import Command, UserError
from equipoise.recipe import LossName, PolicyName, Recipe
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Stop
from equipoise.storage.records import DataRecord, EventKind, RunState, Score, Status, StopReason
from equipoise.watch.ending import concluded, outcome, reported
from equipoise.watch.keeping import Content, content_of, is_keras, is_module
from equipoise.watch.numbers import score_of, step_numbers, without_odd_ones
from equipoise.watch.raised import is_for_the_loop
from equipoise.watch.saying import in_words, said
from equipoise.watch.session import Session
from equipoise.watch.settings import (
    data_of,
    environment,
    folder_of,
    in_words_of_a_watch,
    latent_shape,
    opened,
    recipe_of,
    refuse_incomplete,
    refuse_unfit,
)

if TYPE_CHECKING:
    from equipoise.watch.evaluating import Evaluator
    from equipoise.watch.generators import Generate
    from equipoise.watch.images import GivenImages
    from equipoise.watch.leaks import TrainingCheck


class Watch:
    """Watches one training in a loop of your own; used in a `with` block, or closed by `close`.

    Args:
        folder: becomes a run folder, which `equipoise status`, `compare` and `replay` read.
        real: real images to evaluate by: all of them, as an array or tensor `[N, C, H, W]` of any range, as a list or
            data set of images or (image, label), or as a folder, a zip or an `.npz`. Train on `train_indices` of them
            alone, or `train_paths`. Without, `score` takes scores of your own.
        latents: the size of one latent, or its shape; the generator takes latents `[N, latents]`.
        generate: a function of (generator, latents) that returns images `[N, C, H, W]` in [-1, 1], or whole numbers
            0..255, where calling the generator is not enough.
        loss: the name of the loss, which says what logits mean; without, only their differences count.
        metric: the name of the number that decides where you take scores of your own, "loss" by default; lower is
            better. With real images it is KID.
        budget: a time ("90s", "10m", "2h") or a number of samples ("500k"); without, only the policy stops.
        policy: what says stop before: "evidence", "patience", "discriminator-threshold" or "budget".
        settings: such as "evaluation.num_samples=5000" or "stopping.patience.evaluations=20"; for real images also
            "data.validation=0.3", "data.test=0.3", and the pixel values "task.black=0" and "task.white=4095".
        evaluate_every: samples between two scores; without, as often as takes 5 % of the time.
        log_every: samples between two log lines; without, about one a second.
        protocol: how you take your own scores, in words; scores of two protocols are never compared.
        seed: of the latents that evaluations draw.
        resume: continue the run in `folder`, or begin one where there is none.
        say: is called with plain lines on how it goes; None for silence.

    Raises:
        UserError: where arguments do not fit together, images are of no use, or the folder holds something else.
        RunBusyError: where another training holds the folder.

    Example:
        >>> import equipoise
        >>> with equipoise.Watch(FOLDER, metric="fid", policy="patience", say=None) as watch:
        ...     for step in range(100):
        ...         watch.step(64, discriminator_loss=0.7, generator_loss=0.7)
        ...         is_best = watch.score(fid=20.0 + abs(step - 3))
        ...         if watch.verdict:
        ...             break
        >>> watch.verdict.reason, watch.samples, watch.best.samples, watch.best.loss
        ('patience', 896, 256, 20.0)
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        real: Any = None,
        latents: int | tuple[int, ...] | None = None,
        generate: "Generate | None" = None,
        loss: LossName | None = None,
        metric: str | None = None,
        budget: str | int | None = None,
        policy: PolicyName = "evidence",
        settings: Sequence[str] = (),
        evaluate_every: int | None = None,
        log_every: int | None = None,
        protocol: str | None = None,
        seed: int = 0,
        resume: bool = False,
        say: Callable[[str], None] | None = print,
    ) -> None:
        refuse_incomplete(real, latents, generate, metric)
        shape = () if latents is None else latent_shape(latents)
        self.metric = "kid" if real is not None else metric or "loss"
        self._loss: LossName | None = loss
        self._say = say or _silent
        self._process = os.getpid()  # a process that was forked from it has a copy of the watch, and not the run
        self._lock = threading.RLock()  # `close` may come from another thread
        self._closed_by = 0  # the thread that closed it
        self._is_entered = False  # in a `with` block
        self._has_stepped = False  # in this session: only what comes first is refused
        self._has_scored = False
        self._stage_said = ""
        self._selected: Score | None = None  # at the end
        self._evaluator: Evaluator | None = None
        self._before: RunState | None = None  # an end of the run, as long as no score has followed it
        self._is_closed = False
        recipe = recipe_of(loss, budget, policy, settings, evaluate_every, log_every, seed, has_images=real is not None)
        path = folder_of(folder).absolute()  # a loop may change its directory
        with in_words_of_a_watch():
            refuse_unfit(path, self.metric, resume=resume)
        self._protocol = protocol or f"of the loop of {path.resolve().name}"
        given = self._given(path, real, shape, recipe)
        data = data_of(path, given, real, self.metric)
        with contextlib.ExitStack() as stack:
            with in_words_of_a_watch():
                self._run = stack.enter_context(opened(path, recipe, loss, data))
            self._begin(recipe, data, given, generate)
            self._open = stack.pop_all()

    # What a loop asks

    @property
    def samples(self) -> int:
        """Real samples shown to the discriminator so far, as the steps said."""
        return self._session.now.samples

    @property
    def seconds(self) -> float:
        """Seconds since the first step, over all sessions of the run."""
        return self._session.seconds

    @property
    def best(self) -> Score | None:
        """The score of the best generator so far, None before the first; once closed, of the one that was selected."""
        return self._selected or self._monitor.best

    @property
    def folder(self) -> Path:
        """The run's folder; the best generator is in its sub-folder `best`."""
        return self._run.path

    @property
    def has_real(self) -> bool:
        """Whether real images were given, so that the watch evaluates generators and takes no scores."""
        return self._evaluator is not None

    @property
    def train_indices(self) -> Any:
        """The places of the real images to train on, int64 `[n]`; no score is taken on them. Raises UserError.

        They count what was given: the items of an array, a list or a data set. Of a folder or a zip they count the
        images that could be used, by their names in the order of Python's `sorted`; files that are broken or no images
        have no place, so that a listing of your own may count otherwise: use `train_paths` or `train_names` there.
        """
        return self._real("train_indices").pool.splits.train.copy()

    @property
    def train_names(self) -> list[str]:
        """The names of the images to train on, as paths below the folder or members of the zip. Raises UserError."""
        given = self._real("train_names")
        if given.names is None:
            problem = "the real images are an array or a data set, and have no names"
            raise UserError("train_names", problem, "Use watch.train_indices")
        return [given.names[place] for place in given.pool.splits.train.tolist()]

    @property
    def train_paths(self) -> list[Path]:
        """The files to train on, where real is a folder; no score is taken on them. Raises UserError.

        Example:
            >>> import equipoise
            >>> from torch.utils.data import DataLoader
            >>> with equipoise.Watch(FOLDER, real=PHOTOS, latents=100, say=None) as watch:
            ...     files = watch.train_paths  # open these in your data set
            ...     check = watch.check_training(files)
            >>> len(files) == len(check.train), len(check.held_out)
            (True, 0)
        """
        given = self._real("train_paths")
        if given.folder is None:
            remedy = (
                "Use watch.train_indices" if given.names is None else "Use watch.train_names, or watch.train_indices"
            )
            raise UserError("train_paths", "the real images are not files of a folder", remedy)
        return [given.folder / name for name in self.train_names]

    def check_training(self, images: Any) -> "TrainingCheck":
        """Find which of the images that your loop trains on are held out, and say it.

        Args:
            images: what you train on: paths or names, places, images as `real` takes them, a data set such as
                torchvision's `ImageFolder` or a part of one, a loader, or batches. By paths where there are any, else
                by content: also images that were resized, mirrored or normalised are found, but not cropped ones.

        Returns:
            The places of what you gave in `train`, `held_out` and `unknown`, whether it `is_clean`, and a `message`.

        Raises:
            UserError: where no real images were given to the watch, and for what holds no images.
        """
        from equipoise.watch.leaks import check_training

        found = check_training(self._real("check_training()"), images)
        if len(found.held_out) and not self._is_closed:
            self._session.event("trained on held-out images", found.message)
        else:
            said(self._say, found.message)
        return found

    @property
    def is_evaluation_due(self) -> bool:
        """Whether it is time for a score: once an interval, and once more when the budget is spent."""
        return self._session.is_evaluation_due

    @property
    def verdict(self) -> Stop | None:
        """None while training pays; then a Stop with its `reason` and its `message` in words."""
        return self._session.stop

    def sentence(self) -> str:
        """Say in one plain sentence how the game is going."""
        return self._session.sentence()

    # What a loop says

    def step(self, samples: int, *, real_logits: Any = None, fake_logits: Any = None, **stats: Any) -> None:
        """Take in one step of the loop: numbers, arrays or tensors; nothing waits for an accelerator.

        Args:
            samples: how many real samples the discriminator was shown.
            real_logits: its logits of real samples, one or more for each.
            fake_logits: its logits of generated samples.
            stats: `discriminator_loss`, `generator_loss`, `penalty`, `accuracy`, `real_probability`,
                `fake_probability`, and both players' gradient norms and rates; of several values the mean is taken.

        Raises:
            UserError: at the first step, for a name that does not exist, for what is no number, for a loss that is
                several numbers, and for a share beyond 0..1. Later, what is wrong is an event, and is left out.
        """
        if self._is_shut():
            return
        with self._lock:
            given = {"real_logits": real_logits, "fake_logits": fake_logits, **stats}
            num, numbers, mistakes = step_numbers(self._loss, samples, given, reads=not self._has_stepped)
            if mistakes and not self._has_stepped:
                raise mistakes[0]
            self._has_stepped = True
            for mistake in mistakes:
                self._session.event_once(f"step: {mistake.subject}", "ignored", f"in a step: {mistake}")
            with self._session.going_on("a step"):
                self._session.step(num, numbers)

    def score(self, *, keep: Any = None, **numbers: float | None) -> bool:
        """Take in a score of your own and return whether it is the best so far; what belongs to it is then kept.

        Args:
            keep: a torch module, a dict of tensors or arrays, a Keras model, or a function that writes into the folder
                it is given.
            numbers: the deciding one, under the name `metric`: lower is better, and it is above zero, as ratios count;
                or it comes with its standard error, `<metric>_error`. Others, such as `coverage`, may be added.

        Raises:
            UserError: at the first score, where the deciding number is missing or says nothing, and for what cannot be
                kept. Later, what is wrong is an event, and counts as no improvement.
        """
        if self._is_shut():
            return False
        with self._lock:
            return self._taken_in(lambda: self._score(keep, numbers), "no score")

    def evaluate(self, generator: Any, keep: Any = None) -> bool:
        """Evaluate a generator beside the best so far, on the same latents; return whether it is the new best.

        Args:
            generator: a torch module or a Keras model, which is kept where it may be selected at the end; or a function
                of latents `[N, …]`, which cannot be copied and is compared by its score alone. A module is taken out of
                its wrappers: DistributedDataParallel, AveragedModel, `torch.compile`. Nothing of it is changed.
            keep: what to keep in its place, as in `score`.

        Raises:
            UserError: at the first evaluation, where no real images were given, for images of another shape or range,
                and for weights that are shared out over processes. Whatever else goes wrong is an event, and counts as
                no improvement.
        """
        if self._is_shut():
            return False
        with self._lock:
            return self._taken_in(lambda: self._evaluate(generator, keep), "evaluation failed")

    def state_dict(self) -> dict[str, Any]:
        """Return everything the watch knows, as plain JSON, for a checkpoint of your own.

        What is kept on the disk for the last two of these states stays there, so that one can go back to them.
        """
        with self._lock:
            self._session.pin()
            return self._session.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back exactly, and cut the run's logs back to it; raises UserError if it is none."""
        with self._lock:
            if self._is_shut():
                return
            self._session.load(state)
            self._before = None
            if self._evaluator is not None:
                self._evaluator.best = None
            self._session.pin()

    # How a run ends

    @property
    def is_closed(self) -> bool:
        """Whether the run was ended: nothing more is taken in, unless it is opened again by `reopen`."""
        return self._is_closed

    @property
    def is_entered(self) -> bool:
        """Whether the watch is in a `with` block, which ends the run."""
        return self._is_entered

    def close(self) -> None:
        """End the run: evaluate the candidates again, test the best once, write the report; once is enough."""
        stop = self._session.stop
        if stop is None:
            message = f"The loop ended by itself after {self.samples:,} samples, before any rule said stop."
            self._end("finished", None, message)
        else:
            self._end("finished", stop.reason, stop.message)

    def interrupt(self, message: str = "Interrupted by its user.") -> None:
        """End the run for now, to be continued by `resume=True`: the test split stays untouched."""
        self._end("stopped", "interrupted", message)

    def fail(self, error: BaseException) -> None:
        """End the run because the loop raised an error, as far as the disk allows."""
        self._end("failed", None, in_words(error))

    def pause(self) -> None:
        """Let the clock stand until the next step, between two trainings of one run."""
        if self._is_elsewhere():
            return
        with self._lock:
            if not self._is_closed:
                self._session.halt_clock()
                self._session.save()

    def reopen(self) -> bool:
        """Go on with a run that was closed, from where it ended, and return whether that is so; never raises.

        Another training may have taken its folder meanwhile: that is said.
        """
        with self._lock:
            if not self._is_closed:
                return True
            try:
                self._open_again()
            except Exception as error:
                said(self._say, f"This training is not watched, as the run cannot be continued: {in_words(error)}")
                return False
            return True

    def __enter__(self) -> "Watch":
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        if error is None:
            self.close()
        elif isinstance(error, KeyboardInterrupt):
            self.interrupt()
        else:
            self.fail(error)

    # What follows is for the watch itself.

    def _real(self, name: str) -> "GivenImages":
        if self._evaluator is None:
            raise UserError(name, "no real images were given to split", "Give real and latents to the watch")
        return self._evaluator.given

    def _given(self, path: Path, real: Any, latents: tuple[int, ...], recipe: Recipe) -> "GivenImages | None":
        if real is None:
            return None
        from equipoise.watch.images import given_images, summary_of_given

        given = given_images(real, latents, recipe, self._stage, path)
        said(self._say, summary_of_given(given, real))
        return given

    def _begin(
        self, recipe: Recipe, data: DataRecord, given: "GivenImages | None", generate: "Generate | None"
    ) -> None:
        """Set everything to the state that the run begins with, or goes on from."""
        self._monitor = Monitor(recipe.stopping, recipe.budget, data.metrics)
        self._session = Session(self._run, recipe, self._monitor, self._say)
        before = self._run.read_state()
        self._session.writer.attempt("environment.json", lambda: self._run.write_environment(environment()))
        if not self._session.resume():
            self._session.save()
        elif before.status == "finished" and before.test is not None:
            self._before = before
        if given is not None:
            from equipoise.watch.evaluating import Evaluator
            from equipoise.watch.images import keep_encoder

            self._session.writer.attempt("encoder.safetensors", lambda: keep_encoder(self._run, given))
            timeout = recipe.evaluation.timeout
            session = self._session
            self._evaluator = Evaluator(
                self._run, self._monitor, given, generate, timeout, session.event, session.keeper
            )
            with session.going_on("the baselines"):
                self._evaluator.judge_rivals()

    def _taken_in(self, take: Callable[[], bool], kind: EventKind) -> bool:
        """Take a score in: a mistake is raised where it is the first; all else that goes wrong is an event."""
        try:
            is_best = take()
        except UserError as error:
            if not self._has_scored:
                raise
            failure = str(error)
        except BaseException as error:  # neither an evaluation nor a score may end a training
            if is_for_the_loop(error):
                raise
            failure = in_words(error)
        else:
            self._has_scored = True
            return is_best
        self._has_scored = True
        with self._session.going_on("a score"):
            self._session.event(kind, failure)
            self._failed(failure, 1.0 if self._evaluator is not None else self._session.waited)
        return False

    def _score(self, keep: Any, numbers: Mapping[str, float | None]) -> bool:
        if self._evaluator is not None:
            raise UserError("score()", "the watch has real images and takes its own scores", "Use evaluate(generator)")
        content = self._content(keep)
        seconds = self._session.waited
        if self._has_scored:
            numbers, mistakes = without_odd_ones(self.metric, numbers)
            for mistake in mistakes:
                self._session.event_once(f"score: {mistake.subject}", "ignored", f"in a score: {mistake}")
        found = score_of(self.metric, numbers, self.samples, seconds, self._protocol)
        best = self._monitor.best
        if best is not None and best.protocol != found.protocol:
            problem = f"the scores so far are of another protocol ({best.protocol}), so they are not comparable"
            raise UserError("score()", problem, "Use the same protocol= for the whole run")
        if not found.is_finite:
            failure = f"{self.metric} is {found.loss}"
            self._session.event("no score", f"{failure}: it counts as no improvement")
            return self._failed(failure, seconds)
        self._session.note_error(found)
        is_best = self._session.keeper.take(found, content, keeps_all=False, refuses=not self._has_scored)
        return self._taken(seconds, is_best=is_best)

    def _evaluate(self, generator: Any, keep: Any) -> bool:
        evaluator = self._evaluator
        if evaluator is None:
            remedy = "Give real and latents to the watch, or take scores of your own: score()"
            raise UserError("evaluate()", "there are no real images to evaluate by", remedy)
        if not callable(generator):
            problem = f"{type(generator).__name__}; give a torch module, a Keras model or a function of latents"
            raise UserError("generator", problem)
        if keep is None and (is_module(generator) or is_keras(generator)):
            keep = generator
        content = self._content(keep)
        found = evaluator.score(generator, self.samples)
        is_copied = evaluator.like is not None
        is_best = self._session.keeper.take(found, content, keeps_all=is_copied, refuses=not self._has_scored)
        if is_best:
            evaluator.adopt(generator, self.samples)
        with self._session.going_on("a picture"):
            evaluator.snapshot(generator, self.samples)
        seconds = found.seconds
        if not found.compared_with:
            seconds *= 2  # a later one has a best generator to draw from, too
        return self._taken(seconds, is_best=is_best)

    def _content(self, keep: Any) -> Content | None:
        """Return what is to be kept; what cannot be is refused at the first score, and is an event later."""
        if keep is None:
            return None
        try:
            return content_of(keep)
        except UserError as error:
            if not self._has_scored:
                raise
            self._session.event("not kept", str(error))
            return None

    def _taken(self, seconds: float, *, is_best: bool) -> bool:
        """Do what follows a score that took so long."""
        self._before = None
        if not self._is_closed:  # a handler of a signal may have closed it meanwhile
            self._session.scored(seconds)
        return is_best

    def _failed(self, failure: str, seconds: float) -> bool:
        """Do what follows a score that came to nothing."""
        return self._taken(seconds, is_best=self._monitor.score(None, failure))

    def _open_again(self) -> None:
        with contextlib.ExitStack() as stack, in_words_of_a_watch():
            stack.enter_context(self._run.lock())
            before = self._run.read_state()
            if before.samples != self.samples:
                raise UserError(self.folder, "another training has gone on in this folder")
            self._run.tidy()
            self._open = stack.pop_all()
        self._is_closed = False
        self._selected = None
        if before.status == "finished" and before.test is not None:
            self._before = before
        self._session.go_on()

    def _end(self, status: Status, reason: StopReason | None, message: str) -> None:
        """Write how the run ended, and let go of its folder; once is enough, and nothing is raised but Ctrl-C."""
        if self._is_elsewhere():
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._closed_by = threading.get_ident()
            session = self._session
            session.halt_clock()
            try:
                session.save()
                session.is_over = True
                if status == "failed":
                    session.event("failed", message)
                state = session.standing(status=status, stop_reason=reason, message=message)
                state, self._selected = concluded(
                    self._run, state, self._evaluator, self._before, self._stage, session.event
                )
                session.writer.attempt("state.json", lambda: self._run.write_state(state))
                report = "" if session.writer.is_lost else reported(self._run, session.event)
            finally:
                with contextlib.suppress(OSError):
                    self._open.close()
            said(self._say, f"{outcome(state, self._monitor.metric.shown)} {report}")

    def _stage(self, text: str, share: float) -> None:
        if text != self._stage_said:
            self._stage_said = text
            said(self._say, f"{text} …")

    def _is_elsewhere(self) -> bool:
        """Return whether this process was forked from that of the watch, as a loader's workers are; say it once."""
        if os.getpid() == self._process:
            return False
        if not self._is_closed:
            self._is_closed = True
            said(self._say, f"A watch follows the process that made it, {self._process}, and nothing of another.")
        return True

    def _is_shut(self) -> bool:
        """Return whether another thread has closed the watch, or this is another process; raises UserError where this
        thread has closed it.

        A loop that closes its watch and goes on with it has a mistake; one whose watch is closed from outside has none.
        """
        if self._is_elsewhere():
            return True
        if not self._is_closed:
            return False
        if self._closed_by == threading.get_ident():
            raise UserError("Watch", "this watch is closed", Command("Watch", self._run.path, resume=True))
        return True


def _silent(_: str) -> None:
    """Say nothing."""
