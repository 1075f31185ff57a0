//! The messages of ggml's RPC, as far as somebody between both sides must know them: where a
//! message ends, how long its reply is, which replies are possible, and what ggml can be told
//! instead of a reply that never comes.
//!
//! A request is a command (1 byte), a size (8 bytes) and a payload of that size; a reply, which
//! not every command has, is a size and a payload. Numbers are little-endian.

use std::ops::RangeInclusive;

/// The version that ggml 0.28 has: `RPC_PROTO_MAJOR_VERSION` and `_MINOR_`.
pub(super) const VERSION: (u8, u8) = (8, 0);

/// `RPC_CMD_HELLO`, the first command of every client.
pub(super) const HELLO: u8 = 14;

/// `RPC_CONN_CAPS_SIZE`: what the two sides can do, of which this one says nothing.
const CAPABILITIES: usize = 24;

/// Bytes of the reply to [`HELLO`].
pub(super) const HELLO_REPLY: usize = 4 + CAPABILITIES;

/// Bytes before a request's payload.
const HEADER: usize = 9;

/// `sizeof(rpc_tensor)`.
const TENSOR: usize = 296;

/// As much of a payload as is looked at: a tensor, and three numbers after it.
const LOOKED_AT: usize = TENSOR + 24;

/// Most devices of one worker: as many as ggml's scheduler takes.
const MOST_DEVICES: u32 = 16;

/// Largest boundary at which a device may place tensors.
const MOST_ALIGNMENT: u64 = 1 << 20;

/// Most bytes that an allocation is believed to have, and largest address of one.
const MOST_BYTES: u64 = 1 << 62;

/// Most bytes that a tensor is believed to take: hundreds of them can be added up.
const MOST_TENSOR_BYTES: u64 = if usize::BITS == 64 { 1 << 48 } else { 1 << 30 };

/// The commands that have a reply, by ggml's numbers.
mod command {
    pub(super) const ALLOC_BUFFER: u8 = 0;
    pub(super) const GET_ALIGNMENT: u8 = 1;
    pub(super) const GET_MAX_SIZE: u8 = 2;
    pub(super) const BUFFER_GET_BASE: u8 = 3;
    pub(super) const SET_TENSOR_HASH: u8 = 7;
    pub(super) const GET_TENSOR: u8 = 8;
    pub(super) const COPY_TENSOR: u8 = 9;
    pub(super) const GET_DEVICE_MEMORY: u8 = 11;
    pub(super) const GET_ALLOC_SIZE: u8 = 13;
    pub(super) const DEVICE_COUNT: u8 = 15;
    pub(super) const GET_TENSOR_2D: u8 = 19;
    pub(super) const COMM_INIT: u8 = 20;
}

/// Commands that may keep a worker at work for as long as they like: graphs.
const GRAPHS: [u8; 2] = [10, 16];

/// Payloads from here on may take a while to arrive.
const LARGE_PAYLOAD: u64 = 1 << 16;

/// A client's first message.
pub(super) fn hello() -> [u8; HEADER + CAPABILITIES] {
    let mut message = [0; HEADER + CAPABILITIES];
    message[0] = HELLO;
    message[1..HEADER].copy_from_slice(&(CAPABILITIES as u64).to_le_bytes());
    message
}

/// A reply that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    command: u8,
    /// Bytes of its payload.
    pub(super) bytes: u64,
    /// Bytes of the buffer that was requested.
    allocated: u64,
}

impl Expected {
    /// Whether it is the reply to [`HELLO`].
    pub(super) fn is_hello(&self) -> bool {
        self.command == HELLO
    }

    /// Says what is wrong with a reply that ggml would not survive: it divides by the alignment,
    /// makes a device for each that is counted, and asserts that addresses exist.
    pub(super) fn check(&self, reply: &[u8]) -> Result<(), String> {
        let within = |what: &str, found: u64, range: RangeInclusive<u64>| {
            if range.contains(&found) {
                return Ok(());
            }
            let (least, most) = (range.start(), range.end());
            Err(format!(
                "its reply is nonsense: {what} {found}, expected {least} to {most}"
            ))
        };
        let addresses = MOST_BYTES.min(usize::MAX as u64);
        match self.command {
            command::DEVICE_COUNT => within(
                "a number of devices of",
                number(reply, 0) & 0xffff_ffff,
                0..=MOST_DEVICES.into(),
            ),
            command::GET_ALIGNMENT => {
                let alignment = number(reply, 0);
                if !alignment.is_power_of_two() {
                    return Err(format!(
                        "its reply is nonsense: an alignment of {alignment}, expected a power of 2"
                    ));
                }
                within("an alignment of", alignment, 1..=MOST_ALIGNMENT)
            }
            command::GET_MAX_SIZE => within("buffers of at most", number(reply, 0), 1..=u64::MAX),
            // Address 0: there is not enough memory.
            command::ALLOC_BUFFER if number(reply, 0) == 0 => Ok(()),
            command::ALLOC_BUFFER => {
                let least = self.allocated.min(addresses);
                within("a buffer of bytes", number(reply, 8), least..=addresses)
            }
            command::BUFFER_GET_BASE => within("a buffer at", number(reply, 0), 1..=addresses),
            command::GET_ALLOC_SIZE => {
                within("a tensor of bytes", number(reply, 0), 0..=MOST_TENSOR_BYTES)
            }
            _ => Ok(()),
        }
    }

    /// Writes what ggml goes on with when there is no reply: nothing is allocated, nothing needs to
    /// be sent, and tensors are 0.
    pub(super) fn stand_in(&self, reply: &mut [u8]) {
        reply.fill(0);
        let mut first = |bytes: &[u8]| {
            let bytes = &bytes[..bytes.len().min(reply.len())];
            reply[..bytes.len()].copy_from_slice(bytes);
        };
        match self.command {
            HELLO => first(&[VERSION.0, VERSION.1]),
            command::GET_ALIGNMENT => first(&64u64.to_le_bytes()),
            command::GET_MAX_SIZE => first(&u64::MAX.to_le_bytes()),
            command::BUFFER_GET_BASE => first(&MOST_ALIGNMENT.to_le_bytes()),
            command::SET_TENSOR_HASH | command::COPY_TENSOR => first(&[1]),
            _ => {}
        }
    }
}

/// The little-endian number of 8 bytes, or of as many as there are, from `start` on.
fn number(bytes: &[u8], start: usize) -> u64 {
    let mut number = [0; 8];
    let there = bytes.get(start..).unwrap_or_default();
    let length = there.len().min(8);
    number[..length].copy_from_slice(&there[..length]);
    u64::from_le_bytes(number)
}

/// Follows the bytes of requests from message to message.
#[derive(Debug)]
pub(super) struct Requests {
    /// The message's header and the beginning of its payload.
    start: [u8; HEADER + LOOKED_AT],
    /// Bytes of the message so far.
    seen: u64,
    expected: Option<Expected>,
    may_take_long: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            start: [0; HEADER + LOOKED_AT],
            seen: 0,
            expected: None,
            may_take_long: false,
        }
    }
}

impl Requests {
    /// Takes note of bytes that are sent.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.seen == 0 {
                self.start = [0; HEADER + LOOKED_AT];
            }
            // The end of the header, then the end of the payload.
            let end = if self.seen < HEADER as u64 {
                HEADER as u64
            } else {
                self.end()
            };
            let taken = (end - self.seen).min(bytes.len() as u64) as usize;
            if let Some(place) = self.start.get_mut(self.seen as usize..) {
                let kept = taken.min(place.len());
                place[..kept].copy_from_slice(&bytes[..kept]);
            }
            self.seen += taken as u64;
            bytes = &bytes[taken..];
            if self.seen >= HEADER as u64 && self.seen == self.end() {
                self.finish();
            }
        }
    }

    /// Bytes of the message in all, once its header is there.
    fn end(&self) -> u64 {
        number(&self.start, 1).saturating_add(HEADER as u64)
    }

    /// A message is complete.
    fn finish(&mut self) {
        let command = self.start[0];
        let payload = &self.start[HEADER..];
        let bytes = match command {
            command::ALLOC_BUFFER | command::GET_DEVICE_MEMORY => Some(16),
            command::GET_ALIGNMENT
            | command::GET_MAX_SIZE
            | command::BUFFER_GET_BASE
            | command::GET_ALLOC_SIZE => Some(8),
            command::SET_TENSOR_HASH | command::COPY_TENSOR | command::COMM_INIT => Some(1),
            command::GET_TENSOR => Some(number(payload, TENSOR + 8)),
            command::GET_TENSOR_2D => {
                Some(number(payload, TENSOR + 8).saturating_mul(number(payload, TENSOR + 16)))
            }
            command::DEVICE_COUNT => Some(4),
            HELLO => Some(HELLO_REPLY as u64),
            _ => None,
        };
        self.may_take_long |= GRAPHS.contains(&command) || self.seen >= LARGE_PAYLOAD;
        self.expected = bytes.map(|bytes| Expected {
            command,
            bytes,
            allocated: number(payload, 4),
        });
        self.seen = 0;
    }

    /// The reply to the last message, when it has one that was not taken yet.
    pub(super) fn expected(&self) -> Option<Expected> {
        self.expected
    }

    /// The reply is there.
    pub(super) fn replied(&mut self) {
        self.expected = None;
        self.may_take_long = false;
    }

    /// Whether something was sent since the last reply that may keep the other side at work.
    pub(super) fn may_take_long(&self) -> bool {
        self.may_take_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(command: u8, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![command];
        message.extend((payload.len() as u64).to_le_bytes());
        message.extend(payload);
        message
    }

    fn numbers(numbers: &[u64]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    /// The reply to one message, which arrives in pieces of `piece` bytes.
    fn expected(message: &[u8], piece: usize) -> Option<Expected> {
        let mut requests = Requests::default();
        for piece in message.chunks(piece) {
            assert_eq!(requests.expected(), None);
            requests.follow(piece);
        }
        requests.expected()
    }

    #[test]
    fn replies_have_the_length_that_was_requested() {
        let get = |numbers_after: &[u64]| {
            let mut payload = vec![7; TENSOR];
            payload.extend(numbers(numbers_after));
            payload
        };
        for (message, bytes) in [
            (hello().to_vec(), Some(28)),
            (message(command::DEVICE_COUNT, &[]), Some(4)),
            (message(command::GET_TENSOR, &get(&[40, 1234])), Some(1234)),
            (
                message(command::GET_TENSOR_2D, &get(&[0, 50, 3, 9])),
                Some(150),
            ),
            (
                message(command::GET_TENSOR_2D, &get(&[0, u64::MAX, 3, 9])),
                Some(u64::MAX),
            ),
            (message(6, &[0; 4096]), None),
            (message(10, &[0; 20]), None),
            (message(200, &[]), None),
        ] {
            for piece in [1, 7, 9, 10_000] {
                let found = expected(&message, piece).map(|expected| expected.bytes);
                assert_eq!(found, bytes, "{} in pieces of {piece}", message[0]);
            }
        }
    }

    #[test]
    fn messages_follow_each_other() {
        let mut requests = Requests::default();
        let mut both = message(10, &[0; 2000]);
        both.extend(message(command::GET_MAX_SIZE, &[0; 4]));
        requests.follow(&both);
        assert!(requests.may_take_long());
        assert_eq!(requests.expected().map(|expected| expected.bytes), Some(8));
        requests.replied();
        assert_eq!(requests.expected(), None);
        assert!(!requests.may_take_long());
    }

    #[test]
    fn replies_that_ggml_would_not_survive_are_refused() {
        let refused =
            |request: Vec<u8>, reply: &[u8]| expected(&request, 1).unwrap().check(reply).is_err();
        let short = |command| message(command, &[0; 4]);
        assert!(refused(
            message(command::DEVICE_COUNT, &[]),
            &17u32.to_le_bytes()
        ));
        assert!(!refused(
            message(command::DEVICE_COUNT, &[]),
            &2u32.to_le_bytes()
        ));
        for alignment in [0, 3, 1 << 40] {
            assert!(refused(
                short(command::GET_ALIGNMENT),
                &numbers(&[alignment])
            ));
        }
        assert!(refused(short(command::BUFFER_GET_BASE), &numbers(&[0])));
        assert!(refused(short(command::GET_MAX_SIZE), &numbers(&[0])));
        assert!(refused(
            short(command::GET_ALLOC_SIZE),
            &numbers(&[u64::MAX])
        ));
        let mut thousand = vec![0; 4];
        thousand.extend(1000u64.to_le_bytes());
        let allocate = || message(command::ALLOC_BUFFER, &thousand);
        for (reply, wrong) in [
            ([5, 999], true),
            ([5, u64::MAX], true),
            ([5, 1000], false),
            ([0, 0], false),
        ] {
            assert_eq!(refused(allocate(), &numbers(&reply)), wrong, "{reply:?}");
        }
    }

    /// What ggml is told instead of a reply must itself be possible.
    #[test]
    fn stand_ins_are_possible_replies() {
        for command in 0..=255 {
            let mut request = message(command, &[0; TENSOR]);
            request[1..HEADER].copy_from_slice(&(TENSOR as u64).to_le_bytes());
            let Some(expected) = expected(&request, 400) else {
                continue;
            };
            let mut reply = vec![9; expected.bytes as usize];
            expected.stand_in(&mut reply);
            assert_eq!(expected.check(&reply), Ok(()), "command {command}");
        }
    }
}
