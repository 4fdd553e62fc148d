"""`make screenshot`: starts a system of its own, talks to its chat page, and draws the picture in the README.

The folder `.local/screenshot` keeps pictures of the page in both languages, on a desktop and a phone, to be looked at.
"""

import asyncio
import base64
import sys
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

from ops.local.servers import LOCAL, ROOT
from ops.local.stack import PATIENCE, Stack, free_ports

PICTURE = ROOT / "ops" / "pictures" / "chat.png"
# Limits the picture's size; a larger picture makes the command fail. A clone of the repository contains every version
# of the picture.
MAX_BYTES = 100_000
WAIT_MS = 30_000  # longest wait for an answer on the page
CHROMIUM = "/usr/bin/chromium"
# Chromium runs as root, without a display, and without connections of its own.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SIZES = {"desktop": (736, 700), "phone": (390, 700)}
# By language: the browser's locale, the button by which a guest enters, and the guest's texts, each with a part of its
# answer.
TALKS = {
    "zh": ("zh-CN", "访客", [("我的订单20260001到哪了？", "后四位"), ("1234", "ZT700000007919")]),
    "en": ("en-US", "guest", [("Where is my order 20260001?", "four"), ("1234", "ZT700000007919")]),
}
SHOWN = ("zh-desktop", "en-phone")  # side by side in the picture


async def draw(url: str, folder: Path, picture: Path) -> None:
    """Write the pages of the gateway at `url` into a folder, and two of them side by side into `picture`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        pages = {}
        for language in TALKS:
            for size in SIZES:
                name = f"{language}-{size}"
                pages[name] = await _page(browser, url, language, size)
                (folder / f"{name}.png").write_bytes(pages[name])
        await _beside_each_other(browser, [pages[name] for name in SHOWN], picture)
        await browser.close()


async def _page(browser: Browser, url: str, language: str, size: str) -> bytes:
    """Return a picture of the page after the conversation of a new guest."""
    locale, door, talk = TALKS[language]
    width, height = SIZES[size]
    context = await browser.new_context(locale=locale, viewport={"width": width, "height": height})
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("button", name=door).click()
    for text, answer in talk:
        shown = await page.locator(".theirs").count()
        await page.get_by_role("textbox").fill(text)
        await page.keyboard.press("Enter")
        await expect(page.locator(".theirs").nth(shown)).to_contain_text(answer, timeout=WAIT_MS)
    picture = await page.screenshot(animations="disabled")
    await context.close()
    return picture


async def _beside_each_other(browser: Browser, pages: list[bytes], picture: Path) -> None:
    page = await browser.new_page(viewport={"width": 1186, "height": 740})
    images = "".join(f'<img src="data:image/png;base64,{base64.b64encode(each).decode()}">' for each in pages)
    style = "body{margin:0;padding:20px;display:flex;gap:20px;background:#e8eaed}img{border-radius:10px}"
    await page.set_content(f"<style>{style}</style>{images}")
    await page.screenshot(path=picture)


def main() -> int:
    """Start the system, draw the pictures, stop the system; return 0, or 1 if the picture is too large."""
    folder = LOCAL / "screenshot"
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder, free_ports(), overrides=PATIENCE)
    try:
        stack.start()
        asyncio.run(draw(stack.url("gateway"), folder, PICTURE))
    finally:
        stack.stop()
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(ROOT)}: {size:,} bytes; look at the pages in {folder.relative_to(ROOT)}")
    return int(size > MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
