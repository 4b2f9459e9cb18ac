"""The blocks and networks as programs, each with the mistakes that people make in it.

A program asks its first argument, `net`, for layers and computes the rest itself (`replaying.py`). Its last
argument `v` (variant) names a mistake, None for none; the tables say in words what each mistake is.
"""

from itertools import permutations

import torch
from torch.nn import functional as F

from d2lnets.googlenet import GOOGLENET_STAGES
from d2lnets.resnet import RESNET18_STAGES

JOINS = {  # what becomes of the branch y and the shortcut s()
    None: lambda y, s: F.relu(y + s()),
    "relu before": lambda y, s: F.relu(y) + s(),
    "relu both": lambda y, s: F.relu(F.relu(y) + s()),
    "no last relu": lambda y, s: y + s(),
    "relu on shortcut": lambda y, s: F.relu(y + F.relu(s())),
    "no addition": lambda y, s: F.relu(y),
    "nothing joined": lambda y, s: y,
    "y - x": lambda y, s: F.relu(y - s()),
    "x - y": lambda y, s: F.relu(s() - y),
    "product": lambda y, s: F.relu(y * s()),
    "mean": lambda y, s: F.relu((y + s()) / 2),
    "overwritten": lambda y, s: F.relu(y + y),
    "concatenated": lambda y, s: F.relu(torch.cat([y, s()], dim=1)),
    "concatenated, x first": lambda y, s: F.relu(torch.cat([s(), y], dim=1)),
}
RESIDUAL_MISTAKES = {
    "relu before": "the ReLU stands before the addition, not after it",
    "relu both": "a ReLU too many: it stands before the addition as well as after it",
    "no last relu": "the last ReLU, after the addition, is missing",
    "relu on shortcut": "a ReLU stands on the shortcut",
    "no addition": "the shortcut is never added",
    "nothing joined": "the shortcut is never added, and the last ReLU is missing",
    "y - x": "the shortcut is subtracted instead of added",
    "x - y": "the branch is subtracted from the shortcut instead of added",
    "product": "branch and shortcut are multiplied instead of added",
    "mean": "the sum is divided by 2",
    "overwritten": "the branch is added to itself: x was overwritten on the way, so the input is lost",
    "concatenated": "branch and shortcut are concatenated instead of added",
    "concatenated, x first": "branch and shortcut are concatenated instead of added",
    "input again": "the shortcut starts after the first convolution, not at the input",
    "no relu 1": "the ReLU after the first batch norm is missing",
    "no relu 2": "the ReLU after the second batch norm is missing",
    "no relu": "the ReLUs inside the branch are missing",
    "relu, norm": "the ReLU stands before the batch norm, not after it",
    "no norm 1": "the first batch norm is missing",
    "no norm 2": "the second batch norm is missing",
    "no norm": "batch norm is missing after all convolutions of the branch",
    "norm, conv": "batch norm and ReLU stand before the convolutions, as in a pre-activation block",
    "norm after add": "the addition stands before the last batch norm, not after it",
    "norm on sum": "one batch norm too many: it is applied to the sum",
    "always 1x1": "the 1×1 convolution stands on the shortcut even where the shape stays the same",
    "stride 2nd": "the branch's stride is on the second convolution",
    "stride all": "every convolution of the branch has the stride, not only one",
    "no stride": "the stride is ignored",
    "pooled shortcut": "the shortcut is pooled; a 1×1 convolution with the stride was expected",
    "branch stride 1": "the branch keeps stride 1",
    "shortcut stride 1": "the shortcut keeps stride 1",
}
BOTTLENECK_MISTAKES = {
    **RESIDUAL_MISTAKES,
    "stride 3rd": "the branch's stride is on the third convolution",
    "no norm 3": "the third batch norm is missing",
    "no shortcut norm": "the batch norm after the shortcut's 1×1 convolution is missing",
}
BOTTLENECK_MISTAKES |= {f"v1.5, {v}": cause for v, cause in BOTTLENECK_MISTAKES.items()}


def _residual(net, x, widths, stride, project, shortcut_norm, v, first=0):
    """relu(branch + shortcut); `widths` are (channels, kernel) of the branch's convolutions.

    `first` is the convolution that has the stride, counted from 0.
    """
    out, y = widths[-1][0], x
    first = {"stride 2nd": 1, "stride 3rd": 2, "branch stride 1": 99}.get(v, first)
    shortcut = x
    for i, (channels, kernel) in enumerate(widths, 1):
        step = stride if (i == first + 1 or v == "stride all") and v != "no stride" else 1
        only = [k for _, k in widths].count(kernel) == 1
        place = "" if only else "first " if i == 1 else "last "
        role = f"the {place}{kernel}×{kernel} convolution"
        if v == "norm, conv":
            y = net.conv(role, F.relu(net.norm(f"batch norm {i}", y)), channels, kernel, step)
            continue
        y = net.conv(role, y, channels, kernel, step)
        last = i == len(widths)
        if last and v == "norm after add":
            y = y + _shortcut(net, x, out, stride, project, shortcut_norm, v)
        if v == "relu, norm" and not last:
            y = F.relu(y)
        if v not in ("no norm", f"no norm {i}"):
            y = net.norm(f"batch norm {i}", y)
        if v not in ("no relu", f"no relu {i}", "relu, norm") and not last:
            y = F.relu(y)
        if i == 1 and v == "input again":
            shortcut = y
    if v == "norm after add":
        return F.relu(y)
    if v == "norm, conv":
        return y + _shortcut(net, x, out, stride, project, shortcut_norm, v)
    if v == "norm on sum":
        return F.relu(net.norm("", y + _shortcut(net, x, out, stride, project, shortcut_norm, v)))
    return JOINS.get(v, JOINS[None])(y, lambda: _shortcut(net, shortcut, out, stride, project, shortcut_norm, v))


def _shortcut(net, x, out, stride, project, norm, v):
    if not project and v != "always 1x1":
        return x
    stride = 1 if v in ("no stride", "shortcut stride 1") else stride
    if v == "pooled shortcut":
        x, stride = F.avg_pool2d(x, stride, ceil_mode=True), 1
    x = net.conv("the shortcut's 1×1 convolution", x, out, 1, stride)
    if not norm or v == "no shortcut norm":
        return net.norm_if_any("the shortcut's batch norm", x) if not norm else x
    return net.norm("the shortcut's batch norm", x)


def residual(net, x, in_channels, out_channels, stride, v=None):
    project = stride != 1 or in_channels != out_channels
    return _residual(net, x, [(out_channels, 3)] * 2, stride, project, False, v)


def bottleneck(net, x, in_channels, filters, stride, v=None):
    widths = list(zip(filters, (1, 3, 1)))
    first = 1 if v and v.startswith("v1.5") else 0
    v = v.removeprefix("v1.5, ") if v else v
    return _residual(net, x, widths, stride or 1, stride is not None, True, v, first)


DENSE_MISTAKES = {
    "new first": "the input is concatenated after the new maps, not before them",
    "sum": "the new maps are added to the input instead of concatenated",
    "last only": "only the last layer's new maps are returned, not all maps joined",
    "input dropped": "the block's input is missing from what is returned",
    "last dropped": "the last layer's new maps are missing from what is returned",
    "latest": "each layer sees only the maps of the layer before it, not all earlier ones",
    "input only": "each layer sees only the block's input, not the maps of the layers before it",
    "rows": "the maps are joined along the height, not along the channels",
    "columns": "the maps are joined along the width, not along the channels",
    "batch": "the maps are joined along the batch, not along the channels",
    "nc": "the ReLU between batch norm and convolution is missing",
    "rc": "batch norm is missing",
    "c": "batch norm and ReLU are missing",
    "rnc": "the ReLU stands before the batch norm, not after it",
    "cnr": "batch norm and ReLU stand after the convolution, not before it",
    "crn": "ReLU and batch norm stand after the convolution, not before it",
    "cr": "the ReLU stands after the convolution, and batch norm is missing",
    "cn": "batch norm stands after the convolution, and the ReLU is missing",
    "ncr": "the ReLU stands after the convolution, not before it",
    "nrcr": "a ReLU too many: one stands after the convolution",
    "nrcn": "a batch norm too many: one stands after the convolution",
    "padding": "the convolution has no padding",
    "relu on all": "a ReLU is applied to the maps after joining",
}


def dense_block(net, x, num_convs, in_channels, growth_rate, v=None):
    order = v if v and set(v) <= set("nrc") else "nrc"  # norm, ReLU, convolution
    maps = [x]
    dim = {"rows": 2, "columns": 3, "batch": 0}.get(v, 1)
    for i in range(num_convs):
        y = {"latest": maps[-1], "input only": x}.get(v)
        y = (sum(maps) if v == "sum" else torch.cat(maps, dim)) if y is None else y
        for step in order:
            if step == "n":
                y = net.norm(f"the batch norm of layer {i + 1}", y)
            elif step == "r":
                y = F.relu(y)
            else:
                y = net.conv(f"the 3×3 convolution of layer {i + 1}", y, growth_rate, 3)
        maps = [y, *maps] if v == "new first" else [*maps, y]
        if v == "relu on all":
            maps = [F.relu(torch.cat(maps, 1))]
    cut = {"last only": maps[-1:], "input dropped": maps[1:], "last dropped": maps[:-1]}.get(v, maps)
    return sum(maps) if v == "sum" else torch.cat(cut, dim)


TRANSITION_MISTAKES = {
    "nrc": "the average-pool is missing",
    "nrp": "the 1×1 convolution is missing",
    "ncp": "the ReLU between batch norm and convolution is missing",
    "rcp": "batch norm is missing",
    "cp": "batch norm and ReLU are missing",
    "rncp": "the ReLU stands before the batch norm, not after it",
    "cnrp": "batch norm and ReLU stand after the convolution, not before it",
    "crnp": "ReLU and batch norm stand after the convolution, not before it",
    "crp": "the ReLU stands after the convolution, and batch norm is missing",
    "ncrp": "the ReLU stands after the convolution, not before it",
    "pnrc": "the pool stands before the batch norm, not at the end",
    "npcr": "the ReLU stands after the convolution, not before it",
    "nrcrp": "a ReLU too many: one stands after the convolution",
    "nrcpr": "a ReLU too many: one stands at the end",
    "max": "the pool takes the maximum, not the average",
    "stride": "the convolution has stride 2 in place of the average-pool",
    "window 3": "the average-pool's window is 3×3, not 2×2",
    "overlap": "the average-pool has stride 1, so the size is not halved",
    "ceil": "the average-pool rounds the size up, not down",
    "global": "the pool averages over the whole map, not over 2×2 windows",
    "pool 4": "the average-pool divides the size by 4, not by 2",
}


def transition(net, x, in_channels, out_channels, v=None):
    order = v if v and set(v) <= set("nrcp") else "nrcp"  # norm, ReLU, convolution, pool
    for step in order:
        if step == "n":
            x = net.norm("the batch norm", x)
        elif step == "r":
            x = F.relu(x)
        elif step == "c":
            x = net.conv("the 1×1 convolution", x, out_channels, 1, 2 if v == "stride" else 1)
        elif v == "global":
            x = F.adaptive_avg_pool2d(x, 1)
        elif v != "stride":
            kernel, stride, padding = {"window 3": (3, 2, 1), "overlap": (2, 1, 0), "pool 4": (4, 4, 0)}.get(
                v, (2, 2, 0)
            )
            kind = "max" if v == "max" else "avg"
            x = net.pool(kind, "the average-pool", x, kernel, stride, padding, ceil_mode=v == "ceil")
    return x


PATHS = ("path 1 (1×1)", "path 2 (3×3)", "path 3 (5×5)", "path 4 (pool)")
INCEPTION_MISTAKES = {
    "no relu": "the ReLUs after the convolutions are missing",
    "no relu inside": "the ReLUs after the 1×1 reductions are missing",
    "no relu last": "the ReLU after the last convolution of each path is missing",
    **{f"no relu {i}": f"a ReLU is missing on {path}" for i, path in enumerate(PATHS)},
    "no relu inside 1": "the ReLU after the 1×1 reduction of path 2 (3×3) is missing",
    "no relu inside 2": "the ReLU after the 1×1 reduction of path 3 (5×5) is missing",
    "relu, norm": "the ReLU stands before the batch norm, not after it",
    "average": "path 4 pools by average, not by maximum",
    "no pool": "the max-pool of path 4 is missing",
    "pool last": "on path 4 the 1×1 convolution stands before the max-pool, not after it",
    "relu pool": "on path 4 the ReLU is missing after the convolution: it stands before it",
    "no projection": "the 1×1 convolution after the max-pool of path 4 is missing",
    "no pool padding": "the max-pool of path 4 has no padding",
    "rows": "the paths are joined along the height, not along the channels",
    "columns": "the paths are joined along the width, not along the channels",
    "batch": "the paths are joined along the batch, not along the channels",
    **{f"only {p}": "the paths are joined in another order than 1×1, 3×3, 5×5, pool"
       for p in list(permutations("0123"))[1:]},
    **{f"without {i}": f"{path} is missing from what is joined" for i, path in enumerate(PATHS)},
}  # fmt: skip


def inception(net, x, in_channels, c1, c2, c3, c4, v=None):
    def conv(role, x, channels, kernel, path, inside=False):
        where = "inside" if inside else "last"
        silent = v in ("no relu", f"no relu {where}", f"no relu {'inside ' * inside}{path}")
        silent = silent or (v == "relu pool" and path == 3)
        y = net.conv(f"{role} of {PATHS[path]}", x, channels, kernel)
        if v == "relu, norm":
            return net.norm_if_any(f"the batch norm of {PATHS[path]}", F.relu(y))
        y = net.norm_if_any(f"the batch norm of {PATHS[path]}", y)
        return y if silent else F.relu(y)

    def path4(x):
        def pool(x):
            if v == "no pool":
                return x
            kind, padding = "avg" if v == "average" else "max", 0 if v == "no pool padding" else 1
            return net.pool(kind, "the max-pool of path 4", x, 3, 1, padding)

        if v == "no projection":
            return pool(x)
        if v == "pool last":
            return pool(conv("the 1×1 convolution", x, c4, 1, 3))
        pooled = pool(x)
        return conv("the 1×1 convolution", F.relu(pooled) if v == "relu pool" else pooled, c4, 1, 3)

    paths = (
        lambda: conv("the 1×1 convolution", x, c1, 1, 0),
        lambda: conv("the 3×3 convolution", conv("the 1×1 reduction", x, c2[0], 1, 1, True), c2[1], 3, 1),
        lambda: conv("the 5×5 convolution", conv("the 1×1 reduction", x, c3[0], 1, 2, True), c3[1], 5, 2),
        lambda: path4(x),
    )
    if v and v.startswith("only"):
        order = [int(digit) for digit in v if digit.isdigit()]
    else:
        order = [i for i in range(4) if v != f"without {i}"]
    dim = {"rows": 2, "columns": 3, "batch": 0}.get(v, 1)
    return torch.cat([paths[i]() for i in order], dim)


# Networks

STEM_MISTAKES = {
    "no max-pool": "the max-pool of the stem is missing",
    "stem avg": "the stem pools by average, not by maximum",
    "stem pool 2": "the stem's max-pool has a 2×2 window; 3×3 with padding 1 was expected",
    "stem unpadded": "the stem's max-pool has no padding",
    "no stem norm": "the batch norm of the stem is missing",
    "no stem relu": "the ReLU of the stem is missing",
    "no stem norm, relu": "batch norm and ReLU of the stem are missing",
    "stem relu, norm": "in the stem the ReLU stands before the batch norm",
    "pool first": "in the stem the max-pool stands before batch norm and ReLU",
}
HEAD_MISTAKES = {
    "softmax": "a softmax stands at the end; the logits were expected",
    "log_softmax": "a log-softmax stands at the end; the logits were expected",
    "sigmoid": "a sigmoid stands at the end; the logits were expected",
    "relu": "a ReLU stands at the end; the logits may be negative",
    "max head": "the head takes the maximum over the map, not the average",
    "fixed head": "the head averages over a window of fixed size, not over the whole map",
}


def _stem(net, x, v):
    net.place = "stem, "
    x = net.conv("the 7×7 convolution", x, 64, 7, 2)
    if v == "stem relu, norm":
        x = F.relu(x)
    if v == "pool first":
        x = net.pool("max", "the max-pool", x, 3, 2, 1)
    if v not in ("no stem norm", "no stem norm, relu"):
        x = net.norm("the batch norm", x)
    if v not in ("no stem relu", "no stem norm, relu", "stem relu, norm"):
        x = F.relu(x)
    if v in ("no max-pool", "pool first"):
        return x
    kernel, padding = {"stem pool 2": (2, 0), "stem unpadded": (3, 0)}.get(v, (3, 1))
    return net.pool("avg" if v == "stem avg" else "max", "the max-pool", x, kernel, 2, padding)


def _head(net, x, v):
    net.place = "head, "
    if v == "fixed head":
        x = F.avg_pool2d(x, 2)  # the whole map, if the image is 64 by 64
    x = x.amax((2, 3)) if v == "max head" else x.mean((2, 3))
    x = net.linear("the linear layer", x, 10)
    ends = {"softmax": F.softmax, "log_softmax": F.log_softmax}
    if v in ends:
        return ends[v](x, dim=1)
    return {"sigmoid": torch.sigmoid, "relu": F.relu}.get(v, lambda x: x)(x)


RESNET18_MISTAKES = {
    **STEM_MISTAKES,
    **HEAD_MISTAKES,
    **{f"without {stage.name}": f"the stage {stage.name} is missing" for stage in RESNET18_STAGES},
    "one block": "the stages have one residual block each; two were expected",
    "three blocks": "the stages have three residual blocks each; two were expected",
    "halved conv2_x": "the first stage, conv2_x, has stride 2; the stem's max-pool has halved the size already",
    "no strides": "the stages do not halve the size: their first blocks have stride 1",
    "stride in both": "both blocks of a stage have stride 2; only the first halves the size",
    **RESIDUAL_MISTAKES,
}


def resnet18(net, x, v=None):
    x = _stem(net, x, v)
    for name, depth, width, stride in RESNET18_STAGES:
        if v == f"without {name}":
            continue
        if v == "no strides":
            stride = 1
        if v == "halved conv2_x" and name == "conv2_x":
            stride = 2
        for i in range({"one block": 1, "three blocks": 3}.get(v, depth)):
            net.place = f"{name}, block {i + 1}, "
            x = residual(net, x, x.shape[1], width, stride if i == 0 or v == "stride in both" else 1, v)
    return _head(net, x, v)


DENSENET_MISTAKES = {
    **STEM_MISTAKES,
    **HEAD_MISTAKES,
    "no transitions": "the transitions between the dense blocks are missing",
    "not halved": "the transitions do not halve the channels",
    "last transition": "a transition too many: one stands after the last dense block",
    "three dense blocks": "there are three dense blocks; four were expected",
    "no final norm": "batch norm and ReLU before the head are missing",
    "no final relu": "the ReLU after the last batch norm, before the head, is missing",
    "final relu only": "the batch norm before the head is missing",
    **{f"transition {v}": f"in the transitions, {cause}" for v, cause in TRANSITION_MISTAKES.items()},
    **{f"dense {v}": f"in the dense blocks, {cause}" for v, cause in DENSE_MISTAKES.items()},
}


def densenet(net, x, v=None):
    inside = {part: v.removeprefix(part) if v and v.startswith(part) else None for part in ("dense ", "transition ")}
    x = _stem(net, x, v)
    blocks = 3 if v == "three dense blocks" else 4
    for i in range(1, blocks + 1):
        net.place = f"dense{i}, "
        x = dense_block(net, x, 4, x.shape[1], 32, v=inside["dense "])
        if (i < blocks or v == "last transition") and v != "no transitions":
            net.place = f"transition{i}, "
            channels = x.shape[1] if v == "not halved" else x.shape[1] // 2
            x = transition(net, x, x.shape[1], channels, v=inside["transition "])
    net.place = "head, "
    if v not in ("no final norm", "final relu only"):
        x = net.norm("the batch norm", x)
    return _head(net, x if v in ("no final relu", "no final norm") else F.relu(x), v)


INCEPTIONS = [name for blocks in GOOGLENET_STAGES.values() for name in blocks]
GOOGLENET_MISTAKES = {
    **HEAD_MISTAKES,
    **{f"without {name}": f"the block {name} is missing" for name in INCEPTIONS},
    "without the 1×1": "the 1×1 convolution of the second part is missing",
    "no stem relu": "the ReLUs after the convolutions before the Inception blocks are missing",
    **{f"no pool {i}": f"the max-pool after {where} is missing"
       for i, where in enumerate(("the 7×7 convolution", "the first 3×3 convolution", "inception_3", "inception_4"))},
    "no pools": "the max-pools between the parts are missing",
    "average pools": "the pools between the parts take the average, not the maximum",
    "last pool": "a max-pool too many: one stands after inception_5",
    **{f"block {v}": f"in the Inception blocks, {cause}" for v, cause in INCEPTION_MISTAKES.items()},
}  # fmt: skip


def googlenet(net, x, v=None):
    inside = v.removeprefix("block ") if v and v.startswith("block ") else None

    def conv(role, x, channels, kernel, stride=1):
        y = net.norm_if_any("a batch norm", net.conv(role, x, channels, kernel, stride))
        return y if v == "no stem relu" else F.relu(y)

    def halve(x, i):
        if v in (f"no pool {i}", "no pools"):
            return x
        return net.pool("avg" if v == "average pools" else "max", "the max-pool", x, 3, 2, 1)

    net.place = "part 1, "
    x = halve(conv("the 7×7 convolution", x, 64, 7, 2), 0)
    net.place = "part 2, "
    if v != "without the 1×1":
        x = conv("the 1×1 convolution", x, 64, 1)
    x = halve(conv("the 3×3 convolution", x, 192, 3), 1)
    for i, blocks in enumerate(GOOGLENET_STAGES.values(), 2):
        for name, widths in blocks.items():
            net.place = f"{name}, "
            if v != f"without {name}":
                x = inception(net, x, x.shape[1], *widths, v=inside)
        if i < 4 or v == "last pool":
            x = halve(x, i)
    return _head(net, x, v)
