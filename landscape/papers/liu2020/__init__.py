"""The figures and tables of liu2020, On the Loss Landscape of Adversarial Training."""

from landscape.papers.figures import Figure
from landscape.papers.liu2020.connections import FIG15
from landscape.papers.liu2020.cosines import FIG3, FIG10
from landscape.papers.liu2020.losses import FIG11
from landscape.papers.liu2020.minibatches import FIG1, FIG8
from landscape.papers.liu2020.schedulers import FIG4, FIG13, FIG14
from landscape.papers.liu2020.schedules import FIG6, FIG7
from landscape.papers.liu2020.sketch import FIG5
from landscape.papers.liu2020.spectra import FIG2, FIG9
from landscape.papers.liu2020.surfaces import FIG12
from landscape.papers.liu2020.tables import TABLE1, TABLE2

FIGURES: list[Figure] = [
    FIG1,
    FIG2,
    FIG3,
    FIG4,
    FIG5,
    FIG6,
    FIG7,
    FIG8,
    FIG9,
    FIG10,
    FIG11,
    FIG12,
    FIG13,
    FIG14,
    FIG15,
    TABLE1,
    TABLE2,
]
