//! The look of figures and page, and what makes the page answer.

/// Colours and marks of figures, for light and dark.
pub const FIGURE: &str = include_str!("figure.css");

/// The rest of the page.
pub const PAGE: &str = include_str!("page.css");

/// Sorting tables, and what is shown on hover.
pub const SCRIPT: &str = include_str!("page.js");
