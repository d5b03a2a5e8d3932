"""Writes a long log with confluent-kafka (librdkafka), and says of each record where it is.

    log.py BOOTSTRAP TOPIC PARTITIONS BYTES RATE

writes BYTES bytes of keys and values at RATE bytes a second, or as fast as it can if that is 0. An
acknowledged record is a line with its partition, offset, timestamp, and the SHA-256 of its key's
length, key and value: what franz-go's "read" says of the record that it finds there.
"""

import hashlib
import json
import random
import sys
import time

from confluent_kafka import KafkaException, Producer

# Bytes without a pattern, of which every value is a part.
NOISE = random.Random(5).randbytes(1 << 20)
VALUE_BYTES_MAX = 16 << 10


def write(bootstrap, topic, partitions, total, rate):
    """Idempotent, and retries without end."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "retries": 2147483647,
            "message.timeout.ms": 0,
            "queue.buffering.max.kbytes": 32 << 10,
        }
    )
    chance = random.Random(7)
    begun, written, number = time.monotonic(), 0, 0

    def delivered_as(timestamp, digest):
        def delivered(error, message):
            if error is not None:
                raise KafkaException(error)
            line = {
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp": timestamp,
                "digest": digest,
            }
            sys.stdout.write(json.dumps(line) + "\n")

        return delivered

    while written < total:
        key = number.to_bytes(8, "big")
        size = chance.randrange(VALUE_BYTES_MAX)
        start = chance.randrange(len(NOISE) - size)
        value = NOISE[start : start + size]
        digest = hashlib.sha256(len(key).to_bytes(4, "big") + key + value).hexdigest()
        # Half of it in the first partition: long logs and short ones go to the bucket in other ways.
        partition = number // 2 % partitions if number % 2 else 0
        timestamp = int(time.time() * 1000)
        while True:
            try:
                producer.produce(
                    topic,
                    key=key,
                    value=value,
                    partition=partition,
                    timestamp=timestamp,
                    on_delivery=delivered_as(timestamp, digest),
                )
                break
            except BufferError:
                producer.poll(0.1)
        number, written = number + 1, written + len(key) + size
        producer.poll(0)
        while rate and (ahead := written / rate - (time.monotonic() - begun)) > 0:
            producer.poll(ahead)
            sys.stdout.flush()
    producer.flush()


if __name__ == "__main__":
    address, topic_name = sys.argv[1:3]
    write(address, topic_name, *map(int, sys.argv[3:6]))
