//! Limits.

use cri_proto::cri;

use crate::cgroup::{HugepageLimit, Resources};
use crate::error::{Error, Result};

/// Limits at the field `place`; 0 means that nothing was said.
pub fn limits(place: &str, resources: cri::LinuxContainerResources) -> Result<Resources> {
    let positive = |value: i64, field: &str| {
        u64::try_from(value).map_err(|_| Error::Invalid(format!("{place}.{field} is negative: {value}")))
    };
    let said = |value: u64| (value != 0).then_some(value);
    let list = |value: String, field: &str| match value.bytes().find(|it| !(it.is_ascii_digit() || b",-".contains(it)))
    {
        Some(_) => Err(Error::Invalid(format!("{place}.{field} {value:?} is no list such as 0-2,7"))),
        None => Ok((!value.is_empty()).then_some(value)),
    };
    let hugepages = resources.hugepage_limits.into_iter().map(|it| hugepages(place, it)).collect::<Result<_>>()?;
    if let Some(name) = resources.unified.keys().find(|name| !is_file_of_controller(name)) {
        let why = "is no file of a cgroup v2 controller, such as memory.high";
        return Err(Error::Invalid(format!("{place}.unified: {name:?} {why}")));
    }
    let limits = Resources {
        cpu_shares: said(positive(resources.cpu_shares, "cpu_shares")?),
        cpu_period: said(positive(resources.cpu_period, "cpu_period")?),
        cpu_quota: (resources.cpu_quota != 0).then_some(resources.cpu_quota.max(-1)),
        cpuset_cpus: list(resources.cpuset_cpus, "cpuset_cpus")?,
        cpuset_mems: list(resources.cpuset_mems, "cpuset_mems")?,
        memory_limit: (resources.memory_limit_in_bytes != 0).then_some(resources.memory_limit_in_bytes.max(-1)),
        memory_swap: (resources.memory_swap_limit_in_bytes != 0)
            .then_some(resources.memory_swap_limit_in_bytes.max(-1)),
        hugepages,
        unified: resources.unified.into_iter().collect(),
        ..Resources::default()
    };
    match (limits.memory_limit, limits.memory_swap) {
        (Some(limit), Some(swap)) if swap >= 0 && (limit < 0 || swap < limit) => {
            let why = "it counts memory and swap together, so it is at least memory_limit_in_bytes";
            Err(Error::Invalid(format!("{place}.memory_swap_limit_in_bytes {swap} is below the limit {limit}: {why}")))
        }
        _ => Ok(limits),
    }
}

fn hugepages(place: &str, limit: cri::HugepageLimit) -> Result<HugepageLimit> {
    let size = ["KB", "MB", "GB"].iter().find_map(|unit| limit.page_size.strip_suffix(unit));
    if !size.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit())) {
        let why = "is no size of a page such as 2MB or 1GB";
        return Err(Error::Invalid(format!("{place}.hugepage_limits.page_size {:?} {why}", limit.page_size)));
    }
    Ok(HugepageLimit { page_size: limit.page_size, limit: limit.limit })
}

fn is_file_of_controller(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
    let controller = name.split_once('.').map(|(controller, _)| controller);
    plain && controller.is_some_and(|it| it.parse::<crate::cgroup::Controller>().is_ok())
}

/// The value that the kernel sees, -1000 to 1000.
pub fn oom_score_adj(value: i64) -> Result<i32> {
    match i32::try_from(value) {
        Ok(value) if (-1000..=1000).contains(&value) => Ok(value),
        _ => Err(Error::Invalid(format!("linux.resources.oom_score_adj {value} is not between -1000 and 1000"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked() -> cri::LinuxContainerResources {
        cri::LinuxContainerResources::default()
    }

    #[test]
    fn zero_says_nothing_and_minus_one_no_limit() {
        assert_eq!(limits("r", asked()).unwrap(), Resources::default());
        let unlimited = cri::LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: -1,
            memory_swap_limit_in_bytes: -1,
            ..asked()
        };
        let limits = limits("r", unlimited).unwrap();
        assert_eq!((limits.cpu_quota, limits.memory_limit, limits.memory_swap), (Some(-1), Some(-1), Some(-1)));
    }

    #[test]
    fn a_limit_that_cannot_be_names_its_field() {
        let page = |size: &str| vec![cri::HugepageLimit { page_size: size.into(), limit: 1 }];
        let unified = |name: &str| [(name.to_owned(), "1".to_owned())].into();
        let rows = [
            (cri::LinuxContainerResources { cpu_shares: -1, ..asked() }, "cpu_shares"),
            (cri::LinuxContainerResources { cpu_period: -1, ..asked() }, "cpu_period"),
            (cri::LinuxContainerResources { cpuset_cpus: "0;1".into(), ..asked() }, "cpuset_cpus"),
            (cri::LinuxContainerResources { cpuset_mems: "all".into(), ..asked() }, "cpuset_mems"),
            (cri::LinuxContainerResources { hugepage_limits: page("2Mi"), ..asked() }, "hugepage_limits.page_size"),
            (cri::LinuxContainerResources { hugepage_limits: page("MB"), ..asked() }, "hugepage_limits.page_size"),
            (cri::LinuxContainerResources { unified: unified("cgroup.procs"), ..asked() }, "unified"),
            (cri::LinuxContainerResources { unified: unified("memory.high/.."), ..asked() }, "unified"),
            (
                cri::LinuxContainerResources { memory_limit_in_bytes: 2, memory_swap_limit_in_bytes: 1, ..asked() },
                "memory_swap_limit_in_bytes",
            ),
        ];
        for (asked, field) in rows {
            let error = limits("linux.resources", asked).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.resources.{field}")), "{error}");
        }
        for value in [-1001, 1001, i64::MAX] {
            assert!(oom_score_adj(value).unwrap_err().to_string().starts_with("linux.resources.oom_score_adj"));
        }
        assert_eq!(oom_score_adj(-1000).unwrap(), -1000);
    }
}
