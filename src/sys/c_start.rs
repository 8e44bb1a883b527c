//! The C library's start-up, without what it asks the processor.
//!
//! Before `main` a static program of glibc executes CPUID 68 times, to choose variants of memcpy(3) for large copies and
//! to measure the caches for them. In a virtual machine each one is an exit to the hypervisor: together 0.6 ms, a
//! fifth of the start of a container and half of a `state`. This takes the place of `__libc_start_main` (glibc's
//! csu/libc-start.c) and does the same in the same order, by the library's own functions, but leaves the table of the
//! processor's features empty: what is chosen by it is what every x86-64 can do.
//!
//! The functions are not the library's public interface, so build.rs takes this file only for the versions of
//! glibc that it was compared with. With any other the library's own start is linked.

use std::arch::asm;
use std::ffi::{c_char, c_int, c_void};

type Main = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;
type Constructor = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char);

/// An entry of the linker's table of functions that have variants (ELF: R_X86_64_IRELATIVE).
#[repr(C)]
struct Variant {
    place: *mut usize,
    kind: u64,
    choose: unsafe extern "C" fn() -> usize,
}

unsafe extern "C" {
    // The linker's.
    static __rela_iplt_start: [Variant; 0];
    static __rela_iplt_end: [Variant; 0];
    static __preinit_array_start: [Constructor; 0];
    static __preinit_array_end: [Constructor; 0];
    static __init_array_start: [Constructor; 0];
    static __init_array_end: [Constructor; 0];
    // crti.o's.
    fn _init();
    // The library's.
    static mut __environ: *mut *mut c_char;
    static mut __libc_stack_end: *mut c_void;
    static _dl_random: *const usize;
    fn _dl_aux_init(auxiliary: *const c_void);
    fn __tunables_init(environment: *mut *mut c_char);
    fn __libc_setup_tls();
    fn __libc_early_init(initial: bool);
    fn __libc_init_first(argc: c_int, argv: *mut *mut c_char, environment: *mut *mut c_char);
    fn exit(status: c_int) -> !;
}

/// What the library derives from the caches: for copies above these sizes it changes its method. The sizes are those
/// that it assumes where it learns nothing.
mod thresholds {
    /// Copies of this size and more pass the caches by.
    const HUGE: usize = 0xc0000;

    macro_rules! define {
        ($($name:ident: $kind:ty = $value:expr;)*) => { $(
            #[unsafe(no_mangle)]
            static $name: $kind = $value;
        )* };
    }
    define! {
        __x86_data_cache_size: usize = 32 << 10;
        __x86_data_cache_size_half: usize = 16 << 10;
        __x86_shared_cache_size: usize = 1 << 20;
        __x86_shared_cache_size_half: usize = 512 << 10;
        __x86_shared_non_temporal_threshold: usize = HUGE;
        __x86_memset_non_temporal_threshold: usize = HUGE;
        __x86_rep_movsb_threshold: usize = 2048;
        __x86_rep_movsb_stop_threshold: usize = HUGE;
        __x86_rep_stosb_threshold: usize = 2048;
        __x86_string_control: i32 = 0;
        // Of lazily bound functions, which a static program has none of.
        _dl_x86_features_tlsdesc_state_size: usize = 0;
    }
}

/// Called by crt1.o, on the stack that execve(2) made. Until the variants are chosen nothing may copy memory,
/// and until the thread-local storage is there nothing may use errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    _init_unused: usize,
    _fini_unused: usize,
    _of_a_dynamic_linker: usize,
    stack_end: *mut c_void,
) -> ! {
    // SAFETY: execve(2) puts the environment behind the arguments, then the auxiliary vector, each ended by a null. The
    // library's functions are called once each, in the library's own order, before any other thread exists.
    unsafe {
        let environment = argv.add(argc as usize + 1);
        __environ = environment;
        __libc_stack_end = stack_end;
        let mut end = environment;
        while !(*end).is_null() {
            end = end.add(1);
        }
        _dl_aux_init(end.add(1).cast());
        __tunables_init(environment);

        let mut variant = (&raw const __rela_iplt_start).cast::<Variant>();
        while variant < (&raw const __rela_iplt_end).cast() {
            *(*variant).place = ((*variant).choose)();
            variant = variant.add(1);
        }

        __libc_setup_tls();
        // The kernel's 16 random bytes, wherever on the stack: one half guards stack frames (the zero byte stops strings), one jump buffers.
        asm!("mov fs:[0x28], {}", in(reg) _dl_random.read_unaligned() & !0xff, options(nostack, preserves_flags));
        asm!("mov fs:[0x30], {}", in(reg) _dl_random.add(1).read_unaligned(), options(nostack, preserves_flags));
        __libc_early_init(true);
        __libc_init_first(argc, argv, environment);

        construct(
            (&raw const __preinit_array_start).cast(),
            (&raw const __preinit_array_end).cast(),
            argc,
            argv,
        );
        _init();
        construct((&raw const __init_array_start).cast(), (&raw const __init_array_end).cast(), argc, argv);
        exit(main(argc, argv, environment))
    }
}

/// Calls the functions that the linker collected; std learns the arguments from one of them.
///
/// # Safety
/// `first` to `end` is one of the linker's arrays, and the library is set up.
unsafe fn construct(first: *const Constructor, end: *const Constructor, argc: c_int, argv: *mut *mut c_char) {
    let mut constructor = first;
    while constructor < end {
        // SAFETY: as the caller promises.
        unsafe {
            (*constructor)(argc, argv, __environ);
            constructor = constructor.add(1);
        }
    }
}
