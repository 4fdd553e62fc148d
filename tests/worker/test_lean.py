"""A worker, or a training, whose model needs no TensorFlow never imports it; any other model works all the same."""

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

# Above the sum of the limits of training, starts and swaps: pytest counts the fixtures' time too.
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
LIGHT_CONFIG = """
recipe: default.v1
assistant_id: light
language: en
pipeline:
  - {name: WhitespaceTokenizer}
  - {name: kefu.worker.nlu.intents.CascadeIntentClassifier, vectors: false}
policies:
  - {name: MemoizationPolicy}
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


def write_project(folder, config):
    """Write what a training reads: the given configuration, two intents, a rule and a story."""
    (folder / "data").mkdir()
    for name, text in (("config.yml", config), ("domain.yml", DOMAIN), ("data/all.yml", DATA)):
        (folder / name).write_text(text)


def train(folder, *command):
    """Train in a folder and return the model's path."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command, "--fixed-model-name", "trained"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "models" / "trained.tar.gz"


@pytest.fixture(scope="module")
def heavy_model(tmp_path_factory):
    """A model of DIET and TED, trained as `make train` does."""
    project = tmp_path_factory.mktemp("heavy")
    write_project(project, CONFIG)
    return train(project, "-m", "ops.local.train", "--quiet", "--augmentation", "0")


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
    """Write a model archive with these components in its metadata and nothing else."""
    graph = {"nodes": {f"n{n}": {"uses": name} for n, name in enumerate(uses)}}
    body = json.dumps({"train_schema": {"nodes": {}}, "predict_schema": graph}).encode()
    with tarfile.open(path, "w:gz") as files:
        member = tarfile.TarInfo("./metadata.json")
        member.size = len(body)
        files.addfile(member, io.BytesIO(body))
    return str(path)


def contents(path):
    """Return the files of a model by name, without ids and times."""
    files = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                files[member.name.lstrip("./")] = archive.extractfile(member).read()
    metadata = json.loads(files.pop("metadata.json"))
    for node in metadata["predict_schema"]["nodes"].values():
        (node["resource"] or {}).pop("output_fingerprint", None)  # random
    return {**files, **{name: metadata[name] for name in ("train_schema", "predict_schema", "domain")}}


def model_id_in(path):
    with tarfile.open(path) as files:
        members = [member for member in files.getmembers() if member.name.lstrip("./") == "metadata.json"]
        return json.load(files.extractfile(members[0]))["model_id"]


def test_shipped_model_is_loaded_without_heavy_packages():
    imported = python(
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
    assert imported == []


def test_light_components_import_no_heavy_package():
    imported = python(
        f"""
        import importlib, json, sys
        from kefu.worker.start import lean
        lean.begin({str(MODEL)!r})
        for name in sorted(lean.LIGHT):
            importlib.import_module(name)
        print(json.dumps([name for name in {HEAVY_PACKAGES} if name in sys.modules]))
        """
    )
    assert imported == []


@pytest.mark.parametrize("packages", [lean.DEFERRED, *lean.CONNECTORS], ids=lambda packages: next(iter(packages)))
def test_stand_ins_name_existing_classes_and_functions(packages):
    for module, names in packages.items():
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            assert inspect.isclass(thing) or inspect.isfunction(thing)
            assert not (inspect.isclass(thing) and issubclass(thing, BaseException))


def test_channel_package_is_imported_at_its_first_use():
    """No other channel's package is imported with it."""
    imports = python(
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
    assert imports == [[], "AsyncWebClient", ["slack_sdk.errors"]]


def test_ended_deferral_leaves_no_stand_in():
    """Every module then has the real classes, as without a deferral."""
    result = python(
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
    assert result == ["StandIn", False, True, [], True, True]


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
def test_model_is_light_only_if_every_component_is(tmp_path, uses, light):
    path = archive(tmp_path / "m.tar.gz", "rasa.core.policies.rule_policy.RulePolicy", uses)
    assert lean.is_light(path) is light


def test_newest_model_of_a_folder_counts(tmp_path):
    old = archive(tmp_path / "b.tar.gz", "rasa.nlu.classifiers.diet_classifier.DIETClassifier")
    os.utime(old, (1, 1))
    archive(tmp_path / "a.tar.gz", "kefu.worker.nlu.intents.CascadeIntentClassifier")
    assert lean.is_light(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_file_that_is_no_model_is_left_to_rasa(tmp_path, content):
    path = tmp_path / "m.tar.gz"
    if content is not None:
        path.write_bytes(content)
    assert not lean.is_light(str(path))


def test_make_train_gives_the_model_of_rasa_train(tmp_path):
    """`ops.local.train` and `rasa train` write the same graphs and the same trained components."""
    write_project(tmp_path, LIGHT_CONFIG)
    ours = contents(train(tmp_path, "-m", "ops.local.train"))
    stock = contents(train(tmp_path, "-m", "rasa", "train", "--force"))
    assert ours.keys() == stock.keys()
    assert [name for name in stock if ours[name] != stock[name]] == []


def test_training_without_tensorflow_imports_no_heavy_package(tmp_path):
    write_project(tmp_path, LIGHT_CONFIG)
    code = f"""
    import atexit, os, sys
    from ops.local.train import main
    atexit.register(lambda: print("HEAVY", [name for name in {HEAVY_PACKAGES} if name in sys.modules]))
    os.chdir({str(tmp_path)!r})
    main(["--quiet"])
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "HEAVY []"), done.stderr


@pytest.mark.parametrize(
    ("config", "deferred"),
    [
        (LIGHT_CONFIG, True),
        (CONFIG, False),
        ("recipe: default.v1\nlanguage: en\n", False),  # Rasa chooses the components
        ("pipeline: [{name: addons.Corrector}]\npolicies: [{name: RulePolicy}]", False),
        ("pipeline: [", False),
        ("pipeline: 7\npolicies: 7", False),
        (None, False),
    ],
)
def test_training_defers_tensorflow_only_for_light_components(tmp_path, config, deferred):
    path = tmp_path / "config.yml"
    if config is not None:
        path.write_text(config)
    code = f"""
    import json, pathlib, sys
    from kefu.worker.start import lean
    from kefu.worker.start.deferred import DeferredModule
    lean.begin_training(pathlib.Path({str(path)!r}))
    sys.modules["tensorflow"] = None  # its import fails, which is faster than to import it
    try:
        from rasa.engine.recipes import default_components
        print(json.dumps(isinstance(default_components, DeferredModule)))
    except ImportError:
        print("false")
    """
    assert python(code) is deferred


def test_short_names_register_light_components():
    assert set(lean.SHORT_NAMES.values()) <= lean.LIGHT
    for name, module in lean.SHORT_NAMES.items():
        assert inspect.isclass(getattr(importlib.import_module(module), name))


def test_worker_loads_tensorflow_only_for_a_model_with_it(serve, heavy_model):
    """The shipped model needs none; the model that replaces it does."""
    worker = serve(MODEL)
    light = worker.ask("hello")
    assert (light.status, light.intent) == ("answered", "greet")
    assert not worker.has_mapped("tensorflow")
    worker.swap(heavy_model)
    heavy = worker.ask("hello")
    assert [reply["text"] for reply in heavy.replies] == ["hello from afar"]
    assert (light.model_id, heavy.model_id) == (model_id_in(MODEL), model_id_in(heavy_model))
    assert worker.has_mapped("tensorflow")


def test_model_of_diet_and_ted_is_served(serve, heavy_model):
    """Its answers carry its model id."""
    worker = serve(heavy_model)
    answer = worker.ask("good morning")
    assert [reply["text"] for reply in answer.replies] == ["hello from afar"]
    assert answer.model_id == model_id_in(heavy_model)


def test_swaps_free_the_old_models_memory(serve):
    worker = serve(MODEL, MALLOC_ARENA_MAX="1")  # with more arenas the sizes would depend on the number of busy threads
    sizes = []
    for swaps in (2, 5):  # the first swaps allocate memory that the later ones reuse
        for _ in range(swaps):
            worker.swap(MODEL)
            assert worker.ask("hello").status == "answered"
        sizes.append(worker.tidied_rss_mb())
    assert sizes[1] - sizes[0] < 2.7 * 5 / 2  # a model that stays takes 2.7 MB; at most half of them may
