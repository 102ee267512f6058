//! The table: one row for each measurement, one column for each contestant.

use super::contestant::{ALL, Kind};

/// What one row measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) decimals: usize,
    /// Whether a ratio to the direct way means something.
    pub(crate) has_ratio: bool,
}

/// All samples so far.
#[derive(Default)]
pub(crate) struct Table(Vec<(Row, Vec<(Kind, f64)>)>);

impl Table {
    /// Adds a sample.
    pub(crate) fn add(&mut self, row: Row, kind: Kind, sample: f64) {
        match self.0.iter_mut().find(|(known, _)| known.label == row.label) {
            Some((_, samples)) => samples.push((kind, sample)),
            None => self.0.push((row, vec![(kind, sample)])),
        }
    }

    /// As Markdown: the median, the ratio to the direct way's median, and the spread where there are several samples.
    pub(crate) fn render(&self) -> String {
        let names = ALL.map(Kind::label).join(" | ");
        let mut text = format!("| | {names} |\n|---|{}\n", "---|".repeat(ALL.len()));
        for (row, samples) in &self.0 {
            let direct = summary(samples, Kind::Direct).map(|[_, median, _]| median);
            let cells = ALL.map(|kind| {
                cell(
                    *row,
                    summary(samples, kind),
                    direct.filter(|_| kind != Kind::Direct),
                )
            });
            text += &format!("| {}, {} | {} |\n", row.label, row.unit, cells.join(" | "));
        }
        text
    }
}

/// The least, the median and the greatest sample.
fn summary(samples: &[(Kind, f64)], kind: Kind) -> Option<[f64; 3]> {
    let mut own: Vec<_> = samples
        .iter()
        .filter(|(of, _)| *of == kind)
        .map(|(_, sample)| *sample)
        .collect();
    own.sort_by(f64::total_cmp);
    Some([*own.first()?, own[own.len() / 2], *own.last()?])
}

fn cell(row: Row, summary: Option<[f64; 3]>, direct: Option<f64>) -> String {
    let Some([least, median, greatest]) = summary else {
        return "–".to_owned();
    };
    let decimals = row.decimals;
    let mut text = format!("{median:.decimals$}");
    if let Some(direct) = direct.filter(|_| row.has_ratio) {
        text += &format!(" ({:.2}×)", median / direct);
    }
    if least < greatest {
        text += &format!(" [{least:.decimals$}–{greatest:.decimals$}]");
    }
    text
}
