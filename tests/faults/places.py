"""Places in the package by their names, and what stands there for a while instead."""

import importlib
from typing import Any


def replace_in_package(place: str, value: Any) -> Any:
    """Put a value in place of `module.name` of the package, which must be there, and return what was there."""
    holder, name = holder_of(place)
    before = getattr(holder, name)
    setattr(holder, name, value)
    return before


def holder_of(place: str) -> tuple[Any, str]:
    """Return the module or the class of the package that holds `module.name` or `module.Class.name`, and that name."""
    above, _, name = place.rpartition(".")
    module, _, last = above.rpartition(".")
    if last[:1].isupper():
        return getattr(importlib.import_module(f"equipoise.{module}"), last), name
    return importlib.import_module(f"equipoise.{above}"), name
