"""A Keras 3 callback that gives a Watch every batch, has the generator evaluated, and stops the training."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from equipoise.errors import Option, UserError
from equipoise.watch.numbers import stat_names
from equipoise.watch.watch import Watch

if TYPE_CHECKING:
    from keras.callbacks import Callback
else:
    try:
        from keras.callbacks import Callback
    except ImportError:
        raise UserError("Keras", "is not installed", 'Install it: pip install "equipoise[keras]"') from None

NAMES = {"d_loss": "discriminator_loss", "g_loss": "generator_loss"}


class WatchCallback(Callback):
    """Follows a Keras model whose `train_step` trains both players, with a Watch.

    Args:
        watch: the watch; use it in a `with` block around `fit`, so that Ctrl-C ends the run in order.
        batch: real samples of a step.
        generator: the attribute of the model that is evaluated when that is due; its weights are kept by
            `save_weights`.
        metric: a number in an epoch's logs, lower is better, that scores the generator after each epoch instead.
        names: what `train_step` returns, under names of yours, to the watch's own, such as "discriminator_loss".

    Raises:
        UserError: for a name that the watch does not know.
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
        self.watch = watch
        self.batch = batch
        self.generator = generator
        self.metric = metric
        self.names = stat_names(names)
        self._num_seen = 0  # batches of this epoch

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse a model without this generator before anything is trained."""
        self._generator()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count the batches from the beginning."""
        self._num_seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Give the step to the watch, have the generator evaluated if that is due, and stop by the verdict."""
        stats = {self.names[name]: value for name, value in (logs or {}).items() if name in self.names}
        num = batch + 1 - self._num_seen  # several with steps_per_execution
        self._num_seen = batch + 1
        self.watch.step(num * self.batch, **stats)
        if self.metric is None and self.watch.is_evaluation_due:
            self.watch.evaluate(self._generator())
        self._heed()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Score the generator by a number of the epoch's logs, if there is one to be scored by."""
        if self.metric is None:
            return
        logged = logs or {}
        if self.metric not in logged:
            found = ", ".join(sorted(logged)) or "nothing"
            raise UserError(Option("metric", self.metric), f"is not in the logs of the epoch; found: {found}")
        self.watch.score(keep=self._generator(), **{self.watch.metric: float(logged[self.metric])})
        self._heed()

    def on_train_end(self, logs: Any = None) -> None:
        """End the run: test, report."""
        self.watch.close()

    def _heed(self) -> None:
        if self.watch.verdict is not None:
            self.model.stop_training = True  # pyright: ignore[reportOptionalMemberAccess]: Keras sets it first

    def _generator(self) -> Any:
        with contextlib.suppress(AttributeError):
            return getattr(self.model, self.generator)
        problem = f"{type(self.model).__name__} has no such attribute; name the one that holds the generator"
        raise UserError(Option("generator", self.generator), problem)
