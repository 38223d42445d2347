//! What each command of `convzoo inspect` does.

use anyhow::Context;

use super::*;
use crate::cli::measured::run_beside;
use crate::cli::{print_line, scores};
use crate::train::LeftOut;

impl Images {
    /// Every picture's name and the picture.
    fn read(&self) -> impl Iterator<Item = crate::Result<(String, crate::data::Picture)>> {
        self.images.iter().map(|path| Ok((name(path), decode_file(path, Limits::default())?)))
    }

    /// What `look` makes of each picture, under its name.
    fn sections(
        &self,
        viewer: &Viewer,
        look: impl Fn(&Subject) -> crate::Result<Vec<Section>>,
    ) -> crate::Result<Vec<Section>> {
        let mut sections = Vec::new();
        for read in self.read() {
            let (name, picture) = read?;
            let subject = viewer.see(&picture).map_err(|cause| crate::Error::file(&name, cause))?;
            for section in look(&subject)? {
                sections.push(named(&name, section));
            }
        }
        Ok(sections)
    }
}

/// A file's name without its folder.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The section under a picture's name.
fn named(name: &str, section: Section) -> Section {
    let heading = match section.heading.as_str() {
        "" => name.to_owned(),
        of_layer => format!("{name}, {of_layer}"),
    };
    Section { heading, ..section }
}

fn sheet(viewer: &Viewer, what: &str, sections: Vec<Section>) -> Sheet {
    Sheet { title: format!("{what} of {}", viewer.model.architecture.name), sections }
}

impl Filters {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("filters.png")?;
        let viewer = self.weights.open()?;
        let sections = vec![inspect::show_filters(&viewer)?];
        target.write(&sheet(&viewer, "First filters", sections))
    }
}

impl Maps {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("maps.png")?;
        let viewer = self.weights.open()?;
        let (layers, most) = (&self.layers, self.most.into());
        let look = |subject: &Subject| inspect::show_maps(&viewer, subject, layers, most);
        let sections = self.images.sections(&viewer, look)?;
        target.write(&sheet(&viewer, "Feature maps", sections))
    }
}

impl GradCam {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("gradcam.png")?;
        let viewer = self.weights.open()?;
        let classes = self.class.iter().map(|name| viewer.find_class(name));
        let classes = classes.collect::<crate::Result<Vec<_>>>()?;
        let (layer, top) = (self.layer.as_deref(), self.top.into());
        let look = |subject: &Subject| {
            Ok(vec![inspect::show_gradcam(&viewer, subject, layer, &classes, top)?])
        };
        let sections = self.images.sections(&viewer, look)?;
        target.write(&sheet(&viewer, "Grad-CAM", sections))
    }
}

impl Occlusion {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("occlusion.png")?;
        let viewer = self.weights.open()?;
        let class = self.class.as_ref().map(|name| viewer.find_class(name)).transpose()?;
        let window = window(&viewer, self.patch, self.stride);
        let look =
            |subject: &Subject| Ok(vec![inspect::show_occlusion(&viewer, subject, class, window)?]);
        let sections = self.images.sections(&viewer, look)?;
        target.write(&sheet(&viewer, "Occlusion maps", sections))
    }
}

fn window(viewer: &Viewer, patch: Option<usize>, stride: Option<usize>) -> Window {
    let (_, h, w) = viewer.model.config.input;
    let size = patch.unwrap_or((h.min(w) / 6).max(1));
    Window { size, stride: stride.unwrap_or((size / 3).max(1)) }
}

impl Fields {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("receptive-field.png")?;
        let viewer = self.weights.open()?;
        let look = |subject: &Subject| {
            let fields = inspect::show_receptive_fields(&viewer, subject, &self.layers, self.unit)?;
            Ok(vec![fields])
        };
        let sections = self.images.sections(&viewer, look)?;
        target.write(&sheet(&viewer, "Receptive fields", sections))
    }
}

impl Kernels {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("kernels.png")?;
        let mut sections = Vec::new();
        for read in self.images.read() {
            let (name, picture) = read?;
            let section = inspect::show_kernels(&picture).with_context(|| name.clone())?;
            sections.push(named(&name, section));
        }
        let title = "Filters made by hand".to_owned();
        target.write(&Sheet { title, sections })
    }
}

impl Mistakes {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("mistakes.png")?;
        let (path, file) = self.weights.undescribed()?;
        let model = self.weights.model.as_deref();
        let name = file.metadata.as_ref().map(|metadata| metadata.architecture.clone());
        let run = name.and_then(|name| run_beside(&path, &name));
        let found = self.images.open(file, model, run.as_ref(), &Device::Cpu)?;
        for said in found.notes.iter().chain(&found.warnings) {
            print_line(said)?;
        }
        let viewer = Viewer {
            model: found.model.clone(),
            pipeline: found.pipeline.clone(),
            classes: found.classes.clone(),
        };
        let mut sections = Vec::new();
        for part in &found.parts {
            let options = LoaderOptions { workers: 2, ..LoaderOptions::default() };
            let loader = self.images.loader(&found, part, options)?;
            let wrong = inspect::most_wrong(&viewer.model.network, &loader, self.most.into())?;
            let (source, classes) = (part.source.as_ref(), &viewer.classes);
            let section = inspect::show_mistakes(&viewer, &wrong, source, classes)?;
            print_line(&format!("{}, {}: {}", found.dataset, part.what, section.heading))?;
            if let Some(left_out) = scores::left_out(&LeftOut::of(&loader)) {
                print_line(&left_out)?;
            }
            sections.push(named(part.part.as_str(), section));
        }
        let title = format!("Mistakes of {} on {}", viewer.model.architecture.name, found.dataset);
        target.write(&Sheet { title, sections })
    }
}

impl All {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = self.out.target("inspect.html")?;
        let viewer = self.weights.open()?;
        let window = window(&viewer, None, None);
        let mut sections = vec![inspect::show_filters(&viewer)?];
        sections.extend(self.images.sections(&viewer, |subject| {
            let about = |what: &str, section| named(what, section);
            let cam = inspect::show_gradcam(&viewer, subject, None, &[], 2)?;
            let covered = inspect::show_occlusion(&viewer, subject, None, window)?;
            let fields = inspect::show_receptive_fields(&viewer, subject, &[], None)?;
            let mut all = vec![
                about("Grad-CAM", cam),
                about("occlusion", covered),
                about("receptive fields", fields),
            ];
            all.extend(inspect::show_maps(&viewer, subject, &[], 10)?);
            Ok(all)
        })?);
        target.write(&sheet(&viewer, "Inside", sections))
    }
}
