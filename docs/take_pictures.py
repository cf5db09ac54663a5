"""Take the pictures of a run's report that docs/gallery.md shows: python docs/take_pictures.py RUN FOLDER.

Needs playwright and Chromium. Each picture is reduced to 128 colours, which leaves a third of its size.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

#: Name of the picture -> section, width and height of the window, colours.
PICTURES = {
    "report-light": ("results", 1280, 900, "light"),
    "report-dark": ("cells", 1280, 900, "dark"),
    "report-phone": ("cells", 390, 844, "light"),
    "report-gates": ("gates", 1280, 760, "light"),
    "report-test": ("test", 1280, 900, "light"),
}


def main(run: Path, folder: Path) -> None:
    """Open the report once for each picture, in a window of its size."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (section, width, height, colours) in PICTURES.items():
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=colours, reduced_motion="reduce")
            page.goto((run / "report.html").resolve().as_uri())
            if section != "results":
                page.evaluate(f"document.getElementById('{section}').scrollIntoView({{behavior: 'instant'}})")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(128, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
