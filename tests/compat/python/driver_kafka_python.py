"""The driver of kafka-python. See contract.py."""

import collections
import sys
import threading
import time

import kafka
from contract import encoded, fault, headers_of, read_record, serve, value_of
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata


def partition(command):
    return TopicPartition(command["topic"], command["partition"])


class Consumer:
    """A consumer and the records that it has polled but not given away."""

    def __init__(self, client):
        self.client = client
        self.polled = collections.deque()


class Driver:
    """Consumers and loads by their handles."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.consumers = {}
        self.loads = {}

    def version(self, _):
        return {"version": kafka.__version__}

    def producer(self, command):
        acks = command.get("acks") or "all"
        codec = command.get("codec") or "none"
        config = {
            "bootstrap_servers": self.bootstrap,
            "acks": acks if acks == "all" else int(acks),
            "compression_type": None if codec == "none" else codec,
            "enable_idempotence": command.get("idempotent") or False,
            "linger_ms": 20,
        }
        if command.get("max_bytes"):
            config["max_request_size"] = command["max_bytes"]
        return KafkaProducer(**config)

    def produce(self, command):
        producer = self.producer(command)
        try:
            answers = []
            for record in command["records"]:
                answers.append(
                    producer.send(
                        record["topic"],
                        value=value_of(record),
                        key=encoded(record.get("key")),
                        headers=headers_of(record),
                        partition=record.get("partition"),
                        timestamp_ms=record.get("timestamp"),
                    )
                )
            producer.flush()
            sent = []
            for answer in answers:
                try:
                    at = answer.get(timeout=60)
                    sent.append([at.partition, -1 if at.offset is None else at.offset])
                except Exception as error:  # pylint: disable=broad-except
                    sent.append(fault(error))
            return {"sent": sent}
        finally:
            producer.close()

    def load(self, command):
        stop = threading.Event()
        acked = []
        room = threading.Semaphore(50)

        def run():
            producer = self.producer({})
            number = 0
            while not stop.is_set():
                value = f"{command['prefix']}{number}".encode()
                room.acquire()
                try:
                    answer = producer.send(command["topic"], value=value)
                except Exception as error:  # pylint: disable=broad-except
                    fault(error)
                    room.release()
                    continue

                def taken(at, number=number):
                    acked.append([number, at.partition, at.offset])

                answer.add_callback(taken)
                answer.add_both(lambda _: room.release())
                number += 1
                time.sleep(0.002)
            producer.flush()
            producer.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.loads[command["handle"]] = (stop, thread, acked)

    def stop(self, command):
        stop, thread, acked = self.loads.pop(command["handle"])
        stop.set()
        thread.join()
        return {"acked": acked}

    def open(self, command):
        config = {
            "bootstrap_servers": self.bootstrap,
            "group_id": command.get("group"),
            "auto_offset_reset": command.get("reset") or "earliest",
            "enable_auto_commit": command.get("auto_commit") or False,
            "auto_commit_interval_ms": 500,
            # A heartbeat that is under way while the client joins makes it join again when it is
            # answered; with short intervals one always is, and the group never rests.
            "heartbeat_interval_ms": 1500,
            "session_timeout_ms": 30000,
            # A consumer that subscribes just as it has bootstrapped may miss its own wake-up (the
            # refresh loop of ClusterMetadata) and asks for its topics only at this age.
            "metadata_max_age_ms": 1000,
        }
        strategy = command.get("strategy")
        if strategy:
            cooperative = strategy == "cooperative"
            assignor = CooperativeStickyAssignor if cooperative else RangePartitionAssignor
            config["partition_assignment_strategy"] = [assignor]
        if command.get("instance"):
            config["group_instance_id"] = command["instance"]
        if command.get("max_bytes"):
            config["max_partition_fetch_bytes"] = command["max_bytes"]
        client = KafkaConsumer(**config)
        if command.get("assign"):
            partitions = [TopicPartition(*at) for at in command["assign"]]
            client.assign(partitions)
            client.seek_to_beginning(*partitions)
        else:
            client.subscribe(command["topics"])
        self.consumers[command["handle"]] = Consumer(client)

    def poll(self, command):
        consumer = self.consumers[command["handle"]]
        records = []
        deadline = time.monotonic() + command["ms"] / 1000
        while True:
            while consumer.polled and len(records) < command["count"]:
                record = consumer.polled.popleft()
                records.append(
                    read_record(
                        record.topic,
                        record.partition,
                        record.offset,
                        record.timestamp,
                        record.key,
                        record.value,
                        record.headers,
                    )
                )
            left = deadline - time.monotonic()
            if len(records) >= command["count"] or left <= 0:
                return {"records": records}
            # Not in shorter pieces: a join that is answered between two polls is lost, and the
            # client joins again, for ever when all polls are short.
            polled = consumer.client.poll(timeout_ms=int(1000 * left) + 1)
            for batch in polled.values():
                consumer.polled.extend(batch)

    def commit(self, command):
        offsets = {
            TopicPartition(topic, at): OffsetAndMetadata(offset, metadata, -1)
            for topic, at, offset, metadata in command["offsets"]
        }
        self.consumers[command["handle"]].client.commit(offsets)

    def moved(self, command):
        consumer = self.consumers[command["handle"]]
        consumer.polled.clear()
        return consumer.client

    def seek(self, command):
        client = self.moved(command)
        if command["to"] == "beginning":
            client.seek_to_beginning(partition(command))
        elif command["to"] == "end":
            client.seek_to_end(partition(command))
        else:
            client.seek(partition(command), command["to"])

    def seek_time(self, command):
        client = self.moved(command)
        at = partition(command)
        client.seek(at, client.offsets_for_times({at: command["timestamp"]})[at].offset)

    def pause(self, command):
        self.consumers[command["handle"]].client.pause(partition(command))

    def resume(self, command):
        self.consumers[command["handle"]].client.resume(partition(command))

    def close(self, command):
        self.consumers.pop(command["handle"]).client.close()


serve(Driver(sys.argv[1]))
