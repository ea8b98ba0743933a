"""Architectures: sizes against published counts, arithmetic against torchvision, refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp, linearize, vmap

from landscape.errors import UsageError
from landscape.models import (
    ACTIVATIONS,
    MODELS,
    ModelSpec,
    Normalize,
    Normalized,
    activation,
    build,
    count_parameters,
)


@pytest.fixture(autouse=True)
def _fixed_global_state():
    torch.manual_seed(0)


# One small network of every row of the table; `test_every_row_has_a_case` keeps it complete.
CASES = {
    "logistic": ("logistic", (1, 8, 8), {}),
    "mlp": ("mlp-9-7", (1, 8, 8), {"dropout": 0.5}),
    "lenet": ("lenet-2", (1, 8, 8), {}),
    "lenet, batchnorm": ("lenet-2", (1, 28, 28), {"batchnorm": True, "dropout": 0.5}),
    "mnist-cnn": ("mnist-cnn", (1, 28, 28), {}),
    "vgg": ("vgg-1", (3, 32, 32), {}),
    "vgg, 64": ("vgg-1", (3, 64, 64), {}),
    "resnet18": ("resnet18-1", (1, 8, 8), {}),
    "resnet18, imagenet": ("resnet18-1", (3, 64, 64), {"stem": "imagenet"}),
    "resnet34": ("resnet34-1", (3, 32, 32), {}),
    "preact-resnet18": ("preact-resnet18-1", (3, 32, 32), {"projection": "input"}),
    "preact-resnet20": ("preact-resnet20-1", (1, 8, 8), {"final_bn": False}),
    "wideresnet": ("wideresnet-10-1", (3, 32, 32), {}),
    "wrn": ("wrn-16-1", (1, 28, 28), {"dropout": 0.3}),
}
EVERY = pytest.mark.parametrize("case", CASES)
WITH_ACTIVATION = pytest.mark.parametrize("case", [case for case in CASES if case != "logistic"])


def make(case: str, classes: int = 7, normalize=None, **more) -> nn.Module:
    name, shape, options = CASES[case]
    return build(
        name,
        in_shape=shape,
        num_classes=classes,
        normalize=normalize,
        seed=0,
        **(options | more),
    )


def inputs(case: str, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *CASES[case][1], generator=generator)


def size(name: str, *shape: int, classes: int = 10, **options) -> int:
    with torch.device("meta"):  # shapes without numbers: WRN-34-10 takes no memory
        return count_parameters(build(name, in_shape=shape, num_classes=classes, **options))


def test_every_row_has_a_case():
    rows = {case.partition(",")[0] for case in CASES}
    assert rows == set(MODELS)
    assert all(entry.description for entry in MODELS.values())


# --- sizes


@pytest.mark.parametrize(
    ("name", "shape", "options", "published"),
    [
        ("wrn-34-10", (3, 32, 32), {}, 46_160_474),
        ("wideresnet", (3, 32, 32), {}, 46_160_474),
        ("wrn-28-10", (3, 32, 32), {}, 36_479_194),
        ("wrn-16-10", (3, 32, 32), {}, 17_116_634),
        ("preact-resnet18", (3, 32, 32), {"final_bn": False}, 11_171_146),
        ("preact-resnet18", (3, 32, 32), {}, 11_172_170),
        ("resnet18", (3, 32, 32), {}, 11_173_962),
        ("resnet34", (3, 32, 32), {}, 21_282_122),
        ("vgg-16", (3, 32, 32), {}, 14_728_266),
        ("resnet18", (3, 224, 224), {"classes": 1000}, 11_689_512),
        ("resnet34", (3, 224, 224), {"classes": 1000}, 21_797_672),
        ("torchvision:resnet18", (3, 224, 224), {"classes": 1000}, 11_689_512),
    ],
)
def test_published_sizes(name, shape, options, published):
    assert size(name, *shape, **options) == published


def conv(inputs: int, outputs: int, kernel: int, bias: bool = False) -> int:
    return inputs * outputs * kernel**2 + bias * outputs


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


@pytest.mark.parametrize("w", [1, 4, 16])
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (1, 8), (3, 32)])
def test_lenet_size(w, channels, side):
    features = 4 * w * (side // 4) ** 2
    expected = conv(channels, 2 * w, 5, True) + conv(2 * w, 4 * w, 5, True)
    expected += linear(features, 64 * w) + linear(64 * w, 10)
    assert size(f"lenet-{w}", channels, side, side) == expected
    norms = 2 * (2 * w) + 2 * (4 * w)
    assert size(f"lenet-{w}", channels, side, side, batchnorm=True) == expected + norms


def test_lenet_16_on_mnist_is_the_table_of_liu2020():
    model = build("lenet", in_shape=(1, 28, 28), num_classes=10, seed=0)
    assert model.fc1.weight.shape == (64 * 16, 196 * 16)
    assert count_parameters(model) == 3_274_634


@pytest.mark.parametrize("w", [1, 8])
def test_vgg_size(w):
    widths = [4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32]
    expected, previous = linear(32 * w, 10), 3
    for width in (w * factor for factor in widths):
        expected += conv(previous, width, 3, True) + 2 * width
        previous = width
    assert size(f"vgg-{w}", 3, 32, 32) == expected


@pytest.mark.parametrize("w", [2, 8])
def test_resnet18_size(w):
    b = 4 * w
    expected = conv(3, b, 3) + 2 * b + 4 * conv(b, b, 3) + 4 * 2 * b
    for c in (2 * b, 4 * b, 8 * b):
        expected += conv(c // 2, c, 3) + 3 * conv(c, c, 3) + conv(c // 2, c, 1) + 5 * 2 * c
    assert size(f"resnet18-{w}", 3, 32, 32) == expected + linear(8 * b, 10)


def test_preact_resnet20_size():
    expected = conv(3, 16, 3) + 6 * (conv(16, 16, 3) + 2 * 16)
    for c in (32, 64):
        # The first BatchNorm of a stage still has the channels of the stage before.
        norms = 2 * (c // 2) + 5 * 2 * c
        expected += conv(c // 2, c, 3) + 5 * conv(c, c, 3) + conv(c // 2, c, 1) + norms
    expected += 2 * 64 + linear(64, 10)
    assert size("preact-resnet20", 3, 32, 32) == expected == 272_282


def test_small_sizes():
    assert size("logistic", 1, 8, 8) == linear(64, 10)
    assert size("logistic", 5) == linear(5, 10)  # a vector
    assert size("mlp", 1, 8, 8) == linear(64, 64) + linear(64, 64) + linear(64, 10)
    assert size("mlp", 1, 8, 8, hidden=()) == size("logistic", 1, 8, 8)
    convolutions = conv(1, 64, 8, True) + conv(64, 128, 6, True) + conv(128, 128, 5, True)
    assert size("mnist-cnn", 1, 28, 28) == convolutions + linear(128, 10)
    # 32 → 16 → 6 → 2 a side
    assert size("mnist-cnn", 1, 32, 32) == convolutions + linear(128 * 2 * 2, 10)


def test_counting_knows_tied_and_frozen_parameters():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert count_parameters(model) == 16 + 4 + 4
    model[0].bias.requires_grad_(False)
    assert count_parameters(model, trainable=True) == 16 + 4


# --- arithmetic


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_resnet_computes_what_torchvision_computes(name):
    kwargs = {"in_shape": (3, 64, 64), "num_classes": 5}
    model = build(name, **kwargs, stem="imagenet", seed=0).eval()
    oracle = build(f"torchvision:{name}", **kwargs, seed=1).eval()
    for module in oracle.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.bias)
    renamed = {
        key.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for key, value in oracle.state_dict().items()
    }
    model.load_state_dict(renamed)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(x), oracle(x))


def test_two_pre_activation_networks_agree():
    # WRN-22-1 and PreAct-ResNet-20 are one network under two names, written twice here.
    kwargs = {"in_shape": (3, 16, 16), "num_classes": 5, "activation": "softplus:5"}
    wide = build("wrn-22-1", **kwargs, seed=0).eval()
    rename = [
        (".layer.", "."),
        ("block", "layer"),
        ("convShortcut", "shortcut.0"),
        ("fc", "linear"),
    ]
    state = {}
    for key, value in wide.state_dict().items():
        for old, new in rename:
            key = key.replace(old, new)
        state[re.sub(r"^bn1\.", "bn.", key)] = value
    preact = build("preact-resnet20", **kwargs, seed=1).eval()
    preact.load_state_dict(state)
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(preact(x), wide(x))
    # The same parameters with the other shortcut are another function: no key tells them apart.
    other = build("preact-resnet20", **kwargs, projection="input", seed=1).eval()
    other.load_state_dict(state)
    assert (other(x) - wide(x)).abs().max() > 1e-3


def test_lenet_and_vgg_by_hand():
    x = torch.rand(2, 1, 32, 32)
    functional = nn.functional
    net = build("lenet-2", in_shape=(1, 32, 32), num_classes=4, seed=0, activation="tanh")
    p = dict(net.named_parameters())
    out = x
    for i in (1, 2):
        out = functional.conv2d(out, p[f"conv{i}.weight"], p[f"conv{i}.bias"], padding=2)
        out = functional.max_pool2d(torch.tanh(out), 2)
    out = torch.tanh(out.reshape(2, -1) @ p["fc1.weight"].T + p["fc1.bias"])
    torch.testing.assert_close(net(x), out @ p["fc2.weight"].T + p["fc2.bias"])

    net = build("vgg-1", in_shape=(1, 32, 32), num_classes=4, seed=0).eval()
    shapes = []
    for module in net.features:
        x = module(x)
        if isinstance(module, nn.MaxPool2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2), (32, 1, 1)]


def test_stem_follows_the_image_size():
    small = build("resnet18-1", in_shape=(3, 64, 64), num_classes=3, seed=0)
    large = build("resnet18-1", in_shape=(3, 160, 160), num_classes=3, seed=0)
    assert small.conv1.weight.shape == (4, 3, 3, 3)
    assert large.conv1.weight.shape == (4, 3, 7, 7)
    forced = build("resnet18-1", in_shape=(3, 160, 160), num_classes=3, seed=0, stem="cifar")
    assert forced.conv1.weight.shape == (4, 3, 3, 3)


@EVERY
def test_forward_shape_and_determinism(case):
    model = make(case)
    assert model(inputs(case)).shape == (3, 7)  # in training mode, dropout and all
    model.eval()
    x = inputs(case)
    logits = model(x)
    torch.testing.assert_close(model(x), logits, rtol=0, atol=0)
    torch.testing.assert_close(model(x[1:]), logits[1:])


@EVERY
def test_functional_transforms(case):
    model = make(case, normalize=(0.5, 0.25)).eval().double()
    x = inputs(case).double()
    theta = {key: value.detach() for key, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    tangent = {
        key: torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for key, value in theta.items()
    }

    def logits(parameters):
        return functional_call(model, parameters, (x,))

    # Forward against reverse mode: <u, J v> = <Jᵀ u, v>. Differences would meet ReLU's kinks.
    value, derivative = jvp(logits, (theta,), (tangent,))
    torch.testing.assert_close(value, model(x))
    u = torch.rand(value.shape, generator=generator, dtype=value.dtype)
    gradient = torch.autograd.grad((model(x) * u).sum(), list(model.parameters()))
    reverse = sum((g * tangent[key]).sum() for g, key in zip(gradient, theta, strict=True))
    torch.testing.assert_close((u * derivative).sum(), reverse)
    single = vmap(lambda image: functional_call(model, theta, (image[None],))[0])(x)
    torch.testing.assert_close(single, value)


def test_linearize():
    model = make("wrn").eval()
    x, theta = inputs("wrn"), dict(model.named_parameters())
    value, push = linearize(lambda parameters: functional_call(model, parameters, (x,)), theta)
    torch.testing.assert_close(value, model(x))
    # Logits are linear in the last layer, so θ itself as a tangent there gives them back.
    tangent = {k: v if k.startswith("fc.") else torch.zeros_like(v) for k, v in theta.items()}
    torch.testing.assert_close(push(tangent), value)


def input_curvature(model: nn.Module, x: torch.Tensor) -> float:
    """Largest entry of H v for the input Hessian H of the summed logits and one random v."""
    x = x.clone().requires_grad_()
    v = torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    if not gradient.requires_grad:
        return 0.0
    product = torch.autograd.grad((gradient * v).sum(), x, allow_unused=True)[0]
    return 0.0 if product is None else float(product.abs().max())


@WITH_ACTIVATION
def test_activation_is_really_replaced(case):
    relu = make(case).eval().double()
    smooth = make(case, activation="softplus:2").eval().double()
    x = inputs(case).double()
    assert any(isinstance(module, nn.ReLU) for module in relu.modules())
    assert not any(isinstance(module, nn.ReLU) for module in smooth.modules())
    # Piecewise linear in the input with ReLU (eval-mode BatchNorm is affine), curved without:
    # a ReLU hidden in a forward would escape the scan of modules, not this.
    assert input_curvature(relu, x) == 0
    assert input_curvature(smooth, x) > 0
    assert smooth.state_dict().keys() == relu.state_dict().keys()
    assert count_activations(smooth) == count_activations(relu) > 0


def count_activations(model: nn.Module) -> int:
    return sum(isinstance(module, nn.ReLU | nn.Softplus) for module in model.modules())


@EVERY
def test_nothing_works_in_place(case):
    assert not any(getattr(module, "inplace", False) for module in make(case).modules())
    x = inputs(case)
    before = x.clone()
    make(case).eval()(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_activations():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(activation("softplus:10")(x), torch.log1p(torch.exp(10 * x)) / 10)
    torch.testing.assert_close(activation("swish")(x), x * torch.sigmoid(x))
    torch.testing.assert_close(activation("leaky-relu:0.2")(x), torch.where(x > 0, x, 0.2 * x))
    for name in ACTIVATIONS:
        assert activation(name)(x).shape == x.shape
        assert activation(name) is not activation(name)


# --- normalisation


def test_normalisation_is_per_channel_and_inside():
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    kwargs = {"in_shape": (3, 32, 32), "num_classes": 10, "seed": 0}
    model = build("resnet18-1", normalize=(mean, std), **kwargs).eval()
    bare = build("resnet18-1", **kwargs).eval()
    assert isinstance(model, Normalized)
    x = torch.rand(2, 3, 32, 32)
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(x), bare(by_hand))
    keys = {f"network.{key}" for key in bare.state_dict()} | {"normalize.mean", "normalize.std"}
    assert set(model.state_dict()) == keys
    assert count_parameters(model) == count_parameters(bare)


def test_normalisation_of_one_number_of_arrays_and_of_vectors():
    one = build("logistic", in_shape=(3, 4, 4), num_classes=2, normalize=(0.5, 0.25), seed=0)
    each = (np.full(3, 0.5), torch.full((3,), 0.25))
    three = build("logistic", in_shape=(3, 4, 4), num_classes=2, normalize=each, seed=0)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(three.state_dict()[key], value)
    vector = Normalize((1.0, 2.0), (1.0, 4.0), (2,))
    torch.testing.assert_close(vector(torch.tensor([[2.0, 6.0]])), torch.tensor([[1.0, 1.0]]))


# --- seeds


def test_seed_fixes_the_network_and_spares_the_global_state():
    kwargs = {"in_shape": (1, 8, 8), "num_classes": 10}
    state = torch.get_rng_state()
    first = build("lenet-2", **kwargs, seed=0).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    for key, value in build("lenet-2", **kwargs, seed=0).state_dict().items():
        torch.testing.assert_close(value, first[key], rtol=0, atol=0)
    other = build("lenet-2", **kwargs, seed=1).state_dict()
    assert not torch.equal(other["fc1.weight"], first["fc1.weight"])
    state = torch.get_rng_state()
    build("lenet-2", **kwargs)
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_seed_on_a_gpu():
    kwargs = {"in_shape": (1, 8, 8), "num_classes": 10, "seed": 0}
    with torch.device("cuda"):
        states = torch.get_rng_state(), torch.cuda.get_rng_state()
        first, second = (build("lenet-2", **kwargs).fc1.weight for _ in range(2))
        assert first.is_cuda
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert torch.equal(torch.cuda.get_rng_state(), states[1])


# --- names


def test_numbers_after_a_name_are_options():
    kwargs = {"in_shape": (3, 32, 32), "num_classes": 10, "seed": 0}
    pairs = [
        ("lenet-4", "lenet", {"width": 4}),
        ("mlp-8-6", "mlp", {"hidden": (8, 6)}),
        ("vgg-2", "vgg", {"width": 2}),
        ("resnet18-2", "resnet18", {"width": 2}),
        ("preact-resnet20-2", "preact-resnet20", {"width": 2}),
        ("wrn-10-2", "wideresnet", {"depth": 10, "width": 2}),
    ]
    for short, name, options in pairs:
        a, b = build(short, **kwargs), build(name, **kwargs, **options)
        torch.testing.assert_close(dict(a.state_dict()), dict(b.state_dict()))


@pytest.fixture
def factories(monkeypatch):
    """An importable module ``made_up`` of user factories."""
    module = types.ModuleType("made_up")

    def both(in_shape, num_classes, scale=1):
        return nn.Sequential(nn.Flatten(), nn.Linear(scale * in_shape[-1], num_classes))

    module.both = both
    module.classes = lambda num_classes: nn.Linear(4, num_classes)
    module.nothing = lambda: nn.Linear(4, 2)
    module.needs = lambda num_classes, vocabulary: nn.Linear(vocabulary, num_classes)
    module.everything = lambda **options: nn.Linear(options["wide"], 2)
    module.wrong = lambda: "a network"
    module.number = 3
    monkeypatch.setitem(sys.modules, "made_up", module)


@pytest.mark.usefixtures("factories")
def test_imported_factories():
    kwargs = {"in_shape": (4,), "num_classes": 3}
    assert build("made_up:both", **kwargs)(torch.ones(2, 4)).shape == (2, 3)
    assert build("made_up:both", **kwargs, scale=2)[1].in_features == 8
    assert build("made_up:classes", **kwargs).out_features == 3
    assert build("made_up:nothing", **kwargs).out_features == 2
    assert build("made_up:everything", **kwargs, wide=6).in_features == 6
    wrapped = build("made_up:both", **kwargs, normalize=(1.0, 2.0))
    assert isinstance(wrapped, Normalized)


def test_torchvision_networks():
    model = build("torchvision:squeezenet1_1", in_shape=(3, 32, 32), num_classes=4, seed=0)
    assert model.training
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_torchvision_is_imported_only_when_asked_for():
    code = "import sys, landscape.models; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- descriptions


@EVERY
def test_spec_round_trip(case):
    name, shape, options = CASES[case]
    spec = ModelSpec(name, shape, 7, (0.5, (0.25,)), options)
    stored = json.loads(json.dumps(spec.to_dict()))
    assert ModelSpec.from_dict(stored) == spec
    assert hash(ModelSpec.from_dict(stored)) == hash(spec)
    again = ModelSpec.from_dict(stored).build(seed=0).state_dict()
    direct = make(case, normalize=(0.5, 0.25)).state_dict()
    torch.testing.assert_close(dict(again), dict(direct), rtol=0, atol=0)


def test_spec_is_canonical():
    a = ModelSpec("mlp", [1, np.int64(8), 8], 10, (0, 1), {"hidden": [5, 4]})
    b = ModelSpec("mlp", torch.Size((1, 8, 8)), 10, ([0.0], [1.0]), {"hidden": (5, 4)})
    assert a == b
    assert a.to_dict() == {
        "name": "mlp",
        "in_shape": [1, 8, 8],
        "num_classes": 10,
        "normalize": [[0.0], [1.0]],
        "options": {"hidden": [5, 4]},
    }
    assert a != ModelSpec("mlp", (1, 8, 8), 10, None, {"hidden": (5, 4)})


def test_spec_refusals():
    good = ModelSpec("lenet", (1, 8, 8), 10).to_dict()
    with pytest.raises(UsageError, match=r"has the keys in_shape, .* not name\."):
        ModelSpec.from_dict({"name": "lenet"})
    with pytest.raises(UsageError, match=r"not classes, in_shape, name, "):
        ModelSpec.from_dict({**good, "classes": 3})
    with pytest.raises(UsageError, match=r"option hidden=.* can't be stored: expected numbers"):
        ModelSpec("mlp", (1, 8, 8), 10, None, {"hidden": {5, 4}})


# --- refusals

DIGITS, CIFAR = (1, 8, 8), (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("lenett", DIGITS, {}, r"unknown model 'lenett': did you mean 'lenet'\? Known: lenet,"),
        ("", DIGITS, {}, r"unknown model ''\. Known: "),
        ("resnet50-2", CIFAR, {}, r"unknown model 'resnet50-2'"),
        ("wrn-34", CIFAR, {}, r"model 'wrn-34': expected the form wrn-DEPTH-WIDTH\."),
        ("lenet-4-4", DIGITS, {}, r"expected the form lenet-WIDTH\."),
        ("mnist-cnn-2", DIGITS, {}, r"expected the form mnist-cnn\."),
        ("wrn-35-10", CIFAR, {}, r"depth is 6n \+ 4; the nearest are 34 and 40\."),
        ("wrn-4-10", CIFAR, {}, r"depth=4: expected a whole number of at least 10\."),
        ("lenet-0", DIGITS, {}, r"width=0: expected a whole number of at least 1\."),
        ("lenet-4", DIGITS, {"width": 8}, r"'lenet-4' already says width=4; leave out one"),
        (
            "lenet",
            DIGITS,
            {"widht": 8},
            r"'lenet' takes no option 'widht'\. It takes: activation, batchnorm, dropout, width\.",
        ),
        ("logistic", DIGITS, {"activation": "relu"}, r"takes no option .* It takes: none\."),
        ("lenet", DIGITS, {"width": "8"}, r"width='8': expected a whole number of at least 1\."),
        ("lenet", DIGITS, {"width": True}, r"width=True: expected a whole number"),
        ("lenet", DIGITS, {"batchnorm": "false"}, r"batchnorm='false': expected True or False\."),
        ("lenet", DIGITS, {"dropout": 1}, r"dropout=1: expected a probability in \[0, 1\)\."),
        ("mlp", DIGITS, {"hidden": 64}, r"hidden=64: expected widths such as \(64, 64\)\."),
        ("resnet18", CIFAR, {"stem": "big"}, r"stem='big': expected one of auto, cifar, imagenet"),
        ("preact-resnet18", CIFAR, {"projection": 1}, r"expected one of activated, input\."),
        ("lenet", (1, 30, 28), {}, r"divisible by 4, not 30×28\."),
        ("mnist-cnn", DIGITS, {}, r"mnist-cnn needs images of at least 28×28 pixels, not 8×8\."),
        ("vgg", DIGITS, {}, r"vgg needs images of at least 32×32 pixels, not 8×8\."),
        ("resnet18", (64,), {}, r"needs images: in_shape \(C, H, W\), not \(64,\)\."),
        ("lenet", (1, 0, 8), {}, r"in_shape=0: expected a whole number of at least 1\."),
        ("lenet", 8, {}, r"in_shape=8: expected \(channels, height, width\)\."),
        ("lenet", DIGITS, {"num_classes": 0}, r"num_classes=0: expected a whole number"),
        ("lenet", DIGITS, {"activation": "rleu"}, r"unknown activation 'rleu': .* 'relu'\?"),
        ("lenet", DIGITS, {"activation": None}, r"activation=None: expected a name such as"),
        ("lenet", DIGITS, {"activation": "relu:2"}, r"relu takes no number; write 'relu'\."),
        ("lenet", DIGITS, {"activation": "softplus:"}, r"expected a positive beta after the colon"),
        ("lenet", DIGITS, {"activation": "softplus:-1"}, r"expected a positive beta"),
        ("lenet", DIGITS, {"normalize": 0.5}, r"normalize=0.5: expected a pair \(mean, std\)\."),
        ("lenet", DIGITS, {"normalize": (0, 0)}, r"expected positive standard deviations, not"),
        ("lenet", DIGITS, {"normalize": ((0, 0), 1)}, r"one finite number or 1 \(one per channel"),
        ("lenet", DIGITS, {"normalize": (float("nan"), 1)}, r"expected one finite number or 1"),
        ("torchvision:resnet81", CIFAR, {}, r"unknown torchvision model 'resnet81': did you mean"),
        ("torchvision:resnet18", DIGITS, {}, r"can't take an input of shape \(1, 8, 8\); most "),
        ("torchvision:alexnet", CIFAR, {}, r"224×224 pixels\. It says: .*too small"),
        ("torchvision:resnet18", CIFAR, {"wide": 2}, r"refuses its options: .*'wide'"),
        ("no.such.module:f", DIGITS, {}, r"can't import no\.such\.module: No module named"),
        ("made_up:missing", DIGITS, {}, r"made_up:missing': .* no attribute 'missing'"),
        ("made_up:", DIGITS, {}, r"expected package\.module:factory\."),
        ("made_up:number", DIGITS, {}, r"is int: expected a function\."),
        ("made_up:wrong", DIGITS, {}, r"returned str: expected an nn\.Module\."),
        ("made_up:needs", DIGITS, {}, r"needs vocabulary: a factory is called with in_shape, "),
        ("made_up:both", DIGITS, {"size": 1}, r"takes no option 'size'\. It takes: scale\."),
    ],
)
@pytest.mark.usefixtures("factories")
def test_refusals(name, shape, options, message):
    with pytest.raises(UsageError, match=message):
        build(name, in_shape=shape, **{"num_classes": 10, **options})
