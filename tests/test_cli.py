"""The command line as a user meets it: what it prints, writes, refuses and exits with."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.cli import COMMANDS, run


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def one_line(err: str) -> str:
    """The single error line a failing command must end with."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("landscape: error:")]
    assert len(lines) == 1, err
    return lines[0]


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from landscape.cli import run; code = run(['--help'])\n"
        "heavy = {'torch', 'numpy', 'h5py', 'matplotlib', 'rich', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert "Usage: landscape" in capsys.readouterr().out


def test_spectrum_prints_and_writes(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spectrum", str(checkpoint), "--top", "5"]) == 0
    out, err = capsys.readouterr()
    saved = ls.load("tiny-spectrum.h5")
    for value in saved.eigenvalues:
        assert f"{value:.6g}" in out
    assert "clean accuracy" in err
    assert out.splitlines()[-1] == "wrote tiny-spectrum.pdf"
    assert sorted(p.name for p in Path().iterdir()) == [
        "tiny-spectrum.h5",
        "tiny-spectrum.pdf",
        "tiny-spectrum.png",
    ]


def test_several_spectra_side_by_side(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other").mkdir()
    other = Path("other") / checkpoint.name
    other.write_bytes(checkpoint.read_bytes())
    command = ["spectrum", str(checkpoint), str(other), "--top", "3", "--n-examples", "100"]
    assert run([*command, "--normalise", "random-init", "--out", "both.h5"]) == 0
    out = capsys.readouterr().out
    found = ls.load_all("both.h5")
    assert set(found) == {f"{checkpoint.parent.name}-tiny", "other-tiny"}
    a, b = found.values()
    np.testing.assert_array_equal(a.eigenvalues, b.eigenvalues)
    assert a.normaliser.samples == 10
    assert 2 < a.normaliser.value < 3  # about log 10
    assert f"{a.eigenvalues[0] / a.normaliser.value:.6g}" in out
    assert run([*command, "--out", "json.h5", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(found)
    assert run(["spectrum", str(checkpoint), str(checkpoint), "--out", "same.h5"]) == 2
    assert "is given twice" in one_line(capsys.readouterr().err)


TRAIN = ["train", "pgd", "--n-examples", "60", "--model", "logistic", "-q"]


def test_spectra_along_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    keep = ["--out", "r", "--keep-every", "2"]
    assert run([*TRAIN, "--epochs", "3", *keep]) == 0
    kept = sorted(Path("r/epochs").iterdir())
    assert [path.name for path in kept] == ["0000.pt", "0002.pt", "0003.pt"]
    assert ls.checkpoints.load(kept[-1]).digest == ls.checkpoints.load(Path("r/final.pt")).digest
    assert run(["spectrum", "r", "--top", "3", "--n-examples", "60"]) == 0
    out = capsys.readouterr().out
    assert "r-0000" in out
    assert "r-0003" in out
    found = ls.load_all("r-spectrum.h5")
    assert [s.position for s in found.values()] == [0, 2, 3]
    assert {s.against for s in found.values()} == {"epoch"}
    alone = ["spectrum", "r/epochs/0003.pt", "--top", "3", "--n-examples", "60"]
    assert run(alone) == 0
    # The warm start from the epoch before changes the products, not the values.
    np.testing.assert_allclose(
        found["r-0003"].eigenvalues, ls.load("0003-spectrum.h5").eigenvalues, rtol=1e-4
    )
    assert run(["plot", "r-spectrum.h5", "--overwrite"]) == 0


def test_a_run_without_checkpoints_along_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*TRAIN, "--epochs", "1", "--out", "r"]) == 0
    assert run(["spectrum", "r"]) == 2
    assert "train with --keep-every 1" in one_line(capsys.readouterr().err)


def test_eigenvalues_against_the_radius(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["--attack", "pgd-3", "--sweep-eps", "0,8/255,0.1"]
    assert run(["spectrum", str(checkpoint), "--top", "2", *sweep]) == 0
    assert "of growing radius" in capsys.readouterr().out
    found = list(ls.load_all("tiny-spectrum-pgd-3-sweep.h5").values())
    assert [s.position for s in found] == [0, 8 / 255, 0.1]
    assert found[0].provenance.objective["attack"] is None
    assert found[2].provenance.objective["attack"]["eps"] == 0.1
    assert run(["spectrum", str(checkpoint), "--top", "2"]) == 0
    np.testing.assert_allclose(
        found[0].eigenvalues, ls.load("tiny-spectrum.h5").eigenvalues, rtol=1e-5
    )
    assert run(["spectrum", str(checkpoint), "--against", "eps", "--out", "x"]) == 2
    assert "does not say its radius ε" in one_line(capsys.readouterr().err)
    assert run(["spectrum", str(checkpoint), "--sweep-eps", "0.1"]) == 2
    assert "--sweep-eps needs an attack" in one_line(capsys.readouterr().err)


def test_a_spectrum_per_layer(checkpoint: Path) -> None:
    assert run(["spectrum", str(checkpoint), "--per-layer", "--top", "3"]) == 0
    found = ls.load_all("tiny-spectrum-layers.h5")
    assert all(s.block for s in found.values())
    for result in found.values():
        assert {name.rpartition(".")[0] for name in result.layer} == {result.block}


def test_layers_that_are_smaller_than_top(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whatever number of spectra goes side by side, columns of unequal length must not.
    monkeypatch.setattr("landscape.cli.spectrum._SIDE_BY_SIDE", 10)
    torch.save(
        ls.models.build("lenet-1", in_shape=(1, 8, 8), num_classes=10, seed=0).state_dict(),
        "bare.pt",
    )
    bare = ["spectrum", "bare.pt", "--model", "lenet-1", "--data", "digits", "--n-examples", "30"]
    assert run([*bare, "--per-layer", "--top", "55", "--max-products", "70"]) in (0, 3)
    found = ls.load_all("bare-spectrum-layers.h5")
    assert len(found["bare-conv1"].eigenvalues) == 52
    assert len(found["bare-conv2"].eigenvalues) == 55
    assert "bare-conv1" in capsys.readouterr().out


def test_memory_is_a_limit(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spectrum", str(checkpoint), "--memory", "1KB"]) == 2
    assert "allow more memory (--memory)" in one_line(capsys.readouterr().err)


def test_pyhessian_engine_is_labelled(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["spectrum", str(checkpoint), "--top", "3", "--engine", "pyhessian"]
    assert run(command) == 2
    assert "--which magnitude" in one_line(capsys.readouterr().err)
    assert run([*command, "--which", "magnitude"]) == 3
    out, err = capsys.readouterr()
    assert "PyHessian 0.1 power iteration" in out
    assert "further from eigenvectors" in err
    assert "PyHessian" in ls.load("tiny-spectrum.h5").method


def test_json_is_one_object_with_the_field_names(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["spectrum", str(checkpoint), "--top", "3", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {"eigenvalues", "residuals", "converged", "schema_version", "provenance"} <= set(content)
    assert content["eigenvalues"] == ls.load("tiny-spectrum.h5").eigenvalues.tolist()


def test_unconverged_is_exit_code_3_and_still_saved(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["spectrum", str(checkpoint), "--top", "5", "--max-products", "6"]) == 3
    assert "not converged" in capsys.readouterr().err
    assert not ls.load("tiny-spectrum.h5").converged.all()


def test_adversarial_surface_says_how_the_perturbation_was_treated(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["surface", str(checkpoint), "--grid", "4x3", "--range", "0.5", "--attack", "pgd-2"]
    assert run([*command, "--n-examples", "100"]) == 0
    assert "ε = 0.1, 2 steps, perturbation found again" in capsys.readouterr().out
    saved = ls.load("tiny-surface-pgd-2.h5")
    assert saved.loss.shape == (3, 4)
    np.testing.assert_allclose(saved.y, [-0.5, 0, 0.5])
    assert run([*command, "--perturbation", "fixed", "--out", "fixed.h5"]) == 0
    assert "perturbation held fixed" in capsys.readouterr().out


LITTLE = ["--n-examples", "40", "--grid"]


@pytest.mark.parametrize("kind", ["eigen", "gradient", "adversarial"])
@pytest.mark.parametrize("grid", ["5", "5x3"])
def test_surfaces_along_derivatives(checkpoint: Path, kind: str, grid: str) -> None:
    command = ["surface", str(checkpoint), "--directions", kind, *LITTLE, grid]
    attack = ["--attack", "fgsm", "--perturbation", "fixed", "--clean"]
    assert run([*command, *attack]) == 0
    found = ls.load(f"tiny-surface-{kind}-fgsm.h5")
    assert found.directions == kind
    assert found.clean_loss.shape == found.loss.shape


def test_surfaces_between_networks_and_along_trainings(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*TRAIN, "--epochs", "3", "--out", "r", "--keep-every", "1"]) == 0
    between = ["surface", str(checkpoint), "--directions", "between", "--to", "r/epochs/0000.pt"]
    assert run([*between, *LITTLE, "5"]) == 0
    found = ls.load("tiny-surface-between.h5")
    assert found.mark.tolist() == ["0000"]
    assert found.x[0] == -0.5
    plane = [*between, "--to", "r/best.pt", *LITTLE, "3x4", "--out", "plane", "--html"]
    assert run(plane) == 0
    assert Path("plane.html").exists()
    assert run(["surface", "r", "--directions", "trajectory", *LITTLE, "5x4"]) == 0
    found = ls.load("r-surface-trajectory.h5")
    assert len(found.path_x) == 4
    assert found.explained_variance.sum() <= 1 + 1e-9
    out = capsys.readouterr().out
    assert "path's variance along them" in out
    for arguments, message in (
        ([str(checkpoint), "--directions", "trajectory"], "needs the folder of a run"),
        ([str(checkpoint), "--directions", "between"], "add --to B.pt"),
        ([str(checkpoint), "--to", "r/best.pt"], "--to names networks for --directions between"),
        ([str(checkpoint), "--draws", "3", "--grid", "3x3"], "--draws are of lines"),
        ([str(checkpoint), "--draws", "3", "--directions", "eigen"], "are of random directions"),
        ([str(checkpoint), "--directions", "radnom"], "did you mean 'random'"),
    ):
        assert run(["surface", *arguments, "--out", "none"]) == 2
        assert message in one_line(capsys.readouterr().err)


def test_draws_and_saved_directions(checkpoint: Path) -> None:
    surface = ["surface", str(checkpoint), *LITTLE]
    assert run([*surface, "5", "--draws", "3", "--out", "draws"]) == 0
    assert ls.load("draws.h5").loss.shape == (3, 5)
    assert run([*surface, "5x3", "--save-directions", "d.pt", "--out", "one"]) == 0
    assert (
        run([*surface, "5x3", "--directions", "d.pt", "--normalisation", "none", "--out", "two"])
        == 0
    )
    assert (ls.load("one.h5").loss == ls.load("two.h5").loss).all()
    # The record is of the directions, not of options that a file leaves without effect.
    assert ls.load("two.h5").provenance.settings["normalisation"] == "filter"
    taken = [*surface, "5x3", "--html", "--out", "p"]
    Path("p.html").write_text("mine")
    assert run(taken) == 1
    assert not Path("p.h5").exists()
    assert Path("p.html").read_text() == "mine"
    Path("p.html").unlink()
    assert run(["export", "one.h5", "--to", "goldstein"]) == 0
    assert run(["export", "one-goldstein.h5", "--to", "landscape", "--out", "back.h5"]) == 0
    assert (ls.load("back.h5").loss == ls.load("one.h5").loss).all()
    assert run(["export", "one.h5", "--to", "vts"]) == 0
    assert run(["plot", "one.h5", "--html", "--out", "p"]) == 0
    assert Path("p.html").exists()


def test_line_surface_and_plot(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["surface", str(checkpoint), "--grid", "5", "--n-examples", "50"]) == 0
    assert run(["plot", "tiny-surface.h5", "--out", "again"]) == 0
    assert Path("again.png").stat().st_size > 1000
    assert run(["plot", "tiny-surface.h5", "tiny-surface.h5", "--out", "again"]) == 1
    assert "exists: pass --overwrite" in one_line(capsys.readouterr().err)


def test_evaluate(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(checkpoint), "--attack", "fgsm,pgd-5", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["attack"] == ["clean", "fgsm", "pgd-5"]
    clean, fgsm, pgd = content["accuracy"]
    assert clean > 0.85
    assert clean > fgsm
    assert clean > pgd


def test_trace_and_catalogues(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", str(checkpoint), "--samples", "5", "--n-examples", "50"]) == 0
    assert "±" in capsys.readouterr().out
    for name in ("models", "methods", "data", "doctor"):
        assert run([name]) == 0
    out = capsys.readouterr().out
    for word in ("wideresnet", "trades", "cifar10", "torchvision"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["spectrum", "CKPT", "--top", "3"], "up to 160 Hessian-vector products"),
        (["trace", "CKPT", "--samples", "7"], "up to 7 Hessian-vector products"),
        (["surface", "CKPT", "--grid", "4x3"], "up to 12 grid points"),
        (["evaluate", "CKPT", "--attack", "pgd-4"], "up to 15 passes over the data"),
        (["train", "pgd", "--eps", "1/8"], '"eps": 0.125'),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else None,
)
def test_dry_run_writes_nothing(
    arguments: list[str], said: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = [str(checkpoint) if a == "CKPT" else a for a in arguments]
    assert run([*full, "--dry-run"]) == 0
    assert said in capsys.readouterr().out
    assert not list(Path().iterdir())


def test_train_resumes_and_refuses_another_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", "standard", "--epochs", "2", "--n-examples", "100", "--out", "run"]
    assert run(command) == 0
    assert {p.name for p in Path("run").iterdir()} == {
        *["best.pt", "final.pt", "last.pt", "history.h5", "history.png", "history.pdf"]
    }
    assert run([*command, "--json"]) == 0  # finished: returned without training
    content = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert content["digest"] == ls.load_checkpoint("run/best.pt").digest
    assert run([*command, "--lr", "0.01"]) == 2
    assert "optimiser.lr: 0.05 → 0.01" in one_line(capsys.readouterr().err)
    assert run(["evaluate", "run/best.pt", "--attack", "pgd-2"]) == 0
    assert run(["train", "pgdd"]) == 2
    assert "did you mean 'pgd'" in one_line(capsys.readouterr().err)
    assert run(["train", "standard", "--beta", "3"]) == 2
    assert "option of training method 'standard'" in one_line(capsys.readouterr().err)


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["spectum"], 2, "Did you mean 'spectrum'"),
        (["spectrum", "CKPT", "--top", "0"], 2, "--top"),
        (["spectrum", "CKPT", "--topp", "3"], 2, "--topp"),
        (["spectrum", "CKPT", "--top", "700"], 2, "asked for 700 eigenvalues, but θ has 650"),
        (["spectrum", "CKPT", "--attack", "pdg-10"], 2, "did you mean 'pgd'"),
        (["spectrum", "CKPT", "--attack", "pgd-10", "--eps", "-1"], 2, "eps must be"),
        (["spectrum", "CKPT", "--attack", "pgd-10", "--eps", "8"], 2, "8/255"),
        (["spectrum", "CKPT", "--attack", "pgd-10", "--eps", "x"], 2, "not a number"),
        (["spectrum", "CKPT", "--eps", "8/255"], 2, "--eps needs an attack"),
        (["spectrum", "CKPT", "--model", "lennet"], 2, "did you mean 'lenet'"),
        (["spectrum", "CKPT", "--model", "lenet-2"], 1, "the weights don't fit"),
        (["spectrum", "CKPT", "--data", "digitz"], 2, "did you mean 'digits'"),
        (["spectrum", "CKPT", "--data", "cifar10", "--data-dir", "."], 1, "landscape data cifar10"),
        (["spectrum", "CKPT", "--split", "extra"], 2, "train, val, test"),
        (["spectrum", "CKPT", "--n-examples", "0"], 2, "0"),
        (["spectrum", "CKPT", "--device", "cudda"], 2, "unknown device"),
        (["surface", "CKPT", "--directions", "randm"], 2, "did you mean 'random'"),
        (["surface", "CKPT", "--grid", "5by5"], 2, "41x21"),
        (["surface", "CKPT", "--grid", "1x5"], 2, "at least 2 points"),
        (["surface", "CKPT", "--range", "1:-1"], 2, "must grow"),
        (["surface", "CKPT", "--range", "a:b"], 2, "low:high"),
        (["spectrum", "missing.pt"], 1, "missing.pt does not exist"),
        (["plot", "missing.h5"], 1, "missing.h5 does not exist"),
        (["spectrum", "CKPT", "--out", "/proc/nothing/x.h5"], 1, "can't write"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_bad_requests(
    arguments: list[str],
    code: int,
    message: str,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([str(checkpoint) if a == "CKPT" else a for a in arguments]) == code
    assert message in one_line(capsys.readouterr().err)
    assert not list(Path().iterdir())


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("exploded", "w"))


def _bad_files(folder: Path, checkpoint: Path) -> dict[str, tuple[Path, str]]:
    whole = checkpoint.read_bytes()
    state = torch.load(checkpoint, weights_only=True)
    nan = {k: torch.full_like(v, torch.nan) for k, v in state["state_dict"].items()}
    torch.save(nan, folder / "nan.pt")
    torch.save({"epoch": 3}, folder / "other.pt")
    with (folder / "bomb.pt").open("wb") as stream:
        pickle.dump({"state_dict": Bomb()}, stream)
    torch.save({"x": Bomb()}, folder / "zipbomb.pt")
    (folder / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pt").write_bytes(b"")
    (folder / "page.pt").write_text("<!DOCTYPE html><html>Virus scan warning</html>")
    (folder / "text.pt").write_text("hello")
    return {
        name: (folder / f"{name}.pt", message)
        for name, message in {
            "nan": "NaN or infinite",
            "other": "no checkpoint that landscape knows",
            "bomb": "--trust-checkpoint",
            "zipbomb": "--trust-checkpoint",
            "truncated": "truncated",
            "empty": "is empty",
            "page": "is a web page",
            "text": "neither a file that torch.save wrote",
        }.items()
    }


@pytest.mark.parametrize(
    "name", ["nan", "other", "bomb", "zipbomb", "truncated", "empty", "page", "text"]
)
def test_bad_checkpoints(
    name: str,
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, message = _bad_files(tmp_path_factory.mktemp("bad"), checkpoint)[name]
    assert run(["spectrum", str(path), "--model", "logistic", "--data", "digits"]) == 1
    assert message in one_line(capsys.readouterr().err)
    assert not list(Path().iterdir())


def test_existing_results_are_kept(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny-spectrum.h5").write_text("precious")
    assert run(["spectrum", str(checkpoint), "--top", "2"]) == 1
    assert "--overwrite" in one_line(capsys.readouterr().err)
    assert Path("tiny-spectrum.h5").read_text() == "precious"
    assert run(["spectrum", str(checkpoint), "--top", "2", "--overwrite"]) == 0
    assert len(ls.load("tiny-spectrum.h5").eigenvalues) == 2


def test_full_disk(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(["spectrum", str(checkpoint), "--top", "2"]) == 1
    assert "the disk is full" in one_line(capsys.readouterr().err)
    assert not list(Path().iterdir())


def test_near_chance_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    torch.save({k.replace("1.", "linear."): v for k, v in model.state_dict().items()}, "zero.pt")
    from landscape.models import build

    names = list(build("logistic", in_shape=(1, 8, 8), num_classes=10).state_dict())
    torch.save(dict(zip(names, model.state_dict().values(), strict=True)), "zero.pt")
    assert run(["trace", "zero.pt", "--model", "logistic", "--data", "digits"]) == 0
    assert "near chance" in capsys.readouterr().err


def test_bare_weights_need_a_model_and_data(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.load(checkpoint, weights_only=True)["state_dict"], "bare.pt")
    assert run(["spectrum", "bare.pt"]) == 2
    assert "add --data" in one_line(capsys.readouterr().err)
    assert run(["spectrum", "bare.pt", "--data", "digits"]) == 2
    assert "add --model" in one_line(capsys.readouterr().err)
    command = ["spectrum", "bare.pt", "--data", "digits", "--model", "logistic", "--top", "2"]
    assert run([*command, "--attack", "pgd-2"]) == 2
    assert "needs a radius" in one_line(capsys.readouterr().err)
    assert run(command) == 0


def test_killed_surface_resumes_to_the_same_result(checkpoint: Path) -> None:
    def command(out: str) -> list[str]:
        return [
            *[sys.executable, "-m", "landscape", "surface", str(checkpoint)],
            *["--grid", "60x12", "--attack", "pgd-10", "--out", out, "-q"],
        ]

    env = {**os.environ, "LANDSCAPE_SAVE_SECONDS": "0"}
    process = subprocess.Popen(command("cut.h5"), env=env)
    partial = Path("cut.partial.h5")
    deadline = time.monotonic() + 120
    while not partial.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not Path("cut.h5").exists()
    before = ls.load(partial)
    assert 0 < before.done.sum() < before.done.size
    assert subprocess.run(command("cut.h5"), env=env).returncode == 0
    assert not partial.exists()
    assert subprocess.run(command("whole.h5"), env=env).returncode == 0
    np.testing.assert_array_equal(ls.load("cut.h5").loss, ls.load("whole.h5").loss)


def test_interrupt_prints_how_to_go_on(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.diagnostics.surface", interrupted)
    assert run(["surface", str(checkpoint), "--grid", "5"]) == 130
    assert f"landscape surface {checkpoint} --grid 5" in capsys.readouterr().err


def test_unexpected_errors_are_one_line_unless_vv(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("landscape.diagnostics.spectrum", broken)
    assert run(["spectrum", str(checkpoint)]) == 1
    assert "RuntimeError: first" in one_line(capsys.readouterr().err)
    assert run(["spectrum", str(checkpoint), "-vv"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_seeds_make_a_run_each_and_their_scatter(tmp_path, capsys):
    out = tmp_path / "runs"
    command = [*TRAIN, "--epochs", "2", "--out", str(out)]
    assert run([*command, "--seeds", "0,3"]) == 0
    shown = capsys.readouterr().out
    assert "pgd, 2 seeds" in shown
    found = {seed: ls.load_checkpoint(out / f"seed{seed}" / "best.pt") for seed in (0, 3)}
    assert [c.seed for c in found.values()] == [0, 3]
    accuracies = [c.metrics["val_accuracy"] for c in found.values()]
    row = next(line for line in shown.splitlines()[-20:] if line.startswith("val accuracy"))
    assert f"{np.mean(accuracies):.4f}" in row
    assert f"{np.std(accuracies, ddof=1):.4f}" in row
    assert run([*command, "--seeds", "0,3", "--json"]) == 0  # finished runs are not trained again
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [r["metrics"]["val_accuracy"] for r in runs] == accuracies
    assert run([*command, "--seeds", "1,1"]) == 2
    assert "'1,1' are no seeds: write 0,1,2, each once" in capsys.readouterr().err


def test_no_command_has_an_option_twice() -> None:
    """Shared groups of options may hold one that a command has already: the last one wins."""
    import importlib

    from landscape.cli import COMMANDS

    for name, module in COMMANDS.items():
        parameters = getattr(importlib.import_module(module), name).params
        for names in ([p.name for p in parameters], [o for p in parameters for o in p.opts]):
            assert len({*names}) == len(names), f"{name}: {sorted(names)}"
