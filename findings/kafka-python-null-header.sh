#!/usr/bin/env bash
# kafka-python 3.0.12 reads a record header whose value is null, and refuses to send it again.
#
# Expected: headers that `KafkaConsumer` returns can be passed to `KafkaProducer.send`. Kafka's record format allows a
#   null header value (KIP-82: the length is a varint, -1 for null), Java's and librdkafka's clients send it, and
#   kafka-python's own record builder writes and reads it.
# Observed: `send(headers=[("trace", None)])` raises TypeError "All headers items must be (str, bytes) tuples", so a
#   forwarder or a backup tool on kafka-python can't write such a record back unchanged.
# Exits with 0 while this is so, with 1 once it has changed. Needs no broker.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q --disable-pip-version-check kafka-python==3.0.12
"$place/venv/bin/python" - <<'PY'
import platform
import sys

import kafka
from kafka.record import MemoryRecords, MemoryRecordsBuilder

HEADERS = [("trace", None)]
print(f"kafka-python {kafka.__version__}, Python {platform.python_version()}")

builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1000)
builder.append(timestamp=1, key=b"key", value=b"value", headers=HEADERS)
builder.close()
(record,) = MemoryRecords(builder.buffer()).next_batch()
print(f"record format: written and read back as {record.headers}")

# With a version given and nobody listening, the producer checks its arguments before it looks for a broker.
producer = kafka.KafkaProducer(bootstrap_servers="127.0.0.1:1", api_version=(3, 0), max_block_ms=100)
try:
    producer.send("topic", b"value", headers=HEADERS)
    observed = "sent"
except TypeError as error:
    observed = f"TypeError: {error}"
except kafka.errors.KafkaTimeoutError:
    observed = "arguments accepted"
finally:
    producer.close(timeout=0)
print(f"producer: {observed}")
sys.exit(0 if record.headers == HEADERS and observed.startswith("TypeError") else 1)
PY
