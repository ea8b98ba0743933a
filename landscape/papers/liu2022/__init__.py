"""The figures and tables of liu2022."""

from landscape.papers.figures import Figure

FIGURES: list[Figure] = []
