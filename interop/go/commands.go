package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	crdtpb "github.com/ipfs/go-ds-crdt/pb"
	ipld "github.com/ipfs/go-ipld-format"
	"google.golang.org/protobuf/proto"
)

// reply is one answer: a JSON object.
type reply map[string]any

var done = reply{"ok": true}

// command answers the rest of its line.
type command func(n *node, ctx context.Context, rest string) (reply, error)

var commands = map[string]command{
	"put":      put,      // put K V: V is the rest of the line
	"puthex":   putHex,   // puthex K HEX
	"putn":     putN,     // putn PREFIX N: N deltas of one put each
	"get":      get,      // get K → {"value": V or null}
	"gethex":   getHex,   // gethex K → {"value": HEX or null}
	"del":      del,      // del K
	"batch":    batch,    // batch K=V … -K …: one delta
	"list":     list,     // list [PREFIX] → {"state": {K: V}}
	"listhex":  listHex,  // listhex [PREFIX] → {"state": {K: HEX}}
	"count":    count,    // count [PREFIX] → {"count": N}
	"heads":    heads,    // heads → {"heads": [CID], "height": N, "dirty": BOOL}
	"repair":   repair,   // repair: walks the whole DAG for what is missing
	"peers":    peers,    // peers → {"peers": [ID]}
	"dial":     dial,     // dial ADDR
	"hangup":   hangup,   // hangup: no connection until dial
	"block":    block,    // block CID → {"block": HEX or null}, without asking the network
	"rawblock": rawBlock, // rawblock CID,CID,…|- HEXDATA → {"cid": CID}: stored, not merged
	"announce": announce, // announce CID: as the head of our DAG
	"forget":   forget,   // forget CID: from now on we cannot serve it
	"add":      add,      // add SUBJECT STAT N
	"subtract": subtract, // subtract SUBJECT STAT N
	"total":    total,    // total SUBJECT STAT → {"total": N}, never below zero
	"quit":     nil,      // answered, then the node closes
}

// answer runs one line. It reports whether the line was "quit".
func (n *node) answer(ctx context.Context, line string) (answer reply, quit bool) {
	name, rest, _ := strings.Cut(line, " ")
	run, known := commands[name]
	if !known {
		return failed(fmt.Errorf("unknown command %q", name)), false
	}
	if run == nil {
		return done, true
	}
	answer, err := run(n, ctx, rest)
	if err != nil {
		return failed(err), false
	}
	return answer, false
}

func failed(err error) reply { return reply{"error": err.Error()} }

// ok is the answer of a command that has nothing else to say.
func ok(err error) (reply, error) { return done, err }

func put(n *node, ctx context.Context, rest string) (reply, error) {
	key, value, _ := strings.Cut(rest, " ")
	return ok(n.replica.Put(ctx, ds.NewKey(key), []byte(value)))
}

func putHex(n *node, ctx context.Context, rest string) (reply, error) {
	key, digits, _ := strings.Cut(rest, " ")
	value, err := hex.DecodeString(digits)
	if err != nil {
		return nil, err
	}
	return ok(n.replica.Put(ctx, ds.NewKey(key), value))
}

// putN writes PREFIX/0 to PREFIX/N-1, each with its index in 100 digits.
func putN(n *node, ctx context.Context, rest string) (reply, error) {
	prefix, number, _ := strings.Cut(rest, " ")
	total, err := strconv.Atoi(number)
	if err != nil {
		return nil, err
	}
	for i := range total {
		key := ds.NewKey(prefix).ChildString(strconv.Itoa(i))
		if err := n.replica.Put(ctx, key, fmt.Appendf(nil, "%0100d", i)); err != nil {
			return nil, err
		}
	}
	return done, nil
}

func get(n *node, ctx context.Context, key string) (reply, error) {
	return getAs(n, ctx, key, asText)
}

func getHex(n *node, ctx context.Context, key string) (reply, error) {
	return getAs(n, ctx, key, hex.EncodeToString)
}

func getAs(n *node, ctx context.Context, key string, show func([]byte) string) (reply, error) {
	value, err := n.replica.Get(ctx, ds.NewKey(key))
	if errors.Is(err, ds.ErrNotFound) {
		return reply{"value": nil}, nil
	}
	return reply{"value": show(value)}, err
}

func del(n *node, ctx context.Context, key string) (reply, error) {
	return ok(n.replica.Delete(ctx, ds.NewKey(key)))
}

func batch(n *node, ctx context.Context, rest string) (reply, error) {
	b, err := n.replica.Batch(ctx)
	if err != nil {
		return nil, err
	}
	changes := strings.Fields(rest)
	for _, change := range changes {
		if _, _, ok := strings.Cut(change, "="); !ok && !strings.HasPrefix(change, "-") {
			return nil, fmt.Errorf("neither K=V nor -K: %q", change)
		}
	}
	for _, change := range changes {
		if key, value, ok := strings.Cut(change, "="); ok {
			err = b.Put(ctx, ds.NewKey(key), []byte(value))
		} else {
			err = b.Delete(ctx, ds.NewKey(strings.TrimPrefix(change, "-")))
		}
		if err != nil {
			return nil, err
		}
	}
	return ok(b.Commit(ctx))
}

func list(n *node, ctx context.Context, prefix string) (reply, error) {
	return listAs(n, ctx, prefix, asText)
}

func listHex(n *node, ctx context.Context, prefix string) (reply, error) {
	return listAs(n, ctx, prefix, hex.EncodeToString)
}

func listAs(n *node, ctx context.Context, prefix string, show func([]byte) string) (reply, error) {
	entries, err := n.entries(ctx, prefix)
	if err != nil {
		return nil, err
	}
	state := map[string]string{}
	for _, entry := range entries {
		state[entry.Key] = show(entry.Value)
	}
	return reply{"state": state}, nil
}

func count(n *node, ctx context.Context, prefix string) (reply, error) {
	entries, err := n.entries(ctx, prefix)
	return reply{"count": len(entries)}, err
}

func (n *node) entries(ctx context.Context, prefix string) ([]query.Entry, error) {
	results, err := n.replica.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	return results.Rest()
}

func asText(value []byte) string { return string(value) }

func heads(n *node, ctx context.Context, _ string) (reply, error) {
	stats := n.replica.InternalStats(ctx)
	all := []string{}
	for _, head := range stats.Heads {
		all = append(all, head.String())
	}
	return reply{"heads": all, "height": stats.MaxHeight, "dirty": n.replica.IsDirty(ctx)}, nil
}

func repair(n *node, ctx context.Context, _ string) (reply, error) {
	return ok(n.replica.Repair(ctx))
}

func peers(n *node, _ context.Context, _ string) (reply, error) {
	return reply{"peers": n.peers()}, nil
}

func dial(n *node, ctx context.Context, address string) (reply, error) {
	return ok(n.dial(ctx, address))
}

func hangup(n *node, _ context.Context, _ string) (reply, error) {
	return ok(n.hangup())
}

func block(n *node, ctx context.Context, text string) (reply, error) {
	c, err := cid.Decode(text)
	if err != nil {
		return nil, err
	}
	stored, err := n.blocks.Get(ctx, c)
	if ipld.IsNotFound(err) {
		return reply{"block": nil}, nil
	}
	if err != nil {
		return nil, err
	}
	return reply{"block": hex.EncodeToString(stored.RawData())}, nil
}

// rawBlock stores a block that no replica would make: any links, any data.
func rawBlock(n *node, ctx context.Context, rest string) (reply, error) {
	links, digits, _ := strings.Cut(rest, " ")
	data, err := hex.DecodeString(digits)
	if err != nil {
		return nil, err
	}
	made := merkledag.NodeWithData(data)
	if err := made.SetCidBuilder(merkledag.V1CidPrefix()); err != nil {
		return nil, err
	}
	if links != "-" {
		for text := range strings.SplitSeq(links, ",") {
			c, err := cid.Decode(text)
			if err != nil {
				return nil, err
			}
			if err := made.AddRawLink("", &ipld.Link{Cid: c}); err != nil {
				return nil, err
			}
		}
	}
	return reply{"cid": made.Cid().String()}, n.dag.Add(ctx, made)
}

func announce(n *node, ctx context.Context, text string) (reply, error) {
	c, err := cid.Decode(text)
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(&crdtpb.CRDTBroadcast{Heads: []*crdtpb.Head{{Cid: c.Bytes()}}})
	if err != nil {
		return nil, err
	}
	return ok(n.broadcaster.Broadcast(ctx, payload))
}

func forget(n *node, ctx context.Context, text string) (reply, error) {
	c, err := cid.Decode(text)
	if err != nil {
		return nil, err
	}
	return ok(n.dag.Remove(ctx, c))
}
