"""Linear algebra on operators: it never sees a network."""

from landscape.linalg.density import PROBES, Quadrature, Smoothed, quadrature, smooth
from landscape.linalg.lanczos import WHICH, Eigenpairs, eigenpairs, least_basis
from landscape.linalg.operator import Dense, SymmetricOperator
from landscape.linalg.trace import (
    TRACES,
    Recorded,
    effective_rank,
    frobenius,
    frobenius_norm,
    hutchinson,
    hutchpp,
    xtrace,
)

__all__ = [
    "PROBES",
    "TRACES",
    "WHICH",
    "Dense",
    "Eigenpairs",
    "Quadrature",
    "Recorded",
    "Smoothed",
    "SymmetricOperator",
    "effective_rank",
    "eigenpairs",
    "frobenius",
    "frobenius_norm",
    "hutchinson",
    "hutchpp",
    "least_basis",
    "quadrature",
    "smooth",
    "xtrace",
]
