"""How a check finds out whether a module does what its contract says, and what is wrong with it."""

import copy
import inspect
import sys
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from d2lnets.checks.contracts import IN, Case, Contract
from d2lnets.checks.judging import call
from d2lnets.checks.recording import observe, randomize
from d2lnets.checks.replaying import Plan, close, departs_at, difference, layers_of, replay
from d2lnets.checks.values import kind_of
from d2lnets.checks.wording import Crashed, Refused, Verdict, explain


def examine(answer: object, contract: Contract, seed: int = 0) -> Verdict:
    """The verdict on an answer that passes; else raises `Refused`. From seed 1 on the contract's numbers are others."""
    contract = contract.varied(seed)
    notes: dict[str, None] = {}
    answer = _uncompiled(answer)
    for case in contract.cases:
        module, built = _build(answer, contract, case)
        with _as_written(), _kept(module) if module is answer else nullcontext(_uncompiled(module)) as module:
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
        raise Refused(f"A {wanted} was expected; {kind_of(answer)} came.", "", "Pass the name of what you wrote.")
    if inspect.isclass(answer) and not issubclass(answer, nn.Module):
        what = f"A class derived from nn.Module was expected; {answer.__name__} is none."
        raise Refused(what, "(nn.Module) is missing after its name", "What does your class inherit?")
    args, kwargs = _arguments(answer, contract, case)
    built = ", ".join(f"{name}={value!r}" for name, value in case.items())
    module = call(f"building it{' with ' * bool(built)}{built}", answer, *args, **kwargs)
    if not isinstance(module, nn.Module):
        what = f"Called with {built or 'nothing'}, it was to make an nn.Module; {kind_of(module)} came."
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


def _uncompiled(answer):
    """What was given to ``torch.compile``; anything else as it is."""
    return getattr(answer, "_orig_mod", answer)


@contextmanager
def _as_written():
    """Compiled code runs as it was written: compiled, it hides its layers."""
    if "torch._dynamo" not in sys.modules:  # so nothing was compiled; its import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def _kept(module):
    """The student's module, to be left as it was; a copy where its layers are lazy or not on the CPU."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(t) or t.device.type != "cpu" for t in tensors):
        lazy = {id(t): UninitializedBuffer() for t in tensors if isinstance(t, UninitializedBuffer)}
        yield call("copying it", copy.deepcopy, module, lazy).cpu()  # it cannot copy these itself
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

    def __init__(self, module: nn.Module, contract: Contract, case: Case, built: str) -> None:
        self.module, self.contract, self.case, self.built = module, contract, case, built

    def program(self, v=None):
        """A variant for this case; the reference, unless it is given."""
        return partial(self.contract.program, v=v or self.contract.rights[0], **self.case)

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
        return [right.says] if len(found) == 1 and right.says else []

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
        # kept, so that no other tensor gets their places in memory
        self.made_before = [made.weight for made in record.calls if made.weight is not None]
        return record

    def check_layers(self, record):
        """Layers must be registered, have a scale and shift, be used once, and be trainable."""
        names = {}
        for name, p in self.module.named_parameters(remove_duplicate=False):
            names.setdefault(p.data_ptr(), []).append(name.rpartition(".")[0] or name)
        weights = [made.weight for made in record.calls if made.weight is not None and not made.by_hand]
        strangers = [w for w in weights if isinstance(w, nn.Parameter) and w.data_ptr() not in names]
        if strangers:
            kept = {w.data_ptr() for w in strangers} <= {w.data_ptr() for w in self.made_before}
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
            for mistake in self.contract.mistakes:
                if replay(self.program(mistake), record, x, training):
                    return mistake.says, hint
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
            for mistake in self.contract.mistakes:
                wrong = Plan(self.program(mistake), x.shape)
                if layers == layers_of(wrong.calls) and (wrong.output is None) == (record.output is None):
                    causes.add(mistake.says)
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
