"""The exercises of the chapters that ask for a value: the right answers, computed, and the usual mistakes.

`check_exercise` of `checks.py` compares a reader's function with these. The exercises that ask for a block or
a network have a check of their own there.
"""

from d2lnets.checks.exercises.comparison import COMPARISON
from d2lnets.checks.exercises.densenet import DENSENET
from d2lnets.checks.exercises.function_classes import FUNCTION_CLASSES
from d2lnets.checks.exercises.googlenet import GOOGLENET
from d2lnets.checks.exercises.later_blocks import LATER_BLOCKS
from d2lnets.checks.exercises.many_gpus import MANY_GPUS
from d2lnets.checks.exercises.residual_block import RESIDUAL_BLOCK
from d2lnets.checks.exercises.resnet18 import RESNET18
from d2lnets.checks.exercises.resnet50 import RESNET50
from d2lnets.checks.exercises.training import TRAINING
from d2lnets.checks.exercises.training_fast import TRAINING_FAST

EXERCISES = {
    "resnet18": RESNET18,
    "densenet": DENSENET,
    "googlenet": GOOGLENET,
    "resnet50": RESNET50,
    "residual_block": RESIDUAL_BLOCK,
    "function_classes": FUNCTION_CLASSES,
    "training": TRAINING,
    "training_fast": TRAINING_FAST,
    "comparison": COMPARISON,
    "many_gpus": MANY_GPUS,
    "later_blocks": LATER_BLOCKS,
}
