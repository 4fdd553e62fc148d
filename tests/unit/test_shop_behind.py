"""What is told to the shop behind the answers takes no connections from those who wait, and no room without end."""

import asyncio

import pytest

from actions.shop import ShopUnavailable, behind
from actions.shop.behind import AT_ONCE, Behind
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(behind, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(behind, "LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(behind, "STOP_S", 0.05)


class HangingShop:
    """Hangs until `well`; then it can be told."""

    def __init__(self) -> None:
        self.well = asyncio.Event()
        self.hanging, self.most, self.told = 0, 0, 0

    async def tell(self) -> None:
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
    shop, told = HangingShop(), Behind()
    await asyncio.gather(*(told.run(shop.tell, 0.01) for _ in range(20)))
    await asyncio.sleep(0.3)
    assert shop.most == AT_ONCE and not shop.told
    shop.well.set()
    await eventually(lambda: shop.told == 20)
    assert shop.most == AT_ONCE


@pytest.mark.asyncio
async def test_no_more_wait_than_there_is_room_for_and_a_stop_says_what_it_gives_up(monkeypatch, caplog):
    monkeypatch.setattr(behind, "MOST", 3)
    shop, told = HangingShop(), Behind()
    for _ in range(5):
        await told.run(shop.tell, 0.01)
    await told.close()
    said = [record.fields for record in caplog.records if record.message == "shop not told"]
    assert said == [{"reason": "3 effects wait already"}] * 2 + [{"reason": "stopped", "effects": 3}]
