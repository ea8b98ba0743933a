"""The headline numbers of every section of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.reporting.headlines import Headline, Maker

CURVATURE = "loss / weight²"


def accuracy(make: Maker, found: Any) -> list[Headline]:
    rows = [make.share(f"accuracy, {name}", found.outcome(str(name))) for name in found.attack]
    losses = found.sample_loss
    assert losses is not None
    for name, values in zip(found.attack, losses, strict=True):
        if not np.isnan(values).all():  # AutoAttack maximises none
            rows.append(make.mean(f"loss, {name}", values, "nats"))
    return rows


def spectrum(make: Maker, found: Any) -> list[Headline]:
    top = len(found.eigenvalues)
    return [
        make.bound(f"eigenvalue {i + 1}", found.eigenvalues[i], found.residuals[i], CURVATURE)
        for i in sorted({0, min(4, top - 1)})
    ]


def trace(make: Maker, found: Any) -> list[Headline]:
    return [
        make.mean("trace", found.estimates, CURVATURE, over="probes"),
        make.estimate("Frobenius norm", found.frobenius, CURVATURE),
        make.estimate("effective rank (tr H)² / ‖H‖²", found.effective_rank),
    ]


def density(make: Maker, found: Any) -> list[Headline]:
    norm = make.bound("spectral norm", found.spectral_norm, found.outlier_residuals[0], CURVATURE)
    return [norm, make.estimate("tr H / spectral norm", found.intrinsic_dimension)]


def lines(make: Maker, found: Any) -> list[Headline]:
    if not found.draws:  # a plane, or one line: a picture alone
        return []
    rise = found.loss.mean(1) - found.centre_loss
    return [make.mean("mean rise of the loss within ±1", rise, "nats", over="probes")]


def inputs(make: Maker, found: Any) -> list[Headline]:
    return [
        make.mean("input gradient ‖∇ₓℓ‖₁", found.ig_l1, "loss / input"),
        make.mean("input gradient ‖∇ₓℓ‖₂", found.ig_l2, "loss / input"),
        make.mean("input Hessian Σ|λ|", found.hs, "loss / input²"),
    ]


def masking(make: Maker, found: Any) -> list[Headline]:
    return [make.exact("suspicious checks", int((found.verdict == "suspicious").sum()))]


def effectiveness(make: Maker, found: Any) -> list[Headline]:
    star = found.reference_loss - found.clean_loss
    rows = [make.mean(f"rise of the loss, {found.reference}", star, "nats")]
    for i, name in enumerate(map(str, found.attack)):
        ratio = found.ratio_of_means(name).value
        # The delta method as draws: their mean is the ratio, their scatter its standard error.
        draws = ratio + (found.loss[i, 0] - found.clean_loss - ratio * star) / star.mean()
        rows.append(make.mean(f"share of it that {name.upper()} reaches", draws))
    return rows


def linearity(make: Maker, found: Any) -> list[Headline]:
    return [
        make.mean("gradient alignment", found.sample_alignment()),
        make.mean("linearity gap", found.gap, "loss"),
        make.mean(
            f"‖Δf‖₁ / ‖δ‖ in the {found.norm} ball, at least", found.lipschitz, "output / input"
        ),
    ]


def neurons(make: Maker, found: Any) -> list[Headline]:
    shares = found.sample_zero_share
    if not shares.size:
        return []
    return [
        make.exact("dead units", float(found.dead_units.sum()), f"of {int(found.units.sum())}"),
        make.mean("share of zero activations", shares.mean(1)),
    ]


def lipschitz(make: Maker, found: Any) -> list[Headline]:
    slack = found.upper - found.estimate
    return [
        make.bound("Lipschitz constant in l2, at most", found.upper, slack, "output / input"),
        make.mean("‖J(x)‖₂ at the data", found.jacobian, "output / input"),
    ]


def smoothness(make: Maker, found: Any) -> list[Headline]:
    names, losses = list(map(str, found.direction)), list(map(str, found.loss))
    along = names.index("gradient") if "gradient" in names else 0
    loss = losses.index("renewed") if "renewed" in losses else losses.index("clean")
    of = "L_ε" if "renewed" in losses else "L"
    step = f"a = {found.a[0]:.2g}"
    if names[along] != "gradient":
        step += f", v {names[along]}"
    ratio = found.ratio[loss, along, :, 0]
    return [
        make.mean(f"‖∇{of}(θ + av) − ∇{of}(θ)‖ / a, {step}", ratio, CURVATURE, over="probes"),
        make.mean(f"ε-sharpness of {of}", found.sharpness[loss], over="probes"),
    ]


def cosine(make: Maker, found: Any) -> list[Headline]:
    values = found.cosine[0, :, -1]
    name = f"cosine of the perturbations, a = {found.a[-1]:.2g}"
    return [make.mean(name, values, over="probes")]


def samples(make: Maker, found: Any) -> list[Headline]:
    return [
        make.mean("λ_max of a sample's Hessian", found.lambda_max, CURVATURE),
        make.mean("‖∇ℓ_i‖", found.gradient_norm, "loss / weight"),
    ]


def nothing(make: Maker, found: Any) -> list[Headline]:
    """A picture alone."""
    return []


# Of every diagnostic, by its name in ``DIAGNOSTICS``.
NUMBERS: dict[str, Callable[[Maker, Any], list[Headline]]] = {
    "evaluate": accuracy,
    "masking": masking,
    "samples": samples,
    "spectrum": spectrum,
    "density": density,
    "trace": trace,
    "surface": lines,
    "cosine": cosine,
    "smoothness": smoothness,
    "lipschitz": lipschitz,
    "neurons": neurons,
    "inputs": inputs,
    "linearity": linearity,
    "effectiveness": effectiveness,
    "difficulty": nothing,
}
