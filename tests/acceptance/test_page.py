"""The page in a real Chromium, at a server over the devnet's backends."""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Request, async_playwright, expect
from served import serving
from terminal import Terminal

pytestmark = pytest.mark.anyio

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
VIEWS = {"Overview": "", "Runs": "runs", "New run": "new", "Plan": "plan", "Costs": "costs"}
PATIENCE_MS = 30_000
ENVIRONMENT = dict(os.environ)  # read here: no test sees it
NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button, svg[role=img]")]
    .filter((one) => one.checkVisibility())
    .filter((one) => !(one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label")))
    .map((one) => one.outerHTML)"""
CONTRAST = """() => {
  const read = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const color = read(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("main *, header *")].filter((one) =>
    one.checkVisibility() && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((one) => {
      const [a, b] = [light(read(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.fixture
def url(terminal: Terminal) -> Iterator[str]:
    """The page's address, at a server that has no runs yet."""
    text = (terminal.folder / "gateway.toml").read_text(encoding="utf-8")
    (terminal.folder / "page.toml").write_text(text.replace("runs.db", "page.db"), encoding="utf-8")
    for path in terminal.folder.glob("page.db*"):
        path.unlink()
    with serving(terminal, "--config", "page.toml") as (_, client):
        yield str(client.base_url).rstrip("/")


def find_browser() -> tuple[str, dict[str, str]]:
    """Return a browser and what it needs in its environment: the machine's, or that of `start.py setup`."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path, {}
    own = Path(__file__).parents[2] / ".ci" / "node" / "chromium"
    assert (own / "chromium").exists(), "there is no Chromium: run `python3 start.py setup`, or install one"
    return str(own / "chromium"), {"LD_LIBRARY_PATH": f"{own / 'al2023' / 'lib'}:{own}"}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path, needed = find_browser()
    options = ["--no-sandbox"] if os.geteuid() == 0 or needed else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=options, env={**ENVIRONMENT, **needed}
        )
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A page of which all requests and complaints are kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)


@pytest.fixture
async def watched(browser: Browser) -> AsyncIterator[Watched]:
    expect.set_options(timeout=PATIENCE_MS)
    context = await browser.new_context()
    yield Watched(await context.new_page())
    await context.close()


async def fill_and_run(page: Page, model: str, text: str, backend: str = "auto") -> None:
    await page.get_by_label("Model").select_option(model)
    await page.get_by_label("Input").fill(text)
    await page.get_by_label("Backend").select_option(backend)
    await page.get_by_role("button", name="Run").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Run run_")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_is_readable_named_and_asks_nobody_else(
    url: str, browser: Browser, scheme: str
) -> None:
    context = await browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await page.goto(f"{url}/#/new")
    await fill_and_run(page, "sentiment", '{"text": "fine"}', "hosted")
    await expect(page.get_by_text("✓ completed")).to_be_visible()
    for title, place in VIEWS.items():
        await page.goto(f"{url}/#/{place}")
        await expect(page.get_by_role("heading", level=1)).to_have_text(title)
        await expect(page.get_by_role("link", name=title, exact=True)).to_have_attribute(
            "aria-current", "page"
        )
        await page.wait_for_load_state("networkidle")
        if place == "":
            await expect(page.get_by_label("Backend node1")).to_contain_text("free")
        if place == "plan":
            await page.get_by_role("button", name="Plan").click()
            await expect(page.get_by_role("heading", level=2)).to_have_count(1)
        assert await page.evaluate(NAMELESS) == []
        assert await page.evaluate(CONTRAST) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert watched.complaints == []
    assert {request.split("/")[2] for request in watched.asked} == {url.removeprefix("http://")}
    await context.close()


async def test_a_task_is_run_with_the_keyboard_alone(url: str, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"{url}/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == "New run":
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("New run")
    await expect(page.get_by_label("Model")).to_be_visible()
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == "Run":
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("0.8316").first).to_be_visible()
    await expect(page.get_by_role("table").filter(has_text="Every try at a backend")).to_contain_text("node")
    await expect(page.get_by_text("free", exact=True).first).to_be_visible()  # what it cost


async def test_a_run_is_followed_live_and_cancelled(url: str, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"{url}/#/new")
    await fill_and_run(page, "sleep", '{"seconds": 600}', "hosted")
    await expect(page.get_by_text("… running")).to_be_visible()
    await page.get_by_role("button", name="Cancel the run").click()
    await expect(page.get_by_text("✕ cancelled")).to_be_visible()
    await page.goto(f"{url}/#/runs")
    await expect(page.get_by_role("table")).to_contain_text("cancelled")
    await page.get_by_label("Show").select_option("running")
    await expect(page.get_by_text("There are no runs.")).to_be_visible()


async def test_output_is_shown_as_it_comes_and_never_as_html(url: str, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"{url}/#/new")
    await page.get_by_label("Show the output").check()
    evil = "<img src=x onerror=document.title='stolen'> one two"
    await fill_and_run(page, "words", f'{{"text": "{evil}"}}')
    await expect(page.get_by_text("✓ completed")).to_be_visible()
    await expect(page.get_by_text("onerror").first).to_be_visible()
    assert await page.locator("main img").count() == 0
    assert "stolen" not in await page.title()


async def test_a_character_that_comes_in_two_pieces_is_shown_whole(url: str, watched: Watched) -> None:
    page, cut = watched.page, [bytes([byte]) for byte in "für 世界".encode()]
    events = [f'event: piece\ndata: {{"data": "{b64encode(data).decode()}"}}\n\n' for data in cut]
    stream = "".join([*events, "event: end\ndata: {}\n\n"])
    await page.route("**/events", lambda route: route.fulfill(body=stream, content_type="text/event-stream"))
    await page.goto(f"{url}/#/new")
    await fill_and_run(page, "sleep", '{"seconds": 600}', "hosted")
    await expect(page.get_by_label("Output as it comes")).to_have_text("für 世界")


async def test_a_failure_says_why(url: str, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"{url}/#/new")
    await fill_and_run(page, "fail", '{"error": "on purpose"}')
    await expect(page.get_by_role("alert")).to_contain_text("on purpose")
    await expect(page.get_by_text("nothing", exact=True).first).to_be_visible()  # what it cost
    await page.goto(f"{url}/#/new")
    await page.get_by_label("Input").fill("not JSON")
    await page.get_by_role("button", name="Run").click()
    await expect(page.get_by_role("alert")).to_contain_text("The input is not JSON")


async def test_the_plan_says_why_not_elsewhere(url: str, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"{url}/#/plan")
    await page.get_by_label("Most it may cost").fill("0.001 USD")
    await page.get_by_role("button", name="Plan").click()
    removed = page.get_by_role("table").filter(has_text="Each with the rule that removed it")
    await expect(removed).to_contain_text("hosted")
    await expect(removed).to_contain_text("max_cost")
    await expect(page.get_by_role("table").first).to_contain_text("free")


async def test_costs_are_charts_with_their_figures(url: str, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"{url}/#/new")
    await fill_and_run(page, "sentiment", '{"text": "fine"}', "hosted")
    await expect(page.get_by_text("✓ completed")).to_be_visible()
    await page.goto(f"{url}/#/costs")
    charts = page.get_by_role("img")
    await expect(charts).to_have_count(3)
    for chart in await charts.all():
        assert "0.002" in (await chart.get_attribute("aria-label") or "")
        assert await chart.locator("rect").count() == 1
    await expect(page.get_by_role("table")).to_contain_text("0.002 USD")


async def test_a_key_is_asked_for_and_used(tmp_path: Path, watched: Watched) -> None:
    (tmp_path / "gateway.toml").write_text('[gateway]\nstore = "sqlite:///runs.db"\n', encoding="utf-8")
    terminal = Terminal(tmp_path)
    made = terminal.say("keys", "create", "page").strip()
    with serving(terminal) as (_, client):
        page = watched.page
        await page.goto(str(client.base_url))
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.get_by_label("Key", exact=True).fill("gw_wrong_key")
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await expect(page.get_by_role("alert")).to_contain_text("API key")
        await page.get_by_label("Key", exact=True).fill(made)
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_text("There are no runs.")).to_be_visible()
        await page.get_by_role("link", name="Costs").click()
        await expect(page.get_by_text("Nothing was submitted in this time.")).to_be_visible()
        assert all(made not in request for request in watched.asked), "a key is never in an address"
