import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.zip.CRC32;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The driver of Apache Kafka's Java clients: compiled against the oldest, run beside each. The
 * contract is described in tests/compat/matrix/driver.rs.
 */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int TEXT_BYTES = 256;

    private final String bootstrap;
    private final Map<String, Consumer> consumers = new ConcurrentHashMap<>();
    private final Map<String, Load> loads = new ConcurrentHashMap<>();
    private final Queue<KafkaProducer<byte[], byte[]>> transacting = new ConcurrentLinkedQueue<>();
    private final ExecutorService threads = Executors.newCachedThreadPool(work -> {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    });

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    /** A consumer and the records that it has polled but not given away. */
    private static final class Consumer {
        final KafkaConsumer<byte[], byte[]> client;
        final Queue<ConsumerRecord<byte[], byte[]>> polled = new ArrayDeque<>();

        Consumer(KafkaConsumer<byte[], byte[]> client) {
            this.client = client;
        }
    }

    /** A producer at work. */
    private static final class Load {
        volatile boolean stopped;
        Future<?> work;
        final ArrayNode acked = JSON.createArrayNode();
    }

    public static void main(String[] arguments) throws Exception {
        Driver driver = new Driver(arguments[0]);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode command = JSON.readTree(line);
            driver.threads.execute(() -> driver.run(command));
        }
        System.exit(0);
    }

    private void run(JsonNode command) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            carryOut(command, answer);
        } catch (Throwable error) {
            error.printStackTrace();
            answer.put("error", error.toString());
        }
        answer.set("id", command.get("id"));
        synchronized (System.out) {
            System.out.println(answer);
            System.out.flush();
        }
    }

    private void carryOut(JsonNode command, ObjectNode answer) throws Exception {
        switch (command.get("op").asText()) {
            case "version": answer.put("version", version()); break;
            case "produce": answer.set("sent", produce(command)); break;
            case "load": load(command); break;
            case "stop": answer.set("acked", stop(command)); break;
            case "transact": transact(command); break;
            case "open": open(command); break;
            case "poll": answer.set("records", poll(command)); break;
            case "commit": commit(command); break;
            case "seek": seek(command); break;
            case "seek_time": seekTime(command); break;
            case "pause": consumer(command).client.pause(List.of(partition(command))); break;
            case "resume": consumer(command).client.resume(List.of(partition(command))); break;
            case "close": consumers.remove(handle(command)).client.close(Duration.ofSeconds(30)); break;
            default: throw new IllegalArgumentException("unknown op " + command.get("op"));
        }
    }

    private static String version() throws IOException {
        Properties properties = new Properties();
        try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
    }

    private static String handle(JsonNode command) {
        return command.get("handle").asText();
    }

    private Consumer consumer(JsonNode command) {
        return consumers.get(handle(command));
    }

    private static TopicPartition partition(JsonNode command) {
        return new TopicPartition(command.get("topic").asText(), command.get("partition").asInt());
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode command) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("acks", command.path("acks").asText("all"));
        config.put("compression.type", command.path("codec").asText("none"));
        config.put("linger.ms", 20);
        // From 3.0 on a producer is idempotent unless told otherwise, which acks 0 and 1 would contradict.
        config.put("enable.idempotence", command.path("idempotent").asBoolean(false));
        if (command.has("max_bytes")) {
            config.put("max.request.size", command.get("max_bytes").asInt());
        }
        if (command.has("transactional_id")) {
            config.put("enable.idempotence", true);
            config.put("transactional.id", command.get("transactional_id").asText());
        }
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private ArrayNode produce(JsonNode command) throws Exception {
        ArrayNode sent = JSON.createArrayNode();
        try (KafkaProducer<byte[], byte[]> producer = producer(command)) {
            List<Future<RecordMetadata>> answers = new ArrayList<>();
            for (JsonNode record : command.get("records")) {
                answers.add(producer.send(toSend(record)));
            }
            producer.flush();
            for (Future<RecordMetadata> answer : answers) {
                try {
                    RecordMetadata at = answer.get();
                    sent.addArray().add(at.partition()).add(at.hasOffset() ? at.offset() : -1);
                } catch (java.util.concurrent.ExecutionException error) {
                    sent.add(error.getCause().toString());
                }
            }
        }
        return sent;
    }

    private static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : text.asText().getBytes(StandardCharsets.UTF_8);
    }

    private static ProducerRecord<byte[], byte[]> toSend(JsonNode record) {
        byte[] value = bytes(record.get("value"));
        if (value != null && record.path("repeat").asInt(1) > 1) {
            value = record.get("value").asText().repeat(record.get("repeat").asInt()).getBytes(StandardCharsets.UTF_8);
        }
        Integer partition = record.hasNonNull("partition") ? record.get("partition").asInt() : null;
        Long timestamp = record.hasNonNull("timestamp") ? record.get("timestamp").asLong() : null;
        ProducerRecord<byte[], byte[]> toSend = new ProducerRecord<>(
            record.get("topic").asText(), partition, timestamp, bytes(record.get("key")), value);
        for (JsonNode header : record.path("headers")) {
            toSend.headers().add(header.get(0).asText(), bytes(header.get(1)));
        }
        return toSend;
    }

    private void load(JsonNode command) {
        Load load = new Load();
        String topic = command.get("topic").asText();
        String prefix = command.get("prefix").asText();
        Semaphore room = new Semaphore(50);
        loads.put(handle(command), load);
        load.work = threads.submit(() -> {
            try (KafkaProducer<byte[], byte[]> producer = producer(JSON.createObjectNode())) {
                for (int number = 0; !load.stopped; number++) {
                    int sent = number;
                    room.acquire();
                    byte[] value = (prefix + number).getBytes(StandardCharsets.UTF_8);
                    producer.send(new ProducerRecord<>(topic, value), (at, error) -> {
                        room.release();
                        if (error == null) {
                            load.acked.addArray().add(sent).add(at.partition()).add(at.offset());
                        }
                    });
                    Thread.sleep(2);
                }
            }
            return null;
        });
    }

    private ArrayNode stop(JsonNode command) throws Exception {
        Load load = loads.remove(handle(command));
        load.stopped = true;
        load.work.get();
        return load.acked;
    }

    private void transact(JsonNode command) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(command);
        // To close it would abort what is open.
        transacting.add(producer);
        producer.initTransactions();
        for (JsonNode transaction : command.get("transactions")) {
            producer.beginTransaction();
            for (JsonNode record : transaction.get("records")) {
                producer.send(toSend(record)).get();
            }
            if (transaction.has("group")) {
                ConsumerGroupMetadata group = new ConsumerGroupMetadata(transaction.get("group").asText());
                producer.sendOffsetsToTransaction(offsets(transaction), group);
            }
            switch (transaction.get("end").asText()) {
                case "commit": producer.commitTransaction(); break;
                case "abort": producer.abortTransaction(); break;
                default: break;
            }
        }
    }

    private void open(JsonNode command) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", command.path("group").asText(handle(command)));
        config.put("auto.offset.reset", command.path("reset").asText("earliest"));
        config.put("enable.auto.commit", command.path("auto_commit").asBoolean(false));
        config.put("auto.commit.interval.ms", 500);
        config.put("heartbeat.interval.ms", 500);
        config.put("session.timeout.ms", 30_000);
        config.put("check.crcs", true);
        config.put("isolation.level", command.path("isolation").asText("read_uncommitted"));
        String strategy = command.path("strategy").asText("");
        if (!strategy.isEmpty()) {
            String name = strategy.equals("cooperative") ? "CooperativeStickyAssignor" : "RangeAssignor";
            config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + name);
        }
        if (command.has("instance")) {
            config.put("group.instance.id", command.get("instance").asText());
        }
        if (command.has("max_bytes")) {
            config.put("max.partition.fetch.bytes", command.get("max_bytes").asInt());
        }
        KafkaConsumer<byte[], byte[]> client =
            new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        if (command.has("assign")) {
            List<TopicPartition> partitions = new ArrayList<>();
            command.get("assign").forEach(at -> partitions.add(new TopicPartition(at.get(0).asText(), at.get(1).asInt())));
            client.assign(partitions);
            client.seekToBeginning(partitions);
        } else {
            List<String> topics = new ArrayList<>();
            command.get("topics").forEach(topic -> topics.add(topic.asText()));
            client.subscribe(topics);
        }
        consumers.put(handle(command), new Consumer(client));
    }

    private ArrayNode poll(JsonNode command) {
        Consumer consumer = consumer(command);
        ArrayNode records = JSON.createArrayNode();
        long deadline = System.nanoTime() + command.get("ms").asLong() * 1_000_000;
        int count = command.get("count").asInt();
        while (true) {
            while (records.size() < count && !consumer.polled.isEmpty()) {
                records.add(read(consumer.polled.remove()));
            }
            long left = (deadline - System.nanoTime()) / 1_000_000;
            if (records.size() >= count || left <= 0) {
                return records;
            }
            consumer.client.poll(Duration.ofMillis(Math.min(left, 100))).forEach(consumer.polled::add);
        }
    }

    private static ObjectNode read(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode read = JSON.createObjectNode();
        read.put("topic", record.topic()).put("partition", record.partition());
        read.put("offset", record.offset()).put("timestamp", record.timestamp());
        read.put("key", text(record.key())).put("value", text(record.value()));
        ArrayNode headers = read.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(text(header.value()));
        }
        return read;
    }

    private static String text(byte[] bytes) {
        if (bytes == null || bytes.length <= TEXT_BYTES) {
            return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
        }
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return String.format("crc32:%08x:%d", crc.getValue(), bytes.length);
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(JsonNode command) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (JsonNode at : command.get("offsets")) {
            offsets.put(
                new TopicPartition(at.get(0).asText(), at.get(1).asInt()),
                new OffsetAndMetadata(at.get(2).asLong(), at.get(3).asText()));
        }
        return offsets;
    }

    private void commit(JsonNode command) {
        consumer(command).client.commitSync(offsets(command));
    }

    private void seek(JsonNode command) {
        Consumer consumer = consumer(command);
        consumer.polled.clear();
        JsonNode to = command.get("to");
        if (to.isNumber()) {
            consumer.client.seek(partition(command), to.asLong());
        } else if (to.asText().equals("end")) {
            consumer.client.seekToEnd(List.of(partition(command)));
        } else {
            consumer.client.seekToBeginning(List.of(partition(command)));
        }
    }

    private void seekTime(JsonNode command) {
        Consumer consumer = consumer(command);
        consumer.polled.clear();
        TopicPartition partition = partition(command);
        Map<TopicPartition, Long> asked = Map.of(partition, command.get("timestamp").asLong());
        long offset = consumer.client.offsetsForTimes(asked).get(partition).offset();
        consumer.client.seek(partition, offset);
    }
}
