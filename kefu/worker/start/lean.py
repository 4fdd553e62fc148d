"""Serves and trains a model that needs no TensorFlow without importing TensorFlow.

In: the model's archive, or the configuration to train by, before Rasa is imported. Out: a process that defers Rasa's
modules with TensorFlow, if the model names none of their components; otherwise a process that imports everything, as
plain Rasa does. Rasa imports TensorFlow for any model, which takes 390 MB and three quarters of the CPU of the start.
"""

import importlib
import json
import tarfile
import zlib
from pathlib import Path
from typing import Optional, Set

from kefu.worker.start.deferred import Deferral

# Rasa's modules that import TensorFlow, scikit-learn or Matplotlib, and that modules of every worker import; each with
# the names that are imported from it. Source: Rasa 3.6.21.
DEFERRED = {
    "rasa.core.policies.ted_policy": ("TEDPolicy",),
    "rasa.nlu.classifiers.diet_classifier": ("DIETClassifier",),
    "rasa.nlu.selectors.response_selector": ("ResponseSelector",),
    "rasa.utils.plotting": (),
    "rasa.utils.tensorflow.model_data": ("ragged_array_to_ndarray",),
    "rasa.utils.tensorflow.model_data_utils": (),
    "rasa.utils.train_utils": (),
}
# Packages of channels and stores that Rasa imports in case credentials.yml or endpoints.yml names them. They take 21 MB
# and a sixth of the CPU of the rest of the start. Each is imported at its first use.
CONNECTORS = (
    {"questionary": ("Question",), "prompt_toolkit": (), "prompt_toolkit.styles": ("Style",)},
    {"webexteamssdk": ("WebexTeamsAPI", "Webhook")},
    {"slack_sdk": (), "slack_sdk.web": (), "slack_sdk.web.async_client": ("AsyncWebClient",)},
    {"boto3": (), "boto3.dynamodb": (), "boto3.dynamodb.conditions": ("Key",)},
    {"pymongo": (), "pymongo.collection": ("Collection",)},
)
# Modules of components that need none of the deferred modules. A component that is neither listed here nor in `kefu`
# may need any of them.
LIGHT = {
    "rasa.core.policies.ensemble",
    "rasa.core.policies.memoization",
    "rasa.core.policies.rule_policy",
    "rasa.graph_components.converters.nlu_message_converter",
    "rasa.graph_components.providers.domain_for_core_training_provider",
    "rasa.graph_components.providers.domain_provider",
    "rasa.graph_components.providers.forms_provider",
    "rasa.graph_components.providers.nlu_training_data_provider",
    "rasa.graph_components.providers.responses_provider",
    "rasa.graph_components.providers.rule_only_provider",
    "rasa.graph_components.providers.story_graph_provider",
    "rasa.graph_components.providers.training_tracker_provider",
    "rasa.graph_components.validators.default_recipe_validator",
    "rasa.graph_components.validators.finetuning_validator",
    "rasa.nlu.classifiers.fallback_classifier",
    "rasa.nlu.classifiers.keyword_intent_classifier",
    "rasa.nlu.classifiers.regex_message_handler",
    "rasa.nlu.extractors.entity_synonyms",
    "rasa.nlu.extractors.regex_entity_extractor",
    "rasa.nlu.tokenizers.whitespace_tokenizer",
}

# The module that imports every component of Rasa, so that a configuration may use any of them by its short name.
ALL_COMPONENTS = "rasa.engine.recipes.default_components"
# Short names in a configuration and the modules that register them; each module is in LIGHT.
SHORT_NAMES = {
    "AugmentedMemoizationPolicy": "rasa.core.policies.memoization",
    "EntitySynonymMapper": "rasa.nlu.extractors.entity_synonyms",
    "FallbackClassifier": "rasa.nlu.classifiers.fallback_classifier",
    "KeywordIntentClassifier": "rasa.nlu.classifiers.keyword_intent_classifier",
    "MemoizationPolicy": "rasa.core.policies.memoization",
    "RegexEntityExtractor": "rasa.nlu.extractors.regex_entity_extractor",
    "RulePolicy": "rasa.core.policies.rule_policy",
    "WhitespaceTokenizer": "rasa.nlu.tokenizers.whitespace_tokenizer",
}

_deferral: Optional[Deferral] = None


def begin(model: str) -> None:
    """Defer the modules that `model` does not need. Call it before Rasa is imported.

    Args:
        model: an archive or a folder of archives.
    """
    global _deferral
    for packages in CONNECTORS:
        Deferral(packages).begin()
    if is_light(model):
        _deferral = Deferral(DEFERRED)
        _deferral.begin()


def begin_training(config: Path) -> None:
    """Defer the modules that training by `config` (config.yml) does not need. Call it before Rasa is imported."""
    for packages in CONNECTORS:
        Deferral(packages).begin()
    names = _configured(config)
    if names and all(name in SHORT_NAMES or name.startswith("kefu.") for name in names):
        Deferral({**DEFERRED, ALL_COMPONENTS: ("DEFAULT_COMPONENTS",)}).begin()
        for name in names & SHORT_NAMES.keys():
            importlib.import_module(SHORT_NAMES[name])  # registers the component


def _configured(config: Path) -> Set[str]:
    """Return the names of the pipeline and the policies; none if Rasa would choose them, or will report an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(config.read_text(encoding="utf-8"))
        return {each["name"] for key in ("pipeline", "policies") for each in content[key]}
    except (OSError, ValueError, YAMLError, KeyError, TypeError):
        return set()


def make_fit(model: str) -> None:
    """Import the deferred modules if `model` may need them, so that it can be loaded. Blocks for seconds.

    Raises:
        ImportError: a module is broken; the model in use can still be served.
    """
    if _deferral is not None and not is_light(model):
        _deferral.end()


def is_light(model: str) -> bool:
    """Return whether it is known of all of the model's components that they need no deferred module."""
    try:
        modules = {used.rpartition(".")[0] for used in _components(_newest(Path(model)))}
    except (OSError, tarfile.TarError, EOFError, zlib.error, ValueError, KeyError):
        return False  # Rasa reads the archive next, and reports the error
    return all(module in LIGHT or module.startswith("kefu.") for module in modules)


def _newest(model: Path) -> Path:
    """Return the archive that Rasa would load. Source: rasa.model.get_latest_model."""
    return max(model.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime) if model.is_dir() else model


def _components(archive: Path) -> Set[str]:
    """Return the class paths in the model's graphs. The training graph is included, because Rasa imports both."""
    with tarfile.open(archive, "r|gz") as files:
        for member in files:
            file = files.extractfile(member) if member.name.lstrip("./") == "metadata.json" else None
            if file is not None:
                metadata = json.load(file)
                graphs = (metadata["train_schema"], metadata["predict_schema"])
                return {node["uses"] for graph in graphs for node in graph["nodes"].values()}
    raise KeyError("metadata.json")
