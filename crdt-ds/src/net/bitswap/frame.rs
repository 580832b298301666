//! Frames: a variable-length length, and so many bytes.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::wire::{WireError, read_varint};

/// Bytes read at a time, and the largest buffer that an idle stream keeps.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// Why no further frame comes from a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is larger than [`Limits::max_message_bytes`](super::Limits::max_message_bytes).
    #[error("a message of {size} bytes is above the limit of {limit}")]
    TooLarge {
        /// Bytes that the peer said it has.
        size: u64,
        /// Bytes it may have.
        limit: usize,
    },
    /// The frame has no length that can be read, or is no bitswap message.
    #[error("no bitswap message: {0}")]
    Malformed(#[from] WireError),
    /// The frame did not come, or could not be sent, in
    /// [`Limits::message_timeout`](super::Limits::message_timeout).
    #[error("the message took too long")]
    TimedOut,
    /// The stream failed, or ended inside a frame.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads frames. Between frames it waits for ever; a frame that has begun has to end in time.
pub(super) struct FrameReader<'a, S> {
    stream: S,
    /// What was read, and where in it the next frame starts.
    buffer: Vec<u8>,
    start: usize,
    max_bytes: usize,
    timeout: Duration,
    /// Shared by the streams of a peer: bytes of large frames that may be read at a time.
    budget: &'a Semaphore,
}

impl<'a, S: AsyncRead + Unpin> FrameReader<'a, S> {
    /// `budget` has to have `max_bytes` permits.
    pub(super) fn new(
        stream: S,
        max_bytes: usize,
        timeout: Duration,
        budget: &'a Semaphore,
    ) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            max_bytes,
            timeout,
            budget,
        }
    }

    /// Hands the next frame to `take`; `None` when the stream has ended between two frames.
    pub(super) async fn next<T>(
        &mut self,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, FrameError> {
        if self.unread().is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(CHUNK_BYTES);
            self.start = 0;
            if self.read_some(CHUNK_BYTES).await? == 0 {
                return Ok(None);
            }
        }
        let deadline = Instant::now() + self.timeout;
        let frame = timeout_at(deadline, self.read_frame());
        let (prefix, len, _permit) = frame.await.map_err(|_| FrameError::TimedOut)??;
        let taken = take(self.unread().get(prefix..prefix + len).unwrap_or_default());
        self.start += prefix + len;
        Ok(Some(taken))
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Reads until the next frame is whole; how long its prefix and itself are.
    async fn read_frame(
        &mut self,
    ) -> Result<(usize, usize, Option<SemaphorePermit<'a>>), FrameError> {
        let (len, prefix) = loop {
            if let Some((len, prefix)) = read_varint(self.unread())? {
                break match usize::try_from(len) {
                    Ok(len) if len <= self.max_bytes => (len, prefix),
                    _ => {
                        return Err(FrameError::TooLarge {
                            size: len,
                            limit: self.max_bytes,
                        });
                    }
                };
            }
            self.read_more(CHUNK_BYTES).await?;
        };
        let permit = match u32::try_from(len) {
            Ok(permits) if len > CHUNK_BYTES => self.budget.acquire_many(permits).await.ok(),
            _ => None,
        };
        while self.unread().len() < prefix + len {
            // The buffer grows as bytes come, whatever length was announced.
            let missing = prefix + len - self.unread().len();
            let chunk = self.unread().len().clamp(CHUNK_BYTES, 64 * CHUNK_BYTES);
            self.read_more(missing.min(chunk)).await?;
        }
        Ok((prefix, len, permit))
    }

    async fn read_more(&mut self, max: usize) -> Result<(), FrameError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        match self.read_some(max).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Appends at most `max` bytes.
    async fn read_some(&mut self, max: usize) -> Result<usize, FrameError> {
        let before = self.buffer.len();
        self.buffer.resize(before + max, 0);
        let read = match self.buffer.get_mut(before..) {
            Some(space) => self.stream.read(space).await,
            None => Ok(0),
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read?)
    }
}

/// Writes a frame that has its length in front.
pub(super) async fn write_frame<S: AsyncWrite + Unpin>(
    stream: &mut S,
    frame: &[u8],
    timeout: Duration,
) -> Result<(), FrameError> {
    let write = async {
        stream.write_all(frame).await?;
        stream.flush().await
    };
    timeout_at(Instant::now() + timeout, write)
        .await
        .map_err(|_| FrameError::TimedOut)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    const LIMIT: usize = 1 << 20;

    async fn frames(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let budget = Semaphore::new(LIMIT);
        let mut reader =
            FrameReader::new(Cursor::new(bytes), LIMIT, Duration::from_secs(5), &budget);
        let mut frames = Vec::new();
        loop {
            match reader.next(<[u8]>::to_vec).await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        super::super::wire::put_bytes(0, body, &mut frame);
        frame.remove(0);
        frame
    }

    #[tokio::test]
    async fn frames_of_every_size_come_whole() {
        let bodies: Vec<Vec<u8>> = [0, 1, 127, 128, 20_000, LIMIT, 3]
            .iter()
            .map(|len| (0..*len).map(|n| n as u8).collect())
            .collect();
        let bytes: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        let (read, error) = frames(&bytes).await;
        assert!(error.is_none());
        assert_eq!(read, bodies);
    }

    #[tokio::test]
    async fn four_gigabytes_are_refused_before_any_of_them_is_read() {
        let mut bytes = frame(b"good");
        super::super::wire::put_varint(4 << 30, &mut bytes);
        let (read, error) = frames(&bytes).await;
        assert_eq!(read, [b"good"]);
        assert!(matches!(error, Some(FrameError::TooLarge { size, .. }) if size == 4 << 30));
    }

    #[tokio::test]
    async fn a_length_that_never_ends_is_refused_at_its_eleventh_byte() {
        let (read, error) = frames(&[0xff; 64]).await;
        assert!(read.is_empty());
        assert!(matches!(
            error,
            Some(FrameError::Malformed(WireError::Overlong))
        ));
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_a_fault() {
        let bytes = frame(&[7; 300]);
        let (read, error) = frames(&bytes[..200]).await;
        assert!(read.is_empty());
        assert!(matches!(error, Some(FrameError::Io(_))));
    }

    /// Gives a few bytes and then nothing, for ever.
    struct Stalling(Vec<u8>);

    impl AsyncRead for Stalling {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            if self.0.is_empty() {
                return std::task::Poll::Pending;
            }
            let len = self.0.len().min(buf.len());
            buf[..len].copy_from_slice(&self.0[..len]);
            self.0.drain(..len);
            std::task::Poll::Ready(Ok(len))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_go_on_times_out_and_its_announced_length_takes_no_memory() {
        let mut bytes = Vec::new();
        super::super::wire::put_varint(LIMIT as u64, &mut bytes);
        bytes.extend([1, 2, 3]);
        let budget = Semaphore::new(LIMIT);
        let mut reader = FrameReader::new(Stalling(bytes), LIMIT, Duration::from_secs(5), &budget);
        let result = reader.next(<[u8]>::to_vec).await;
        assert!(matches!(result, Err(FrameError::TimedOut)));
        assert!(reader.buffer.capacity() <= 2 * CHUNK_BYTES);
        assert_eq!(budget.available_permits(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_of_one_peer_are_read_one_after_another() {
        let budget = Semaphore::new(LIMIT);
        let held = budget.acquire_many(LIMIT as u32).await.unwrap();
        let bytes = frame(&[1; 100_000]);
        let mut reader =
            FrameReader::new(Cursor::new(&bytes), LIMIT, Duration::from_secs(5), &budget);
        assert!(matches!(
            reader.next(<[u8]>::to_vec).await,
            Err(FrameError::TimedOut)
        ));
        drop(held);
        assert_eq!(reader.next(<[u8]>::len).await.unwrap(), Some(100_000));
    }
}
