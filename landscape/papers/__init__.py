"""The figures and tables of five papers, as data; ``landscape figure`` makes them.

A figure names its work (``Run`` and ``Measure``), how it is drawn and which claims it should
bear out. The work of all figures is shared in a cache, by what it is.
"""

from landscape.papers.claims import Claim, Verdict
from landscape.papers.figures import PAPERS, Figure, Found, chosen, figures
from landscape.papers.kinds import Curves, Sheet, curves, sheet
from landscape.papers.making import Made, make_figures
from landscape.papers.scale import SCALES, Scale
from landscape.running.cache import Cache
from landscape.running.trained import Trained
from landscape.running.work import From, Measure, Run, measure

__all__ = [
    "PAPERS",
    "SCALES",
    "Cache",
    "Claim",
    "Curves",
    "Figure",
    "Found",
    "From",
    "Made",
    "Measure",
    "Run",
    "Scale",
    "Sheet",
    "Trained",
    "Verdict",
    "chosen",
    "curves",
    "figures",
    "make_figures",
    "measure",
    "sheet",
]
