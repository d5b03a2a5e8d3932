package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/compat/contract"
)

// driver is franz-go's driver.
type driver struct{ bootstrap string }

func (driver) Module() string { return "github.com/twmb/franz-go" }

var codecs = map[string]kgo.CompressionCodec{
	"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

var acks = map[string]kgo.Acks{
	"": kgo.AllISRAcks(), "all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck(),
}

func (d driver) producer(command *contract.Command) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap),
		kgo.RequiredAcks(acks[command.Acks]),
		kgo.ProducerBatchCompression(codecs[command.Codec]),
		kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerLinger(20 * time.Millisecond),
	}
	if !command.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if command.MaxBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(int32(command.MaxBytes)))
	}
	return kgo.NewClient(options...)
}

// partitioner takes the record's own partition, and franz-go's default if it has none (-1).
type partitioner struct{ kgo.Partitioner }

type topicPartitioner struct{ kgo.TopicPartitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.Partitioner.ForTopic(topic)}
}

func (p topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || p.TopicPartitioner.RequiresConsistency(r)
}

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return p.TopicPartitioner.Partition(r, n)
}

func (d driver) Produce(command *contract.Command) ([]any, error) {
	client, err := d.producer(command)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	sent := make([]any, len(command.Records))
	for i := range command.Records {
		from := &command.Records[i]
		record := &kgo.Record{
			Topic: from.Topic, Partition: -1, Key: from.KeyBytes(), Value: from.ValueBytes(),
			Timestamp: from.Time(),
		}
		if from.Partition != nil {
			record.Partition = *from.Partition
		}
		for _, header := range from.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			sent[i] = [2]int64{int64(r.Partition), r.Offset}
			if err != nil {
				sent[i] = err.Error()
			}
		})
	}
	return sent, client.Flush(context.Background())
}

func (d driver) Load(command *contract.Command, stop <-chan struct{}) ([]contract.Acked, error) {
	client, err := d.producer(&contract.Command{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var acked []contract.Acked
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for number := int64(0); ; number++ {
		select {
		case <-stop:
			err := client.Flush(context.Background())
			return acked, err
		case <-pace.C:
		}
		value := fmt.Append(nil, command.Prefix, number)
		record := &kgo.Record{Topic: command.Topic, Partition: -1, Value: value}
		// Promises are called one after another, and all before Flush returns.
		client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			switch {
			case err == nil:
				acked = append(acked, contract.Acked{number, int64(r.Partition), r.Offset})
			case errors.Is(err, kerr.UnknownTopicID):
				// The topic was recreated; franz-go's README ("Topic recreation") asks for this.
				go client.PurgeTopicsFromProducing(r.Topic)
			}
		})
	}
}

type consumer struct {
	client *kgo.Client
	group  bool
	lock   sync.Mutex
	rest   []contract.Read
}

func (d driver) Open(command *contract.Command) (contract.Consumer, error) {
	reset := kgo.NewOffset().AtStart()
	if command.Reset == "latest" {
		reset = kgo.NewOffset().AtEnd()
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap),
		kgo.ConsumeResetOffset(reset),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}
	if command.Isolation == "read_committed" {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if command.MaxBytes > 0 {
		options = append(options, kgo.FetchMaxPartitionBytes(int32(command.MaxBytes)))
	}
	if len(command.Assign) > 0 {
		partitions := map[string]map[int32]kgo.Offset{}
		for _, at := range command.Assign {
			if partitions[at.Topic] == nil {
				partitions[at.Topic] = map[int32]kgo.Offset{}
			}
			partitions[at.Topic][at.Number] = kgo.NewOffset().AtStart()
		}
		options = append(options, kgo.ConsumePartitions(partitions))
	} else {
		options = append(options, group(command)...)
	}
	client, err := kgo.NewClient(options...)
	return &consumer{client: client, group: len(command.Assign) == 0}, err
}

func group(command *contract.Command) []kgo.Opt {
	options := []kgo.Opt{
		kgo.ConsumerGroup(command.Group),
		kgo.ConsumeTopics(command.Topics...),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.SessionTimeout(30 * time.Second),
		kgo.BlockRebalanceOnPoll(),
	}
	if command.Strategy == "eager" {
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	}
	if command.Instance != "" {
		options = append(options, kgo.InstanceID(command.Instance))
	}
	if command.AutoCommit {
		return append(options, kgo.AutoCommitInterval(500*time.Millisecond))
	}
	return append(options, kgo.DisableAutoCommit())
}

func (c *consumer) Poll(count int, within time.Duration) ([]contract.Read, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	ctx, done := context.WithTimeout(context.Background(), within)
	defer done()
	for len(c.rest) < count && ctx.Err() == nil {
		fetches := c.client.PollFetches(ctx)
		fetches.EachError(func(topic string, _ int32, err error) {
			if errors.Is(err, kerr.UnknownTopicID) {
				c.client.PurgeTopicsFromConsuming(topic)
				c.client.AddConsumeTopics(topic)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			read := contract.Read{
				Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
				Timestamp: r.Timestamp.UnixMilli(),
				Key:       contract.Text(r.Key), Value: contract.Text(r.Value),
			}
			for _, header := range r.Headers {
				read.AddHeader(header.Key, header.Value)
			}
			c.rest = append(c.rest, read)
		})
		if c.group {
			c.client.AllowRebalance()
		}
	}
	count = min(count, len(c.rest))
	taken := c.rest[:count]
	c.rest = c.rest[count:]
	return taken, nil
}

func (c *consumer) Commit(offsets []contract.Offset) error {
	request := map[string]map[int32]kgo.EpochOffset{}
	commit := func(request *kmsg.OffsetCommitRequest) error {
		for i := range request.Topics {
			topic := &request.Topics[i]
			for j := range topic.Partitions {
				for _, at := range offsets {
					if at.Topic == topic.Topic && at.Number == topic.Partitions[j].Partition {
						topic.Partitions[j].Metadata = kmsg.StringPtr(at.Metadata)
					}
				}
			}
		}
		return nil
	}
	for _, at := range offsets {
		if request[at.Topic] == nil {
			request[at.Topic] = map[int32]kgo.EpochOffset{}
		}
		request[at.Topic][at.Number] = kgo.EpochOffset{Epoch: -1, Offset: at.Offset}
	}
	var failed error
	ctx := kgo.PreCommitFnContext(context.Background(), commit)
	c.client.CommitOffsetsSync(ctx, request, func(
		_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error,
	) {
		failed = err
	})
	return failed
}

func (c *consumer) set(at contract.Partition, offset kgo.EpochOffset) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.rest = nil
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.Topic: {at.Number: offset}})
	return nil
}

func (c *consumer) Seek(at contract.Partition, to any) error {
	switch to := to.(type) {
	case float64:
		return c.set(at, kgo.EpochOffset{Epoch: -1, Offset: int64(to)})
	default:
		timestamp := int64(-2)
		if to == "end" {
			timestamp = -1
		}
		return c.SeekTime(at, timestamp)
	}
}

// SeekTime asks for the offset of a time, which may be -1 for the end and -2 for the beginning.
func (c *consumer) SeekTime(at contract.Partition, timestamp int64) error {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = at.Topic
	partition := kmsg.NewListOffsetsRequestTopicPartition()
	partition.Partition = at.Number
	partition.Timestamp = timestamp
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(context.Background(), c.client)
	if err != nil {
		return err
	}
	return c.set(at, kgo.EpochOffset{Epoch: -1, Offset: response.Topics[0].Partitions[0].Offset})
}

func (c *consumer) Pause(at contract.Partition) error {
	c.client.PauseFetchPartitions(map[string][]int32{at.Topic: {at.Number}})
	return nil
}

func (c *consumer) Resume(at contract.Partition) error {
	c.client.ResumeFetchPartitions(map[string][]int32{at.Topic: {at.Number}})
	return nil
}

func (c *consumer) Close() error {
	c.client.CloseAllowingRebalance()
	return nil
}
