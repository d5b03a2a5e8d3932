"""The driver of aiokafka. See contract.py."""

import asyncio
import collections
import json
import sys
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from contract import answer, encoded, fault, headers_of, read_record, value_of


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

    async def version(self, _):
        return {"version": aiokafka.__version__}

    async def producer(self, command):
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
        producer = AIOKafkaProducer(**config)
        await producer.start()
        return producer

    async def produce(self, command):
        producer = await self.producer(command)
        try:
            answers = []
            for record in command["records"]:
                answers.append(
                    await producer.send(
                        record["topic"],
                        value=value_of(record),
                        key=encoded(record.get("key")),
                        headers=headers_of(record),
                        partition=record.get("partition"),
                        timestamp_ms=record.get("timestamp"),
                    )
                )
            sent = []
            for at in await asyncio.gather(*answers, return_exceptions=True):
                if isinstance(at, BaseException):
                    sent.append(fault(at))
                elif at is None:
                    # acks=0: nothing is told.
                    sent.append([-1, -1])
                else:
                    sent.append([at.partition, at.offset])
            return {"sent": sent}
        finally:
            await producer.stop()

    async def load(self, command):
        stop = asyncio.Event()
        acked = []

        async def run():
            producer = await self.producer({})
            number = 0
            waiting = set()

            def answered(number):
                def note(at):
                    waiting.discard(at)
                    if not at.cancelled() and at.exception() is None:
                        acked.append([number, at.result().partition, at.result().offset])

                return note

            while not stop.is_set():
                value = f"{command['prefix']}{number}".encode()
                try:
                    at = await producer.send(command["topic"], value=value)
                    waiting.add(at)
                    at.add_done_callback(answered(number))
                    number += 1
                except Exception as error:  # pylint: disable=broad-except
                    fault(error)
                if len(waiting) >= 50:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0.002)
            await producer.stop()

        self.loads[command["handle"]] = (stop, asyncio.ensure_future(run()), acked)

    async def stop(self, command):
        stop, work, acked = self.loads.pop(command["handle"])
        stop.set()
        await work
        return {"acked": acked}

    async def open(self, command):
        config = {
            "bootstrap_servers": self.bootstrap,
            "group_id": command.get("group"),
            "group_instance_id": command.get("instance"),
            "auto_offset_reset": command.get("reset") or "earliest",
            "enable_auto_commit": command.get("auto_commit") or False,
            "auto_commit_interval_ms": 500,
            "heartbeat_interval_ms": 500,
            "session_timeout_ms": 30000,
        }
        if command.get("max_bytes"):
            config["max_partition_fetch_bytes"] = command["max_bytes"]
        client = AIOKafkaConsumer(*command.get("topics") or [], **config)
        if command.get("assign"):
            client.assign([TopicPartition(*at) for at in command["assign"]])
        await client.start()
        if command.get("assign"):
            await client.seek_to_beginning()
        self.consumers[command["handle"]] = Consumer(client)

    async def poll(self, command):
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
            polled = await consumer.client.getmany(timeout_ms=int(1000 * min(left, 0.1)) + 1)
            for batch in polled.values():
                consumer.polled.extend(batch)

    async def commit(self, command):
        offsets = {
            TopicPartition(topic, at): OffsetAndMetadata(offset, metadata)
            for topic, at, offset, metadata in command["offsets"]
        }
        await self.consumers[command["handle"]].client.commit(offsets)

    def moved(self, command):
        consumer = self.consumers[command["handle"]]
        consumer.polled.clear()
        return consumer.client

    async def seek(self, command):
        client = self.moved(command)
        if command["to"] == "beginning":
            await client.seek_to_beginning(partition(command))
        elif command["to"] == "end":
            await client.seek_to_end(partition(command))
        else:
            client.seek(partition(command), command["to"])

    async def seek_time(self, command):
        client = self.moved(command)
        at = partition(command)
        found = await client.offsets_for_times({at: command["timestamp"]})
        client.seek(at, found[at].offset)

    async def pause(self, command):
        self.consumers[command["handle"]].client.pause(partition(command))

    async def resume(self, command):
        self.consumers[command["handle"]].client.resume(partition(command))

    async def close(self, command):
        await self.consumers.pop(command["handle"]).client.stop()


async def do(driver, command):
    """Does one command of the driver."""
    line = {"id": command["id"]}
    try:
        line.update(await getattr(driver, command["op"])(command) or {})
    except Exception as error:  # pylint: disable=broad-except
        line["error"] = fault(error)
    answer(line)


async def main():
    """Does the commands of standard input side by side."""
    driver = Driver(sys.argv[1])
    loop = asyncio.get_running_loop()
    tasks = set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = loop.create_task(do(driver, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
