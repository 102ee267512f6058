//! From text to the raw document: syntax, unknown fields, wrong types. Meaning is checked by `validate`.

use larder_crds::Document;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::DOCUMENT_BYTES_MAX;
use super::error::{Collector, ConfigErrors};

/// Fields that the API will have but this version does not implement; `[]` stands for any index.
const PLANNED_FIELDS: [&str; 5] = [
    "spec.registries[].endpoints[].repositoryPrefix",
    "spec.registries[].endpoints[].proxy",
    "spec.registries[].endpoints[].tags",
    "spec.registries[].lookAhead",
    "spec.registries[].push",
];

/// Enough for 64 wrong types, each of which may have to be replaced twice.
const TYPE_CHECKS_MAX: usize = 128;

/// Reads the document. `None`: a field has the wrong type, which was reported like every unknown field.
pub(super) fn read(yaml: &str) -> Result<(Option<Document>, Collector), ConfigErrors> {
    if yaml.len() > DOCUMENT_BYTES_MAX {
        return Err(ConfigErrors::one(format!(
            "the document is larger than {DOCUMENT_BYTES_MAX} bytes"
        )));
    }
    let mut value: Value = serde_saphyr::from_str(yaml).map_err(|error| syntax_error(&error))?;
    if !value.is_object() {
        return Err(ConfigErrors::one(
            "the document is not a RegistryMirror: it must be a YAML mapping",
        ));
    }
    drop_nulls(&mut value);
    let mut errors = Collector::default();
    let mut mended = None;
    // Serde stops at the first wrong type, so each one is reported, replaced by an empty value, and the rest read
    // again. What is not found within these rounds shows when the document is mended.
    for _ in 0..TYPE_CHECKS_MAX {
        let mut unknown = Vec::new();
        let wrong = match deserialize(&value, &mut unknown) {
            Ok(document) => {
                unknown.iter().for_each(|path| report_unknown(path, &mut errors));
                let has_lists = report_lists(&value, &document, &mut errors);
                return Ok(((mended.is_none() && !has_lists).then_some(document), errors));
            }
            Err(wrong) => wrong,
        };
        let path = wrong.path().to_string();
        if mended.as_ref() != Some(&path) {
            errors.add(&path, type_error(&wrong.inner().to_string()));
        }
        mended = Some(path);
        mend(&mut value, wrong.path());
    }
    Ok((None, errors))
}

fn syntax_error(error: &serde_saphyr::Error) -> ConfigErrors {
    if matches!(
        error.without_snippet(),
        serde_saphyr::Error::MultipleDocuments { .. }
    ) {
        return ConfigErrors::one("the file holds several YAML documents; it must hold one RegistryMirror");
    }
    let message = error
        .without_snippet()
        .render_with_formatter(&serde_saphyr::UserMessageFormatter);
    ConfigErrors::one(format!("not valid YAML: {message}"))
}

/// To Kubernetes a field without a value is a field that is not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn deserialize(
    value: &Value,
    unknown: &mut Vec<String>,
) -> Result<Document, serde_path_to_error::Error<serde_json::Error>> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path| {
        // The owner of these is Kubernetes.
        let path = field_path(&path);
        if !path.starts_with("metadata.") && path != "status" {
            unknown.push(path);
        }
    });
    result.map_err(|error| serde_path_to_error::Error::new(track.path(), error))
}

fn field_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map {
            parent: Path::Root,
            key,
        } => key.clone(),
        Path::Map { parent, key } => format!("{}.{key}", field_path(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field_path(parent)
        }
    }
}

fn report_unknown(path: &str, errors: &mut Collector) {
    let pattern: String = path.split(|c: char| c.is_ascii_digit()).collect();
    if PLANNED_FIELDS.contains(&pattern.as_str()) {
        errors.add(path, "not supported by this version; remove it");
    } else {
        errors.add(path, "unknown field; correct its name or remove it");
    }
}

fn type_error(message: &str) -> String {
    let is_unquoted = ["integer", "floating point", "boolean"]
        .iter()
        .any(|kind| message.contains(kind));
    if is_unquoted && message.ends_with("expected a string") {
        format!("{message}; put it in quotes")
    } else {
        message.to_owned()
    }
}

/// Replaces the value at `path` by nothing, or in a list, where the others must keep their index, by an empty one.
fn mend(value: &mut Value, path: &serde_path_to_error::Path) {
    let mut parent = value;
    let mut segments = path.iter().peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        parent = match (segment, parent) {
            (Segment::Map { key }, Value::Object(map)) if is_last => {
                map.remove(key);
                return;
            }
            (Segment::Map { key }, Value::Object(map)) => match map.get_mut(key) {
                Some(member) => member,
                None => return,
            },
            (Segment::Seq { index }, Value::Array(items)) => match items.get_mut(*index) {
                Some(item) if is_last => {
                    *item = if item.is_string() {
                        Value::Object(Map::new())
                    } else {
                        Value::from("")
                    };
                    return;
                }
                Some(item) => item,
                None => return,
            },
            _ => return,
        };
    }
}

/// Serde takes a list for a struct, in the order of its fields; here that is always a slip.
fn report_lists(value: &Value, document: &Document, errors: &mut Collector) -> bool {
    fn walk(path: &str, read: &Value, understood: &Value, errors: &mut Collector) -> bool {
        match (read, understood) {
            (Value::Array(_), Value::Object(_)) => {
                errors.add(path, "invalid type: sequence, expected a mapping");
                true
            }
            (Value::Array(read), Value::Array(understood)) => {
                let pairs = read.iter().zip(understood).enumerate();
                pairs.fold(false, |found, (index, (read, understood))| {
                    walk(&format!("{path}[{index}]"), read, understood, errors) | found
                })
            }
            (Value::Object(read), Value::Object(understood)) => {
                let pairs = read
                    .iter()
                    .filter_map(|(key, read)| Some((key, read, understood.get(key)?)));
                pairs.fold(false, |found, (key, read, understood)| {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    walk(&path, read, understood, errors) | found
                })
            }
            _ => false,
        }
    }
    serde_json::to_value(document).is_ok_and(|understood| walk("", value, &understood, errors))
}
