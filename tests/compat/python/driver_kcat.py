"""The driver of kcat: a process of it for what a command asks. See contract.py.

kcat sends what it reads and tells nothing about where it went, so offsets are -1.
"""

import itertools
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

from contract import encoded, read_record, serve, value_of


LONG = 500_000


def kcat(bootstrap, *arguments):
    # -E: a broker that is away is not the end.
    return ["kcat", "-E", "-b", bootstrap, *arguments]


class Consumer:
    """Processes that read: one for a group, or one for each partition."""

    def __init__(self, bootstrap, arguments):
        self.bootstrap = bootstrap
        self.arguments = arguments
        self.records = queue.Queue()
        self.processes = {}
        # Records of a process that a seek has replaced are not given away.
        self.generation = {}

    def start(self, at, arguments):
        self.end(at)
        command = kcat(self.bootstrap, *self.arguments, *arguments, "-J", "-u", "-q")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        generation = self.generation[at] = self.generation.get(at, 0) + 1
        follower = threading.Thread(
            target=self.follow, args=(at, generation, process), daemon=True
        )
        follower.start()
        self.processes[at] = (process, follower)

    def follow(self, at, generation, process):
        for line in process.stdout:
            self.records.put((at, generation, json.loads(line)))

    def end(self, at):
        process, follower = self.processes.pop(at, (None, None))
        if process is not None:
            process.terminate()
            process.wait()
            follower.join()

    def next(self, timeout):
        """A record, or nothing within a time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                at, generation, line = self.records.get(
                    timeout=max(0.001, deadline - time.monotonic())
                )
            except queue.Empty:
                return None
            if self.generation[at] == generation:
                return described(line)


def described(line):
    pairs = line.get("headers") or []
    headers = list(zip(pairs[::2], pairs[1::2]))
    return read_record(
        line["topic"],
        line["partition"],
        line["offset"],
        line["ts"],
        encoded(line["key"]),
        encoded(line["payload"]),
        [(name, encoded(value)) for name, value in headers],
    )


class Driver:
    """Consumers and loads by their handles."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.consumers = {}
        self.loads = {}

    def version(self, _):
        told = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
        own = re.search(r"Version (\S+)", told).group(1)
        library = re.search(r"librdkafka (\S+)", told).group(1)
        return {"version": f"{own} (librdkafka {library})"}

    def produce(self, command):
        settings = ["-P", "-z", command.get("codec") or "none"]
        settings += ["-X", f"topic.acks={command.get('acks') or 'all'}", "-X", "linger.ms=5"]
        if command.get("idempotent"):
            settings += ["-X", "enable.idempotence=true"]
        if command.get("max_bytes"):
            settings += ["-X", f"message.max.bytes={command['max_bytes']}"]
        if command.get("partitioner") == "murmur2":
            settings += ["-X", "topic.partitioner=murmur2_random"]
        sent = []
        # The records of a process have their destination and headers in common.
        for shared, records in itertools.groupby(command["records"], destination):
            records = list(records)
            error = self.send(settings, json.loads(shared), records)
            sent += [error or [-1, -1]] * len(records)
        return {"sent": sent}

    def send(self, settings, shared, records):
        """Sends records that go to one place; the error's text, if there is one."""
        topic, partition, headers, keyed, null = shared
        arguments = ["-t", topic]
        if partition is not None:
            arguments += ["-p", str(partition)]
        for name, value in headers:
            arguments += ["-H", name if value is None else f"{name}={value}"]
        if keyed:
            arguments += ["-K", "\t"]
        if null:
            arguments += ["-Z"]
        lines = [
            (encoded(record.get("key")) + b"\t" if keyed else b"") + (value_of(record) or b"")
            for record in records
        ]
        with tempfile.NamedTemporaryFile() as file:
            # The buffer for lines is too small for the longest; a file is one message.
            if len(lines) == 1 and len(lines[0]) >= LONG:
                file.write(lines.pop())
                file.flush()
                arguments += [file.name]
            done = subprocess.run(
                kcat(self.bootstrap, *settings, *arguments),
                input=b"\n".join(lines),
                stderr=subprocess.PIPE,
                check=False,
            )
        told = done.stderr.decode()
        failed = done.returncode != 0 or "Delivery failed" in told
        return (told or f"exit code {done.returncode}") if failed else None

    def load(self, command):
        stop = threading.Event()
        process = subprocess.Popen(
            kcat(self.bootstrap, "-P", "-t", command["topic"], "-X", "topic.acks=all"),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        told = []
        threading.Thread(target=lambda: told.extend(process.stderr), daemon=True).start()
        acked = []

        def run():
            number = 0
            try:
                while not stop.is_set():
                    process.stdin.write(f"{command['prefix']}{number}\n".encode())
                    process.stdin.flush()
                    number += 1
                    time.sleep(0.002)
                process.stdin.close()
            except BrokenPipeError:
                pass
            # All it was given has been delivered if it ends well and says nothing.
            if process.wait() == 0 and not any(b"Delivery failed" in line for line in told):
                acked.extend([at, -1, -1] for at in range(number))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.loads[command["handle"]] = (stop, thread, acked)

    def stop(self, command):
        stop, thread, acked = self.loads.pop(command["handle"])
        stop.set()
        thread.join()
        return {"acked": acked}

    def open(self, command):
        settings = ["-X", "check.crcs=true"]
        if command.get("max_bytes"):
            settings += ["-X", f"fetch.message.max.bytes={command['max_bytes']}"]
        if command.get("assign"):
            consumer = Consumer(self.bootstrap, settings)
            for topic, partition in command["assign"]:
                consumer.start((topic, partition), self.reading(topic, partition, "beginning"))
        else:
            settings += [
                f"-Xauto.offset.reset={command.get('reset') or 'earliest'}",
                f"-Xenable.auto.commit={'true' if command.get('auto_commit') else 'false'}",
                "-Xauto.commit.interval.ms=500",
                "-Xheartbeat.interval.ms=500",
                "-Xsession.timeout.ms=30000",
            ]
            if command.get("strategy") == "cooperative":
                settings += ["-Xpartition.assignment.strategy=cooperative-sticky"]
            if command.get("instance"):
                settings += [f"-Xgroup.instance.id={command['instance']}"]
            consumer = Consumer(self.bootstrap, settings)
            consumer.start("group", ["-G", command["group"], *command["topics"]])
        self.consumers[command["handle"]] = consumer

    @staticmethod
    def reading(topic, partition, offset):
        return ["-C", "-t", topic, "-p", str(partition), "-o", str(offset)]

    def poll(self, command):
        consumer = self.consumers[command["handle"]]
        records = []
        deadline = time.monotonic() + command["ms"] / 1000
        while len(records) < command["count"]:
            record = consumer.next(deadline - time.monotonic())
            if record is None:
                break
            records.append(record)
        return {"records": records}

    def seek(self, command):
        at = (command["topic"], command["partition"])
        self.consumers[command["handle"]].start(at, self.reading(*at, command["to"]))

    def seek_time(self, command):
        self.seek({**command, "to": f"s@{command['timestamp']}"})

    def close(self, command):
        consumer = self.consumers.pop(command["handle"])
        for at in list(consumer.processes):
            consumer.end(at)
        # What a process has printed, it has committed.
        return {"records": list(iter(lambda: consumer.next(0), None))}


def destination(record):
    """What the records of one process of kcat have in common, as text."""
    return json.dumps(
        [
            record["topic"],
            record.get("partition"),
            record.get("headers") or [],
            record.get("key") is not None,
            record.get("value") is None,
        ]
    )


serve(Driver(sys.argv[1]))
