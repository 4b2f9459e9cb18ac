"""The live lab's script and style, on the pages that have a bench, and on no other."""

import re

PLACE = re.compile(r'(<div class="lab"[^>]*>)\s*</div>')
INSTEAD = """<p>Here you can try a network yourself, where JavaScript is on and the page comes from a web server.
In a page opened as a file it cannot start: run <code>python -m http.server</code> in the folder of the built book
(<code>_build/html</code>), and open <code>http://localhost:8000</code>.</p>"""


def add_benches(app, pagename, templatename, context, doctree):
    """What the script replaces by the bench says, until then, what keeps it from doing so."""
    body, places = PLACE.subn(rf"\1{INSTEAD}</div>", context.get("body", ""))
    if places:
        context["body"] = body
        app.add_js_file("lab/main.js", type="module")
        app.add_css_file("lab/lab.css")


def setup(app):
    app.connect("html-page-context", add_benches)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
