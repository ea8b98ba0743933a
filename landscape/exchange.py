"""Results in the formats of other programs.

Surfaces as loss-landscape's HDF5 and ParaView's .vts, tracks as TensorBoard's event files.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import h5py
import numpy as np

from landscape.diagnostics import Surface
from landscape.errors import DataError, OutputError, UsageError
from landscape.files import check_writable, write_atomic
from landscape.limits import hdf5, member
from landscape.provenance import Record
from landscape.tracking import Track
from landscape.tracking.minibatches import COLUMNS
from landscape.tracking.track import NOISE

# What tomgoldstein/loss-landscape writes where nothing was computed.
_UNFILLED = -1.0
_FIELDS = ("xcoordinates", "ycoordinates", "train_loss", "train_acc")


def write_goldstein(surface: Surface, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a surface as the HDF5 that tomgoldstein/loss-landscape's plotting scripts read.

    ``xcoordinates`` (X), ``ycoordinates`` (Y), ``train_loss`` and ``train_acc`` (percent) of the
    shape (X, Y) that the program allocates. It fills them in the order of
    ``meshgrid(x, y).ravel()``, x fastest, so that on a grid that isn't square rows and columns are
    mixed up unless they are read as ``.ravel().reshape(Y, X)``; the same is done here. What was
    not computed or is not finite becomes −1. A line has no ``ycoordinates`` and shape (X,).
    """
    if surface.draws:
        raise UsageError("several draws are no surface: export one line or plane.")
    plane = len(surface.y) > 1
    shape = (len(surface.x), len(surface.y)) if plane else (len(surface.x),)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["dir_file"] = ""
        file["xcoordinates"] = surface.x.astype(float)
        if plane:
            file["ycoordinates"] = surface.y.astype(float)
        for name, values, factor in (
            ("train_loss", surface.loss, 1.0),
            ("train_acc", surface.accuracy, 100.0),
        ):
            if values is not None:
                filled = np.where(np.isfinite(values), values * factor, _UNFILLED)
                file[name] = filled.ravel().reshape(shape)
    return write_atomic(path, buffer.getbuffer(), overwrite=overwrite)


def read_goldstein(path: str | Path) -> Surface:
    """Read a surface that tomgoldstein/loss-landscape wrote, its order of values undone.

    The loss at the model is that of the grid point (0, 0), NaN if there is none. Which network,
    data and directions it was, the file does not say.
    """
    try:
        with hdf5(path) as file:
            found = {name: member(file, name) for name in _FIELDS if name in file}
            known = {n: np.asarray(v) for n, v in found.items() if v.dtype.kind == "f"}
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a readable HDF5 file: {error}.") from error
    if not {"xcoordinates", "train_loss"} <= set(known):
        raise DataError(
            f"{path} holds no surface of loss-landscape: it lacks xcoordinates or train_loss."
        )
    x = known["xcoordinates"]
    y = known.get("ycoordinates", np.zeros(1))
    if known["train_loss"].size != len(x) * len(y):
        raise DataError(
            f"{path}: train_loss has {known['train_loss'].size} values for a grid of {len(x)} x "
            f"{len(y)}."
        )

    def grid(name: str, factor: float) -> np.ndarray | None:
        if name not in known:
            return None
        values = known[name].ravel().reshape(len(y), len(x))
        return np.where(values == _UNFILLED, np.nan, values * factor)

    loss = grid("train_loss", 1.0)
    assert loss is not None
    centre = loss[np.ix_(y == 0, x == 0)]
    source = {"attack": None, "perturbation": None, "file": Path(path).name}
    return Surface(
        provenance=Record("surface", source, None, imported="loss-landscape").finish(),
        x=x,
        y=y,
        loss=loss,
        accuracy=grid("train_acc", 0.01),
        done=np.isfinite(loss),
        centre_loss=float(centre[0, 0]) if centre.size else float("nan"),
        directions="unknown",
        direction_norms=np.full(2 if len(y) > 1 else 1, np.nan),
    )


def write_vts(surface: Surface, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a plane as an XML structured grid for ParaView: points (x, y, loss), x fastest.

    Points without a value have the height of the lowest and ``done`` 0, to be thresholded away.
    """
    if surface.draws or len(surface.y) < 2:
        raise UsageError("a .vts file holds a plane: export a surface of two dimensions.")
    height = np.where(np.isfinite(surface.loss), surface.loss, np.nanmin(surface.loss))
    x, y = np.meshgrid(surface.x, surface.y)
    extent = f"0 {len(surface.x) - 1} 0 {len(surface.y) - 1} 0 0"
    fields = {"loss": height, "valid": np.isfinite(surface.loss).astype(float)}
    if surface.accuracy is not None:
        fields["accuracy"] = np.nan_to_num(surface.accuracy)
    arrays = "".join(_array(name, values.ravel()) for name, values in fields.items())
    points = _array("points", np.stack([x, y, height], -1).reshape(-1), components=3)
    text = (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="StructuredGrid" version="0.1" byte_order="LittleEndian">\n'
        f'<StructuredGrid WholeExtent="{extent}"><Piece Extent="{extent}">\n'
        f'<PointData Scalars="loss">\n{arrays}</PointData>\n<Points>\n{points}</Points>\n'
        "</Piece></StructuredGrid>\n</VTKFile>\n"
    )
    return write_atomic(path, text.encode(), overwrite=overwrite)


def _array(name: str, values: np.ndarray, components: int = 1) -> str:
    numbers = " ".join(repr(float(v)) for v in values)
    return (
        f'<DataArray type="Float64" Name={quoteattr(name)} NumberOfComponents="{components}" '
        f'format="ascii">{numbers}</DataArray>\n'
    )


# What TensorBoard looks for in a folder.
_EVENTS = "events.out.tfevents.*"


def write_tensorboard(track: Track, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a track as an event file that TensorBoard shows: ``tensorboard --logdir FOLDER``.

    ``minibatch/...`` and ``noise/...`` against the update, ``diagnostic/...`` against the epoch,
    with their errors under ``noise_standard_error/...`` and ``diagnostic_error/...``; the
    histogram of ``samples/loss`` at every epoch; and the ``provenance`` as text. What is not
    finite is left out. The numbers are stored in float32; wall times are those of the export.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard's files need its package: pip install "
            "'landscape-diagnostics[tensorboard]'."
        ) from error
    folder = Path(folder)
    check_writable(folder / "events", overwrite=True)
    old = list(folder.glob(_EVENTS))
    if old and not overwrite:
        raise OutputError(
            f"{folder} holds TensorBoard events: pass --overwrite to replace them, or another "
            "--out."
        )
    # Beside its final place, so that TensorBoard never sees a part of it.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as aside:
        with SummaryWriter(aside) as writer:
            for tag, steps, values in _series(track):
                for step, value in zip(steps, values, strict=True):
                    if np.isfinite(value):
                        writer.add_scalar(tag, float(value), int(step))
            if track.epoch is not None and track.sample_loss is not None:
                for step, losses in zip(track.epoch, track.sample_loss, strict=True):
                    if np.isfinite(losses).any():
                        writer.add_histogram("samples/loss", losses[np.isfinite(losses)], step)
            writer.add_text("provenance", json.dumps(track.provenance.to_dict()))
        (made,) = Path(aside).glob(_EVENTS)
        for path in old:
            path.unlink()
        os.replace(made, folder / made.name)
    return folder / made.name


def _series(track: Track) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Tag, steps and values of every scalar of a track."""
    for name in COLUMNS:
        if name not in ("update", "window"):
            yield f"minibatch/{name}", track.update, getattr(track, name)
    if track.block_update is not None:
        for name in NOISE:
            yield f"noise/{name}", track.block_update, getattr(track, name)
            errors = getattr(track, f"{name}_standard_error")
            yield f"noise_standard_error/{name}", track.block_update, errors
    if track.diagnostic is not None and track.measured_epoch is not None:
        for name in map(str, track.diagnostic):
            values, errors = track.measured(name)
            yield f"diagnostic/{name}", track.measured_epoch, values
            yield f"diagnostic_error/{name}", track.measured_epoch, errors
