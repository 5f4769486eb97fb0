//! How drivers become known: each has a socket in a directory, is asked there what it is, and told what became of it
//! (kubelet's pkg/kubelet/pluginmanager).

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri_proto::registration::registration_client::RegistrationClient;
use cri_proto::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use tokio::task::{AbortHandle, JoinSet};

use super::drivers::{Driver, Drivers};
use crate::channel::{self, Channel};
use crate::cluster::pace::Pauses;
use crate::node::sources::watch::{Places, Watch};

/// What drivers of volumes call themselves.
const TYPE: &str = "CSIPlugin";

/// How long a plug-in may take to say what it is.
const ANSWER: Duration = Duration::from_secs(10);

/// How often the directory is looked at in any case.
const LOOK: Duration = Duration::from_secs(60);

/// The longest name of a driver (CSI's GetPluginInfo).
const NAME: usize = 63;

/// Which socket it is: one that was made anew in the place of another is another.
type Identity = (u64, i64, i64);

/// Gets to know whoever has a socket in `directory`, for as long as it is there.
pub async fn follow(directory: PathBuf, drivers: Drivers) {
    let mut watch = match Watch::new() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(%error, "the directory of plug-ins is only looked at now and then");
            None
        }
    };
    let places = Places { of_names: [directory.clone()].into(), ..Places::default() };
    let mut known: BTreeMap<PathBuf, (Identity, AbortHandle)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        if let Some(watch) = &mut watch {
            // Each time: it may be another directory by now.
            watch.set(&places);
            watch.catch_up();
        }
        let there = sockets(&directory);
        known.retain(|socket, (identity, task)| {
            let stays = there.get(socket) == Some(identity);
            if !stays {
                task.abort();
                if let Some(driver) = drivers.remove(socket) {
                    tracing::info!(driver, "a CSI driver is gone");
                }
            }
            stays
        });
        for (socket, identity) in there {
            known.entry(socket.clone()).or_insert_with(|| (identity, tasks.spawn(register(socket, drivers.clone()))));
        }
        while tasks.try_join_next().is_some() {}
        let changed = async {
            match &mut watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let _ = tokio::time::timeout(LOOK, changed).await;
    }
}

/// The sockets in a directory.
fn sockets(directory: &Path) -> BTreeMap<PathBuf, Identity> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::debug!(%error, directory = %directory.display(), "the plug-ins cannot be listed");
            return BTreeMap::new();
        }
    };
    let found = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(|it| it.file_type().is_socket())?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let identity = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        (!hidden).then(|| (entry.path(), identity))
    });
    found.collect()
}

/// Asks until it works.
async fn register(socket: PathBuf, drivers: Drivers) {
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut said = String::new();
    loop {
        match attempt(&socket, &drivers).await {
            Ok(()) => return,
            Err(why) if why == said => tracing::debug!(socket = %socket.display(), why, "a plug-in is not registered"),
            Err(why) => {
                tracing::warn!(socket = %socket.display(), why, "a plug-in is not registered; it is tried again");
                said = why;
            }
        }
        pauses.wait().await;
    }
}

async fn attempt(socket: &Path, drivers: &Drivers) -> Result<(), String> {
    let mut client = RegistrationClient::new(channel::unix(socket.to_owned()));
    let answer = tokio::time::timeout(ANSWER, client.get_info(InfoRequest {})).await;
    let info = answer.map_err(|_| "it does not say what it is".to_owned())?;
    let info = info.map_err(|status| status.message().to_owned())?.into_inner();
    if let Err(why) = check(&info) {
        // What cannot be now cannot be later: it ends, and another one comes.
        tracing::warn!(socket = %socket.display(), why, "a plug-in is refused");
        return tell(&mut client, Err(why)).await;
    }
    let endpoint = if info.endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(&info.endpoint) };
    match Driver::meet(socket, endpoint).await {
        Ok(driver) => {
            drivers.add(&info.name, driver);
            tracing::info!(driver = info.name, "a CSI driver is registered");
            tell(&mut client, Ok(())).await
        }
        Err(error) => {
            tell(&mut client, Err(error.to_string())).await?;
            Err(error.to_string())
        }
    }
}

/// Tells a plug-in what became of it.
async fn tell(client: &mut RegistrationClient<Channel>, outcome: Result<(), String>) -> Result<(), String> {
    let status = RegistrationStatus { plugin_registered: outcome.is_ok(), error: outcome.err().unwrap_or_default() };
    let told = tokio::time::timeout(ANSWER, client.notify_registration_status(status)).await;
    told.map_err(|_| "it does not hear what became of it".to_owned())?
        .map(drop)
        .map_err(|status| status.message().to_owned())
}

/// Whether a plug-in is a driver that can be asked.
fn check(PluginInfo { r#type, name, supported_versions, .. }: &PluginInfo) -> Result<(), String> {
    if r#type != TYPE {
        return Err(format!("no handler registered for plugin type: {}", r#type));
    }
    // A directory is called by its name.
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let (first, last) = (name.bytes().next(), name.bytes().last());
    if name.len() > NAME || !name.bytes().all(inner) || !ends(first) || !ends(last) {
        return Err(format!("{name:?} is no name of a CSI driver: letters, digits, - and ., and no more than {NAME}"));
    }
    let major = |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if !supported_versions.iter().any(major) {
        return Err(format!(
            "RegisterPlugin for CSI driver {name:?} failed. None of the versions specified {supported_versions:?} are supported"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_known_by_a_name_that_leads_nowhere_and_speaks_version_1() {
        let rows = [
            (TYPE, "hostpath.csi.k8s.io", "1.0.0", true),
            (TYPE, "d", "v1.11.0", true),
            (TYPE, "d", "2.0.0", false),
            (TYPE, "d", "0.3.0", false),
            (TYPE, "../d", "1.0.0", false),
            (TYPE, "..", "1.0.0", false),
            (TYPE, "a/b", "1.0.0", false),
            (TYPE, "", "1.0.0", false),
            ("DevicePlugin", "d", "1.0.0", false),
        ];
        for (kind, name, version, expected) in rows {
            let info = PluginInfo {
                r#type: kind.to_owned(),
                name: name.to_owned(),
                endpoint: String::new(),
                supported_versions: vec![version.to_owned()],
            };
            assert_eq!(check(&info).is_ok(), expected, "{kind} {name} {version}");
        }
        assert!(check(&PluginInfo { r#type: TYPE.into(), name: "d".into(), ..PluginInfo::default() }).is_err());
    }
}
