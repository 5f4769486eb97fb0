//! Bytes in the messages of a WebSocket, where they begin and end without meaning.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, Event};
use crate::streaming::channels::{Error, Role, Transport};
use crate::streaming::codec::PIECE;

/// A connection through the messages of a WebSocket.
pub struct Tunnel<T> {
    io: T,
    websocket: Connection,
    chunk: Box<[u8]>,
    /// What came and was not read, from `read` on.
    came: Vec<u8>,
    read: usize,
    closed: bool,
}

impl<T: Transport> Tunnel<T> {
    /// Through this connection, which was upgraded to a WebSocket.
    pub fn new(io: T, role: Role) -> Result<Self, Error> {
        let websocket = Connection::new(role)?;
        Ok(Self { io, websocket, chunk: vec![0; PIECE].into(), came: Vec::new(), read: 0, closed: false })
    }

    /// Writes what the codec has to say.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = self.websocket.output();
        while !output.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, output))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => drop(output.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, count: usize) -> Result<(), Error> {
        let mut bytes = &mut self.chunk[..count];
        while let Some(event) = self.websocket.receive(&mut bytes)? {
            match event {
                Event::Message { bytes, .. } => self.came.extend_from_slice(bytes),
                Event::Closed { .. } => self.closed = true,
            }
        }
        Ok(())
    }
}

impl<T: Transport> AsyncRead for Tunnel<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let rest = &this.came[this.read..];
            if !rest.is_empty() || this.closed {
                let count = rest.len().min(into.remaining());
                into.put_slice(&rest[..count]);
                this.read += count;
                return Poll::Ready(Ok(()));
            }
            this.came.clear();
            this.read = 0;
            let mut buffer = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let taken = this.take(count);
            // Answers to pings go at once if they can, and with what is written next otherwise; more than a few
            // wait for that.
            if let Poll::Ready(result) = this.poll_output(cx) {
                result?;
            } else if this.websocket.output().len() > PIECE {
                taken?;
                return Poll::Pending;
            }
            taken?;
        }
    }
}

impl<T: Transport> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_output(cx))?;
        let count = bytes.len().min(PIECE);
        self.websocket.send_binary(&[&bytes[..count]]);
        // It is taken; what cannot go now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_output(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_output(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.websocket.close();
        ready!(self.poll_output(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
