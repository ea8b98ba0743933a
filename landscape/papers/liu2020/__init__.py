"""The figures and tables of liu2020, On the Loss Landscape of Adversarial Training."""

from landscape.papers.figures import Figure
from landscape.papers.liu2020.spectra import FIG2

FIGURES: list[Figure] = [FIG2]
