"""The objects that the handlers of one gateway process share, and their start, drain and stop."""

import asyncio
import logging
from typing import Optional

from sanic import Request

from kefu.events import UserSaid
from kefu.gateway.access_log import AccessLog
from kefu.gateway.answer.hints import Hub
from kefu.gateway.answer.redis_client import connect
from kefu.gateway.answer.replies import Outcome, ReplyStore, wait_for_outcome
from kefu.gateway.answer.transcripts import DeskStore
from kefu.gateway.kafka_probe import KafkaProbe
from kefu.gateway.loop_lag import LoopWatch
from kefu.gateway.receive.acceptance import Acceptance, Sender
from kefu.gateway.receive.auth import Caller, Receipts, Tokens
from kefu.gateway.receive.backlog import Backlog
from kefu.gateway.receive.desk_auth import DeskTokens
from kefu.gateway.receive.limits import Rate, Slots
from kefu.settings import GatewaySettings, KafkaSettings, RedisSettings

logger = logging.getLogger(__name__)


class Gateway:
    """One gateway process. Must be built inside the event loop; opens no connection before `start`."""

    def __init__(self, settings: GatewaySettings, kafka: KafkaSettings, redis: RedisSettings, producer: Sender) -> None:
        self.settings = settings
        self.producer = producer
        self.access = AccessLog(settings.access_log)
        self.tokens = Tokens(settings.tenants)
        self.receipts = Receipts(settings.receipt_secret)
        self.user_rate = Rate("user_rate", settings.user_rate)
        self.session_rate = Rate("session_rate", settings.session_rate)
        self.desk_tokens = DeskTokens(settings.tenants)
        self.desk_rate = Rate("desk_rate", settings.desk_rate)
        self.slots = Slots(settings.max_streams, settings.max_user_streams)
        self.draining = False
        self._reads = connect(redis)
        self._hints = connect(redis, retries=0, connections=1)
        self.store = ReplyStore(self._reads, redis.key_prefix, redis.timeout_s)
        self.desk = DeskStore(self._reads, redis.key_prefix, redis.timeout_s)
        self.backlog = Backlog(settings.max_unanswered, self.store.answered)
        self.acceptance = Acceptance(producer, settings.accept_timeout_s, self.backlog)
        self.hub = Hub(self._hints, redis.key_prefix, self.backlog.answered)
        self.kafka = KafkaProbe(kafka)
        self._loop = LoopWatch(asyncio.get_running_loop())
        self.waits = 0  # requests that wait for an outcome now

    def start(self) -> None:
        """Start the background work: hints, the Kafka probe, the loop's lag."""
        self.hub.start()
        self.kafka.start()
        self._loop.start()

    async def ask(self, said: UserSaid, wait_s: float) -> Optional[Outcome]:
        """Accept a message of any channel and wait for its outcome.

        If no slot is free, the message is accepted, but its outcome is not waited for.

        Args:
            said: the message, checked and masked.
            wait_s: how long to wait once it is accepted, 0 for not at all.

        Returns:
            The outcome, None when it did not come in time.

        Raises:
            Problem: 429, too many messages of this conversation wait for their answers.
            QueueUnavailable: Kafka did not acknowledge in time; the message may still arrive.
        """
        if not wait_s or self.hub.closed or not self.slots.room(said.conversation):
            await self.acceptance.accept(said)
            return None
        self.waits += 1
        try:
            with self.slots.hold(said.conversation), self.hub.watch(said.conversation) as watch:
                await self.acceptance.accept(said)
                outcome = await wait_for_outcome(self.store, self.hub, watch, said, wait_s)
                if outcome:  # if the hint was lost, the backlog still counts the message as unanswered
                    self.backlog.answered(said.conversation, said.message_id)
                return outcome
        finally:
            self.waits -= 1

    async def drain(self) -> None:
        """Wait at most `drain_s` for the requests that wait for outcomes, then end the rest of them and the streams."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + self.settings.drain_s
        while self.waits and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.05)
        self.hub.release()

    async def stop(self) -> None:
        """Flush the producer and the access log, then close every connection."""
        self._loop.stop()
        self.access.flush()
        await self.hub.close()
        self.kafka.stop()
        left = await asyncio.to_thread(self.producer.close)
        if left:
            logger.error("records given up at stop", extra={"fields": {"records": left}})
        await self._reads.close()
        await self._hints.close()


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that serves this request."""
    return request.app.ctx.gateway


def caller_of(request: Request) -> Caller:
    """Return the caller that the request's token names; raises Problem 401."""
    return gateway_of(request).tokens.verify(request.headers.get("authorization"))
