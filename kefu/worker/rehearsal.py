"""Turns in memory before the first customer's, so that it costs what the thousandth does.

In: what runs turns on a model just loaded. Out: the model's intents run once in each language,
through NLU, policies, actions up to their call, and encoding. Nothing is stored, sent or called.
"""

import asyncio
import logging
import time
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Dict, List, Optional

from kefu.events import UserSaid
from kefu.worker.action_endpoint import REHEARSED
from kefu.worker.conversations import Stored
from kefu.worker.live import LiveConversation
from kefu.worker.turn import TurnRunner, turn_events

logger = logging.getLogger(__name__)

TEXTS = ("你好，我的订单20260001到哪了？手机尾号1234", "Hello, where is my order 20260001? My phone ends in 1234")
BUDGET_S = 2.0  # a slow model has felt most of its code by then, and a replica must not be late
_SAID = UserSaid("kefu", "rehearsal", "", text="")


async def rehearse(runner: TurnRunner, nlu: Optional[Executor] = None) -> int:
    """Run turns of conversations that nobody has; returns how many. Takes about BUDGET_S at most.

    Args:
        runner: of the model.
        nlu: where NLU runs; None for the loop's own threads.

    Raises:
        Exception: NLU's, when it can't understand anything. A turn that fails is only logged.
    """
    loop = asyncio.get_running_loop()
    parsed = await loop.run_in_executor(nlu, runner.processor.parse_batch, "rehearsal", list(TEXTS))
    # A task of its own, for turns leave their marks in the context that they run in.
    return await asyncio.ensure_future(_turns(runner, parsed))


async def _turns(runner: TurnRunner, parsed: List[Dict[str, Any]]) -> int:
    REHEARSED.set(True)
    end = time.monotonic() + BUDGET_S
    done = 0
    for intent in sorted(runner.processor.domain.intents):
        live = LiveConversation.restore(_SAID.conversation, runner.processor.view, Stored())
        for text, understood in zip(TEXTS, parsed, strict=True):
            if time.monotonic() > end:
                return done
            done += 1
            said = replace(_SAID, message_id=f"{intent}-{done}", text=text)
            try:
                await _turn(runner, live, said, {**understood, "intent": {"name": intent, "confidence": 1.0}})
            except Exception as error:  # noqa: BLE001 - the same turn of a customer would be dead-lettered, not the start
                fields = {"intent": intent, "error": error.__class__.__name__}
                logger.error("a rehearsed turn failed", extra={"fields": fields})
                break
    return done


async def _turn(runner: TurnRunner, live: LiveConversation, said: UserSaid, understood: Dict[str, Any]) -> None:
    parsed: asyncio.Future[Dict[str, Any]] = asyncio.get_running_loop().create_future()
    parsed.set_result(understood)
    outcome = await runner.run(live, said, parsed, time.monotonic())
    turn_events(said, outcome.answer.tracker_version, outcome.write.encoded_events)
    live.written(outcome.write)
