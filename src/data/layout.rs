//! How a folder of images is laid out: its parts, its classes, and what in it is not used.
//!
//! [`survey`] reads a folder once; [`Survey::to_train`] and [`Survey::to_measure`] take from it what
//! training and measuring need. What is not used is said in one line.

use std::path::{Path, PathBuf};

use super::folder::{LabelledFile, Listing, list};
use super::names::{normal, text};
use super::part::Part;
use super::unused::{Unused, some, some_of};
use crate::error::{Error, Result};

/// The layouts that a folder of classes may have.
pub(crate) const LAYOUTS: &str =
    "DIR/train/CLASS/* with DIR/val/CLASS/*, or DIR/CLASS/* with at least two classes";

/// How classes are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Every folder is a class.
    Folders,
    /// Folders of cats and of dogs, or files `cat.*` and `dog.*`, and nothing else.
    CatsDogs,
}

/// The images of one class in one part.
struct Class {
    /// In normal form.
    name: String,
    folder: PathBuf,
    files: Vec<LabelledFile>,
}

/// One part of a folder, or the whole of a folder without parts.
struct Group {
    part: Option<Part>,
    folder: PathBuf,
    /// By name.
    classes: Vec<Class>,
    /// Images beside the class folders.
    loose: usize,
}

/// What a folder of images holds.
pub(crate) struct Survey {
    rule: Rule,
    root: PathBuf,
    /// Those with images in classes: a single one without a part, or one for each part.
    groups: Vec<Group>,
    /// Those without.
    without: Vec<Group>,
    /// Class folders that the rule does not take.
    other_classes: Vec<String>,
    notes: Vec<String>,
}

/// The parts of a folder, as training wants them.
pub(crate) struct Parts {
    /// The folder that the files' paths are relative to.
    pub(crate) root: PathBuf,
    pub(crate) classes: Vec<String>,
    pub(crate) train: Vec<LabelledFile>,
    pub(crate) val: Option<Vec<LabelledFile>>,
    pub(crate) test: Option<Vec<LabelledFile>>,
    pub(crate) notes: Vec<String>,
}

/// All images of a folder, part by part.
pub(crate) struct Everything {
    /// The folder that the files' paths are relative to.
    pub(crate) root: PathBuf,
    pub(crate) classes: Vec<String>,
    /// train, val and test; train alone in a folder without parts.
    pub(crate) parts: Vec<(&'static str, Vec<LabelledFile>)>,
    pub(crate) notes: Vec<String>,
}

/// The images of a folder that are measured.
pub(crate) struct Measured {
    /// The folder that the files' paths are relative to.
    pub(crate) root: PathBuf,
    pub(crate) classes: Vec<String>,
    pub(crate) files: Vec<LabelledFile>,
    /// Which part was taken; all of them in a folder without parts.
    pub(crate) part: Part,
    /// What was taken, for people.
    pub(crate) what: String,
    pub(crate) notes: Vec<String>,
}

/// Reads how a folder is laid out.
///
/// # Errors
/// A folder that cannot be read, two folders for one part or class, a part's folder among class
/// folders, or class folders that hold nothing but folders.
pub(crate) fn survey(dir: &Path, rule: Rule) -> Result<Survey> {
    let mut listing = list(dir)?;
    let (parts, others) = part_folders(dir, std::mem::take(&mut listing.folders))?;
    let mut unused = Unused::default();
    let mut groups = Vec::new();
    for (part, folder) in parts {
        let folder = innermost(part, folder)?;
        groups.push(Group::read(dir, Some(part), folder, rule, &mut unused)?);
    }
    ask_about(dir, &groups, &others, rule)?;
    if groups.iter().any(Group::has_images) {
        unused.folders.extend(others.into_iter().map(|(name, _)| name));
        unused.loose += listing.files.len();
        unused.count(&listing);
    } else {
        listing.folders = others;
        groups.push(whole(dir, listing, rule, &mut unused)?);
    }
    let (groups, without): (Vec<_>, Vec<_>) = groups.into_iter().partition(Group::has_images);
    unused.parts.extend(without.iter().filter(|g| g.part.is_some()).map(Group::unlabelled));
    unused.loose += groups.iter().map(|group| group.loose).sum::<usize>();
    let mut notes: Vec<String> = unused.note(dir).into_iter().collect();
    notes.extend(nested_note(dir, &groups));
    let other_classes = unused.classes;
    Ok(Survey { rule, root: dir.to_owned(), groups, without, other_classes, notes })
}

/// Tells the folders of parts from all others.
fn part_folders(dir: &Path, folders: Vec<Folder>) -> Result<(Vec<PartFolder>, Vec<Folder>)> {
    let mut parts: Vec<(Part, String, PathBuf)> = Vec::new();
    let mut others = Vec::new();
    for (name, path) in folders {
        let Some(part) = Part::of_folder(&name) else {
            others.push((name, path));
            continue;
        };
        if let Some((_, twin, _)) = parts.iter().find(|(known, ..)| *known == part) {
            let cause = format!(
                "{twin} and {name} are both names for the part {part}; keep one of the two, or rename it"
            );
            return Err(Error::file(dir, cause));
        }
        parts.push((part, name, path));
    }
    parts.sort_by_key(|(part, ..)| *part);
    Ok((parts.into_iter().map(|(part, _, path)| (part, path)).collect(), others))
}

/// A name and a path.
type Folder = (String, PathBuf);

/// The folder of a part.
type PartFolder = (Part, PathBuf);

/// The folder of a part, which some archives nest in another one of its kind: `seg_train/seg_train`.
fn innermost(part: Part, mut folder: PathBuf) -> Result<PathBuf> {
    loop {
        let listing = list(&folder)?;
        match &listing.folders[..] {
            [(name, path)] if listing.files.is_empty() && Part::of_folder(name) == Some(part) => {
                folder = path.clone();
            }
            _ => return Ok(folder),
        }
    }
}

/// An error where a part's folder lies beside class folders, and either may be meant.
fn ask_about(dir: &Path, groups: &[Group], others: &[Folder], rule: Rule) -> Result<()> {
    let labelled = |part| groups.iter().any(|g| g.part == Some(part) && g.has_images());
    if labelled(Part::Train) && (labelled(Part::Val) || labelled(Part::Test)) {
        return Ok(());
    }
    let mut classes = Vec::new();
    for (name, path) in others {
        let takes = rule == Rule::Folders || animal(name).is_some();
        if takes && !list(path)?.files.is_empty() {
            classes.push(name.as_str());
        }
    }
    let (Some(group), false) = (groups.first(), classes.is_empty()) else { return Ok(()) };
    let name = group.folder_name();
    let part = group.part.unwrap_or(Part::All);
    let cause = format!(
        "{name} lies beside folders that look like classes ({}): it may be the part {part} or a class. \
         If it is a part, move the class folders into a folder train; if it is a class, move all class \
         folders, {name} among them, into a folder train",
        some(&classes)
    );
    Err(Error::file(dir, cause))
}

/// A folder without parts.
fn whole(dir: &Path, listing: Listing, rule: Rule, unused: &mut Unused) -> Result<Group> {
    let named = |(name, _): &&Folder| name.eq_ignore_ascii_case("PetImages");
    match listing.folders.iter().find(named).filter(|_| rule == Rule::CatsDogs) {
        Some((_, inner)) => Group::read(dir, None, inner.clone(), rule, unused),
        None => Group::of(dir, (None, dir.to_owned()), listing, rule, unused),
    }
}

/// The label of a folder of cats or of dogs.
fn animal(folder: &str) -> Option<usize> {
    match folder.to_ascii_lowercase().as_str() {
        "cat" | "cats" => Some(0),
        "dog" | "dogs" => Some(1),
        _ => None,
    }
}

impl Group {
    fn read(
        root: &Path,
        part: Option<Part>,
        folder: PathBuf,
        rule: Rule,
        unused: &mut Unused,
    ) -> Result<Group> {
        let listing = list(&folder)?;
        Group::of(root, (part, folder), listing, rule, unused)
    }

    fn of(
        root: &Path,
        (part, folder): (Option<Part>, PathBuf),
        listing: Listing,
        rule: Rule,
        unused: &mut Unused,
    ) -> Result<Group> {
        unused.count(&listing);
        let loose = listing.files.len();
        let mut group = Group { part, folder, classes: Vec::new(), loose };
        match rule {
            Rule::Folders => group.take_folders(root, listing.folders, unused)?,
            Rule::CatsDogs => group.take_cats_and_dogs(root, listing, unused)?,
        }
        group.classes.sort_by(|a, b| a.name.cmp(&b.name));
        let twins = group.classes.windows(2).find(|pair| pair[0].name == pair[1].name);
        if let Some([a, b]) = twins {
            let (a, b) = (file_name(&a.folder), file_name(&b.folder));
            let cause = format!("{a} and {b} are two folders for one class; join them in one");
            return Err(Error::file(&group.folder, cause));
        }
        Ok(group)
    }

    /// Every folder is a class, unless all of them hold nothing but folders.
    fn take_folders(
        &mut self,
        root: &Path,
        folders: Vec<Folder>,
        unused: &mut Unused,
    ) -> Result<()> {
        for (name, folder) in folders {
            let files = class_files(root, &folder, unused)?;
            self.classes.push(Class { name: normal(&name), folder, files });
        }
        let with_files = || self.classes.iter().filter(|class| !class.files.is_empty());
        match with_files().next() {
            Some(first) if with_files().all(|class| !class.has_direct(root)) => {
                Err(self.only_folders(first))
            }
            _ => Ok(()),
        }
    }

    /// What is said of classes that hold nothing but folders of images.
    fn only_folders(&self, first: &Class) -> Error {
        let names: Vec<&str> = self.classes.iter().map(|class| class.name.as_str()).collect();
        let inner = list(&first.folder).map(|listing| listing.folders).unwrap_or_default();
        let inner: Vec<&str> = inner.iter().map(|(name, _)| name.as_str()).collect();
        let (names, inner, name) = (some(&names), some(&inner), file_name(&first.folder));
        let advice = match self.classes.len() {
            1 => format!("if {name} is the data set, give {} instead", first.folder.display()),
            _ => {
                "if they are parts, call them train, val and test; if they are classes, put their \
                  images directly into them"
                    .to_owned()
            }
        };
        let cause = format!(
            "taken as the class folders {names}, but they hold nothing but folders ({name} has \
             {inner}); {advice}; accepted: {LAYOUTS}"
        );
        Error::file(&self.folder, cause)
    }

    /// Cats and dogs in a folder each, or told apart by their files' names.
    fn take_cats_and_dogs(
        &mut self,
        root: &Path,
        listing: Listing,
        unused: &mut Unused,
    ) -> Result<()> {
        let (animals, others): (Vec<Folder>, Vec<Folder>) =
            listing.folders.into_iter().partition(|(name, _)| animal(name).is_some());
        for (name, folder) in others {
            match class_files(root, &folder, &mut Unused::default())?.is_empty() {
                true => unused.folders.push(name),
                false => unused.classes.push(name),
            }
        }
        if animals.is_empty() {
            self.take_names(root, listing.files);
        }
        for (name, folder) in animals {
            let files = class_files(root, &folder, unused)?;
            let name = CATS_DOGS[animal(&name).unwrap_or(0)].to_owned();
            self.classes.push(Class { name, folder, files });
        }
        Ok(())
    }

    /// Files `cat.N.jpg` and `dog.N.jpg`, as Kaggle's competition has them.
    fn take_names(&mut self, root: &Path, files: Vec<(String, PathBuf, u64)>) {
        for class in CATS_DOGS {
            let start = format!("{class}.");
            let named = files.iter().filter(|(name, ..)| name.to_lowercase().starts_with(&start));
            let files: Vec<LabelledFile> =
                named.map(|(_, path, bytes)| labelled(root, path, *bytes)).collect();
            self.loose -= files.len();
            if !files.is_empty() {
                let folder = self.folder.clone();
                self.classes.push(Class { name: class.to_owned(), folder, files });
            }
        }
    }

    fn has_images(&self) -> bool {
        self.classes.iter().any(|class| !class.files.is_empty())
    }

    /// Whether classes are told by the names of files, and some files have none.
    fn has_other_names(&self) -> bool {
        self.loose > 0 && self.classes.iter().any(|class| class.folder == self.folder)
    }

    fn names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    fn folder_name(&self) -> String {
        file_name(&self.folder)
    }

    /// A part that has no images in class folders, for people.
    fn unlabelled(&self) -> String {
        let name = self.folder_name();
        match self.loose {
            0 => format!("{name} (no images)"),
            1 => format!("{name} (1 image outside class folders)"),
            n => format!("{name} ({n} images outside class folders)"),
        }
    }

    /// Its files, each with the place of its class among `classes`.
    fn labelled(&self, classes: &[String]) -> Vec<LabelledFile> {
        let mut all = Vec::new();
        for class in &self.classes {
            let place = classes.iter().position(|name| *name == class.name);
            let label = place.map_or(0, |place| place as u32);
            all.extend(class.files.iter().map(|file| LabelledFile { label, ..file.clone() }));
        }
        all
    }
}

/// The classes of cats and dogs, by label.
pub(crate) const CATS_DOGS: [&str; 2] = ["cat", "dog"];

impl Class {
    /// Whether an image lies in the class's folder itself.
    fn has_direct(&self, root: &Path) -> bool {
        self.files.iter().any(|file| self.holds(root, file))
    }

    fn holds(&self, root: &Path, file: &LabelledFile) -> bool {
        root.join(&file.path).parent() == Some(&self.folder)
    }
}

fn labelled(root: &Path, path: &Path, bytes: u64) -> LabelledFile {
    let path = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    LabelledFile { path, label: 0, bytes }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(text).unwrap_or_else(|| path.display().to_string())
}

/// All images in a class's folder and the folders in it, relative to `root`. Linked folders further
/// down are not followed: they may lead in circles.
fn class_files(root: &Path, folder: &Path, unused: &mut Unused) -> Result<Vec<LabelledFile>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        let listing = list(&folder)?;
        unused.count(&listing);
        found.extend(listing.files.iter().map(|(_, path, bytes)| labelled(root, path, *bytes)));
        let inner = listing.folders.into_iter().map(|(_, path)| path);
        let (links, inner): (Vec<_>, Vec<_>) = inner.partition(|path| path.is_symlink());
        unused.links += links.len();
        waiting.extend(inner);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What is said where classes have images further down.
fn nested_note(root: &Path, groups: &[Group]) -> Option<String> {
    let deep = |class: &&Class| class.files.iter().any(|file| !class.holds(root, file));
    let classes = groups.iter().flat_map(|group| &group.classes).filter(deep);
    let mut names: Vec<String> = classes.map(|class| file_name(&class.folder)).collect();
    names.sort();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = "images in folders within a class folder count as its class";
    (!names.is_empty()).then(|| format!("{all}: {}", some(&names)))
}

impl Survey {
    /// Whether cats and dogs are all the classes there are.
    pub(crate) fn is_cats_and_dogs_alone(&self) -> bool {
        let both = |group: &Group| group.names() == CATS_DOGS && !group.has_other_names();
        !self.groups.is_empty() && self.other_classes.is_empty() && self.groups.iter().all(both)
    }

    /// Whether no images lie in class folders.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn part(&self, part: Part) -> Option<&Group> {
        self.groups.iter().find(|group| group.part == Some(part))
    }

    /// The parts to train with.
    ///
    /// # Errors
    /// Nothing to train on, a class without images, or parts with different classes.
    pub(crate) fn to_train(&self) -> Result<Parts> {
        let whole = self.groups.iter().find(|group| group.part.is_none());
        let Some(train) = whole.or(self.part(Part::Train)) else {
            return Err(self.nothing_to_train_on());
        };
        self.check_classes(train)?;
        let mut notes = self.notes.clone();
        if !self.other_classes.is_empty() {
            notes.push(
                "cats-dogs takes cats and dogs alone; --dataset folder takes every class".into(),
            );
        }
        let classes = train.names();
        let val = self.part(Part::Val).map(|val| self.like(val, &classes)).transpose()?;
        let test =
            self.part(Part::Test).filter(|test| !self.is_unlabelled(test, &classes, &mut notes));
        let test = test.map(|test| self.like(test, &classes)).transpose()?;
        let train = train.labelled(&classes);
        Ok(Parts { root: self.root.clone(), classes, train, val, test, notes })
    }

    /// All images, to look at: where there is something to train on, as training takes them, and else as
    /// measuring does.
    ///
    /// # Errors
    /// Those of [`Survey::to_train`], or no images at all.
    pub(crate) fn to_check(&self) -> Result<Everything> {
        let trains = |group: &Group| matches!(group.part, None | Some(Part::Train));
        if !self.groups.is_empty() && !self.groups.iter().any(trains) {
            let Measured { root, classes, notes, .. } = self.to_measure(Some(Part::All))?;
            let part = |group: &Group| {
                let part = group.part.map_or("train", Part::as_str);
                (part, group.labelled(&classes))
            };
            let parts = self.groups.iter().map(part).collect();
            return Ok(Everything { root, classes, parts, notes });
        }
        let Parts { root, classes, train, val, test, notes } = self.to_train()?;
        let parts = [("train", Some(train)), ("val", val), ("test", test)];
        let parts = parts.into_iter().filter_map(|(part, files)| Some((part, files?))).collect();
        Ok(Everything { root, classes, parts, notes })
    }

    fn nothing_to_train_on(&self) -> Error {
        let found: Vec<String> = self.groups.iter().map(Group::folder_name).collect();
        if let Some(first) = found.first() {
            let found = found.join(" and ");
            let cause = format!(
                "has {found} but no folder train with images in class folders; {first} can be measured \
                 (convzoo eval), not trained on; accepted: {}",
                self.layouts()
            );
            return Error::file(&self.root, cause);
        }
        self.no_images()
    }

    /// What is said of a folder without images in class folders.
    fn no_images(&self) -> Error {
        let train = self.without.iter().find(|group| group.part == Some(Part::Train));
        match train.or(self.without.last()) {
            Some(group) => self.no_classes(group),
            None => Error::file(&self.root, format!("no images; accepted: {}", self.layouts())),
        }
    }

    fn layouts(&self) -> &'static str {
        match self.rule {
            Rule::Folders => LAYOUTS,
            Rule::CatsDogs => super::cats_dogs::LAYOUTS,
        }
    }

    fn no_classes(&self, group: &Group) -> Error {
        let (classes, files, layouts) = (group.classes.len(), group.loose, self.layouts());
        let cause = match self.rule {
            _ if classes > 0 => {
                format!("no images in the class folders {}", some_of(&group.names()))
            }
            Rule::Folders => format!(
                "has {classes} class folders and {files} files; at least two classes are needed to \
                 train, as in {layouts}"
            ),
            Rule::CatsDogs => {
                let folders = match self.other_classes.is_empty() {
                    true => "none".to_owned(),
                    false => some_of(&self.other_classes),
                };
                format!(
                    "no photographs of cats and dogs here (folders: {folders}; files: {files}); \
                     accepted: {layouts}"
                )
            }
        };
        Error::file(&group.folder, cause)
    }

    /// Two classes or more, with images in each; for cats and dogs both.
    fn check_classes(&self, train: &Group) -> Result<()> {
        if let Some(empty) = train.classes.iter().find(|class| class.files.is_empty()) {
            return Err(Error::file(&empty.folder, "an empty class: the folder has no images"));
        }
        match (train.classes.len(), self.rule) {
            (2.., _) => Ok(()),
            (_, Rule::Folders) => Err(self.no_classes(train)),
            (_, Rule::CatsDogs) => {
                let dogs = train.classes.iter().any(|class| class.name == CATS_DOGS[1]);
                let (there, missing) = if dogs { ("dogs", "cats") } else { ("cats", "dogs") };
                let cause = format!("has images of {there} but none of {missing}");
                Err(Error::file(&train.folder, cause))
            }
        }
    }

    /// The files of a part that must have the classes of the training part.
    fn like(&self, group: &Group, classes: &[String]) -> Result<Vec<LabelledFile>> {
        let names = group.names();
        if names != classes {
            return Err(Error::file(&group.folder, difference(classes, &names)));
        }
        match group.classes.iter().find(|class| class.files.is_empty()) {
            Some(empty) => {
                Err(Error::file(&empty.folder, "an empty class: the folder has no images"))
            }
            None => Ok(group.labelled(classes)),
        }
    }

    /// Whether a test part is one folder of images that have no labels, as `test/images/*`.
    fn is_unlabelled(&self, test: &Group, classes: &[String], notes: &mut Vec<String>) -> bool {
        let [only] = &test.classes[..] else { return false };
        if classes.contains(&only.name) {
            return false;
        }
        let (part, only) = (test.folder_name(), &only.name);
        notes.push(format!("{part} is not used: its only folder, {only}, is none of the classes"));
        true
    }

    /// The images of a part to measure on: where none is named the test part, or else the validation
    /// part, or else all there is.
    ///
    /// # Errors
    /// No images, or none in that part.
    pub(crate) fn to_measure(&self, part: Option<Part>) -> Result<Measured> {
        let Some(first) = self.groups.first() else { return Err(self.no_images()) };
        let dir = self.root.display();
        let mut notes = self.notes.clone();
        if first.part.is_none() {
            return match part {
                None | Some(Part::All) => {
                    self.measured(&[first], Part::All, format!("all images of {dir}"), notes)
                }
                Some(part) => Err(self.no_such_part(part)),
            };
        }
        let wanted = part.unwrap_or_else(|| {
            let has = |part: &Part| self.part(*part).is_some();
            [Part::Test, Part::Val].into_iter().find(has).unwrap_or(Part::Train)
        });
        if wanted == Part::All {
            let all: Vec<&Group> = self.groups.iter().collect();
            let parts: Vec<String> = all.iter().map(|group| group.folder_name()).collect();
            let what = format!("all images of {dir} ({})", parts.join(", "));
            return self.measured(&all, wanted, what, notes);
        }
        let Some(group) = self.part(wanted) else { return Err(self.no_such_part(wanted)) };
        let mut what = format!("part {wanted} of {dir}");
        match (part, wanted) {
            (None, Part::Val) => what.push_str(" (it has no test part)"),
            (None, Part::Train) => {
                what.push_str(" (it has no test or val part)");
                notes.push(
                    "measured on the part train: a network trained on it looks better than it is"
                        .into(),
                );
            }
            _ => {}
        }
        self.measured(&[group], wanted, what, notes)
    }

    fn measured(
        &self,
        groups: &[&Group],
        part: Part,
        what: String,
        mut notes: Vec<String>,
    ) -> Result<Measured> {
        let all = || groups.iter().flat_map(|group| &group.classes);
        let mut classes: Vec<String> =
            all().filter(|class| !class.files.is_empty()).map(|class| class.name.clone()).collect();
        classes.sort();
        classes.dedup();
        let mut empty: Vec<String> = all().map(|class| class.name.clone()).collect();
        empty.retain(|name| !classes.contains(name));
        empty.dedup();
        if !empty.is_empty() {
            notes.push(format!("class folders without images: {}", some_of(&empty)));
        }
        if !self.other_classes.is_empty() {
            notes.push(
                "cats-dogs takes cats and dogs alone; --dataset folder takes every class".into(),
            );
        }
        let files = groups.iter().flat_map(|group| group.labelled(&classes)).collect();
        Ok(Measured { root: self.root.clone(), classes, files, part, what, notes })
    }

    fn no_such_part(&self, part: Part) -> Error {
        let cause = match self.groups.first() {
            Some(Group { part: None, classes, .. }) => {
                let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
                format!(
                    "has no parts, so none called {part}: {} are its classes; all of it is measured \
                     without --split",
                    some(&names)
                )
            }
            _ => {
                let parts = self.groups.iter().filter_map(|group| group.part);
                let parts: Vec<&str> = parts.map(Part::as_str).collect();
                format!("has no part {part} with images in class folders; it has {}", some(&parts))
            }
        };
        Error::file(&self.root, cause)
    }
}

/// Names the first class that one part has and the other lacks.
fn difference(train: &[String], other: &[String]) -> String {
    let missing = train.iter().find(|name| !other.contains(name));
    let extra = other.iter().find(|name| !train.contains(name));
    match (missing, extra) {
        (Some(class), _) => format!("has no folder for class {class}, which train has"),
        (None, Some(class)) => format!("has class {class}, which train has not"),
        (None, None) => "has other classes than train".into(),
    }
}
