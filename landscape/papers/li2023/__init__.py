"""The figures and tables of li2023, Understanding and Combating Robust Overfitting."""

from landscape.papers.figures import Figure
from landscape.papers.li2023.benchmark_claims import TABLE1
from landscape.papers.li2023.degeneration import FIG3
from landscape.papers.li2023.modified import FIG4
from landscape.papers.li2023.overfitting import FIG1, FIG2
from landscape.papers.li2023.tables import TABLE2, TABLE3
from landscape.papers.li2023.validity import FIGA1, FIGA2, FIGA3

FIGURES: list[Figure] = [FIG1, FIG2, FIG3, FIG4, TABLE1, TABLE2, TABLE3, FIGA1, FIGA2, FIGA3]
