// The driver of sarama.
//
//	sarama driver BOOTSTRAP
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"tidegate/compat/contract"
)

func main() {
	contract.Serve(driver{os.Args[2]})
}

type driver struct{ bootstrap string }

func (driver) Module() string { return "github.com/IBM/sarama" }

func (d driver) brokers() []string { return []string{d.bootstrap} }

var codecs = map[string]sarama.CompressionCodec{
	"gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

var acks = map[string]sarama.RequiredAcks{
	"": sarama.WaitForAll, "all": sarama.WaitForAll, "1": sarama.WaitForLocal,
	"0": sarama.NoResponse,
}

// mark says which record a message is, and the partition that it wants (-1 for any).
type mark struct {
	at        int
	partition int32
}

// partitioner takes the record's own partition, and sarama's default if it has none.
type partitioner struct{ sarama.Partitioner }

func newPartitioner(topic string) sarama.Partitioner {
	return partitioner{sarama.NewHashPartitioner(topic)}
}

func (p partitioner) Partition(message *sarama.ProducerMessage, count int32) (int32, error) {
	if wanted := message.Metadata.(mark).partition; wanted >= 0 {
		return wanted, nil
	}
	return p.Partitioner.Partition(message, count)
}

func (d driver) producer(command *contract.Command) (sarama.AsyncProducer, error) {
	config := sarama.NewConfig()
	config.Producer.RequiredAcks = acks[command.Acks]
	config.Producer.Compression = codecs[command.Codec]
	config.Producer.Partitioner = newPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	// By default it gives up after less than a second.
	config.Producer.Retry.Max = 600
	if command.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	if command.MaxBytes > 0 {
		config.Producer.MaxMessageBytes = command.MaxBytes
	}
	return sarama.NewAsyncProducer(d.brokers(), config)
}

// collect calls back for every message, until the producer has been closed.
func collect(producer sarama.AsyncProducer, done func(*sarama.ProducerMessage, error)) {
	var lock sync.Mutex
	var ended sync.WaitGroup
	ended.Add(2)
	go func() {
		defer ended.Done()
		for message := range producer.Successes() {
			lock.Lock()
			done(message, nil)
			lock.Unlock()
		}
	}()
	go func() {
		defer ended.Done()
		for failure := range producer.Errors() {
			lock.Lock()
			done(failure.Msg, failure.Err)
			lock.Unlock()
		}
	}()
	ended.Wait()
}

// data is a key or value; none for nil.
func data(bytes []byte) sarama.Encoder {
	if bytes == nil {
		return nil
	}
	return sarama.ByteEncoder(bytes)
}

func (d driver) Produce(command *contract.Command) ([]any, error) {
	producer, err := d.producer(command)
	if err != nil {
		return nil, err
	}
	sent := make([]any, len(command.Records))
	go func() {
		for i := range command.Records {
			record := &command.Records[i]
			message := &sarama.ProducerMessage{
				Topic: record.Topic, Key: data(record.KeyBytes()), Value: data(record.ValueBytes()),
				Metadata: mark{i, -1}, Timestamp: record.Time(),
			}
			if record.Partition != nil {
				message.Metadata = mark{i, *record.Partition}
			}
			for _, header := range record.Headers {
				message.Headers = append(message.Headers,
					sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
			}
			producer.Input() <- message
		}
		producer.AsyncClose()
	}()
	collect(producer, func(message *sarama.ProducerMessage, err error) {
		at := message.Metadata.(mark).at
		offset := message.Offset
		if command.Acks == "0" {
			offset = -1
		}
		sent[at] = [2]int64{int64(message.Partition), offset}
		if err != nil {
			sent[at] = err.Error()
		}
	})
	return sent, nil
}

func (d driver) Load(command *contract.Command, stop <-chan struct{}) ([]contract.Acked, error) {
	producer, err := d.producer(&contract.Command{})
	if err != nil {
		return nil, err
	}
	go func() {
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		defer producer.AsyncClose()
		for number := 0; ; number++ {
			value := sarama.StringEncoder(fmt.Sprint(command.Prefix, number))
			message := &sarama.ProducerMessage{
				Topic: command.Topic, Value: value, Metadata: mark{number, -1},
			}
			select {
			case <-stop:
				return
			case producer.Input() <- message:
			}
			<-pace.C
		}
	}()
	var acked []contract.Acked
	collect(producer, func(message *sarama.ProducerMessage, err error) {
		if err == nil {
			number := int64(message.Metadata.(mark).at)
			acked = append(acked, contract.Acked{number, int64(message.Partition), message.Offset})
		}
	})
	return acked, nil
}

func (d driver) Open(command *contract.Command) (contract.Consumer, error) {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	if command.Reset == "latest" {
		config.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	config.Consumer.Offsets.AutoCommit.Enable = command.AutoCommit
	config.Consumer.Offsets.AutoCommit.Interval = 500 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 30 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Group.InstanceId = command.Instance
	if command.Strategy == "cooperative" {
		strategy := sarama.NewBalanceStrategyCooperativeSticky()
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	}
	if len(command.Assign) > 0 {
		return newAssigned(d.brokers(), config, command.Assign)
	}
	return newMember(d.brokers(), config, command)
}

func read(message *sarama.ConsumerMessage) contract.Read {
	read := contract.Read{
		Topic: message.Topic, Partition: message.Partition, Offset: message.Offset,
		Timestamp: message.Timestamp.UnixMilli(),
		Key:       contract.Text(message.Key), Value: contract.Text(message.Value),
	}
	for _, header := range message.Headers {
		read.AddHeader(string(header.Key), header.Value)
	}
	return read
}

// assigned reads partitions outside of any group.
type assigned struct {
	client     sarama.Client
	consumer   sarama.Consumer
	partitions map[contract.Partition]sarama.PartitionConsumer
}

func newAssigned(
	brokers []string, config *sarama.Config, partitions []contract.Partition,
) (contract.Consumer, error) {
	client, err := sarama.NewClient(brokers, config)
	if err != nil {
		return nil, err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, err
	}
	c := &assigned{client, consumer, map[contract.Partition]sarama.PartitionConsumer{}}
	for _, at := range partitions {
		if err := c.start(at, sarama.OffsetOldest); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *assigned) start(at contract.Partition, offset int64) error {
	if before := c.partitions[at]; before != nil {
		if err := before.Close(); err != nil {
			return err
		}
	}
	partition, err := c.consumer.ConsumePartition(at.Topic, at.Number, offset)
	c.partitions[at] = partition
	return err
}

func (c *assigned) Poll(count int, within time.Duration) ([]contract.Read, error) {
	var records []contract.Read
	deadline := time.Now().Add(within)
	for len(records) < count && time.Now().Before(deadline) {
		found := false
		for _, partition := range c.partitions {
			select {
			case message := <-partition.Messages():
				records = append(records, read(message))
				found = true
			default:
			}
			if len(records) == count {
				break
			}
		}
		if !found {
			time.Sleep(5 * time.Millisecond)
		}
	}
	return records, nil
}

func (c *assigned) Commit([]contract.Offset) error { return contract.ErrAbsent }

func (c *assigned) Seek(at contract.Partition, to any) error {
	switch to := to.(type) {
	case float64:
		return c.start(at, int64(to))
	default:
		offset := sarama.OffsetOldest
		if to == "end" {
			offset = sarama.OffsetNewest
		}
		return c.start(at, offset)
	}
}

func (c *assigned) SeekTime(at contract.Partition, timestamp int64) error {
	offset, err := c.client.GetOffset(at.Topic, at.Number, timestamp)
	if err != nil {
		return err
	}
	return c.start(at, offset)
}

func (c *assigned) Pause(at contract.Partition) error {
	c.partitions[at].Pause()
	return nil
}

func (c *assigned) Resume(at contract.Partition) error {
	c.partitions[at].Resume()
	return nil
}

func (c *assigned) Close() error {
	for _, partition := range c.partitions {
		if err := partition.Close(); err != nil {
			return err
		}
	}
	return errors.Join(c.consumer.Close(), c.client.Close())
}

// member is a member of a group; it is its own handler.
type member struct {
	group    sarama.ConsumerGroup
	auto     bool
	messages chan *sarama.ConsumerMessage
	lock     sync.Mutex
	session  sarama.ConsumerGroupSession
	stop     context.CancelFunc
	stopped  chan struct{}
}

func newMember(
	brokers []string, config *sarama.Config, command *contract.Command,
) (contract.Consumer, error) {
	group, err := sarama.NewConsumerGroup(brokers, command.Group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{
		group: group, auto: command.AutoCommit, messages: make(chan *sarama.ConsumerMessage),
		stop: stop, stopped: make(chan struct{}),
	}
	go func() {
		defer close(m.stopped)
		for ctx.Err() == nil {
			if err := group.Consume(ctx, command.Topics, m); err != nil {
				fmt.Fprintln(os.Stderr, "sarama:", err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return m, nil
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case m.messages <- message:
				if m.auto {
					session.MarkMessage(message, "")
				}
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) Poll(count int, within time.Duration) ([]contract.Read, error) {
	var records []contract.Read
	deadline := time.After(within)
	for len(records) < count {
		select {
		case message := <-m.messages:
			records = append(records, read(message))
		case <-deadline:
			return records, nil
		}
	}
	return records, nil
}

func (m *member) Commit(offsets []contract.Offset) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, at := range offsets {
		m.session.MarkOffset(at.Topic, at.Number, at.Offset, at.Metadata)
	}
	m.session.Commit()
	return nil
}

func (m *member) Seek(contract.Partition, any) error       { return contract.ErrAbsent }
func (m *member) SeekTime(contract.Partition, int64) error { return contract.ErrAbsent }
func (m *member) Pause(contract.Partition) error           { return contract.ErrAbsent }
func (m *member) Resume(contract.Partition) error          { return contract.ErrAbsent }

func (m *member) Close() error {
	m.stop()
	<-m.stopped
	return m.group.Close()
}
