//! A plug-in's list of devices, looked at: pure.

use std::collections::BTreeMap;

use cri_proto::device_plugin::Device;

/// The devices that a resource may have. kubelet's bound is the size of the message (4 MiB), which holds about as many.
const DEVICES: usize = 100_000;

/// The longest name of a device. The API says 63; plug-ins have taken more for as long as nobody looked.
const NAME: usize = 253;

/// What a plug-in says of a device that can be given.
const HEALTHY: &str = "Healthy";

/// The devices, and whether each is healthy; or what is wrong with the list.
pub fn devices(list: Vec<Device>) -> Result<BTreeMap<String, bool>, String> {
    if list.len() > DEVICES {
        return Err(format!("it lists {} devices, and at most {DEVICES} are taken", list.len()));
    }
    let mut devices = BTreeMap::new();
    for Device { id, health, .. } in list {
        if id.is_empty() || id.len() > NAME || id.contains(char::is_control) {
            let shown: String = id.chars().take(NAME).collect();
            return Err(format!(
                "it lists a device {shown:?}, which is no name: 1 to {NAME} characters that can be seen"
            ));
        }
        let healthy = health == HEALTHY;
        if devices.insert(id.clone(), healthy).is_some() {
            return Err(format!("it lists the device {id:?} twice"));
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn device(id: &str, health: &str) -> Device {
        Device { id: id.to_owned(), health: health.to_owned(), topology: None }
    }

    #[test]
    fn only_what_says_that_it_is_healthy_is() {
        let list = vec![device("a", "Healthy"), device("b", "Unhealthy"), device("c", "")];
        let expected = [("a", true), ("b", false), ("c", false)].map(|(id, healthy)| (id.to_owned(), healthy));
        assert_eq!(devices(list), Ok(expected.into()));
        assert_eq!(devices(vec![]), Ok(BTreeMap::new()));
    }

    #[test]
    fn a_list_that_means_nothing_is_refused() {
        let long = "x".repeat(NAME + 1);
        let rows = [
            (vec![device("a", "Healthy"), device("a", "Unhealthy")], "\"a\" twice"),
            (vec![device("", "Healthy")], "no name"),
            (vec![device("a\n", "Healthy")], "no name"),
            (vec![device(&long, "Healthy")], "no name"),
            (vec![device("a", ""); DEVICES + 1], "100001 devices"),
        ];
        for (list, said) in rows {
            let error = devices(list).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
