//! The order of things: memory, bundle, manifest, applications, watch.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use exo_abi::{Pfn, SLOT_COUNT, UArea, boot};
use exo_bundle::Bundle;
use libos::memory::Range;
use libos::{console, println, sys};
use root::manifest::Manifest;
use root::slots;

use crate::child::{self, Child};
use crate::disk::Extents;
use crate::{bundle, shares, watch};

/// Exit code of the machine when it could not be set up.
const SETUP_FAILED: u64 = 125;

/// Runs root. Returns only if there is nothing left to do.
pub(crate) fn start(u_area: &'static UArea) -> u64 {
    console::init("root", Some(boot::CONSOLE));
    match set_up(u_area) {
        Ok(machine) => watch::run(machine, u_area),
        Err(problem) => {
            println!("{problem}");
            power_off(SETUP_FAILED)
        }
    }
}

/// Everything root has to look after.
pub(crate) struct Started {
    pub(crate) children: Vec<Child>,
    pub(crate) frame_table: &'static [exo_abi::FrameInfo],
    pub(crate) system: &'static exo_abi::SystemInfo,
}

fn set_up(u_area: &'static UArea) -> Result<Started, String> {
    let place = bundle::Place::read(u_area);
    // Below the boot image is free memory: root takes what it needs upwards from
    // its own object, applications get ranges downwards from the image.
    let own = Pfn(u_area.id.load(core::sync::atomic::Ordering::Relaxed));
    let below = place.image.0.saturating_sub(own.0);
    libos::memory::guest::init(boot::FRAMES, Range { first: own, count: below });
    let memory = libos::memory::guest::Memory::get();
    let system = memory.map_system_info(u_area).map_err(|error| error.to_string())?;
    let frame_table = memory.map_frame_table(system).map_err(|error| error.to_string())?;
    let bytes = bundle::map(&place).map_err(|error| alloc::format!("boot bundle: {error}"))?;
    let bundle = Bundle::parse(bytes).map_err(|error| alloc::format!("boot bundle: {error}"))?;
    let manifest = Manifest::decode(bundle.manifest()).map_err(|error| error.to_string())?;

    let mut children = Vec::new();
    let mut ceiling = place.image;
    let wanted = manifest.apps.iter().any(|app| app.disk.is_some());
    let mut extents = if wanted { Extents::open(u_area, system)? } else { None };
    // One protection key each, while there are any.
    let keys = system.keys.load(core::sync::atomic::Ordering::Relaxed);
    for (app, key) in manifest.apps.iter().zip(1..) {
        let key = (key < keys).then_some(key);
        let extent = match (&app.disk, &mut extents) {
            (Some(share), Some(extents)) => {
                let claimed = extents.claim(share);
                Some(claimed.map_err(|it| alloc::format!("cannot start {}: {it}", app.name))?)
            }
            _ => None,
        };
        let child = child::create(&bundle, &place, app, &mut ceiling, frame_table, extent, key)
            .map_err(|error| {
                let problem = child::explain(error, &bundle, app, ceiling);
                alloc::format!("cannot start {}: {problem}", app.name)
            })?;
        children.push(child);
    }
    shares::make(&manifest.shares, &mut children)
        .map_err(|error| alloc::format!("cannot share pages: {error}"))?;
    for (child, app) in children.iter().zip(&manifest.apps) {
        child.tell(&manifest, app).map_err(|error| {
            alloc::format!("cannot start {}: arguments and shares: {error}", app.name)
        })?;
    }
    let cores = system.cores.load(core::sync::atomic::Ordering::Relaxed);
    share_processors(&manifest, &children, cores)?;
    for child in &children {
        child::start(child).map_err(|error| alloc::format!("{}: {error}", child.name))?;
    }
    Ok(Started { children, frame_table, system })
}

/// Spreads the slots over the applications; what was not asked for stays
/// root's, at least one slot, so that it can wake when one ends. On every
/// processor alike: an application runs on one at a time, whichever reaches it first.
fn share_processors(manifest: &Manifest, children: &[Child], cores: u32) -> Result<(), String> {
    let mut shares: Vec<u32> = manifest.apps.iter().map(|app| u32::from(app.slots)).collect();
    let asked: u32 = shares.iter().sum();
    shares.push((SLOT_COUNT as u32).saturating_sub(asked).max(1));
    for app in &manifest.apps {
        if let Some(core) = app.core.filter(|core| u32::from(*core) >= cores) {
            return Err(alloc::format!("{}: there is no processor {core}", app.name));
        }
    }
    for (slot, owner) in (0..).zip(slots::spread(&shares, SLOT_COUNT)) {
        let (Some(child), Some(app)) = (children.get(owner), manifest.apps.get(owner)) else {
            continue;
        };
        for core in (0..cores).filter(|core| app.core.is_none_or(|only| u32::from(only) == *core)) {
            let slot = core * SLOT_COUNT as u32 + slot;
            sys::slots_assign(boot::SLOTS, slot, 1, child.env)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Ends the machine.
pub(crate) fn power_off(code: u64) -> ! {
    let _ = sys::machine_exit(boot::MACHINE, code.min(126));
    // Refused only if the capability was given up, which root never does.
    loop {
        let _ = sys::slice_yield();
    }
}
