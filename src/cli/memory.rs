//! How malloc asks the system for memory (docs/adr/0020-memory.md).

#![allow(unsafe_code, reason = "glibc's malloc takes these settings through a C call alone")]

/// Blocks from this size on are mapped one by one and returned when they are freed; free memory above it is returned, too. Bytes.
const RETURNED_FROM: i32 = 256 << 10;

/// Bounds what malloc keeps: each of dozens of client threads would have a heap of its own, and what one frees another cannot use.
/// To be called before there are threads. The environment's `MALLOC_ARENA_MAX` goes first.
pub(super) fn bound_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let heaps = i32::try_from(cores.max(2)).unwrap_or(i32::MAX);
        for (setting, value) in
            [(libc::M_ARENA_MAX, heaps), (libc::M_MMAP_THRESHOLD, RETURNED_FROM), (libc::M_TRIM_THRESHOLD, RETURNED_FROM)]
        {
            // SAFETY: takes two numbers; refuses by its answer what it does not know.
            if unsafe { libc::mallopt(setting, value) } != 1 {
                tracing::debug!(setting, value, "malloc does not take a setting");
            }
        }
    }
}
