"""What the site has around its chapters: descriptions, an entrance, a page for lost readers, and no more than it needs.

The theme loads every icon there is, twice, and Sphinx a typesetter for formulas also where there are none. Here the
icons that the pages use become a font of their own, and what is not used is not loaded.
"""

import html
import re
from io import BytesIO
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

ICONS = "icons.woff"
ALL_ICONS = re.compile(r"\s*<(?:script|link)[^>]*scripts/fontawesome\.js[^>]*>(?:</script>)?")
BRANCH = re.compile(r'(<summary)(?=><span class="toctree-toggle")')  # of the sidebar, where the theme names nothing
WEBFONTS = Path("_static", "vendor", "fontawesome", "webfonts", "fa-solid-900.ttf")
RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"\}')
PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)


def describe(app, pagename, templatename, context, doctree):
    """A description for search engines and for those who send the address: the first paragraph of some length."""
    body = context.get("body", "")
    paragraphs = (" ".join(html.unescape(re.sub(r"<[^>]+>", "", each)).split()) for each in PARAGRAPH.findall(body))
    text = next((each for each in paragraphs if len(each) > 40), app.config.html_title)
    title = re.sub(r"<[^>]+>", "", context.get("title", app.config.html_title))
    tags = {
        "og:title": html.unescape(title),
        "og:description": text,
        "og:type": "article",
        "og:site_name": app.config.html_title,
    }
    if base := app.config.html_baseurl:
        tags |= {"og:url": f"{base}{pagename}.html", "og:image": f"{base}_static/social.png"}
    lines = [f'<meta name="description" content="{html.escape(text)}">']
    lines += [f'<meta property="{name}" content="{html.escape(content)}">' for name, content in tags.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)
    for sign, files, part in (('class="math', "script_files", "mathjax"), ('class="sd-', "css_files", "sphinx-design")):
        if sign not in body:
            context[files] = [file for file in context[files] if part not in str(file).lower()]


def finish(app, error):
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    pages = [path for path in out.rglob("*.html") if "_static" not in path.parts and path.parent != out]
    texts = {path: ALL_ICONS.sub("", path.read_text(encoding="utf-8")) for path in pages}
    texts = {path: BRANCH.sub(r'\1 aria-label="What belongs to it"', text) for path, text in texts.items()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    used = {name for text in texts.values() for name in re.findall(r"\bfa-([\w-]+)", text)} | {"xmark"}  # by a script
    path = out / "_static" / "styles" / "pydata-sphinx-theme.css"
    style = path.read_text(encoding="utf-8")
    codes = {name: code for names, code in RULE.findall(style) for name in re.findall(r"fa-([\w-]+)", names)}
    needed = {codes[name] for name in used & set(codes)}
    path.write_text(RULE.sub(lambda rule: rule[0] if rule[2] in needed else "", style), encoding="utf-8")
    (out / "_static" / ICONS).write_bytes(icons(out / WEBFONTS, sorted(needed)))
    base, start = app.config.html_baseurl, f"{app.config.root_doc}.html"
    if base:
        places = "".join(f"<url><loc>{base}{path.relative_to(out).as_posix()}</loc></url>\n" for path in sorted(pages))
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}</urlset>\n',
            encoding="utf-8",
        )
    lost = f'<p>There is no such page. The book begins <a href="{base}{start}">here</a>.</p>'
    (out / "404.html").write_text(small_page(app.config.html_title, lost), encoding="utf-8")
    on = f'<meta http-equiv="refresh" content="0; url={start}">\n<link rel="canonical" href="{base}{start}">\n'
    entrance = small_page(app.config.html_title, f'<p><a href="{start}">Start reading</a></p>', on)
    (out / "index.html").write_text(entrance, encoding="utf-8")


def icons(font, codes):
    """A web font that holds the icons of these codes, hexadecimal, and no other."""
    options = Options(flavor="woff", layout_features=[], notdef_outline=True)
    loaded, subsetter, file = TTFont(font, recalcTimestamp=False), Subsetter(options), BytesIO()
    subsetter.populate(unicodes=[int(code, 16) for code in codes])
    subsetter.subset(loaded)
    loaded.flavor = "woff"
    loaded.save(file)
    return file.getvalue()


def small_page(title, body, head=""):
    """A page without the theme, for places outside of the book."""
    style = "body { font: 1.1rem/1.6 system-ui, sans-serif; margin: 15vh auto; max-width: 36rem; padding: 0 1rem }"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n{head}'
        f"<style>{style}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def stale(app, env, added, changed, removed):
    """Have a page built where a script or style is newer than the build, or Sphinx would copy none of them."""
    built = Path(app.outdir, "_static")
    for folder in (Path(app.confdir, path) for path in app.config.html_static_path):
        for file in filter(Path.is_file, folder.rglob("*")):
            copy = built / file.relative_to(folder)
            if not copy.exists() or copy.stat().st_mtime < file.stat().st_mtime:
                return [app.config.root_doc]
    return []


def setup(app):
    app.connect("env-get-outdated", stale)
    app.config.mathjax_path = "mathjax/startup.js"  # and the parts that _config.yml names
    app.connect("html-page-context", describe, priority=900)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
