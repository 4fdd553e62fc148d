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

LENT_PART = 4  # at most one in LENT_PART of the messages that may be in flight may be lent to the candidate at once


class Worker:
    """The dialogue worker of one process. Belongs to the event loop of Rasa's server."""

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
            UnsafeStart, ModelUnfit, Unrehearsed: the worker must not serve; the process has to end.
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
        """Create the parts, each from those before it. No message is taken yet."""
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
        """Finish the turns under way within the drain time, commit, give the partitions back."""
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
        """Rehearse turns and open connections before the first customer; an unreachable server is only logged."""
        if not self._settings.rehearsal_s:
            return
        await rehearse(self._runner(), self._settings.rehearsal_s, self._understanding.thread)
        await asyncio.gather(self._endpoint.connect(), self._producer.connect())

    def _candidate(self, tracks: Tracks) -> Candidate:
        deadline_s, most = self._settings.turn_deadline_s, max(1, self._settings.inflight_messages // LENT_PART)
        return Candidate(tracks, self._conversations, self._producer, deadline_s, most)

    async def _begin(self) -> None:
        """Begin to read this worker's inbox; in a release, follow it to another inbox."""
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
        if inbox == USER_QUERY:  # timers are sent to this topic, and only its readers own its partitions' timers
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
        """Serve another model from the next poll on. Raises ModelUnfit and keeps the old model if it can't serve.

        No message waits for the swap: messages already taken are finished by the model that they were taken for.
        """
        async with self._swapping:
            agent = await load_beside(path, self._serving, self._endpoint, self._settings.rehearsal_s)
            self._take(agent)
            logger.info("model swapped", extra={"fields": {"model": agent.model_id}})
            return agent

    def _take(self, agent: TurnAgent) -> None:
        agent.tracker_store.domain = agent.domain
        self.agent = agent
        self._live.drop(set(self._assigned))  # their trackers hold parts of the old model in memory
        self._understanding.forget()
        self._housekeeping.soon()
        self._inbox.runner = self._runner()

    def missing(self) -> List[str]:
        """Return the reasons why the worker is not ready; empty if it is."""
        reasons = []
        if self.agent is None:
            reasons.append("model")
        if self._draining:
            reasons.append("draining")
        if not self._connected():
            reasons.append("kafka: not in the group of workers yet")
        elif self._inbox.store_away:
            reasons.append("redis")
        return reasons

    def _connected(self) -> bool:
        return self._intake is not None and self._intake.connected

    def stuck(self) -> List[str]:
        """Return the failures that only a restart can repair; empty if there are none."""
        if self._intake is None:
            return []
        parts = (("intake", self._intake), ("producer", self._producer), ("timers", self._due_scan))
        failures = [(name, part.failure) for name, part in parts]
        if self._following is not None and self._following.ended and not self._draining:
            failures.append(("release", "ended"))
        return [f"{name}: {failure}" for name, failure in failures if failure] + ["nlu"] * self._understanding.stuck

    def _runner(self) -> TurnRunner:
        settings = self._settings
        return self._serving.runner(settings.turn_deadline_s, settings.idle_s, settings.handoff_wait_s)

    def _hold(self) -> bool:
        return self._inbox.store_away or self._understanding.full

    async def _watch_store(self) -> None:
        """Twice a second, check whether Redis is away, back or another server; end the process if it is stuck."""
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
        except Exception as error:  # noqa: BLE001 - without an answer Redis counts as away, whatever the error
            if not self._inbox.store_lost:
                logger.warning("redis is away", extra={"fields": {"error": error.__class__.__name__}})
            self._inbox.store_lost = True

    @staticmethod
    def _die(reason: str) -> None:
        """End the process. Another worker processes the messages that are not committed."""
        logger.critical("worker gives up", extra={"fields": {"reason": reason}})
        os.kill(os.getpid(), signal.SIGTERM)

    def _dropped(self, partitions: Set[int]) -> None:
        """Forget the conversations of partitions that another worker owns now."""
        self._live.drop(partitions)
        self._mender.forget(partitions)

    async def _rearm(self, conversation: str, partition: int) -> None:
        """Put a conversation's timers back into their index, which lost them together with its turns."""
        runner = self._inbox.runner
        live = LiveConversation.restore(
            conversation, runner.processor.view, await self._conversations.load(conversation)
        )
        live.partition = partition
        await self._conversations.arm(conversation, runner.timers(live))


def _loaded(agent: Agent) -> LoadedModel:
    """Return the model that Rasa's server loaded at its start."""
    processor = agent.processor
    if processor is None:
        raise FileNotFoundError("no model: run `make train`")
    return LoadedModel.of(processor.model_filename, processor.model_metadata, processor.graph_runner)
