"""Put the weights of recorded runs into the package, in 16 bits: ``python tools/weights.py resnet20 plain20``."""

import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from d2lnets.networks import WEIGHTS

for name in sys.argv[1:]:
    tensors = load_file(Path("recorded") / f"{name}-seed0.safetensors")
    halves = {
        key: each.half() if each.is_floating_point() else each for key, each in tensors.items() if key[:4] == "net/"
    }
    WEIGHTS.mkdir(exist_ok=True)
    save_file(halves, WEIGHTS / f"{name}.safetensors")
    (WEIGHTS / f"{name}.safetensors").chmod(0o644)
