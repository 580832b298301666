use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cid::Cid;
use futures::Stream;
use libp2p::PeerId;
use tokio::time::{Instant, Sleep, sleep};

use super::client::FetchId;
use super::exchange::Exchange;
use crate::sync::FetchEvent;

/// The events of a fetch. It keeps the fetch's time, and withdraws it when it is dropped.
pub(super) struct Fetch {
    exchange: Arc<Exchange>,
    id: FetchId,
    events: VecDeque<FetchEvent>,
    interval: Duration,
    tick: Option<Pin<Box<Sleep>>>,
}

impl Fetch {
    pub(super) fn new(exchange: Arc<Exchange>, cids: Vec<Cid>, hint: Option<PeerId>) -> Self {
        let mut client = exchange.client();
        let id = client.open(cids, hint, Instant::now());
        let interval = client.tick_interval();
        drop(client);
        Self {
            exchange,
            id,
            events: VecDeque::new(),
            interval,
            tick: None,
        }
    }
}

impl Stream for Fetch {
    type Item = FetchEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FetchEvent>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            let mut client = this.exchange.client();
            match client.take_events(this.id, cx.waker(), Instant::now()) {
                Poll::Ready(Some(events)) => {
                    this.events = events;
                    continue;
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            drop(client);
            let tick = this
                .tick
                .get_or_insert_with(|| Box::pin(sleep(this.interval)));
            if tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            tick.as_mut().reset(Instant::now() + this.interval);
            this.exchange.client().tick(this.id, Instant::now());
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.exchange.client().drop_fetch(self.id);
    }
}
