//! Keeping memory in the process.

/// Tells the C library's allocator to keep freed memory for the next tensor instead of giving it back
/// to the system. Says whether it did: only glibc's (Linux) needs to be told, and can be.
///
/// Every op's result is fresh memory to candle. glibc takes large blocks from the system one by one, and
/// the system clears each page when it is touched first, which takes several times as long as, say, a
/// ReLU. Programs that call it once at their start run the ops on large maps two to eight times as fast,
/// and hold on to as much memory as they needed at their peak. convzoo's command line does.
pub fn keep_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const TOP_PAD: libc::c_int = 64 << 20; // ask for so much more than is needed, in bytes
        // SAFETY: `mallopt` takes two numbers; it may be called at any time, from any thread.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0) == 1 // no block of its own for a large tensor
                && libc::mallopt(libc::M_TRIM_THRESHOLD, -1) == 1 // nothing back at the end
                && libc::mallopt(libc::M_TOP_PAD, TOP_PAD) == 1
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
