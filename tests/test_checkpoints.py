"""Checkpoints: what was saved comes back, nothing is executed, every failure is one line."""

from __future__ import annotations

import copy
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CASES, mlp
from torch import nn

from landscape import params as P
from landscape.checkpoints import FORMAT, VERSION, Checkpoint, load
from landscape.errors import CheckpointError, OutputError
from landscape.models import ModelSpec

CASE = CASES["conv, batchnorm, dropout"]
CONTEXT = {
    "model": ModelSpec("lenet-2", (1, 8, 8), 10, normalize=((0.5,), (0.25,))).to_dict(),
    "data": {"name": "digits", "options": {"part": "train"}},
    "method": {"name": "trades", "config": {"beta": 6.0, "layers": [1, 2], "awp": None}},
    "history": {"epoch": [1.0, 2.0], "loss": [0.5, 0.25]},
    "metrics": {"accuracy": 0.975},
    "epoch": 2,
    "seed": 7,
}


@pytest.fixture
def saved(tmp_path):
    checkpoint = Checkpoint(CASE.model().state_dict(), **CONTEXT)
    return checkpoint.save(tmp_path / "a.pt")


def refused(path, message, **kwargs):
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


def unchanged(model, before):
    return P.digest(model.state_dict()) == before


# -- round trips ----------------------------------------------------------------------------------


def test_round_trip(saved):
    found = load(saved)
    state = CASE.model().state_dict()
    assert list(found.state_dict) == list(state)
    for name, tensor in state.items():
        assert torch.equal(found.state_dict[name], tensor)
        assert found.state_dict[name].dtype == tensor.dtype
    for name, value in CONTEXT.items():
        assert getattr(found, name) == value
    assert found.digest == Checkpoint(state).digest
    assert ModelSpec.from_dict(found.model).name == "lenet-2"


def test_into_gives_the_same_network(saved):
    model = CASE.model()
    fresh = copy.deepcopy(model)
    with torch.no_grad():
        for p in [*fresh.parameters(), *fresh.buffers()]:
            p.zero_()
    assert load(saved).into(fresh) is fresh
    assert P.digest(fresh.state_dict()) == P.digest(model.state_dict())
    x = torch.rand(3, 1, 6, 6, dtype=torch.float64)
    assert torch.equal(fresh.eval()(x), model.eval()(x))


def test_saving_copies_and_keeps_the_graph_out(tmp_path):
    model = CASE.model()
    checkpoint = Checkpoint(dict(model.named_parameters()))
    found = load(checkpoint.save(tmp_path / "a.pt"))
    assert not any(t.requires_grad for t in found.state_dict.values())
    view = {"a": torch.arange(1_000_000.0)[:2]}
    assert Checkpoint(view).save(tmp_path / "view.pt").stat().st_size < 10_000


def test_the_file_loads_with_weights_only(saved):
    content = torch.load(saved, weights_only=True)
    assert content["format"] == FORMAT
    assert content["version"] == VERSION
    assert content["versions"]["torch"] == str(torch.__version__)


def test_existing_checkpoints_are_kept(saved):
    before = saved.read_bytes()
    with pytest.raises(OutputError, match=r"a\.pt exists: pass --overwrite"):
        Checkpoint({"w": torch.zeros(1)}).save(saved)
    assert saved.read_bytes() == before
    Checkpoint({"w": torch.zeros(1)}).save(saved, overwrite=True)
    assert list(load(saved).state_dict) == ["w"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_bare_weights(tmp_path, zipped, wrapped):
    state = CASE.model().state_dict()
    content = {"state_dict": state, "epoch": 3} if wrapped else state
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = load(tmp_path / "w.pt")
    assert found.digest == Checkpoint(dict(state)).digest
    assert found.model is None


# -- files that can't be read ---------------------------------------------------------------------


def test_missing_empty_and_foreign_files(tmp_path):
    refused(tmp_path / "none.pt", r"none\.pt does not exist")
    refused(tmp_path, "is a folder")
    path = tmp_path / "bad.pt"
    path.touch()
    refused(path, "is empty: copy or download it again")
    for page in ("<!DOCTYPE html><html>", "\n <html lang='en'>", "<?xml version='1.0'?>"):
        path.write_text(page + "<body>Virus scan warning</body>" * 20)
        refused(path, "is a web page, not a checkpoint.*download it again")
    path.write_text("hello, this is no checkpoint")
    refused(path, "neither a file that torch.save wrote nor .safetensors")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(200), b"a,b\n1,2\n", b"col1,col2\n1,2\n"]
)
def test_trust_is_not_advised_for_files_that_are_no_checkpoints(tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    assert "--trust" not in refused(tmp_path / "bad.pt", "bad")


def test_numpy_numbers_survive(tmp_path):
    checkpoint = Checkpoint({"w": torch.zeros(1)}, metrics={"accuracy": np.float64(0.5)})
    assert load(checkpoint.save(tmp_path / "a.pt")).metrics == {"accuracy": 0.5}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_truncated(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    refused(saved, "truncated: copy or download it again")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_truncated_in_the_old_format(tmp_path, share):
    path = tmp_path / "old.pt"
    torch.save(CASE.model().state_dict(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "not a readable checkpoint or is damaged")


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_code_in_a_checkpoint_never_runs(tmp_path, form):
    trap, path = tmp_path / "it ran", tmp_path / "evil.pt"
    content = {"state_dict": {"w": torch.zeros(2)}, "extra": Trap(trap)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"w": 1, "extra": Trap(trap)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    refused(path, r"holds Python objects besides tensors.*can run code.*--trust-checkpoint")
    assert not trap.exists()
    if form != "pickle":  # the trap works
        load(path, trust=True)
        assert trap.exists()


def test_the_objects_are_named(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(2)}, "args": ModelSpec}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", r"besides tensors \(landscape\.models\.building\.ModelSpec\)")


def test_whole_modules_need_trust(tmp_path):
    model = mlp(3)
    torch.save(model, tmp_path / "module.pt")
    refused(tmp_path / "module.pt", "holds Python objects besides tensors")
    assert load(tmp_path / "module.pt", trust=True).digest == P.digest(model.state_dict())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no checkpoint that landscape knows"),
        ([1, 2], r"no checkpoint that landscape knows \(it holds list\)"),
        (torch.zeros(3), "no checkpoint that landscape knows"),
        ({"epoch": 3, "acc": 0.5}, r"it holds keys epoch, acc\)"),
        ({"state_dict": {}}, "no checkpoint that landscape knows"),
        ({"state_dict": {"w": [1, 2]}}, r"it holds keys state_dict\)"),
    ],
)
def test_other_contents(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", message)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path, bad):
    state = CASE.model().state_dict()
    state["head.weight"][1, 2] = bad
    torch.save(dict(state), tmp_path / "bare.pt")
    Checkpoint(dict(state)).save(tmp_path / "native.pt")
    for name in ("bare.pt", "native.pt"):
        refused(tmp_path / name, r"'head\.weight' holds 1 values that are NaN or infinite")


def test_a_newer_version(saved):
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "version": VERSION + 1}, saved)
    refused(saved, f"has checkpoint version {VERSION + 1}, .* reads {VERSION}: upgrade landscape")
    torch.save({k: v for k, v in content.items() if k != "version"}, saved)
    refused(saved, "has checkpoint version None")


def test_weights_changed_after_saving(saved):
    content = torch.load(saved, weights_only=True)
    content["state_dict"]["head.bias"][0] += 1e-12
    torch.save(content, saved)
    refused(saved, "damaged .its content does not match its digest.: copy it again")
    content["state_dict"] = {"w": [1, 2]}
    torch.save(content, saved)
    refused(saved, "damaged")
    del content["state_dict"]
    torch.save(content, saved)
    refused(saved, "damaged")


def test_flipped_bits_in_the_weights(saved):
    """One bit in each tensor's stored bytes, at offsets taken from the archive itself."""
    content = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        entries = [e for e in archive.infolist() if "/data/" in e.filename and e.file_size > 8]
    assert len(entries) > 5
    for entry in entries:
        names, extra = struct.unpack("<HH", content[entry.header_offset + 26 :][:4])
        bad = bytearray(content)
        bad[entry.header_offset + 30 + names + extra + 3] ^= 0x10
        saved.write_bytes(bytes(bad))
        refused(saved, "damaged")


# -- into -----------------------------------------------------------------------------------------


def test_weights_of_another_architecture_change_nothing(saved):
    checkpoint = load(saved)
    model = CASE.model()
    model.head = nn.Linear(16, 5).double()
    before = P.digest(model.state_dict())
    message = (
        r"don't fit ConvNet: 2 of another shape \(head\.weight: \(3, 16\) in the file, "
        r"\(5, 16\) in the model\)\. Is this the architecture"
    )
    with pytest.raises(CheckpointError, match=message):
        checkpoint.into(model)
    assert unchanged(model, before)

    other = mlp(4).double()
    before = P.digest(other.state_dict())
    with pytest.raises(CheckpointError, match=r"Sequential: 4 missing \(.*, …\); \d+ unexpected"):
        checkpoint.into(other)
    assert unchanged(other, before)

    del checkpoint.state_dict["bn1.running_var"]
    whole = CASE.model()
    before = P.digest(whole.state_dict())
    with pytest.raises(CheckpointError, match=r"1 missing \(bn1\.running_var\)\. Is") as caught:
        checkpoint.into(whole)
    assert unchanged(whole, before)
    assert "\n" not in str(caught.value)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    state = {name: t.contiguous() for name, t in CASE.model().state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors").state_dict
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor)
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-7])
    refused(tmp_path / "cut.safetensors", "not a readable checkpoint or is damaged")
