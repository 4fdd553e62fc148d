"""Background effects leave connections for the customers' look-ups, and their number is bounded."""

import asyncio

import pytest

from actions.shop import ShopUnavailable
from actions.shop.background import AT_ONCE, BackgroundEffects
from tests.waiting import eventually

PAUSES_S = (0.01, 0.02)


class HangingShop:
    """Hangs until `well` is set; then it accepts effects."""

    def __init__(self) -> None:
        self.well = asyncio.Event()
        self.asked, self.hanging, self.most, self.done = 0, 0, 0, 0

    async def tell(self) -> None:
        self.asked += 1
        self.hanging += 1
        self.most = max(self.most, self.hanging)
        try:
            async with asyncio.timeout(0.05):
                await self.well.wait()
        except TimeoutError as error:
            raise ShopUnavailable("inquiry", "TimeoutError") from error
        finally:
            self.hanging -= 1
        self.done += 1


@pytest.mark.asyncio
async def test_hanging_shop_gets_few_background_calls_at_once():
    """At most AT_ONCE calls hang. Once the shop answers again, all 20 effects are done."""
    shop, effects = HangingShop(), BackgroundEffects(PAUSES_S)
    await asyncio.gather(*(effects.run(shop.tell, 0.01) for _ in range(20)))
    await eventually(lambda: shop.asked >= 4 * AT_ONCE)
    assert shop.most == AT_ONCE and not shop.done
    shop.well.set()
    await eventually(lambda: shop.done == 20)
    assert shop.most == AT_ONCE


@pytest.mark.asyncio
async def test_waiting_background_effects_are_bounded(caplog):
    """Effects beyond the limit, and those left at a stop, are logged."""
    shop, effects = HangingShop(), BackgroundEffects(PAUSES_S, most=3, stop_s=0.05)
    for _ in range(5):
        await effects.run(shop.tell, 0.01)
    await effects.close()
    logged = [record.fields for record in caplog.records if record.message == "shop not told"]
    assert logged == [{"reason": "3 effects wait already"}] * 2 + [{"reason": "stopped", "effects": 3}]
