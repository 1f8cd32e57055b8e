//! The servers that tell changes: one, or the masters of a cluster, each of which tells what it holds itself.

use std::collections::BTreeSet;

use fred::{
    clients::Client,
    interfaces::{ClientLike, ClusterInterface},
    types::{
        Key,
        cluster::{ClusterRouting, SlotRange},
        config::Server,
    },
};

use super::names::Names;

/// Who was asked to tell changes.
#[derive(Debug, Default)]
pub(super) struct Masters {
    pub(super) all: Vec<Master>,
    /// What the cluster calls its masters, those included that can hold no name of this cache.
    ids: BTreeSet<String>,
}

/// One of them, and how far it has proved that it tells.
#[derive(Debug)]
pub(super) struct Master {
    /// Nobody in particular where there is one.
    pub(super) server: Option<Server>,
    id: String,
    /// The key that is written there, and whose change it is to tell.
    pub(super) proof: Key,
    /// How often it was to be told and was not.
    pub(super) outstanding: u32,
    /// Whether the key was written since tracking was asked for.
    pub(super) has_key: bool,
}

impl Masters {
    /// Those that a client knows of. `id` is of whoever is to be told.
    pub(super) fn known(client: &Client, names: &Names, id: u64) -> Self {
        if !client.is_clustered() {
            return Self {
                all: vec![Master::new(None, String::new(), names.proof(id, 0))],
                ..Self::default()
            };
        }
        client.cached_cluster_state().map(|routing| Self::of(&routing, names, id)).unwrap_or_default()
    }

    /// Each with a key that it holds: the last two bytes of a name alone can bring it into any slot. Where the prefix
    /// puts all names into one slot, its master is all there is.
    fn of(routing: &ClusterRouting, names: &Names, id: u64) -> Self {
        let ids = ids(routing);
        let mut all: Vec<Master> = Vec::new();
        for number in 0..=u16::MAX {
            if all.len() == ids.len() {
                break;
            }
            let proof = names.proof(id, number);
            let Some(range) = holder(routing, &proof) else { continue };
            if all.iter().all(|master| *master.id != *range.id) {
                all.push(Master::new(Some(range.primary.clone()), range.id.to_string(), proof));
            }
        }
        Self { all, ids }
    }

    /// Whether the cluster still has these masters, and each its key.
    pub(super) fn are_those_of(&self, routing: &ClusterRouting) -> bool {
        let has_key = |master: &Master| holder(routing, &master.proof).is_some_and(|it| *it.id == *master.id);
        self.ids == ids(routing) && self.all.iter().all(has_key)
    }

    /// The one whose key this is.
    pub(super) fn proven_by(&mut self, name: &[u8]) -> Option<&mut Master> {
        self.all.iter_mut().find(|master| master.proof.as_bytes() == name)
    }
}

impl Master {
    fn new(server: Option<Server>, id: String, proof: Key) -> Self {
        Self { server, id, proof, outstanding: 0, has_key: false }
    }
}

fn ids(routing: &ClusterRouting) -> BTreeSet<String> {
    routing.slots().iter().map(|range| range.id.to_string()).collect()
}

fn holder<'a>(routing: &'a ClusterRouting, name: &Key) -> Option<&'a SlotRange> {
    let slot = name.cluster_hash();
    routing.slots().iter().find(|range| (range.start..=range.end).contains(&slot))
}

#[cfg(test)]
mod tests {
    use fred::types::Value;

    use super::*;

    fn routing(ranges: &[(i64, i64, &'static str)]) -> ClusterRouting {
        let range = |&(start, end, id): &(i64, i64, &'static str)| {
            let node = vec!["127.0.0.1".into(), 7000.into(), id.into()];
            Value::Array(vec![start.into(), end.into(), Value::Array(node)])
        };
        ClusterRouting::from_cluster_slots(Value::Array(ranges.iter().map(range).collect()), "127.0.0.1")
            .unwrap()
    }

    fn held(masters: &Masters) -> Vec<(&str, u16)> {
        masters.all.iter().map(|master| (&*master.id, master.proof.cluster_hash())).collect()
    }

    #[test]
    fn each_master_has_a_key_that_it_holds_though_it_holds_one_slot() {
        for prefix in ["chimera:", "a{b"] {
            let slots = routing(&[(0, 5460, "a"), (5461, 5461, "b"), (5462, 16_383, "a")]);
            let masters = Masters::of(&slots, &Names::new(prefix), 7);
            let mut held = held(&masters);
            held.sort_unstable();
            assert!(matches!(held[..], [("a", _), ("b", 5461)]), "{held:?}");
            assert!(masters.are_those_of(&slots));
        }
    }

    #[test]
    fn names_that_are_all_in_one_slot_have_one_master() {
        let slots = routing(&[(0, 8191, "a"), (8192, 16_383, "b")]);
        let masters = Masters::of(&slots, &Names::new("{chimera}:"), 7);
        assert_eq!(masters.all.len(), 1);
        assert!(masters.are_those_of(&slots));
    }

    #[test]
    fn a_cluster_that_has_changed_is_another() {
        let masters = Masters::of(&routing(&[(0, 8191, "a"), (8192, 16_383, "b")]), &Names::new("c:"), 7);
        assert!(masters.are_those_of(&routing(&[(0, 8191, "a"), (8192, 16_383, "b")])));
        for other in [
            routing(&[(0, 8191, "a"), (8192, 16_383, "c")]),
            routing(&[(0, 8191, "a"), (8192, 16_382, "b"), (16_383, 16_383, "c")]),
            routing(&[(0, 8191, "b"), (8192, 16_383, "a")]),
            routing(&[(0, 16_383, "a")]),
        ] {
            assert!(!masters.are_those_of(&other), "{other:?}");
        }
    }
}
