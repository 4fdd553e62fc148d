"""Headers of Kafka records: what a dead letter says of its failure, and a replay of its origin.

The worker writes them, `kefu.tools.dlq` reads them.
"""

PREFIX = "kefu-"
ERROR_CLASS = "kefu-error-class"
ATTEMPTS = "kefu-attempts"
ORIGIN_TOPIC = "kefu-origin-topic"
ORIGIN_PARTITION = "kefu-origin-partition"
ORIGIN_OFFSET = "kefu-origin-offset"
# On a letter whose value is only the beginning of the record's: how many bytes that had. It can't be replayed.
CUT_FROM = "kefu-cut-from"
# On a record of user.query.dlq that says what was done with a letter: the letter's id.
HANDLES = "kefu-handles"
# On a record of user.query that replays a letter: the letter's id, and which attempt it is.
REPLAY_OF = "kefu-replay-of"
REPLAY_ATTEMPT = "kefu-replay-attempt"
