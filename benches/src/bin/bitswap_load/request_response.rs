//! The measure of bitswap: libp2p's own request-response, with a codec that does no more than it
//! must, driven by the swarms themselves.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::Block;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{Behaviour, Codec, Config, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};

use super::{Measured, Result, Stopwatch};

/// CIDs of 36 bytes there, blocks with their length in front back.
#[derive(Clone, Default)]
struct Bare;

const CID_BYTES: usize = 36;
const MOST: u64 = 4 << 20;

impl Codec for Bare {
    type Protocol = StreamProtocol;
    type Request = Vec<Cid>;
    type Response = Vec<Bytes>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<Cid>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.take(MOST).read_to_end(&mut bytes).await?;
        bytes
            .chunks(CID_BYTES)
            .map(|cid| Cid::try_from(cid).map_err(io::Error::other))
            .collect()
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<Bytes>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.take(MOST).read_to_end(&mut bytes).await?;
        let mut bytes = Bytes::from(bytes);
        let mut blocks = Vec::new();
        while let Some((len, _)) = bytes.split_first_chunk() {
            let end = 4 + u32::from_be_bytes(*len) as usize;
            if bytes.len() < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            blocks.push(bytes.split_to(end).slice(4..));
        }
        Ok(blocks)
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        cids: Vec<Cid>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes: Vec<u8> = cids.iter().flat_map(Cid::to_bytes).collect();
        io.write_all(&bytes).await?;
        io.close().await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        blocks: Vec<Bytes>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let mut bytes = Vec::with_capacity(blocks.iter().map(|block| 4 + block.len()).sum());
        for block in &blocks {
            bytes.extend((block.len() as u32).to_be_bytes());
            bytes.extend_from_slice(block);
        }
        io.write_all(&bytes).await?;
        io.close().await
    }
}

fn swarm() -> Result<Swarm<Behaviour<Bare>>> {
    let protocols = [(StreamProtocol::new("/load"), ProtocolSupport::Full)];
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_behaviour(|_| Behaviour::new(protocols, Config::default()))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build())
}

/// Asks for the blocks, one request at a time, so many in each.
pub(crate) async fn transfer(blocks: &[Block], in_request: usize) -> Result<Measured> {
    let stored: HashMap<Cid, Bytes> = blocks
        .iter()
        .map(|block| (*block.cid(), block.bytes().clone()))
        .collect();
    let mut server = swarm()?;
    server.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = server.select_next_some().await {
            break address;
        }
    };
    let serving = tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(Event::Message {
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            }) = server.select_next_some().await
            {
                let blocks = request
                    .iter()
                    .filter_map(|cid| stored.get(cid).cloned())
                    .collect();
                // It errs only if the client has gone.
                let _ = server.behaviour_mut().send_response(channel, blocks);
            }
        }
    });

    let mut client = swarm()?;
    client.dial(address)?;
    let peer = loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = client.select_next_some().await {
            break peer_id;
        }
    };
    let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
    // In a task, as the server and the nodes are: not on the thread of `main`.
    let asking = tokio::spawn(async move {
        let mut stopwatch = Stopwatch::start();
        for asked in cids.chunks(in_request) {
            client.behaviour_mut().send_request(&peer, asked.to_vec());
            loop {
                match client.select_next_some().await {
                    SwarmEvent::Behaviour(Event::Message {
                        message: Message::Response { response, .. },
                        ..
                    }) => {
                        if response.len() != asked.len() {
                            return Err("a block did not come".into());
                        }
                        stopwatch.lap();
                        break;
                    }
                    SwarmEvent::Behaviour(Event::OutboundFailure { error, .. }) => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
        }
        Ok(stopwatch.stop())
    });
    let measured = asking.await?;
    serving.abort();
    measured
}
