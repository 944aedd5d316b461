//! Charts of the last five minutes: [`data`] says what to draw (pure), [`draw`] puts it on a canvas with plotters, and
//! [`Chart`] is the view with legend, readout and text alternative.

pub mod data;
pub mod draw;
mod view;

pub use view::Chart;
