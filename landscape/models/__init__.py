"""Every architecture of the five papers, by name, with its normalisation inside.

``build`` makes a network, ``ModelSpec`` describes one in plain types, ``MODELS`` lists them.
``Ensemble`` makes one network of several.
"""

from landscape.models.building import ModelSpec, build, count_parameters, imports
from landscape.models.common import ACTIVATIONS, Normalize, Normalized, activation
from landscape.models.ensemble import Ensemble
from landscape.models.registry import MODELS, ModelEntry

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "Ensemble",
    "ModelEntry",
    "ModelSpec",
    "Normalize",
    "Normalized",
    "activation",
    "build",
    "count_parameters",
    "imports",
]
