"""The exercises of the chapters: a stub, its check, a hint, a solution that passes; every known mistake is refused."""

import json
import re

import pytest
from student_edition import chapters

from d2lnets.checks import check_exercise
from d2lnets.checks.exercises import EXERCISES
from d2lnets.checks.values import agree, plain

NOTEBOOKS = chapters()
CHAPTERS = {name: each for name, each in NOTEBOOKS.items() if "/" not in name}  # each with the cells of its companion
for name, companion in NOTEBOOKS.items():
    if "/" in name:
        CHAPTERS[name.removeprefix("exercises/").removesuffix("_exercises")].cells += companion.cells
NUMBERS = {
    name: sorted(int(cell.id[6:]) for cell in notebook.cells if cell.id.startswith("check-"))
    for name, notebook in CHAPTERS.items()
}
EACH = [(name, number) for name, numbers in NUMBERS.items() for number in numbers]
VALUES = [(name, number) for name, numbers in EXERCISES.items() for number in numbers]
VERDICT = re.compile(r"(Passed|Not yet)\. ")


def verdicts(cell):
    """In the stored outputs."""
    shown = [output["data"].get("text/plain", "") for output in cell.outputs if "data" in output]
    return [text for text in shown if VERDICT.match(text)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_exercises_of_all_lengths(name):
    assert NUMBERS[name] == list(range(1, len(NUMBERS[name]) + 1)) and len(NUMBERS[name]) >= 5
    text = "\n".join(cell.source for cell in CHAPTERS[name].cells if cell.cell_type == "markdown")
    kinds = re.findall(r"^\*\*\d\. (\w+)\.\*\*", text, re.MULTILINE)
    assert len(kinds) == len(NUMBERS[name])
    assert "Predict" in kinds and {"Build", "Construct"} & set(kinds) and {"Investigate", "Measure"} & set(kinds)


@pytest.mark.parametrize("name, number", EACH)
def test_an_exercise_is_whole(name, number):
    notebook = CHAPTERS[name]
    cells = {cell.id: cell for cell in notebook.cells}
    order = [cell.id for cell in notebook.cells]
    text = cells["exercises-text" if number == 1 else f"exercise-{number}-text"]
    place = order.index(text.id)
    assert order[place + 1 : place + 4] == [f"{kind}-{number}" for kind in ("exercise", "check", "solution")]
    assert text.source.count("<summary>Hint</summary>") == text.source.count("</details>") == 1
    assert not re.search(r"\{\w+\}`|\[\]\(|:::|```\{", text.source), "shows as raw text in Colab"
    stub, check = cells[f"exercise-{number}"], cells[f"check-{number}"]
    assert "raise NotImplementedError(" in stub.source and stub.outputs == []
    (shown,) = verdicts(check)
    assert shown.startswith("Not yet. Still to be written: ")
    solutions = [cells[id] for id in order if re.fullmatch(rf"solution-{number}[a-z]?", id)]
    assert [shown.startswith("Passed. ") for cell in solutions for shown in verdicts(cell)] == [True]
    judges = re.compile(r"checks\.(check_\w+)\(")
    assert judges.findall(check.source) == judges.findall("\n".join(cell.source for cell in solutions))[-1:]
    assert all(cell.metadata["tags"][0] == "hide-cell" for cell in solutions)


@pytest.mark.parametrize("name, number", VALUES)
def test_a_value_has_an_exercise_and_every_mistake_its_cause(name, number):
    (check,) = [cell.source for cell in CHAPTERS[name].cells if cell.id == f"check-{number}"]
    assert check.startswith(f'checks.check_exercise("{name}", {number}, ')
    exercise = EXERCISES[name][number]
    if exercise.judge:
        return  # its checks are tried below
    assert exercise.hint and exercise.hint not in json.dumps(CHAPTERS[name], ensure_ascii=False)
    assert check_exercise(name, number, exercise.answer)
    for cause, wrong in exercise.mistakes.items():
        verdict = check_exercise(name, number, wrong)
        assert not verdict and cause in verdict.message, verdict
        assert exercise.hint in verdict.message


@pytest.mark.parametrize("name, number", VALUES)
def test_no_verdict_tells_the_answer(name, number):
    exercise = EXERCISES[name][number]

    def odd(*args):
        return "something else"

    verdict = check_exercise(name, number, odd)
    assert not verdict
    if exercise.answer:
        right = str(exercise.answer(*exercise.calls[0]))
        assert len(right) < 4 or right in ("True", "False") or right not in verdict.message


def test_no_exercise_of_that_name():
    verdict = check_exercise("resnet18", 99, 1)
    assert not verdict and "resnet18: 1, 2, 3" in verdict.message
    assert not check_exercise("nowhere", 1, 1) and not check_exercise([], {}, 1)


def test_what_is_compared():
    assert agree(plain([range(2), (1.0, "A b")]), ((0, 1), (1, "ab")), 0)


def recomputed_wrongly(stage):
    """Keeps everything, and computes nothing again."""
    return stage


JUDGED = {  # wrong answers to exercises with a judge, and what is said of them
    "still scaled": (
        2,
        lambda grads, scale: (grads, scale) if all(g.isfinite().all() for g in grads) else (None, scale / 2),
        "they are still scaled",
    ),
    "shrinks": (2, lambda grads, scale: ([g / scale for g in grads], scale / 2), "it shrinks after every batch"),
    "the first only": (
        2,
        lambda grads, scale: ([g / scale for g in grads], scale) if grads[0].isfinite().all() else (None, scale / 2),
        "only the first or the last gradient is looked at",
    ),
    "the same pass": (3, lambda net, x, labels: 0.0, "both gradients are the same tensor"),
    "kept": (6, recomputed_wrongly, "nothing is computed again"),
    "no gradient": (6, lambda stage: lambda x: stage(x).detach(), "without a record"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_judge_of_the_training_loop_names_the_mistake(name):
    number, answer, cause = JUDGED[name]
    verdict = check_exercise("training", number, answer)
    assert not verdict and cause in verdict.message, verdict
