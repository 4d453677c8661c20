"""Fields of nested dataclasses and structs: their types, values from text, and what is no field of them.

It knows nothing of recipes, and imports no torch.
"""

import dataclasses
import math
import re
import types
import typing
from typing import Annotated, Any, Literal

import msgspec

from equipoise.errors import LONGEST, Setting, UserError, listed, shortened, suggested
from equipoise.sizes import GivenSize, parsed_size


def is_group(value: Any) -> bool:
    """Return whether a value has fields of its own."""
    return dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct)


def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of a group's fields, by their names."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: hint for name, hint in hints.items() if not name.startswith("_")}


def replaced(node: Any, key: str, value: Any) -> Any:
    """Return a group with another value of a field."""
    if isinstance(node, msgspec.Struct):
        return msgspec.structs.replace(node, **{key: value})
    return dataclasses.replace(node, **{key: value})


def parsed(text: str, kind: Any, path: str) -> Any:
    """Return a text as a value of a type; raises UserError that names the field."""
    subject = Setting(path, shortened(text))
    value: Any = text
    if kind == GivenSize | None and text.lower() != "none":
        return parsed_size(text, subject)
    if typing.get_origin(kind) is tuple:
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif type(None) in typing.get_args(kind) and text.lower() == "none":
        value = None
    try:
        value = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        if choices := _choices(kind):
            raise UserError(subject, f"allowed are {listed(choices)}", *suggested(text, choices)) from None
        raise UserError(subject, plain(str(error))) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(subject, "must be a finite number")
    return value


def _choices(kind: Any) -> list[str]:
    """Return the words a Literal allows, wherever it hides inside Optional, tuple or Annotated."""
    if typing.get_origin(kind) is Literal:
        return [str(choice) for choice in typing.get_args(kind)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, Annotated):
        return [choice for part in typing.get_args(kind) for choice in _choices(part)]
    return []


def leaves(values: Any, prefix: str = "") -> typing.Iterator[tuple[str, Any]]:
    """Yield the dotted names of all single values in nested dicts, and the values."""
    if not isinstance(values, dict):
        yield prefix, values
        return
    for key, value in values.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else key)


def values_of(group: Any, prefix: str = "") -> typing.Iterator[tuple[str, Any]]:
    """Yield the dotted names of all single values of a group, also of those that a file left out, and the values."""
    for name in hints_of(type(group)):
        value = getattr(group, name)
        if is_group(value):
            yield from values_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def refuse_unknown_keys(values: Any, kind: Any, prefix: str) -> None:
    """Raise UserError for a key that a dataclass, or a tagged struct, does not have."""
    if isinstance(values, dict) and typing.get_origin(kind) is types.UnionType:  # a task: its tag says which
        named = {type_.__struct_config__.tag: type_ for type_ in typing.get_args(kind) if is_struct(type_)}
        kind = named.get(str(values.get("kind")))
        values = {name: value for name, value in values.items() if name != "kind"}
    if not isinstance(values, dict) or not (dataclasses.is_dataclass(kind) or is_struct(kind)):
        return
    hints = hints_of(typing.cast(type, kind))
    for key, value in values.items():
        if key not in hints:
            problem = f'there is no field "{prefix}{shortened(str(key))}"'
            raise UserError("recipe", problem, *suggested(str(key), hints))
        refuse_unknown_keys(value, hints[key], f"{prefix}{key}.")


def is_struct(kind: Any) -> bool:
    """Return whether a type is a struct."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def plain(message: str) -> str:
    """Turn a msgspec message into words: types by their plain names, the field by its path."""
    for python, plain in (("`int`", "a whole number"), ("`float`", "a number"), ("`bool`", "true or false")):
        message = message.replace(python, plain)
    message = re.sub(r"`str` matching regex '\^\(auto\|.*\\Z'", "auto, cpu, mps, cuda or cuda:N", message)
    message = message.replace("`str`", "text").replace(" - at `$.", " at `").replace("`null`", "none")
    message = re.sub(r"^Expected", "expected", message)
    if len(message) <= 2 * LONGEST:
        return message
    return f"{message[:LONGEST]} … {message[-LONGEST:]}"


def is_text(value: str) -> bool:
    """Return whether a text can be written in UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
