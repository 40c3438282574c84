#!/usr/bin/env python3
"""Looks at a report in a browser (chromium), at 390 and 1280 pixels, light and dark.

  look.py PAGE FOLDER    writes FOLDER/390-light.png, ...; fails where words overlap or anything is wider than the page

Tables may be wider than a phone: they scroll by themselves. The pictures are for people to look at.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

TALLEST = 16000  # pixels; a longer page is cut off in the pictures
FRAME = """<body style="margin:0"><iframe id="f" src="{page}" onload="look()"
 style="width:{width}px;height:{height}px;border:0;display:block"></iframe><pre id="found"></pre><script>
function look() {{
  const page = document.getElementById('f').contentDocument, found = [], width = page.documentElement.clientWidth;
  if (page.documentElement.scrollWidth > width) found.push('the page is wider: ' + page.documentElement.scrollWidth);
  const apart = words => {{
    const boxes = [...words].map(w => [w.textContent, w.getBoundingClientRect()]).filter(b => b[1].width > 0);
    boxes.forEach(([name, a], i) => {{
      if (a.left < -1 || a.right > width + 1) found.push('outside: ' + name);
      for (const [other, b] of boxes.slice(0, i))
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          found.push('over one another: ' + name + ', ' + other);
    }});
  }};
  page.querySelectorAll('svg').forEach(svg => apart(svg.querySelectorAll('text')));
  page.querySelectorAll('.bars, .legend, nav, .map').forEach(part => apart(part.querySelectorAll('span, a')));
  document.getElementById('found').textContent = JSON.stringify(found);
}}</script>"""


def main():
    page, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    wrong = []
    for width in (390, 1280):
        with tempfile.NamedTemporaryFile("w", suffix=".html") as frame:
            frame.write(FRAME.format(page=page.as_uri(), width=width, height=TALLEST))
            frame.flush()
            # A window is 500 pixels wide at least; the frame is as wide as is asked for.
            browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                       "--allow-file-access-from-files", f"--window-size={max(width, 500)},{TALLEST}"]
            call = lambda *more: subprocess.run([*browser, *more, f"file://{frame.name}"], capture_output=True, text=True,
                                                check=True).stdout
            found = re.search(r'<pre id="found">(\[.*?\])</pre>', call("--dump-dom"), re.S)
            wrong += [f"{width}: {what}" for what in (json.loads(found[1]) if found else ["the page was not looked at"])]
            for number, theme in enumerate(("dark", "light")):
                call(f"--screenshot={folder / f'{width}-{theme}.png'}", f"--blink-settings=preferredColorScheme={number}")
    print("\n".join(wrong) or f"nothing overlaps; pictures are in {folder}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
