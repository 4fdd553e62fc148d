"""Lists the parts of a model's domain that conversations under way rely on, and compares two such lists."""

from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:  # `command` compares stored lists, and starts sooner without Rasa
    from rasa.shared.core.domain import Domain

Relied = Dict[str, Any]


def relied(domain: "Domain") -> Relied:
    """Return the domain's slots with their types, forms and intents: stored events and offered buttons name these."""
    return {
        "slots": {slot.name: slot.type_name for slot in domain.slots},
        "forms": sorted(domain.form_names),
        "intents": sorted(domain.intents),
    }


def missing(needed: Relied, had: Relied) -> List[str]:
    """Return, as sentences, the parts of `needed` that `had` lacks. A conversation that uses one would lose it."""
    sentences = [
        f"slot {name} is {had['slots'].get(name, 'missing')}, not {kind}"
        for name, kind in needed["slots"].items()
        if had["slots"].get(name) != kind
    ]
    sentences += [f"form {name} is missing" for name in needed["forms"] if name not in had["forms"]]
    return sentences + [f"intent {name} is missing" for name in needed["intents"] if name not in had["intents"]]
