// The driver of segmentio's kafka-go.
//
//	kafka-go driver BOOTSTRAP
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/compat/contract"
)

func main() {
	contract.Serve(driver{os.Args[2]})
}

type driver struct{ bootstrap string }

func (driver) Module() string { return "github.com/segmentio/kafka-go" }

var codecs = map[string]kafka.Compression{
	"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

var acks = map[string]kafka.RequiredAcks{
	"": kafka.RequireAll, "all": kafka.RequireAll, "1": kafka.RequireOne, "0": kafka.RequireNone,
}

// mark says which record a message is, and the partition that it wants (-1 for any).
type mark struct {
	at        int
	partition int32
}

// balancer takes the record's own partition, and another's choice if it has none.
type balancer struct{ kafka.Balancer }

func (b balancer) Balance(message kafka.Message, partitions ...int) int {
	if wanted := message.WriterData.(mark).partition; wanted >= 0 {
		return int(wanted)
	}
	return b.Balancer.Balance(message, partitions...)
}

// writer has a transport of its own: the shared one does not know a topic that is younger than its
// metadata.
func (d driver) writer(
	command *contract.Command, topics []string, done func(message kafka.Message, err error),
) *kafka.Writer {
	// A hash of the key; kafka-go's own default does not look at keys.
	chosen := balancer{&kafka.Hash{}}
	if command.Partitioner == "murmur2" {
		chosen = balancer{kafka.Murmur2Balancer{}}
	}
	return &kafka.Writer{
		Addr: kafka.TCP(d.bootstrap),
		Transport: &kafka.Transport{
			MetadataTopics: topics,
			MetadataTTL:    2 * time.Second,
			DialTimeout:    time.Minute,
		},
		Balancer:     chosen,
		RequiredAcks: acks[command.Acks],
		Compression:  codecs[command.Codec],
		BatchTimeout: 20 * time.Millisecond,
		ReadTimeout:  time.Minute,
		WriteTimeout: time.Minute,
		BatchBytes:   int64(command.MaxBytes),
		Completion: func(messages []kafka.Message, err error) {
			for _, message := range messages {
				done(message, err)
			}
		},
	}
}

func (d driver) Produce(command *contract.Command) ([]any, error) {
	sent := make([]any, len(command.Records))
	var lock sync.Mutex
	topics := map[string]bool{}
	for _, record := range command.Records {
		topics[record.Topic] = true
	}
	writer := d.writer(command, slices.Collect(maps.Keys(topics)), func(message kafka.Message, err error) {
		lock.Lock()
		defer lock.Unlock()
		offset := message.Offset
		if command.Acks == "0" {
			offset = -1
		}
		at := message.WriterData.(mark).at
		sent[at] = [2]int64{int64(message.Partition), offset}
		if err != nil {
			sent[at] = err.Error()
		}
	})
	messages := make([]kafka.Message, len(command.Records))
	for i := range command.Records {
		record := &command.Records[i]
		message := kafka.Message{
			Topic: record.Topic, Key: record.KeyBytes(), Value: record.ValueBytes(),
			WriterData: mark{i, -1}, Time: record.Time(),
		}
		if record.Partition != nil {
			message.WriterData = mark{i, *record.Partition}
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers,
				kafka.Header{Key: header.Name, Value: header.Value})
		}
		messages[i] = message
	}
	err := writer.WriteMessages(context.Background(), messages...)
	var failures kafka.WriteErrors
	if err != nil && !errors.As(err, &failures) {
		return nil, errors.Join(err, closed(writer))
	}
	return sent, closed(writer)
}

func (d driver) Load(command *contract.Command, stop <-chan struct{}) ([]contract.Acked, error) {
	var acked []contract.Acked
	var lock sync.Mutex
	writer := d.writer(&contract.Command{}, nil, func(message kafka.Message, err error) {
		if err != nil {
			return
		}
		lock.Lock()
		defer lock.Unlock()
		number := int64(message.WriterData.(mark).at)
		acked = append(acked, contract.Acked{number, int64(message.Partition), message.Offset})
	})
	writer.Balancer = balancer{&kafka.RoundRobin{}}
	for number := 0; ; {
		messages := make([]kafka.Message, 5)
		for i := range messages {
			value := fmt.Append(nil, command.Prefix, number)
			messages[i] = kafka.Message{
				Topic: command.Topic, Value: value, WriterData: mark{number, -1},
			}
			number++
		}
		select {
		case <-stop:
			err := closed(writer)
			return acked, err
		default:
			if err := writer.WriteMessages(context.Background(), messages...); err != nil {
				fmt.Fprintln(os.Stderr, "kafka-go:", err)
			}
		}
	}
}

// closed ends a writer and its transport, which would go on asking for metadata.
func closed(writer *kafka.Writer) error {
	err := writer.Close()
	writer.Transport.(*kafka.Transport).CloseIdleConnections()
	return err
}

// consumer is a reader for each partition, or one in a group.
type consumer struct {
	readers map[contract.Partition]*kafka.Reader
	group   *kafka.Reader
	auto    bool
	rest    []kafka.Message
}

func (d driver) Open(command *contract.Command) (contract.Consumer, error) {
	config := kafka.ReaderConfig{
		Brokers: []string{d.bootstrap}, MaxWait: 500 * time.Millisecond, StartOffset: kafka.FirstOffset,
	}
	if command.Reset == "latest" {
		config.StartOffset = kafka.LastOffset
	}
	if command.MaxBytes > 0 {
		config.MaxBytes = 2 * command.MaxBytes
	}
	c := &consumer{readers: map[contract.Partition]*kafka.Reader{}, auto: command.AutoCommit}
	if len(command.Assign) == 0 {
		config.GroupID = command.Group
		config.GroupTopics = command.Topics
		config.HeartbeatInterval = 500 * time.Millisecond
		config.SessionTimeout = 30 * time.Second
		if command.AutoCommit {
			config.CommitInterval = 500 * time.Millisecond
		}
		c.group = kafka.NewReader(config)
		c.readers[contract.Partition{}] = c.group
		return c, nil
	}
	for _, at := range command.Assign {
		config.Topic = at.Topic
		config.Partition = int(at.Number)
		c.readers[at] = kafka.NewReader(config)
		if err := c.readers[at].SetOffset(kafka.FirstOffset); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *consumer) Poll(count int, within time.Duration) ([]contract.Read, error) {
	if len(c.rest) < count {
		c.fetch(count, within)
	}
	polled := c.rest[:min(count, len(c.rest))]
	c.rest = c.rest[len(polled):]
	records := make([]contract.Read, len(polled))
	for i, message := range polled {
		records[i] = read(message)
	}
	if !c.auto || len(polled) == 0 {
		return records, nil
	}
	// ReadMessage would commit as well, but under the time limit of the fetch: a message whose time
	// is up between the two is neither returned nor read again.
	return records, c.group.CommitMessages(context.Background(), polled...)
}

// fetch asks all readers at once, until there is enough.
func (c *consumer) fetch(count int, within time.Duration) {
	ctx, enough := context.WithTimeout(context.Background(), within)
	defer enough()
	var lock sync.Mutex
	var ended sync.WaitGroup
	for _, reader := range c.readers {
		ended.Add(1)
		go func() {
			defer ended.Done()
			for ctx.Err() == nil {
				message, err := reader.FetchMessage(ctx)
				if err != nil {
					return
				}
				lock.Lock()
				c.rest = append(c.rest, message)
				if len(c.rest) >= count {
					enough()
				}
				lock.Unlock()
			}
		}()
	}
	ended.Wait()
}

func read(message kafka.Message) contract.Read {
	read := contract.Read{
		Topic: message.Topic, Partition: int32(message.Partition), Offset: message.Offset,
		Timestamp: message.Time.UnixMilli(),
		Key:       contract.Text(message.Key), Value: contract.Text(message.Value),
	}
	for _, header := range message.Headers {
		read.AddHeader(header.Key, header.Value)
	}
	return read
}

func (c *consumer) Commit(offsets []contract.Offset) error {
	for _, at := range offsets {
		if at.Metadata != "" {
			return contract.ErrAbsent
		}
		// It commits the offset behind the message's.
		message := kafka.Message{Topic: at.Topic, Partition: int(at.Number), Offset: at.Offset - 1}
		if err := c.group.CommitMessages(context.Background(), message); err != nil {
			return err
		}
	}
	return nil
}

func (c *consumer) Seek(at contract.Partition, to any) error {
	c.rest = nil
	offset := kafka.FirstOffset
	switch to := to.(type) {
	case float64:
		offset = int64(to)
	default:
		if to == "end" {
			offset = kafka.LastOffset
		}
	}
	return c.readers[at].SetOffset(offset)
}

func (c *consumer) SeekTime(at contract.Partition, timestamp int64) error {
	c.rest = nil
	return c.readers[at].SetOffsetAt(context.Background(), time.UnixMilli(timestamp))
}

func (c *consumer) Pause(contract.Partition) error  { return contract.ErrAbsent }
func (c *consumer) Resume(contract.Partition) error { return contract.ErrAbsent }

func (c *consumer) Close() error {
	var failures []error
	for _, reader := range c.readers {
		failures = append(failures, reader.Close())
	}
	return errors.Join(failures...)
}
