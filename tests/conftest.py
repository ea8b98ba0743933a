"""Fixtures for tests that go through files: a small trained-looking checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from landscape.checkpoints import Checkpoint
from landscape.models import ModelSpec

# The same cases at every run: a test that fails once fails for everybody.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native digits checkpoint, a softmax regression fitted for a second, with eps recorded."""
    from landscape import data

    spec = ModelSpec("logistic", (1, 8, 8), 10)
    model = spec.build(seed=0)
    x, y = data.load("digits", "train").tensors()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("checkpoints") / "tiny.pt"
    Checkpoint(
        state_dict=model.state_dict(),
        model=spec.to_dict(),
        data={"name": "digits", "options": {}},
        method={"name": "standard", "config": {"evaluation": {"eps": 0.1, "norm": "linf"}}},
        seed=0,
    ).save(path)
    return path
