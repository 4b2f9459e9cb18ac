"""The optimisers that a recipe names: SGD, AdamW, and Muon for convolutions."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from d2lnets.training.recipe import Recipe

MANY = 2**20  # weights: less than that a step of SGD hardly feels, and they stay, number for number, PyTorch's


@torch.enable_grad()
def _loss(closure):
    """What `step` returns: of PyTorch's optional closure, which computes loss and gradients anew."""
    return None if closure is None else closure()


class OnePassSGD(torch.optim.SGD):
    """``torch.optim.SGD`` with Nesterov momentum on a CPU, where every number is read and written once a step.

    PyTorch's own, with ``fused=True``, copies kernels that lie in channels-last, and takes no weight that joins later.
    """

    def __init__(
        self, params: ParamsT, lr: float | torch.Tensor, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay=weight_decay, nesterov=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = _loss(closure)
        for group in self.param_groups:
            learning = [weight for weight in group["params"] if weight.grad is not None]
            for weight in learning:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            gradients = [_laid_as(weight, weight.grad) for weight in learning]
            momenta = [self.state[weight]["momentum_buffer"] for weight in learning]
            sgd(
                [_channels_last(each) for each in learning],
                [_channels_last(each) for each in gradients],
                [_channels_last(each) for each in momenta],
                fused=True,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=True,
                maximize=False,
            )
        return loss


def _laid_as(weight, gradient):
    """The gradient, in memory as the weight is: both are gone through from end to end."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


def _channels_last(tensor):
    """A view in whose order a kernel in channels-last lies in memory."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest matrix with orthonormal rows or columns as the step (Jordan et al. 2024).

    A kernel of shape (out, in, k, k) is taken as the matrix (out, in * k * k). The rate is scaled as by Liu et al.
    2025, so that a step is as large as one of AdamW. ``torch.optim.Muon`` computes the same, but takes matrices only.
    """

    def __init__(
        self, params: ParamsT, lr: float | torch.Tensor, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = _loss(closure)
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state, gradient = self.state[weight], weight.grad.flatten(1)
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                update = orthogonal(gradient.lerp(state["momentum_buffer"], momentum))
                scale = 0.2 * math.sqrt(max(update.shape))
                weight.mul_(1 - lr * group["weight_decay"])
                weight.sub_(lr * scale * update.view(weight.shape))
        return loss


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About U V^T of a matrix U S V^T: five Newton-Schulz steps bring the singular values between 0.7 and 1.2.

    Shapes: (M, N) -> (M, N), computed in bf16.
    """
    x = matrix.bfloat16()
    if tall := len(x) > x.shape[1]:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


def optimizers(net: nn.Module, recipe: Recipe, graph: bool = False) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe for a network, one or two.

    Args:
        graph: for a CUDA graph: one kernel a step, and the rate as a tensor on the GPU, which the graph can read again.
    """
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    lr = torch.tensor(recipe.lr, device=weights[0].device) if graph else recipe.lr

    def groups(weights):
        if recipe.decay_all:
            return weights
        vectors = [weight for weight in weights if weight.dim() < 2]
        matrices = [weight for weight in weights if weight.dim() > 1]
        return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]

    if recipe.optimizer == "sgd":
        many = weights[0].device.type == "cpu" and sum(weight.numel() for weight in weights) > MANY
        if many and recipe.momentum:
            return [OnePassSGD(groups(weights), lr, recipe.momentum, recipe.weight_decay)]
        of_pytorch = torch.optim.SGD(
            groups(weights),
            lr,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=graph or None,
        )
        return [of_pytorch]
    kernels = [weight for weight in weights if weight.dim() == 4] if recipe.optimizer == "muon" else []
    rest = [weight for weight in weights if all(weight is not kernel for kernel in kernels)]
    found = [Muon(kernels, lr, recipe.momentum, recipe.weight_decay)] if kernels else []
    return [
        *found,
        torch.optim.AdamW(groups(rest), lr, weight_decay=recipe.weight_decay, fused=graph or None, capturable=graph),
    ]
