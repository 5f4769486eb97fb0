//! Exec, Attach and PortForward: what is asked for is checked and kept for whoever has the address.

use cri_proto::cri;
use tonic::Status;

use super::Services;
use crate::container::{self, Attach, Exec};
use crate::error::{Error, Result};
use crate::sandbox;
use crate::sessions::Wanted;

impl Services {
    pub(super) async fn prepare_exec(
        &self,
        request: cri::ExecRequest,
    ) -> std::result::Result<cri::ExecResponse, Status> {
        let sessions = self.sessions.clone();
        self.run(move |core, owner| {
            streams(
                "container_id",
                &request.container_id,
                request.tty,
                [request.stdin, request.stdout, request.stderr],
            )?;
            if request.cmd.is_empty() {
                return Err(Error::Invalid("cmd: there is no command to run".into()));
            }
            let record = container::owned(core, owner, &request.container_id)?;
            container::require_running(core, &record)?;
            let exec = Exec { command: request.cmd, tty: request.tty, stdin: request.stdin };
            let wanted = Wanted::Exec { container: record.id, exec, stdout: request.stdout, stderr: request.stderr };
            Ok(cri::ExecResponse { url: sessions.prepare(wanted)? })
        })
        .await
    }

    pub(super) async fn prepare_attach(
        &self,
        request: cri::AttachRequest,
    ) -> std::result::Result<cri::AttachResponse, Status> {
        let sessions = self.sessions.clone();
        self.run(move |core, owner| {
            streams(
                "container_id",
                &request.container_id,
                request.tty,
                [request.stdin, request.stdout, request.stderr],
            )?;
            let record = container::owned(core, owner, &request.container_id)?;
            container::require_alive(core, &record)?;
            let attach = Attach { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
            let wanted = Wanted::Attach { container: record.id, attach, tty: request.tty };
            Ok(cri::AttachResponse { url: sessions.prepare(wanted)? })
        })
        .await
    }

    pub(super) async fn prepare_port_forward(
        &self,
        request: cri::PortForwardRequest,
    ) -> std::result::Result<cri::PortForwardResponse, Status> {
        let sessions = self.sessions.clone();
        self.run(move |core, owner| {
            required("pod_sandbox_id", &request.pod_sandbox_id)?;
            let port = |port: i32| match u16::try_from(port) {
                Ok(port @ 1..) => Ok(port),
                _ => Err(Error::Invalid(format!("port: {port} is not a port"))),
            };
            let ports = request.port.into_iter().map(port).collect::<Result<_>>()?;
            let record = sandbox::owned(core, owner, &request.pod_sandbox_id)?;
            if !record.is_ready(core) {
                return Err(Error::Conflict(format!("sandbox {} is not running", record.id)));
            }
            Ok(cri::PortForwardResponse { url: sessions.prepare(Wanted::PortForward { sandbox: record.id, ports })? })
        })
        .await
    }
}

fn required(field: &str, value: &str) -> Result<()> {
    if value.is_empty() { Err(Error::Invalid(format!("missing required {field}"))) } else { Ok(()) }
}

/// Checks what Exec and Attach have in common; the streams are standard input, output and error.
fn streams(field: &str, id: &str, tty: bool, [stdin, stdout, stderr]: [bool; 3]) -> Result<()> {
    required(field, id)?;
    if tty && stderr {
        let why = "a terminal has no standard error of its own, so tty and stderr cannot both be true";
        return Err(Error::Invalid(why.into()));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::Invalid("one of stdin, stdout, or stderr must be set".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_make_no_sense_are_refused() {
        for (id, tty, asked, why) in [
            ("c", false, [true, true, true], None),
            ("c", true, [true, true, false], None),
            ("", false, [true; 3], Some("missing required container_id")),
            ("c", true, [true; 3], Some("cannot both be true")),
            ("c", false, [false; 3], Some("must be set")),
        ] {
            let got = streams("container_id", id, tty, asked).err().map(|error| error.to_string());
            assert_eq!(got.is_some(), why.is_some(), "{got:?}");
            assert!(got.unwrap_or_default().contains(why.unwrap_or_default()));
        }
    }
}
