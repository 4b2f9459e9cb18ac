"""Checks for exercises: pass what you wrote, and read what is wrong with it.

Each function returns a `Verdict`, which shows what was expected, what came, the likeliest cause and a hint;
nothing is raised. Names, order and style of the code do not matter, only what it does: the student's layers
are run by a reference (`references.py`), whose output, gradients and running statistics must come out the same
(`judging.py`).
"""

import copy
import inspect
import math
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from numbers import Number

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from d2lnets import exercises, references
from d2lnets.judging import (
    Crashed,
    Plan,
    Refused,
    Verdict,
    call,
    close,
    departs_at,
    difference,
    explain,
    judge,
    layers_of,
    observe,
    randomize,
    replay,
)

__all__ = [
    "Verdict",
    "check_bottleneck",
    "check_dense_block",
    "check_densenet",
    "check_exercise",
    "check_googlenet",
    "check_inception",
    "check_residual",
    "check_resnet18",
    "check_transition",
    "check_value",
]


def check_residual(answer, limit=10):
    """Check a residual block: ``answer(in_channels, out_channels, stride)`` makes it.

    y = relu(shortcut(x) + F(x)); F is 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm, with the
    stride on the first; the shortcut is x, or where the shape changes a 1x1 convolution with the stride.
    Biases, and batch norm on the shortcut, are as you like. d2l's ``answer(num_channels, use_1x1conv, strides)``
    with lazy layers will do as well.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        answer: a class, or a function that returns a module.
        limit: seconds of computing, or of idling, after which the check gives up.

    Returns:
        A `Verdict`.
    """
    return judge(partial(_check, answer, RESIDUAL), limit)


def check_bottleneck(answer, limit=10):
    """Check a bottleneck: ``answer(in_channels, filters, stride)`` makes it.

    F is 1x1 to ``filters[0]``, 3x3 to ``filters[1]``, 1x1 to ``filters[2]`` channels, each followed by batch norm,
    with a ReLU after the first two. ``stride=None``: the shortcut is x; a number: the shortcut is a 1x1 convolution
    with that stride and batch norm, and the branch's stride is on its first 1x1 or on its 3x3.

    Shapes: (N, in_channels, H, W) -> (N, filters[2], ceil(H / stride), ceil(W / stride)).

    Args and returns: see `check_residual`.
    """
    return judge(partial(_check, answer, BOTTLENECK), limit)


def check_dense_block(answer, limit=10):
    """Check a dense block: ``answer(num_convs, in_channels, growth_rate)``, or d2l's (num_convs, num_channels).

    Each layer is batch norm, ReLU, 3x3 convolution to growth_rate channels; its maps are appended to all
    earlier ones, and the next layer sees them all.

    Shapes: (N, in_channels, H, W) -> (N, in_channels + num_convs * growth_rate, H, W).

    Args and returns: see `check_residual`.
    """
    return judge(partial(_check, answer, DENSE_BLOCK), limit)


def check_transition(answer, limit=10):
    """Check a transition: ``answer(in_channels, out_channels)``, or d2l's ``answer(num_channels)``.

    Batch norm, ReLU, 1x1 convolution, average-pool 2x2 with stride 2.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, floor(H / 2), floor(W / 2)).

    Args and returns: see `check_residual`.
    """
    return judge(partial(_check, answer, TRANSITION), limit)


def check_inception(answer, limit=10):
    """Check an Inception block: ``answer(in_channels, c1, c2, c3, c4)``, or d2l's ``answer(c1, c2, c3, c4)``.

    Four paths, joined on channels in this order: 1x1; 1x1 and 3x3; 1x1 and 5x5; 3x3 max-pool and 1x1. A ReLU
    follows every convolution; batch norm between the two is as you like.

    Shapes: (N, in_channels, H, W) -> (N, c1 + c2[1] + c3[1] + c4, H, W).

    Args and returns: see `check_residual`.
    """
    return judge(partial(_check, answer, INCEPTION), limit)


def check_resnet18(answer, limit=10):
    """Check a ResNet-18 for 1 input channel and 10 classes, as `d2lnets.resnet18`.

    Shapes: (N, 1, H, W) -> (N, 10), the logits; tried with 64x64 and 96x80.

    Args:
        answer: a module, which is left as it was, or a function without arguments that makes one.
        limit: seconds of computing, or of idling, after which the check gives up.

    Returns:
        A `Verdict`.
    """
    return judge(partial(_check, answer, RESNET18), limit)


def check_densenet(answer, limit=10):
    """Check a DenseNet for 1 input channel and 10 classes, as `d2lnets.densenet`: see `check_resnet18`."""
    return judge(partial(_check, answer, DENSENET), limit)


def check_googlenet(answer, limit=10):
    """Check a GoogLeNet for 1 input channel and 10 classes, as `d2lnets.googlenet`: see `check_resnet18`."""
    return judge(partial(_check, answer, GOOGLENET), limit)


# What they ask for


@dataclass(frozen=True)
class Contract:
    """What is expected of an answer.

    Attributes:
        program: the reference.
        mistakes: variants of the program that are wrong, and what is wrong with each.
        names: of the constructor's arguments, in order, each with other names that are understood; none for a network.
        cases: the arguments that it is built with.
        more: arguments that a constructor may have besides, for a case.
        rights: variants of the program that are right, and what is said of each where only one is.
    """

    what: str
    program: Callable
    mistakes: dict
    hint: str
    names: dict = field(default_factory=dict)
    cases: tuple = ({},)
    more: Callable = lambda case: {}
    rights: dict = field(default_factory=lambda: {None: ""})

    def shapes(self, case):
        """Of the inputs; the first one in training mode too."""
        if not self.names:
            return (2, 1, 64, 64), (1, 1, 96, 80)
        channels = case["in_channels"]
        return (3, channels, 8, 7), (1, channels, 9, 6), (2, channels, 12, 12)


def _cases(names, *cases):
    return tuple(dict(zip(names, case)) for case in cases)


def _needs_1x1(case):
    needed = case["stride"] != 1 or case["in_channels"] != case["out_channels"]
    return dict.fromkeys(("use_1x1conv", "use_1x1", "use_conv1x1", "use_1x1_conv", "use_projection"), needed)


# fmt: off
IN = ["in_channels", "in_channel", "input_channels", "num_in", "c_in", "in_c", "cin", "in_ch", "inplanes", "in_planes",
      "nin", "inp", "in_features", "channels_in", "in_chans", "input_dim"]
OUT = ["out_channels", "out_channel", "output_channels", "num_out", "c_out", "out_c", "cout", "out_ch", "planes",
       "out_planes", "oup", "nout", "num_channels", "channels_out", "channels", "out", "filters", "num_filters"]
STRIDE = ["stride", "strides", "s"]
FILTERS = ["filters", "channels", "widths", "num_filters"]
LAYERS = ["num_convs", "num_layers", "n_layers", "layers", "n", "num_conv", "depth", "n_convs"]
GROWTH = ["growth_rate", "growth", "k", "num_channels", "out_channels", "growthrate"]
RESIDUAL = Contract(
    "residual block", references.residual, references.RESIDUAL_MISTAKES,
    "Read y = relu(shortcut(x) + F(x)) from the inside out, and go through your forward line by line.",
    {"in_channels": IN, "out_channels": OUT, "stride": STRIDE},
    _cases(("in_channels", "out_channels", "stride"),
           (4, 4, 1), (4, 6, 1), (4, 6, 2), (6, 6, 2), (5, 3, 1), (3, 5, 3)),
    _needs_1x1,
)
BOTTLENECK = Contract(
    "bottleneck", references.bottleneck, references.BOTTLENECK_MISTAKES,
    "Write the branch down as a list, from the 1×1 that reduces to the 1×1 that expands; what follows each of them?",
    {"in_channels": IN, "filters": FILTERS, "stride": STRIDE},
    _cases(("in_channels", "filters", "stride"),
           (8, (4, 5, 8), None), (9, (3, 3, 7), 1), (6, (4, 5, 8), 2), (6, (4, 4, 6), 2)),
    lambda case: dict.fromkeys(("kernel_size", "f", "kernel", "k"), 3),
    {None: "the stride is on the first 1×1, as in the networks of 2015",
     "v1.5": "the stride is on the 3×3, as in torchvision (v1.5)"},
)
DENSE_BLOCK = Contract(
    "dense block", references.dense_block, references.DENSE_MISTAKES,
    "What does the second layer receive, and in which order? Print the shape after each layer.",
    {"num_convs": LAYERS, "in_channels": IN, "growth_rate": GROWTH},
    _cases(("num_convs", "in_channels", "growth_rate"), (3, 5, 4), (1, 3, 2), (4, 6, 6)),
)
POOL_FIRST = "the pool stands before the 1×1 convolution, which gives the same with less work"
TRANSITION = Contract(
    "transition", references.transition, references.TRANSITION_MISTAKES,
    "Four steps: which one changes the channels, which one the size, and what stands before them?",
    {"in_channels": IN, "out_channels": OUT},
    _cases(("in_channels", "out_channels"), (6, 3), (4, 5)),
    rights={None: "", "nrpc": POOL_FIRST},
)
INCEPTION = Contract(
    "Inception block", references.inception, references.INCEPTION_MISTAKES,
    "Feed one path alone, and print its shape; what follows every convolution?",
    {"in_channels": IN, "c1": ["c1", "ch1x1"], "c2": ["c2", "ch3x3"], "c3": ["c3", "ch5x5"],
     "c4": ["c4", "pool_proj"]},
    _cases(("in_channels", "c1", "c2", "c3", "c4"), (8, 2, (3, 4), (5, 6), 7), (5, 3, (3, 3), (2, 3), 3)),
    lambda case: dict(zip(("ch3x3red", "ch3x3", "ch5x5red", "ch5x5"), case["c2"] + case["c3"])),  # torchvision's
)
NETWORK_HINT = "Print the shape after each part (d2lnets.trace_shapes does it), and compare with the table."
RESNET18 = Contract("ResNet-18", references.resnet18, references.RESNET18_MISTAKES, NETWORK_HINT)
DENSENET = Contract("DenseNet", references.densenet, references.DENSENET_MISTAKES, NETWORK_HINT,
                    rights={None: "", "transition nrpc": f"in the transitions {POOL_FIRST}"})
GOOGLENET = Contract("GoogLeNet", references.googlenet, references.GOOGLENET_MISTAKES, NETWORK_HINT)
# fmt: on


# How they find out


def _check(answer, contract):
    notes = {}
    for case in contract.cases:
        module, built = _build(answer, contract, case)
        with _kept(module) if module is answer else nullcontext(module) as module:
            notes |= dict.fromkeys(_Examination(module, contract, case, built).run())
    same = "Shapes, parameters, values, gradients and running statistics are the reference's"
    return Verdict(True, f"{same}, in training and in evaluation mode.{''.join(f' Note: {n}.' for n in notes)}")


def _build(answer, contract, case):
    """The module that `answer` makes for a case, and in words what it was built with."""
    if isinstance(answer, nn.Module):
        if not contract.names:
            return answer, ""
        name = type(answer).__name__
        what = f"A class was expected; a finished module came, made by {name}(...)."
        raise Refused(what, "the class was called", f"Pass {name}, without parentheses.")
    if not callable(answer):
        wanted = (
            "class, or a function that makes a module," if contract.names else "module, or a function that makes one,"
        )
        raise Refused(f"A {wanted} was expected; {_kind(answer)} came.", "", "Pass the name of what you wrote.")
    if inspect.isclass(answer) and not issubclass(answer, nn.Module):
        what = f"A class derived from nn.Module was expected; {answer.__name__} is none."
        raise Refused(what, "(nn.Module) is missing after its name", "What does your class inherit?")
    args, kwargs = _arguments(answer, contract, case)
    built = ", ".join(f"{name}={value!r}" for name, value in case.items())
    module = call(f"building it{' with ' * bool(built)}{built}", answer, *args, **kwargs)
    if not isinstance(module, nn.Module):
        what = f"Called with {built or 'nothing'}, it was to make an nn.Module; {_kind(module)} came."
        raise Refused(what, "the function has no return" if module is None else "", "What stands after return?")
    return module, built and f", built with {built}"


def _arguments(answer, contract, case):
    """The case as `answer` wants it: by name where the names are known, else in the documented order."""
    values = {alias: case[name] for name, aliases in contract.names.items() for alias in aliases} | contract.more(case)
    try:
        parameters = inspect.signature(answer).parameters.values()
    except (TypeError, ValueError):
        return list(case.values()), {}
    plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in plain if p.default is p.empty]
    known = {p.name: values[p.name.lower()] for p in plain if p.name.lower() in values and p.kind != p.POSITIONAL_ONLY}
    said = {name.lower() for name in known}
    if all(name in known for name in required) and all(
        said & set(aliases) for name, aliases in contract.names.items() if name != "in_channels"
    ):
        default = {p.name for p in plain if p.default in (None, 1) and known.get(p.name, 0) is None}
        return [], {name: value for name, value in known.items() if name not in default}
    kinds = {p.kind for p in parameters}
    if not plain and kinds == {inspect.Parameter.VAR_KEYWORD}:
        return [], case
    most = 99 if inspect.Parameter.VAR_POSITIONAL in kinds else sum(p.kind != p.KEYWORD_ONLY for p in plain)
    ways = [list(case.values())]
    if "in_channels" in case and not said & set(IN):  # lazy layers
        ways.append([value for name, value in case.items() if name != "in_channels"])
    for positional in ways:
        if len(required) <= len(positional) <= most:
            return positional, {}
    what = f"Arguments ({', '.join(contract.names)}) were expected; yours are ({', '.join(p.name for p in plain)})."
    raise Refused(what, "an argument is missing, or one too many has no default", "Compare them one by one.")


@contextmanager
def _kept(module):
    """The student's module, to be left as it was; a copy where its layers are lazy or not on the CPU."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(t) or t.device.type != "cpu" for t in tensors):
        yield call("copying it", copy.deepcopy, module).cpu()
        return
    before = [t.detach().clone() for t in tensors]
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield module
    finally:
        with torch.no_grad():
            for tensor, values in zip(tensors, before):
                tensor.copy_(values)
        for part, mode in modes:
            part.training = mode


class _Examination:
    """One module, built for one case of a contract."""

    def __init__(self, module, contract, case, built):
        self.module, self.contract, self.case, self.built = module, contract, case, built

    def program(self, v=None):
        return partial(self.contract.program, v=v, **self.case)

    def run(self):
        """What is to be said of it, if it passes; else raises `Refused`."""
        first, *others = self.contract.shapes(self.case)
        x = torch.randn(first)
        randomize(self.module, self.look(x, True, compare=False))  # lazy layers are made here
        x.requires_grad_()
        record = self.look(x, True)
        found = {v: replay(self.program(v), record, x, True) for v in self.contract.rights}
        found = {v: agreed for v, agreed in found.items() if agreed}
        if not found:
            self.refuse_values(record, x, True)
        right, agreed = next(iter(found.items()))
        self.check_parameters(agreed)
        self.check_gradients(agreed, record, x)
        for shape in (first, *others):
            self.check_evaluation(right, torch.randn(shape), agreed if shape == first else None)
        return [self.contract.rights[right]] if len(found) == 1 and self.contract.rights[right] else []

    def look(self, x, training, compare=True):
        """Run the module once and check the output's shape."""
        shape, plan = tuple(x.shape), Plan(self.program(), x.shape)
        self.plan, self.doing = plan, f"for an input of shape {shape}{self.built}"
        try:
            record = observe(self.module, x, training, self.doing)
        except Crashed as crash:
            cause, hint = explain(crash.error)
            shapes_differ = isinstance(crash.error, RuntimeError) and not isinstance(crash.error, NotImplementedError)
            if shapes_differ:
                unlike = "must match the size of tensor" in str(crash.error)
                planned, made = self.likest_plan(crash.record, x), crash.record.calls
                cause = self.same_layers(crash.record, x) or difference(planned, made, unlike) or cause
            raise Refused(crash.what, cause, hint) from None
        if compare:
            self.check_layers(record)
            output = record.output
            if output.shape != plan.output.shape:
                wanted, came = tuple(plan.output.shape), tuple(output.shape)
                what = f"F{self.doing[1:]}, an output of shape {wanted} was expected; {came} came."
                raise Refused(what, *self.cause(record, x, training))
            if not bool(torch.isfinite(output).all()):
                what = f"F{self.doing[1:]}, finite numbers were expected; nan or infinity came."
                raise Refused(what, "a division by zero, or a root or logarithm of what is not positive")
        self.made_before = {made.weight.data_ptr() for made in record.calls if made.weight is not None}
        return record

    def check_layers(self, record):
        """Layers must be registered, have a scale and shift, be used once, and be trainable."""
        names = {}
        for name, p in self.module.named_parameters(remove_duplicate=False):
            names.setdefault(p.data_ptr(), []).append(name.rpartition(".")[0] or name)
        weights = [made.weight for made in record.calls if made.weight is not None and not made.by_hand]
        strangers = [w for w in weights if isinstance(w, nn.Parameter) and w.data_ptr() not in names]
        if strangers:
            kept = all(w.data_ptr() in self.made_before for w in strangers)
            raise Refused(
                f"All weights were expected in parameters(); those of {len(strangers)} layers are not.",
                "the layers are kept in a plain list or dictionary"
                if kept
                else "layers are made anew in every forward",
                "An optimizer would not find them. How does an nn.Module notice its layers?",
            )
        for made in record.calls:
            if made.kind == "norm" and made.weight is None:
                what = "A batch norm with scale and shift was expected; one without came."
                raise Refused(what, "it has affine=False", "Look at the arguments of batch norm.")
            if made.kind == "norm" and made.training and made.statistics[0] is None and not made.by_hand:
                what = "Batch norm was to keep running statistics; it has none."
                hint = "Which mean and variance can it use in evaluation mode?"
                raise Refused(what, "it has track_running_stats=False", hint)
        for weight, uses in Counter(w.data_ptr() for w in weights).items():
            if uses > 1 and weight in names:
                layer, *more = names[weight]
                what = f"A layer of its own was expected at each place; {layer} is used {uses} times."
                cause = f"{layer} is shared by several places"
                modules = dict(self.module.named_modules(remove_duplicate=False))
                if any(modules.get(name) is not modules.get(layer) for name in more):
                    what = f"Weights of their own were expected; {' and '.join(names[weight])} have the same."
                    cause = "the weight of one layer is assigned to another"
                raise Refused(what, cause, "How many layers does the figure show?")
        if {"hardtanh", "relu6"} & record.names:
            raise Refused("A ReLU was expected; one that ends at 6 came.", FOREIGN["relu6"], "What is relu(7)?")
        if any(made.kind == "linear" and made.bias is None for made in record.calls) and not self.contract.names:
            what = "A linear layer with a bias was expected; one without came."
            raise Refused(what, "it has bias=False", "Look at the arguments of the last layer.")
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad:
                what = f"Every parameter was to receive a gradient; {name} cannot."
                raise Refused(what, "it has requires_grad=False", "Is something frozen that is to be trained?")

    def check_parameters(self, agreed):
        """Every parameter must take part in the computation."""
        used = {p.data_ptr() for made in agreed.used for p in (made.weight, made.bias) if p is not None}
        unused = [name for name, p in self.module.named_parameters() if p.data_ptr() not in used]
        if unused:
            total = sum(p.numel() for p in self.module.parameters())
            wanted = sum(p.numel() for p in self.module.parameters() if p.data_ptr() in used)
            raise Refused(
                f"{wanted:,} parameters were expected{self.built}; {total:,} came.",
                f"{', '.join(unused[:4])}{' ...' * (len(unused) > 4)} has no effect on the output",
                "Is the layer used in forward, and is it made only where it is needed?",
            )
        for made in agreed.used:
            if made.kind == "norm" and not (made.by_hand or (0 < made.momentum < 1 and made.eps <= 0.011)):
                what = f"A batch norm has momentum {made.momentum} and eps {made.eps}."
                hint = "momentum is how far the running statistics move in a step; eps is tiny."
                raise Refused(what, "one of them is unusual", hint)

    def check_gradients(self, agreed, record, x):
        names, parameters = zip(("the input", x), *self.module.named_parameters())
        along = torch.randn_like(record.output)
        try:
            came = call(f"in the backward pass, {self.doing}", torch.autograd.grad,
                        (record.output * along).sum(), parameters, allow_unused=True)  # fmt: skip
        except Crashed as crash:
            raise Refused(crash.what, *explain(crash.error)) from None
        wanted = torch.autograd.grad((agreed.output * along).sum(), parameters)
        scale = max(float(w.abs().max()) for w in wanted)
        for name, c, w in zip(names, came, wanted):
            if c is None or not close(c, w, 1e-3, 1e-4 * scale):
                what = "none came" if c is None else "another one came"
                raise Refused(
                    f"The output is right, but a gradient was expected for {name}, and {what}, {self.doing}.",
                    "a part of the computation is cut off, as by detach(), .data, .item(), numpy or torch.no_grad()",
                    "Which step leaves the graph of computations?",
                )

    def check_evaluation(self, right, x, trained):
        record = self.look(x, False)
        if not close(self.look(x, False).output, record.output):
            foreign = _foreign(record)
            what = f"In evaluation mode the same input gave two outputs, {self.doing}."
            cause = foreign or "the module remembers earlier inputs, or chance plays a part"
            raise Refused(what, cause, "What is random, and what does forward store in self?")
        moved = dict(trained.moved) if trained else {}
        for made in record.calls:
            wanted = moved.get(made.weight.data_ptr()) if made.kind == "norm" else None
            if wanted and made.before[0] is not None and not all(map(close, made.before, wanted)):
                what = f"A training step was to update batch norm's running statistics; they are off, {self.doing}."
                raise Refused(
                    what, "a copy is updated, or they are set elsewhere", "Which tensors does batch norm get?"
                )
        agreed = replay(self.program(right), record, x, False)
        if not agreed:
            self.refuse_values(record, x, False)
        if agreed.unsure and len(x) > 1:  # batch norm by hand; at least, images must not see each other
            alone = self.look(x[:1], False)
            if not close(alone.output, record.output[:1]):
                what = f"In evaluation mode the output of an image depends on the others in the batch, {self.doing}."
                cause = "batch norm uses the batch's statistics in evaluation mode"
                raise Refused(what, cause, "Which numbers should it use after training?")

    def refuse_values(self, record, x, training):
        """Say where the output differs most, and why."""
        mode = "training" if training else "evaluation"
        what = f"With the same weights the reference gives another output, in {mode} mode, {self.doing}"
        wanted = replay(self.program(), record, x, training, lenient=True)
        if wanted is not None and wanted.output.shape == record.output.shape:
            apart = (wanted.output - record.output).detach().abs()
            where = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
            what += f": at {where} {wanted.output[where]:.3f} was expected; {record.output[where]:.3f} came"
        raise Refused(f"{what}.", *self.cause(record, x, training))

    def cause(self, record, x, training):
        """The likeliest cause and a hint."""
        hint = self.contract.hint
        if record.output.shape == self.plan.output.squeeze().shape != self.plan.output.shape:
            return "squeeze() has removed the batch too, since it was 1", "Name the dimensions that are to go."
        with torch.no_grad():
            for v, cause in self.contract.mistakes.items():
                if replay(self.program(v), record, x, training):
                    return cause, hint
        if any(made.kind == "norm" and not made.by_hand and made.training != training for made in record.calls):
            used, mode = ("running", "training") if training else ("batch's", "evaluation")
            return f"batch norm uses the {used} statistics in {mode} mode", "What does batch norm do in either mode?"
        cause = _foreign(record) or self.same_layers(record, x) or difference(self.likest_plan(record, x), record.calls)
        return cause or departs_at(self.program(), record, x, training), hint

    def likest_plan(self, record, x):
        """The layers of the right program that has the most in common with what was recorded."""
        plans = [Plan(self.program(v), x.shape).calls for v in self.contract.rights]
        return max(plans, key=lambda plan: (layers_of(plan) & layers_of(record.calls)).total())

    def same_layers(self, record, x):
        """The mistake that has the layers that were recorded, where the reference has others; if only one has."""
        layers, causes = layers_of(record.calls), set()
        if layers != layers_of(self.plan.calls):
            for v, cause in self.contract.mistakes.items():
                wrong = Plan(self.program(v), x.shape)
                if layers == layers_of(wrong.calls) and (wrong.output is None) == (record.output is None):
                    causes.add(cause)
        return causes.pop() if len(causes) == 1 else ""


FOREIGN = {  # functions that no reference uses
    **dict.fromkeys(("dropout", "dropout2d", "feature_dropout"), "there is dropout, which the reference has not"),
    "instance_norm": "there is instance norm in place of batch norm",
    "group_norm": "there is group norm in place of batch norm",
    "layer_norm": "there is layer norm in place of batch norm",
    "local_response_norm": "there is local response norm, which the reference has not",
    "softmax": "there is a softmax, which the reference has not",
    "log_softmax": "there is a log-softmax, which the reference has not",
    "pad with pixels": "the padding repeats pixels (padding_mode, or F.pad), where zeros were expected",
    "hardtanh": "there is ReLU6 in place of ReLU",
    "relu6": "there is ReLU6 in place of ReLU",
    **{name: f"there is {name} in place of ReLU" for name in (
        "leaky_relu", "gelu", "sigmoid", "tanh", "elu", "silu", "prelu", "softplus", "selu",
        "mish")},
}  # fmt: skip


def _foreign(record):
    return next((what for name, what in FOREIGN.items() if name in record.names), "")


# Exercises with a value


def _kind(value):
    if value is None or value is Ellipsis:
        return "None" if value is None else "an ellipsis (...)"
    if isinstance(value, bool):
        return f"the truth value {value}"
    if isinstance(value, Number):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple, range)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _plain(value):
    """Tensors, arrays and shapes as Python numbers and tuples; text without case and spaces."""
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        value = value.tolist() if math.prod(value.shape) != 1 else value.item()
    if isinstance(value, (list, tuple, range)):
        return tuple(map(_plain, value))
    return "".join(value.split()).casefold().replace("×", "x") if isinstance(value, str) else value


def _agree(a, b, tolerance):
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_agree(c, d, tolerance) for c, d in zip(a, b))
    if isinstance(b, bool):
        return isinstance(a, Number) and a == b  # 1 is what tensors and arrays make of True
    if isinstance(a, bool) or not isinstance(a, Number) or not isinstance(b, Number):
        return type(a) is type(b) and a == b
    return a == b or abs(a - b) <= tolerance


def check_value(answer, expected, mistakes=None, tolerance=0):
    """Check a number, a shape, a word or a list that a prediction or counting exercise asks for.

    The expected value is not told.

    Args:
        answer: number, text, list, tuple, or tensor (of one element: that number).
        mistakes: causes in words, and for each the wrong value that it leads to.
        tolerance: by how much numbers may differ.

    Returns:
        A `Verdict`.
    """
    given, wanted = _plain(answer), _plain(expected)
    if _agree(given, wanted, tolerance):
        return Verdict(True, f"{_short(answer)} is right.")
    for cause, value in (mistakes or {}).items():
        if _agree(given, _plain(value), tolerance):
            return Verdict(False, f"{_short(answer)} is not right.\nLikeliest cause: {cause}.")
    if answer is Ellipsis:
        return Verdict(False, "Nothing is filled in yet: put your answer in place of the three dots.")
    number = isinstance(wanted, Number) and not isinstance(wanted, bool)
    kinds = {
        str: "a text",
        tuple: f"a list or tuple of {len(wanted) if isinstance(wanted, tuple) else 0}",
        bool: "True or False",
    }
    kind = "a number" if number else kinds.get(type(wanted), f"a {type(wanted).__name__}")
    same = isinstance(given, Number) and not isinstance(given, bool) if number else type(given) is type(wanted)
    if not same or (isinstance(wanted, tuple) and len(given) != len(wanted)):
        asked = ": did the cell return or print?" if answer is None else "."
        return Verdict(False, f"{kind[0].upper()}{kind[1:]} was expected; {_kind(answer)} came{asked}")
    if isinstance(wanted, tuple):
        wrong = next(i for i, (a, b) in enumerate(zip(given, wanted)) if not _agree(a, b, tolerance))
        return Verdict(False, f"{_short(answer)} is not right: look at entry {wrong + 1} of {len(wanted)} again.")
    if number and not isinstance(given, complex):
        size = "not a number" if given != given else "too large" if given > wanted else "too small"
        return Verdict(False, f"{_short(answer)} is {size}.")
    return Verdict(False, f"{_short(answer)} is not right.")


def check_exercise(chapter, number, answer):
    """Check what you wrote for an exercise: ``check_exercise("resnet18", 2, parameters_by_hand)``.

    Args:
        chapter: the name of its notebook.
        number: the exercise's.
        answer: the function that the exercise asks for; if it has no arguments, what it returns will do.

    Returns:
        A `Verdict`.
    """
    try:
        exercise = exercises.EXERCISES[chapter][number]
    except (KeyError, TypeError):
        known = "; ".join(f"{name}: {', '.join(map(str, each))}" for name, each in exercises.EXERCISES.items())
        return Verdict(False, f"{chapter!r} has no exercise {number!r} that is checked so. There are {known}.")
    return judge(partial(_check_exercise, answer, exercise), exercise.limit)


def _check_exercise(answer, exercise):
    given = []
    for args in exercise.calls:
        shown = f"({', '.join(map(_short, args))})"
        if callable(answer) and not isinstance(answer, nn.Module):
            given.append(call("calling your function" + f" with {shown}" * bool(args), answer, *copy.deepcopy(args)))
        elif args:
            raise Refused(f"A function was expected; {_kind(answer)} came.", "", "Pass its name, without parentheses.")
        else:
            given.append(answer)
        if exercise.judge:
            call("checking what your function returned", exercise.judge, given[-1], *args)
    if exercise.judge:
        return Verdict(True, f"It does what was asked. {exercise.note}".rstrip())

    causes = {}  # those that explain the answers to all calls
    for cause, wrong in exercise.mistakes.items():
        values = [wrong(*args) if callable(wrong) else wrong for args in exercise.calls]
        if all(_agree(_plain(a), _plain(b), exercise.tolerance) for a, b in zip(given, values)):
            causes[cause] = values
    for i, args in enumerate(exercise.calls):
        known = {cause: values[i] for cause, values in causes.items()}
        verdict = check_value(given[i], exercise.answer(*args), known, exercise.tolerance)
        if not verdict:
            where = f"For ({', '.join(map(_short, args))}): " if args else ""
            raise Refused(where + verdict.message, "", exercise.hint)
    told = verdict.message if exercise.calls == ((),) else "It does what was asked."
    return Verdict(True, f"{told} {exercise.note}".rstrip())


def _short(value):
    if isinstance(value, torch.Tensor) and value.numel() > 10:
        return _kind(value)
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else text[:200] + " ..."
