"""What another network of the same family and width can take over of a network's weights, by the names of its tensors.

The families count channels from the pixels (`layers.stage_channels`), so at another size the stages next to the pixels
have the same shapes, and those at the lowest resolutions are others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

Tensors: TypeAlias = Mapping[str, Tensor]

FROM_LOWEST = ("upwards", "blocks", "stages", "transitions", "exits")  # lists of a generator that end at the pixels
WITH_A_LAST = ("blocks",)  # lists of a discriminator whose last entry halves nothing, whatever the size
BY_CLASS = ("embedding", "shared", "gain", "bias", "namer")  # layers with one row for each class
OWN = "own."  # the part of a discriminator beside which a projected one stands
PARAMETRIZED = ".parametrizations."  # leads the names of a layer's tensors under spectral normalisation


@dataclass(frozen=True, eq=False)
class Carried:
    """A network's tensors, some of them another one's, and of each how many of its numbers are."""

    tensors: dict[str, Tensor]
    num_taken: dict[str, int]

    def share(self, names: Iterable[str]) -> float:
        """Return which share of the numbers of these tensors is the other network's."""
        named = list(names)
        num = sum(self.tensors[name].numel() for name in named)
        return sum(self.num_taken[name] for name in named) / max(1, num)

    @property
    def has_layers(self) -> bool:
        """Whether a layer with weights between its inputs and outputs is the other network's, not of a class only."""
        return any(
            tensor.ndim > 1 and self.num_taken[name] == tensor.numel()
            for name, tensor in self.tensors.items()
            if not _is_by_class(_layer(name))
        )


def carried(
    old: Tensors,
    new: Tensors,
    player: Literal["generator", "discriminator"],
    classes: Sequence[tuple[int, int]] = (),
) -> Carried:
    """Return the tensors of a new network with all of an old one's that fit; the others stay as they are.

    A layer is taken whole, with its running statistics and singular vectors, where the old network has one at the same
    place whose tensors have the same shapes and types. Of layers by class, the rows of `classes` are taken: pairs of a
    class's index in the new network and in the old one.
    """
    tensors = {name: tensor.clone() for name, tensor in new.items()}
    num_taken = dict.fromkeys(tensors, 0)
    before = {name.removeprefix(OWN): tensor for name, tensor in old.items()}
    places = _places(before, [name.removeprefix(OWN) for name in new], player)
    layers: dict[str, list[str]] = {}
    for name in new:
        layers.setdefault(_layer(name), []).append(name)
    for layer, names in layers.items():
        found = {name: before.get(places.get(name.removeprefix(OWN), "")) for name in names}
        kept = {name: tensor for name, tensor in found.items() if tensor is not None}
        if len(kept) < len(names):
            continue
        if _is_by_class(layer):
            _take_rows(tensors, num_taken, kept, classes)
        elif all(_kind(tensors[name]) == _kind(tensor) for name, tensor in kept.items()):
            for name, tensor in kept.items():
                tensors[name] = tensor.clone()
                num_taken[name] = tensor.numel()
    return Carried(tensors, num_taken)


def _take_rows(
    tensors: dict[str, Tensor],
    num_taken: dict[str, int],
    old: Tensors,
    classes: Sequence[tuple[int, int]],
) -> None:
    """Take the rows of classes that both networks know, in all tensors of one layer, or none where shapes differ."""
    rows = {name: tensor for name, tensor in old.items() if not name.endswith("._v")}  # that one belongs to the columns
    whole = {name: tensor for name, tensor in old.items() if name not in rows}
    fits = all(_kind(tensors[name][:0]) == _kind(tensor[:0]) for name, tensor in rows.items())
    fits &= all(_kind(tensors[name]) == _kind(tensor) for name, tensor in whole.items())
    if not fits or not classes:
        return
    now, before = (list(indices) for indices in zip(*classes, strict=True))
    for name, tensor in rows.items():
        tensors[name][now] = tensor[before]
        num_taken[name] = tensors[name][now].numel()
    for name, tensor in whole.items():
        tensors[name] = tensor.clone()
        num_taken[name] = tensor.numel()


def _places(old: Tensors, new: Sequence[str], player: Literal["generator", "discriminator"]) -> dict[str, str]:
    """Return for the names of a new network's tensors those of the tensors at the same places of an old one.

    Where there is no such place, a name is left out.
    """
    lengths = _lengths(new)
    lengths_before = _lengths(old)
    places: dict[str, str] = {}
    for name in new:
        first, index, rest = _parts(name)
        if index is None:
            places[name] = name
            continue
        length = lengths[first]
        before = lengths_before.get(first, 0)
        place: int | None = index
        if player == "generator" and first in FROM_LOWEST:
            place = index + before - length
        elif player == "discriminator" and first in WITH_A_LAST:
            is_last = index == length - 1
            place = before - 1 if is_last else index
            if not is_last and place == before - 1:
                place = None
        if place is not None and place >= 0:
            places[name] = f"{first}.{place}.{rest}"
    return places


def _lengths(names: Iterable[str]) -> dict[str, int]:
    """Return the lengths of the lists at the top of a network; the last entry of each has tensors."""
    lengths: dict[str, int] = {}
    for name in names:
        first, index, _ = _parts(name)
        if index is not None:
            lengths[first] = max(lengths.get(first, 0), index + 1)
    return lengths


def _parts(name: str) -> tuple[str, int | None, str]:
    """Split `upwards.2.0.weight` into the list, the index in it and the rest; without a list the index is None."""
    first, _, rest = name.partition(".")
    index, _, last = rest.partition(".")
    return (first, int(index), last) if index.isdigit() else (first, None, rest)


def _layer(name: str) -> str:
    if PARAMETRIZED in name:
        return name.partition(PARAMETRIZED)[0]
    return name.rpartition(".")[0]


def _is_by_class(layer: str) -> bool:
    return layer.rpartition(".")[2] in BY_CLASS


def _kind(tensor: Tensor) -> tuple[object, object]:
    return tensor.dtype, tensor.shape
