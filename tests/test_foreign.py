"""Checkpoints of other projects: containers, prefixes, averages, normalisation; hostile files."""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from landscape import foreign
from landscape.checkpoints import bundled, load, load_with_steps
from landscape.errors import CheckpointError, LandscapeError, UsageError
from landscape.models import ModelSpec, build
from landscape.models.matching import matches

MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.21, 0.22)
X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(name: str = "resnet18-1", seed: int = 1, **options: Any) -> nn.Module:
    net = build(name, in_shape=(3, 32, 32), num_classes=10, seed=seed, **options)
    for k, buffer in enumerate(net.buffers()):  # statistics that show when they are lost
        if buffer.ndim == 1:
            buffer.copy_(torch.rand(len(buffer), generator=torch.Generator().manual_seed(k)) + 0.5)
    return net.eval()


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if part not in name}


STATE = network().state_dict()
OTHER = network(seed=2).state_dict()
WRN = network("wrn-10-1").state_dict()
ADAM = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

# Project: (content, name of the network, steps).
PROJECTS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "bare": (STATE, "resnet18-1", ()),
    "DataParallel": (prefixed("module.", STATE), "resnet18-1", ("prefix 'module.' removed",)),
    "compiled": (prefixed("_orig_mod.", STATE), "resnet18-1", ("prefix '_orig_mod.' removed",)),
    "kuangliu": (
        {"net": prefixed("module.", STATE), "acc": 94.1, "epoch": 7},
        "resnet18-1",
        ("taken from 'net'", "prefix 'module.' removed"),
    ),
    "TRADES": (
        prefixed("module.", WRN | {"sub_block1.layer.0.bn1.weight": torch.ones(16)}),
        "wrn-10-1",
        (
            "prefix 'module.' removed",
            "1 entries 'sub_block1' left out: a block that TRADES' network never calls",
        ),
    ),
    "AWP": (
        {"state_dict": STATE, "test_robust_acc": 0.54, "test_acc": 0.81},
        "resnet18-1",
        ("taken from 'state_dict'",),
    ),
    "Lightning": (
        {
            "state_dict": prefixed("model.", STATE),
            "epoch": 3,
            "hyper_parameters": {"lr": 0.1},
            "optimizer_states": [ADAM],
        },
        "resnet18-1",
        ("taken from 'state_dict'", "prefix 'model.' removed"),
    ),
    "timm": (
        {"state_dict": OTHER, "state_dict_ema": STATE, "arch": "resnet18", "optimizer": ADAM},
        "resnet18-1",
        ("taken from 'state_dict'",),
    ),
    "robustness": (
        {
            "model": prefixed("module.model.", STATE)
            | prefixed("module.attacker.model.", STATE)
            | {
                "module.normalizer.new_mean": torch.tensor(MEAN).reshape(3, 1, 1),
                "module.normalizer.new_std": torch.tensor(STD).reshape(3, 1, 1),
                "module.attacker.normalize.new_mean": torch.tensor(MEAN).reshape(3, 1, 1),
                "module.attacker.normalize.new_std": torch.tensor(STD).reshape(3, 1, 1),
            },
            "optimizer": ADAM,
            "epoch": 110,
        },
        "resnet18-1",
        ("taken from 'model'", "prefix 'module.model.' removed", "normalisation of the file kept"),
    ),
    "robustbench": (
        STATE | {"mu": torch.tensor(MEAN).reshape(1, 3, 1, 1), "sigma": torch.tensor(STD)},
        "resnet18-1",
        ("normalisation of the file kept",),
    ),
    "nested": (
        {"model": {"state_dict": prefixed("module.", STATE)}, "epoch": 1},
        "resnet18-1",
        ("taken from 'model'", "taken from 'state_dict'", "prefix 'module.' removed"),
    ),
    "best and last": ({"best": STATE, "last": OTHER}, "resnet18-1", ("taken from 'best'",)),
    "an unusual key": ({"weights": STATE, "epoch": 3}, "resnet18-1", ("taken from 'weights'",)),
    "torch before 0.4": (
        without(STATE, "num_batches_tracked"),
        "resnet18-1",
        ("20 counters of BatchNorm, which the file lacks, set to 0",),
    ),
    "counted operations": (
        STATE | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
        "resnet18-1",
        (
            "1 entries 'total_ops' left out: counts of operations",
            "1 entries 'total_params' left out: counts of parameters",
        ),
    ),
}
NORMALISED = ("robustness", "robustbench")


@pytest.mark.parametrize(
    ("project", "normalised"),
    [(p, n) for p in PROJECTS for n in (False, True) if n or p not in NORMALISED],
)
def test_weights_of_other_projects_give_their_network(
    project: str, normalised: bool, tmp_path: Path
) -> None:
    content, name, steps = PROJECTS[project]
    torch.save(content, tmp_path / "a.pth")
    checkpoint, found = load_with_steps(tmp_path / "a.pth")
    assert found is not None
    statistics = (MEAN, STD) if normalised else None
    model = ModelSpec(name, (3, 32, 32), 10, statistics).build(seed=9)
    taken = (*found.steps, *checkpoint.fitted(model)[1])
    for step in steps:
        assert step in taken
    checkpoint.into(model)
    x = (
        X
        if statistics is None
        else (X - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    )
    original = network(name, seed=2 if project == "timm" else 1)
    torch.testing.assert_close(model.eval()(X), original(x), rtol=1e-5, atol=1e-6)


def test_an_average_is_taken_if_asked_for(tmp_path: Path) -> None:
    torch.save(PROJECTS["timm"][0], tmp_path / "a.pth")
    checkpoint, found = load_with_steps(tmp_path / "a.pth", key="state_dict_ema")
    assert found is not None
    assert found.others == ("state_dict",)
    assert checkpoint.digest == load_digest(STATE, tmp_path)
    with pytest.raises(
        UsageError, match="weights in the file 'state_ema': did you mean 'state_dict_ema'"
    ):
        load(tmp_path / "a.pth", key="state_ema")
    with pytest.raises(UsageError, match="is a checkpoint of landscape, with one set of weights"):
        load(bundled()["digits-pgd-seed0"], key="ema")


def load_digest(state: dict[str, Tensor], folder: Path) -> str:
    torch.save(state, folder / "bare.pth")
    return load(folder / "bare.pth").digest


def test_old_and_other_formats(tmp_path: Path) -> None:
    """Goldstein's .t7 are files of torch before 1.6; safetensors hold weights alone."""
    from safetensors.torch import save_file

    torch.save(
        {"state_dict": STATE, "acc": 94.0, "epoch": 300},
        tmp_path / "resnet.t7",
        _use_new_zipfile_serialization=False,
    )
    save_file(prefixed("module.", STATE), tmp_path / "a.safetensors")
    for file in ("resnet.t7", "a.safetensors"):
        model = load(tmp_path / file).into(network(seed=9))
        torch.testing.assert_close(model(X), network()(X))


def test_harmless_objects_beside_the_weights(tmp_path: Path) -> None:
    beside = {
        "acc": np.float64(0.5),
        "epoch": np.int64(3),
        "best": np.float32(0.25),
        "args": argparse.Namespace(lr=0.1),
    }
    torch.save({"state_dict": STATE, **beside}, tmp_path / "a.pth")
    _, found = load_with_steps(tmp_path / "a.pth")
    assert found is not None
    assert {n: float(v) for n, v in found.beside.items()} == {"acc": 0.5, "epoch": 3, "best": 0.25}


def test_other_objects_are_named(tmp_path: Path) -> None:
    content = {"state_dict": STATE, "log": collections.defaultdict(list)}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"collections.defaultdict\).*--trust-checkpoint"):
        load(tmp_path / "a.pth")
    assert load(tmp_path / "a.pth", trust=True).digest == load_digest(STATE, tmp_path)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    torch.save({"net": prefixed("module.", STATE)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"60 missing|missing \(.*unexpected"):
        load(tmp_path / "a.pth").into(network("wrn-10-1"))
    torch.save({"net": prefixed("module.", without(STATE, "linear.bias"))}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"1 missing \(linear.bias\)"):
        load(tmp_path / "a.pth").into(network())


def test_a_prefix_that_is_part_of_the_network_stays() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(3, 2)

    state = Net().state_dict()
    found, steps = foreign.renamed(state, Net().state_dict())
    assert [*found] == ["model.weight", "model.bias"]
    assert steps == ()


def test_an_entry_that_differs_from_what_it_repeats_is_not_left_out() -> None:
    state = prefixed("module.model.", STATE) | prefixed("module.attacker.model.", OTHER)
    found, _ = foreign.renamed(state, network().state_dict())
    assert any("attacker" in name for name in found)


# -- which architecture ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet18-2", "preact-resnet18-1", "wrn-16-4", "vgg-2", "lenet-4", "resnet34-1"]
)
def test_the_architecture_is_found_by_names_and_shapes(name: str) -> None:
    state = build(name, in_shape=(3, 32, 32), num_classes=7, seed=0).state_dict()
    found = matches(prefixed("module.", state))
    assert found[0].fits
    assert name in [match.spec.name for match in found]
    spec = found[[match.spec.name for match in found].index(name)].spec
    assert (spec.num_classes, spec.in_shape) == (7, (3, 32, 32))


def test_near_misses_are_listed() -> None:
    state = without(STATE, "linear.bias")
    (first, *_) = matches(state)
    assert not first.fits
    assert first.spec.name == "resnet18-1"
    assert first.missing == ("linear.bias",)
    assert matches({"a": torch.zeros(3)}) == []


# -- at the command line ---------------------------------------------------------------------------


def command(*arguments: str) -> Any:
    from landscape.cli import cli

    return CliRunner().invoke(cli, arguments, standalone_mode=False)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A bundled network as another project would save it."""
    state = load(bundled()["digits-pgd-seed0"]).state_dict
    torch.save({"net": prefixed("module.", state), "acc": 97.7}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def test_inspect(digits: Path) -> None:
    found = command("inspect", str(digits))
    assert found.exception is None
    assert "taken from 'net'" in found.stdout
    assert "prefix 'module.' removed" in found.stdout
    assert "--model lenet-4" in found.stdout
    content = json.loads(command("inspect", str(digits), "--json").stdout)
    assert content["matches"][0]["model"] == "lenet-4"
    native = command("inspect", str(bundled()["digits-pgd-seed0"]), "--json")
    assert json.loads(native.stdout)["model"]["name"] == "lenet-4"


def test_a_foreign_checkpoint_in_every_other_command(digits: Path, tmp_path: Path) -> None:
    arguments = ["--model", "lenet-4", "--data", "digits", "--json", "--out", str(tmp_path / "e")]
    found = command("evaluate", str(digits), *arguments, "--attack", "clean")
    assert "taken from 'net'; prefix 'module.' removed" in found.stderr
    assert json.loads(found.stdout)["accuracy"][0] == pytest.approx(293 / 300)


# -- damaged and hostile files ---------------------------------------------------------------------


class Runs:
    """Unpickles by a call, here a harmless one that would be seen."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def hostile(folder: Path, witness: Path) -> list[Path]:
    """Sixty files that are no checkpoint, or no more."""
    good = folder / "good.pth"
    torch.save({"net": STATE}, good)
    whole = good.read_bytes()
    old = folder / "old.pth"
    torch.save({"net": STATE}, old, _use_new_zipfile_serialization=False)
    legacy = old.read_bytes()
    good.unlink()
    old.unlink()
    drawn = random.Random(0)
    contents: list[bytes] = [
        b"",
        b"\x00" * 100,
        b"<!DOCTYPE html><html>Google Drive can't scan this file</html>",
        b"  <html><body>404</body></html>",
        b"<?xml version='1.0'?><Error/>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        b"PK\x03\x04" + b"\x00" * 50,
        b"\x80\x02.",
        b"\x80\x05K\x01.",
        b"\x89HDF\r\n\x1a\n" + b"\x00" * 100,
        struct.pack("<Q", 10**12) + b"{}",
        json.dumps({"state_dict": {}}).encode(),
    ]
    contents += [whole[: int(len(whole) * k / 12)] for k in range(1, 12)]
    contents += [legacy[: int(len(legacy) * k / 8)] for k in range(1, 8)]
    for _ in range(12):  # damaged heads of the archive and of the pickle
        damaged = bytearray(whole)
        at = drawn.randrange(0, 600)
        damaged[at : at + 40] = drawn.randbytes(40)
        contents.append(bytes(damaged))
    for _ in range(6):
        damaged = bytearray(legacy)
        at = drawn.randrange(0, 300)
        damaged[at : at + 30] = drawn.randbytes(30)
        contents.append(bytes(damaged))
    code = [
        pickle.dumps(Runs(witness)),
        pickle.dumps({"state_dict": Runs(witness)}),
        pickle.dumps([STATE, Runs(witness)]),
        b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR.",
        b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
    ]
    contents += code
    paths = []
    for k, content in enumerate(contents):
        path = folder / f"file{k:02d}.pth"
        path.write_bytes(content)
        paths.append(path)
    tensors: list[Any] = [
        {"net": STATE, "run": Runs(witness)},
        {"state_dict": {"w": torch.tensor([float("nan")])}},
        {"state_dict": {"w": torch.tensor([float("inf"), 1.0])}},
        {"state_dict": {"w": "text"}},
        {"epoch": 3},
        [STATE],
        "weights",
        {1: torch.zeros(3)},
        {"net": {}},
    ]
    for k, content in enumerate(tensors):
        path = folder / f"saved{k}.pth"
        torch.save(content, path)
        paths.append(path)
    (folder / "renamed.safetensors").write_bytes(whole)
    (folder / "huge.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    return [*paths, folder / "renamed.safetensors", folder / "huge.safetensors"]


def _refusal(path: Path) -> str | None:
    try:
        load(path)
    except LandscapeError as error:
        return str(error)
    return None


def test_no_hostile_file_runs_code_or_says_more_than_a_line(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    files = hostile(tmp_path, witness)
    assert len(files) >= 50
    survivors = 0
    for path in files:
        said = _refusal(path)
        survivors += said is None  # damage in a place that torch doesn't read, or in weights alone
        assert said is None or ("\n" not in said and path.name in said)
        assert not witness.exists(), f"{path.name} ran code"
    assert survivors <= 12
    with pytest.raises(CheckpointError):
        load(files[0])
