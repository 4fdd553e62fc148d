"""All metrics of the platform: name, type, unit, labels, meaning. Labels never hold an id."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# Every process
LOG_LINES_DROPPED = Counter("kefu_log_lines_dropped_total", "Lines lost because the log was read too slowly.")

# Gateway
HTTP_REQUESTS = Counter("kefu_http_requests_total", "Requests answered.", ["route", "status"])
HTTP_SECONDS = Histogram("kefu_http_request_seconds", "Time from request to response.", ["route"], buckets=SECONDS)
ACCEPT_SECONDS = Histogram("kefu_accept_seconds", "Time until Kafka acknowledged a message.", buckets=SECONDS)
ACCEPTED = Counter("kefu_messages_accepted_total", "Messages that Kafka acknowledged.", ["channel"])
LOOP_LATE_SECONDS = Histogram("kefu_loop_late_seconds", "How late the event loop runs a due call.", buckets=SECONDS)
STREAMS = Gauge("kefu_streams_open", "Connections on which replies are awaited.")
REFUSED = Counter("kefu_requests_refused_total", "Requests refused by a limit.", ["limit"])
UNANSWERED = Gauge("kefu_unanswered_messages", "Messages accepted here whose answers were not seen yet.")
HINT_CHANNELS = Gauge("kefu_hint_channels", "Conversations whose hints the gateway listens to.")
HINTS = Counter("kefu_hints_total", "Hints of answers that came from Redis.")
HINT_BREAKS = Counter("kefu_hint_connection_breaks_total", "Times the connection for hints was lost.")

# Worker
TURNS = Counter("kefu_turns_total", "Messages finished, by outcome.", ["outcome"])
TURN_OUTCOMES = ("answered", "failed", "refused", "repeated", "declined", "dead_letter")
TURN_SECONDS = Histogram("kefu_turn_seconds", "Time of a stage of a turn.", ["stage"], buckets=SECONDS)
POLL_SIZES = (1, 2, 4, 8, 16, 32, 64, 256)
POLL_MESSAGES = Histogram("kefu_poll_messages", "Messages that one poll brought.", buckets=POLL_SIZES)
ANSWERING = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 2, 5, 10, 30, 60, 300)
ANSWER_SECONDS = Histogram(
    "kefu_answer_seconds", "From a message's acceptance to its stored answer.", buckets=ANSWERING
)
INBOX_LAG = Gauge("kefu_inbox_lag_messages", "Messages in this worker's partitions that are not finished.")
NLU_TEXTS = Counter("kefu_nlu_texts_total", "Texts given to NLU.")
NLU_REMEMBERED = Counter("kefu_nlu_remembered_total", "Texts whose NLU result was remembered from before.")
NLU_CPU_SECONDS = Counter("kefu_nlu_cpu_seconds_total", "CPU time of NLU's thread; TensorFlow has more of its own.")
INFLIGHT = Gauge("kefu_inflight_messages", "Messages taken from Kafka and not finished.")
LIVE_TRACKERS = Gauge("kefu_live_trackers", "Conversations held in memory.")
LIVE_TURNS = Gauge("kefu_live_turns", "Turns of the conversations held in memory.")
CONFLICTS = Counter("kefu_version_conflicts_total", "Writes refused by the tracker's version.", ["kind"])
MENDED_TURNS = Counter("kefu_mended_turns_total", "Turns that Redis had lost, by what restored them.", ["source"])
RETRIES = Counter("kefu_retries_total", "Attempts repeated, by cause.", ["cause"])
ACTION_FAILURES = Counter("kefu_action_failures_total", "Actions that ended in their failure's reply.", ["action"])
TIMERS_DUE = Counter("kefu_timers_due_total", "Timers found due and put into the inbox, repeats included.", ["type"])
TIMERS_FIRED = Counter("kefu_timers_fired_total", "Due timers that triggered a turn.", ["type"])
TIMERS_DROPPED = Counter("kefu_timers_dropped_total", "Due timers that triggered no turn.", ["type", "reason"])
HANDOFFS = Counter("kefu_handoffs_total", "Hand-overs to a person, and what became of them.", ["step"])
LENT = Counter("kefu_lent_messages_total", "Messages lent to a release's candidate, by what became of it.", ["outcome"])
LENT_OUTCOMES = ("answered", "declined", "late", "gone", "unsent", "full")
LATE = (0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)
TIMER_LATE_SECONDS = Histogram(
    "kefu_timer_late_seconds", "From a timer's due time to its turn's end.", ["type"], buckets=LATE
)

# Kafka, both sides
PRODUCED = Counter("kefu_kafka_produced_total", "Records that Kafka acknowledged.", ["topic"])
PRODUCE_FAILURES = Counter("kefu_kafka_produce_failures_total", "Records that Kafka did not take.", ["topic"])
PRODUCE_QUEUE = Gauge("kefu_kafka_produce_queue", "Records waiting for an acknowledgement.")

# Action server
SHOP_SECONDS = Histogram("kefu_shop_request_seconds", "Time of a call to the shop.", ["call"], buckets=SECONDS)
SHOP_FAILURES = Counter("kefu_shop_failures_total", "Calls to the shop that failed after all retries.", ["call"])
SHOP_BEHIND = Gauge("kefu_shop_behind", "Calls to the shop that run in the background.")

# Action server; calls to actions are counted by kefu_http_*, with the action as route
ACTION_ANSWERS = Gauge("kefu_action_answers_kept", "Answers kept for calls made twice under one idempotency key.")


def from_zero() -> None:
    """Create every labelled counter at 0: `increase()` does not see a series' first sample."""
    for counter, outcomes in ((TURNS, TURN_OUTCOMES), (LENT, LENT_OUTCOMES)):
        for outcome in outcomes:
            counter.labels(outcome)
