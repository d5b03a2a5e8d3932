package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// scramble puts the numbers below count in another order; it is prime, and larger than they are.
const scramble = 2_147_483_647

func twoNumbers(text string) (int, int) {
	var one, other int
	if _, err := fmt.Sscanf(text, "%d:%d", &one, &other); err != nil {
		fail(fmt.Errorf("%q: %w", text, err))
	}
	return one, other
}

// overwrite writes KEYS:ROUND: every key once, in no order, with the round as its value.
func overwrite(bootstrap, topic, last string) {
	keys, round := twoNumbers(last)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.DefaultProduceTopic(topic),
		kgo.MaxBufferedRecords(200_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	value := []byte(strconv.Itoa(round))
	for i := 0; i < keys; i++ {
		key := make([]byte, 8)
		binary.BigEndian.PutUint64(key, uint64(i)*scramble%uint64(keys))
		client.Produce(context.Background(), &kgo.Record{Key: key, Value: value},
			func(_ *kgo.Record, err error) {
				if err != nil {
					fail(err)
				}
			})
	}
	if err := client.Flush(context.Background()); err != nil {
		fail(err)
	}
}

// found is what a reader of a compacted partition met.
type found struct {
	Records int `json:"records"`
	// Keys that it met, by the last value that it met of them.
	Keys map[string]int `json:"keys"`
	// What is no key of the writer's.
	Strange int `json:"strange"`
}

// latest reads the partition up to an offset, KEYS:END, as one that builds a table of it.
func latest(bootstrap, topic, last string) {
	keys, end := twoNumbers(last)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	// Zero is no round.
	table := make([]uint32, keys)
	seen := found{Keys: map[string]int{}}
	for next := int64(0); next < int64(end); {
		for _, record := range poll(context.Background(), client) {
			next = record.Offset + 1
			if next > int64(end) {
				break
			}
			seen.Records++
			round, err := strconv.ParseUint(string(record.Value), 10, 32)
			var key uint64
			if len(record.Key) == 8 {
				key = binary.BigEndian.Uint64(record.Key)
			}
			if err != nil || len(record.Key) != 8 || key >= uint64(keys) {
				seen.Strange++
				continue
			}
			table[key] = uint32(round)
		}
	}
	rounds := map[uint32]int{}
	for _, round := range table {
		rounds[round]++
	}
	delete(rounds, 0)
	for round, count := range rounds {
		seen.Keys[strconv.Itoa(int(round))] = count
	}
	emit(seen)
}
