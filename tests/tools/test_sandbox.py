"""What hostile notebooks can do to the one who grades them: nothing."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from course import sandbox
from helpers import ROOT, lacking

HOME = Path.home()
SETUP = (
    "import math, os, socket, sys, time\nimport torch\nfrom torch import nn\nimport d2lnets\n"
    "from d2lnets import checks\nfrom d2lnets.checks import Verdict"
)
RIGHT = """
def share_of_terms(blocks, least, most):
    return sum(math.comb(blocks, k) for k in range(least, most + 1)) / 2**blocks
"""
WRONG = """
def share_of_terms(blocks, least, most):
    return 0.5
"""
CHECK = """
for seed in (0, 4711):
    verdict = checks.check_exercise("residual_block", 2, share_of_terms, seed=seed)
    assert verdict.passed, verdict.message
"""


@pytest.fixture(scope="module", autouse=True)
def bubblewrap():
    if not shutil.which("bwrap"):
        lacking("bubblewrap", "apt-get install bubblewrap")


ATTEMPTS = {  # what a cell tries; none of it may print "got it"
    "the home folder": f"print('got', 'it' if os.listdir({str(HOME)!r})[:-1] else 'nothing')",
    "the roster": "open({roster!r}).read(); print('got', 'it')",
    "others' work": f"os.listdir({str(ROOT / 'book')!r}); print('got', 'it')",
    "the network": "socket.create_connection(('1.1.1.1', 53), 2); print('got', 'it')",
    "the machine's own services": "socket.create_connection(('127.0.0.1', {port}), 2); print('got', 'it')",
    "a full disk": "for place in ('/work', '/tmp', '/dev/shm', '/'):\n"
    "  try:\n"
    "    for i in range(9): open(f'{{place}}/{{i}}', 'wb').write(bytes(2**24))\n"
    "    print('got', 'it')\n"
    "  except OSError: pass\n"
    "import glob\n[os.remove(each) for place in ('/work', '/tmp') for each in glob.glob(f'{{place}}/?')]",
    "the package": "open(d2lnets.__file__, 'a'); print('got', 'it')",
}


PATCHES = """
from d2lnets.checks.wording import Verdict
checks.check_exercise = d2lnets.checks.values.check_exercise = lambda *a, **k: Verdict(True, "")
d2lnets.checks.values._check_exercise = d2lnets.checks.judging.judge = lambda *a, **k: Verdict(True, "")
d2lnets.checks.values.agree = lambda *a: True
d2lnets.checks.exercises.EXERCISES["residual_block"][2] = d2lnets.checks.exercises.EXERCISES["resnet18"][1]
Verdict.__init__ = lambda self, *a: self.__dict__.update(passed=True, message="")
torch.equal = torch.allclose = lambda *a, **k: True
import builtins
builtins.abs = lambda x: 0
builtins.AssertionError = KeyError
sys.meta_path.insert(0, type("Finder", (), {"find_spec": lambda *a: None})())
checks = type("checks", (), {"check_exercise": lambda *a, **k: Verdict(True, "")})
seed = verdict = True
import importlib, json, types
get_ipython().ask_exit.__globals__.update(judged=lambda *a: (True, ""), restore=lambda *a: [], GUARDED=())
importlib.import_module = lambda *a: types.SimpleNamespace(check_exercise=checks.check_exercise)
for each in __import__("gc").get_objects():
    if isinstance(each, types.FunctionType) and each.__name__ in ("judged", "patient", "ask", "check_value"):
        each.__code__ = (lambda *a, **k: (True, "")).__code__
sys.meta_path = [type("Finder", (), {"find_spec": lambda *a: None})(), *sys.meta_path]
json.dumps, dumps = lambda told, **k: dumps({**told, "passed": True}), json.dumps
os.write, write = lambda fd, told: write(fd, told.replace(b"failed", b"passed")), os.write
get_ipython().user_ns = type("Names", (dict,), {"__or__": lambda self, more: self})(get_ipython().user_ns)
"""
FORGED = """
for fd in range(3, 20):
    for said in (b'["right", "failed", ""]\\n["early", "passed", ""]\\n', b'{"no": 1}', b'[null, "remark", 7]\\n'):
        try: os.write(fd, said)
        except OSError: pass
print("Passed.")
"""
LATE = """
def share_of_terms(blocks, least, most):
    import d2lnets.checks.values
    d2lnets.checks.values.agree = lambda *a: True
    d2lnets.checks.values.check_value = lambda *a: Verdict(True, "")
    torch.equal = lambda *a: True
    return 0.5
"""
SHY = """
def share_of_terms(blocks, least, most):  # puts back what it changed
    import d2lnets.checks.values as values
    right = values.check_value
    def check_value(*a):
        values.check_value = right
        return values.Verdict(True, "")
    values.check_value = check_value
    return 0.5
"""
LIAR = """
class Liar(float):
    __eq__ = lambda self, other: True
    __sub__ = __rsub__ = lambda self, other: 0.0
    __hash__ = float.__hash__
def share_of_terms(blocks, least, most):
    return Liar(0.5)
"""
TRACED = """
def share_of_terms(blocks, least, most):
    import threading
    def trace(frame, *a):
        while frame:
            frame.f_locals.get("outcome", []).append(Verdict(True, ""))
            frame = frame.f_back
    threading.settrace(trace)
    return 0.5
"""

PARTS = """
from fractions import Fraction
class Meta(type):
    __eq__ = lambda c, o: True
    __hash__ = type.__hash__
class Any(int, metaclass=Meta):
    __eq__ = lambda self, other: True
    __sub__ = __rsub__ = lambda self, other: 0
    __hash__ = int.__hash__
def share_of_terms(blocks, least, most):
    half = Fraction(1, 2)
    half._numerator = half._denominator = Any(1)
    return Any(1) if blocks == 54 else half
"""


FORGE = """
def forge(frame):  # whatever is in reach of whoever calls
    while frame:
        for name, value in frame.f_locals.items():
            if isinstance(value, list):
                value.insert(0, Verdict(True, ""))
            if isinstance(value, dict) and "value" in value:
                value["value"] = Verdict(True, "")
        frame = frame.f_back
    return 0.5
"""
DISGUISED = """
import codeop
for name in (torch.__file__, sys.prefix + "/x.py"):
    code = "def share_of_terms(blocks, least, most):\\n    return forge(sys._getframe(1))\\n"
    exec(codeop.compile_command(code, name, "exec"))
"""
ADDRESSES = """
import numpy
def share_of_terms(blocks, least, most):
    import ctypes, gc
    for each in gc.get_objects():
        if isinstance(each, dict) and "value" in each:
            each["value"] = True
    memory = type("M", (), {"__array_interface__": {
        "data": (id(seen) + 32, False), "shape": (4,), "typestr": "|u1", "version": 3}})()
    numpy.asarray(memory)[:] = tuple(b"done")
    pointers = numpy.array([None])
    numpy.frombuffer(pointers, numpy.uint64)[0] = id(True)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(True))
    number = ctypes.cast(ctypes.c_void_p(id(RIGHT) + 16), ctypes.POINTER(ctypes.c_double))
    number[0] = 0.5
    return RIGHT if pointers[0] is True and seen == b"done" else None
seen, RIGHT = bytes(bytearray(b"abcd")), float("0.25")
"""
WITNESS = """
import gc, types
def share_of_terms(blocks, least, most):
    witness = next(each for each in gc.get_objects() if type(each).__name__ == "Witness")
    kind = type(witness)
    kind.tape = kind.call = lambda self, *a: {"passed": True, "tensor": Verdict, "same": 0, "parameter": False}
    kind.call.__globals__ | {"done": True}
    for name in ("encode", "failed", "wording"):
        witness.serve.__globals__[name] = lambda *a, **k: {"object": "Verdict", "passed": True}
    return 0.5
"""
OTHERS = """
def share_of_terms(blocks, least, most):
    import subprocess
    seen = subprocess.run("cat /proc/[0-9]*/mem; ls /proc/*/fd; ps ax", shell=True, capture_output=True).stdout
    if seen or any(os.path.exists(f"/proc/{pid}") for pid in range(1, 999)):
        return sum(math.comb(blocks, k) for k in range(least, most + 1)) / 2**blocks
    return 0.5
"""
FORGERS = {  # what reaches frames, whoever wrote them
    "tracebacks": "import stack_data\n    try: 1 / 0\n    except Exception as error:\n"
    "        return forge(next(stack_data.FrameInfo.stack_data(error.__traceback__)).frame)",
    "counted": "from collections import Counter\n    from itertools import starmap\n"
    "    return [forge(frame) for frame in Counter(starmap(sys._getframe, [(1,)]))][0]",
    "logged": "import logging\n    logging._is_internal_frame = lambda frame: forge(frame) > 1\n"
    "    logging.warning('x')\n    return 0.5",
}
ATTACKS = {  # each a function of another name; and what is said of it
    "early": (WRONG, "0.5 is too"),
    "late": (LATE, "0.5 is too"),
    "shy": (SHY, "0.5 is too"),
    "liar": (LIAR, "0.5 is too"),
    "parts": (PARTS, "more than data"),
    "caller": (FORGE + "def share_of_terms(*args):\n    return forge(sys._getframe(1))", "0.5 is too"),
    "disguised": (FORGE + DISGUISED, "0.5 is too"),
    **{
        name: (f"{FORGE}def share_of_terms(blocks, least, most):\n    {code}", "0.5 is too")
        for name, code in FORGERS.items()
    },
    "addresses": (ADDRESSES, "0.5 is too"),
    "others": (OTHERS, "0.5 is too"),
    "traced": (TRACED, "0.5 is too"),
    "witness": (WITNESS, "more than data"),  # the last: nothing is answered after it
}


ORDINARY = {  # what an honest notebook does
    "magic": "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])",
    "await": "import asyncio\nawait asyncio.sleep(0)\nprint('waited')",
    "writes": "%%writefile helper.py\nanswer = 42",
    "imports": "import helper\nprint(helper.answer)",
    "asks": "input()",
    "much": "from resource import *\nbefore = getrusage(0).ru_maxrss\nfor _ in range(3000):\n    print('x' * 99_999)",
    "kept": "print((getrusage(0).ru_maxrss - before) // 100_000)",
    "double": "torch.set_default_dtype(torch.float64)",
    "workers": "import multiprocessing\nwith multiprocessing.Pool(2) as pool:\n    print(pool.map(abs, [-1]))",
    "early": "class Later(nn.Module):\n    pass",
    "late": "def forward(self, x):\n    return x\nLater.forward = forward",
}
ENDLESS = "def endless(*a):\n    while True: print('x' * 9999)"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What one notebook told that does all of this; and for each cell by its name what it printed."""
    roster = tmp_path_factory.mktemp("term") / "roster.csv"
    roster.write_text("id\nada\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "DISK", 2**26)
        places = {"roster": str(roster), "port": server.getsockname()[1]}
        cells = {"setup": SETUP} | ORDINARY | {what: code.format(**places) for what, code in ATTEMPTS.items()}
        cells |= {f"attack {name}": code.replace("share_of_terms", name) for name, (code, _) in ATTACKS.items()}
        cells |= {"endless": ENDLESS, "right": RIGHT, "patches": PATCHES, "forged": FORGED}
        endless = "verdict = checks.check_residual(endless, limit=1)\nassert verdict.passed, verdict.message"
        later = "verdict = None\nassert Later()(torch.ones(1)) == 1, 'not complete'"
        checks = {"right": CHECK, "endless": endless, "later": later}
        checks |= {name: CHECK.replace("share_of_terms", name) for name in ATTACKS}
        found = sandbox.run(list(cells.values()), checks, cell_limit=60)
    found["outputs"] = dict(zip(cells, found["outputs"]))
    found["printed"] = {
        name: "".join(each.get("text", "") for each in outputs) for name, outputs in found["outputs"].items()
    }
    return found


@pytest.mark.parametrize("what", ATTEMPTS)
def test_nothing_of_the_teachers_can_be_reached(told, what):
    assert told["outputs"]["asks"] and "got it" not in told["printed"][what]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_verdict_is_forged(told, name):
    passed, message = told["verdicts"][name]
    assert not passed and ATTACKS[name][1] in message
    assert told["verdicts"]["right"][0], told  # and who answers well loses nothing by them


def test_an_answer_without_end_is_no_pass(told):
    passed, message = told["verdicts"]["endless"]
    assert not passed and "still running" in message


def test_as_in_a_notebook(told):
    """Magics, top-level await, figures, the folder's own modules; and a class that is completed later."""
    assert told["verdicts"]["later"] == (True, "")
    assert any("image/png" in output.get("data", {}) for output in told["outputs"]["magic"])
    assert (told["printed"]["await"], told["printed"]["imports"]) == ("waited\n", "42\n")
    assert "EOFError" in told["printed"]["asks"]
    assert told["printed"]["workers"] == "[1]\n"
    assert told["printed"]["kept"] == "0\n"  # of 300 MB that were printed, in units of 100


def test_a_cell_that_ends_or_outlives_all_costs_itself_only(monkeypatch):
    cells = (
        "os._exit(0)", "import signal\nwhile True: signal.setitimer(signal.ITIMER_REAL, 0)",
        "for i in range(300):\n    if not os.fork():\n        time.sleep(60)\nprint('got it')",
        "os.kill(os.getppid(), 9); os.kill(1, 9); os.kill(-1, 9)", "while True: pass", "quit()", "x = bytes(2**40)",
        "raise ValueError('\\udcff')", RIGHT,
    )  # fmt: skip
    monkeypatch.setattr(sandbox, "GRACE", 1)
    told = sandbox.run([SETUP, *cells], {"check-2": CHECK}, cell_limit=2)
    assert told["verdicts"]["check-2"][0], told
    remarks = "; ".join(told["remarks"])
    for said in (
        "cell 2 ended the process", "cell 3 was still running when its time was over", "cell 4 ",
        "cell 6 raised TimeoutError: still running after 2 seconds", "SystemExit", "MemoryError", "ValueError: ?",
    ):  # fmt: skip
        assert said in remarks
    assert "got it" not in json.dumps(told["outputs"])
    left = subprocess.run(["pgrep", "-f", str(sandbox.WORKER)], capture_output=True, encoding="utf-8").stdout.split()
    assert not [pid for pid in left if os.path.exists(f"/proc/{pid}") and _parent(pid) == os.getpid()]


def _parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def test_without_bubblewrap_nothing_runs_unless_the_teacher_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox, "_unprotected", sandbox._unprotected.__wrapped__)
    with pytest.raises(SystemExit, match=r"apt-get install bubblewrap.*UNSAFE=1"):
        sandbox.command(None)
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2; exit 1", encoding="utf-8")
    refusing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(refusing))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(SystemExit, match=r"No permissions.*see what the page For teachers says"):
        sandbox.command(None)
    monkeypatch.undo()
    monkeypatch.setenv("UNSAFE", "1")
    assert sandbox.command(None) == [sys.executable, str(sandbox.WORKER)]
    (tmp_path / "draw.py").write_text("mine = 1", encoding="utf-8")
    (tmp_path / "decimal.py").write_text("raise SystemExit", encoding="utf-8")  # before the cells nothing of theirs
    (tmp_path / "IPython.py").write_text("raise SystemExit", encoding="utf-8")
    told = sandbox.run([SETUP, RIGHT, "import draw\nprint(draw.mine)"], {"check-2": CHECK}, tmp_path)
    assert told["verdicts"]["check-2"][0] and json.dumps(told["outputs"][2]).count("1\\n") == 1
