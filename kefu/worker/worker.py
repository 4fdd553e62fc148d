"""Puts the worker together: intake, lanes, NLU, inbox, health; starts and stops it."""

import asyncio
import logging
import os
import signal
from typing import List, Optional, Set

from rasa.core.agent import Agent

from kefu import metrics
from kefu.events import USER_QUERY
from kefu.health import HealthServer
from kefu.kafka import EventProducer
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker.act.action_endpoint import ActionEndpoint
from kefu.worker.agent import TurnAgent, load_beside
from kefu.worker.engine.model import LoadedModel
from kefu.worker.engine.understanding import Understanding
from kefu.worker.inbox.due_scan import DueScan
from kefu.worker.inbox.lending import Candidate
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.inbox.reception import Reception
from kefu.worker.intake.consumer import Intake
from kefu.worker.release.following import Following, tracks_of
from kefu.worker.release.tracks import Tracks
from kefu.worker.start import collector
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.storage.mending import Mender
from kefu.worker.storage.published import PublishedTail
from kefu.worker.turns.live import LiveConversation, LiveConversations
from kefu.worker.turns.rehearsal import rehearse
from kefu.worker.turns.runner import TurnRunner

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
        self.agent = agent = TurnAgent.around(_loaded(rasa_agent), rasa_agent, self._endpoint)
        self._assemble(agent)
        await self._warm_up()
        collector.settle()
        await self._look()
        await self._begin()
        self._watch = asyncio.ensure_future(self._watch_store())
        logger.info("worker started", extra={"fields": {"model": agent.model_id}})
        return agent

    @property
    def _serving(self) -> TurnAgent:
        """The agent that serves, once there is one."""
        assert self.agent is not None  # set before anything that asks for it is put together
        return self.agent

    @property
    def _assigned(self) -> List[int]:
        """The partitions that are this worker's now."""
        return self._intake.assigned if self._intake is not None else []

    def _assemble(self, agent: TurnAgent) -> None:
        """Put the parts together, each made of those before it; nothing is taken yet."""
        self._conversations = Conversations(self._redis)
        agent.tracker_store.domain = agent.domain
        agent.tracker_store.serve_worker(self._conversations)
        self._producer = EventProducer(self._kafka)
        tracks = tracks_of(self._settings, self._conversations.servers, self._redis.key_prefix)
        self._following: Optional[Following] = None
        candidate: Optional[Candidate] = None
        if tracks is not None:
            self._following = Following(tracks, lambda: self._serving, self._connected, self._change)
            candidate = self._candidate(tracks)
        self._live = LiveConversations(self._settings.live_trackers, self._settings.live_turns)
        self._mender = Mender(
            self._conversations,
            PublishedTail(self._kafka, self._settings.mend_window_s),
            lambda: self._assigned,
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
            candidate,
        )
        self._reception = Reception(self._inbox, self._understanding, self._die)

    async def stop(self) -> None:
        """Finish the turns under way, commit, give the partitions back. Bounded by the drain time."""
        self._draining = True
        if self._intake is None:
            return
        self._watch.cancel()
        if self._following is not None:
            await self._following.leave()
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

    def _candidate(self, tracks: Tracks) -> Candidate:
        deadline_s, most = self._settings.turn_deadline_s, max(1, self._settings.inflight_messages // LENT_PART)
        return Candidate(tracks, self._conversations, self._producer, deadline_s, most)

    async def _begin(self) -> None:
        """Read the inbox that is this worker's to read, and another one when the release wants so."""
        if self._following is None:
            self._open(USER_QUERY)
            return
        self._open(await self._following.first_inbox())
        self._following.start()

    def _open(self, inbox: str) -> None:
        intake = Intake(self._kafka, self._settings, self._reception.receive, self._hold, self._dropped, inbox)
        self._due_scan = DueScan(DueIndex(self._conversations.servers), self._producer, intake, self._hold)
        self._intake = intake
        intake.start()
        if inbox == USER_QUERY:  # timers go there, and only who reads it knows whose they are
            self._due_scan.start()

    async def _change(self, inbox: str) -> None:
        """Finish and commit what was taken, give the partitions back, then read the other inbox."""
        async with self._swapping:
            assert self._intake is not None  # what follows a release begins after the first inbox is open
            await self._due_scan.stop()
            await self._intake.stop()
            self._open(inbox)
            logger.info("inbox changed", extra={"fields": {"inbox": inbox}})

    async def swap(self, path: str) -> TurnAgent:
        """Serve another model from the next poll on; raises ModelUnfit and keeps the old one.

        Nobody waits for it: what has been taken is finished by the model that it was taken for.
        """
        async with self._swapping:
            agent = await load_beside(path, self._serving, self._endpoint, self._settings.rehearsal_s)
            self._take(agent)
            logger.info("model swapped", extra={"fields": {"model": agent.model_id}})
            return agent

    def _take(self, agent: TurnAgent) -> None:
        agent.tracker_store.domain = agent.domain
        self.agent = agent
        self._live.drop(set(self._assigned))  # they are of the old model, and would keep parts of it
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
        if not self._connected():
            found.append("kafka: not in the group of workers yet")
        elif self._inbox.store_away:
            found.append("redis")
        return found

    def _connected(self) -> bool:
        return self._intake is not None and self._intake.connected

    def stuck(self) -> List[str]:
        """Return what only a restart can mend."""
        if self._intake is None:
            return []
        parts = (("intake", self._intake), ("producer", self._producer), ("timers", self._due_scan))
        found = [(name, part.failure) for name, part in parts]
        if self._following is not None and self._following.ended and not self._draining:
            found.append(("release", "ended"))
        return [f"{name}: {failure}" for name, failure in found if failure] + ["nlu"] * self._understanding.stuck

    def _runner(self) -> TurnRunner:
        settings = self._settings
        return self._serving.runner(settings.turn_deadline_s, settings.idle_s, settings.handoff_wait_s)

    def _hold(self) -> bool:
        return self._inbox.store_away or self._understanding.full

    async def _watch_store(self) -> None:
        """Notice that Redis has gone, is back, or is another one, while nothing else asks it."""
        while True:
            await self._look()
            if self.stuck():
                self._die(", ".join(self.stuck()))
            if self._housekeeping.due(busy=self._intake is not None and self._intake.inflight > 0):
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
