//! Page sizes: which there are, which a region may ask for, and what the machine has to offer.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;

/// The pages behind a region, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PageKind {
    /// 1 GiB pages from the system's reserved pool.
    Huge1G,
    /// 2 MiB pages from the system's reserved pool.
    Huge2M,
    /// Ordinary memory that the kernel backs with huge pages where it finds them.
    Transparent,
    /// The machine's base pages, 4 KiB on x86.
    Plain,
}

impl PageKind {
    /// Every kind, in the order a region tries them.
    pub const ALL: [PageKind; 4] =
        [PageKind::Huge1G, PageKind::Huge2M, PageKind::Transparent, PageKind::Plain];

    /// The shortest region, in bytes, that a page of this kind is spent on: a whole 1 GiB page, a quarter of
    /// a 2 MiB page. Shorter regions would keep far more of a page idle than they use.
    pub fn least_bytes(self) -> usize {
        match self {
            PageKind::Huge1G => 1 << 30,
            PageKind::Huge2M | PageKind::Transparent => 1 << 19,
            PageKind::Plain => 1,
        }
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageKind::Huge1G => "1 GiB pages",
            PageKind::Huge2M => "2 MiB pages",
            PageKind::Transparent => "transparent huge pages",
            PageKind::Plain => "plain pages",
        })
    }
}

/// The page kinds a region may try. Plain pages are always the last resort and need not be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageSet {
    huge_1g: bool,
    huge_2m: bool,
    transparent: bool,
}

impl PageSet {
    /// Every kind.
    pub const ALL: PageSet = PageSet { huge_1g: true, huge_2m: true, transparent: true };
    /// Plain pages only.
    pub const PLAIN: PageSet = PageSet { huge_1g: false, huge_2m: false, transparent: false };

    /// The kinds listed.
    pub fn of(kinds: &[PageKind]) -> PageSet {
        PageSet {
            huge_1g: kinds.contains(&PageKind::Huge1G),
            huge_2m: kinds.contains(&PageKind::Huge2M),
            transparent: kinds.contains(&PageKind::Transparent),
        }
    }

    /// Whether a kind may be tried.
    pub fn contains(self, kind: PageKind) -> bool {
        match kind {
            PageKind::Huge1G => self.huge_1g,
            PageKind::Huge2M => self.huge_2m,
            PageKind::Transparent => self.transparent,
            PageKind::Plain => true,
        }
    }

    /// Whether a region of `len` bytes should try a kind: allowed, and long enough to be worth a page.
    pub fn suits(self, kind: PageKind, len: usize) -> bool {
        self.contains(kind) && len >= kind.least_bytes()
    }
}

impl Default for PageSet {
    fn default() -> PageSet {
        PageSet::ALL
    }
}

/// What a machine offers, for reports and advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPages {
    /// The base page, in bytes.
    pub page_bytes: usize,
    /// Reserved pools, smallest page first; a size with no page in it is listed too.
    pub pools: Vec<HugePool>,
    /// When ordinary memory gets huge pages.
    pub transparent: TransparentMode,
    /// The size of a transparent huge page, in bytes.
    pub transparent_bytes: Option<usize>,
}

/// One pool of reserved huge pages, counted in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePool {
    /// The size of one page, in bytes.
    pub page_bytes: usize,
    /// Pages in the pool.
    pub total: u64,
    /// Pages nobody has touched yet, promised ones included.
    pub free: u64,
    /// Free pages already promised to a mapping.
    pub reserved: u64,
}

impl HugePool {
    /// Pages a new region could get.
    pub fn available(&self) -> u64 {
        self.free.saturating_sub(self.reserved)
    }
}

/// When the kernel backs ordinary memory with huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransparentMode {
    /// Wherever it can.
    Always,
    /// Where a program asked for it, as a [`Region`](super::Region) does.
    Madvise,
    /// Nowhere: the administrator switched it off.
    Never,
    /// This kernel cannot.
    Unavailable,
}

impl fmt::Display for TransparentMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransparentMode::Always => "always",
            TransparentMode::Madvise => "on request",
            TransparentMode::Never => "switched off",
            TransparentMode::Unavailable => "not available",
        })
    }
}

impl SystemPages {
    /// Reads the Linux sysfs tree mounted at `root`. Whatever is missing or unreadable counts as absent.
    pub fn read(root: &Path, page_bytes: usize) -> SystemPages {
        let mm = root.join("kernel/mm");
        let mut pools: Vec<HugePool> = std::fs::read_dir(mm.join("hugepages"))
            .into_iter()
            .flatten()
            .filter_map(|entry| pool(&entry.ok()?.path()))
            .collect();
        pools.sort_by_key(|pool| pool.page_bytes);
        let thp = mm.join("transparent_hugepage");
        let transparent = match std::fs::read_to_string(thp.join("enabled")) {
            Ok(text) if text.contains("[always]") => TransparentMode::Always,
            Ok(text) if text.contains("[madvise]") => TransparentMode::Madvise,
            Ok(_) => TransparentMode::Never,
            Err(_) => TransparentMode::Unavailable,
        };
        let transparent_bytes = number(&thp.join("hpage_pmd_size")).map(|bytes| bytes as usize);
        SystemPages { page_bytes, pools, transparent, transparent_bytes }
    }
}

impl fmt::Display for SystemPages {
    /// One line: `4 KiB base pages; 2 MiB pages: 1400 of 1400 available; transparent huge pages: on request`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} base pages; ", Size(self.page_bytes))?;
        for pool in &self.pools {
            let (available, total) = (pool.available(), pool.total);
            write!(f, "{} pages: {available} of {total} available; ", Size(pool.page_bytes))?;
        }
        write!(f, "transparent huge pages: {}", self.transparent)
    }
}

/// A page size, in the largest unit that divides it.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => write!(f, "{} GiB", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(f, "{} MiB", n >> 20),
            n => write!(f, "{} KiB", n >> 10),
        }
    }
}

/// A pool's folder is named for its page size: `hugepages-2048kB`.
fn pool(dir: &Path) -> Option<HugePool> {
    let name = dir.file_name()?.to_str()?;
    let kib: usize = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(HugePool {
        page_bytes: kib.checked_mul(1024)?,
        total: number(&dir.join("nr_hugepages"))?,
        free: number(&dir.join("free_hugepages"))?,
        reserved: number(&dir.join("resv_hugepages"))?,
    })
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_not_wasted_on_short_regions() {
        let all = PageSet::ALL;
        assert!(!all.suits(PageKind::Huge1G, (1 << 30) - 1));
        assert!(all.suits(PageKind::Huge1G, 1 << 30));
        assert!(!all.suits(PageKind::Huge2M, 4096));
        assert!(all.suits(PageKind::Huge2M, 1 << 20));
        assert!(all.suits(PageKind::Plain, 1));
        let two = PageSet::of(&[PageKind::Huge2M]);
        assert!(!two.contains(PageKind::Huge1G) && !two.contains(PageKind::Transparent));
        assert!(two.contains(PageKind::Huge2M) && two.contains(PageKind::Plain));
        assert!(!PageSet::PLAIN.suits(PageKind::Transparent, 1 << 30));
    }

    #[test]
    fn a_fake_machine_is_read_and_shown() {
        let root = std::env::temp_dir().join(format!("otedama-pages-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = root.join("kernel/mm").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (size, total, free, reserved) in [("1048576", 2, 1, 0), ("2048", 64, 40, 30), ("junk", 1, 1, 1)] {
            put(&format!("hugepages/hugepages-{size}kB/nr_hugepages"), &format!("{total}\n"));
            put(&format!("hugepages/hugepages-{size}kB/free_hugepages"), &format!("{free}\n"));
            put(&format!("hugepages/hugepages-{size}kB/resv_hugepages"), &format!("{reserved}\n"));
        }
        put("transparent_hugepage/enabled", "always [madvise] never\n");
        let pages = SystemPages::read(&root, 4096);
        assert_eq!(
            pages.to_string(),
            "4 KiB base pages; 2 MiB pages: 10 of 64 available; 1 GiB pages: 1 of 2 available; \
             transparent huge pages: on request"
        );
        put("transparent_hugepage/enabled", "always madvise [never]\n");
        assert_eq!(SystemPages::read(&root, 4096).transparent, TransparentMode::Never);
        std::fs::remove_dir_all(&root).unwrap();
        let nothing = SystemPages::read(&root, 16384);
        assert_eq!(nothing.to_string(), "16 KiB base pages; transparent huge pages: not available");
    }
}
