//! Puts the cache before what somebody else has written, and changes nothing else about it: their bytes stay, in their
//! order, since only they know what they mean by them.

use toml_edit::{Array, Document, DocumentMut, Item, Table, TableLike, Value};

use super::{Basis, DEFAULT_DIRECTORY};

/// Why somebody's file cannot be kept behind the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unmergeable {
    /// The runtime cannot read it either.
    #[error("it is not TOML")]
    NotToml,
    /// Its hosts are written in a way that leaves no room for another, or it names the cache already.
    #[error("its hosts leave no room for the cache")]
    NoRoom,
}

/// Their file with the table `first`, which is that of the host `cache`, before all others.
pub(super) fn prepend(first: &str, cache: &str, basis: &Basis) -> Result<String, Unmergeable> {
    let mut text = basis.text.clone();
    if basis.is_default {
        let mut document: DocumentMut = text.parse().map_err(|_| Unmergeable::NotToml)?;
        relocate(document.as_table_mut());
        text = document.to_string();
    }
    let theirs = Document::parse(text.as_str()).map_err(|_| Unmergeable::NotToml)?;
    let before = first_header(theirs.as_table()).unwrap_or(text.len());
    // Whole lines: a header may be indented.
    let before = text
        .get(..before)
        .map_or(before, |head| head.trim_end_matches([' ', '\t']).len());
    let (head, tail) = text.split_at(before);
    let break_line = if head.is_empty() || head.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let merged = format!("{head}{break_line}{first}\n{tail}");
    let ours: DocumentMut = merged.parse().map_err(|_| Unmergeable::NoRoom)?;
    if is_theirs_and_ours(ours.as_table(), theirs.as_table(), cache) {
        Ok(merged)
    } else {
        Err(Unmergeable::NoRoom)
    }
}

/// What containerd makes of certificate files beside no `hosts.toml`, said in one.
pub(super) fn certificates(basis: &Basis) -> String {
    let path = |name: &str| match basis.is_default {
        true => format!("../{DEFAULT_DIRECTORY}/{name}"),
        false => name.to_owned(),
    };
    let has = |name: &str| basis.certificates.iter().any(|other| other == name);
    let authorities: Array = basis
        .certificates
        .iter()
        .filter(|name| name.ends_with(".crt"))
        .map(|name| path(name))
        .collect();
    let pairs = basis.certificates.iter().filter_map(|name| {
        let key = format!("{}.key", name.strip_suffix(".cert")?);
        // Without a key of its own the certificate's file holds it.
        let key = if has(&key) { &key } else { name };
        Some(Value::Array([path(name), path(key)].into_iter().collect()))
    });
    let pairs: Array = pairs.collect();
    let mut table = Table::new();
    for (key, value) in [("ca", authorities), ("client", pairs)] {
        if !value.is_empty() {
            table.insert(key, Item::Value(value.into()));
        }
    }
    DocumentMut::from(table).to_string()
}

/// Where the first header of a table begins. What comes before it belongs to the root.
fn first_header(table: &Table) -> Option<usize> {
    let of_item = |item: &Item| match item {
        Item::Table(table) => {
            let own = table
                .span()
                .filter(|_| !table.is_dotted() && !table.is_implicit());
            own.map(|span| span.start)
                .into_iter()
                .chain(first_header(table))
                .min()
        }
        Item::ArrayOfTables(tables) => tables.iter().filter_map(Table::span).map(|span| span.start).min(),
        Item::None | Item::Value(_) => None,
    };
    table.iter().filter_map(|(_, item)| of_item(item)).min()
}

/// Whether all of theirs is there and nothing more, but for the cache, which is the first host.
fn is_theirs_and_ours(merged: &Table, theirs: &Table, cache: &str) -> bool {
    let hosts = |table: &Table| -> Vec<String> {
        let hosts = table.get("host").and_then(Item::as_table_like);
        let mut positioned: Vec<_> = hosts
            .into_iter()
            .flat_map(TableLike::iter)
            .map(|(name, item)| (item.as_table().and_then(Table::position), name.to_owned()))
            .collect();
        positioned.sort_by_key(|(position, _)| *position);
        positioned.into_iter().map(|(_, name)| name).collect()
    };
    let root = |table: &Table| -> Vec<String> {
        let keys = table.iter().filter(|(key, _)| *key != "host");
        keys.map(|(key, item)| format!("{key}={}", item.to_string().trim()))
            .collect()
    };
    let mut expected = hosts(theirs);
    expected.insert(0, cache.to_owned());
    hosts(merged) == expected && root(merged).len() == root(theirs).len()
}

/// Makes relative paths of certificates mean the same from a directory beside theirs.
fn relocate(root: &mut Table) {
    relocate_host(root);
    let hosts = root.get_mut("host").and_then(Item::as_table_like_mut);
    for (_, host) in hosts.into_iter().flat_map(TableLike::iter_mut) {
        if let Some(host) = host.as_table_like_mut() {
            relocate_host(host);
        }
    }
}

fn relocate_host(host: &mut dyn TableLike) {
    for key in ["ca", "client"] {
        if let Some(value) = host.get_mut(key).and_then(Item::as_value_mut) {
            relocate_value(value);
        }
    }
}

fn relocate_value(value: &mut Value) {
    match value {
        Value::String(path) if !path.value().starts_with('/') => {
            let moved = format!("../{DEFAULT_DIRECTORY}/{}", path.value());
            let decor = path.decor().clone();
            *value = moved.into();
            *value.decor_mut() = decor;
        }
        Value::Array(paths) => paths.iter_mut().for_each(relocate_value),
        _ => {}
    }
}
