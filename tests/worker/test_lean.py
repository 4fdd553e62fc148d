"""A worker whose model needs no TensorFlow never imports it; any other model is served all the same."""

import importlib
import inspect
import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap

import pytest

from kefu.worker.start import lean
from tests.worker.conftest import MODEL, ROOT
from tests.worker.serving import ServedWorker

# Training, starts and swaps each have a limit of their own; a test's is above the sum, for its fixtures count too.
pytestmark = pytest.mark.timeout(1800)
HEAVY_PACKAGES = ("tensorflow", "keras", "sklearn", "matplotlib", "jax")
CONFIG = """
recipe: default.v1
assistant_id: heavy
language: en
pipeline:
  - {name: WhitespaceTokenizer}
  - {name: CountVectorsFeaturizer}
  - {name: DIETClassifier, epochs: 20, random_seed: 1, run_eagerly: true, constrain_similarities: true}
policies:
  - {name: TEDPolicy, epochs: 1, random_seed: 1, run_eagerly: true, max_history: 2, constrain_similarities: true}
  - {name: RulePolicy}
"""
DOMAIN = """
version: "3.1"
intents: [greet, bye]
responses:
  utter_greet: [{text: hello from afar}]
  utter_bye: [{text: bye}]
  utter_action_failed: [{text: failed}]
  utter_holding: [{text: later}]
"""
DATA = """
version: "3.1"
nlu:
  - {intent: greet, examples: "- hello\\n- good morning\\n"}
  - {intent: bye, examples: "- bye\\n- see you\\n"}
rules:
  - {rule: greet, steps: [{intent: greet}, {action: utter_greet}]}
stories:
  - {story: bye, steps: [{intent: bye}, {action: utter_bye}]}
"""


def python(code, **environment):
    """Run code in a new interpreter of this environment and return what it prints last, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def heavy_model(tmp_path_factory):
    """A model of DIET and TED, trained as a designer does."""
    project = tmp_path_factory.mktemp("heavy")
    (project / "data").mkdir()
    for name, text in (("config.yml", CONFIG), ("domain.yml", DOMAIN), ("data/all.yml", DATA)):
        (project / name).write_text(text)
    command = [sys.executable, "-m", "rasa", "train", "--quiet", "--augmentation", "0"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((project / "models").glob("*.tar.gz"))


@pytest.fixture
def serve(brokers, valkey, tmp_path):
    """Start a worker on a model and wait until it is ready."""
    started = []

    def start(model, **environment):
        started.append(ServedWorker(brokers, valkey.url, model, tmp_path / f"{len(started)}.log", **environment))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def archive(path, *uses):
    """Write a model archive that names these components, and nothing else."""
    graph = {"nodes": {f"n{n}": {"uses": name} for n, name in enumerate(uses)}}
    body = json.dumps({"train_schema": {"nodes": {}}, "predict_schema": graph}).encode()
    with tarfile.open(path, "w:gz") as files:
        member = tarfile.TarInfo("./metadata.json")
        member.size = len(body)
        files.addfile(member, io.BytesIO(body))
    return str(path)


def model_id_in(path):
    with tarfile.open(path) as files:
        found = [member for member in files.getmembers() if member.name.lstrip("./") == "metadata.json"]
        return json.load(files.extractfile(found[0]))["model_id"]


def test_the_shipped_model_is_served_from_a_process_without_any_heavy_package():
    found = python(
        f"""
        import json, sys
        from kefu.worker.start import lean
        lean.begin({str(MODEL)!r})
        import rasa.core.run, kefu.worker.channel
        from kefu.worker.engine.model import LoadedModel
        LoadedModel.from_path({str(MODEL)!r})
        print(json.dumps([name for name in {HEAVY_PACKAGES} if name in sys.modules]))
        """
    )
    assert found == []


def test_no_light_component_brings_a_heavy_package():
    found = python(
        f"""
        import importlib, json, sys
        from kefu.worker.start import lean
        lean.begin({str(MODEL)!r})
        for name in sorted(lean.LIGHT):
            importlib.import_module(name)
        print(json.dumps([name for name in {HEAVY_PACKAGES} if name in sys.modules]))
        """
    )
    assert found == []


@pytest.mark.parametrize("packages", [lean.DEFERRED, *lean.CONNECTORS], ids=lambda packages: next(iter(packages)))
def test_stand_ins_stand_for_classes_and_functions_that_are_there(packages):
    for module, names in packages.items():
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            assert inspect.isclass(thing) or inspect.isfunction(thing)
            assert not (inspect.isclass(thing) and issubclass(thing, BaseException))


def test_a_channels_package_is_imported_with_its_first_use_and_brings_no_other():
    found = python(
        f"""
        import json, sys
        from kefu.worker.start import lean
        lean.begin({str(MODEL)!r})
        import rasa.core.run
        from rasa.core.channels.slack import SlackBot
        names = ("slack_sdk.errors", "webexteamssdk.api", "boto3.session", "pymongo.mongo_client", "tensorflow")
        before = [name for name in names if name in sys.modules]
        kind = type(SlackBot("xoxb-1", "C1").client).__name__
        print(json.dumps([before, kind, [name for name in names if name in sys.modules]]))
        """
    )
    assert found == [[], "AsyncWebClient", ["slack_sdk.errors"]]


def test_an_end_of_the_deferral_leaves_a_process_as_if_nothing_had_been_deferred():
    found = python(
        f"""
        import json, sys
        from kefu.worker.start import lean
        from kefu.worker.start.deferred import DeferredModule, StandIn
        lean.begin({str(MODEL)!r})
        import rasa.core.run
        from rasa.graph_components.validators import default_recipe_validator as validator
        before = type(validator.TEDPolicy).__name__
        asked = isinstance(object(), validator.TEDPolicy) or issubclass(object, validator.DIETClassifier)
        untouched = "tensorflow" not in sys.modules
        class Ours(validator.DIETClassifier):
            pass
        left = [
            (module.__name__, name)
            for module in list(sys.modules.values())
            if isinstance(module, type(sys))
            for name, value in list(vars(module).items())
            if type(value) in (StandIn, DeferredModule) and value.deferral.over
        ]
        from rasa.nlu.classifiers.diet_classifier import DIETClassifier
        same = validator.DIETClassifier is DIETClassifier is Ours.__mro__[1]
        print(json.dumps([before, asked, untouched, left, same, "tensorflow" in sys.modules]))
        """,
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert found == ["StandIn", False, True, [], True, True]


@pytest.mark.parametrize(
    ("uses", "light"),
    [
        ("rasa.nlu.classifiers.fallback_classifier.FallbackClassifier", True),
        ("kefu.worker.nlu.intents.CascadeIntentClassifier", True),
        ("rasa.nlu.classifiers.diet_classifier.DIETClassifier", False),
        ("rasa.core.policies.unexpected_intent_policy.UnexpecTEDIntentPolicy", False),
        ("addons.spelling.Corrector", False),
        ("kefuish.Policy", False),
    ],
)
def test_a_model_is_light_only_if_each_of_its_components_is_known_to_be(tmp_path, uses, light):
    path = archive(tmp_path / "m.tar.gz", "rasa.core.policies.rule_policy.RulePolicy", uses)
    assert lean.is_light(path) is light


def test_the_newest_model_of_a_folder_counts(tmp_path):
    old = archive(tmp_path / "b.tar.gz", "rasa.nlu.classifiers.diet_classifier.DIETClassifier")
    os.utime(old, (1, 1))
    archive(tmp_path / "a.tar.gz", "kefu.worker.nlu.intents.CascadeIntentClassifier")
    assert lean.is_light(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_model_is_left_to_rasa(tmp_path, content):
    path = tmp_path / "m.tar.gz"
    if content is not None:
        path.write_bytes(content)
    assert not lean.is_light(str(path))


def test_a_worker_of_the_shipped_model_stays_without_tensorflow_until_it_is_given_a_model_that_needs_it(
    serve, heavy_model
):
    worker = serve(MODEL)
    light = worker.ask("hello")
    assert (light.status, light.intent) == ("answered", "greet")
    assert not worker.has_mapped("tensorflow")
    worker.swap(heavy_model)
    heavy = worker.ask("hello")
    assert [reply["text"] for reply in heavy.replies] == ["hello from afar"]
    assert (light.model_id, heavy.model_id) == (model_id_in(MODEL), model_id_in(heavy_model))
    assert worker.has_mapped("tensorflow")


def test_a_model_of_diet_and_ted_is_served_and_named_in_its_answers(serve, heavy_model):
    worker = serve(heavy_model)
    answer = worker.ask("good morning")
    assert [reply["text"] for reply in answer.replies] == ["hello from afar"]
    assert answer.model_id == model_id_in(heavy_model)


def test_swaps_give_the_old_models_memory_back(serve):
    worker = serve(MODEL, MALLOC_ARENA_MAX="1")  # else the sizes are also of how many threads were busy at once
    sizes = []
    for swaps in (2, 5):  # the first ones bring what every later one uses again
        for _ in range(swaps):
            worker.swap(MODEL)
            assert worker.ask("hello").status == "answered"
        sizes.append(worker.tidied_rss_mb())
    assert sizes[1] - sizes[0] < 2.7 * 5 / 2  # each model kept would be 2.7 MB
