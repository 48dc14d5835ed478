"""Muon with AdamW as one optimizer: against the two of torch on the same parameters, saved, loaded and cleared."""

import copy
import io
from collections import defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scripts import tiny
from tacit.training.optimizers import Muon, MuonAdamW, hidden_matrices, orthogonalize

SETTINGS = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}


pytestmark = pytest.mark.usefixtures("one_thread")


def students() -> list[Any]:
    llama = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama["num_key_value_heads"] = 1
    return [
        pytest.param("gpt2", {}, id="gpt2"),
        pytest.param("gpt2", {"tie_word_embeddings": False}, id="gpt2-untied"),
        pytest.param("llama", llama, id="llama"),
        pytest.param("llama", {**llama, "tie_word_embeddings": True}, id="llama-tied"),
    ]


def backward(model: nn.Module, step: int) -> None:
    """Gradients of a batch of its own for each step."""
    ids = torch.randint(3, 14, (4, 12), generator=torch.Generator().manual_seed(step))
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()


@pytest.mark.parametrize(("architecture", "config"), students())
def test_hidden_matrices(architecture: str, config: dict[str, Any]) -> None:
    """Every matrix of the layers and no other: no embeddings, no vocabulary head, tied or not, no vectors."""
    model = tiny.model(architecture=architecture, **config)
    chosen = {id(p) for p in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    outer = ("wte", "wpe", "lm_head", "embed_tokens")
    wanted = {name for name, p in model.named_parameters() if p.ndim == 2 and not any(word in name for word in outer)}
    assert names == wanted
    assert len(names) == len(chosen) == (8 if architecture == "gpt2" else 14)
    assert not any("norm" in name or "ln_" in name or "bias" in name for name in names)


def test_frozen_matrices_are_left_out() -> None:
    model = tiny.model()
    frozen = model.transformer.h[0].mlp.c_fc.weight
    frozen.requires_grad = False
    assert all(p is not frozen for p in hidden_matrices(model))
    optimizer = MuonAdamW(model, lr=1e-2)
    assert all(p is not frozen for group in optimizer.param_groups for p in group["params"])


@pytest.mark.parametrize(("architecture", "config"), students())
def test_the_same_as_the_two_of_torch(
    architecture: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW's part exactly; Muon's up to the rounding of bf16, which torch always computes in."""
    monkeypatch.setattr("tacit.training.optimizers.fast_bf16", lambda device: True)
    ours = tiny.model(architecture=architecture, **config)
    theirs, begun = copy.deepcopy(ours), tiny.weights(ours)
    one = MuonAdamW(ours, **SETTINGS)
    matrices = hidden_matrices(theirs)
    rest = [p for p in theirs.parameters() if all(p is not other for other in matrices)]
    lr, decay = SETTINGS["lr"], SETTINGS["weight_decay"]
    two = [
        torch.optim.Muon(matrices, lr=lr, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=SETTINGS["betas"], eps=SETTINGS["eps"], fused=True),
    ]
    covered = [p for group in one.param_groups for p in group["params"]]
    assert len(covered) == len({*map(id, covered)}) == len(list(ours.parameters()))
    for step in range(4):
        for model in (ours, theirs):
            backward(model, step)
        one.step()
        for optimizer in two:
            optimizer.step()
        if step == 0:
            inner = {id(p) for p in hidden_matrices(ours)}
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                assert id(mine) in inner or torch.equal(mine, other)
    moved = (tiny.weights(theirs) - begun).norm()
    assert (tiny.weights(ours) - tiny.weights(theirs)).norm() < 0.05 * moved


def test_float32_follows_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon in a plain loop in float64, one matrix after another: Nesterov momentum, five steps of Newton-Schulz."""
    monkeypatch.setattr("tacit.training.optimizers.fast_bf16", lambda device: False)
    generator = torch.Generator().manual_seed(0)
    shapes, lr, decay, momentum = [(8, 24), (24, 8), (8, 24), (8, 8)], 0.03, 0.1, 0.9
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    expected = [p.detach().double() for p in ours]
    buffers = [torch.zeros_like(p) for p in expected]
    optimizer = Muon(ours, lr, decay, momentum)
    for _ in range(3):
        for number, p in enumerate(ours):
            p.grad = torch.randn(p.shape, generator=generator)
            gradient = p.grad.double()
            buffers[number] = momentum * buffers[number] + (1 - momentum) * gradient
            x = momentum * buffers[number] + (1 - momentum) * gradient
            x = x / x.norm()
            for _ in range(5):
                x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
            expected[number] = (1 - lr * decay) * expected[number] - 0.2 * max(p.shape) ** 0.5 * lr * x
        optimizer.step()
    for p, right in zip(ours, expected, strict=True):
        torch.testing.assert_close(p.detach().double(), right, rtol=0, atol=1e-6)


@given(
    rows=st.integers(1, 12),
    columns=st.integers(12, 40),
    rank=st.integers(0, 12),
    decades=st.floats(0, 9),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    steps=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_wide_matrices_are_brought_near_orthogonal_ones(
    rows: int, columns: int, rank: int, decades: float, scale: float, steps: int, seed: int
) -> None:
    """Square or wide, of any rank, with singular values that differ as much as they may, as the plain loop in float64
    has it; a direction in which there is next to nothing is allowed what bf16 would not see."""
    a, b, c = 3.4445, -4.7750, 2.0315
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(2, rows, columns, generator=generator), full_matrices=False)
    values = torch.logspace(0, -decades, rows) * (torch.arange(rows) < rank)
    matrices = scale * (left * values) @ right
    expected = matrices.double()
    expected = expected / expected.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = expected @ expected.mT
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    found = orthogonalize(matrices, (a, b, c), steps, 1e-7)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=4e-3)
    if decades < 2:
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("architecture", "config"), students())
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_of_one_shape_at_once_is_one_after_another(
    architecture: str, config: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside torch's own; the rest is rounding in bfloat16, at a rate where it would show."""
    monkeypatch.setattr("tacit.training.optimizers.fast_bf16", lambda device: True)
    theirs = tiny.model(architecture=architecture, **config).to(device)
    ours = copy.deepcopy(theirs)
    begun = tiny.weights(theirs)
    settings = {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.9}
    together = Muon(hidden_matrices(ours), **settings)
    single = torch.optim.Muon(hidden_matrices(theirs), **settings, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for model, optimizer in ((ours, together), (theirs, single)):
            ids = torch.randint(3, 14, (4, 12), generator=torch.Generator().manual_seed(step)).to(device)
            model.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    moved = (tiny.weights(theirs) - begun).norm()
    assert (tiny.weights(ours) - tiny.weights(theirs)).norm() < 0.05 * moved
    assert together.state_dict()["state"].keys() == single.state_dict()["state"].keys()


def test_matrices_of_one_shape_and_several_types() -> None:
    matrices = [nn.Parameter(torch.ones(4, 6, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16) * 2]
    alone = [nn.Parameter(matrix.detach().clone()) for matrix in matrices]
    for matrix in (*matrices, *alone):
        matrix.grad = torch.eye(4, 6, dtype=matrix.dtype)
    Muon(matrices, lr=0.1).step()
    for matrix, one in zip(matrices, alone, strict=True):
        Muon([one], lr=0.1).step()
        torch.testing.assert_close(matrix, one, rtol=0, atol=0)


def test_a_matrix_and_its_transpose_are_treated_alike() -> None:
    """GPT-2 stores [in, out], a linear layer [out, in]."""

    class Layer(nn.Module):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.weight = nn.Parameter(weight.clone())

    weight, gradient = torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(0))
    wide, tall = Layer(weight), Layer(weight.T)
    for layer, grad in ((wide, gradient), (tall, gradient.T)):
        layer.weight.grad = grad.contiguous()
        MuonAdamW(layer, lr=0.1).step()
    torch.testing.assert_close(wide.weight, tall.weight.T, rtol=0, atol=1e-3)  # it orthogonalises in bf16


@pytest.mark.parametrize("only", ["matrices", "vectors"])
def test_one_kind_of_parameters_alone(only: str) -> None:
    """LoRA's adapters are all matrices; a person may freeze all of them."""
    model = tiny.model()
    chosen = {id(p) for p in hidden_matrices(model)}
    for p in model.parameters():
        p.requires_grad = (id(p) in chosen) == (only == "matrices")
    before = tiny.weights(model)
    optimizer = MuonAdamW(model, **SETTINGS)
    assert len(optimizer.param_groups) == 1
    for step in range(2):
        backward(model, step)
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert (tiny.weights(model) != before).any()


def saved(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state, written to a file and read back as Trainer does."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_a_state_goes_on_exactly(steps_before: int) -> None:
    """Also of an optimizer that has not stepped since it was cleared."""
    ours = tiny.model()
    optimizer = MuonAdamW(ours, **SETTINGS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 6)
    for step in range(steps_before):
        backward(ours, step)
        optimizer.step()
        schedule.step()
    again = copy.deepcopy(ours)
    resumed = MuonAdamW(again, **{**SETTINGS, "lr": 7.0})
    resumed.load_state_dict(saved(optimizer))
    assert [group["lr"] for group in resumed.param_groups] == [group["lr"] for group in optimizer.param_groups]
    for step in range(3, 6):
        for model, one in ((ours, optimizer), (again, resumed)):
            backward(model, step)
            one.step()
    assert torch.equal(tiny.weights(ours), tiny.weights(again))


def test_clearing_forgets_both() -> None:
    """After a reset the next step is the first: as of a new optimizer, with the learning rate of the schedule."""
    ours = tiny.model()
    optimizer = MuonAdamW(ours, **SETTINGS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 6)
    for step in range(3):
        backward(ours, step)
        optimizer.step()
        schedule.step()
    parameters = len(list(ours.parameters()))
    assert len(optimizer.state) == parameters
    optimizer.state.clear()
    assert not any(part.state for part in optimizer.parts)
    new = copy.deepcopy(ours)
    fresh = MuonAdamW(new, **{**SETTINGS, "lr": schedule.get_last_lr()[0]})
    for model, one in ((ours, optimizer), (new, fresh)):
        backward(model, 9)
        one.step()
    assert torch.equal(tiny.weights(ours), tiny.weights(new))
    assert len(optimizer.state) == parameters


def test_clearing_after_loading() -> None:
    ours = tiny.model()
    optimizer = MuonAdamW(ours, **SETTINGS)
    backward(ours, 0)
    optimizer.step()
    optimizer.load_state_dict(saved(optimizer))
    assert isinstance(optimizer.state, defaultdict)
    assert all(part.state is optimizer.state for part in optimizer.parts)
    optimizer.state.clear()
    backward(ours, 1)
    optimizer.step()
    steps = {float(state["step"]) for state in optimizer.state.values() if "step" in state}
    assert steps == {1.0}


def test_the_schedule_reaches_both() -> None:
    model = tiny.model()
    optimizer = MuonAdamW(model, **SETTINGS)
    before = tiny.weights(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    backward(model, 0)
    optimizer.step()
    assert torch.equal(tiny.weights(model), before)


def test_a_closure() -> None:
    model = tiny.model()
    optimizer = MuonAdamW(model, **SETTINGS)

    def closure() -> float:
        backward(model, 0)
        return 1.5

    before = tiny.weights(model)
    assert optimizer.step(closure) == 1.5
    assert not torch.equal(tiny.weights(model), before)
