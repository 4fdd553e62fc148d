"""Puts the worker together: intake, lanes, NLU over polls, inbox, health; starts and stops it."""

import asyncio
import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Set

from rasa.core.agent import Agent

from kefu import metrics
from kefu.errors import PoisonMessage
from kefu.events import UserSaid
from kefu.health import HealthServer
from kefu.kafka import EventProducer
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker import collector
from kefu.worker.action_endpoint import ActionEndpoint
from kefu.worker.agent import ModelUnfit, TurnAgent, load_beside
from kefu.worker.conversations import Conversations
from kefu.worker.inbox import Inbound, Inbox, NotMine, read
from kefu.worker.intake import Intake, Taken
from kefu.worker.lanes import Lanes
from kefu.worker.live import LiveConversation, LiveConversations
from kefu.worker.mending import Mender
from kefu.worker.processor import LoadedModel, TurnProcessor
from kefu.worker.published import PublishedTail
from kefu.worker.rehearsal import rehearse
from kefu.worker.timers.index import DueIndex
from kefu.worker.timers.scan import DueScan
from kefu.worker.turn import TurnRunner, neutral

logger = logging.getLogger(__name__)

BATCH_NAME = "kefu-poll"
MAX_BATCHES = 8  # polls that wait for NLU; beyond it, texts would be understood after their turns have ended
NLU_STUCK_S = 60.0


class Worker:
    """The dialogue worker of one process. Lives on the event loop of Rasa's server."""

    def __init__(self, kafka: KafkaSettings, redis: RedisSettings, settings: WorkerSettings) -> None:
        self._kafka = kafka
        self._redis = redis
        self._settings = settings
        self.agent: Optional[TurnAgent] = None
        self._intake: Optional[Intake] = None
        self._nlu = ThreadPoolExecutor(1, thread_name_prefix="nlu")
        self._health = HealthServer(settings.host, settings.health_port, self.missing, self.stuck)
        self._swapping = asyncio.Lock()
        self._housekeeping = collector.Housekeeping()
        self._draining = False
        self._swap_waits = False
        self._parsing: Set[asyncio.Task[None]] = set()
        self._batches: List[float] = []  # when each poll that NLU works on began, oldest first

    async def start(self, rasa_agent: Agent) -> TurnAgent:
        """Take over from the agent that Rasa loaded, and begin to take messages.

        Raises:
            UnsafeStart, ModelUnfit: this must not serve; the process has to end.
        """
        self._health.start()
        self._endpoint = ActionEndpoint(self._settings.action_url, self._settings.action_timeout_s)
        model = _loaded(rasa_agent)
        self.agent = TurnAgent.around(model, rasa_agent, self._endpoint)
        self._conversations = Conversations(self._redis)
        self.agent.tracker_store.domain = self.agent.domain
        self.agent.tracker_store.serve_worker(self._conversations)  # type: ignore[attr-defined]
        self._producer = EventProducer(self._kafka)
        self._live = LiveConversations(self._settings.live_trackers, self._settings.live_turns)
        self._mender = Mender(
            self._conversations,
            PublishedTail(self._kafka, self._settings.mend_window_s),
            lambda: self._intake.assigned if self._intake else [],
            self._rearm,
        )
        self._inbox = Inbox(
            self._runner(),
            self._conversations,
            self._live,
            self._producer,
            self._settings.attempts,
            self._settings.turns_at_once,
            self._mender,
        )
        self._lanes: Lanes[Any] = Lanes(self._serve)
        await rehearse(self._runner(), self._nlu)
        collector.settle()
        await self._look()
        intake = Intake(self._kafka, self._settings, self._receive, self._hold, self._dropped)
        self._due_scan = DueScan(DueIndex(self._conversations), self._producer, intake, self._hold)
        self._intake = intake
        self._intake.start()
        self._due_scan.start()
        self._watch = asyncio.ensure_future(self._watch_store())
        logger.info("worker started", extra={"fields": {"model": self.agent.model_id}})
        return self.agent

    async def stop(self) -> None:
        """Finish the turns under way, commit, give the partitions back. Bounded by the drain time."""
        self._draining = True
        if self._intake is None:
            return
        self._watch.cancel()
        await self._mender.stop()
        await self._due_scan.stop()
        await self._intake.stop()
        await self._lanes.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._producer.close)
        await self._endpoint.close()
        await self._conversations.close()
        self._nlu.shutdown(wait=False)
        self._health.stop()
        logger.info("worker stopped")

    async def swap(self, path: str) -> TurnAgent:
        """Serve another model from the next turn on; raises ModelUnfit and keeps the old one."""
        async with self._swapping:
            agent = await load_beside(path, self.agent, self._endpoint)
            await self._between_two_polls()
            try:
                self._take(agent)
            finally:
                self._swap_waits = False
            logger.info("model swapped", extra={"fields": {"model": agent.model_id}})
            return agent

    async def _between_two_polls(self) -> None:
        """Take nothing more, and wait for what is under way: no turn may see two models."""
        self._swap_waits = True
        deadline = time.monotonic() + self._settings.drain_s
        while self._intake.inflight:
            if time.monotonic() > deadline:
                self._swap_waits = False
                raise ModelUnfit("the worker is too busy to swap now: try again")
            await asyncio.sleep(0.02)

    def _take(self, agent: TurnAgent) -> None:
        agent.tracker_store.domain = agent.domain
        self.agent = agent
        self._live.drop(set(self._intake.assigned))  # they are of the old model, and would keep parts of it
        self._housekeeping.soon()
        self._inbox.runner = agent.runner(self._settings.turn_deadline_s, self._settings.idle_s)

    def missing(self) -> List[str]:
        """Return what keeps the worker from being ready."""
        found = []
        if self.agent is None:
            found.append("model")
        if self._draining:
            found.append("draining")
        if self._intake is None or not self._intake.connected:
            found.append("kafka: no partitions assigned yet")
        elif self._inbox.store_away:
            found.append("redis")
        return found

    def stuck(self) -> List[str]:
        """Return what only a restart can mend."""
        if self._intake is None:
            return []
        parts = (("intake", self._intake), ("producer", self._producer), ("timers", self._due_scan))
        found = [(name, part.failure) for name, part in parts]
        late = self._batches and time.monotonic() - self._batches[0] > NLU_STUCK_S
        return [f"{name}: {failure}" for name, failure in found if failure] + (["nlu"] if late else [])

    def _runner(self) -> TurnRunner:
        return self.agent.runner(self._settings.turn_deadline_s, self._settings.idle_s)

    def _hold(self) -> bool:
        return self._inbox.store_away or self._swap_waits or len(self._batches) >= MAX_BATCHES

    async def _watch_store(self) -> None:
        """Notice that Redis has gone, is back, or is another one, while nothing else asks it."""
        while True:
            await self._look()
            if self.stuck():
                self._die(", ".join(self.stuck()))
            if self._housekeeping.due(busy=self._intake.inflight > 0):
                collector.tidy()
            await asyncio.sleep(0.5)

    async def _look(self) -> None:
        try:
            await self._mender.look()
            self._inbox.store_lost = False
        except Exception as error:  # noqa: BLE001 - any failure to answer means away
            if not self._inbox.store_lost:
                logger.warning("redis is away", extra={"fields": {"error": error.__class__.__name__}})
            self._inbox.store_lost = True

    def _receive(self, batch: List[Taken]) -> None:
        """Put a poll into the lanes and NLU over all of it into a thread."""
        readable, texts = [], []
        for taken in batch:
            try:
                said = read(taken.record)
            except PoisonMessage as error:
                self._lanes.put(f"?{taken.record.partition}", (taken, error))
                continue
            if type(said) is not UserSaid:  # it has no words: NLU isn't asked
                self._lanes.put(said.conversation, (taken, Inbound(taken.record, said, taken.mine, None)))
                continue
            readable.append((taken, said))
            texts.append(neutral(said.text) if said.text is not None else said.payload)
        if not readable:
            return
        understood: List[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future() for _ in texts]
        for (taken, said), parsed in zip(readable, understood, strict=True):
            self._lanes.put(said.conversation, (taken, Inbound(taken.record, said, taken.mine, parsed)))
        parsing = asyncio.ensure_future(self._parse(texts, understood))
        self._parsing.add(parsing)
        parsing.add_done_callback(self._parsing.discard)

    async def _parse(self, texts: List[str], understood: "List[asyncio.Future[Any]]") -> None:
        """Run NLU over a poll; one text that breaks it gets its exception, the others their data."""
        began = time.monotonic()
        self._batches.append(began)
        try:
            found = await self._parse_batch(texts)
        finally:
            self._batches.remove(began)
        for data, future in zip(found, understood, strict=True):
            if isinstance(data, Exception):
                future.set_exception(data)
                future.exception()  # seen: asyncio would else log it, with its text, where no turn asks for it
            else:
                future.set_result(data)

    async def _parse_batch(self, texts: List[str]) -> List[Any]:
        loop = asyncio.get_running_loop()
        processor = self.agent.processor
        try:
            return await loop.run_in_executor(self._nlu, _understood, processor, texts)
        except Exception:  # noqa: BLE001 - which text it was is found out one by one
            metrics.RETRIES.labels("nlu").inc()
        found: List[Any] = []
        for text in texts:
            try:
                found += await loop.run_in_executor(self._nlu, _understood, processor, [text])
            except Exception as error:  # noqa: BLE001 - the turn answers for it
                found.append(error)
        return found

    async def _serve(self, item: Any) -> None:
        taken, message = item
        try:
            if isinstance(message, PoisonMessage):
                await self._inbox.reject(taken.record, taken.mine, message)
            else:
                await self._inbox.process(message)
        except NotMine:
            self._intake.abandoned(taken)
        except asyncio.CancelledError:
            self._intake.abandoned(taken)
            raise
        except BaseException:  # the offset must not be committed, the lane can't go on
            logger.exception("worker broken")
            # Its lane must not go on with the next message, and the drain must not wait for this one.
            taken.partition.mine = False
            self._intake.abandoned(taken)
            self._die("a message could be neither processed nor put aside")
        else:
            self._intake.done(taken)

    @staticmethod
    def _die(reason: str) -> None:
        """End the process: what is not committed is processed by the next one."""
        logger.critical("worker gives up", extra={"fields": {"reason": reason}})
        os.kill(os.getpid(), signal.SIGTERM)

    def _dropped(self, partitions: Set[int]) -> None:
        """Forget conversations that are another worker's now."""
        self._live.drop(partitions)
        self._mender.forget(partitions)

    async def _rearm(self, conversation: str, partition: int) -> None:
        """Put the timers of a conversation back into their index, which lost them with its turns."""
        runner = self._inbox.runner
        live = LiveConversation.restore(
            conversation, runner.processor.view, await self._conversations.load(conversation)
        )
        live.partition = partition
        await self._conversations.arm(conversation, runner.timers(live))


def _understood(processor: TurnProcessor, texts: List[str]) -> List[Dict[str, Any]]:
    """Run NLU, and note what it cost. In NLU's thread."""
    began = time.thread_time()
    try:
        return processor.parse_batch(BATCH_NAME, texts)
    finally:
        metrics.NLU_CPU_SECONDS.inc(time.thread_time() - began)
        metrics.NLU_TEXTS.inc(len(texts))


def _loaded(agent: Agent) -> LoadedModel:
    """Return the model that Rasa's server has loaded at its start."""
    processor = agent.processor
    if processor is None:
        raise FileNotFoundError("no model: run `make train`")
    return LoadedModel.of(processor.model_filename, processor.model_metadata, processor.graph_runner)
