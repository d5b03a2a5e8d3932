// Package contract is what every Go driver shares: commands in, answers out, records as JSON. The
// contract is described in tests/compat/matrix/driver.rs.
package contract

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Keys and values up to this many bytes are given as text.
const textBytes = 256

// Command is a command with the fields of all of them.
type Command struct {
	ID          uint64
	Op          string
	Handle      string
	Acks        string
	Codec       string
	Idempotent  bool
	MaxBytes    int `json:"max_bytes"`
	Partitioner string
	Records     []Record
	Topic       string
	Prefix      string
	Group       string
	Topics      []string
	Assign      []Partition
	Instance    string
	Strategy    string
	AutoCommit  bool `json:"auto_commit"`
	Reset       string
	Count       int
	Ms          int64
	Offsets     []Offset
	Partition   int32
	To          any
	Timestamp   int64
	Isolation   string

	TransactionalID string `json:"transactional_id"`
	Transactions    []Transaction
}

// Transaction is what a producer sends and commits in one.
type Transaction struct {
	Records []Record
	Group   string
	Offsets []Offset
	// End is "commit", "abort" or "none".
	End string
}

// Record is a record to send.
type Record struct {
	Topic     string
	Partition *int32
	Key       *string
	Value     *string
	Repeat    int
	Headers   []Header
	Timestamp *int64
}

// KeyBytes is the record's key, or nil.
func (r *Record) KeyBytes() []byte { return data(r.Key) }

// ValueBytes is the record's value, or nil.
func (r *Record) ValueBytes() []byte {
	if r.Value != nil && r.Repeat > 1 {
		return []byte(strings.Repeat(*r.Value, r.Repeat))
	}
	return data(r.Value)
}

// Time is the record's time; the zero time if it has none.
func (r *Record) Time() time.Time {
	if r.Timestamp == nil {
		return time.Time{}
	}
	return time.UnixMilli(*r.Timestamp)
}

func data(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

// Header is a header of a record to send.
type Header struct {
	Name  string
	Value []byte
}

// UnmarshalJSON reads a pair of name and value.
func (h *Header) UnmarshalJSON(text []byte) error {
	var value *string
	err := json.Unmarshal(text, &[]any{&h.Name, &value})
	h.Value = data(value)
	return err
}

// Partition is a partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// UnmarshalJSON reads a pair of topic and partition.
func (p *Partition) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&p.Topic, &p.Number})
}

// Offset is an offset to commit.
type Offset struct {
	Partition
	Offset   int64
	Metadata string
}

// UnmarshalJSON reads topic, partition, offset and metadata.
func (o *Offset) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&o.Topic, &o.Number, &o.Offset, &o.Metadata})
}

// Read is a record that was read.
type Read struct {
	Topic     string       `json:"topic"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Timestamp int64        `json:"timestamp"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   [][2]*string `json:"headers"`
}

// AddHeader adds a header that was read.
func (r *Read) AddHeader(name string, value []byte) {
	r.Headers = append(r.Headers, [2]*string{&name, Text(value)})
}

// Text is a key or value as answers have it.
func Text(bytes []byte) *string {
	if bytes == nil {
		return nil
	}
	text := string(bytes)
	if len(bytes) > textBytes {
		text = fmt.Sprintf("crc32:%08x:%d", crc32.ChecksumIEEE(bytes), len(bytes))
	}
	return &text
}

// Acked is an acknowledged value of a load: its number, partition and offset.
type Acked [3]int64

// Driver is a client library.
type Driver interface {
	// Module is the path of the library's module.
	Module() string
	// Produce sends records and says for each where it is: [2]int64, or the error's text.
	Produce(*Command) ([]any, error)
	// Load sends values until it is told to stop, and says which were acknowledged.
	Load(command *Command, stop <-chan struct{}) ([]Acked, error)
	// Open starts a consumer.
	Open(*Command) (Consumer, error)
}

// Transactor is a driver of a library with transactions.
type Transactor interface {
	// Transact does the transactions one after another with one producer, which it does not close.
	Transact(*Command) error
}

// Consumer is a consumer of a client library.
type Consumer interface {
	// Poll returns up to count records, as soon as there are so many or after a time.
	Poll(count int, within time.Duration) ([]Read, error)
	Commit([]Offset) error
	// Seek moves to "beginning", "end" or an offset.
	Seek(at Partition, to any) error
	SeekTime(at Partition, timestamp int64) error
	Pause(Partition) error
	Resume(Partition) error
	Close() error
}

// ErrAbsent is returned for what a client lacks.
var ErrAbsent = errors.New("the client has no such thing")

type load struct {
	stop  chan struct{}
	acked chan []Acked
}

type server struct {
	driver    Driver
	out       sync.Mutex
	handles   sync.Mutex
	consumers map[string]Consumer
	loads     map[string]load
}

// Serve does the commands of standard input until it ends.
func Serve(driver Driver) {
	s := &server{driver: driver, consumers: map[string]Consumer{}, loads: map[string]load{}}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		command := new(Command)
		if err := json.Unmarshal(line, command); err != nil {
			fmt.Fprintln(os.Stderr, err, string(line))
			os.Exit(1)
		}
		go s.run(command)
	}
}

func (s *server) run(command *Command) {
	answer, err := s.do(command)
	if err != nil {
		answer = map[string]any{"error": err.Error()}
	}
	if answer == nil {
		answer = map[string]any{}
	}
	answer["id"] = command.ID
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	s.out.Lock()
	defer s.out.Unlock()
	os.Stdout.Write(append(text, '\n'))
}

func (s *server) do(command *Command) (map[string]any, error) {
	switch command.Op {
	case "version":
		return map[string]any{"version": version(s.driver.Module())}, nil
	case "produce":
		sent, err := s.driver.Produce(command)
		return map[string]any{"sent": sent}, err
	case "load":
		s.load(command)
		return nil, nil
	case "stop":
		return map[string]any{"acked": s.stop(command)}, nil
	case "transact":
		transactor, ok := s.driver.(Transactor)
		if !ok {
			return nil, ErrAbsent
		}
		return nil, transactor.Transact(command)
	case "open":
		consumer, err := s.driver.Open(command)
		if err != nil {
			return nil, err
		}
		s.handles.Lock()
		defer s.handles.Unlock()
		s.consumers[command.Handle] = consumer
		return nil, nil
	}
	s.handles.Lock()
	consumer := s.consumers[command.Handle]
	s.handles.Unlock()
	if consumer == nil {
		return nil, fmt.Errorf("no consumer %q", command.Handle)
	}
	return consume(consumer, command)
}

func consume(consumer Consumer, command *Command) (map[string]any, error) {
	at := Partition{command.Topic, command.Partition}
	switch command.Op {
	case "poll":
		records, err := consumer.Poll(command.Count, time.Duration(command.Ms)*time.Millisecond)
		for i := range records {
			if records[i].Headers == nil {
				records[i].Headers = [][2]*string{}
			}
		}
		if records == nil {
			records = []Read{}
		}
		return map[string]any{"records": records}, err
	case "commit":
		return nil, consumer.Commit(command.Offsets)
	case "seek":
		return nil, consumer.Seek(at, command.To)
	case "seek_time":
		return nil, consumer.SeekTime(at, command.Timestamp)
	case "pause":
		return nil, consumer.Pause(at)
	case "resume":
		return nil, consumer.Resume(at)
	case "close":
		return nil, consumer.Close()
	}
	return nil, fmt.Errorf("unknown op %q", command.Op)
}

func (s *server) load(command *Command) {
	work := load{make(chan struct{}), make(chan []Acked, 1)}
	s.handles.Lock()
	s.loads[command.Handle] = work
	s.handles.Unlock()
	go func() {
		acked, err := s.driver.Load(command, work.stop)
		if err != nil {
			fmt.Fprintln(os.Stderr, command.Handle, err)
		}
		work.acked <- acked
	}()
}

func (s *server) stop(command *Command) []Acked {
	s.handles.Lock()
	work := s.loads[command.Handle]
	s.handles.Unlock()
	close(work.stop)
	if acked := <-work.acked; acked != nil {
		return acked
	}
	return []Acked{}
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	return "unknown"
}

// Number is the number behind the prefix of a load's value.
func Number(prefix string, value []byte) int64 {
	var number int64
	fmt.Sscanf(strings.TrimPrefix(string(value), prefix), "%d", &number)
	return number
}
