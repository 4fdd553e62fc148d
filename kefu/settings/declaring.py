"""Declares settings and reads them.

A section is a frozen dataclass. Each of its fields declares the environment variable that it is read from.
`ops/settings.md` is printed from the same declarations.
"""

import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type, TypeVar

from kefu.errors import SettingsError

Environment = Mapping[str, str]
Read = Mapping[str, Any]
SectionType = TypeVar("SectionType", bound="Section")


@dataclass(frozen=True)
class Setting:
    """One environment variable. Blanks around its text don't count; an empty text counts as not set.

    Attributes:
        key: name of the variable.
        kind: type of the value: str, int, float or bool (`0` or `1`).
        default: value if the variable is not set; None means that it must be set.
        minimum: least number allowed.
        maximum: greatest number allowed.
        unit: unit of the number, for the documentation.
        meaning: effect of the setting, for the documentation.
        choices: allowed texts, in upper case; the variable may be in any case.
        secret: True if the value may come from the file that `<KEY>_FILE` names; the file outranks the variable.
        convert: turns the text into the value; raises SettingsError, whose text must not repeat a secret.
        only_if: gets the fields read before this one and returns whether to read it; if not, its value is empty.
    """

    key: str
    kind: Type[Any] = str
    default: Any = None
    minimum: float = 0
    maximum: float = 0
    unit: str = ""
    meaning: str = ""
    choices: Tuple[str, ...] = ()
    secret: bool = False
    convert: Optional[Callable[[str], Any]] = None
    only_if: Optional[Callable[[Read], bool]] = None

    def is_set(self, env: Environment = os.environ) -> bool:
        """Return whether the variable is set, or `<KEY>_FILE` for a secret."""
        return any(env.get(key, "").strip() for key in self._keys())

    def read(self, env: Environment = os.environ) -> Any:
        """Return the value. Raises SettingsError, which names the variable at fault."""
        key, text = self._text(env)
        if not text:
            if self.default is None:
                raise SettingsError(key, "is not set")
            return self.default
        try:
            return self._value(text)
        except SettingsError as error:
            raise SettingsError(key, error.problem) from None  # the cause may repeat the text, which may be a secret

    def _keys(self) -> Tuple[str, ...]:
        return (f"{self.key}_FILE", self.key) if self.secret else (self.key,)

    def _text(self, env: Environment) -> Tuple[str, str]:
        """Return the variable that is used, `<KEY>_FILE` or the key, and its text."""
        path = env.get(f"{self.key}_FILE", "").strip() if self.secret else ""
        return (f"{self.key}_FILE", self._content(path)) if path else (self.key, env.get(self.key, "").strip())

    def _content(self, path: str) -> str:
        key = f"{self.key}_FILE"
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(key, f"names a file that can't be read ({error.__class__.__name__})") from None
        if not text:
            raise SettingsError(key, "names an empty file")
        return text

    def _value(self, text: str) -> Any:
        if self.convert:
            return self.convert(text)
        if self.choices and text.upper() not in self.choices:
            raise SettingsError(self.key, f"must be {self.allowed}")
        if self.kind is str:
            return text.upper() if self.choices else text
        return self._number(text)

    def _number(self, text: str) -> Any:
        low, high = (0, 1) if self.kind is bool else (self.minimum, self.maximum)
        try:
            number = float(text)  # accepts `1e+06`: Helm writes a million like this
        except ValueError:
            number = float("nan")
        if not low <= number <= high or (self.kind is not float and number != int(number)):
            raise SettingsError(self.key, f"must be {self.allowed}")
        return self.kind(number)

    @property
    def allowed(self) -> str:
        """A description of the allowed texts; empty if every text is allowed."""
        if self.kind is bool:
            return "0 or 1"
        if self.kind in (int, float):
            number = "a whole number" if self.kind is int else "a number"
            return f"{number} from {shown(self.minimum)} to {shown(self.maximum)}"
        return " or ".join(filter(None, (", ".join(self.choices[:-1]), *self.choices[-1:])))


def shown(number: float) -> str:
    """Write a number as an operator would: `300`, not `300.0`."""
    return str(int(number)) if number == int(number) else str(number)


def setting(key: str, kind: Type[Any] = str, default: Any = None, *bounds: float, **more: Any) -> Any:
    """Return a section's field that is read from `key`. `bounds` are minimum and maximum, `more` as in Setting."""
    low, high = bounds or (0, 0)
    return filled_by(Setting(key, kind, None if default is None else kind(default), low, high, **more))


def filled_by(declared: Setting) -> Any:
    """Return a section's field for a setting that is declared elsewhere, because several modules name it."""
    default: Any = MISSING
    if declared.default is not None:
        default = declared.default
    elif declared.only_if:
        default = declared.kind()
    return field(default=default, repr=not declared.secret, metadata={"setting": declared})


class Section:
    """Base of the dataclasses whose fields are settings."""

    @classmethod
    def from_env(cls: Type[SectionType], env: Environment = os.environ) -> SectionType:
        """Read the section; raises SettingsError, which names the key at fault."""
        values: Dict[str, Any] = {}
        for name, declared in settings_of(cls).items():
            wanted = declared.only_if is None or declared.only_if(values)
            values[name] = declared.read(env) if wanted else declared.kind()
        return cls(**values)


def settings_of(section: Type[Any]) -> Dict[str, Setting]:
    """Return the settings of a section by the names of its fields."""
    return {each.name: each.metadata["setting"] for each in fields(section)}
