"""Puts the worker together: intake, lanes, NLU, inbox, health; starts and stops it."""

import asyncio
import contextlib
import logging
import os
import signal
from typing import List, Optional, Set

from rasa.core.agent import Agent

from kefu import metrics
from kefu.errors import StoreUnavailable
from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.health import HealthServer
from kefu.kafka import EventProducer
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker.act.action_endpoint import ActionEndpoint
from kefu.worker.agent import TurnAgent, load_beside
from kefu.worker.engine.processor import LoadedModel
from kefu.worker.engine.understanding import Understanding
from kefu.worker.inbox.due_scan import DueScan
from kefu.worker.inbox.lending import Candidate
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.inbox.reception import Reception
from kefu.worker.intake.consumer import Intake
from kefu.worker.release.relied import relied
from kefu.worker.release.tracks import BEAT_S, Tracks
from kefu.worker.start import collector
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.storage.mending import Mender
from kefu.worker.storage.published import PublishedTail
from kefu.worker.turns.live import LiveConversation, LiveConversations
from kefu.worker.turns.rehearsal import rehearse
from kefu.worker.turns.turn import TurnRunner

logger = logging.getLogger(__name__)

LENT_PART = 4  # of what may be in flight: one in so many may be lent at once


class Worker:
    """The dialogue worker of one process. Lives on the event loop of Rasa's server."""

    def __init__(self, kafka: KafkaSettings, redis: RedisSettings, settings: WorkerSettings) -> None:
        self._kafka = kafka
        self._redis = redis
        self._settings = settings
        self.agent: Optional[TurnAgent] = None
        self._intake: Optional[Intake] = None
        self._understanding = Understanding(settings.nlu_remembered)
        self._health = HealthServer(settings.host, settings.health_port, self.missing, self.stuck)
        self._swapping = asyncio.Lock()
        self._housekeeping = collector.Housekeeping()
        self._draining = False

    async def start(self, rasa_agent: Agent) -> TurnAgent:
        """Take over from the agent that Rasa loaded, and begin to take messages.

        Raises:
            UnsafeStart, ModelUnfit, Unrehearsed: this must not serve; the process has to end.
        """
        metrics.from_zero()
        self._health.start()
        self._endpoint = ActionEndpoint(
            self._settings.action_url, self._settings.action_timeout_s, self._settings.tls_directory
        )
        model = _loaded(rasa_agent)
        self.agent = TurnAgent.around(model, rasa_agent, self._endpoint)
        self._conversations = Conversations(self._redis)
        self.agent.tracker_store.domain = self.agent.domain
        self.agent.tracker_store.serve_worker(self._conversations)  # type: ignore[attr-defined]
        self._producer = EventProducer(self._kafka)
        self._tracks = self._release()
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
            self._candidate(),
        )
        self._reception = Reception(self._inbox, self._understanding, self._die)
        await self._warm_up()
        collector.settle()
        await self._look()
        await self._begin()
        self._watch = asyncio.ensure_future(self._watch_store())
        logger.info("worker started", extra={"fields": {"model": self.agent.model_id}})
        return self.agent

    async def stop(self) -> None:
        """Finish the turns under way, commit, give the partitions back. Bounded by the drain time."""
        self._draining = True
        if self._intake is None:
            return
        self._watch.cancel()
        await self._leave()
        await self._mender.stop()
        await self._due_scan.stop()
        await self._intake.stop()
        await self._reception.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._producer.close)
        await self._endpoint.close()
        await self._conversations.close()
        self._understanding.stop()
        self._health.stop()
        logger.info("worker stopped")

    async def _warm_up(self) -> None:
        """Have turns run and connections open before the first customer's; of a server that is away it is only told."""
        if not self._settings.rehearsal_s:
            return
        await rehearse(self._runner(), self._settings.rehearsal_s, self._understanding.thread)
        await asyncio.gather(self._endpoint.connect(), self._producer.connect())

    def _release(self) -> Optional[Tracks]:
        settings = self._settings
        if not settings.track:
            return None
        return Tracks(self._conversations, self._redis.key_prefix, settings.track, settings.release_plan)

    def _candidate(self) -> Optional[Candidate]:
        if self._tracks is None:
            return None
        deadline_s, most = self._settings.turn_deadline_s, max(1, self._settings.inflight_messages // LENT_PART)
        return Candidate(self._tracks, self._conversations, self._producer, deadline_s, most)

    async def _begin(self) -> None:
        """Read the inbox that is this worker's to read, and another one when the release wants so."""
        if self._tracks is None:
            self._open(USER_QUERY)
            return
        await self._beat()
        self._open(self._tracks.inbox(CANDIDATE_QUERY))
        self._following = asyncio.ensure_future(self._follow())

    def _open(self, inbox: str) -> None:
        intake = Intake(self._kafka, self._settings, self._reception.receive, self._hold, self._dropped, inbox)
        self._due_scan = DueScan(DueIndex(self._conversations), self._producer, intake, self._hold)
        self._intake = intake
        self._intake.start()
        if inbox == USER_QUERY:  # timers go there, and only who reads it knows whose they are
            self._due_scan.start()

    async def _follow(self) -> None:
        """Tell of this worker each second; read the other inbox when that is this worker's."""
        while True:
            await asyncio.sleep(BEAT_S)
            await self._beat()
            wanted = self._tracks.inbox(self._intake.inbox)
            if wanted != self._intake.inbox:
                await self._change(wanted)

    async def _change(self, inbox: str) -> None:
        """Finish and commit what was taken, give the partitions back, then read the other inbox."""
        async with self._swapping:
            await self._due_scan.stop()
            await self._intake.stop()
            self._open(inbox)
            logger.info("inbox changed", extra={"fields": {"inbox": inbox}})

    async def _beat(self) -> None:
        inbox = self._intake.inbox if self._intake is not None and self._intake.connected else ""
        try:
            await self._tracks.beat(inbox, self.agent.model_id, lambda: relied(self.agent.domain))
        except StoreUnavailable as error:  # what was known of the other track stays
            logger.warning("the release waits", extra={"fields": {"error": str(error)}})

    async def _leave(self) -> None:
        if self._tracks is None:
            return
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):  # then it is seen to be dead
            await self._tracks.leave()

    async def swap(self, path: str) -> TurnAgent:
        """Serve another model from the next poll on; raises ModelUnfit and keeps the old one.

        Nobody waits for it: what has been taken is finished by the model that it was taken for.
        """
        async with self._swapping:
            agent = await load_beside(path, self.agent, self._endpoint, self._settings.rehearsal_s)
            self._take(agent)
            logger.info("model swapped", extra={"fields": {"model": agent.model_id}})
            return agent

    def _take(self, agent: TurnAgent) -> None:
        agent.tracker_store.domain = agent.domain
        self.agent = agent
        self._live.drop(set(self._intake.assigned))  # they are of the old model, and would keep parts of it
        self._understanding.forget()
        self._housekeeping.soon()
        self._inbox.runner = self._runner()

    def missing(self) -> List[str]:
        """Return what keeps the worker from being ready."""
        found = []
        if self.agent is None:
            found.append("model")
        if self._draining:
            found.append("draining")
        if self._intake is None or not self._intake.connected:
            found.append("kafka: not in the group of workers yet")
        elif self._inbox.store_away:
            found.append("redis")
        return found

    def stuck(self) -> List[str]:
        """Return what only a restart can mend."""
        if self._intake is None:
            return []
        parts = (("intake", self._intake), ("producer", self._producer), ("timers", self._due_scan))
        found = [(name, part.failure) for name, part in parts]
        if self._tracks is not None and self._following.done() and not self._draining:
            found.append(("release", "ended"))
        return [f"{name}: {failure}" for name, failure in found if failure] + ["nlu"] * self._understanding.stuck

    def _runner(self) -> TurnRunner:
        settings = self._settings
        return self.agent.runner(settings.turn_deadline_s, settings.idle_s, settings.handoff_wait_s)

    def _hold(self) -> bool:
        return self._inbox.store_away or self._understanding.full

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


def _loaded(agent: Agent) -> LoadedModel:
    """Return the model that Rasa's server has loaded at its start."""
    processor = agent.processor
    if processor is None:
        raise FileNotFoundError("no model: run `make train`")
    return LoadedModel.of(processor.model_filename, processor.model_metadata, processor.graph_runner)
