"""Settings of the operators' tools: the operator's name, and the Kafka user of each role."""

import getpass
import os
import socket
from typing import Dict

from kefu.errors import SettingsError
from kefu.settings.declaring import Environment, Setting

MAX_OPERATOR_CHARS = 128

OPERATOR = Setting(
    "KEFU_OPERATOR",
    default="",
    meaning="The operator's name in the topic `audit`, at most 128 characters; empty for the login name on this "
    "machine.",
)
PRINCIPALS = {
    role: Setting(
        f"KEFU_ACL_{role.upper()}", default="", meaning=f"The Kafka user that gets the rights of the role {role}."
    )
    for role in ("gateway", "worker", "operator", "backup", "scaler")
}


def operator(env: Environment = os.environ) -> str:
    """Return the operator's name: KEFU_OPERATOR, or the login name on this machine."""
    name = OPERATOR.read(env)
    if not name:
        try:
            name = f"{getpass.getuser()}@{socket.gethostname()}"
        except (KeyError, OSError) as error:  # in a container the user may have no name
            raise SettingsError(OPERATOR.key, "is needed where the user has no login name") from error
    if len(name) > MAX_OPERATOR_CHARS:
        raise SettingsError(OPERATOR.key, f"is longer than {MAX_OPERATOR_CHARS} characters")
    return name


def kafka_principals(env: Environment = os.environ) -> Dict[str, str]:
    """Return role to Kafka user, for the roles whose `KEFU_ACL_<ROLE>` is set; see `kefu.tools.acls`."""
    named = {role: declared.read(env) for role, declared in PRINCIPALS.items()}
    return {role: user for role, user in named.items() if user}
