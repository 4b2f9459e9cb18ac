"""Inception blocks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.programs.variants import CONV, POOL, RELU, Pool, Steps, Variant, run
from d2lnets.checks.replaying import Net

KEEP_SIZE = Pool("max", 3, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Inception(Variant):
    """How an Inception block is written; its paths are counted from 0.

    Attributes:
        without_relu: the paths whose last convolution has none.
        reduced_without_relu: the paths whose 1×1 reduction has none.
        relu_before_norm: whether the ReLUs stand before the batch norms, where there are any.
        path4: the steps of the path with the pool; a ReLU that follows the convolution is not named.
        pool: the one of path 4.
        paths: those that are joined, in their order.
        dim: the dimension along which they are joined.
    """

    without_relu: tuple[int, ...] = ()
    reduced_without_relu: tuple[int, ...] = ()
    relu_before_norm: bool = False
    path4: Steps = (POOL, CONV)
    pool: Pool = KEEP_SIZE
    paths: tuple[int, ...] = (0, 1, 2, 3)
    dim: int = 1


PATHS = ("path 1 (1×1)", "path 2 (3×3)", "path 3 (5×5)", "path 4 (pool)")
INCEPTION_MISTAKES = (
    Inception("the ReLUs after the convolutions are missing",
              without_relu=(0, 1, 2, 3), reduced_without_relu=(1, 2)),
    Inception("the ReLUs after the 1×1 reductions are missing", reduced_without_relu=(1, 2)),
    Inception("the ReLU after the last convolution of each path is missing", without_relu=(0, 1, 2, 3)),
    *(Inception(f"a ReLU is missing on {path}", without_relu=(i,)) for i, path in enumerate(PATHS)),
    Inception("the ReLU after the 1×1 reduction of path 2 (3×3) is missing", reduced_without_relu=(1,)),
    Inception("the ReLU after the 1×1 reduction of path 3 (5×5) is missing", reduced_without_relu=(2,)),
    Inception("the ReLU stands before the batch norm, not after it", relu_before_norm=True),
    Inception("path 4 pools by average, not by maximum", pool=Pool("avg", 3, 1, 1)),
    Inception("the max-pool of path 4 is missing", path4=(CONV,)),
    Inception("on path 4 the 1×1 convolution stands before the max-pool, not after it", path4=(CONV, POOL)),
    Inception("on path 4 the ReLU is missing after the convolution: it stands before it",
              path4=(POOL, RELU, CONV), without_relu=(3,)),
    Inception("the 1×1 convolution after the max-pool of path 4 is missing", path4=(POOL,)),
    Inception("the max-pool of path 4 has no padding", pool=Pool("max", 3, 1)),
    Inception("the paths are joined along the height, not along the channels", dim=2),
    Inception("the paths are joined along the width, not along the channels", dim=3),
    Inception("the paths are joined along the batch, not along the channels", dim=0),
    *(Inception("the paths are joined in another order than 1×1, 3×3, 5×5, pool", paths=order)
      for order in list(permutations(range(4)))[1:]),
    *(Inception(f"{path} is missing from what is joined", paths=tuple(k for k in range(4) if k != i))
      for i, path in enumerate(PATHS)),
)  # fmt: skip


def inception(
    net: Net, x: Tensor, in_channels: int, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int, v: Inception
) -> Tensor:
    def conv(role, x, channels, kernel, path, without_relu=v.without_relu):
        y = net.conv(f"{role} of {PATHS[path]}", x, channels, kernel)
        norm = f"the batch norm of {PATHS[path]}"
        if path in without_relu:
            return net.norm_if_any(norm, y)
        return net.norm_if_any(norm, F.relu(y)) if v.relu_before_norm else F.relu(net.norm_if_any(norm, y))

    def reduced(x, channels, path):
        return conv("the 1×1 reduction", x, channels, 1, path, v.reduced_without_relu)

    paths: tuple[Callable[[], Tensor], ...] = (
        lambda: conv("the 1×1 convolution", x, c1, 1, 0),
        lambda: conv("the 3×3 convolution", reduced(x, c2[0], 1), c2[1], 3, 1),
        lambda: conv("the 5×5 convolution", reduced(x, c3[0], 2), c3[1], 5, 2),
        lambda: run(
            x,
            v.path4,
            pool=partial(v.pool, net, "the max-pool of path 4"),
            conv=lambda x: conv("the 1×1 convolution", x, c4, 1, 3),
        ),
    )
    return torch.cat([paths[i]() for i in v.paths], v.dim)
