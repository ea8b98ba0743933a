"""The figures and tables of sitawarin2021."""

from landscape.papers.figures import Figure

FIGURES: list[Figure] = []
