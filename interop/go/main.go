// Command node runs a go-ds-crdt replica on a libp2p host of its own, and does
// what the lines on its standard input say: the Go side of the live tests.
//
// It speaks the protocol of the Rust example "node --json": the first line on
// standard output is {"listening": [ADDR, …]}, then each command line is
// answered, in order, by one JSON object on a line. A command that fails is
// answered {"error": "…"}, and the next one is read. At the end of input the
// node closes and leaves. See commands.go for the commands.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// repeated is a flag that may be given many times.
type repeated []string

func (r *repeated) String() string { return strings.Join(*r, ",") }

func (r *repeated) Set(value string) error {
	*r = append(*r, value)
	return nil
}

type config struct {
	store        string
	topic        string
	namespace    string
	listen       repeated
	dial         repeated
	identity     string
	psk          string
	countAs      string
	rebroadcast  time.Duration
	fetchTimeout time.Duration
}

func parseFlags() config {
	var c config
	var rebroadcast, fetchTimeout float64
	flag.StringVar(&c.store, "store", "memory", "where the replica lives: memory, or pebble:DIR")
	flag.StringVar(&c.topic, "topic", "crdt-interop", "the gossipsub topic of announcements")
	flag.StringVar(&c.namespace, "namespace", "/crdt", "the datastore prefix of the replica's records")
	flag.Var(&c.listen, "listen", "a multiaddr to listen on (repeatable; default: any TCP port of 127.0.0.1)")
	flag.Var(&c.dial, "dial", "a multiaddr, with /p2p/, to connect to at the start (repeatable)")
	flag.StringVar(&c.identity, "identity", "", "the file of the host's key, made if it is not there (default: a fresh key)")
	flag.StringVar(&c.psk, "psk", "", "the file of the private network's key (swarm.key)")
	flag.StringVar(&c.countAs, "count-as", "", "the node id to count under: enables add and subtract")
	flag.Float64Var(&rebroadcast, "rebroadcast", 60, "seconds between announcements of unchanged heads")
	flag.Float64Var(&fetchTimeout, "fetch-timeout", 300, "seconds until the fetch of a block is given up")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	if len(c.listen) == 0 {
		c.listen = repeated{"/ip4/127.0.0.1/tcp/0"}
	}
	c.rebroadcast = time.Duration(rebroadcast * float64(time.Second))
	c.fetchTimeout = time.Duration(fetchTimeout * float64(time.Second))
	return c
}

func main() {
	if err := run(parseFlags()); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	ctx := context.Background()
	n, err := openNode(c)
	if err != nil {
		return err
	}
	serveErr := serve(ctx, n, c.dial)
	return errors.Join(serveErr, n.close())
}

// serve prints the addresses, connects, and answers commands until "quit" or
// the end of input.
func serve(ctx context.Context, n *node, dial []string) error {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	if err := out.Encode(reply{"listening": n.addresses()}); err != nil {
		return err
	}
	for _, address := range dial {
		if err := n.dial(ctx, address); err != nil {
			fmt.Fprintf(os.Stderr, "node: %s: %v\n", address, err)
		}
	}

	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		answer, quit := n.answer(ctx, strings.TrimRight(line, "\r\n"))
		if err := out.Encode(answer); err != nil {
			return err
		}
		if quit {
			return nil
		}
	}
}
