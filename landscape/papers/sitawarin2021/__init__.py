"""The figures and tables of sitawarin2021."""

from landscape.papers.figures import Figure
from landscape.papers.sitawarin2021.accuracies import TABLE1, TABLE2, TABLE3
from landscape.papers.sitawarin2021.norms import FIG6
from landscape.papers.sitawarin2021.samples import FIG7, FIG8
from landscape.papers.sitawarin2021.schemes import TABLE4
from landscape.papers.sitawarin2021.smoothness import FIG4, GAP
from landscape.papers.sitawarin2021.surfaces import FIG1
from landscape.papers.sitawarin2021.theory import FIG2, FIG5
from landscape.papers.sitawarin2021.trajectories import FIG3

FIGURES: list[Figure] = [
    FIG1,
    FIG2,
    FIG3,
    FIG4,
    FIG5,
    FIG6,
    FIG7,
    FIG8,
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE4,
    GAP,
]
