// Churn: members of one group come and go, and every change of what they own is a line.
//
//	churn BOOTSTRAP TOPIC PARTITIONS GROUP BALANCER MEMBERS CHANGES
//
// Starts MEMBERS members, then lets one member leave and another come, CHANGES times. A line is
// {"event": "assigned"|"revoked"|"lost", "member", "generation", "partitions"}, in the order in which
// things happened: the lock is held from the change of ownership until its line is written.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type event struct {
	Event      string  `json:"event"`
	Member     int     `json:"member"`
	Generation int32   `json:"generation"`
	Partitions []int32 `json:"partitions"`
}

var (
	lines   sync.Mutex
	out     = json.NewEncoder(os.Stdout)
	changed = make(chan struct{}, 1)
	// The member that owns each partition that is owned, under the lock of lines.
	owners = map[int32]int{}
)

type member struct {
	number int
	client *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}
}

func note(kind string, number int, topic string) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, client *kgo.Client, owned map[string][]int32) {
		partitions := owned[topic]
		if len(partitions) == 0 {
			return
		}
		_, generation := client.GroupMetadata()
		lines.Lock()
		defer lines.Unlock()
		if err := out.Encode(event{kind, number, generation, partitions}); err != nil {
			fail(err)
		}
		for _, partition := range partitions {
			if kind == "assigned" {
				owners[partition] = number
			} else {
				delete(owners, partition)
			}
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func start(number int, bootstrap, topic, group string, balancer kgo.GroupBalancer) *member {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.Balancers(balancer),
		kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.FetchMaxWait(time.Second),
		kgo.OnPartitionsAssigned(note("assigned", number, topic)),
		kgo.OnPartitionsRevoked(note("revoked", number, topic)),
		kgo.OnPartitionsLost(note("lost", number, topic)),
	)
	if err != nil {
		fail(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{number, client, cancel, make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			client.PollFetches(ctx)
		}
		client.Close()
	}()
	return m
}

// settle waits until these members own all partitions, and each of them one at least.
func settle(members []*member, partitions int) {
	late := time.After(2 * time.Minute)
	for !isShared(members, partitions) {
		select {
		case <-changed:
		case <-late:
			fail(fmt.Errorf("after two minutes %d members do not share all partitions", len(members)))
		}
	}
}

func isShared(members []*member, partitions int) bool {
	lines.Lock()
	defer lines.Unlock()
	owned := map[int]int{}
	for _, number := range owners {
		owned[number]++
	}
	all := 0
	for _, m := range members {
		if owned[m.number] == 0 {
			return false
		}
		all += owned[m.number]
	}
	return all == partitions
}

func main() {
	if len(os.Args) != 8 {
		fail(fmt.Errorf("usage: churn BOOTSTRAP TOPIC PARTITIONS GROUP BALANCER MEMBERS CHANGES"))
	}
	bootstrap, topic, group := os.Args[1], os.Args[2], os.Args[4]
	balancers := map[string]func() kgo.GroupBalancer{
		"range":              kgo.RangeBalancer,
		"cooperative-sticky": kgo.CooperativeStickyBalancer,
	}
	balancer, known := balancers[os.Args[5]]
	partitions, err := strconv.Atoi(os.Args[3])
	count, err2 := strconv.Atoi(os.Args[6])
	changes, err3 := strconv.Atoi(os.Args[7])
	if !known || err != nil || err2 != nil || err3 != nil {
		fail(fmt.Errorf("bad arguments %v", os.Args[1:]))
	}
	var members []*member
	for number := range count {
		members = append(members, start(number, bootstrap, topic, group, balancer()))
	}
	settle(members, partitions)
	for change := range changes {
		at := rand.Intn(len(members))
		leaver := members[at]
		members[at] = start(count+change, bootstrap, topic, group, balancer())
		leaver.stop()
		// Some changes meet a rebalance that is under way.
		if change%2 == 0 {
			settle(members, partitions)
		}
	}
	settle(members, partitions)
	for _, m := range members {
		m.stop()
	}
	for _, m := range members {
		<-m.done
	}
}
