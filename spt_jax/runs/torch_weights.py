"""Weights of the same network trained in PyTorch, to and from ours. PyTorch itself is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import RunError


def from_torch(state: Mapping[str, Any], params_like: Any) -> Any:
    """A PyTorch state dict -> parameters of the structure, shapes and dtypes of `params_like`.

    state: name -> array or tensor, parameters only. params_like: parameters of a model as `nnx.split` gives them, or
    their shapes as `Blueprint.abstract` does. Names, with block i, width d, kernel K, L points:

        ours                               PyTorch                               shape there
        */kernel (in, out)                 *.weight, Linear                      (out, in)
        */scale (d,)                       *.weight, LayerNorm with eps 1e-6     (d,)
        element/embedding (100, d)         element.weight, Embedding             (100, d)
        band_blocks/i/weights (K, K, d, d) band_blocks.i.conv.weight, Conv2d     (d, d, K, K)
        band_blocks/i/bias (d,)            band_blocks.i.conv.bias               (d,)
        position (L, d), band_blocks/i/query (d,), graphs/i/direction (heads, d / heads), */bias: same name and shape

    A block may hold TimesNet's Inception block in place of one Conv2d: the mean of convolutions of sizes 1, 3, .. K,
    `band_blocks.i.conv.kernels.j.weight` (d, d, 2j+1, 2j+1) and `.bias` (d,). Zero-padded, their mean is one kernel.

    Raises RunError naming the first entry that is missing or of another shape, or else the first unexpected one.
    """
    rest = dict(state)
    leaves, structure = jax.tree.flatten_with_path(params_like)
    size = next((leaf.shape[0] for path, leaf in leaves if _names(path)[-1] == "weights"), 1)
    arrays = []
    for path, leaf in leaves:
        name, axes = _entry(_names(path), leaf.ndim)
        shape = tuple(leaf.shape[axis] for axis in axes)
        kernels = name.rpartition(".")[0] + ".kernels."
        if any(other.startswith(kernels) for other in state):
            pieces = [_take(rest, *_kernel(name, shape, j)) for j in range((size + 1) // 2)]
            array = np.mean([_padded(piece, shape) for piece in pieces], axis=0, dtype=np.float64)
        else:
            array = _take(rest, name, shape)
        arrays.append(jnp.asarray(array.transpose(np.argsort(axes)), leaf.dtype))
    if rest:
        raise RunError(f"PyTorch weights: unexpected {next(iter(rest))}; this model has no such entry")
    return jax.tree.unflatten(structure, arrays)


def to_torch(params: Any) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`, with one K x K convolution in each block."""
    state = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name, axes = _entry(_names(path), leaf.ndim)
        state[name] = np.asarray(leaf).transpose(axes)
    return state


def _names(path: tuple) -> tuple[str, ...]:
    """Names along a path of the tree; the last key, the variable's own value, has none."""
    return tuple(str(step.key) for step in path if hasattr(step, "key"))


def _entry(path: tuple[str, ...], ndim: int) -> tuple[str, tuple[int, ...]]:
    """Name in PyTorch of our parameter, and the order in which it takes our axes."""
    *parents, last = path
    same = tuple(range(ndim))
    if last == "weights":
        return ".".join([*parents, "conv.weight"]), (3, 2, 0, 1)
    if last == "bias" and parents[0] == "band_blocks" and len(parents) == 2:
        return ".".join([*parents, "conv.bias"]), same
    if last == "kernel":
        return ".".join([*parents, "weight"]), (1, 0)
    return ".".join([*parents, "weight" if last in ("scale", "embedding") else last]), same


def _kernel(name: str, shape: tuple[int, ...], j: int) -> tuple[str, tuple[int, ...]]:
    """Name and shape of Inception kernel j in place of `conv.weight` or `conv.bias`."""
    return name.replace(".conv.", f".conv.kernels.{j}."), shape[:2] + (2 * j + 1,) * len(shape[2:])


def _padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(array, [((full - have) // 2,) * 2 for have, full in zip(array.shape, shape, strict=True)])


def _take(rest: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The entry as float32, taken out of `rest`. Raises RunError where it is missing or of another shape."""
    if name not in rest:
        raise RunError(f"PyTorch weights: {name} is missing, expected with shape {shape}")
    value = rest.pop(name)
    if hasattr(value, "detach"):  # a tensor may need a gradient, lie on an accelerator, or be bfloat16
        value = value.detach().cpu().float()
    array = np.asarray(value, np.float32)
    if array.shape != shape:
        raise RunError(f"PyTorch weights: {name} has shape {array.shape}, expected {shape}")
    return array
