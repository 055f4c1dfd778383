//! Making an environment from an image of the bundle.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use exo_abi::boot::{CONSOLE, ELEVATION, FRAMES, KEYS, MACHINE, NET, STACK_TOP, U_AREA};
use exo_abi::{
    Allowance, Error, FRAME_BYTES, FrameInfo, Handle, Pages, Pfn, Rights, UserPtr, VirtAddr, Word,
};
use exo_bundle::Bundle;
use libos::disk::Extent;
use libos::environment::space::own_frame;
use libos::environment::{Builder, PARTS, STACK_PAGES};
use libos::memory::Range;
use libos::memory::frames::count_free;
use libos::start::StartBlock;
use libos::sys;
use root::manifest::{App, Elevate, Manifest, OnExit, STRETCH_MICROSECONDS};

use crate::bundle::Place;
use crate::programs;

/// Where root maps a child's pages to fill them: one batch, below the bundle.
const WINDOW: VirtAddr = VirtAddr::new(0x2400_0000).expect("a page of user space");

/// What is granted of ring 0: on every processor, for as long as the application runs.
const STRETCHES: Allowance =
    Allowance { cores: u32::MAX, stretch: STRETCH_MICROSECONDS, total: Allowance::UNLIMITED };

/// An application that was started.
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) env: Handle,
    pub(crate) on_exit: OnExit,
    /// The frames it may take, and how many of them were free before.
    pub(crate) range: Range,
    pub(crate) free_before: Pages,
    /// What root derived for it and of it: dropped when it is gone.
    pub(crate) derived: Vec<Handle>,
    /// What it shares with others, as it is told.
    pub(crate) shares: Vec<u8>,
    /// Bytes of the images that it may make children of.
    pub(crate) programs: u64,
    pub(crate) builder: Builder,
    given: Given,
    /// The network capability narrowed to its address, and the frame it needs.
    pub(crate) scope: Option<(Handle, [Pfn; 2])>,
    entry: u64,
}

/// Handles of what root gave it, in its own table.
#[derive(Clone, Copy)]
struct Given {
    frames: Handle,
    console: Option<Handle>,
    net: Option<Handle>,
    machine: Option<Handle>,
    disk: Option<(Handle, Extent)>,
    elevation: Option<Handle>,
    key: Option<(Handle, u32)>,
}

/// Makes the environment of `app`, filled and endowed, not yet told and not yet running. Its
/// frames are the ones below `ceiling`, which moves down; `extent` is what it gets of the disk, `key` its
/// protection key.
pub(crate) fn create(
    bundle: &Bundle<'static>,
    place: &Place,
    app: &App,
    ceiling: &mut Pfn,
    table: &[FrameInfo],
    extent: Option<(Handle, Extent)>,
    key: Option<u32>,
) -> Result<Child, Error> {
    let image = bundle.image(&app.image).ok_or(Error::Vacant)?;
    let first = Pfn(ceiling.0.checked_sub(app.frames).ok_or(Error::OutOfRange)?);
    let range = Range { first, count: app.frames };
    *ceiling = first;
    let free_before = count_free(table, range);

    let builder = Builder::new(FRAMES, range, WINDOW)?;
    if app.grants.keys {
        builder.guard()?;
    }
    builder.load(&image)?;

    let mut derived = Vec::new();
    let mut give = |source, rights, first: u64, count: u64| {
        let narrowed = Handle::from_word(sys::cap_derive(source, rights, first, count)?)?;
        derived.push(narrowed);
        Handle::from_word(sys::cap_grant(narrowed, builder.env())?)
    };
    let grants = app.grants;
    let range_rights = Rights::TAKE.with(Rights::GRANT);
    let (low, count) = (u64::from(first.0), u64::from(app.frames));
    let frames = give(FRAMES, range_rights, low, count)?;
    let (stretch, total) = STRETCHES.into_words();
    let in_ring_0 = Rights::CONTROL.with(Rights::GRANT);
    let elevation = match app.elevate {
        Elevate::Never => None,
        Elevate::Serve => Some(in_ring_0),
        Elevate::Deep => Some(in_ring_0.with(Rights::CALL)),
    };
    let elevation = elevation.map(|rights| give(ELEVATION, rights, stretch, total)).transpose()?;
    let of_key = |key: u32| {
        let rights = Rights::CALL.with(Rights::GRANT);
        Ok::<_, Error>((give(KEYS, rights, key.into(), 1)?, key))
    };
    let key = key.map(of_key).transpose()?;
    let mut optional = |wanted: bool, source, right: Rights| {
        wanted.then(|| give(source, right.with(Rights::GRANT), 0, 0)).transpose()
    };
    let console = optional(grants.console, CONSOLE, Rights::PRINT)?;
    let scope = match app.address {
        Some(address) if grants.net => Some(net_scope(address)?),
        _ => None,
    };
    let net = scope.map_or(NET, |(net, _)| net);
    let net = optional(scope.is_some(), net, Rights::BIND)?;
    let machine = optional(grants.machine, MACHINE, Rights::POWER)?;
    let disk = match extent {
        Some((narrowed, place)) => {
            derived.push(narrowed);
            Some((Handle::from_word(sys::cap_grant(narrowed, builder.env())?)?, place))
        }
        None => None,
    };
    Ok(Child {
        name: app.name.clone(),
        image: app.image.clone(),
        env: builder.env(),
        on_exit: app.on_exit,
        range,
        free_before,
        derived,
        shares: Vec::new(),
        programs: programs::map(bundle, place, &app.images, &builder)?,
        builder,
        given: Given { frames, console, net, machine, disk, elevation, key },
        scope,
        entry: image.entry,
    })
}

impl Child {
    /// Writes into its U-area what it has: the last thing before it is started.
    pub(crate) fn tell(&self, manifest: &Manifest, app: &App) -> Result<(), Error> {
        let Given { frames, console, net, machine, disk, elevation, key } = self.given;
        self.builder.tell(&StartBlock {
            name: &app.name,
            frames,
            first_frame: self.range.first,
            frame_count: self.range.count,
            console,
            net,
            machine,
            disk,
            elevation,
            key,
            address: app.address,
            gateway: manifest.gateway,
            prefix_len: manifest.prefix_len,
            boot_unix_seconds: manifest.boot_unix_seconds,
            arguments: &app.args.join("\0"),
            shares: &self.shares,
            programs: self.programs,
        })
    }
}

/// Whether `address` lies in the page below an application's stack, where nothing is mapped:
/// it has used the stack up.
pub(crate) fn is_below_stack(address: u64) -> bool {
    let start = STACK_TOP - u64::from(STACK_PAGES) * FRAME_BYTES;
    (start - FRAME_BYTES..start).contains(&address)
}

/// What to tell the manifest's author, when [`create`] has failed with `error`.
pub(crate) fn explain(error: Error, bundle: &Bundle<'_>, app: &App, ceiling: Pfn) -> String {
    let least = bundle.image(&app.image).map_or(0, |image| {
        let segments = image.segments();
        least_frames(segments.map(|part| (part.va, part.mem_len.div_ceil(FRAME_BYTES))))
    });
    match error {
        Error::OutOfRange if u64::from(app.frames) < least => alloc::format!(
            "frames = {} is too few: program, stack and page tables take {least}, \
             and what it allocates comes on top",
            app.frames
        ),
        Error::OutOfRange if app.frames > ceiling.0 => {
            alloc::format!("frames = {} is more than is left of the memory", app.frames)
        }
        error => error.to_string(),
    }
}

/// Frames that [`create`] takes for a program with these segments, each as address and pages.
fn least_frames(segments: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut tables = BTreeSet::new();
    let mut least = u64::from(PARTS);
    let stack = (STACK_TOP - u64::from(STACK_PAGES) * FRAME_BYTES, u64::from(STACK_PAGES));
    for (address, pages) in segments.chain([stack, (U_AREA, 1)]) {
        least += pages;
        for page in 0..pages {
            let at = address + page * FRAME_BYTES;
            tables.extend([21, 30, 39].map(|bits| (bits, at >> bits)));
        }
    }
    // The page of the U-area is one of the parts.
    least - 1 + tables.len() as u64
}

/// The network capability narrowed to all that concerns `address`.
fn net_scope(address: [u8; 4]) -> Result<(Handle, [Pfn; 2]), Error> {
    let mut wire = [0; 2 * dpf::KEY_WIRE];
    let keys = [dpf::packet::ipv4_all(address), dpf::packet::arp_for(address)];
    let used = dpf::encode_keys(&keys, &mut wire).ok_or(Error::BadFilter)?;
    let (object, code) = (own_frame()?, own_frame()?);
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    let net = sys::net_scope(NET, at, used as u64, object, code)?;
    Ok((Handle::from_word(net)?, [object, code]))
}

/// Lets the application run.
pub(crate) fn start(child: &Child) -> Result<(), Error> {
    child.builder.start(child.entry)
}
