"""A certificate authority for tests, and certificates in the files that cert-manager puts into Secrets."""

import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass
class Authority:
    """A certificate authority. Its certificates are valid for a day."""

    name: str = "tests"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._build(self.name, self.key).add_extension(basic, True).sign(self.key, hashes.SHA256())

    def issue(self, name: str, addresses: "list[str]" = ()) -> "dict[str, str]":
        """Return the files of a Secret with a certificate for a host name and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)]
        builder = self._build(name, key).add_extension(x509.SubjectAlternativeName(names), False)
        certificate = builder.sign(self.key, hashes.SHA256())
        encoding = serialization.Encoding.PEM
        return {
            "tls.crt": certificate.public_bytes(encoding).decode(),
            "tls.key": _pem(key).decode(),
            "ca.crt": self.certificate.public_bytes(encoding).decode(),
        }

    def write(self, directory: Path, name: str, addresses: "list[str]" = ()) -> Path:
        """Write the files of a Secret into a directory; return the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in self.issue(name, addresses).items():
            (directory / file).write_text(content)
        return directory

    def _build(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
