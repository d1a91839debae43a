//! The client of hone: the command line, and the screens. Both know facts only from the daemon's answers.
//! Never here: deciding anything, or opening the store.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cli;
pub mod link;
pub mod print;
pub mod start;

mod action;
pub mod app;
mod draft;
mod event;
mod glyphs;
mod journal;
mod keymap;
mod labels;
mod layers;
mod mirror;
mod palette;
#[cfg(test)]
mod sample;
mod screens;
mod shell;
mod terminal;
mod terminal_loop;
mod theme;
mod widgets;
