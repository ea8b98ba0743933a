"""Recording along a training: gradients, noise, perturbations, samples, any diagnostic."""

from landscape.tracking.diagnostics import TRACKED, Measured, TrackedEntry
from landscape.tracking.settings import Tracking
from landscape.tracking.track import Track
from landscape.tracking.tracker import Tracker

__all__ = ["TRACKED", "Measured", "Track", "TrackedEntry", "Tracker", "Tracking"]
