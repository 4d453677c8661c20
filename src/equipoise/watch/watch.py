"""A watch for a training loop that Equipoise did not write.

It is given every step, evaluates the generator or takes the loop's own scores, says in plain words how the game is
going, says when to stop and why, keeps the best generator, and writes a run folder with a report. It imports torch only
to evaluate images, and where it is given logits for each sample.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from equipoise import formatting
from equipoise.errors import Command, UserError
from equipoise.recipe import LossName, PolicyName, Recipe
from equipoise.report.report import write_report
from equipoise.runs.candidates import find, promote
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Stop
from equipoise.storage.records import DataRecord, RunState, Score, Status, StopReason
from equipoise.watch.keeping import filler, is_keras, is_module, take
from equipoise.watch.numbers import score_of, step_numbers, whole
from equipoise.watch.session import Session
from equipoise.watch.settings import (
    data_of,
    environment,
    in_words_of_a_watch,
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

SELF_SCORED = (
    "The loop took its own scores, so no generator was evaluated again: the one with the lowest score is kept."
)


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
        budget: str | None = None,
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
        self.metric = "kid" if real is not None else metric or "loss"
        self._loss: LossName | None = loss
        self._say = say or _silent
        self._stage_said = ""
        self._selected: Score | None = None  # at the end
        self._evaluator: Evaluator | None = None
        self._before: RunState | None = None  # an end of the run, as long as no score has followed it
        self._is_closed = False
        recipe = recipe_of(loss, budget, policy, settings, evaluate_every, log_every, seed, has_images=real is not None)
        path = Path(folder)
        with in_words_of_a_watch():
            refuse_unfit(path, self.metric, resume=resume)
        self._protocol = protocol or f"of the loop of {path.resolve().name}"
        given = self._given(real, latents, recipe)
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
                torchvision's `ImageFolder` or a part of one, or a loader. By paths where there are any, else by
                content: also images that were resized or saved again are found, but not augmented ones.

        Returns:
            The places of what you gave in `train`, `held_out` and `unknown`, and a `message`.

        Raises:
            UserError: where no real images were given to the watch, and for what holds no images.
        """
        from equipoise.watch.leaks import check_training

        found = check_training(self._real("check_training()"), images)
        if len(found.held_out) and not self._is_closed:
            self._session.event("trained on held-out images", found.message)
        else:
            self._say(found.message)
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
            UserError: for a name that does not exist, and for what is no number.
        """
        self._refuse_closed()
        num = whole("samples", samples)
        self._session.step(num, step_numbers(self._loss, real_logits, fake_logits, stats))

    def score(self, *, keep: Any = None, **numbers: float | None) -> bool:
        """Take in a score of your own and return whether it is the best so far; what belongs to it is then kept.

        Args:
            keep: a torch module, a dict of tensors or arrays, a Keras model, or a function that writes into the folder
                it is given.
            numbers: the deciding one, under the name `metric`: lower is better, and it is above zero, as ratios count;
                or it comes with its standard error, `<metric>_error`. Others, such as `coverage`, may be added.

        Raises:
            UserError: where the deciding number is missing or says nothing, and for what cannot be kept.
        """
        self._refuse_closed()
        if self._evaluator is not None:
            raise UserError("score()", "the watch has real images and takes its own scores", "Use evaluate(generator)")
        fill = None if keep is None else filler(keep)
        seconds = self._session.waited
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
        is_best = take(self._run, self._monitor, found, fill, self._session.event, keeps_all=False)
        return self._taken(seconds, is_best=is_best)

    def evaluate(self, generator: Any, keep: Any = None) -> bool:
        """Evaluate a generator beside the best so far, on the same latents; return whether it is the new best.

        Args:
            generator: a torch module or a Keras model, which is kept where it may be selected at the end; or a function
                of latents `[N, …]`, which cannot be copied and is compared by its score alone.
            keep: what to keep in its place, as in `score`.

        Raises:
            UserError: where no real images were given, and for images of another shape or range. Whatever else goes
                wrong is an event, and counts as no improvement.
        """
        self._refuse_closed()
        if self._evaluator is None:
            remedy = "Give real and latents to the watch, or take scores of your own: score()"
            raise UserError("evaluate()", "there are no real images to evaluate by", remedy)
        if not callable(generator):
            problem = f"{type(generator).__name__}; give a torch module, a Keras model or a function of latents"
            raise UserError("generator", problem)
        if keep is None and (is_module(generator) or is_keras(generator)):
            keep = generator
        fill = None if keep is None else filler(keep)
        try:
            found = self._evaluator.score(generator, self.samples)
        except UserError:
            raise
        except Exception as error:  # an evaluation must never end a training: the event says what went wrong
            failure = f"{type(error).__name__}: {error}"
            self._session.event("evaluation failed", failure)
            return self._failed(failure, 1.0)
        is_copied = self._evaluator.like is not None
        is_best = take(self._run, self._monitor, found, fill, self._session.event, keeps_all=is_copied)
        if is_best:
            self._evaluator.adopt(generator, self.samples)
        self._evaluator.snapshot(generator, self.samples)
        seconds = found.seconds
        if not found.compared_with:
            seconds *= 2  # a later one has a best generator to draw from, too
        return self._taken(seconds, is_best=is_best)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the watch knows, as plain JSON, for a checkpoint of your own.

        What is kept on the disk for the last two of these states stays there, so that one can go back to them.
        """
        self._session.pin()
        return self._session.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back exactly, and cut the run's logs back to it; raises UserError if it is none."""
        self._refuse_closed()
        self._session.load(state)
        self._before = None
        if self._evaluator is not None:
            self._evaluator.best = None
        self._session.pin()

    # How a run ends

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
        message = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError, UserError):  # a full disk may be what ended the loop
            self._end("failed", None, message)

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

    def _real(self, name: str) -> "GivenImages":
        if self._evaluator is None:
            raise UserError(name, "no real images were given to split", "Give real and latents to the watch")
        return self._evaluator.given

    def _given(self, real: Any, latents: Any, recipe: Recipe) -> "GivenImages | None":
        if real is None:
            return None
        from equipoise.watch.images import given_images, summary_of_given

        given = given_images(real, latents, recipe, self._stage)
        self._say(summary_of_given(given, real))
        return given

    def _begin(
        self, recipe: Recipe, data: DataRecord, given: "GivenImages | None", generate: "Generate | None"
    ) -> None:
        """Set everything to the state that the run begins with, or goes on from."""
        self._monitor = Monitor(recipe.stopping, recipe.budget, data.metrics, noun=data.noun)
        self._session = Session(self._run, recipe, self._monitor, self._say)
        before = self._run.read_state()
        self._run.write_environment(environment())
        if not self._session.resume():
            self._session.save()
        elif before.status == "finished" and before.test is not None:
            self._before = before
        if given is not None:
            from equipoise.watch.evaluating import Evaluator

            timeout = recipe.evaluation.timeout
            self._evaluator = Evaluator(self._run, self._monitor, given, generate, timeout, self._session.event)
            self._evaluator.judge_rivals()

    def _taken(self, seconds: float, *, is_best: bool) -> bool:
        """Do what follows a score that took so long."""
        self._before = None
        self._session.scored(seconds)
        return is_best

    def _failed(self, failure: str, seconds: float) -> bool:
        """Do what follows a score that came to nothing."""
        return self._taken(seconds, is_best=self._monitor.score(None, failure))

    def _end(self, status: Status, reason: StopReason | None, message: str) -> None:
        """Write how the run ended, and let go of its folder; once is enough."""
        if self._is_closed:
            return
        self._is_closed = True
        self._session.halt_clock()
        try:
            self._session.save()
            if status == "failed":
                self._session.event("failed", message)
            state = self._session.standing(status=status, stop_reason=reason, message=message)
            state = self._concluded(state)
            self._run.write_state(state)
            write_report(self._run)
        finally:
            self._open.close()
        self._say(f"{_outcome(state, self._monitor.metric.shown)} Report: {self._run.report}")

    def _concluded(self, state: RunState) -> RunState:
        """Select and test the best generator, and return the state with what was found.

        An end of before, to which no score was added, stays as it was.
        """
        if self._evaluator is None:
            return msgspec.structs.replace(state, not_selected=SELF_SCORED)
        if state.status == "failed":
            return state
        before = self._before
        if state.status == "finished" and before is not None and before.best is not None:
            folder = find(self._run, before.best)
            if folder is not None:
                promote(self._run, folder)
                self._selected = before.best
                kept = ("best", "test", "rivals", "selection", "not_selected", "not_tested")
                return msgspec.structs.replace(state, **{name: getattr(before, name) for name in kept})
        found, not_tested = self._evaluator.conclude(self._stage, is_final=state.status == "finished")
        if found.selection is not None:
            self._selected = found.selection.best.found
        return msgspec.structs.replace(
            state,
            best=self.best,
            test=found.test,
            rivals=found.rivals,
            selection=found.selection,
            not_selected=found.not_selected,
            not_tested=not_tested,
        )

    def _stage(self, text: str, share: float) -> None:
        if text != self._stage_said:
            self._stage_said = text
            self._say(f"{text} …")

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise UserError("Watch", "this watch is closed", Command("Watch", self._run.path, resume=True))


def _outcome(state: RunState, label: str) -> str:
    """Return the end of a run in a line: the best generator and its test, or why there is none."""
    if state.best is None:
        return f"{state.message} There is no best generator."
    text = f"Best: {label} {formatting.score(state.best)} after {state.best.samples:,} samples"
    if state.test is not None:
        text += f", {formatting.score(state.test)} on the test split"
    return f"{text}."


def _silent(_: str) -> None:
    """Say nothing."""
