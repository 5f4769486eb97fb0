//! All plug-ins of a list, one after the other.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::cache::Attachment;
use super::config::List;
use super::error::Error;
use super::exec::Failure;
use super::plugin::{Asker, of_plugin};
use super::request::{self, Ask, configuration, environment};
use super::result::{self, Outcome};

/// Connects a pod: each plug-in is told what the one before has done.
pub fn add(asker: &Asker<'_>, attachment: &Attachment) -> Result<(Value, Outcome), Error> {
    let list = &attachment.list;
    let environment = environment(attachment, "ADD", true);
    let mut last = None;
    for plugin in &list.plugins {
        let ask = Ask::Add(last.as_ref().map(|(_, result)| result));
        let told = configuration(list, plugin, ask, &attachment.offered);
        let printed = asker.ask(list, plugin, ask.verb(), &told, &environment)?;
        let result = result::read(&printed, list).map_err(|source| of_plugin(list, plugin, ask.verb(), source))?;
        last = Some((plugin, result));
    }
    let Some((plugin, result)) = last else { return Err(Error::NotReady("the configuration has no plug-ins".into())) };
    let outcome = result::outcome(&result).map_err(|why| of_plugin(list, plugin, "ADD", Failure::BadResult(why)))?;
    Ok((result, outcome))
}

/// Takes back what was done for a pod. Where one plug-in fails the others are asked all the same: each holds something
/// else.
pub fn del(asker: &Asker<'_>, attachment: &Attachment, namespace: bool) -> Result<(), Error> {
    let list = &attachment.list;
    let environment = environment(attachment, "DEL", namespace);
    let mut failed = Vec::new();
    for plugin in list.plugins.iter().rev() {
        let ask = Ask::Del(attachment.result.as_ref());
        let told = configuration(list, plugin, ask, &attachment.offered);
        match asker.ask(list, plugin, ask.verb(), &told, &environment) {
            Ok(_) => {}
            // It knows nothing of the pod: there is nothing to take back.
            Err(Error::Plugin { source, .. }) if matches!(*source, Failure::Said { code: 3, .. }) => {}
            Err(error) => failed.push(error),
        }
    }
    all(failed)
}

/// Sees whether a pod is connected as it was said.
pub fn check(asker: &Asker<'_>, attachment: &Attachment) -> Result<(), Error> {
    let list = &attachment.list;
    let Some(result) = attachment.result.as_ref().filter(|_| list.speaks("0.4.0") && !list.disable_check) else {
        return Ok(());
    };
    let environment = environment(attachment, "CHECK", true);
    for plugin in &list.plugins {
        let ask = Ask::Check(result);
        let told = configuration(list, plugin, ask, &attachment.offered);
        asker.ask(list, plugin, ask.verb(), &told, &environment)?;
    }
    Ok(())
}

/// Whether pods can be connected, as far as the plug-ins say.
pub fn status(list: &List, dirs: &[PathBuf], limit: Duration) -> Result<(), Error> {
    if !list.speaks("1.1.0") {
        return Ok(());
    }
    let asker = Asker { dirs, limit, cgroup: None };
    let environment = [("CNI_COMMAND", "STATUS".to_owned()), ("CNI_PATH", request::path(dirs))];
    for plugin in &list.plugins {
        let told = configuration(list, plugin, Ask::Status, &Default::default());
        asker.ask(list, plugin, Ask::Status.verb(), &told, &environment)?;
    }
    Ok(())
}

/// Whether the plug-ins of a list can be, and may be, asked to collect.
pub fn collects(list: &List) -> bool {
    list.speaks("1.1.0") && !list.disable_gc
}

/// Has plug-ins take back what they have done for others than these.
pub fn gc(list: &List, dirs: &[PathBuf], limit: Duration, valid: &[String]) -> Result<(), Error> {
    let asker = Asker { dirs, limit, cgroup: None };
    let environment = [("CNI_COMMAND", "GC".to_owned()), ("CNI_PATH", request::path(dirs))];
    let mut failed = Vec::new();
    for plugin in &list.plugins {
        let told = configuration(list, plugin, Ask::Gc(valid), &Default::default());
        failed.extend(asker.ask(list, plugin, Ask::Gc(valid).verb(), &told, &environment).err());
    }
    all(failed)
}

fn all(mut failed: Vec<Error>) -> Result<(), Error> {
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        _ => Err(Error::Several(failed)),
    }
}
