//! kubelet's HTTPS API of an agent: who is let in, who may do what, and what is answered.

#![allow(clippy::unwrap_used)]

mod kubelet_api {
    mod client;
    mod known;
    mod refusals;
    mod rights;
    mod routes;
    mod served;
    mod sessions;
}
