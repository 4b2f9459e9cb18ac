"""Nothing is lost: a training that was killed, stopped or out of luck goes on where it was, number for number."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import lacking
from torch import nn

import d2lnets
from d2lnets.__main__ import main
from d2lnets.data import SUBSET
from d2lnets.files import CheckpointError

RECIPE = d2lnets.Recipe(epochs=3, lr=0.05, average=0.9)


@pytest.fixture(scope="module")
def data():
    return d2lnets.load_fashion_mnist(SUBSET).take(500)  # 4 steps an epoch


def small_net():
    torch.manual_seed(0)
    return d2lnets.fast_resnet((8, 16)).append(nn.Dropout(0.1))


def numbers(run):
    return run.first_losses, [[epoch[key] for key in epoch if "seconds" not in key] for epoch in run.epochs]


def same(net, other):
    return all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))


@pytest.fixture(scope="module")
def whole(data):
    net = small_net()
    return net, numbers(d2lnets.fit(net, data, RECIPE, device="cpu"))


@pytest.mark.parametrize("steps", [1, 4, 6, 11, 12])
def test_a_stopped_training_ends_with_the_same_numbers(steps, data, whole, tmp_path):
    path = tmp_path / "new" / "state.safetensors"
    d2lnets.fit(small_net(), data, RECIPE, device="cpu", checkpoint=path, steps=steps)
    torch.rand(3)  # what the caller draws in between does not matter
    net = d2lnets.fast_resnet((8, 16)).append(nn.Dropout(0.1))  # nor do the weights it comes with
    run = d2lnets.fit(net, data, RECIPE, device="cpu", checkpoint=path, resume=True)
    assert numbers(run) == whole[1] and same(net, whole[0])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def compiled(net):
    return torch.compile(net, backend="eager")


@pytest.mark.parametrize("first, then", [(compiled, nn.Module.train), (nn.Module.train, compiled)])
def test_a_training_goes_on_with_the_compiled_network_or_without(first, then, data, whole, tmp_path):
    path = tmp_path / "state.safetensors"
    d2lnets.fit(first(small_net()), data, RECIPE, device="cpu", checkpoint=path, steps=6)
    run = d2lnets.fit(then(small_net()), data, RECIPE, device="cpu", checkpoint=path, resume=True)
    assert numbers(run) == whole[1]
    assert "_orig_mod" not in "".join(safetensors.torch.load_file(path))


@pytest.mark.parametrize("save", [torch.save, safetensors.torch.save_file])
def test_weights_that_fit_did_not_write_are_told_how_to_be_read(save, tmp_path):
    save(d2lnets.fast_resnet().state_dict(), tmp_path / "weights")
    with pytest.raises(RuntimeError, match=r"weights is no checkpoint of fit .*net\.load_state_dict\("):
        d2lnets.load_trained("fast-resnet", tmp_path / "weights")


def test_resume_without_a_file_begins(data, whole, tmp_path):
    run = d2lnets.fit(small_net(), data, RECIPE, device="cpu", checkpoint=tmp_path / "state", resume=True)
    assert numbers(run) == whole[1]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(kind, data, whole, tmp_path):
    path = tmp_path / "state"
    net = small_net()
    calls = []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), kind)

    net.register_forward_hook(interrupt)
    before = signal.getsignal(kind)
    with pytest.raises(d2lnets.Interrupted, match=f"{path} has the state, resume goes on"):
        d2lnets.fit(net, data, RECIPE, device="cpu", checkpoint=path)
    assert signal.getsignal(kind) is before and len(calls) < 12
    net = small_net()
    assert numbers(d2lnets.fit(net, data, RECIPE, device="cpu", checkpoint=path, resume=True)) == whole[1]
    assert same(net, whole[0])


NAME = "fast-resnet-epochs2-batch_size32-image_size8-seed0"  # of what the command writes


TRAIN = ["train", "fast-resnet", "--epochs", "2", "--batch-size", "32", "--image-size", "8", "--device", "cpu"]


def command(out):
    threads = str(torch.get_num_threads())  # as here, where it is gone on: other numbers add up in another order
    environment = os.environ | {"D2LNETS_DATA": str(SUBSET), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": threads}
    return subprocess.Popen(
        [sys.executable, "-m", "d2lnets", *TRAIN, "--out", str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="locale",
    )


def test_a_killed_command_resumes_to_the_very_numbers(tmp_path, monkeypatch, capsys):
    checkpoint = tmp_path / "b" / f"{NAME}.safetensors"
    killed = command(tmp_path / "b")
    while not checkpoint.exists():  # the end of the first epoch
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.05)
    time.sleep(0.1)  # somewhere in the second
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not checkpoint.with_suffix(".json").exists(), "it was too fast to be killed"
    monkeypatch.setenv("D2LNETS_DATA", str(SUBSET))
    main([*TRAIN, "--out", str(tmp_path / "a")])
    main([*TRAIN, "--out", str(tmp_path / "b"), "--resume"])
    assert not re.search("Warning|Error|Traceback", capsys.readouterr().err)  # slow, it has a bar
    runs = [d2lnets.Run.load(tmp_path / folder / f"{NAME}.json") for folder in "ab"]
    assert numbers(runs[0]) == numbers(runs[1]) and runs[0].test == runs[1].test


def test_ctrl_c_at_the_command_saves(tmp_path):
    process = command(tmp_path)
    while not (tmp_path / f"{NAME}.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "same command and --resume" in err and "Traceback" not in err


@pytest.fixture
def saved(data, tmp_path):
    path = tmp_path / "state"
    d2lnets.fit(small_net(), data, RECIPE, device="cpu", checkpoint=path, steps=5, name="small")
    return path


def go_on(path, data, net=None, recipe=RECIPE, **settings):
    settings = {"name": "small"} | settings
    return d2lnets.fit(net or small_net(), data, recipe, device="cpu", checkpoint=path, resume=True, **settings)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_checkpoint_is_refused_and_kept(keep, saved, data):
    content = saved.read_bytes()[:keep]
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="no checkpoint of d2lnets, or is cut off"):
        go_on(saved, data)
    assert saved.read_bytes() == content


def test_a_foreign_file_is_refused_and_never_executed(saved, data, tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'owned'}",))

    torch.save({"net": Payload()}, saved)
    with pytest.raises(CheckpointError, match="no checkpoint of d2lnets"):
        go_on(saved, data)
    safetensors.torch.save_file({"x": torch.zeros(3)}, saved)
    with pytest.raises(CheckpointError, match="no checkpoint of d2lnets"):
        go_on(saved, data)
    for head in ({"format": 2}, [], {"format": 2, "run": {}, "progress": {"year": 3}}, None):
        safetensors.torch.save_file({"x": torch.zeros(3)}, saved, {"d2lnets": json.dumps(head)})
        with pytest.raises(CheckpointError, match="no checkpoint of d2lnets"):
            go_on(saved, data)
    safetensors.torch.save_file({"x": torch.zeros(3)}, saved, {"d2lnets": json.dumps({"format": 9})})
    with pytest.raises(CheckpointError, match="has format 9"):
        go_on(saved, data)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(name="plain20"), "network 'small', not 'plain20'"),
        (dict(seed=4), "seed 0, not 4"),
        (dict(recipe=d2lnets.Recipe(epochs=4, lr=0.05, average=0.9)), "epochs 3, not 4"),
        (dict(recipe=d2lnets.Recipe(epochs=3, lr=0.05)), "average 0.9, not None"),
        (dict(net=d2lnets.fast_resnet((8, 8))), "parameters"),
        (dict(net=nn.Sequential(nn.Flatten(), nn.Linear(784, 10))), "parameters"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_kept(settings, message, saved, data):
    content = saved.read_bytes()
    with pytest.raises(CheckpointError, match=f"is of another training: .*{message}"):
        go_on(saved, data, **settings)
    assert saved.read_bytes() == content


def test_a_network_of_the_same_size_and_other_shapes_is_refused(data, tmp_path):
    def net(first, second):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, first), nn.Linear(4, second), nn.Linear(8, 10)
        )

    class Fork(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.parts = net(first, second)

        def forward(self, x):
            flatten, linear, *fork, head = self.parts
            x = linear(flatten(x))
            return head(torch.cat([part(x) for part in fork], 1))

    path = tmp_path / "state"
    d2lnets.fit(Fork(3, 5), data, RECIPE, device="cpu", checkpoint=path, steps=2)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"is of another network: it has no net/parts.2.weight of shape \(5, 4\)"):
        d2lnets.fit(Fork(5, 3), data, RECIPE, device="cpu", checkpoint=path, resume=True)
    assert path.read_bytes() == content


def test_a_checkpoint_is_not_replaced_by_another_training(saved, data):
    content = saved.read_bytes()
    with pytest.raises(CheckpointError, match="is there already: resume goes on from it"):
        d2lnets.fit(small_net(), data, RECIPE, device="cpu", checkpoint=saved)
    assert saved.read_bytes() == content
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        d2lnets.fit(small_net(), data, RECIPE, device="cpu", resume=True)


def test_tied_weights_and_whole_numbers_survive(data, tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(784, 784, bias=False), nn.Linear(784, 784, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("order", torch.arange(784).flip(0))

        def forward(self, x):
            return self.second(self.first(x.flatten(1))[:, self.order])[:, :10]

    recipe = d2lnets.Recipe(epochs=2, lr=0.001, average=0.9)
    nets = []
    for steps in (None, 3):
        torch.manual_seed(0)
        nets.append(Tied())
        d2lnets.fit(nets[-1], data, recipe, device="cpu", checkpoint=tmp_path / str(steps), steps=steps)
    d2lnets.fit(nets[1], data, recipe, device="cpu", checkpoint=tmp_path / "3", resume=True)
    assert same(*nets) and torch.equal(nets[0].order, torch.arange(784).flip(0))


def test_weights_beyond_repair_are_not_saved(saved, data):
    content = saved.read_bytes()
    net = small_net()
    net[-2][-1].bias.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(d2lnets.DivergedError, match="a weight is not finite at epoch 2, step 2"):
        go_on(saved, data, net, steps=6)
    assert saved.read_bytes() == content


def test_a_layer_that_joins_later_trains_and_resumes(data, tmp_path):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.late, self.calls = nn.Linear(784, 10), nn.Linear(784, 10), 0

        def forward(self, x):
            self.calls += 1
            x = x.flatten(1)
            return self.linear(x) + (self.late(x) if self.calls > 3 else 0)

    net = Late()
    before = net.late.weight.detach().clone()
    d2lnets.fit(net, data, d2lnets.Recipe(epochs=2, lr=0.01), device="cpu", checkpoint=tmp_path / "state", steps=3)
    d2lnets.fit(net, data, d2lnets.Recipe(epochs=2, lr=0.01), device="cpu", checkpoint=tmp_path / "state", resume=True)
    assert not torch.equal(net.late.weight, before)


def test_the_last_good_state_survives_divergence(saved, data):
    content = saved.read_bytes()
    net = small_net()
    net.register_forward_hook(lambda module, inputs, output: output * torch.inf if module.training else output)
    with pytest.raises(d2lnets.DivergedError, match="step 2 of 4 in epoch 2"):
        go_on(saved, data, net)
    assert saved.read_bytes() == content


def test_a_full_disk_leaves_the_last_good_state(saved, data):
    """The limit on file sizes is the disk that is full: writing fails in the middle, as there."""
    resource = pytest.importorskip("resource", reason="no such limit on Windows")
    content = saved.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot write .* \(File too large\); what was saved before is intact"
        ):
            go_on(saved, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert saved.read_bytes() == content and [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_no_space_left_is_named(data, tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        lacking("/dev/full", "Linux has it")
    real = Path.open

    def open_(path, mode="r", **more):
        return real(Path("/dev/full") if mode == "wb" else path, mode, **more)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(CheckpointError, match=r"No space left on device.*; nothing was saved. Free some space"):
        d2lnets.fit(small_net(), data, RECIPE, device="cpu", checkpoint=tmp_path / "state", steps=2)


def test_a_folder_that_cannot_be_written_is_refused(data, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"cannot write .*(Not a directory|File exists)"):
        d2lnets.fit(small_net(), data, RECIPE, device="cpu", checkpoint=tmp_path / "file" / "state", steps=2)
