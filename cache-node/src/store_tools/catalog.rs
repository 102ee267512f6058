//! Which names lead to which objects: every name of the ledger, followed through the manifests that are here.

use std::collections::{HashMap, HashSet};

use super::selection::Filter;
use crate::oci::{Digest, descriptors};
use crate::store::{Object, Store};
use crate::tags::{Entry, Key, Ledger, Name};

/// Everything that is here, as it was at one moment.
pub(super) struct Catalog {
    /// Those used last come first.
    pub(super) objects: Vec<Object>,
    /// In the order of their text.
    pub(super) names: Vec<(Key, Entry)>,
    trees: HashMap<Digest, Vec<Digest>>,
}

/// A name as people write it.
pub(super) fn full_name(key: &Key) -> String {
    let Key {
        registry, repository, ..
    } = key;
    match &key.name {
        Name::Tag(tag) => format!("{registry}/{repository}:{tag}"),
        Name::Referrers(subject, None) => format!("{registry}/{repository}@{subject} referrers"),
        Name::Referrers(subject, Some(kind)) => format!("{registry}/{repository}@{subject} referrers {kind}"),
    }
}

/// Everything here that `root` leads to, itself first.
fn tree(store: &Store, root: &Digest) -> Vec<Digest> {
    let (mut found, mut seen, mut open) = (Vec::new(), HashSet::new(), vec![*root]);
    while let Some(digest) = open.pop() {
        if !seen.insert(digest) || !store.contains(&digest) {
            continue;
        }
        found.push(digest);
        if let Some(manifest) = store.peek_manifest(&digest) {
            open.extend(descriptors(&manifest.body).iter().map(|named| named.digest));
        }
    }
    found
}

impl Catalog {
    pub(super) fn new(store: &Store, ledger: &Ledger) -> Self {
        let mut objects = store.objects();
        objects.sort_unstable_by_key(|object| (std::cmp::Reverse(object.last_used), object.digest));
        let mut names = ledger.entries();
        names.sort_by_cached_key(|(key, _)| full_name(key));
        let mut trees = HashMap::new();
        for (_, entry) in &names {
            let found = || tree(store, &entry.digest);
            trees.entry(entry.digest).or_insert_with(found);
        }
        Self {
            objects,
            names,
            trees,
        }
    }

    /// All that a name leads to.
    fn content(&self, entry: &Entry) -> &[Digest] {
        self.trees.get(&entry.digest).map_or(&[], Vec::as_slice)
    }

    /// All that these names lead to.
    fn content_of<'a>(&self, names: impl IntoIterator<Item = &'a (Key, Entry)>) -> HashSet<Digest> {
        let content = names.into_iter().flat_map(|(_, entry)| self.content(entry));
        content.copied().collect()
    }

    /// What a name leads to, and no other one of its repository that is not `going` too.
    pub(super) fn content_of_name_alone(
        &self,
        key: &Key,
        entry: &Entry,
        going: &[&(Key, Entry)],
    ) -> HashSet<Digest> {
        let is_of_same =
            |other: &Key| (&other.registry, &other.repository) == (&key.registry, &key.repository);
        let going: HashSet<_> = going.iter().map(|(key, _)| key).collect();
        let staying = self
            .names
            .iter()
            .filter(|(other, _)| is_of_same(other) && !going.contains(other));
        let needed = self.content_of(staying);
        let content = self.content(entry).iter().copied();
        content.filter(|digest| !needed.contains(digest)).collect()
    }

    /// The names that lead to each object.
    pub(super) fn names_by_object(&self) -> HashMap<Digest, Vec<String>> {
        let mut names: HashMap<_, Vec<_>> = HashMap::new();
        for (key, entry) in &self.names {
            let name = full_name(key);
            for digest in self.content(entry) {
                names.entry(*digest).or_default().push(name.clone());
            }
        }
        names
    }

    /// The selected objects.
    pub(super) fn select(&self, store: &Store, filter: &Filter) -> Vec<&Object> {
        let below = filter
            .digest
            .map(|digest| tree(store, &digest).into_iter().collect::<HashSet<_>>());
        let named = filter
            .is_by_name()
            .then(|| self.content_of(self.names.iter().filter(|(key, _)| filter.has_name(key))));
        let is_selected = |object: &&Object| {
            let is_in =
                |set: &Option<HashSet<_>>| set.as_ref().is_none_or(|set| set.contains(&object.digest));
            is_in(&below) && is_in(&named) && filter.has_age(object.last_used)
        };
        self.objects.iter().filter(is_selected).collect()
    }

    /// The selected names. A name is as old as what it stands for; one that stands for nothing here has any age.
    pub(super) fn select_names(&self, filter: &Filter) -> Vec<&(Key, Entry)> {
        let used: HashMap<_, _> = self
            .objects
            .iter()
            .map(|object| (object.digest, object.last_used))
            .collect();
        let is_selected = |(key, entry): &&(Key, Entry)| {
            filter.has_name(key)
                && filter.digest.is_none_or(|digest| digest == entry.digest)
                && used.get(&entry.digest).is_none_or(|used| filter.has_age(*used))
        };
        self.names.iter().filter(is_selected).collect()
    }

    /// What has to go with these names: of the selected objects those that no other name leads to, and the one that was
    /// selected by its own digest alone.
    pub(super) fn select_for_purge<'a>(
        &'a self,
        store: &Store,
        filter: &Filter,
        names: &[&(Key, Entry)],
    ) -> Vec<&'a Object> {
        let going: HashSet<_> = names.iter().map(|(key, _)| key).collect();
        let needed = self.content_of(self.names.iter().filter(|(key, _)| !going.contains(key)));
        let named_itself = filter.digest.filter(|_| !filter.is_by_name());
        let mut selected = self.select(store, filter);
        selected.retain(|object| !needed.contains(&object.digest) || named_itself == Some(object.digest));
        selected
    }
}
