//! What a client says about the node as a whole.

use cri_proto::cri;
use ipnet::IpNet;
use tonic::Status;

use super::Services;
use crate::error::{Error, Result};

impl Services {
    /// Takes the pods' range over. Where the operator has named one that stays, and where pods run in another it waits
    /// until they are gone: kubelet calls this when it has registered, whatever runs, and does not expect more.
    pub(super) async fn update_config(
        &self,
        request: cri::UpdateRuntimeConfigRequest,
    ) -> std::result::Result<cri::UpdateRuntimeConfigResponse, Status> {
        self.run(move |core, _| {
            let network = request.runtime_config.and_then(|it| it.network_config);
            let ranges = ranges(&network.unwrap_or_default().pod_cidr)?;
            if !ranges.is_empty() {
                core.network.suggest(ranges)?;
            }
            Ok(cri::UpdateRuntimeConfigResponse {})
        })
        .await
    }
}

/// One range of a family at most, between commas.
fn ranges(text: &str) -> Result<Vec<IpNet>> {
    let words = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let range = |word: &str| {
        let wrong = || format!("runtime_config.network_config.pod_cidr {word:?} is no range of addresses");
        word.parse::<IpNet>().map_err(|_| Error::Invalid(wrong()))
    };
    words.map(range).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_kubelet_writes_them() {
        assert!(ranges("").unwrap().is_empty());
        assert_eq!(ranges("10.244.1.0/24").unwrap(), ["10.244.1.0/24".parse().unwrap()]);
        assert_eq!(ranges("10.244.1.0/24, fd00:1::/64").unwrap().len(), 2);
        let error = ranges("10.244.1.0/24,nonsense").unwrap_err().to_string();
        assert!(error.starts_with("runtime_config.network_config.pod_cidr"), "{error}");
    }
}
