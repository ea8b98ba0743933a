"""Networks and inputs that are not a tensor to a tensor: adapters, bundles of tensors, text.

An Objective asks for ``model(x)`` with a tensor of outputs. ``adapt`` makes that of any call; a
``Bundle`` is the x of networks that take several tensors; ``embedded`` moves text classifiers from
tokens, which nothing can be differentiated by, to embeddings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import DataError, UsageError
from landscape.params import as_bytes


class Bundle:
    """One batch of inputs that are several tensors: passed by name, or one after the other.

    Every tensor's first axis is the sample. Behaves like a tensor where batches are counted, cut
    and moved, and refuses with an explanation whatever else a measurement asks of its inputs.
    """

    def __init__(self, entries: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        named = isinstance(entries, Mapping)
        pairs = entries.items() if isinstance(entries, Mapping) else enumerate(entries)
        self.entries: dict[str | int, Tensor] = dict(pairs)
        self.named = named
        if not self.entries:
            raise DataError("inputs are an empty dictionary or tuple: expected tensors.")
        for name, tensor in self.entries.items():
            if not torch.is_tensor(tensor) or tensor.ndim == 0:
                raise DataError(
                    f"input '{name}' is {_what(tensor)}: expected a tensor whose first axis is "
                    "the sample."
                )
        lengths = {name: len(tensor) for name, tensor in self.entries.items()}
        if len({*lengths.values()}) > 1:
            raise DataError(f"inputs have different numbers of samples: {_listed(lengths)}.")

    def call(self, model: nn.Module) -> Any:
        """``model(**entries)`` or ``model(*entries)``."""
        if self.named:
            return model(**{str(name): t for name, t in self.entries.items()})
        return model(*self.entries.values())

    # -- what batches need of a tensor ---------------------------------------------------------

    def __len__(self) -> int:
        return len(next(iter(self.entries.values())))

    @property
    def ndim(self) -> int:
        return 1

    @property
    def shape(self) -> tuple[int, ...]:
        """(B,): the sample is the only axis that all entries share."""
        return (len(self),)

    def numel(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.entries.values())

    def element_size(self) -> int:
        """1: ``numel`` counts bytes, since entries may differ in type."""
        return 1

    def is_floating_point(self) -> bool:
        return False

    def split(self, samples: int) -> list[Bundle]:
        pieces = [t.split(samples) for t in self.entries.values()]
        return [self._of(part) for part in zip(*pieces, strict=True)]

    def __getitem__(self, rows: Any) -> Bundle:
        return self._of([t[rows] for t in self.entries.values()])

    @property
    def raw(self) -> Any:
        """As the data gave it: tensors by name, or a tuple."""
        return self.entries if self.named else tuple(self.entries.values())

    def clone(self) -> Bundle:
        return self._of([t.clone() for t in self.entries.values()])

    def detach(self) -> Bundle:
        return self._of([t.detach() for t in self.entries.values()])

    def place(self, device: torch.device, dtype: torch.dtype) -> Bundle:
        """On a device, with floating entries in a type."""
        return self._of(
            [
                t.to(device, dtype) if t.is_floating_point() else t.to(device)
                for t in self.entries.values()
            ]
        )

    def digests(self, so_far: dict[str, Any]) -> bytes:
        """Goes on with the digest of every entry; all of them, whatever the batching."""
        for name, tensor in self.entries.items():
            head = f"{name} {tensor.dtype} {tuple(tensor.shape[1:])}"
            if head not in so_far:
                so_far[head] = hashlib.sha256(head.encode())
            so_far[head].update(as_bytes(tensor))
        return b"".join(digest.digest() for digest in so_far.values())

    # -- what attacks need ---------------------------------------------------------------------

    @property
    def continuous(self) -> str | int:
        """The name of the one entry that is not made of whole numbers."""
        found = [name for name, t in self.entries.items() if t.is_floating_point()]
        if len(found) != 1:
            raise UsageError(
                f"attacks perturb the one input of floating-point type, and these are "
                f"{', '.join(map(str, found)) or 'none'} of {_listed(self.entries)}"
                + (
                    ": tokens can't be perturbed, landscape.embedded(model, data) gives their "
                    "embeddings."
                    if not found
                    else ": make the others part of the model, or whole numbers."
                )
            )
        return found[0]

    def replaced(self, name: str | int, tensor: Tensor) -> Bundle:
        """With another tensor for one entry."""
        entries = {**self.entries, name: tensor}
        return self._of(list(entries.values()))

    # -- inside --------------------------------------------------------------------------------

    def _of(self, tensors: Iterable[Tensor]) -> Bundle:
        made = object.__new__(Bundle)
        made.entries = dict(zip(self.entries, tensors, strict=True))
        made.named = self.named
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("entries", "named"):
            raise AttributeError(name)
        raise _refused(self)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise _refused(next((a for a in args if isinstance(a, Bundle)), None))


def _refused(bundle: Bundle | None) -> UsageError:
    held = f" ({_listed(bundle.entries)})" if bundle is not None else ""
    return UsageError(
        f"this measurement needs inputs that are one tensor, and these are several{held}: adapt "
        "the model to one of them (landscape.adapt)."
    )


class Adapted(nn.Module):
    """See ``adapt``. Shares parameters, buffers and modules with the network, under its names."""

    def __init__(self, model: nn.Module, forward: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        # Not as a submodule: every name would get a prefix, and files would no longer fit.
        self._parameters = model._parameters
        self._buffers = model._buffers
        self._modules = model._modules
        self.training = model.training
        object.__setattr__(self, "_network", model)
        object.__setattr__(self, "_forward", forward)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        network: nn.Module = self.__dict__["_network"]
        before = network.training
        network.training = self.training
        try:
            x = kwargs if kwargs else args[0] if len(args) == 1 else args
            found: Tensor = self.__dict__["_forward"](network, x)
        finally:
            network.training = before
        return found


def adapt(model: nn.Module, forward: Callable[[Any, Any], Tensor]) -> nn.Module:
    """A network whose call is ``forward(model, x)``: for those that return objects, take several
    inputs, or need more than x.

    Parameters keep their names. ``x`` is what the data give: a tensor, a dictionary or a tuple.

    >>> net = torch.nn.Linear(3, 2)
    >>> adapted = adapt(net, lambda model, x: model(x["a"]) + x["b"])
    >>> adapted(a=torch.zeros(4, 3), b=torch.ones(4, 2)).shape
    torch.Size([4, 2])
    >>> [name for name, _ in adapted.named_parameters()]
    ['weight', 'bias']
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"expected an nn.Module, got {type(model).__name__}.")
    return Adapted(model, forward)


def embedded(
    model: nn.Module, data: Iterable[Any], *, ids: str = "input_ids", embeds: str = "inputs_embeds"
) -> list[tuple[dict[str, Tensor], Tensor]]:
    """A text classifier's batches with embeddings in place of tokens, for attacks and gradients.

    Args:
        model: with ``get_input_embeddings()``, as Hugging Face's have. data: batches (inputs by
            name, y), or dictionaries with ``labels``.
        ids, embeds: names of tokens and of embeddings among the model's arguments.

    Embeddings are those of the model as it is, held: the embedding layer itself then takes no
    part in the loss, and its parameters have zero gradient.
    """
    find = getattr(model, "get_input_embeddings", None)
    if find is None:
        raise UsageError(
            f"{type(model).__name__} has no get_input_embeddings(): compute its embeddings "
            "yourself and give them as x."
        )
    layer = find()
    found = []
    for index, item in enumerate(data):
        inputs, y = pair(item, index)
        if not isinstance(inputs, Bundle) or ids not in inputs.entries:
            raise DataError(f"batch {index} has no '{ids}': expected inputs by name with tokens.")
        entries = {str(name): t for name, t in inputs.entries.items() if name != ids}
        with torch.no_grad():
            entries[embeds] = layer(inputs.entries[ids].to(layer.weight.device)).detach()
        found.append((entries, y))
    return found


def pair(item: Any, index: int) -> tuple[Any, Tensor]:
    """Inputs and targets of one batch, as it comes: ``(x, y)``, or a dictionary with ``labels``.

    x is a tensor, or becomes a ``Bundle``.
    """
    if isinstance(item, Mapping):
        if "labels" not in item:
            raise DataError(
                f"batch {index} is a dictionary without 'labels' (it has "
                f"{', '.join(map(str, item))}): expected a pair (x, y), or inputs with labels."
            )
        x: Any = {name: t for name, t in item.items() if name != "labels"}
        y = item["labels"]
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        x, y = item
    else:
        raise DataError(
            f"batch {index} is a {type(item).__name__}"
            + (f" of {len(item)}" if isinstance(item, (tuple, list)) else "")
            + ": expected a pair (x, y)."
        )
    if not torch.is_tensor(y):
        raise DataError(f"batch {index} has targets of type {type(y).__name__}: expected a tensor.")
    if not torch.is_tensor(x):
        if not isinstance(x, (Mapping, tuple, list)):
            raise DataError(
                f"batch {index} holds {type(x).__name__} and {type(y).__name__}: expected x to be "
                "a tensor, or a dictionary or tuple of tensors, and y a tensor."
            )
        x = Bundle(x)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"batch {index} has x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}: "
            "the first axis must be the sample in both."
        )
    return x, y


def joined(parts: Sequence[Any]) -> Any:
    """Batches of inputs as one: tensors, or Bundles of the same entries."""
    if torch.is_tensor(parts[0]):
        return torch.cat(list(parts))
    entries = [[part.entries[name] for part in parts] for name in parts[0].entries]
    return parts[0]._of([torch.cat(tensors) for tensors in entries])


def output_tensor(output: Any) -> Tensor:
    """The tensor of what a model returned: itself, or its ``logits``."""
    if torch.is_tensor(output):
        return output
    logits = getattr(output, "logits", None)
    if torch.is_tensor(logits):
        return logits
    held = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise UsageError(
        f"the model returned a {type(output).__name__}{held}: say which tensor the loss takes, "
        "landscape.adapt(model, lambda model, x: model(x)[...])."
    )


def _what(value: Any) -> str:
    return "a number" if torch.is_tensor(value) else f"a {type(value).__name__}"


def _listed(entries: Mapping[Any, Any]) -> str:
    return ", ".join(
        f"{name}: {tuple(value.shape) if torch.is_tensor(value) else value}"
        for name, value in entries.items()
    )
