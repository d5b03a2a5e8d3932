"""Traffic of every kind that a dashboard shows, with confluent-kafka (librdkafka), until it is killed.

    load.py BROKER PROXY

Says "ready" when every group has read something. Groups: billing and fraud keep up, dashboard reads
much, restless comes and goes, reports has read once and is gone, history reads everything again and
again. Some of what is sent is refused, and some of what is asked for is not there.
"""

import math
import random
import socket
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

NOISE = random.Random(7).randbytes(1 << 20)
TOPICS = {
    "orders": (3, {}),
    "payments": (2, {}),
    "clicks": (4, {}),
    "audit": (1, {}),
    "profiles": (1, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}),
    "strict": (1, {"max.message.bytes": "2000"}),
    "short": (1, {"retention.bytes": "100000"}),
}
# Topic: bytes a record, records a second.
PACE = {
    "orders": (1_000, 200), "payments": (500, 100), "clicks": (16_000, 150),
    "audit": (2_000, 20), "profiles": (300, 50), "short": (4_000, 20),
}


def create(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [NewTopic(name, count, 1, config=config) for name, (count, config) in TOPICS.items()]
    for made in admin.create_topics(new).values():
        made.result()


def produce(bootstrap, topics):
    """Sends to each topic at its pace; what is refused is tried again by librdkafka."""
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20,
        "message.timeout.ms": 0, "queue.buffering.max.kbytes": 16 << 10,
    })
    begun, sent = time.monotonic(), dict.fromkeys(topics, 0)
    while True:
        elapsed = time.monotonic() - begun
        for topic in topics:
            size, rate = PACE[topic]
            # More now and less then: a line that never moves shows nothing.
            due = int(rate * (elapsed + 10 * math.sin(elapsed / 20)))
            while sent[topic] < due:
                start = random.randrange(len(NOISE) - size)
                try:
                    producer.produce(topic, NOISE[start:start + size], str(sent[topic] % 50))
                except BufferError:
                    break
                sent[topic] += 1
        producer.poll(0.01)


def refused(bootstrap):
    """Sends what its topic does not take."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    while True:
        producer.produce("strict", NOISE[:10_000])
        producer.flush(5)
        time.sleep(0.2)


def settings(bootstrap, group):
    return {
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "session.timeout.ms": 6_000, "auto.commit.interval.ms": 500, "fetch.wait.max.ms": 200,
        # It warns of each place where nothing is.
        "log_level": 3,
    }


def consume(bootstrap, group, topics, has_read, records=None):
    """Reads as a member of a group, so many records if that is said, and leaves."""
    consumer = Consumer(settings(bootstrap, group))
    consumer.subscribe(topics)
    seen = 0
    while records is None or seen < records:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            has_read.set()
            seen += 1
    consumer.close()


def come_and_go(bootstrap, has_read):
    while True:
        consume(bootstrap, "restless", ["orders"], has_read, 300)


def read_history(bootstrap):
    """Reads from the beginning of the log again and again, and once from where nothing is."""
    consumer = Consumer({**settings(bootstrap, "history"), "enable.auto.commit": False})
    partitions, at_wrong_place = range(TOPICS["clicks"][0]), False
    while True:
        first = 1 << 40 if at_wrong_place else 0
        consumer.assign([TopicPartition("clicks", partition, first) for partition in partitions])
        end = time.monotonic() + 3
        while time.monotonic() < end:
            consumer.consume(500, 0.2)
        at_wrong_place = not at_wrong_place


def knock(bootstrap):
    """Connects and goes away again."""
    host, port = bootstrap.rsplit(":", 1)
    while True:
        socket.create_connection((host, int(port))).close()
        time.sleep(0.5)


def main(broker, proxy):
    create(broker)
    groups = {
        "billing": (consume, (broker, "billing", ["orders", "payments"])),
        "fraud": (consume, (proxy, "fraud", ["payments"])),
        "dashboard": (consume, (broker, "dashboard", ["clicks"])),
        "reports": (consume, (broker, "reports", ["audit"])),
    }
    work = [(produce, (broker, ["orders", "clicks", "audit", "profiles", "short"])),
            (produce, (proxy, ["payments"])), (refused, (broker,)), (read_history, (broker,)),
            (knock, (proxy,))]
    waits = []
    for target, arguments in groups.values():
        waits.append(threading.Event())
        more = (50,) if "reports" in arguments else ()
        work.append((target, (*arguments, waits[-1], *more)))
    waits.append(threading.Event())
    work.append((come_and_go, (broker, waits[-1])))
    for target, arguments in work:
        threading.Thread(target=target, args=arguments, daemon=True).start()
    for wait in waits:
        wait.wait()
    print("ready", flush=True)
    threading.Event().wait()


try:
    main(*sys.argv[1:])
except KafkaException as error:
    sys.exit(f"load: {error}")
