"""Muon for the hidden matrices with AdamW on the rest, as one optimizer that any Trainer can hold.

Muon (Jordan et al., 2024) orthogonalises the momentum of each matrix; embeddings, vocabulary head, biases and norms
stay with AdamW. Updates are scaled to AdamW's root mean square (arXiv 2502.16982), so that one learning rate serves
both, and a matrix and its transpose (GPT-2 stores [in, out]) are treated alike.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tacit.environment import fast_bf16


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trainable matrices inside the layers: neither embeddings nor the vocabulary head."""
    outer: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            outer.update(id(p) for p in module.parameters())
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    if isinstance(head, nn.Module):
        outer.update(id(p) for p in head.parameters())
    return [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in outer]


class Muon(torch.optim.Muon):
    """torch's, with all matrices of one shape at once, and in whichever of bf16 and float32 is the faster here.

    On a GPU its many small kernels would cost more than what they compute; docs/performance.md has the processors.

    Args:
        params (`list`): Matrices.
        lr (`float`), weight_decay (`float`), momentum (`float`): As torch has them. Updates are scaled to AdamW's.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        super().__init__(params, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw")
        device = self.param_groups[0]["params"][0].device.type
        self.precision = torch.bfloat16 if fast_bf16(device) else torch.float32

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # ty: ignore[incompatible-method-override]
        """One step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_of_group(group)
        return loss

    def _step_of_group(self, group: dict[str, Any]) -> None:
        params: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        momenta: list[torch.Tensor] = []
        self._init_group(group, params, gradients, momenta)
        if not params:
            return
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        together = defaultdict(list)
        for param, update in zip(params, updates, strict=True):
            tall, update = param.shape[0] > param.shape[1], update.to(self.precision)
            kind = (param.device, param.dtype, *sorted(param.shape))
            together[kind].append((param.mT if tall else param, update.mT if tall else update))
        for pairs in together.values():
            chosen, wide = zip(*pairs, strict=True)
            rate = 0.2 * math.sqrt(max(chosen[0].shape)) * group["lr"]  # match_rms_adamw
            steps = orthogonalize(torch.stack(wide), group["ns_coefficients"], group["ns_steps"], group["eps"])
            torch._foreach_add_(chosen, steps.to(chosen[0].dtype).unbind(), alpha=-rate)


def orthogonalize(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Matrices of shape (N, rows, columns), rows <= columns, with all singular values brought near 1.

    The Newton-Schulz iteration of Muon as torch has it, `X <- (a I + b G + c G G) X` with `G = X X^T`, for many
    matrices at once. All factors are polynomials of the first G, so they commute: in float32, wide matrices are
    multiplied by their product, once, and only matrices of shape (rows, rows) are in the loop. In bf16 the rounding of
    G, which each step makes `a a` times as large, would be too much.
    """
    a, b, c = coefficients
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    if x.dtype == torch.bfloat16 or 2 * x.shape[2] <= 3 * x.shape[1]:  # of 3 to 2, both take equally long
        for _ in range(steps):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    gram, product = x @ x.mT, None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ gram @ factor
    return x if product is None else product @ x


class MuonAdamW(torch.optim.Optimizer):
    """`Muon` and `torch.optim.AdamW` behind one `param_groups` and one `state`.

    Args:
        model (`nn.Module`): Whose trainable parameters are optimized.
        lr (`float`): Learning rate of both.
        weight_decay (`float`): Of the hidden matrices, both decoupled.
        betas (`tuple[float, float]`), eps (`float`): AdamW's.
        momentum (`float`): Muon's.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.95,
    ) -> None:
        matrices = hidden_matrices(model)
        chosen = set(map(id, matrices))
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
        self.parts: list[torch.optim.Optimizer] = []  # with one group of parameters each
        if matrices:
            self.parts.append(Muon(matrices, lr, weight_decay, momentum))
        if rest:  # of LoRA adapters, none
            self.parts.append(torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=betas, eps=eps, fused=True))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """One state and one list of groups for the parts and for whoever reads, clears or loads them here."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` gave."""
        super().load_state_dict(state_dict)
        if not isinstance(self.state, defaultdict):
            self.state = defaultdict(dict, self.state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # ty: ignore[incompatible-method-override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
