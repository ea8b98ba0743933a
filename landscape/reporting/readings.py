"""How to read every section of a report: what it measures, its formula, when it lies."""

from __future__ import annotations

ACCURACY = """
The share of samples classified correctly, clean and under attack, with Wilson's 95 % interval, and
the mean loss with its standard error over samples. Robust accuracy is an upper bound: a stronger
attack may find more, so read it beside the signs of gradient masking. “Worst of all” counts a
sample as right only if it is so under every attack.
"""

SPECTRUM = """
The largest eigenvalues λ of H = ∇²_θ L, the curvature of the mean loss in the weights, each with
its residual ‖Hv − λv‖: an eigenvalue lies that close. Larger is sharper. The scale of the weights
matters (a ReLU layer doubled and the next halved is the same function with another λ), so compare
networks of one architecture and one way of training. ReLU networks have no curvature across their
kinks.
"""

SPECTRUM_ATTACKED = """
The same for the adversarial loss, H = ∇²_θ L(x + δ*; θ) with every perturbation δ* held fixed.
That δ* would change with θ is left out, so this is a lower account of how rough L_ε is; the
adversarial surface and the smoothness section attack again at every point.
"""

SURFACE = """
The loss on a plane θ + x·d₁ + y·d₂ through the model, along two random directions whose filters
have the norms of the model's own (Li et al. 2018), on one scale for all networks. Wide contours say
that the loss rises slowly. Two directions of many are a slice: another seed is another plane, and a
surface can look smooth that is not.
"""

SURFACE_ATTACKED = """
The same plane of the adversarial loss L_ε(θ) = mean max ℓ(x + δ; θ), attacked again at every point
from the same random starts. Its maximum is what a few attack steps reach, so a lower bound of L_ε.
Compare its shape with the clean surface: adversarial training is said to sharpen it (liu2020).
"""

MASKING = """
Does the attack fail for reasons other than robustness? Each check counts samples that a weaker,
longer or blinder attack breaks though the attack above did not (Athalye et al. 2018, Carlini et al.
2019); it is suspicious where the lower 99 % bound of their share exceeds what is tolerated. One
suspicious check makes robust accuracy untrustworthy; passing all of them proves nothing.
"""

TRACE = """
tr H = Σ λ, the mean curvature times the number of weights, by Hutchinson's estimator: the mean of
zᵀHz over random sign vectors z, with its standard error. The effective rank (tr H)² / ‖H‖_F² says
over how many directions curvature spreads. A trace near zero may be large positive and negative
curvature that cancel: read it beside the spectrum.
"""

INPUTS = """
The slope ‖∇ₓℓ‖ and the curvature Σ|λ(∇²ₓℓ)| of every sample's loss in its input (IG and HS of
li2023), means over samples with standard errors. Small values say that the loss is flat around the
data. They are local: a network with masked gradients has small slopes and is no more robust for it.
A confident network has a small slope wherever it is right.
"""

LINES = """
The loss along random lines through the model, filter-normalised as the surface is, one per draw.
The number is the mean rise of the loss over all points within ±1; its standard error is over the
directions, which one plane cannot give. The scatter between lines tells how far to trust a surface.
"""

EFFECTIVENESS = """
How much of a strong attack's rise in the loss one step of FGSM reaches: mean rise over mean rise
(li2023 eq. 7 as a ratio of means), with its standard error by the delta method. Near 1 the loss is
nearly linear within the ball, as after a training that works with single steps; a small value is
the mark of catastrophic overfitting. The strong attack need not reach the maximum either.
"""

LINEARITY = """
Around every input, within the ball: the cosine between the input gradients at x and at a random
point (GradAlign), the largest |ℓ(x + δ) − ℓ(x) − δᵀ∇ₓℓ| (the linearity gap) and the largest change
of the logits per distance (the local Lipschitz constant). The last two are found by ascent, so they
are lower bounds; where gradients are masked the ascent fails and small values say little.
"""

DENSITY = """
The density of all eigenvalues of H by stochastic Lanczos quadrature, smoothed with a Gaussian; the
outliers are found one by one. Most eigenvalues lie within the smoothing width of zero, whose true
width the picture does not show. tr H over the spectral norm counts directions as sharp as the
sharpest one.
"""

NEURONS = """
Units that are zero on every sample used: adversarial training favours them, since no perturbation
moves their output (liu2020 §4.1). A dead layer cuts the gradient and leaves a constant classifier.
Dead on n samples is not dead everywhere: with 95 % confidence such a unit is active on fewer than
3/n of inputs like these.
"""

SMOOTHNESS = """
How fast the gradient changes: ‖∇L(θ + av) − ∇L(θ)‖ / a for the clean loss, the adversarial loss
with its examples held, and the adversarial loss attacked again (kanai2021, liu2020 Prop. 2). A
renewed curve that rises as a → 0 while the held one levels off is the mark of examples that jump
with θ. ε-sharpness is the largest relative rise within a small ball; both are lower bounds.
"""

COSINE = """
How much the perturbations turn when the weights move: the mean cosine between δ(θ + av) and
δ(θ − av), along the Hessian's top eigenvector and along random directions (liu2020 Figs. 3, 10).
It is 1 at a = 0. A quick fall says that adversarial examples, and with them the gradient of L_ε,
change abruptly with θ. In l∞ it counts flipped signs, also of pixels that hardly matter.
"""

LIPSCHITZ = """
How far the logits can move per distance in the input, in l2: a certified upper bound, the product
of the layers' norms, and the largest slope met at the data, a lower bound. The truth lies between,
often orders of magnitude below the upper bound. The scale of the logits counts: a network twice as
sure has twice the constant.
"""

SAMPLES = """
The largest eigenvalue of ∇²_θ ℓ_i for single samples i, and how well H-SAT's cheap scores rank
samples by it (sitawarin2021). A few hard samples often carry most of the curvature. Where a sample
is classified with confidence both gradient and curvature are near zero, and in float32 its scores
drown in rounding.
"""

EXAMPLES = """
A few images, their adversarial examples, the perturbation (stretched to be seen) and what the
network says of both with which confidence. A few images show what the attack does; they do not
measure robustness.
"""
