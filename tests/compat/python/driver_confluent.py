"""The driver of confluent-kafka, which is librdkafka. See contract.py."""

import sys
import threading
import time

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from contract import encoded, headers_of, read_record, serve, value_of

OFFSET_BEGINNING = confluent_kafka.OFFSET_BEGINNING
OFFSET_END = confluent_kafka.OFFSET_END
# Seconds that a step of a transaction may take.
TIMEOUT = 60


class Driver:
    """Consumers and loads by their handles."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.consumers = {}
        self.loads = {}
        # What they leave open stays open.
        self.transacting = []

    def version(self, _):
        return {
            "version": f"{confluent_kafka.version()} (librdkafka {confluent_kafka.libversion()[0]})"
        }

    def producer(self, command):
        config = {
            "bootstrap.servers": self.bootstrap,
            "acks": command.get("acks") or "all",
            "compression.type": command.get("codec") or "none",
            "enable.idempotence": command.get("idempotent") or False,
            "linger.ms": 20,
        }
        if command.get("max_bytes"):
            config["message.max.bytes"] = command["max_bytes"]
        if command.get("partitioner") == "murmur2":
            config["partitioner"] = "murmur2_random"
        if command.get("transactional_id"):
            config["enable.idempotence"] = True
            config["transactional.id"] = command["transactional_id"]
        return Producer(config)

    def produce(self, command):
        producer = self.producer(command)
        sent = [None] * len(command["records"])

        def delivered(at):
            def report(error, message):
                sent[at] = str(error) if error else [message.partition(), message.offset()]

            return report

        for at, record in enumerate(command["records"]):
            options = {}
            if record.get("headers"):
                options["headers"] = headers_of(record)
            if record.get("partition") is not None:
                options["partition"] = record["partition"]
            if record.get("timestamp") is not None:
                options["timestamp"] = record["timestamp"]
            producer.produce(
                record["topic"],
                value=value_of(record),
                key=encoded(record.get("key")),
                on_delivery=delivered(at),
                **options,
            )
        producer.flush()
        return {"sent": sent}

    def load(self, command):
        stop = threading.Event()
        acked = []

        def delivered(error, message):
            if error is None:
                number = int(message.value().decode()[len(command["prefix"]) :])
                acked.append([number, message.partition(), message.offset()])

        def run():
            producer = self.producer({})
            number = 0
            while not stop.is_set():
                value = f"{command['prefix']}{number}".encode()
                try:
                    producer.produce(command["topic"], value=value, on_delivery=delivered)
                    number += 1
                except BufferError:
                    pass
                producer.poll(0.002)
            producer.flush()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.loads[command["handle"]] = (stop, thread, acked)

    def stop(self, command):
        stop, thread, acked = self.loads.pop(command["handle"])
        stop.set()
        thread.join()
        return {"acked": acked}

    def transact(self, command):
        producer = self.producer(command)
        self.transacting.append(producer)
        producer.init_transactions(TIMEOUT)
        for transaction in command["transactions"]:
            producer.begin_transaction()
            for record in transaction["records"]:
                producer.produce(
                    record["topic"], value=value_of(record), partition=record["partition"]
                )
            producer.flush()
            if transaction.get("group"):
                member = Consumer(
                    {"bootstrap.servers": self.bootstrap, "group.id": transaction["group"]}
                )
                producer.send_offsets_to_transaction(
                    [TopicPartition(*at) for at in transaction["offsets"]],
                    member.consumer_group_metadata(),
                    TIMEOUT,
                )
                member.close()
            if transaction["end"] == "commit":
                producer.commit_transaction(TIMEOUT)
            elif transaction["end"] == "abort":
                producer.abort_transaction(TIMEOUT)

    def open(self, command):
        config = {
            "bootstrap.servers": self.bootstrap,
            "group.id": command.get("group") or command["handle"],
            "auto.offset.reset": command.get("reset") or "earliest",
            "enable.auto.commit": command.get("auto_commit") or False,
            "auto.commit.interval.ms": 500,
            "heartbeat.interval.ms": 500,
            "session.timeout.ms": 30000,
            "check.crcs": True,
            "isolation.level": command.get("isolation") or "read_uncommitted",
        }
        if command.get("strategy") == "cooperative":
            config["partition.assignment.strategy"] = "cooperative-sticky"
        if command.get("instance"):
            config["group.instance.id"] = command["instance"]
        if command.get("max_bytes"):
            config["fetch.max.bytes"] = 2 * command["max_bytes"]
            config["max.partition.fetch.bytes"] = command["max_bytes"]
        consumer = Consumer(config)
        if command.get("assign"):
            consumer.assign(
                [TopicPartition(t, p, OFFSET_BEGINNING) for t, p in command["assign"]]
            )
        else:
            consumer.subscribe(command["topics"])
        self.consumers[command["handle"]] = consumer

    def poll(self, command):
        consumer = self.consumers[command["handle"]]
        records = []
        deadline = time.monotonic() + command["ms"] / 1000
        while len(records) < command["count"] and time.monotonic() < deadline:
            message = consumer.poll(max(0, min(0.1, deadline - time.monotonic())))
            if message is None:
                continue
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            records.append(
                read_record(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    message.headers(),
                )
            )
        return {"records": records}

    def commit(self, command):
        offsets = [
            TopicPartition(topic, partition, offset, metadata)
            for topic, partition, offset, metadata in command["offsets"]
        ]
        consumer = self.consumers[command["handle"]]
        for at in consumer.commit(offsets=offsets, asynchronous=False):
            if at.error:
                raise confluent_kafka.KafkaException(at.error)

    def seek(self, command):
        to = {"beginning": OFFSET_BEGINNING, "end": OFFSET_END}.get(command["to"], command["to"])
        consumer = self.consumers[command["handle"]]
        consumer.seek(TopicPartition(command["topic"], command["partition"], to))

    def seek_time(self, command):
        consumer = self.consumers[command["handle"]]
        asked = TopicPartition(command["topic"], command["partition"], command["timestamp"])
        consumer.seek(consumer.offsets_for_times([asked], timeout=30)[0])

    def pause(self, command):
        consumer = self.consumers[command["handle"]]
        consumer.pause([TopicPartition(command["topic"], command["partition"])])

    def resume(self, command):
        consumer = self.consumers[command["handle"]]
        consumer.resume([TopicPartition(command["topic"], command["partition"])])

    def close(self, command):
        self.consumers.pop(command["handle"]).close()


serve(Driver(sys.argv[1]))
