//! Replays a CSV file: columns are found by header name, times may be moved as a whole, and the file may be gone through again.

use std::fs::File;
use std::path::PathBuf;

use csv::{Reader, StringRecord};

use super::error::Error;
use super::event_time::EventForm;
use super::shape::{Field, Shape};
use super::stream::Reading;

/// What to replay.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvSettings {
    /// A file with a header line; a hyphen in a header stands for the underscore of the schema's field.
    pub file: PathBuf,
    /// The device of rows from a file without the key column.
    pub device: String,
    /// Whether to begin again at the file's end, with times going on.
    pub is_repeated: bool,
    /// Whether the file's times stay as they are; otherwise they are moved so that the first row stands at the base time.
    pub keeps_times: bool,
}

/// Where a field's text comes from.
#[derive(Debug)]
enum Origin {
    /// The row's cell of this index.
    Cell(usize),
    /// The same text in every row.
    Constant(String),
}

/// The rows of a CSV file as readings.
#[derive(Debug)]
pub struct CsvReplay {
    settings: CsvSettings,
    reader: Reader<File>,
    origins: Vec<Origin>,
    row: StringRecord,
    /// Where the first row's time is moved to; `None` leaves times as they are.
    base_us: Option<i64>,
    shift_us: Option<i64>,
    /// Times of the first row and of the latest, before moving.
    first_us: i64,
    last_us: i64,
    rows: u64,
}

impl CsvReplay {
    /// Opens the file and finds its columns.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::Row`] when a field of the schema is in no column and has no default.
    pub fn open(settings: CsvSettings, shape: &Shape, base_us: Option<i64>) -> Result<Self, Error> {
        let (reader, headers) = open(&settings)?;
        let origins = origins(&settings, shape, &headers)?;
        let base_us = base_us.filter(|_| !settings.keeps_times);
        let shift_us = base_us.is_none().then_some(0);
        let row = StringRecord::new();
        Ok(Self { settings, reader, origins, row, base_us, shift_us, first_us: 0, last_us: i64::MIN, rows: 0 })
    }

    /// Overwrites `reading` with the next row; false at the end.
    ///
    /// # Errors
    /// [`Error::Row`] for a cell that does not fit its field.
    pub fn read(&mut self, shape: &Shape, reading: &mut Reading) -> Result<bool, Error> {
        if !self.next_row()? {
            return Ok(false);
        }
        let time_us = self.time(shape)?;
        if self.rows == 0 {
            self.first_us = time_us;
        }
        let shift_us = *self.shift_us.get_or_insert_with(|| self.base_us.unwrap_or(time_us) - time_us);
        self.last_us = self.last_us.max(time_us);
        self.rows += 1;

        for (origin, (field, (_, value))) in self.origins.iter().zip(shape.fields.iter().zip(&mut reading.record)) {
            *value = field.maker.read(cell(origin, &self.row), shift_us).map_err(|why| self.fault(field, why))?;
        }
        cell(&self.origins[shape.key], &self.row).clone_into(&mut reading.key);
        reading.time_us = time_us.saturating_add(shift_us);
        Ok(true)
    }

    /// The time from the first row to the latest, in microseconds, found by reading the whole file once.
    ///
    /// # Errors
    /// As [`CsvReplay::read`].
    pub fn span_us(settings: &CsvSettings, shape: &Shape) -> Result<i64, Error> {
        let once = CsvSettings { is_repeated: false, ..settings.clone() };
        let mut replay = Self::open(once, shape, None)?;
        let mut reading = Reading { key: String::new(), time_us: 0, record: shape.blank() };
        while replay.read(shape, &mut reading)? {}
        Ok(if replay.rows == 0 { 0 } else { replay.last_us - replay.first_us })
    }

    /// Reads the next row, beginning again where that is asked for and the file has any row.
    fn next_row(&mut self) -> Result<bool, Error> {
        if self.advance()? {
            return Ok(true);
        }
        if !self.settings.is_repeated || self.rows == 0 {
            return Ok(false);
        }
        // The next pass begins one mean step after the last row.
        let span_us = self.last_us - self.first_us;
        let step_us = span_us / i64::try_from(self.rows.max(2) - 1).unwrap_or(i64::MAX);
        self.shift_us = self.shift_us.map(|shift| shift.saturating_add(span_us + step_us.max(1)));
        (self.reader, _) = open(&self.settings)?;
        self.rows = 0;
        self.last_us = i64::MIN;
        self.advance()
    }

    fn advance(&mut self) -> Result<bool, Error> {
        self.reader.read_record(&mut self.row).map_err(|cause| Error::File { file: self.settings.file.clone(), cause })
    }

    /// The row's event time; the first one of the schema that tells an instant.
    fn time(&self, shape: &Shape) -> Result<i64, Error> {
        for (origin, field) in self.origins.iter().zip(&shape.fields) {
            if let Some(form) = field.maker.event_form().filter(|form| EventForm::is_instant(*form)) {
                return form.read(cell(origin, &self.row)).map_err(|why| self.fault(field, why));
            }
        }
        Ok(0)
    }

    fn fault(&self, field: &Field, why: String) -> Error {
        let line = self.row.position().map_or(0, csv::Position::line);
        Error::Row { file: self.settings.file.clone(), line, column: field.name.clone(), why }
    }
}

fn open(settings: &CsvSettings) -> Result<(Reader<File>, StringRecord), Error> {
    let failed = |cause| Error::File { file: settings.file.clone(), cause };
    let mut reader = Reader::from_path(&settings.file).map_err(failed)?;
    let headers = reader.headers().map_err(failed)?.clone();
    Ok((reader, headers))
}

fn origins(settings: &CsvSettings, shape: &Shape, headers: &StringRecord) -> Result<Vec<Origin>, Error> {
    let names: Vec<String> = headers.iter().map(|header| header.trim().trim_start_matches('\u{feff}').replace('-', "_")).collect();
    let find = |(index, field): (usize, &Field)| {
        if let Some(at) = names.iter().position(|name| *name == field.name) {
            return Ok(Origin::Cell(at));
        }
        if index == shape.key {
            return Ok(Origin::Constant(settings.device.clone()));
        }
        match &field.default {
            Some(serde_json::Value::Null) => Ok(Origin::Constant(String::new())),
            Some(serde_json::Value::String(text)) => Ok(Origin::Constant(text.clone())),
            Some(default) => Ok(Origin::Constant(default.to_string())),
            None => Err(Error::Row {
                file: settings.file.clone(),
                line: 1,
                column: field.name.clone(),
                why: format!("the header names no such column (it has {}) and the schema no default", names.join(", ")),
            }),
        }
    };
    shape.fields.iter().enumerate().map(find).collect()
}

fn cell<'a>(origin: &'a Origin, row: &'a StringRecord) -> &'a str {
    match origin {
        Origin::Cell(at) => row.get(*at).unwrap_or_default().trim(),
        Origin::Constant(text) => text,
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
