//! The one call into libzfs_core, loaded when there is one: an atomic snapshot without a process.
//!
//! All `unsafe` of the ZFS back-end is here. The library's header calls its interface stable; its
//! two functions and libnvpair's six are declared below as in OpenZFS 0.8 to 2.3. It is never
//! unloaded, so the function pointers stay good.
//!
//! `take` of two datasets in the guest (OpenZFS 2.1.11, emulated, shared machine; ten rounds):
//! the library median 249 ms, best 198; `zfs snapshot` median 636 ms, best 409. So it is kept.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// By version of the library: OpenZFS 2.x, then 0.8.
const LIBRARIES: [(&CStr, &CStr); 2] = [
    (c"libnvpair.so.3", c"libzfs_core.so.3"),
    (c"libnvpair.so.1", c"libzfs_core.so.1"),
];
/// `NV_UNIQUE_NAME`: adding a name again replaces it.
const NV_UNIQUE_NAME: c_uint = 1;

/// An nvlist_t, only ever behind a pointer.
type NvList = c_void;

/// The loaded and initialised library.
#[derive(Debug, Clone)]
pub(super) struct ZfsCore(Arc<Calls>);

#[derive(Debug)]
struct Calls {
    nvlist_alloc: unsafe extern "C" fn(*mut *mut NvList, c_uint, c_int) -> c_int,
    nvlist_free: unsafe extern "C" fn(*mut NvList),
    nvlist_add_boolean: unsafe extern "C" fn(*mut NvList, *const c_char) -> c_int,
    nvlist_add_string: unsafe extern "C" fn(*mut NvList, *const c_char, *const c_char) -> c_int,
    nvlist_next_nvpair: unsafe extern "C" fn(*mut NvList, *mut c_void) -> *mut c_void,
    nvpair_name: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    lzc_snapshot: unsafe extern "C" fn(*mut NvList, *mut NvList, *mut *mut NvList) -> c_int,
    fini: unsafe extern "C" fn(),
}

/// Why the call failed: the system's error, and the snapshot it was about if ZFS said so.
#[derive(Debug)]
pub(super) struct CoreError {
    pub name: Option<String>,
    pub source: io::Error,
}

impl From<io::Error> for CoreError {
    fn from(source: io::Error) -> Self {
        Self { name: None, source }
    }
}

impl ZfsCore {
    /// Loads the library and opens /dev/zfs. `None` when there is none, or it can't be used here.
    pub(super) fn load() -> Option<Self> {
        LIBRARIES
            .iter()
            .find_map(|(nvpair, core)| Calls::load(nvpair, core))
            .map(|calls| Self(Arc::new(calls)))
    }

    /// Makes all of `names` in one moment, each with `properties`. A call that doesn't return in
    /// time is left to its thread: the snapshot may then still appear, bearing our properties.
    pub(super) fn snapshot(
        &self,
        names: &[String],
        properties: &[(String, String)],
        limit: Duration,
    ) -> Result<(), CoreError> {
        let (calls, names, properties) = (Arc::clone(&self.0), names.to_vec(), properties.to_vec());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || drop(sender.send(calls.snapshot(&names, &properties))));
        receiver
            .recv_timeout(limit)
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }
}

impl Calls {
    fn load(nvpair: &CStr, core: &CStr) -> Option<Self> {
        let (nvpair, core) = (open(nvpair)?, open(core)?);
        // SAFETY: each symbol is the C function of that name in the library that was just opened,
        // and the field it goes to has that function's type (see libnvpair.h, libzfs_core.h).
        let calls = unsafe {
            Self {
                nvlist_alloc: function(nvpair, c"nvlist_alloc")?,
                nvlist_free: function(nvpair, c"nvlist_free")?,
                nvlist_add_boolean: function(nvpair, c"nvlist_add_boolean")?,
                nvlist_add_string: function(nvpair, c"nvlist_add_string")?,
                nvlist_next_nvpair: function(nvpair, c"nvlist_next_nvpair")?,
                nvpair_name: function(nvpair, c"nvpair_name")?,
                lzc_snapshot: function(core, c"lzc_snapshot")?,
                fini: function(core, c"libzfs_core_fini")?,
            }
        };
        // SAFETY: `int libzfs_core_init(void)`; it opens /dev/zfs and counts its callers. When it
        // isn't there, `calls` must go without its `fini`.
        let status = unsafe {
            let init: Option<unsafe extern "C" fn() -> c_int> = function(core, c"libzfs_core_init");
            init.map_or(-1, |init| init())
        };
        if status == 0 {
            return Some(calls);
        }
        // Its `fini` must not run for an `init` that failed.
        std::mem::forget(calls);
        None
    }

    fn snapshot(&self, names: &[String], properties: &[(String, String)]) -> Result<(), CoreError> {
        let snapshots = List::new(self)?;
        for name in names {
            snapshots.add_flag(name)?;
        }
        let values = List::new(self)?;
        for (name, value) in properties {
            values.add_string(name, value)?;
        }
        let mut failures: *mut NvList = ptr::null_mut();
        // SAFETY: both lists are alive until the end of this function; the third is ours to free.
        let status = unsafe { (self.lzc_snapshot)(snapshots.raw, values.raw, &raw mut failures) };
        let failures = List {
            calls: self,
            raw: failures,
        };
        if status == 0 {
            return Ok(());
        }
        Err(CoreError {
            name: failures.first_name(),
            source: io::Error::from_raw_os_error(status),
        })
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // SAFETY: `load` called `init` successfully once for this value.
        unsafe { (self.fini)() }
    }
}

/// An nvlist that frees itself; `raw` may be null, which is an empty list that takes nothing.
struct List<'a> {
    calls: &'a Calls,
    raw: *mut NvList,
}

impl<'a> List<'a> {
    fn new(calls: &'a Calls) -> io::Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the new list's pointer.
        check(unsafe { (calls.nvlist_alloc)(&raw mut raw, NV_UNIQUE_NAME, 0) })?;
        Ok(Self { calls, raw })
    }

    fn add_flag(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: a live list and a C string, which is copied.
        check(unsafe { (self.calls.nvlist_add_boolean)(self.raw, name.as_ptr()) })
    }

    fn add_string(&self, name: &str, value: &str) -> io::Result<()> {
        let (name, value) = (CString::new(name)?, CString::new(value)?);
        // SAFETY: a live list and two C strings, which are copied.
        check(unsafe { (self.calls.nvlist_add_string)(self.raw, name.as_ptr(), value.as_ptr()) })
    }

    fn first_name(&self) -> Option<String> {
        if self.raw.is_null() {
            return None;
        }
        // SAFETY: a live list; null asks for its first pair, whose name lives as long as the list.
        unsafe {
            let pair = (self.calls.nvlist_next_nvpair)(self.raw, ptr::null_mut());
            if pair.is_null() {
                return None;
            }
            let name = CStr::from_ptr((self.calls.nvpair_name)(pair));
            Some(name.to_string_lossy().into_owned())
        }
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        // SAFETY: this value owns the list; `nvlist_free` accepts null.
        unsafe { (self.calls.nvlist_free)(self.raw) }
    }
}

fn check(status: c_int) -> io::Result<()> {
    match status {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn open(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string; the libraries have no constructors that could do harm.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    (!handle.is_null()).then_some(handle)
}

/// The function of that name.
///
/// # Safety
/// `F` must be the function pointer type that fits the C function.
unsafe fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: a handle that `open` returned and that is never closed, and a C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    // SAFETY: not null, of the same size, and of that type as the caller vouches.
    (!address.is_null()).then(|| unsafe { std::mem::transmute_copy::<*mut c_void, F>(&address) })
}
