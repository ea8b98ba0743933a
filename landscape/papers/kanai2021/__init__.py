"""The figures and tables of kanai2021."""

from landscape.papers.figures import Figure

FIGURES: list[Figure] = []
