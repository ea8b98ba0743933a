"""What was recorded along a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.errors import UsageError, unknown
from landscape.results import Estimate, Result, array, scalar

# Random estimates of every block of minibatch gradients.
NOISE = ("noise_trace", "gradient_square", "noise_scale")


@dataclass(frozen=True, eq=False)
class Track(Result):
    """A training, minibatch by minibatch and epoch by epoch (``landscape.tracking.Tracker``).

    **Minibatches** (dimension ``update``, counted from 1; those of the chosen windows): g is the
    gradient of the minibatch's loss, before clipping and without weight decay; θ₀ the parameters
    when tracking began. ``loss``, ``error`` and ``gradient_norm`` are at the parameters before
    the update, ``distance`` is ‖θ − θ₀‖₂ after it and ``update_norm`` its length. ``error`` is
    that on the inputs trained on, the robust error if they are adversarial; ``delta_l2`` and
    ``delta_linf`` are means over the minibatch of the norms of x' − x. ``cosine`` is that of g
    and the recorded gradient before it, NaN at the first of a window. NaN: not given.

    **Blocks** of consecutive recorded minibatches of one size (None without): Σ is the covariance
    of one sample's gradient, G its mean; see ``landscape.tracking.noise``.

    **Diagnostics** (None without): ``value[d, k]`` of ``diagnostic[d]`` after
    ``measured_epoch[k]`` epochs, ``error_bar[d, k]`` its standard error or residual, whichever
    ``error_kind[d]`` says; NaN where there is none or where the measurement failed.

    **Samples** of the training data in their order (None unless asked for): ``sample_loss[e, i]``
    is the cross-entropy −log p(y_i | x'_i) of sample i when epoch ``epoch[e]`` trained on it, so
    in train mode, augmented and perturbed as it was, at the parameters of that moment;
    ``sample_correct`` whether it was classified correctly, 0 or 1; ``sample_clean_loss`` the
    cross-entropy at the unperturbed input, for methods that compute it anyway. NaN where not seen.
    ``memory[k, i]`` is what the method remembered of sample i after ``memory_epoch[k]`` epochs:
    its radius, one entry, or its moving target, one per class.
    """

    kind: ClassVar[str] = "track"

    update: np.ndarray = array("update", label="update")
    time: np.ndarray = array("update", units="epochs", label="time")
    window: np.ndarray = array("update", label="number of the window")
    batch_size: np.ndarray = array("update", units="samples", label="minibatch")
    loss: np.ndarray = array("update", units="nats", label="training loss of the minibatch")
    error: np.ndarray = array("update", units="fraction", label="error of the minibatch")
    gradient_norm: np.ndarray = array(
        "update", units="loss / weight", label="stochastic gradient ‖g‖₂"
    )
    update_norm: np.ndarray = array("update", units="weight", label="update ‖Δθ‖₂")
    distance: np.ndarray = array("update", units="weight", label="distance ‖θ − θ₀‖₂")
    cosine: np.ndarray = array("update", label="cosine of successive gradients")
    delta_l2: np.ndarray = array("update", units="input", label="mean perturbation ‖δ‖₂")
    delta_linf: np.ndarray = array("update", units="input", label="mean perturbation ‖δ‖∞")
    learning_rate: np.ndarray = array("update", label="learning rate")

    block_time: np.ndarray | None = array(
        "block", units="epochs", label="mean time of the block", default=None
    )
    block_update: np.ndarray | None = array("block", label="last update of the block", default=None)
    block_gradients: np.ndarray | None = array(
        "block", label="minibatch gradients in the block", default=None
    )
    block_batch_size: np.ndarray | None = array(
        "block", units="samples", label="minibatch", default=None
    )
    noise_trace: np.ndarray | None = array(
        "block", units="(loss / weight)²", label="gradient noise tr Σ", default=None
    )
    noise_trace_standard_error: np.ndarray | None = array(
        "block", units="(loss / weight)²", label="standard error of tr Σ", default=None
    )
    gradient_square: np.ndarray | None = array(
        "block", units="(loss / weight)²", label="squared mean gradient |G|²", default=None
    )
    gradient_square_standard_error: np.ndarray | None = array(
        "block", units="(loss / weight)²", label="standard error of |G|²", default=None
    )
    noise_scale: np.ndarray | None = array(
        "block", units="samples", label="simple noise scale tr Σ / |G|²", default=None
    )
    noise_scale_standard_error: np.ndarray | None = array(
        "block", units="samples", label="standard error of the noise scale", default=None
    )

    measured_epoch: np.ndarray | None = array(
        "measured_epoch", units="epochs", label="epoch", default=None
    )
    diagnostic: np.ndarray | None = array("diagnostic", default=None)
    value: np.ndarray | None = array("diagnostic", "measured_epoch", default=None)
    error_bar: np.ndarray | None = array(
        "diagnostic", "measured_epoch", label="standard error or residual", default=None
    )
    error_kind: np.ndarray | None = array("diagnostic", label="what error_bar is", default=None)

    epoch: np.ndarray | None = array("epoch", units="epochs", default=None)
    sample_loss: np.ndarray | None = array(
        "epoch", "sample", units="nats", label="loss of the sample", default=None
    )
    sample_correct: np.ndarray | None = array(
        "epoch", "sample", label="sample classified correctly", default=None
    )
    sample_clean_loss: np.ndarray | None = array(
        "epoch", "sample", units="nats", label="clean loss of the sample", default=None
    )
    labels: np.ndarray | None = array("sample", label="class", default=None)

    memory_epoch: np.ndarray | None = array("memory_epoch", units="epochs", default=None)
    memory: np.ndarray | None = array("memory_epoch", "sample", "entry", default=None)

    epochs: int = scalar(units="epochs", label="epochs finished")

    def estimates(self, name: str) -> list[Estimate]:
        """``noise_trace``, ``gradient_square`` or ``noise_scale`` of every block."""
        if name not in NOISE:
            raise unknown("estimate of a track", name, NOISE)
        values, errors = getattr(self, name), getattr(self, f"{name}_standard_error")
        if values is None or self.block_gradients is None:
            return []
        return [
            Estimate(float(v), float(e), int(n))
            for v, e, n in zip(values, errors, self.block_gradients, strict=True)
        ]

    def measured(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Values of a diagnostic at every ``measured_epoch``, and their error bars."""
        if self.diagnostic is None or self.value is None or self.error_bar is None:
            raise UsageError("no diagnostics were tracked: give Tracker(diagnostics=...).")
        names = [str(d) for d in self.diagnostic]
        if name not in names:
            raise unknown("tracked diagnostic", name, names)
        return self.value[names.index(name)], self.error_bar[names.index(name)]

    def plot(self, ax: Any = None, quantity: str = "gradient_norm") -> Any:
        """One quantity of the minibatches, or one diagnostic; ``landscape plot`` draws them all."""
        from landscape.plotting.track import draw

        return draw([self], quantity, ax=ax)
