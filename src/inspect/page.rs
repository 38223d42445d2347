//! A page of drawings and text: one HTML file that needs nothing else, for light and dark.

use std::fmt::Write;
use std::path::Path;

use super::drawing::{self, Drawing, dark_style, escaped};
use crate::data::Picture;
use crate::{Result, files};

/// A page that is being written.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
}

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e22; --faint: #60646c; --edge: #d5d8dd }
@media (prefers-color-scheme: dark) {
:root { --paper: #16181d; --ink: #e8eaee; --faint: #a4a9b2; --edge: #3a3e46 } }
body { background: var(--paper); color: var(--ink); margin: 1.5rem auto; max-width: 64rem;
  padding: 0 1rem; font: 15px/1.5 Helvetica, Arial, 'Liberation Sans', sans-serif }
h1 { font-size: 1.35rem } h2 { font-size: 1.1rem; margin-top: 2rem }
p { color: var(--faint); max-width: 46rem }
figure { margin: 1rem 0; overflow-x: auto }
img.picture { max-width: 100%; background: #fff }
details { border-left: 3px solid var(--edge); padding-left: .8rem; margin: .5rem 0 }
summary { cursor: pointer; color: var(--faint) }
details[open] > summary { color: var(--ink) }
.link { cursor: pointer } .link:hover path { stroke-width: 2 }
";

/// Opens what a block leads to, and all around it.
const SCRIPT: &str = "
document.querySelectorAll('[data-target]').forEach(function (block) {
  block.addEventListener('click', function () {
    var target = document.getElementById(block.dataset.target);
    for (var at = target; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true;
    if (target) target.scrollIntoView({ behavior: 'smooth', block: 'nearest' });
  });
});
";

impl Page {
    /// A page with nothing but a title.
    pub fn new(title: &str) -> Self {
        Page { title: title.to_owned(), body: String::new() }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escaped(text));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escaped(text));
    }

    /// A drawing, as lines and areas.
    pub fn drawing(&mut self, drawing: &Drawing) {
        let _ = writeln!(self.body, "<figure>{}</figure>", drawing.svg_element());
    }

    /// A picture, with what it shows for those who cannot see it.
    pub fn picture(&mut self, picture: &Picture, what: &str) {
        let url = drawing::data_url(picture);
        let what = escaped(what);
        let _ = writeln!(
            self.body,
            "<figure><img class=\"picture\" src=\"{url}\" alt=\"{what}\"></figure>"
        );
    }

    /// Begins a part that can be folded.
    pub fn open(&mut self, id: &str, title: &str, open: bool) {
        let open = if open { " open" } else { "" };
        let (id, title) = (escaped(id), escaped(title));
        let _ = writeln!(self.body, "<details id=\"{id}\"{open}><summary>{title}</summary>");
    }

    /// Ends it.
    pub fn close(&mut self) {
        self.body.push_str("</details>\n");
    }

    /// The file.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
             {}<script>{SCRIPT}</script>\n</body>\n</html>\n",
            dark_style(),
            self.body
        )
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_bytes(path, self.html().as_bytes())
    }
}
