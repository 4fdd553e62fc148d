"""Mutual TLS between processes, with certificates that can be renewed while they run.

In: a directory with `tls.crt`, `tls.key` and `ca.crt`, as a Secret of cert-manager is mounted. Out: TLS contexts.
A new connection uses the current files; open connections keep the certificates that they started with.
"""

import logging
import ssl
import threading
from pathlib import Path
from typing import Optional, Tuple

from kefu.errors import SettingsError

logger = logging.getLogger(__name__)

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
LOOK_EVERY_S = 30.0  # time between two checks whether the files have changed
SETTING = "KEFU_TLS_DIRECTORY"


class Credentials:
    """The certificate of this process, and the authority of its peers' certificates.

    `current` is the TLS context of the newest files. A thread looks for new files and makes a new context of them. A
    context in use is never changed.
    """

    def __init__(self, directory: str, protocol: int, look_every_s: float = LOOK_EVERY_S) -> None:
        """Load the certificates. Raises SettingsError if the directory has none that can be used."""
        self._place, self._protocol, self._look_every_s = Path(directory), protocol, look_every_s
        try:
            self._content = self._read()
            self.current = self._context()
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(SETTING, f"names a directory without usable certificates ({error})") from error
        self._closing = threading.Event()
        threading.Thread(target=self._keep, name="tls-renewal", daemon=True).start()

    def close(self) -> None:
        """Stop the thread that looks for new certificates."""
        self._closing.set()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(self._protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(str(self._place / CERTIFICATE), str(self._place / KEY))
        context.load_verify_locations(str(self._place / AUTHORITY))
        return context

    def _read(self) -> Tuple[bytes, ...]:
        return tuple((self._place / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITY))

    def _keep(self) -> None:
        """Replace `current` whenever the files have changed, until `close`."""
        logged = False
        while not self._closing.wait(self._look_every_s):
            try:
                content = self._read()
                if content != self._content:
                    self.current, self._content = self._context(), content
                    logger.info("certificate renewed")
                logged = False
            except (OSError, ssl.SSLError) as error:  # half written or invalid: the old certificate stays in use
                if not logged:
                    logger.error("certificate can't be renewed", extra={"fields": {"error": error.__class__.__name__}})
                logged = True


def client_credentials(directory: str) -> Credentials:
    """Return a client's credentials; its connections check the server's name. Raises SettingsError."""
    return Credentials(directory, ssl.PROTOCOL_TLS_CLIENT)


def server_context(directory: str, look_every_s: float = LOOK_EVERY_S) -> ssl.SSLContext:
    """Return a context that accepts only callers with a certificate of the authority; raises SettingsError."""
    credentials = Credentials(directory, ssl.PROTOCOL_TLS_SERVER, look_every_s)
    context = credentials.current

    def newest(connection: ssl.SSLObject, _: Optional[str], __: ssl.SSLContext) -> None:
        connection.context = credentials.current

    context.sni_callback = newest  # called at each handshake, with None if the client sends no server name
    return context
