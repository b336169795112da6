//! The ring by behaviour: contents, wrap-around, fullness, two real threads, and hostile shared memory.

use std::vec::Vec;

use trocar_abi::record::{PAYLOAD_MAX, RecordHead};

use crate::memory::{DATA, HEAD, Memory, TAIL, take};
use crate::{CAPACITY_MIN, Consumer, Corrupt, RingFull, SharedView, record_bytes};

const MANY: usize = 1_000_000;

fn head(tag: u16) -> RecordHead {
    RecordHead { len: 0, kind: 1, tag, site: 7, tid: 4242 }
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 31 + seed * 7 + 1) % 251).unwrap()).collect()
}

/// Deterministic numbers: xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn records_come_out_as_they_went_in() {
    let memory = Memory::new(1024, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    for len in [0, 1, 7, 8, 9, 64] {
        producer.push(head(3), &bytes(len, len)).unwrap();
    }
    let (out, result) = take(&mut consumer, MANY);
    assert_eq!(result, Ok(6));
    for ((record, payload), len) in out.iter().zip([0usize, 1, 7, 8, 9, 64]) {
        assert_eq!(*record, RecordHead { len: u32::try_from(len).unwrap(), ..head(3) });
        assert_eq!(*payload, bytes(len, len));
    }
    assert_eq!(take(&mut consumer, MANY).1, Ok(0));
}

#[test]
fn a_record_may_cross_the_end_at_every_offset() {
    for start in (0..256).step_by(8) {
        for len in 0..100 {
            let memory = Memory::new(128, start);
            let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
            producer.push(head(1), &bytes(len, 5)).unwrap();
            let (out, result) = take(&mut consumer, MANY);
            assert_eq!(result, Ok(1), "start {start}, length {len}");
            assert_eq!(out[0].1, bytes(len, 5), "start {start}, length {len}");
        }
    }
}

#[test]
fn positions_may_overflow() {
    let memory = Memory::new(128, 0u64.wrapping_sub(64));
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    for turn in 0..50 {
        producer.push(head(2), &bytes(40, turn)).unwrap();
        assert_eq!(take(&mut consumer, MANY).0[0].1, bytes(40, turn));
    }
}

#[test]
fn a_full_ring_refuses_and_takes_again_after_a_read() {
    let memory = Memory::new(128, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    for _ in 0..4 {
        producer.push(head(1), &[9; 16]).unwrap();
    }
    assert_eq!(producer.push(head(1), &[]), Err(RingFull));
    assert_eq!(take(&mut consumer, 1).1, Ok(1));
    producer.push(head(2), &[8; 16]).unwrap();
    assert_eq!(producer.push(head(1), &[]), Err(RingFull));
    let (out, result) = take(&mut consumer, MANY);
    assert_eq!(result, Ok(4));
    assert_eq!(out[3], (RecordHead { len: 16, ..head(2) }, std::vec![8; 16]));
}

#[test]
fn the_longest_payload_fits_and_a_longer_one_is_refused() {
    let memory = Memory::new(CAPACITY_MIN, 4096);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    let longest = bytes(PAYLOAD_MAX as usize, 3);
    producer.push(head(1), &longest).unwrap();
    assert_eq!(producer.push(head(1), &bytes(PAYLOAD_MAX as usize + 1, 3)), Err(RingFull));
    assert_eq!(take(&mut consumer, MANY).0, [(RecordHead { len: PAYLOAD_MAX, ..head(1) }, longest)]);
    // A ring that is shorter than the record refuses it too, and writes nothing.
    let small = Memory::new(64, 0);
    assert_eq!(small.producer().push(head(1), &[0; 64]), Err(RingFull));
    assert_eq!(small.view.load_u64(HEAD), Some(0));
}

#[test]
fn drain_stops_at_its_limit_and_goes_on_there() {
    let memory = Memory::new(1024, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    for tag in 0..10 {
        producer.push(head(tag), &[]).unwrap();
    }
    let tags = |out: Vec<(RecordHead, Vec<u8>)>| out.iter().map(|(r, _)| r.tag).collect::<Vec<_>>();
    assert_eq!(tags(take(&mut consumer, 4).0), [0, 1, 2, 3]);
    assert_eq!(tags(take(&mut consumer, 0).0), []);
    assert_eq!(tags(take(&mut consumer, MANY).0), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_second_consumer_goes_on_where_the_first_stopped() {
    let memory = Memory::new(256, 0);
    let mut producer = memory.producer();
    producer.push(head(1), b"first").unwrap();
    producer.push(head(2), b"second").unwrap();
    assert_eq!(take(&mut memory.consumer(), 1).0[0].1, b"first");
    assert_eq!(take(&mut memory.consumer(), MANY).0[0].1, b"second");
}

#[test]
fn a_second_producer_goes_on_where_the_first_stopped() {
    let memory = Memory::new(256, 0);
    memory.producer().push(head(1), b"first").unwrap();
    memory.producer().push(head(2), b"second").unwrap();
    let (out, _) = take(&mut memory.consumer(), MANY);
    assert_eq!(out.iter().map(|(_, p)| &p[..]).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
}

#[test]
fn two_threads_lose_nothing_but_what_was_refused() {
    const RECORDS: u64 = 200_000;
    let memory = Memory::new(512, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    let writer = std::thread::spawn(move || {
        let mut refused = 0u64;
        for number in 0..RECORDS {
            // Length and filling follow from the number, so that the reader can check each byte.
            let length = usize::try_from(number % 61).unwrap();
            let mut payload = number.to_le_bytes().to_vec();
            payload.extend(std::iter::repeat_n(u8::try_from(number % 251).unwrap(), length));
            while producer.push(head(0), &payload).is_err() {
                refused += 1;
                std::thread::yield_now();
            }
        }
        refused
    });
    let mut expected = 0u64;
    while expected < RECORDS {
        let got = consumer
            .drain(MANY, |record, payload| {
                let (number, filling) = payload.split_at(8);
                assert_eq!(u64::from_le_bytes(number.try_into().unwrap()), expected);
                assert_eq!(record.len as usize, payload.len());
                assert_eq!(filling.len() as u64, expected % 61);
                assert!(filling.iter().all(|b| u64::from(*b) == expected % 251));
                expected += 1;
            })
            .unwrap();
        if got == 0 {
            std::thread::yield_now();
        }
    }
    writer.join().unwrap();
    assert_eq!(expected, RECORDS);
    assert_eq!(memory.view.load_u64(HEAD), memory.view.load_u64(TAIL));
}

#[test]
fn a_nonsense_tail_makes_the_ring_full_and_no_more() {
    for tail in [1 << 40, 1, 8, 0u64.wrapping_sub(136)] {
        let memory = Memory::new(128, 0);
        let mut producer = memory.producer();
        memory.view.store_u64(TAIL, tail).unwrap();
        assert_eq!(producer.push(head(1), &[1; 8]), Err(RingFull), "tail {tail:#x}");
        memory.view.store_u64(TAIL, 0).unwrap();
        assert_eq!(producer.push(head(1), &[1; 8]), Ok(()), "the ring works again");
    }
}

#[test]
fn a_nonsense_head_is_named_and_ends_the_ring() {
    for bad in [136, 1 << 63, u64::MAX, 4, 12] {
        let memory = Memory::new(128, 0);
        let mut consumer = memory.consumer();
        memory.view.store_u64(HEAD, bad).unwrap();
        let fault = Corrupt::Head { head: bad, tail: 0, capacity: 128 };
        assert_eq!(take(&mut consumer, MANY), (Vec::new(), Err(fault)));
        memory.view.store_u64(HEAD, 0).unwrap();
        assert_eq!(take(&mut consumer, MANY).1, Err(fault), "a ring that lied once is not read again");
        assert_eq!(consumer.fault(), Some(fault));
    }
}

#[test]
fn a_nonsense_length_is_named_and_what_came_before_is_kept() {
    for (len, filled) in [(PAYLOAD_MAX + 1, 40), (u32::MAX, 40), (25, 40), (0, 8)] {
        let memory = Memory::new(128, 0);
        let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
        producer.push(head(5), &[1; 8]).unwrap();
        memory.view.store_u32(DATA + 24, len).unwrap();
        memory.view.store_u64(HEAD, 24 + filled).unwrap();
        let (out, result) = take(&mut consumer, MANY);
        assert_eq!(out.len(), 1);
        assert_eq!(result, Err(Corrupt::Length { at: 24, len, filled }));
    }
}

#[test]
fn no_shared_bytes_make_the_consumer_panic_or_read_too_much() {
    let mut numbers = Numbers(0x5eed_0000_0000_0001);
    for round in 0..20_000u64 {
        let capacity = 64 << (round % 4);
        let memory = Memory::new(capacity, 0);
        for word in 0..capacity / 8 {
            // Mostly small lengths, so that some records are believable.
            let value = numbers.next();
            let value = if value.is_multiple_of(3) { value } else { value & 0xffff_ffff_0000_003f };
            memory.view.store_u64(DATA + word * 8, value).unwrap();
        }
        let tail = numbers.next() & !7;
        memory.view.store_u64(TAIL, tail).unwrap();
        let mut consumer = memory.consumer();
        let span =
            if round.is_multiple_of(2) { numbers.next() } else { (numbers.next() % (capacity + 16)) & !7 };
        memory.view.store_u64(HEAD, tail.wrapping_add(span)).unwrap();
        let mut read = 0;
        let result = consumer.drain(MANY, |record, payload| {
            assert_eq!(record.len as usize, payload.len());
            read += record_bytes(record.len);
        });
        assert!(read <= capacity);
        assert_eq!(memory.view.load_u64(TAIL), Some(tail.wrapping_add(read)), "released what it handed out");
        if result.is_ok() {
            assert_eq!(read, span, "a sound ring is read to its head");
        }
    }
}

#[test]
fn a_consumer_is_refused_where_the_memory_does_not_hold_its_ring() {
    let memory = Memory::new(128, 0);
    let new = |head, tail, data, capacity| Consumer::new(memory.view, head, tail, data, capacity).is_some();
    assert!(new(HEAD, TAIL, DATA, 128));
    assert!(!new(HEAD, TAIL, DATA, 256), "longer than the memory");
    assert!(!new(HEAD, TAIL, DATA, 96), "no power of two");
    assert!(!new(HEAD, TAIL, DATA, 0));
    assert!(!new(HEAD, TAIL, DATA + 4, 64), "unaligned data");
    assert!(!new(HEAD + 1, TAIL, DATA, 128), "unaligned head");
    assert!(!new(HEAD, DATA + 128, DATA, 128), "tail outside");
    assert!(!new(HEAD, TAIL, u64::MAX - 7, 128), "data overflows");
}

#[test]
fn a_view_answers_none_outside_and_where_unaligned() {
    let memory = Memory::new(64, 0);
    let view: SharedView = memory.view;
    let len = view.len() as u64;
    assert!(view.load_u64(len - 8).is_some() && view.load_u32(len - 4).is_some());
    for offset in [len - 7, len, u64::MAX, u64::MAX - 7, 1, 4] {
        assert!(view.load_u64(offset).is_none(), "{offset}");
        assert!(view.load_u64_acquire(offset).is_none(), "{offset}");
        assert!(view.store_u64_release(offset, 1).is_none(), "{offset}");
    }
    for offset in [len - 3, u64::MAX - 3, 2] {
        assert!(view.load_u32(offset).is_none() && view.store_u32(offset, 1).is_none(), "{offset}");
    }
    assert!(view.copy_out(len - 4, &mut [0; 5]).is_none());
    assert!(view.copy_out(u64::MAX, &mut [0; 2]).is_none());
    assert!(view.copy_out(len, &mut []).is_some());
}

#[test]
fn a_view_copies_any_range() {
    let memory = Memory::new(64, 0);
    let all = bytes(64, 1);
    for (at, chunk) in (DATA..).step_by(8).zip(all.chunks_exact(8)) {
        memory.view.store_u64(at, u64::from_ne_bytes(chunk.try_into().unwrap())).unwrap();
    }
    for from in 0..64usize {
        for to in from..=64 {
            let mut out = std::vec![0; to - from];
            memory.view.copy_out(DATA + from as u64, &mut out).unwrap();
            assert_eq!(out, all[from..to]);
        }
    }
}

#[test]
fn words_are_exchanged_and_added_to_within_bounds() {
    let memory = Memory::new(64, 0);
    let (view, len) = (memory.view, memory.view.len() as u64);
    assert_eq!([view.exchange_u32(4, 0, 7), view.exchange_u32(4, 0, 8)], [Some(true), Some(false)]);
    assert_eq!(
        (view.load_u32(4), view.exchange_u32(len, 0, 1), view.exchange_u32(2, 0, 1)),
        (Some(7), None, None)
    );
    let sum = || view.load_u64(8).unwrap().cast_signed();
    for (n, expected) in [(5, 5), (4, 9), (4, 10), (i64::MAX, 10)] {
        view.add_up_to(8, n, 10).unwrap();
        assert_eq!(sum(), expected);
    }
    view.store_u64(8, i64::MAX.cast_unsigned()).unwrap();
    view.add_up_to(8, 1, 10).unwrap();
    assert_eq!(sum(), 10, "whatever the other side wrote");
    view.store_u64(8, i64::MIN.cast_unsigned()).unwrap();
    view.add_up_to(8, 3, 10).unwrap();
    assert_eq!((sum(), view.add_up_to(9, 1, 1)), (i64::MIN + 3, None));
}
