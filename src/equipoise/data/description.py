"""What a run writes down of its images, so that a resume can find them again and a generator be built without them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from equipoise.data.pool import Pool
from equipoise.errors import UserError
from equipoise.recipe import Size
from equipoise.storage.safe_open import writable_text


class Description(msgspec.Struct, frozen=True):
    """What is taken back of it, as far as something is made of that."""

    digest: str
    size: Size
    channels: Literal[1, 3]
    classes: tuple[str, ...]
    path: str | None = None
    class_counts: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()


def describe(pool: Pool, source: str) -> dict[str, Any]:
    """Return what a run writes down of its images, as plain values."""
    is_path = source != "mnist" and not source.startswith("hub:")
    counts = [] if pool.labels is None else np.bincount(pool.labels[pool.splits.train]).tolist()
    return {
        "source": source,
        "path": writable_text(str(Path(source).expanduser().resolve())) if is_path else None,
        "digest": pool.digest,
        "size": pool.images.shape[2],
        "channels": pool.images.shape[1],
        "classes": [writable_text(name) for name in pool.classes],
        "class_counts": counts,
        "num_train": len(pool.splits.train),
        "num_validation": len(pool.splits.validation),
        "num_test": len(pool.splits.test),
        "num_duplicates": pool.num_duplicates,
        "rejected": [{"name": writable_text(item.name), "reason": item.reason} for item in pool.rejected],
    }


def described(values: Mapping[str, Any], path: Path) -> Description:
    """Take back what was written down in the file at `path`; raises UserError where that is gone or damaged."""
    try:
        return msgspec.convert(values, Description)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: gone or damaged ({error}). Restore it from a copy.") from None
