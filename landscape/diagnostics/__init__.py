"""Everything that is measured. ``DIAGNOSTICS`` names it all.

A diagnostic is a function of an Objective that returns a Result. The command line, the contract
tests and the documentation are driven by this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from landscape.attacks import Ball, attack
from landscape.diagnostics.agreement import (
    Agreement,
    difficulty_agreement,
    difficulty_correlation,
    difficulty_distance,
)
from landscape.diagnostics.attack_effectiveness import Effectiveness, effectiveness
from landscape.diagnostics.cosines import Cosine, perturbation_cosine
from landscape.diagnostics.dead_neurons import Neurons, neurons
from landscape.diagnostics.densities import Density, density
from landscape.diagnostics.difficulties import Difficulty, difficulty, recorded_difficulty
from landscape.diagnostics.eigenvalues import Spectrum, spectrum
from landscape.diagnostics.evaluation import Evaluation, evaluate
from landscape.diagnostics.examples import Examples, adversarial_examples
from landscape.diagnostics.gradient_masking import Masking, masking
from landscape.diagnostics.input_space import Inputs, inputs
from landscape.diagnostics.linearity import LocalLinearity, local_linearity
from landscape.diagnostics.lipschitz_bounds import Lipschitz, lipschitz
from landscape.diagnostics.pairing import Differences, differences
from landscape.diagnostics.samples import SampleCurvature, sample_curvature
from landscape.diagnostics.smoothness import Smoothness, local_smoothness
from landscape.diagnostics.surfaces import Axis, Surface, surface
from landscape.diagnostics.traces import Trace, trace
from landscape.results import Result

__all__ = [
    "DIAGNOSTICS",
    "Agreement",
    "Axis",
    "Cosine",
    "Density",
    "Differences",
    "Difficulty",
    "Effectiveness",
    "Evaluation",
    "Examples",
    "Inputs",
    "Lipschitz",
    "LocalLinearity",
    "Masking",
    "Neurons",
    "SampleCurvature",
    "Smoothness",
    "Spectrum",
    "Surface",
    "Trace",
    "adversarial_examples",
    "density",
    "differences",
    "difficulty",
    "difficulty_agreement",
    "difficulty_correlation",
    "difficulty_distance",
    "effectiveness",
    "evaluate",
    "inputs",
    "lipschitz",
    "local_linearity",
    "local_smoothness",
    "masking",
    "neurons",
    "perturbation_cosine",
    "recorded_difficulty",
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
    "masking": DiagnosticEntry(
        masking,
        Masking,
        "whether a gradient attack fails for reasons other than robustness",
        {"attack": attack("pgd-3", eps=0.1), "queries": 20},
    ),
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
    "lipschitz": DiagnosticEntry(
        lipschitz,
        Lipschitz,
        "the network's Lipschitz constant: certified upper bound, sampled lower bound",
        {"pairs": 20},
    ),
    "neurons": DiagnosticEntry(
        neurons, Neurons, "dead neurons and layers, constant outputs", {"tol": 0.1}
    ),
    "inputs": DiagnosticEntry(
        inputs, Inputs, "gradient and Hessian of the loss in the input, per sample", {"top": 3}
    ),
    "linearity": DiagnosticEntry(
        local_linearity,
        LocalLinearity,
        "gradient alignment, linearity gap and Lipschitz constant around every input",
        {"ball": Ball("linf", 0.1), "draws": 2, "steps": 2},
    ),
    "effectiveness": DiagnosticEntry(
        effectiveness,
        Effectiveness,
        "rise of the loss that attacks reach, as a share of a strong one's",
        {
            "attacks": {"fgsm": attack("fgsm", eps=0.1)},
            "reference": attack("pgd-3", eps=0.1),
            "scales": (0.5,),
            "flips": (0.5,),
        },
    ),
    "difficulty": DiagnosticEntry(
        difficulty,
        Difficulty,
        "how hard every sample is to fit: the rank of its loss, averaged over networks",
        {"groups": 3},
    ),
}
