//! Finding and making the directory that an entry belongs in.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlink, statat};
use rustix::io::Errno;

use super::finish::Mark;
use super::name::{MAX_DEPTH, split};
use super::problem::Problem;
use super::{DISK_BLOCK, Unpacker};

/// The directory of the last entry: archives go through a tree in order, so most entries need no path walk.
#[derive(Default)]
pub(super) struct Parents(Option<(Vec<u8>, Rc<OwnedFd>)>);

impl Parents {
    fn get(&self, path: &[u8]) -> Option<Rc<OwnedFd>> {
        self.0.as_ref().filter(|(cached, _)| cached == path).map(|(_, fd)| fd.clone())
    }

    fn set(&mut self, path: &[u8], fd: Rc<OwnedFd>) {
        self.0 = Some((path.to_owned(), fd));
    }

    /// To be called when a name in the layer stops meaning what it meant.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

/// The kernel gives up with EAGAIN when something is renamed while it resolves `..` in a link; only load delays us.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Opens `path` below `root`, never outside it. Links on the way are followed as long as they stay inside.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let begin = Instant::now();
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if begin.elapsed() < RESOLVE_DEADLINE => std::thread::yield_now(),
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// What a failed [`open_beneath`] means for an entry.
pub(super) fn lookup_problem(error: Errno) -> Problem {
    match error {
        Errno::XDEV => Problem::SymlinkOut,
        Errno::NOTDIR | Errno::LOOP => Problem::NotADirectory,
        Errno::NAMETOOLONG => Problem::os("name", error),
        error => Problem::os("find the directory of", error),
    }
}

/// What stands at a name, if anything.
pub(super) fn look(parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<Option<Stat>, Problem> {
    match statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Problem::os("look at", e)),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// True for a whiteout as overlay has it.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl Unpacker<'_> {
    /// The directory at `path`, made with everything above it where it is missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Problem> {
        if let Some(fd) = self.parents.get(path) {
            return Ok(fd);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut through_links = false;
        let no_links = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = match resolve(self.root.as_fd(), path, flags, no_links) {
            Err(Errno::LOOP) => open_beneath(self.root.as_fd(), path, flags).inspect(|_| through_links = true),
            found => found,
        };
        let fd = match fd {
            Ok(fd) if through_links => {
                self.check_depth(&fd)?;
                fd
            }
            Ok(fd) => fd,
            // A whiteout may stand where a directory is needed, so ENOTDIR is looked into as well.
            Err(Errno::NOENT | Errno::NOTDIR) => self.missing_directory(path)?,
            Err(e) => return Err(lookup_problem(e)),
        };
        let fd = Rc::new(fd);
        self.parents.set(path, fd.clone());
        Ok(fd)
    }

    /// A path through links may be short and its directory deep: link by link a layer could dig deeper than we, or
    /// whoever removes it, can walk.
    fn check_depth(&self, fd: &OwnedFd) -> Result<(), Problem> {
        let depth = |fd: &OwnedFd| match readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()) {
            Ok(path) => Ok(path.to_bytes().iter().filter(|b| **b == b'/').count()),
            Err(Errno::NAMETOOLONG) => Ok(usize::MAX),
            Err(e) => Err(Problem::os("find the directory of", e)),
        };
        if depth(fd)?.saturating_sub(depth(&self.root)?) >= MAX_DEPTH {
            return Err(Problem::TooDeep { limit: MAX_DEPTH });
        }
        Ok(())
    }

    /// Makes a directory that entries are in but no entry describes. Its mode, owner and attributes are those that a
    /// lower layer has for it, or those of a fresh directory of root; `finish` sees to that.
    fn missing_directory(&mut self, path: &[u8]) -> Result<OwnedFd, Problem> {
        let (above, leaf) = split(path).ok_or(Problem::NotADirectory)?;
        let parent = self.directory(above)?;
        let mut hides_lower = false;
        match look(parent.as_fd(), leaf)? {
            None => {}
            Some(stat) if is_whiteout(&stat) => {
                self.remove(parent.as_fd(), leaf, &stat)?;
                hides_lower = true;
            }
            Some(stat) if kind(&stat) == FileType::Directory => {}
            // A link that leads nowhere, or a file.
            Some(_) => return Err(Problem::NotADirectory),
        }
        self.make_directory(parent.as_fd(), leaf, hides_lower)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = open_beneath(parent.as_fd(), leaf, flags).map_err(lookup_problem)?;
        let inode = rustix::fs::fstat(&fd).map_err(|e| Problem::os("look at", e))?.st_ino;
        self.marks.push(Mark { inode, time: (0, 0), implicit: !hides_lower });
        Ok(fd)
    }

    /// Makes one directory, 0755 of root. One that was a whiteout before hides what lower layers have in it.
    pub(super) fn make_directory(
        &mut self,
        parent: BorrowedFd<'_>,
        leaf: &[u8],
        hides_lower: bool,
    ) -> Result<(), Problem> {
        match rustix::fs::mkdirat(parent, leaf, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.count_inode(DISK_BLOCK)?,
            Err(Errno::EXIST) => return Ok(()),
            Err(e) => return Err(Problem::os("create", e)),
        }
        // The umask may have taken from the mode; a set-group-id directory above gives its group.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = open_beneath(parent, leaf, flags).map_err(lookup_problem)?;
        super::attributes::own(fd.as_fd(), 0, 0, 0o755)?;
        if hides_lower {
            super::attributes::set_opaque(fd.as_fd())?;
        }
        Ok(())
    }

    pub(super) fn count_inode(&mut self, disk_bytes: u64) -> Result<(), Problem> {
        self.contents.inodes += 1;
        self.contents.disk_bytes += disk_bytes;
        if self.contents.inodes > self.layer.limits.max_entries {
            return Err(Problem::TooManyEntries);
        }
        Ok(())
    }

    /// Removes what stands at a name, whole trees too, as a later entry of the same name demands.
    pub(super) fn remove(&mut self, parent: BorrowedFd<'_>, leaf: &[u8], stat: &Stat) -> Result<(), Problem> {
        self.parents.forget();
        if kind(stat) != FileType::Directory {
            return rustix::fs::unlinkat(parent, leaf, AtFlags::empty()).map_err(|e| Problem::os("replace", e));
        }
        remove_directory(parent, leaf)
    }
}

/// Removes a directory with everything in it. Depth is bounded by [`super::name::MAX_DEPTH`].
fn remove_directory(parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<(), Problem> {
    let os = |e: Errno| Problem::os("replace", e);
    let fd = open_beneath(parent, leaf, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(os)?;
    for entry in rustix::fs::Dir::read_from(&fd).map_err(os)? {
        let entry = entry.map_err(os)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        match rustix::fs::unlinkat(&fd, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => remove_directory(fd.as_fd(), name)?,
            Err(e) => return Err(os(e)),
        }
    }
    rustix::fs::unlinkat(parent, leaf, AtFlags::REMOVEDIR).map_err(os)
}
