package main

import (
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gate lets every connection pass, or none: while it is shut the node is
// partitioned from the network. It starts open.
type gate struct {
	shut atomic.Bool
}

var _ connmgr.ConnectionGater = (*gate)(nil)

func (g *gate) open()  { g.shut.Store(false) }
func (g *gate) close() { g.shut.Store(true) }

func (g *gate) InterceptPeerDial(peer.ID) bool               { return !g.shut.Load() }
func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return !g.shut.Load() }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool  { return !g.shut.Load() }

func (g *gate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return !g.shut.Load()
}

func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) {
	return !g.shut.Load(), 0
}
