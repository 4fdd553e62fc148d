"""ACT: calls an action of the action server, and checks and reads its answer faster than Rasa.

For each answer stock Rasa builds a JSON Schema validator with 23 alternatives (15 ms of CPU), and for each event in it
walks all event classes. Source: rasa 3.6.21, `RemoteAction`.
"""

import json
from itertools import islice
from typing import Any, Dict, Iterator, List

import aiohttp
import rasa
from rasa.core.actions.action import ActionExecutionRejection, RemoteAction
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import RasaException
from rasa.utils.endpoints import ClientResponseError

from kefu.worker.conversation.events import read_events

# A call sends only this many of the last events, so that it costs the same in a long conversation. They are about seven
# turns, which is more than an action looks back at.
EVENTS_FOR_ACTIONS = 50
# Types of events that need no check against Rasa's schema, because the schema checks nothing of them but the name.
_FREE = frozenset(
    "user_featurization cancel_reminder reminder action_execution_rejected form_validation loop_interrupted "
    "form active_loop reset_slots resume pause followup export restart undo rewind bot session_started agent".split()
)


class QuickRemoteAction(RemoteAction):
    """An action that runs in the action server."""

    async def run(self, output_channel: Any, nlg: Any, tracker: Any, domain: Domain) -> List[Event]:
        """Call the action server; return the events of the answer's messages, then the answer's own events.

        Raises:
            ActionExecutionRejection: the action rejected its execution, by status 400.
            RasaException: the action failed, was not reached, or returned an invalid message.
            ValidationError: the answer does not match Rasa's schema.
        """
        answer = await self._call(tracker, domain)
        self._validate_action_result(answer)
        if not all(map(_is_sayable, _messages(answer))):
            raise RasaException(f"{self.name()} says what can't be said: texts are strings, buttons are objects")
        replies = await self._utter_responses(answer.get("responses", []), output_channel, nlg, tracker)
        return [*replies, *read_events(answer.get("events", []))]

    def _action_call_format(self, tracker: DialogueStateTracker, domain: Domain) -> Dict[str, Any]:
        call = {
            "next_action": self.name(),
            "sender_id": tracker.sender_id,
            "tracker": _state(tracker),
            "version": rasa.__version__,
        }
        if not self._is_selective_domain_enabled() or domain.does_custom_action_explicitly_need_domain(self.name()):
            call["domain"] = domain.as_dict()
        return call

    async def _call(self, tracker: Any, domain: Domain) -> Any:
        try:
            return await self.action_endpoint.request(json=self._action_call_format(tracker, domain), method="post")
        except ClientResponseError as error:
            if error.status != 400:
                raise RasaException(f"{self.name()} failed") from error
            refusal = json.loads(error.text)
            raise ActionExecutionRejection(refusal["action_name"], refusal.get("error")) from error
        except aiohttp.ClientError as error:
            raise RasaException(f"{self.name()} was not reached") from error

    def _validate_action_result(self, result: Dict[str, Any]) -> bool:
        """Return whether the answer is valid. Rasa's own validation checks the answers that `_is_plain` rejects."""
        return _is_plain(result) or super()._validate_action_result(result)


def _state(tracker: DialogueStateTracker) -> Dict[str, Any]:
    """Return a tracker in the form for actions: that of `current_state`, with the last events only."""
    loop = tracker.active_loop
    events = list(islice(reversed(tracker.events), EVENTS_FOR_ACTIONS))[::-1]
    return {
        "sender_id": tracker.sender_id,
        "slots": tracker.current_slot_values(),
        "latest_message": tracker._latest_message_data(),
        "latest_event_time": events[-1].timestamp if events else None,
        "followup_action": tracker.followup_action,
        "paused": tracker.is_paused(),
        "events": [event.as_dict() for event in events],
        "latest_input_channel": tracker.get_latest_input_channel(),
        "active_loop": dict(vars(loop)) if loop else {},
        "latest_action": tracker.latest_action,
        "latest_action_name": tracker.latest_action_name,
    }


def _is_plain(result: Any) -> bool:
    """Return whether an action's answer is certainly valid. False means that Rasa's validation has to decide."""
    if not isinstance(result, dict):
        return False
    events, responses = result.get("events", []), result.get("responses", [])
    return _are_dicts(responses) and _are_dicts(events) and all(map(_is_plain_event, events))


def _messages(answer: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """Yield the messages to the customer in an action's answer. Rasa's schema doesn't check them."""
    yield from answer.get("responses", [])
    for event in answer.get("events", []):
        if event.get("event") == "bot":
            data = event.get("data") or {}
            yield {**data, "text": event.get("text")} if isinstance(data, dict) else {"buttons": data}


def _is_sayable(message: Dict[str, Any]) -> bool:
    """Return whether a message's text is a string and its buttons are objects, so that a client can show them."""
    buttons = [message.get(name) or [] for name in ("buttons", "quick_replies")]
    return isinstance(message.get("text") or "", str) and all(map(_are_dicts, buttons))


def _are_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _is_plain_event(event: Dict[str, Any]) -> bool:
    timestamp, metadata = event.get("timestamp"), event.get("metadata")
    if not (timestamp is None or type(timestamp) in (int, float)) or not (metadata is None or type(metadata) is dict):
        return False
    name = event.get("event")
    return name in _FREE or (name == "slot" and isinstance(event.get("name"), str) and "value" in event)
