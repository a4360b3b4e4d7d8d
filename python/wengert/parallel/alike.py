"""What must be the same on all ranks, compared at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import wengert

from .communicator import Communicator, ParallelError

if TYPE_CHECKING:
    from wengert import nn
    from wengert._core import Tensor


def require_alike(comm: Communicator, facts: Mapping[str, Any]) -> None:
    """ParallelError on all ranks, which names the first rank and fact that differ from rank 0's;
    `facts` are names and values that repr() tells apart.

    >>> from wengert import parallel
    >>> parallel.require_alike(parallel.Alone(), {"batch_size": 32})
    """
    texts = {name: repr(value) for name, value in facts.items()}
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()
    digests = comm.share(digest)
    if len(set(digests)) == 1:
        return
    all_ = comm.share(texts)
    other = next(rank for rank, one in enumerate(digests) if one != digests[0])
    first, theirs = all_[0], all_[other]
    names = [*first, *(name for name in theirs if name not in first)]
    name = next(name for name in names if first.get(name) != theirs.get(name))
    raise ParallelError(
        f"ranks differ, nothing has run: {name} is {theirs.get(name, 'not there')} on rank {other} "
        f"and {first.get(name, 'not there')} on rank 0{_ADVICE.get(name.split()[0], '')}"
    )


_ADVICE = {
    "values": ". Call wengert.manual_seed with one seed on all ranks before the model is made, or "
    "load one file",
    "generator": ". Call wengert.manual_seed with one seed on all ranks",
    "version": ". Install the same version everywhere",
    "simd": ". Set WENGERT_ISA to one that all processors have",
}


def flat(tensor: Tensor) -> npt.NDArray[Any]:
    """The values of a tensor in one vector; bfloat16, which NumPy has not, as float32."""
    given = tensor.detach().cpu().reshape(-1)
    values: npt.NDArray[Any] = (given.float() if given.dtype == wengert.bfloat16 else given).numpy()
    return values


def facts_of(module: nn.Module) -> dict[str, Any]:
    """A model, the generator and the libraries, as facts for `require_alike`."""
    facts: dict[str, Any] = {
        "version of wengert": wengert.__version__,
        "version of numpy": np.__version__,
        "simd level": wengert.simd_level(),
        "precision of products": wengert.get_matmul_precision(),
    }
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        trains = "" if tensor.requires_grad else ", without gradient"
        facts[f"shape of {name}"] = f"{tensor.dtype.name}{list(tensor.shape)}{trains}"
    for name, tensor in tensors:
        facts[f"values of {name}"] = hashlib.sha256(flat(tensor).tobytes()).hexdigest()[:12]
    facts["modes"] = [part.training for part in module.modules()]
    facts["generator (seed, counter)"] = wengert.random.default_generator.state.tolist()
    return facts
