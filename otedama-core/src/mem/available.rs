//! How much memory is left before the kernel starts to kill: Linux promises ordinary pages freely and only
//! counts them when they are touched, which is too late for a good error.
//!
//! Sources: proc_pid_cgroup(5), proc_meminfo(5), the kernel's `Documentation/admin-guide/cgroup-v2.rst`
//! ("Memory Interface Files") and `cgroup-v1/memory.rst`.

use std::path::{Path, PathBuf};

/// The names of a control group's memory files in version 2, then in version 1.
const FILES: [[&str; 3]; 2] = [
    ["memory.max", "memory.current", "inactive_file"],
    ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
];

/// Bytes that can be touched without swapping: what the machine has and what the control groups of this
/// process leave it, whichever is less. `root` is where `/proc` and `/sys` are mounted. `None` where the
/// kernel does not say.
pub(super) fn available(root: &Path) -> Option<u64> {
    let machine = field(&root.join("proc/meminfo"), "MemAvailable:").map(|kib| kib << 10);
    groups(root)
        .iter()
        .flat_map(|group| FILES.map(|files| left_in(group, files)))
        .chain([machine])
        .flatten()
        .min()
}

/// The folders of this process's control group and of those it is in: each has its own limit.
fn groups(root: &Path) -> Vec<PathBuf> {
    let lines = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in lines.lines() {
        // hierarchy:controllers:path, without controllers in version 2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mount = match controllers {
            "" => root.join("sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => root.join("sys/fs/cgroup/memory"),
            _ => continue,
        };
        // In a container the path may be the host's; the folders that are not there have no limit to read.
        let group = mount.join(path.trim_start_matches('/'));
        groups.extend(group.ancestors().take_while(|group| group.starts_with(&mount)).map(Path::to_owned));
    }
    groups
}

/// What a control group's limit leaves, counting cached files as free.
fn left_in(group: &Path, [limit, usage, cached]: [&str; 3]) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    // No limit is the word "max" in version 2, and a number beyond any memory in version 1.
    let limit = number(limit)?;
    let cached = field(&group.join("memory.stat"), cached).unwrap_or(0);
    Some(limit.saturating_sub(number(usage)?.saturating_sub(cached)))
}

/// The number after a name at the start of a line.
fn field(file: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FakeRoot(PathBuf);

    impl FakeRoot {
        fn new(name: &str) -> FakeRoot {
            FakeRoot(std::env::temp_dir().join(format!("otedama-available-{name}-{}", std::process::id())))
        }

        fn put(&self, path: &str, text: &str) -> &FakeRoot {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }
    }

    impl Drop for FakeRoot {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: &str = "MemTotal:       24684092 kB\nMemFree:  7 kB\nMemAvailable:    4096 kB\n";

    #[test]
    fn the_machine_counts_where_no_group_has_a_limit() {
        let root = FakeRoot::new("machine");
        assert_eq!(available(&root.0), None);
        root.put("proc/meminfo", MEMINFO).put("proc/self/cgroup", "0::/\n");
        assert_eq!(available(&root.0), Some(4 << 20));
        root.put("sys/fs/cgroup/memory.max", "max\n").put("sys/fs/cgroup/memory.current", "4096\n");
        assert_eq!(available(&root.0), Some(4 << 20));
    }

    #[test]
    fn the_tightest_of_nested_groups_counts() {
        let root = FakeRoot::new("nested");
        root.put("proc/meminfo", MEMINFO).put("proc/self/cgroup", "1:cpu:/a\n0::/outer/inner\n");
        let outer = "sys/fs/cgroup/outer";
        root.put(&format!("{outer}/memory.max"), "3000000\n")
            .put(&format!("{outer}/memory.current"), "2500000\n")
            .put(&format!("{outer}/memory.stat"), "anon 1\ninactive_file 100000\n")
            .put(&format!("{outer}/inner/memory.max"), "2000000\n")
            .put(&format!("{outer}/inner/memory.current"), "1000000\n");
        assert_eq!(available(&root.0), Some(600_000));
        root.put(&format!("{outer}/inner/memory.current"), "2000001\n");
        assert_eq!(available(&root.0), Some(0));
    }

    #[test]
    fn groups_of_version_1_are_read_too() {
        let root = FakeRoot::new("v1");
        root.put("proc/meminfo", MEMINFO)
            .put("proc/self/cgroup", "5:devices:/\n4:hugetlb,memory:/job\n0::/\n");
        let job = "sys/fs/cgroup/memory/job";
        root.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
            .put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n")
            .put(&format!("{job}/memory.limit_in_bytes"), "1000000\n")
            .put(&format!("{job}/memory.usage_in_bytes"), "900000\n")
            .put(&format!("{job}/memory.stat"), "inactive_file 5\ntotal_inactive_file 50000\n");
        assert_eq!(available(&root.0), Some(150_000));
    }

    #[test]
    fn this_machine_says() {
        let bytes = available(Path::new("/")).unwrap();
        assert!(bytes > 0 && bytes < 1 << 50, "{bytes}");
    }
}
