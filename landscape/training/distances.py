"""How far outputs on two batches of the same samples lie apart: the distances of li2023 Table 3.

All take logits (B, C) and return one number per batch, a mean over its samples, with a graph
through both arguments. ``DISTANCES`` names them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.attacks.objectives import kl_to_clean

Distance = Callable[[Tensor, Tensor], Tensor]


def l1(adversarial: Tensor, clean: Tensor) -> Tensor:
    """(1/B) Σ_ij |f_j(x'_i) − f_j(x_i)|: all the weights of eq. 15 are 1."""
    return (adversarial - clean).abs().sum() / len(clean)


def squared_l2(adversarial: Tensor, clean: Tensor) -> Tensor:
    """(1/B) Σ_ij (f_j(x'_i) − f_j(x_i))²: every difference weighs itself."""
    return (adversarial - clean).pow(2).sum() / len(clean)


def nuclear(adversarial: Tensor, clean: Tensor) -> Tensor:
    """1/B times the sum of the singular values of f(x') − f(x), a (B, C) matrix.

    Unlike the others no sum over samples: it is smaller where differences are alike.
    """
    return torch.linalg.matrix_norm(adversarial - clean, ord="nuc") / len(clean)


def kl(adversarial: Tensor, clean: Tensor) -> Tensor:
    """(1/B) Σ_i KL(p(x_i) ‖ p(x'_i)), p = softmax f, in nats; the paper doesn't say which way."""
    return kl_to_clean(adversarial, torch.empty(0), clean).mean()


def js(a: Tensor, b: Tensor) -> Tensor:
    """(1/B) Σ_i ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, in nats: at most log 2."""
    log_p, log_q = F.log_softmax(a, 1), F.log_softmax(b, 1)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(log_p.new_tensor(2.0))
    pairs = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return pairs.sum() / (2 * len(a))


def top(adversarial: Tensor, clean: Tensor, share: float = 0.1) -> Tensor:
    """(1/B) Σ of the largest N of the B·C numbers |f_j(x'_i) − f_j(x_i)| (eq. 13 to 15).

    N = ⌊``share`` · B·C⌋, at least 1. A sample may have none of them.
    """
    gaps = (adversarial - clean).abs().flatten()
    # Rounded first: 0.3 · 10 is a little less than 3 in floating point for some shares.
    most = max(1, int(round(share * len(gaps), 6)))
    return gaps.topk(most).values.sum() / len(clean)


DISTANCES: dict[str, Distance] = {
    "top": top,
    "l1": l1,
    "l2": squared_l2,
    "nuclear": nuclear,
    "kl": kl,
    "js": js,
}
