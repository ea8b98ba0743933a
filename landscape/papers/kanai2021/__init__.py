"""The figures and tables of kanai2021, Smoothness Analysis of Adversarial Training."""

from landscape.papers.figures import Figure
from landscape.papers.kanai2021.flatness import FIG7
from landscape.papers.kanai2021.inputs import FIG1
from landscape.papers.kanai2021.learning import FIG3, FIG6
from landscape.papers.kanai2021.surfaces import FIG2, FIG4, FIG5
from landscape.papers.kanai2021.tables import TABLE1, TABLE2, TABLE3

FIGURES: list[Figure] = [FIG1, FIG2, FIG3, FIG4, FIG5, FIG6, FIG7, TABLE1, TABLE2, TABLE3]
