"""The figures and tables of kanai2021, Smoothness Analysis of Adversarial Training."""

from landscape.papers.figures import Figure
from landscape.papers.kanai2021.inputs import FIG1
from landscape.papers.kanai2021.surfaces import FIG2, FIG4, FIG5

FIGURES: list[Figure] = [FIG1, FIG2, FIG4, FIG5]
