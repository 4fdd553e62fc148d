"""The chat page on the whole system: a person in a browser gets the truth about an order."""

import pytest
from playwright.async_api import async_playwright, expect

from ops.local.screenshot import CHROMIUM, FLAGS, MAX_BYTES, SHOWN, draw
from tests.e2e.customers import shop_rows
from tests.e2e.test_chat_page import picture, say

WAIT_MS = 20_000


@pytest.fixture
async def browser():
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        await found.close()


async def opened(browser, stack, locale, name):
    page = await (await browser.new_context(locale=locale, viewport={"width": 420, "height": 800})).new_page()
    await page.goto(stack.url("gateway"))
    await page.get_by_role("button", name=name).click()
    await expect(page.locator("#status")).to_have_attribute("data-state", "online", timeout=WAIT_MS)
    return page


@pytest.mark.parametrize(
    ("locale", "question"), [("zh-CN", "我的订单20260001到哪了"), ("en-US", "where is my order 20260001?")]
)
async def test_chat_page_shows_an_orders_carrier_and_tracking_number(stack, browser, locale, question):
    """alice asks for her order in Chinese and in English; the whole system runs behind the page."""
    stored = "SELECT tracking_number, carrier_zh, carrier_en FROM orders WHERE number = '20260001'"
    tracking, *carrier = shop_rows(stack, stored)[0]
    page = await opened(browser, stack, locale, "alice")
    await say(page, question)
    answer = page.locator(".theirs").last
    await expect(answer).to_contain_text(tracking, timeout=WAIT_MS)
    await expect(answer).to_contain_text(carrier[locale == "en-US"])
    await picture(page, f"whole-{locale}")


async def test_guest_on_the_chat_page_is_led_to_the_order(stack, browser):
    """A guest clicks a button, then is asked for the order number and the phone's last four digits."""
    page = await opened(browser, stack, "zh-CN", "访客")
    await say(page, "你好")
    await page.get_by_role("button", name="查询订单").click(timeout=WAIT_MS)
    await expect(page.locator(".theirs").last).to_contain_text("订单号", timeout=WAIT_MS)
    await say(page, "20260001")
    await expect(page.locator(".theirs").last).to_contain_text("后四位", timeout=WAIT_MS)
    await say(page, "1234")
    await expect(page.locator(".theirs").last).to_contain_text("运单号", timeout=WAIT_MS)
    await picture(page, "whole-guest")


async def test_screenshot_of_the_readme_can_be_drawn(stack, tmp_path):
    drawn = tmp_path / "chat.png"
    await draw(stack.url("gateway"), tmp_path, drawn)
    assert 0 < drawn.stat().st_size <= MAX_BYTES
    assert all((tmp_path / f"{name}.png").stat().st_size for name in SHOWN)
