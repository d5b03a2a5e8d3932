package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

// row is a record without its bytes, for which a digest stands. The judge holds it against what
// tests/compat/python/log.py says of the record that it wrote.
type row struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
	Digest    string `json:"digest"`
}

func rowOf(record *kgo.Record) row {
	hash := sha256.New()
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(record.Key)))
	hash.Write(length[:])
	hash.Write(record.Key)
	hash.Write(record.Value)
	digest := hex.EncodeToString(hash.Sum(nil))
	return row{record.Partition, record.Offset, record.Timestamp.UnixMilli(), digest}
}

func rowsOf(records []*kgo.Record) []row {
	rows := make([]row, len(records))
	for i, record := range records {
		rows[i] = rowOf(record)
	}
	return rows
}

// poll returns the next records, or none once ctx is done.
func poll(ctx context.Context, client *kgo.Client) []*kgo.Record {
	fetches := client.PollRecords(ctx, 10_000)
	if ctx.Err() != nil {
		return nil
	}
	for _, failed := range fetches.Errors() {
		fail(fmt.Errorf("partition %d: %w", failed.Partition, failed.Err))
	}
	return fetches.Records()
}

// read prints every record of all partitions, a poll to a line, until SIGTERM: from "start", or from
// a time in milliseconds.
func read(bootstrap, topic, from string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	at := kgo.NewOffset().AtStart()
	if from != "start" {
		time, err := strconv.ParseInt(from, 10, 64)
		if err != nil {
			fail(err)
		}
		at = kgo.NewOffset().AfterMilli(time)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(at),
	)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	for ctx.Err() == nil {
		emit(rowsOf(poll(ctx, client)))
	}
}

// seek goes to each of the places, PARTITION:OFFSET with commas between them, and prints the
// records of the first poll that brings some, a place to a line.
func seek(bootstrap, topic, places string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		fail(err)
	}
	defer client.Close()
	for _, place := range strings.Split(places, ",") {
		var partition int32
		var offset int64
		if _, err := fmt.Sscanf(place, "%d:%d", &partition, &offset); err != nil {
			fail(fmt.Errorf("place %q: %w", place, err))
		}
		client.AddConsumePartitions(map[string]map[int32]kgo.Offset{
			topic: {partition: kgo.NewOffset().At(offset)},
		})
		var records []*kgo.Record
		for len(records) == 0 {
			records = poll(context.Background(), client)
		}
		emit(rowsOf(records))
		client.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
	}
}
