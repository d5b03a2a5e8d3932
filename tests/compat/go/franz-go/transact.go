package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/compat/contract"
)

// Transact leaves the client open, and with it what the last transaction left open.
func (d driver) Transact(command *contract.Command) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(d.bootstrap),
		kgo.TransactionalID(command.TransactionalID),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	for i := range command.Transactions {
		if err := transact(client, command.TransactionalID, &command.Transactions[i]); err != nil {
			return err
		}
	}
	return nil
}

func transact(client *kgo.Client, id string, transaction *contract.Transaction) error {
	ctx := context.Background()
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	for i := range transaction.Records {
		from := &transaction.Records[i]
		record := &kgo.Record{Topic: from.Topic, Partition: *from.Partition, Value: from.ValueBytes()}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
	}
	if transaction.Group != "" {
		if err := sendOffsets(ctx, client, id, transaction); err != nil {
			return err
		}
	}
	switch transaction.End {
	case "commit":
		return client.EndTransaction(ctx, kgo.TryCommit)
	case "abort":
		return client.EndTransaction(ctx, kgo.TryAbort)
	}
	return nil
}

// sendOffsets commits offsets in the transaction, as kgo's GroupTransactSession does for a member.
func sendOffsets(
	ctx context.Context, client *kgo.Client, id string, transaction *contract.Transaction,
) error {
	producer, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.Group = id, transaction.Group
	add.ProducerID, add.ProducerEpoch = producer, epoch
	added, err := add.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("offsets are not added: %w", err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group = id, transaction.Group
	commit.ProducerID, commit.ProducerEpoch = producer, epoch
	commit.Generation = -1
	for _, at := range transaction.Offsets {
		partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		partition.Partition, partition.Offset = at.Number, at.Offset
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = at.Topic
		topic.Partitions = append(topic.Partitions, partition)
		commit.Topics = append(commit.Topics, topic)
	}
	committed, err := commit.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, topic := range committed.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return fmt.Errorf("offsets are not committed: %w", err)
			}
		}
	}
	return nil
}
