"""Drawing from generators that Equipoise did not build: torch modules, Keras models, functions of latents."""

import itertools
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.runs.candidates import GENERATOR
from equipoise.storage.checkpoints import load_module, load_tensors
from equipoise.watch.keeping import KERAS_WEIGHTS, is_keras
from equipoise.watch.modules import bare, copy_of, modules_of, num_shells, same_randomness, shelled, untouched
from equipoise.watch.torch_settings import settings_of_the_loop

Generate = Callable[[Any, Tensor], Any]  # (generator, latents [N, …]) to images [N, C, H, W] in [-1, 1], or bytes
Draw = Callable[[Tensor], Tensor]  # from latents to images in float32 on the CPU


def drawing(generator: Any, generate: Generate | None) -> Draw:
    """Return what draws from a generator as it is at that moment; its mode and all randomness stay as they are.

    A module draws in evaluation mode, out of its wrappers; a Keras model's images are turned into [N, C, H, W]. Whole
    numbers are 0..255.
    """
    if is_keras(generator):
        return partial(_draw_keras, generate or _call_keras, generator)
    if isinstance(generator, nn.Module):
        return partial(_draw_module, generate or _call, bare(generator), num_shells(generator))
    return partial(_draw_function, generate or _call, generator)


def copied(generator: Any, generate: Generate | None, folder: Path | None = None) -> Draw | None:
    """Return what draws from a copy of a generator, or of it with the weights in a folder; None if neither can be had.

    A torch module is copied. A Keras model is lent the weights for as long as it draws. A function cannot be copied.
    """
    if is_keras(generator):
        return _copied_keras(generator, generate, folder)
    if not isinstance(generator, nn.Module) or (folder is not None and not (folder / GENERATOR).is_file()):
        return None
    try:
        with torch.no_grad():  # the copied weights of a compiled script would be computed ones
            module = copy_of(generator).eval()
        for weight in module.parameters():  # such a script has no requires_grad_ for all
            weight.requires_grad_(False)
        if folder is not None:
            tensors = load_tensors(folder / GENERATOR)
            load_module("generator", module, {f"generator.{name}": tensor for name, tensor in tensors.items()})
    except Exception:  # tensors in the midst of a graph, locks; damaged weights, or another network's
        return None
    return partial(_draw_module, generate or _call, module, num_shells(generator))


def num_untrained_in_keras(generator: Any) -> int:
    """Return how many batch norms a Keras model has, if not one has ever updated its moving statistics; else 0."""
    ops = sys.modules["keras"].ops
    begun = {"moving_mean": 0.0, "moving_variance": 1.0}
    found = [(one, one.path.rpartition("/")[2]) for one in generator.non_trainable_variables]
    statistics = [(one, name) for one, name in found if name in begun]
    for one, name in statistics:
        if not bool((ops.convert_to_numpy(one) == begun[name]).all()):
            return 0
    return len(statistics) // 2


def _copied_keras(generator: Any, generate: Generate | None, folder: Path | None) -> Draw | None:
    kept = generator.get_weights()
    if folder is not None:
        if not (folder / KERAS_WEIGHTS).is_file():
            return None
        own = kept
        try:
            generator.load_weights(folder / KERAS_WEIGHTS)
            kept = generator.get_weights()
        except Exception:  # weights of another network, or no such file at all: Keras raises many types
            return None
        finally:
            generator.set_weights(own)
    return partial(_draw_lent, generator, generate, kept)


def _draw_lent(generator: Any, generate: Generate | None, weights: list[Any], latents: Tensor) -> Tensor:
    own = generator.get_weights()
    try:
        generator.set_weights(weights)
        return drawing(generator, generate)(latents)
    finally:
        generator.set_weights(own)


@torch.no_grad()
def _draw(generate: Generate, generator: Any, latents: Tensor) -> Tensor:
    with settings_of_the_loop():
        images = generate(generator, latents)
    if not isinstance(images, Tensor):
        try:
            images = torch.from_numpy(_array(images))
        except (TypeError, ValueError):
            problem = f"it gave {type(images).__name__}; images [N, C, H, W] are needed"
            raise UserError("generator", problem, *_remedies_within(images)) from None
    if images.is_complex():
        raise UserError("generator", f"it gave {images.dtype}; images of real numbers are needed", "Take their .real")
    is_whole = not images.is_floating_point() and images.dtype != torch.bool
    found = images.detach().float().cpu()
    return found / 127.5 - 1 if is_whole else found  # whole numbers can only be meant as 0..255


def _remedies_within(given: Any) -> list[str]:
    """Return how to take the images out of a tuple or a dict that holds some."""
    parts = list(given.items()) if isinstance(given, Mapping) else list(enumerate(given)) if _is_list(given) else []
    images = [(key, part.shape[-1]) for key, part in parts if isinstance(part, Tensor) and part.ndim == 4]
    if not images:
        return []
    key, _ = max(images, key=lambda item: item[1])  # of several sizes the full one
    return [f"Take them out: generate=lambda generator, latents: generator(latents)[{key!r}]"]


def _is_list(given: Any) -> bool:
    return isinstance(given, list | tuple)


def _array(images: Any) -> np.ndarray:
    """Return a copy as numbers that torch takes; raises TypeError or ValueError."""
    found = np.array(images)
    if found.dtype.kind in "iu":
        return found.astype(np.int64)
    return found.astype(np.float32)


def _draw_module(generate: Generate, network: nn.Module, shells: int, latents: Tensor) -> Tensor:
    first = next(itertools.chain(network.parameters(), network.buffers()), None)
    if first is not None:
        latents = latents.to(first.device)
        if first.is_floating_point():
            latents = latents.to(first.dtype)
    with untouched([network, *modules_of(generate)]):
        return _draw(generate, shelled(network, shells).eval(), latents)


def _draw_function(generate: Generate, function: Any, latents: Tensor) -> Tensor:
    with untouched([*modules_of(function), *modules_of(generate)]):
        return _draw(generate, function, latents)


def _draw_keras(generate: Generate, generator: Any, latents: Tensor) -> Tensor:
    """Draw from a Keras model, and put back whatever is no weight of it: batch statistics, states of randomness."""
    keras = sys.modules["keras"]
    kept = [(one, np.array(keras.ops.convert_to_numpy(one))) for one in generator.non_trainable_variables]
    try:
        with same_randomness():
            return _draw(generate, generator, latents)
    finally:
        for one, value in kept:
            if not np.array_equal(keras.ops.convert_to_numpy(one), value):
                one.assign(value)


def _call(generator: Any, latents: Tensor) -> Any:
    return generator(latents)


def _call_keras(generator: Any, latents: Tensor) -> Any:
    keras = sys.modules["keras"]
    images = keras.ops.convert_to_numpy(generator(keras.ops.convert_to_tensor(latents.numpy()), training=False))
    if keras.config.image_data_format() == "channels_last":
        return np.moveaxis(images, -1, 1)
    return images
