"""Brokers as in production: `ops/kafka/server.properties` with the test's own certificates and SCRAM users."""

import datetime
import ipaddress
from string import Template

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kefu.settings import KafkaSettings
from ops.local.clusters import Group
from ops.local.servers import HOST, ROOT, KafkaServer, free_port

PRODUCTION = ROOT / "ops" / "kafka" / "server.properties"
# Settings of a single broker, which can't replicate.
ALONE = """
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""
USERS = {
    name: f"{name}-password"
    for name in (
        "kefu-topics",
        "kefu-gateway",
        "kefu-worker",
        "kefu-operator",
        "kefu-backup",
        "kefu-scaler",
        "stranger",
    )
}


def make_authority(path):
    """Write a new authority's certificate to `path`; return its name and key, which sign certificates."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    certificate = _certificate(name, name, key.public_key(), key, x509.BasicConstraints(True, None))
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return name, key


def make_certificate(path, common_name, authority):
    """Write a key and a certificate for loopback, signed by an authority, into one PEM file."""
    issuer, signer = authority
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")])
    certificate = _certificate(name, issuer, key.public_key(), signer, place)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )


def _certificate(name, issuer, public_key, signer, extension):
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    return builder.add_extension(extension, critical=False).sign(signer, hashes.SHA256())


class SecureKafka(KafkaServer):
    """A broker that runs the production file."""

    def __init__(self, directory, node, controllers, cluster, certificates):
        super().__init__(directory, free_port(), controllers[node], node, None, cluster)
        self.broker_port = free_port()
        self._all = controllers
        self._certificates = certificates
        self.name = f"kafka-{node}"

    def _properties(self):
        filled = {
            "NODE_ID": self._node,
            "ZONE": f"zone-{self._node}",
            "VOTERS": ",".join(f"{node}@{HOST}:{port}" for node, port in self._all.items()),
            "HOST": HOST,
            "CLIENT_PORT": self.port,
            "BROKER_PORT": self.broker_port,
            "CONTROLLER_PORT": self._all[self._node],
            "CERTIFICATE": self._certificates / "broker.pem",
            "AUTHORITY": self._certificates / "authority.pem",
            "BROKER_NAME": "kefu-broker",
            "TOPICS_NAME": "kefu-topics",
            "DATA": self.directory / "data",
        }
        text = PRODUCTION.read_text().replace("$1", "$$1").replace("`${...}`", "").replace("*$/", "*$$/")
        return Template(text).substitute(filled) + ("" if len(self._all) > 1 else ALONE)

    def _users(self):
        return [
            part
            for name, password in USERS.items()
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
        ]


class SecureCluster(Group):
    """Three secure brokers, or one for tests of passwords and rights only."""

    def __init__(self, directory, size=3):
        directory.mkdir(parents=True, exist_ok=True)
        authority = make_authority(directory / "authority.pem")
        make_authority(directory / "other.pem")
        make_certificate(directory / "broker.pem", "kefu-broker", authority)
        self.directory = directory
        controllers = {node: free_port() for node in range(1, size + 1)}
        super().__init__(
            [SecureKafka(directory / str(node), node, controllers, str(directory), directory) for node in controllers]
        )

    def settings(self, user, password=None, authority="authority.pem", prefix="", protocol="SASL_SSL"):
        """Return a client's settings."""
        sasl = protocol.startswith("SASL")
        return KafkaSettings(
            brokers=",".join(f"{HOST}:{server.port}" for server in self.servers),
            security_protocol=protocol,
            sasl_username=user if sasl else "",
            sasl_password=(password or USERS[user]) if sasl else "",
            ca_file=str(self.directory / authority) if protocol.endswith("SSL") else "",
            topic_prefix=prefix,
            replication=len(self.servers),
        )
