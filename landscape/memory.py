"""When memory runs out: the same work on smaller parts of a batch, said aloud."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

# What torch's CPU allocator says in a RuntimeError.
_WORDS = ("can't allocate memory", "not enough memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of an accelerator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


class Parts:
    """Parts of batches that fit into memory: whole batches, until one did not.

    ``check`` refuses what can't be divided.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.most: int | None = None
        self._check = check

    def each(self, samples: int, work: Callable[[slice], None]) -> None:
        """``work`` on every part; on smaller ones from where memory runs out."""
        done = 0
        while done < samples:
            part = slice(done, min(done + (self.most or samples), samples))
            try:
                work(part)
            except Exception as error:
                if not ran_out(error) or part.stop - part.start == 1:
                    raise
                # Outside the handler's traceback, which holds the tensors that were too large.
                failed = part.stop - part.start
            else:
                done = part.stop
                continue
            self.halve(failed)

    def halve(self, samples: int) -> int:
        """From now on half of so many samples at once: how many."""
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self._check()
        self.most = -(-samples // 2)
        warnings.warn(
            f"out of memory with {samples} samples at once: going on with {self.most} "
            f"(--batch-size {self.most} from the start saves the attempt).",
            stacklevel=2,
        )
        return self.most
