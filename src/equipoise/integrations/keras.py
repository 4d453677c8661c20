"""A Keras 3 callback that tells a Watch of every batch, has the generator scored, and stops the training."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from equipoise.errors import UserError
from equipoise.watch.meter import signal_names
from equipoise.watch.watch import Watch

if TYPE_CHECKING:
    from keras.callbacks import Callback
else:
    try:
        from keras.callbacks import Callback
    except ImportError:
        raise UserError('Keras is not installed. Try: pip install "equipoise[keras]"') from None

NAMES = {"d_loss": "discriminator_loss", "g_loss": "generator_loss"}


class WatchCallback(Callback):
    """Follows a Keras model whose `train_step` trains both players, with a Watch.

    Signals are taken from what `train_step` returns, under the watch's own names or those in `names` (theirs to the
    watch's); `batch` is the number of real samples a step. The generator, an attribute of the model, is judged by the
    watch when that is due; with `metric`, the name of a number in an epoch's logs of which lower is better, it is
    scored by that after each epoch instead. The best weights are kept by `save_weights`.
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
        """Follow with this watch; raises UserError for a name that the watch does not know."""
        super().__init__()
        self.watch = watch
        self.batch = batch
        self.generator = generator
        self.metric = metric
        self.names = signal_names(names)
        self._num_told = 0  # batches of this epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count the batches anew."""
        self._num_told = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse a model without this generator before anything is trained."""
        self._generator()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tell of the step, have the generator judged if that is due, and stop by the verdict."""
        signals = {self.names[name]: value for name, value in (logs or {}).items() if name in self.names}
        num, self._num_told = batch + 1 - self._num_told, batch + 1  # several with steps_per_execution
        self.watch.step(num * self.batch, **signals)
        if self.metric is None and self.watch.is_judging_due:
            self.watch.judge(self._generator())
        self._heed()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Score the generator by a number of the epoch's logs, if there is one to be scored by."""
        if self.metric is None:
            return
        logged = logs or {}
        if self.metric not in logged:
            found = ", ".join(sorted(logged)) or "nothing"
            raise UserError(f'WatchCallback: metric="{self.metric}" is not in the logs of the epoch; found: {found}')
        self.watch.score(keep=self._generator(), **{self.watch.metric: float(logged[self.metric])})
        self._heed()

    def on_train_end(self, logs: Any = None) -> None:
        """End the run: test, report."""
        self.watch.close()

    def _heed(self) -> None:
        if self.watch.verdict:
            self.model.stop_training = True  # pyright: ignore[reportOptionalMemberAccess]: Keras sets it first

    def _generator(self) -> Any:
        with contextlib.suppress(AttributeError):
            return getattr(self.model, self.generator)
        raise UserError(
            f'WatchCallback: {type(self.model).__name__} has no attribute "{self.generator}". '
            'Try: WatchCallback(watch, generator="net_g", batch=64)'
        )
