"""Gradient diagnostics along one's own adversarial training, on the digits of scikit-learn.

python examples/track_own_loop.py [FOLDER]
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
images, labels = load_digits(return_X_y=True)
x_all = torch.tensor(images / 16, dtype=torch.float32)
y_all = torch.tensor(labels)
rows_all = torch.arange(len(y_all))  # so that every batch says which samples it holds

torch.manual_seed(0)
loader = DataLoader(TensorDataset(x_all, y_all, rows_all), batch_size=100, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
EPS = 0.1


def fgsm(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), x)
    return (x.detach() + EPS * slope.sign()).clamp(0, 1)


def eigenvalue(objective: ls.Objective) -> ls.Measured:
    found = ls.spectrum(objective, top=1)
    return ls.Measured(found.eigenvalues[0], found.residuals[0], "residual")


tracker = ls.Tracker(
    model,
    diagnostics={
        "lambda_max": eigenvalue,
        "trace": lambda objective: ls.trace(objective, samples=20).trace,
    },
    measure_every=3,
    data=(x_all[:300], y_all[:300]),
    attack=ls.attack("fgsm", eps=EPS),  # for the diagnostics: the adversarial Hessian
    samples=True,
    labels=y_all,
)
for _ in range(6):
    for x, y, rows in loader:
        adversarial = fgsm(x, y)
        logits = model(adversarial)
        loss = nn.functional.cross_entropy(logits, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tracker.step(loss=loss, x=x, adversarial=adversarial, logits=logits, y=y, rows=rows)
    tracker.end_epoch()
tracker.save(folder / "track.h5", overwrite=True)

track = tracker.result()
print(f"after {track.epochs} epochs, {track.distance[-1]:.2f} from the initial weights")
for trace in track.estimates("noise_trace"):
    print("gradient noise:", trace)
for epoch, value, residual in zip(track.measured_epoch, *track.measured("lambda_max"), strict=True):
    print(f"epoch {epoch}: top eigenvalue {value:.3f}, residual {residual:.1e}")
hardest = track.sample_loss.mean(0).argsort()[-5:]
print("samples of the highest mean loss:", hardest.tolist())
