"""Loss landscapes of neural networks: measured, with their uncertainties, and drawn.

The public API, by what it is for. Names are imported on first use, so that
``import landscape`` and ``landscape --help`` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from landscape._version import __version__

if TYPE_CHECKING:
    from landscape.attacks import Attack, Ball, attack
    from landscape.attacks.autoattack import AutoAttack
    from landscape.callbacks import huggingface_callback, lightning_callback, log_to_wandb
    from landscape.checkpoints import Checkpoint
    from landscape.checkpoints import load as load_checkpoint
    from landscape.connectivity import Connectivity, Curve, CurvePlan, connect
    from landscape.diagnostics import (
        DIAGNOSTICS,
        Agreement,
        Axis,
        Cosine,
        Density,
        Differences,
        Difficulty,
        Effectiveness,
        Evaluation,
        Examples,
        Inputs,
        Lipschitz,
        LocalLinearity,
        Masking,
        Neurons,
        SampleCurvature,
        Smoothness,
        Spectrum,
        Surface,
        Trace,
        adversarial_examples,
        density,
        differences,
        difficulty,
        difficulty_agreement,
        difficulty_correlation,
        difficulty_distance,
        effectiveness,
        evaluate,
        inputs,
        lipschitz,
        local_linearity,
        local_smoothness,
        masking,
        neurons,
        perturbation_cosine,
        recorded_difficulty,
        sample_curvature,
        spectrum,
        surface,
        trace,
    )
    from landscape.objective import Objective
    from landscape.operators import Hessian
    from landscape.reporting import Comparison, Report, compare, report
    from landscape.results import Estimate, Result, load, load_all, save_all
    from landscape.structured import adapt, embedded
    from landscape.sweeps.sweeping import sweep
    from landscape.sweeps.table import Sweep
    from landscape.tracking import TRACKED, Measured, Track, Tracker, Tracking
    from landscape.training import METHODS, Plan, default_config, fit, method, train

_WHERE = {
    # the function that is studied
    "Objective": "landscape.objective",
    "adapt": "landscape.structured",
    "embedded": "landscape.structured",
    # adversarial examples
    "Attack": "landscape.attacks",
    "AutoAttack": "landscape.attacks.autoattack",
    "Ball": "landscape.attacks",
    "attack": "landscape.attacks",
    # what is measured
    "DIAGNOSTICS": "landscape.diagnostics",
    "adversarial_examples": "landscape.diagnostics",
    "density": "landscape.diagnostics",
    "differences": "landscape.diagnostics",
    "difficulty": "landscape.diagnostics",
    "difficulty_agreement": "landscape.diagnostics",
    "difficulty_correlation": "landscape.diagnostics",
    "difficulty_distance": "landscape.diagnostics",
    "effectiveness": "landscape.diagnostics",
    "evaluate": "landscape.diagnostics",
    "inputs": "landscape.diagnostics",
    "lipschitz": "landscape.diagnostics",
    "local_linearity": "landscape.diagnostics",
    "local_smoothness": "landscape.diagnostics",
    "masking": "landscape.diagnostics",
    "neurons": "landscape.diagnostics",
    "perturbation_cosine": "landscape.diagnostics",
    "recorded_difficulty": "landscape.diagnostics",
    "sample_curvature": "landscape.diagnostics",
    "spectrum": "landscape.diagnostics",
    "surface": "landscape.diagnostics",
    "trace": "landscape.diagnostics",
    "Axis": "landscape.diagnostics",
    "Hessian": "landscape.operators",
    # everything that fits into a time budget, and what differs
    "Comparison": "landscape.reporting",
    "Report": "landscape.reporting",
    "compare": "landscape.reporting",
    "report": "landscape.reporting",
    # grids of trainings and what measures them
    "Sweep": "landscape.sweeps.table",
    "sweep": "landscape.sweeps.sweeping",
    # results, and their files
    "Estimate": "landscape.results",
    "Cosine": "landscape.diagnostics",
    "Density": "landscape.diagnostics",
    "Differences": "landscape.diagnostics",
    "Agreement": "landscape.diagnostics",
    "Difficulty": "landscape.diagnostics",
    "Effectiveness": "landscape.diagnostics",
    "Evaluation": "landscape.diagnostics",
    "Examples": "landscape.diagnostics",
    "Inputs": "landscape.diagnostics",
    "LocalLinearity": "landscape.diagnostics",
    "Lipschitz": "landscape.diagnostics",
    "Masking": "landscape.diagnostics",
    "Neurons": "landscape.diagnostics",
    "Result": "landscape.results",
    "SampleCurvature": "landscape.diagnostics",
    "Smoothness": "landscape.diagnostics",
    "Spectrum": "landscape.diagnostics",
    "Surface": "landscape.diagnostics",
    "Trace": "landscape.diagnostics",
    "load": "landscape.results",
    "load_all": "landscape.results",
    "save_all": "landscape.results",
    # training
    "METHODS": "landscape.training",
    "Plan": "landscape.training",
    "default_config": "landscape.training",
    "fit": "landscape.training",
    "method": "landscape.training",
    "train": "landscape.training",
    # records along a training
    "TRACKED": "landscape.tracking",
    "Measured": "landscape.tracking",
    "Track": "landscape.tracking",
    "Tracker": "landscape.tracking",
    "Tracking": "landscape.tracking",
    "huggingface_callback": "landscape.callbacks",
    "lightning_callback": "landscape.callbacks",
    "log_to_wandb": "landscape.callbacks",
    # curves between two networks
    "Connectivity": "landscape.connectivity",
    "Curve": "landscape.connectivity",
    "CurvePlan": "landscape.connectivity",
    "connect": "landscape.connectivity",
    # checkpoints
    "Checkpoint": "landscape.checkpoints",
    "load_checkpoint": ("landscape.checkpoints", "load"),
}

__all__ = [
    "DIAGNOSTICS",
    "METHODS",
    "TRACKED",
    "Agreement",
    "Attack",
    "AutoAttack",
    "Axis",
    "Ball",
    "Checkpoint",
    "Comparison",
    "Connectivity",
    "Cosine",
    "Curve",
    "CurvePlan",
    "Density",
    "Differences",
    "Difficulty",
    "Effectiveness",
    "Estimate",
    "Evaluation",
    "Examples",
    "Hessian",
    "Inputs",
    "Lipschitz",
    "LocalLinearity",
    "Masking",
    "Measured",
    "Neurons",
    "Objective",
    "Plan",
    "Report",
    "Result",
    "SampleCurvature",
    "Smoothness",
    "Spectrum",
    "Surface",
    "Sweep",
    "Trace",
    "Track",
    "Tracker",
    "Tracking",
    "__version__",
    "adapt",
    "adversarial_examples",
    "attack",
    "compare",
    "connect",
    "default_config",
    "density",
    "differences",
    "difficulty",
    "difficulty_agreement",
    "difficulty_correlation",
    "difficulty_distance",
    "effectiveness",
    "embedded",
    "evaluate",
    "fit",
    "huggingface_callback",
    "inputs",
    "lightning_callback",
    "lipschitz",
    "load",
    "load_all",
    "load_checkpoint",
    "local_linearity",
    "local_smoothness",
    "log_to_wandb",
    "masking",
    "method",
    "neurons",
    "perturbation_cosine",
    "recorded_difficulty",
    "report",
    "sample_curvature",
    "save_all",
    "spectrum",
    "surface",
    "sweep",
    "trace",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'landscape' has no attribute '{name}'")
    where = _WHERE[name]
    module, attribute = where if isinstance(where, tuple) else (where, name)
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
