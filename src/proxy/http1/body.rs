//! The body of an answer.

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::Broke;
use super::chunked::Chunked;

/// What is still to come of a body, by what its head said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked(Chunked),
    /// All that comes belongs to it.
    UntilClose,
    Ended,
}

impl Body {
    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunked::new())
    }

    /// The next frame of it in `buffer`; `None` when more has to be read, or it
    /// has ended. What follows its end stays there.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Broke> {
        match self {
            Self::Ended => Ok(None),
            Self::Chunked(chunked) => {
                let frame = chunked.decode(buffer)?;
                if chunked.is_ended() {
                    *self = Self::Ended;
                }
                Ok(frame)
            }
            _ if buffer.is_empty() => Ok(None),
            Self::UntilClose => Ok(Some(Frame::data(buffer.split().freeze()))),
            Self::Length(left) => {
                let all = buffer.len();
                let taken = usize::try_from(*left).map_or(all, |left| left.min(all));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Some(Frame::data(buffer.split_to(taken).freeze())))
            }
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) -> Result<(), Broke> {
        if let Self::Length(_) | Self::Chunked(_) = self {
            return Err(Broke::Incomplete);
        }
        *self = Self::Ended;
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        *self == Self::Ended
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Ended => SizeHint::with_exact(0),
            Self::Chunked(_) | Self::UntilClose => SizeHint::new(),
        }
    }
}
