//! The pipeline, drawn: [`model`] says how each node is, [`layout`] where it stands (both pure), [`view`] draws it.

pub mod layout;
pub mod model;
mod view;

pub use view::Pipeline;
