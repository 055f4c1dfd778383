//! What packages say themselves of which step of a packet's journey their source is.
//!
//! The tree's own kernel and library OS have their rules in [`rows`](super::rows). An
//! application, or a stack of its own that it brings, says in its `Cargo.toml`:
//!
//! ```toml
//! [package.metadata.exo.steps]
//! "src" = "answer"
//! "src/stack" = "udp-ip"
//! "src/main.rs" = "main-loop"
//! "src/main.rs answer" = "answer" # a function of a file
//! "src/bytes.rs" = "caller"       # for whatever calls it
//! ```
//!
//! The longest path counts, and before it the function.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use serde_json::Value;

use super::rows::{Charge, Row, last_part};
use crate::workspace;

/// What all packages of the workspace say.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Step>);

#[derive(Debug)]
struct Step {
    /// From the root of the source tree; a file, or a directory.
    path: String,
    /// One function of it alone, by the last part of its name.
    function: Option<String>,
    charge: Charge,
}

impl Steps {
    /// Reads what the workspace's packages say.
    ///
    /// # Errors
    /// One names a path that is not there, or a step that is none.
    pub(crate) fn of_workspace() -> Result<Self> {
        let metadata = workspace::metadata()?;
        let mut steps = Self::default();
        for package in metadata.workspace_packages() {
            let Some(stated) = package.metadata.pointer("/exo/steps") else { continue };
            let directory = package.manifest_path.parent().context("a package has no place")?;
            let path = directory.strip_prefix(&metadata.workspace_root)?;
            steps.add(path.as_str(), stated, |path| directory.join(path).exists()).with_context(
                || format!("{}: [package.metadata.exo.steps]", package.manifest_path),
            )?;
        }
        Ok(steps)
    }

    fn add(&mut self, package: &str, stated: &Value, exists: impl Fn(&str) -> bool) -> Result<()> {
        let stated = stated.as_object().context("is no table")?;
        for (place, step) in stated {
            let (path, function) = match place.split_once(' ') {
                Some((path, function)) => (path, Some(function.to_owned())),
                None => (place.as_str(), None),
            };
            let path = path.trim_end_matches('/');
            ensure!(exists(path), "\"{place}\": there is no {path}");
            let name = step.as_str().with_context(|| format!("\"{place}\": is no text"))?;
            let charge = charge(name).with_context(|| format!("\"{place}\""))?;
            self.0.push(Step { path: format!("{package}/{path}"), function, charge });
        }
        Ok(())
    }

    /// How code counts that comes from `file`, a path from the root of the source tree, in
    /// `function`; none if nothing is said of it.
    pub(crate) fn of_source(&self, file: &str, function: &str) -> Option<Charge> {
        let name = last_part(function);
        let holds = |step: &&Step| {
            let rest = file.strip_prefix(&step.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let of_file = || self.0.iter().filter(holds);
        // Of an inlined closure one knows no more, see `rows::of_source`.
        if name.starts_with('{') && of_file().any(|step| step.function.is_some()) {
            return Some(Charge::Neutral);
        }
        let fits = |step: &&Step| step.function.as_deref().is_none_or(|wanted| wanted == name);
        let best = of_file().filter(fits);
        best.max_by_key(|step| (step.path.len(), step.function.is_some())).map(|step| step.charge)
    }
}

fn charge(name: &str) -> Result<Charge> {
    if name == "caller" {
        return Ok(Charge::Neutral);
    }
    let row: Result<Row, ValueError> = Row::deserialize(name.into_deserializer());
    row.map(Charge::To).context("a step is one of those, or `caller`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stated(value: &Value) -> Result<Steps> {
        let mut steps = Steps::default();
        steps.add("apps/mine", value, |path| path.starts_with("src")).map(|()| steps)
    }

    #[test]
    fn a_stack_of_ones_own_is_in_its_step() {
        let steps = stated(&json!({
            "src": "answer",
            "src/stack/": "udp-ip",
            "src/main.rs": "main-loop",
            "src/main.rs answer": "answer",
            "src/stack/bytes.rs": "caller",
        }));
        let steps = steps.unwrap();
        for (file, function, charge) in [
            ("src/stack/ipv4.rs", "mine::stack::ipv4::parse", Charge::To(Row::UdpIp)),
            ("src/stack/bytes.rs", "mine::stack::bytes::copy", Charge::Neutral),
            ("src/stacks.rs", "mine::stacks::f", Charge::To(Row::Answer)),
            ("src/main.rs", "mine::guest::main", Charge::To(Row::MainLoop)),
            ("src/main.rs", "<mine::guest::S as Service>::answer", Charge::To(Row::Answer)),
            ("src/main.rs", "{closure#0}", Charge::Neutral),
            ("src/stack/ipv4.rs", "{closure#0}", Charge::To(Row::UdpIp)),
        ] {
            let found = steps.of_source(&format!("apps/mine/{file}"), function);
            assert_eq!(found, Some(charge), "{file} {function}");
        }
        assert_eq!(steps.of_source("apps/other/src/main.rs", "f"), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (value, expected) in [
            (json!({ "src": "sleep" }), "sleep"),
            (json!({ "lib.rs": "answer" }), "there is no lib.rs"),
            (json!({ "src": 5 }), "is no text"),
            (json!("src"), "is no table"),
        ] {
            let error = format!("{:#}", stated(&value).unwrap_err());
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }

    #[test]
    fn the_store_says_what_it_is() {
        let steps = Steps::of_workspace().unwrap();
        for (file, function, row) in [
            ("main.rs", "<kvstore::guest::Store as Service>::answer", Row::Answer),
            ("main.rs", "kvstore::guest::serve", Row::MainLoop),
            ("service.rs", "kvstore::service::Service::answer", Row::Answer),
        ] {
            let found = steps.of_source(&format!("apps/kvstore/src/{file}"), function);
            assert_eq!(found, Some(Charge::To(row)), "{file} {function}");
        }
    }
}
