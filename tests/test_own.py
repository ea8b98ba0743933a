"""A network, data and a loss of one's own, at the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

import landscape as ls
from landscape.results import load

MODULE = """
import torch
from torch import nn
from torch.nn import functional as F
import landscape as ls


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(6, 5)
        self.layer2 = nn.Linear(5, 2)

    def forward(self, x):
        return {"y": self.layer2(torch.tanh(self.layer1(x)))}


def net():
    return ls.adapt(Net(), lambda model, x: model(x)["y"])


def needs(width):
    return Net()


def loader(split="test", n_examples=None):
    x = torch.rand(n_examples or 50, 6, generator=torch.Generator().manual_seed(0))
    return list(zip(x.split(16), torch.stack([x.sum(1), x.prod(1)], 1).split(16)))


def shuffles(split="test"):
    x = torch.rand(50, 6)
    data = torch.utils.data.TensorDataset(x, x[:, :2])
    return torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)


def huber(output, target):
    return F.huber_loss(output, target, reduction="none").sum(1)


def summed(output, target):
    return F.huber_loss(output, target, reduction="sum")


number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module above, as if it lay in the current folder, with a checkpoint of its network."""
    (tmp_path / "own_network.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_network", None)
    import own_network  # type: ignore[import-not-found]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save({"state_dict": own_network.Net().state_dict()}, "net.pt")
    yield own_network
    sys.modules.pop("own_network", None)


def command(verb: str, *arguments: str) -> Any:
    from landscape.cli import cli

    own = ["--model", "own_network:net", "--data", "own_network:loader"]
    return CliRunner().invoke(cli, [verb, "net.pt", *own, *arguments], standalone_mode=False)


def test_spectrum_of_ones_own(own: Any) -> None:
    found = command("spectrum", "--loss", "own_network:huber", "--top", "3", "--json")
    assert found.exception is None, found.output
    values = json.loads(found.stdout)["eigenvalues"]
    model = own.net()
    model.load_state_dict(torch.load("net.pt")["state_dict"])
    objective = ls.Objective(model, own.loader("train"), own.huber)
    torch.testing.assert_close(
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(ls.spectrum(objective, top=3).eigenvalues),
        rtol=1e-4,
        atol=1e-6,
    )
    mean = (
        sum(float(F.huber_loss(model(x), y, reduction="none").sum()) for x, y in own.loader()) / 50
    )
    assert f"huber {mean:.4g}" in found.stderr


def test_some_parameters_alone(own: Any) -> None:
    found = command("trace", "--loss", "mse", "--params", "layer2.*", "--samples", "5")
    assert found.exception is None, found.output
    assert list(load("net-trace.h5").layer) == ["layer2.weight", "layer2.bias"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "own_network:summed"], "not a mean over the batch"),
        (["--loss", "own_network:nothing"], "loss 'own_network:nothing' can't be imported"),
        (["--loss", "own_network:number"], r"is int: expected loss\(output, target\)"),
        (["--loss", "huber"], "unknown loss 'huber'. Known: cross-entropy, mse"),
        (["--loss", "mse", "--params", "layer9.*"], "unknown parameter pattern 'layer9"),
        (["--loss", "mse", "--data", "own_network:shuffles"], "batch 0 differed between two"),
        (["--loss", "mse", "--model", "own_network:needs"], "needs width: a factory is called"),
        (["--model", "resnet18"], "--model by name needs a data set by name"),
        ([], "for regression use mse"),
    ],
)
def test_what_is_wrong_is_said(own: Any, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raise command("spectrum", *arguments).exception
