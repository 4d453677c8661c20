"""A Lightning callback that tells a Watch of every step, has the generator scored, and stops the trainer."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from equipoise.errors import UserError
from equipoise.watch.meter import signal_names
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
            raise UserError('Lightning is not installed. Try: pip install "equipoise[lightning]"') from None

NAMES = {"d_loss": "discriminator_loss", "g_loss": "generator_loss"}


class WatchCallback(Callback):
    """Follows a GAN in manual optimization with a Watch, in one process.

    Every step's signals are taken from what `training_step` returns (a dict) or logs, under the watch's own names or
    those in `names` (theirs to the watch's). The generator, an attribute of the module (`generator`, also dotted), is
    judged by the watch when that is due; with `metric`, the name of a logged number of which lower is better, it is
    scored by that after each validation instead.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        generator: str = "generator",
        metric: str | None = None,
        names: Mapping[str, str] = NAMES,
    ) -> None:
        """Follow with this watch; raises UserError for a name that the watch does not know."""
        super().__init__()
        self.watch = watch
        self.generator = generator
        self.metric = metric
        self.names = signal_names(names)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse several processes, and a module without this generator, before anything is trained."""
        if trainer.world_size > 1:
            raise UserError(f"WatchCallback: {trainer.world_size} processes train; a watch follows one. Try: devices=1")
        self._generator_of(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Tell of the step, have the generator judged if that is due, and stop the trainer by the verdict."""
        self.watch.step(_num_samples(batch), **self._signals(trainer, outputs))
        if self.metric is None and self.watch.is_judging_due:
            self.watch.judge(self._generator_of(pl_module))
        self._heed(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Score the generator by the logged number, if there is one to be scored by."""
        if self.metric is None or trainer.sanity_checking:
            return
        logged = trainer.callback_metrics
        if self.metric not in logged:
            found = ", ".join(sorted(logged)) or "nothing"
            raise UserError(f'WatchCallback: metric="{self.metric}" was not logged in the validation; found: {found}')
        number = {self.watch.metric: float(logged[self.metric])}
        self.watch.score(keep=self._generator_of(pl_module), **number)
        self._heed(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run for now: as interrupted, or as failed."""
        if isinstance(exception, KeyboardInterrupt):
            self.watch.interrupt()
        else:
            self.watch.fail(exception)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run: test, report."""
        self.watch.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the watch's state, which Lightning puts into its checkpoints."""
        return self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state back that lay in a checkpoint; the watch must be one with `resume=True`, or new."""
        self.watch.load_state_dict(state_dict)

    def _heed(self, trainer: Any) -> None:
        if self.watch.verdict:
            trainer.should_stop = True

    def _signals(self, trainer: Any, outputs: Any) -> dict[str, Any]:
        """Return the signals of this step by the watch's names: returned ones first, then logged ones."""
        returned = outputs if isinstance(outputs, Mapping) else {}
        logged = trainer.callback_metrics
        found = {}
        for theirs, ours in self.names.items():
            if theirs in returned:
                found[ours] = returned[theirs]
            elif theirs in logged and ours not in found:
                found[ours] = logged[theirs]
        return found

    def _generator_of(self, pl_module: Any) -> Any:
        found = pl_module
        with contextlib.suppress(AttributeError):
            for part in self.generator.split("."):
                found = getattr(found, part)
            return found
        raise UserError(
            f'WatchCallback: {type(pl_module).__name__} has no attribute "{self.generator}". '
            'Try: WatchCallback(watch, generator="net_g")'
        )


def _num_samples(batch: Any) -> int:
    """Return the length of the first tensor in a batch, however it is nested."""
    if hasattr(batch, "shape") and len(batch.shape):
        return int(batch.shape[0])
    parts: Sequence[Any] = list(batch.values()) if isinstance(batch, Mapping) else batch
    if isinstance(parts, Sequence) and not isinstance(parts, str):
        for part in parts:
            if num := _num_samples(part):
                return num
    return 0
