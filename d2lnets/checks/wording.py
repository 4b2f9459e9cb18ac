"""How a check speaks: the verdict, its labels, and an exception in the student's words."""

import html
import linecache
import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from d2lnets.checks.recording import Recorder


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check found: true where the answer passed; shows its message in a notebook and as text."""

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'Passed' if self.passed else 'Not yet'}. {self.message}"

    def _repr_html_(self):
        color, title = ("#2e9e5b", "Passed.") if self.passed else ("#d9822b", "Not yet.")
        lines = html.escape(self.message).replace("\n", "<br>")
        return (  # no background and no text color: it suits light and dark pages
            f'<div class="verdict" style="border-left: 0.3em solid {color}; padding: 0.3em 0.8em; '
            'overflow-wrap: anywhere">'
            f"<strong>{title}</strong> {lines}</div>"
        )


def told(what: str, cause: str = "", hint: str = "") -> str:
    """What a check says of an answer that did not pass, in up to three lines."""
    if cause:
        cause = f"Cause {cause}." if cause.startswith("not found") else f"Likeliest cause: {cause}."
    return "\n".join(line for line in (what, cause, hint and f"Hint: {hint}") if line)


class Refused(Exception):
    """Ends a check with a verdict: what was expected and came, the likeliest cause, a hint."""

    def __init__(self, what: str, cause: str = "", hint: str = "") -> None:
        super().__init__(told(what, cause, hint))


class Crashed(Refused):
    """The student's code raised an exception."""

    record: "Recorder"  # of what ran before, where a module was observed

    def __init__(self, doing: str, error: BaseException) -> None:
        self.doing, self.error = doing, error
        line = their_line(error)
        if isinstance(error, NotImplementedError) and "NotImplementedError" in line:
            self.what = f"Still to be written: {error}." if str(error) else f"Still to be written.{line}"
            super().__init__(self.what)
            return
        self.what = f"{doing[0].upper()}{doing[1:]}, your code raised {one_line(error)}{line}."
        super().__init__(self.what, *explain(error))


EXPLANATIONS = (  # type, part of the text, the likeliest cause, a hint
    (SystemExit, "", "exit() or quit() is called, which a check has no use for", "Take the call out."),
    (KeyboardInterrupt, "", "the code raises KeyboardInterrupt itself", "Take the statement out."),
    (NotImplementedError, 'required "forward"', "the class has no method forward",
     "Is it there, spelled and indented right?"),
    (AttributeError, "before Module.__init__", "super().__init__() is not called, or not first",
     "What must the first line of the constructor of every nn.Module be?"),
    (AttributeError, "has no attribute", "a name is used that the constructor never sets",
     "Compare the names in forward with those in __init__, letter by letter."),
    (NameError, "", "a name that is not defined", "Is it misspelled, not imported, or lacking self.?"),
    (RecursionError, "", "a function or module calls itself without end", "Which call leads back to itself?"),
    (MemoryError, "", "it asks for more memory than there is", "Which number makes the tensor that large?"),
    (RuntimeError, "allocate memory", "it asks for more memory than there is",
     "Which number makes the tensor that large?"),
    (RuntimeError, "in-place operation", "the input itself is changed in place",
     "Let every step make a new tensor, instead of changing its input."),
    (RuntimeError, "inplace operation", "a tensor that the backward pass still needs is changed in place",
     "Use x = x + y in place of x += y, or nn.ReLU() without inplace=True."),
    (RuntimeError, "does not require grad", "the output is cut off from the parameters, as detach(), .data or "
     "torch.no_grad() do", "Where does your forward leave the graph of computations?"),
    (RuntimeError, "to have", "a layer was made for another number of channels than it receives",
     "Write down the number of channels after each step."),
    (RuntimeError, "running_mean should contain", "a batch norm was made for another number of channels than it gets",
     "Batch norm takes the channels of the tensor that it receives. Which are they at that place?"),
    (RuntimeError, "Sizes of tensors must match", "what is concatenated differs in more than the channels: a part has "
     "another stride, lacks padding, or is joined along the wrong dimension", "Print the shapes before the line."),
    (RuntimeError, "must match the size of tensor b", "the two tensors that are combined differ in shape",
     "Print both shapes before the line. What makes them equal when stride or channels change?"),
    (RuntimeError, "cannot be multiplied", "a matrix or linear layer was made for other features than it receives",
     "How many numbers per image reach it, and do they depend on the image's size?"),
    (RuntimeError, "Output size is too small", "the maps have shrunk to nothing: too many strides or pools",
     "Write down the size after each step."),
    (TypeError, "positional argument", "something is called with other arguments than it takes; where the method "
     "__init__ is missing or misspelled, the class takes none", "Compare the call with the def, one by one."),
    (TypeError, "NoneType", "a value is None: a method that returns nothing, or a layer that was not made",
     "Does every function end with return, and does every branch of an if set the layer?"),
    (TypeError, "not callable", "something that is no layer is called", "Is it a number or None, or a tuple?"),
)  # fmt: skip


def explain(error: BaseException) -> tuple[str, str]:
    """The likeliest cause of an exception and a hint; two empty strings if unknown."""
    for kind, part, cause, hint in EXPLANATIONS:
        if isinstance(error, kind) and part in str(error):
            return cause, hint
    return "", ""


_NOT_THEIRS = tuple(
    os.path.normcase(os.path.realpath(path)) + os.sep
    for path in (
        os.path.dirname(os.path.dirname(torch.__file__)),  # site-packages
        os.path.dirname(os.__file__),  # the standard library
        os.path.dirname(os.path.dirname(__file__)),  # this package
    )
)


def is_theirs(code: CodeType) -> bool:
    """Neither of a library nor of this package."""
    path = code.co_filename
    return not (path.startswith("<frozen") or os.path.normcase(os.path.realpath(path)).startswith(_NOT_THEIRS))


def line_in(frames: Iterable[tuple[FrameType, int]]) -> str:
    """The deepest line that the student wrote."""
    for frame, number in reversed(list(frames)):
        code = frame.f_code
        if not is_theirs(code):
            continue
        text = linecache.getline(code.co_filename, number, frame.f_globals).strip()
        function = "" if code.co_name == "<module>" else f" of {code.co_name}"
        return f"line {number}{function}" + (f": {text}" if text else "")
    return ""


def their_line(error: BaseException) -> str:
    line = line_in(traceback.walk_tb(error.__traceback__))
    return f"\nIn your {line}" if line else ""


def one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = text if len(text) <= 300 else text[:300] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
