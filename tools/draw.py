"""Draw the logo, the favicon, the cover and the chapters' pictures: ``python tools/draw.py`` writes them into _static.

With ``--social`` also the picture that a page's address carries when it is sent, a PNG, for which it takes Chromium.

One idea in three sizes: an input, a block, and the line around it that carries the input past the block.
The colors are those of the figures (Okabe and Ito), readable on white and on dark.
"""

import shutil
import sys
from pathlib import Path

from matplotlib.textpath import TextPath

from d2lnets.data import CLASSES, SUBSET, load_fashion_mnist
from d2lnets.plots.style import BLUE, GREEN, ORANGE, PALETTE

STATIC = Path(__file__).parent.parent / "book" / "_static"
GREY = "#8a8a8a"  # between white and dark


def svg(width, height, title, *shapes):
    body = "\n".join(f"  {shape}" for shape in shapes)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n  <title>{title}</title>\n{body}\n</svg>\n'


def box(x, y, width, height, color, radius=2):
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" fill="{color}"/>'


def line(path, color, width=3):
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width:g}" stroke-linecap="round"/>'


def dot(x, y, color, radius=4):
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{color}"/>'


def mark(x, y, scale=1.0):
    """A block on a line, and the shortcut over it; 56 wide and 32 high at scale 1, (x, y) its left upper corner."""

    def at(*numbers):
        return " ".join(f"{(x if i % 2 == 0 else y) + scale * number:g}" for i, number in enumerate(numbers))

    return [
        line(f"M{at(3, 22)} L{at(53, 22)}", GREY, 3 * scale),
        box(x + 19 * scale, y + 13 * scale, 18 * scale, 18 * scale, BLUE, 3 * scale),
        line(f"M{at(9, 22)} C{at(9, -4, 47, -4, 47, 22)}", ORANGE, 3 * scale),
        dot(x + 47 * scale, y + 22 * scale, ORANGE, 4 * scale),
    ]


def favicon():
    scale = 32 / 56
    return svg(32, 32, "A block with its shortcut", *mark(0, 6, scale))


def logo():
    outline = TextPath((66, 0), "d2lnets", size=22, prop={"family": "DejaVu Sans", "weight": "bold"})  # in any browser
    path = "".join(letter + " ".join(f"{n:.1f}" for n in numbers) for letter, numbers in steps(outline))
    return svg(172, 36, "d2lnets", *mark(2, 2), f'<path d="{path}" fill="{BLUE}"/>')


def steps(outline):
    """The letters and numbers of an SVG path that draws a `TextPath`, its baseline at y = 28."""
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    for points, code in outline.iter_segments(curves=True, simplify=False):
        numbers = [] if code == 79 else [n if i % 2 == 0 else 28 - n for i, n in enumerate(points.tolist())]
        yield letters[int(code)], numbers


def picture(name, left, top, side):
    """The first test image of a class, 14×14, in squares of so many units."""
    test = load_fashion_mnist(SUBSET).test
    image = test.images[test.labels == CLASSES.index(name)][0, 0].float()
    image = image.reshape(14, 2, 14, 2).mean(dim=(1, 3)) / 255
    shapes = []
    for row in range(14):
        for column in range(14):
            if (ink := image[row, column].item()) > 0.05:
                pixel = box(left + side * column, top + side * row, side - 1, side - 1, GREY, 1)
                shapes.append(pixel.replace("/>", f' fill-opacity="{0.15 + 0.85 * ink:.2f}"/>'))
    return shapes


def answer(left, top):
    """A bar for each class, the longest for the boot."""
    lengths = (4, 7, 3, 5, 3, 12, 4, 15, 5, 62)
    return [box(left, top + 13 * i, length, 8, GREEN if i == 9 else GREY, 1) for i, length in enumerate(lengths)]


def bench():
    """What the lab's first bench does: a picture, and a line that is drawn on it; what a network makes of it."""
    return svg(
        340, 150, "A picture that is drawn on, and the answer of a network",
        *picture("Ankle boot", 20, 12, 9), line("M34 116 C40 96 44 64 76 52", ORANGE, 6),
        line("M170 75 H222 M212 66 L222 75 L212 84", GREY), *answer(250, 12),
    )  # fmt: skip


def cover():
    """An image on the left; residual, Inception and dense blocks; ten classes on the right."""
    shapes = picture("Ankle boot", 10, 52, 9)
    for y in (55, 115, 175):
        shapes.append(line(f"M150 115 C175 115 165 {y} 190 {y}", GREY))
        shapes.append(line(f"M560 {y} C585 {y} 575 115 600 115", GREY))
    shapes += residual_row(55) + inception_row(115) + dense_row(175)
    shapes += answer(612, 52)
    return svg(
        700, 230, "An image on its way through residual, Inception and dense blocks to ten class probabilities", *shapes
    )


def social():
    """The page of 1200×630 that is photographed: networks that show pictures of addresses want one of this size."""
    words = "Residual, Inception and dense networks: read, predict, run"
    return f"""<body style="margin: 0; width: 1200px; height: 630px; background: white; display: flex; gap: 40px;
    flex-direction: column; justify-content: center; align-items: center; font: 36px 'DejaVu Sans'; color: #333">
    <div style="zoom: 2.2">{logo()}</div><div style="zoom: 1.5">{cover()}</div><div>{words}</div></body>"""


def photograph(page, path):
    """A PNG of an HTML text, 1200×630."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        sheet = browser.new_page(viewport={"width": 1200, "height": 630})
        sheet.set_content(page)
        sheet.screenshot(path=path)
        browser.close()


def residual_row(y):
    shapes = [line(f"M190 {y} H560", GREY)]
    for x in range(215, 540, 85):
        shapes.append(box(x + 16, y - 10, 28, 20, BLUE))
        shapes.append(line(f"M{x} {y} C{x} {y - 38} {x + 62} {y - 38} {x + 62} {y}", ORANGE))
        shapes.append(dot(x + 62, y, ORANGE))
    return shapes


def inception_row(y):
    shapes = [line(f"M{a} {y} H{b}", GREY) for a, b in ((190, 215), (297, 327), (409, 439), (521, 560))]
    for x in range(215, 540, 112):
        for offset, side in ((-21, 5), (-7, 8), (7, 11), (21, 8)):
            shapes.append(line(f"M{x} {y} C{x + 18} {y} {x + 14} {y + offset} {x + 32} {y + offset}", BLUE, 2))
            shapes.append(line(f"M{x + 50} {y + offset} C{x + 68} {y + offset} {x + 64} {y} {x + 82} {y}", BLUE, 2))
            shapes.append(line(f"M{x + 32} {y + offset} h18", BLUE, 2))
            shapes.append(box(x + 41 - side / 2, y + offset - side / 2, side, side, BLUE, 1))
        shapes.append(dot(x + 82, y, GREEN))
    return shapes


def dense_row(y):
    places = range(215, 560, 64)
    shapes = [line(f"M190 {y} H560", GREY)]
    for i, start in enumerate(places):
        for end in places[i + 2 :]:
            depth = 8 + 0.16 * (end - start)
            shapes.append(line(f"M{start} {y} C{start} {y + depth} {end} {y + depth} {end} {y}", ORANGE, 1.5))
    shapes += [box(x - 9, y - 9, 18, 18, BLUE) for x in places]
    return shapes


def thumbnail(title, *shapes):
    return svg(120, 72, title, *shapes)


def thumbnails():
    """A picture for each idea and each chapter, by file name."""
    curves = [("M12 14 C40 16 70 40 108 58", ORANGE), ("M12 12 C30 14 92 20 108 50", ORANGE)]
    curves += [("M12 16 C26 58 60 60 108 61", BLUE), ("M12 18 C24 50 60 58 108 59", BLUE)]
    stages = [(10, 44, 8), (30, 34, 12), (56, 24, 18), (86, 14, 26)]
    rows = [(18, 30, 62, GREEN), (32, 44, 78, BLUE), (46, 58, 92, ORANGE), (60, 40, 100, GREY)]
    wave, funnel = "M10 60 L38 14 L110 60", "M10 8 L52 30 V42 L10 64 Z M110 8 L68 30 V42 L110 64 Z"
    drawings = {
        "residual": ("Add", mark(14, 14, 1.6)),
        "function_classes": ("Four training curves", [line(path, color, 3) for path, color in curves]),
        "resnet18": ("Stages", [box(x, 36 - h / 2, w, h, BLUE) for x, h, w in stages]),
        "resnet50": ("A bottleneck", [f'<path d="{funnel}" fill="{BLUE}"/>', box(52, 30, 16, 12, ORANGE, 0)]),
        "comparison": ("Intervals", [part for y, x, end, color in rows
                       for part in (line(f"M{x} {y} H{end}", color), dot((x + end) / 2, y, color))]),
        "training": ("One who starts, one who waits", [
            *(box(10 + 17 * i, 16, 14, 16, BLUE) for i in range(6)),
            *(box(14 + 17 * i, 42, 5, 16, ORANGE) for i in range(6))]),
        "training_fast": ("A learning rate that rises and falls", [line(wave, BLUE, 4)]),
        "many_gpus": ("Several devices, one mean", [box(12, 50, 96, 14, GREEN), *(part for x in (26, 60, 94) for part in
                      (line(f"M{x} 28 V50", GREY), box(x - 12, 8, 24, 22, BLUE)))]),
        "later_blocks": ("Steps", [box(10 + 21 * i, 64 - h, 17, h, ORANGE if i == 2 else BLUE)
                         for i, h in enumerate((18, 32, 26, 44, 54))]),
    }  # fmt: skip
    four = [line(f"M8 36 C26 36 20 {y} 38 {y} H82 C100 {y} 94 36 112 36", BLUE, 2.5) for y in (9, 27, 45, 63)]
    four += [
        box(60 - size / 2, y - size / 2, size, size, BLUE, 1) for y, size in ((9, 8), (27, 12), (45, 16), (63, 12))
    ]
    drawings["inception"] = "Take several paths, and join", [*four, dot(112, 36, GREEN)]
    places = range(14, 120, 23)
    dense = [line("M6 26 H114", GREY)]
    for i, start in enumerate(places):
        for end in places[i + 2 :]:
            low = 26 + 0.55 * (end - start)
            dense.append(line(f"M{start} 26 C{start} {low:g} {end} {low:g} {end} 26", ORANGE, 1.5))
    drawings["dense"] = "Keep everything", [*dense, *(box(x - 7, 19, 14, 14, BLUE) for x in places)]
    return {name: thumbnail(title, *shapes) for name, (title, shapes) in drawings.items()}


def palette():
    """The colours of the figures as variables of style sheets, on light and on dark pages."""
    rules = []
    for place, mode in (("html", 0), ('html[data-theme="dark"]', 1)):
        lines = [f"  --{name}: {colors[mode]};" for name, colors in PALETTE.items()]
        rules.append("\n".join([f"{place} {{", *lines, "}"]))
    return "/* Written by tools/draw.py from d2lnets/plots/style.py. */\n\n" + "\n\n".join(rules) + "\n"


if __name__ == "__main__":
    (STATIC / "palette.css").write_text(palette(), encoding="utf-8")
    for name, drawing in thumbnails().items():
        (STATIC / f"idea-{name}.svg").write_text(drawing, encoding="utf-8")
    for name, drawing in (("favicon", favicon()), ("logo", logo()), ("cover", cover()), ("bench", bench())):
        (STATIC / f"{name}.svg").write_text(drawing, encoding="utf-8")
    if "--social" in sys.argv:
        photograph(social(), STATIC / "social.png")
