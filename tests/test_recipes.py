"""Recipes: values of the papers per method, how options of several sources combine, --from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from landscape import checkpoints
from landscape.checkpoints import Checkpoint
from landscape.cli import run
from landscape.errors import CheckpointError, UsageError
from landscape.training import ADDITIONS, METHODS, RECIPES, Method, default_config, train
from landscape.training.config import differences


def made(name: str, recipe: str, **overrides: Any) -> Method:
    return default_config(None, None, name, recipe=recipe, **overrides).plan.method


def described(name: str, recipe: str, part: str = "perturbation") -> dict[str, Any]:
    return made(name, recipe).to_dict()[part]


@pytest.mark.parametrize("recipe", ["digits", "digits32"])
@pytest.mark.parametrize("name", [*METHODS, *(f"pgd+{name}" for name in ADDITIONS)])
def test_every_method_and_addition_has_a_digits_recipe(recipe: str, name: str) -> None:
    if (recipe, name) == ("digits32", "pgd+kdsa"):  # no teachers come with the package
        with pytest.raises(UsageError, match=r"needs standard, adversarial: --set kdsa\.standard="):
            default_config(recipe, None, name)
        return
    config = default_config(recipe, None, name)
    assert config.plan.method.name == name
    assert config.digest == default_config(recipe, None, name).digest


# -- sitawarin2021, appendix A --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "steps", "h_sat", "fosc_until"),
    [
        ("mnist", [30, 45, 60], ("step", 0.0, [30, 45, 60]), 30),
        ("cifar10-prn20", [40, 60, 80], ("linear", 0.8, [0, 30]), 80),
        ("cifar100-wrn", [30, 40, 50], ("linear", 0.8, [0, 30]), 80),
        ("imagenette", [40, 60, 80], ("linear", 0.8, [0, 30]), 40),
    ],
)
def test_curricula_of_sitawarin2021(
    recipe: str, steps: list[float], h_sat: tuple[Any, ...], fosc_until: float
) -> None:
    name = f"sitawarin2021/{recipe}"
    difficulty = described("p-sat", name)["difficulty"]
    assert (difficulty["schedule"], difficulty["milestones"]) == ("step", steps)
    difficulty = described("h-sat", name)["difficulty"]
    assert (difficulty["schedule"], difficulty["start"], difficulty["milestones"]) == h_sat
    assert described("dat", name)["until"] == fosc_until
    assert described("trades", name, "outer_loss")["beta"] == 6
    assert described("cat20", name)["eta"] == 0.005
    assert described("cat20", name, "outer_loss")["kappa"] == 10
    assert described("dat", name)["step_size"] == (0.02 if recipe == "mnist" else 2 / 255)


# -- liu2020, liu2022, kanai2021, li2023 -----------------------------------------------------------


def test_budgets_of_liu2020() -> None:
    mnist = described("pgd+pas", "liu2020/mnist")
    assert mnist["budget"]["maximum"] * mnist["eps"] == pytest.approx(0.6)
    cifar = described("pgd+pas", "liu2020/cifar10-resnet18")
    assert cifar["budget"]["maximum"] * cifar["eps"] == pytest.approx(16 / 255)
    assert cifar["budget"]["periods"] == [100, 150]


def test_learning_rates_of_liu2020_begin_anew_with_every_period() -> None:
    """Figure 6: .1 /10 at 100 and 150 of 200 epochs, at 50 and 75 of the first 100, and so on."""
    periodic = default_config(None, None, "pgd+pas", recipe="liu2020/cifar10-resnet18").plan
    for t, lr in {0: 0.1, 49: 0.1, 51: 0.01, 76: 0.001, 101: 0.1, 126: 0.01, 139: 0.001}.items():
        assert periodic.lr(t) == pytest.approx(lr)
    plain = default_config(None, None, "pgd", recipe="liu2020/cifar10-resnet18").plan
    assert [plain.lr(t) for t in (0, 99, 101)] == pytest.approx([0.1, 0.1, 0.01])
    vgg = default_config(None, None, "pgd+pas", recipe="liu2020/cifar10-vgg").plan
    assert vgg.lr(50) == pytest.approx(1e-3)
    assert vgg.lr(62.5) == pytest.approx(1e-3 * 0.1**0.5)
    assert vgg.lr(99) == pytest.approx(1e-4)
    assert vgg.lr(100) == pytest.approx(1e-3)
    half = default_config(None, None, "pgd+pas", recipe="liu2020/cifar10-vgg", epochs=100).plan
    assert half.schedule.periods == (50, 75)


def test_methods_of_liu2022() -> None:
    iaat = described("iaat", "liu2022/cifar10-rn18")
    assert (iaat["warmup"], iaat["rate"]) == (5, 1)
    assert iaat["gamma"] == pytest.approx(1.9 / 255)
    assert described("self-adaptive", "liu2022/cifar10-rn18", "outer_loss")["start"] == 90
    tuned = default_config(None, None, "fine-tune", recipe="liu2022/svhn-rn18").plan
    assert (tuned.epochs, tuned.lr(0), tuned.lr(5)) == (5, 1e-3, 1e-3)
    fast = default_config(
        None, None, "atta+adaptive-targets+reweight", recipe="liu2022/cifar10-fast"
    )
    assert fast.model.name == "wrn-34-10"
    found = fast.plan.method.to_dict()
    assert found["perturbation"]["step_size"] == 4 / 255
    assert (found["perturbation"]["steps"], found["perturbation"]["reset"]) == (1, 10)
    assert found["outer_loss"]["warmup"] == 5
    inner = found["outer_loss"]["inner"]
    assert (inner["fixed"], inner["momentum"], inner["warmup"]) == (0.1, 0.9, 5)


def test_trades_of_kanai2021() -> None:
    name = "kanai2021/cifar10-wrn"
    assert described("trades", name)["step_size"] == 0.003
    assert described("trades+entropysgd", name, "descent")["steps"] == 20
    both = made("trades+awp+entropysgd", name)
    assert both.weights is not None
    assert both.descent is not None
    assert (both.weights.gamma, both.weights.warmup) == (0.005, 10)
    assert (both.descent.steps, both.descent.start, both.descent.average) == (30, 10, 0.3)


@pytest.mark.parametrize(
    ("addition", "fgsm_n", "pgd"),
    [
        ("igr", 12, 10),
        ("cure", 15, 15),
        ("gradalign", 7, 6),
        ("logitalign", 100, 50),
        ("consistency", 50, 50),
        ("advlc", 0.55, 0.4),
        ("advlc+swa", 0.5, 0.3),
    ],
)
def test_strengths_of_li2023(addition: str, fgsm_n: float, pgd: float) -> None:
    for base, weight in (("fgsm-n", fgsm_n), ("pgd", pgd)):
        method = made(f"{base}+{addition}", "li2023/cifar10-prn18")
        assert method.regularisers[0].describe()["weight"] == weight
        if method.averaging is not None:
            assert method.averaging.start == 50
    tiny = made("pgd+advlc", "li2023/tinyimagenet-prn18").regularisers[0].describe()
    assert (tiny["weight"], tiny["ramp"]) == (0.15, 200)


# -- how options combine ---------------------------------------------------------------------------


def test_a_step_size_belongs_to_its_number_of_steps() -> None:
    """The 2/255 of PGD-10 is no step of a single-step attack."""
    for name, factor in (("fgsm", 1), ("fgsm-r", 1.25), ("fgsm-n", 1), ("n-fgsm", 1)):
        found = default_config("cifar10", None, name).plan.method.to_dict()["perturbation"]
        assert found["step_size"] == pytest.approx(factor * 8 / 255)
    assert described("fgsm-r", "li2023/cifar10-prn18")["step_size"] == 8 / 255
    atta = default_config("cifar10", None, "atta").plan.method.to_dict()["perturbation"]
    assert (atta["steps"], atta["step_size"]) == (1, pytest.approx(4 / 255))
    given = default_config("cifar10", None, "fgsm", alpha=0.01).plan.method
    assert given.to_dict()["perturbation"]["step_size"] == 0.01


def test_epochs_of_a_recipe_keep_their_place_in_a_run_of_another_length() -> None:
    free = default_config("digits", None, "free")
    shorter = default_config("digits", None, "free", epochs=5).plan
    places = [m / free.plan.epochs for m in free.plan.schedule.milestones]
    assert [round(5 * place) for place in places] == list(shorter.schedule.milestones)
    long = default_config("digits", None, "pgd+swa+reweight+pas", epochs=400)
    short = default_config("digits", None, "pgd+swa+reweight+pas")
    assert long.plan.method.averaging is not None
    assert short.plan.method.averaging is not None
    assert long.plan.method.averaging.start == 10 * short.plan.method.averaging.start
    of = [plan.method.to_dict()["outer_loss"]["warmup"] for plan in (short.plan, long.plan)]
    assert of[1] == 10 * of[0]
    halved = made("p-sat", "sitawarin2021/cifar10-prn20", epochs=50).to_dict()["perturbation"]
    assert halved["difficulty"]["milestones"] == [20, 30, 40]
    pas = made("pgd+pas", "liu2020/cifar10-resnet18", epochs=20).to_dict()["perturbation"]
    assert pas["budget"]["periods"] == [10, 15]
    # What the caller gives is meant for the run that is asked for.
    given = made("p-sat", "sitawarin2021/cifar10-prn20", epochs=50, difficulty_at=(1, 2))
    assert given.to_dict()["perturbation"]["difficulty"]["milestones"] == [1, 2]
    swa = default_config("digits", None, "pgd+swa", epochs=400, swa={"start": 3}).plan.method
    assert swa.averaging is not None
    assert swa.averaging.start == 3


def test_epochs_of_an_addition_keep_their_place_in_the_run_of_any_method() -> None:
    """`free` has 10 epochs where most have 40, `fine-tune` 5, `pgd+consistency` 80."""
    for name, warmup in (("pgd", 10), ("free", 2), ("fine-tune", 1), ("pgd+consistency", 20)):
        weights = default_config("digits", None, f"{name}+awp").plan.method.weights
        assert weights is not None
        assert weights.warmup == warmup


def test_what_holds_for_a_method_and_an_addition_together() -> None:
    for name, lr in (("pgd", 0.05), ("pgd+entropysgd", 0.1), ("trades+entropysgd2", 0.1)):
        assert default_config("digits", None, name).plan.optimiser.lr == lr
    assert default_config("digits", None, "pgd").augmentation == "none"
    assert default_config("digits", None, "pgd+consistency").augmentation == "shift"
    given = default_config("digits", None, "pgd+consistency", augmentation="none")
    assert given.augmentation == "none"


# -- starting from trained weights, and naming bundled ones ----------------------------------------


def test_a_training_can_start_from_a_checkpoint(tmp_path: Path) -> None:
    start = checkpoints.load(checkpoints.bundled()["digits-pgd-seed0"])
    config = default_config("digits", None, "standard", initial="digits-pgd-seed0", epochs=1, lr=0)
    assert train(config, tmp_path / "a").digest == start.digest
    copy = tmp_path / "elsewhere.pt"
    start.save(copy)
    moved = default_config("digits", None, "standard", initial=str(copy), epochs=1, lr=0)
    assert moved.digest == config.digest  # which file it lies in doesn't matter
    other = default_config("digits", None, "standard", initial="digits-pgd-seed1", epochs=1, lr=0)
    assert differences(config.to_dict(), other.to_dict())
    assert "initial" not in default_config("digits", None, "standard").to_dict()


def test_a_checkpoint_of_another_network_is_refused_as_a_start(tmp_path: Path) -> None:
    config = default_config("digits", "lenet-2", "standard", initial="digits-pgd-seed0")
    with pytest.raises(CheckpointError, match="the weights don't fit"):
        train(config, tmp_path)
    with pytest.raises(CheckpointError, match="digits-pdg-seed0"):
        _ = default_config("digits", None, "standard", initial="digits-pdg-seed0").digest


def test_bundled_checkpoints_go_by_name() -> None:
    path = checkpoints.bundled()["digits-pgd-seed0"]
    assert checkpoints.find("digits-pgd-seed0") == path
    assert checkpoints.find(path) == path
    assert checkpoints.find("nothing") == Path("nothing")
    kdsa = default_config("digits", None, "pgd+kdsa").to_dict()["method"]["outer_loss"]
    assert kdsa["adversarial"]["source"] == "digits-pgd-seed0"
    assert kdsa["adversarial"]["digest"] == checkpoints.load(path).digest


def test_from_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["train", "standard", "--data", "digits", "--epochs", "1", "--quiet"]
    Checkpoint(torch.nn.Linear(2, 2).state_dict()).save(tmp_path / "other.pt")
    assert run([*start, "--from", str(tmp_path / "other.pt"), "--out", str(tmp_path / "a")]) == 1
    assert "the weights don't fit" in capsys.readouterr().err
    own = ["--from", "digits-pgd-seed0", "--lr", "0", "--out", str(tmp_path / "b")]
    assert run([*start, *own]) == 0
    saved = checkpoints.load(tmp_path / "b" / "final.pt")
    assert saved.digest == checkpoints.load(checkpoints.find("digits-pgd-seed0")).digest


def test_a_method_is_explained_for_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "p-sat"]) == 0
    shown = capsys.readouterr()
    lines = {line.split()[0]: line for line in shown.out.splitlines() if line.strip()}
    assert set(RECIPES) <= set(lines)
    assert "difficulty=step, difficulty_at=30,45,60" in lines["sitawarin2021/mnist"]
    assert not shown.err
    assert run(["methods", "pgd+kdsa"]) == 0
    shown = capsys.readouterr()
    assert "kdsa.standard=digits-standard-seed0" in shown.out
    assert shown.err.startswith("not in digits32, mnist")
    assert len(shown.err.splitlines()) == 1


def test_the_list_of_methods_as_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if line.startswith("| `")]
    assert len(tables) == len(METHODS) + len(ADDITIONS)
    assert len({line.count("|") for line in tables}) == 2
    assert any("`awp`" in line and "gamma=0.01, warmup=0" in line for line in tables)
    assert run(["methods", "pgd", "--markdown"]) == 2
    assert "leave the name out" in capsys.readouterr().err
