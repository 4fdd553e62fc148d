"""The names of Kefu's headers in Kafka records: a dead letter's failure, its handling, and a replay's origin.

The worker writes the headers of a dead letter. `kefu.tools.dlq` reads them, and writes the other headers.
"""

PREFIX = "kefu-"
ERROR_CLASS = "kefu-error-class"
ATTEMPTS = "kefu-attempts"
ORIGIN_TOPIC = "kefu-origin-topic"
ORIGIN_PARTITION = "kefu-origin-partition"
ORIGIN_OFFSET = "kefu-origin-offset"
# On a dead letter with only the beginning of a record's value: the size of the whole value in bytes. Such a letter
# can't be replayed.
CUT_FROM = "kefu-cut-from"
# On a record of user.query.dlq that notes the handling of a letter: the letter's id.
HANDLES = "kefu-handles"
# On a record of user.query that replays a letter: the letter's id, and the number of the attempt.
REPLAY_OF = "kefu-replay-of"
REPLAY_ATTEMPT = "kefu-replay-attempt"
