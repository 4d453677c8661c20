"""A Keras 3 callback that gives a Watch every batch, has the generator evaluated, and stops the training."""

import contextlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from equipoise.errors import Option, UserError
from equipoise.integrations.given import generator_at, refuse_metric
from equipoise.watch.numbers import stat_names, whole
from equipoise.watch.watch import Watch

if TYPE_CHECKING:
    from keras.callbacks import Callback
else:
    try:
        from keras.callbacks import Callback
    except ImportError:
        raise UserError("Keras", "is not installed", 'Install it: pip install "equipoise[keras]"') from None

NAMES = {"d_loss": "discriminator_loss", "g_loss": "generator_loss"}
NUM_BAD_EPOCHS = 3  # that begin with no number, and the weights are lost


class WatchCallback(Callback):
    """Follows a Keras model whose `train_step` trains both players, with a Watch.

    A second `fit` goes on with the same run. In a `with` block of the watch the run ends with the block, else with each
    `fit`. Nothing that fails in following the training ends it; mistakes are refused in its first step.

    Args:
        watch: the watch; use it in a `with` block around `fit`, so that Ctrl-C ends the run in order.
        batch: real samples of a step.
        generator: the attribute of the model that is evaluated when that is due; its weights are kept by
            `save_weights`.
        metric: a number in an epoch's logs, lower is better, that scores the generator after each epoch instead.
        names: what `train_step` returns, under names of yours, to the watch's own, such as "discriminator_loss".

    Raises:
        UserError: for a metric where the watch has real images, for a name that the watch does not know, and for a
            batch that is no whole number.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        batch: int,
        generator: str = "generator",
        metric: str | None = None,
        names: Mapping[str, str] = NAMES,
    ) -> None:
        super().__init__()
        refuse_metric(watch, metric)
        self.watch = watch
        self.batch = whole("batch", batch)
        self.generator = generator
        self.metric = metric
        self.names = stat_names(names)
        self._num_seen = 0  # batches of this epoch
        self._has_scored = False
        self._hidden: set[str] = set()  # running means that are no numbers any more until the epoch ends
        self._num_bad_epochs: dict[str, int] = {}  # in a row that began with no number, by name

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse a model without this generator before anything is trained; go on with a run that has ended."""
        generator_at(self.model, self.generator)
        self.watch.reopen()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count the batches from the beginning."""
        self._num_seen = 0
        self._hidden = set()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Give the step to the watch, have the generator evaluated if that is due, and stop by the verdict."""
        if self.watch.is_closed:
            return
        num = batch + 1 - self._num_seen  # several with steps_per_execution
        stats = self._stats(logs or {}, is_first=self._num_seen == 0)
        self._num_seen = batch + 1
        self.watch.step(num * self.batch, **stats)
        if self.metric is None and self.watch.is_evaluation_due:
            self.watch.evaluate(self._generator())
        self._heed()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Score the generator by a number of the epoch's logs, if there is one to be scored by."""
        if self.metric is None or self.watch.is_closed:
            return
        logged = logs or {}
        if self.metric in logged:
            self.watch.score(keep=self._generator(), **{self.watch.metric: logged[self.metric]})
            self._has_scored = True
        elif not self._has_scored and not self._is_validated_later(logged):
            found = ", ".join(sorted(logged)) or "nothing"
            raise UserError(Option("metric", self.metric), f"is not in the logs of the epoch; found: {found}")
        self._heed()

    def on_train_end(self, logs: Any = None) -> None:
        """End the run, unless a `with` block will: test, report."""
        if self.watch.is_entered:
            self.watch.pause()
        else:
            self.watch.close()

    def _is_validated_later(self, logged: Mapping[str, Any]) -> bool:
        """Return whether the metric may come with a validation of another epoch (`validation_freq`)."""
        return str(self.metric).startswith("val_") and not any(name.startswith("val_") for name in logged)

    def _stats(self, logged: Mapping[str, Any], *, is_first: bool) -> dict[str, Any]:
        """Return the numbers of a step by the watch's names.

        A mean over the epoch so far is no number any more once one batch was none. What that says of the batches after
        it is not known, so it counts once. If three epochs in a row begin so, it counts at every step.
        """
        found = {}
        for theirs, ours in self.names.items():
            if theirs not in logged or theirs in self._hidden:
                continue
            found[ours] = logged[theirs]
            if not self._is_running_mean(theirs):
                continue
            is_bad = not _is_finite(logged[theirs])
            if is_first:
                self._num_bad_epochs[theirs] = self._num_bad_epochs.get(theirs, 0) + 1 if is_bad else 0
            if is_bad and self._num_bad_epochs.get(theirs, 0) < NUM_BAD_EPOCHS:
                self._hidden.add(theirs)
        return found

    def _is_running_mean(self, name: str) -> bool:
        """Return whether a number in the logs is, or may be, what a metric of the model has added up in this epoch."""
        own = [one.name for one in getattr(self.model, "metrics", []) if one.name != "loss" or name == "loss"]
        return name in own or any(one not in self.names for one in own)

    def _heed(self) -> None:
        if self.watch.verdict is not None:
            self.model.stop_training = True  # pyright: ignore[reportOptionalMemberAccess]: Keras sets it first

    def _generator(self) -> Any:
        """Return the generator, None where it is gone by now: the watch makes an event of that."""
        with contextlib.suppress(UserError):
            return generator_at(self.model, self.generator)
        return None


def _is_finite(value: Any) -> bool:
    """Return whether a number is finite; what is none at all is for the watch to refuse."""
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, RuntimeError):
        return True
