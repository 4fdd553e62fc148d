"""What is told to the shop behind the answers takes no connections from those who wait, and no room without end."""

import asyncio

import pytest

from actions.shop import ShopUnavailable
from actions.shop.behind import AT_ONCE, Behind
from tests.waiting import eventually

PAUSES_S = (0.01, 0.02)


class HangingShop:
    """Hangs until `well`; then it can be told."""

    def __init__(self) -> None:
        self.well = asyncio.Event()
        self.asked, self.hanging, self.most, self.told = 0, 0, 0, 0

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
        self.told += 1


@pytest.mark.asyncio
async def test_of_a_shop_that_hangs_only_a_few_ask_at_once_and_all_are_told_in_the_end():
    shop, told = HangingShop(), Behind(PAUSES_S)
    await asyncio.gather(*(told.run(shop.tell, 0.01) for _ in range(20)))
    await eventually(lambda: shop.asked >= 4 * AT_ONCE)
    assert shop.most == AT_ONCE and not shop.told
    shop.well.set()
    await eventually(lambda: shop.told == 20)
    assert shop.most == AT_ONCE


@pytest.mark.asyncio
async def test_no_more_wait_than_there_is_room_for_and_a_stop_says_what_it_gives_up(caplog):
    shop, told = HangingShop(), Behind(PAUSES_S, most=3, stop_s=0.05)
    for _ in range(5):
        await told.run(shop.tell, 0.01)
    await told.close()
    said = [record.fields for record in caplog.records if record.message == "shop not told"]
    assert said == [{"reason": "3 effects wait already"}] * 2 + [{"reason": "stopped", "effects": 3}]
