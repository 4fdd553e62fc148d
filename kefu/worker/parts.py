"""The parts that process a worker's messages: store, producer, mender, inbox, reception. `Worker` runs them.

In: the settings and the serving agent. Out: parts that know each other; none of them takes messages yet.
"""

from typing import Callable, List, Optional, Set

from kefu.kafka import EventProducer
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker.agent import TurnAgent
from kefu.worker.engine.understanding import Understanding
from kefu.worker.inbox.lending import Candidate
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.inbox.reception import Reception
from kefu.worker.release.following import tracks_of
from kefu.worker.release.tracks import Tracks
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.mending import Mender
from kefu.worker.storage.published import PublishedTail
from kefu.worker.turns.live import LiveConversation, LiveConversations
from kefu.worker.turns.runner import TurnRunner

LENT_PART = 4  # at most one in LENT_PART of the messages that may be in flight may be lent to the candidate at once


class Parts:
    """The parts of one worker, created in this order.

    Attributes:
        conversations: the store of conversations in Redis.
        producer: writes answers and events to Kafka.
        tracks: this worker's place in a release; None without a release.
        live: the conversations kept in memory.
        mender: writes turns again that Redis lost.
        inbox: processes one event from marker to publication.
        reception: takes one poll's messages.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        redis: RedisSettings,
        settings: WorkerSettings,
        agent: TurnAgent,
        understanding: Understanding,
        assigned: Callable[[], List[int]],
        give_up: Callable[[str], None],
    ) -> None:
        """Create the parts.

        Args:
            kafka: settings of the client.
            redis: settings of the client.
            settings: of the worker.
            agent: the agent whose model answers the first messages.
            understanding: NLU's thread.
            assigned: returns the partitions that are this worker's now.
            give_up: ends the process, for the reason given.
        """
        self.conversations = Conversations(redis)
        agent.tracker_store.domain = agent.domain
        agent.tracker_store.serve_worker(self.conversations)
        self.producer = EventProducer(kafka)
        self.tracks = tracks_of(settings, self.conversations.servers, redis.key_prefix)
        self.live = LiveConversations(settings.live_trackers, settings.live_turns)
        self.mender = Mender(self.conversations, PublishedTail(kafka, settings.mend_window_s), assigned, self._rearm)
        self.inbox = Inbox(
            runner_of(agent, settings),
            self.conversations,
            self.live,
            self.producer,
            settings.attempts,
            settings.turns_at_once,
            self.mender,
            self._candidate(self.tracks, settings),
        )
        self.reception = Reception(self.inbox, understanding, give_up)

    def _candidate(self, tracks: Optional[Tracks], settings: WorkerSettings) -> Optional[Candidate]:
        """Return what lends messages to the candidate track; None without a release."""
        if tracks is None:
            return None
        most = max(1, settings.inflight_messages // LENT_PART)
        return Candidate(tracks, self.conversations, self.producer, settings.turn_deadline_s, most)

    def forget(self, partitions: Set[int]) -> None:
        """Forget the conversations of partitions that another worker owns now."""
        self.live.drop(partitions)
        self.mender.forget(partitions)

    async def _rearm(self, conversation: str, partition: int) -> None:
        """Put a conversation's timers back into their index, which lost them together with its turns."""
        runner = self.inbox.runner
        live = LiveConversation.restore(
            conversation, runner.processor.view, await self.conversations.load(conversation)
        )
        live.partition = partition
        await self.conversations.arm(conversation, runner.timers(live))


def runner_of(agent: TurnAgent, settings: WorkerSettings) -> TurnRunner:
    """Return what runs turns by this agent's model."""
    return agent.runner(settings.turn_deadline_s, settings.idle_s, settings.handoff_wait_s)
