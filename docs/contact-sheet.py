"""Draws docs/contact-sheet.jpg, README's picture, from the page that `make demo` writes: four of its
searches with their first hits as they came, each framed by whether it is right. Wants Pillow."""

import base64
import html
import io
import re
import sys

from PIL import Image, ImageDraw, ImageFont

# What is shown, by a piece of its SQL and its place among the searches with that piece.
SEARCHES = [("'A red sedan.'", 1), ("'a woman in a red coat'", 0), ("image_search", 0), ('"north gate"', 0)]
HITS, CELL, GAP, TITLE, FRAME = 8, 128, 10, 26, 4
RIGHT, WRONG, PAPER, INK = (46, 125, 50), (198, 40, 40), (250, 250, 248), (30, 30, 30)


def searches(page):
    for article in re.findall(r"<article.*?</article>", page, re.S):
        sql = html.unescape(re.search(r"<pre>(.*?)</pre>", article, re.S).group(1))
        hits = re.findall(r'<li class="(hit[^"]*)".*?<img src="data:image/jpeg;base64,([^"]*)"', article, re.S)
        yield sql, [("right" in kind, base64.b64decode(data)) for kind, data in hits]


def main(page, out):
    found = list(searches(open(page, encoding="utf-8").read()))
    width = GAP + HITS * (CELL + GAP)
    height = GAP + len(SEARCHES) * (TITLE + CELL + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    y = GAP
    for piece, place in SEARCHES:
        sql, hits = [search for search in found if piece in search[0]][place]
        call = " ".join(re.search(r"FROM (\w+_search\(.*\))", sql, re.S).group(1).split())
        draw.text((GAP, y), call, fill=INK, font=font)
        y += TITLE
        for number, (right, data) in enumerate(hits[:HITS]):
            x = GAP + number * (CELL + GAP)
            draw.rectangle((x, y, x + CELL, y + CELL), fill=RIGHT if right else WRONG)
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            picture.thumbnail((CELL - 2 * FRAME, CELL - 2 * FRAME))
            sheet.paste((235, 235, 232), (x + FRAME, y + FRAME, x + CELL - FRAME + 1, y + CELL - FRAME + 1))
            sheet.paste(picture, (x + (CELL - picture.width) // 2, y + (CELL - picture.height) // 2))
        y += CELL + GAP
    sheet.save(out, quality=82, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
