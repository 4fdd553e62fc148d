"""Row 1 of the table in ops/decisions/0003: puts the messages of a poll into their lanes, and asks NLU for their texts.

In: the messages of one poll of the intake. Out: messages processed by the inbox; for each message `done` or `abandoned`
is called on the intake. A lane serves one message at a time.
"""

import asyncio
import logging
from typing import Any, Callable, List

from kefu.errors import PoisonMessage
from kefu.events import UserSaid
from kefu.worker.engine.understanding import Said, Understanding
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.patience import NotMine
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.lanes import Lanes
from kefu.worker.intake.partitions import Taken
from kefu.worker.intake.records import read
from kefu.worker.turns.offered import neutral

logger = logging.getLogger(__name__)


class Reception:
    """Puts polled messages into lanes, and serves the lanes. Belongs to the event loop's thread."""

    def __init__(self, inbox: Inbox, understanding: Understanding, give_up: Callable[[str], None]) -> None:
        """Create the reception, with no lanes yet.

        Args:
            inbox: processes the messages.
            understanding: NLU, asked once for all texts of a poll.
            give_up: ends the process; its argument is the reason.
        """
        self._inbox, self._understanding, self._give_up = inbox, understanding, give_up
        self._lanes: Lanes[Any] = Lanes(self._serve)

    def receive(self, batch: List[Taken]) -> None:
        """Put the messages of one poll into their lanes, and ask NLU for all of their texts at once. Doesn't block."""
        runner, readable = self._inbox.runner, []
        texts: List[Said] = []
        for taken in batch:
            try:
                event = read(taken.record)
            except Exception as error:  # noqa: BLE001 - an unreadable record must not stop the others of its poll
                poison = (
                    error if isinstance(error, PoisonMessage) else PoisonMessage("unreadable", type(error).__name__)
                )
                self._lanes.put(f"?{taken.record.partition}", (taken, poison))
                continue
            if type(event) is not UserSaid:  # the event has no text for NLU
                self._lanes.put(event.conversation, (taken, Inbound(taken.record, event, taken.mine, None)))
                continue
            readable.append((taken, event))
            words = neutral(event.text) if event.text is not None else event.payload
            assert words is not None  # `read` refuses a message without both
            texts.append((words, event.ts / 1000))
        understood = self._understanding.ask(runner.processor, texts)
        for (taken, said), parsed in zip(readable, understood, strict=True):
            self._lanes.put(said.conversation, (taken, Inbound(taken.record, said, taken.mine, parsed, runner)))

    async def cancel(self) -> None:
        """Stop all lanes at once, even in the middle of a turn."""
        await self._lanes.cancel()

    async def _serve(self, item: Any) -> None:
        """Process one message of a lane, then mark its offset for commit, which is row 6."""
        taken, message = item
        try:
            if isinstance(message, PoisonMessage):
                await self._inbox.reject(taken.record, taken.mine, message)
            else:
                await self._inbox.process(message)
        except NotMine:
            taken.intake.abandoned(taken)
        except asyncio.CancelledError:
            taken.intake.abandoned(taken)
            raise
        except BaseException:  # the message's offset must not be committed, and its lane must not go on
            logger.exception("worker broken")
            # Giving the partition up keeps the lane from its next message and the drain from waiting for this one.
            taken.partition.mine = False
            taken.intake.abandoned(taken)
            self._give_up("a message could be neither processed nor put aside")
        else:
            taken.intake.done(taken)
