"""The pages in a real browser: they open from disk, draw everything, and answer to pointer and keys."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddarts.reporting.comparison import write_comparison
from ddarts.reporting.page import write_report
from ddarts.runs.folder import RunFolder

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """A function that opens a page; at the end, no page may have complained or asked for anything."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: Path, *, size: str = "desktop", **options: Any) -> Any:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def report(shared_run: RunFolder) -> Path:
    return write_report(shared_run.path)


@pytest.fixture(scope="module")
def comparison(shared_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(shared_run.path, folder / "second")
    return write_comparison([shared_run.path, folder / "second"], folder / "comparison.html")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_and_draws_every_chart(opened: Any, report: Path, size: str, scheme: str) -> None:
    page = opened(report, size=size, color_scheme=scheme)
    for panel in range(5):
        page.get_by_role("tab", name=f"Cell {panel}").click()
        assert page.locator("[role=tabpanel]:not([hidden]) svg.chart").bounding_box()["height"] > 100
    boxes = [chart.bounding_box() for chart in page.locator("svg.chart:visible").all()]
    assert len(boxes) == 5 + 1 + 3
    assert all(box["width"] > 200 and box["height"] > 100 for box in boxes)
    assert page.locator("svg.cell-drawing:visible").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.locator(".sheet img").first.evaluate("image => image.naturalWidth") == 5


def test_the_colours_follow_the_system_and_the_button(opened: Any, report: Path) -> None:
    page = opened(report, color_scheme="dark")

    def paper() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = paper()
    page.get_by_role("button", name="Switch between light and dark").click()
    assert paper() != dark
    page.emulate_media(color_scheme="light")
    assert opened(report, color_scheme="light").evaluate("getComputedStyle(document.body).backgroundColor") == paper()


def corner_of(page: Any, chart: Any, label: str) -> tuple[float, float]:
    """Return the place of the middle corner of a line, on the screen; `label` is part of its name."""
    chart.scroll_into_view_if_needed()
    group = chart.locator(".series", has_text=label).first
    path = group.locator("path").first.get_attribute("d")
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", path)]
    at = len(numbers) // 4 * 2
    return tuple(
        page.evaluate(
            "([svg, x, y]) => { const p = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }",
            [chart.element_handle(), numbers[at], numbers[at + 1]],
        )
    )


@pytest.mark.parametrize("size", SIZES)
def test_pointing_at_a_gate_tells_its_operation_edge_and_value(opened: Any, report: Path, size: str) -> None:
    page = opened(report, size=size)
    chart = page.locator("#gates ~ div .panel:not([hidden]) svg.chart")
    strong = chart.locator(".series:not(.faint) title").first.text_content()
    page.mouse.move(*corner_of(page, chart, strong))
    tip = page.locator(".panel:not([hidden]) .tip")
    assert tip.is_visible()
    assert re.fullmatch(r"\w+, (ck\u2212\d|node \d) to node \depoch \d: gate [\d.]+", tip.text_content())
    assert page.locator(".series.lit").count() == 1
    page.mouse.move(2, 2)
    assert not tip.is_visible()
    assert page.locator(".series.lit").count() == 0


def test_what_a_tip_says_is_what_was_logged(opened: Any, report: Path) -> None:
    page = opened(report)
    chart = page.locator("svg.chart[data-y-label='accuracy, %']").first  # 100 (1 - 0.9 / epoch)
    page.mouse.move(*corner_of(page, chart, "search half"))
    tip = chart.locator("xpath=..").locator(".tip").text_content()
    epoch, value = re.fullmatch(r"search halfepoch (\d): accuracy, % ([\d.]+)", tip).groups()
    assert float(value) == pytest.approx(100 * (1 - 0.9 / int(epoch)), abs=0.01)


def test_arrow_keys_walk_over_lines_and_points(opened: Any, report: Path) -> None:
    page = opened(report)
    plot = page.locator(".panel:not([hidden]) .plot")
    tip = plot.locator(".tip")
    plot.focus()
    assert not tip.is_visible()
    page.keyboard.press("ArrowDown")
    first = tip.text_content()
    assert "epoch 6: gate" in first
    page.keyboard.press("ArrowLeft")
    assert "epoch 5: gate" in tip.text_content()
    page.keyboard.press("Home")
    assert "epoch 1: gate" in tip.text_content()
    page.keyboard.press("End")
    assert tip.text_content() == first
    gates = [float(first.rsplit(" ", 1)[1])]
    for _ in range(5):
        page.keyboard.press("ArrowDown")
        gates.append(float(tip.text_content().rsplit(" ", 1)[1]))
    assert gates == sorted(gates, reverse=True)
    page.keyboard.press("Escape")
    assert not tip.is_visible()


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_tabs_switch_by_click_and_by_keys(opened: Any, which: str, request: pytest.FixtureRequest) -> None:
    page = opened(request.getfixturevalue(which))
    tabs, panels = page.get_by_role("tab"), page.locator("[role=tabpanel]")
    assert tabs.count() == panels.count() == 5

    def shown() -> list[int]:
        return [i for i in range(5) if panels.nth(i).is_visible()]

    assert shown() == [0]
    tabs.nth(3).click()
    assert shown() == [3]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert shown() == [0]
    page.keyboard.press("End")
    assert shown() == [4]
    assert [tabs.nth(i).get_attribute("aria-selected") for i in range(5)] == ["false"] * 4 + ["true"]
    assert page.evaluate("document.activeElement.textContent") == "Cell 4"


@pytest.mark.parametrize("size", SIZES)
def test_the_comparison_opens_and_draws_every_chart(opened: Any, comparison: Path, size: str) -> None:
    page = opened(comparison, size=size)
    boxes = [chart.bounding_box() for chart in page.locator("svg.chart").all()]
    assert len(boxes) == 6
    assert all(box["height"] > 100 for box in boxes)
    assert page.locator("[role=tabpanel]:not([hidden]) svg.cell-drawing").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


def test_a_table_that_is_wider_than_a_phone_scrolls_alone(opened: Any, whole_run: RunFolder) -> None:
    limits = {"parameters": 60_000, "macs": 485_000}
    with whole_run:
        whole_run.update_summary(budget={"limits": limits, "costs": limits})
    page = opened(write_report(whole_run.path), size="phone")
    assert page.locator("table .unseen").count() >= 2  # they stand in the last column
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"][0]


def test_without_scripts_nothing_is_hidden(opened: Any, report: Path) -> None:
    page = opened(report, java_script_enabled=False)
    assert page.locator("svg.chart:visible").count() == 5 + 5 + 3
    assert page.locator(".series title").count() > 100  # the browser's own hints


def test_print_shows_every_panel_in_light_colours(opened: Any, report: Path) -> None:
    page = opened(report, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("svg.chart:visible").count() == 5 + 5 + 3
    assert page.locator("nav").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_script_that_was_smuggled_in_does_not_run(opened: Any, report: Path, tmp_path: Path, browser: Any) -> None:
    smuggled = tmp_path / "smuggled.html"
    text = report.read_text(encoding="utf-8")
    smuggled.write_text(text.replace("</main>", "<script>window.ran = 1</script></main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(smuggled.as_uri())
    assert page.evaluate("window.ran") is None
    assert page.get_by_role("tab").count() == 5  # its own script ran
    page.close()


def test_the_script_of_the_gallery_takes_its_pictures_of_a_run(report: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "docs" / "take_pictures.py"), str(report.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    taken = {path.name for path in tmp_path.iterdir()}
    assert taken == {path.name for path in (root / "docs" / "pictures").glob("report-*.png")}
