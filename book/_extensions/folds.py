"""What a page folds or leaves out of a notebook: the imports are a fold, and calls that only draw show the figure.

And what screen readers are told: a fold is called what it says, not "Toggle hidden content" as by myst-nb, and the
list of references has no roles that the standard gave up. The verdict on what nobody has written yet is an invitation.
"""

import ast
import json
import re

IMPORTS = {"code_prompt_show": "Imports", "code_prompt_hide": "Hide the imports"}
CHECKS = {"code_prompt_show": "How this was checked", "code_prompt_hide": "Hide the check"}


def only_draws(source):
    """Whether the code of a cell is calls of `plots`, and nothing else."""
    statements = ast.parse(source).body
    return bool(statements) and all(
        isinstance(each, ast.Expr)
        and isinstance(each.value, ast.Call)
        and isinstance(each.value.func, ast.Attribute)
        and isinstance(each.value.func.value, ast.Name)
        and each.value.func.value.id == "plots"
        for each in statements
    )


def only_checks(source):
    """Whether the code of a cell is assertions, and at most prints what they found."""
    statements = ast.parse(source).body
    prints = [each for each in statements if isinstance(each, ast.Expr) and ast.unparse(each).startswith("print(")]
    return len(prints) < len(statements) == len(prints) + sum(isinstance(each, ast.Assert) for each in statements)


def fold(app, name, source):
    if not app.env.doc2path(name).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        tags = cell["metadata"].setdefault("tags", [])
        if cell["id"] == "setup":
            tags.append("hide-input")
            cell["metadata"]["mystnb"] = IMPORTS
        elif cell["cell_type"] == "code" and only_draws("".join(cell["source"])):
            tags.append("remove-input")
        elif cell["cell_type"] == "code" and "answer" not in tags and only_checks("".join(cell["source"])):
            tags.append("hide-input")
            cell["metadata"]["mystnb"] = CHECKS
    source[0] = json.dumps(notebook)


ROLES = re.compile(
    r'(?<=<summary) aria-label="Toggle hidden content"|(?<=<div) role="list"(?= class="citation-list")'
    r'| role="doc-biblioentry"'
)

UNWRITTEN = re.compile(r'<div class="verdict" style="[^"]*"><strong>Not yet\.</strong> (?=Still to be written:)')
INVITATION = '<div class="verdict invitation"><strong>Your turn.</strong> '


def clear_roles(app, pagename, templatename, context, doctree):
    if "body" in context:
        context["body"] = UNWRITTEN.sub(INVITATION, ROLES.sub("", context["body"]))


def setup(app):
    app.connect("source-read", fold)
    app.connect("html-page-context", clear_roles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
