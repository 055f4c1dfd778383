//! The command as its host sees it, with a cargo that builds nothing and a QEMU that is a
//! script ([`place`]): what it prints, which signals it heeds, where it looks for things.

mod output;
mod place;
mod run;
