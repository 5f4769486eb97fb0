//! Real reboots, without a warning: the state directory is a tmpfs and gone, the root directory is a disk and stays.

use std::path::Path;
use std::time::Instant;

use e2e::random::Random;
use e2e::vm::{Boot, Image, Machine};
use e2e::{Finished, fixtures, need};

use crate::{all, alone, boot, prelude, sh};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: coracle.test/busybox:1, command: [sh, -c, "date > /e/x; echo up; exec sleep 1000"],
     volumeMounts: [{name: e, mountPath: /e}]}
  volumes: [{name: e, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: coracle.test/busybox:1, command: [sh, -c, "echo up; exec sleep 1000"]}
"#;

/// Runs the pods in the background until both are up, and what they have is on the disk.
const UP: &str = "setsid coracle run /root/pods.yaml >/root/run.log 2>&1 &\n\
    until [ \"$(grep -c '| up' /root/run.log)\" = 2 ]; do sleep 0.2; done; cat /root/run.log; sync";

/// After a power cut: what `gc` says, and then whatever of the pods is still on the disk; each blob that is not what its
/// name says.
const AFTER: &str = "coracle gc || exit\n\
    cd /var/lib/coracle || exit\n\
    for dir in containers pods images/tmp; do\n\
        [ -z \"$(ls -A $dir 2>/dev/null)\" ] || { echo left in $dir: $(ls -A $dir); exit 1; }\n\
    done\n\
    for blob in images/blobs/sha256/*; do\n\
        [ -e \"$blob\" ] || continue\n\
        [ \"$(sha256sum <$blob)\" = \"${blob##*/}  -\" ] || { echo damaged: $blob; exit 1; }\n\
    done\n\
    cd /; coracle get pods; coracle image ls";

/// A disk of the test's own with the pods' manifests on it, in a directory that goes with the test.
struct Disk<'a> {
    image: &'a Image,
    dir: tempfile::TempDir,
}

impl<'a> Disk<'a> {
    fn new(image: &'a Image) -> Self {
        // On the build's disk: the temporary directory of small machines is memory.
        let dir = tempfile::tempdir_in(e2e::binary::cache_dir()).expect("the cache directory is writable");
        image.copy_disk(&dir.path().join("disk")).expect("there is room for a disk");
        Self { image, dir }
    }

    fn boot(&self) -> Machine {
        boot(self.image, &Boot { disk: Some(&self.path()), ..Boot::default() })
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("disk")
    }

    fn sh(&self, machine: &mut Machine, script: &str) -> Finished {
        sh(machine, script)
    }
}

#[test]
fn pods_end_with_the_power_and_the_images_stay() {
    let image = need!(Image::prepare());
    let archive = need!(fixtures::busybox());
    let _alone = alone();
    let disk = Disk::new(&image);
    let mut machine = disk.boot();
    let write = format!("cat >/root/pods.yaml <<'EOF'\n{PODS}\nEOF\ncoracle image import {}", archive.display());
    disk.sh(&mut machine, &write).exits(0);
    disk.sh(&mut machine, UP).exits(0);
    let boot_id = disk.sh(&mut machine, "cat /proc/sys/kernel/random/boot_id").stdout();
    machine.cut_power();

    let mut machine = disk.boot();
    assert_ne!(disk.sh(&mut machine, "cat /proc/sys/kernel/random/boot_id").stdout(), boot_id);
    disk.sh(&mut machine, AFTER).exits(0).says("coracle.test/busybox").never_says("one ");
    disk.sh(&mut machine, UP).exits(0);
    disk.sh(&mut machine, "coracle exec one -c c -- cat /e/x && coracle exec two -c c -- true").exits(0);
    machine.cut_power();

    // This time nobody collects: the next run has to work all the same.
    let mut machine = disk.boot();
    disk.sh(&mut machine, UP).exits(0);
    disk.sh(&mut machine, "coracle gc --all").exits(0);
    disk.sh(&mut machine, AFTER).exits(0);
}

/// Says one sum of all files of the image, from inside of it.
const CONTENT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sum}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: coracle.test/heavy:1
    command: [sh, -c, "find /layer0 /layer1 -type f | sort | xargs sha256sum | sha256sum"]
"#;

#[test]
fn an_import_that_loses_its_power_leaves_a_whole_image_or_none() {
    let image = need!(Image::prepare());
    let archive = need!(fixtures::heavy());
    let _alone = alone();
    let disk = Disk::new(&image);
    let mut machine = disk.boot();
    disk.sh(&mut machine, &format!("cat >/root/sum.yaml <<'EOF'\n{CONTENT}\nEOF")).exits(0);
    let started = Instant::now();
    import(&disk, &mut machine, &archive);
    let window = started.elapsed();
    let expected = disk.sh(&mut machine, "coracle run /root/sum.yaml").exits(0).of("sum/c");
    assert_eq!(expected.len(), 1, "{expected:?}");
    disk.sh(&mut machine, "coracle image rm coracle.test/heavy:1 && sync").exits(0);

    let mut random = Random::announced("power");
    let mut whole = 0;
    for round in 0..if all() { 5 } else { 2 } {
        let script = format!("coracle image import {}", archive.display());
        machine.start(&prelude(&script)).expect("the machine takes a command");
        // The first import was the slowest, with nothing in the machine's caches: this reaches over the others' ends, and
        // the moment of the announcement is the one that matters.
        let instant = random.below(window * 3 / 4);
        println!("round {round}: cut after {instant:?} of {window:?}");
        std::thread::sleep(instant);
        machine.cut_power();
        machine = disk.boot();
        let after = disk.sh(&mut machine, AFTER).exits(0);
        if after.stdout().contains("coracle.test/heavy") {
            whole += 1;
            let content = disk.sh(&mut machine, "coracle run /root/sum.yaml").exits(0).of("sum/c");
            assert_eq!(content, expected, "the image was announced and is not whole");
            disk.sh(&mut machine, "coracle image rm coracle.test/heavy:1 && sync").exits(0);
        }
    }
    println!("the image was there {whole} times");
    import(&disk, &mut machine, &archive);
    assert_eq!(disk.sh(&mut machine, "coracle run /root/sum.yaml").exits(0).of("sum/c"), expected);
}

fn import(disk: &Disk<'_>, machine: &mut Machine, archive: &Path) {
    disk.sh(machine, &format!("coracle image import {}", archive.display())).exits(0);
}
