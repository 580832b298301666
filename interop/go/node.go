package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	crdt "github.com/ipfs/go-ds-crdt"
	pebbleds "github.com/ipfs/go-ds-pebble"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

const dialTimeout = 10 * time.Second

// node is a go-ds-crdt replica with everything below it: the store, the blocks
// over bitswap, and the announcements over gossipsub.
type node struct {
	backend     ds.Batching
	blocks      blockstore.Blockstore
	host        host.Host
	gate        *gate
	exchange    *bitswap.Bitswap
	dag         ipld.DAGService
	broadcaster *crdt.PubSubBroadcaster
	replica     *crdt.Datastore
	counters    *counters // nil when this node does not count

	// Ends bitswap, gossipsub and the broadcaster's subscription.
	cancelNetwork context.CancelFunc
}

func openNode(c config) (*node, error) {
	backend, err := openBackend(c.store)
	if err != nil {
		return nil, err
	}
	g := &gate{}
	h, err := openHost(c, g)
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}

	ctx, cancel := context.WithCancel(context.Background())
	n := &node{backend: backend, host: h, gate: g, cancelNetwork: cancel}
	n.blocks = blockstore.NewBlockstore(backend)
	if c.countAs != "" {
		n.counters = newCounters(c.countAs)
	}
	n.exchange = bitswap.New(ctx, bsnet.NewFromIpfsHost(h), nil, n.blocks)
	n.dag = merkledag.NewDAGService(blockservice.New(n.blocks, n.exchange))

	if err := n.openReplica(ctx, c); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

func (n *node) openReplica(ctx context.Context, c config) error {
	gossip, err := pubsub.NewGossipSub(ctx, n.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictSign))
	if err != nil {
		return err
	}
	n.broadcaster, err = crdt.NewPubSubBroadcaster(ctx, gossip, c.topic)
	if err != nil {
		return err
	}
	options := crdt.DefaultOptions()
	options.RebroadcastInterval = c.rebroadcast
	options.DAGSyncerTimeout = c.fetchTimeout
	n.replica, err = crdt.New(n.backend, ds.NewKey(c.namespace), n.dag, n.broadcaster, options)
	return err
}

// close ends the node from the top down: the subscription first, or the
// replica would wait for it.
func (n *node) close() error {
	n.cancelNetwork()
	var errs []error
	if n.replica != nil {
		errs = append(errs, n.replica.Close())
	}
	return errors.Join(append(errs, n.exchange.Close(), n.host.Close(), n.backend.Close())...)
}

func openBackend(spec string) (ds.Batching, error) {
	if spec == "memory" {
		return dssync.MutexWrap(ds.NewMapDatastore()), nil
	}
	if dir, ok := strings.CutPrefix(spec, "pebble:"); ok {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		return pebbleds.NewDatastore(dir)
	}
	return nil, fmt.Errorf("unknown store %q: memory, or pebble:DIR", spec)
}

func openHost(c config, g *gate) (host.Host, error) {
	options := []libp2p.Option{
		libp2p.ListenAddrStrings(c.listen...),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ConnectionGater(g),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	}
	if c.identity != "" {
		key, err := loadIdentity(c.identity)
		if err != nil {
			return nil, fmt.Errorf("identity %s: %w", c.identity, err)
		}
		options = append(options, libp2p.Identity(key))
	}
	if c.psk != "" {
		psk, err := loadPSK(c.psk)
		if err != nil {
			return nil, fmt.Errorf("pre-shared key %s: %w", c.psk, err)
		}
		options = append(options, libp2p.PrivateNetwork(psk))
	}
	return libp2p.New(options...)
}

func loadIdentity(path string) (crypto.PrivKey, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		return crypto.UnmarshalPrivateKey(data)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		return nil, err
	}
	if data, err = crypto.MarshalPrivateKey(key); err != nil {
		return nil, err
	}
	return key, os.WriteFile(path, data, 0o600)
}

func loadPSK(path string) (pnet.PSK, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return pnet.DecodeV1PSK(file)
}

// addresses are the ones that another node can dial, with our peer id.
func (n *node) addresses() []string {
	all := []string{}
	for _, address := range n.host.Addrs() {
		all = append(all, fmt.Sprintf("%s/p2p/%s", address, n.host.ID()))
	}
	return all
}

func (n *node) peers() []string {
	all := []string{}
	for _, id := range n.host.Network().Peers() {
		all = append(all, id.String())
	}
	return all
}

// dial opens the gate and connects to a multiaddr that names its peer.
func (n *node) dial(ctx context.Context, address string) error {
	parsed, err := ma.NewMultiaddr(address)
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromP2pAddr(parsed)
	if err != nil {
		return err
	}
	n.gate.open()
	// A dial that failed shortly before must not make this one fail untried.
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return n.host.Connect(ctx, *info)
}

// hangup closes every connection, and the gate: nobody comes in or is dialled
// until dial opens it.
func (n *node) hangup() error {
	n.gate.close()
	var errs []error
	for _, connection := range n.host.Network().Conns() {
		errs = append(errs, connection.Close())
	}
	return errors.Join(errs...)
}
