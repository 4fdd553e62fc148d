"""`python -m ops.understanding.crossed`: cross-validates the present training phrases. Runs under Rasa's Python.

Prints JSON: the figures that the setting `measured` of config.yml reads from the model card.
"""

import json
import logging
from typing import Any, Dict


def main() -> None:
    """Cross-validate and print the figures."""
    logging.disable(logging.WARNING)
    print(json.dumps(cross_validated(), ensure_ascii=False))


def cross_validated() -> Dict[str, Any]:
    """Return `inputs`, `tuning` and `cross_validated` of config.yml's classifier on `data/`."""
    from rasa.shared.importers.rasa import RasaFileImporter

    from kefu.worker.nlu.components import MixedTokenizer
    from kefu.worker.nlu.intents import CascadeIntentClassifier

    importer = RasaFileImporter("config.yml", "domain.yml", "data")
    data = importer.get_nlu_data()
    MixedTokenizer(MixedTokenizer.get_default_config()).process_training_data(data)
    wanted = CascadeIntentClassifier.__name__
    (own,) = [each for each in importer.get_config()["pipeline"] if each["name"].endswith(wanted)]
    config = {**CascadeIntentClassifier.get_default_config(), **own}
    del config["name"]
    return CascadeIntentClassifier(config, None, None).cross_validate(data)


if __name__ == "__main__":
    main()
