"""The chat page in a real browser, on the real gateway. A stand-in for the worker writes the replies.

`KEFU_SCREENSHOTS=folder` keeps pictures of the page.
"""

import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
from playwright.async_api import async_playwright, expect

from ops.local.screenshot import CHROMIUM, FLAGS
from tests.integration.gateway_kit import TENANTS, running_valkey, serve, settings
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio
expect.set_options(timeout=20_000)  # ms, for every page: the browser shares two cores with the other processes
HUMAN = [{"title": "转人工", "payload": "/human"}, {"title": "No, thanks", "payload": "/deny"}]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    """One Redis-protocol server for all pages."""
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium fonts-noto-cjk"
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@asynccontextmanager
async def opened(valkey, locale="en-US", user="alice", **context):
    """Serve the page and open it as a demo customer. Errors in the browser's console fail the test."""
    complaints = []
    async with serve(valkey.settings, settings(demo_login=True)) as served, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await (await browser.new_context(locale=locale, **context)).new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: "Security Policy" in message.text and complaints.append(message.text))
        await page.goto(served.address)
        if user:
            await page.get_by_role("button", name=user).click()
            await expect(page.locator("#status")).to_have_attribute("data-state", "online")
        try:
            yield served, page
        finally:
            await browser.close()
    assert not complaints


async def say(page, text):
    await page.get_by_role("textbox").fill(text)
    await page.keyboard.press("Enter")


def answering(served, *texts, **fields):
    served.inbox.on_said = lambda said: served.worker.answer(said.user, said.message_id, *texts, **fields)


async def picture(page, name):
    folder = os.environ.get("KEFU_SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize(
    ("locale", "title", "placeholder"),
    [
        ("zh-CN", "在线客服", "请输入消息"),
        ("zh-TW", "在线客服", "请输入消息"),
        ("en-GB", "Support", "Write a message"),
        ("de-DE", "Support", "Write a message"),
    ],
)
async def test_chat_page_uses_the_browsers_language(valkey, locale, title, placeholder):
    """The page is Chinese for every Chinese locale, and English for all others."""
    async with opened(valkey, locale) as (_, page):
        await expect(page).to_have_title(title)
        await expect(page.get_by_placeholder(placeholder)).to_be_focused()


async def test_switched_page_language_survives_a_reload(valkey):
    async with opened(valkey) as (_, page):
        await page.get_by_role("button", name="切换到中文").click()
        await expect(page.get_by_placeholder("请输入消息")).to_be_visible()
        assert await page.get_attribute("html", "lang") == "zh-CN"
        await page.reload()
        await expect(page.get_by_placeholder("请输入消息")).to_be_visible()


async def test_chat_page_keeps_question_and_answer_after_a_reload(valkey):
    async with opened(valkey, "zh-CN") as (served, page):
        answering(served, "顺丰速运 SF1234567890123")
        await say(page, "我的订单20260001到哪了")
        await expect(page.locator(".theirs")).to_contain_text("客服: 顺丰速运 SF1234567890123")
        await expect(page.locator(".mine")).to_have_attribute("data-state", "answered")
        await expect(page.locator("#typing")).to_be_hidden()
        assert (served.inbox.said[0].text, served.inbox.keys) == ("我的订单20260001到哪了", ["demo:alice"])
        await picture(page, "answered-zh")
        await page.reload()
        await expect(page.locator(".message")).to_have_count(2)
        await expect(page.locator(".message").first).to_contain_text("我的订单20260001到哪了")


async def test_guest_of_the_chat_page_gets_a_guest_id(valkey):
    """The message is sent under `guest-...` and as that of an unidentified customer."""
    async with opened(valkey, user=None) as (served, page):
        await picture(page, "start-en")
        await page.get_by_role("button", name="guest").click()
        await say(page, "hello")
        await eventually(lambda: served.inbox.said)
        assert served.inbox.said[0].user.startswith("guest-") and not served.inbox.said[0].identified


async def test_chat_page_marks_an_unanswered_message_as_queued(valkey):
    """The typing indicator is shown until the reply is there."""
    async with opened(valkey) as (served, page):
        await say(page, "hello")
        await expect(page.locator(".mine")).to_have_attribute("data-state", "queued")
        await expect(page.locator("#typing")).to_be_visible()
        served.worker.answer("alice", served.inbox.said[0].message_id, "hi")
        await expect(page.locator(".theirs")).to_contain_text("hi")
        await expect(page.locator("#typing")).to_be_hidden()


async def test_chat_page_shows_html_in_messages_as_text(valkey):
    """HTML, scripts and javascript: addresses of the customer or of a reply create no element."""
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    async with opened(valkey) as (served, page):
        buttons = [{"title": evil, "payload": evil}]
        answering(served, evil, buttons=buttons, image="javascript:document.title=3", attachment="data:text/html,x")
        await say(page, evil)
        await expect(page.locator(".theirs .bubble")).to_have_text(evil)
        await expect(page.locator(".mine .bubble")).to_have_text(evil)
        assert await page.locator("#log img, #log script, #log a").count() == 0
        await expect(page).to_have_title("Support")


async def test_chat_page_shows_only_the_card_of_a_custom_payload(valkey):
    """A reply's `custom` may hold anything: the page shows a well-formed `card` and ignores the rest."""
    evil = "<img src=x>"
    async with opened(valkey) as (served, page):
        card = [{"label": "Carrier", "value": "ZTO Express"}, {"label": evil, "value": "ZT700000007919"}]
        answering(served, "It has been shipped.", custom={"card": card, "confetti": True})
        await say(page, "where is it")
        await expect(page.locator(".theirs .card dt")).to_have_text(["Carrier", evil])
        await expect(page.locator(".theirs .card dd")).to_have_text(["ZTO Express", "ZT700000007919"])
        await expect(page.locator(".theirs")).not_to_contain_text("confetti")
        assert [said.channel for said in served.inbox.said] == ["web"]
        await picture(page, "card")
        answering(served, "Plain.", custom={"card": "no list"})
        await say(page, "and now")
        await expect(page.locator(".theirs .bubble").last).to_have_text("Plain.")


async def test_clicked_button_sends_its_payload_once(valkey):
    """After the click, the other buttons of the reply are disabled."""
    async with opened(valkey) as (served, page):
        answering(served, "Shall I?", buttons=HUMAN)
        await say(page, "help")
        await page.get_by_role("button", name="转人工").wait_for()
        answering(served, "Done.")
        await page.get_by_role("button", name="转人工").click()
        await expect(page.locator(".theirs").last).to_contain_text("Done.")
        assert [said.payload for said in served.inbox.said] == [None, "/human"]
        await expect(page.get_by_role("button", name="No, thanks")).to_be_disabled()
        await expect(page.locator(".mine").last).to_contain_text("转人工")


async def test_outdated_button_shows_an_explanation_and_no_retry(valkey):
    """The worker refuses the payload (`payload_not_offered`) because its button is out of date."""
    async with opened(valkey) as (served, page):
        answering(served, "Shall I?", buttons=HUMAN)
        await say(page, "help")
        await page.get_by_role("button", name="转人工").wait_for()
        answering(served, status="failed", reason="payload_not_offered")
        await page.get_by_role("button", name="转人工").click()
        await expect(page.locator(".mine").last).to_contain_text("no longer available")
        await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
        await picture(page, "refused-en")


async def test_unsent_message_is_resent_under_the_same_id(valkey):
    """Kafka is away at the first attempt; "Try again" is clicked once Kafka is back."""
    async with opened(valkey) as (served, page):
        served.inbox.away = True
        await say(page, "hello")
        await expect(page.locator(".mine")).to_have_attribute("data-state", "unsent")
        served.inbox.away = False
        answering(served, "hi")
        await page.evaluate("window.kept = JSON.parse(sessionStorage['kefu.messages'])[0].id")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".theirs")).to_contain_text("hi")
        assert served.inbox.said[0].message_id == await page.evaluate("window.kept")
        await expect(page.locator(".mine")).to_have_count(1)


async def test_chat_page_shows_each_reply_once_after_reconnecting(valkey):
    """The stream breaks; the replies of the meantime follow without a repetition."""
    async with opened(valkey) as (served, page):
        served.worker.answer("alice", "m1", "one")
        await expect(page.locator(".theirs")).to_have_count(1)
        served.app.ctx.gateway.draining = True  # keeps the page offline until the test has seen "reconnecting"
        for connection in list(served.connections):
            connection.transport.abort()
        await expect(page.locator("#status")).to_have_attribute("data-state", "reconnecting")
        served.app.ctx.gateway.draining = False
        served.worker.answer("alice", "m2", "two", "three")
        await expect(page.locator("#status")).to_have_attribute("data-state", "online")
        await expect(page.locator(".theirs .bubble")).to_have_text(["one", "two", "three"])


async def test_chat_page_learns_of_a_failure_without_its_hint(valkey):
    """The hint (notification) of a failed message is lost: the page polls, and "Try again" sends a new message."""
    async with opened(valkey) as (served, page):
        served.worker.hints = False
        answering(served, status="failed", reason="turn_failed")
        await say(page, "hello")
        await expect(page.locator(".mine")).to_have_attribute("data-state", "failed")
        served.worker.hints = True
        answering(served, "hi")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".theirs")).to_contain_text("hi")
        assert len({said.message_id for said in served.inbox.said}) == 2


async def test_enter_does_not_send_while_an_input_method_composes(valkey):
    """Enter then chooses Chinese characters. Shift+Enter begins a new line."""
    async with opened(valkey, "zh-CN") as (served, page):
        await page.get_by_role("textbox").fill("nihao")
        await page.evaluate(
            "document.getElementById('text').dispatchEvent("
            "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
        )
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("second")
        await expect(page.locator(".mine")).to_have_count(0)
        await page.keyboard.press("Enter")
        await eventually(lambda: served.inbox.said)
        assert [said.text for said in served.inbox.said] == ["nihao\nsecond"]


async def test_chat_page_sends_no_empty_or_too_long_text(valkey):
    """The limit is 4,000 characters."""
    async with opened(valkey) as (_, page):
        await page.get_by_role("textbox").fill("字" * 4001)
        await expect(page.get_by_role("button", name="Send")).to_be_disabled()
        await expect(page.locator("#count")).to_have_text("1 characters too many")
        await page.keyboard.press("Enter")
        await expect(page.locator(".mine")).to_have_count(0)
        await page.get_by_role("textbox").fill(" \n ")
        await expect(page.get_by_role("button", name="Send")).to_be_disabled()


async def test_chat_page_renews_a_demo_customers_expired_token(valkey):
    async with opened(valkey) as (served, page):
        served.worker.answer("alice", "m1", "one")
        await expect(page.locator(".theirs")).to_have_count(1)
        claims = {"sub": "alice", "tenant": "demo", "exp": int(time.time()) - 60}
        expired = jwt.encode(claims, TENANTS["demo"].token_secret, algorithm="HS256")
        await page.evaluate(
            "token => sessionStorage['kefu.session'] = JSON.stringify({token, user_id: 'alice', tenant_id: 'demo'})",
            expired,
        )
        await page.reload()
        await expect(page.locator("#status")).to_have_text("Online · alice")
        await expect(page.locator(".theirs")).to_have_count(1)


async def test_chat_page_works_by_keyboard_and_screen_reader(valkey):
    async with opened(valkey, user=None) as (served, page):
        answering(served, "Shall I?", buttons=HUMAN)
        for _ in range(3):
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Your message")).to_be_focused()
        await page.keyboard.type("help")
        await page.keyboard.press("Enter")
        log = page.get_by_role("log")
        await expect(log).to_have_attribute("aria-live", "polite")
        await expect(log).to_contain_text("Assistant: Shall I?")
        await page.keyboard.press("Shift+Tab")
        await expect(page.get_by_role("button", name="No, thanks")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_chat_page_fits_the_screen_of_a_phone(valkey, scheme):
    """360 x 640 pixels: long texts cause no horizontal scrolling, and the send button stays on the screen."""
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True, "color_scheme": scheme}
    async with opened(valkey, "zh-CN", **phone) as (served, page):
        answering(served, "SF" + "1234567890" * 20, "您好，" * 30, buttons=HUMAN)
        await page.get_by_role("textbox").fill("长" * 200)
        await page.get_by_role("button", name="发送").tap()
        await expect(page.locator(".theirs")).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        box = await page.get_by_role("button", name="发送").bounding_box()
        assert box["y"] + box["height"] <= 640 and min(box["width"], box["height"]) >= 44
        await picture(page, f"phone-{scheme}")
