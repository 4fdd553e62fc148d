"""The worker of one process: starts and stops the parts, swaps models, and reports whether it is ready."""

import asyncio
import logging
from typing import List, Optional

from rasa.core.agent import Agent

from kefu import metrics
from kefu.events import USER_QUERY
from kefu.health import HealthServer
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker.act.action_endpoint import ActionEndpoint
from kefu.worker.agent import TurnAgent, load_beside
from kefu.worker.engine.model import LoadedModel
from kefu.worker.engine.understanding import Understanding
from kefu.worker.inbox.due_scan import DueScan
from kefu.worker.intake.consumer import Intake
from kefu.worker.parts import Parts, runner_of
from kefu.worker.release.following import Following
from kefu.worker.start import collector
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.turns.rehearsal import rehearse
from kefu.worker.watch import Watch, give_up

logger = logging.getLogger(__name__)


class Worker:
    """The dialogue worker of one process. Belongs to the event loop of Rasa's server."""

    def __init__(self, kafka: KafkaSettings, redis: RedisSettings, settings: WorkerSettings) -> None:
        self._kafka = kafka
        self._redis = redis
        self._settings = settings
        self.agent: Optional[TurnAgent] = None
        self._intake: Optional[Intake] = None
        self._following: Optional[Following] = None
        self._understanding = Understanding(settings.nlu_remembered)
        self._health = HealthServer(settings.host, settings.health_port, self.missing, self.stuck)
        self._swapping = asyncio.Lock()
        self._draining = False

    async def start(self, rasa_agent: Agent) -> TurnAgent:
        """Take over from the agent that Rasa loaded, and begin to take messages.

        Raises:
            UnsafeStart, ModelUnfit, Unrehearsed: the worker must not serve; the process has to end.
        """
        metrics.from_zero()
        self._health.start()
        settings = self._settings
        self._endpoint = ActionEndpoint(settings.action_url, settings.action_timeout_s, settings.tls_directory)
        self.agent = agent = TurnAgent.around(_loaded(rasa_agent), rasa_agent, self._endpoint)
        self._parts = Parts(
            self._kafka, self._redis, settings, agent, self._understanding, lambda: self._assigned, give_up
        )
        self._watch = Watch(self._parts.mender, self._parts.inbox, self.stuck, lambda: self._inflight)
        if self._parts.tracks is not None:
            self._following = Following(self._parts.tracks, lambda: self._serving, self._connected, self._change)
        await self._warm_up(agent)
        collector.settle()
        await self._watch.look()
        await self._begin()
        self._watch.start()
        logger.info("worker started", extra={"fields": {"model": agent.model_id}})
        return agent

    async def stop(self) -> None:
        """Finish the turns under way within the drain time, commit, give the partitions back."""
        self._draining = True
        if self._intake is None:
            return
        self._watch.stop()
        if self._following is not None:
            await self._following.leave()
        await self._parts.mender.stop()
        await self._due_scan.stop()
        await self._intake.stop()
        await self._parts.reception.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._parts.producer.close)
        await self._endpoint.close()
        await self._parts.conversations.close()
        self._understanding.stop()
        self._health.stop()
        logger.info("worker stopped")

    async def swap(self, path: str) -> TurnAgent:
        """Serve another model from the next poll on. Raises ModelUnfit and keeps the old model if it can't serve.

        No message waits for the swap: messages already taken are finished by the model that they were taken for.
        """
        async with self._swapping:
            agent = await load_beside(path, self._serving, self._endpoint, self._settings.rehearsal_s)
            agent.tracker_store.domain = agent.domain
            self.agent = agent
            self._parts.live.drop(set(self._assigned))  # their trackers hold parts of the old model in memory
            self._understanding.forget()
            self._watch.housekeeping.soon()
            self._parts.inbox.runner = runner_of(agent, self._settings)
            logger.info("model swapped", extra={"fields": {"model": agent.model_id}})
            return agent

    def missing(self) -> List[str]:
        """Return the reasons why the worker is not ready; empty if it is."""
        reasons = []
        if self.agent is None:
            reasons.append("model")
        if self._draining:
            reasons.append("draining")
        if not self._connected():
            reasons.append("kafka: not in the group of workers yet")
        elif self._parts.inbox.store_away:
            reasons.append("redis")
        return reasons

    def stuck(self) -> List[str]:
        """Return the failures that only a restart can repair; empty if there are none."""
        if self._intake is None:
            return []
        parts = (("intake", self._intake), ("producer", self._parts.producer), ("timers", self._due_scan))
        failures = [(name, part.failure) for name, part in parts]
        if self._following is not None and self._following.ended and not self._draining:
            failures.append(("release", "ended"))
        return [f"{name}: {failure}" for name, failure in failures if failure] + ["nlu"] * self._understanding.stuck

    async def _warm_up(self, agent: TurnAgent) -> None:
        """Rehearse turns and open connections before the first customer; an unreachable server is only logged."""
        if not self._settings.rehearsal_s:
            return
        await rehearse(runner_of(agent, self._settings), self._settings.rehearsal_s, self._understanding.thread)
        await asyncio.gather(self._endpoint.connect(), self._parts.producer.connect())

    async def _begin(self) -> None:
        """Begin to read this worker's inbox; in a release, follow it to another inbox."""
        if self._following is None:
            self._open(USER_QUERY)
            return
        self._open(await self._following.first_inbox())
        self._following.start()

    def _open(self, inbox: str) -> None:
        """Begin to read a topic, `user.query` or that of the candidate."""
        parts = self._parts
        intake = Intake(self._kafka, self._settings, parts.reception.receive, self._hold, parts.forget, inbox)
        self._due_scan = DueScan(DueIndex(parts.conversations.servers), parts.producer, intake, self._hold)
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

    def _hold(self) -> bool:
        """Return whether no further messages are to be taken for now."""
        return self._parts.inbox.store_away or self._understanding.full

    @property
    def _serving(self) -> TurnAgent:
        """The agent that serves, once there is one."""
        assert self.agent is not None  # set before anything that asks for it is put together
        return self.agent

    def _connected(self) -> bool:
        return self._intake is not None and self._intake.connected

    @property
    def _assigned(self) -> List[int]:
        """The partitions that are this worker's now."""
        return self._intake.assigned if self._intake is not None else []

    @property
    def _inflight(self) -> int:
        """The number of messages being processed."""
        return self._intake.inflight if self._intake is not None else 0


def _loaded(agent: Agent) -> LoadedModel:
    """Return the model that Rasa's server loaded at its start."""
    processor = agent.processor
    if processor is None:
        raise FileNotFoundError("no model: run `make train`")
    return LoadedModel.of(processor.model_filename, processor.model_metadata, processor.graph_runner)
