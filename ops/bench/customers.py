"""The simulated customers of a bench: when they send which message, and a count of the answers they get.

Each customer has one message under way at a time, and sends the next one when the answer has come. With `rate`,
messages come by the clock instead, as those of independent customers do. A `Transport` sends the messages.
"""

import random
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Deque, Dict, List, Optional, Protocol

from ops.bench import scripts

TENANT = "demo"
GIVE_UP_S = 30.0  # a message without an answer this long after the last message was sent counts as lost
LISTEN_S = 0.5  # the wait after the last answer, in which a further answer counts as unexpected


@dataclass(frozen=True)
class Job:
    """A job for the load generator.

    Attributes:
        driver: the way in: `stock`, `gateway`, `accept` (see `load_http`) or `kafka` (see `load_kafka`).
        users: the number of conversations at once.
        turns: the number of turns of a conversation.
        conversations: the number of conversations in all.
        first: the number of the first conversation. No two jobs of a system may share numbers.
        seconds: after this time no further message is sent.
        script: the name of the conversation, see `scripts`.
        rate: messages a second by the clock; None to send the next message as soon as the last one is answered.
        url: of the gateway or of stock Rasa.
        brokers: Kafka's brokers, for the driver `kafka`.
        token_secret: the secret that signs the customers' tokens, for the gateway.
    """

    driver: str
    users: int
    turns: int
    conversations: int
    first: int
    seconds: float
    script: str = scripts.TALK
    rate: Optional[float] = None
    url: str = ""
    brokers: str = ""
    token_secret: str = ""


@dataclass
class Counts:
    """Counts of messages and answers. The counts after `unsent` must be 0, whatever the load.

    `unsent` counts messages that were due by the clock while no customer was idle: the system can't do that rate.
    """

    turns: int = 0
    replies: int = 0
    unsent: int = 0
    lost: int = 0
    failed: int = 0
    silent: int = 0
    doubled: int = 0
    out_of_order: int = 0
    unexpected: int = 0


class Transport(Protocol):
    """Sends messages to a system and receives its answers. It drives the load until `Load.tick` returns False."""

    def connect(self, load: "Load") -> None:
        """Open the connections."""

    def run(self, load: "Load") -> None:
        """Call `load.begin`, then `load.tick` every ms or so, until it returns False. Blocks."""

    def send(self, customer: "Customer") -> None:
        """Send `customer.text`. The answer is given to `load.answered`."""


@dataclass(eq=False)
class Customer:
    """A simulated customer, who has one conversation after the other, each with a user id of its own.

    Attributes:
        place: the customer's index, and that of the connection.
        number: of the conversation.
        turn: of the conversation, from 0.
        due: when the message under way was due.
        waiting: whether the answer is still to come.
        seq: the sequence number of the last reply.
    """

    place: int
    number: int
    turn: int = 0
    text: str = ""
    due: float = 0.0
    waiting: bool = False
    seq: int = 0

    @property
    def user(self) -> str:
        """The user id of the conversation under way."""
        return f"bench-{self.number}"

    @property
    def message_id(self) -> str:
        """The id of the message under way."""
        return f"{self.number}-{self.turn}"


@dataclass
class Load:
    """All customers of a job, and the figures about their answers."""

    job: Job
    transport: Transport
    counts: Counts = field(default_factory=Counts)
    latencies_ms: List[float] = field(default_factory=list)
    seconds: Dict[int, List[float]] = field(default_factory=dict)
    turns_reached: int = 0
    texts: Dict[str, int] = field(default_factory=dict)
    last_answer: float = 0.0
    _idle: Deque[Customer] = field(default_factory=deque)
    _due: Deque[float] = field(default_factory=deque)
    _started_conversations: int = 0
    _waiting: int = 0
    _began: float = 0.0
    _last_sent: float = 0.0
    _next_due: float = 0.0

    def begin(self) -> None:
        """Start the clock, and let each customer send a first message, unless messages come by the clock."""
        self._chance = random.Random(self.job.first)  # noqa: S311 - arrival times, no secrets
        self._began = self._next_due = self.last_answer = time.perf_counter()
        for place in range(min(self.job.users, self.job.conversations)):
            customer = Customer(place, self._new_conversation())
            if self.job.rate is None:
                self._say(customer, time.perf_counter())
            else:
                self._idle.append(customer)

    def tick(self) -> bool:
        """Send the messages that are due by the clock; return False when the job is done."""
        now = time.perf_counter()
        if self.job.rate is not None:
            self._arrivals(now, self.job.rate)
        if self._waiting:
            return now - self._last_sent < GIVE_UP_S
        busy = not self._over(now) and (self._due or self.job.rate is not None)
        return bool(busy) or now - self.last_answer < LISTEN_S

    def answered(self, customer: Customer, replies: int) -> None:
        """Count the answer to a customer's message; the customer then sends the next message, or becomes idle."""
        now = time.perf_counter()
        took_ms = (now - customer.due) * 1000
        self.latencies_ms.append(took_ms)
        answered = self.seconds.setdefault(int(now - self._began), [0, 0.0])
        answered[0] += 1
        answered[1] = max(answered[1], took_ms)
        self.counts.turns += 1
        self.counts.replies += replies
        self.counts.silent += replies == 0
        self.last_answer = now
        self._waiting -= 1
        customer.waiting = False
        customer.turn += 1
        self.turns_reached = max(self.turns_reached, customer.turn)
        if self._over(now) or not self._goes_on(customer):
            return
        if self.job.rate is None:
            self._say(customer, now)
        elif self._due:
            self._say(customer, self._due.popleft())
        else:
            self._idle.append(customer)

    def results(self) -> Dict[str, Any]:
        """Return the figures; to be called once `tick` has returned False."""
        self.counts.lost += self._waiting
        seconds = self.last_answer - self._began
        ordered = sorted(self.latencies_ms)
        return {
            **asdict(self.counts),
            "seconds": seconds,
            "turns_a_second": self.counts.turns / seconds if seconds else 0.0,
            "latency_ms": {str(p): ordered[int(len(ordered) * p / 100)] for p in (50, 95, 99)} if ordered else {},
            # For each second from the start: the number of answered messages, and the longest time of them in ms.
            "each_second": [self.seconds.get(n, [0, 0.0]) for n in range(max(self.seconds, default=-1) + 1)],
            "turns_reached": self.turns_reached,
            "conversations": self._started_conversations,
            "repeated_texts_share": 1 - len(self.texts) / max(1, sum(self.texts.values())),
        }

    def _new_conversation(self) -> int:
        self._started_conversations += 1
        return self.job.first + self._started_conversations - 1

    def _goes_on(self, customer: Customer) -> bool:
        """Begin the next conversation if this one is over; return False if there is none left."""
        if customer.turn < self.job.turns:
            return True
        if self._started_conversations >= self.job.conversations:
            return False
        customer.number, customer.turn, customer.seq = self._new_conversation(), 0, 0
        return True

    def _over(self, now: float) -> bool:
        return now - self._began >= self.job.seconds

    def _arrivals(self, now: float, rate: float) -> None:
        """Let messages arrive as a Poisson process, `rate` a second.

        A message waits while no customer is idle. Its time counts from its arrival.
        """
        while self._next_due <= now and not self._over(self._next_due):
            self._due.append(self._next_due)
            self._next_due += self._chance.expovariate(rate)
        while self._due and self._idle:
            self._say(self._idle.popleft(), self._due.popleft())
        if self._over(now):
            self.counts.unsent += len(self._due)
            self._due.clear()

    def _say(self, customer: Customer, due: float) -> None:
        customer.text = scripts.text(self.job.script, customer.number, customer.turn)
        customer.due, customer.waiting = due, True
        self.texts[customer.text] = self.texts.get(customer.text, 0) + 1
        self._waiting += 1
        self._last_sent = time.perf_counter()
        self.transport.send(customer)


def count_replies(load: Load, customer: Customer, replies: List[Dict[str, Any]]) -> int:
    """Count replies that came twice, too early or not at all: their sequence number isn't the next one.

    Returns:
        The number of replies.
    """
    for reply in replies:
        load.counts.out_of_order += reply["seq"] != customer.seq + 1
        customer.seq = reply["seq"]
    return len(replies)
