"""Runs turns in memory before a worker is ready, so that the first customer's turn is as fast as the thousandth.

In: the runner of a model just loaded. Out: each intent of the model has run once in each language, through NLU,
policies, actions up to their call, and encoding. Nothing is stored or sent, and no server is called.
"""

import asyncio
import logging
import time
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from rasa.shared.core.constants import DEFAULT_INTENTS

from kefu.events import UserSaid
from kefu.worker.act.calls import REHEARSED
from kefu.worker.conversation.stored import Stored
from kefu.worker.turns.live import LiveConversation
from kefu.worker.turns.outcome import turn_events
from kefu.worker.turns.runner import TurnRunner

logger = logging.getLogger(__name__)

TEXTS = ("你好，我的订单20260001到哪了？手机尾号1234", "Hello, where is my order 20260001? My phone ends in 1234")
_SAID = UserSaid("kefu", "rehearsal", "", text="")


class Unrehearsed(Exception):
    """No rehearsed turn of the model succeeded, so no customer would be answered."""


async def rehearse(runner: TurnRunner, budget_s: float, nlu: Optional[Executor] = None) -> int:
    """Run turns of made-up conversations; return how many succeeded.

    Args:
        runner: the model's runner.
        budget_s: about how long the rehearsal may take; 0 for no rehearsal.
        nlu: the executor that NLU runs in; None for the loop's own threads.

    Raises:
        Unrehearsed: none of the turns that there was time for succeeded. A single failed turn is only logged.
        Exception: raised by NLU for the rehearsal's texts.
    """
    if not budget_s:
        return 0
    loop = asyncio.get_running_loop()
    parsed = await loop.run_in_executor(nlu, runner.processor.parse_batch, "rehearsal", list(TEXTS))
    # A separate task, because turns set context variables.
    tried, good = await asyncio.ensure_future(_turns(runner, parsed, budget_s))
    if tried and not good:
        raise Unrehearsed(f"none of {tried} rehearsed turns succeeded")
    return good


async def _turns(runner: TurnRunner, parsed: List[Dict[str, Any]], budget_s: float) -> Tuple[int, int]:
    """Run the turns; return how many were tried, and how many succeeded."""
    REHEARSED.set(True)
    end = time.monotonic() + budget_s
    tried = good = 0
    for intent in sorted(set(runner.processor.domain.intents) - set(DEFAULT_INTENTS)):
        live = LiveConversation.restore(_SAID.conversation, runner.processor.view, Stored())
        for text, understood in zip(TEXTS, parsed, strict=True):
            if time.monotonic() > end:
                return tried, good
            tried += 1
            said = replace(_SAID, message_id=f"{intent}-{tried}", text=text)
            try:
                await _turn(runner, live, said, {**understood, "intent": {"name": intent, "confidence": 1.0}})
            except Exception as error:  # noqa: BLE001 - the same turn of a customer would be dead-lettered, not the start
                fields = {"intent": intent, "error": error.__class__.__name__}
                logger.error("a rehearsed turn failed", extra={"fields": fields})
                break
            good += 1
    return tried, good


async def _turn(runner: TurnRunner, live: LiveConversation, said: UserSaid, understood: Dict[str, Any]) -> None:
    parsed: asyncio.Future[Dict[str, Any]] = asyncio.get_running_loop().create_future()
    parsed.set_result(understood)
    outcome = await runner.run(live, said, parsed, time.monotonic())
    turn_events(said, outcome.answer.tracker_version, outcome.write.encoded_events)
    live.written(outcome.write)
    await asyncio.sleep(0)  # lets waiting turns of the serving model run: nothing above yields to the event loop
