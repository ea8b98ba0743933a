"""Networks that are no map from a tensor to a tensor; text in embedding space; refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from landscape import params as P
from landscape.errors import DataError, UsageError
from landscape.structured import Bundle

F64 = torch.float64


class Text(nn.Module):
    """As a Hugging Face classifier: tokens or embeddings and a mask in, an object out."""

    def __init__(self, words: int = 11, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.hidden = nn.Linear(width, 5)
        self.head = nn.Linear(5, classes)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Any:
        assert attention_mask is not None
        if inputs_embeds is None:
            inputs_embeds = self.embedding(input_ids)
        mask = attention_mask[..., None]
        mean = (inputs_embeds * mask).sum(1) / mask.sum(1)
        return SimpleNamespace(logits=self.head(torch.tanh(self.hidden(mean))))


class Two(nn.Module):
    """Two inputs, a top-level parameter, a buffer, and behaviour that depends on the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("shift", torch.tensor(0.25))
        self.a = nn.Linear(3, 4)
        self.b = nn.Linear(2, 4)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        out = self.scale * (self.a(one) + self.b(other) * self.shift)
        return out if not self.training else out * float("nan")


def seeded(make: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def text_data(batches: tuple[int, ...] = (5, 5, 2)) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for n in batches:
        mask = torch.ones(n, 6, dtype=torch.long)
        mask[::2, 4:] = 0
        found.append(
            {
                "input_ids": torch.randint(0, 11, (n, 6), generator=generator),
                "attention_mask": mask,
                "labels": torch.randint(0, 3, (n,), generator=generator),
            }
        )
    return found


def two_data(sizes: tuple[int, ...] = (4, 4, 1)) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
    generator = torch.Generator().manual_seed(2)

    def random(n: int, d: int) -> Tensor:
        return torch.rand(n, d, generator=generator, dtype=F64)

    return [((random(n, 3), random(n, 2)), torch.randint(0, 4, (n,))) for n in sizes]


def dense_hessian(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Row by row, by differentiating twice."""
    first = torch.autograd.grad(value, parameters, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in first])
    rows = []
    for g in flat:
        row = torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([r.reshape(-1) for r in row]))
    return torch.stack(rows)


def text_loss(model: nn.Module, data: Any) -> Tensor:
    """The slow, obvious mean over samples."""
    whole, n = torch.zeros((), dtype=F64), 0
    for batch in data:
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        whole = whole + F.cross_entropy(model(**inputs).logits, batch["labels"], reduction="sum")
        n += len(batch["labels"])
    return whole / n


# -- several inputs, objects out -------------------------------------------------------------------


def test_a_text_classifier_as_it_is() -> None:
    model, data = seeded(Text).double(), text_data()
    objective = ls.Objective(model, data)
    expected = text_loss(model, data)
    assert objective.value().loss == pytest.approx(float(expected), rel=1e-12)
    assert objective.batches.samples == 12
    gradient = torch.autograd.grad(expected, list(model.parameters()))
    for mine, true in zip(objective.gradient().values(), gradient, strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-10, atol=1e-12)
    dense = dense_hessian(text_loss(model, data), list(model.parameters()))
    found = ls.spectrum(objective, top=3, tol=1e-8)
    torch.testing.assert_close(
        torch.as_tensor(found.eigenvalues), torch.linalg.eigvalsh(dense).flip(0)[:3]
    )


@pytest.mark.parametrize("sizes", [(9,), (4, 5), (1, 2, 6)])
def test_batching_of_bundles_changes_nothing(sizes: tuple[int, ...]) -> None:
    whole = two_data((9,))
    (one, other), y = whole[0]
    pieces = [
        (pair, t)
        for pair, t in zip(
            zip(one.split(sizes), other.split(sizes), strict=True), y.split(sizes), strict=True
        )
    ]
    model = seeded(Two).double()
    reference, objective = ls.Objective(model, whole), ls.Objective(model, pieces)
    assert objective.value().loss == pytest.approx(reference.value().loss, rel=1e-12)
    assert objective.batches.digest == reference.batches.digest
    values = ls.surface(objective, x=ls.Axis(-1, 1, 3), y=ls.Axis(-1, 1, 2)).loss
    expected = ls.surface(reference, x=ls.Axis(-1, 1, 3), y=ls.Axis(-1, 1, 2)).loss
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_allclose(
        ls.trace(objective, samples=5).trace.value, ls.trace(reference, samples=5).trace.value
    )


def test_a_change_in_any_entry_changes_the_digest() -> None:
    data = text_data((5,))
    model = seeded(Text)
    digest = ls.Objective(model, data).batches.digest
    other = {**data[0], "attention_mask": data[0]["attention_mask"].clone()}
    other["attention_mask"][1, 5] = 0
    assert ls.Objective(model, [other]).batches.digest != digest


def test_loaders_that_shuffle_bundles_are_refused() -> None:
    class Shuffles:
        def __iter__(self) -> Any:
            (x, y) = two_data((9,))[0]
            rows = torch.randperm(9)
            yield (x[0][rows], x[1]), y

    with pytest.raises(DataError, match="batch 0 differed between two passes"):
        ls.Objective(seeded(Two).double(), Shuffles())


# -- adapters --------------------------------------------------------------------------------------


def test_adapted_networks_share_everything_and_keep_their_names() -> None:
    model = seeded(Two).double()
    adapted = ls.adapt(model, lambda net, x: net(x[:, :3], x[:, 3:]))
    assert [n for n, _ in adapted.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert P.digest(adapted.state_dict()) == P.digest(model.state_dict())
    x = torch.rand(7, 5, dtype=F64)
    y = torch.randint(0, 4, (7,))
    model.train()
    adapted.train()
    before = P.digest(model.state_dict())
    found = ls.Objective(adapted, (x, y))
    pair = ls.Objective(model, [((x[:, :3], x[:, 3:]), y)])
    assert found.value().loss == pytest.approx(pair.value().loss, rel=1e-12)
    for name, g in found.gradient().items():
        torch.testing.assert_close(g, pair.gradient()[name])
    assert model.training
    assert adapted.training
    assert P.digest(model.state_dict()) == before
    # All measurements of inputs work, since x is one tensor.
    assert ls.inputs(found, top=2).mean_ig_l1.value > 0


def test_moving_the_parameters_reaches_through_an_adapter() -> None:
    model = seeded(Two).double()
    adapted = ls.adapt(model, lambda net, x: net(x[:, :3], x[:, 3:]))
    objective = ls.Objective(adapted, (torch.rand(7, 5, dtype=F64), torch.randint(0, 4, (7,))))
    moved = {name: 1.1 * p for name, p in objective.params.items()}
    there = objective.value(moved).loss
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    assert objective.value().loss == pytest.approx(there, rel=1e-12)


def test_outputs_that_say_nothing_are_explained() -> None:
    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)

        def forward(self, x: Tensor) -> Any:
            return {"out": self.conv(x), "aux": self.conv(x)}

    x, y = torch.rand(4, 1, 5, 5), torch.randint(0, 3, (4, 5, 5))
    with pytest.raises(UsageError, match=r"a dict with out, aux: say which.*landscape.adapt"):
        ls.Objective(Segments(), (x, y))
    adapted = ls.adapt(Segments(), lambda model, x: model(x)["out"])
    objective = ls.Objective(adapted, (x, y))
    expected = F.cross_entropy(adapted(x), y)
    assert objective.value().loss == pytest.approx(float(expected), rel=1e-5)
    assert ls.spectrum(objective, top=2).converged.all()


# -- embedding space -------------------------------------------------------------------------------


def test_attacks_in_embedding_space() -> None:
    model, data = seeded(Text).double(), text_data()
    moved = ls.embedded(model, data)
    plain = ls.Objective(model, moved)
    assert plain.value().loss == pytest.approx(float(text_loss(model, data)), rel=1e-12)
    attack = ls.attack("pgd-5", eps=0.1, bounded=False)
    objective = plain.with_attack(attack)
    assert objective.value().loss > plain.value().loss
    attacked = objective._inputs(
        lambda attack: attack(lambda x: x.call(model).logits), objective.params
    )
    for (x, _), (adversarial, _) in zip(plain.batches, attacked, strict=True):
        delta = adversarial.entries["inputs_embeds"] - x.entries["inputs_embeds"]
        assert 0 < float(delta.abs().max()) <= 0.1 + 1e-12
        assert torch.equal(adversarial.entries["attention_mask"], x.entries["attention_mask"])
    assert ls.spectrum(objective, top=2).converged.all()
    assert "bounded" in attack.describe()
    assert "bounded" not in ls.attack("pgd-5", eps=0.1).describe()
    # The embedding layer takes no part.
    assert float(objective.gradient()["embedding.weight"].abs().max()) == 0


def test_a_linear_classifier_is_attacked_as_in_closed_form() -> None:
    """Without a box the optimum of one FGSM step on a linear model is δ = −ε y sign(w)."""
    model = nn.Linear(4, 1, bias=False).double()
    x, y = 5 * torch.randn(6, 4, dtype=F64), torch.ones(6, dtype=F64)

    def logistic(output: Tensor, target: Tensor) -> Tensor:
        return F.softplus(-output.flatten() * target)

    attack = ls.attack("fgsm", eps=0.3, bounded=False)
    objective = ls.Objective(model, (x, y), logistic, attack, "each")
    w = model.weight.detach()[0]
    expected = F.softplus(-(x @ w) + 0.3 * w.abs().sum()).mean()
    assert objective.value().loss == pytest.approx(float(expected), rel=1e-12)
    with pytest.raises(DataError, match="bounded=False where inputs have no box"):
        ls.Objective(model, (x, y), logistic, ls.attack("fgsm", eps=0.3), "each").value()


def test_tokens_cannot_be_perturbed() -> None:
    objective = ls.Objective(seeded(Text), text_data(), attack=ls.attack("fgsm", eps=0.1))
    with pytest.raises(UsageError, match=r"tokens can't be perturbed, landscape.embedded"):
        objective.value()
    both = ls.Objective(seeded(Two).double(), two_data(), attack=ls.attack("fgsm", eps=0.1))
    with pytest.raises(UsageError, match=r"these are 0, 1 of 0: \(4, 3\), 1: \(4, 2\)"):
        both.value()


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("diagnostic", ["inputs", "linearity", "lipschitz", "examples"])
def test_measurements_of_one_input_tensor_say_so(diagnostic: str) -> None:
    objective = ls.Objective(seeded(Two).double(), two_data())
    calls = {
        "inputs": lambda: ls.inputs(objective, top=2),
        "linearity": lambda: ls.local_linearity(objective, ball=ls.Ball("linf", 0.1)),
        "lipschitz": lambda: ls.lipschitz(objective, pairs=3),
        "examples": lambda: ls.adversarial_examples(
            objective.with_attack(ls.attack("fgsm", eps=0.1))
        ),
    }
    with pytest.raises(UsageError, match=r"inputs|input of floating-point type"):
        calls[diagnostic]()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": torch.zeros(3, 2)}, r"a dictionary without 'labels' \(it has x\)"),
        (({"a": torch.zeros(3, 2), "b": torch.zeros(2, 2)}, torch.zeros(3)), "numbers of samples"),
        (({"a": "text"}, torch.zeros(3)), "input 'a' is a str: expected a tensor"),
        (({}, torch.zeros(3)), "inputs are an empty dictionary"),
        (("text", torch.zeros(3)), "batch 0 holds str and Tensor"),
        ((torch.zeros(3, 2), "y"), "targets of type str"),
        (((torch.zeros(3, 2),), torch.zeros(2)), r"x of shape \(3,\) and y of shape \(2,\)"),
        (torch.zeros(3), "batch 0 is a Tensor: expected a pair"),
    ],
)
def test_data_that_are_no_batches(batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ls.Objective(seeded(Two), [batch])


def test_half_precision_is_refused() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(UsageError, match=r"model.float\(\), or model.double\(\)"):
            ls.Objective(nn.Linear(3, 2).to(dtype), (torch.rand(4, 3), torch.zeros(4).long()))


def test_one_hot_labels_are_refused_and_soft_ones_are_not() -> None:
    x, soft = torch.rand(4, 3), torch.full((4, 2), 0.5)
    model = nn.Linear(3, 2)
    with pytest.raises(DataError, match=r"one-hot, of shape \(4, 2\): give classes, y.argmax\(1\)"):
        ls.Objective(model, (x, F.one_hot(torch.tensor([0, 1, 0, 1]), 2).float()))
    with pytest.raises(DataError, match=r"targets of shape \(4, 2\) are neither: for regression"):
        ls.Objective(model, (x, torch.rand(4, 2)))
    expected = F.cross_entropy(model(x), soft)
    assert ls.Objective(model, (x, soft)).value().loss == pytest.approx(float(expected))


def test_compiled_modules_are_measured_as_what_they_compile() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    data = (torch.rand(6, 3), torch.randint(0, 2, (6,)))
    compiled = torch.compile(model)
    found = ls.Objective(compiled, data)
    assert list(found.params) == list(ls.Objective(model, data).params)
    assert ls.spectrum(found, top=2).converged.all()


def test_bundles_behave_like_the_tensors_they_hold() -> None:
    bundle = Bundle({"a": torch.arange(5), "b": torch.rand(5, 2)})
    assert len(bundle) == 5
    assert bundle.shape == (5,)
    assert [len(piece) for piece in bundle.split(2)] == [2, 2, 1]
    torch.testing.assert_close(bundle[1:3].entries["a"], torch.tensor([1, 2]))
    assert bundle.place(torch.device("cpu"), F64).entries["b"].dtype == F64
    assert bundle.place(torch.device("cpu"), F64).entries["a"].dtype == torch.int64
    assert bundle.numel() * bundle.element_size() == 5 * 8 + 10 * 4
    with pytest.raises(UsageError, match=r"inputs that are one tensor.*a: \(5,\), b: \(5, 2\)"):
        bundle.flatten(1)
    with pytest.raises(UsageError, match="inputs that are one tensor"):
        torch.cat([bundle, bundle])
