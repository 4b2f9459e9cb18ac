#!/bin/sh
# Make the recorded runs: hours. Stopped, it goes on where it was; states and results are kept in recorded/, and the
# results go into the package. One thread, so that the numbers do not depend on how many there are.
set -e
export OMP_NUM_THREADS=1
train() { .venv/bin/python -m d2lnets train "$@" --out recorded --resume; }

# The recipe, and what becomes of it without each of its parts, or with one more.
train fast-resnet --seeds 0 1 2
train fast-resnet --seeds 0 1 2 --no-flip --no-flip-test
train fast-resnet --seeds 0 1 2 --shift 1
train fast-resnet --seeds 0 1 2 --label-smoothing 0
train fast-resnet --seeds 0 1 2 --lr 0.4
train fast-resnet --seeds 0 1 2 --no-normalize
train fast-resnet --seeds 0 1 2 --warmup none --lr 0.1
train fast-resnet --seeds 0 1 2 --momentum 0 --lr 2
train fast-resnet --seeds 0 1 2 --average 0.99
train fast-resnet --seeds 0 1 2 --weight-decay 0
train fast-resnet --seeds 0 1 2 --no-mixed-precision

# From the recipe of Dive into Deep Learning to the book's, one change after the other.
bare="--label-smoothing 0 --weight-decay 0 --no-flip --no-flip-test"
train fast-resnet --seeds 0 1 2 $bare --warmup none --lr 0.01 --momentum 0 --no-normalize --xavier
train fast-resnet --seeds 0 1 2 $bare --warmup none --lr 0.01 --momentum 0
train fast-resnet --seeds 0 1 2 $bare --warmup none --lr 0.01
train fast-resnet --seeds 0 1 2 $bare --warmup none --lr 0.1
train fast-resnet --seeds 0 1 2 $bare

# Budgets.
train fast-resnet --seeds 0 1 2 --epochs 1
train fast-resnet --seeds 0 1 2 --epochs 1 --no-flip --no-flip-test
train fast-resnet --seeds 0 1 2 --epochs 2
train fast-resnet --seeds 0 1 2 --epochs 8
train fast-resnet --seeds 0 1 2 --epochs 8 --label-smoothing 0 --weight-decay 0
train fast-resnet-wide --epochs 16

# Every network, one recipe.
train resnet18 resnet18-small plain20 resnet20 plain56 resnet56 --seeds 0 1 2
train resnet50-small googlenet-small-bn densenet-small --seeds 0 1 2

# The recipe of Dive into Deep Learning, until 92 % of the test images are right.
train resnet18 --recipe d2l --epochs 14

.venv/bin/python benchmarks/degradation.py
cp recorded/*.json d2lnets/runs/
.venv/bin/python benchmarks/weights.py fast-resnet resnet18-small plain20 resnet20 googlenet-small-bn densenet-small
