use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::Block;
use crdt_ds::net::bitswap::Limits;
use crdt_ds::net::{Node, peer_name};
use crdt_ds::sync::{BlockSource, PeerDigests, ServeBlocks};
use futures::StreamExt;

use super::{Measured, Result, Stopwatch};

struct Blocks(HashMap<Cid, Bytes>);

#[async_trait]
impl ServeBlocks for Blocks {
    async fn block(&self, cid: &Cid) -> Option<Bytes> {
        self.0.get(cid).cloned()
    }

    async fn digests(&self) -> Option<PeerDigests> {
        None
    }
}

/// Fetches the blocks, so many of them in flight.
pub(crate) async fn transfer(blocks: &[Block], in_flight: usize) -> Result<Measured> {
    let listen = "/ip4/127.0.0.1/tcp/0".parse()?;
    let server = Node::builder().listen(listen).start().await?;
    let stored = blocks
        .iter()
        .map(|block| (*block.cid(), block.bytes().clone()))
        .collect();
    let stored: Arc<dyn ServeBlocks> = Arc::new(Blocks(stored));
    let served = server.topic("load");
    served
        .fetcher
        .serve(BlockSource::new(Arc::downgrade(&stored)));

    let limits = Limits {
        fetch_window: in_flight,
        ..Limits::default()
    };
    let client = Node::builder().bitswap(limits).start().await?;
    let address = server
        .listening()
        .await?
        .into_iter()
        .next()
        .ok_or("it does not listen")?;
    let peer = peer_name(&client.dial(address).await?);
    let fetcher = client.topic("load").fetcher;

    let cids = blocks.iter().map(|block| *block.cid()).collect();
    let mut stopwatch = Stopwatch::start();
    let mut events = fetcher.fetch(cids, Some(peer));
    while let Some(event) = events.next().await {
        event.result?;
        stopwatch.lap();
    }
    let measured = stopwatch.stop();
    client.close().await;
    server.close().await;
    Ok(measured)
}
