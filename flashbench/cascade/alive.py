"""Tensors that are alive at once: counted operation by operation, with values or on the meta device.

Not counted is what only a device adds: workspaces of convolutions, fragments of the allocator, the CUDA context.
Attention is taken as one kernel that keeps no scores.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations made and that are still alive, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation and count what it made."""
        given = {_identity(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and _identity(leaf) not in given | self._known:
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        size, mark = storage.nbytes(), storage._cdata
        self._known.add(mark)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, mark, size)

    def _drop(self, mark: int, size: int) -> None:
        self._known.discard(mark)
        self.now -= size


def _identity(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _OneKernel(TorchFunctionMode):
    """Attention whose only tensor is its output, as the fused kernels of a GPU have it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace attention, run anything else."""
        told = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = args[0] if args else told["query"]
            value = args[2] if len(args) > 2 else told["value"]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **told)


def most_alive(block: Callable[[], object]) -> int:
    """The most bytes that are alive at once of what the operations in `block` make; it is run without gradients."""
    with torch.no_grad(), _OneKernel(), Alive() as counted:
        block()
    return int(counted.most)
