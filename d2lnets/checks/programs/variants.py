"""What all programs are written with: variants, and steps in an order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.replaying import Net


@dataclass(frozen=True)
class Variant:
    """One way to write a program; each program has a subclass, whose fields are its choices, right by default.

    Attributes:
        says: of a mistake, the cause in words; of a variant that is right too, what to note about it.
    """

    says: str = ""


def within(network: type[Variant], part: str, mistakes: Iterable[Variant], where: str = "") -> tuple[Variant, ...]:
    """The mistakes of a part as mistakes of the network; `where` begins what each says."""
    return tuple(network(f"{where}{mistake.says}", **{part: mistake}) for mistake in mistakes)


class Step(Enum):
    """Of a program or a layer."""

    NORM = "norm"
    RELU = "relu"
    CONV = "conv"
    POOL = "pool"


NORM, RELU, CONV, POOL = Step
Steps = tuple[Step, ...]


def run(x: Tensor, steps: Iterable[Step], **does: Callable[[Tensor], Tensor]) -> Tensor:
    """x after the steps; `does` holds what norm, conv and pool do, where they may be needed."""
    does = {"relu": F.relu, **does}
    for step in steps:
        x = does[step.value](x)
    return x


@dataclass(frozen=True)
class Pool:
    """Of one kind, "max" or "avg"."""

    kind: str
    kernel: int
    stride: int
    padding: int = 0
    ceil_mode: bool = False

    def __call__(self, net: Net, role: str, x: Tensor) -> Tensor:
        return net.pool(self.kind, role, x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)
