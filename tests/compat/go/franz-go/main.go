// The main job's producer and consumer on franz-go, and what other tests have it do. The main job
// prints the same JSON lines as Apache Kafka's VerifiableProducer and VerifiableConsumer, so that
// one judge reads all clients.
//
//	franz-go produce BOOTSTRAP TOPIC RECORDS
//	franz-go consume BOOTSTRAP TOPIC GROUP
//	franz-go read BOOTSTRAP TOPIC FROM      and the like: read.go, keys.go
//	franz-go driver BOOTSTRAP               the driver of the compatibility matrix
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidegate/compat/contract"
)

var (
	outLock sync.Mutex
	out     = bufio.NewWriter(os.Stdout)
)

// emit prints one line and flushes it, because the judge acts on lines as they come.
func emit(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		fail(err)
	}
	outLock.Lock()
	defer outLock.Unlock()
	out.Write(text)
	out.WriteByte('\n')
	out.Flush()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "driver" {
		contract.Serve(driver{os.Args[2]})
		return
	}
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: %s MODE BOOTSTRAP TOPIC ARGUMENT", os.Args[0]))
	}
	mode, bootstrap, topic, last := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	switch mode {
	case "produce":
		records, err := strconv.Atoi(last)
		if err != nil {
			fail(err)
		}
		produce(bootstrap, topic, records)
	case "consume":
		consume(bootstrap, topic, last)
	case "read":
		read(bootstrap, topic, last)
	case "seek":
		seek(bootstrap, topic, last)
	case "overwrite":
		overwrite(bootstrap, topic, last)
	case "latest":
		latest(bootstrap, topic, last)
	default:
		fail(fmt.Errorf("unknown mode %q", mode))
	}
}

type sent struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// produce is idempotent, as franz-go is by default, and retries without end.
func produce(bootstrap, topic string, records int) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.DefaultProduceTopic(topic),
		kgo.RecordRetries(int(^uint(0)>>1)),
		kgo.RequestRetries(1<<30),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
	)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	for i := 0; i < records; i++ {
		record := &kgo.Record{Value: []byte(strconv.Itoa(i))}
		client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			if err != nil {
				fail(fmt.Errorf("record %s: %w", r.Value, err))
			}
			emit(sent{"producer_send_success", string(r.Value), r.Topic, r.Partition, r.Offset})
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		fail(err)
	}
}

type committed struct {
	Name    string   `json:"name"`
	Success bool     `json:"success"`
	Offsets []offset `json:"offsets"`
}

type offset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// consume reads in a group and commits what it has read after every poll, until SIGTERM.
func consume(bootstrap, topic, group string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		fail(err)
	}
	defer client.CloseAllowingRebalance()
	uncommitted := false
	for ctx.Err() == nil {
		poll, done := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := client.PollRecords(poll, 10_000)
		done()
		if uncommitted || fetches.NumRecords() > 0 {
			uncommitted = !report(ctx, client)
		}
		client.AllowRebalance()
	}
}

// report commits and says so; false when the commit failed and has to be made again.
func report(ctx context.Context, client *kgo.Client) bool {
	uncommitted := client.UncommittedOffsets()
	line := committed{Name: "offsets_committed"}
	for topic, partitions := range uncommitted {
		for partition, at := range partitions {
			line.Offsets = append(line.Offsets, offset{topic, partition, at.Offset})
		}
	}
	line.Success = client.CommitUncommittedOffsets(ctx) == nil
	emit(line)
	return line.Success
}
