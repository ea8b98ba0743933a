"""The figures and tables of liu2022."""

from landscape.papers.figures import Figure
from landscape.papers.liu2022.adaptive import FIG12, FIG13, FIG14, FIG15
from landscape.papers.liu2022.distances import FIG3, TABLE4, TABLE5
from landscape.papers.liu2022.fast import FIG16, FIG17, FIG18, FIG19, TABLE1
from landscape.papers.liu2022.groups import FIG2, FIG8
from landscape.papers.liu2022.learning import FIG1
from landscape.papers.liu2022.lipschitz import FIG11, TABLE6
from landscape.papers.liu2022.more_learning import FIG5, FIG6, FIG7, FIG10
from landscape.papers.liu2022.notation import TABLE3
from landscape.papers.liu2022.radii import FIG4, FIG9
from landscape.papers.liu2022.samples import FIG20, FIG21
from landscape.papers.liu2022.tuning import TABLE2, TABLE7

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
    FIG16,
    FIG17,
    FIG18,
    FIG19,
    FIG20,
    FIG21,
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5,
    TABLE6,
    TABLE7,
]
