//! How malloc asks the system for memory, and code that only a start needs (docs/adr/0020-memory.md).

#![allow(unsafe_code, reason = "glibc's malloc takes its settings, and Linux such advice, through C calls alone")]

/// Blocks from this size on are mapped one by one and returned when they are freed, bytes. Smaller ones are used again: among them what an
/// unpacked batch of a producer (`batch.size`, 1,000,000 bytes) takes, and most columns of an epoch.
const MAPPED_FROM: i32 = (1 << 20) + (64 << 10);
/// Free memory at the end of a heap is returned above this size, bytes.
const TRIMMED_ABOVE: i32 = 256 << 10;

/// The largest page of the systems that Testudo runs on, bytes: advice on fewer than all pages does no harm.
#[cfg(target_os = "linux")]
const PAGE: u64 = 64 << 10;

/// Bounds what malloc keeps: each of dozens of client threads would have a heap of its own, and what one frees another cannot use.
/// To be called before there are threads. The environment's `MALLOC_ARENA_MAX` goes first.
pub(super) fn bound_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let heaps = i32::try_from(cores.max(2)).unwrap_or(i32::MAX);
        for (setting, value) in [(libc::M_ARENA_MAX, heaps), (libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, TRIMMED_ABOVE)]
        {
            // SAFETY: takes two numbers; refuses by its answer what it does not know.
            if unsafe { libc::mallopt(setting, value) } != 1 {
                tracing::debug!(setting, value, "malloc does not take a setting");
            }
        }
    }
}

/// Takes the program's code and constants out of the resident memory. What is used comes back from the page cache as it is met; what only
/// the start needed does not, about a third of 60 MiB.
pub(super) fn let_go_of_start() {
    #[cfg(target_os = "linux")]
    // SAFETY: the callback takes the pointers that `dl_iterate_phdr` documents, and no other data.
    unsafe {
        libc::dl_iterate_phdr(Some(let_go_of_program), std::ptr::null_mut());
    }
}

/// Of the first object, which is the program, the segments that are never written. Ends the iteration.
#[cfg(target_os = "linux")]
unsafe extern "C" fn let_go_of_program(object: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the loader's description of the program, valid during this call.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        // Whole pages inside the segment: the one at its end may be shared with a segment that is written.
        let (from, to) = ((base + header.p_vaddr).next_multiple_of(PAGE), (base + header.p_vaddr + header.p_memsz) & !(PAGE - 1));
        if from < to {
            // SAFETY: the pages are the program's file as it is, never written: they are read from it again when needed.
            // Advice that is not taken changes nothing.
            unsafe { libc::madvise(from as *mut libc::c_void, (to - from) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn mapped_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("it tells of mapped files");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    #[test]
    fn code_that_is_let_go_is_not_resident_and_comes_back_when_it_is_called() {
        let before = mapped_kib();
        let_go_of_start();
        let after = mapped_kib();

        assert!(after < before, "{before} KiB before, {after} KiB after");
    }
}
