"""Work that is done once: trainings and measurements of what they made, kept by what they are.

A plan is a mapping of names to ``Run`` and ``Measure``. ``execute`` does what is missing of it in a
``Cache``, here or on a cluster. Figures of papers and sweeps are both made of such plans.
"""

from landscape.running.cache import Cache
from landscape.running.runner import Outcome, execute, missing
from landscape.running.trained import Trained
from landscape.running.work import From, Measure, Run, Work, everything, measure

__all__ = [
    "Cache",
    "From",
    "Measure",
    "Outcome",
    "Run",
    "Trained",
    "Work",
    "everything",
    "execute",
    "measure",
    "missing",
]
