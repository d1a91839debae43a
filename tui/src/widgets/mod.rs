//! Pieces that screens are put together from. Never here: facts, requests, or what a screen is for.

pub(crate) mod canvas;
pub(crate) mod chart;
pub(crate) mod composer;
pub(crate) mod field;
pub(crate) mod form;
pub(crate) mod hits;
pub(crate) mod line;
pub(crate) mod list;
pub(crate) mod number;
pub(crate) mod page;
pub(crate) mod text;
