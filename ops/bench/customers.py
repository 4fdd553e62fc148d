"""The customers of a bench: what they say, when, and what they get. They know no transport.

Each customer has one message under way at a time and says the next thing when the answer is there.
`rate` makes messages come by the clock instead, as independent customers' do.
"""

import random
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Deque, Dict, List, Optional, Protocol

from ops.bench import scripts

TENANT = "demo"
GIVE_UP_S = 30.0  # after the last message was sent: what isn't answered by then is lost
LISTEN_S = 0.5  # after the last answer: what comes then is one too many


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        driver: `stock`, `gateway`, `accept` (`load_http`) or `kafka` (`load_kafka`).
        users: conversations at once.
        turns: length of a conversation.
        conversations: how many in all; `seconds` may end it earlier.
        first: number of the first conversation; no two jobs of a system may share numbers.
        rate: messages a second by the clock; None: the next one as soon as the last is answered.
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
    """What happened; everything below `unsent` should be 0, whatever the load.

    `unsent`: messages that came by the clock and found nobody idle who could send them: too much
    was asked of the system.
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
    """How messages get to a system and answers back; drives the load until `finished`."""

    def connect(self, load: "Load") -> None:
        """Get ready to send."""

    def run(self, load: "Load") -> None:
        """Call `load.begin`, then `load.tick` every ms or so, until it returns False. Blocks."""

    def send(self, customer: "Customer") -> None:
        """Send what `customer.text` holds; the answer goes to `load.answered`."""


@dataclass(eq=False)
class Customer:
    """One who has one conversation after the other, each under a name of its own."""

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
    """The customers, and what they got."""

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
        """Start the clock and let everybody say the first thing."""
        self._chance = random.Random(self.job.first)  # noqa: S311 - arrival times, no secrets
        self._began = self._next_due = self.last_answer = time.perf_counter()
        for place in range(min(self.job.users, self.job.conversations)):
            customer = Customer(place, self._new_conversation())
            if self.job.rate is None:
                self._say(customer, time.perf_counter())
            else:
                self._idle.append(customer)

    def tick(self) -> bool:
        """Send what is due by the clock; returns False once all is over."""
        now = time.perf_counter()
        if self.job.rate is not None:
            self._arrivals(now)
        if self._waiting:
            return now - self._last_sent < GIVE_UP_S
        busy = not self._over(now) and (self._due or self.job.rate is not None)
        return bool(busy) or now - self.last_answer < LISTEN_S

    def answered(self, customer: Customer, replies: int) -> None:
        """Note the answer to the message under way; the customer goes on."""
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
            # By the second from the start: how many were answered, and how long the slowest of them took, in ms.
            "each_second": [self.seconds.get(n, [0, 0.0]) for n in range(max(self.seconds, default=-1) + 1)],
            "turns_reached": self.turns_reached,
            "conversations": self._started_conversations,
            "repeated_texts_share": 1 - len(self.texts) / max(1, sum(self.texts.values())),
        }

    def _new_conversation(self) -> int:
        self._started_conversations += 1
        return self.job.first + self._started_conversations - 1

    def _goes_on(self, customer: Customer) -> bool:
        """Move on to the next conversation when this one is over; False when there is none."""
        if customer.turn < self.job.turns:
            return True
        if self._started_conversations >= self.job.conversations:
            return False
        customer.number, customer.turn, customer.seq = self._new_conversation(), 0, 0
        return True

    def _over(self, now: float) -> bool:
        return now - self._began >= self.job.seconds

    def _arrivals(self, now: float) -> None:
        """Poisson arrivals. One that finds nobody idle waits, and its time counts from when it came."""
        while self._next_due <= now and not self._over(self._next_due):
            self._due.append(self._next_due)
            self._next_due += self._chance.expovariate(self.job.rate)
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
    """Count replies whose sequence number isn't the next one: a reply came twice, or not, or too early."""
    for reply in replies:
        load.counts.out_of_order += reply["seq"] != customer.seq + 1
        customer.seq = reply["seq"]
    return len(replies)
