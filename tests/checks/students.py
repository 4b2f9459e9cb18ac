"""What students write: right blocks in unlike styles, and sources in which mistakes are made by replacing text."""

import linecache
import math

import torch
from torch import nn
from torch.nn import functional as F


def written(source, *replacements, **more):
    """The function net of a source, or else its Block, each (old, new) replaced; tracebacks show its lines."""
    for old, new in replacements:
        assert old in source, f"{old!r} is not in the source"
        source = source.replace(old, new)
    file = f"<student {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space = {"torch": torch, "nn": nn, "F": F, "__name__": "student"} | more
    exec(compile(source, file, "exec"), space)
    return space.get("net") or space["Block"]


RESIDUAL = """
class Block(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=1, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv3 = None
        if in_channels != out_channels or stride != 1:
            self.conv3 = nn.Conv2d(in_channels, out_channels, 1, stride=stride)

    def forward(self, x):
        y = self.conv1(x)
        y = self.bn1(y)
        y = F.relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        s = x if self.conv3 is None else self.conv3(x)
        y = y + s
        return F.relu(y)
"""
NORM_ON_SHORTCUT = (  # as in the paper
    "self.conv3 = nn.Conv2d(in_channels, out_channels, 1, stride=stride)",
    "self.conv3 = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))",
)
END = "        y = y + s\n        return F.relu(y)"
RESIDUAL_MISTAKES = {  # name: (replacements, a phrase of the cause)
    "relu before addition": ([(END, "        return F.relu(y) + s")], "ReLU stands before the addition"),
    "relu twice": ([("y + s", "F.relu(y) + s")], "before the addition as well as after it"),
    "no last relu": ([("return F.relu(y)", "return y")], "the last ReLU, after the addition, is missing"),
    "no relu between": ([("        y = F.relu(y)\n", "")], "the ReLU after the first batch norm is missing"),
    "no addition": ([("        y = y + s\n", "")], "the shortcut is never added"),
    "no addition, no shortcut": (
        [("        y = y + s\n", ""), ("x if self.conv3 is None else self.conv3(x)", "x")],
        "the shortcut is never added",
    ),
    "nothing joined": ([(END, "        return y")], "never added, and the last ReLU is missing"),
    "subtraction": ([("y + s", "y - s")], "subtracted instead of added"),
    "subtraction, turned": ([("y + s", "s - y")], "branch is subtracted"),
    "product": ([("y + s", "y * s")], "multiplied"),
    "concatenation": ([("y + s", "torch.cat([y, s], 1)")], "concatenated instead of added"),
    "mean": ([("y + s", "(y + s) / 2")], "divided by 2"),
    "x overwritten": ([("y = ", "x = "), ("(y)", "(x)"), ("x = y + s", "x = x + s")], "x was overwritten"),
    "relu on shortcut": ([("y + s", "y + F.relu(s)")], "a ReLU stands on the shortcut"),
    "shortcut too late": (
        [("        y = F.relu(y)\n", "        y = x = F.relu(y)\n")],
        "after the first convolution, not at the input",
    ),
    "addition before norm": (
        [("        y = self.bn2(y)\n", ""), ("y + s", "self.bn2(y + s)")],
        "the addition stands before the last batch norm",
    ),
    "no norm 1": ([("        y = self.bn1(y)\n", "")], "the first batch norm is missing"),
    "no norm 2": (
        [("        y = self.bn2(y)\n", ""), ("        self.bn2 = nn.BatchNorm2d(out_channels)\n", "")],
        "the second batch norm is missing",
    ),
    "no norm": ([("        y = self.bn1(y)\n", ""), ("        y = self.bn2(y)\n", "")], "batch norm is missing"),
    "relu before norm": (
        [("        y = self.bn1(y)\n        y = F.relu(y)\n", "        y = self.bn1(F.relu(y))\n")],
        "the ReLU stands before the batch norm",
    ),
    "pre-activation": (
        [
            (
                "y = self.conv1(x)\n        y = self.bn1(y)\n        y = F.relu(y)\n        y = self.conv2(y)\n"
                "        y = self.bn2(y)",
                "y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))",
            ),
            ("return F.relu(y)", "return y"),
            ("self.bn1 = nn.BatchNorm2d(out_channels)", "self.bn1 = nn.BatchNorm2d(in_channels)"),
        ],
        "pre-activation",
    ),
    "shared norm": ([("self.bn2(y)", "self.bn1(y)")], "is shared"),
    "shared convolution": ([("self.conv2(y)", "self.conv1(y)")], "is shared"),
    "shortcut keeps stride 1": ([("out_channels, 1, stride=stride", "out_channels, 1")], "the shortcut keeps stride 1"),
    "branch keeps stride 1": ([("3, stride=stride", "3, stride=1")], "the branch keeps stride 1"),
    "stride on the second": (
        [("3, stride=stride", "3"), ("3, stride=1", "3, stride=stride")],
        "stride is on the second",
    ),
    "stride twice": ([("3, stride=1", "3, stride=stride")], "every convolution of the branch has the stride"),
    "stride ignored": ([("stride=stride", "stride=1")], "the stride is ignored"),
    "no padding": ([("stride=stride, padding=1", "stride=stride")], "the first 3×3 convolution has padding 0"),
    "no projection": (
        [("if in_channels != out_channels or stride != 1", "if False")],
        "shortcut's 1×1 convolution had not",
    ),
    "projection by channels only": ([(" or stride != 1", "")], "shortcut's 1×1 convolution had not"),
    "projection by stride only": ([("in_channels != out_channels or ", "")], "shortcut's 1×1 convolution had not"),
    "always projected": (
        [("if in_channels != out_channels or stride != 1", "if True")],
        "even where the shape stays the same",
    ),
    "projection unused": (
        [
            ("if in_channels != out_channels or stride != 1", "if True"),
            ("if self.conv3 is None", "if x.shape == y.shape"),
        ],
        "has no effect on the output",
    ),
    "3x3 shortcut": (
        [("out_channels, 1, stride=stride", "out_channels, 3, stride, 1")],
        "3×3 convolution from 4 to 6 channels came",
    ),
    "pooled shortcut": (
        [
            ("out_channels, 1, stride=stride", "out_channels, 1"),
            ("self.conv3(x)", "self.conv3(F.avg_pool2d(x, self.conv1.stride, ceil_mode=True))"),
        ],
        "the shortcut is pooled",
    ),
    "1x1 kernel": ([("3, stride=1, padding=1", "1")], "should be a 3×3 convolution"),
    "5x5 kernel": ([("3, stride=1, padding=1", "5, padding=2")], "should be a 3×3 convolution"),
    "one convolution": (
        [("        y = F.relu(y)\n        y = self.conv2(y)\n        y = self.bn2(y)\n", "")],
        "is missing",
    ),
    "three convolutions": (
        [
            ("self.conv2 = ", "self.more = nn.Conv2d(out_channels, out_channels, 3, padding=1)\n        self.conv2 = "),
            ("self.conv2(y)", "self.conv2(self.more(y))"),
        ],
        "too many",
    ),
    "wrong norm width": (
        [("self.bn1 = nn.BatchNorm2d(out_channels)", "self.bn1 = nn.BatchNorm2d(in_channels)")],
        "batch norm was made for another number of channels",
    ),
    "instance norm": ([("BatchNorm2d", "InstanceNorm2d")], "instance norm"),
    "group norm": ([("nn.BatchNorm2d(", "nn.GroupNorm(1, ")], "group norm"),
    "leaky relu": ([("F.relu", "F.leaky_relu")], "leaky_relu in place of ReLU"),
    "gelu": ([("F.relu", "F.gelu")], "gelu in place of ReLU"),
    "dropout": ([("y + s", "F.dropout(y, 0.5, self.training) + s")], "dropout"),
    "dropout in evaluation": ([("y + s", "F.dropout(y, 1e-3) + s")], "dropout"),
    "input in place": ([("y = self.conv1(x)", "y = self.conv1(x.mul_(1.5))")], "input is changed in place"),
    "input in place, relu": ([("y = self.conv1(x)", "y = self.conv1(F.relu_(x))")], "input is changed in place"),
    "in place, backward": (
        [("y = y + s\n        return F.relu(y)", "y = F.relu(y + s)\n        y *= 1\n        return y")],
        "backward pass still needs",
    ),
    "detached": ([("y + s", "y + s.detach()")], "cut off"),
    "no_grad": ([("    def forward", "    @torch.no_grad()\n    def forward")], "cut off"),
    "batch statistics always": (
        [
            (
                "self.bn1(y)",
                "F.batch_norm(y, self.bn1.running_mean, self.bn1.running_var, self.bn1.weight, self.bn1.bias, True)",
            )
        ],
        "batch's statistics in evaluation mode",
    ),
    "running statistics always": (
        [
            (
                "self.bn1(y)",
                "F.batch_norm(y, self.bn1.running_mean, self.bn1.running_var, self.bn1.weight, self.bn1.bias, False)",
            )
        ],
        "running statistics in training mode",
    ),
    "no running statistics": (
        [("BatchNorm2d(out_channels)", "BatchNorm2d(out_channels, track_running_stats=False)")],
        "track_running_stats=False",
    ),
    "no scale": ([("BatchNorm2d(out_channels)", "BatchNorm2d(out_channels, affine=False)")], "affine=False"),
    "copied statistics": (
        [
            (
                "self.bn1(y)",
                "F.batch_norm(y, self.bn1.running_mean.clone(), self.bn1.running_var.clone(), "
                "self.bn1.weight, self.bn1.bias, self.training)",
            )
        ],
        "batch norm",
    ),
    "plain list": (
        [
            ("self.conv1 = ", "self.convs = ["),
            ("stride=stride, padding=1)", "stride=stride, padding=1)]"),
            ("self.conv1(x)", "self.convs[0](x)"),
        ],
        "plain list",
    ),
    "made in forward": ([("self.conv2(y)", "nn.Conv2d(y.shape[1], y.shape[1], 3, padding=1)(y)")], "made anew"),
    "frozen": (
        [
            (
                "        self.conv3 = None\n",
                "        self.conv3 = None\n        self.conv1.weight.requires_grad = False\n",
            )
        ],
        "requires_grad=False",
    ),
    "remembers": (
        [
            (
                "return F.relu(y)",
                "if not self.training:\n            y = y + getattr(self, 'last', 0)\n"
                "            self.last = y.mean()\n        return F.relu(y)",
            )
        ],
        "remembers earlier inputs",
    ),
    "average over the batch": ([("y + s", "y + s.mean(0, keepdim=True)")], "not found"),
    "returns nothing": ([("        return F.relu(y)", "        F.relu(y)")], "forward has no return"),
    "returns a tuple": ([("return F.relu(y)", "return F.relu(y), s")], "a tensor was expected; tuple came"),
    "returns an array": (
        [("return F.relu(y)", "return F.relu(y).detach().numpy()")],
        "a tensor was expected; ndarray came",
    ),
    "double": ([("return F.relu(y)", "return F.relu(y).double()")], "torch.float64 came"),
    "complex": ([("return F.relu(y)", "return F.relu(y) + 0j")], "torch.complex64 came"),
    "nan": ([("return F.relu(y)", "return F.relu(y) / 0")], "finite numbers were expected"),
    "forward misspelled": ([("def forward", "def foward")], "no method forward"),
    "no super": ([("        super().__init__()\n", "")], "super().__init__() is not called"),
    "attribute misspelled": ([("self.bn2(y)", "self.bm2(y)")], "name is used that the constructor never sets"),
    "undefined name": ([("y + s", "y + shortcut")], "name that is not defined"),
    "no module": ([("(nn.Module)", "")], "derived from nn.Module"),
    "not written": ([("        y = self.conv1(x)\n", "        raise NotImplementedError\n")], "to be written"),
    "no stride argument": (
        [("out_channels, stride=1", "out_channels"), ("stride=stride", "stride=1"), (" or stride != 1", "")],
        "an argument is missing",
    ),
    "too many arguments": ([("out_channels, stride=1", "out_channels, stride, groups")], "yours are (in_channels"),
}

BOTTLENECK = """
class Block(nn.Module):
    def __init__(self, in_channels, filters, stride=None):
        super().__init__()
        f1, f2, f3 = filters
        s = stride or 1
        self.conv1 = nn.Conv2d(in_channels, f1, 1, stride=s)
        self.bn1 = nn.BatchNorm2d(f1)
        self.conv2 = nn.Conv2d(f1, f2, 3, stride=1, padding=1)
        self.bn2 = nn.BatchNorm2d(f2)
        self.conv3 = nn.Conv2d(f2, f3, 1)
        self.bn3 = nn.BatchNorm2d(f3)
        self.side = nn.Sequential()
        if stride is not None:
            self.side = nn.Sequential(nn.Conv2d(in_channels, f3, 1, stride=s), nn.BatchNorm2d(f3))

    def forward(self, x):
        y = self.conv1(x)
        y = self.bn1(y)
        y = F.relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = F.relu(y)
        y = self.conv3(y)
        y = self.bn3(y)
        y = y + self.side(x)
        return F.relu(y)
"""
BOTTLENECK_MISTAKES = {
    "relu before addition": (
        [("y = y + self.side(x)\n        return F.relu(y)", "return F.relu(y) + self.side(x)")],
        "ReLU stands before the addition",
    ),
    "relu twice": ([("y = y + ", "y = F.relu(y) + ")], "before the addition as well as after it"),
    "no last relu": ([("return F.relu(y)", "return y")], "the last ReLU"),
    "no relu 1": (
        [("self.bn1(y)\n        y = F.relu(y)", "self.bn1(y)")],
        "the ReLU after the first batch norm is missing",
    ),
    "no relu 2": (
        [("self.bn2(y)\n        y = F.relu(y)", "self.bn2(y)")],
        "the ReLU after the second batch norm is missing",
    ),
    "no relu": ([("        y = F.relu(y)\n", "")], "ReLUs inside the branch"),
    "no addition": ([("        y = y + self.side(x)\n", "")], "the shortcut is never added"),
    "subtraction": ([("y + self", "y - self")], "subtracted"),
    "x overwritten": ([("y = self.conv1(x)", "x = y = self.conv1(x)"), ("self.side(x)", "y")], "x was overwritten"),
    "stride on the third": (
        [("f1, 1, stride=s", "f1, 1"), ("f2, f3, 1)", "f2, f3, 1, stride=s)")],
        "stride is on the third",
    ),
    "stride everywhere": ([("stride=1", "stride=s"), ("f2, f3, 1)", "f2, f3, 1, stride=s)")], "every convolution"),
    "stride ignored": ([("stride=s", "stride=1")], "the stride is ignored"),
    "shortcut keeps stride 1": (
        [("in_channels, f3, 1, stride=s", "in_channels, f3, 1")],
        "the shortcut keeps stride 1",
    ),
    "branch keeps stride 1": ([("f1, 1, stride=s", "f1, 1")], "the branch keeps stride 1"),
    "no norm 1": ([("        y = self.bn1(y)\n", "")], "the first batch norm is missing"),
    "no norm 2": ([("        y = self.bn2(y)\n", "")], "the second batch norm is missing"),
    "no norm 3": ([("        y = self.bn3(y)\n", "")], "the third batch norm is missing"),
    "no shortcut norm": ([(", nn.BatchNorm2d(f3))", ")")], "the batch norm after the shortcut's"),
    "norm on the sum": (
        [("self.bn3(y)\n        y = y + self.side(x)", "y + self.side(x)\n        y = self.bn3(y)")],
        "the addition stands before the last batch norm",
    ),
    "middle 1x1": ([("3, stride=1, padding=1", "1")], "should be a 3×3 convolution"),
    "first 3x3": ([("f1, 1, stride=s", "f1, 3, stride=s, padding=1")], "should be a 1×1 convolution"),
    "not reduced": (
        [
            ("in_channels, f1, 1", "in_channels, f2, 1"),
            ("nn.BatchNorm2d(f1)", "nn.BatchNorm2d(f2)"),
            ("(f1, f2, 3", "(f2, f2, 3"),
        ],
        "from 8 to 4 channels",
    ),
    "no padding": ([("stride=1, padding=1", "stride=1")], "has padding 0"),
    "relu before norm": (
        [
            ("y = self.bn1(y)\n        y = F.relu(y)", "y = self.bn1(F.relu(y))"),
            ("y = self.bn2(y)\n        y = F.relu(y)", "y = self.bn2(F.relu(y))"),
        ],
        "the ReLU stands before the batch norm",
    ),
    "always projected": ([("if stride is not None", "if True")], "even where the shape stays the same"),
    "never projected": ([("if stride is not None", "if False")], "shortcut's 1×1 convolution had not"),
    "shared norm": ([("nn.BatchNorm2d(f3))", "self.bn3)")], "is shared"),
}

DENSE = """
class Block(nn.Module):
    def __init__(self, num_convs, in_channels, growth_rate):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(num_convs):
            width = in_channels + i * growth_rate
            self.layers.append(nn.Sequential(
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, growth_rate, 3, padding=1),
            ))

    def forward(self, x):
        for layer in self.layers:
            y = layer(x)
            x = torch.cat([x, y], dim=1)
        return x
"""
LAYER = """                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, growth_rate, 3, padding=1),
"""
AFTER = "width, growth_rate, 3, padding=1), nn.BatchNorm2d(growth_rate), nn.ReLU(),\n"
DENSE_MISTAKES = {
    "new first": ([("[x, y]", "[y, x]")], "after the new maps, not before"),
    "sum": (
        [
            ("width = in_channels + i * growth_rate", "width = in_channels"),
            ("width, growth_rate", "width, width"),
            ("torch.cat([x, y], dim=1)", "x + y"),
        ],
        "from 5 to 4 channels",
    ),
    "last only": ([("return x", "return y")], "only the last layer's new maps"),
    "last not joined": (
        [
            (
                "            y = layer(x)\n            x = torch.cat([x, y], dim=1)\n",
                "            out, x = x, torch.cat([x, layer(x)], dim=1)\n",
            ),
            ("return x", "return out"),
        ],
        "the last layer's new maps are missing",
    ),
    "input dropped": ([("return x", "return x[:, self.layers[0][0].num_features:]")], "the block's input is missing"),
    "latest only": (
        [
            ("width = in_channels + i * growth_rate", "width = growth_rate if i else in_channels"),
            ("torch.cat([x, y], dim=1)\n        return x", "y\n        return x"),
        ],
        "only the maps of the layer before it",
    ),
    "latest, all joined": (
        [
            ("width = in_channels + i * growth_rate", "width = growth_rate if i else in_channels"),
            ("        for layer", "        maps = [x]\n        for layer"),
            ("layer(x)", "layer(maps[-1])"),
            ("x = torch.cat([x, y], dim=1)\n        return x", "maps.append(y)\n        return torch.cat(maps, 1)"),
        ],
        "only the maps of the layer before it",
    ),
    "input only": (
        [
            ("width = in_channels + i * growth_rate", "width = in_channels"),
            ("        for layer", "        z = x\n        for layer"),
            ("layer(x)", "layer(z)"),
        ],
        "only the block's input",
    ),
    "rows": ([("dim=1", "dim=2")], "along"),
    "batch": ([("dim=1", "dim=0")], "along"),
    "no relu": ([("                nn.ReLU(),\n", "")], "the ReLU between batch norm and convolution is missing"),
    "no norm": ([("                nn.BatchNorm2d(width),\n", "")], "batch norm is missing"),
    "only convolution": (
        [("                nn.BatchNorm2d(width),\n                nn.ReLU(),\n", "")],
        "batch norm and ReLU are missing",
    ),
    "relu before norm": (
        [("nn.BatchNorm2d(width),\n                nn.ReLU()", "nn.ReLU(), nn.BatchNorm2d(width)")],
        "the ReLU stands before the batch norm",
    ),
    "convolution first": ([(LAYER, "nn.Conv2d(" + AFTER)], "stand after the convolution, not before"),
    "relu at the end": (
        [("nn.ReLU(),\n", ""), ("padding=1),", "padding=1), nn.ReLU(),")],
        "the ReLU stands after the convolution",
    ),
    "relu too many": ([("padding=1),", "padding=1), nn.ReLU(),")], "a ReLU too many"),
    "no padding": ([(", padding=1", "")], "padding 0"),
    "1x1": ([("3, padding=1", "1")], "should be a 3×3 convolution"),
    "one too few": ([("range(num_convs)", "range(num_convs - 1)")], "is missing"),
    "one too many": ([("range(num_convs)", "range(num_convs + 1)")], "too many"),
    "widths not growing": ([("in_channels + i * growth_rate", "in_channels")], "another number of channels"),
    "all grow to the end": ([("width, growth_rate, 3", "width, in_channels, 3")], "from 5 to 4 channels"),
    "plain list": ([("nn.ModuleList()", "[]")], "plain list"),
    "dropout": ([("padding=1),", "padding=1), nn.Dropout(0.2),")], "dropout"),
    "in place": ([("y = layer(x)", "y = layer(x); x += 1")], "input is changed in place"),
    "nothing joined in": ([("x = torch.cat([x, y], dim=1)", "torch.cat([x, y], dim=1)")], "another number of channels"),
}

TRANSITION = """
def Block(in_channels, out_channels):
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1),
        nn.AvgPool2d(2, 2),
    )
"""
BN = "        nn.BatchNorm2d(in_channels),\n"
RELU = "        nn.ReLU(),\n"
CONV = "        nn.Conv2d(in_channels, out_channels, 1),\n"
POOL = "        nn.AvgPool2d(2, 2),\n"
OUT_BN = "nn.BatchNorm2d(out_channels), "
TRANSITION_MISTAKES = {
    "no pool": ([(POOL, "")], "the average-pool is missing"),
    "max": ([("AvgPool2d", "MaxPool2d")], "the maximum, not the average"),
    "stride": ([(POOL, ""), ("channels, 1)", "channels, 1, stride=2)")], "in place of the average-pool"),
    "stride and pool": ([("channels, 1)", "channels, 1, stride=2)")], "has stride 2"),
    "no relu": ([(RELU, "")], "the ReLU between batch norm and convolution is missing"),
    "no norm": ([(BN, "")], "batch norm is missing"),
    "only convolution": ([(BN + RELU, "")], "batch norm and ReLU are missing"),
    "relu before norm": ([(BN + RELU, RELU + BN)], "the ReLU stands before the batch norm"),
    "convolution first": ([(BN + RELU + CONV, CONV + OUT_BN + RELU)], "stand after the convolution, not before"),
    "relu after": ([(RELU + CONV, CONV + RELU)], "the ReLU stands after the convolution"),
    "relu at the end": ([(POOL, POOL + RELU)], "a ReLU too many"),
    "no convolution": ([(CONV, "")], "the 1×1 convolution is missing"),
    "3x3": ([("channels, 1)", "channels, 3, padding=1)")], "should be a 1×1 convolution"),
    "channels kept": ([("in_channels, out_channels, 1", "in_channels, in_channels, 1")], "from 6 to 3 channels"),
    "halved by itself": ([("out_channels, 1", "in_channels // 2, 1")], "from 4 to 5 channels"),
    "window 3": ([("(2, 2)", "(3, 2, padding=1)")], "window is 3×3"),
    "stride 1": ([("(2, 2)", "(2, 1)")], "stride 1, so the size is not halved"),
    "ceil": ([("(2, 2)", "(2, 2, ceil_mode=True)")], "rounds the size up"),
    "global": ([("AvgPool2d(2, 2)", "AdaptiveAvgPool2d(1)")], "whole map"),
    "4": ([("(2, 2)", "(4, 4)")], "by 4, not by 2"),
    "pool first": ([(BN + RELU + CONV + POOL, POOL + BN + RELU + CONV)], "the pool stands before the batch norm"),
    "no return": ([("return ", "")], "the function has no return"),
    "sigmoid": ([("nn.ReLU()", "nn.Sigmoid()")], "sigmoid in place of ReLU"),
}

INCEPTION = """
class Block(nn.Module):
    def __init__(self, in_channels, c1, c2, c3, c4):
        super().__init__()
        self.a1 = nn.Conv2d(in_channels, c1, 1)
        self.b1 = nn.Conv2d(in_channels, c2[0], 1)
        self.b2 = nn.Conv2d(c2[0], c2[1], 3, padding=1)
        self.c1 = nn.Conv2d(in_channels, c3[0], 1)
        self.c2 = nn.Conv2d(c3[0], c3[1], 5, padding=2)
        self.d1 = nn.MaxPool2d(3, stride=1, padding=1)
        self.d2 = nn.Conv2d(in_channels, c4, 1)

    def forward(self, x):
        a = F.relu(self.a1(x))
        b = F.relu(self.b2(F.relu(self.b1(x))))
        c = F.relu(self.c2(F.relu(self.c1(x))))
        d = F.relu(self.d2(self.d1(x)))
        return torch.cat([a, b, c, d], dim=1)
"""
INCEPTION_MISTAKES = {
    "no relu": ([("F.relu", "")], "the ReLUs after the convolutions are missing"),
    "no relu inside": (
        [("F.relu(self.b1(x))", "self.b1(x)"), ("F.relu(self.c1(x))", "self.c1(x)")],
        "after the 1×1 reductions",
    ),
    "no relu last": ([("= F.relu", "= ")], "the ReLU after the last convolution of each path"),
    "no relu 1": ([("F.relu(self.a1(x))", "self.a1(x)")], "missing on path 1"),
    "no relu 4": ([("d = F.relu", "d = ")], "missing on path 4"),
    "no relu inside 3": ([("F.relu(self.c1(x))", "self.c1(x)")], "reduction of path 3"),
    "average": ([("nn.MaxPool2d", "nn.AvgPool2d")], "by average, not by maximum"),
    "no pool": ([("self.d1(x)", "x")], "the max-pool of path 4 is missing"),
    "pool last": ([("F.relu(self.d2(self.d1(x)))", "self.d1(F.relu(self.d2(x)))")], "before the max-pool"),
    "pool stride": ([("stride=1", "stride=2")], "max-pool of path 4 has stride 2"),
    "pool default stride": ([(", stride=1", "")], "max-pool of path 4 has stride 3"),
    "pool padding": ([(", stride=1, padding=1", ", stride=1")], "max-pool of path 4 has padding 0"),
    "no projection": (
        [("F.relu(self.d2(self.d1(x)))", "self.d1(x)"), ("        self.d2 = nn.Conv2d(in_channels, c4, 1)\n", "")],
        "the 1×1 convolution after the max-pool",
    ),
    "order": ([("[a, b, c, d]", "[a, c, b, d]")], "in another order"),
    "order, pool first": ([("[a, b, c, d]", "[d, a, b, c]")], "in another order"),
    "missing path": ([("[a, b, c, d]", "[a, b, c]")], "path 4 (pool) is missing"),
    "rows": ([("dim=1", "dim=2")], "joined along"),
    "batch": ([("dim=1", "dim=0")], "joined along"),
    "3x3 for 5x5": ([("5, padding=2", "3, padding=1")], "should be a 5×5 convolution"),
    "5x5 padding": ([("padding=2", "padding=1")], "5×5 convolution of path 3 (5×5) has padding 1"),
    "3x3 padding": (
        [("3, padding=1)\n        self.c1", "3)\n        self.c1")],
        "3×3 convolution of path 2 (3×3) has padding 0",
    ),
    "no reduction": (
        [
            ("F.relu(self.b1(x))", "x"),
            ("c2[0], c2[1], 3", "in_channels, c2[1], 3"),
            ("        self.b1 = nn.Conv2d(in_channels, c2[0], 1)\n", ""),
        ],
        "1×1 reduction of path 2",
    ),
    "chained": ([("self.b1(x)", "self.b1(a)"), ("in_channels, c2[0]", "c1, c2[0]")], "1×1 reduction of path 2"),
    "widths swapped": ([("c2[0], 1", "c2[1], 1"), ("c2[0], c2[1], 3", "c2[1], c2[0], 3")], "path 2"),
    "sum": ([("torch.cat([a, b, c, d], dim=1)", "a + b + c + d")], "differ in shape"),
    "plain list": (
        [
            ("self.a1 = nn.Conv2d(in_channels, c1, 1)", "self.a1 = [nn.Conv2d(in_channels, c1, 1)]"),
            ("self.a1(x)", "self.a1[0](x)"),
        ],
        "plain list",
    ),
    "sigmoid": ([("F.relu", "torch.sigmoid")], "sigmoid in place of ReLU"),
    "relu on input of path 4 only": (
        [("F.relu(self.d2(self.d1(x)))", "self.d2(F.relu(self.d1(x)))")],
        "it stands before it",
    ),
    "list returned": ([("torch.cat([a, b, c, d], dim=1)", "[a, b, c, d]")], "a tensor was expected; list came"),
}

RESNET18 = (
    RESIDUAL
    + """
def stage(i, o, stride):
    return nn.Sequential(Block(i, o, stride), Block(o, o))

def net():
    return nn.Sequential(
        nn.Conv2d(1, 64, 7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        stage(64, 64, 1),
        stage(64, 128, 2),
        stage(128, 256, 2),
        stage(256, 512, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
"""
)
STEM_MISTAKES = {
    "no max-pool": ([("        nn.MaxPool2d(3, stride=2, padding=1),\n", "")], "the max-pool of the stem is missing"),
    "average": ([("nn.MaxPool2d", "nn.AvgPool2d")], "the stem pools by average"),
    "pool 2": ([("nn.MaxPool2d(3, stride=2, padding=1)", "nn.MaxPool2d(2)")], "has a 2×2 window"),
    "pool unpadded": ([("nn.MaxPool2d(3, stride=2, padding=1)", "nn.MaxPool2d(3, 2)")], "max-pool has no padding"),
    "no stem norm": (
        [("        nn.BatchNorm2d(64),\n        nn.ReLU(),\n", "        nn.ReLU(),\n")],
        "the batch norm of the stem",
    ),
    "no stem relu": ([("        nn.ReLU(),\n        nn.Max", "        nn.Max")], "the ReLU of the stem is missing"),
    "stem relu first": (
        [("        nn.BatchNorm2d(64),\n        nn.ReLU(),\n", "        nn.ReLU(),\n        nn.BatchNorm2d(64),\n")],
        "in the stem the ReLU stands before",
    ),
    "3x3 stem": ([("7, stride=2, padding=3", "3, stride=2, padding=1")], "stem, the 7×7 convolution"),
    "stem stride": ([("7, stride=2", "7, stride=1")], "stem, the 7×7 convolution has stride 1"),
    "three channels": ([("Conv2d(1, 64", "Conv2d(3, 64")], "from 1 to 64 channels"),
}
HEAD_MISTAKES = {
    "softmax": ([("512, 10),", "512, 10), nn.Softmax(dim=1),")], "a softmax stands at the end"),
    "log-softmax": ([("512, 10),", "512, 10), nn.LogSoftmax(dim=1),")], "a log-softmax stands at the end"),
    "sigmoid": ([("512, 10),", "512, 10), nn.Sigmoid(),")], "a sigmoid stands at the end"),
    "relu": ([("512, 10),", "512, 10), nn.ReLU(),")], "a ReLU stands at the end"),
    "max head": ([("nn.AdaptiveAvgPool2d(1)", "nn.AdaptiveMaxPool2d(1)")], "the maximum over the map"),
    "no pooling": (
        [("        nn.AdaptiveAvgPool2d(1),\n", "")],
        "linear layer was made for other features",
    ),
    "pooling of one size": ([("nn.AdaptiveAvgPool2d(1)", "nn.AvgPool2d(2)")], "fixed size"),
    "classes": ([("512, 10", "512, 100")], "from 512 to 10 features; a linear layer from 512 to 100 features came"),
    "two linear layers": ([("512, 10),", "512, 512), nn.Linear(512, 10),")], "too many"),
    "dropout": ([("        nn.Flatten(),", "        nn.Flatten(), nn.Dropout(0.4),")], "dropout"),
    "batch squeezed": (
        [("        nn.Flatten(),\n", "        type('S', (nn.Module,), {'forward': lambda self, x: x.squeeze()})(),\n")],
        "squeeze() has removed the batch",
    ),
}
RESNET18_MISTAKES = {
    **STEM_MISTAKES,
    **HEAD_MISTAKES,
    "no strides": (
        [("128, 2)", "128, 1)"), ("256, 2)", "256, 1)"), ("512, 2)", "512, 1)")],
        "the stages do not halve the size",
    ),
    "first stage halves": ([("64, 64, 1", "64, 64, 2")], "the first stage, conv2_x, has stride 2"),
    "both blocks halve": ([("Block(o, o)", "Block(o, o, stride)")], "both blocks of a stage have stride 2"),
    "missing stage": ([("        stage(256, 512, 2),\n", ""), ("512, 10", "256, 10")], "conv5_x is missing"),
    "missing stage inside": ([("        stage(128, 256, 2),\n", ""), ("256, 512", "128, 512")], "conv4_x is missing"),
    "one block": ([(", Block(o, o)", "")], "one residual block each"),
    "three blocks": ([("Block(o, o)", "Block(o, o), Block(o, o)")], "three residual blocks each"),
    "half the width": (
        [("64", "32"), ("128", "64"), ("256", "128"), ("512", "256")],
        "stem, the 7×7 convolution should be",
    ),
    "one width": (
        [("256, 512, 2", "256, 256, 2"), ("512, 10", "256, 10")],
        "conv5_x, block 1, the first 3×3 convolution should be",
    ),
    "one stage without stride": ([("128, 256, 2", "128, 256, 1")], "conv4_x, block 1"),
    "plain": (
        [("        y = y + s\n", ""), ("if in_channels != out_channels or stride != 1", "if False")],
        "the shortcut is never added",
    ),
    "block without last relu": (
        [("        return F.relu(y)\n", "        return y\n")],
        "the last ReLU, after the addition",
    ),
    "block, relu before": ([(END, "        return F.relu(y) + s")], "the ReLU stands before the addition"),
    "block, no norm": ([("        y = self.bn1(y)\n", "")], "the first batch norm is missing"),
    "not built": ([("    return nn.Sequential(\n", "    nn.Sequential(\n")], "the function has no return"),
}

DENSENET = (
    DENSE
    + """
def transition(i, o):
    return nn.Sequential(nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, o, 1), nn.AvgPool2d(2))

def net():
    layers = [
        nn.Conv2d(1, 64, 7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    width = 64
    for i in range(4):
        layers.append(Block(4, width, 32))
        width += 4 * 32
        if i < 3:
            layers.append(transition(width, width // 2))
            width //= 2
    return nn.Sequential(*layers,
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )
"""
)
POOL_BEFORE_CONVOLUTION = ("nn.Conv2d(i, o, 1), nn.AvgPool2d(2)", "nn.AvgPool2d(2), nn.Conv2d(i, o, 1)")
DENSENET_MISTAKES = {
    **{name: mistake for name, mistake in STEM_MISTAKES.items() if name != "no stem relu"},
    **{
        name: (
            [(old.replace("512", "width"), new.replace("512", "width")) for old, new in edits],
            cause.replace("512", "248"),
        )
        for name, (edits, cause) in HEAD_MISTAKES.items()
    },
    "no transitions": (
        [
            (
                "            layers.append(transition(width, width // 2))\n            width //= 2\n",
                "            pass\n",
            )
        ],
        "the transitions between the dense blocks are missing",
    ),
    "not halved": (
        [("width, width // 2", "width, width"), ("            width //= 2\n", "")],
        "do not halve the channels",
    ),
    "last transition": ([("i < 3", "i < 4")], "one stands after the last dense block"),
    "three blocks": ([("range(4)", "range(3)"), ("i < 3", "i < 2")], "there are three dense blocks"),
    "no final norm": (
        [("        nn.BatchNorm2d(width),\n        nn.ReLU(),\n        nn.Ada", "        nn.Ada")],
        "batch norm and ReLU before the head",
    ),
    "no final relu": (
        [("        nn.ReLU(),\n        nn.Ada", "        nn.Ada")],
        "the ReLU after the last batch norm, before the head",
    ),
    "growth rate": (
        [("width, 32", "width, 16"), ("4 * 32", "4 * 16")],
        "dense1, the 3×3 convolution of layer 1 should be",
    ),
    "new first": ([("[x, y]", "[y, x]")], "in the dense blocks, the input is concatenated after"),
    "no pool in the transition": ([(", nn.AvgPool2d(2)", "")], "in the transitions, the average-pool is missing"),
    "max in the transition": (
        [("nn.AvgPool2d(2)", "nn.MaxPool2d(2)")],
        "in the transitions, the pool takes the maximum",
    ),
    "block without relu": ([("                nn.ReLU(),\n", "")], "in the dense blocks, the ReLU"),
    "block, convolution first": (
        [(LAYER, "nn.Conv2d(" + AFTER)],
        "in the dense blocks, batch norm and ReLU stand after",
    ),
}

GOOGLENET = (
    INCEPTION
    + """
def net():
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(
        nn.Conv2d(1, 64, 7, stride=2, padding=3), nn.ReLU(), pool,
        nn.Conv2d(64, 64, 1), nn.ReLU(),
        nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(), pool,
        Block(192, 64, (96, 128), (16, 32), 32),
        Block(256, 128, (128, 192), (32, 96), 64),
        pool,
        Block(480, 192, (96, 208), (16, 48), 64),
        Block(512, 160, (112, 224), (24, 64), 64),
        Block(512, 128, (128, 256), (24, 64), 64),
        Block(512, 112, (144, 288), (32, 64), 64),
        Block(528, 256, (160, 320), (32, 128), 128),
        pool,
        Block(832, 256, (160, 320), (32, 128), 128),
        Block(832, 384, (192, 384), (48, 128), 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )
"""
)
GOOGLENET_MISTAKES = {
    **{
        name: (
            [(old.replace("512", "1024"), new.replace("512", "1024")) for old, new in edits],
            cause.replace("512", "1024"),
        )
        for name, (edits, cause) in HEAD_MISTAKES.items()
    },
    "missing block": ([("        Block(512, 128, (128, 256), (24, 64), 64),\n", "")], "inception_4c is missing"),
    "missing last block": (
        [("        Block(832, 384, (192, 384), (48, 128), 128),\n", ""), ("1024, 10", "832, 10")],
        "inception_5b is missing",
    ),
    "no 1x1": ([("        nn.Conv2d(64, 64, 1), nn.ReLU(),\n", "")], "the 1×1 convolution of the second part"),
    "no stem relu": ([(" nn.ReLU(),", "")], "before the Inception blocks are missing"),
    "no pool after 3": (
        [("64),\n        pool,\n        Block(480", "64),\n        Block(480")],
        "the max-pool after inception_3",
    ),
    "no pool after 4": ([("128),\n        pool,\n", "128),\n")], "the max-pool after inception_4"),
    "no first pool": ([("padding=3), nn.ReLU(), pool", "padding=3), nn.ReLU()")], "the max-pool after the 7×7"),
    "average pools": ([("pool = nn.MaxPool2d", "pool = nn.AvgPool2d")], "take the average"),
    "unpadded pools": (
        [("pool = nn.MaxPool2d(3, stride=2, padding=1)", "pool = nn.MaxPool2d(3, stride=2)")],
        "padding 0",
    ),
    "widths swapped": ([("(16, 32), 32)", "(32, 16), 32)"), ("Block(256, 128", "Block(240, 128")], "inception_3a"),
    "wrong width": ([("160, (112, 224)", "160, (128, 224)")], "inception_4b"),
    "stem stride": ([("7, stride=2", "7, stride=1")], "the 7×7 convolution has stride 1"),
    "block without relu": ([("F.relu", "")], "in the Inception blocks, the ReLUs"),
    "block, order": (
        [("[a, b, c, d]", "[a, c, b, d]")],
        "in the Inception blocks, the paths are joined in another order",
    ),
    "block, average": (
        [("self.d1 = nn.MaxPool2d", "self.d1 = nn.AvgPool2d")],
        "in the Inception blocks, path 4 pools by average",
    ),
}


# Right ones, in unlike styles


class LazyResidual(nn.Module):
    """d2l's style."""

    def __init__(self, num_channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.first = nn.LazyConv2d(num_channels, kernel_size=3, padding=1, stride=strides)
        self.second = nn.LazyConv2d(num_channels, kernel_size=3, padding=1)
        self.third = nn.LazyConv2d(num_channels, kernel_size=1, stride=strides) if use_1x1conv else None
        self.n1, self.n2 = nn.LazyBatchNorm2d(), nn.LazyBatchNorm2d()

    def forward(self, X):
        Y = F.relu(self.n1(self.first(X)))
        Y = self.n2(self.second(Y))
        if self.third:
            X = self.third(X)
        Y += X
        return F.relu(Y)


class SequentialResidual(nn.Module):
    """The paper's: no biases, batch norm on the shortcut, which is computed first."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels, eps=1e-3)
            )
        self.relu = nn.ReLU(inplace=True)
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            self.relu,
            nn.Conv2d(out_channels, out_channels, 3, padding="same", bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut(x)
        return self.relu(torch.add(shortcut, self.branch(x)))


class FunctionalResidual(nn.Module):
    """Only parameters, buffers and functions; registered in reverse."""

    def __init__(self, nin, nout, s):
        super().__init__()
        self.s = s
        for i in (2, 1):
            self.register_buffer(f"mean{i}", torch.zeros(nout))
            self.register_buffer(f"var{i}", torch.ones(nout))
            self.register_parameter(f"beta{i}", nn.Parameter(torch.zeros(nout)))
            self.register_parameter(f"gamma{i}", nn.Parameter(torch.ones(nout)))
        if nin != nout or s != 1:
            self.w3 = nn.Parameter(torch.randn(nout, nin, 1, 1))
        self.w2 = nn.Parameter(torch.randn(nout, nout, 3, 3) / 10)
        self.w1 = nn.Parameter(torch.randn(nout, nin, 3, 3) / 10)

    def norm(self, x, i):
        mean, var, gamma, beta = (getattr(self, f"{name}{i}") for name in ("mean", "var", "gamma", "beta"))
        return F.batch_norm(x, mean, var, gamma, beta, self.training, momentum=0.05)

    def forward(self, x):
        y = self.norm(F.conv2d(x, self.w1, stride=self.s, padding=1), 1)
        y = self.norm(F.conv2d(y * (y > 0), self.w2, padding=1), 2)
        y = y + (F.conv2d(x, self.w3, stride=self.s) if hasattr(self, "w3") else x)
        return y.clamp(min=0)


class EinsumResidual(nn.Module):
    """The shortcut as a product over channels of every stride-th pixel, with its own bias; padding by F.pad."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.stride = stride
        self.layers = nn.ModuleDict(
            {"a": nn.Conv2d(channels_in, channels_out, 3, stride), "b": nn.Conv2d(channels_out, channels_out, 3)}
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels_out), nn.BatchNorm2d(channels_out)])
        self.project = channels_in != channels_out or stride != 1
        if self.project:
            self.matrix = nn.Parameter(torch.randn(channels_in, channels_out))
            self.shift = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x):
        s = x
        if self.project:
            s = torch.einsum("nchw,cd->ndhw", x[:, :, :: self.stride, :: self.stride], self.matrix)
            s = s + self.shift.view(1, -1, 1, 1)
        for layer, norm in zip(self.layers.values(), self.norms):
            if layer is not self.layers["a"]:
                x = torch.maximum(x, torch.zeros(()))
            x = norm(layer(F.pad(x, (1, 1, 1, 1))))
        return torch.relu(s + x)


class ScratchNorm(nn.Module):
    """Batch norm written out, with running statistics."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("var", torch.ones(1, channels, 1, 1))

    def forward(self, x):
        mean, var = self.mean, self.var
        if self.training:
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            var = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * mean)
                self.var.mul_(0.9).add_(0.1 * var)
        return self.gamma * ((x - mean) / torch.sqrt(var + 1e-5)) + self.beta


class ChannelsLastResidual(nn.Module):
    """A linear layer as 1x1 convolution."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.body = nn.ModuleList()
        for i, c in enumerate((in_channels, out_channels)):
            self.body.append(nn.Conv2d(c, out_channels, 3, stride if i == 0 else 1, 1))
            self.body.append(nn.BatchNorm2d(out_channels))
            self.body.append(nn.ReLU() if i == 0 else nn.Identity())
        self.linear = nn.Linear(in_channels, out_channels) if stride != 1 or in_channels != out_channels else None
        self.stride = stride

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        if self.linear is not None:
            x = self.linear(x[..., :: self.stride, :: self.stride].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.relu(x + y)


RIGHT_RESIDUALS = {
    "text": written(RESIDUAL),
    "d2l's": LazyResidual,
    "sequential": SequentialResidual,
    "functional": FunctionalResidual,
    "einsum": EinsumResidual,
    "linear": ChannelsLastResidual,
    "norm from scratch": written(RESIDUAL, ("nn.BatchNorm2d", "ScratchNorm"), ScratchNorm=ScratchNorm),
    "norm on the shortcut": written(RESIDUAL, NORM_ON_SHORTCUT),
    "keywords only": written(
        RESIDUAL, ("self, in_channels, out_channels, stride=1", "self, *, stride, out_channels, in_channels")
    ),
    "other order": written(
        RESIDUAL, ("self, in_channels, out_channels, stride=1", "self, stride, out_channels, in_channels")
    ),
    "in place": written(
        RESIDUAL,
        ("y = y + s\n        return F.relu(y)", "y += s\n        return F.relu_(y)"),
        ("y = F.relu(y)", "y = F.relu(y, inplace=True)"),
    ),
    "function": lambda i, o, s: LazyResidual(o, i != o or s > 1, s),
    "any arguments": lambda *args, **kwargs: SequentialResidual(*args, **kwargs),
    "cumulative statistics": written(
        RESIDUAL, ("BatchNorm2d(out_channels)", "BatchNorm2d(out_channels, momentum=None)")
    ),
}


class TableBottleneck(nn.Module):
    """From a table, without biases, the shortcut first."""

    def __init__(self, in_channels, filters, stride=None):
        super().__init__()
        rows = zip((in_channels, *filters), filters, (1, 3, 1), (1, stride or 1, 1))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in rows)
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, filters))
        self.down = None
        if stride is not None:
            self.down = nn.Sequential(
                nn.Conv2d(in_channels, filters[2], 1, stride, bias=False), nn.BatchNorm2d(filters[2])
            )

    def forward(self, x):
        s = x if self.down is None else self.down(x)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = norm(conv(x))
            x = F.relu(x + s if i == 2 else x)
        return x


class LazyBottleneck(nn.Module):
    def __init__(self, filters, stride):
        super().__init__()
        a, b, c = filters
        self.c = c
        self.net = nn.Sequential(
            nn.LazyConv2d(a, 1, stride=stride or 1), nn.LazyBatchNorm2d(), nn.ReLU(),
            nn.LazyConv2d(b, 3, padding=1), nn.LazyBatchNorm2d(), nn.ReLU(),
            nn.LazyConv2d(c, 1), nn.LazyBatchNorm2d(),
        )  # fmt: skip
        self.skip = (
            nn.Identity() if stride is None else nn.Sequential(nn.LazyConv2d(c, 1, stride=stride), nn.LazyBatchNorm2d())
        )

    def forward(self, x):
        return (self.net(x) + self.skip(x)).relu()


RIGHT_BOTTLENECKS = {
    "text": written(BOTTLENECK),
    "v1.5": written(BOTTLENECK, ("f1, 1, stride=s", "f1, 1"), ("stride=1", "stride=s")),
    "table": TableBottleneck,
    "lazy": LazyBottleneck,
    "stride 1 by default": written(
        BOTTLENECK, ("stride=None", "stride=1"), ("stride is not None", "in_channels != f3 or stride != 1")
    ),
    "kernel size": written(
        BOTTLENECK, ("filters, stride=None", "filters, kernel_size, stride"), ("f2, 3", "f2, kernel_size")
    ),
    "norm from scratch": written(BOTTLENECK, ("nn.BatchNorm2d", "ScratchNorm"), ScratchNorm=ScratchNorm),
    "other order": written(BOTTLENECK, ("in_channels, filters, stride=None", "stride, filters, in_channels")),
    "no biases": written(
        BOTTLENECK, ("f1, 1, stride=s", "f1, 1, stride=s, bias=False"), ("f2, f3, 1", "f2, f3, 1, bias=False")
    ),
    "eps": written(BOTTLENECK, ("BatchNorm2d(f2)", "BatchNorm2d(f2, eps=1e-3)")),
}


class ListDense(nn.Module):
    """Keeps a list, and joins it each time."""

    def __init__(self, num_layers, in_channels, growth):
        super().__init__()
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        for i in range(num_layers):
            self.convs.append(nn.Conv2d(in_channels + i * growth, growth, (3, 3), padding=(1, 1), bias=False))
            self.norms.append(nn.BatchNorm2d(in_channels + i * growth))

    def forward(self, x):
        maps = [x]
        for norm, conv in zip(self.norms, self.convs):
            maps += [conv(norm(torch.cat(maps, dim=-3)).relu_())]
        return torch.hstack(maps)


class LazyDense(nn.Module):
    """d2l's style."""

    def __init__(self, num_convs, num_channels):
        super().__init__()
        self.net = nn.Sequential()
        for _ in range(num_convs):
            conv = nn.LazyConv2d(num_channels, 3, padding=1)
            self.net.append(nn.Sequential(nn.LazyBatchNorm2d(), nn.ReLU(), conv))

    def forward(self, X):
        for blk in self.net:
            Y = blk(X)
            X = torch.cat((X, Y), dim=1)
        return X


class BufferDense(nn.Module):
    """Writes into a tensor that has room for all maps."""

    def __init__(self, n, c, k):
        super().__init__()
        self.total = c + n * k
        self.c, self.k = c, k
        for i in range(n):
            setattr(self, f"norm{n - i - 1}", nn.BatchNorm2d(c + (n - i - 1) * k))
            setattr(self, f"conv{n - i - 1}", nn.Conv2d(c + (n - i - 1) * k, k, 3, 1, 1))
        self.n = n

    def forward(self, x):
        for i in range(self.n):
            new = x.new_zeros(x.shape[0], x.shape[1] + self.k, *x.shape[2:])
            new[:, : x.shape[1]] = x
            new[:, x.shape[1] :] = getattr(self, f"conv{i}")(F.relu(getattr(self, f"norm{i}")(x)))
            x = new
        return x


def dense_of_joins(num_convs, in_channels, growth_rate):
    class Join(nn.Sequential):
        def forward(self, x):
            return torch.concat([x, super().forward(x)], 1)

    return nn.Sequential(*(
        Join(nn.BatchNorm2d(c), nn.ReLU(True), nn.Conv2d(c, growth_rate, 3, padding="same"))
        for c in range(in_channels, in_channels + num_convs * growth_rate, growth_rate)
    ))  # fmt: skip


RIGHT_DENSE_BLOCKS = {
    "text": written(DENSE),
    "list": ListDense,
    "d2l's": LazyDense,
    "buffer": BufferDense,
    "sequential": dense_of_joins,
    "norm from scratch": written(DENSE, ("nn.BatchNorm2d", "ScratchNorm"), ScratchNorm=ScratchNorm),
    "the source's names": written(DENSE, ("growth_rate", "out_channels")),
    "maximum": written(DENSE, ("y = layer(x)", "y = layer[2](torch.clamp_min(layer[0](x), 0))")),
}


class SliceTransition(nn.Module):
    """Averages four slices; a product over channels in place of the convolution."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.w = nn.Parameter(torch.randn(out_channels, in_channels))
        self.b = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, x):
        x = F.relu(self.norm(x))
        x = torch.tensordot(self.w, x, dims=([1], [1])).transpose(0, 1) + self.b
        h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        x = x[:, :, :h, :w]
        return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def lazy_transition(num_channels):
    return nn.Sequential(
        nn.LazyBatchNorm2d(),
        nn.ReLU(),
        nn.LazyConv2d(num_channels, kernel_size=1),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )


RIGHT_TRANSITIONS = {
    "text": written(TRANSITION),
    "slices": SliceTransition,
    "d2l's": lazy_transition,
    "pool before convolution": written(TRANSITION, (CONV + POOL, POOL + CONV)),
    "no bias": written(TRANSITION, ("out_channels, 1", "out_channels, 1, bias=False")),
    "class": written(
        TRANSITION.replace(
            "def Block(in_channels, out_channels):\n    return nn.Sequential(",
            "class Block(nn.Sequential):\n  def __init__(self, in_channels, out_channels):\n    super().__init__(",
        )
    ),
    "in place": written(TRANSITION, ("nn.ReLU()", "nn.ReLU(inplace=True)")),
    "norm from scratch": written(TRANSITION, ("nn.BatchNorm2d", "ScratchNorm"), ScratchNorm=ScratchNorm),
    "default stride": written(TRANSITION, ("(2, 2)", "(2)")),
}


class LazyInception(nn.Module):
    """d2l's style."""

    def __init__(self, c1, c2, c3, c4, **kwargs):
        super().__init__(**kwargs)
        self.b1_1 = nn.LazyConv2d(c1, kernel_size=1)
        self.b2_1 = nn.LazyConv2d(c2[0], kernel_size=1)
        self.b2_2 = nn.LazyConv2d(c2[1], kernel_size=3, padding=1)
        self.b3_1 = nn.LazyConv2d(c3[0], kernel_size=1)
        self.b3_2 = nn.LazyConv2d(c3[1], kernel_size=5, padding=2)
        self.b4_1 = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.b4_2 = nn.LazyConv2d(c4, kernel_size=1)

    def forward(self, x):
        b1 = F.relu(self.b1_1(x))
        b2 = F.relu(self.b2_2(F.relu(self.b2_1(x))))
        b3 = F.relu(self.b3_2(F.relu(self.b3_1(x))))
        b4 = F.relu(self.b4_2(self.b4_1(x)))
        return torch.cat((b1, b2, b3, b4), dim=1)


class PathsInception(nn.Module):
    """Paths in a list, the last one first; batch norm; one ReLU after joining, which is the same."""

    def __init__(self, cin, c1, c2, c3, c4):
        super().__init__()

        def unit(i, o, k):
            return [nn.Conv2d(i, o, k, padding="same", bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]

        self.paths = nn.ModuleList([
            nn.Sequential(nn.MaxPool2d(3, 1, 1), *unit(cin, c4, 1)[:-1]),
            nn.Sequential(*unit(cin, c3[0], 1), *unit(c3[0], c3[1], 5)[:-1]),
            nn.Sequential(*unit(cin, c2[0], 1), *unit(c2[0], c2[1], 3)[:-1]),
            nn.Sequential(*unit(cin, c1, 1)[:-1]),
        ])  # fmt: skip

    def forward(self, x):
        return F.relu(torch.cat([path(x) for path in self.paths][::-1], dim=-3))


class FunctionalInception(nn.Module):
    def __init__(self, i, a, b, c, d):
        super().__init__()
        shapes = {
            "a": (a, i, 1, 1),
            "b": (b[0], i, 1, 1),
            "B": (b[1], b[0], 3, 3),
            "c": (c[0], i, 1, 1),
            "C": (c[1], c[0], 5, 5),
            "d": (d, i, 1, 1),
        }
        self.w = nn.ParameterDict({name * 2: nn.Parameter(torch.randn(s)) for name, s in shapes.items()})
        self.v = nn.ParameterDict({name * 2: nn.Parameter(torch.randn(s[0])) for name, s in shapes.items()})

    def conv(self, x, name):
        w = self.w[name * 2]
        return F.conv2d(x, w, self.v[name * 2], padding=w.shape[-1] // 2).relu()

    def forward(self, x):
        pooled = F.pad(x, (1, 1, 1, 1), value=-math.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((-1, -2))
        b, c = self.conv(x, "b"), self.conv(x, "c")
        return torch.hstack([self.conv(x, "a"), self.conv(b, "B"), self.conv(c, "C"), self.conv(pooled, "d")])


class SevenInception(nn.Module):
    """torchvision's arguments."""

    def __init__(self, in_channels, ch1x1, ch3x3red, ch3x3, ch5x5red, ch5x5, pool_proj):
        super().__init__()
        self.net = written(INCEPTION)(in_channels, ch1x1, (ch3x3red, ch3x3), (ch5x5red, ch5x5), pool_proj)

    def forward(self, x):
        return self.net(x)


RIGHT_INCEPTIONS = {
    "text": written(INCEPTION),
    "d2l's": LazyInception,
    "paths": PathsInception,
    "functional": FunctionalInception,
    "torchvision's arguments": SevenInception,
    "one relu at the end": written(
        INCEPTION,
        ("= F.relu(", "= ("),
        ("return torch.cat([a, b, c, d], dim=1)", "return torch.relu(torch.cat([a, b, c, d], 1))"),
    ),
    "no biases": written(INCEPTION, ("padding=2)", "padding=2, bias=False)")),
}
