use std::collections::BTreeMap;

use exo_abi::{Protection, boot};
use exo_boot::launch::{Launch, MAGIC as LAUNCH, RUNS, Run};
use exo_bundle::{Bundle, EXEC, READ, WRITE};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// What the reader makes of a bundle, in the writer's terms.
fn read(bytes: &[u8]) -> Option<(Vec<Image>, Vec<u8>)> {
    let bundle = Bundle::parse(bytes).ok()?;
    let images = bundle.images().map(|image| Image {
        name: image.name.to_owned(),
        entry: image.entry,
        segments: image
            .segments()
            .map(|segment| Segment {
                va: segment.va,
                mem_len: segment.mem_len,
                flags: segment.flags,
                data: segment.data.to_vec(),
            })
            .collect(),
    });
    Some((images.collect(), bundle.manifest().to_vec()))
}

/// Segments of up to three pages in slots of four, the first of them code.
fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let segment = (0..3_u32, vec(any::<u8>(), 0..5000), 1..7000_u64);
    btree_map(0..50_u64, segment, 1..5).prop_map(|slots| {
        let mut segments: Vec<_> = slots
            .into_iter()
            .map(|(slot, (kind, data, more))| Segment {
                va: (1 + 4 * slot) * PAGE,
                mem_len: data.len() as u64 + more,
                flags: [READ, READ | WRITE, READ | EXEC][kind as usize],
                data,
            })
            .collect();
        segments[0].flags = READ | EXEC;
        segments
    })
}

/// What the kernel reads of the first page.
fn launch(bytes: &[u8]) -> Launch {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let runs = std::array::from_fn(|run| {
        let (at, how) = (word(16 + 16 * run), word(16 + 16 * run + 8));
        Run { at, pages: how as u32, protection: (how >> 32) as u32 }
    });
    Launch { magic: word(0), entry: word(8), runs }
}

fn images() -> impl Strategy<Value = Vec<Image>> {
    btree_map("[!-~]{1,16}", segments(), 1..4).prop_map(|images: BTreeMap<String, _>| {
        let image = |(name, segments): (String, Vec<Segment>)| {
            let entry = segments[0].va + segments[0].mem_len - 1;
            Image { name, entry, segments }
        };
        images.into_iter().map(image).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reader_returns_what_was_written(images in images(), manifest in vec(any::<u8>(), 0..300)) {
        let bytes = write_bundle(&images, &manifest).unwrap();
        prop_assert_eq!(bytes.len() % PAGE as usize, 0);
        prop_assert_eq!(read(&bytes), Some((images, manifest)));
    }

    /// What is mapped as the first page says is what the program asked for, and the bundle follows.
    #[test]
    fn root_lies_ready_to_be_mapped(images in images(), manifest in vec(any::<u8>(), 0..300)) {
        let bytes = write(&images, &manifest).unwrap();
        let Launch { magic, entry, runs } = launch(&bytes);
        prop_assert_eq!((magic, entry), (LAUNCH, images[0].entry));
        let mut at = PAGE as usize;
        let stack = boot::STACK_TOP - u64::from(boot::STACK_PAGES) * PAGE;
        let stack = Segment { va: stack, mem_len: boot::STACK_TOP - stack, flags: READ | WRITE, data: vec![] };
        let segments: Vec<_> = images[0].segments.iter().chain([&stack]).collect();
        for (run, segment) in runs.iter().zip(&segments) {
            let length = run.pages as usize * PAGE as usize;
            let (data, zero) = bytes[at..at + length].split_at(segment.data.len());
            prop_assert_eq!((run.at, data), (segment.va, &segment.data[..]));
            prop_assert!(length as u64 - segment.mem_len < PAGE && zero.iter().all(|byte| *byte == 0));
            let protection = Protection::from_u8(u8::try_from(run.protection).unwrap()).unwrap();
            let flags = match protection {
                Protection::Read => READ,
                Protection::ReadWrite => READ | WRITE,
                Protection::ReadExecute => READ | EXEC,
            };
            prop_assert_eq!(flags, segment.flags);
            at += length;
        }
        prop_assert!(runs[segments.len()..].iter().all(|run| run.pages == 0) && segments.len() <= RUNS);
        prop_assert_eq!(read(&bytes[at..]), Some((images[1..].to_vec(), manifest)));
    }

    #[test]
    fn reader_survives_mutation(
        images in images(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write_bundle(&images, b"manifest").unwrap();
        // Most of a bundle is data, in which a change has no effect: aim at the tables.
        let tables = HEADER_LEN + images.len() * (IMAGE_LEN + SEGMENT_LEN);
        for (at, value) in changes {
            bytes[at.index(tables)] = value;
        }
        if let Some((images, _)) = read(&bytes) {
            for segment in images.iter().flat_map(|image| &image.segments) {
                prop_assert_ne!(segment.flags & (WRITE | EXEC), WRITE | EXEC);
                prop_assert!(segment.data.len() as u64 <= segment.mem_len);
            }
        }
        let _ = read(&bytes[..keep.index(bytes.len())]);
    }

    #[test]
    fn reader_survives_anything(rest in vec(any::<u8>(), 0..400)) {
        let _ = read(&rest);
        // With a good start, so that more than the magic is looked at.
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        bytes.extend(rest);
        bytes.resize(PAGE as usize, 0);
        let _ = read(&bytes);
    }
}

#[test]
fn writer_refuses_what_the_reader_would() {
    let image = |flags, name: &str| Image {
        name: name.into(),
        entry: 0x1000,
        segments: vec![Segment { va: 0x1000, mem_len: 1, flags, data: vec![0xc3] }],
    };
    let error = |images: &[Image]| format!("{:#}", write(images, b"").unwrap_err());
    assert!(write(&[image(READ | EXEC, "root")], b"").is_ok());
    assert!(error(&[image(READ | WRITE | EXEC, "root")]).contains("writable and executable"));
    assert!(error(&[image(READ | EXEC, "a"), image(READ | EXEC, "a")]).contains("two images"));
    assert!(error(&[image(READ | EXEC, "seventeen-letters")]).contains("longer than"));
    assert!(error(&[]).contains("no image"));
    let at = |va| Image {
        segments: vec![Segment { va, mem_len: 1, flags: READ | EXEC, data: vec![0xc3] }],
        entry: va,
        name: "root".into(),
    };
    assert!(error(&[at(boot::U_AREA)]).contains("stack or U-area"));
    assert!(error(&[at(boot::STACK_TOP - PAGE)]).contains("stack or U-area"));
    assert!(write(&[at(boot::STACK_TOP)], b"").is_ok());
}

#[test]
fn takes_segments_from_elf() {
    // Header, then two program headers: code at 0x401010 and data with a zero tail.
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for field in [0x40_1010_u64, 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    for field in [0_u16, 0, 64, 56, 2, 0, 0, 0] {
        elf.extend(field.to_le_bytes());
    }
    elf.resize(64, 0);
    for (flags, offset, va, file_len, mem_len) in
        [(5_u32, 176_u64, 0x40_1010_u64, 4_u64, 4_u64), (6, 180, 0x40_2000, 2, 100)]
    {
        elf.extend(1_u32.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for field in [offset, va, va, file_len, mem_len, 4096] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.extend(b"codeda");

    let image = Image::from_elf("app", &elf).unwrap();
    let mut code = vec![0; 16];
    code.extend(b"code");
    let expected = [
        Segment { va: 0x40_1000, mem_len: 20, flags: READ | EXEC, data: code },
        Segment { va: 0x40_2000, mem_len: 100, flags: READ | WRITE, data: b"da".to_vec() },
    ];
    assert_eq!((image.entry, &image.segments[..]), (0x40_1010, &expected[..]));
    assert!(write(&[image], b"").is_ok());

    elf[16] = 3;
    assert!(Image::from_elf("app", &elf).is_err(), "position independent");
    assert!(Image::from_elf("app", b"#!/bin/sh").is_err());
}
