//! Pages of metrics, under kubelet's and cAdvisor's names.

mod cadvisor;
mod requests;
pub mod resource;
mod volumes;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

pub use self::requests::Requests;
use super::Inner;
use super::refusal::text;
use super::route::Page as Which;
use crate::access::body::Body;
use crate::node::metrics::{Page, process};

/// A page.
pub(super) async fn answer(kubelet: &Inner, which: Which) -> Response<Body> {
    let (served, mut page) = (&kubelet.served, Page::default());
    match which {
        Which::Own => {
            served.metrics.write(&mut page, &served.ours, &served.node, &served.probes).await;
            kubelet.requests.write(&mut page);
            let claims = kubelet.statistics.claims().await.unwrap_or_default();
            volumes::write(&mut page, claims.values().flatten());
        }
        Which::Resource => resource::write(&mut page, &kubelet.statistics.summary(true).await),
        Which::Cadvisor => cadvisor::write(&mut page, kubelet).await,
        Which::Probes => {
            served
                .metrics
                .write_probes(&mut page, &served.probes, |pod| kubelet.names.outer_of(kubelet.access.store(), pod));
            process::write_start(&mut page);
        }
    }
    let mut response = text(StatusCode::OK, page.finish());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
