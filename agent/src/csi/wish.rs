//! What a driver is asked for a volume of a pod. Pure.

use std::collections::{BTreeMap, HashMap};

use cri_proto::csi::volume_capability::access_mode::Mode;
use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolume, Pod, Volume};
use k8s_openapi::api::storage::v1::CSIDriver;
use sha2::{Digest as _, Sha256};

use crate::engine::config::names::PodKey;
use crate::engine::config::{ConfigError, Objects};
use crate::engine::plan::spec_of;
use crate::host::volumes::bound;

/// A volume that a driver is to mount for a pod.
#[derive(Clone, PartialEq)]
pub struct Wish {
    /// The pod's uid.
    pub pod: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// The PersistentVolume's name, or the volume's: the name of its directory.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// By what the driver knows the volume.
    pub handle: String,
    /// It is the pod's own, and ends with it.
    pub ephemeral: bool,
    /// Nobody writes to it.
    pub read_only: bool,
    /// A controller attaches it first.
    pub attachable: bool,
    /// Its type of file system; empty when that is the driver's choice.
    pub fs_type: String,
    /// Options of its mount.
    pub mount_flags: Vec<String>,
    /// How it is used, in Kubernetes' word.
    pub mode: String,
    /// What the attacher said.
    pub publish_context: HashMap<String, String>,
    /// What its object says to the driver.
    pub attributes: HashMap<String, String>,
    /// What is said of the pod besides.
    pub pod_info: HashMap<String, String>,
    /// For staging.
    pub stage_secrets: HashMap<String, String>,
    /// For publishing.
    pub publish_secrets: HashMap<String, String>,
    /// The pod's group.
    pub group: Option<u32>,
    /// Who hands the files over to that, where the driver cannot: this node.
    pub hands_over: bool,
}

/// What a volume wants of a driver, if it is a driver's at all.
pub fn of(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
    node: &str,
    group: Option<u32>,
) -> Result<Option<Wish>, ConfigError> {
    let key = PodKey::of(pod);
    if let Some(source) = &volume.csi {
        return inline(pod, &key, volume, source, objects, group).map(Some);
    }
    match bound::driven(pod, volume, objects)? {
        Some((persistent, source, read_only)) => {
            let bound = Bound { volume, persistent, source, read_only };
            persisted(pod, &key, &bound, objects, node, group).map(Some)
        }
        None => Ok(None),
    }
}

/// The name of the object that says whether a volume is attached to a node.
pub fn attachment_of(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", hex(&[handle, driver, node]))
}

/// The digest of some strings, one after the other, in hexadecimal.
pub(super) fn hex(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part.as_bytes()));
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Bound<'a> {
    volume: &'a Volume,
    persistent: &'a PersistentVolume,
    source: &'a CSIPersistentVolumeSource,
    read_only: bool,
}

fn inline(
    pod: &Pod,
    key: &PodKey,
    volume: &Volume,
    source: &CSIVolumeSource,
    objects: &Objects,
    group: Option<u32>,
) -> Result<Wish, ConfigError> {
    let driver = driver_of(objects, &source.driver)?;
    let modes = driver.and_then(|it| it.spec.volume_lifecycle_modes.clone());
    match (driver, modes.unwrap_or_default()) {
        (None, _) => {
            let why =
                format!("volume mode \"Ephemeral\" not supported by driver {} (no CSIDriver object)", source.driver);
            return Err(refused(&volume.name, &why));
        }
        (Some(_), modes) if !modes.iter().any(|mode| mode == "Ephemeral") => {
            let modes = if modes.is_empty() { vec!["Persistent".to_owned()] } else { modes };
            let why = format!(
                "volume mode \"Ephemeral\" not supported by driver {} (only supports {modes:?})",
                source.driver
            );
            return Err(refused(&volume.name, &why));
        }
        _ => {}
    }
    without_tokens(&volume.name, driver)?;
    let fs_type = source.fs_type.clone().unwrap_or_default();
    let read_only = source.read_only == Some(true);
    let secret = source.node_publish_secret_ref.as_ref().map(|it| (key.namespace.as_str(), it.name.as_str()));
    Ok(Wish {
        pod: key.uid.clone(),
        volume: volume.name.clone(),
        name: volume.name.clone(),
        driver: source.driver.clone(),
        // As kubelet makes one up.
        handle: format!("csi-{}", hex(&[&key.uid, &volume.name])),
        ephemeral: true,
        read_only,
        attachable: false,
        hands_over: hands_over(driver, &fs_type, Some(&["ReadWriteOnce".to_owned()]), read_only),
        fs_type,
        mount_flags: Vec::new(),
        mode: "ReadWriteOnce".to_owned(),
        publish_context: HashMap::new(),
        attributes: unordered(source.volume_attributes.as_ref()),
        pod_info: pod_info(pod, key, driver, true),
        stage_secrets: HashMap::new(),
        publish_secrets: secrets(objects, secret)?,
        group,
    })
}

fn persisted(
    pod: &Pod,
    key: &PodKey,
    bound: &Bound<'_>,
    objects: &Objects,
    node: &str,
    group: Option<u32>,
) -> Result<Wish, ConfigError> {
    let Bound { volume, persistent, source, read_only } = *bound;
    let name = persistent.metadata.name.clone().unwrap_or_default();
    let driver = driver_of(objects, &source.driver)?;
    let modes = driver.and_then(|it| it.spec.volume_lifecycle_modes.as_ref()).filter(|modes| !modes.is_empty());
    if let Some(modes) = modes.filter(|modes| !modes.iter().any(|mode| mode == "Persistent")) {
        let why =
            format!("volume mode \"Persistent\" not supported by driver {} (only supports {modes:?})", source.driver);
        return Err(refused(&name, &why));
    }
    without_tokens(&name, driver)?;
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(refused(&name, "its name cannot be a directory's"));
    }
    let attachable = driver.is_none_or(|it| it.spec.attach_required != Some(false));
    let publish_context = if attachable {
        attached(objects, &name, &attachment_of(&source.volume_handle, &source.driver, node))?
    } else {
        HashMap::new()
    };
    let spec = persistent.spec.as_ref();
    let modes = spec.and_then(|spec| spec.access_modes.as_deref());
    let fs_type = source.fs_type.clone().unwrap_or_default();
    let reference = |it: &Option<k8s_openapi::api::core::v1::SecretReference>| {
        it.as_ref().map(|it| (it.namespace.clone().unwrap_or_default(), it.name.clone().unwrap_or_default()))
    };
    let of_secret = |it| {
        let it: Option<(String, String)> = reference(it);
        secrets(objects, it.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str())))
    };
    Ok(Wish {
        pod: key.uid.clone(),
        volume: volume.name.clone(),
        driver: source.driver.clone(),
        handle: source.volume_handle.clone(),
        ephemeral: false,
        read_only,
        attachable,
        hands_over: hands_over(driver, &fs_type, modes, read_only),
        fs_type,
        mount_flags: spec.and_then(|spec| spec.mount_options.clone()).unwrap_or_default(),
        mode: modes.and_then(<[String]>::first).cloned().unwrap_or_else(|| "ReadWriteOnce".to_owned()),
        publish_context,
        attributes: unordered(source.volume_attributes.as_ref()),
        pod_info: pod_info(pod, key, driver, false),
        stage_secrets: of_secret(&source.node_stage_secret_ref)?,
        publish_secrets: of_secret(&source.node_publish_secret_ref)?,
        name,
        group,
    })
}

impl Wish {
    /// How it is used, as a driver is told that knows who writes (`SINGLE_NODE_MULTI_WRITER`), or one that does not.
    pub fn access(&self, knows_writers: bool) -> Mode {
        match (self.mode.as_str(), knows_writers) {
            ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
            ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
            ("ReadWriteOnce" | "ReadWriteOncePod", false) => Mode::SingleNodeWriter,
            ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
            ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
            _ => Mode::Unknown,
        }
    }
}

fn refused(volume: &str, why: &str) -> ConfigError {
    ConfigError::Refused(format!("MountVolume.SetUp failed for volume \"{volume}\" : kubernetes.io/csi: {why}"))
}

/// Refuses what asks for tokens: a driver that did not get them would do something else than is wanted.
fn without_tokens(volume: &str, driver: Option<&CSIDriver>) -> Result<(), ConfigError> {
    let asked = driver.and_then(|it| it.spec.token_requests.as_ref()).is_some_and(|it| !it.is_empty());
    let why = "its CSIDriver asks for tokens of service accounts (tokenRequests), which this node does not give";
    if asked { Err(refused(volume, why)) } else { Ok(()) }
}

/// What a driver says of itself, if it does; that is known before a pod begins.
fn driver_of<'a>(objects: &'a Objects, name: &str) -> Result<Option<&'a CSIDriver>, ConfigError> {
    match objects.csi_drivers.get(name) {
        Some(driver) => Ok(Some(driver)),
        None => objects.without("CSIDriver", "", name, true).map(|()| None),
    }
}

/// What the attacher has said of a volume that is attached.
fn attached(objects: &Objects, volume: &str, name: &str) -> Result<HashMap<String, String>, ConfigError> {
    let failed =
        |why: &str| ConfigError::Refused(format!("MountVolume.WaitForAttach failed for volume \"{volume}\" : {why}"));
    let Some(attachment) = objects.attachments.get(name) else {
        let error = objects.without("VolumeAttachment", "", name, false).err();
        return Err(failed(&error.map(|error| error.to_string()).unwrap_or_default()));
    };
    if attachment.metadata.deletion_timestamp.is_some() {
        return Err(failed("volume attachment is being deleted"));
    }
    let status = attachment.status.as_ref();
    match status {
        Some(status) if status.attached => Ok(unordered(status.attachment_metadata.as_ref())),
        _ => {
            let why = status.and_then(|it| it.attach_error.as_ref()).and_then(|it| it.message.clone());
            Err(failed(&why.unwrap_or_else(|| "the volume is not attached yet".to_owned())))
        }
    }
}

/// The data of a Secret, as a driver is told it.
fn secrets(objects: &Objects, secret: Option<(&str, &str)>) -> Result<HashMap<String, String>, ConfigError> {
    let Some((namespace, name)) = secret else { return Ok(HashMap::new()) };
    let Some(data) = objects.secret(namespace, name) else {
        objects.without("Secret", namespace, name, false)?;
        return Ok(HashMap::new());
    };
    let text = |value: &[u8]| {
        String::from_utf8(value.to_vec()).map_err(|_| ConfigError::NotUtf8("the Secret for the CSI driver"))
    };
    data.into_iter().map(|(key, value)| Ok((key.to_owned(), text(value)?))).collect()
}

/// Whether kubelet itself hands a volume's files over to the pod's group (CSIDriver's fsGroupPolicy).
fn hands_over(driver: Option<&CSIDriver>, fs_type: &str, modes: Option<&[String]>, read_only: bool) -> bool {
    let once = || modes.is_some_and(|modes| modes.iter().any(|mode| mode.starts_with("ReadWriteOnce")));
    match driver.and_then(|it| it.spec.fs_group_policy.as_deref()) {
        Some("None") => false,
        Some("File") => !read_only,
        _ => !read_only && !fs_type.is_empty() && once(),
    }
}

fn pod_info(pod: &Pod, key: &PodKey, driver: Option<&CSIDriver>, ephemeral: bool) -> HashMap<String, String> {
    if driver.and_then(|it| it.spec.pod_info_on_mount) != Some(true) {
        return HashMap::new();
    }
    let account = spec_of(pod).service_account_name.clone().unwrap_or_default();
    [
        ("pod.name", key.name.clone()),
        ("pod.namespace", key.namespace.clone()),
        ("pod.uid", key.uid.clone()),
        ("serviceAccount.name", account),
        ("ephemeral", ephemeral.to_string()),
    ]
    .map(|(name, value)| (format!("csi.storage.k8s.io/{name}"), value))
    .into()
}

fn unordered(map: Option<&BTreeMap<String, String>>) -> HashMap<String, String> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
