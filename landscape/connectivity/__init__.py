"""Mode connectivity: curves of low loss between two networks (Garipov et al. 2018; liu2020 C.2.5).

``connect`` trains a Bezier curve or a polygonal chain between two networks of one architecture
and measures the loss along it beside the straight line. It stands above ``training``, whose
samples, optimisers and schedules it uses.
"""

from landscape.connectivity.batchnorm import reestimate
from landscape.connectivity.connecting import connect
from landscape.connectivity.curves import Curve
from landscape.connectivity.files import CurveCheckpoint, extract, load_curve
from landscape.connectivity.fitting import CurvePlan, CurveState, fit_curve
from landscape.connectivity.profiles import Connectivity, profile

__all__ = [
    "Connectivity",
    "Curve",
    "CurveCheckpoint",
    "CurvePlan",
    "CurveState",
    "connect",
    "extract",
    "fit_curve",
    "load_curve",
    "profile",
    "reestimate",
]
