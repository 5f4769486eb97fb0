//! The memory of this process: how the allocator keeps it, and giving back what is not used.

use std::ffi::{c_int, c_void};

/// How many arenas the allocator may have: each keeps its own holes, and few threads of ours allocate at a time.
#[cfg(target_env = "gnu")]
const ARENAS: c_int = 4;

/// Has the allocator keep its memory in few places. To be called before there are threads.
pub fn use_few_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and sets a parameter of the allocator.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// Gives the kernel the memory that nothing is in, and the pages of the program that were needed so far: those that are
/// needed again are still in the kernel's cache.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and locks the allocator's arenas itself.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: `forget` is a function of the type that is asked for, and does not unwind.
    #[allow(unsafe_code)]
    unsafe {
        libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut());
    }
}

/// Forgets the pages of one object's segments that are never written to.
#[allow(unsafe_code)]
unsafe extern "C" fn forget(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: it takes a number and answers with one.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    if !page.is_power_of_two() {
        return 0;
    }
    // SAFETY: the C library hands out a description that is whole and stays so during the call.
    let (base, headers) =
        unsafe { ((*info).dlpi_addr, std::slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum.into())) };
    for header in headers.iter().filter(|it| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0) {
        let begin = (base + header.p_vaddr) as usize;
        // Whole pages of it: others may hold the beginning of a segment that is written to.
        let (first, last) = (begin.next_multiple_of(page), (begin + header.p_memsz as usize) / page * page);
        if first < last {
            // SAFETY: nothing has ever written to these pages, which the flags of the segment forbid, so that they are as
            // they are in the file, and come back from there when they are next touched. A failure leaves them as they are.
            unsafe {
                libc::madvise(first as *mut c_void, last - first, libc::MADV_DONTNEED);
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_after_its_memory_was_given_back() {
        use_few_arenas();
        let kept: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        drop((0..100_000).map(|number| number.to_string()).collect::<Vec<_>>());
        give_back();
        assert_eq!(kept.concat().len(), 2890);
    }
}
