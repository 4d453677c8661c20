"""A Lightning callback that gives a Watch every step, has the generator evaluated, and stops the trainer."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from equipoise.errors import Option, UserError
from equipoise.watch.numbers import stat_names
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

    Args:
        watch: the watch.
        generator: the attribute of the module (also dotted) that is evaluated when that is due.
        metric: a logged number, lower is better, that scores the generator after each validation instead.
        names: what `training_step` returns (a dict) or logs, under names of yours, to the watch's own, such as
            "discriminator_loss".

    Raises:
        UserError: for a name that the watch does not know.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        generator: str = "generator",
        metric: str | None = None,
        names: Mapping[str, str] = NAMES,
    ) -> None:
        super().__init__()
        self.watch = watch
        self.generator = generator
        self.metric = metric
        self.names = stat_names(names)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse several processes, and a module without this generator, before anything is trained."""
        if trainer.world_size > 1:
            problem = f"{trainer.world_size} processes train, and a watch follows one"
            raise UserError("WatchCallback", problem, Option("devices", 1))
        self._generator_of(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Give the step to the watch, have the generator evaluated if that is due, and stop by the verdict."""
        self.watch.step(_num_samples(batch), **self._stats(trainer, outputs))
        if self.metric is None and self.watch.is_evaluation_due:
            self.watch.evaluate(self._generator_of(pl_module))
        self._heed(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Score the generator by the logged number, if there is one to be scored by."""
        if self.metric is None or trainer.sanity_checking:
            return
        logged = trainer.callback_metrics
        if self.metric not in logged:
            found = ", ".join(sorted(logged)) or "nothing"
            raise UserError(Option("metric", self.metric), f"was not logged in the validation; found: {found}")
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
        if self.watch.verdict is not None:
            trainer.should_stop = True

    def _stats(self, trainer: Any, outputs: Any) -> dict[str, Any]:
        """Return the numbers of this step by the watch's names: returned ones first, then logged ones."""
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
        problem = f"{type(pl_module).__name__} has no such attribute; name the one that holds the generator"
        raise UserError(Option("generator", self.generator), problem)


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
