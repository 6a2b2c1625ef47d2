"""Several processes as one: each embeds its share of a batch, all of them mine the whole batch (`torchrun`)."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn


def join_processes(device: torch.device) -> torch.device:
    """Join the processes that `torchrun` started, if it did; return this one's device."""
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda" and device.index is None and distributed.is_initialized():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def leave_processes() -> None:
    """Undo `join_processes` at the end of a run."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process; 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait() -> None:
    """Let all processes come to this point."""
    if world_size() > 1:
        distributed.barrier()


def own_share(rows: np.ndarray) -> slice:
    """Part of a batch that this process embeds; shares differ by one row at most."""
    edges = np.linspace(0, len(rows), world_size() + 1).astype(int)
    return slice(int(edges[rank()]), int(edges[rank() + 1]))


def gather(share: Tensor, place: slice, count: int) -> Tensor:
    """Put the shares of all processes together, so that gradients flow back to each share.

    Parameters
    ----------
    share : Tensor [b, D]
        This process's rows.
    place : slice
        Where they belong (`own_share`).
    count : int
        B, rows in the whole batch.

    Returns
    -------
    Tensor [B, D]
        The same in every process. If every process computes the same loss from it, summing the parameters' gradients
        over the processes (`sum_gradients`) gives exactly the gradient of one process with the whole batch.
    """
    return share if world_size() == 1 else _Gather.apply(share, place, count)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share: Tensor, place: slice, count: int) -> Tensor:
        ctx.place = place
        whole = share.new_zeros(count, *share.shape[1:])
        whole[place] = share
        distributed.all_reduce(whole)  # a sum with zeros: shares may differ in size, which all_gather does not allow
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.place].contiguous(), None, None


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place, in one message.

    A sum and not the mean of DistributedDataParallel: each process has the gradient of the *whole* loss by its own
    rows, so the mean would be too small by the number of processes.
    """
    if world_size() == 1:
        return
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    pieces = [p.grad if p.grad is not None else torch.zeros_like(p) for p in learned]
    flat = torch.cat([piece.flatten() for piece in pieces])
    distributed.all_reduce(flat)
    for parameter, piece in zip(learned, flat.split([piece.numel() for piece in pieces]), strict=True):
        parameter.grad = piece.view_as(parameter)


def share(value: Any) -> Any:
    """Value of process 0, in all processes."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def start_alike(*modules: nn.Module) -> None:
    """Give all processes the weights and buffers of process 0."""
    if world_size() == 1:
        return
    with torch.no_grad():
        for tensor in (each for module in modules for each in (*module.parameters(), *module.buffers())):
            distributed.broadcast(tensor, 0)
