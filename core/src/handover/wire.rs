//! Messages and descriptors over a Unix socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The longest message: a session's replay buffer and inbox are 8 MiB each by default, and a chunk
/// may overshoot.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// Descriptors of one read: the system joins no two messages that bring some.
const DESCRIPTORS_A_READ: usize = 4;

/// Descriptors that may wait for their messages.
const DESCRIPTORS_WAITING_MAX: usize = 4;

/// The other process gets nothing done for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket to the other process.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: UnixStream,
    input: BytesMut,
    descriptors: VecDeque<OwnedFd>,
    read: Vec<u8>,
}

/// The other process can't be understood, or is gone.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket broke.
    #[error("the socket to the other process")]
    Socket(#[from] io::Error),
    /// The other process has closed it.
    #[error("the other process has ended, or has given up")]
    Ended,
    /// Not ours.
    #[error("a message that is none")]
    Decode(#[from] prost::DecodeError),
    /// More than a session can have.
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// This process may open no more files, or the other one sends what it should not.
    #[error("descriptors were lost or are too many: raise the limit of open files (LimitNOFILE=)")]
    Descriptors,
    /// Nothing moves.
    #[error("the other process did nothing for {PATIENCE:?}")]
    Silent,
}

impl Wire {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            descriptors: VecDeque::new(),
            read: vec![0; READ_BYTES],
        }
    }

    /// Sends one message, with a descriptor on its first byte.
    pub(crate) async fn send(
        &mut self,
        message: &impl Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), WireError> {
        let len = message.encoded_len();
        let length = u32::try_from(len).ok().filter(|_| len <= MESSAGE_BYTES_MAX);
        let mut bytes = BytesMut::with_capacity(4 + len);
        bytes.put_u32(length.ok_or(WireError::TooLong(len))?);
        message.encode(&mut bytes).expect("a buffer takes every byte");
        let sending = async {
            if let Some(descriptor) = descriptor {
                let sent = self.send_with(&bytes, descriptor).await?;
                bytes.advance(sent);
            }
            self.socket.write_all(&bytes).await
        };
        timeout(PATIENCE, sending).await.map_err(|_| WireError::Silent)??;
        Ok(())
    }

    /// The next message; waits no longer than `patience`. Not cancel-safe across its error.
    pub(crate) async fn receive<M: Message + Default>(
        &mut self,
        patience: Duration,
    ) -> Result<M, WireError> {
        timeout(patience, self.receive_one()).await.map_err(|_| WireError::Silent)?
    }

    /// The descriptor that came with the last message.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    /// Waits until the other process has closed its end.
    pub(crate) async fn ended(&mut self) {
        while self.read_more().await.is_ok() {
            self.input.clear();
            self.descriptors.clear();
        }
    }

    async fn receive_one<M: Message + Default>(&mut self) -> Result<M, WireError> {
        loop {
            if let Some((mut header, rest)) = self.input.split_at_checked(4) {
                let len = usize::try_from(header.get_u32()).unwrap_or(usize::MAX);
                if len > MESSAGE_BYTES_MAX {
                    return Err(WireError::TooLong(len));
                }
                if rest.len() >= len {
                    self.input.advance(4);
                    return Ok(M::decode(self.input.split_to(len).freeze())?);
                }
            }
            self.read_more().await?;
        }
    }

    async fn send_with(&self, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
        let descriptors = [descriptor];
        self.socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
                let slices = [IoSlice::new(bytes)];
                Ok(sendmsg(self.socket.as_fd(), &slices, &mut control, SendFlags::NOSIGNAL)?)
            })
            .await
    }

    async fn read_more(&mut self) -> Result<(), WireError> {
        let Self { socket, input, descriptors, read } = self;
        let (count, flags) = socket
            .async_io(Interest::READABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_A_READ))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut slices = [IoSliceMut::new(read)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let received = recvmsg(socket.as_fd(), &mut slices, &mut control, flags)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(arrived) = message {
                        descriptors.extend(arrived);
                    }
                }
                Ok((received.bytes, received.flags))
            })
            .await?;
        if flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > DESCRIPTORS_WAITING_MAX {
            return Err(WireError::Descriptors);
        }
        if count == 0 {
            return Err(WireError::Ended);
        }
        input.extend_from_slice(&read[..count]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use antipode_proto::handover::v1::{Refusal, TunnelPeer};

    use super::*;

    const PATIENT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn descriptors_stay_with_their_messages() {
        let (mut near, mut far) = pair();
        let sending = async {
            for number in 0..50_usize {
                let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                theirs.write_all(&[u8::try_from(number).unwrap()]).unwrap();
                near.send(&text(number), Some(ours.as_fd())).await.unwrap();
                near.send(&text(0), None).await.unwrap();
            }
        };
        let receiving = async {
            for number in 0..50_usize {
                let message: Refusal = far.receive(PATIENT).await.unwrap();
                assert_eq!(message, text(number));
                let socket = far.take_descriptor().expect("one came along");
                let mut byte = [0];
                std::os::unix::net::UnixStream::from(socket).read_exact(&mut byte).unwrap();
                assert_eq!(usize::from(byte[0]), number);
                assert_eq!(far.receive::<Refusal>(PATIENT).await.unwrap(), text(0));
            }
        };
        tokio::join!(sending, receiving);
        drop(near);
        assert!(matches!(far.receive::<Refusal>(PATIENT).await, Err(WireError::Ended)));
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let (near, mut far) = pair();
        near.socket.try_write(&[0xff; 8]).unwrap();
        assert!(matches!(far.receive::<Refusal>(PATIENT).await, Err(WireError::TooLong(_))));

        let (near, mut far) = pair();
        near.socket.try_write(&[0, 0, 0, 2, 0xff, 0xff]).unwrap();
        assert!(matches!(far.receive::<TunnelPeer>(PATIENT).await, Err(WireError::Decode(_))));

        let (near, mut far) = pair();
        near.socket.try_write(&[0, 0]).unwrap();
        let short = far.receive::<Refusal>(Duration::from_millis(20)).await;
        assert!(matches!(short, Err(WireError::Silent)));
    }

    #[tokio::test]
    async fn descriptors_without_messages_are_refused() {
        let (mut near, mut far) = pair();
        let file = std::fs::File::open("/dev/null").unwrap();
        for _ in 0..DESCRIPTORS_WAITING_MAX + 1 {
            near.send(&text(1), Some(file.as_fd())).await.unwrap();
        }
        let mut last = Ok(text(0));
        for _ in 0..DESCRIPTORS_WAITING_MAX + 1 {
            last = far.receive::<Refusal>(PATIENT).await;
        }
        assert!(matches!(last, Err(WireError::Descriptors)), "{last:?}");
    }

    fn pair() -> (Wire, Wire) {
        let (near, far) = UnixStream::pair().unwrap();
        (Wire::new(near), Wire::new(far))
    }

    /// Of a length of its own, and longer than a socket's buffer at times.
    fn text(number: usize) -> Refusal {
        Refusal { reason: "x".repeat(number * 9000) }
    }
}
