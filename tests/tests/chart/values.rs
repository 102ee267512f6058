//! Every value has the effect that its comment promises, as `data/chart/values.yaml` lists it, and none of it without.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use larder_tests::real::helm::Manifests;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::schema::leaves;
use crate::{at, render};

const CASES: &str = include_str!("../../data/chart/values.yaml");
/// How many cases run at once, each of them two processes one after the other.
const AT_ONCE: usize = 4;

/// A value, what else must be said for it to matter, and its effects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    to: Value,
    #[serde(default)]
    with: Value,
    shows: Vec<Effect>,
}

/// What a value does to the rendered objects.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Effect {
    Is {
        r#in: Vec<String>,
        at: String,
        is: Value,
    },
    Has {
        r#in: Vec<String>,
        at: String,
        has: Value,
    },
    Made {
        made: Vec<String>,
    },
    Gone {
        gone: Vec<String>,
    },
}

impl Effect {
    /// Of each object that it is about: what of it is seen, and whether that is the effect.
    fn seen<'a>(&self, manifests: &'a Manifests) -> Vec<(Option<&'a Value>, bool)> {
        let (objects, pointer) = match self {
            Self::Is { r#in, at, .. } | Self::Has { r#in, at, .. } => (r#in, at.as_str()),
            Self::Made { made: objects } | Self::Gone { gone: objects } => (objects, ""),
        };
        let look = |object: &String| manifests.get(object)?.pointer(pointer);
        let judge = |found: Option<&Value>| match self {
            Self::Is { is, .. } => found == Some(is),
            Self::Has { has, .. } => found
                .and_then(Value::as_array)
                .is_some_and(|list| list.contains(has)),
            Self::Made { .. } => found.is_some(),
            Self::Gone { .. } => found.is_none(),
        };
        objects
            .iter()
            .map(look)
            .map(|found| (found, judge(found)))
            .collect()
    }
}

impl Case {
    async fn check(&self, path: &str) {
        let without = render(&self.with).await;
        let mut values = self.with.clone();
        merge(&mut values, at(&[(path, self.to.clone())]));
        let with = render(&values).await;
        for effect in &self.shows {
            for (found, is) in effect.seen(&without) {
                assert!(!is, "also without {path}: {effect:?}, as {found:?}");
            }
            for (found, is) in effect.seen(&with) {
                assert!(is, "{path} has not {effect:?}, but {found:?}");
            }
        }
    }
}

/// Adds what `more` says to `values`.
fn merge(values: &mut Value, more: Value) {
    match (values, more) {
        (Value::Object(values), Value::Object(more)) => {
            for (key, value) in more {
                merge(values.entry(key).or_insert(json!({})), value);
            }
        }
        (values, more) => *values = more,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_has_its_effect() {
    let cases = CASES.replace("$VERSION", env!("CARGO_PKG_VERSION"));
    let cases: BTreeMap<String, Case> = serde_saphyr::from_str(&cases).unwrap();
    let shown: BTreeSet<String> = cases.keys().cloned().collect();
    assert_eq!(shown, leaves(), "values, and values with a test");
    let cases: Vec<_> = cases.iter().collect();
    for some in cases.chunks(AT_ONCE) {
        join_all(some.iter().map(|(path, case)| case.check(path))).await;
    }
}
