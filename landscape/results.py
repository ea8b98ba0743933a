"""Results: arrays with named dimensions and units, with the record of how they were made.

A ``Result`` is a frozen dataclass whose fields are declared with ``array`` or ``scalar``; that
one declaration drives the HDF5 layout (dimension scales, so that a file opens in xarray), the
JSON of the command line and the labels of the axes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from landscape._version import __version__
from landscape.errors import DataError, UsageError, unknown
from landscape.files import write_atomic
from landscape.limits import hdf5, member
from landscape.provenance import Provenance

SCHEMA_VERSION = 1

# The modules that define the kinds of result, so that a file can be read before they were used.
_HOMES = {
    "agreement": "landscape.diagnostics",
    "comparison": "landscape.reporting",
    "connectivity": "landscape.connectivity",
    "cosine": "landscape.diagnostics",
    "curves": "landscape.papers",
    "density": "landscape.diagnostics",
    "differences": "landscape.diagnostics",
    "difficulty": "landscape.diagnostics",
    "effectiveness": "landscape.diagnostics",
    "evaluation": "landscape.diagnostics",
    "examples": "landscape.diagnostics",
    "history": "landscape.training",
    "inputs": "landscape.diagnostics",
    "linearity": "landscape.diagnostics",
    "lipschitz": "landscape.diagnostics",
    "masking": "landscape.diagnostics",
    "neurons": "landscape.diagnostics",
    "report": "landscape.reporting",
    "samples": "landscape.diagnostics",
    "sheet": "landscape.papers",
    "smoothness": "landscape.diagnostics",
    "spectrum": "landscape.diagnostics",
    "surface": "landscape.diagnostics",
    "sweep": "landscape.sweeps.table",
    "trace": "landscape.diagnostics",
    "track": "landscape.tracking",
}

# What netCDF writes into a dimension that has no coordinate values; both netCDF4 and h5netcdf
# (so xarray) then show the dimension without inventing a variable.
_BARE_DIMENSION = "This is a netCDF dimension but not a netCDF variable.{:10d}"


@dataclass(frozen=True)
class Estimate:
    """A random estimate: never printed without its standard error and sample count."""

    value: float
    standard_error: float
    samples: int

    def __str__(self) -> str:
        if not math.isfinite(self.standard_error):
            return f"{self.value:.4g} ± ? (n = {self.samples})"
        digits = 3
        if self.standard_error > 0 and math.isfinite(self.value):
            digits = max(
                2,
                2
                + math.floor(math.log10(max(abs(self.value), self.standard_error)))
                - math.floor(math.log10(self.standard_error)),
            )
        return f"{self.value:.{digits}g} ± {self.standard_error:.2g} (n = {self.samples})"

    @classmethod
    def of(cls, samples: Any) -> Estimate:
        """Mean and standard error (n − 1 in the variance) of independent samples."""
        values = np.asarray(samples, dtype=np.float64)
        if values.ndim != 1 or len(values) == 0:
            raise UsageError(f"expected a vector of samples, got shape {values.shape}.")
        n = len(values)
        error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else math.inf
        return cls(float(values.mean()), error, n)


def array(*dims: str, units: str = "", label: str = "", **kwargs: Any) -> Any:
    """Declare an array field with one name per axis."""
    return dataclasses.field(
        metadata={"dims": dims, "units": units, "label": label}, kw_only=True, **kwargs
    )


def scalar(units: str = "", label: str = "", **kwargs: Any) -> Any:
    """Declare a scalar field: a number, a string, a flag or an ``Estimate``."""
    return array(units=units, label=label, **kwargs)


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results. Subclasses declare fields and a ``kind`` that names them in files."""

    kind: ClassVar[str] = ""
    _kinds: ClassVar[dict[str, type[Result]]] = {}

    provenance: Provenance = dataclasses.field(kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Result._kinds[cls.kind] = cls

    def __post_init__(self) -> None:
        lengths: dict[str, tuple[int, str]] = {}
        for field in self.fields():
            value = getattr(self, field.name)
            dims = field.metadata["dims"]
            if value is None or not dims:
                continue
            value = np.asarray(value)
            object.__setattr__(self, field.name, value)
            if value.ndim != len(dims):
                raise UsageError(
                    f"{self.kind}.{field.name} has {value.ndim} axes, its dimensions are {dims}."
                )
            for dim, length in zip(dims, value.shape, strict=True):
                known, where = lengths.setdefault(dim, (length, field.name))
                if known != length:
                    raise UsageError(
                        f"{self.kind}: dimension '{dim}' has length {known} in {where} and "
                        f"{length} in {field.name}."
                    )

    @classmethod
    def fields(cls) -> Iterator[dataclasses.Field[Any]]:
        """The declared fields, without the provenance."""
        return (f for f in dataclasses.fields(cls) if f.name != "provenance")

    def label(self, name: str) -> str:
        """Axis label of a field: its words and its units."""
        for field in self.fields():
            if field.name == name:
                words = field.metadata["label"] or name.replace("_", " ")
                units = field.metadata["units"]
                return f"{words} ({units})" if units else words
        raise unknown(f"field of {self.kind}", name, [f.name for f in self.fields()])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Result)
        return self.provenance == other.provenance and all(
            _equal(getattr(self, f.name), getattr(other, f.name)) for f in self.fields()
        )

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the fields by name, then ``schema_version`` and ``provenance``.

        Numbers that are not finite become ``None``, since JSON has none of them.
        """
        body = {f.name: jsonable(getattr(self, f.name)) for f in self.fields()}
        return {
            "kind": self.kind,
            **body,
            "schema_version": SCHEMA_VERSION,
            "provenance": jsonable(self.provenance.to_dict()),
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one HDF5 file, whole or not at all; an existing file is kept unless told."""
        return save_all(path, {"/": self}, overwrite=overwrite)

    def plot(self, ax: Any = None) -> Any:
        """Draw on ``ax`` (a new figure by default) and return the axes."""
        raise UsageError(f"there is no drawing for results of kind '{self.kind}'.")


def save_all(path: str | Path, results: Mapping[str, Result], *, overwrite: bool = False) -> Path:
    """Write several results as the groups of one HDF5 file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        for name, result in results.items():
            group = file if name == "/" else file.create_group(name, track_order=True)
            _write(group, result)
    return write_atomic(path, buffer.getbuffer(), overwrite=overwrite)


def load_all(path: str | Path) -> dict[str, Result]:
    """Every result of a file, by the name of its group (``/`` for the root)."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if path.is_dir():
        raise DataError(f"{path} is a folder: name a file in it, such as track.h5.")
    found: dict[str, Result] = {}
    try:
        with hdf5(path) as file:
            if "kind" in file.attrs:
                found["/"] = _read(file, path)

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Group) and "kind" in item.attrs:
                    found[name] = _read(item, path)

            file.visititems(visit)
    except DataError:
        raise
    except Exception as error:  # h5py raises many types for damaged files
        raise DataError(f"{path} is not a readable HDF5 result: {_first_line(error)}.") from error
    if not found:
        raise DataError(f"{path} holds no landscape result.")
    return found


def load(path: str | Path, group: str = "/") -> Any:
    """The result in ``group`` of a file written by ``save`` or ``save_all``."""
    found = load_all(path)
    if group not in found:
        raise unknown(f"group of {path}", group, found)
    return found[group]


# -- HDF5 ---------------------------------------------------------------------------------------


def _write(group: h5py.Group, result: Result) -> None:
    group.attrs["kind"] = result.kind
    group.attrs["schema_version"] = SCHEMA_VERSION
    group.attrs["provenance"] = json.dumps(result.provenance.to_dict())
    values: dict[str, Any] = {}
    for field in result.fields():
        value = getattr(result, field.name)
        if isinstance(value, Estimate):
            values.update(_split(field.name, value))
        elif value is not None:
            values[field.name] = value
    metadata: dict[str, Mapping[str, Any]] = {f.name: f.metadata for f in result.fields()}
    datasets = {}
    for name, value in values.items():
        datasets[name] = dataset = _dataset(group, name, value)
        for key in ("units", "label"):
            text = metadata.get(name, {}).get(key, "")
            if text:
                dataset.attrs["long_name" if key == "label" else key] = text
    scales: dict[str, h5py.Dataset] = {}
    for name, dataset in datasets.items():
        for axis, dim in enumerate(metadata.get(name, {}).get("dims", ())):
            if dim not in scales:
                scales[dim] = _scale(group, dim, dataset.shape[axis], datasets)
            if dataset is not scales[dim]:
                dataset.dims[axis].attach_scale(scales[dim])
    group.attrs["seal"] = _seal(group)


def _seal(group: h5py.Group) -> str:
    """SHA-256 of everything that is read back: tells a damaged file."""
    digest = hashlib.sha256()
    for name in ("kind", "schema_version", "provenance"):
        digest.update(f"{name}={group.attrs[name]}\n".encode())
    for name, item in sorted(group.items()):
        if not isinstance(item, h5py.Dataset):
            continue
        text = h5py.check_string_dtype(item.dtype) is not None
        data = np.asarray(item.asstr()[()] if text else item[()])
        content = json.dumps(data.tolist()).encode() if text else data.tobytes()
        flag = item.attrs.get("dtype", "")
        digest.update(f"{name}: {data.dtype.str} {data.shape} {flag}\n".encode() + content)
    return digest.hexdigest()


def _dataset(group: h5py.Group, name: str, value: Any) -> h5py.Dataset:
    data = np.asarray(value)
    if data.dtype.kind in "US":
        return group.create_dataset(name, data=data.astype(object), dtype=h5py.string_dtype())
    if data.dtype == bool:
        # netCDF has no booleans; xarray reads this attribute back to one.
        dataset = group.create_dataset(name, data=data.astype(np.int8))
        dataset.attrs["dtype"] = "bool"
        return dataset
    return group.create_dataset(name, data=data)


def _scale(
    group: h5py.Group, dim: str, length: int, datasets: Mapping[str, h5py.Dataset]
) -> h5py.Dataset:
    if dim in datasets and datasets[dim].ndim == 1:
        datasets[dim].make_scale(dim)
        return datasets[dim]
    dataset = group.create_dataset(dim, data=np.zeros(length, dtype=np.float32))
    dataset.make_scale(_BARE_DIMENSION.format(length))
    return dataset


def _read(group: h5py.Group, path: Path) -> Result:
    version = int(group.attrs["schema_version"])
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{path} has result version {version}, this landscape ({__version__}) reads up to "
            f"{SCHEMA_VERSION}: upgrade landscape."
        )
    kind = group.attrs["kind"]
    if kind not in Result._kinds and kind in _HOMES:
        importlib.import_module(_HOMES[kind])
    if kind not in Result._kinds:
        raise DataError(
            f"{path} holds a result of kind '{kind}', which this version of landscape "
            f"({__version__}) does not know."
        )
    cls = Result._kinds[kind]
    types = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in cls.fields():
        name = field.name
        if f"{name}_standard_error" in group and _is_estimate(types[name]):
            values[name] = Estimate(
                float(member(group, name)[()]),
                float(member(group, f"{name}_standard_error")[()]),
                int(member(group, f"{name}_samples")[()]),
            )
        elif name in group:
            values[name] = _value(member(group, name), scalar=not field.metadata["dims"])
        elif type(None) in typing.get_args(types[name]):
            values[name] = None
        else:
            raise DataError(f"{path} lacks '{name}': the file is incomplete or damaged.")
    try:
        provenance = Provenance.from_json(group.attrs["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has no readable provenance: {_first_line(error)}.") from error
    found = cls(provenance=provenance, **values)
    seal = group.attrs.get("seal")  # files of earlier versions have none
    if seal is not None and seal != _seal(group):
        raise DataError(
            f"{path} is damaged (its content does not match its digest): copy or make it again."
        )
    return found


def _is_estimate(annotation: Any) -> bool:
    return annotation is Estimate or Estimate in typing.get_args(annotation)


def _value(dataset: h5py.Dataset, *, scalar: bool) -> Any:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        data = dataset.asstr()[()]
        return str(data) if scalar else np.asarray(data, dtype=str)
    data = dataset[()]
    if dataset.attrs.get("dtype") == "bool":
        data = np.asarray(data).astype(bool)
    return np.asarray(data).item() if scalar else np.asarray(data)


def _split(name: str, estimate: Estimate) -> dict[str, Any]:
    return {
        name: estimate.value,
        f"{name}_standard_error": estimate.standard_error,
        f"{name}_samples": estimate.samples,
    }


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            return False
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, Estimate) and isinstance(b, Estimate):
        return all(map(_equal, dataclasses.astuple(a), dataclasses.astuple(b)))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def jsonable(value: Any) -> Any:
    """As JSON takes it: arrays as lists, and ``None`` for numbers that are not finite."""
    if isinstance(value, Estimate):
        return {key: jsonable(v) for key, v in dataclasses.asdict(value).items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list):
        return [jsonable(v) for v in value]
    if isinstance(value, dict):
        return {key: jsonable(v) for key, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
