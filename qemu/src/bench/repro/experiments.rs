//! All experiments that can be repeated.

use anyhow::Result;
use serde::Serialize;

use super::ours::{Effort, Ours};
use super::published::{Published, Work};
use super::{aegis, arrakis, arrakis_storage, dpf, hodor, unbuckle, unikraft};
use crate::signals::Signals;

/// A published experiment, and what is measured here beside it.
#[derive(Debug, Serialize)]
pub(super) struct Experiment {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) works: &'static [&'static Work],
    pub(super) published: &'static [Published],
    /// In one sentence, why the two are not the same experiment.
    pub(super) differs: &'static str,
    /// What is not measured here, and where it is if anywhere.
    pub(super) left_out: &'static [&'static str],
    /// How long it took, in minutes begun, on two processors that did other work as well, with
    /// all packages there. Idle ones take less.
    #[serde(skip)]
    pub(super) minutes: u32,
    /// How guests are run; nothing if all of it runs on the host.
    #[serde(skip)]
    pub(super) machine: Option<&'static str>,
    #[serde(skip)]
    pub(super) measure: fn(Effort, &Signals) -> Result<Ours>,
}

/// By source, as they are listed.
pub(super) const ALL: [&Experiment; 12] = [
    &unbuckle::pipeline::EXPERIMENT,
    &unbuckle::stacks::EXPERIMENT,
    &unbuckle::allocation::EXPERIMENT,
    &unbuckle::crossing::EXPERIMENT,
    &unbuckle::memcached::EXPERIMENT,
    &unbuckle::research::EXPERIMENT,
    &arrakis::EXPERIMENT,
    &arrakis_storage::EXPERIMENT,
    &unikraft::EXPERIMENT,
    &dpf::EXPERIMENT,
    &aegis::EXPERIMENT,
    &hodor::EXPERIMENT,
];

/// The experiment of that name.
pub(super) fn find(name: &str) -> Option<&'static Experiment> {
    ALL.into_iter().find(|experiment| experiment.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::published::Amount;
    use super::*;

    #[test]
    fn each_is_complete() {
        let mut names = HashSet::new();
        for experiment in ALL {
            let Experiment { name, title, works, published, differs, minutes, .. } = experiment;
            assert!(names.insert(name), "{name} twice");
            assert!(!title.is_empty() && !works.is_empty() && *minutes > 0, "{name}");
            let one_sentence = differs.ends_with('.') && differs.matches(". ").count() == 0;
            assert!(one_sentence, "{name}: {differs}");
            for work in *works {
                assert!(work.cite.contains(" 19") || work.cite.contains(" 20"), "{name}: year");
                assert!(!work.conditions.is_empty(), "{name}");
            }
            assert!(
                published.iter().any(|figure| !figure.beside.is_empty()),
                "{name}: nothing ours"
            );
        }
    }

    #[test]
    fn each_figure_has_a_place_and_a_key_of_its_own() {
        for experiment in ALL {
            let mut keys = HashSet::new();
            for figure in experiment.published {
                let at = format!("{}, {}", experiment.name, figure.key);
                assert!(keys.insert(figure.key), "{at}: twice");
                assert!(!figure.place.is_empty() && !figure.what.is_empty(), "{at}");
                assert!(figure.value.numbers().iter().all(|&number| number > 0.0), "{at}");
                if let Amount::Between(from, to) = figure.value {
                    assert!(from < to, "{at}");
                }
                let plain = figure
                    .key
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
                assert!(plain, "{at}: a key is lower case, digits and dashes");
            }
        }
    }

    /// What the sources say of a figure and of its ratio must fit.
    #[test]
    fn what_is_published_agrees_with_itself() {
        let of = |name: &str, key: &str| {
            let experiment = find(name).unwrap();
            let figure = experiment.published.iter().find(|figure| figure.key == key);
            figure.unwrap_or_else(|| panic!("{name}, {key}")).value.numbers()
        };
        let least = |name, key| of(name, key)[0];
        assert!(least("arrakis-udp", "native") < least("arrakis-udp", "posix"));
        assert!(least("arrakis-udp", "posix") < least("arrakis-udp", "linux-running"));
        assert!(least("arrakis-udp", "linux-running") < least("arrakis-udp", "linux-idle"));
        let arrakis = find("arrakis-udp").unwrap().published;
        for all in ["linux-running", "linux-idle", "posix", "native"] {
            let parts = arrakis.iter().filter(|part| part.key.starts_with(&format!("{all}-")));
            let sum: f64 = parts.flat_map(|part| part.value.numbers()).sum();
            assert!((sum - least("arrakis-udp", all)).abs() < 0.001, "{all}: {sum}");
        }
        let storage = |key| least("arrakis-storage", key);
        let times = storage("linux-write") / storage("arrakis-write");
        assert!((times - storage("write-times")).abs() < 0.01, "{times}");
        let parts = find("arrakis-storage").unwrap().published;
        for all in ["linux-read", "arrakis-read", "linux-write", "arrakis-write"] {
            let parts = parts.iter().filter(|part| part.key.starts_with(&format!("{all}-")));
            let sum: f64 = parts.flat_map(|part| part.value.numbers()).sum();
            // As printed, one column lacks 0.09 of its total.
            let missing = if all == "arrakis-read" { 0.09 } else { 0.0 };
            assert!((sum + missing - storage(all)).abs() < 0.001, "{all}: {sum}");
        }
        assert!(least("unikraft-udp", "linux-single") < least("unikraft-udp", "linux-batched"));
        assert!(least("unikraft-udp", "linux-batched") < least("unikraft-udp", "unikraft"));
        assert!(least("dpf", "dpf") < least("dpf", "pathfinder"));
        assert!(least("dpf", "pathfinder") < least("dpf", "mpf"));
        assert!(least("unbuckle-4.2", "process") < least("unbuckle-4.2", "total"));
    }
}
