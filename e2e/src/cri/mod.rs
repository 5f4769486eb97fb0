//! The Container Runtime Interface, driven as a kubelet drives it: [`Cri`] is `coracle cri` on a node, [`Containerd`] is
//! Debian's containerd, the oracle that shows a test to be right. Both are an [`Endpoint`]: one test body runs on either.
//!
//! ```no_run
//! use e2e::cri::{Cri, Endpoint};
//! use e2e::{BUSYBOX, Node, need};
//!
//! let node = Node::with_busybox().expect("root");
//! let cri = Cri::start(&node);
//! let pod = cri.pod("p");
//! let sandbox = cri.run_pod(&pod);
//! let id = cri.run_container(&sandbox, &pod, &cri.container("c", BUSYBOX, &["sleep", "100"]));
//! assert_eq!(cri.exec_sync(&id, &["echo", "hello"]).stdout, b"hello\n");
//! ```

mod client;
mod containerd;
mod endpoint;
mod kubelet;
mod log;
mod served;
mod shared;

pub use client::{Client, Events};
pub use containerd::Containerd;
pub use cri_proto::cri as proto;
pub use endpoint::{Endpoint, map};
pub use kubelet::Kubelet;
pub use log::{Entry, Stream};
pub use served::Cri;
