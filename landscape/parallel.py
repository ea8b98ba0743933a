"""One measurement on several processes of ``torchrun``: who does what, and what all must know.

Every process runs the same program on the same data. Where the work is divided, either each takes
a share of the samples and sums are made over all of them, or each takes whole points of a grid,
the next one as soon as it is free. What is decided from numbers is decided by the first process
for all, so that rounding on unlike machines can't lead them apart. The first process alone writes.

Transport is ``torch.distributed``: gloo between CPUs, NCCL between GPUs.
"""

from __future__ import annotations

import datetime
import importlib
import io
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from landscape.errors import ProcessError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
Item = TypeVar("Item")

# A process may work on one point of a grid for hours while the others wait for it. Ended processes
# are noticed by their closed connections, and by torchrun.
_PATIENCE = datetime.timedelta(days=30)


@dataclass
class Group:
    """The processes that share a measurement; by default this one alone.

    Attributes:
        rank: number of this process, from 0. size: of how many. local: number on its machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    store: Any = None
    _rounds: int = field(default=0, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> tuple[int, int]:
        """First and one past the last of this process's part of ``count`` things in a row."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each; in place where that can be."""
        if self.size == 1:
            return values
        import torch.distributed as dist

        values = values.contiguous()
        self._together(lambda: dist.all_reduce(values))
        return values

    def join(self, part: Tensor, count: int) -> Tensor:
        """(count, ...) from each process's ``share`` of the rows."""
        if self.size == 1:
            return part
        import torch
        import torch.distributed as dist

        shape, kind = part.shape[1:], part.dtype
        if kind == torch.bool:
            part = part.byte()
        longest = -(-count // self.size)
        padded = part.new_zeros(longest, *shape)
        padded[: len(part)] = part
        pieces = [torch.empty_like(padded) for _ in range(self.size)]
        self._together(lambda: dist.all_gather(pieces, padded))
        sizes = [Group(rank, self.size).share(count) for rank in range(self.size)]
        rows = [piece[: end - start] for piece, (start, end) in zip(pieces, sizes, strict=True)]
        return torch.cat(rows).to(kind)

    def agree(self, value: T) -> T:
        """What the first process has found."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value if self.first else None]
        self._together(lambda: dist.broadcast_object_list(box, src=0))
        return box[0]  # type: ignore[return-value]

    def ask_first(self, make: Callable[[], T]) -> T:
        """``make()`` of the first process: of what the others may find another state of."""
        return self.agree(make() if self.first else None)  # type: ignore[return-value]

    def spread(
        self,
        items: Sequence[Item],
        work: Callable[[Item], Any],
        collect: Callable[[Item, Any], None],
    ) -> None:
        """``collect(item, work(item))`` for every item, each worked on by the next free process.

        The first process collects results as they come, in any order, and what others have
        finished even if it is interrupted itself; the others have them all at the end. Results
        consist of numbers, None, tensors, and lists and dictionaries of these.
        """
        if self.size == 1:
            for item in items:
                collect(item, work(item))
            return
        self._rounds += 1
        _Round(self, f"round {self._rounds}", items, work, collect).run()

    def fail(self, message: str) -> None:
        """Let the first process say why this one ends."""
        if self.store is not None and not self.first:
            self.store.set(f"failed {self.rank}", message)

    def failure(self) -> str | None:
        """Which other process failed and, if it could tell, why."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        for rank in others:
            if self.store.check([f"failed {rank}"]):
                said = self.store.get(f"failed {rank}").decode()
                return f"process {rank} of {self.size} failed: {said}"
        for rank in others:
            if not self.store.check([f"process {rank}"]):
                continue
            host, number = self.store.get(f"process {rank}").decode().rsplit(" ", 1)
            if host == socket.gethostname() and not _alive(int(number)):
                return f"process {rank} of {self.size} was killed (process {number} of the system)."
        return None

    def _together(self, exchange: Callable[[], object]) -> None:
        try:
            exchange()
        except RuntimeError as error:  # what torch raises when a connection is closed
            end = time.monotonic() + 2.0
            while (why := self.failure()) is None and time.monotonic() < end:
                time.sleep(0.05)  # the others may be about to say why
            raise ProcessError(why or f"the processes can't exchange: {error}") from error


class _Round:
    """One division of items; results travel through the store, numbered by their sender."""

    def __init__(
        self,
        group: Group,
        name: str,
        items: Sequence[Any],
        work: Callable[[Any], Any],
        collect: Callable[[Any, Any], None],
    ) -> None:
        self.group, self.store, self.name = group, group.store, name
        self.items, self.work, self.collect = items, work, collect
        self.found: dict[int, Any] = {}
        self.seen = dict.fromkeys(range(1, group.size), 0)

    def run(self) -> None:
        if self.group.first:
            try:
                self._lead()
            except BaseException:
                self._receive()  # what the others have finished isn't lost
                raise
        else:
            self._follow()
        found = self.group.agree(self.found)
        if not self.group.first:
            for index, value in found.items():
                self.collect(self.items[index], value)

    def _next(self) -> int | None:
        index = int(self.store.add(f"{self.name} taken", 1)) - 1
        return index if index < len(self.items) else None

    def _lead(self) -> None:
        while (index := self._next()) is not None:
            self._take(index, self.work(self.items[index]))
            self._receive()
        while len(self.found) < len(self.items):
            why = self.group.failure()
            self._receive()  # after the look: what a process sent before it failed counts
            if why is not None and len(self.found) < len(self.items):
                raise ProcessError(why)
            time.sleep(0.02)

    def _follow(self) -> None:
        sent = 0
        while (index := self._next()) is not None:
            value = self.work(self.items[index])
            self.store.set(f"{self.name} {self.group.rank} {sent}", _packed((index, value)))
            sent += 1

    def _receive(self) -> None:
        for rank in self.seen:
            while self.store.check([key := f"{self.name} {rank} {self.seen[rank]}"]):
                self._take(*_unpacked(self.store.get(key)))
                self.store.delete_key(key)
                self.seen[rank] += 1

    def _take(self, index: int, value: Any) -> None:
        self.found[index] = value
        self.collect(self.items[index], value)


_alone = _group = Group()


def group() -> Group:
    """The processes that this one works with."""
    return _group


def launched() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def start() -> Group:
    """Join the processes that torchrun has started; measurements are divided from here on.

    Call it in every process, then the same diagnostics with the same arguments in all of them. Each
    returns the whole result.
    """
    global _group
    if _group.size > 1 or not launched():
        return _group
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        raise UsageError("torch.distributed is in use already: start landscape.parallel before it.")
    rendezvous = importlib.import_module("torch.distributed.rendezvous").rendezvous
    store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    local = int(os.environ.get("LOCAL_RANK", rank))
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    dist.init_process_group(store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    _group = Group(rank, size, local, dist.PrefixStore("landscape", store))
    _group.store.set(f"process {rank}", f"{socket.gethostname()} {os.getpid()}")
    return _group


def stop() -> None:
    """Leave the group: every process measures alone again."""
    global _group
    if _group.size > 1:
        import torch.distributed as dist

        dist.destroy_process_group()
    _group = _alone


def device() -> torch.device | None:
    """The accelerator of this process; None where there is none, or no group."""
    import torch

    if _group.size == 1 or not torch.cuda.is_available():
        return None
    return torch.device("cuda", _group.local % torch.cuda.device_count())


def _packed(value: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpacked(content: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


def _alive(number: int) -> bool:
    """Whether a process of this machine runs; one that has ended may still be listed."""
    try:
        os.kill(number, 0)
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[-1].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or no /proc
        return True
    return state not in ("Z", "X")
