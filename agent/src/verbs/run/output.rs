//! Where lines go: one thread writes them, so that a slow or stopped terminal holds up the output alone.

use std::io::{self, Write};

use tokio::sync::{mpsc, oneshot, watch};

/// Lines that wait for the terminal; whoever has more waits as well.
const QUEUE: usize = 1024;

/// One or more whole lines.
#[derive(Debug)]
pub struct Chunk {
    /// For standard error.
    pub stderr: bool,
    /// The lines with their newlines.
    pub bytes: Vec<u8>,
}

/// A way to the writing thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Output {
    queue: mpsc::Sender<Chunk>,
    abandoned: watch::Receiver<bool>,
}

/// The other end.
#[derive(Debug)]
pub struct Printing {
    done: oneshot::Receiver<()>,
    abandoned: watch::Receiver<bool>,
    /// True once nobody reads our standard output.
    pub closed: watch::Receiver<bool>,
}

/// Starts the thread. Once `abandoned` is true nothing waits for it any more, and what it cannot write is lost.
pub fn start(abandoned: watch::Receiver<bool>) -> (Output, Printing) {
    let (queue, lines) = mpsc::channel(QUEUE);
    let (closed_sender, closed) = watch::channel(false);
    let (finished, done) = oneshot::channel();
    std::thread::spawn(move || {
        // Locked for each write only: a log line or a panic of another thread has to get through as well.
        print(lines, &mut io::stdout(), &mut io::stderr(), &closed_sender);
        // Nobody waits any more when this fails.
        let _ = finished.send(());
    });
    (Output { queue, abandoned: abandoned.clone() }, Printing { done, abandoned, closed })
}

impl Output {
    /// Sends lines.
    pub async fn send(&self, stderr: bool, bytes: Vec<u8>) {
        let mut abandoned = self.abandoned.clone();
        tokio::select! {
            biased;
            // It fails when the thread is gone, and then there is no output at all.
            _ = self.queue.send(Chunk { stderr, bytes }) => {}
            () = given_up(&mut abandoned) => {}
        }
    }

    /// Sends one line to standard error.
    pub async fn say(&self, line: &str) {
        self.send(true, format!("{line}\n").into_bytes()).await;
    }
}

impl Printing {
    /// Waits until everything is written. Every [`Output`] has to be gone by then.
    pub async fn finish(mut self) {
        tokio::select! {
            _ = self.done => {}
            () = given_up(&mut self.abandoned) => {}
        }
    }
}

/// Returns once `abandoned` is true: never, when nobody is left to say so.
async fn given_up(abandoned: &mut watch::Receiver<bool>) {
    if abandoned.wait_for(|abandoned| *abandoned).await.is_err() {
        std::future::pending().await
    }
}

fn print(mut lines: mpsc::Receiver<Chunk>, out: &mut dyn Write, err: &mut dyn Write, closed: &watch::Sender<bool>) {
    let mut out = io::BufWriter::with_capacity(64 * 1024, out);
    while let Some(chunk) = lines.blocking_recv() {
        let result = if chunk.stderr {
            // What came before on standard output stays before it on a terminal.
            let flushed = out.flush();
            // Standard error is for people; when they are gone nothing is lost.
            let _ = err.write_all(&chunk.bytes);
            flushed
        } else {
            let written = out.write_all(&chunk.bytes);
            if lines.is_empty() { written.and_then(|()| out.flush()) } else { written }
        };
        if result.is_err() {
            closed.send_replace(true);
        }
    }
    if out.flush().is_err() {
        closed.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(out: &mut dyn Write, chunks: &[(bool, &str)]) -> (String, bool) {
        let (queue, lines) = mpsc::channel(16);
        for (stderr, text) in chunks {
            queue.try_send(Chunk { stderr: *stderr, bytes: text.as_bytes().to_vec() }).unwrap();
        }
        drop(queue);
        let (closed, seen) = watch::channel(false);
        let mut err = Vec::new();
        print(lines, out, &mut err, &closed);
        let closed = *seen.borrow();
        (String::from_utf8(err).unwrap(), closed)
    }

    #[test]
    fn lines_go_to_their_stream() {
        let mut out = Vec::new();
        let (err, closed) = printed(&mut out, &[(false, "a\n"), (true, "b\n"), (false, "c\n")]);
        assert_eq!((out.as_slice(), err.as_str(), closed), (&b"a\nc\n"[..], "b\n", false));
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed_and_standard_error_goes_on() {
        let (err, closed) = printed(&mut Broken, &[(false, "a\n"), (true, "b\n"), (true, "c\n")]);
        assert_eq!((err.as_str(), closed), ("b\nc\n", true));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_is_waited_for_when_nobody_can_abandon_it_any_more() {
        let (abandon, abandoned) = watch::channel(false);
        let (finished, done) = oneshot::channel();
        let (_closed, closed) = watch::channel(false);
        let printing = Printing { done, abandoned, closed };
        drop(abandon);
        let waiting = tokio::spawn(printing.finish());
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        finished.send(()).unwrap();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_what_was_abandoned() {
        let (abandon, abandoned) = watch::channel(false);
        let (queue, _lines) = mpsc::channel(1);
        let output = Output { queue, abandoned };
        output.say("fills the queue").await;
        abandon.send_replace(true);
        output.say("would wait for ever").await;
    }
}
