// kfake: franz-go's fake cluster on given ports of 127.0.0.1, a light upstream for the proxy.
//
//	kfake PORT[,PORT..]
//
// A broker per port, node ids from 0. It prints "ready", and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: kfake PORT[,PORT..]"))
	}
	var ports []int
	for _, text := range strings.Split(os.Args[1], ",") {
		port, err := strconv.Atoi(text)
		if err != nil {
			fail(err)
		}
		ports = append(ports, port)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(len(ports)),
		kfake.Ports(ports...),
		kfake.AllowAutoTopicCreation(),
		kfake.DefaultNumPartitions(3),
	)
	if err != nil {
		fail(err)
	}
	defer cluster.Close()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
