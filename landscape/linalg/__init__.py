"""Linear algebra on operators: it never sees a network."""

from landscape.linalg.lanczos import WHICH, Eigenpairs, eigenpairs
from landscape.linalg.operator import Dense, SymmetricOperator
from landscape.linalg.trace import hutchinson

__all__ = ["WHICH", "Dense", "Eigenpairs", "SymmetricOperator", "eigenpairs", "hutchinson"]
