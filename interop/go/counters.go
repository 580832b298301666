package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	ds "github.com/ipfs/go-datastore"
)

// Where what was added lies, and what was subtracted:
// /STATS/{incr|decr}/{data key}/{node}/{generation}, 8 bytes, big-endian.
var (
	incr = ds.NewKey("/STATS/incr")
	decr = ds.NewKey("/STATS/decr")
)

// dataRoots are what the data keys of the stats begin with; the subject follows.
var dataRoots = map[string]ds.Key{
	"likes":    ds.NewKey("/LIKES/INCR"),
	"retweets": ds.NewKey("/TWEETS/RETWEETSCOUNT"),
	"replies":  ds.NewKey("/TWEETS/TWEETSCOUNT"),
	"views":    ds.NewKey("/TWEETS/VIEWS"),
}

// counters is who counts: one process of a node. It writes only the slots of
// its generation, so it knows what they hold.
type counters struct {
	node       string
	generation string
	written    map[ds.Key]uint64
}

func newCounters(node string) *counters {
	var generation [16]byte
	rand.Read(generation[:]) // never fails
	return &counters{
		node:       node,
		generation: hex.EncodeToString(generation[:]),
		written:    map[ds.Key]uint64{},
	}
}

func add(n *node, ctx context.Context, rest string) (reply, error) {
	return grow(n, ctx, incr, rest)
}

func subtract(n *node, ctx context.Context, rest string) (reply, error) {
	return grow(n, ctx, decr, rest)
}

// grow adds to the slot of this process on one side of a counter.
func grow(n *node, ctx context.Context, side ds.Key, rest string) (reply, error) {
	if n.counters == nil {
		return nil, errors.New("nobody counts here: start the node with -count-as")
	}
	counter, number, _ := cutLast(rest)
	data, err := dataKey(counter)
	if err != nil {
		return nil, err
	}
	amount, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, err
	}
	slot := side.Child(data).ChildString(n.counters.node).ChildString(n.counters.generation)
	sum := n.counters.written[slot] + amount
	if err := n.replica.Put(ctx, slot, binary.BigEndian.AppendUint64(nil, sum)); err != nil {
		return nil, err
	}
	n.counters.written[slot] = sum
	return done, nil
}

func total(n *node, ctx context.Context, rest string) (reply, error) {
	data, err := dataKey(rest)
	if err != nil {
		return nil, err
	}
	up, err := n.sum(ctx, incr.Child(data))
	if err != nil {
		return nil, err
	}
	down, err := n.sum(ctx, decr.Child(data))
	if err != nil {
		return nil, err
	}
	return reply{"total": up - min(up, down)}, nil
}

// sum adds up one side of a counter, over all nodes and their generations.
func (n *node) sum(ctx context.Context, side ds.Key) (uint64, error) {
	entries, err := n.entries(ctx, side.String())
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, entry := range entries {
		if len(entry.Value) != 8 {
			return 0, fmt.Errorf("%s holds %d bytes, not 8", entry.Key, len(entry.Value))
		}
		sum += binary.BigEndian.Uint64(entry.Value)
	}
	return sum, nil
}

// dataKey is the data key of "SUBJECT STAT".
func dataKey(counter string) (ds.Key, error) {
	subject, stat, _ := cutLast(counter)
	root, known := dataRoots[stat]
	if !known || subject == "" {
		return ds.Key{}, fmt.Errorf("not a subject and a stat of it: %q", counter)
	}
	return root.ChildString(subject), nil
}

// cutLast cuts around the last space.
func cutLast(text string) (before, after string, found bool) {
	at := strings.LastIndexByte(text, ' ')
	if at < 0 {
		return "", text, false
	}
	return text[:at], text[at+1:], true
}
