//! The tasks of one connected peer: one that sends, and one for each stream that it opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cid::Cid;
use futures::AsyncWriteExt;
use libp2p::{PeerId, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::behaviour::{Event, Misbehaviour};
use super::exchange::{Exchange, Link};
use super::frame::{FrameError, FrameReader, write_frame};
use super::handler::{OpenError, Opened};
use super::ledger::Due;
use super::message::{
    BLOCK_OVERHEAD, ENTRY_BYTES, Message, Part, Parts, Presence, WantEntry, WantKind, hash,
};
use crate::block::Block;

/// Asks the behaviour to open a stream to a peer.
pub(super) struct OpenRequest {
    pub(super) peer: PeerId,
    pub(super) reply: oneshot::Sender<Result<Opened, OpenError>>,
}

/// The first wait before a stream that failed is opened again, and the longest.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long an outgoing stream is kept without use. An open one keeps its connection alive.
const IDLE_STREAM: Duration = Duration::from_secs(60);

/// Reads the messages of a stream that the peer opened, until it ends or fails.
pub(super) async fn receive(
    exchange: Arc<Exchange>,
    link: Arc<Link>,
    stream: Stream,
    events: mpsc::Sender<Event>,
) {
    let limits = &exchange.limits;
    let mut reader = FrameReader::new(
        stream,
        limits.max_message_bytes,
        limits.message_timeout,
        &link.budget,
    );
    let fault = loop {
        match reader
            .next(|frame| take_message(&exchange, &link, frame))
            .await
        {
            Ok(Some(Ok(0))) => {}
            Ok(Some(Ok(blocks))) => {
                report(&events, &link, Misbehaviour::UnwantedBlocks(blocks));
            }
            Ok(Some(Err(fault))) | Err(fault) => break fault,
            Ok(None) => return,
        }
        // Frames that lie in the buffer are no reason to keep other tasks from running.
        tokio::task::coop::consume_budget().await;
    };
    if !matches!(fault, FrameError::Io(_)) {
        report(&events, &link, Misbehaviour::BadMessage(fault));
    }
}

fn report(events: &mpsc::Sender<Event>, link: &Link, misbehaviour: Misbehaviour) {
    // Who does not read its events misses some; what they are about is counted as well.
    let _ = events.try_send(Event {
        peer: link.peer,
        misbehaviour,
    });
}

/// Takes what a message brings, and says how many blocks in it nobody wants.
fn take_message(exchange: &Exchange, link: &Link, message: &[u8]) -> Result<u64, FrameError> {
    let now = Instant::now();
    let expected = exchange.client().expects_of(&link.peer);
    let (mut blocks, mut presences, mut unwanted) = (Vec::new(), Vec::new(), 0);
    let mut fault = None;
    for part in Parts::new(message) {
        match part {
            Ok(Part::Wantlist(list)) => {
                let mut ledger = link.ledger();
                let taken = list.is_full().and_then(|full| {
                    if full {
                        ledger.clear();
                    }
                    list.entries().try_for_each(|entry| {
                        ledger.receive(&entry?, now);
                        Ok(())
                    })
                });
                if ledger.has_due() {
                    link.work.notify_one();
                }
                fault = taken.err();
            }
            Ok(Part::Block(format, data)) if expected => match hash(format, data) {
                Some(block) => blocks.push(block),
                None => unwanted += 1,
            },
            Ok(Part::Block(..)) => unwanted += 1,
            Ok(Part::Presence(cid, presence)) if expected => {
                if presences.len() < exchange.limits.max_wants_at_peer {
                    presences.push((cid, presence));
                }
            }
            Ok(Part::Presence(..) | Part::Foreign) => {}
            Err(error) => fault = Some(error),
        }
    }
    let (mut blocks_in, mut bytes_in) = (0, 0);
    if !blocks.is_empty() || !presences.is_empty() {
        let mut client = exchange.client();
        for block in blocks {
            let bytes = block.bytes().len() as u64;
            if client.block(&link.peer, block) {
                blocks_in += 1;
                bytes_in += bytes;
            } else {
                unwanted += 1;
            }
        }
        for (cid, presence) in presences {
            client.presence(link.peer, &cid, presence, now);
        }
    }
    link.traffic
        .blocks_in
        .fetch_add(blocks_in, Ordering::Relaxed);
    link.traffic.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
    link.traffic.unwanted.fetch_add(unwanted, Ordering::Relaxed);
    fault.map_or(Ok(unwanted), |fault| Err(fault.into()))
}

/// Sends a peer our wants and the answers to its own, until its connections are gone.
pub(super) async fn send(
    exchange: Arc<Exchange>,
    link: Arc<Link>,
    requests: mpsc::UnboundedSender<OpenRequest>,
) {
    let mut sender = Sender {
        exchange,
        link,
        requests,
        opened: None,
        carried: None,
        failures: 0,
    };
    loop {
        if timeout(IDLE_STREAM, sender.link.work.notified())
            .await
            .is_err()
        {
            sender.close().await;
            sender.link.ledger().expire(Instant::now());
            continue;
        }
        while let Some(message) = sender.next_message().await {
            if !sender.deliver(message).await {
                return;
            }
        }
    }
}

struct Sender {
    exchange: Arc<Exchange>,
    link: Arc<Link>,
    requests: mpsc::UnboundedSender<OpenRequest>,
    opened: Option<Opened>,
    /// A block that did not fit into the last reply.
    carried: Option<Block>,
    failures: u32,
}

impl Sender {
    async fn next_message(&mut self) -> Option<Message> {
        let mut message = Message::default();
        if let Some(wantlist) = self.exchange.client().wantlist(&self.link.peer) {
            (message.full, message.wants) =
                wantlist.take_untold(self.exchange.limits.max_wants_at_peer);
        }
        self.add_reply(&mut message).await;
        (!message.is_empty()).then_some(message)
    }

    /// Adds what the peer wants, until the reply is large enough.
    async fn add_reply(&mut self, message: &mut Message) {
        let limits = &self.exchange.limits;
        let mut size = message.wants.len() * ENTRY_BYTES;
        if let Some(block) = self.carried.take() {
            size += block.bytes().len();
            message.blocks.push(block);
        }
        while size < limits.reply_bytes {
            let due = self.link.ledger().next_due(Instant::now());
            let (cid, kind) = match due {
                Some(Due::LookUp(cid, kind)) => (cid, kind),
                Some(Due::Refuse(cid)) => {
                    message.presences.push((cid, Presence::DontHave));
                    size += ENTRY_BYTES;
                    continue;
                }
                None => return,
            };
            match servable_block(&self.exchange, &cid).await {
                Some(block)
                    if kind == WantKind::Block
                        || block.bytes().len() <= limits.have_becomes_block_bytes =>
                {
                    self.link.ledger().answered(&cid, WantKind::Block);
                    let block_size = block.bytes().len() + BLOCK_OVERHEAD;
                    if size > 0 && size + block_size > limits.reply_bytes {
                        self.carried = Some(block);
                        self.link.work.notify_one();
                        return;
                    }
                    size += block_size;
                    message.blocks.push(block);
                }
                Some(_) => {
                    self.link.ledger().answered(&cid, WantKind::Have);
                    message.presences.push((cid, Presence::Have));
                    size += ENTRY_BYTES;
                }
                None if self.link.ledger().not_here(&cid) => {
                    message.presences.push((cid, Presence::DontHave));
                    size += ENTRY_BYTES;
                }
                None => {}
            }
        }
        self.link.work.notify_one();
    }

    /// Sends a message; on a new stream if the one there was has failed. Whether to go on.
    async fn deliver(&mut self, message: Message) -> bool {
        let limit = self.exchange.limits.message_timeout;
        let opened = match self.open().await {
            Ok(opened) => opened,
            Err(OpenError::Unsupported) => {
                tracing::debug!(peer = %self.link.peer, "peer does not speak bitswap");
                self.exchange
                    .client()
                    .peer_left(&self.link.peer, Instant::now());
                self.link.ledger().clear();
                self.carried = None;
                return false;
            }
            Err(OpenError::Failed) => return self.retry_later(message).await,
        };
        let frame = message.encode(opened.version);
        let stream = &mut opened.stream;
        match write_frame(stream, &frame, limit).await {
            Ok(()) => {
                self.failures = 0;
                let bytes: usize = message.blocks.iter().map(|block| block.bytes().len()).sum();
                let traffic = &self.link.traffic;
                traffic
                    .blocks_out
                    .fetch_add(message.blocks.len() as u64, Ordering::Relaxed);
                traffic.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::debug!(peer = %self.link.peer, %error, "could not send");
                self.opened = None;
                self.retry_later(message).await
            }
        }
    }

    /// The stream that is there, or a new one, on which everything has to be said anew.
    async fn open(&mut self) -> Result<&mut Opened, OpenError> {
        if self.opened.is_none() {
            let (reply, opened) = oneshot::channel();
            let request = OpenRequest {
                peer: self.link.peer,
                reply,
            };
            self.requests.send(request).map_err(|_| OpenError::Failed)?;
            let opened = opened.await.map_err(|_| OpenError::Failed)??;
            self.opened = Some(opened);
        }
        self.opened.as_mut().ok_or(OpenError::Failed)
    }

    /// Takes back what could not be sent. The peer gets it on the next stream, unless it asks for
    /// something else by then.
    async fn retry_later(&mut self, message: Message) -> bool {
        if let Some(wantlist) = self.exchange.client().wantlist(&self.link.peer) {
            wantlist.start_over();
        }
        let now = Instant::now();
        for block in message.blocks {
            let want = WantEntry {
                cid: *block.cid(),
                kind: WantKind::Block,
                cancel: false,
                send_dont_have: false,
            };
            self.link.ledger().receive(&want, now);
        }
        self.failures += 1;
        sleep((RETRY_AFTER.0 * 2u32.saturating_pow(self.failures - 1)).min(RETRY_AFTER.1)).await;
        self.link.work.notify_one();
        true
    }

    async fn close(&mut self) {
        if let Some(mut opened) = self.opened.take() {
            let _ = timeout(self.exchange.limits.message_timeout, opened.stream.close()).await;
        }
    }
}

/// A stored block, if it fits into a message.
async fn servable_block(exchange: &Exchange, cid: &Cid) -> Option<Block> {
    let bytes = exchange.stored_block(cid).await?;
    if bytes.len() + BLOCK_OVERHEAD > exchange.limits.max_message_bytes {
        tracing::warn!(%cid, bytes = bytes.len(), "a block is too large for bitswap");
        return None;
    }
    Some(Block::trusted(*cid, bytes))
}
