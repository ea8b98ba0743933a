"""Everything that is measured. ``DIAGNOSTICS`` names it all.

A diagnostic is a function of an Objective that returns a Result. The command line, the contract
tests and the documentation are driven by this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from landscape.diagnostics.cosines import Cosine, perturbation_cosine
from landscape.diagnostics.densities import Density, density
from landscape.diagnostics.eigenvalues import Spectrum, spectrum
from landscape.diagnostics.evaluation import Evaluation, evaluate
from landscape.diagnostics.input_space import Inputs, inputs
from landscape.diagnostics.samples import SampleCurvature, sample_curvature
from landscape.diagnostics.smoothness import Smoothness, local_smoothness
from landscape.diagnostics.surfaces import Axis, Surface, surface
from landscape.diagnostics.traces import Trace, trace
from landscape.results import Result

__all__ = [
    "DIAGNOSTICS",
    "Axis",
    "Cosine",
    "Density",
    "Evaluation",
    "Inputs",
    "SampleCurvature",
    "Smoothness",
    "Spectrum",
    "Surface",
    "Trace",
    "density",
    "evaluate",
    "inputs",
    "local_smoothness",
    "perturbation_cosine",
    "sample_curvature",
    "spectrum",
    "surface",
    "trace",
]


@dataclass(frozen=True)
class DiagnosticEntry:
    """One row: the function, what it returns, what it is for, and arguments for a quick run."""

    function: Callable[..., Result]
    result: type[Result]
    description: str
    quick: dict[str, Any] = field(default_factory=dict)


DIAGNOSTICS: dict[str, DiagnosticEntry] = {
    "evaluate": DiagnosticEntry(evaluate, Evaluation, "clean and robust accuracy and loss"),
    "samples": DiagnosticEntry(
        sample_curvature,
        SampleCurvature,
        "top Hessian eigenvalue of every sample's loss, and cheap scores of it",
        {"sub_batches": (1, 4)},
    ),
    "spectrum": DiagnosticEntry(
        spectrum, Spectrum, "top eigenvalues of the Hessian of the loss", {"top": 3}
    ),
    "density": DiagnosticEntry(
        density,
        Density,
        "spectral density of the Hessian of the loss",
        {"probes": 3, "steps": 5},
    ),
    "trace": DiagnosticEntry(trace, Trace, "trace of the Hessian of the loss", {"samples": 4}),
    "surface": DiagnosticEntry(
        surface,
        Surface,
        "the loss along one or two directions",
        {"x": Axis(-1, 1, 3), "y": Axis(-0.5, 0.5, 2)},
    ),
    "cosine": DiagnosticEntry(
        perturbation_cosine,
        Cosine,
        "how much adversarial perturbations differ between θ + av and θ − av",
        {"a": Axis(0.0, 0.5, 2), "draws": 2},
    ),
    "smoothness": DiagnosticEntry(
        local_smoothness,
        Smoothness,
        "local Lipschitz constants of the gradient, clean and adversarial, and sharpness",
        {"a": (0.1, 1.0), "draws": 2, "ascent_steps": 2},
    ),
    "inputs": DiagnosticEntry(
        inputs, Inputs, "gradient and Hessian of the loss in the input, per sample", {"top": 3}
    ),
}
