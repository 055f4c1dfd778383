//! What the command does, tried as a whole: one program, so that two cores are busy whichever
//! tests take long.

mod command;
mod figures;
mod filter;
mod link;
mod machine;
mod prose;
mod repro;
mod seeing;
mod support;
mod tutorial;
mod workbench;
