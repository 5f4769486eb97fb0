//! Mounts.

use cri_proto::cri;

use super::choice;
use crate::container::{ImageSource, Mount, Propagation};
use crate::error::{Error, Result};
use crate::launch::MountOption;

/// The mount at `index` of its container.
pub(super) fn mount(index: usize, mount: cri::Mount) -> Result<Mount> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let refuse = |name: &str, why: &str| Err(Error::Invalid(format!("{} {why}", field(name))));
    let parts = std::path::Path::new(&mount.container_path);
    let up = parts.components().any(|part| part == std::path::Component::ParentDir);
    if !parts.is_absolute() || up || parts.parent().is_none() || mount.container_path.contains('\0') {
        let why = format!("{:?} is not an absolute path below /, without «..»", mount.container_path);
        return refuse("container_path", &why);
    }
    let propagation = match choice(mount.propagation, &field("propagation"))? {
        cri::MountPropagation::PropagationPrivate => Propagation::Private,
        cri::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        cri::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    let map = super::userns::of_mount(&mount)?;
    if mount.recursive_read_only && !mount.readonly {
        return refuse("recursive_read_only", "needs readonly");
    }
    if mount.recursive_read_only && propagation != Propagation::Private {
        return refuse("recursive_read_only", "needs propagation PROPAGATION_PRIVATE");
    }
    let options = mount.mount_options.iter().map(|name| option(name, &field("mount_options")));
    let options = options.collect::<Result<_>>()?;
    let image = mount.image.map(|image| {
        let refuse = |name: &str, why: &str| Err(image_error(format!("{} {why}", field(name))));
        if image.image.is_empty() {
            return refuse("image.image", "is empty");
        }
        if !mount.host_path.is_empty() {
            return refuse("host_path", "is given beside image: give one of them");
        }
        if !mount.readonly {
            return refuse("readonly", "has to be set for an image");
        }
        let mut parts = std::path::Path::new(&mount.image_sub_path).components();
        if parts.any(|part| part == std::path::Component::ParentDir) {
            return refuse("image_sub_path", &format!("{:?} holds «..»", mount.image_sub_path));
        }
        Ok(ImageSource { image: image.image, sub_path: mount.image_sub_path.clone() })
    });
    let image = image.transpose()?;
    if image.is_none() && !mount.host_path.starts_with('/') {
        return refuse("host_path", &format!("{:?} is not an absolute path, and there is no image", mount.host_path));
    }
    if image.is_none() && !mount.image_sub_path.is_empty() {
        return refuse("image_sub_path", "is given without image");
    }
    Ok(Mount {
        map,
        target: mount.container_path,
        source: mount.host_path,
        image,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation,
        selinux_relabel: mount.selinux_relabel,
        options,
    })
}

/// Clients tell this failure from others by its first word.
fn image_error(why: String) -> Error {
    Error::ImageMount(Box::new(Error::Invalid(why)))
}

fn option(name: &str, field: &str) -> Result<MountOption> {
    match name {
        "noexec" => Ok(MountOption::Noexec),
        "nodev" => Ok(MountOption::Nodev),
        "nosuid" => Ok(MountOption::Nosuid),
        other => Err(Error::Invalid(format!("{field}: {other:?} is none of noexec, nodev, nosuid"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn volume() -> cri::Mount {
        cri::Mount { container_path: "/in".into(), host_path: "/out".into(), ..Default::default() }
    }

    fn image() -> cri::Mount {
        let image = cri::ImageSpec { image: "files:1".into(), ..Default::default() };
        cri::Mount { image: Some(image), host_path: String::new(), readonly: true, ..volume() }
    }

    #[test]
    fn what_a_mount_asks_for_is_kept() {
        let asked = cri::Mount {
            readonly: true,
            recursive_read_only: true,
            selinux_relabel: true,
            mount_options: vec!["noexec".into(), "nosuid".into(), "nodev".into()],
            ..volume()
        };
        let expected = Mount {
            target: "/in".into(),
            source: "/out".into(),
            readonly: true,
            recursive_readonly: true,
            selinux_relabel: true,
            options: vec![MountOption::Noexec, MountOption::Nosuid, MountOption::Nodev],
            ..Mount::default()
        };
        assert_eq!(mount(0, asked).unwrap(), expected);
        let image = mount(0, cri::Mount { image_sub_path: "a/b".into(), ..image() }).unwrap().image;
        assert_eq!(image, Some(ImageSource { image: "files:1".into(), sub_path: "a/b".into() }));
    }

    #[test]
    fn a_mount_that_cannot_be_names_its_field() {
        let shared = cri::MountPropagation::PropagationBidirectional as i32;
        let no_image = Some(cri::ImageSpec::default());
        let rows = [
            (cri::Mount { container_path: "in".into(), ..volume() }, "container_path"),
            (cri::Mount { container_path: "/".into(), ..volume() }, "container_path"),
            (cri::Mount { container_path: "/a/../b".into(), ..volume() }, "container_path"),
            (cri::Mount { host_path: String::new(), ..volume() }, "host_path"),
            (cri::Mount { host_path: "out".into(), ..volume() }, "host_path"),
            (cri::Mount { propagation: 7, ..volume() }, "propagation"),
            (cri::Mount { recursive_read_only: true, ..volume() }, "recursive_read_only"),
            (
                cri::Mount { recursive_read_only: true, readonly: true, propagation: shared, ..volume() },
                "recursive_read_only",
            ),
            (cri::Mount { mount_options: vec!["suid".into()], ..volume() }, "mount_options"),
            (cri::Mount { image_sub_path: "a".into(), ..volume() }, "image_sub_path"),
        ];
        for (asked, field) in rows {
            let error = mount(3, asked).unwrap_err();
            assert!(error.to_string().starts_with(&format!("mounts[3].{field}")), "{error}");
        }
        let rows = [
            (cri::Mount { image: no_image, ..image() }, "image.image"),
            (cri::Mount { host_path: "/out".into(), ..image() }, "host_path"),
            (cri::Mount { readonly: false, ..image() }, "readonly"),
        ];
        for (asked, field) in rows {
            let error = mount(3, asked).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid);
            assert!(error.to_string().starts_with(&format!("ImageVolumeMountFailed: mounts[3].{field}")), "{error}");
        }
    }
}
