"""What conversations under way rely on in a model's domain, and whether another model has it."""

from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:  # a command compares what it finds stored, and starts sooner without Rasa
    from rasa.shared.core.domain import Domain

Relied = Dict[str, Any]


def relied(domain: "Domain") -> Relied:
    """Return slots with their types, forms, and intents: what stored events and offered buttons name."""
    return {
        "slots": {slot.name: slot.type_name for slot in domain.slots},
        "forms": sorted(domain.form_names),
        "intents": sorted(domain.intents),
    }


def missing(needed: Relied, had: Relied) -> List[str]:
    """Return, as sentences, what `needed` has and `had` has not: a conversation that has it can't go on whole."""
    found = [
        f"slot {name} is {had['slots'].get(name, 'missing')}, not {kind}"
        for name, kind in needed["slots"].items()
        if had["slots"].get(name) != kind
    ]
    found += [f"form {name} is missing" for name in needed["forms"] if name not in had["forms"]]
    return found + [f"intent {name} is missing" for name in needed["intents"] if name not in had["intents"]]
