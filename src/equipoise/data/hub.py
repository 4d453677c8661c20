"""Datasets of the hub, by the datasets library."""

from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.decode import BrokenImage
from equipoise.data.listing import Source, SourceImages, capped, read_file_in, source_of, subject_of
from equipoise.errors import UserError, listed


def open_hub(name: str) -> Source:
    """Find a dataset of the hub with a column of images; raises UserError."""
    subject = subject_of(f"hub:{name}")
    if not name.strip():
        raise UserError(subject, "the name is missing", "Give one, such as hub:cifar10")
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            subject, "needs the datasets package", 'Install it: pip install "equipoise[datasets]"'
        ) from None
    try:
        loaded: Any = datasets.load_dataset(name)
    except Exception as error:  # network, permission, unknown name: its first line says which
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(subject, f"cannot be loaded ({reason[:200]})") from None
    if hasattr(loaded, "keys"):  # several splits: the training one, else the first
        split = "train" if "train" in loaded else next(iter(loaded.keys()))
        loaded = loaded[split]
    features = loaded.features
    column = next((key for key, feature in features.items() if isinstance(feature, datasets.Image)), None)
    if column is None:
        raise UserError(subject, f"no column of images; it has {listed(features)}")
    label = next((key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)), None)
    encoded = loaded.cast_column(column, datasets.Image(decode=False))

    def load() -> SourceImages:
        names = [f"row {index}" for index in range(len(encoded))]

        def read(index: int) -> bytes:
            return _hub_bytes(encoded[index][column])

        if label is None:
            return SourceImages(names, read)
        labels = np.array(loaded[label], dtype=np.int64)
        if (labels < 0).any():  # -1 stands for an unknown class
            return SourceImages(names, read)
        return SourceImages(names, read, labels, tuple(map(str, features[label].names)))

    version = getattr(loaded, "_fingerprint", "")
    return source_of(f"hub:{name}", f"hub:{name} {version} {len(loaded)} {column} {label}", load)


def _hub_bytes(value: dict[str, Any] | None) -> bytes:
    if value and value.get("bytes"):
        return capped(value["bytes"])
    if value and value.get("path"):
        return read_file_in(Path(), value["path"])
    raise BrokenImage("no image in this row")
