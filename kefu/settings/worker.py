"""The dialogue worker: times, limits, memory, release."""

import os
from dataclasses import dataclass

from kefu.errors import SettingsError
from kefu.settings.declaring import Environment, Section, Setting, filled_by, setting

TLS_DIRECTORY = Setting(
    "KEFU_TLS_DIRECTORY",
    default="",
    meaning="Folder with `tls.crt`, `tls.key` and `ca.crt` for mutual TLS between worker and action server; "
    "empty for none.",
)


def _one_process(number: str) -> str:
    if number != "1":
        raise SettingsError("SANIC_WORKERS", "can't take effect: start one worker process for each core instead")
    return number


SANIC_WORKERS = Setting(
    "SANIC_WORKERS", default="1", convert=_one_process, meaning="Rasa's; 1 or not set: a worker is one process."
)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(Section):
    """The dialogue worker: its ports, times, limits, model and track."""

    host: str = setting("KEFU_WORKER_HOST", default="127.0.0.1", meaning="Address to listen on.")
    port: int = setting("KEFU_WORKER_PORT", int, 5005, 1, 65535, meaning="Port of Rasa's own HTTP API.")
    health_port: int = setting("KEFU_WORKER_HEALTH_PORT", int, 5006, 1, 65535, meaning="Port of probes and metrics.")
    action_url: str = setting("ACTION_ENDPOINT_URL", meaning="The action server: `http://host:5055/webhook`.")
    turn_deadline_s: float = setting(
        "KEFU_TURN_DEADLINE_S",
        float,
        10,
        0.5,
        120,
        unit="s",
        meaning="Longest time of a turn; beyond it the customer gets the reply `utter_holding`.",
    )
    action_timeout_s: float = setting(
        "KEFU_ACTION_TIMEOUT_S", float, 3, 0.1, 60, unit="s", meaning="Longest time of one call to the action server."
    )
    attempts: int = setting(
        "KEFU_TURN_ATTEMPTS",
        int,
        3,
        1,
        20,
        unit="attempts",
        meaning="How often a turn that fails is run, before its message becomes a dead letter.",
    )
    poll_messages: int = setting(
        "KEFU_POLL_MESSAGES", int, 64, 1, 1000, unit="messages", meaning="Most messages of one poll of Kafka."
    )
    inflight_messages: int = setting(
        "KEFU_INFLIGHT_MESSAGES",
        int,
        512,
        1,
        100_000,
        unit="messages",
        meaning="Most messages taken from Kafka and not yet finished; at the limit partitions are paused.",
    )
    turns_at_once: int = setting(
        "KEFU_TURNS_AT_ONCE", int, 64, 1, 10_000, unit="turns", meaning="Most turns under way, one a conversation."
    )
    live_trackers: int = setting(
        "KEFU_LIVE_TRACKERS",
        int,
        2000,
        1,
        1_000_000,
        unit="conversations",
        meaning="Most conversations kept in memory.",
    )
    live_turns: int = setting(
        "KEFU_LIVE_TURNS",
        int,
        10_000,
        1,
        10_000_000,
        unit="turns",
        meaning="Most turns of all conversations kept in memory together.",
    )
    nlu_remembered: int = setting(
        "KEFU_NLU_REMEMBERED", int, 1000, 0, 1_000_000, unit="texts", meaning="Most texts whose NLU results are kept."
    )
    drain_s: float = setting(
        "KEFU_DRAIN_S", float, 20, 0, 600, unit="s", meaning="Longest wait for turns under way when it stops."
    )
    mend_window_s: float = setting(
        "KEFU_MEND_WINDOW_S",
        float,
        120,
        1,
        7 * 24 * 3600,
        unit="s",
        meaning="How far back published turns are compared with Redis after a failover. It must be longer than a "
        "replica may lag behind its master.",
    )
    # 2 s run most of the code once, even with a slow model. A longer rehearsal would delay a new replica.
    rehearsal_s: float = setting(
        "KEFU_REHEARSAL_S",
        float,
        2,
        0,
        60,
        unit="s",
        meaning="How long a new worker runs rehearsed turns before it is ready. 0 for no rehearsal.",
    )
    # 300 s as in comparable products, and well within a session, which lasts 30 minutes.
    idle_s: float = setting(
        "KEFU_IDLE_S",
        float,
        300,
        0,
        86_400,
        unit="s",
        meaning="How long a customer may be silent before the domain's `form_idled` or `session_idled` is triggered. "
        "0 for never.",
    )
    handoff_wait_s: float = setting(
        "KEFU_HANDOFF_WAIT_S",
        float,
        600,
        1,
        86_400,
        unit="s",
        meaning="How long a customer waits for a person to take the conversation, or for the person's next message. "
        "After it the assistant takes the conversation back and says so.",
    )
    model: str = setting("KEFU_MODEL", default="models", meaning="The trained model, or the folder with it.")
    api_token: str = setting(
        "KEFU_RASA_TOKEN", default="", secret=True, meaning="Token of Rasa's own HTTP API; empty for none."
    )
    tls_directory: str = filled_by(TLS_DIRECTORY)
    track: str = setting(
        "KEFU_TRACK",
        default="",
        meaning="The track of this worker, `blue` or `green`; empty in an installation without releases by tracks.",
    )
    release_plan: str = setting(
        "KEFU_RELEASE_PLAN",
        only_if=lambda read: bool(read["track"]),
        meaning="File that says which track is active. With KEFU_TRACK only.",
    )

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "WorkerSettings":
        """Read the section; raises SettingsError, which names the key at fault."""
        SANIC_WORKERS.read(env)
        return super().from_env(env)
