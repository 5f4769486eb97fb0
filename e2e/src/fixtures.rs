//! The images that tests run, made once for each build directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::archive::{Image, Layer, Packing};
use crate::random::Random;
use crate::{BUSYBOX, binary, debian};

/// Changes when the images' contents do: the archives are kept by name.
const VERSION: u32 = 2;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    www-data:x:33:33:www-data:/var/www:/bin/sh\n\
    nobody:x:65534:65534:nobody:/home:/bin/false\n\
    default-user:x:1000:1000::/home:/bin/sh\n";

const GROUP: &str = "root:x:0:\n\
    www-data:x:33:\n\
    nogroup:x:65534:\n\
    default-user:x:1000:\n\
    group-defined-in-image:x:50000:default-user\n";

/// The archive of the busybox image, [`BUSYBOX`] by name: Debian's busybox, its libraries, a few users, and
/// `/bin/setuid-cat`, a set-user-id program of root's.
pub fn busybox() -> Result<PathBuf, String> {
    archive("busybox", |path| {
        let image = busybox_image(BUSYBOX, json!({}))?;
        image.write_oci(path, Packing::Gzip).map_err(|error| error.to_string())
    })
}

/// The busybox image under another reference, with `config` laid over its configuration.
pub fn busybox_image(reference: &str, config: Value) -> Result<Image, String> {
    let mut merged =
        json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]});
    if let (Some(merged), Value::Object(config)) = (merged.as_object_mut(), config) {
        merged.extend(config);
    }
    Ok(Image { reference: reference.to_owned(), layers: vec![busybox_layer()?], config: merged })
}

/// The layer that holds busybox.
pub fn busybox_layer() -> Result<Arc<Vec<u8>>, String> {
    static LAYER: OnceLock<Result<Arc<Vec<u8>>, String>> = OnceLock::new();
    LAYER.get_or_init(make_busybox_layer).clone()
}

fn make_busybox_layer() -> Result<Arc<Vec<u8>>, String> {
    let program = busybox_program()?;
    let cat = debian::which("cat").ok_or("no cat")?;
    let mut layer = Layer::new().dir("bin/", 0o755).dir("etc/", 0o755).dir("tmp/", 0o1777).dir("root/", 0o700);
    for dir in ["home/", "var/", "var/www/", "proc/", "sys/", "dev/", "usr/", "run/"] {
        layer = layer.dir(dir, 0o755);
    }
    layer = layer.symlink("sbin", "bin").symlink("usr/bin", "../bin").symlink("usr/sbin", "../bin");
    layer = layer.file("etc/passwd", 0o644, PASSWD.as_bytes()).file("etc/group", 0o644, GROUP.as_bytes());
    layer = layer.file("bin/busybox", 0o755, &read(&program)?);
    let applets = Command::new(&program).arg("--list").output().map_err(|error| format!("busybox --list: {error}"))?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        layer = layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    layer = layer.file("bin/setuid-cat", 0o4755, &read(&cat)?);
    Ok(with_libraries(layer, &[&program, &cat], None)?.finish())
}

/// Appends what `programs` need to run, with the directories above it.
fn with_libraries(mut layer: Layer, programs: &[&Path], extra: Option<&Path>) -> Result<Layer, String> {
    let mut libraries = Vec::new();
    for program in programs {
        libraries.extend(debian::libraries(program, extra)?);
    }
    libraries.sort();
    libraries.dedup();
    let mut dirs = std::collections::BTreeSet::new();
    for library in &libraries {
        let inside = extra.and_then(|root| library.strip_prefix(root).ok()).unwrap_or(library);
        let inside = inside.strip_prefix("/").unwrap_or(inside);
        for dir in inside.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect::<Vec<_>>().iter().rev()
        {
            if dirs.insert(dir.to_path_buf()) {
                layer = layer.dir(&format!("{}/", dir.display()), 0o755);
            }
        }
        layer = layer.file(&inside.to_string_lossy(), 0o755, &read(library)?);
    }
    Ok(layer)
}

/// Debian's dynamic busybox: the static one runs applets inside its shell, which hides what a mask does.
pub fn busybox_program() -> Result<PathBuf, String> {
    let host = debian::which("busybox");
    if let Some(host) = &host
        && debian::libraries(host, None).is_ok_and(|libraries| !libraries.is_empty())
    {
        return Ok(host.clone());
    }
    let unpacked = debian::unpacked(&["busybox"]).map(|root| root.join("bin/busybox"));
    unpacked.or_else(|why| host.ok_or(format!("no busybox: {why}")))
}

/// A root directory with busybox in it, for the image tools and for runtimes that want a bundle.
pub fn busybox_root(dir: &Path) -> Result<(), String> {
    let layer = busybox_layer()?;
    let mut tar = tar::Archive::new(layer.as_slice());
    tar.set_preserve_permissions(true);
    tar.unpack(dir).map_err(|error| format!("cannot unpack busybox to {}: {error}", dir.display()))
}

/// What [`nginx`] calls its image.
pub const NGINX: &str = "coracle.test/nginx-plain:1";

/// Where the tests' nginx listens: on hosts of their own, where nobody else does.
pub const NGINX_PORT: u16 = 80;

/// An archive of busybox and nginx, made without any image tool. It listens on `port` of every
/// address.
pub fn nginx(port: u16) -> Result<PathBuf, String> {
    archive(&format!("nginx-{port}"), |path| {
        let config = json!({"Cmd": ["nginx", "-g", "daemon off;"]});
        let mut image = busybox_image(NGINX, config)?;
        image.layers.push(nginx_layer(port)?);
        image.write_oci(path, Packing::Gzip).map_err(|error| error.to_string())
    })
}

/// Puts Debian's nginx and a configuration that listens on `port` of every address into a root directory.
pub fn nginx_root(dir: &Path, port: u16) -> Result<(), String> {
    let layer = nginx_layer(port)?;
    tar::Archive::new(layer.as_slice()).unpack(dir).map_err(|error| format!("cannot unpack nginx: {error}"))
}

fn nginx_layer(port: u16) -> Result<Arc<Vec<u8>>, String> {
    let (program, extra) = match debian::which("nginx") {
        Some(path) => (path, None),
        None => {
            let root = debian::unpacked(&["nginx", "libpcre2-8-0", "libssl3", "zlib1g", "libcrypt1"])?;
            (root.join("usr/sbin/nginx"), Some(root))
        }
    };
    let configuration = format!(
        "user root;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log /dev/stderr;\nevents {{ worker_connections 64; }}\n\
         http {{ access_log /dev/stdout; server {{ listen [::]:{port} ipv6only=off; root /usr/share/nginx/html; }} }}\n"
    );
    let mut layer = Layer::new().file("bin/nginx", 0o755, &read(&program)?);
    for made in ["etc/nginx", "var/log/nginx", "var/lib/nginx", "usr/share/nginx/html"] {
        layer = layer.dir(&format!("{made}/"), 0o755);
    }
    layer = layer.file("etc/nginx/nginx.conf", 0o644, configuration.as_bytes());
    layer = layer.file("usr/share/nginx/html/index.html", 0o644, b"<h1>Welcome to nginx!</h1>\n");
    Ok(with_libraries(layer, &[&program], extra.as_deref())?.finish())
}

/// An archive of about `megabytes` in `files` regular files over two layers, half of it compressible.
pub fn big(megabytes: usize, files: usize) -> Result<PathBuf, String> {
    archive(&format!("big-{megabytes}m-{files}"), |path| {
        let mut random = Random::seeded(megabytes as u64 + 1);
        let layers = [0, 1].map(|layer| big_layer(layer, (megabytes << 20) / 2, files / 2, &mut random));
        let reference = big_reference(megabytes, files);
        let image = Image { reference, layers: layers.to_vec(), config: json!({"Cmd": ["/none"]}) };
        image.write_oci(path, Packing::Gzip).map_err(|error| error.to_string())
    })
}

/// An archive of busybox and two layers of 12 MB in 750 files each, `coracle.test/heavy:1`: it takes a while to import
/// and can be run to see whether it is whole.
pub fn heavy() -> Result<PathBuf, String> {
    archive("heavy", |path| {
        let mut random = Random::seeded(7);
        let mut image = busybox_image("coracle.test/heavy:1", json!({}))?;
        image.layers.extend([0, 1].map(|layer| big_layer(layer, 12 << 20, 750, &mut random)));
        image.write_oci(path, Packing::Gzip).map_err(|error| error.to_string())
    })
}

/// What [`big`] calls its image.
pub fn big_reference(megabytes: usize, files: usize) -> String {
    format!("coracle.test/big:{megabytes}m-{files}")
}

fn big_layer(number: usize, bytes: usize, files: usize, random: &mut Random) -> Arc<Vec<u8>> {
    let mut layer = Layer::new().dir(&format!("layer{number}/"), 0o755);
    let size = bytes / files.max(1);
    let mut data = vec![0; size];
    for file in 0..files {
        if file % 100 == 0 {
            layer = layer.dir(&format!("layer{number}/{}/", file / 100), 0o755);
        }
        // Half noise, half a repeated word: about what programs compress to.
        for (index, chunk) in data.chunks_mut(8).enumerate() {
            let word = if index % 2 == 0 { random.number() } else { file as u64 };
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        layer = layer.file(&format!("layer{number}/{}/{file}", file / 100), 0o644, &data);
    }
    layer.finish()
}

/// An archive in the cache, made by `make` the first time.
fn archive(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let path = binary::cache_dir().join(format!("{name}-v{VERSION}.tar"));
    let _lock = binary::cache_lock(name);
    if !path.exists() {
        let partial = path.with_extension("partial");
        make(&partial)?;
        std::fs::rename(&partial, &path).map_err(|error| format!("cannot rename {}: {error}", partial.display()))?;
    }
    Ok(path)
}

/// Lets everybody look into a directory: temporary ones are root's alone.
pub fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).expect("the directory is ours");
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
