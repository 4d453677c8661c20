"""Evaluating a custom loop's generators with its real images, each beside a copy of the best one so far."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from equipoise.errors import UserError
from equipoise.evaluation.evaluate import Contender, evaluate
from equipoise.evaluation.finish import Ending, Findings, conclude
from equipoise.evaluation.rivals import rivals_once
from equipoise.evaluation.scoring import write_snapshot
from equipoise.evaluation.selection import candidates_to_score_again
from equipoise.host.deadline import Deadline
from equipoise.metrics.feature_judge import FeatureJudge
from equipoise.runs.candidates import copying, find, holds, is_intact, promote
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.files import readable
from equipoise.storage.records import Score
from equipoise.watch.generators import Draw, Generate, copied, drawing, num_untrained_in_keras
from equipoise.watch.images import NUM_TRIED, GivenImages
from equipoise.watch.keeping import Content, Event, Keeper, is_keras, is_module
from equipoise.watch.modules import num_untrained_statistics, refuse_sharded, refuse_without_weights
from equipoise.watch.saying import in_words
from equipoise.watch.torch_settings import usual_settings

LOOKS = (1, 3, 10)  # evaluations at which the range of generated images is looked at, until one is doubtful
NOT_EVALUATED = (
    "No generator was evaluated after the resume, so the best one could not be loaded: call evaluate(generator) once "
    "before the watch is closed."
)
FUNCTION = (
    "The generator is a function, which cannot be copied, so only its score is left. Give evaluate a torch module or a "
    "Keras model."
)
NEVER_UPDATED = (
    "the batch statistics of this generator are as they began, mean 0 and variance 1, in all of its {num} batch norms, "
    "so its images are not what training saw. An average of weights needs statistics of its own: "
    "torch.optim.swa_utils.update_bn, or AveragedModel(..., use_buffers=True); in an average of yours, copy the buffers"
)
NOT_DRAWN = (
    "the generator failed on latents {shape}: {error}. If it takes others, give latents= their size or shape; if it "
    "takes more, say how: generate=lambda generator, latents: generator(latents, …)"
)
LOST = "The best generator's weights are missing, damaged, or of another network than the one evaluated last."


class NotDrawnError(Exception):
    """A generator failed at its first images."""


@dataclass
class Evaluator:
    """Scores generators under one protocol; `run` and `monitor` are the watch's own."""

    run: RunFolder
    monitor: Monitor
    given: GivenImages
    generate: Generate | None
    timeout: float
    event: Event
    keeper: Keeper
    best: Contender | None = None  # a copy of the best generator
    like: Any = None  # the module or Keras model that was evaluated last: kept weights are loaded into its copy
    has_evaluated: bool = False
    has_warned: bool = False  # of batch statistics that were never updated
    num_evaluations: int = 0  # of this session
    has_doubted: bool = False  # that the range of the images is the right one: once is enough

    @cached_property
    def judge(self) -> FeatureJudge:
        """The judge by the first half of the validation images."""
        found = self.given.judge("validation")
        assert found is not None, "images enough were held out"
        return found

    @usual_settings()
    def judge_rivals(self) -> None:
        """Judge floor and ceiling under the watch's protocol, unless that was done before."""
        rivals_once(self.run, self.given, self.judge, self.timeout, lambda text: self.event("baseline failed", text))

    @usual_settings()
    def score(self, generator: Any, samples: int) -> Score:
        """Score a generator beside the best one; raises UserError for images that do not fit, and what drawing raises.

        Where the judge's protocol is not that of the scores so far, the candidates are scored again before.
        """
        if is_module(generator):
            refuse_sharded(generator)
            refuse_without_weights(generator)
        self.has_evaluated = True
        self.like = None
        if is_module(generator) or is_keras(generator):
            self.like = generator
            if samples:
                self._warn_of_statistics(generator)
        draw = drawing(generator, self.generate)
        self._look_at(draw)
        self._adopt_protocol()
        self._recall_best()
        return self._score(draw, samples)

    def _look_at(self, draw: Draw) -> None:
        """Refuse images that cannot be meant, before the first score; say once what is only doubtful."""
        self.num_evaluations += 1
        is_first = self.monitor.last is None
        is_looked_at = self.num_evaluations in LOOKS and not self.has_doubted
        if not is_first and not is_looked_at:
            return
        try:
            images = self.given.tried(draw)
        except UserError:
            raise
        except Exception as error:
            raise NotDrawnError(
                NOT_DRAWN.format(error=in_words(error), shape=[NUM_TRIED, *self.given.latents])
            ) from error
        if is_first:
            self.given.refuse_misfit(images)
        doubt = None
        if is_looked_at:  # the first ones may have little contrast, which later ones have not
            doubt = self.given.doubt(images, is_early=self.num_evaluations == LOOKS[0])
        if doubt is not None:
            self.has_doubted = True
            self.event("doubtful images", doubt)

    def adopt(self, generator: Any, samples: int) -> None:
        """Make a copy of this generator the best one; one that cannot be copied leaves none."""
        draw = copied(generator, self.generate)
        self.best = None
        if draw is not None:
            self.best = Contender(draw, samples)

    def load(self, folder: Path) -> Draw | None:
        """Return the generator whose weights lie in a folder, in a copy of the one evaluated last; None if that fails.

        There is none to copy before the first of a session was evaluated.
        """
        if self.like is None:
            return None
        return copied(self.like, self.generate, folder)

    @usual_settings()
    def snapshot(self, generator: Any, samples: int) -> None:
        """Write a picture of fixed latents if one is due; failing at it costs the picture alone."""
        write_snapshot(self.given, drawing(generator, self.generate), self.run, samples, self.event)

    @usual_settings()
    def conclude(self, stage: Callable[[str, float], None], *, is_final: bool) -> tuple[Findings, str | None]:
        """Select, show and test the best generator; also return why it was not tested, if it should have been."""
        ending = Ending(self.run, self.given, self.monitor, self.load, self.timeout, self.event, stage)
        found = conclude(ending, self._selected, is_final=is_final)
        if not is_final or self.monitor.best is None or found.test is not None:
            return found, None
        why = " ".join(found.failures)
        if not why:
            why = self._why_not_loaded()
            self.event("not tested", why)
        if found.selection is None and self.like is None:
            found.not_selected = why
        return found, why

    def _warn_of_statistics(self, generator: Any) -> None:
        """Say once that batch norms of a generator are as they began: an average of weights has to bring its own."""
        count = num_untrained_in_keras if is_keras(generator) else num_untrained_statistics
        num = count(generator)
        if num and not self.has_warned:
            self.has_warned = True
            self.event("statistics never updated", NEVER_UPDATED.format(num=num))

    def _score(self, draw: Draw, samples: int) -> Score:
        contender = Contender(draw, samples)
        return evaluate(self.given, self.judge, contender, self.best, Deadline(self.timeout)).score

    def _adopt_protocol(self) -> None:
        before = self.monitor.state_dict()
        best = self.monitor.best
        kept = candidates_to_score_again(self.run, self.monitor, self.judge, self.event)
        if not kept:
            return
        self.best = None
        try:
            for score, folder in kept:
                if folder is not None:
                    self._score_again(folder, score.samples)
        except BaseException:  # Ctrl-C, or a full disk: all of it is done again
            self.monitor.load_state_dict(before)
            place = find(self.run, best) if best is not None else None
            if place is not None:
                promote(self.run, place)
            raise

    def _score_again(self, folder: Path, samples: int) -> None:
        draw = self.load(folder)
        if draw is None:
            return
        try:
            score = self._score(draw, samples)
        except Exception as error:  # as in every evaluation, nothing may end the training
            text = f"the generator of {samples:,} samples: {type(error).__name__}: {error}"
            self.event("evaluation failed", text)
            return
        if self.keeper.take(score, Content(copying(folder)), keeps_all=True):
            self.best = Contender(draw, samples)

    def _recall_best(self) -> None:
        """Load the best generator if it is not in memory."""
        best = self.monitor.best
        if best is None or (self.best is not None and self.best.samples == best.samples):
            return
        self.best = None
        folder = find(self.run, best)
        if folder is None:
            return
        draw = self.load(folder)
        if draw is not None:
            self.best = Contender(draw, best.samples)

    def _selected(self) -> tuple[Draw, Score] | None:
        """Return the generator in `best/` with its score, None if it is no candidate, or cannot be had."""
        folder = readable(self.run.best)
        known = [score for score in self.monitor.candidates if holds(folder, score)]
        if not known or not is_intact(self.run, folder):
            return None
        if self.best is not None and self.best.samples == known[0].samples:
            return self.best.generator, known[0]
        draw = self.load(folder)
        return None if draw is None else (draw, known[0])

    def _why_not_loaded(self) -> str:
        if not self.has_evaluated:
            return NOT_EVALUATED
        return FUNCTION if self.like is None else LOST
