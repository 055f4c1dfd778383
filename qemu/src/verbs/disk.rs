//! `cargo exo disk`: the machine's disk, looked at from outside, and changed while no machine has it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use root::extents::{Extent, SECTOR, Table};

use crate::disk::Image;
use crate::output::{note, print_bytes, say};

/// Look at the disk of a machine: extents by name
///
/// The file is the one of `cargo exo run --disk FILE`. Sizes are sectors of 512 bytes. While a
/// machine has it, its table can be read, of which one copy is always whole; what it writes is
/// seen half, and nothing is changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the extents, and what is free
    List {
        /// The disk
        file: PathBuf,
    },
    /// Say whether the table of extents is whole; exit code 1 if neither copy is
    Check {
        /// The disk
        file: PathBuf,
    },
    /// Write the contents of an extent to standard output
    Dump {
        /// The disk
        file: PathBuf,
        /// The extent's name
        name: String,
    },
    /// Give an extent up: its contents are lost, and filled with zeros before another has them
    Free {
        /// The disk
        file: PathBuf,
        /// The extent's name
        name: String,
    },
    /// Write an empty table of extents
    Format {
        /// The disk
        file: PathBuf,
        /// Also if something is on it
        #[arg(long)]
        force: bool,
    },
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let name = |file: &PathBuf| file.display().to_string();
    match &args.action {
        Action::List { file } => {
            let (table, _) = look_at(file)?.table().with_context(|| name(file))?;
            list(&table)?;
        }
        Action::Check { file } => {
            let (table, whole) = look_at(file)?.table().with_context(|| name(file))?;
            let copies = match whole {
                [true, true] => "both copies are whole",
                _ => "one copy is whole, which is enough; the next change writes the other",
            };
            let (count, generation) = (table.extents().len(), table.generation());
            say!("{}: {count} extents, written {generation} times; {copies}", name(file))?;
        }
        Action::Dump { file, name: extent } => {
            let image = look_at(file)?;
            let (table, _) = image.table().with_context(|| name(file))?;
            image.read_extent(find(&table, extent)?, |bytes| Ok(print_bytes(bytes)?))?;
        }
        Action::Free { file, name: extent } => {
            let image = change(file)?;
            let (mut table, _) = image.table().with_context(|| name(file))?;
            find(&table, extent)?;
            table.remove(extent);
            image.write(&mut table)?;
        }
        Action::Format { file, force } => {
            let image = change(file)?;
            let blank = match image.table() {
                Ok(_) => false,
                Err(error) => is_blank(&error),
            };
            ensure!(blank || *force, "{}: something is on it; --force writes over it", name(file));
            image.format()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The disk, to be read.
fn look_at(file: &Path) -> Result<Image> {
    let image = Image::open(file, false)?;
    if image.is_in_use()? {
        note!(
            "{}: a running machine has this disk; what it writes may be seen half",
            file.display()
        );
    }
    Ok(image)
}

/// The disk, to be written.
fn change(file: &Path) -> Result<Image> {
    let image = Image::open(file, true)?;
    ensure!(!image.is_in_use()?, "{}: a running machine has this disk", file.display());
    Ok(image)
}

fn is_blank(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(root::extents::Problem::Blank))
}

fn find<'a>(table: &'a Table, name: &str) -> Result<&'a Extent> {
    table.find(name).with_context(|| {
        let names: Vec<_> = table.extents().iter().map(|it| it.name.as_str()).collect();
        match &names[..] {
            [] => format!("there is no extent \"{name}\", nor any other"),
            names => format!("there is no extent \"{name}\"; there are: {}", names.join(", ")),
        }
    })
}

fn list(table: &Table) -> Result<()> {
    say!("{:16}  {:>10}  {:>10}  {:>12}", "extent", "first", "sectors", "bytes")?;
    let line = |name: &str, first: u32, sectors: u32| {
        say!("{name:16}  {first:>10}  {sectors:>10}  {:>12}", u64::from(sectors) * SECTOR as u64)
    };
    for Extent { name, first, sectors } in table.extents() {
        line(name, *first, *sectors)?;
    }
    for gap in table.free() {
        line("(free)", gap.start, gap.end - gap.start)?;
    }
    Ok(())
}
