//! Little memory for the server: a cgroup of its own, or a limit on its address space.
//!
//! A cgroup (version 2) is the better cage, as it counts what the kernel holds for the sockets, and
//! says if somebody was killed. It needs a group above ours whose memory controller is given on and
//! in which we may make another; nothing about existing groups is changed to get there. Where that
//! is not so, `RLIMIT_AS` bounds the address space: what is only reserved counts in full, and the
//! kernel's socket buffers do not count. A server that is denied memory there ends by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, setrlimit};

/// What the server may have.
pub(crate) const MEMORY_BYTES: u64 = 512 << 20;

/// First word of the arguments of a launch that says how it is confined.
const GROUP: &str = "group=";
const ADDRESS_SPACE: &str = "address-space";

/// What holds a server to its memory.
#[derive(Debug)]
pub(crate) enum Cage {
    /// This cgroup, removed when dropped.
    Group(PathBuf),
    /// `RLIMIT_AS`.
    AddressSpace,
}

impl Cage {
    /// The best there is here.
    pub(crate) fn new() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self::within(&own, &mounts, std::process::id()).unwrap_or(Self::AddressSpace)
    }

    /// A new group beside or above our own, if one may be made.
    fn within(own: &str, mounts: &str, pid: u32) -> Option<Self> {
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        })?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = mount.join(own);
        own.ancestors().take_while(|group| group.starts_with(&mount)).find_map(|group| {
            let given_on = fs::read_to_string(group.join("cgroup.subtree_control")).ok()?;
            given_on.split_whitespace().find(|&controller| controller == "memory")?;
            let path = group.join(format!("longwire-attack-{pid}"));
            fs::create_dir(&path).ok()?;
            // From here on the group is removed when it turns out not to do.
            let cage = Self::Group(path);
            cage.set("memory.max", &MEMORY_BYTES.to_string()).ok()?;
            // Not there without swap.
            let _ = cage.set("memory.swap.max", "0");
            Some(cage)
        })
    }

    /// For a reader.
    pub(crate) fn describe(&self) -> String {
        let mib = MEMORY_BYTES >> 20;
        match self {
            Self::Group(path) => format!("{mib} MiB by cgroup v2 ({})", path.display()),
            Self::AddressSpace => format!(
                "{mib} MiB of address space by RLIMIT_AS, since no cgroup v2 with memory.max may \
                 be made here"
            ),
        }
    }

    /// As an argument for [`enter`].
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::Group(path) => format!("{GROUP}{}", path.display()),
            Self::AddressSpace => ADDRESS_SPACE.to_owned(),
        }
    }

    /// Processes that were killed in it for lack of memory; none is known of without a group.
    pub(crate) fn kill_count(&self) -> Option<u64> {
        let Self::Group(path) = self else { return None };
        let events = fs::read_to_string(path.join("memory.events")).ok()?;
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// The most that was ever counted in it, what the kernel held for its sockets included.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let Self::Group(path) = self else { return None };
        fs::read_to_string(path.join("memory.peak")).ok()?.trim().parse().ok()
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        match self {
            Self::Group(path) => fs::write(path.join(name), value),
            Self::AddressSpace => Ok(()),
        }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let Self::Group(path) = self {
            // It fails only if a process is still in it, and then the group has to stay.
            let _ = fs::remove_dir(path);
        }
    }
}

/// Confines this process, as [`Cage::argument`] says, and all that it becomes.
pub(crate) fn enter(argument: &str) -> io::Result<()> {
    if let Some(path) = argument.strip_prefix(GROUP) {
        return fs::write(Path::new(path).join("cgroup.procs"), std::process::id().to_string());
    }
    if argument != ADDRESS_SPACE {
        return Err(io::Error::other(format!("`{argument}` is no cage")));
    }
    let limit = Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) };
    Ok(setrlimit(Resource::As, limit)?)
}
