"""The main job's producer and consumer on confluent-kafka (librdkafka).

It prints the same JSON lines as Apache Kafka's VerifiableProducer and VerifiableConsumer, so that
one judge reads all clients.

    main_job.py produce BOOTSTRAP TOPIC RECORDS
    main_job.py consume BOOTSTRAP TOPIC GROUP
"""

import json
import signal
import sys

from confluent_kafka import Consumer, KafkaException, Producer


def emit(line):
    """Prints one line and flushes it, because the judge acts on lines as they come."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def produce(bootstrap, topic, records):
    """Idempotent, and retries without end."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "retries": 2147483647,
            "message.timeout.ms": 0,
            "queue.buffering.max.messages": 50000,
        }
    )

    def delivered(error, message):
        if error is not None:
            raise KafkaException(error)
        emit(
            {
                "name": "producer_send_success",
                "value": message.value().decode(),
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
            }
        )

    for number in range(records):
        while True:
            try:
                producer.produce(topic, value=str(number).encode(), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def consume(bootstrap, topic, group):
    """Reads in a group and commits what it has read after every poll, until SIGTERM."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": True,
        }
    )
    consumer.subscribe([topic])
    while not stopped:
        messages = consumer.consume(num_messages=10000, timeout=0.2)
        if not any(message.error() is None for message in messages):
            continue
        try:
            offsets = consumer.commit(asynchronous=False) or []
        except KafkaException:
            emit({"name": "offsets_committed", "success": False, "offsets": []})
            continue
        emit(
            {
                "name": "offsets_committed",
                "success": all(at.error is None for at in offsets),
                "offsets": [
                    {"topic": at.topic, "partition": at.partition, "offset": at.offset}
                    for at in offsets
                ],
            }
        )
    consumer.close()


if __name__ == "__main__":
    mode, servers, topic_name, last = sys.argv[1:5]
    if mode == "produce":
        produce(servers, topic_name, int(last))
    else:
        consume(servers, topic_name, last)
