"""Run a reference, a short program such as ``relu(norm(conv(x)) + x)``, with the layers that were recorded.

Wherever the program needs a layer, it takes the recorded one that has the right shape and had the same input. So names,
order and style do not matter. When the outputs differ, programs with a known mistake in them run in the same way; one
that gives the student's output names the cause.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import torch
from torch.nn import functional as F

from d2lnets.checks.recording import Call, Recorder, pair

Program = Callable[["Net", torch.Tensor], torch.Tensor]


class Mismatch(Exception):
    """The student's code has no layer that could stand here."""


class Net:
    """What a reference program is written in."""

    place = ""  # where in a network, for the role of a layer

    # What `Plan` and `Replay` do each in its own way:
    convolved: Callable[..., torch.Tensor]
    linear: Callable[[str, torch.Tensor, int], torch.Tensor]
    norm: Callable[[str, torch.Tensor], torch.Tensor]
    norm_if_any: Callable[[str, torch.Tensor], torch.Tensor]

    def conv(
        self, role: str, x: torch.Tensor, out: int, kernel: int, stride: int = 1, padding: int | None = None
    ) -> torch.Tensor:
        padding = kernel // 2 if padding is None else padding
        geometry = {"stride": pair(stride), "padding": pair(padding), "dilation": (1, 1)}
        return self.convolved(x, (out, x.shape[1], kernel, kernel), geometry, stride, padding, role)

    def pool(
        self, kind: str, role: str, x: torch.Tensor, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = False
    ) -> torch.Tensor:
        pools: dict[str, Callable[..., torch.Tensor]] = {"max": F.max_pool2d, "avg": F.avg_pool2d}
        return pools[kind](x, kernel, stride, padding, ceil_mode=ceil_mode)


class Plan(Net):
    """Runs a program with zeros and without the work of convolutions, and lists the layers that it needs.

    (On the meta device PyTorch would import its compiler first, which takes seconds.)
    """

    def __init__(self, program: Program, shape: Sequence[int]) -> None:
        self.calls: list[Call] = []
        self.output: torch.Tensor | None = None
        with suppress(RuntimeError, IndexError), torch.no_grad():  # as far as it gets
            self.output = program(self, torch.zeros(shape))

    def planned(self, kind: str, role: str, shape: tuple, geometry: dict[str, tuple[int, ...]]) -> None:
        self.calls.append(Call(kind, shape, geometry=geometry, role=f"{self.place}{role}"))

    def convolved(
        self,
        x: torch.Tensor,
        shape: tuple[int, ...],
        geometry: dict[str, tuple[int, ...]],
        stride: int,
        padding: int,
        role: str,
    ) -> torch.Tensor:
        self.planned("conv", role, shape, geometry)
        return self._map(x, shape[0], shape[2], stride, padding)

    def pool(
        self, kind: str, role: str, x: torch.Tensor, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = False
    ) -> torch.Tensor:
        geometry = {"kernel": pair(kernel), "stride": pair(stride), "padding": pair(padding)}
        self.planned("pool", role, (f"{kind}_pool2d",), geometry)
        return self._map(x, x.shape[1], kernel, stride, padding + (stride - 1) / 2 * ceil_mode)

    def _map(self, x, channels, kernel, stride, padding):
        sizes = [int((side + 2 * padding - kernel) // stride + 1) for side in x.shape[2:]]
        if min(sizes) < 1:
            raise RuntimeError("nothing is left of the map")
        return torch.zeros(()).expand(x.shape[0], channels, *sizes)

    def linear(self, role: str, x: torch.Tensor, out: int) -> torch.Tensor:
        self.planned("linear", role, (out, x.shape[1]), {})
        return torch.zeros(x.shape[0], out)

    def norm(self, role: str, x: torch.Tensor) -> torch.Tensor:
        self.planned("norm", role, (x.shape[1],), {})
        return x

    def norm_if_any(self, role: str, x: torch.Tensor) -> torch.Tensor:
        return x


class Replay(Net):
    """Runs a program with the layers that were recorded, each taken once.

    Where several recorded layers would do, `choices` says which; `path` tells how many there were.
    With ``lenient=True`` a layer of the right shape is taken whatever its input was.
    """

    output: torch.Tensor  # where the program ran to its end

    def __init__(self, record: Recorder, training: bool, choices: Sequence[int] = (), lenient: bool = False) -> None:
        self.record, self.training, self.choices, self.lenient = record, training, choices, lenient
        self.path: list[tuple[int, int]] = []
        self.used: list[Call] = []
        self.moved: list[tuple[int, tuple[torch.Tensor | None, torch.Tensor | None]]] = []
        self.unsure = False

    def convolved(
        self,
        x: torch.Tensor,
        shape: tuple[int, ...],
        geometry: dict[str, tuple[int, ...]],
        stride: int,
        padding: int,
        role: str,
    ) -> torch.Tensor:
        made, weight, bias = self.take("conv", role, shape, x, geometry)
        return self._once(made, x, stride, lambda: F.conv2d(x, weight, bias, stride, padding))

    def linear(self, role: str, x: torch.Tensor, out: int) -> torch.Tensor:
        return F.linear(x, *self.take("linear", role, (out, x.shape[1]), x, {})[1:])

    def _once(self, made, x, key, compute):
        """Computed once, where the input is the recorded one and no gradient is asked for."""
        known = made.kind in ("conv", "norm") and made.input is not None and made.input.shape == x.shape
        if self.lenient or torch.is_grad_enabled() or not known:
            return compute()
        if key not in made.results:
            made.results[key] = compute()
        return made.results[key]

    def _options(self, kind, shape, x, geometry, lenient=False):
        exact, others = [], []
        for made in self.record.calls:
            if made not in self.used and _fits(made, kind, shape):
                other_form = made.kind != kind or made.input is None  # nothing to compare
                by_hand = made.geometry != geometry and made.input is not None and made.input.shape != x.shape  # F.pad
                fits = other_form or by_hand or close(made.input, x)
                (exact if fits else others).append(made)
        return exact + others if lenient else exact

    def _choose(self, options, role):
        if not options:
            raise Mismatch(f"{self.place}{role}")
        chosen = self.choices[len(self.path)] if len(self.path) < len(self.choices) else 0
        self.path.append((chosen, len(options)))
        return options[chosen]

    def take(
        self, kind: str, role: str, shape: tuple[int, ...], x: torch.Tensor, geometry: dict[str, tuple[int, ...]]
    ) -> tuple[Call, torch.Tensor, torch.Tensor | None]:
        fitting = self._options(kind, shape, x, geometry, self.lenient)
        options = [(made, turned) for made in fitting for turned in _ways(made, shape)]
        made, turned = self._choose(options, role)
        self.used.append(made)
        weight = made.weight
        if tuple(weight.shape) != shape:
            weight = weight.reshape(made.shape)
            weight = (weight.T if turned else weight).reshape(shape)
        return made, weight, None if made.bias is None else made.bias.flatten()

    def norm(self, role: str, x: torch.Tensor) -> torch.Tensor:
        return self._normalize(self._choose(self._options("norm", (x.shape[1],), x, {}, self.lenient), role), x)

    def norm_if_any(self, role: str, x: torch.Tensor) -> torch.Tensor:
        found = self._options("norm", (x.shape[1],), x, {})
        by_hand = [made for made in found if made.by_hand]
        made = self._choose(found + [None] * (not found or bool(by_hand)), role)
        return x if made is None else self._normalize(made, x)

    def _normalize(self, made, x):
        self.used.append(made)
        if made.weight is None or made.bias is None:
            raise Mismatch("scale and shift of a batch norm")
        scale, shift = made.weight.flatten(), made.bias.flatten()
        mean, variance = (None if s is None else s.clone() for s in made.before)
        if not self.training and mean is None:
            self.unsure = made.by_hand
            raise Mismatch("running statistics of a batch norm")
        arguments = (x, mean, variance, scale, shift, self.training, made.momentum, made.eps)
        y = self._once(made, x, "norm", lambda: F.batch_norm(*arguments))
        if self.training and mean is not None:
            self.moved.append((made.weight.data_ptr(), (mean, variance)))
        return y


def _fits(made, kind, shape):
    if kind == "norm" or made.kind == "norm":
        return made.kind == kind and made.shape == shape
    if made.kind == kind:
        return made.shape == shape
    matrix = shape if kind == "linear" else shape[:2] if shape[2:] == (1, 1) else None
    if matrix is None or made.kind == "pool":
        return False
    if made.kind == "conv":
        return made.shape == (*matrix, 1, 1)
    return sorted(made.shape) == sorted(matrix)


def _ways(made, shape):
    """A product's matrix may be (out, in) or (in, out)."""
    if made.kind != "matrix":
        return [False]
    return [turned for turned in (False, True) if (made.shape[::-1] if turned else made.shape) == shape[:2]]


def replay(program: Program, record: Recorder, x: torch.Tensor, training: bool, lenient: bool = False) -> Replay | None:
    """The first way of running `program` with the recorded layers that gives the recorded output, or None."""
    choices: list[int] = []
    for _ in range(1 if lenient else 50):  # ways tried; layers of one shape and one input are few
        attempt = Replay(record, training, choices, lenient)
        try:
            attempt.output = program(attempt, x)
            if lenient or (record.output is not None and close(record.output, attempt.output)):
                return attempt
        except (Mismatch, RuntimeError, IndexError, ValueError):
            if attempt.unsure:
                return attempt
        path = attempt.path
        while path and path[-1][0] + 1 >= path[-1][1]:
            path.pop()
        if not path:
            return None
        choices = [chosen for chosen, _ in path[:-1]] + [path[-1][0] + 1]
    return None


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4, floor: float = 1e-6) -> bool:
    if a.shape != b.shape or a.numel() == 0:
        return a.shape == b.shape
    a, b = a.detach(), b.detach()
    return bool((a - b).abs().max() <= tolerance * b.abs().max() + floor)  # False where one is nan


def departs_at(program: Program, record: Recorder, x: torch.Tensor, training: bool) -> str:
    """In words, the first layer that has another input than in `program`."""
    try:
        program(Replay(record, training), x)
    except Mismatch as role:
        return f"not found. The first difference: no layer has the input that {role} should have"
    except (RuntimeError, IndexError, ValueError):
        return "not found"
    return "not found. Every layer has the right input; what follows the last one differs"


def layers_of(calls: Iterable[Call]) -> Counter[tuple[tuple, str]]:
    """Convolutions and linear layers, each with its geometry, to compare."""
    return Counter((c.shape, str(sorted(c.geometry.items()))) for c in calls if c.kind in ("conv", "linear", "matrix"))


def difference(planned: Sequence[Call], made: Sequence[Call], crashed: bool | None = None) -> str:
    """In words, the first layer that departs from the plan; empty if none does.

    Args:
        crashed: None if the code ran to its end; else whether layers that were not called are worth a word.
    """
    for kinds in (("conv", "linear"), ("norm",), ("pool",)):
        plan = [p for p in planned if p.kind in kinds]
        left = [m for m in made if m.kind in (*kinds, *(["matrix"] if "conv" in kinds else []))]
        same = _same_geometry if kinds != ("norm",) else lambda p, m: True
        missing = []
        for p in plan:
            alike = [m for m in left if _fits(m, p.kind, p.shape)]
            peers = [q for q in plan if q.shape == p.shape]
            in_order = len(peers) == sum(_fits(m, p.kind, p.shape) for m in made)
            exact = alike[:1] if in_order else [m for m in alike if same(p, m)][:1]
            if exact and not same(p, exact[0]):
                return _departure(p, exact[0])
            if exact:
                left = [m for m in left if m is not exact[0]]
            else:
                missing.append(p)
        if missing and left and kinds != ("norm",):
            p = missing[0]
            m = max(left, key=lambda m: sum(a == b for a, b in zip(m.shape, p.shape)))
            return _departure(p, m) if m.shape == p.shape else f"{p.role} should be {p}; {m} came"
        if missing and crashed is not None:
            if crashed and "norm" not in kinds:
                return f"before that line, {missing[0].role} had not been called"
            continue
        if missing:
            place = missing[0].role.rpartition(", ")[0].split(", ")[0]
            whole = place and all(q in missing for q in plan if q.role.startswith(place))
            if len(missing) > 1 and not whole:
                return f"{missing[0].role} is missing, and {len(missing) - 1} more like it"
            return f"{place} is missing" if whole else f"{missing[0].role} is missing"
        if left and crashed is None and kinds == ("conv", "linear"):
            return f"{left[0]} is too many"
    return ""


def _same_geometry(p, m):
    return all(m.geometry.get(key, value) == value for key, value in p.geometry.items())


def _departure(p, m):
    for key, value in sorted(p.geometry.items()):  # dilation before the padding that makes up for it
        if m.geometry.get(key, value) != value:
            came, wanted = (v[0] if v[0] == v[1] else v for v in (m.geometry[key], value))
            return f"{p.role} has {key} {came}; {wanted} was expected"
    return ""
