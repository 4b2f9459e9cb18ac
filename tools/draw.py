"""Draw the logo, the favicon and the cover: ``python tools/draw.py`` writes the SVG files into _static.

One idea in three sizes: an input, a block, and the line around it that carries the input past the block.
The colors are those of the figures (Okabe and Ito), readable on white and on dark.
"""

from pathlib import Path

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
    word = f'<text x="66" y="28" font-family="sans-serif" font-size="24" font-weight="700" fill="{BLUE}">d2lnets</text>'
    return svg(164, 36, "d2lnets", *mark(2, 2), word)


def cover():
    """An image on the left; residual, Inception and dense blocks; ten classes on the right."""
    shapes = []
    test = load_fashion_mnist(SUBSET).test
    boot = test.images[test.labels == CLASSES.index("Ankle boot")][0, 0].float()
    boot = boot.reshape(14, 2, 14, 2).mean(dim=(1, 3)) / 255
    for row in range(14):
        for column in range(14):
            if (ink := boot[row, column].item()) > 0.05:
                pixel = box(10 + 9 * column, 52 + 9 * row, 8, 8, GREY, 1)
                shapes.append(pixel.replace("/>", f' fill-opacity="{0.15 + 0.85 * ink:.2f}"/>'))
    for y in (55, 115, 175):
        shapes.append(line(f"M150 115 C175 115 165 {y} 190 {y}", GREY))
        shapes.append(line(f"M560 {y} C585 {y} 575 115 600 115", GREY))
    shapes += residual_row(55) + inception_row(115) + dense_row(175)
    for i, length in enumerate((4, 7, 3, 5, 3, 12, 4, 15, 5, 62)):
        shapes.append(box(612, 52 + 13 * i, length, 8, GREEN if i == 9 else GREY, 1))
    return svg(
        700, 230, "An image on its way through residual, Inception and dense blocks to ten class probabilities", *shapes
    )


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


def palette():
    """The colours of the figures as variables of style sheets, on light and on dark pages."""
    rules = []
    for place, mode in (("html", 0), ('html[data-theme="dark"]', 1)):
        lines = [f"  --{name}: {colors[mode]};" for name, colors in PALETTE.items()]
        rules.append("\n".join([f"{place} {{", *lines, "}"]))
    return "/* Written by tools/draw.py from d2lnets/plots/style.py. */\n\n" + "\n\n".join(rules) + "\n"


if __name__ == "__main__":
    (STATIC / "palette.css").write_text(palette(), encoding="utf-8")
    for name, drawing in (("favicon", favicon()), ("logo", logo()), ("cover", cover())):
        (STATIC / f"{name}.svg").write_text(drawing, encoding="utf-8")
