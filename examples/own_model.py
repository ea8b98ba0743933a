"""A network and data of one's own: nothing to subclass, nothing to register.

python examples/own_model.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls

images, labels = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32)
y = torch.tensor(labels)
loader = DataLoader(TensorDataset(x, y), batch_size=200)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(10):
    for batch, target in loader:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch), target).backward()
        optimiser.step()

objective = ls.Objective(model, loader)
print("loss and accuracy:", objective.value())

spectrum = ls.spectrum(objective, top=5)
for value, residual in zip(spectrum.eigenvalues, spectrum.residuals, strict=True):
    print(f"eigenvalue {value:.4f}, residual {residual:.1e}")
print("trace:", ls.trace(objective, samples=100).trace)

# The adversarial Hessian: perturbations found once, at the trained weights, and held.
attacked = ls.Objective(model, loader, attack=ls.attack("pgd-10", eps=0.05))
print("adversarial:", ls.spectrum(attacked, top=1).eigenvalues[0])

surface = ls.surface(objective, x=ls.Axis(-1, 1, 11), y=ls.Axis(-1, 1, 7))
print("lowest loss on the grid:", surface.loss.min())
