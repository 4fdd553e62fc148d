"""`make intent NAME=price_match`: write the stubs of a new intent with one answer, and say what is left to do.

Text is inserted, never parsed and dumped again: comments, anchors and quotes of the files stay as they are.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDER = "FILL_IN"  # marks every text that is left to the developer; a test fails while one is left
RESERVED = {"back", "nlu_fallback", "restart", "session_start"}  # Rasa's own intents

PHRASES = """\
  # FILL_IN when a customer means this, and which intents are close to it
  - intent: {name}
    examples: |
      - FILL_IN {use} 中文
      - FILL_IN {use} in English
"""
RESPONSE = """
  utter_{name}:
    - text: FILL_IN 中文回答
    - text: FILL_IN 换一种说法的中文回答
    - condition: *en
      text: FILL_IN the answer in English
    - condition: *en
      text: FILL_IN the answer in other English words
"""
RULE = """\
  - rule: answer {name}
    steps:
      - intent: {name}
      - action: utter_{name}
"""
STORIES = """\
  - story: a Chinese customer asks for {name}
    steps:
      - user: "[FILL_IN](language:zh) 中文"
        intent: {name}
      - action: utter_{name}
  - story: an English customer asks for {name}
    steps:
      - user: "[FILL_IN](language:en) in English"
        intent: {name}
      - action: utter_{name}
"""
LEFT_TO_DO = """\
Left to do:
  1. Replace every {placeholder}: `grep -rn {placeholder} domain.yml data tests/dialogue` lists them.
     Training wants 40 phrases a language, held-out data 15 that are not among the training phrases.
  2. Add {name} to MEANINGS in actions/talk.py: the text of its button when the assistant asks back.
  3. Run `make train && make shell`, and talk about {name} in both languages.
  4. Run `make card`, then `.local/services/bin/python -m pytest tests/dialogue`; commit the card with the data.
CONTRIBUTING.md, "Add an intent", explains each step."""


class Refused(Exception):
    """The stubs can't be written; the text says why."""


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write the stubs below `root`; return 0, or 1 after a refusal, which changes no file."""
    parser = argparse.ArgumentParser(prog="make intent", description=__doc__)
    parser.add_argument("name", help="the intent, for instance price_match")
    parser.add_argument("--topic", help="its file in data/nlu, for instance refunds; without it, the intent's name")
    words = parser.parse_args(arguments)
    try:
        texts = stubs(root, words.name, words.topic or words.name)
    except Refused as error:
        print(f"make intent: {error}", file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(root)}")
    print(LEFT_TO_DO.format(name=words.name, placeholder=PLACEHOLDER))
    return 0


def stubs(root: Path, name: str, topic: str) -> dict[Path, str]:
    """Return the new text of each file that an intent needs. Raises Refused."""
    for each in (name, topic):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", each):
            raise Refused(f"{each!r} is no identifier: use lower-case letters, digits and _, beginning with a letter")
    domain, nlu = root / "domain.yml", root / "data" / "nlu" / f"{topic}.yml"
    rules, dialogue = root / "data" / "rules" / "questions.yml", root / "tests" / "dialogue"
    heldout, stories = dialogue / "nlu_heldout.yml", dialogue / "test_stories.yml"
    domain_text = domain.read_text(encoding="utf-8")
    _refuse_taken(domain_text, name)
    nlu_text = nlu.read_text(encoding="utf-8") + "\n" if nlu.exists() else 'version: "3.1"\n\nnlu:\n'
    heldout_text = heldout.read_text(encoding="utf-8") + "\n"
    domain_text = _insert(domain_text, "intents", f"  - {name}\n", block=1)
    return {
        domain: _insert(domain_text, "responses", RESPONSE.format(name=name)),
        nlu: _append(nlu_text, PHRASES.format(name=name, use="to train"), "nlu"),
        rules: _append(rules.read_text(encoding="utf-8"), RULE.format(name=name), "rules"),
        heldout: _append(heldout_text, PHRASES.format(name=name, use="held out"), "nlu"),
        stories: _append(stories.read_text(encoding="utf-8"), STORIES.format(name=name), "stories"),
    }


def _refuse_taken(domain_text: str, name: str) -> None:
    """Raise Refused if the domain already has an intent or a response of this name."""
    domain = yaml.safe_load(domain_text)
    intents = {next(iter(each)) if isinstance(each, dict) else each for each in domain["intents"]}
    if name in intents | RESERVED:
        raise Refused(f"the intent {name} exists already")
    if f"utter_{name}" in domain["responses"]:
        raise Refused(f"the response utter_{name} exists already")


def _append(text: str, addition: str, section: str) -> str:
    """Return a text with an addition at its end. Raises Refused unless `section` is the text's last section."""
    last = re.findall(r"^([a-z_]+):", text, re.MULTILINE)[-1]
    if last != section:
        raise Refused(f"{section} is not the last section of its file, {last} is")
    return text + addition


def _insert(text: str, section: str, addition: str, block: int | None = None) -> str:
    """Return a text with an addition at the end of a section, or of one of its blocks, which blank lines separate."""
    match = re.search(rf"^{section}:\n((?:[ ].*\n|\n)*)", text, re.MULTILINE)
    if not match:
        raise Refused(f"domain.yml has no section {section}")
    body = match.group(1).rstrip("\n") + "\n"
    end = match.start(1) + len(body)
    if block is not None:
        ends = [each.start() + 1 for each in re.finditer(r"\n\n", body)] + [len(body)]
        if block >= len(ends):
            raise Refused(f"{section} in domain.yml has no block {block + 1}")
        end = match.start(1) + ends[block]
    return text[:end] + addition + text[end:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
