//! Images for an application to make children of: those of the boot bundle that the manifest names.
//!
//! Their data is mapped as it lies in the bundle, read-only, and nothing else of that: the manifest in it has
//! other applications' arguments. Before it comes a page of root's own with the tables, so that to
//! the application it is a bundle, too ([`exo_bundle`]).

use alloc::string::String;
use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{Error, FRAME_BYTES, Protection};
use exo_bundle::{
    Bundle, HEADER_LEN, IMAGE_LEN, Image, MAGIC, NAME_LEN, SEGMENT_LEN, Segment, VERSION,
};
use libos::environment::{Builder, space};
use libos::memory::layout::PROGRAMS;

use crate::bundle::Place;

/// Maps `names` for the application of `builder`. Returns how many bytes these are, or zero.
pub(crate) fn map(
    bundle: &Bundle<'static>,
    place: &Place,
    names: &[String],
    builder: &Builder,
) -> Result<u64, Error> {
    let images: Option<Vec<_>> = names.iter().map(|name| bundle.image(name)).collect();
    let images = images.ok_or(Error::Vacant)?;
    if images.is_empty() {
        return Ok(0);
    }
    let table = || builder.take(1);
    let mut at = PROGRAMS.start.plus(1).ok_or(Error::BadAddress)?;
    for segment in images.iter().flat_map(Image::segments) {
        let pages = pages_of(&segment);
        if pages > 0 {
            let first = place.frame_of(segment.data);
            space::map(builder.env(), SELF, first, at, pages, Protection::Read, table)?;
        }
        at = at.plus(pages).ok_or(Error::BadAddress)?;
    }
    let bytes = at.get() - PROGRAMS.start.get();
    let head = space::own_frame()?;
    builder.write((SELF, head), 1, 0, &tables(&images, bytes))?;
    space::map(builder.env(), SELF, head, PROGRAMS.start, 1, Protection::Read, table)?;
    Ok(bytes)
}

fn pages_of(segment: &Segment<'_>) -> u32 {
    (segment.data.len() as u64).div_ceil(FRAME_BYTES) as u32
}

/// The beginning of a bundle of `total` bytes with these images; their data begins in the next page.
fn tables(images: &[Image<'_>], total: u64) -> Vec<u8> {
    let segments = || images.iter().flat_map(Image::segments);
    let count = segments().count() as u32;
    let end = HEADER_LEN + images.len() * IMAGE_LEN + count as usize * SEGMENT_LEN;
    let mut bytes = Vec::with_capacity(end);
    bytes.extend(MAGIC);
    for field in [VERSION, images.len() as u32, count] {
        bytes.extend(field.to_le_bytes());
    }
    // There is no manifest.
    for field in [end as u64, 0, total] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.resize(HEADER_LEN, 0);
    let mut first = 0_u32;
    for image in images {
        let mut name = [0; NAME_LEN];
        name.iter_mut().zip(image.name.bytes()).for_each(|(to, from)| *to = from);
        let own = image.segments().count() as u32;
        bytes.extend(name);
        bytes.extend(image.entry.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(own.to_le_bytes());
        bytes.extend([0; 16]);
        first += own;
    }
    let mut at = FRAME_BYTES;
    for segment in segments() {
        for field in [segment.va, at, segment.data.len() as u64, segment.mem_len] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(segment.flags.to_le_bytes());
        bytes.extend([0; 4]);
        at += u64::from(pages_of(&segment)) * FRAME_BYTES;
    }
    bytes
}
