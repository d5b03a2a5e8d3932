"""A pytest plugin that points kafka-python's integration tests at the broker in KAFKA_URI.

Their own switch for that expects the module that starts brokers and a folder with Apache Kafka,
and the source distribution has neither.
"""

import functools
import inspect
import os
import sys
import types
from urllib.parse import urlparse

service = types.ModuleType("test.service")
service.ExternalService = service.SpawnedService = object
sys.modules["test.service"] = service


def is_patient(kind, method, timeout, least):
    """Makes a method wait longer where a call names a shorter timeout."""
    call = getattr(kind, method)

    @functools.wraps(call)
    def patient(self, *args, **named):
        given = inspect.signature(call).bind(self, *args, **named).arguments
        if given.get(timeout) is not None:
            given[timeout] = max(given[timeout], least)
        return call(**given)

    setattr(kind, method, patient)


def pytest_configure(config):
    from kafka import KafkaConsumer
    from kafka.producer.future import FutureRecordMetadata
    from test.integration import fixtures

    class Broker(fixtures.KafkaFixture):
        def __init__(self):
            address = urlparse(os.environ["KAFKA_URI"])
            self.host, self.port = address.hostname, address.port
            self.transport = "PLAINTEXT"
            # What the tests expect of a topic that is created without numbers.
            self.partitions, self.replicas = 4, 1
            self.tmp_dir, self.external, self.running = None, True, True

    # A consumer that subscribes just as it has bootstrapped may miss its own wake-up (the refresh
    # loop of kafka-python 3.0.12's ClusterMetadata) and asks for its topic only when its metadata
    # are too old: by default after five minutes, and the tests wait for 30 s.
    KafkaConsumer.DEFAULT_CONFIG["metadata_max_age_ms"] = 1_000
    # The tests give some calls half a second to five.
    is_patient(KafkaConsumer, "bootstrap", "timeout_ms", 60_000)
    is_patient(KafkaConsumer, "position", "timeout_ms", 60_000)
    is_patient(FutureRecordMetadata, "get", "timeout", 60)
    fixtures.KafkaFixture.instance = classmethod(lambda cls, *args, **params: Broker())
