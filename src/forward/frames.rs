//! Where WebSocket frames begin and end.

/// Follows one direction of a WebSocket byte by byte and knows whether it stands between two frames, the only place
/// where a frame of ours can go.
///
/// Source: RFC 6455, section 5.2.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    at: At,
    closing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Start,
    Length,
    Extended {
        left: u8,
        length: u64,
        masked: bool,
    },
    Mask {
        left: u8,
        length: u64,
    },
    Payload(u64),
}

impl Frames {
    /// Nothing of a frame is open.
    pub(super) fn between(&self) -> bool {
        matches!(self.at, At::Start)
    }

    /// A close frame has gone by: nothing may follow it.
    pub(super) fn closing(&self) -> bool {
        self.closing
    }

    /// Reads all of `bytes`.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.advance(bytes)..];
        }
    }

    /// How many of `bytes` belong to the frame that is open.
    pub(super) fn remainder(&self, bytes: &[u8]) -> usize {
        if self.between() { 0 } else { self.clone().advance(bytes) }
    }

    /// Reads to the end of the frame or of `bytes`, and says how many bytes that is.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let byte = bytes[used];
            self.at = match self.at {
                At::Start => {
                    self.closing |= byte & 0x0f == 8;
                    At::Length
                }
                At::Length => Self::sized(byte),
                At::Extended { left, length, masked } => {
                    let length = length << 8 | u64::from(byte);
                    if left > 1 { At::Extended { left: left - 1, length, masked } } else { Self::known(length, masked) }
                }
                At::Mask { left, length } if left > 1 => At::Mask { left: left - 1, length },
                At::Mask { length, .. } => Self::payload(length),
                At::Payload(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - used);
                    used += here - 1;
                    Self::payload(left - here as u64)
                }
            };
            used += 1;
            if self.between() {
                break;
            }
        }
        used
    }

    fn sized(byte: u8) -> At {
        let masked = byte & 0x80 != 0;
        match byte & 0x7f {
            126 => At::Extended { left: 2, length: 0, masked },
            127 => At::Extended { left: 8, length: 0, masked },
            length => Self::known(length.into(), masked),
        }
    }

    fn known(length: u64, masked: bool) -> At {
        if masked { At::Mask { left: 4, length } } else { Self::payload(length) }
    }

    fn payload(left: u64) -> At {
        if left == 0 { At::Start } else { At::Payload(left) }
    }
}

/// A close frame, as a server sends it (RFC 6455, section 5.5.1). The reason is cut to what a control frame holds.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(123)];
    let mut frame = vec![0x88, reason.len() as u8 + 2];
    frame.extend(code.to_be_bytes());
    frame.extend(reason.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..65536 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0x81; if masked { 4 } else { 0 }]);
        bytes.extend(vec![0x81; length]);
        bytes
    }

    proptest! {
        /// However a stream is split, the tracker stands between frames exactly where one ends.
        #[test]
        fn knows_every_boundary_over_all_splits(
            shapes in prop::collection::vec((prop_oneof![0..3usize, 120..130usize, 65530..65540usize], any::<bool>()), 1..5),
            cuts in prop::collection::vec(1..4000usize, 1..200),
        ) {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for (length, masked) in shapes {
                stream.extend(frame(1, length, masked));
                ends.push(stream.len());
            }
            let (mut frames, mut at) = (Frames::default(), 0);
            for cut in cuts.into_iter().cycle() {
                let end = stream.len().min(at + cut);
                let open = frames.remainder(&stream[at..]);
                let expected = ends.iter().find(|end| **end >= at).expect("the last end");
                prop_assert_eq!(at + open, *expected);
                frames.pass(&stream[at..end]);
                at = end;
                prop_assert_eq!(frames.between(), ends.contains(&at));
                if at == stream.len() { break }
            }
            prop_assert!(!frames.closing());
        }
    }

    #[test]
    fn sees_a_close_frame_go_by() {
        let mut frames = Frames::default();
        frames.pass(&close(1000, "bye"));
        assert!(frames.closing() && frames.between());
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let frame = close(1008, &"ö".repeat(100));
        assert_eq!((frame.len(), frame[1]), (126, 124));
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
