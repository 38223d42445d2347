//! Labelled pictures out of a parquet file, as the hub stores them: a column `image` or `img` with the
//! encoded picture in `bytes`, and a column of whole numbers `label` or `labels`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::error::{Error, Result};

/// Rows of a table, those read and those not.
#[derive(Default)]
pub(in crate::data) struct Rows {
    /// All of them.
    pub(in crate::data) total: usize,
    /// Those that could not be read.
    pub(in crate::data) unreadable: usize,
    /// What was wrong with the first of these.
    pub(in crate::data) first_cause: Option<String>,
}

impl Rows {
    fn lose(&mut self, count: usize, cause: impl FnOnce() -> String) {
        if count > 0 {
            self.unreadable += count;
            self.first_cause.get_or_insert_with(cause);
        }
    }
}

/// Calls `take(row, label, picture)` for every row of the file at `path`, and counts in `rows`,
/// where rows of earlier files may be counted already.
pub(in crate::data) fn read(
    path: &Path,
    rows: &mut Rows,
    mut take: impl FnMut(usize, i64, &[u8]) -> Result<()>,
) -> Result<()> {
    let unusable = |cause: String| Error::file(path, format!("no usable parquet file: {cause}"));
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    let reader = SerializedFileReader::new(file).map_err(|error| unusable(error.to_string()))?;
    let columns = projection(reader.metadata().file_metadata().schema()).map_err(unusable)?;
    for index in 0..reader.num_row_groups() {
        let first = rows.total;
        let count = reader.metadata().row_group(index).num_rows().max(0) as usize;
        rows.total += count;
        match reader.get_row_group(index) {
            Ok(group) => read_group(group.as_ref(), &columns, (first, count), rows, &mut take)?,
            Err(error) => rows.lose(count, || format!("row {first}: {error}")),
        }
    }
    Ok(())
}

fn read_group(
    group: &dyn RowGroupReader,
    columns: &Type,
    (first, count): (usize, usize),
    rows: &mut Rows,
    take: &mut impl FnMut(usize, i64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut found = match group.get_row_iter(Some(columns.clone())) {
        Ok(found) => found,
        Err(error) => {
            rows.lose(count, || format!("row {first}: {error}"));
            return Ok(());
        }
    };
    for index in first..first + count {
        match found.next() {
            Some(Ok(row)) => match parse(&row) {
                Ok((label, picture)) => take(index, label, picture)?,
                Err(cause) => rows.lose(1, || format!("row {index}: {cause}")),
            },
            // After an error the reader's place in its columns is unknown.
            broken => {
                let cause = match broken {
                    Some(Err(error)) => error.to_string(),
                    _ => "the table ends early".to_string(),
                };
                rows.lose(first + count - index, || format!("row {index}: {cause}"));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The columns to read: the picture and the label.
fn projection(schema: &Type) -> Result<Type, String> {
    let column = |names: &[&str]| {
        let found = schema.get_fields().iter().find(|field| names.contains(&field.name()));
        found.map(Arc::clone).ok_or_else(|| {
            let has: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
            format!("it has columns {}, but none called {}", has.join(", "), names.join(" or "))
        })
    };
    let fields = vec![column(&["image", "img"])?, column(&["labels", "label"])?];
    let built = Type::group_type_builder(schema.name()).with_fields(fields).build();
    built.map_err(|error| error.to_string())
}

/// Label and encoded picture of a row.
fn parse(row: &Row) -> Result<(i64, &[u8]), String> {
    let (mut label, mut picture) = (None, None);
    for (name, field) in row.get_column_iter() {
        match (name.as_str(), field) {
            ("image" | "img", Field::Group(image)) => picture = bytes_of(image),
            (_, field) => label = label.or(whole_number(field)),
        }
    }
    let label = label.ok_or("it has no label")?;
    Ok((label, picture.ok_or("it has no picture")?))
}

fn bytes_of(image: &Row) -> Option<&[u8]> {
    image.get_column_iter().find_map(|(name, field)| match field {
        Field::Bytes(bytes) if name == "bytes" && !bytes.is_empty() => Some(bytes.data()),
        _ => None,
    })
}

fn whole_number(field: &Field) -> Option<i64> {
    match *field {
        Field::Byte(value) => Some(value.into()),
        Field::Short(value) => Some(value.into()),
        Field::Int(value) => Some(value.into()),
        Field::Long(value) => Some(value),
        Field::UByte(value) => Some(value.into()),
        _ => None,
    }
}
