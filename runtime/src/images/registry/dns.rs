//! Names of registries, by the host's `resolv.conf` and `hosts` file.
//!
//! A static binary has no libc resolver worth the name, and the HTTP client's own would ask a public server when the
//! host's configuration cannot be read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Reads the host's configuration when the first name is asked for.
#[derive(Clone, Default)]
pub(super) struct HostResolver(Arc<OnceLock<Result<TokioResolver, String>>>);

impl Resolve for HostResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let name = name.as_str().trim_end_matches('.').to_owned();
            let addresses: Vec<IpAddr> = match resolver.0.get_or_init(open) {
                Ok(resolver) => match resolver.lookup_ip(name.as_str()).await {
                    Ok(found) => found.iter().collect(),
                    Err(_) if name == "localhost" => loopback(),
                    Err(error) => return Err(format!("cannot resolve {name}: {error}").into()),
                },
                Err(_) if name == "localhost" => loopback(),
                Err(error) => return Err(format!("cannot resolve {name}: /etc/resolv.conf: {error}").into()),
            };
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

fn open() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|error| error.to_string())
}

fn loopback() -> Vec<IpAddr> {
    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}
