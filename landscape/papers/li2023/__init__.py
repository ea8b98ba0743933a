"""The figures and tables of li2023."""

from landscape.papers.figures import Figure

FIGURES: list[Figure] = []
