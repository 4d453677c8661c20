"""A Lightning callback that gives a Watch every step, has the generator evaluated, and stops the trainer."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from equipoise.errors import Option, UserError
from equipoise.integrations.batches import num_samples
from equipoise.integrations.given import generator_at, refuse_metric
from equipoise.watch.numbers import stat_names
from equipoise.watch.saying import in_words
from equipoise.watch.watch import Watch

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError:
            remedy = 'Install it: pip install "equipoise[lightning]"'
            raise UserError("Lightning", "is not installed", remedy) from None

NAMES = {"d_loss": "discriminator_loss", "g_loss": "generator_loss"}


class WatchCallback(Callback):
    """Follows a GAN in manual optimization with a Watch, in one process; the watch's state is in the checkpoints.

    A second `fit` goes on with the same run. In a `with` block of the watch the run ends with the block, else with each
    `fit`. Nothing that fails in following the training ends it; mistakes are refused in its first step.

    Args:
        watch: the watch.
        generator: the attribute of the module (also dotted) that is evaluated when that is due.
        metric: a logged number, lower is better, that scores the generator after each validation instead.
        names: what `training_step` returns (a dict) or logs, under names of yours, to the watch's own, such as
            "discriminator_loss".
        samples: a function of a batch that returns how many real samples are in it, where they cannot be counted.

    Raises:
        UserError: for a metric where the watch has real images, for a name that the watch does not know.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        generator: str = "generator",
        metric: str | None = None,
        names: Mapping[str, str] = NAMES,
        samples: Callable[[Any], int] | None = None,
    ) -> None:
        super().__init__()
        refuse_metric(watch, metric)
        self.watch = watch
        self.generator = generator
        self.metric = metric
        self.names = stat_names(names)
        self.samples = samples
        self._has_scored = False
        self._taken: dict[str, Any] = {}  # the logged numbers that were taken last: Lightning keeps old ones

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Go on with a run that an earlier `fit` has ended."""
        if stage == "fit":
            self.watch.reopen()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse several processes, and a module without this generator, before anything is trained."""
        if trainer.world_size > 1:
            problem = f"{trainer.world_size} processes train, and a watch follows one"
            raise UserError("WatchCallback", problem, Option("devices", 1))
        generator_at(pl_module, self.generator)
        self._taken = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Give the step to the watch, have the generator evaluated if that is due, and stop by the verdict."""
        if self.watch.is_closed:
            return
        self.watch.step(self._num_samples(trainer, batch), **self._stats(trainer, outputs))
        if self.metric is None and self.watch.is_evaluation_due:
            self.watch.evaluate(self._generator_of(pl_module))
        self._heed(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Score the generator by the logged number, if there is one to be scored by."""
        is_of_fit = trainer.state.fn == "fit"
        if self.metric is None or trainer.sanity_checking or self.watch.is_closed or not is_of_fit:
            return
        logged = trainer.callback_metrics
        if self.metric in logged:
            self.watch.score(keep=self._generator_of(pl_module), **{self.watch.metric: logged[self.metric]})
        elif not self._has_scored:
            found = ", ".join(sorted(logged)) or "nothing"
            raise UserError(Option("metric", self.metric), f"was not logged in the validation; found: {found}")
        else:
            self.watch.score(**{self.watch.metric: None})  # an event
        self._has_scored = True
        self._heed(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run for now: as interrupted, or as failed."""
        if isinstance(exception, KeyboardInterrupt):
            self.watch.interrupt()
        else:
            self.watch.fail(exception)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run, unless a `with` block will: test, report."""
        if self.watch.is_entered:
            self.watch.pause()
        else:
            self.watch.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the watch's state, which Lightning puts into its checkpoints."""
        return self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state back that lay in a checkpoint; the watch must be one with `resume=True`, or new."""
        if self.watch.reopen():
            self.watch.load_state_dict(state_dict)

    def _heed(self, trainer: Any) -> None:
        if self.watch.verdict is not None:
            trainer.should_stop = True

    def _num_samples(self, trainer: Any, batch: Any) -> Any:
        """Return how many samples a batch holds; whatever is no number is for the watch to refuse."""
        if self.samples is not None:
            return self._counted(batch)
        expected = getattr(trainer.train_dataloader, "batch_size", None)
        found = num_samples(batch, expected if isinstance(expected, int) else None)
        if found is None and not self.watch.samples:
            problem = f"the samples in a batch of {type(batch).__name__} cannot be counted"
            raise UserError(Option("samples"), problem, "Give a function: samples=lambda batch: len(batch.images)")
        return found

    def _counted(self, batch: Any) -> Any:
        """Return what the function of the user's counts, None where it fails later than in the first step."""
        assert self.samples is not None
        try:
            return self.samples(batch)
        except Exception as error:
            if not self.watch.samples:
                raise UserError(Option("samples"), f"the function failed ({in_words(error)})") from error
            return None

    def _stats(self, trainer: Any, outputs: Any) -> dict[str, Any]:
        """Return the numbers of this step by the watch's names: returned ones first, then those logged in this step.

        What was logged for an earlier step, or as the mean of an epoch, stays in Lightning's hands and counts once.
        """
        returned = outputs if isinstance(outputs, Mapping) else {}
        logged = trainer.callback_metrics
        found = {}
        for theirs, ours in self.names.items():
            if theirs in returned:
                found[ours] = returned[theirs]
            elif theirs in logged and ours not in found and logged[theirs] is not self._taken.get(theirs):
                found[ours] = logged[theirs]
        self._taken = {name: logged[name] for name in self.names if name in logged}
        return found

    def _generator_of(self, pl_module: Any) -> Any:
        """Return the generator, None where it is gone by now: the watch makes an event of that."""
        with contextlib.suppress(UserError):
            return generator_at(pl_module, self.generator)
        return None
